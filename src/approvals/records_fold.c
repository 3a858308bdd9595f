#include "approvals/records_fold.h"

#include <stdbool.h>
#include <string.h>

#include "approvals/lifecycle.h"
#include "base/compiler.h"

/* One event being folded. */
struct fold {
	json_t *row;
	const json_t *body;
	const char *kind;
	int64_t at_us;
	struct err *e;
};

static const char *text_of(const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));
	return text != NULL ? text : "";
}

static int refuse(const struct fold *f, const char *why)
{
	return err_set(f->e, ERR_INTERNAL, "the event %.40s: %s", f->kind, why);
}

static int set(const struct fold *f, const char *name, json_t *value)
{
	return json_object_set_new(f->row, name, value) == 0 ? 0 : refuse(f, "out of memory");
}

static enum approval_state state_of(const struct fold *f)
{
	return approval_state_named(json_string_value(json_object_get(f->row, "state")));
}

static bool is_call(const struct fold *f)
{
	return strcmp(text_of(f->row, "kind"), "call") == 0;
}

/* What is looked at before anything runs. */
static const char *first_stage(const struct fold *f)
{
	enum approval_policy p = approval_policy_named(text_of(f->row, "policy"));
	bool code = p == APPROVAL_BEFORE || p == APPROVAL_BOTH;
	return approval_stage_name(is_call(f) ? APPROVAL_STAGE_CALL
				   : code     ? APPROVAL_STAGE_CODE
					      : APPROVAL_STAGE_NONE);
}

static int move(const struct fold *f, enum approval_state to)
{
	enum approval_state from = state_of(f);
	bool allowed = from == APPROVAL_STATE_COUNT
			   ? to == APPROVAL_QUEUED || to == APPROVAL_WAITING
			   : approval_state_may_follow(from, to);
	if (!allowed) {
		return err_set(f->e, ERR_INTERNAL, "the event %.40s: %s does not follow %s",
		    f->kind, approval_state_name(to),
		    from == APPROVAL_STATE_COUNT ? "nothing" : approval_state_name(from));
	}
	if (set(f, "state", json_string(approval_state_name(to))) < 0) {
		return -1;
	}
	/* Both belong to waiting alone, which sets them after this. */
	return set(f, "stage", json_string("")) < 0 || set(f, "deadline_us", json_null()) < 0 ? -1
											      : 0;
}

bool records_early(const json_t *row, const char *stage)
{
	enum approval_state s = approval_state_named(text_of(row, "state"));
	return (s == APPROVAL_QUEUED || s == APPROVAL_RUNNING) &&
	       strcmp(text_of(row, "kind"), "call") != 0 &&
	       approval_policy_named(text_of(row, "policy")) == APPROVAL_AFTER &&
	       strcmp(stage, approval_stage_name(APPROVAL_STAGE_RESULT)) == 0;
}

const json_t *records_early_decision(const json_t *row)
{
	return records_early(row, approval_stage_name(APPROVAL_STAGE_RESULT))
		   ? json_array_get(json_object_get(row, "decisions"), 0)
		   : NULL;
}

static int on_submitted(const struct fold *f)
{
	static const char *const members[] = {"id", "kind", "tenant", "pool", "policy", "submitter",
	    "code_sha256", "arguments_sha256", "call", "parent", "session", "execution",
	    "settings"};
	if (json_object_size(f->row) != 0) {
		return refuse(f, "not the first one");
	}
	for (size_t i = 0; i < array_len(members); i++) {
		json_t *value = json_object_get(f->body, members[i]);
		if (value == NULL || set(f, members[i], json_incref(value)) < 0) {
			return refuse(f, members[i]);
		}
	}
	if (set(f, "created_us", json_integer(f->at_us)) < 0 ||
	    set(f, "attempt", json_integer(0)) < 0 || set(f, "decisions", json_array()) < 0 ||
	    set(f, "result_sha256", json_null()) < 0) {
		return -1;
	}
	/* One that is looked at first has no state until the event waiting, which follows. */
	return *first_stage(f) == '\0' ? move(f, APPROVAL_QUEUED) : 0;
}

static int on_waiting(const struct fold *f)
{
	const char *stage = text_of(f->body, "stage");
	const char *due = state_of(f) == APPROVAL_STATE_COUNT ? first_stage(f) : "result";
	enum approval_policy p = approval_policy_named(text_of(f->row, "policy"));
	bool reviewed = is_call(f) || p != APPROVAL_RULES;
	if (records_early_decision(f->row) != NULL) {
		return refuse(f, "it was decided before");
	}
	if (strcmp(stage, due) != 0 || *due == '\0' || !reviewed ||
	    (state_of(f) == APPROVAL_RUNNING && p == APPROVAL_BEFORE)) {
		return refuse(f, "its policy has no such stage here");
	}
	const json_t *deadline = json_object_get(f->body, "deadline_us");
	if (!json_is_integer(deadline)) {
		return refuse(f, "no deadline");
	}
	if (move(f, APPROVAL_WAITING) < 0) {
		return -1;
	}
	return set(f, "stage", json_string(stage)) < 0 ||
		       set(f, "deadline_us", json_deep_copy(deadline)) < 0
		   ? -1
		   : 0;
}

static int count_attempt(const struct fold *f, int by)
{
	json_int_t attempt = json_integer_value(json_object_get(f->row, "attempt"));
	return set(f, "attempt", json_integer(attempt + by));
}

static int on_run_started(const struct fold *f)
{
	return move(f, APPROVAL_RUNNING) < 0 ? -1 : count_attempt(f, 1);
}

static int on_run_interrupted(const struct fold *f)
{
	return state_of(f) != APPROVAL_RUNNING ? refuse(f, "it does not run")
					       : move(f, APPROVAL_QUEUED);
}

static int on_run_put_back(const struct fold *f)
{
	return on_run_interrupted(f) < 0 ? -1 : count_attempt(f, -1);
}

static int on_run_finished(const struct fold *f)
{
	json_t *sha256 = json_object_get(f->body, "result_sha256");
	if (state_of(f) != APPROVAL_RUNNING) {
		return refuse(f, "it does not run");
	}
	return sha256 == NULL ? refuse(f, "no result_sha256")
			      : set(f, "result_sha256", json_incref(sha256));
}

/* The decision at the stage it waits at, or NULL. */
static const json_t *decision_here(const struct fold *f)
{
	const json_t *decisions = json_object_get(f->row, "decisions");
	size_t count = json_array_size(decisions);
	const json_t *last = count > 0 ? json_array_get(decisions, count - 1) : NULL;
	bool here = last != NULL && strcmp(text_of(last, "stage"), text_of(f->row, "stage")) == 0;
	return here ? last : NULL;
}

/* The decision itself; what it leads to is the event after it, but for code that may run now, and
 * one that came before its result. */
static int on_decided(const struct fold *f)
{
	json_t *decisions = json_object_get(f->row, "decisions");
	const char *stage = text_of(f->body, "stage");
	bool waits = state_of(f) == APPROVAL_WAITING &&
		     strcmp(stage, text_of(f->row, "stage")) == 0;
	if (!waits && !records_early(f->row, stage)) {
		return refuse(f, "it does not wait for this");
	}
	if ((waits ? decision_here(f) : records_early_decision(f->row)) != NULL) {
		return refuse(f, "it was decided before");
	}
	json_t *one = json_deep_copy(f->body);
	if (one == NULL || json_object_set_new(one, "at_us", json_integer(f->at_us)) < 0 ||
	    json_array_append_new(decisions, one) < 0) {
		return refuse(f, "out of memory");
	}
	bool runs = json_is_true(json_object_get(f->body, "approve")) && strcmp(stage, "code") == 0;
	return runs ? move(f, APPROVAL_QUEUED) : 0;
}

/* The one that its end follows from: what came early counts once the run has ended. */
static const json_t *decision_of(const struct fold *f)
{
	return state_of(f) == APPROVAL_WAITING ? decision_here(f) : records_early_decision(f->row);
}

static int on_approved(const struct fold *f)
{
	const json_t *approve = json_object_get(decision_of(f), "approve");
	enum approval_policy p = approval_policy_named(text_of(f->row, "policy"));
	bool unasked = !is_call(f) && state_of(f) != APPROVAL_WAITING &&
		       (p == APPROVAL_BEFORE || p == APPROVAL_RULES);
	if (!unasked && !json_is_true(approve)) {
		return refuse(f, "nobody approved it");
	}
	return move(f, APPROVAL_APPROVED);
}

static int on_rejected(const struct fold *f)
{
	if (!json_is_false(json_object_get(decision_of(f), "approve"))) {
		return refuse(f, "nobody rejected it");
	}
	return move(f, APPROVAL_REJECTED);
}

static int on_expired(const struct fold *f)
{
	json_int_t deadline = json_integer_value(json_object_get(f->row, "deadline_us"));
	if (state_of(f) == APPROVAL_WAITING && (deadline > f->at_us || decision_here(f) != NULL)) {
		return refuse(f, "its deadline has not come, or it is decided");
	}
	return move(f, APPROVAL_EXPIRED);
}

static int on_failed(const struct fold *f)
{
	return move(f, APPROVAL_FAILED);
}

static int on_cancelled(const struct fold *f)
{
	return decision_here(f) != NULL ? refuse(f, "it was decided before")
					: move(f, APPROVAL_CANCELLED);
}

/* What goes on after the end changes no state. */
static int on_afterwards(const struct fold *f)
{
	enum approval_state s = state_of(f);
	return s == APPROVAL_STATE_COUNT || !approval_state_is_final(s) ? refuse(f, "not final yet")
									: 0;
}

static const struct {
	const char *kind;
	int (*fold)(const struct fold *f);
} kinds[] = {
    {"submitted", on_submitted},
    {"run_started", on_run_started},
    {"run_interrupted", on_run_interrupted},
    {"run_put_back", on_run_put_back},
    {"run_finished", on_run_finished},
    {"waiting", on_waiting},
    {"decided", on_decided},
    {"approved", on_approved},
    {"rejected", on_rejected},
    {"expired", on_expired},
    {"failed", on_failed},
    {"cancelled", on_cancelled},
    {"call_finished", on_afterwards},
    {"callback_delivered", on_afterwards},
    {"callback_failed", on_afterwards},
    {"callback_given_up", on_afterwards},
    {"promoted", on_afterwards},
    {"promote_failed", on_afterwards},
};

int records_fold(json_t *row, const json_t *event, struct err *e)
{
	const struct fold f = {
	    .row = row,
	    .body = json_object_get(event, "body"),
	    .kind = text_of(event, "kind"),
	    .at_us = json_integer_value(json_object_get(event, "at_us")),
	    .e = e,
	};
	json_int_t seq = json_integer_value(json_object_get(event, "seq"));
	json_int_t version = json_integer_value(json_object_get(row, "version"));
	if (seq != version + 1) {
		return err_set(e, ERR_INTERNAL, "the event %lld follows number %lld",
		    (long long)seq, (long long)version);
	}
	size_t i = 0;
	while (i < array_len(kinds) && strcmp(kinds[i].kind, f.kind) != 0) {
		i++;
	}
	if (i == array_len(kinds)) {
		return refuse(&f, "there is no such kind");
	}
	/* A final state may go on only in kinds that say so; move() sees to the others. */
	if (version == 0 && kinds[i].fold != on_submitted) {
		return refuse(&f, "nothing was submitted");
	}
	if (kinds[i].fold(&f) < 0) {
		return -1;
	}
	return set(&f, "version", json_integer(seq)) < 0 ||
		       set(&f, "changed_us", json_integer(f.at_us)) < 0
		   ? -1
		   : 0;
}
