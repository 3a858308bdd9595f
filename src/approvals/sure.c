/* Changes that have to be made, however long the database is away. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "approvals/internal.h"
#include "base/clock.h"
#include "base/log.h"

#define PAUSE_MS 100
#define PAUSE_MAX_MS 2000

struct sure {
	struct approvals *approvals;
	records_fn op;
	json_t *in;
	approval_store_fn fn;
	void *ctx;
	struct approval_request *request; /* NULL: it waits to be tried again */
	uint64_t due_ms;
	uint64_t pause_ms;
	char *holder; /* of a place in approvals->audits; or NULL */
	struct sure *prev, *next;
};

static void drop(struct sure *s)
{
	DL_DELETE(s->approvals->sure, s);
	if (s->holder != NULL) {
		quota_release(&s->approvals->audits, s->holder, 1);
	}
	free(s->holder);
	json_decref(s->in);
	free(s);
}

static void on_answer(void *ctx, const json_t *answer, const struct err *e);
static void on_retry(uv_timer_t *timer);

/* A loop without failures does not wake for them. */
static void arm(struct approvals *a)
{
	if (!a->stopped && !uv_is_active((uv_handle_t *)&a->retry)) {
		(void)uv_timer_start(&a->retry, on_retry, PAUSE_MS, 0);
	}
}

static void attempt(struct sure *s)
{
	s->request = approval_store_write(
	    s->approvals->store, s->op, json_incref(s->in), on_answer, s);
	if (s->request == NULL) {
		s->due_ms = clock_mono_ms() + s->pause_ms;
		arm(s->approvals);
	}
}

static void on_answer(void *ctx, const json_t *answer, const struct err *e)
{
	struct sure *s = ctx;
	s->request = NULL;
	/* A change that may have been made, and was, is refused when it is made again. */
	if (e != NULL &&
	    (e->code == ERR_UNAVAILABLE || e->code == ERR_BUSY || e->code == ERR_UNSURE)) {
		s->due_ms = clock_mono_ms() + s->pause_ms;
		s->pause_ms = s->pause_ms * 2 < PAUSE_MAX_MS ? s->pause_ms * 2 : PAUSE_MAX_MS;
		arm(s->approvals);
		log_event(LOG_LEVEL_WARNING, "approvals_write_delayed", LOG_STR("reason", e->text));
		return;
	}
	approval_store_fn fn = s->fn;
	void *fn_ctx = s->ctx;
	drop(s);
	if (fn != NULL) {
		fn(fn_ctx, answer, e);
	} else if (e != NULL && e->code != ERR_CONFLICT && e->code != ERR_NOT_FOUND) {
		log_event(LOG_LEVEL_ERROR, "approvals_write_failed", LOG_STR("reason", e->text));
	}
}

void sure_write(struct approvals *a, records_fn op, json_t *in, approval_store_fn fn, void *ctx)
{
	struct sure *s = in != NULL ? calloc(1, sizeof(*s)) : NULL;
	if (s == NULL) {
		/* The lease ends, and the thing is begun anew. */
		json_decref(in);
		struct err e = {.code = ERR_INTERNAL, .text = "out of memory"};
		log_event(LOG_LEVEL_ERROR, "approvals_write_failed", LOG_STR("reason", e.text));
		if (fn != NULL) {
			fn(ctx, NULL, &e);
		}
		return;
	}
	*s = (struct sure){
	    .approvals = a, .op = op, .in = in, .fn = fn, .ctx = ctx, .pause_ms = PAUSE_MS};
	DL_APPEND(a->sure, s);
	attempt(s);
}

int sure_write_for(
    struct approvals *a, const char *holder, records_fn op, json_t *in, approval_store_fn fn)
{
	struct sure *s = calloc(1, sizeof(*s));
	char *name = strdup(holder);
	int r = s != NULL && name != NULL ? quota_charge(&a->audits, holder, 1) : -ENOMEM;
	if (r < 0) {
		free(s);
		free(name);
		json_decref(in);
		return r;
	}
	*s = (struct sure){
	    .approvals = a, .op = op, .in = in, .fn = fn, .pause_ms = PAUSE_MS, .holder = name};
	DL_APPEND(a->sure, s);
	attempt(s);
	return 0;
}

void sure_forget(struct approvals *a, const void *ctx)
{
	struct sure *s;
	DL_FOREACH(a->sure, s)
	{
		if (s->ctx == ctx) {
			s->fn = NULL;
			s->ctx = NULL;
		}
	}
}

static void on_retry(uv_timer_t *timer)
{
	struct approvals *a = timer->data;
	struct sure *s;
	uint64_t now_ms = clock_mono_ms();
	DL_FOREACH(a->sure, s)
	{
		if (s->request == NULL && now_ms >= s->due_ms) {
			attempt(s);
		}
		if (s->request == NULL) {
			arm(a);
		}
	}
}

void sure_stop(struct approvals *a)
{
	struct sure *s;
	DL_FOREACH(a->sure, s)
	{
		s->fn = NULL;
		if (s->request == NULL) {
			attempt(s);
		}
	}
}

void sure_free(struct approvals *a)
{
	while (a->sure != NULL) {
		drop(a->sure);
	}
	quota_fini(&a->audits);
}
