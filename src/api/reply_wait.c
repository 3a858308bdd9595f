#include "api/reply_wait.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "api/api.h"
#include "base/json_text.h"
#include "engine/engine.h"

struct waiting {
	struct call *call; /* until it is answered, or gone */
	struct execution *x;
	struct execution_observer observer;
	const struct reply_form *form;
	struct json_job *job;
	bool abandon_when_gone;
	_Alignas(max_align_t) char extra[];
};

static void waiting_free(void *waiting)
{
	struct waiting *w = waiting;
	execution_unref(w->x);
	free(w);
}

static int add(struct buf *out, const void *waiting)
{
	const struct waiting *w = waiting;
	return w->form->add(out, w->x, w->extra);
}

static void on_written(void *ctx, int err, struct buf *text)
{
	struct waiting *w = ctx;
	w->call->gone = NULL;
	w->call->ctx = NULL;
	w->form->answer(w->call, w->x, err, text);
}

static void on_unwanted(struct call *c)
{
	struct waiting *w = c->ctx;
	json_work_cancel(w->job);
}

/* X is final: nothing of it changes any more. */
static void write_answer(struct waiting *w)
{
	struct call *c = w->call;
	const struct api *api = c->app;
	if (w->x->held_bytes > JSON_WORK_SMALL_BYTES) {
		const struct json_subject subject = {w, add, waiting_free, NULL};
		c->ctx = w;
		c->gone = on_unwanted;
		struct json_job *job = json_work_make(
		    api->json_work, c->holder, &subject, on_written, w);
		if (job != NULL) {
			w->job = job;
		}
		return;
	}
	cleanup(buf_fini) struct buf text = BUF_INIT(JSON_TEXT_MAX_BYTES);
	int err = add(&text, w);
	on_written(w, err, err < 0 ? NULL : &text);
	waiting_free(w);
}

static void on_change(void *ctx, struct execution *x)
{
	struct waiting *w = ctx;
	if (execution_is_final(x)) {
		execution_unobserve(x, &w->observer);
		write_answer(w);
	}
}

/* Nobody waits for it any more: a stuck execution must not block its session. */
static void on_gone(struct call *c)
{
	struct waiting *w = c->ctx;
	execution_unobserve(w->x, &w->observer);
	if (w->abandon_when_gone) {
		engine_abandon(w->x);
	}
	waiting_free(w);
}

bool reply_when_final(struct call *c, struct execution *x, const struct reply_form *form,
    const void *extra, size_t len, bool abandon_when_gone)
{
	struct waiting *w = calloc(1, sizeof(*w) + len);
	if (w == NULL) {
		engine_cancel(x);
		execution_unref(x);
		return false;
	}
	*w = (struct waiting){
	    .call = c, .x = x, .form = form, .abandon_when_gone = abandon_when_gone};
	memcpy(w->extra, extra, len);
	if (execution_is_final(x)) {
		write_answer(w);
		return true;
	}
	w->observer = (struct execution_observer){.notify = on_change, .ctx = w};
	execution_observe(x, &w->observer);
	c->ctx = w;
	c->gone = on_gone;
	return true;
}
