#include "api/reply_wait.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"

struct waiting {
	struct call *call;
	struct execution *x;
	struct execution_observer observer;
	reply_final_fn reply;
	bool abandon_when_gone;
	_Alignas(max_align_t) char extra[REPLY_EXTRA_MAX_BYTES];
};

static void waiting_free(struct waiting *w)
{
	execution_unobserve(w->x, &w->observer);
	execution_unref(w->x);
	free(w);
}

static void on_change(void *ctx, struct execution *x)
{
	struct waiting *w = ctx;
	if (!execution_is_final(x)) {
		return;
	}
	w->call->gone = NULL;
	w->call->ctx = NULL;
	w->reply(w->call, x, w->extra);
	waiting_free(w);
}

/* Nobody waits for it any more: a stuck execution must not block its session. */
static void on_gone(struct call *c)
{
	struct waiting *w = c->ctx;
	struct execution *x = execution_ref(w->x);
	bool abandon = w->abandon_when_gone;
	waiting_free(w);
	if (abandon) {
		engine_abandon(x);
	}
	execution_unref(x);
}

bool reply_when_final(struct call *c, struct execution *x, reply_final_fn reply, const void *extra,
    size_t len, bool abandon_when_gone)
{
	if (execution_is_final(x)) {
		reply(c, x, extra);
		execution_unref(x);
		return true;
	}
	struct waiting *w = len <= REPLY_EXTRA_MAX_BYTES ? calloc(1, sizeof(*w)) : NULL;
	if (w == NULL) {
		engine_cancel(x);
		execution_unref(x);
		return false;
	}
	*w = (struct waiting){
	    .call = c, .x = x, .reply = reply, .abandon_when_gone = abandon_when_gone};
	memcpy(w->extra, extra, len);
	w->observer = (struct execution_observer){.notify = on_change, .ctx = w};
	execution_observe(x, &w->observer);
	c->ctx = w;
	c->gone = on_gone;
	return true;
}
