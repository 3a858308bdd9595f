/*
 * Any request to py-code-mode's wire, and any bytes from the session and from the store as what is
 * answered with.
 *
 * Input: one byte for the route, one for what the session says, the session's id up to a newline,
 * then the body. The same bytes as the body's are the value that the session claims and the
 * artifact that the store has. Whatever comes, there is exactly one answer, and it is JSON (the
 * fake call checks both).
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "fake_api.h"
#include "fake_codemode.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct codemode mode;

static struct fake_world *world_once(void)
{
	static struct fake_world world;
	if (world.engine == NULL) {
		fake_world_init(&world);
		world.loose = true;
		world.api.codemode = &mode;
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
		.traceback = all,
		.exit_code = how,
		.duration_us = len},
	    .dies = (how & 128) != 0,
	};
	static const char *const types[] = {
	    "{\"type\":\"text\"}", "{\"type\":\"json\"}", "{\"type\":\"bytes\"}", "{}"};
	fake_codemode_answer(
	    &mode, "artifacts.load", CODEMODE_OK, types[(how >> 5) & 3], bytes, len);
	fake_codemode_answer(&mode, "artifacts.save", CODEMODE_OK, "{}", NULL, 0);
	fake_codemode_answer(&mode, "skills.create", CODEMODE_INVALID, "null", NULL, 0);
	fake_codemode_answer(&mode, "deps.add", CODEMODE_OK, "{\"installed\":[\"a\"]}", NULL, 0);
	fake_codemode_answer(&mode, "deps.remove", CODEMODE_OK, "true", NULL, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct {
		const char *method;
		const char *target;
	} routes[] = {{"POST", "/execute"}, {"POST", "/reset"}, {"POST", "/sessions"},
	    {"POST", "/api/artifacts"}, {"GET", "/api/artifacts/a"}, {"POST", "/api/workflows"},
	    {"POST", "/install_deps"}, {"POST", "/api/deps/remove"}};
	if (size < 2) {
		return 0;
	}
	const char *at = (const char *)data + 2;
	size_t left = size - 2;
	const char *line = memchr(at, '\n', left);
	size_t id_len = line == NULL ? 0 : (size_t)(line - at);
	char *id = strndup(at, id_len);
	const char *body = line == NULL ? at : line + 1;
	size_t body_len = line == NULL ? left : left - id_len - 1;
	struct fake_call *f = malloc(sizeof(*f));
	if (id == NULL || f == NULL) {
		abort();
	}
	struct fake_world *w = world_once();
	script(w, data[1], body, body_len);
	fake_start(f, w, routes[data[0] & 7].method, routes[data[0] & 7].target, "X-Session-ID", id,
	    body, body_len);
	fake_pump(w);
	if (f->answers != 1) {
		abort();
	}
	fake_call_fini(f);
	free(f);
	free(id);
	fake_codemode_fini(&mode);
	for (struct session *s; (s = w->engine->pools[0].sessions) != NULL;) {
		engine_session_delete(s);
	}
	engine_tick(w->engine, w->engine->now_ms + 1000);
	return 0;
}
