/*
 * Servers of tools over HTTP, both ways there are.
 *
 * sse (revision 2024-11-05): a GET brings a stream of events, whose first, "endpoint", names where
 * messages are posted; what is answered comes on the stream.
 *
 * http (2025-03-26 and later): each message is a POST, answered with JSON, with a stream of events
 * that ends, or with 202. Mcp-Session-Id, once given, goes with every further one. A GET may bring
 * a stream of what the server has to say by itself; a server without one answers 405.
 */
#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/event_stream.h"
#include "tools/fetch.h"
#include "tools/mcp.h"
#include "tools/mcp_transport.h"

#define SESSION_BYTES 256
#define VERSION_BYTES 32
#define SLACK_MS 2000 /* past a request's time, which is its owner's to tell */
#define GOODBYE_MS 2000
#define POSTS_MAX (MCP_CALLS_MAX + 16)

struct http_connection;

/* One request of the connection's. */
struct post {
	struct http_connection *connection;
	uint64_t id;         /* of the message; 0: it has no answer */
	uint64_t timeout_ms; /* 0: none */
	char *text;          /* NULL: a GET; until it is sent */
	struct fetch *fetch; /* NULL: it waits at the gate */
	struct event_stream events;
	bool streams; /* the answer is a stream of events */
	struct buf body;
	struct post *next;
};

struct http_connection {
	struct mcp_owner owner;
	bool sse;
	bool is_down;
	char *url;  /* of the definition */
	char *post; /* where messages go; NULL: not known yet */
	json_t *headers;
	char session[SESSION_BYTES];
	char version[VERSION_BYTES];
	struct post *stream; /* the GET */
	struct post *posts;  /* in the order they were sent in */
	int post_count;
	/* notifications/initialized, which the server must have seen before anything else: each
	 * message takes a way of its own, so what comes after waits until it is answered. */
	struct post *gate;
	bool gate_is_next;
};

static void down(struct http_connection *c, const char *why)
{
	if (!c->is_down) {
		c->is_down = true;
		c->owner.on_down(c->owner.ctx, why);
	}
}

/* --- where to post
 * -------------------------------------------------------------------------------
 */

static bool same_part(CURLU *a, CURLU *b, CURLUPart part)
{
	char *x = NULL;
	char *y = NULL;
	CURLUcode rx = curl_url_get(a, part, &x, CURLU_DEFAULT_PORT);
	CURLUcode ry = curl_url_get(b, part, &y, CURLU_DEFAULT_PORT);
	bool same = rx == CURLUE_OK && ry == CURLUE_OK && strcasecmp(x, y) == 0;
	curl_free(x);
	curl_free(y);
	return same;
}

/* The URL (malloc) that ENDPOINT is, seen from BASE; NULL when it is one of another server: the
 * headers, and the secrets in them, are for this one. */
static char *resolve(const char *base, const char *endpoint)
{
	CURLU *from = curl_url();
	CURLU *to = curl_url();
	char *text = NULL;
	char *out = NULL;
	if (curl_url_set(from, CURLUPART_URL, base, 0) == CURLUE_OK &&
	    curl_url_set(to, CURLUPART_URL, base, 0) == CURLUE_OK &&
	    curl_url_set(to, CURLUPART_URL, endpoint, 0) == CURLUE_OK &&
	    same_part(from, to, CURLUPART_SCHEME) && same_part(from, to, CURLUPART_HOST) &&
	    same_part(from, to, CURLUPART_PORT) &&
	    curl_url_get(to, CURLUPART_URL, &text, 0) == CURLUE_OK) {
		out = strdup(text);
	}
	curl_free(text);
	curl_url_cleanup(from);
	curl_url_cleanup(to);
	return out;
}

/* --- what comes
 * ----------------------------------------------------------------------------------
 */

static int on_event(void *ctx, const char *name, const char *data, size_t len)
{
	struct post *p = ctx;
	struct http_connection *c = p->connection;
	if (c->is_down) {
		return 0;
	}
	if (strcmp(name, "message") == 0) {
		c->owner.on_message(c->owner.ctx, data, len);
		return 0;
	}
	if (c->sse && strcmp(name, "endpoint") == 0 && c->post == NULL) {
		c->post = resolve(c->url, data);
		if (c->post == NULL) {
			down(c, "it named an endpoint of another server");
			return 0;
		}
		c->owner.on_open(c->owner.ctx);
	}
	return 0;
}

static bool on_bytes(void *ctx, const char *bytes, size_t len)
{
	struct post *p = ctx;
	if (p->streams) {
		return event_stream_feed(&p->events, bytes, len, on_event, p) == 0;
	}
	return buf_add(&p->body, bytes, len) == 0;
}

static void on_head(void *ctx, long status, const char *content_type)
{
	struct post *p = ctx;
	struct http_connection *c = p->connection;
	p->streams = status == 200 && strncasecmp(content_type, "text/event-stream", 17) == 0;
	const char *session = fetch_header(p->fetch, "Mcp-Session-Id");
	if (!c->sse && session != NULL && status < 300) {
		(void)snprintf(c->session, sizeof(c->session), "%s", session);
	}
}

static void free_post(struct post *p)
{
	event_stream_fini(&p->events);
	buf_fini(&p->body);
	free(p->text);
	free(p);
}

static void take_out(struct post *p)
{
	struct http_connection *c = p->connection;
	struct post **at = &c->posts;
	while (*at != NULL && *at != p) {
		at = &(*at)->next;
	}
	if (*at == p) {
		*at = p->next;
		c->post_count--;
	}
	if (c->stream == p) {
		c->stream = NULL;
	}
}

/* 0 when it was answered, or -1 with E. */
static int refusal(const struct fetch_result *result, struct err *e)
{
	if (result->e != NULL) {
		return err_set(e, result->e->code, "%s", result->e->text);
	}
	return result->status >= 300 ? err_set(e, ERR_INTERNAL, "HTTP %ld", result->status) : 0;
}

/* An error of one request that the status tells as well. */
static bool is_rpc_error(const struct buf *body)
{
	json_t *value = json_loadb(buf_str(body), body->len, JSON_ALLOW_NUL, NULL);
	bool is = json_is_object(json_object_get(value, "error")) &&
		  json_is_integer(json_object_get(value, "id"));
	json_decref(value);
	return is;
}

/* By the specification 404, by what servers do also 400: the session is not known any more. */
static bool session_is_over(const struct post *p, const struct fetch_result *result)
{
	return *p->connection->session != '\0' && result->e == NULL &&
	       (result->status == 404 || result->status == 400);
}

static void take_answer(struct post *p, const struct fetch_result *result)
{
	struct http_connection *c = p->connection;
	struct err e = {0};
	bool refused = refusal(result, &e) < 0;
	bool whole = !c->sse && !p->streams && p->body.len > 0;
	if (c->is_down) {
		return;
	}
	if (whole && (!refused || is_rpc_error(&p->body))) {
		c->owner.on_message(c->owner.ctx, buf_str(&p->body), p->body.len);
	} else if (session_is_over(p, result)) {
		down(c, "it has ended the session");
		return;
	}
	if (!refused && !c->sse) {
		(void)err_set(&e, ERR_INTERNAL, "the server's answer is not one");
		refused = true;
	}
	if (p->id != 0 && refused) {
		c->owner.on_refused(c->owner.ctx, p->id, &e); /* unless it was answered */
	}
}

static int start_post(struct post *p, struct err *e);

static void open_gate(struct http_connection *c)
{
	struct post *next;
	c->gate = NULL;
	for (struct post *p = c->posts; p != NULL && !c->is_down; p = next) {
		struct err e = {0};
		next = p->next;
		if (p->fetch == NULL && start_post(p, &e) < 0) {
			uint64_t id = p->id;
			take_out(p);
			free_post(p);
			c->owner.on_refused(c->owner.ctx, id, &e);
		}
	}
}

static void on_posted(void *ctx, const struct fetch_result *result)
{
	struct post *p = ctx;
	struct http_connection *c = p->connection;
	bool was_gate = c->gate == p;
	take_out(p);
	take_answer(p, result);
	free_post(p);
	if (was_gate) {
		open_gate(c);
	}
}

/* The end of the stream is the end of an sse connection; http goes on without. */
static void on_stream_ended(void *ctx, const struct fetch_result *result)
{
	struct post *p = ctx;
	struct http_connection *c = p->connection;
	struct err e = {0};
	int refused = refusal(result, &e);
	take_out(p);
	if (c->sse) {
		down(c, refused < 0 ? e.text : "it ended the stream");
	}
	free_post(p);
}

/* --- what goes
 * -----------------------------------------------------------------------------------
 */

static json_t *headers_for(const struct http_connection *c, bool post)
{
	json_t *headers = json_copy(c->headers);
	(void)json_object_set_new(headers, "Accept",
	    json_string(post && !c->sse ? "application/json, text/event-stream"
			: post          ? "*/*"
					: "text/event-stream"));
	if (post) {
		(void)json_object_set_new(headers, "Content-Type", json_string("application/json"));
	}
	if (*c->session != '\0') {
		(void)json_object_set_new(headers, "Mcp-Session-Id", json_string(c->session));
	}
	if (*c->version != '\0' && !c->sse) {
		(void)json_object_set_new(headers, "MCP-Protocol-Version", json_string(c->version));
	}
	return headers;
}

/* TEXT NULL: a GET. NULL when there is no memory. */
static struct post *new_post(struct http_connection *c, uint64_t id, uint64_t timeout_ms,
    const char *text, size_t len, struct err *e)
{
	struct post *p = calloc(1, sizeof(*p));
	if (p == NULL || (text != NULL && (p->text = strndup(text, len)) == NULL)) {
		free(p);
		(void)err_set(e, ERR_INTERNAL, "out of memory");
		return NULL;
	}
	p->connection = c;
	p->id = id;
	p->timeout_ms = timeout_ms;
	p->body = BUF_INIT(MCP_MESSAGE_MAX_BYTES);
	event_stream_init(&p->events, MCP_MESSAGE_MAX_BYTES);
	return p;
}

/* 0, or -1 with E. */
static int start_post(struct post *p, struct err *e)
{
	struct http_connection *c = p->connection;
	bool post = p->text != NULL;
	cleanup(json_decrefp) json_t *headers = headers_for(c, post);
	const struct fetch_options o = {
	    .method = post ? "POST" : "GET",
	    .url = post ? c->post : c->url,
	    .headers = headers,
	    .body = p->text,
	    .body_len = post ? strlen(p->text) : 0,
	    .timeout_ms = p->timeout_ms,
	    .on_bytes = on_bytes,
	    .on_head = on_head,
	    .done = post ? on_posted : on_stream_ended,
	    .ctx = p,
	};
	p->fetch = fetch_start(c->owner.runner->fetcher, &o, e);
	free(steal(&p->text));
	return p->fetch == NULL ? -1 : 0;
}

static void add_post(struct http_connection *c, struct post *p)
{
	struct post **at = &c->posts;
	while (*at != NULL) {
		at = &(*at)->next;
	}
	*at = p;
	c->post_count++;
}

static int http_send(
    void *connection, uint64_t id, uint64_t timeout_ms, const char *text, size_t len, struct err *e)
{
	struct http_connection *c = connection;
	if (c->is_down || c->post == NULL || c->post_count >= POSTS_MAX) {
		return err_set(e, ERR_BUSY, "it cannot take more now");
	}
	struct post *p = new_post(c, id, timeout_ms + SLACK_MS, text, len, e);
	if (p == NULL) {
		return -1;
	}
	if (c->gate == NULL && start_post(p, e) < 0) {
		free_post(p);
		return -1;
	}
	add_post(c, p);
	if (c->gate_is_next) {
		c->gate_is_next = false;
		c->gate = p;
	}
	return 0;
}

static void open_stream(struct http_connection *c, struct err *e)
{
	c->stream = new_post(c, 0, 0, NULL, 0, e);
	if (c->stream != NULL && start_post(c->stream, e) < 0) {
		free_post(steal(&c->stream));
	}
}

static void http_initialized(void *connection, const char *version)
{
	struct http_connection *c = connection;
	struct err ignored;
	(void)snprintf(c->version, sizeof(c->version), "%s", version);
	c->gate_is_next = true;
	if (!c->sse && c->stream == NULL) {
		open_stream(c, &ignored);
	}
}

/* --- opening and closing
 * -------------------------------------------------------------------------
 */

static void cancel_post(struct post *p)
{
	fetch_cancel(p->fetch);
	free_post(p);
}

static void http_forget(void *connection, uint64_t id)
{
	struct http_connection *c = connection;
	struct post *p = c->posts;
	while (p != NULL && p->id != id) {
		p = p->next;
	}
	if (p != NULL) {
		take_out(p);
		cancel_post(p);
	}
}

static void on_goodbye(void *ctx, const struct fetch_result *result)
{
	(void)ctx;
	(void)result;
}

/* So that a server need not keep the session until it is old. */
static void say_goodbye(const struct http_connection *c)
{
	struct err ignored;
	cleanup(json_decrefp) json_t *headers = headers_for(c, false);
	const struct fetch_options o = {
	    .method = "DELETE",
	    .url = c->url,
	    .headers = headers,
	    .timeout_ms = GOODBYE_MS,
	    .max_bytes = MCP_MESSAGE_MAX_BYTES,
	    .done = on_goodbye,
	};
	(void)fetch_start(c->owner.runner->fetcher, &o, &ignored);
}

static void http_close(void *connection)
{
	struct http_connection *c = connection;
	if (*c->session != '\0') {
		say_goodbye(c);
	}
	while (c->posts != NULL) {
		struct post *p = c->posts;
		c->posts = p->next;
		cancel_post(p);
	}
	if (c->stream != NULL) {
		cancel_post(c->stream);
	}
	json_decref(c->headers);
	free(c->url);
	free(c->post);
	free(c);
}

static struct http_connection *new_connection(const struct mcp_owner *o, bool sse, struct err *e)
{
	struct http_connection *c = calloc(1, sizeof(*c));
	if (c == NULL) {
		(void)err_set(e, ERR_INTERNAL, "out of memory");
		return NULL;
	}
	c->owner = *o;
	c->sse = sse;
	c->url = strdup(json_string_value(json_object_get(o->spec, "url")));
	c->headers = runner_expand(o->runner, json_object_get(o->spec, "headers"), e);
	if (c->url == NULL || c->headers == NULL) {
		http_close(c);
		return NULL;
	}
	return c;
}

static void *sse_open(const struct mcp_owner *o, struct err *e)
{
	struct http_connection *c = new_connection(o, true, e);
	if (c == NULL) {
		return NULL;
	}
	open_stream(c, e);
	if (c->stream == NULL) {
		http_close(c);
		return NULL;
	}
	return c;
}

static void *http_open(const struct mcp_owner *o, struct err *e)
{
	struct http_connection *c = new_connection(o, false, e);
	if (c == NULL) {
		return NULL;
	}
	c->post = strdup(c->url);
	if (c->post == NULL) {
		http_close(c);
		(void)err_set(e, ERR_INTERNAL, "out of memory");
		return NULL;
	}
	o->on_open(o->ctx);
	return c;
}

const struct mcp_transport mcp_sse = {.open = sse_open,
    .send = http_send,
    .forget = http_forget,
    .initialized = http_initialized,
    .close = http_close};
const struct mcp_transport mcp_http = {.open = http_open,
    .send = http_send,
    .forget = http_forget,
    .initialized = http_initialized,
    .close = http_close};
