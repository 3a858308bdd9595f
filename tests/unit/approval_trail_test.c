/* The trail against the approvals: what base_verify does in every other test of records, here with
 * what somebody changed. */
#include "approval_base.h"

#include <stdio.h>
#include <string.h>

#include "approvals/trail.h"
#include "base/compiler.h"

static void put_back(struct approval_base *b, const char *id)
{
	cleanup(json_decrefp) json_t *task = base_claim(b, "server-a", "run");
	assert_non_null(task);
	json_decref(base_do(b, records_put_back,
	    json_pack("{s:s, s:O, s:I, s:I, s:s}", "id", id, "fence",
		json_object_get(task, "fence"), "now_us", (json_int_t)b->now_us, "retry_us",
		(json_int_t)b->now_us, "reason", "no room")));
	assert_string_equal(b->e.text, "");
}

static const char *reject(struct approval_base *b)
{
	const char *id = base_new(b, "before");
	json_decref(base_do(b, records_decide, base_decision(b, id, "t1", NULL, false)));
	assert_string_equal(b->e.text, "");
	return id;
}

/* As somebody would who may do everything to the database. */
static void drop_guards(struct approval_base *b)
{
	bool sqlite = strcmp(db_kind(b->db), "sqlite") == 0;
	assert_true(base_sql(b, sqlite ? "DROP TRIGGER audit_update; DROP TRIGGER audit_delete;"
					 "DROP TRIGGER approval_event_update;"
					 "DROP TRIGGER approval_event_delete"
				       : "DROP TRIGGER audit_change ON audit;"
					 "DROP TRIGGER approval_event_change ON approval_event"));
}

static void assert_found(struct approval_base *b, size_t count, const char *words)
{
	assert_int_equal(base_trail_wrong(b), count);
	if (strstr(b->reason, words) == NULL) {
		fail_msg("'%s' is not in '%s'", words, b->reason);
	}
}

static void what_was_forgotten_is_not_missing(void **state)
{
	struct approval_base *b = *state;
	for (int i = 0; i < 20; i++) {
		(void)reject(b);
		(void)base_new(b, "after");
	}
	b->now_us++;
	cleanup(json_decrefp) json_t *out = base_do(b, records_forget,
	    json_pack("{s:I, s:I, s:i}", "before_us", (json_int_t)b->now_us, "now_us",
		(json_int_t)b->now_us, "limit", 15));
	assert_int_equal(json_integer_value(json_object_get(out, "removed")), 15);
	(void)base_verify(b);
	/* Who does it by hand leaves no record. */
	const char *id = reject(b);
	char sql[96];
	(void)snprintf(sql, sizeof(sql), "DELETE FROM approval WHERE id = '%s'", id);
	assert_true(base_sql(b, sql));
	assert_found(b, 1, "the approval is not there, and was not forgotten");
}

/* Longer than a page of either side. */
static void a_long_history(void **state)
{
	struct approval_base *b = *state;
	const char *id = base_new(b, "after");
	for (int i = 0; i < 80; i++) {
		b->now_us++;
		put_back(b, id);
	}
	base_run(b, id, true);
	(void)base_verify(b);
	drop_guards(b);
	/* One record less, in the middle: after it the two go on together. */
	assert_true(base_sql(b, "UPDATE audit SET subject = 'else' WHERE seq = 100"));
	assert_found(b, 2, "");
	assert_true(base_sql(b, "UPDATE audit SET subject = 'id-0000' WHERE seq = 100"));
	/* And one event less. */
	assert_true(base_sql(b, "DELETE FROM approval_event WHERE seq = 100"));
	assert_found(b, 1, "record 100 (approval.run, started): there is no event of it");
}

/* From different places on, with no end in sight, there is an end to what is told. */
static void nothing_of_it_fits(void **state)
{
	struct approval_base *b = *state;
	const char *id = base_new(b, "after");
	for (int i = 0; i < 40; i++) {
		put_back(b, id);
	}
	drop_guards(b);
	assert_true(base_sql(b, "UPDATE audit SET at_us = 1, outcome = 'x' || seq"));
	assert_found(b, 8, "and more of it in the trail");
	assert_true(base_sql(b, "DELETE FROM audit"));
	assert_found(b, 8, "and more of it in the trail");
}

/* A trail of before submissions had the hash of their settings; the rest is looked at. */
static void an_older_record(void **state)
{
	struct approval_base *b = *state;
	(void)base_new(b, "before");
	drop_guards(b);
	assert_true(base_sql(b, "UPDATE audit SET detail = substr(detail, 1, length(detail) - 100) "
				"|| ',\"tenant\":\"t1\"}'"));
	assert_int_equal(base_trail_wrong(b), 0);
	assert_true(base_sql(b, "UPDATE audit SET detail = substr(detail, 1, length(detail) - 15) "
				"|| ',\"tenant\":\"t2\"}'"));
	assert_found(b, 1, "its tenant is not that of event 1");
}

static void the_code_in_the_trail_is_that_of_its_hash(void **state)
{
	struct approval_base *b = *state;
	json_t *in = base_submission(b, "t1", "before");
	assert_int_equal(json_object_set_new(in, "audit_code", json_true()), 0);
	(void)base_submit(b, in);
	(void)base_verify(b);
	drop_guards(b);
	assert_true(base_sql(b, "UPDATE audit SET detail = replace(detail, 'print(', 'exec(')"));
	assert_found(b, 1, "its code is not that of event 1");
}

static void who_looks_again_sees_what_came_since(void **state)
{
	struct approval_base *b = *state;
	(void)reject(b);
	(void)base_verify(b);
	const char *id = base_new(b, "rules");
	base_run(b, id, false);
	(void)base_verify(b);
}

static json_int_t collect(struct approval_base *b, json_int_t collected, json_int_t upto)
{
	cleanup(json_decrefp) json_t *out = base_do(
	    b, trail_collect, json_pack("{s:I, s:I}", "collected", collected, "upto", upto));
	assert_string_equal(b->e.text, "");
	return json_integer_value(json_object_get(out, "collected"));
}

/* The end of the chain is walked after what looks ahead of it. */
static void what_was_collected_is_not_collected_again(void **state)
{
	struct approval_base *b = *state;
	for (int i = 0; i < 6; i++) {
		(void)base_new(b, "before");
	}
	assert_int_equal(trail_begin(b->db, &b->e), 0);
	json_int_t collected = collect(b, 0, 4);
	assert_int_equal(collected, 4);
	collected = collect(b, collected, 2);
	assert_int_equal(collected, 4);
	collected = collect(b, collected, 3);
	assert_int_equal(collected, 4);
	assert_int_equal(collect(b, collected, 6), 6);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, base_setup, base_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(what_was_forgotten_is_not_missing),
	    TEST(a_long_history),
	    TEST(nothing_of_it_fits),
	    TEST(an_older_record),
	    TEST(the_code_in_the_trail_is_that_of_its_hash),
	    TEST(who_looks_again_sees_what_came_since),
	    TEST(what_was_collected_is_not_collected_again),
	};
	return cmocka_run_group_tests_name("approval_trail", tests, NULL, NULL);
}
