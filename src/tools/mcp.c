#include "tools/mcp_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "tools/mcp_message.h"

#define TICK_MS 100
#define RETRY_MIN_MS 1000
#define RETRY_MAX_MS 60000
#define LIST_PAUSE_MS 1000

static void on_tick(uv_timer_t *timer);

/* --- the life of a server
 * ------------------------------------------------------------------------
 */

static int count_connections(const struct mcp *m)
{
	int count = 0;
	for (const struct mcp_server *s = m->servers; s != NULL; s = s->hh.next) {
		count += s->connection != NULL;
	}
	return count;
}

static void start_server(struct mcp_server *s)
{
	struct err e = {0};
	const struct mcp_owner owner = mcp_owner_of(s);
	s->state = MCP_SERVER_STARTING;
	s->is_open = false;
	s->listing = false;
	s->list_again = false;
	s->give_up_ms = clock_mono_ms() + MCP_HANDSHAKE_MS;
	if (count_connections(s->mcp) >= MCP_SERVERS_MAX) {
		mcp_fail_server(s, "there are too many servers of tools");
		return;
	}
	s->connection = s->transport->open(&owner, &e);
	if (s->connection == NULL) {
		mcp_fail_server(s, e.text);
	} else if (s->is_open) {
		mcp_begin_initialize(s);
	}
}

static void close_connection(struct mcp_server *s)
{
	if (s->connection != NULL) {
		s->transport->close(s->connection);
		s->connection = NULL;
	}
}

static uint64_t pause_ms(const struct mcp_server *s)
{
	uint64_t ms = RETRY_MIN_MS;
	for (unsigned i = 0; i < s->failures && ms < RETRY_MAX_MS; i++) {
		ms *= 2;
	}
	return ms < RETRY_MAX_MS ? ms : RETRY_MAX_MS;
}

void mcp_on_timer(uv_timer_t *timer)
{
	struct mcp_server *s = timer->data;
	if (s->state == MCP_SERVER_DOWN) {
		close_connection(s);
		s->state = MCP_SERVER_PAUSING;
		(void)uv_timer_start(&s->timer, mcp_on_timer, pause_ms(s), 0);
		s->failures++;
	} else if (s->state == MCP_SERVER_PAUSING) {
		start_server(s);
	}
}

static void on_server_closed(uv_handle_t *handle)
{
	struct mcp_server *s = handle->data;
	json_decref(s->tool);
	json_decref(s->callables);
	json_decref(s->gathered);
	free(s);
}

static void stop_server(struct mcp_server *s)
{
	(void)snprintf(s->why, sizeof(s->why), "it was taken out");
	mcp_fail_all(s);
	s->stopped = true;
	close_connection(s);
	HASH_DELETE(hh, s->mcp->servers, s);
	uv_close((uv_handle_t *)&s->timer, on_server_closed);
}

static const struct mcp_transport *transport_of(const json_t *tool)
{
	const char *name = json_string_value(
	    json_object_get(json_object_get(tool, "spec"), "transport"));
	if (strcmp(name, "stdio") == 0) {
		return &mcp_stdio;
	}
	return strcmp(name, "sse") == 0 ? &mcp_sse : &mcp_http;
}

static void key_of(char key[MCP_KEY_BYTES], const char *prefix, const json_t *tool)
{
	bool file = strcmp(json_string_value(json_object_get(tool, "source")), "file") == 0;
	(void)snprintf(key, MCP_KEY_BYTES, "%s/%s", file || prefix == NULL ? "" : prefix,
	    json_string_value(json_object_get(tool, "name")));
}

static struct mcp_server *find_server(const struct mcp *m, const char *prefix, const json_t *tool)
{
	char key[MCP_KEY_BYTES];
	struct mcp_server *s;
	key_of(key, prefix, tool);
	HASH_FIND_STR(m->servers, key, s);
	return s;
}

static void see_tool(void *ctx, const char *prefix, const json_t *tool)
{
	struct mcp *m = ctx;
	if (strcmp(json_string_value(json_object_get(tool, "type")), "mcp") != 0) {
		return;
	}
	struct mcp_server *s = find_server(m, prefix, tool);
	if (s != NULL &&
	    json_equal(json_object_get(s->tool, "spec"), json_object_get(tool, "spec"))) {
		s->seen = true;
		return;
	}
	if (s != NULL) {
		stop_server(s);
	}
	s = calloc(1, sizeof(*s));
	if (s == NULL) {
		return;
	}
	key_of(s->key, prefix, tool);
	s->mcp = m;
	s->seen = true;
	s->tool = json_incref((json_t *)(uintptr_t)tool);
	s->name = json_string_value(json_object_get(s->tool, "name"));
	s->transport = transport_of(tool);
	s->state = MCP_SERVER_PAUSING;
	(void)uv_timer_init(&m->r->loop, &s->timer);
	s->timer.data = s;
	HASH_ADD_STR(m->servers, key, s);
	(void)uv_timer_start(&s->timer, mcp_on_timer, 0, 0);
	if (!uv_is_active((uv_handle_t *)&m->tick)) {
		(void)uv_timer_start(&m->tick, on_tick, TICK_MS, TICK_MS);
	}
}

void mcp_refresh(struct mcp *m)
{
	struct mcp_server *s;
	struct mcp_server *next;
	HASH_ITER(hh, m->servers, s, next)
	{
		s->seen = false;
	}
	catalog_each(m->r->catalog, see_tool, m);
	HASH_ITER(hh, m->servers, s, next)
	{
		if (!s->seen) {
			stop_server(s);
		}
	}
}

/* --- time
 * ----------------------------------------------------------------------------------------
 */

static void give_up_late(struct mcp_server *s, uint64_t now)
{
	struct err e;
	struct mcp_request *q;
	struct mcp_request *next;
	HASH_ITER(hh, s->requests, q, next)
	{
		if (now < q->deadline_ms) {
			continue;
		}
		if (q->kind != MCP_REQUEST_CALL) {
			mcp_fail_server(s, "it did not answer in time");
			return;
		}
		mcp_abandon(q, "timed out");
		(void)err_set(
		    &e, ERR_TIMEOUT, "timed out after %gs", (double)q->timeout_ms / 1000.0);
		mcp_fail_request(q, &e, NULL);
	}
}

static void on_tick(uv_timer_t *timer)
{
	struct mcp *m = timer->data;
	uint64_t now = clock_mono_ms();
	struct mcp_server *s;
	struct mcp_server *next;
	if (m->servers == NULL) {
		(void)uv_timer_stop(timer);
	}
	HASH_ITER(hh, m->servers, s, next)
	{
		if (s->state == MCP_SERVER_STARTING && now >= s->give_up_ms) {
			mcp_fail_server(s, "it did not get ready in time");
			continue;
		}
		give_up_late(s, now);
		if (s->state == MCP_SERVER_READY && s->list_again && !s->listing &&
		    now - s->listed_ms >= LIST_PAUSE_MS) {
			s->list_again = false;
			mcp_begin_list(s, NULL);
		}
	}
}

struct mcp *mcp_new(struct runner *r)
{
	struct mcp *m = calloc(1, sizeof(*m));
	if (m == NULL) {
		return NULL;
	}
	m->r = r;
	(void)uv_timer_init(&r->loop, &m->tick);
	m->tick.data = m;
	return m;
}

void mcp_stop(struct mcp *m)
{
	while (m->servers != NULL) {
		stop_server(m->servers);
	}
}

/* --- for the runner
 * ------------------------------------------------------------------------------
 */

json_t *mcp_callables(const struct mcp *m, const char *prefix, const json_t *tool)
{
	const struct mcp_server *s = find_server(m, prefix, tool);
	return s != NULL ? s->callables : NULL;
}

void mcp_problems(const struct mcp *m, json_t *problems)
{
	for (const struct mcp_server *s = m->servers; s != NULL; s = s->hh.next) {
		if (*s->why != '\0') {
			(void)json_array_append_new(
			    problems, json_pack("{s:O, s:i, s:o}", "file",
					  json_object_get(s->tool, "file"), "line", 0, "message",
					  json_sprintf("the server of '%s': %s", s->name, s->why)));
		}
	}
}

static void cancel_call(struct runner_task *t)
{
	struct mcp_request *q = container_of(t, struct mcp_request, task);
	mcp_abandon(q, "cancelled");
	mcp_end_request(q);
}

static const json_t *find_callable(const struct mcp_server *s, const char *callable, struct err *e)
{
	const char *wanted = callable != NULL ? callable : s->name;
	for (size_t i = 0; i < json_array_size(s->callables); i++) {
		const json_t *one = json_array_get(s->callables, i);
		if (strcmp(json_string_value(json_object_get(one, "name")), wanted) == 0) {
			return one;
		}
	}
	(void)err_set(e, ERR_NOT_FOUND, "Unknown callable: %s.%.64s", s->name, wanted);
	return NULL;
}

static int begin_call(struct mcp *m, uint64_t ref, struct mcp_server *s, const char *callable,
    const json_t *arguments, struct err *e)
{
	if (s == NULL || s->state != MCP_SERVER_READY) {
		return err_set(e, ERR_UNAVAILABLE, "the server is not ready: %s",
		    s != NULL && *s->why != '\0' ? s->why : "it is starting");
	}
	const json_t *found = find_callable(s, callable, e);
	json_t *checked = found != NULL ? mcp_arguments(found, arguments, e) : NULL;
	if (checked == NULL) {
		return -1;
	}
	if (HASH_COUNT(m->r->tasks) >= RUNNER_TASKS_MAX) {
		json_decref(checked);
		return err_set(e, ERR_BUSY, "too many calls at once");
	}
	uint64_t timeout_ms = (uint64_t)json_integer_value(json_object_get(s->tool, "timeout_ms"));
	json_t *params = json_pack(
	    "{s:O, s:o}", "name", json_object_get(found, "name"), "arguments", checked);
	struct mcp_request *q = mcp_send_request(
	    s, MCP_REQUEST_CALL, "tools/call", params, timeout_ms, e);
	if (q == NULL) {
		return -1;
	}
	if (runner_task_add(m->r, &q->task, ref, cancel_call, e) < 0) {
		mcp_end_request(q);
		return -1;
	}
	return 0;
}

void mcp_begin(struct mcp *m, uint64_t ref, const char *prefix, const json_t *tool,
    const char *callable, const json_t *arguments)
{
	struct err e = {0};
	if (begin_call(m, ref, find_server(m, prefix, tool), callable, arguments, &e) < 0) {
		runner_refuse(m->r, ref, &e);
	}
}
