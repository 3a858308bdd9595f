/* Calls of the HTTP API: arguments and bytes are there as a whole; an artifact's are read by the
 * one who asked. And results as text. */
#include <stdlib.h>

#include "codemode/internal.h"

#define PIECE_BYTES (256U << 10) /* given to a writer at once */

struct codemode_call {
	codemode_done_fn done;
	void *ctx;
	struct method_call *running; /* NULL: it has ended */
	const struct buf *bytes;     /* of artifacts.save */
	size_t put;
	unsigned busy; /* inside call_begin or call_put */

	/* What came of it. */
	bool answered;
	enum codemode_error code;
	json_t *result;
	struct loading *loading;
};

static void call_free(struct codemode_call *c)
{
	loading_close(c->loading);
	json_decref(c->result);
	free(c);
}

static void deliver(struct codemode_call *c)
{
	if (c->answered && c->busy == 0) {
		c->done(c->ctx, c->code, c->result, steal(&c->loading));
		call_free(c);
	}
}

static void fail(struct codemode_call *c, const char *text)
{
	json_decref(c->result);
	c->result = call_error("StorageError", text);
	c->code = CODEMODE_UNAVAILABLE;
}

static void on_done(struct method_call *call, enum codemode_error code, const json_t *result,
    struct loading *bytes, uint64_t size)
{
	struct codemode_call *c = call->ctx;
	(void)size; /* the result has it */
	c->running = NULL;
	c->answered = true;
	c->code = code;
	c->result = json_incref((json_t *)(uintptr_t)result);
	c->loading = bytes;
	deliver(c);
}

static void put_on(struct codemode_call *c)
{
	bool more = true;
	c->busy++;
	while (more && !c->answered && c->bytes != NULL && c->put < c->bytes->len) {
		size_t left = c->bytes->len - c->put;
		size_t piece = left < PIECE_BYTES ? left : PIECE_BYTES;
		const char *at = c->bytes->data + c->put;
		c->put += piece;
		more = call_put(c->running, at, piece);
	}
	c->busy--;
}

static void on_room(struct method_call *call)
{
	struct codemode_call *c = call->ctx;
	if (c->busy == 0) {
		put_on(c);
		deliver(c);
	}
}

static const struct call_answer answer = {.done = on_done, .room = on_room};

/* The bytes are there, so their number is known. A new reference. */
static json_t *with_size(const json_t *arguments, const struct buf *bytes)
{
	if (bytes == NULL || !json_is_object(arguments)) {
		return json_incref((json_t *)(uintptr_t)arguments);
	}
	json_t *copy = json_copy((json_t *)(uintptr_t)arguments);
	if (copy != NULL) {
		(void)json_object_set_new(copy, "size", json_integer((json_int_t)bytes->len));
	}
	return copy;
}

struct codemode_call *codemode_call(struct codemode *m, const struct store_space *space,
    const char *method, const json_t *arguments, const struct buf *bytes, bool system,
    codemode_done_fn done, void *ctx)
{
	struct codemode_call *c = calloc(1, sizeof(*c));
	if (c == NULL) {
		done(ctx, CODEMODE_FAILED, NULL, NULL);
		return NULL;
	}
	c->done = done;
	c->ctx = ctx;
	c->bytes = bytes;
	c->busy++;
	json_t *all = with_size(arguments, bytes);
	c->running = call_begin(m, space, method, all, system, NULL, &answer, c);
	json_decref(all);
	if (c->running != NULL) {
		put_on(c);
	} else if (!c->answered) {
		c->answered = true;
		fail(c, "out of memory");
	}
	c->busy--;
	bool over = c->answered;
	deliver(c);
	return over ? NULL : c;
}

void codemode_cancel(struct codemode_call *c)
{
	if (c == NULL) {
		return;
	}
	if (c->running != NULL) {
		call_give_up(c->running);
	}
	call_free(c);
}

struct json_job *codemode_text(struct codemode *m, const char *holder, const json_t *result,
    json_add_fn add, json_write_fn fn, void *ctx)
{
	return json_work_write(m->config.json_work, holder, result, add, fn, ctx);
}
