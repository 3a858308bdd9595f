/* Any path: every string that comes out ends within the memory that was made for it, and a route
 * that is found is one that is there. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "http/range.h"
#include "http/router.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void handle(struct call *c)
{
	(void)c;
}

#define ROUTE(m, p)                                             \
	{                                                       \
		.method = (m), .pattern = (p), .handle = handle \
	}

static const struct route routes[] = {
    ROUTE(CALL_GET, "files/{name}"),
    ROUTE(CALL_POST, "files/upload"),
    ROUTE(CALL_GET, "files/{name}/content"),
    ROUTE(CALL_GET, "files/content/{rest...}"),
    ROUTE(CALL_GET, "{a}/{b}/{c}/{d...}"),
    ROUTE(CALL_GET, ""),
};

static volatile size_t seen; /* so that reading is not left out */

static void see(const char *text)
{
	if (text != NULL) {
		seen += strlen(text);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct router *router;
	if (router == NULL) {
		router = router_new();
		if (router == NULL ||
		    router_add(router, routes, sizeof(routes) / sizeof(routes[0]), NULL) < 0) {
			abort();
		}
	}
	if (size == 0) {
		return 0;
	}
	char *path = malloc(size);
	if (path == NULL) {
		return 0;
	}
	memcpy(path, data + 1, size - 1);
	path[size - 1] = '\0';
	struct route_match m;
	int r = router_find(router, (enum call_method)(data[0] % (CALL_OTHER + 1)), path, &m);
	if ((r == 0) != (m.route != NULL)) {
		abort();
	}
	see(m.path);
	see(m.pool);
	see(m.path_identifier);
	for (size_t i = 0; i < CALL_PARAMS_MAX; i++) {
		see(m.params[i]);
	}
	route_match_fini(&m);

	struct range range;
	if (range_parse(path, data[0], &range) == RANGE_ONE &&
	    (range.len == 0 || range.first + range.len > data[0])) {
		abort();
	}
	free(path);
	return 0;
}
