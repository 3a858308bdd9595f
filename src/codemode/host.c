/* Calls of sessions: JSON arguments in, replies and bytes out. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/json_weight.h"
#include "codemode/internal.h"

/* Calls of many bytes are counted, while they wait for a store or a tool. */
#define LARGE_BYTES (256U << 10)
#define ARGUMENTS_MAX_BYTES (1U << 20) /* of most methods */

/* What a host call is while it is pending: host_call.ctx. */
struct hosted {
	struct host_call *call;
	struct method_call *running; /* NULL: it has ended */
	struct codemode *codemode;
	size_t held_bytes;     /* its part of codemode.held */
	bool paused;           /* host_call_resume is owed */
	unsigned busy;         /* inside begin or put: the reply waits for its end */
	struct json_job *work; /* that reads the arguments, or writes the answer */
	/* The answer. */
	bool answered;
	bool ok;
	char *json;
	struct host_source *source;
};

/* Bytes that follow a reply. */
struct read_source {
	struct host_source source;
	struct loading *loading;
	struct host_call *call;
};

static ssize_t source_read(struct host_source *s, char *out, size_t max)
{
	struct read_source *r = container_of(s, struct read_source, source);
	return loading_read(r->loading, out, max);
}

static void source_close(struct host_source *s)
{
	struct read_source *r = container_of(s, struct read_source, source);
	loading_close(r->loading);
	free(r);
}

static void source_more(void *ctx)
{
	struct read_source *r = ctx;
	host_call_resume(r->call);
}

static struct host_source *source_new(struct host_call *call, struct loading *bytes, uint64_t size)
{
	struct read_source *r = calloc(1, sizeof(*r));
	if (r == NULL) {
		return NULL;
	}
	r->source = (struct host_source){.read = source_read, .close = source_close, .left = size};
	r->loading = bytes;
	r->call = call;
	loading_on_more(bytes, source_more, r);
	return &r->source;
}

static const char no_memory[] = "{\"error\":\"RuntimeError\",\"message\":\"out of memory\"}";

static void drop_hold(struct hosted *h)
{
	quota_release(&h->codemode->held, h->call->worker->tenant, h->held_bytes);
	h->held_bytes = 0;
}

static void hosted_free(struct hosted *h)
{
	drop_hold(h);
	free(h);
}

/* Replies when there is an answer and nobody above uses H. */
static void try_reply(struct hosted *h)
{
	if (!h->answered || h->busy > 0) {
		return;
	}
	struct host_call *call = h->call;
	struct host_source *source = h->source;
	cleanup(text_free) char *json = h->json;
	bool ok = h->ok && json != NULL;
	hosted_free(h);
	call->ctx = NULL;
	const char *text = json != NULL ? json : no_memory;
	host_call_reply(call, ok, text, strlen(text), source);
}

/* In the place of a result. */
static void answer_error(struct hosted *h, const char *error, const char *text)
{
	json_t *failure = call_error(error, text);
	h->answered = true;
	h->ok = false;
	h->json = json_dumps(failure, JSON_COMPACT);
	json_decref(failure);
}

/* Takes the bytes of TEXT over; NULL when out of memory. */
static void take_text(struct hosted *h, struct buf *text)
{
	h->answered = true;
	if (text == NULL || text->len <= HOST_CALL_MAX_BYTES) {
		h->json = text != NULL ? steal(&text->data) : NULL;
		return;
	}
	answer_error(h, "RuntimeError", "The result is larger than a reply may be");
}

static int add_bytes(const char *bytes, size_t len, void *out)
{
	return buf_add(out, bytes, len) < 0 ? -1 : 0;
}

static int add_json(struct buf *out, const json_t *result)
{
	return json_dump_callback(result, add_bytes, out, JSON_COMPACT | JSON_ENCODE_ANY);
}

static void on_written(void *ctx, int err, struct buf *text)
{
	struct hosted *h = ctx;
	h->work = NULL;
	if (err == -EDQUOT) {
		answer_error(h, "TooManyCalls", "As many large results wait as may");
	} else {
		take_text(h, text);
	}
	try_reply(h);
}

/* What is large is written by a thread, and the call answered then. */
static void write_json(struct hosted *h, bool ok, const json_t *result)
{
	h->ok = ok;
	h->busy++;
	h->work = json_work_write(h->codemode->config.json_work, h->call->worker->tenant, result,
	    add_json, on_written, h);
	h->busy--;
}

static void resume(struct hosted *h)
{
	if (h->paused) {
		h->paused = false;
		host_call_resume(h->call);
	}
}

static void on_done(struct method_call *c, enum codemode_error code, const json_t *result,
    struct loading *bytes, uint64_t size)
{
	struct hosted *h = c->ctx;
	h->running = NULL;
	drop_hold(h);
	write_json(h, code == CODEMODE_OK, result);
	if (bytes != NULL && size > 0) {
		h->source = source_new(h->call, bytes, size);
		h->ok = h->ok && h->source != NULL;
	}
	if (h->source == NULL) {
		loading_close(bytes);
	}
	try_reply(h);
}

static void on_room(struct method_call *c)
{
	resume(c->ctx);
}

static const struct call_answer answer = {.done = on_done, .room = on_room};

/* How many bytes the session will send, whatever becomes of the call. */
static uint64_t bytes_to_come(const char *method, const json_t *arguments)
{
	const json_t *size = json_object_get(arguments, "size");
	if (strcmp(method, "artifacts.save") != 0 || !json_is_integer(size) ||
	    json_integer_value(size) < 0 || (uint64_t)json_integer_value(size) > HOST_BYTES_MAX) {
		return 0;
	}
	return (uint64_t)json_integer_value(size);
}

static void refuse(struct hosted *h, const char *error, const char *text)
{
	json_t *failure = call_error(error, text);
	write_json(h, false, failure);
	json_decref(failure);
	try_reply(h);
}

/* What is held of S's large calls. */
static size_t held_of(const struct codemode *m, const struct session *s)
{
	size_t held = 0;
	const struct method_call *c;
	DL_FOREACH(m->calls, c)
	{
		held += c->session == s ? ((const struct hosted *)c->ctx)->held_bytes : 0;
	}
	return held;
}

/* Counts WEIGHT as held by H, in place of what was. False when there is no room. */
static bool hold(struct hosted *h, size_t weight)
{
	struct codemode *m = h->codemode;
	drop_hold(h);
	if (weight <= LARGE_BYTES) {
		return true;
	}
	if (held_of(m, h->call->worker->session) + weight > m->held_of_one_max_bytes ||
	    quota_charge(&m->held, h->call->worker->tenant, weight) < 0) {
		return false;
	}
	h->held_bytes = weight;
	return true;
}

static void refuse_no_room(struct hosted *h)
{
	refuse(h, "TooManyCalls", "The calls that wait hold as many bytes as they may");
}

static void begin(struct hosted *h, const struct json_read *r)
{
	struct host_call *call = h->call;
	struct session *s = call->worker->session;
	if (r->value == NULL) {
		cleanup(buf_fini) struct buf text = BUF_INIT(512);
		(void)buf_addf(&text, "The arguments cannot be carried: %s",
		    r->heavy ? "they hold more values than a call may" : r->error.text);
		refuse(h, "ValueError", buf_str(&text));
		return;
	}
	if (!hold(h, r->weight)) {
		refuse_no_room(h);
		return;
	}
	call->put_left = bytes_to_come(call->method, r->value);
	struct store_space space = {.prefix = s->tenant, .workspace = s->workspace};
	h->busy++;
	h->running = call_begin(h->codemode, &space, call->method, r->value, false, s, &answer, h);
	h->busy--;
	if (h->running == NULL && !h->answered && h->work == NULL) {
		refuse(h, "RuntimeError", "out of memory");
	} else {
		try_reply(h);
	}
}

static void on_read(void *ctx, const struct json_read *r, struct buf *text)
{
	struct hosted *h = ctx;
	(void)text;
	h->work = NULL;
	h->busy++;
	begin(h, r);
	h->busy--;
	/* What comes behind it may be read now; an answer says so too. */
	if (!h->answered) {
		resume(h);
	}
	try_reply(h);
}

/* A skill's source may be 1 MiB, and more as JSON writes it. Everything else is less; and a tool is
 * given no more, because the runner, too, reads it on its loop. */
static size_t arguments_max_bytes(const char *method)
{
	return strcmp(method, "skills.create") == 0 ? HOST_CALL_MAX_BYTES : ARGUMENTS_MAX_BYTES;
}

/* What is large is read by a thread; the session is not read from until that is done, so it has
 * one of these at a time. */
static void read_later(struct hosted *h, struct buf *text)
{
	if (!hold(h, text->len)) {
		refuse_no_room(h);
		return;
	}
	h->work = json_work_read(h->codemode->config.json_work, h->call->worker->tenant, text,
	    JSON_REJECT_DUPLICATES, JSON_WEIGHT_CALL_MAX, on_read, h);
	if (h->work == NULL) {
		refuse(h, "RuntimeError", "out of memory");
		return;
	}
	h->paused = true;
	h->call->waits = true;
}

static void read_arguments(struct hosted *h)
{
	struct host_call *call = h->call;
	cleanup(buf_fini) struct buf text = BUF_INIT(HOST_CALL_MAX_BYTES);
	if (call->arguments_len > arguments_max_bytes(call->method)) {
		refuse(h, "ValueError", "The arguments are larger than 1 MiB");
	} else if (buf_add(&text, call->arguments, call->arguments_len) < 0) {
		refuse(h, "RuntimeError", "out of memory");
	} else if (text.len > JSON_WORK_SMALL_BYTES) {
		read_later(h, &text);
	} else {
		struct json_read r;
		json_read(&r, &text, JSON_REJECT_DUPLICATES, JSON_WEIGHT_CALL_MAX);
		begin(h, &r);
		json_decref(r.value);
	}
}

static void host_begin(void *ctx, struct host_call *call)
{
	struct session *s = call->worker->session;
	struct hosted *h = calloc(1, sizeof(*h));
	if (h == NULL) {
		host_call_reply(call, false, no_memory, sizeof(no_memory) - 1, NULL);
		return;
	}
	h->call = call;
	h->codemode = ctx;
	call->ctx = h;
	if (s == NULL || engine_session_is_own(s)) {
		refuse(h, "RuntimeError", "This session may ask for nothing");
	} else {
		read_arguments(h);
	}
}

static bool host_put(void *ctx, struct host_call *call, const char *bytes, size_t len)
{
	struct hosted *h = call->ctx;
	(void)ctx;
	bool more = true;
	if (h->running != NULL) {
		h->busy++;
		more = call_put(h->running, bytes, len) || h->answered;
		h->busy--;
	}
	h->paused = !more;
	try_reply(h);
	return more;
}

/* Frees the call's part; the link frees the call. */
static void host_cancel(void *ctx, struct host_call *call)
{
	struct hosted *h = call->ctx;
	(void)ctx;
	if (h == NULL) {
		return;
	}
	json_work_cancel(h->work);
	if (h->running != NULL) {
		call_give_up(h->running);
	}
	if (h->source != NULL) {
		h->source->close(h->source);
	}
	free(h->json);
	hosted_free(h);
	call->ctx = NULL;
}

const struct host_call_handler codemode_host_calls = {
    .begin = host_begin,
    .put = host_put,
    .cancel = host_cancel,
};
