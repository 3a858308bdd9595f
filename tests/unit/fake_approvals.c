#include "fake_approvals.h"

#include "fake_parking.h" /* the rest of approvals.h, which rooms refer to */

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct approvals_call {
	struct approvals *approvals;
	approvals_fn fn;
	void *ctx;
};

void fake_approvals_reset(struct approvals *a)
{
	*a = (struct approvals){0};
}

void fake_approvals_answer(struct approvals *a, const char *json)
{
	assert(a->answer_count < 8);
	a->answers[a->answer_count++].json = json;
}

void fake_approvals_fail(struct approvals *a, enum err_code code, const char *text)
{
	assert(a->answer_count < 8);
	a->answers[a->answer_count].code = code;
	a->answers[a->answer_count++].text = text;
}

const char *fake_approvals_last(const struct approvals *a)
{
	return a->asked_count > 0 ? a->asked[a->asked_count - 1] : "";
}

static void tell(struct approvals *a, approvals_fn fn, void *ctx)
{
	assert(a->answer_count > 0);
	unsigned i = a->next < a->answer_count ? a->next++ : a->answer_count - 1;
	if (a->answers[i].code != ERR_NONE) {
		struct err e;
		(void)err_set(&e, a->answers[i].code, "%s", a->answers[i].text);
		fn(ctx, NULL, &e);
		return;
	}
	json_t *answer = json_loads(a->answers[i].json, 0, NULL);
	assert(answer != NULL);
	fn(ctx, answer, NULL);
	json_decref(answer);
}

static struct approvals_call *answer(struct approvals *a, approvals_fn fn, void *ctx)
{
	if (!a->later) {
		tell(a, fn, ctx);
		return NULL;
	}
	assert(a->pending == NULL);
	a->pending = malloc(sizeof(*a->pending));
	assert(a->pending != NULL);
	*a->pending = (struct approvals_call){a, fn, ctx};
	return a->pending;
}

void fake_approvals_release(struct approvals *a)
{
	struct approvals_call c = *a->pending;
	free(a->pending);
	a->pending = NULL;
	tell(a, c.fn, c.ctx);
}

void approvals_cancel_call(struct approvals_call *c)
{
	if (c != NULL) {
		assert(c->approvals->pending == c);
		c->approvals->pending = NULL;
		c->approvals->cancelled++;
		free(c);
	}
}

#define OR_DASH(text) ((text) != NULL ? (text) : "-")

static char *note(struct approvals *a, const char *what, const struct approvals_who *who)
{
	char *line = a->asked[a->asked_count++ % FAKE_APPROVALS_ASKED_MAX];
	(void)snprintf(line, sizeof(a->asked[0]), "%s name=%s tenant=%s pool=%s%s", what, who->name,
	    who->every_tenant ? "*" : OR_DASH(who->tenant), OR_DASH(who->pool),
	    who->own ? "" : " others-only");
	return line;
}

static void more(char *line, const char *name, const char *value)
{
	size_t len = strlen(line);
	(void)snprintf(line + len, sizeof(((struct approvals *)NULL)->asked[0]) - len, " %s=%s",
	    name, OR_DASH(value));
}

struct approvals_call *approvals_submit(struct approvals *a, const struct approvals_who *who,
    const char *pool, const json_t *request, const char *key, approvals_fn fn, void *ctx)
{
	char *line = note(a, "submit", who);
	char *text = json_dumps(request, JSON_COMPACT | JSON_SORT_KEYS);
	more(line, "in", pool);
	more(line, "key", key);
	more(line, "request", text);
	free(text);
	return answer(a, fn, ctx);
}

struct approvals_call *approvals_get(struct approvals *a, const struct approvals_who *who,
    const char *id, approvals_fn fn, void *ctx)
{
	more(note(a, "get", who), "id", id);
	return answer(a, fn, ctx);
}

struct approvals_call *approvals_list(struct approvals *a, const struct approvals_who *who,
    const char *state, const char *kind, const char *after, uint32_t limit, approvals_fn fn,
    void *ctx)
{
	char *line = note(a, "list", who);
	char number[16];
	(void)snprintf(number, sizeof(number), "%u", limit);
	more(line, "state", state);
	more(line, "kind", kind);
	more(line, "after", after);
	more(line, "limit", number);
	return answer(a, fn, ctx);
}

struct approvals_call *approvals_events(struct approvals *a, const struct approvals_who *who,
    const char *id, int64_t after, approvals_fn fn, void *ctx)
{
	char *line = note(a, "events", who);
	char number[32];
	(void)snprintf(number, sizeof(number), "%lld", (long long)after);
	more(line, "id", id);
	more(line, "after", number);
	return answer(a, fn, ctx);
}

struct approvals_call *approvals_decide(struct approvals *a, const struct approvals_who *who,
    const char *id, const struct approvals_decision *d, approvals_fn fn, void *ctx)
{
	char *line = note(a, d->early ? "review" : "decide", who);
	more(line, "id", id);
	more(line, "stage", d->stage);
	more(line, "approve", d->approve ? "true" : "false");
	more(line, "by", d->by);
	more(line, "reason", d->reason);
	return answer(a, fn, ctx);
}

struct approvals_call *approvals_cancel(struct approvals *a, const struct approvals_who *who,
    const char *id, const char *reason, approvals_fn fn, void *ctx)
{
	char *line = note(a, "cancel", who);
	more(line, "id", id);
	more(line, "reason", reason);
	return answer(a, fn, ctx);
}

void approvals_watch(struct approvals *a, struct approvals_watch *w)
{
	w->prev = NULL;
	w->next = a->watches;
	if (w->next != NULL) {
		w->next->prev = w;
	}
	a->watches = w;
}

void approvals_unwatch(struct approvals *a, struct approvals_watch *w)
{
	if (w->prev != NULL) {
		w->prev->next = w->next;
	} else {
		assert(a->watches == w);
		a->watches = w->next;
	}
	if (w->next != NULL) {
		w->next->prev = w->prev;
	}
}

void fake_approvals_changed(struct approvals *a, const char *id)
{
	for (struct approvals_watch *w = a->watches; w != NULL; w = w->next) {
		if (strcmp(w->id, id) == 0) {
			w->changed(w->ctx);
		}
	}
}

void approvals_audit(struct approvals *a, const char *actor, const char *action,
    const char *subject, const char *outcome, const json_t *detail)
{
	(void)detail;
	assert(a->audited_count < 16);
	(void)snprintf(a->audited[a->audited_count++], sizeof(a->audited[0]), "%s %s %s %s", actor,
	    action, subject, outcome);
}

void approvals_counts(const struct approvals *a, struct approvals_counts *out)
{
	(void)a;
	*out = (struct approvals_counts){.submitted = 7, .parked = 2, .open_waiting = 5};
}
