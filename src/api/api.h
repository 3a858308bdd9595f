/*
 * api: the dialects' routes, and what they need of the server.
 *
 *     size_t count;
 *     const struct route *routes = api_routes(&count);
 *     http_add_routes(http, routes, count, &api);      call->app is this struct api
 *
 * The one who drives the loop calls engine_set_now before a call is handed on.
 */
#ifndef API_API_H
#define API_API_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "api/call.h"
#include "engine/engine.h"
#include "ipc/codec.h"

struct codemode;

/* Everything is borrowed and must outlive the last call. */
struct api {
	struct engine *engine;
	struct codemode *codemode; /* NULL: none */
	const char *python_version;         /* "3.11.2"; from KEEPER_READY */
	const struct ipc_package *packages; /* what can be imported, for GET metadata */
	size_t package_count;
	int64_t started_wall_us;
	/* Every result that is not a string is answered as its JSON text in a string: for clients
	 * whose type for it is a string (Semantic Kernel .NET). Off is true to the wire. */
	bool results_as_strings;
};

/* All routes of all dialects, /health and /metrics. Static. */
const struct route *api_routes(size_t *count);

/* Answers with E in the Azure envelope; for what the HTTP layer finds before there is a route (404,
 * 405). STATUS is the answer's status. */
void api_on_error(struct call *c, int status, const struct err *e);

#endif
