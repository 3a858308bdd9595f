/*
 * GET /api/artifacts/{name}: bytes of the store on their way to a client, piece by piece.
 *
 * What is small is read whole first. What is larger goes out as it is read. JSON is believed only
 * when it was read to its end, so large JSON is read twice: once to be checked, once to be sent; it
 * that changes in between, or cannot be read on, the connection is closed without the answer's end.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "api/pcm_ask.h"
#include "api/pcm_session.h"
#include "base/compiler.h"
#include "base/json_stream.h"
#include "base/json_text.h"
#include "engine/host_call.h"

#define SMALL_BYTES (1U << 20)
#define PIECE_BYTES (16U << 10) /* read at once */
#define GROWTH 6                /* a control character is \u0001 */

enum form { AS_BYTES, AS_TEXT, AS_JSON };

struct artifact_body {
	struct call_source source;
	struct call *call; /* until it is answered */
	char tenant[ENGINE_TENANT_MAX + 1];
	struct loading *loading;
	uint64_t left; /* to be read */
	enum form form;
	const char *media;
	bool checked;            /* JSON, to its end; or found to be none */
	struct json_stream json; /* of this reading */
	struct json_quoting quoting;
	bool begun, ended;
	struct buf out;        /* ready to go */
	size_t at;             /* of OUT, gone */
	struct quota *sending; /* of the server: pcm_sending */
};

static void body_free(void *state)
{
	struct artifact_body *b = state;
	if (b != NULL) {
		quota_release(b->sending, b->tenant, 1);
		loading_close(b->loading);
		buf_fini(&b->out);
		free(b);
	}
}

/* NULL having answered. */
static struct artifact_body *body_new(struct call *c)
{
	const char *tenant = c->principal->prefix != NULL ? c->principal->prefix : "";
	struct quota *sending = pcm_sending(c);
	struct artifact_body *b = calloc(1, sizeof(*b));
	if (b == NULL || quota_charge(sending, tenant, 1) < 0) {
		free(b);
		pcm_fail(c, 503, "The server sends as many artifacts of yours as it may");
		return NULL;
	}
	(void)snprintf(b->tenant, sizeof(b->tenant), "%s", tenant);
	b->sending = sending;
	b->call = c;
	b->out = BUF_INIT(SMALL_BYTES + 1);
	json_stream_init(&b->json);
	return b;
}

/* An addition to the reference's wire: who accepts bytes first of all gets them as they are kept,
 * JSON with its NaN too, and is told what they are. */
static bool wants_bytes(struct call *c)
{
	static const char type[] = "application/octet-stream";
	const char *accept = call_header(c, "Accept");
	return accept != NULL && strncasecmp(accept, type, sizeof(type) - 1) == 0;
}

/* What was kept as JSON is JSON again; what was kept as text, or says wrongly that it is JSON, a
 * string. */
static void choose(struct artifact_body *b, const char *type)
{
	bool json = strcmp(type, "json") == 0;
	bool text = strcmp(type, "text") == 0;
	if (!wants_bytes(b->call) && strcmp(type, "bytes") != 0) {
		b->form = json ? AS_JSON : AS_TEXT;
		b->media = "application/json";
		return;
	}
	b->form = AS_BYTES;
	b->media = json   ? "application/octet-stream; type=json"
		   : text ? "application/octet-stream; type=text"
			  : "application/octet-stream";
}

/* --- sending -------------------------------------------------------------------------------------
 */

/* The next LEN bytes in the form of the answer. */
static int convert(struct artifact_body *b, const char *bytes, size_t len)
{
	if (b->form == AS_JSON) {
		return json_stream_add(&b->json, bytes, len, &b->out);
	}
	return json_quoting_add(&b->quoting, bytes, len, b->left == 0, &b->out);
}

static int convert_edges(struct artifact_body *b)
{
	int r = 0;
	if (!b->begun) {
		b->begun = true;
		r = b->form == AS_TEXT ? buf_add_char(&b->out, '"') : 0;
	}
	if (r == 0 && b->left == 0 && !b->ended) {
		b->ended = true;
		r = b->form == AS_TEXT ? buf_add_char(&b->out, '"')
				       : json_stream_end(&b->json, &b->out);
	}
	return r;
}

/* Reads and converts a piece into the empty OUT. 1, 0 when there is none now, or broken. */
static ssize_t next_piece(struct artifact_body *b)
{
	static char bytes[PIECE_BYTES]; /* one loop, one thread */
	bool begin = !b->begun;
	if (begin && convert_edges(b) < 0) {
		return CALL_SOURCE_BROKEN;
	}
	size_t max = b->left < sizeof(bytes) ? (size_t)b->left : sizeof(bytes);
	ssize_t n = max > 0 ? loading_read(b->loading, bytes, max) : 0;
	if (n < 0 || (n == 0 && max > 0)) {
		return n < 0 ? CALL_SOURCE_BROKEN : b->out.len > 0;
	}
	b->left -= (uint64_t)n;
	if (convert(b, bytes, (size_t)n) < 0 || (b->left == 0 && convert_edges(b) < 0)) {
		return CALL_SOURCE_BROKEN;
	}
	return 1;
}

static ssize_t take(struct artifact_body *b, char *out, size_t max)
{
	size_t n = b->out.len - b->at;
	n = n < max ? n : max;
	memcpy(out, b->out.data + b->at, n);
	b->at += n;
	if (b->at == b->out.len) {
		buf_clear(&b->out);
		b->at = 0;
	}
	return (ssize_t)n;
}

static ssize_t read_bytes(struct artifact_body *b, char *out, size_t max)
{
	if (b->left == 0) {
		return -1;
	}
	ssize_t n = loading_read(b->loading, out, b->left < max ? (size_t)b->left : max);
	b->left -= n > 0 ? (uint64_t)n : 0;
	return n < 0 ? CALL_SOURCE_BROKEN : n;
}

static ssize_t body_read(struct call_source *source, char *out, size_t max)
{
	struct artifact_body *b = container_of(source, struct artifact_body, source);
	if (b->form == AS_BYTES) {
		return read_bytes(b, out, max);
	}
	while (b->out.len == 0) {
		if (b->ended) {
			return -1;
		}
		ssize_t n = next_piece(b);
		if (n <= 0) {
			return n;
		}
	}
	return take(b, out, max);
}

static void body_close(struct call_source *source)
{
	body_free(container_of(source, struct artifact_body, source));
}

static void body_more(void *ctx)
{
	struct artifact_body *b = ctx;
	call_wake(b->source.call);
}

static void send_pieces(struct artifact_body *b)
{
	b->source = (struct call_source){.read = body_read, .close = body_close, .call = b->call};
	b->out.max = PIECE_BYTES * GROWTH + JSON_STREAM_HELD_MAX;
	loading_on_more(b->loading, body_more, b);
	call_reply_source(b->call, 200, b->media, &b->source);
}

/* --- reading first -------------------------------------------------------------------------------
 */

static void fail(struct artifact_body *b, int status, const char *text)
{
	struct call *c = b->call;
	body_free(b);
	pcm_fail(c, status, "%s", text);
}

/* All of a small one is in OUT. */
static void send_small(struct artifact_body *b)
{
	struct call *c = b->call;
	struct buf body = b->out;
	const char *media = b->media;
	int r = 0;
	b->out = BUF_INIT(0);
	if (b->form != AS_BYTES) {
		struct buf json = BUF_INIT(SMALL_BYTES * GROWTH + 2UL);
		r = b->form == AS_JSON ? json_text_add_checked(&json, buf_str(&body), body.len)
				       : -EINVAL;
		if (r == -EINVAL) {
			r = json_text_add_string(&json, buf_str(&body), body.len);
		}
		buf_fini(&body);
		body = json;
	}
	if (r < 0) {
		buf_fini(&body);
		fail(b, 500, "The answer could not be put together");
		return;
	}
	body_free(b);
	call_reply(c, 200, media, &body);
}

static void open_artifact(struct artifact_body *b);

/* Large JSON was read, or is none: from the beginning again. */
static void send_checked(struct artifact_body *b, bool json)
{
	b->checked = true;
	b->form = json ? AS_JSON : AS_TEXT;
	json_stream_init(&b->json);
	loading_close(steal(&b->loading));
	open_artifact(b);
}

static bool is_small(const struct artifact_body *b)
{
	return b->out.len + b->left <= SMALL_BYTES;
}

/* 0, or -EINVAL: it is not JSON. */
static int read_first(struct artifact_body *b, const char *bytes, size_t len)
{
	b->left -= len;
	return b->checked ? buf_add(&b->out, bytes, len)
			  : json_stream_add(&b->json, bytes, len, NULL);
}

static void on_gone(struct call *c)
{
	body_free(c->ctx);
}

/* Reads what is there, of a small one to keep it, of large JSON to check it. */
static void read_on(void *ctx)
{
	static char bytes[PIECE_BYTES];
	struct artifact_body *b = ctx;
	ssize_t n = 1;
	int r = 0;
	while (r == 0 && b->left > 0 && n > 0) {
		n = loading_read(
		    b->loading, bytes, b->left < sizeof(bytes) ? (size_t)b->left : sizeof(bytes));
		r = n > 0 ? read_first(b, bytes, (size_t)n) : 0;
	}
	if (n == 0 && r == 0) {
		b->call->ctx = b;
		b->call->gone = on_gone;
		return;
	}
	b->call->ctx = NULL;
	b->call->gone = NULL;
	if (n < 0) {
		fail(b, 503, "The artifact could not be read to its end");
	} else if (b->checked && r < 0) {
		fail(b, 500, "The answer could not be put together");
	} else if (b->checked) {
		send_small(b);
	} else {
		send_checked(b, r == 0 && json_stream_end(&b->json, NULL) == 0);
	}
}

static void on_open(struct call *c, void *state, enum codemode_error code, const json_t *result,
    struct loading *bytes)
{
	struct artifact_body *b = state;
	const char *type = json_string_value(json_object_get(result, "type"));
	if (code == CODEMODE_NOT_FOUND) {
		body_free(b);
		pcm_fail(c, 404, "Artifact '%s' not found", c->params[0]);
		return;
	}
	if (code != CODEMODE_OK) {
		body_free(b);
		pcm_fail_code(c, code, result);
		return;
	}
	b->loading = bytes;
	b->left = (uint64_t)json_integer_value(json_object_get(result, "size"));
	if (b->left > HOST_BYTES_MAX) {
		/* No session can have saved it: a file that somebody put there, perhaps of holes.
		 */
		body_free(b);
		pcm_fail(c, 413, "The artifact is larger than %llu bytes",
		    (unsigned long long)HOST_BYTES_MAX);
		return;
	}
	if (b->media == NULL) {
		choose(b, type != NULL ? type : "text");
	}
	if (is_small(b) || (b->form == AS_JSON && !b->checked)) {
		/* What shrank below the bound in between is kept and checked as any small one. */
		b->checked = is_small(b);
		loading_on_more(bytes, read_on, b);
		read_on(b);
	} else {
		send_pieces(b);
	}
}

static void open_artifact(struct artifact_body *b)
{
	struct call *c = b->call;
	struct pcm_where w;
	if (!pcm_where(c, &w, false)) {
		body_free(b);
		return;
	}
	struct pcm_question q = {.method = "artifacts.load",
	    .arguments = json_pack("{s:s}", "name", c->params[0]),
	    .answer = on_open,
	    .state = b,
	    .drop = body_free};
	pcm_ask(c, &w.space, &q);
}

void pcm_artifacts_get(struct call *c)
{
	json_t *name = json_string(c->params[0]);
	struct artifact_body *b = NULL;
	if (name == NULL) {
		pcm_fail(c, 400, "The name is not UTF-8");
	} else {
		b = body_new(c);
	}
	json_decref(name);
	if (b != NULL) {
		open_artifact(b);
	}
}
