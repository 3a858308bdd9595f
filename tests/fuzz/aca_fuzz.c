/*
 * Any body to any execute route, and any bytes from the session as its answer.
 *
 * Input: one byte for the route and the pool, one for what the session says, then the body. The
 * same bytes as the body's are what the session sends. Whatever comes, there is exactly one answer,
 * and it is JSON that parses (the fake call checks both), or a stream that ends.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fake_api.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct fake_world *world_once(void)
{
	static struct fake_world world;
	if (world.engine == NULL) {
		fake_world_init(&world);
	}
	return &world;
}

static void script(struct fake_world *w, uint8_t how, const char *bytes, size_t len)
{
	struct ipc_bytes all = {bytes, len};
	w->script = (struct fake_script){
	    .result = {.status = how & 3,
		.kind = (uint8_t)((how >> 2) % (IPC_KIND_OTHER + 1)),
		.json = all,
		.text = all,
		.error_name = all,
		.error_value = all,
		.traceback = all,
		.exit_code = how,
		.duration_us = len},
	    .display_count = how >> 7,
	};
	w->script.displays[0].items[0].mime = (how & 64) != 0 ? "image/png" : "text/html";
	w->script.displays[0].items[0].data = all;
	w->script.displays[0].count = 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const targets[] = {
	    "/code/execute?api-version=2024-02-02-preview&identifier=user-0001",
	    "/python/execute?api-version=2024-02-02-preview",
	    "/executions?api-version=2025-10-02-preview&identifier=user-0001",
	    "/sessionPools/sh/executions?api-version=2025-10-02-preview&identifier=user-0001",
	};
	if (size < 2) {
		return 0;
	}
	struct fake_world *w = world_once();
	const char *body = (const char *)data + 2;
	const char *accept = (data[0] & 4) != 0 ? "text/event-stream" : "application/json";
	script(w, data[1], body, size - 2);
	struct fake_call *f = malloc(sizeof(*f));
	if (f == NULL) {
		return 0;
	}
	fake_start(f, w, "POST", targets[data[0] & 3], "Accept", accept, body, size - 2);
	fake_pump(w);
	if (f->answers != 1 || (f->source != NULL && !fake_pull(f, 4096))) {
		abort();
	}
	fake_call_fini(f);
	free(f);
	/* Identifiers of the body's choice fill the pool; begin anew then. */
	for (struct session *s; w->engine->pools[0].session_count > 1;) {
		s = w->engine->pools[0].sessions;
		engine_session_delete(s);
	}
	return 0;
}
