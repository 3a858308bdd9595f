/* Approvals from submission to their end: over a real database, with sessions that the test plays.
 */
#include "approvals_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "approvals/db.h"
#include "approvals/records.h"
#include "base/clock.h"
#include "base/compiler.h"
#include "faulty_disk.h"

static int setup(void **state)
{
	struct world *w = world_new();
	w->a = world_open(w);
	*state = w;
	return 0;
}

#define until_state(w, id, state) \
	world_until((w), strcmp(world_state((w), (w)->a, (id)), (state)) == 0)

static const char *text_at(const json_t *j, const char *name)
{
	const char *text = json_string_value(json_object_get(j, name));
	return text != NULL ? text : "";
}

/* The member PATH ("approval.result.verdict") of J. Borrowed. */
static const json_t *at_path(const json_t *j, const char *path)
{
	char name[64];
	while (*path != '\0') {
		size_t len = strcspn(path, ".");
		(void)snprintf(name, sizeof(name), "%.*s", (int)len, path);
		j = json_object_get(j, name);
		path += len + (path[len] == '.');
	}
	return j;
}

static void expect_text(const json_t *j, const char *path, const char *text)
{
	const char *found = json_string_value(at_path(j, path));
	assert_non_null(found);
	assert_string_equal(found, text);
}

static void run_to_end(struct world *w, const char *code, const char *value)
{
	world_until(w, world_running(w, code) != NULL);
	world_answer(world_running(w, code), value);
}

/* --- policies ------------------------------------------------------------------------------------
 */

static void after_reviews_the_result(void **state)
{
	struct world *w = *state;
	const char *id = world_submit(w, w->a, "1+1", NULL, NULL);
	world_until(w, world_running(w, "1+1") != NULL);
	assert_string_equal(world_state(w, w->a, id), "running");
	world_answer(world_running(w, "1+1"), "2");
	until_state(w, id, "waiting");
	cleanup(json_decrefp) json_t *all = world_get(w, w->a, id);
	expect_text(all, "approval.stage", "result");
	expect_text(all, "approval.code", "1+1");
	expect_text(all, "approval.result.status", "Succeeded");
	expect_text(all, "approval.result.verdict", "succeeded");
	assert_int_equal(json_integer_value(at_path(all, "approval.result.value")), 2);
	assert_true(json_is_string(at_path(all, "approval.deadline")));
	char key[80];
	(void)snprintf(key, sizeof(key), "%s:1", id);
	expect_text(all, "approval.result.run", key);
	/* Its session went when its result had been read. */
	assert_int_equal(w->engine->pools[0].session_count, 0);
	world_decide(w, w->a, id, NULL, true);
	assert_string_equal(world_state(w, w->a, id), "approved");
	struct approvals_counts c;
	approvals_counts(w->a, &c);
	assert_int_equal(c.runs, 1);
	assert_int_equal(c.submitted, 1);
	assert_int_equal(c.decided_approved, 1);
	assert_int_equal(c.running, 0);
}

static void before_reviews_the_code(void **state)
{
	struct world *w = *state;
	const char *id = world_submit(w, w->a, "deploy()", "before", NULL);
	assert_string_equal(world_state(w, w->a, id), "waiting");
	world_turns(w, 20);
	assert_int_equal(world_running_count(w), 0);
	world_decide(w, w->a, id, NULL, true);
	run_to_end(w, "deploy()", NULL);
	until_state(w, id, "approved");
}

static void before_and_rejected_never_runs(void **state)
{
	struct world *w = *state;
	const char *id = world_submit(w, w->a, "deploy()", "before", NULL);
	world_decide(w, w->a, id, "code", false);
	world_turns(w, 100);
	assert_int_equal(world_running_count(w), 0);
	assert_string_equal(world_state(w, w->a, id), "rejected");
	assert_int_equal(world_events(w, w->a, id, "run_started"), 0);
}

static void both_reviews_twice(void **state)
{
	struct world *w = *state;
	const char *id = world_submit(w, w->a, "both()", "both", NULL);
	struct world_answer out = world_ask_decide(w, w->a, &world_bob, id, NULL, true);
	assert_int_equal(out.e.code, ERR_INVALID); /* of which stage? */
	world_decide(w, w->a, id, "code", true);
	run_to_end(w, "both()", NULL);
	until_state(w, id, "waiting");
	out = world_ask_decide(w, w->a, &world_bob, id, "code", true);
	assert_true(json_is_true(json_object_get(out.json, "again")));
	json_decref(out.json);
	assert_string_equal(world_state(w, w->a, id), "waiting");
	world_decide(w, w->a, id, "result", false);
	assert_string_equal(world_state(w, w->a, id), "rejected");
}

static void rules_run_without_review(void **state)
{
	struct world *w = *state;
	const char *id = world_submit(w, w->a, "plain()", "rules", NULL);
	run_to_end(w, "plain()", NULL);
	until_state(w, id, "approved");
	assert_int_equal(world_events(w, w->a, id, "decided"), 0);
}

/* --- decisions -----------------------------------------------------------------------------------
 */

static void a_decision_is_single_use(void **state)
{
	struct world *w = *state;
	const char *id = world_submit(w, w->a, "once()", NULL, NULL);
	struct world_answer out = world_ask_decide(w, w->a, &world_bob, id, NULL, true);
	assert_int_equal(out.e.code, ERR_CONFLICT); /* it has not run yet */
	run_to_end(w, "once()", NULL);
	until_state(w, id, "waiting");
	world_decide(w, w->a, id, NULL, true);
	out = world_ask_decide(w, w->a, &world_bob, id, NULL, true);
	assert_true(json_is_true(json_object_get(out.json, "again")));
	json_decref(out.json);
	out = world_ask_decide(w, w->a, &world_bob, id, NULL, false);
	assert_int_equal(out.e.code, ERR_CONFLICT);
	assert_int_equal(world_events(w, w->a, id, "decided"), 1);
	struct approvals_counts c;
	approvals_counts(w->a, &c);
	assert_int_equal(c.decided_approved, 1);
	assert_int_equal(c.decided_rejected, 0);
	cleanup(json_decrefp) json_t *all = world_get(w, w->a, id);
	const json_t *first = json_array_get(at_path(all, "approval.decisions"), 0);
	assert_string_equal(text_at(first, "by"), "bob");
	assert_string_equal(text_at(first, "person"), "Bob B.");
	assert_string_equal(text_at(first, "reason"), "seen");
	assert_true(json_is_string(json_object_get(first, "at")));
}

static void four_eyes(void **state)
{
	struct world *w = *state;
	struct approvals_who alice = world_alice;
	const char *id = world_submit(w, w->a, "own()", "before", NULL);
	alice.own = false;
	struct world_answer out = world_ask_decide(w, w->a, &alice, id, NULL, true);
	assert_int_equal(out.e.code, ERR_DENIED);
	assert_string_equal(world_state(w, w->a, id), "waiting");
	world_decide(w, w->a, id, NULL, true);
}

static void deadlines_come_once(void **state)
{
	struct world *w = *state;
	const char *id = world_submit(
	    w, w->a, "slow()", "before", json_pack("{s:i}", "deadline_seconds", 60));
	world_turns(w, 100);
	assert_string_equal(world_state(w, w->a, id), "waiting");
	world_pass_us(61000000);
	until_state(w, id, "expired");
	struct world_answer out = world_ask_decide(w, w->a, &world_bob, id, NULL, true);
	assert_int_equal(out.e.code, ERR_CONFLICT);
	world_turns(w, 100);
	assert_int_equal(world_events(w, w->a, id, "expired"), 1);
	assert_int_equal(world_events(w, w->a, id, "run_started"), 0);
}

static void a_short_deadline_wakes_the_server(void **state)
{
	struct world *w = *state;
	const char *id = world_submit(
	    w, w->a, "slow()", "before", json_pack("{s:f}", "deadline_seconds", 0.2));
	until_state(w, id, "expired");
}

/* --- runs ----------------------------------------------------------------------------------------
 */

static void code_that_raises_is_reviewed_all_the_same(void **state)
{
	struct world *w = *state;
	const char *id = world_submit(w, w->a, "1/0", NULL, NULL);
	world_until(w, world_running(w, "1/0") != NULL);
	engine_on_output(world_running(w, "1/0")->worker, OUTPUT_STDOUT, "a\xff\n", 3);
	const struct ipc_result r = {.status = IPC_STATUS_EXCEPTION,
	    .error_name = {"ZeroDivisionError", 17},
	    .error_value = {"division by zero", 16},
	    .traceback = {"Traceback …", strlen("Traceback …")}};
	world_answer_with(world_running(w, "1/0"), &r);
	until_state(w, id, "waiting");
	cleanup(json_decrefp) json_t *all = world_get(w, w->a, id);
	expect_text(all, "approval.result.status", "Failed");
	expect_text(all, "approval.result.verdict", "exception");
	expect_text(all, "approval.result.stdout", "a\xef\xbf\xbd\n");
	expect_text(all, "approval.result.error.name", "ZeroDivisionError");
	expect_text(all, "approval.result.error.value", "division by zero");
}

static void a_session_that_dies_is_a_result(void **state)
{
	struct world *w = *state;
	const char *id = world_submit(w, w->a, "os._exit(1)", NULL, NULL);
	world_until(w, world_running(w, "os._exit") != NULL);
	struct world_worker *at = world_running(w, "os._exit");
	at->killed = true;
	until_state(w, id, "waiting");
	cleanup(json_decrefp) json_t *all = world_get(w, w->a, id);
	expect_text(all, "approval.result.verdict", "session_killed");
}

static void a_full_pool_has_it_wait(void **state)
{
	struct world *w = *state;
	struct err e = {0};
	struct pool *p = engine_pool(w->engine, NULL);
	struct session *one = engine_session_open(p, NULL, "someone", &e);
	assert_non_null(one);
	assert_non_null(engine_session_open(p, NULL, "another", &e));
	const char *id = world_submit(w, w->a, "late()", NULL, NULL);
	world_turns(w, 300);
	assert_string_equal(world_state(w, w->a, id), "queued");
	/* Waiting is no history of its own. */
	assert_true(world_events(w, w->a, id, "run_put_back") <= 1);
	one = engine_session_find(p, NULL, "someone");
	engine_session_delete(one);
	run_to_end(w, "late()", NULL);
	until_state(w, id, "waiting");
}

/* Submits CODE to POOL as somebody of TENANT. */
static void submit_to(struct world *w, const char *tenant, const char *pool, const char *code)
{
	const struct approvals_who who = {.name = "somebody", .tenant = tenant, .own = true};
	struct world_answer out = {0};
	cleanup(json_decrefp) json_t *request = json_pack("{s:s}", "code", code);
	(void)approvals_submit(w->a, &who, pool, request, NULL, world_told, &out);
	world_until(w, out.called);
	assert_string_equal(out.e.text, "");
	json_decref(out.json);
}

static void a_full_pool_delays_no_other(void **state)
{
	struct world *w = *state;
	struct err e = {0};
	struct pool *p = engine_pool(w->engine, NULL);
	assert_non_null(engine_session_open(p, NULL, "someone", &e));
	assert_non_null(engine_session_open(p, NULL, "another", &e));
	for (unsigned i = 0; i < 40; i++) {
		submit_to(w, "red", NULL, "waits()");
	}
	submit_to(w, "blue", "other", "quick()");
	run_to_end(w, "quick()", NULL);
	assert_null(world_running(w, "waits()"));
}

/* Its workers never start: each try has it pause for longer, and nobody else. */
static void a_pool_that_pauses_delays_no_other(void **state)
{
	struct world *w = *state;
	w->no_workers = true;
	const char *id = world_submit(w, w->a, "waits()", NULL, NULL);
	world_until(w, world_events(w, w->a, id, "run_put_back") > 0);
	w->no_workers = false;
	const char *later = world_submit(w, w->a, "later()", NULL, NULL);
	submit_to(w, "blue", "other", "quick()");
	run_to_end(w, "quick()", NULL);
	/* The pause is the pool's: nothing of it was tried meanwhile. */
	assert_null(world_running(w, "later()"));
	assert_int_equal(world_events(w, w->a, later, "run_started"), 0);
	world_pass_us(60000000);
	run_to_end(w, "waits()", NULL);
	run_to_end(w, "later()", NULL);
}

/* How many run CODE. */
static unsigned running(const struct world *w, const char *code)
{
	unsigned n = 0;
	for (size_t i = 0; i < WORLD_WORKERS_MAX; i++) {
		const struct world_worker *at = &w->workers[i];
		n += at->worker != NULL && at->executing && !at->killed &&
		     strcmp(at->code, code) == 0;
	}
	return n;
}

static void a_tenant_has_half_while_others_wait(void **state)
{
	struct world *w = *state;
	engine_pool(w->engine, NULL)->config.max_sessions = 8;
	for (unsigned i = 0; i < 8; i++) {
		submit_to(w, "red", NULL, "red()");
	}
	/* Alone it has all four of the server. */
	world_until(w, world_running_count(w) == 4);
	for (unsigned i = 0; i < 3; i++) {
		submit_to(w, "blue", NULL, "blue()");
	}
	run_to_end(w, "red()", NULL);
	world_until(w, world_running(w, "blue()") != NULL);
	run_to_end(w, "red()", NULL);
	/* Red has its half: it would have been its turn. */
	world_until(w, world_running_count(w) == 4);
	assert_int_equal(running(w, "blue()"), 2);
	run_to_end(w, "blue()", NULL);
	world_until(w, world_running_count(w) == 4);
	assert_int_equal(running(w, "blue()"), 2);
	run_to_end(w, "blue()", NULL);
	run_to_end(w, "blue()", NULL);
	/* Alone again. */
	world_until(w, running(w, "red()") == 4);
	for (unsigned i = 0; i < 6; i++) {
		run_to_end(w, "red()", NULL);
	}
}

static void no_more_run_than_the_server_may(void **state)
{
	struct world *w = *state;
	world_close(w, &w->a);
	w->config.runs_max = 1;
	w->a = world_open(w);
	(void)world_submit(w, w->a, "first()", NULL, NULL);
	(void)world_submit(w, w->a, "second()", NULL, NULL);
	world_until(w, world_running_count(w) == 1);
	world_turns(w, 100);
	assert_int_equal(world_running_count(w), 1);
	assert_int_equal(approvals_running(w->a), 1);
	run_to_end(w, "first()", NULL);
	run_to_end(w, "second()", NULL);
}

static void a_worker_that_never_starts_counts_no_attempt(void **state)
{
	struct world *w = *state;
	w->no_workers = true;
	const char *id = world_submit(w, w->a, "try()", NULL, NULL);
	world_until(w, world_events(w, w->a, id, "run_put_back") > 0);
	w->no_workers = false;
	world_pass_us(60000000);
	run_to_end(w, "try()", NULL);
	until_state(w, id, "waiting");
	cleanup(json_decrefp) json_t *all = world_get(w, w->a, id);
	assert_int_equal(json_integer_value(at_path(all, "approval.attempt")), 1);
}

static void a_pool_that_is_gone_fails_it(void **state)
{
	struct world *w = *state;
	struct world_answer out = {0};
	cleanup(json_decrefp) json_t *request = json_pack("{s:s}", "code", "x()");
	w->engine->draining = true;
	(void)approvals_submit(w->a, &world_alice, "other", request, NULL, world_told, &out);
	world_until(w, out.called);
	char id[64];
	(void)snprintf(id, sizeof(id), "%s", text_at(json_object_get(out.json, "approval"), "id"));
	json_decref(out.json);
	(void)snprintf(w->engine->pools[1].config.name, 10, "renamed");
	world_pass_us(60000000);
	until_state(w, id, "failed");
	w->engine->draining = false;
}

static void cancelling_interrupts_the_run(void **state)
{
	struct world *w = *state;
	const char *id = world_submit(w, w->a, "forever()", NULL, NULL);
	world_until(w, world_running(w, "forever()") != NULL);
	struct world_answer out = world_ask_cancel(w, w->a, &world_alice, id);
	assert_string_equal(out.e.text, "");
	json_decref(out.json);
	world_until(w, world_running_count(w) == 0);
	world_until(w, approvals_running(w->a) == 0);
	assert_string_equal(world_state(w, w->a, id), "cancelled");
	assert_int_equal(world_events(w, w->a, id, "run_finished"), 0);
	world_until(w, w->engine->pools[0].session_count == 0);
}

/* What a person looked at runs in a Python that nobody has prepared. */
static void nobody_enters_the_session_of_a_run(void **state)
{
	struct world *w = *state;
	struct err e = {0};
	struct pool *p = engine_pool(w->engine, NULL);
	(void)world_submit(w, w->a, "mine()", NULL, NULL);
	world_until(w, world_running(w, "mine()") != NULL);
	char identifier[ENGINE_IDENTIFIER_MAX + 1];
	(void)snprintf(identifier, sizeof(identifier), "%s",
	    world_running(w, "mine()")->worker->session->identifier);
	assert_null(engine_session_find(p, "red", identifier));
	assert_null(engine_session_open(p, "red", identifier, &e));
	assert_int_equal(e.code, ERR_CONFLICT);
	run_to_end(w, "mine()", NULL);
}

static void every_run_has_a_fresh_session_of_its_tenant(void **state)
{
	struct world *w = *state;
	(void)world_submit(w, w->a, "first()", NULL, NULL);
	(void)world_submit(w, w->a, "second()", NULL, NULL);
	world_until(w, world_running_count(w) == 2);
	struct session *one = world_running(w, "first()")->worker->session;
	struct session *two = world_running(w, "second()")->worker->session;
	assert_ptr_not_equal(one, two);
	assert_string_equal(one->tenant, "red");
	assert_string_equal(two->tenant, "red");
}

/* --- restarts, and two servers -------------------------------------------------------------------
 */

static void an_orderly_stop_gives_runs_back(void **state)
{
	struct world *w = *state;
	const char *id = world_submit(w, w->a, "long()", NULL, NULL);
	world_until(w, world_running(w, "long()") != NULL);
	world_close(w, &w->a);
	/* The engine goes on here; its server would be gone. */
	world_running(w, "long()")->killed = true;
	world_turn(w);
	w->a = world_open(w);
	run_to_end(w, "long()", NULL);
	until_state(w, id, "waiting");
	cleanup(json_decrefp) json_t *all = world_get(w, w->a, id);
	char key[80];
	(void)snprintf(key, sizeof(key), "%s:1", id);
	expect_text(all, "approval.result.run", key);
	assert_int_equal(world_events(w, w->a, id, "run_put_back"), 1);
}

static void an_outdated_run_is_taken_over_and_changes_nothing(void **state)
{
	struct world *w = *state;
	const char *id = world_submit(w, w->a, "twice()", NULL, NULL);
	world_until(w, world_running(w, "twice()") != NULL);
	struct world_worker *old = world_running(w, "twice()");
	world_turns(w, 100); /* A has looked for more, and looks again in a second */
	/* A is held up for longer than its lease: its clock stands for both. */
	w->b = world_open(w);
	world_pass_us(11000000);
	world_until(w, world_running_count(w) == 2);
	assert_int_equal(world_events(w, w->a, id, "run_interrupted"), 1);
	/* Whichever of them looked first: A, too, may find what it has lost. */
	struct approvals_counts a, b;
	approvals_counts(w->a, &a);
	approvals_counts(w->b, &b);
	assert_int_equal(a.runs_interrupted + b.runs_interrupted, 1);
	world_answer(old, "\"old\"");
	world_turns(w, 50);
	assert_string_equal(world_state(w, w->a, id), "running");
	run_to_end(w, "twice()", "\"new\"");
	until_state(w, id, "waiting");
	cleanup(json_decrefp) json_t *all = world_get(w, w->a, id);
	expect_text(all, "approval.result.value", "new");
	char key[80];
	(void)snprintf(key, sizeof(key), "%s:2", id);
	expect_text(all, "approval.result.run", key);
}

/* As a server does whose commit was made and never answered. */
static void claim_unheard(const struct world *w, const char *owner)
{
	struct db *d = NULL;
	struct err e = {0};
	json_t *out = NULL;
	json_int_t now_us = clock_wall_us();
	json_t *in = json_pack("{s:s, s:I, s:I, s:i, s:s}", "owner", owner, "now_us", now_us,
	    "lease_us", now_us + 10000000, "limit", 1, "kind", "run");
	assert_int_equal(db_open(&d, w->url, &e), 0);
	assert_int_equal(db_begin(d, &e), 0);
	assert_int_equal(records_claim(d, in, &out, &e), 0);
	assert_int_equal(json_array_size(json_object_get(out, "tasks")), 1);
	assert_int_equal(db_commit(d, &e), 0);
	json_decref(in);
	json_decref(out);
	db_close(d);
}

/* Its lease would be renewed with the others for as long as the server has something to do. */
static void what_was_claimed_unheard_is_let_go(void **state)
{
	struct world *w = *state;
	const char *first = world_submit(w, w->a, "first()", NULL, NULL);
	(void)world_submit(w, w->a, "second()", NULL, NULL);
	world_until(w, world_running_count(w) == 2);
	cleanup(json_decrefp) json_t *all = world_get(w, w->a, first);
	const json_t *begun = json_array_get(json_object_get(all, "events"), 1);
	expect_text(begun, "kind", "run_started");
	const char *lost = world_submit(w, w->a, "lost()", NULL, NULL);
	claim_unheard(w, json_string_value(at_path(begun, "body.owner")));
	(void)world_submit(w, w->a, "more()", NULL, NULL);
	/* The end of the first is stored, and the claim after it is not known to be. */
	atomic_store(&faulty_disk.good_syncs, 1);
	atomic_store(&faulty_disk.no_syncs, 1);
	run_to_end(w, "first()", NULL);
	world_until(w, atomic_load(&faulty_disk.no_syncs) == 0);
	run_to_end(w, "more()", NULL);
	world_until(w, world_running(w, "lost()") != NULL);
	assert_int_equal(world_running_count(w), 2); /* the second one was known, and goes on */
	assert_int_equal(world_events(w, w->a, lost, "run_interrupted"), 1);
}

static void two_servers_share_the_work(void **state)
{
	struct world *w = *state;
	w->b = world_open(w);
	const char *id = world_submit(w, w->a, "shared()", NULL, NULL);
	world_until(w, world_running_count(w) >= 1);
	world_turns(w, 100);
	assert_int_equal(world_running_count(w), 1);
	run_to_end(w, "shared()", NULL);
	until_state(w, id, "waiting");
	/* What one has stored the other one decides. */
	world_decide(w, w->b, id, NULL, true);
	assert_string_equal(world_state(w, w->a, id), "approved");
}

static void draining_begins_nothing(void **state)
{
	struct world *w = *state;
	approvals_drain(w->a);
	cleanup(json_decrefp) json_t *request = json_pack("{s:s}", "code", "x()");
	struct world_answer out = {0};
	assert_null(approvals_submit(w->a, &world_alice, NULL, request, NULL, world_told, &out));
	assert_int_equal(out.e.code, ERR_UNAVAILABLE);
	w->b = world_open(w);
	approvals_drain(w->b);
	world_turns(w, 20);
	assert_int_equal(world_running_count(w), 0);
}

/* --- who sees what -------------------------------------------------------------------------------
 */

static void tenants_do_not_see_each_other(void **state)
{
	struct world *w = *state;
	const struct approvals_who mallory = {.name = "mallory", .tenant = "blue", .own = true};
	const struct approvals_who nobody = {.name = "nobody", .own = true};
	const char *id = world_submit(w, w->a, "secret()", "before", NULL);
	const struct approvals_who *const others[] = {&mallory, &nobody};
	for (size_t i = 0; i < array_len(others); i++) {
		struct world_answer out = world_ask_get(w, w->a, others[i], id);
		assert_int_equal(out.e.code, ERR_NOT_FOUND);
		out = world_ask_decide(w, w->a, others[i], id, NULL, true);
		assert_int_equal(out.e.code, ERR_NOT_FOUND);
		out = world_ask_cancel(w, w->a, others[i], id);
		assert_int_equal(out.e.code, ERR_NOT_FOUND);
		out = world_ask_list(w, w->a, others[i], NULL);
		assert_int_equal(json_array_size(json_object_get(out.json, "approvals")), 0);
		json_decref(out.json);
	}
	struct world_answer out = world_ask_get(w, w->a, &world_bob, id);
	assert_null(at_path(out.json, "approval.tenant"));
	json_decref(out.json);
	out = world_ask_list(w, w->a, &world_admin, "waiting");
	assert_int_equal(json_array_size(json_object_get(out.json, "approvals")), 1);
	json_decref(out.json);
	assert_string_equal(world_state(w, w->a, id), "waiting");
}

static void a_token_of_one_pool_sees_that_pool(void **state)
{
	struct world *w = *state;
	struct approvals_who other = world_bob;
	struct world_answer out = {0};
	other.pool = "other";
	const char *id = world_submit(w, w->a, "secret()", "before", NULL);
	out = world_ask_get(w, w->a, &other, id);
	assert_int_equal(out.e.code, ERR_NOT_FOUND);
	out = world_ask_decide(w, w->a, &other, id, NULL, true);
	assert_int_equal(out.e.code, ERR_NOT_FOUND);
	out = world_ask_list(w, w->a, &other, NULL);
	assert_int_equal(json_array_size(json_object_get(out.json, "approvals")), 0);
	json_decref(out.json);
	cleanup(json_decrefp) json_t *request = json_pack("{s:s}", "code", "x()");
	out = (struct world_answer){0};
	assert_null(approvals_submit(w->a, &other, "default", request, NULL, world_told, &out));
	assert_int_equal(out.e.code, ERR_DENIED);
	other.pool = "default";
	out = world_ask_get(w, w->a, &other, id);
	assert_non_null(out.json);
	json_decref(out.json);
	assert_string_equal(world_state(w, w->a, id), "waiting");
}

/* --- submissions ---------------------------------------------------------------------------------
 */

static void what_is_wrong_is_told(void **state)
{
	static const struct {
		const char *request, *says;
	} rows[] = {
	    {"[]", "must be an object"},
	    {"{}", "'code' is required"},
	    {"{\"code\": 1}", "'code' is required"},
	    {"{\"code\": \"\"}", "Code cannot be null or empty."},
	    {"{\"code\": \" \\n\\t\"}", "Code cannot be null or empty."},
	    {"{\"code\": \"a\\u0000b\"}", "NUL"},
	    {"{\"code\": \"x\", \"polcy\": \"after\"}", "known are code, policy, deadline_seconds"},
	    {"{\"code\": \"x\", \"c\": 1}", "'c'"},
	    {"{\"code\": \"x\", \"\": 1}", "not known"},
	    {"{\"code\": \"x\", \"policy\": \"never\"}", "allows after, before, both, rules"},
	    {"{\"code\": \"x\", \"policy\": 1}", "allows"},
	    {"{\"code\": \"x\", \"deadline_seconds\": 0}", "at most 86400"},
	    {"{\"code\": \"x\", \"deadline_seconds\": -1}", "above 0"},
	    {"{\"code\": \"x\", \"deadline_seconds\": 86401}", "at most 86400"},
	    {"{\"code\": \"x\", \"deadline_seconds\": 1e300}", "at most 86400"},
	    {"{\"code\": \"x\", \"deadline_seconds\": \"1\"}", "number of seconds"},
	    {"{\"code\": \"x\", \"timeout_seconds\": 31}", "at most 30"},
	    {"{\"code\": \"x\", \"callback\": \"https://hooks.example.com/in\"}",
		"'callback' must"},
	    {"{\"code\": \"x\", \"callback\": {}}", "'callback' must"},
	    {"{\"code\": \"x\", \"callback\": {\"url\": \"http://10.0.0.1/\"}}", "may call"},
	    {"{\"code\": \"x\", \"callback\": {\"url\": \"https://hooks.example.com/in/../x\"}}",
		"'..'"},
	    {"{\"code\": \"x\", \"callback\": {\"url\": \"https://hooks.example.com/in\\u0000\"}}",
		"'callback' must"},
	    {"{\"code\": \"x\", \"callback\": {\"url\": \"https://hooks.example.com/in\", \"a\": "
	     "1}}",
		"known are url"},
	    {"{\"code\": \"x\", \"promote\": []}", "'promote' must"},
	    {"{\"code\": \"x\", \"promote\": {}}", "'promote.files' must"},
	    {"{\"code\": \"x\", \"promote\": {\"files\": []}}", "'promote.files' must"},
	    {"{\"code\": \"x\", \"promote\": {\"files\": [1]}}", "'promote.files' must"},
	    {"{\"code\": \"x\", \"promote\": {\"files\": [\"../a\"]}}", "'..'"},
	    {"{\"code\": \"x\", \"promote\": {\"files\": [\"/etc/passwd\"]}}", "relative"},
	    {"{\"code\": \"x\", \"promote\": {\"files\": [\"a\"], \"to\": \"b\"}}",
		"known are files, prefix"},
	    {"{\"code\": \"x\", \"promote\": {\"files\": [\"a\"], \"prefix\": \"../b\"}}",
		"'promote.prefix' must"},
	    {"{\"code\": \"x\", \"promote\": {\"files\": [\"a\"], \"prefix\": \"/b\"}}",
		"'promote.prefix' must"},
	};
	struct world *w = *state;
	for (size_t i = 0; i < array_len(rows); i++) {
		json_t *request = json_loads(rows[i].request, JSON_ALLOW_NUL, NULL);
		assert_non_null(request);
		struct world_answer out = world_ask_submit(w, w->a, &world_alice, request, NULL);
		if (out.e.code != ERR_INVALID || strstr(out.e.text, rows[i].says) == NULL) {
			fail_msg("%s: %s", rows[i].request, out.e.text);
		}
	}
	struct world_answer out = world_ask_list(w, w->a, &world_admin, NULL);
	assert_int_equal(json_array_size(json_object_get(out.json, "approvals")), 0);
	json_decref(out.json);
}

static void a_pool_allows_some_policies(void **state)
{
	struct world *w = *state;
	w->pools[0].policies[APPROVAL_RULES] = false;
	w->pools[0].policies[APPROVAL_AFTER] = false;
	w->pools[0].policy = APPROVAL_BEFORE;
	struct world_answer out = world_ask_submit(
	    w, w->a, &world_alice, json_pack("{s:s, s:s}", "code", "x", "policy", "rules"), NULL);
	assert_string_equal(out.e.text, "'policy' is 'rules'; this pool allows before, both");
	const char *id = world_submit(w, w->a, "x", NULL, NULL);
	assert_string_equal(world_state(w, w->a, id), "waiting");
}

static void code_is_bounded(void **state)
{
	struct world *w = *state;
	char *code = malloc(APPROVALS_CODE_MAX_BYTES + 1);
	memset(code, 'a', APPROVALS_CODE_MAX_BYTES + 1);
	struct world_answer out = world_ask_submit(w, w->a, &world_alice,
	    json_pack("{s:o}", "code", json_stringn(code, APPROVALS_CODE_MAX_BYTES + 1)), NULL);
	assert_int_equal(out.e.code, ERR_TOO_LARGE);
	free(code);
}

static void a_key_makes_one_approval(void **state)
{
	struct world *w = *state;
	char id[64];
	struct world_answer out = world_ask_submit(
	    w, w->a, &world_alice, json_pack("{s:s, s:s}", "code", "x", "policy", "before"), "k1");
	assert_true(json_is_true(json_object_get(out.json, "created")));
	(void)snprintf(id, sizeof(id), "%s", text_at(json_object_get(out.json, "approval"), "id"));
	json_decref(out.json);
	/* The order of members is no difference. */
	out = world_ask_submit(
	    w, w->a, &world_alice, json_pack("{s:s, s:s}", "policy", "before", "code", "x"), "k1");
	assert_true(json_is_false(json_object_get(out.json, "created")));
	expect_text(out.json, "approval.id", id);
	json_decref(out.json);
	out = world_ask_submit(
	    w, w->a, &world_alice, json_pack("{s:s, s:s}", "code", "y", "policy", "before"), "k1");
	assert_int_equal(out.e.code, ERR_CONFLICT);
	out = world_ask_submit(w, w->a, &world_alice, json_pack("{s:s}", "code", "y"), "a b");
	assert_int_equal(out.e.code, ERR_INVALID);
	struct approvals_counts c;
	approvals_counts(w->a, &c);
	assert_int_equal(c.submitted, 1);
}

static void a_tenant_has_so_many_open(void **state)
{
	struct world *w = *state;
	world_close(w, &w->a);
	w->config.open_max = 1;
	w->a = world_open(w);
	const char *id = world_submit(w, w->a, "x", "before", NULL);
	struct world_answer out = world_ask_submit(
	    w, w->a, &world_alice, json_pack("{s:s}", "code", "x"), NULL);
	assert_int_equal(out.e.code, ERR_BUSY);
	world_decide(w, w->a, id, NULL, false);
	(void)world_submit(w, w->a, "x", "before", NULL);
}

/* --- being told, and giving up -------------------------------------------------------------------
 */

static void on_watched(void *ctx)
{
	++*(unsigned *)ctx;
}

static void watches_tell_of_one_approval(void **state)
{
	struct world *w = *state;
	unsigned mine = 0;
	unsigned others = 0;
	const char *id = world_submit(w, w->a, "x", "before", NULL);
	const char *other = world_submit(w, w->a, "x", "before", NULL);
	world_turns(w, 5);
	struct approvals_watch one = {.changed = on_watched, .ctx = &mine};
	struct approvals_watch two = {.changed = on_watched, .ctx = &others};
	(void)snprintf(one.id, sizeof(one.id), "%s", id);
	(void)snprintf(two.id, sizeof(two.id), "%s", other);
	approvals_watch(w->a, &one);
	approvals_watch(w->a, &two);
	world_decide(w, w->a, id, NULL, false);
	world_until(w, mine > 0);
	assert_int_equal(others, 0);
	approvals_unwatch(w->a, &one);
	approvals_unwatch(w->a, &two);
}

static void a_call_can_be_given_up(void **state)
{
	struct world *w = *state;
	struct world_answer out = {0};
	struct approvals_call *c = approvals_list(
	    w->a, &world_admin, NULL, NULL, NULL, 10, world_told, &out);
	assert_non_null(c);
	approvals_cancel_call(c);
	approvals_cancel_call(NULL);
	world_turns(w, 20);
	assert_false(out.called);
}

static void old_ones_are_forgotten(void **state)
{
	struct world *w = *state;
	const char *id = world_submit(w, w->a, "x", "before", NULL);
	const char *open = world_submit(w, w->a, "x", "before", NULL);
	world_decide(w, w->a, id, NULL, false);
	world_pass_us(2 * 86400000000LL);
	world_until(w, *world_state(w, w->a, id) == '\0');
	assert_string_equal(world_state(w, w->a, open), "expired");
}

#define WITH_WORLD(test) cmocka_unit_test_setup_teardown(test, setup, world_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    WITH_WORLD(after_reviews_the_result),
	    WITH_WORLD(before_reviews_the_code),
	    WITH_WORLD(before_and_rejected_never_runs),
	    WITH_WORLD(both_reviews_twice),
	    WITH_WORLD(rules_run_without_review),
	    WITH_WORLD(a_decision_is_single_use),
	    WITH_WORLD(four_eyes),
	    WITH_WORLD(deadlines_come_once),
	    WITH_WORLD(a_short_deadline_wakes_the_server),
	    WITH_WORLD(code_that_raises_is_reviewed_all_the_same),
	    WITH_WORLD(a_session_that_dies_is_a_result),
	    WITH_WORLD(a_full_pool_has_it_wait),
	    WITH_WORLD(a_full_pool_delays_no_other),
	    WITH_WORLD(a_pool_that_pauses_delays_no_other),
	    WITH_WORLD(a_tenant_has_half_while_others_wait),
	    WITH_WORLD(no_more_run_than_the_server_may),
	    WITH_WORLD(a_worker_that_never_starts_counts_no_attempt),
	    WITH_WORLD(a_pool_that_is_gone_fails_it),
	    WITH_WORLD(cancelling_interrupts_the_run),
	    WITH_WORLD(nobody_enters_the_session_of_a_run),
	    WITH_WORLD(every_run_has_a_fresh_session_of_its_tenant),
	    WITH_WORLD(an_orderly_stop_gives_runs_back),
	    WITH_WORLD(an_outdated_run_is_taken_over_and_changes_nothing),
	    WITH_WORLD(what_was_claimed_unheard_is_let_go),
	    WITH_WORLD(two_servers_share_the_work),
	    WITH_WORLD(draining_begins_nothing),
	    WITH_WORLD(tenants_do_not_see_each_other),
	    WITH_WORLD(a_token_of_one_pool_sees_that_pool),
	    WITH_WORLD(what_is_wrong_is_told),
	    WITH_WORLD(a_pool_allows_some_policies),
	    WITH_WORLD(code_is_bounded),
	    WITH_WORLD(a_key_makes_one_approval),
	    WITH_WORLD(a_tenant_has_so_many_open),
	    WITH_WORLD(watches_tell_of_one_approval),
	    WITH_WORLD(a_call_can_be_given_up),
	    WITH_WORLD(old_ones_are_forgotten),
	};
	faulty_disk_install();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
