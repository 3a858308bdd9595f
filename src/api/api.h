/*
 * api: the dialects' routes, and what they need of the server.
 *
 *     size_t count;
 *     const struct route *routes;
 *     for (size_t i = 0; (routes = api_routes(i, &count)) != NULL; i++) {
 *             http_add_routes(http, routes, count, &api);      call->app is this struct api
 *     }
 *
 * The one who drives the loop calls engine_set_now before a call is handed on.
 */
#ifndef API_API_H
#define API_API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/call.h"
#include "base/json_work.h"
#include "engine/engine.h"
#include "ipc/codec.h"

struct appr;
struct approvals;
struct codemode;
struct pcm;

/* What an operator can set of py-code-mode's wire. */
struct pcm_config {
	uint32_t timeout_ms;     /* of an execution that names none; at most TIMEOUT_MAX_MS */
	uint32_t timeout_max_ms; /* above it, and above the pool's own limit, it is the limit */
	bool strict_sessions;    /* an id that the server did not give is refused */
};

/* What that wire keeps between requests. NULL when out of memory. */
struct pcm *pcm_new(const struct pcm_config *c);
/* NULL is allowed. */
void pcm_free(struct pcm *p);

/* What the wire of approvals keeps between requests: who follows their events. NULL when out of
 * memory. */
struct appr *appr_new(void);
/* Once no call is open. NULL is allowed. */
void appr_free(struct appr *a);
/* To be called every APPR_BEAT_MS: streams on which nothing was sent since say that they live. */
void appr_beat(struct appr *a);
#define APPR_BEAT_MS 7500
/* The server is stopping: streams end, and come back to whoever serves next. */
void appr_drain(struct appr *a);

/* For engine_set_workspaces, with a struct api as CTX: an id that the server gave belongs to its
 * workspace on every wire, whichever opens its session. */
const char *pcm_workspace_of(
    void *api, const struct pool *pool, const char *tenant, const char *identifier);

/* Everything is borrowed and must outlive the last call. */
struct api {
	struct engine *engine;
	struct json_work *json_work;
	struct codemode *codemode; /* NULL: what needs it answers 503 */
	struct pcm *pcm;
	struct approvals *approvals; /* NULL: what needs them answers 503 */
	struct appr *appr;
	const char *python_version;         /* "3.11.2"; from KEEPER_READY, "" before it */
	const struct ipc_package *packages; /* what can be imported, for GET metadata */
	size_t package_count;
	int64_t started_wall_us;
	uint64_t started_us; /* clock_mono_us */
	/* Every result that is not a string is answered as its JSON text in a string: for clients
	 * whose type for it is a string (Semantic Kernel .NET). Off is true to the wire. */
	bool results_as_strings;
};

/* The routes of table I, static; NULL past the last. Table 0 is Azure's with /health, /ready and
 * /metrics, table 1 py-code-mode's, table 2 that of approvals. */
const struct route *api_routes(size_t i, size_t *count);

/* What follows "…/sessionPools/NAME/" in PATH, or all of it. */
const char *api_behind_pool(const char *path);

/* Puts what C's caller did to SUBJECT of TENANT ("" or NULL: the server's own) into the audit
 * trail, where there is one. */
void api_audit(
    struct call *c, const char *action, const char *subject, const char *tenant, bool ok);

/* Answers with E for what the HTTP layer finds before there is a route (404, 405), in the shape of
 * the dialect the path belongs to, else in Azure's. STATUS is the answer's status. */
void api_on_error(struct call *c, int status, const struct err *e);

#endif
