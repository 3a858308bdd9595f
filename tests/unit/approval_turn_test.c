/* Whose task is claimed next: every tenant's in turn, however many another has queued. */
#include "approval_base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "approvals/records_turn.h"
#include "base/compiler.h"

/* A server's claims of runs, one after the other. */
struct claims {
	struct approval_base *b;
	const char *kind;
	int share;
	json_t *places; /* the test's */
	json_t *turns;
	json_t *tasks; /* of the last claim */
};

static void claims_fini(struct claims *c)
{
	json_decref(c->turns);
	json_decref(c->tasks);
	json_decref(c->places);
}

/* The tenants of what is claimed, with a space after each. Valid until the next call. */
static const char *claim(struct claims *c, int limit)
{
	static char text[512];
	size_t i, len = 0;
	const json_t *task;
	cleanup(json_decrefp) json_t *out = base_do(c->b, records_claim,
	    json_pack("{s:s, s:I, s:I, s:i, s:s, s:i, s:O*, s:O*}", "owner", "server-a", "now_us",
		(json_int_t)c->b->now_us, "lease_us", (json_int_t)(c->b->now_us + BASE_LEASE_US),
		"limit", limit, "kind", c->kind != NULL ? c->kind : "run", "share", c->share,
		"places", c->places, "turns", c->turns));
	assert_string_equal(c->b->e.text, "");
	json_decref(c->turns);
	c->turns = json_incref(json_object_get(out, "turns"));
	assert_non_null(c->turns);
	json_decref(c->tasks);
	c->tasks = json_incref(json_object_get(out, "tasks"));
	text[0] = '\0';
	json_array_foreach(c->tasks, i, task)
	{
		const json_t *approval = json_object_get(task, "approval");
		len += (size_t)snprintf(text + len, sizeof(text) - len, "%s ",
		    json_string_value(json_object_get(approval, "tenant")));
		assert_true(len < sizeof(text));
	}
	return text;
}

/* COUNT runs of TENANT's, each a little younger than the one before. */
static const char *queue_in(
    struct approval_base *b, const char *pool, const char *tenant, unsigned count)
{
	const char *id = NULL;
	for (unsigned i = 0; i < count; i++) {
		json_t *in = base_submission(b, tenant, "after");
		(void)json_object_set_new(in, "pool", json_string(pool));
		id = base_submit(b, in);
		b->now_us++;
	}
	return id;
}

static const char *queue(struct approval_base *b, const char *tenant, unsigned count)
{
	return queue_in(b, "default", tenant, count);
}

/* Many more, like the one that TENANT has. SHIFT: SQL, added to the time they are due and to the
 * tenant's name; N is their number. */
static void copy(struct approval_base *b, const char *tenant, unsigned count, const char *as_tenant,
    const char *due)
{
	char sql[2048];
	(void)snprintf(sql, sizeof(sql),
	    "CREATE TABLE copied (n BIGINT);"
	    "WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number "
	    "WHERE n < %u) INSERT INTO copied SELECT n FROM number;"
	    "INSERT INTO approval (id, kind, tenant, pool, policy, state, stage, submitter, "
	    "created_us, changed_us, attempt, settings, decisions, version) "
	    "SELECT a.id || '-' || n, kind, %s, pool, policy, state, stage, submitter, "
	    "created_us, changed_us, attempt, settings, decisions, version "
	    "FROM approval a, copied WHERE tenant = '%s';"
	    "INSERT INTO approval_task (approval, kind, wake_us, fence, attempt, tenant, pool) "
	    "SELECT approval || '-' || n, kind, wake_us + %s, 0, 0, %s, pool "
	    "FROM approval_task t, copied WHERE tenant = '%s';"
	    "DROP TABLE copied;",
	    count, as_tenant, tenant, due, as_tenant, tenant);
	if (!base_sql(b, sql)) {
		fail_msg("%s", b->e.text);
	}
}

/* --- tenants --- */

static void tenants_take_turns(void **state)
{
	cleanup(claims_fini) struct claims c = {.b = *state};
	(void)queue(c.b, "t1", 6);
	(void)queue(c.b, "t2", 1);
	(void)queue(c.b, "t3", 2);
	assert_string_equal(claim(&c, 16), "t1 t2 t3 t1 t3 t1 t1 t1 t1 ");
	assert_string_equal(claim(&c, 16), "");
	(void)base_verify(c.b);
}

static void the_next_claim_goes_on_where_the_last_stopped(void **state)
{
	static const char *const expected[] = {"t1 ", "t2 ", "t3 ", "t1 ", "t2 ", "t1 ", "t2 ", ""};
	cleanup(claims_fini) struct claims c = {.b = *state};
	(void)queue(c.b, "t1", 3);
	(void)queue(c.b, "t2", 3);
	(void)queue(c.b, "t3", 1);
	for (size_t i = 0; i < array_len(expected); i++) {
		assert_string_equal(claim(&c, 1), expected[i]);
	}
}

static void each_has_its_oldest_first(void **state)
{
	cleanup(claims_fini) struct claims c = {.b = *state};
	const char *first = queue(c.b, "t1", 1);
	const char *second = queue(c.b, "t1", 1);
	assert_string_equal(claim(&c, 1), "t1 ");
	assert_string_equal(base_state(c.b, first), "running");
	assert_string_equal(base_state(c.b, second), "queued");
}

static void ten_thousand_of_one_delay_another_by_one(void **state)
{
	cleanup(claims_fini) struct claims c = {.b = *state};
	(void)queue(c.b, "aaa", 1);
	copy(c.b, "aaa", 10000, "tenant", "n");
	assert_string_equal(claim(&c, 2), "aaa aaa ");
	c.b->now_us += 60 * BASE_SECOND_US;
	(void)queue(c.b, "zzz", 1);
	assert_string_equal(claim(&c, 2), "zzz aaa ");
	(void)queue(c.b, "mmm", 2);
	assert_string_equal(claim(&c, 3), "mmm aaa mmm ");
}

/* Names whose order depends on who is asked: nobody is left out, or has two turns. */
static void any_name_has_its_turn(void **state)
{
	static const char *const names[] = {"", "\x01", "A", "a", "a\x01", "a b", "a-b", "ab", "aB",
	    "\xc3\xa4", "b", "\xf0\x9f\x98\x80"};
	cleanup(claims_fini) struct claims c = {.b = *state};
	bool seen[array_len(names)] = {0};
	for (size_t i = 0; i < array_len(names); i++) {
		(void)queue(c.b, names[i], 2);
	}
	for (size_t i = 0; i < array_len(names); i++) {
		size_t at = 0;
		char expected[16];
		const char *got = claim(&c, 1);
		do {
			assert_true(at < array_len(names));
			(void)snprintf(expected, sizeof(expected), "%s ", names[at++]);
		} while (strcmp(expected, got) != 0);
		assert_false(seen[at - 1]);
		seen[at - 1] = true;
	}
}

/* Those who have nothing due are stepped over, some hundreds at a time. */
static void who_stands_behind_many_that_wait_is_found(void **state)
{
	cleanup(claims_fini) struct claims c = {.b = *state};
	(void)queue(c.b, "a", 1);
	assert_string_equal(claim(&c, 1), "a ");
	copy(c.b, "a", 2 * TURN_LOOKS_MAX, "'b' || n", "999999999");
	(void)queue(c.b, "z", 1);
	unsigned claims = 1;
	while (strcmp(claim(&c, 4), "z ") != 0) {
		assert_true(claims++ < 4);
	}
	assert_true(claims > 1);
}

/* --- pools --- */

static void a_full_pool_has_only_its_own_wait(void **state)
{
	cleanup(claims_fini) struct claims c = {.b = *state};
	(void)queue_in(c.b, "default", "t1", 5);
	(void)queue_in(c.b, "other", "t1", 1);
	(void)queue_in(c.b, "other", "t2", 3);
	c.places = json_pack("{s:i, s:i}", "default", 0, "other", 3);
	assert_string_equal(claim(&c, 16), "t1 t2 t2 ");
	/* Of a pool that this server does not have, any: it says so. */
	(void)queue_in(c.b, "gone", "t9", 1);
	(void)json_object_set_new(c.places, "other", json_integer(0));
	assert_string_equal(claim(&c, 16), "t9 ");
	(void)json_object_set_new(c.places, "default", json_integer(2));
	assert_string_equal(claim(&c, 16), "t1 t1 ");
}

/* What is claimed for another pool in between is nobody's turn in this one. */
static void turns_are_kept_by_pool(void **state)
{
	cleanup(claims_fini) struct claims c = {.b = *state};
	(void)queue_in(c.b, "x", "a", 3);
	(void)queue_in(c.b, "x", "b", 3);
	(void)queue_in(c.b, "y", "c", 3);
	c.places = json_object();
	for (unsigned i = 0; i < 3; i++) {
		(void)json_object_set_new(c.places, "x", json_integer(1));
		(void)json_object_set_new(c.places, "y", json_integer(0));
		assert_string_equal(claim(&c, 1), i % 2 == 0 ? "a " : "b ");
		(void)json_object_set_new(c.places, "x", json_integer(0));
		(void)json_object_set_new(c.places, "y", json_integer(1));
		assert_string_equal(claim(&c, 1), "c ");
	}
}

static void pools_take_turns_too(void **state)
{
	cleanup(claims_fini) struct claims c = {.b = *state};
	(void)queue_in(c.b, "x", "a", 5);
	(void)queue_in(c.b, "y", "b", 2);
	assert_string_equal(claim(&c, 1), "a ");
	assert_string_equal(claim(&c, 1), "b ");
	assert_string_equal(claim(&c, 4), "a b a a ");
}

/* --- shares --- */

static void who_has_its_share_waits_for_the_others(void **state)
{
	cleanup(claims_fini) struct claims c = {.b = *state, .share = 2};
	(void)queue(c.b, "t1", 7);
	(void)queue(c.b, "t2", 1);
	/* Nobody else has anything: the rest may be had. */
	assert_string_equal(claim(&c, 4), "t1 t2 t1 t1 ");
	(void)queue(c.b, "t2", 1);
	(void)queue(c.b, "t3", 1);
	assert_string_equal(claim(&c, 2), "t2 t3 ");
	assert_string_equal(claim(&c, 1), "t1 ");
	/* Another's that are in a pool without places could not begin anyway. */
	(void)queue_in(c.b, "full", "t3", 1);
	c.places = json_pack("{s:i}", "full", 0);
	assert_string_equal(claim(&c, 2), "t1 t1 ");
}

static void a_share_is_of_what_is_held_now(void **state)
{
	cleanup(claims_fini) struct claims c = {.b = *state, .share = 1};
	(void)queue(c.b, "t1", 2);
	assert_string_equal(claim(&c, 1), "t1 ");
	(void)queue(c.b, "t2", 2);
	const json_t *task = json_array_get(c.tasks, 0);
	const char *id = json_string_value(
	    json_object_get(json_object_get(task, "approval"), "id"));
	json_decref(base_do(c.b, records_finish_run, base_finish(c.b, id, task, true, "")));
	assert_string_equal(claim(&c, 2), "t2 t1 ");
}

static void callbacks_are_shared_too(void **state)
{
	cleanup(claims_fini) struct claims c = {.b = *state, .kind = "callback", .share = 2};
	for (unsigned i = 0; i < 6; i++) {
		json_t *in = base_submission(c.b, i < 4 ? "slow" : "tidy", "before");
		(void)json_object_set_new(in, "pool", json_string(i % 2 ? "x" : "y"));
		(void)json_object_set_new(json_object_get(in, "settings"), "callback",
		    json_pack("{s:s}", "url", "https://example.org/"));
		const char *id = base_submit(c.b, in);
		json_decref(
		    base_do(c.b, records_decide, base_decision(c.b, id, NULL, NULL, false)));
	}
	assert_string_equal(claim(&c, 3), "slow tidy slow ");
	assert_string_equal(claim(&c, 1), "tidy ");
	assert_string_equal(claim(&c, 9), "slow slow ");
}

/* --- the tables --- */

/* As version 1 left them. */
static void go_back_to_version_1(struct approval_base *b)
{
	if (!base_sql(b, "DROP INDEX approval_task_turn; DROP INDEX approval_task_owned;"
			 "ALTER TABLE approval_task DROP COLUMN tenant;"
			 "ALTER TABLE approval_task DROP COLUMN pool;"
			 "CREATE INDEX approval_task_owned ON approval_task (owner) "
			 "WHERE owner IS NOT NULL;"
			 "DELETE FROM approval_schema WHERE version > 1")) {
		fail_msg("%s", b->e.text);
	}
}

static void tasks_of_version_1_have_their_tenant_and_pool(void **state)
{
	cleanup(claims_fini) struct claims c = {.b = *state};
	struct approval_base *b = c.b;
	int64_t version = 0;
	(void)queue_in(b, "x", "t1", 3);
	(void)queue_in(b, "y", "t2", 1);
	const char *waits = base_new(b, "before");
	go_back_to_version_1(b);
	assert_int_equal(records_check_version(b->db, &b->e), -1);
	/* Its statements are still known to the connection. */
	db_close(b->db);
	b->db = base_open(b);
	b->e = (struct err){0};
	(void)records_migrate(b->db, &b->e);
	assert_string_equal(b->e.text, "");
	assert_int_equal(records_version(b->db, &version, &b->e), 0);
	assert_int_equal(version, 2);
	assert_int_equal(records_check_version(b->db, &b->e), 0);
	/* A server of version 1 that still runs adds one. */
	const char *old = queue_in(b, "x", "t3", 1);
	char sql[200];
	(void)snprintf(sql, sizeof(sql),
	    "DELETE FROM approval_task WHERE approval = '%s'; INSERT INTO approval_task "
	    "(approval, kind, wake_us, fence, attempt) VALUES ('%s', 'run', 1, 0, 0)",
	    old, old);
	assert_true(base_sql(b, sql));
	c.places = json_pack("{s:i}", "x", 2);
	assert_string_equal(claim(&c, 16), "t3 t1 t2 t1 ");
	json_decref(base_do(b, records_decide, base_decision(b, waits, NULL, NULL, true)));
	(void)base_verify(b);
}

static void what_nobody_claims_is_refused(void **state)
{
	static const char *const wrong[] = {"expire", "call", "", "runs"};
	struct approval_base *b = *state;
	for (size_t i = 0; i < array_len(wrong); i++) {
		base_refuses(b, records_claim,
		    json_pack("{s:s, s:i, s:i, s:i, s:s}", "owner", "a", "now_us", 1, "lease_us", 2,
			"limit", 1, "kind", wrong[i]),
		    ERR_INTERNAL);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, base_setup, base_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(tenants_take_turns),
	    TEST(the_next_claim_goes_on_where_the_last_stopped),
	    TEST(each_has_its_oldest_first),
	    TEST(ten_thousand_of_one_delay_another_by_one),
	    TEST(any_name_has_its_turn),
	    TEST(who_stands_behind_many_that_wait_is_found),
	    TEST(a_full_pool_has_only_its_own_wait),
	    TEST(turns_are_kept_by_pool),
	    TEST(pools_take_turns_too),
	    TEST(who_has_its_share_waits_for_the_others),
	    TEST(a_share_is_of_what_is_held_now),
	    TEST(callbacks_are_shared_too),
	    TEST(tasks_of_version_1_have_their_tenant_and_pool),
	    TEST(what_nobody_claims_is_refused),
	};
	return cmocka_run_group_tests_name("approval_turn", tests, NULL, NULL);
}
