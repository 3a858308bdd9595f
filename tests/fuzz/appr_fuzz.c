/*
 * Any request to the wire of approvals.
 *
 * Input: one byte for the route, one for who asks and how it is answered; the value of the header
 * that the route knows up to a newline; the query up to another; then the body. Whatever comes,
 * there is exactly one answer, and a stream that was opened lets go of all it held.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fake_api.h"
#include "fake_approvals.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct approvals approvals;

static struct fake_world *world_once(void)
{
	static struct fake_world world;
	if (world.engine == NULL) {
		fake_world_init(&world);
		world.api.approvals = &approvals;
	}
	return &world;
}

/* One answer for all routes. */
static void script(struct fake_world *w, uint8_t how)
{
	static const char answer[] =
	    "{\"approval\":{\"id\":\"a\"},\"created\":true,\"approvals\":[],\"next\":null,"
	    "\"events\":[{\"seq\":1,\"kind\":\"submitted\"}],\"state\":\"queued\",\"final\":false}";
	fake_approvals_reset(&approvals);
	if ((how & 7) == 7) {
		fake_approvals_fail(
		    &approvals, (enum err_code)(1 + (how >> 4) % ERR_INTERNAL), "no");
	} else {
		fake_approvals_answer(&approvals, answer);
		fake_approvals_answer(
		    &approvals, "{\"events\":[],\"state\":\"queued\",\"final\":false}");
	}
	w->role = (how & 8) != 0 ? ROLE_EXECUTE : ROLE_ADMIN;
	w->prefix = (how & 16) != 0 ? "blue" : NULL;
}

/* The text up to the next newline, taken off the front; the caller's. */
static char *line(const char **at, size_t *left)
{
	const char *end = memchr(*at, '\n', *left);
	size_t len = end != NULL ? (size_t)(end - *at) : 0;
	char *text = strndup(*at, len);
	if (text == NULL) {
		abort();
	}
	if (end != NULL) {
		*left -= len + 1;
		*at = end + 1;
	}
	return text;
}

static void ask(struct fake_call *f, struct fake_world *w, uint8_t route, const char *header,
    const char *query, const char *body, size_t len)
{
	static const struct {
		const char *method;
		const char *path;
		const char *header;
	} routes[] = {{"POST", "/code/execute", "Idempotency-Key"}, {"POST", "/code/review", NULL},
	    {"POST", "/approvals", "Idempotency-Key"}, {"GET", "/approvals", NULL},
	    {"GET", "/approvals/a/events", "Last-Event-ID"},
	    {"POST", "/approvals/a/decision", NULL}, {"DELETE", "/approvals/a", NULL},
	    {"GET", "/approvals/a", NULL}};
	char target[2048];
	const char *name = routes[route & 7].header;
	(void)snprintf(target, sizeof(target), "%s?%.2000s", routes[route & 7].path, query);
	fake_start(
	    f, w, routes[route & 7].method, target, name, name != NULL ? header : NULL, body, len);
	fake_pump(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2) {
		return 0;
	}
	const char *at = (const char *)data + 2;
	size_t left = size - 2;
	char *header = line(&at, &left);
	char *query = line(&at, &left);
	struct fake_call *f = malloc(sizeof(*f));
	if (f == NULL) {
		abort();
	}
	struct fake_world *w = world_once();
	script(w, data[1]);
	ask(f, w, data[0], header, query, at, left);
	if (f->answers != 1) {
		abort();
	}
	if (f->source != NULL) {
		(void)fake_pull(f, 64);
	}
	fake_call_fini(f);
	if (approvals.watches != NULL || approvals.pending != NULL) {
		abort();
	}
	free(f);
	free(query);
	free(header);
	for (struct session *s; (s = w->engine->pools[0].sessions) != NULL;) {
		engine_session_delete(s);
	}
	engine_tick(w->engine, w->engine->now_ms + 1000);
	return 0;
}
