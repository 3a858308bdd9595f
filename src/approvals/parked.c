/* Calls of sessions that wait for a person. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "approvals/internal.h"
#include "base/log.h"
#include "base/unicode.h"

#define REASON_MAX_BYTES 1024
#define END_MAX_BYTES 4096

struct approvals_parked {
	struct approvals *approvals;
	struct approvals_watch watch; /* has its id */
	bool submitted;               /* it is on disk */
	bool allowed;                 /* and FN was told */
	struct approval_request *submit;
	struct approval_request *look;
	bool look_again;
	approvals_parked_fn fn;
	void *ctx;
	struct approvals_parked *prev, *next;
};

static void drop(struct approvals_parked *p)
{
	approvals_unwatch(p->approvals, &p->watch);
	DL_DELETE(p->approvals->parked, p);
	p->approvals->counts.parked--;
	approval_store_cancel(p->submit);
	approval_store_cancel(p->look);
	free(p);
}

static void tell_denied(struct approvals_parked *p, const char *reason)
{
	approvals_parked_fn fn = p->fn;
	void *ctx = p->ctx;
	drop(p);
	fn(ctx, false, reason);
}

/* --- what the person said ------------------------------------------------------------------------
 */

/* "rejected by NAME: REASON", and the like. */
static void deny(struct approvals_parked *p, const json_t *approval)
{
	char text[REASON_MAX_BYTES];
	const char *state = json_string_value(json_object_get(approval, "state"));
	const json_t *decisions = json_object_get(approval, "decisions");
	size_t count = json_array_size(decisions);
	const json_t *last = count > 0 ? json_array_get(decisions, count - 1) : NULL;
	const char *person = json_string_value(json_object_get(last, "person"));
	const char *by = person != NULL ? person : json_string_value(json_object_get(last, "by"));
	const char *reason = json_string_value(json_object_get(last, "reason"));
	if (strcmp(state, "rejected") == 0) {
		(void)snprintf(text, sizeof(text), "it was rejected by %s%s%s",
		    by != NULL ? by : "somebody", reason != NULL ? ": " : "",
		    reason != NULL ? reason : "");
	} else if (strcmp(state, "expired") == 0) {
		(void)snprintf(text, sizeof(text), "nobody decided before its deadline");
	} else {
		(void)snprintf(text, sizeof(text), "its approval was %.20s", state);
	}
	text[unicode_whole(text, strlen(text))] = '\0';
	tell_denied(p, text);
}

static void look(struct approvals_parked *p);

static void on_looked(void *ctx, const json_t *answer, const struct err *e)
{
	struct approvals_parked *p = ctx;
	const json_t *approval = json_object_get(answer, "approval");
	const char *state = json_string_value(json_object_get(approval, "state"));
	p->look = NULL;
	if (e != NULL && e->code == ERR_NOT_FOUND) {
		tell_denied(p, "its approval is not there any more");
	} else if (e != NULL) {
		p->look_again = true; /* at the next beat */
	} else if (strcmp(state, "approved") == 0) {
		p->allowed = true;
		p->fn(p->ctx, true, "");
	} else if (approval_state_is_final(approval_state_named(state))) {
		deny(p, approval);
	} else if (p->look_again) {
		look(p);
	}
}

static void look(struct approvals_parked *p)
{
	p->look_again = true;
	if (!p->submitted || p->allowed || p->look != NULL) {
		return;
	}
	json_t *in = json_pack("{s:s, s:n}", "id", p->watch.id, "tenant");
	p->look = in != NULL
		      ? approval_store_read(p->approvals->store, records_get, in, on_looked, p)
		      : NULL;
	p->look_again = p->look == NULL;
}

static void on_change(void *ctx)
{
	look(ctx);
}

void parked_beat(struct approvals *a)
{
	struct approvals_parked *p;
	DL_FOREACH(a->parked, p)
	{
		if (p->look_again) {
			look(p);
		}
	}
}

/* Should it be there, nobody decides about it: its call is refused. */
static void withdraw(const struct approvals_parked *p, const char *reason)
{
	json_t *in = json_pack("{s:s, s:n, s:s, s:s, s:I}", "id", p->watch.id, "tenant", "by",
	    "session", "reason", reason, "now_us", (json_int_t)approvals_now_us(p->approvals));
	sure_write(p->approvals, records_cancel, in, NULL, NULL);
}

/* --- the call ------------------------------------------------------------------------------------
 */

static void on_submitted(void *ctx, const json_t *answer, const struct err *e)
{
	struct approvals_parked *p = ctx;
	(void)answer;
	p->submit = NULL;
	if (e != NULL) {
		char text[REASON_MAX_BYTES];
		(void)snprintf(text, sizeof(text), "its approval could not be kept: %s", e->text);
		if (e->code == ERR_UNSURE) {
			withdraw(p, "nobody knew whether it was kept");
		}
		tell_denied(p, text);
		return;
	}
	p->submitted = true;
	if (p->look_again) {
		look(p);
	}
}

/* Of the session's tenant, and beneath the approval whose code calls. It is the submission of
 * whoever had the code run, who may be one that may not decide about its own. */
static json_t *submission(const struct approvals *a, const struct session *s, const char *id,
    const char *tool, const char *callable, const json_t *arguments)
{
	const struct execution *x = engine_session_running(s);
	int64_t now_us = approvals_now_us(a);
	const struct approvals_pool *pool = &a->config.pools[s->pool->index];
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:{s:I, s:n, s:n, s:n}, s:I, s:I, "
			 "s:{s:s, s:s, s:O}, s:s?, s:s, s:s?, s:s, s:I, s:b}",
	    "id", id, "tenant", s->tenant, "pool", s->pool->config.name, "kind", "call", "policy",
	    approval_policy_name(APPROVAL_RULES), "submitter",
	    x != NULL && *x->by != '\0' ? x->by : RECORDS_SESSION, "code", "", "settings",
	    "deadline_ms", (json_int_t)pool->deadline_ms, "timeout_ms", "callback", "promote",
	    "now_us", (json_int_t)now_us, "open_max", (json_int_t)a->config.open_max, "call",
	    "tool", tool, "callable", callable != NULL ? callable : "", "arguments", arguments,
	    "parent", run_of_session(a, s), "session", s->identifier, "execution",
	    x != NULL ? x->id : NULL, "owner", a->owner, "lease_us",
	    (json_int_t)(now_us + a->config.lease_ms * 1000LL), "audit_code",
	    (int)a->config.audit_code);
}

struct approvals_parked *approvals_park(struct approvals *a, struct session *s, const char *tool,
    const char *callable, const json_t *arguments, approvals_parked_fn fn, void *ctx)
{
	struct approvals_parked *p = a->stopped ? NULL : calloc(1, sizeof(*p));
	char id[TEXT_GUID_BYTES];
	if (p == NULL) {
		return NULL;
	}
	json_t *in = submission(a, s, text_guid(id), tool, callable, arguments);
	p->approvals = a;
	p->fn = fn;
	p->ctx = ctx;
	p->watch.changed = on_change;
	p->watch.ctx = p;
	memcpy(p->watch.id, id, sizeof(id));
	p->submit = in != NULL ? approval_store_write(a->store, records_submit, in, on_submitted, p)
			       : NULL;
	if (p->submit == NULL) {
		free(p);
		return NULL;
	}
	approvals_watch(a, &p->watch);
	DL_APPEND(a->parked, p);
	a->counts.parked++;
	a->counts.submitted++;
	return p;
}

const char *approvals_parked_id(const struct approvals_parked *p)
{
	return p->submitted ? p->watch.id : "";
}

static void call_finished(const struct approvals_parked *p, bool ok, const char *text)
{
	char kept[END_MAX_BYTES];
	struct approvals *a = p->approvals;
	(void)snprintf(kept, sizeof(kept), "%s", text != NULL ? text : "");
	kept[unicode_whole(kept, strlen(kept))] = '\0';
	json_t *said = json_string(kept);
	json_t *in = json_pack("{s:s, s:i, s:s, s:{s:s, s:{s:b, s:o}}, s:n, s:I}", "id",
	    p->watch.id, "fence", 0, "kind", "call", "event", "kind", "call_finished", "body", "ok",
	    (int)ok, "text", said != NULL ? said : json_string("(a text that is not UTF-8)"),
	    "retry_us", "now_us", (json_int_t)approvals_now_us(a));
	sure_write(a, records_finish_task, in, NULL, NULL);
}

void approvals_parked_done(struct approvals_parked *p, bool ok, const char *text)
{
	if (!p->approvals->stopped) {
		call_finished(p, ok, text);
	}
	drop(p);
}

/* The submission was given to the store before, so that this comes after it. Somebody may have
 * allowed the call meanwhile; then it is not cancelled, and the second write says how it ended. */
static void give_up(struct approvals_parked *p, const char *reason)
{
	if (!p->allowed) {
		withdraw(p, reason);
	}
	call_finished(p, false, reason);
}

void approvals_unpark(struct approvals_parked *p)
{
	if (p == NULL) {
		return;
	}
	if (!p->approvals->stopped) {
		give_up(p, "the call was given up");
	}
	drop(p);
}

/* Whoever parked them takes them away, or is gone; nobody is told. */
void parked_stop(struct approvals *a)
{
	struct approvals_parked *p;
	DL_FOREACH(a->parked, p)
	{
		give_up(p, "the server stopped");
		approval_store_cancel(steal(&p->submit));
		approval_store_cancel(steal(&p->look));
	}
}

void parked_free(struct approvals *a)
{
	while (a->parked != NULL) {
		drop(a->parked);
	}
}
