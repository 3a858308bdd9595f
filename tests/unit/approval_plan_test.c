/*
 * How SQLite finds what the operations ask for: by an index, whatever is in the tables. A driver in
 * between asks for the plan of each statement before it runs it.
 */
#include "approval_base.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"

#define STATEMENTS_MAX 128

struct asking {
	struct db db;
	struct db *real;
	bool checks;
	unsigned checked;
	char *kept[STATEMENTS_MAX]; /* the driver keeps statements by their place */
};

static struct asking *asking_of(struct db *d)
{
	return container_of(d, struct asking, db);
}

static int on_plan(void *ctx, const struct db_row *r)
{
	const char *step = db_text(r, 3, NULL);
	assert_non_null(step);
	bool scans = strstr(step, "SCAN") == step && strstr(step, "CONSTANT ROW") == NULL &&
		     strcmp(step, "SCAN turn") != 0; /* what a recursion has found so far */
	if (scans || strstr(step, "TEMP B-TREE") != NULL) {
		print_error("%s\n  %s\n", (const char *)ctx, step);
		fail();
	}
	return 0;
}

static void check(struct asking *a, const char *sql, const struct db_value *values, size_t count)
{
	static const char prefix[] = "EXPLAIN QUERY PLAN ";
	size_t size = sizeof(prefix) + strlen(sql);
	unsigned i = 0;
	while (i < a->checked && strcmp(a->kept[i] + sizeof(prefix) - 1, sql) != 0) {
		i++;
	}
	if (i < a->checked) {
		return;
	}
	assert_true(a->checked < STATEMENTS_MAX);
	a->kept[i] = malloc(size);
	assert_non_null(a->kept[i]);
	(void)snprintf(a->kept[i], size, "%s%s", prefix, sql);
	a->checked++;
	char *text = a->kept[i];
	assert_int_equal(db_run(a->real, text, values, count, on_plan, text, NULL, NULL), 0);
}

static int ask_run(struct db *d, const char *sql, const struct db_value *values, size_t count,
    db_row_fn each, void *ctx, int64_t *changed, struct err *e)
{
	struct asking *a = asking_of(d);
	if (a->checks) {
		check(a, sql, values, count);
	}
	return db_run(a->real, sql, values, count, each, ctx, changed, e);
}

static int ask_begin(struct db *d, struct err *e)
{
	return db_begin(asking_of(d)->real, e);
}

static int ask_commit(struct db *d, struct err *e)
{
	return db_commit(asking_of(d)->real, e);
}

static void ask_rollback(struct db *d)
{
	db_rollback(asking_of(d)->real);
}

static const struct db_driver driver = {
    .kind = "sqlite",
    .skip_locked = "",
    .begin = ask_begin,
    .commit = ask_commit,
    .rollback = ask_rollback,
    .run = ask_run,
};

static void change_all(struct approval_base *b)
{
	json_t *in = base_submission(b, "t1", "after");
	(void)json_object_set_new(in, "key", json_string("k"));
	(void)json_object_set_new(in, "key_sha256", json_string("k"));
	(void)json_object_set_new(json_object_get(in, "settings"), "callback",
	    json_pack("{s:s}", "url", "https://example.org/"));
	(void)json_object_set_new(
	    json_object_get(in, "settings"), "promote", json_pack("{s:[]}", "files"));
	const char *id = base_submit(b, in);
	base_run(b, id, true);
	json_decref(base_do(b, records_decide, base_decision(b, id, "t1", NULL, true)));
	json_decref(base_do(b, records_claim,
	    json_pack("{s:s, s:I, s:I, s:i, s:s, s:i, s:{s:s, s:{s:s}}}", "owner", "a", "now_us",
		(json_int_t)b->now_us, "lease_us", (json_int_t)b->now_us, "limit", 1, "kind",
		"callback", "share", 1, "turns", "pool", "p", "tenants", "-", "t")));
	json_decref(base_claim(b, "a", "callback"));
	json_decref(base_claim(b, "a", "promote"));
	json_decref(base_do(b, records_renew,
	    json_pack("{s:s, s:I}", "owner", "a", "lease_us", (json_int_t)b->now_us)));
	(void)base_submit(b, base_call(b, "t1"));
	id = base_new(b, "after");
	json_decref(base_claim(b, "a", "run"));
	json_decref(base_do(b, records_cancel, base_cancel(b, id, "t1")));
	id = base_new(b, "after");
	json_decref(base_claim(b, "a", "run"));
	b->now_us += BASE_DEADLINE_MS * 1000;
	(void)base_lapse(b);
	json_decref(base_do(b, records_forget,
	    json_pack("{s:I, s:I, s:i}", "before_us", (json_int_t)b->now_us + 1, "now_us",
		(json_int_t)b->now_us, "limit", 9)));
}

static void ask_all(struct approval_base *b)
{
	const char *id = base_new(b, "before");
	(void)base_events(b, id);
	json_decref(base_do(
	    b, records_events, json_pack("{s:s, s:i, s:i}", "id", id, "after", 0, "limit", 9)));
	json_decref(base_do(b, records_files, json_pack("{s:s}", "id", id)));
	for (unsigned i = 0; i < 16; i++) {
		json_decref(base_do(b, records_list,
		    json_pack("{s:s?, s:s?, s:s?, s:s?, s:i}", "tenant", i & 1 ? "t1" : NULL,
			"state", i & 2 ? "waiting" : NULL, "kind", i & 4 ? "code" : NULL, "pool",
			i & 8 ? "p" : NULL, "limit", 9)));
	}
	json_decref(base_do(b, audit_read, json_pack("{s:i, s:i}", "after", 0, "limit", 9)));
	json_decref(base_do(b, audit_head, json_object()));
	json_decref(base_do(b, records_replay, json_pack("{s:s, s:i}", "after", "a", "limit", 9)));
}

static void everything_is_found_by_an_index(void **state)
{
	struct approval_base *b = *state;
	struct asking a = {.db = {.driver = &driver}, .real = b->db, .checks = true};
	if (strcmp(db_kind(b->db), "sqlite") != 0) {
		print_message("# PostgreSQL plans by what is in the tables; not looked at\n");
		return;
	}
	b->db = &a.db;
	change_all(b);
	ask_all(b);
	b->db = a.real;
	/* All of them were seen: some forty statements that differ. */
	assert_in_range(a.checked, 40, STATEMENTS_MAX);
	for (unsigned i = 0; i < a.checked; i++) {
		free(a.kept[i]);
	}
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, base_setup, base_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {TEST(everything_is_found_by_an_index)};
	return cmocka_run_group_tests_name("approval_plan", tests, NULL, NULL);
}
