/* One request: from its head to the moment its answer is handed to libmicrohttpd. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/json_weight.h"
#include "base/log.h"
#include "http/internal.h"

#define BODY_FIRST_BYTES (16U << 10)

static struct exchange *exchange_of(struct call *c)
{
	return container_of(c, struct exchange, call);
}

/* ---- what a dialect may ask ---- */

const char *call_header(struct call *c, const char *name)
{
	return MHD_lookup_connection_value(exchange_of(c)->mhd, MHD_HEADER_KIND, name);
}

void call_continue(struct call *c)
{
	struct exchange *x = exchange_of(c);
	x->continued = true;
	x->paused = false;
	if (x->stage == STAGE_BEGIN || x->stage == STAGE_BODY) {
		exchange_resume(x);
	}
}

void call_pause(struct call *c)
{
	exchange_of(c)->paused = true;
}

/* ---- errors ---- */

static const char *const code_names[] = {
    [ERR_NONE] = "None",
    [ERR_INVALID] = "InvalidRequest",
    [ERR_NOT_FOUND] = "NotFound",
    [ERR_CONFLICT] = "Conflict",
    [ERR_TOO_LARGE] = "TooLarge",
    [ERR_BUSY] = "TooManyRequests",
    [ERR_UNSUPPORTED] = "Unsupported",
    [ERR_DENIED] = "Denied",
    [ERR_TIMEOUT] = "Timeout",
    [ERR_GONE] = "Gone",
    [ERR_UNAVAILABLE] = "Unavailable",
    [ERR_UNSURE] = "OutcomeUnknown",
    [ERR_INTERNAL] = "InternalError",
};

static void plain_error(struct call *c, int status, const struct err *e)
{
	call_reply_json(c, status,
	    json_pack("{s:{s:s, s:s}}", "error", "code", code_names[e->code], "message", e->text));
}

void exchange_error(struct exchange *x, int status, const struct err *e)
{
	const struct route *route = x->call.route;
	if (x->answered) {
		return;
	}
	if (route != NULL && route->on_error != NULL) {
		route->on_error(&x->call, status, e);
	} else if (x->http->default_error != NULL) {
		x->http->default_error(&x->call, status, e);
	} else {
		plain_error(&x->call, status, e);
	}
}

void exchange_refuse(struct exchange *x, int status, enum err_code code, const char *fmt, ...)
{
	struct err e = {.code = code};
	va_list args;
	va_start(args, fmt);
	(void)vsnprintf(e.text, sizeof(e.text), fmt, args);
	va_end(args);
	exchange_error(x, status, &e);
}

static void refuse_too_large(struct exchange *x, uint64_t max_bytes)
{
	exchange_refuse(x, MHD_HTTP_CONTENT_TOO_LARGE, ERR_TOO_LARGE,
	    "the request's body is larger than %" PRIu64 " bytes, the most that is taken here",
	    max_bytes);
}

/* ---- multipart ---- */

/* Parts that are no files are read over. */
struct upload {
	struct multipart multipart; /* first */
	struct exchange *x;
	bool skipping;
};

static int on_part(void *ctx, const char *name, const char *filename)
{
	struct upload *u = ctx;
	u->skipping = filename == NULL && (name == NULL || strcmp(name, "file") != 0);
	struct call *c = &u->x->call;
	return u->skipping ? 0 : c->route->upload->part(c, name, filename);
}

static int on_part_data(void *ctx, const char *bytes, size_t len)
{
	struct upload *u = ctx;
	struct call *c = &u->x->call;
	return u->skipping ? 0 : c->route->upload->data(c, bytes, len);
}

static int on_part_end(void *ctx)
{
	struct upload *u = ctx;
	struct call *c = &u->x->call;
	return u->skipping ? 0 : c->route->upload->end(c);
}

static const struct multipart_sink upload_sink = {on_part, on_part_data, on_part_end};

static int upload_new(struct exchange *x)
{
	struct upload *u = calloc(1, sizeof(*u));
	if (u == NULL) {
		exchange_refuse(x, MHD_HTTP_INTERNAL_SERVER_ERROR, ERR_INTERNAL, "out of memory");
		return -1;
	}
	u->x = x;
	struct err e;
	const char *type = call_header(&x->call, MHD_HTTP_HEADER_CONTENT_TYPE);
	if (multipart_init(&u->multipart, type, &upload_sink, u, &e) < 0) {
		free(u);
		exchange_error(x, MHD_HTTP_BAD_REQUEST, &e);
		return -1;
	}
	x->multipart = &u->multipart;
	return 0;
}

static void upload_free(struct exchange *x)
{
	if (x->multipart != NULL) {
		multipart_fini(x->multipart);
		free(container_of(x->multipart, struct upload, multipart));
		x->multipart = NULL;
	}
}

/* ---- the body ---- */

/* A GET has no use for a body (RFC 9110, 9.3.1). */
static bool takes_body(const struct call *c)
{
	return (c->route->flags & (ROUTE_BUFFERED | ROUTE_MULTIPART)) != 0 &&
	       c->method != CALL_GET && c->method != CALL_HEAD;
}

static void drop_body(struct exchange *x)
{
	quota_release(&x->http->bodies, x->call.holder, x->kept_bytes);
	x->kept_bytes = 0;
	buf_fini(&x->call.body);
}

/* Keeps a piece of a buffered body, as long as its holder's bodies stay within their share. */
static void keep_body(struct exchange *x, const char *data, size_t len)
{
	int err = quota_charge(&x->http->bodies, x->call.holder, len);
	if (err == -EDQUOT) {
		drop_body(x);
		exchange_refuse(x, MHD_HTTP_TOO_MANY_REQUESTS, ERR_BUSY,
		    "the server holds as many request bodies of yours as it may");
		return;
	}
	x->kept_bytes += err == 0 ? len : 0;
	if (err < 0 || buf_add(&x->call.body, data, len) < 0) {
		exchange_refuse(x, MHD_HTTP_INTERNAL_SERVER_ERROR, ERR_INTERNAL, "out of memory");
	}
}

static void take_body(struct exchange *x, const char *data, size_t len)
{
	const struct route *route = x->call.route;
	struct err e;
	if (x->body_bytes > route->max_body_bytes) {
		refuse_too_large(x, route->max_body_bytes);
	} else if ((route->flags & ROUTE_MULTIPART) != 0) {
		int r = multipart_feed(x->multipart, data, len, &e);
		if (r < 0) {
			exchange_error(x, MHD_HTTP_BAD_REQUEST, &e);
		} else if (r > 0) {
			/* The upload has answered; this is for one that forgot to. */
			exchange_refuse(
			    x, MHD_HTTP_INTERNAL_SERVER_ERROR, ERR_INTERNAL, "the upload failed");
		}
	} else if ((route->flags & ROUTE_BUFFERED) != 0) {
		keep_body(x, data, len);
	}
}

/* A client is not slow while it is we who do not read. */
static void pause_body(struct exchange *x)
{
	x->conn->phase = CONN_ANSWER;
	exchange_suspend(x);
}

static void after_pause(struct exchange *x)
{
	if (x->conn->phase == CONN_ANSWER) {
		x->conn->phase = CONN_BODY;
		x->conn->phase_since_ms += uv_now(x->http->loop) - x->suspended_ms;
	}
}

static enum MHD_Result on_body(struct exchange *x, const char *data, size_t len)
{
	after_pause(x);
	x->body_bytes += len;
	x->conn->body_bytes += len;
	if (!x->answered && x->body_expected == BODY_UNKNOWN && !head_chunk_is_sound(x, data)) {
		x->must_close = true;
		exchange_refuse(
		    x, MHD_HTTP_BAD_REQUEST, ERR_INVALID, "a chunk's size does not end in CRLF");
	} else if (!x->answered) {
		take_body(x, data, len);
	} else if (x->body_bytes > BODY_DISCARD_MAX_BYTES) {
		x->dead = true;
		x->conn->linger = true;
	}
	if (x->paused && !x->answered && !x->dead) {
		pause_body(x);
	}
	return x->dead ? MHD_NO : MHD_YES;
}

/* The handler has what is read of the body as JSON. */
static void handle(struct exchange *x, const struct json_read *r)
{
	x->call.json = *r;
	x->call.route->handle(&x->call);
	x->call.json.value = NULL;
}

static void on_json(void *ctx, const struct json_read *r, struct buf *text)
{
	struct exchange *x = ctx;
	x->json_job = NULL;
	x->call.body = *text;
	*text = BUF_INIT(0);
	handle(x, r);
}

/* A large body is read by a thread while the call waits as it does for an answer. */
static void read_json(struct exchange *x)
{
	struct call *c = &x->call;
	size_t flags = c->route->json(c);
	struct json_read r;
	if (c->body.len <= JSON_WORK_SMALL_BYTES) {
		json_read(&r, &c->body, flags, JSON_WEIGHT_BODY_MAX);
		handle(x, &r);
		json_decref(r.value);
		return;
	}
	x->json_job = json_work_read(
	    x->http->json_work, c->holder, &c->body, flags, JSON_WEIGHT_BODY_MAX, on_json, x);
	if (x->json_job == NULL) {
		exchange_refuse(x, MHD_HTTP_INTERNAL_SERVER_ERROR, ERR_INTERNAL, "out of memory");
	}
}

/* All of the body is there. */
static void finish_body(struct exchange *x)
{
	struct err e;
	x->conn->phase = CONN_ANSWER;
	if (x->answered) {
		return;
	}
	if (x->multipart != NULL && multipart_finish(x->multipart, &e) < 0) {
		exchange_error(x, MHD_HTTP_BAD_REQUEST, &e);
		return;
	}
	x->stage = STAGE_HANDLE;
	if (x->call.route->json != NULL) {
		read_json(x);
	} else {
		x->call.route->handle(&x->call);
	}
}

/* ---- the turns ---- */

static enum MHD_Result queue(struct exchange *x)
{
	if (x->dead || x->response == NULL) {
		return MHD_NO;
	}
	x->conn->phase = CONN_ANSWER;
	x->stage = STAGE_QUEUED;
	enum MHD_Result r = MHD_queue_response(x->mhd, (unsigned)x->status, x->response);
	MHD_destroy_response(x->response);
	x->response = NULL;
	return r;
}

static void start_body(struct exchange *x)
{
	x->stage = STAGE_BODY;
	x->conn->phase = CONN_BODY;
	x->conn->phase_since_ms = uv_now(x->http->loop);
	x->conn->body_bytes = 0;
}

/* Answered before the body: a small one is read over, so that the connection lives on. */
static enum MHD_Result answer_at_head(struct exchange *x)
{
	bool waits = call_header(&x->call, MHD_HTTP_HEADER_EXPECT) != NULL;
	bool small = x->body_expected <= BODY_SWALLOW_MAX_BYTES;
	if (small && !x->must_close && (!waits || x->body_expected == 0) && !x->dead) {
		start_body(x);
		return MHD_YES;
	}
	x->conn->linger = true;
	return queue(x);
}

static void read_head(struct exchange *x, const char *bad)
{
	struct call *c = &x->call;
	if (admit(x, bad) < 0) {
		return;
	}
	if (x->body_expected > 0 && !takes_body(c)) {
		x->must_close = true;
		exchange_refuse(
		    x, MHD_HTTP_CONTENT_TOO_LARGE, ERR_TOO_LARGE, "this request takes no body");
		return;
	}
	if (x->body_expected != BODY_UNKNOWN && x->body_expected > c->route->max_body_bytes) {
		refuse_too_large(x, c->route->max_body_bytes);
		return;
	}
	c->body = BUF_INIT((size_t)c->route->max_body_bytes);
	if ((c->route->flags & ROUTE_BUFFERED) != 0 && x->body_expected != BODY_UNKNOWN) {
		/* The usual body in one piece; a failure shows when bytes come. */
		(void)buf_reserve(&c->body, x->body_expected < BODY_FIRST_BYTES
						? (size_t)x->body_expected
						: BODY_FIRST_BYTES);
	}
	if ((c->route->flags & ROUTE_MULTIPART) != 0 && upload_new(x) < 0) {
		return;
	}
	x->stage = STAGE_BEGIN;
	if (c->route->begin == NULL || c->route->begin(c) == CALL_GO_ON) {
		x->continued = true;
	}
}

/* The head is read, or what begin waited for has come. */
static enum MHD_Result after_begin(struct exchange *x)
{
	if (x->dead) {
		return MHD_NO;
	}
	if (x->answered) {
		return answer_at_head(x);
	}
	if (x->continued) {
		start_body(x);
	} else {
		x->conn->phase = CONN_ANSWER;
		exchange_suspend(x);
	}
	return MHD_YES;
}

static enum MHD_Result after_handle(struct exchange *x)
{
	if (x->dead) {
		return MHD_NO;
	}
	if (x->answered) {
		return queue(x);
	}
	exchange_suspend(x);
	return MHD_YES;
}

/* Copies TARGET and cuts it at the '?'. */
static bool copy_target(struct exchange *x, const char *target)
{
	x->target_at = target;
	x->target_len = strlen(target);
	x->target = strdup(target);
	char *mark = x->target != NULL ? strchr(x->target, '?') : NULL;
	if (mark != NULL) {
		*mark = '\0';
		x->query = mark + 1;
	}
	return x->target != NULL;
}

/* libmicrohttpd would keep an entry in the connection's memory for each parameter of the query,
 * and closes without an answer when they do not fit. We read queries ourselves: it finds none. It
 * decodes the text in place after this call, so it is its to change. */
static void hide_query(const char *target)
{
	char *mark = strchr(target, '?');
	if (mark != NULL) {
		mark[1] = '\0';
	}
}

void *exchange_target(void *http, const char *target, struct MHD_Connection *mhd)
{
	struct http *h = http;
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(
	    mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	struct conn *conn = info != NULL ? info->socket_context : NULL;
	struct exchange *x = conn != NULL ? calloc(1, sizeof(*x)) : NULL;
	if (x == NULL || !copy_target(x, target != NULL ? target : "")) {
		free(x);
		return NULL;
	}
	if (target != NULL) {
		hide_query(target);
	}
	x->http = h;
	x->conn = conn;
	x->mhd = mhd;
	x->call.principal = &auth_nobody;
	x->call.holder = auth_nobody.name;
	x->start_us = clock_mono_us();
	conn->exchange = x;
	link_append(&h->calls, &x->link);
	return x;
}

enum MHD_Result exchange_access(void *http, struct MHD_Connection *mhd, const char *url,
    const char *method, const char *version, const char *data, size_t *size, void **exchange)
{
	(void)http;
	(void)mhd;
	(void)url;
	struct exchange *x = *exchange;
	if (x == NULL) {
		return MHD_NO; /* without memory */
	}
	if (x->stage == STAGE_TARGET) {
		x->stage = STAGE_HEAD;
		x->opened = true;
		x->http->open_calls++;
		x->call.method = method_of(method);
		read_head(x, head_check(x, method, version));
		return after_begin(x);
	}
	if (x->dead) {
		return MHD_NO;
	}
	if (*size > 0) {
		size_t len = *size;
		*size = 0;
		return on_body(x, data, len);
	}
	if (x->stage == STAGE_HEAD || x->stage == STAGE_BEGIN) {
		return after_begin(x);
	}
	if (x->stage == STAGE_BODY) {
		finish_body(x);
	}
	return after_handle(x);
}

/* ---- the end ---- */

static void tell_gone(struct exchange *x)
{
	json_work_cancel(steal(&x->json_job));
	if (!x->told_gone) {
		x->told_gone = true;
		if (x->call.gone != NULL) {
			x->call.gone(&x->call);
		}
	}
}

void exchange_hung_up(struct exchange *x)
{
	if (!x->dead) {
		x->dead = true;
		tell_gone(x);
	}
	exchange_resume(x);
}

static void close_source(struct exchange *x)
{
	struct call_source *s = x->source;
	if (s != NULL) {
		x->source = NULL;
		s->call = NULL;
		s->close(s);
	}
}

static void log_call(const struct exchange *x)
{
	const struct route *route = x->call.route;
	log_event(LOG_LEVEL_DEBUG, "http_call", LOG_STR("method", method_name(x->call.method)),
	    LOG_STR("route", route != NULL ? route->pattern : "-"), LOG_INT("status", x->status),
	    LOG_INT("bytes", x->sent_bytes), LOG_INT("ms", (clock_mono_us() - x->start_us) / 1000));
}

static void exchange_free(struct exchange *x)
{
	upload_free(x);
	drop_body(x);
	quota_release(&x->http->admitted, x->call.holder, x->admitted ? 1 : 0);
	route_match_fini(&x->match);
	while (x->texts != NULL) {
		struct text_node *node = x->texts;
		x->texts = node->next;
		free(node);
	}
	for (size_t i = 0; i < x->header_count; i++) {
		free(x->headers[i].name);
		free(x->headers[i].value);
	}
	free(x->target);
	free(x);
}

void exchange_completed(
    void *http, struct MHD_Connection *mhd, void **exchange, enum MHD_RequestTerminationCode why)
{
	(void)mhd;
	(void)why;
	struct http *h = http;
	struct exchange *x = *exchange;
	if (x == NULL) {
		return;
	}
	*exchange = NULL;
	x->dead = true;
	link_remove(&x->link);
	link_remove(&x->waiting);
	watch_remove(&h->watches, &x->watch);
	tell_gone(x);
	close_source(x);
	reply_forget(x);
	x->conn->exchange = NULL;
	conn_rest(x->conn);
	h->open_calls -= x->opened ? 1 : 0;
	log_call(x);
	exchange_free(x);
}
