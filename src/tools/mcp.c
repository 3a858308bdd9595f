#include "tools/mcp.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "tools/mcp_message.h"
#include "tools/mcp_transport.h"

#define PROTOCOL_VERSION "2025-06-18"
#define HANDSHAKE_MS 30000
#define TICK_MS 100
#define RETRY_MIN_MS 1000
#define RETRY_MAX_MS 60000
#define STABLE_MS 10000
#define LIST_PAUSE_MS 1000
#define KEY_BYTES 600
#define WHY_BYTES 300

enum request_kind { REQUEST_INITIALIZE, REQUEST_LIST, REQUEST_CALL };

struct request {
	uint64_t id;
	enum request_kind kind;
	uint64_t deadline_ms;
	uint64_t timeout_ms;
	struct mcp_server *server;
	struct runner_task task; /* of a call */
	UT_hash_handle hh;
};

enum server_state {
	SERVER_STARTING, /* connecting, initializing, listing for the first time */
	SERVER_READY,
	SERVER_DOWN,    /* its connection is to be closed */
	SERVER_PAUSING, /* until it is tried again */
};

struct mcp_server {
	char key[KEY_BYTES];
	struct mcp *mcp;
	json_t *tool; /* a reference to the definition it was made from */
	const char *name;
	enum server_state state;
	bool seen;    /* by a refresh */
	bool stopped; /* it is only waiting for its timer to close */
	bool is_open;
	bool listing;    /* tools/list is under way */
	bool list_again; /* they have changed meanwhile */
	uint64_t listed_ms;
	const struct mcp_transport *transport;
	void *connection;
	uv_timer_t timer;
	unsigned failures;
	uint64_t ready_ms;
	uint64_t give_up_ms; /* of the handshake */
	char why[WHY_BYTES];
	json_t *callables; /* as listings have them; NULL before the first time */
	json_t *gathered;
	int pages;
	struct request *requests; /* by id */
	uint64_t last_id;
	UT_hash_handle hh;
};

struct mcp {
	struct runner *r;
	struct mcp_server *servers; /* by key */
	uv_timer_t tick;
};

static void on_timer(uv_timer_t *timer);
static void on_tick(uv_timer_t *timer);

/* --- failing
 * -------------------------------------------------------------------------------------
 */

static void end_request(struct request *q)
{
	HASH_DELETE(hh, q->server->requests, q);
	free(q);
}

static void fail_request(struct request *q, const struct err *e, const char *message)
{
	if (q->kind == REQUEST_CALL) {
		runner_task_failed(&q->task, e, message);
	}
	end_request(q);
}

static void fail_all(struct mcp_server *s)
{
	struct err e;
	(void)err_set(&e, ERR_UNAVAILABLE, "the server of '%s' is gone: %s", s->name, s->why);
	while (s->requests != NULL) {
		fail_request(s->requests, &e, NULL);
	}
}

/* The connection is closed a little later: this may be one of its own calls. */
static void fail_server(struct mcp_server *s, const char *why)
{
	if (s->state == SERVER_DOWN || s->state == SERVER_PAUSING || s->stopped) {
		return;
	}
	bool was_stable = s->state == SERVER_READY && clock_mono_ms() - s->ready_ms >= STABLE_MS;
	bool told = *s->why != '\0';
	s->failures = was_stable ? 0 : s->failures;
	s->state = SERVER_DOWN;
	(void)snprintf(s->why, sizeof(s->why), "%s", why);
	log_event(LOG_LEVEL_WARNING, "mcp_server_down", LOG_STR("tool", s->name),
	    LOG_STR("reason", s->why), LOG_INT("failures", s->failures + 1));
	fail_all(s);
	(void)uv_timer_start(&s->timer, on_timer, 0, 0);
	if (!told) {
		runner_tools_changed(s->mcp->r);
	}
}

/* --- sending
 * -------------------------------------------------------------------------------------
 */

/* MESSAGE is taken over; Q: it is that request. 0, or -1 with E. */
static int send_message(
    struct mcp_server *s, json_t *message, const struct request *q, struct err *e)
{
	char *text = message != NULL ? json_dumps(message, JSON_COMPACT) : NULL;
	json_decref(message);
	if (text == NULL || s->connection == NULL) {
		free(text);
		return err_set(e, ERR_INTERNAL, "out of memory");
	}
	int r = s->transport->send(s->connection, q != NULL ? q->id : 0,
	    q != NULL ? q->timeout_ms : HANDSHAKE_MS, text, strlen(text), e);
	free(text);
	return r;
}

static void send_or_fail(struct mcp_server *s, json_t *message)
{
	struct err e = {0};
	if (send_message(s, message, NULL, &e) < 0) {
		fail_server(s, e.text);
	}
}

/* PARAMS is taken over. NULL with E. */
static struct request *send_request(struct mcp_server *s, enum request_kind kind,
    const char *method, json_t *params, uint64_t timeout_ms, struct err *e)
{
	struct request *q = HASH_COUNT(s->requests) < MCP_CALLS_MAX ? calloc(1, sizeof(*q)) : NULL;
	if (q == NULL) {
		json_decref(params);
		(void)err_set(e, ERR_BUSY, "too many calls of one server at once");
		return NULL;
	}
	q->id = ++s->last_id;
	q->kind = kind;
	q->server = s;
	q->timeout_ms = timeout_ms;
	q->deadline_ms = clock_mono_ms() + timeout_ms;
	if (send_message(s, mcp_request(q->id, method, params), q, e) < 0) {
		free(q);
		return NULL;
	}
	HASH_ADD(hh, s->requests, id, sizeof(q->id), q);
	return q;
}

static void begin_list(struct mcp_server *s, const char *cursor)
{
	struct err e = {0};
	json_t *params = cursor != NULL ? json_pack("{s:s}", "cursor", cursor) : json_object();
	s->listing = true;
	if (cursor == NULL) {
		json_decref(s->gathered);
		s->gathered = json_array();
		s->pages = 0;
	}
	if (send_request(s, REQUEST_LIST, "tools/list", params, HANDSHAKE_MS, &e) == NULL) {
		fail_server(s, e.text);
	}
}

static void begin_initialize(struct mcp_server *s)
{
	struct err e = {0};
	json_t *params = json_pack("{s:s, s:{}, s:{s:s, s:s}}", "protocolVersion", PROTOCOL_VERSION,
	    "capabilities", "clientInfo", "name", "carrel", "version", CARREL_VERSION);
	if (send_request(s, REQUEST_INITIALIZE, "initialize", params, HANDSHAKE_MS, &e) == NULL) {
		fail_server(s, e.text);
	}
}

/* --- what a server says
 * --------------------------------------------------------------------------
 */

static void on_initialized(struct mcp_server *s, const json_t *result)
{
	const char *version = json_string_value(json_object_get(result, "protocolVersion"));
	if (version == NULL || strlen(version) > 31 ||
	    strspn(version, "0123456789-") != strlen(version)) {
		fail_server(s, "its answer to initialize has no protocolVersion");
		return;
	}
	if (s->transport->initialized != NULL) {
		s->transport->initialized(s->connection, version);
	}
	send_or_fail(s, mcp_notification("notifications/initialized", NULL));
	if (s->state == SERVER_STARTING) {
		begin_list(s, NULL);
	}
}

static void finish_list(struct mcp_server *s)
{
	bool changed = s->state != SERVER_READY || !json_equal(s->callables, s->gathered);
	json_decref(s->callables);
	s->callables = s->gathered;
	s->gathered = NULL;
	s->listing = false;
	s->listed_ms = clock_mono_ms();
	if (s->state == SERVER_STARTING) {
		s->state = SERVER_READY;
		s->ready_ms = clock_mono_ms();
		s->why[0] = '\0';
		log_event(LOG_LEVEL_INFO, "mcp_server_ready", LOG_STR("tool", s->name),
		    LOG_INT("tools", json_array_size(s->callables)));
	}
	if (changed) {
		runner_tools_changed(s->mcp->r);
	}
}

static void on_listed(struct mcp_server *s, const json_t *result)
{
	const json_t *tools = json_object_get(result, "tools");
	const char *cursor = json_string_value(json_object_get(result, "nextCursor"));
	if (!json_is_array(tools)) {
		fail_server(s, "its answer to tools/list has no tools");
		return;
	}
	for (size_t i = 0; i < json_array_size(tools); i++) {
		json_t *callable = mcp_callable(json_array_get(tools, i));
		if (callable != NULL && json_array_size(s->gathered) < MCP_TOOLS_MAX) {
			(void)json_array_append(s->gathered, callable);
		}
		json_decref(callable);
	}
	if (cursor != NULL && *cursor != '\0' && ++s->pages < MCP_PAGES_MAX) {
		begin_list(s, cursor);
	} else {
		finish_list(s);
	}
}

static void on_result(struct mcp_server *s, struct request *q, const json_t *result)
{
	struct err e = {0};
	cleanup(buf_fini) struct buf message = BUF_INIT(MCP_MESSAGE_MAX_BYTES);
	if (q->kind != REQUEST_CALL) {
		enum request_kind kind = q->kind;
		end_request(q);
		(kind == REQUEST_LIST ? on_listed : on_initialized)(s, result);
		return;
	}
	s->failures = 0; /* it works, whatever one call may do to it next */
	json_t *answer = mcp_call_result(s->mcp->r, result, &message, &e);
	if (answer == NULL) {
		fail_request(q, &e, buf_str(&message));
		return;
	}
	runner_task_done(&q->task, answer);
	end_request(q);
}

static void on_error(struct mcp_server *s, struct request *q, const json_t *error)
{
	const char *text = json_string_value(json_object_get(error, "message"));
	struct err e;
	char why[WHY_BYTES];
	if (q->kind == REQUEST_CALL) {
		mcp_error(error, &e);
		fail_request(q, &e, text);
		return;
	}
	(void)snprintf(why, sizeof(why), "it refused %s: %.200s",
	    q->kind == REQUEST_LIST ? "tools/list" : "initialize", text != NULL ? text : "");
	end_request(q);
	fail_server(s, why);
}

static void on_answer(struct mcp_server *s, const json_t *message, const json_t *id)
{
	uint64_t number = (uint64_t)json_integer_value(id);
	const json_t *error = json_object_get(message, "error");
	const json_t *result = json_object_get(message, "result");
	struct request *q;
	HASH_FIND(hh, s->requests, &number, sizeof(number), q);
	if (q == NULL || !json_is_integer(id)) {
		return; /* given up meanwhile, or never asked */
	}
	if (json_is_object(error)) {
		on_error(s, q, error);
	} else {
		on_result(s, q, result);
	}
}

static void on_server_request(struct mcp_server *s, const char *method, const json_t *id)
{
	if (strcmp(method, "ping") == 0) {
		send_or_fail(s, mcp_reply(id));
	} else {
		send_or_fail(s, mcp_not_found(id));
	}
}

/* What has changed is asked for at the next tick. */
static void on_notification(struct mcp_server *s, const char *method)
{
	if (strcmp(method, "notifications/tools/list_changed") == 0) {
		s->list_again = true;
	}
}

static void on_one(struct mcp_server *s, const json_t *message)
{
	const char *method = json_string_value(json_object_get(message, "method"));
	const json_t *id = json_object_get(message, "id");
	if (s->state == SERVER_DOWN || s->state == SERVER_PAUSING) {
		return;
	}
	if (method == NULL) {
		on_answer(s, message, id);
	} else if (id != NULL) {
		on_server_request(s, method, id);
	} else {
		on_notification(s, method);
	}
}

static void on_message(void *ctx, const char *text, size_t len)
{
	struct mcp_server *s = ctx;
	json_t *message = json_loadb(text, len, JSON_ALLOW_NUL, NULL);
	for (size_t i = 0; i < json_array_size(message); i++) {
		on_one(s, json_array_get(message, i)); /* a batch, as 2025-03-26 has them */
	}
	if (json_is_object(message)) {
		on_one(s, message);
	}
	json_decref(message);
}

static void on_refused(void *ctx, uint64_t id, const struct err *e)
{
	struct mcp_server *s = ctx;
	struct request *q;
	HASH_FIND(hh, s->requests, &id, sizeof(id), q);
	if (q != NULL && q->kind == REQUEST_CALL) {
		fail_request(q, e, NULL);
	} else if (q != NULL) {
		fail_server(s, e->text);
	}
}

static void on_down(void *ctx, const char *why)
{
	fail_server(ctx, why);
}

static void on_open(void *ctx)
{
	struct mcp_server *s = ctx;
	s->is_open = true;
	if (s->connection != NULL) {
		begin_initialize(s);
	}
}

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
	const struct mcp_owner owner = {
	    .runner = s->mcp->r,
	    .name = s->name,
	    .spec = json_object_get(s->tool, "spec"),
	    .on_open = on_open,
	    .on_message = on_message,
	    .on_refused = on_refused,
	    .on_down = on_down,
	    .ctx = s,
	};
	s->state = SERVER_STARTING;
	s->is_open = false;
	s->listing = false;
	s->list_again = false;
	s->give_up_ms = clock_mono_ms() + HANDSHAKE_MS;
	if (count_connections(s->mcp) >= MCP_SERVERS_MAX) {
		fail_server(s, "there are too many servers of tools");
		return;
	}
	s->connection = s->transport->open(&owner, &e);
	if (s->connection == NULL) {
		fail_server(s, e.text);
	} else if (s->is_open) {
		begin_initialize(s);
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

static void on_timer(uv_timer_t *timer)
{
	struct mcp_server *s = timer->data;
	if (s->state == SERVER_DOWN) {
		close_connection(s);
		s->state = SERVER_PAUSING;
		(void)uv_timer_start(&s->timer, on_timer, pause_ms(s), 0);
		s->failures++;
	} else if (s->state == SERVER_PAUSING) {
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
	fail_all(s);
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

static void key_of(char key[KEY_BYTES], const char *prefix, const json_t *tool)
{
	bool file = strcmp(json_string_value(json_object_get(tool, "source")), "file") == 0;
	(void)snprintf(key, KEY_BYTES, "%s/%s", file || prefix == NULL ? "" : prefix,
	    json_string_value(json_object_get(tool, "name")));
}

static struct mcp_server *find_server(const struct mcp *m, const char *prefix, const json_t *tool)
{
	char key[KEY_BYTES];
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
	s->state = SERVER_PAUSING;
	(void)uv_timer_init(&m->r->loop, &s->timer);
	s->timer.data = s;
	HASH_ADD_STR(m->servers, key, s);
	(void)uv_timer_start(&s->timer, on_timer, 0, 0);
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

/* The server is told, in case it can stop, and the transport. */
static void abandon(struct request *q, const char *reason)
{
	struct mcp_server *s = q->server;
	struct err ignored;
	if (s->connection == NULL) {
		return;
	}
	(void)send_message(s, mcp_cancelled(q->id, reason), NULL, &ignored);
	if (s->transport->forget != NULL) {
		s->transport->forget(s->connection, q->id);
	}
}

static void give_up_late(struct mcp_server *s, uint64_t now)
{
	struct err e;
	struct request *q;
	struct request *next;
	HASH_ITER(hh, s->requests, q, next)
	{
		if (now < q->deadline_ms) {
			continue;
		}
		if (q->kind != REQUEST_CALL) {
			fail_server(s, "it did not answer in time");
			return;
		}
		abandon(q, "timed out");
		(void)err_set(
		    &e, ERR_TIMEOUT, "timed out after %gs", (double)q->timeout_ms / 1000.0);
		fail_request(q, &e, NULL);
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
		if (s->state == SERVER_STARTING && now >= s->give_up_ms) {
			fail_server(s, "it did not get ready in time");
			continue;
		}
		give_up_late(s, now);
		if (s->state == SERVER_READY && s->list_again && !s->listing &&
		    now - s->listed_ms >= LIST_PAUSE_MS) {
			s->list_again = false;
			begin_list(s, NULL);
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
	struct request *q = container_of(t, struct request, task);
	abandon(q, "cancelled");
	end_request(q);
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
	if (s == NULL || s->state != SERVER_READY) {
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
	struct request *q = send_request(s, REQUEST_CALL, "tools/call", params, timeout_ms, e);
	if (q == NULL) {
		return -1;
	}
	if (runner_task_add(m->r, &q->task, ref, cancel_call, e) < 0) {
		end_request(q);
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
