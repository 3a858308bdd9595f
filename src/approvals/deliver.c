/* Callbacks: tells a URL of the submitter's how its approval ended, until that answers. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "approvals/internal.h"
#include "approvals/view.h"
#include "base/log.h"
#include "tools/callback_url.h"

#define AWAY_US 5000000LL /* while the runner is busy; it is no attempt of the other side's */
#define ERROR_MAX_BYTES 300

struct callback {
	struct approvals *approvals;
	char id[APPROVALS_ID_BYTES];
	int64_t fence;
	int64_t attempt;
	char delivery[APPROVALS_ID_BYTES + 16]; /* ID ":" STATE, the same at each attempt */
	struct runner_call *call;
	struct callback *prev, *next;
};

static void drop(struct callback *c)
{
	DL_DELETE(c->approvals->callbacks, c);
	free(c);
}

static void on_finished(void *ctx, const json_t *answer, const struct err *e)
{
	struct callback *c = ctx;
	struct approvals *a = c->approvals;
	(void)answer;
	(void)e; /* refused: it is another server's by now, which sends it again */
	drop(c);
	lane_done(a, LANE_CALLBACK);
}

/* KIND NULL: no event. RETRY_US 0: it is over. BODY is taken. */
static void finish(struct callback *c, const char *kind, json_t *body, int64_t retry_us)
{
	json_t *event = kind != NULL ? json_pack("{s:s, s:o}", "kind", kind, "body", body)
				     : json_null();
	json_t *in = json_pack("{s:s, s:I, s:s, s:o, s:o, s:I}", "id", c->id, "fence",
	    (json_int_t)c->fence, "kind", "callback", "event", event, "retry_us",
	    retry_us != 0 ? json_integer(retry_us) : json_null(), "now_us",
	    (json_int_t)approvals_now_us(c->approvals));
	sure_write(c->approvals, records_finish_task, in, on_finished, c);
}

static void delivered(struct callback *c, long status)
{
	c->approvals->counts.callbacks_delivered++;
	finish(c, "callback_delivered",
	    json_pack("{s:s, s:I, s:i}", "id", c->delivery, "attempt", (json_int_t)c->attempt,
		"status", (int)status),
	    0);
}

/* It is tried again, unless it was the last time, or can never succeed. */
static void failed(struct callback *c, const char *reason, bool ever)
{
	struct approvals *a = c->approvals;
	bool last = !ever || c->attempt >= (int64_t)a->config.callback_attempts;
	char text[ERROR_MAX_BYTES];
	(void)snprintf(text, sizeof(text), "%s", reason);
	a->counts.callbacks_failed++;
	log_event(LOG_LEVEL_WARNING, "callback_failed", LOG_STR("delivery", c->delivery),
	    LOG_INT("attempt", c->attempt), LOG_STR("reason", text));
	json_t *why = json_string(text);
	finish(c, last ? "callback_given_up" : "callback_failed",
	    json_pack("{s:s, s:I, s:o}", "id", c->delivery, "attempt", (json_int_t)c->attempt,
		"reason", why != NULL ? why : json_string("a text that is not UTF-8")),
	    last ? 0 : workflow_retry_us(approvals_now_us(a), c->attempt));
}

static void on_sent(void *ctx, const json_t *result, const struct err *e)
{
	struct callback *c = ctx;
	c->call = NULL;
	long status = (long)json_integer_value(json_object_get(result, "status"));
	if (e != NULL && (e->code == ERR_BUSY || e->code == ERR_UNAVAILABLE)) {
		/* Of the runner: nothing was sent. */
		finish(c, NULL, NULL, approvals_now_us(c->approvals) + AWAY_US);
	} else if (e != NULL) {
		failed(c, e->text, e->code != ERR_INVALID);
	} else if (status >= 200 && status < 300) {
		delivered(c, status);
	} else {
		char text[64];
		(void)snprintf(text, sizeof(text), "HTTP %ld%s", status,
		    status >= 300 && status < 400 ? ": redirects are not followed" : "");
		failed(c, text, true);
	}
}

/* Everything but what may be large: whoever wants that asks for the approval. */
static char *body_of(const struct callback *c, const json_t *approval)
{
	char event[40];
	cleanup(json_decrefp) json_t *view = view_approval(approval, false);
	(void)snprintf(event, sizeof(event), "approval.%s",
	    json_string_value(json_object_get(approval, "state")));
	(void)json_object_del(view, "code");
	json_t *result = json_object_get(view, "result");
	if (json_is_object(result)) {
		json_t *small = json_copy(result); /* the rest of it is the claimed one's */
		(void)json_object_del(small, "displays");
		(void)json_object_set_new(view, "result", small);
	}
	cleanup(json_decrefp) json_t *body = json_pack(
	    "{s:s, s:s, s:O}", "id", c->delivery, "event", event, "approval", view);
	return body != NULL ? json_dumps(body, JSON_COMPACT) : NULL;
}

static void post(struct callback *c, const json_t *approval)
{
	struct approvals *a = c->approvals;
	const struct approvals_config *config = &a->config;
	const json_t *settings = json_object_get(approval, "settings");
	const char *url = json_string_value(
	    json_object_get(json_object_get(settings, "callback"), "url"));
	struct err e = {0};
	/* The configuration may be another by now. */
	if (url == NULL || callback_url_allowed(url, config->callback_prefixes,
			       config->callback_prefix_count, &e) < 0) {
		failed(c, url == NULL ? "there is no URL" : e.text, false);
		return;
	}
	cleanup(text_free) char *body = body_of(c, approval);
	if (body == NULL) {
		failed(c, "its body could not be written", false);
		return;
	}
	struct runner_call *call = runner_callback(
	    config->runner, url, c->delivery, body, on_sent, c);
	if (call != NULL) {
		c->call = call; /* else on_sent has been called, and C may be gone */
	}
}

void callback_begin(struct approvals *a, const struct task *t)
{
	const char *state = json_string_value(json_object_get(t->approval, "state"));
	struct callback *c = calloc(1, sizeof(*c));
	if (c == NULL || state == NULL) {
		free(c);
		lane_done(a, LANE_CALLBACK);
		return;
	}
	c->approvals = a;
	c->fence = t->fence;
	c->attempt = t->attempt;
	memcpy(c->id, t->id, sizeof(c->id));
	(void)snprintf(c->delivery, sizeof(c->delivery), "%s:%s", t->id, state);
	DL_APPEND(a->callbacks, c);
	post(c, t->approval);
}

json_t *callbacks_held(const struct approvals *a)
{
	json_t *ids = json_array();
	const struct callback *one;
	DL_FOREACH(a->callbacks, one)
	{
		(void)json_array_append_new(ids, json_string(one->id));
	}
	return ids;
}

/* What is on its way may arrive; it is sent again by whoever starts next. */
void callbacks_stop(struct approvals *a)
{
	struct callback *c, *next;
	DL_FOREACH_SAFE(a->callbacks, c, next)
	{
		sure_forget(a, c);
		if (c->call != NULL) {
			runner_cancel(steal(&c->call));
			json_t *in = json_pack("{s:s, s:I, s:s, s:n, s:I, s:I}", "id", c->id,
			    "fence", (json_int_t)c->fence, "kind", "callback", "event", "retry_us",
			    (json_int_t)approvals_now_us(a), "now_us",
			    (json_int_t)approvals_now_us(a));
			sure_write(a, records_finish_task, in, NULL, NULL);
		}
		drop(c);
	}
}
