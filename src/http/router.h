/*
 * router: from a request's path to a route. Pure: no sockets, no HTTP library.
 *
 * A path is cut at "/" first and percent-decoded after, so "%2F" in a name stays inside its
 * segment. Empty segments are skipped: "//" is "/", and a slash at the end means nothing. In front
 * of a route's pattern a path may have
 *
 *     …/sessionPools/{name}/     anything, then the pool (docs of Azure: poolManagementEndpoint)
 *     identifier/{id}/           the session identifier, a documented form of Azure's
 *
 * The last "sessionPools" counts; where nothing matches behind it, an earlier one is tried and then
 * none at all, so a file may be called sessionPools.
 *
 * Of several patterns that match, the one with the earlier literal segment wins: "files/upload"
 * before "files/{name}" before "{rest...}". The routes are borrowed and must outlive the router.
 */
#ifndef HTTP_ROUTER_H
#define HTTP_ROUTER_H

#include "api/call.h"

#define ROUTER_ROUTES_MAX 256
#define ROUTER_SEGMENTS_MAX 64 /* of a request's path; more is "not found" */
#define ROUTER_PATTERN_SEGMENTS_MAX 12

struct router;

struct route_match {
	const struct route *route; /* NULL unless router_find returned 0 */
	void *app;
	const char *path; /* all of these point into text; NULL where there is none */
	const char *pool;
	const char *path_identifier;
	const char *params[CALL_PARAMS_MAX];
	unsigned allowed; /* on -ENOTSUP: bit 1U << enum call_method for each method there is */
	char *text;
};

/* NULL when out of memory. */
struct router *router_new(void);
void router_free(struct router *r);

/* 0, -ENOMEM, -ENOSPC past ROUTER_ROUTES_MAX, or -EINVAL for a pattern that is not well formed
 * (empty segment, too many segments or placeholders, {rest...} not at the end). All or none is
 * added. */
int router_add(struct router *r, const struct route *routes, size_t count, void *app);

/* Looks PATH (without the query) up for METHOD; HEAD falls back on a GET route. 0; -ENOENT: no such
 * path; -ENOTSUP: only with other methods; -EINVAL: a bad percent-encoding, a NUL, or no "/" in
 * front; -ENOMEM. After 0, -ENOENT and -ENOTSUP, and then only, OUT holds memory that
 * route_match_fini() frees, and path, pool and path_identifier are set as far as they are known. */
int router_find(
    const struct router *r, enum call_method method, const char *path, struct route_match *out);

/* NULL is allowed. */
void route_match_fini(struct route_match *m);

/* Decodes %XX from TEXT to OUT, which may be TEXT; OUT needs strlen(TEXT) + 1 bytes. A '%' without
 * two hex digits is -EINVAL, so is a NUL; otherwise the decoded length. */
ssize_t percent_decode(const char *text, size_t len, char *out);

/* The name of METHOD as it stands in a request, "OTHER" for the rest; and back. */
const char *method_name(enum call_method method);
enum call_method method_of(const char *name);

#endif
