/* Answers: bytes, JSON, and sources that are asked for more when the socket can take it. */
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "http/internal.h"

/* Of a source's response without chunks (HTTP/1.0 clients); with chunks the connection's is used.
 */
#define SOURCE_BUFFER_BYTES 4096
/* How often a source is asked again that said "nothing" and was woken in the same breath. */
#define SOURCE_TRIES 4

static struct exchange *exchange_of(struct call *c)
{
	return container_of(c, struct exchange, call);
}

/* ---- headers ---- */

static bool is_field_value(const char *value)
{
	for (const char *c = value; *c != '\0'; c++) {
		if ((unsigned char)*c < ' ' || *c == 0x7f) {
			return false;
		}
	}
	return true;
}

void call_set_header(struct call *c, const char *name, const char *value)
{
	struct exchange *x = exchange_of(c);
	if (x->answered || x->header_count == CALL_HEADERS_MAX || !is_field_value(value)) {
		return;
	}
	cleanup(text_free) char *own_name = strdup(name);
	cleanup(text_free) char *own_value = strdup(value);
	if (own_name != NULL && own_value != NULL) {
		x->headers[x->header_count++] = (struct header){
		    .name = steal(&own_name), .value = steal(&own_value)};
	}
}

bool reply_add_header(struct MHD_Response *r, const char *name, const char *value)
{
	return MHD_add_response_header(r, name, value) == MHD_YES;
}

static bool add_headers(const struct exchange *x, struct MHD_Response *r)
{
	for (size_t i = 0; i < x->header_count; i++) {
		/* A header libmicrohttpd does not take is one it writes itself. */
		(void)reply_add_header(r, x->headers[i].name, x->headers[i].value);
	}
	bool last = x->http->draining || x->must_close;
	if (last && !reply_add_header(r, MHD_HTTP_HEADER_CONNECTION, "close")) {
		return false;
	}
	return reply_add_header(r, "X-Content-Type-Options", "nosniff");
}

/* ---- giving ---- */

void reply_give(struct exchange *x, int status, struct MHD_Response *r)
{
	if (x->answered || x->dead) {
		if (r != NULL) {
			MHD_destroy_response(r);
		}
		return;
	}
	x->answered = true;
	x->told_gone = true; /* whoever answered is done with the call */
	x->status = status;
	x->response = r;
	if (r == NULL || !add_headers(x, r)) {
		x->dead = true;
	}
	exchange_resume(x);
}

void reply_forget(struct exchange *x)
{
	if (x->response != NULL) {
		MHD_destroy_response(x->response);
		x->response = NULL;
	}
}

struct MHD_Response *reply_from_buf(struct buf *body)
{
	struct MHD_Response *r = MHD_create_response_from_buffer(
	    body->len, body->data, MHD_RESPMEM_MUST_FREE);
	if (r == NULL) {
		buf_fini(body);
		return NULL;
	}
	*body = BUF_INIT(body->max);
	return r;
}

/* Adds the type; NULL stays NULL. */
static struct MHD_Response *with_type(struct MHD_Response *r, const char *content_type)
{
	if (r != NULL && content_type != NULL &&
	    !reply_add_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, content_type)) {
		MHD_destroy_response(r);
		return NULL;
	}
	return r;
}

void call_reply(struct call *c, int status, const char *content_type, struct buf *body)
{
	struct exchange *x = exchange_of(c);
	if (!x->answered) {
		x->sent_bytes = body->len;
	}
	reply_give(x, status, with_type(reply_from_buf(body), content_type));
}

void call_reply_json(struct call *c, int status, json_t *j)
{
	char *text = j != NULL ? json_dumps(j, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
	json_decref(j);
	if (text == NULL) {
		static const char sorry[] =
		    "{\"error\":{\"code\":\"InternalError\",\"message\":\"out of memory\"}}";
		status = MHD_HTTP_INTERNAL_SERVER_ERROR;
		text = strdup(sorry);
	}
	size_t len = text != NULL ? strlen(text) : 0;
	struct buf body = {.data = text, .len = len, .alloc = len + 1, .max = len};
	call_reply(c, status, "application/json; charset=utf-8", &body);
}

/* ---- sources ---- */

/* What a streamed response holds on to. It outlives the exchange by a moment: libmicrohttpd first
 * says that the request is completed and then frees the response. */
struct stream {
	struct exchange *x;
};

static ssize_t ask(struct exchange *x, char *out, size_t max)
{
	ssize_t n = 0;
	for (int i = 0; i < SOURCE_TRIES && n == 0; i++) {
		x->woken = false;
		x->reading = true;
		n = x->source->read(x->source, out, max);
		x->reading = false;
		if (!x->woken) {
			break;
		}
	}
	return n;
}

static ssize_t on_read(void *cls, uint64_t position, char *out, size_t max)
{
	(void)position;
	struct exchange *x = ((struct stream *)cls)->x;
	if (x->dead) {
		return MHD_CONTENT_READER_END_WITH_ERROR;
	}
	ssize_t n = ask(x, out, max);
	if (n < 0) {
		return n == CALL_SOURCE_BROKEN ? MHD_CONTENT_READER_END_WITH_ERROR
					       : MHD_CONTENT_READER_END_OF_STREAM;
	}
	if (n == 0 && !x->woken) {
		exchange_suspend(x);
	}
	x->sent_bytes += (uint64_t)n;
	return n;
}

void call_reply_source(struct call *c, int status, const char *content_type, struct call_source *s)
{
	struct exchange *x = exchange_of(c);
	s->call = c;
	if (x->answered || x->dead) {
		s->close(s);
		return;
	}
	x->source = s;
	struct stream *stream = malloc(sizeof(*stream));
	struct MHD_Response *r = NULL;
	if (stream != NULL) {
		stream->x = x;
		r = MHD_create_response_from_callback(
		    MHD_SIZE_UNKNOWN, SOURCE_BUFFER_BYTES, on_read, stream, free);
		if (r == NULL) {
			free(stream);
		}
	}
	reply_give(x, status, with_type(r, content_type));
}

void call_wake(struct call *c)
{
	struct exchange *x = exchange_of(c);
	if (x->reading) {
		x->woken = true;
	} else if (x->source != NULL) {
		exchange_resume(x);
	}
}
