/* What is said to a server of tools, and what it says. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "tools/mcp_internal.h"
#include "tools/mcp_message.h"

#define PROTOCOL_VERSION "2025-06-18"
#define STABLE_MS 10000

/* --- failing
 * -------------------------------------------------------------------------------------
 */

void mcp_end_request(struct mcp_request *q)
{
	HASH_DELETE(hh, q->server->requests, q);
	free(q);
}

void mcp_fail_request(struct mcp_request *q, const struct err *e, const char *message)
{
	if (q->kind == MCP_REQUEST_CALL) {
		runner_task_failed(&q->task, e, message);
	}
	mcp_end_request(q);
}

void mcp_fail_all(struct mcp_server *s)
{
	struct err e;
	(void)err_set(&e, ERR_UNAVAILABLE, "the server of '%s' is gone: %s", s->name, s->why);
	while (s->requests != NULL) {
		mcp_fail_request(s->requests, &e, NULL);
	}
}

/* The connection is closed a little later: this may be one of its own calls. */
void mcp_fail_server(struct mcp_server *s, const char *why)
{
	if (s->state == MCP_SERVER_DOWN || s->state == MCP_SERVER_PAUSING || s->stopped) {
		return;
	}
	bool was_stable = s->state == MCP_SERVER_READY &&
			  clock_mono_ms() - s->ready_ms >= STABLE_MS;
	bool told = *s->why != '\0';
	s->failures = was_stable ? 0 : s->failures;
	s->state = MCP_SERVER_DOWN;
	(void)snprintf(s->why, sizeof(s->why), "%s", why);
	log_event(LOG_LEVEL_WARNING, "mcp_server_down", LOG_STR("tool", s->name),
	    LOG_STR("reason", s->why), LOG_INT("failures", s->failures + 1));
	mcp_fail_all(s);
	(void)uv_timer_start(&s->timer, mcp_on_timer, 0, 0);
	if (!told) {
		runner_tools_changed(s->mcp->r);
	}
}

/* --- sending
 * -------------------------------------------------------------------------------------
 */

/* MESSAGE is taken over; Q: it is that request. 0, or -1 with E. */
static int send_message(
    struct mcp_server *s, json_t *message, const struct mcp_request *q, struct err *e)
{
	char *text = message != NULL ? json_dumps(message, JSON_COMPACT) : NULL;
	json_decref(message);
	if (text == NULL || s->connection == NULL) {
		free(text);
		return err_set(e, ERR_INTERNAL, "out of memory");
	}
	int r = s->transport->send(s->connection, q != NULL ? q->id : 0,
	    q != NULL ? q->timeout_ms : MCP_HANDSHAKE_MS, text, strlen(text), e);
	free(text);
	return r;
}

static void send_or_fail(struct mcp_server *s, json_t *message)
{
	struct err e = {0};
	if (send_message(s, message, NULL, &e) < 0) {
		mcp_fail_server(s, e.text);
	}
}

/* PARAMS is taken over. NULL with E. */
struct mcp_request *mcp_send_request(struct mcp_server *s, enum mcp_request_kind kind,
    const char *method, json_t *params, uint64_t timeout_ms, struct err *e)
{
	struct mcp_request *q = HASH_COUNT(s->requests) < MCP_CALLS_MAX ? calloc(1, sizeof(*q))
									: NULL;
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

void mcp_begin_list(struct mcp_server *s, const char *cursor)
{
	struct err e = {0};
	json_t *params = cursor != NULL ? json_pack("{s:s}", "cursor", cursor) : json_object();
	s->listing = true;
	if (cursor == NULL) {
		json_decref(s->gathered);
		s->gathered = json_array();
		s->pages = 0;
	}
	if (mcp_send_request(s, MCP_REQUEST_LIST, "tools/list", params, MCP_HANDSHAKE_MS, &e) ==
	    NULL) {
		mcp_fail_server(s, e.text);
	}
}

void mcp_begin_initialize(struct mcp_server *s)
{
	struct err e = {0};
	json_t *params = json_pack("{s:s, s:{}, s:{s:s, s:s}}", "protocolVersion", PROTOCOL_VERSION,
	    "capabilities", "clientInfo", "name", "carrel", "version", CARREL_VERSION);
	if (mcp_send_request(
		s, MCP_REQUEST_INITIALIZE, "initialize", params, MCP_HANDSHAKE_MS, &e) == NULL) {
		mcp_fail_server(s, e.text);
	}
}

/* The server is told, in case it can stop, and the transport. */
void mcp_abandon(struct mcp_request *q, const char *reason)
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

/* --- what a server says
 * --------------------------------------------------------------------------
 */

static void on_initialized(struct mcp_server *s, const json_t *result)
{
	const char *version = json_string_value(json_object_get(result, "protocolVersion"));
	if (version == NULL || strlen(version) > 31 ||
	    strspn(version, "0123456789-") != strlen(version)) {
		mcp_fail_server(s, "its answer to initialize has no protocolVersion");
		return;
	}
	if (s->transport->initialized != NULL) {
		s->transport->initialized(s->connection, version);
	}
	send_or_fail(s, mcp_notification("notifications/initialized", NULL));
	if (s->state == MCP_SERVER_STARTING) {
		mcp_begin_list(s, NULL);
	}
}

static void finish_list(struct mcp_server *s)
{
	bool changed = s->state != MCP_SERVER_READY || !json_equal(s->callables, s->gathered);
	json_decref(s->callables);
	s->callables = s->gathered;
	s->gathered = NULL;
	s->listing = false;
	s->listed_ms = clock_mono_ms();
	if (s->state == MCP_SERVER_STARTING) {
		s->state = MCP_SERVER_READY;
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
		mcp_fail_server(s, "its answer to tools/list has no tools");
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
		mcp_begin_list(s, cursor);
	} else {
		finish_list(s);
	}
}

static void on_result(struct mcp_server *s, struct mcp_request *q, const json_t *result)
{
	struct err e = {0};
	cleanup(buf_fini) struct buf message = BUF_INIT(MCP_MESSAGE_MAX_BYTES);
	if (q->kind != MCP_REQUEST_CALL) {
		enum mcp_request_kind kind = q->kind;
		mcp_end_request(q);
		(kind == MCP_REQUEST_LIST ? on_listed : on_initialized)(s, result);
		return;
	}
	s->failures = 0; /* it works, whatever one call may do to it next */
	json_t *answer = mcp_call_result(s->mcp->r, result, &message, &e);
	if (answer == NULL) {
		mcp_fail_request(q, &e, buf_str(&message));
		return;
	}
	runner_task_done(&q->task, answer);
	mcp_end_request(q);
}

static void on_error(struct mcp_server *s, struct mcp_request *q, const json_t *error)
{
	const char *text = json_string_value(json_object_get(error, "message"));
	struct err e;
	char why[MCP_WHY_BYTES];
	if (q->kind == MCP_REQUEST_CALL) {
		mcp_error(error, &e);
		mcp_fail_request(q, &e, text);
		return;
	}
	(void)snprintf(why, sizeof(why), "it refused %s: %.200s",
	    q->kind == MCP_REQUEST_LIST ? "tools/list" : "initialize", text != NULL ? text : "");
	mcp_end_request(q);
	mcp_fail_server(s, why);
}

static void on_answer(struct mcp_server *s, const json_t *message, const json_t *id)
{
	uint64_t number = (uint64_t)json_integer_value(id);
	const json_t *error = json_object_get(message, "error");
	const json_t *result = json_object_get(message, "result");
	struct mcp_request *q;
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
	if (s->state == MCP_SERVER_DOWN || s->state == MCP_SERVER_PAUSING) {
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
	struct mcp_request *q;
	HASH_FIND(hh, s->requests, &id, sizeof(id), q);
	if (q != NULL && q->kind == MCP_REQUEST_CALL) {
		mcp_fail_request(q, e, NULL);
	} else if (q != NULL) {
		mcp_fail_server(s, e->text);
	}
}

static void on_down(void *ctx, const char *why)
{
	mcp_fail_server(ctx, why);
}

static void on_open(void *ctx)
{
	struct mcp_server *s = ctx;
	s->is_open = true;
	if (s->connection != NULL) {
		mcp_begin_initialize(s);
	}
}

struct mcp_owner mcp_owner_of(struct mcp_server *s)
{
	return (struct mcp_owner){
	    .runner = s->mcp->r,
	    .name = s->name,
	    .spec = json_object_get(s->tool, "spec"),
	    .on_open = on_open,
	    .on_message = on_message,
	    .on_refused = on_refused,
	    .on_down = on_down,
	    .ctx = s,
	};
}
