/* The audit trail: a chain that shows when it was touched. */
#include "approval_base.h"

#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"
#include "base/text.h"

#define ZEROS "0000000000000000000000000000000000000000000000000000000000000000"

static void append(struct approval_base *b, const char *subject)
{
	json_decref(base_do(b, audit_append,
	    json_pack("{s:I, s:s, s:s, s:s, s:s, s:{s:s, s:i, s:f}}", "at_us",
		(json_int_t)b->now_us, "actor", "alice", "action", "skills.delete", "subject",
		subject, "outcome", "ok", "detail", "z", "h\xc3\xa9/\"", "a", 1, "m", 0.1)));
	assert_string_equal(b->e.text, "");
}

/* Walks the trail as somebody who keeps nothing of it. The number of the first record that is
 * wrong, 0 when none is; *HEAD_FITS: whether the head is the last record. */
static int64_t first_wrong(struct approval_base *b, bool *head_fits)
{
	int64_t seq = 0;
	char hash[AUDIT_HASH_BYTES] = ZEROS;
	struct err e = {0};
	size_t i;
	const json_t *record;
	cleanup(json_decrefp)
	    json_t *out = base_do(b, audit_read, json_pack("{s:i, s:i}", "after", 0, "limit", 100));
	json_array_foreach(json_object_get(out, "records"), i, record)
	{
		if (audit_check(record, &seq, hash, &e) < 0) {
			assert_int_equal(e.code, ERR_INVALID);
			return json_integer_value(json_object_get(record, "seq"));
		}
	}
	cleanup(json_decrefp) json_t *head = base_do(b, audit_head, json_object());
	*head_fits = json_integer_value(json_object_get(head, "seq")) == seq &&
		     strcmp(json_string_value(json_object_get(head, "hash")), hash) == 0;
	return 0;
}

static void an_empty_trail_has_a_head(void **state)
{
	struct approval_base *b = *state;
	cleanup(json_decrefp) json_t *head = base_do(b, audit_head, json_object());
	assert_int_equal(json_integer_value(json_object_get(head, "seq")), 0);
	assert_string_equal(json_string_value(json_object_get(head, "hash")), ZEROS);
	assert_int_equal(base_verify(b), 0);
}

static void the_hash_is_what_the_page_says(void **state)
{
	struct approval_base *b = *state;
	append(b, "greet");
	cleanup(json_decrefp)
	    json_t *out = base_do(b, audit_read, json_pack("{s:i, s:i}", "after", 0, "limit", 10));
	const json_t *record = json_array_get(json_object_get(out, "records"), 0);
	assert_string_equal(json_string_value(json_object_get(record, "previous")), ZEROS);
	/* By sha256sum of the text that audit.h describes, written by hand. */
	assert_string_equal(json_string_value(json_object_get(record, "hash")),
	    "a60adc5c13ba3908f70ca7bf0672aa36fac6c1ef8bbc90b19afd253a4d966db1");
}

static void records_follow_each_other(void **state)
{
	struct approval_base *b = *state;
	for (int i = 0; i < 25; i++) {
		append(b, "greet");
	}
	assert_int_equal(base_verify(b), 25);
	cleanup(json_decrefp)
	    json_t *out = base_do(b, audit_read, json_pack("{s:i, s:i}", "after", 20, "limit", 3));
	const json_t *records = json_object_get(out, "records");
	assert_int_equal(json_array_size(records), 3);
	assert_int_equal(
	    json_integer_value(json_object_get(json_array_get(records, 0), "seq")), 21);
}

/* Whatever a name or a path holds, it is hashed as it is read again. */
static void odd_characters_change_nothing(void **state)
{
	static const char *const odd[] = {"", "\"", "\\", "a\nb\t\r\b\f", "\x01\x1f\x7f", "/", "</",
	    "h\xc3\xa9 \xe2\x80\xa8 \xf0\x9f\x98\x80", "{\"action\":1}", "%s%n"};
	struct approval_base *b = *state;
	for (size_t i = 0; i < array_len(odd); i++) {
		json_decref(base_do(b, audit_append,
		    json_pack("{s:I, s:s, s:s, s:s, s:s}", "at_us", (json_int_t)-1, "actor", odd[i],
			"action", odd[i], "subject", odd[i], "outcome", odd[i])));
		assert_string_equal(b->e.text, "");
	}
	assert_int_equal(base_verify(b), (int)array_len(odd));
}

/* As somebody would who may do everything to the database. */
static void drop_guards(struct approval_base *b)
{
	bool sqlite = strcmp(db_kind(b->db), "sqlite") == 0;
	assert_true(base_sql(b, sqlite ? "DROP TRIGGER audit_update; DROP TRIGGER audit_delete"
				       : "DROP TRIGGER audit_change ON audit"));
}

static void what_was_touched_is_found(void **state)
{
	struct approval_base *b = *state;
	bool head_fits = false;
	for (int i = 0; i < 6; i++) {
		append(b, "greet");
	}
	drop_guards(b);
	static const struct {
		const char *change, *back;
	} changes[] = {
	    {"UPDATE audit SET actor = 'mallory' WHERE seq = 3",
		"UPDATE audit SET actor = 'alice' WHERE seq = 3"},
	    {"UPDATE audit SET at_us = at_us + 1 WHERE seq = 3",
		"UPDATE audit SET at_us = at_us - 1 WHERE seq = 3"},
	    {"UPDATE audit SET outcome = 'denied' WHERE seq = 3",
		"UPDATE audit SET outcome = 'ok' WHERE seq = 3"},
	    {"UPDATE audit SET detail = '{\"a\":2,\"m\":0.1,\"z\":\"\"}' WHERE seq = 3",
		"UPDATE audit SET detail = (SELECT detail FROM audit WHERE seq = 2) WHERE seq = 3"},
	    {"UPDATE audit SET detail = '{' WHERE seq = 3",
		"UPDATE audit SET detail = (SELECT detail FROM audit WHERE seq = 2) WHERE seq = 3"},
	    {"UPDATE audit SET detail = ' ' || detail WHERE seq = 3",
		"UPDATE audit SET detail = (SELECT detail FROM audit WHERE seq = 2) WHERE seq = 3"},
	    {"UPDATE audit SET subject = 'a', hash = previous WHERE seq = 3", NULL},
	};
	for (size_t i = 0; i < array_len(changes); i++) {
		assert_int_equal(first_wrong(b, &head_fits), 0);
		assert_true(head_fits);
		assert_true(base_sql(b, changes[i].change));
		assert_int_equal(first_wrong(b, &head_fits), 3);
		if (changes[i].back != NULL) {
			assert_true(base_sql(b, changes[i].back));
		}
	}
}

static void what_was_taken_out_is_found(void **state)
{
	struct approval_base *b = *state;
	bool head_fits = false;
	for (int i = 0; i < 6; i++) {
		append(b, "greet");
	}
	drop_guards(b);
	assert_true(base_sql(b, "DELETE FROM audit WHERE seq = 3"));
	assert_int_equal(first_wrong(b, &head_fits), 4);
	/* Those after it moved up. */
	assert_true(base_sql(b, "UPDATE audit SET seq = 3 WHERE seq = 4"));
	assert_int_equal(first_wrong(b, &head_fits), 3);
}

static void what_was_put_in_is_found(void **state)
{
	struct approval_base *b = *state;
	bool head_fits = false;
	append(b, "greet");
	append(b, "greet");
	/* The guards let anybody add; the chain does not. */
	assert_true(base_sql(b,
	    "INSERT INTO audit (seq, at_us, actor, action, subject, outcome, detail, previous, "
	    "hash) SELECT 3, at_us, 'bob', action, subject, outcome, detail, hash, previous "
	    "FROM audit WHERE seq = 2"));
	assert_int_equal(first_wrong(b, &head_fits), 3);
}

static void what_was_cut_off_is_found_by_the_head(void **state)
{
	struct approval_base *b = *state;
	bool head_fits = true;
	for (int i = 0; i < 6; i++) {
		append(b, "greet");
	}
	drop_guards(b);
	assert_true(base_sql(b, "DELETE FROM audit WHERE seq > 4"));
	assert_int_equal(first_wrong(b, &head_fits), 0);
	assert_false(head_fits);
}

/* --- what is in it --- */

static json_t *trail(struct approval_base *b)
{
	cleanup(json_decrefp)
	    json_t *out = base_do(b, audit_read, json_pack("{s:i, s:i}", "after", 0, "limit", 100));
	return json_incref(json_object_get(out, "records"));
}

static void a_decision_and_a_run_leave_their_records(void **state)
{
	struct approval_base *b = *state;
	static const char *const wanted[][3] = {
	    {"alice", "approval.submit", "waiting"},
	    {"bob", "approval.decide", "approved"},
	    {"server", "approval.run", "started"},
	    {"server", "approval.finish", "waiting"},
	    {"bob", "approval.decide", "rejected"},
	};
	const char *id = base_new(b, "both");
	json_decref(base_do(b, records_decide, base_decision(b, id, "t1", "code", true)));
	base_run(b, id, true);
	json_decref(base_do(b, records_decide, base_decision(b, id, "t1", "result", false)));
	cleanup(json_decrefp) json_t *records = trail(b);
	assert_int_equal(json_array_size(records), array_len(wanted));
	for (size_t i = 0; i < array_len(wanted); i++) {
		const json_t *r = json_array_get(records, i);
		assert_string_equal(json_string_value(json_object_get(r, "actor")), wanted[i][0]);
		assert_string_equal(json_string_value(json_object_get(r, "action")), wanted[i][1]);
		assert_string_equal(json_string_value(json_object_get(r, "outcome")), wanted[i][2]);
		assert_string_equal(json_string_value(json_object_get(r, "subject")), id);
	}
	const json_t *decided = json_object_get(json_array_get(records, 4), "detail");
	assert_string_equal(json_string_value(json_object_get(decided, "person")), "Bob B.");
	assert_true(text_is_hex(
	    json_string_value(json_object_get(decided, "code_sha256")), AUDIT_HASH_BYTES - 1));
	assert_true(text_is_hex(
	    json_string_value(json_object_get(decided, "result_sha256")), AUDIT_HASH_BYTES - 1));
}

static void the_code_is_there_when_it_is_asked_for(void **state)
{
	struct approval_base *b = *state;
	(void)base_new(b, "before");
	json_t *in = base_submission(b, "t1", "before");
	assert_int_equal(json_object_set_new(in, "audit_code", json_true()), 0);
	(void)base_submit(b, in);
	in = base_call(b, "t1");
	assert_int_equal(json_object_set_new(in, "audit_code", json_true()), 0);
	(void)base_submit(b, in);
	cleanup(json_decrefp) json_t *records = trail(b);
	const json_t *detail = json_object_get(json_array_get(records, 0), "detail");
	assert_null(json_object_get(detail, "code"));
	assert_non_null(json_object_get(detail, "code_sha256"));
	detail = json_object_get(json_array_get(records, 1), "detail");
	assert_string_equal(
	    json_string_value(json_object_get(detail, "code")), "print('h\xc3\xa9')");
	detail = json_object_get(json_array_get(records, 2), "detail");
	assert_string_equal(
	    json_string_value(json_object_get(json_object_get(detail, "arguments"), "command")),
	    "ls");
	(void)base_verify(b);
}

static void what_was_refused_leaves_nothing(void **state)
{
	struct approval_base *b = *state;
	const char *id = base_new(b, "before");
	int64_t before = base_verify(b);
	base_refuses(b, records_decide, base_decision(b, id, "t2", NULL, true), ERR_NOT_FOUND);
	base_refuses(b, audit_append,
	    json_pack("{s:I, s:s, s:s, s:s, s:s%}", "at_us", (json_int_t)1, "actor", "a", "action",
		"b", "subject", "c", "outcome", "d\0e", (size_t)3),
	    ERR_INVALID);
	assert_int_equal(base_verify(b), before);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, base_setup, base_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(an_empty_trail_has_a_head),
	    TEST(the_hash_is_what_the_page_says),
	    TEST(records_follow_each_other),
	    TEST(odd_characters_change_nothing),
	    TEST(what_was_touched_is_found),
	    TEST(what_was_taken_out_is_found),
	    TEST(what_was_put_in_is_found),
	    TEST(what_was_cut_off_is_found_by_the_head),
	    TEST(a_decision_and_a_run_leave_their_records),
	    TEST(the_code_is_there_when_it_is_asked_for),
	    TEST(what_was_refused_leaves_nothing),
	};
	return cmocka_run_group_tests_name("approval_audit", tests, NULL, NULL);
}
