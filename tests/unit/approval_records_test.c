/* The changes of approvals, one by one: what each does, and what it refuses. */
#include "approval_base.h"

#include <stdio.h>
#include <string.h>

#include "base/compiler.h"

/* Does it; the approval that comes back is in STATE, and has changed. */
static void must(struct approval_base *b, records_fn op, json_t *in, const char *state)
{
	cleanup(json_decrefp) json_t *out = base_do(b, op, in);
	assert_string_equal(b->e.text, "");
	const json_t *approval = json_object_get(out, "approval");
	assert_string_equal(json_string_value(json_object_get(approval, "state")), state);
	assert_int_equal(json_array_size(json_object_get(out, "changed")), 1);
}

static bool again(struct approval_base *b, records_fn op, json_t *in)
{
	cleanup(json_decrefp) json_t *out = base_do(b, op, in);
	assert_string_equal(b->e.text, "");
	return json_is_true(json_object_get(out, "again"));
}

/* --- the ways of the policies --- */

static void after_is_run_then_decided(void **state)
{
	struct approval_base *b = *state;
	const char *id = base_new(b, "after");
	assert_string_equal(base_state(b, id), "queued");
	base_run(b, id, true);
	assert_string_equal(base_state(b, id), "waiting");
	assert_string_equal(base_member(b, id, "stage"), "result");
	char deadline[32];
	(void)snprintf(
	    deadline, sizeof(deadline), "%lld", (long long)(b->now_us + BASE_DEADLINE_MS * 1000));
	assert_string_equal(base_member(b, id, "deadline_us"), deadline);
	must(b, records_decide, base_decision(b, id, "t1", NULL, true), "approved");
	assert_string_equal(base_member(b, id, "deadline_us"), "");
	assert_string_equal(base_member(b, id, "stage"), "");
	assert_string_equal(
	    base_events(b, id), "submitted run_started run_finished waiting decided approved ");
	(void)base_verify(b);
}

static void before_is_decided_then_run(void **state)
{
	struct approval_base *b = *state;
	const char *id = base_new(b, "before");
	assert_string_equal(base_state(b, id), "waiting");
	assert_string_equal(base_member(b, id, "stage"), "code");
	assert_null(base_claim(b, "server-a", "run"));
	must(b, records_decide, base_decision(b, id, NULL, "code", true), "queued");
	base_run(b, id, true);
	assert_string_equal(base_state(b, id), "approved");
	assert_string_equal(
	    base_events(b, id), "submitted waiting decided run_started run_finished approved ");
	(void)base_verify(b);
}

static void both_is_decided_twice(void **state)
{
	struct approval_base *b = *state;
	const char *id = base_new(b, "both");
	base_refuses(b, records_decide, base_decision(b, id, "t1", NULL, true), ERR_INVALID);
	base_refuses(b, records_decide, base_decision(b, id, "t1", "call", true), ERR_INVALID);
	base_refuses(b, records_decide, base_decision(b, id, "t1", "result", true), ERR_CONFLICT);
	must(b, records_decide, base_decision(b, id, "t1", "code", true), "queued");
	base_run(b, id, true);
	assert_string_equal(base_member(b, id, "stage"), "result");
	/* The answer to the code again decides about nothing else. */
	assert_true(again(b, records_decide, base_decision(b, id, "t1", "code", true)));
	base_refuses(b, records_decide, base_decision(b, id, "t1", "code", false), ERR_CONFLICT);
	assert_string_equal(base_state(b, id), "waiting");
	must(b, records_decide, base_decision(b, id, "t1", "result", false), "rejected");
	assert_true(again(b, records_decide, base_decision(b, id, "t1", "code", true)));
	assert_true(again(b, records_decide, base_decision(b, id, "t1", "result", false)));
	(void)base_verify(b);
}

static void rules_asks_nobody(void **state)
{
	struct approval_base *b = *state;
	const char *id = base_new(b, "rules");
	base_refuses(b, records_decide, base_decision(b, id, "t1", NULL, true), ERR_CONFLICT);
	base_run(b, id, true);
	assert_string_equal(base_events(b, id), "submitted run_started run_finished approved ");
	base_refuses(b, records_decide, base_decision(b, id, "t1", "code", true), ERR_CONFLICT);
	(void)base_verify(b);
}

static void a_call_waits_and_goes_on(void **state)
{
	struct approval_base *b = *state;
	const char *id = base_submit(b, base_call(b, "t1"));
	assert_string_equal(base_member(b, id, "stage"), "call");
	assert_string_equal(base_member(b, id, "code"), "");
	json_t *done = json_pack("{s:s, s:i, s:s, s:{s:s, s:{s:b, s:s}}, s:n, s:I}", "id", id,
	    "fence", 0, "kind", "call", "event", "kind", "call_finished", "body", "ok", 1, "text",
	    "4 files", "retry_us", "now_us", (json_int_t)b->now_us);
	base_refuses(b, records_finish_task, json_incref(done), ERR_CONFLICT);
	must(b, records_decide, base_decision(b, id, "t1", NULL, true), "approved");
	json_decref(base_do(b, records_finish_task, json_incref(done)));
	assert_string_equal(b->e.text, "");
	base_refuses(b, records_finish_task, done, ERR_CONFLICT);
	assert_string_equal(
	    base_events(b, id), "submitted waiting decided approved call_finished ");
	cleanup(json_decrefp) json_t *out = base_do(b, records_get, json_pack("{s:s}", "id", id));
	const json_t *call = json_object_get(json_object_get(out, "approval"), "call");
	const json_t *arguments = json_object_get(call, "arguments");
	assert_string_equal(json_string_value(json_object_get(call, "tool")), "shell");
	assert_string_equal(json_string_value(json_object_get(arguments, "command")), "ls");
	(void)base_verify(b);
}

static void a_call_that_is_rejected_has_nothing_left_to_do(void **state)
{
	struct approval_base *b = *state;
	const char *id = base_submit(b, base_call(b, "t1"));
	must(b, records_decide, base_decision(b, id, "t1", "call", false), "rejected");
	b->now_us += 2 * BASE_LEASE_US;
	assert_int_equal(base_lapse(b), 0);
	assert_string_equal(base_events(b, id), "submitted waiting decided rejected ");
}

/* --- runs --- */

static void a_run_that_fails_ends_it(void **state)
{
	struct approval_base *b = *state;
	const char *id = base_new(b, "after");
	base_run(b, id, false);
	assert_string_equal(base_events(b, id), "submitted run_started run_finished failed ");
	base_refuses(b, records_decide, base_decision(b, id, "t1", NULL, true), ERR_CONFLICT);
	(void)base_verify(b);
}

static void a_run_has_one_owner(void **state)
{
	struct approval_base *b = *state;
	const char *id = base_new(b, "after");
	cleanup(json_decrefp) json_t *task = base_claim(b, "server-a", "run");
	assert_non_null(task);
	assert_null(base_claim(b, "server-b", "run"));
	assert_int_equal(json_integer_value(json_object_get(task, "attempt")), 1);
	cleanup(json_decrefp) json_t *stale = json_pack(
	    "{s:I}", "fence", json_integer_value(json_object_get(task, "fence")) - 1);
	base_refuses(b, records_finish_run, base_finish(b, id, stale, true, ""), ERR_CONFLICT);
	must(b, records_finish_run, base_finish(b, id, task, true, ""), "waiting");
	base_refuses(b, records_finish_run, base_finish(b, id, task, true, ""), ERR_CONFLICT);
	base_refuses(
	    b, records_finish_run, base_finish(b, "nobody", task, true, ""), ERR_NOT_FOUND);
}

static void a_lease_that_ended_is_taken_over(void **state)
{
	struct approval_base *b = *state;
	const char *id = base_new(b, "after");
	cleanup(json_decrefp) json_t *first = base_claim(b, "server-a", "run");
	b->now_us += BASE_LEASE_US - 1;
	assert_null(base_claim(b, "server-b", "run"));
	/* Renewed, it is kept for longer. */
	json_decref(base_do(b, records_renew,
	    json_pack("{s:s, s:I}", "owner", "server-a", "lease_us",
		(json_int_t)(b->now_us + BASE_LEASE_US))));
	b->now_us += BASE_LEASE_US - 1;
	assert_null(base_claim(b, "server-b", "run"));
	b->now_us += 1;
	cleanup(json_decrefp) json_t *second = base_claim(b, "server-b", "run");
	assert_non_null(second);
	assert_int_equal(json_integer_value(json_object_get(second, "attempt")), 2);
	base_refuses(b, records_finish_run, base_finish(b, id, first, true, "old"), ERR_CONFLICT);
	must(b, records_finish_run, base_finish(b, id, second, true, "new"), "waiting");
	assert_string_equal(base_events(b, id),
	    "submitted run_started run_interrupted run_started run_finished waiting ");
	(void)base_verify(b);
}

static void a_run_interrupted_too_often_has_failed(void **state)
{
	struct approval_base *b = *state;
	const char *id = base_new(b, "after");
	for (int i = 0; i < RECORDS_ATTEMPTS_MAX; i++) {
		json_decref(base_claim(b, "server-a", "run"));
		assert_string_equal(base_state(b, id), "running");
		b->now_us += BASE_LEASE_US;
		/* Whoever comes first: who looks after leases, or who claims. */
		if (i % 2 == 0) {
			assert_int_equal(base_lapse(b), 1);
		}
	}
	assert_null(base_claim(b, "server-a", "run"));
	assert_string_equal(base_state(b, id), "failed");
	b->now_us += BASE_LEASE_US;
	assert_int_equal(base_lapse(b), 0);
	(void)base_verify(b);
}

static void a_run_put_back_is_no_attempt(void **state)
{
	struct approval_base *b = *state;
	const char *id = base_new(b, "after");
	for (int i = 0; i < 2 * RECORDS_ATTEMPTS_MAX; i++) {
		cleanup(json_decrefp) json_t *task = base_claim(b, "server-a", "run");
		assert_int_equal(json_integer_value(json_object_get(task, "attempt")), 1);
		json_t *in = json_pack("{s:s, s:O, s:I, s:I, s:s}", "id", id, "fence",
		    json_object_get(task, "fence"), "now_us", (json_int_t)b->now_us, "retry_us",
		    (json_int_t)(b->now_us + BASE_SECOND_US), "reason", "no room");
		json_decref(base_do(b, records_put_back, json_incref(in)));
		assert_string_equal(b->e.text, "");
		base_refuses(b, records_put_back, in, ERR_CONFLICT);
		base_refuses(
		    b, records_finish_run, base_finish(b, id, task, true, ""), ERR_CONFLICT);
		assert_null(base_claim(b, "server-a", "run"));
		b->now_us += BASE_SECOND_US;
	}
	base_run(b, id, true);
	assert_string_equal(base_member(b, id, "attempt"), "1");
	(void)base_verify(b);
}

static void the_code_and_the_result_come_back_as_they_were(void **state)
{
	struct approval_base *b = *state;
	const char *id = base_new(b, "after");
	base_run(b, id, true);
	cleanup(json_decrefp) json_t *out = base_do(b, records_get, json_pack("{s:s}", "id", id));
	const json_t *approval = json_object_get(out, "approval");
	assert_string_equal(
	    json_string_value(json_object_get(approval, "code")), "print('h\xc3\xa9')");
	/* printf "print('hé')" | sha256sum */
	assert_string_equal(json_string_value(json_object_get(approval, "code_sha256")),
	    "3acdafb7b598be1f59802d3dd3d5c80b7874d58b172bc319e25b3ea80d18475a");
	assert_string_equal(
	    json_string_value(json_object_get(json_object_get(approval, "result"), "stdout")),
	    "h\xc3\xa9\n");
	json_t *in = base_submission(b, "t1", "after");
	assert_int_equal(json_object_set_new(in, "code", json_stringn("a\0b", 3)), 0);
	base_refuses(b, records_submit, in, ERR_INVALID);
}

/* --- decisions --- */

static void a_decision_is_single_use(void **state)
{
	struct approval_base *b = *state;
	for (int approve = 0; approve < 2; approve++) {
		const char *id = base_new(b, "after");
		base_refuses(
		    b, records_decide, base_decision(b, id, "t1", NULL, true), ERR_CONFLICT);
		base_run(b, id, true);
		must(b, records_decide, base_decision(b, id, "t1", NULL, approve != 0),
		    approve != 0 ? "approved" : "rejected");
		char version[16];
		(void)snprintf(version, sizeof(version), "%s", base_member(b, id, "version"));
		assert_true(
		    again(b, records_decide, base_decision(b, id, "t1", NULL, approve != 0)));
		assert_true(
		    again(b, records_decide, base_decision(b, id, "t1", "result", approve != 0)));
		base_refuses(b, records_decide, base_decision(b, id, "t1", NULL, approve == 0),
		    ERR_CONFLICT);
		assert_string_equal(base_member(b, id, "version"), version);
	}
	(void)base_verify(b);
}

static void a_decision_says_who_and_why(void **state)
{
	struct approval_base *b = *state;
	const char *id = base_new(b, "before");
	b->now_us += 7;
	must(b, records_decide, base_decision(b, id, "t1", NULL, false), "rejected");
	cleanup(json_decrefp) json_t *out = base_do(b, records_get, json_pack("{s:s}", "id", id));
	const json_t *decisions = json_object_get(json_object_get(out, "approval"), "decisions");
	cleanup(json_decrefp) json_t *wanted = json_pack("[{s:s, s:b, s:s, s:s, s:s, s:I}]",
	    "stage", "code", "approve", 0, "by", "bob", "person", "Bob B.", "reason", "looks fine",
	    "at_us", (json_int_t)b->now_us);
	assert_true(json_equal(decisions, wanted));
}

static void what_is_decided_is_never_run(void **state)
{
	struct approval_base *b = *state;
	const char *rejected = base_new(b, "before");
	const char *expired = base_new(b, "both");
	const char *cancelled = base_new(b, "before");
	const char *queued = base_new(b, "after");
	must(b, records_decide, base_decision(b, rejected, "t1", NULL, false), "rejected");
	must(b, records_cancel, base_cancel(b, cancelled, "t1"), "cancelled");
	must(b, records_cancel, base_cancel(b, queued, "t1"), "cancelled");
	b->now_us += BASE_DEADLINE_MS * 1000;
	assert_int_equal(base_lapse(b), 1);
	assert_string_equal(base_state(b, expired), "expired");
	assert_null(base_claim(b, "server-a", "run"));
	base_refuses(b, records_decide, base_decision(b, rejected, "t1", NULL, true), ERR_CONFLICT);
	base_refuses(
	    b, records_decide, base_decision(b, expired, "t1", "code", true), ERR_CONFLICT);
	base_refuses(
	    b, records_decide, base_decision(b, cancelled, "t1", NULL, true), ERR_CONFLICT);
	assert_null(base_claim(b, "server-a", "run"));
	(void)base_verify(b);
}

static void a_cancelled_run_has_no_result(void **state)
{
	struct approval_base *b = *state;
	const char *id = base_new(b, "after");
	cleanup(json_decrefp) json_t *task = base_claim(b, "server-a", "run");
	must(b, records_cancel, base_cancel(b, id, "t1"), "cancelled");
	assert_true(again(b, records_cancel, base_cancel(b, id, "t1")));
	base_refuses(b, records_finish_run, base_finish(b, id, task, true, ""), ERR_CONFLICT);
	const char *other = base_new(b, "rules");
	base_run(b, other, true);
	base_refuses(b, records_cancel, base_cancel(b, other, "t1"), ERR_CONFLICT);
	(void)base_verify(b);
}

/* --- time --- */

static void a_deadline_passes_once(void **state)
{
	struct approval_base *b = *state;
	const char *id = base_new(b, "before");
	const char *decided = base_new(b, "before");
	must(b, records_decide, base_decision(b, decided, "t1", NULL, true), "queued");
	b->now_us += BASE_DEADLINE_MS * 1000 - 1;
	assert_int_equal(base_lapse(b), 0);
	b->now_us += 1;
	/* Past it nobody decides, even before it was noticed. */
	base_refuses(b, records_decide, base_decision(b, id, "t1", NULL, true), ERR_CONFLICT);
	assert_int_equal(base_lapse(b), 1);
	assert_int_equal(base_lapse(b), 0);
	assert_string_equal(base_events(b, id), "submitted waiting expired ");
	assert_string_equal(base_state(b, decided), "queued");
	(void)base_verify(b);
}

static void a_call_whose_server_is_gone_is_cancelled(void **state)
{
	struct approval_base *b = *state;
	const char *waits = base_submit(b, base_call(b, "t1"));
	const char *allowed = base_submit(b, base_call(b, "t1"));
	must(b, records_decide, base_decision(b, allowed, "t1", NULL, true), "approved");
	b->now_us += BASE_LEASE_US - 1;
	assert_int_equal(base_lapse(b), 0);
	b->now_us += 1;
	assert_int_equal(base_lapse(b), 2);
	assert_string_equal(base_events(b, waits), "submitted waiting cancelled ");
	assert_string_equal(
	    base_events(b, allowed), "submitted waiting decided approved call_finished ");
	assert_int_equal(base_lapse(b), 0);
	(void)base_verify(b);
}

static void when_next_is_of_all_tasks(void **state)
{
	struct approval_base *b = *state;
	cleanup(json_decrefp)
	    json_t *in = json_pack("{s:I, s:i}", "now_us", (json_int_t)b->now_us, "limit", 10);
	cleanup(json_decrefp) json_t *none = base_do(b, records_lapse, json_incref(in));
	assert_true(json_is_null(json_object_get(none, "next_due_us")));
	(void)base_new(b, "before");
	cleanup(json_decrefp) json_t *late = base_do(b, records_lapse, json_incref(in));
	assert_int_equal(json_integer_value(json_object_get(late, "next_due_us")),
	    b->now_us + BASE_DEADLINE_MS * 1000);
	(void)base_submit(b, base_call(b, "t1"));
	cleanup(json_decrefp) json_t *lease = base_do(b, records_lapse, json_incref(in));
	assert_int_equal(
	    json_integer_value(json_object_get(lease, "next_due_us")), b->now_us + BASE_LEASE_US);
	(void)base_new(b, "after");
	cleanup(json_decrefp) json_t *now = base_do(b, records_lapse, json_incref(in));
	assert_int_equal(json_integer_value(json_object_get(now, "next_due_us")), b->now_us);
}

static void one_that_is_damaged_does_not_stop_the_others(void **state)
{
	struct approval_base *b = *state;
	const char *damaged = base_new(b, "before");
	assert_true(base_sql(b, "UPDATE approval SET decisions = '['"));
	const char *fine = base_new(b, "before");
	b->now_us += BASE_DEADLINE_MS * 1000;
	assert_int_equal(base_lapse(b), 1);
	assert_string_equal(base_state(b, fine), "expired");
	assert_true(base_sql(b, "UPDATE approval SET decisions = '[]'"));
	b->now_us += 60 * BASE_SECOND_US - 1;
	assert_int_equal(base_lapse(b), 0);
	b->now_us += 1;
	assert_int_equal(base_lapse(b), 1);
	assert_string_equal(base_state(b, damaged), "expired");
	/* The same for who takes a run. */
	damaged = base_new(b, "after");
	assert_true(base_sql(b, "UPDATE approval SET decisions = '[' WHERE state = 'queued'"));
	b->now_us += 1;
	assert_null(base_claim(b, "server-a", "run"));
	fine = base_new(b, "after");
	base_run(b, fine, true);
	assert_true(base_sql(b, "UPDATE approval SET decisions = '[]' WHERE state = 'queued'"));
	b->now_us += 60 * BASE_SECOND_US;
	base_run(b, damaged, true);
	(void)base_verify(b);
}

/* --- what comes after --- */

static json_t *ended(const struct approval_base *b, const char *id, const json_t *task,
    const char *event, int64_t retry_us)
{
	json_t *in = json_pack("{s:s, s:O, s:O, s:{s:s, s:{s:i}}, s:o, s:I}", "id", id, "fence",
	    json_object_get(task, "fence"), "kind", json_object_get(task, "kind"), "event", "kind",
	    event, "body", "status", 500, "retry_us",
	    retry_us != 0 ? json_integer(retry_us) : json_null(), "now_us", (json_int_t)b->now_us);
	assert_non_null(in);
	return in;
}

static void a_callback_is_tried_until_it_is_delivered(void **state)
{
	struct approval_base *b = *state;
	json_t *in = base_submission(b, "t1", "before");
	assert_int_equal(json_object_set_new(json_object_get(in, "settings"), "callback",
			     json_pack("{s:s}", "url", "https://example.org/")),
	    0);
	const char *id = base_submit(b, in);
	assert_null(base_claim(b, "server-a", "callback"));
	must(b, records_decide, base_decision(b, id, "t1", NULL, false), "rejected");
	for (int i = 1; i <= 3; i++) {
		cleanup(json_decrefp) json_t *task = base_claim(b, "server-a", "callback");
		assert_int_equal(json_integer_value(json_object_get(task, "attempt")), i);
		json_decref(base_do(b, records_finish_task,
		    ended(b, id, task, "callback_failed", b->now_us + BASE_SECOND_US)));
		assert_string_equal(b->e.text, "");
		base_refuses(b, records_finish_task, ended(b, id, task, "callback_delivered", 0),
		    ERR_CONFLICT);
		assert_null(base_claim(b, "server-a", "callback"));
		b->now_us += BASE_SECOND_US;
	}
	/* A server that was gone in between is no failure of the callback's. */
	json_decref(base_claim(b, "server-a", "callback"));
	b->now_us += BASE_LEASE_US;
	cleanup(json_decrefp) json_t *task = base_claim(b, "server-b", "callback");
	assert_int_equal(json_integer_value(json_object_get(task, "attempt")), 4);
	base_refuses(b, records_finish_task, ended(b, id, task, "promoted", 0), ERR_INTERNAL);
	json_decref(base_do(b, records_finish_task, ended(b, id, task, "callback_delivered", 0)));
	assert_string_equal(b->e.text, "");
	assert_null(base_claim(b, "server-a", "callback"));
	assert_string_equal(base_events(b, id),
	    "submitted waiting decided rejected callback_failed callback_failed callback_failed "
	    "callback_delivered ");
	(void)base_verify(b);
}

static size_t count_files(struct approval_base *b, const char *id)
{
	cleanup(json_decrefp) json_t *out = base_do(b, records_files, json_pack("{s:s}", "id", id));
	return json_array_size(json_object_get(out, "files"));
}

/* Runs to its end with two files. */
static const char *with_files(struct approval_base *b)
{
	json_t *in = base_submission(b, "t1", "after");
	assert_int_equal(json_object_set_new(json_object_get(in, "settings"), "promote",
			     json_pack("{s:[s]}", "files", "*.csv")),
	    0);
	const char *id = base_submit(b, in);
	cleanup(json_decrefp) json_t *task = base_claim(b, "server-a", "run");
	in = base_finish(b, id, task, true, "");
	assert_int_equal(json_object_set_new(in, "files",
			     json_pack("[{s:s, s:s}, {s:s, s:s}]", "name", "a.csv", "base64",
				 "YQ==", "name", "b.csv", "base64", "Yg==")),
	    0);
	must(b, records_finish_run, in, "waiting");
	assert_int_equal(count_files(b, id), 2);
	return id;
}

static void files_are_kept_until_they_are_promoted(void **state)
{
	struct approval_base *b = *state;
	const char *approved = with_files(b);
	const char *rejected = with_files(b);
	assert_null(base_claim(b, "server-a", "promote"));
	must(b, records_decide, base_decision(b, approved, "t1", NULL, true), "approved");
	must(b, records_decide, base_decision(b, rejected, "t1", NULL, false), "rejected");
	assert_int_equal(count_files(b, approved), 2);
	assert_int_equal(count_files(b, rejected), 0);
	cleanup(json_decrefp) json_t *task = base_claim(b, "server-a", "promote");
	json_decref(base_do(b, records_finish_task, ended(b, approved, task, "promoted", 0)));
	assert_string_equal(b->e.text, "");
	assert_int_equal(count_files(b, approved), 0);
	assert_null(base_claim(b, "server-a", "promote"));
	(void)base_verify(b);
}

/* --- keys and bounds --- */

static json_t *with_key(struct approval_base *b, const char *tenant, const char *by,
    const char *key, const char *sha256)
{
	json_t *in = base_submission(b, tenant, "before");
	assert_int_equal(json_object_set_new(in, "submitter", json_string(by)), 0);
	assert_int_equal(json_object_set_new(in, "key", json_string(key)), 0);
	assert_int_equal(json_object_set_new(in, "key_sha256", json_string(sha256)), 0);
	return in;
}

static void a_key_makes_one_approval(void **state)
{
	struct approval_base *b = *state;
	const char *id = base_submit(b, with_key(b, "t1", "alice", "k", "aa"));
	cleanup(json_decrefp)
	    json_t *out = base_do(b, records_submit, with_key(b, "t1", "alice", "k", "aa"));
	assert_string_equal(b->e.text, "");
	assert_true(json_is_false(json_object_get(out, "created")));
	assert_int_equal(json_array_size(json_object_get(out, "changed")), 0);
	assert_string_equal(
	    json_string_value(json_object_get(json_object_get(out, "approval"), "id")), id);
	base_refuses(b, records_submit, with_key(b, "t1", "alice", "k", "bb"), ERR_CONFLICT);
	/* Another's key is another key. */
	(void)base_submit(b, with_key(b, "t2", "alice", "k", "bb"));
	(void)base_submit(b, with_key(b, "t1", "bob", "k", "bb"));
	(void)base_submit(b, with_key(b, "t1", "alice", "K", "bb"));
	(void)base_verify(b);
}

static json_t *bounded(struct approval_base *b, const char *tenant)
{
	json_t *in = base_submission(b, tenant, "before");
	assert_int_equal(json_object_set_new(in, "open_max", json_integer(2)), 0);
	return in;
}

static void a_tenant_has_only_so_many_open(void **state)
{
	struct approval_base *b = *state;
	const char *first = base_submit(b, bounded(b, "t1"));
	(void)base_submit(b, bounded(b, "t1"));
	base_refuses(b, records_submit, bounded(b, "t1"), ERR_BUSY);
	(void)base_submit(b, bounded(b, "t2"));
	must(b, records_decide, base_decision(b, first, "t1", NULL, true), "queued");
	base_refuses(b, records_submit, bounded(b, "t1"), ERR_BUSY);
	base_run(b, first, true);
	(void)base_submit(b, bounded(b, "t1"));
	base_refuses(b, records_submit, bounded(b, "t1"), ERR_BUSY);
	b->now_us += BASE_DEADLINE_MS * 1000;
	assert_int_equal(base_lapse(b), 3);
	(void)base_submit(b, bounded(b, "t1"));
	(void)base_verify(b);
}

static void an_id_is_used_once(void **state)
{
	struct approval_base *b = *state;
	cleanup(json_decrefp) json_t *in = base_submission(b, "t1", "before");
	(void)base_submit(b, json_incref(in));
	base_refuses(b, records_submit, json_incref(in), ERR_CONFLICT);
}

static void another_tenant_sees_and_does_nothing(void **state)
{
	struct approval_base *b = *state;
	const char *id = base_new(b, "before");
	static const char *const others[] = {"t2", ""};
	for (size_t i = 0; i < array_len(others); i++) {
		const char *other = others[i];
		base_refuses(b, records_get, json_pack("{s:s, s:s}", "id", id, "tenant", other),
		    ERR_NOT_FOUND);
		base_refuses(b, records_events,
		    json_pack(
			"{s:s, s:s, s:i, s:i}", "id", id, "tenant", other, "after", 0, "limit", 10),
		    ERR_NOT_FOUND);
		base_refuses(
		    b, records_decide, base_decision(b, id, other, NULL, true), ERR_NOT_FOUND);
		base_refuses(b, records_cancel, base_cancel(b, id, other), ERR_NOT_FOUND);
		cleanup(json_decrefp) json_t *out = base_do(
		    b, records_list, json_pack("{s:s, s:i}", "tenant", other, "limit", 10));
		assert_int_equal(json_array_size(json_object_get(out, "approvals")), 0);
	}
	assert_string_equal(base_events(b, id), "submitted waiting ");
}

/* --- what is told --- */

static void events_are_told_from_where_one_was(void **state)
{
	struct approval_base *b = *state;
	const char *id = base_new(b, "after");
	base_run(b, id, true);
	cleanup(json_decrefp) json_t *out = base_do(b, records_events,
	    json_pack("{s:s, s:s, s:i, s:i}", "id", id, "tenant", "t1", "after", 2, "limit", 1));
	const json_t *events = json_object_get(out, "events");
	assert_int_equal(json_array_size(events), 1);
	assert_string_equal(
	    json_string_value(json_object_get(json_array_get(events, 0), "kind")), "run_finished");
	assert_string_equal(json_string_value(json_object_get(out, "state")), "waiting");
	assert_true(json_is_false(json_object_get(out, "final")));
	must(b, records_decide, base_decision(b, id, "t1", NULL, true), "approved");
	cleanup(json_decrefp) json_t *rest = base_do(
	    b, records_events, json_pack("{s:s, s:i, s:i}", "id", id, "after", 4, "limit", 10));
	assert_int_equal(json_array_size(json_object_get(rest, "events")), 2);
	assert_true(json_is_true(json_object_get(rest, "final")));
}

/* The next page: how many there are, *AFTER its end, and whether none was told before. */
static size_t next_page(struct approval_base *b, json_t **after, json_t *seen)
{
	size_t i;
	const json_t *one;
	cleanup(json_decrefp) json_t *out = base_do(b, records_list,
	    json_pack("{s:s, s:s, s:O, s:i}", "tenant", "t1", "state", "waiting", "after", *after,
		"limit", 7));
	assert_string_equal(b->e.text, "");
	json_array_foreach(json_object_get(out, "approvals"), i, one)
	{
		const char *id = json_string_value(json_object_get(one, "id"));
		assert_null(json_object_get(seen, id));
		assert_null(json_object_get(one, "code"));
		assert_int_equal(json_object_set_new(seen, id, json_true()), 0);
	}
	json_decref(*after);
	*after = json_incref(json_object_get(out, "next"));
	return json_array_size(json_object_get(out, "approvals"));
}

static void pages_stay_while_new_ones_come(void **state)
{
	struct approval_base *b = *state;
	cleanup(json_decrefp) json_t *seen = json_object();
	cleanup(json_decrefp) json_t *after = json_null();
	for (int i = 0; i < 30; i++) {
		(void)base_new(b, "before");
		b->now_us += i % 3; /* some at the same time */
	}
	size_t told = 0, pages = 0;
	do {
		told += next_page(b, &after, seen);
		pages++;
		b->now_us += 1;
		(void)base_new(b, "before");
	} while (!json_is_null(after));
	assert_int_equal(told, 30);
	assert_int_equal(pages, 5);
	static const char *const wrong[] = {"x", "-id", "1x-id", "12", "99999999999999999999-id"};
	for (size_t i = 0; i < array_len(wrong); i++) {
		base_refuses(b, records_list,
		    json_pack("{s:s, s:i}", "after", wrong[i], "limit", 7), ERR_INVALID);
	}
}

static size_t listed(
    struct approval_base *b, const char *tenant, const char *st, const char *kind, const char *pool)
{
	cleanup(json_decrefp) json_t *out = base_do(b, records_list,
	    json_pack("{s:s?, s:s?, s:s?, s:s?, s:i}", "tenant", tenant, "state", st, "kind", kind,
		"pool", pool, "limit", RECORDS_PAGE_MAX));
	assert_string_equal(b->e.text, "");
	return json_array_size(json_object_get(out, "approvals"));
}

static void lists_are_filtered(void **state)
{
	struct approval_base *b = *state;
	/* Each bit of the number is one thing about the approval. */
	for (unsigned i = 0; i < 16; i++) {
		const char *tenant = (i & 1) != 0 ? "t1" : "t2";
		json_t *in = (i & 4) != 0 ? base_call(b, tenant)
					  : base_submission(b, tenant, "before");
		assert_int_equal(
		    json_object_set_new(in, "pool", json_string((i & 8) != 0 ? "p1" : "p2")), 0);
		const char *id = base_submit(b, in);
		if ((i & 2) != 0) {
			must(b, records_cancel, base_cancel(b, id, tenant), "cancelled");
		}
	}
	for (unsigned i = 0; i < 16; i++) {
		size_t wanted = 16U >> __builtin_popcount(i);
		assert_int_equal(
		    listed(b, (i & 1) != 0 ? "t1" : NULL, (i & 2) != 0 ? "cancelled" : NULL,
			(i & 4) != 0 ? "call" : NULL, (i & 8) != 0 ? "p1" : NULL),
		    wanted);
	}
	assert_int_equal(listed(b, "nobody", NULL, NULL, NULL), 0);
	cleanup(json_decrefp) json_t *counts = base_do(b, records_count, json_object());
	assert_int_equal(
	    json_integer_value(json_object_get(json_object_get(counts, "open"), "waiting")), 8);
	assert_int_equal(json_object_size(json_object_get(counts, "open")), 1);
	assert_int_equal(
	    json_integer_value(json_object_get(json_object_get(counts, "tasks"), "expire")), 8);
}

/* --- forgetting --- */

static size_t forget(struct approval_base *b)
{
	cleanup(json_decrefp) json_t *out = base_do(b, records_forget,
	    json_pack("{s:I, s:I, s:i}", "before_us", (json_int_t)b->now_us, "now_us",
		(json_int_t)b->now_us, "limit", 100));
	assert_string_equal(b->e.text, "");
	return (size_t)json_integer_value(json_object_get(out, "removed"));
}

static void what_is_final_is_forgotten_but_not_its_trail(void **state)
{
	struct approval_base *b = *state;
	const char *id = base_submit(b, with_key(b, "t1", "alice", "k", "aa"));
	const char *waits = base_new(b, "before");
	json_t *in = base_submission(b, "t1", "before");
	assert_int_equal(json_object_set_new(json_object_get(in, "settings"), "callback",
			     json_pack("{s:s}", "url", "https://example.org/")),
	    0);
	const char *calls = base_submit(b, in);
	must(b, records_decide, base_decision(b, id, "t1", NULL, false), "rejected");
	must(b, records_decide, base_decision(b, calls, "t1", NULL, false), "rejected");
	assert_int_equal(forget(b), 0);
	b->now_us += 1;
	int64_t trail = base_verify(b);
	assert_int_equal(forget(b), 1);
	base_refuses(b, records_get, json_pack("{s:s}", "id", id), ERR_NOT_FOUND);
	assert_string_equal(base_state(b, waits), "waiting");
	/* Its callback is not delivered yet. */
	assert_string_equal(base_state(b, calls), "rejected");
	/* Which says so. */
	assert_int_equal(base_verify(b), trail + 1);
	/* The key went with it. */
	(void)base_submit(b, with_key(b, "t1", "alice", "k", "bb"));
}

/* --- the tables --- */

static void a_later_version_is_refused(void **state)
{
	struct approval_base *b = *state;
	assert_int_equal(records_migrate(b->db, &b->e), 0);
	assert_int_equal(records_check_version(b->db, &b->e), 0);
	assert_true(base_sql(b, "INSERT INTO approval_schema (version) VALUES (999)"));
	assert_int_equal(records_migrate(b->db, &b->e), -1);
	assert_int_equal(b->e.code, ERR_UNSUPPORTED);
	assert_int_equal(records_check_version(b->db, &b->e), -1);
	assert_int_equal(b->e.code, ERR_UNSUPPORTED);
}

static void the_tables_guard_themselves(void **state)
{
	struct approval_base *b = *state;
	const char *id = base_new(b, "before");
	must(b, records_decide, base_decision(b, id, "t1", NULL, false), "rejected");
	(void)base_new(b, "before");
	static const char *const refused[] = {
	    "UPDATE audit SET actor = 'nobody'",
	    "DELETE FROM audit",
	    "DELETE FROM audit WHERE seq = 1",
	    "UPDATE approval_event SET actor = 'nobody'",
	    "DELETE FROM approval_event WHERE seq = 1",
	    "UPDATE approval SET state = 'approved' WHERE state = 'rejected'",
	    "DELETE FROM approval WHERE state = 'waiting'",
	};
	for (size_t i = 0; i < array_len(refused); i++) {
		if (base_sql(b, refused[i])) {
			fail_msg("not refused: %s", refused[i]);
		}
	}
	(void)base_verify(b);
}

static void a_row_changed_behind_its_back_is_found(void **state)
{
	struct approval_base *b = *state;
	const char *id = base_new(b, "after");
	base_run(b, id, true);
	(void)base_new(b, "before");
	assert_int_equal(base_wrong(b), 0);
	static const struct {
		const char *change, *back;
	} changes[] = {
	    {"UPDATE approval SET pool = 'other'", "UPDATE approval SET pool = 'default'"},
	    {"UPDATE approval SET submitter = 'eve'", "UPDATE approval SET submitter = 'alice'"},
	    {"UPDATE approval SET attempt = attempt + 1",
		"UPDATE approval SET attempt = attempt - 1"},
	    {"UPDATE approval SET deadline_us = deadline_us + 1",
		"UPDATE approval SET deadline_us = deadline_us - 1"},
	    {"UPDATE approval SET decisions = '[{\"stage\":\"code\",\"approve\":true}]'",
		"UPDATE approval SET decisions = '[]'"},
	    {"UPDATE approval_text SET body = 'evil()' WHERE kind = 'code'",
		"UPDATE approval_text SET body = 'print(''h\xc3\xa9'')' WHERE kind = 'code'"},
	};
	for (size_t i = 0; i < array_len(changes); i++) {
		assert_true(base_sql(b, changes[i].change));
		assert_int_equal(base_wrong(b), 2);
		assert_true(base_sql(b, changes[i].back));
		assert_int_equal(base_wrong(b), 0);
	}
	assert_true(base_sql(b, "UPDATE approval_open SET count = count + 1"));
	assert_int_equal(base_wrong(b), 1);
	assert_true(base_sql(b, "UPDATE approval_open SET count = count - 1"));
	/* An event that was never: as if the result had been approved. */
	assert_true(
	    base_sql(b, "INSERT INTO approval_event (approval, seq, at_us, kind, actor, body) "
			"SELECT id, version + 1, 1, 'approved', 'eve', '{}' FROM approval"));
	assert_int_equal(base_wrong(b), 2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, base_setup, base_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(after_is_run_then_decided),
	    TEST(before_is_decided_then_run),
	    TEST(both_is_decided_twice),
	    TEST(rules_asks_nobody),
	    TEST(a_call_waits_and_goes_on),
	    TEST(a_call_that_is_rejected_has_nothing_left_to_do),
	    TEST(a_run_that_fails_ends_it),
	    TEST(a_run_has_one_owner),
	    TEST(a_lease_that_ended_is_taken_over),
	    TEST(a_run_interrupted_too_often_has_failed),
	    TEST(a_run_put_back_is_no_attempt),
	    TEST(the_code_and_the_result_come_back_as_they_were),
	    TEST(a_decision_is_single_use),
	    TEST(a_decision_says_who_and_why),
	    TEST(what_is_decided_is_never_run),
	    TEST(a_cancelled_run_has_no_result),
	    TEST(a_deadline_passes_once),
	    TEST(a_call_whose_server_is_gone_is_cancelled),
	    TEST(when_next_is_of_all_tasks),
	    TEST(one_that_is_damaged_does_not_stop_the_others),
	    TEST(a_callback_is_tried_until_it_is_delivered),
	    TEST(files_are_kept_until_they_are_promoted),
	    TEST(a_key_makes_one_approval),
	    TEST(a_tenant_has_only_so_many_open),
	    TEST(an_id_is_used_once),
	    TEST(another_tenant_sees_and_does_nothing),
	    TEST(events_are_told_from_where_one_was),
	    TEST(pages_stay_while_new_ones_come),
	    TEST(lists_are_filtered),
	    TEST(what_is_final_is_forgotten_but_not_its_trail),
	    TEST(a_later_version_is_refused),
	    TEST(the_tables_guard_themselves),
	    TEST(a_row_changed_behind_its_back_is_found),
	};
	return cmocka_run_group_tests_name("approval_records", tests, NULL, NULL);
}
