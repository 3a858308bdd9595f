/*
 * A random walk: thousands of operations on several approvals, by several servers, in an order that
 * a seed gives. Most are refused. Whatever happens, what lifecycle.h promises holds, which is
 * looked at from the outside: by the events and the tasks, not by what the operations say of
 * themselves.
 */
#include "approval_base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "approvals/lifecycle.h"
#include "base/compiler.h"

#define STEPS 1500
#define LOOK_EVERY 250
#define HELD_MAX 16

struct walk {
	struct approval_base *b;
	uint64_t random;
	const char *ids[1024];
	size_t count;
	json_t *held[HELD_MAX]; /* tasks that were claimed, by now perhaps another's */
	unsigned done;
	json_t *ends; /* id -> final state, once it was seen */
};

/* xorshift64* */
static unsigned pick(struct walk *w, unsigned below)
{
	w->random ^= w->random >> 12;
	w->random ^= w->random << 25;
	w->random ^= w->random >> 27;
	return (unsigned)((w->random * 2685821657736338717ULL) >> 33) % below;
}

static const char *pick_id(struct walk *w)
{
	/* Mostly one of the newest, which are not final yet. */
	size_t span = pick(w, 4) != 0 && w->count > 12 ? 12 : w->count;
	return w->ids[w->count - 1 - pick(w, (unsigned)span)];
}

/* Done, or refused as it may be: what is not there, not now, not by them. */
static bool attempt(struct walk *w, records_fn op, json_t *in)
{
	uint64_t before = db_changes(w->b->db);
	cleanup(json_decrefp) json_t *out = base_do(w->b, op, in);
	if (out != NULL) {
		w->done++;
		return true;
	}
	enum err_code code = w->b->e.code;
	if (code != ERR_CONFLICT && code != ERR_NOT_FOUND && code != ERR_DENIED &&
	    code != ERR_INVALID && code != ERR_BUSY) {
		fail_msg("%s", w->b->e.text);
	}
	assert_int_equal(db_changes(w->b->db), before);
	return false;
}

/* --- steps --- */

static void submit(struct walk *w)
{
	static const char *const policies[] = {"after", "before", "both", "rules"};
	static const char *const tenants[] = {"t1", "t2"};
	const char *tenant = tenants[pick(w, 2)];
	if (w->count == array_len(w->ids) - 1) {
		return;
	}
	json_t *in = pick(w, 4) == 0 ? base_call(w->b, tenant)
				     : base_submission(w->b, tenant, policies[pick(w, 4)]);
	json_t *settings = json_object_get(in, "settings");
	if (pick(w, 2) == 0) {
		(void)json_object_set_new(
		    settings, "callback", json_pack("{s:s}", "url", "https://example.org/"));
	}
	if (pick(w, 3) == 0) {
		(void)json_object_set_new(settings, "promote", json_pack("{s:[]}", "files"));
	}
	(void)json_object_set_new(settings, "deadline_ms", json_integer(1000 * (1 + pick(w, 90))));
	(void)json_object_set_new(in, "open_max", json_integer(20));
	(void)json_object_set_new(in, "submitter", json_string(pick(w, 8) == 0 ? "bob" : "alice"));
	char id[40];
	(void)snprintf(id, sizeof(id), "%s", json_string_value(json_object_get(in, "id")));
	if (attempt(w, records_submit, in)) {
		w->ids[w->count] = strdup(id);
		assert_non_null(w->ids[w->count]);
		w->count++;
	}
}

static void claim(struct walk *w)
{
	static const char *const kinds[] = {"run", "run", "callback", "promote"};
	static const char *const owners[] = {"server-a", "server-b"};
	unsigned at = pick(w, HELD_MAX);
	json_t *task = base_claim(w->b, owners[pick(w, 2)], kinds[pick(w, 4)]);
	if (task != NULL) {
		json_decref(w->held[at]);
		w->held[at] = task;
		w->done++;
	}
}

/* Any that was ever claimed, whoever has it now. */
static const json_t *pick_held(struct walk *w, const char **id)
{
	const json_t *task = w->held[pick(w, HELD_MAX)];
	*id = json_string_value(json_object_get(json_object_get(task, "approval"), "id"));
	return task;
}

static void finish(struct walk *w)
{
	const char *id;
	const json_t *task = pick_held(w, &id);
	if (task != NULL) {
		json_t *in = base_finish(w->b, id, task, pick(w, 6) != 0, "text");
		(void)json_object_set_new(
		    in, "files", json_pack("[{s:s, s:s}]", "name", "a", "base64", "YQ=="));
		(void)attempt(w, records_finish_run, in);
	}
}

static void put_back(struct walk *w)
{
	const char *id;
	const json_t *task = pick_held(w, &id);
	if (task != NULL) {
		(void)attempt(w, records_put_back,
		    json_pack("{s:s, s:O, s:I, s:I, s:s}", "id", id, "fence",
			json_object_get(task, "fence"), "now_us", (json_int_t)w->b->now_us,
			"retry_us", (json_int_t)w->b->now_us + 1, "reason", "no room"));
	}
}

static void end_task(struct walk *w)
{
	static const char *const ends[][2] = {{"callback", "callback_delivered"},
	    {"callback", "callback_failed"}, {"promote", "promoted"}, {"promote", "promote_failed"},
	    {"call", "call_finished"}};
	const char *const *end = ends[pick(w, array_len(ends))];
	const char *id;
	const json_t *task = pick_held(w, &id);
	if (strcmp(end[0], "call") == 0) {
		id = pick_id(w);
	} else if (task == NULL ||
		   strcmp(json_string_value(json_object_get(task, "kind")), end[0]) != 0) {
		return;
	}
	(void)attempt(w, records_finish_task,
	    json_pack("{s:s, s:I, s:s, s:{s:s}, s:o, s:I}", "id", id, "fence",
		(json_int_t)json_integer_value(json_object_get(task, "fence")), "kind", end[0],
		"event", "kind", end[1], "retry_us",
		strstr(end[1], "failed") != NULL ? json_integer(w->b->now_us + 1) : json_null(),
		"now_us", (json_int_t)w->b->now_us));
}

static void decide(struct walk *w)
{
	static const char *const stages[] = {NULL, NULL, "code", "result", "call"};
	static const char *const tenants[] = {NULL, "t1", "t2"};
	json_t *in = base_decision(
	    w->b, pick_id(w), tenants[pick(w, 3)], stages[pick(w, 5)], pick(w, 3) != 0);
	(void)json_object_set_new(in, "early", json_boolean(pick(w, 4) == 0));
	(void)attempt(w, records_decide, in);
}

static void cancel(struct walk *w)
{
	if (pick(w, 4) == 0) {
		(void)attempt(w, records_cancel, base_cancel(w->b, pick_id(w), NULL));
	}
}

static void lapse(struct walk *w)
{
	(void)base_lapse(w->b);
}

static void pass_time(struct walk *w)
{
	w->b->now_us += pick(w, 20) * BASE_SECOND_US + 1;
}

static void renew(struct walk *w)
{
	(void)attempt(w, records_renew,
	    json_pack("{s:s, s:I}", "owner", "server-a", "lease_us",
		(json_int_t)(w->b->now_us + BASE_LEASE_US)));
}

/* --- what holds --- */

struct counts {
	unsigned decided[APPROVAL_STAGE_COUNT];
	unsigned finals;
	unsigned ran_after;
	unsigned approved_code;
	unsigned started;
};

static void count_event(struct counts *c, const json_t *event)
{
	const char *kind = json_string_value(json_object_get(event, "kind"));
	const json_t *body = json_object_get(event, "body");
	if (strcmp(kind, "decided") == 0) {
		enum approval_stage s = approval_stage_named(
		    json_string_value(json_object_get(body, "stage")));
		assert_in_range(s, APPROVAL_STAGE_CODE, APPROVAL_STAGE_CALL);
		c->decided[s]++;
		c->approved_code += s == APPROVAL_STAGE_CODE &&
				    json_is_true(json_object_get(body, "approve"));
	}
	if (strcmp(kind, "run_started") == 0) {
		c->started++;
		c->ran_after += c->finals;
	}
	enum approval_state as = approval_state_named(kind);
	c->finals += as != APPROVAL_STATE_COUNT && approval_state_is_final(as);
}

static void check_one(struct walk *w, const char *id)
{
	size_t i;
	const json_t *event;
	struct counts c = {0};
	cleanup(json_decrefp)
	    json_t *out = base_do(w->b, records_get, json_pack("{s:s}", "id", id));
	assert_non_null(out);
	const json_t *approval = json_object_get(out, "approval");
	json_t *name = json_object_get(approval, "state");
	const char *policy = json_string_value(json_object_get(approval, "policy"));
	bool final = approval_state_is_final(approval_state_named(json_string_value(name)));
	json_array_foreach(json_object_get(out, "events"), i, event)
	{
		count_event(&c, event);
	}
	for (unsigned s = 0; s < APPROVAL_STAGE_COUNT; s++) {
		assert_in_range(c.decided[s], 0, 1);
	}
	assert_int_equal(c.finals, final);
	assert_int_equal(c.ran_after, 0);
	if (strcmp(policy, "before") == 0 || strcmp(policy, "both") == 0) {
		assert_true(c.started == 0 || c.approved_code == 1);
	}
	const json_t *before = json_object_get(w->ends, id);
	if (before != NULL) {
		assert_true(json_equal(before, name));
	} else if (final) {
		assert_int_equal(json_object_set(w->ends, id, name), 0);
	}
}

static int on_number(void *ctx, const struct db_row *r)
{
	*(int64_t *)ctx = db_int(r, 0);
	return 0;
}

static void check_tasks(struct approval_base *b)
{
	/* What waits can expire, what is to run can be claimed; and the other way round. */
	static const char *const none[] = {
	    "SELECT count(*) FROM approval a WHERE (a.state = 'waiting') <> EXISTS (SELECT 1 FROM "
	    "approval_task t WHERE t.approval = a.id AND t.kind = 'expire' AND "
	    "t.wake_us = a.deadline_us)",
	    "SELECT count(*) FROM approval a WHERE (a.state IN ('queued', 'running')) <> EXISTS "
	    "(SELECT 1 FROM approval_task t WHERE t.approval = a.id AND t.kind = 'run')",
	    "SELECT count(*) FROM approval a JOIN approval_task t ON t.approval = a.id WHERE "
	    "t.kind = 'run' AND (a.state = 'running') <> (t.owner IS NOT NULL)",
	    "SELECT count(*) FROM approval a WHERE (a.stage = '') <> (a.state <> 'waiting')",
	    "SELECT count(*) FROM approval a JOIN approval_file f ON f.approval = a.id WHERE "
	    "a.state IN ('rejected', 'expired', 'failed', 'cancelled')",
	};
	for (size_t i = 0; i < array_len(none); i++) {
		int64_t number = -1;
		struct err e = {0};
		(void)db_run(b->db, none[i], NULL, 0, on_number, &number, NULL, &e);
		assert_string_equal(e.text, "");
		if (number != 0) {
			fail_msg("%lld: %s", (long long)number, none[i]);
		}
	}
}

static void check_all(struct walk *w)
{
	for (size_t i = 0; i < w->count; i++) {
		check_one(w, w->ids[i]);
	}
	check_tasks(w->b);
	(void)base_verify(w->b);
}

/* Once nothing more is begun, everything comes to an end. */
static void drain(struct walk *w)
{
	static const char *const kinds[] = {"run", "callback", "promote"};
	for (int round = 0; round < 20; round++) {
		w->b->now_us += BASE_DEADLINE_MS * 1000;
		while (base_lapse(w->b) > 0) {
		}
		for (size_t k = 0; k < array_len(kinds); k++) {
			json_t *task;
			while ((task = base_claim(w->b, "server-c", kinds[k])) != NULL) {
				json_decref(w->held[0]);
				w->held[0] = task;
				const char *id = json_string_value(
				    json_object_get(json_object_get(task, "approval"), "id"));
				assert_true(
				    k == 0 ? attempt(w, records_finish_run,
						 base_finish(w->b, id, task, true, "end"))
					   : attempt(w, records_finish_task,
						 json_pack("{s:s, s:O, s:s, s:n, s:n, s:I}", "id",
						     id, "fence", json_object_get(task, "fence"),
						     "kind", kinds[k], "event", "retry_us",
						     "now_us", (json_int_t)w->b->now_us)));
			}
		}
	}
}

static void walk(struct approval_base *b, uint64_t seed)
{
	static void (*const steps[])(struct walk *) = {submit, submit, claim, claim, claim, finish,
	    finish, finish, put_back, end_task, end_task, decide, decide, decide, cancel, lapse,
	    pass_time, renew};
	struct walk w = {.b = b, .random = seed, .ends = json_object()};
	submit(&w);
	for (unsigned i = 1; i <= STEPS; i++) {
		steps[pick(&w, array_len(steps))](&w);
		if (i % LOOK_EVERY == 0) {
			check_all(&w);
		}
	}
	drain(&w);
	check_all(&w);
	/* It was a walk, and all of it has ended. */
	assert_in_range(w.done, STEPS / 4, 2 * STEPS);
	assert_int_equal(json_object_size(w.ends), w.count);
	cleanup(json_decrefp) json_t *counts = base_do(b, records_count, json_object());
	assert_int_equal(json_object_size(json_object_get(counts, "tasks")), 0);
	print_message(
	    "# seed %llu: %zu approvals, %u changes\n", (unsigned long long)seed, w.count, w.done);
	for (size_t i = 0; i < w.count; i++) {
		free((void *)(uintptr_t)w.ids[i]);
	}
	for (size_t i = 0; i < HELD_MAX; i++) {
		json_decref(w.held[i]);
	}
	json_decref(w.ends);
}

static void walk_1(void **state)
{
	walk(*state, 88172645463325252ULL);
}

static void walk_2(void **state)
{
	walk(*state, 20261103ULL);
}

static void walk_3(void **state)
{
	walk(*state, 4242424242424242ULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, base_setup, base_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {TEST(walk_1), TEST(walk_2), TEST(walk_3)};
	return cmocka_run_group_tests_name("approval_walk", tests, NULL, NULL);
}
