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
#include "tools/events.h"
#include "tools/fetch.h"
#include "tools/mcp.h"
#include "tools/mcp_transport.h"

#define SESSION_BYTES 256
#define VERSION_BYTES 32
#define POST_MS 300000
#define POSTS_MAX (MCP_CALLS_MAX + 16)
#define WHY_BYTES 256

struct http_connection;

/* One request of the connection's. */
struct post {
	struct http_connection *connection;
	struct fetch *fetch;
	struct events events;
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
	struct post *posts;
	int post_count;
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

static void on_event(void *ctx, const char *name, const char *data, size_t len)
{
	struct post *p = ctx;
	struct http_connection *c = p->connection;
	if (c->is_down) {
		return;
	}
	if (strcmp(name, "message") == 0) {
		c->owner.on_message(c->owner.ctx, data, len);
		return;
	}
	if (c->sse && strcmp(name, "endpoint") == 0 && c->post == NULL) {
		c->post = resolve(c->url, data);
		if (c->post == NULL) {
			down(c, "it named an endpoint of another server");
			return;
		}
		c->owner.on_open(c->owner.ctx);
	}
}

static bool on_bytes(void *ctx, const char *bytes, size_t len)
{
	struct post *p = ctx;
	if (p->streams) {
		return events_add(&p->events, bytes, len, on_event, p) == 0;
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
	events_fini(&p->events);
	buf_fini(&p->body);
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

/* Why an answer is none, or NULL. */
static const char *refusal(
    const struct post *p, const struct fetch_result *result, char why[WHY_BYTES])
{
	if (result->e != NULL) {
		(void)snprintf(why, WHY_BYTES, "%.200s", result->e->text);
		return why;
	}
	if (result->status == 404 && *p->connection->session != '\0') {
		return "it has ended the session";
	}
	if (result->status >= 300) {
		(void)snprintf(why, WHY_BYTES, "HTTP %ld", result->status);
		return why;
	}
	return NULL;
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

static void on_posted(void *ctx, const struct fetch_result *result)
{
	struct post *p = ctx;
	struct http_connection *c = p->connection;
	char buffer[WHY_BYTES];
	const char *why = refusal(p, result, buffer);
	take_out(p);
	if (why != NULL && !is_rpc_error(&p->body)) {
		down(c, why);
	} else if (!c->sse && !p->streams && p->body.len > 0 && !c->is_down) {
		c->owner.on_message(c->owner.ctx, buf_str(&p->body), p->body.len);
	}
	free_post(p);
}

/* The end of the stream is the end of an sse connection; http goes on without. */
static void on_stream_ended(void *ctx, const struct fetch_result *result)
{
	struct post *p = ctx;
	struct http_connection *c = p->connection;
	char buffer[WHY_BYTES];
	const char *why = refusal(p, result, buffer);
	take_out(p);
	if (c->sse) {
		down(c, why != NULL ? why : "it ended the stream");
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

static struct post *request(
    struct http_connection *c, const char *url, const char *text, size_t len, struct err *e)
{
	struct post *p = calloc(1, sizeof(*p));
	if (p == NULL) {
		(void)err_set(e, ERR_INTERNAL, "out of memory");
		return NULL;
	}
	p->connection = c;
	p->body = BUF_INIT(MCP_MESSAGE_MAX_BYTES);
	events_init(&p->events, MCP_MESSAGE_MAX_BYTES);
	json_t *headers = headers_for(c, text != NULL);
	const struct fetch_options o = {
	    .method = text != NULL ? "POST" : "GET",
	    .url = url,
	    .headers = headers,
	    .body = text,
	    .body_len = len,
	    .timeout_ms = text != NULL ? POST_MS : 0,
	    .on_bytes = on_bytes,
	    .on_head = on_head,
	    .done = text != NULL ? on_posted : on_stream_ended,
	    .ctx = p,
	};
	p->fetch = fetch_start(c->owner.runner->fetcher, &o, e);
	json_decref(headers);
	if (p->fetch == NULL) {
		free_post(p);
		return NULL;
	}
	return p;
}

static int http_send(void *connection, const char *text, size_t len, struct err *e)
{
	struct http_connection *c = connection;
	if (c->is_down || c->post == NULL || c->post_count >= POSTS_MAX) {
		return err_set(e, ERR_BUSY, "it cannot take more now");
	}
	struct post *p = request(c, c->post, text, len, e);
	if (p == NULL) {
		return -1;
	}
	p->next = c->posts;
	c->posts = p;
	c->post_count++;
	return 0;
}

static void http_initialized(void *connection, const char *version)
{
	struct http_connection *c = connection;
	struct err e;
	(void)snprintf(c->version, sizeof(c->version), "%s", version);
	if (!c->sse && c->stream == NULL) {
		c->stream = request(c, c->url, NULL, 0, &e);
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

static void http_close(void *connection)
{
	struct http_connection *c = connection;
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
	c->stream = request(c, c->url, NULL, 0, e);
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

const struct mcp_transport mcp_sse = {
    .open = sse_open, .send = http_send, .initialized = http_initialized, .close = http_close};
const struct mcp_transport mcp_http = {
    .open = http_open, .send = http_send, .initialized = http_initialized, .close = http_close};
