/*
 * The store of approvals: over SQLite, and over the PostgreSQL of CARREL_TEST_POSTGRES (a URL)
 * where that is set, as approval_postgres_test.py does.
 */
#include <errno.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "approval_lines.h"
#include "approvals/store.h"
#include "base/clock.h"
#include "base/compiler.h"
#include "base/text.h"
#include "faulty_disk.h"
#include "gateway/seal.h"

#define IDS_MAX 4096

struct fixture {
	uv_loop_t loop;
	struct approval_store *s;
	char dir[32];
	char url[256];
	const char *postgres;
	/* What on_changed was told, with spaces between. */
	char told[IDS_MAX];
	uint32_t answered;
};

struct answer {
	struct fixture *f;
	bool called;
	uint32_t place; /* the how manieth answer it was */
	json_t *json;
	struct err e;
};

static void on_answer(void *ctx, const json_t *json, const struct err *e)
{
	struct answer *a = ctx;
	assert_false(a->called);
	assert_true((json == NULL) != (e == NULL));
	a->called = true;
	a->place = a->f->answered++;
	a->json = json != NULL ? json_deep_copy(json) : NULL;
	a->e = e != NULL ? *e : (struct err){0};
}

static void on_changed(void *ctx, const char *id)
{
	struct fixture *f = ctx;
	size_t len = strlen(f->told);
	(void)snprintf(f->told + len, sizeof(f->told) - len, "%s ", id);
}

static void run_until(struct fixture *f, const bool *condition)
{
	while (!*condition) {
		(void)uv_run(&f->loop, UV_RUN_ONCE);
	}
}

static void run_for(struct fixture *f, uint64_t ms)
{
	uint64_t until = clock_mono_ms() + ms;
	while (clock_mono_ms() < until) {
		(void)uv_run(&f->loop, UV_RUN_NOWAIT);
		(void)nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
}

static json_t *line(int64_t number, const char *text)
{
	return json_pack("{s:I, s:s}", "number", (json_int_t)number, "text", text);
}

/* A text made of the number. */
static json_t *numbered(int64_t number)
{
	char text[32];
	(void)snprintf(text, sizeof(text), "line-%lld", (long long)number);
	return line(number, text);
}

static struct approval_request *begin(
    struct answer *a, struct fixture *f, records_fn op, json_t *in)
{
	*a = (struct answer){.f = f};
	struct approval_request *r = approval_store_write(f->s, op, in, on_answer, a);
	assert_non_null(r);
	assert_false(a->called);
	return r;
}

static void end(struct answer *a)
{
	run_until(a->f, &a->called);
}

/* Asks and waits. The error's code; the answer to *JSON, which may be NULL. */
static enum err_code ask(struct fixture *f, bool writes, records_fn op, json_t *in, json_t **json)
{
	struct answer a = {.f = f};
	assert_non_null(
	    (writes ? approval_store_write : approval_store_read)(f->s, op, in, on_answer, &a));
	end(&a);
	if (json != NULL) {
		*json = a.json;
	} else {
		json_decref(a.json);
	}
	return a.e.code;
}

static int64_t count(struct fixture *f)
{
	json_t *json = NULL;
	assert_int_equal(ask(f, false, lines_count, json_object(), &json), ERR_NONE);
	int64_t n = json_integer_value(json_object_get(json, "count"));
	json_decref(json);
	return n;
}

static struct approval_store_counts counts(struct fixture *f)
{
	struct approval_store_counts c;
	approval_store_counts(f->s, &c);
	return c;
}

static void open_store(struct fixture *f)
{
	struct err e = {0};
	f->s = approval_store_new(&f->loop, f->url, on_changed, f, &e);
	assert_string_equal(e.text, "");
	assert_non_null(f->s);
}

static void close_store(struct fixture *f)
{
	approval_store_free(f->s);
	(void)uv_run(&f->loop, UV_RUN_DEFAULT);
	f->s = NULL;
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	f->postgres = getenv("CARREL_TEST_POSTGRES");
	(void)snprintf(f->dir, sizeof(f->dir), "/tmp/carrel-test-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	if (f->postgres != NULL) {
		(void)snprintf(f->url, sizeof(f->url), "%s", f->postgres);
	} else {
		(void)snprintf(f->url, sizeof(f->url), "sqlite:%s/approvals.db", f->dir);
	}
	assert_int_equal(uv_loop_init(&f->loop), 0);
	open_store(f);
	assert_int_equal(ask(f, true, lines_clear, json_object(), NULL), ERR_NONE);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	static const char *const names[] = {"approvals.db", "approvals.db-wal", "approvals.db-shm"};
	char path[64];
	close_store(f);
	assert_int_equal(uv_loop_close(&f->loop), 0);
	for (size_t i = 0; i < array_len(names); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", f->dir, names[i]);
		int r = unlink(path);
		/* Who closes the database last leaves no journal. */
		assert_true(i == 0 || r < 0);
	}
	assert_int_equal(rmdir(f->dir), 0);
	free(f);
	return 0;
}

/* --- operations that get in the way --- */

static sem_t entered, released;

/* Holds the writer until it is let go. */
static int op_hold(struct db *d, const json_t *in, json_t **out, struct err *e)
{
	(void)d;
	(void)in;
	(void)e;
	(void)sem_post(&entered);
	while (sem_wait(&released) < 0) {
	}
	*out = json_object();
	return 0;
}

/* Until the writer is in there; what is asked from now on comes in one batch. */
static void hold(struct answer *a, struct fixture *f)
{
	(void)sem_init(&entered, 0, 0);
	(void)sem_init(&released, 0, 0);
	(void)begin(a, f, op_hold, json_object());
	while (sem_wait(&entered) < 0) {
	}
}

static void let_go(struct answer *a)
{
	(void)sem_post(&released);
	end(a);
	json_decref(a->json);
}

static int op_conflict(struct db *d, const json_t *in, json_t **out, struct err *e)
{
	(void)d;
	(void)in;
	(void)out;
	return err_set(e, ERR_CONFLICT, "not so");
}

static int op_half_done(struct db *d, const json_t *in, json_t **out, struct err *e)
{
	if (lines_add(d, in, out, e) < 0) {
		return -1;
	}
	json_decref(*out);
	*out = NULL;
	return err_set(e, ERR_CONFLICT, "not so, after all");
}

static int op_bad_statement(struct db *d, const json_t *in, json_t **out, struct err *e)
{
	(void)in;
	(void)out;
	return db_run(d, "SELECT nothing FROM nowhere", NULL, 0, NULL, NULL, NULL, e);
}

static int op_ignores_failure(struct db *d, const json_t *in, json_t **out, struct err *e)
{
	(void)op_bad_statement(d, in, out, NULL);
	return lines_add(d, in, out, e);
}

/* --- tests --- */

static void what_is_written_is_read(void **state)
{
	struct fixture *f = *state;
	json_t *json = NULL;
	assert_int_equal(ask(f, true, lines_add, line(7, "seven"), &json), ERR_NONE);
	assert_int_equal(json_integer_value(json_object_get(json, "number")), 7);
	json_decref(json);
	assert_int_equal(ask(f, true, lines_add, line(7, "again"), NULL), ERR_CONFLICT);
	assert_int_equal(ask(f, false, lines_list, json_object(), &json), ERR_NONE);
	json_t *want = json_pack("{s:[i], s:[s]}", "numbers", 7, "texts", "seven");
	assert_true(json_equal(json, want));
	json_decref(want);
	json_decref(json);
}

static void values_come_back_as_they_were(void **state)
{
	struct fixture *f = *state;
	static char much[(1 << 20) + 1];
	static const char *const texts[] = {
	    "", "\xc3\xa4\xf0\x9f\x8d\x90", "a'b\"c\\d\n\t$1 %s", much, NULL, "{\"a\": [1, 2]}"};
	static const int64_t numbers[] = {0, -1, INT64_MAX, -INT64_MAX, 1700000000000000, -42};
	json_t *json = NULL;
	memset(much, 'x', sizeof(much) - 1);
	for (size_t i = 0; i < array_len(texts); i++) {
		json_t *in = json_pack(
		    "{s:I, s:s*}", "number", (json_int_t)numbers[i], "text", texts[i]);
		assert_int_equal(ask(f, true, lines_add, in, NULL), ERR_NONE);
	}
	assert_int_equal(ask(f, false, lines_list, json_object(), &json), ERR_NONE);
	for (size_t i = 0; i < array_len(texts); i++) {
		const json_t *text = json_array_get(json_object_get(json, "texts"), i);
		assert_true(json_integer_value(
				json_array_get(json_object_get(json, "numbers"), i)) == numbers[i]);
		if (texts[i] == NULL) {
			assert_true(json_is_null(text));
		} else {
			assert_string_equal(json_string_value(text), texts[i]);
		}
	}
	json_decref(json);
}

/* PostgreSQL cannot hold it, and says so rather than cutting it off. */
static void a_nul_in_a_text_is_kept_or_refused(void **state)
{
	struct fixture *f = *state;
	json_t *in = json_pack("{s:i, s:s#}", "number", 1, "text", "a\0b", (size_t)3);
	json_t *json = NULL;
	enum err_code code = ask(f, true, lines_add, in, NULL);
	assert_int_equal(code, f->postgres != NULL ? ERR_INVALID : ERR_NONE);
	assert_int_equal(ask(f, true, lines_add, line(2, "after"), NULL), ERR_NONE);
	assert_int_equal(ask(f, false, lines_list, json_object(), &json), ERR_NONE);
	const json_t *texts = json_object_get(json, "texts");
	assert_int_equal(json_array_size(texts), f->postgres != NULL ? 1 : 2);
	if (f->postgres == NULL) {
		assert_int_equal(json_string_length(json_array_get(texts, 0)), 3);
	}
	json_decref(json);
}

static void changes_are_made_and_answered_in_order(void **state)
{
	struct fixture *f = *state;
	enum { N = 1000 };
	static struct answer answers[N];
	json_t *json = NULL;
	for (int i = 0; i < N; i++) {
		(void)begin(&answers[i], f, lines_add, numbered(N - i));
	}
	end(&answers[N - 1]);
	for (uint32_t i = 0; i < N; i++) {
		assert_true(answers[i].called);
		assert_int_equal(answers[i].place, answers[0].place + i);
		json_decref(answers[i].json);
	}
	assert_int_equal(ask(f, false, lines_list, json_object(), &json), ERR_NONE);
	const json_t *numbers = json_object_get(json, "numbers");
	for (size_t i = 0; i < N; i++) {
		assert_int_equal(json_integer_value(json_array_get(numbers, i)), N - (int)i);
	}
	json_decref(json);
}

static void those_that_wait_are_committed_together(void **state)
{
	struct fixture *f = *state;
	enum { N = APPROVAL_STORE_BATCH_MAX + 88 };
	static struct answer answers[N];
	struct answer held;
	hold(&held, f);
	struct approval_store_counts before = counts(f);
	for (int i = 0; i < N; i++) {
		(void)begin(&answers[i], f, lines_add, numbered(i));
	}
	assert_int_equal(counts(f).waiting, N);
	let_go(&held);
	end(&answers[N - 1]);
	struct approval_store_counts after = counts(f);
	assert_int_equal(after.commits - before.commits, 2);
	assert_int_equal(after.changes - before.changes, N);
	assert_int_equal(after.failures - before.failures, 0);
	assert_int_equal(after.waiting, 0);
	assert_int_equal(count(f), N);
	for (int i = 0; i < N; i++) {
		json_decref(answers[i].json);
	}
}

/* A batch of three with BAD in its middle: the others are there, of it there is nothing. */
static void check_failure_among_others(
    struct fixture *f, records_fn bad, enum err_code code, uint64_t failures)
{
	struct answer held;
	struct answer answers[3];
	assert_int_equal(ask(f, true, lines_clear, json_object(), NULL), ERR_NONE);
	f->told[0] = '\0';
	hold(&held, f);
	uint64_t failed = counts(f).failures;
	(void)begin(&answers[0], f, lines_add, numbered(1));
	(void)begin(&answers[1], f, bad, numbered(2));
	(void)begin(&answers[2], f, lines_add, numbered(3));
	let_go(&held);
	end(&answers[2]);
	assert_int_equal(counts(f).failures - failed, failures);
	assert_int_equal(answers[0].e.code, ERR_NONE);
	assert_int_equal(answers[1].e.code, code);
	assert_int_equal(answers[2].e.code, ERR_NONE);
	assert_string_equal(f->told, "line-1 line-3 ");
	assert_int_equal(count(f), 2);
	json_decref(answers[0].json);
	json_decref(answers[2].json);
}

static void a_change_that_fails_takes_nothing_along(void **state)
{
	struct fixture *f = *state;
	/* It costs nothing when it had done nothing; else its batch, and then itself. */
	check_failure_among_others(f, op_conflict, ERR_CONFLICT, 0);
	check_failure_among_others(f, op_half_done, ERR_CONFLICT, 2);
	check_failure_among_others(f, op_bad_statement, ERR_INTERNAL, 2);
	check_failure_among_others(f, op_ignores_failure, ERR_INTERNAL, 2);
}

static void a_read_that_fails_leaves_the_others(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(ask(f, false, op_bad_statement, json_object(), NULL), ERR_INTERNAL);
	assert_int_equal(ask(f, false, op_conflict, json_object(), NULL), ERR_CONFLICT);
	assert_int_equal(count(f), 0);
	/* What a reader writes is not kept. */
	(void)ask(f, false, lines_add, numbered(1), NULL);
	assert_int_equal(count(f), 0);
}

static void nobody_is_called_after_a_cancel(void **state)
{
	struct fixture *f = *state;
	struct answer held, cancelled, last;
	hold(&held, f);
	struct approval_request *r = begin(&cancelled, f, lines_add, numbered(1));
	(void)begin(&last, f, lines_add, numbered(2));
	approval_store_cancel(r);
	approval_store_cancel(NULL);
	let_go(&held);
	end(&last);
	json_decref(last.json);
	assert_false(cancelled.called);
	/* The change is made all the same, and others hear of it. */
	assert_int_equal(count(f), 2);
	assert_string_equal(f->told, "line-1 line-2 ");
}

static void the_queue_has_an_end(void **state)
{
	struct fixture *f = *state;
	enum { N = APPROVAL_STORE_QUEUE_MAX + 10 };
	struct answer *answers = calloc(N, sizeof(*answers));
	struct answer held;
	hold(&held, f);
	for (int i = 0; i < N; i++) {
		(void)begin(&answers[i], f, op_conflict, json_object());
	}
	(void)uv_run(&f->loop, UV_RUN_NOWAIT);
	for (int i = 0; i < N; i++) {
		assert_int_equal(answers[i].called, i >= APPROVAL_STORE_QUEUE_MAX);
		assert_int_equal(answers[i].e.code, answers[i].called ? ERR_BUSY : ERR_NONE);
	}
	let_go(&held);
	end(&answers[APPROVAL_STORE_QUEUE_MAX - 1]);
	for (int i = 0; i < APPROVAL_STORE_QUEUE_MAX; i++) {
		assert_int_equal(answers[i].e.code, ERR_CONFLICT);
	}
	free(answers);
}

static void the_queue_has_an_end_in_bytes_too(void **state)
{
	struct fixture *f = *state;
	struct answer held, answers[5];
	size_t len = 60U << 20;
	char *much = calloc(1, len + 1);
	memset(much, 'x', len);
	json_t *text = json_string(much);
	free(much);
	hold(&held, f);
	for (int i = 0; i < 5; i++) {
		(void)begin(&answers[i], f, op_conflict, json_pack("{s:[{s:O}]}", "a", "b", text));
	}
	let_go(&held);
	end(&answers[3]);
	assert_int_equal(answers[3].e.code, ERR_CONFLICT);
	assert_int_equal(answers[4].e.code, ERR_BUSY);
	json_decref(text);
}

static void who_waits_too_long_is_told_so(void **state)
{
	struct fixture *f = *state;
	struct answer held, late;
	hold(&held, f);
	uint64_t start_ms = clock_mono_ms();
	(void)begin(&late, f, lines_add, numbered(1));
	end(&late);
	uint64_t took_ms = clock_mono_ms() - start_ms;
	assert_int_equal(late.e.code, ERR_UNAVAILABLE);
	assert_in_range(took_ms, APPROVAL_STORE_WAIT_MS, APPROVAL_STORE_WAIT_MS + 2000);
	let_go(&held);
	assert_int_equal(ask(f, true, lines_add, numbered(2), NULL), ERR_NONE);
	assert_int_equal(count(f), 1);
}

static void what_is_queued_is_written_before_the_end(void **state)
{
	struct fixture *f = *state;
	struct answer answers[200];
	for (int i = 0; i < 200; i++) {
		(void)begin(&answers[i], f, lines_add, numbered(i));
	}
	close_store(f);
	for (int i = 0; i < 200; i++) {
		assert_false(answers[i].called);
	}
	open_store(f);
	assert_int_equal(count(f), 200);
}

static void the_answer_comes_before_the_news(void **state)
{
	struct fixture *f = *state;
	struct answer a;
	(void)begin(&a, f, lines_add, line(1, "first"));
	end(&a);
	json_decref(a.json);
	(void)uv_run(&f->loop, UV_RUN_NOWAIT);
	assert_string_equal(f->told, "first ");
}

/* --- one state --- */

/* Reads, lets the test write, and reads again. */
static int op_read_twice(struct db *d, const json_t *in, json_t **out, struct err *e)
{
	json_t *before = NULL;
	json_t *after = NULL;
	if (lines_count(d, in, &before, e) < 0 || op_hold(d, in, out, e) < 0) {
		return -1;
	}
	json_decref(*out);
	*out = NULL;
	if (lines_count(d, in, &after, e) < 0) {
		return -1;
	}
	*out = json_pack("{s:o, s:o}", "before", before, "after", after);
	return 0;
}

static void a_question_sees_one_state(void **state)
{
	struct fixture *f = *state;
	struct answer a = {.f = f};
	(void)sem_init(&entered, 0, 0);
	(void)sem_init(&released, 0, 0);
	(void)approval_store_read(f->s, op_read_twice, json_object(), on_answer, &a);
	while (sem_wait(&entered) < 0) {
	}
	assert_int_equal(ask(f, true, lines_add, numbered(1), NULL), ERR_NONE);
	(void)sem_post(&released);
	end(&a);
	assert_int_equal(a.e.code, ERR_NONE);
	assert_true(
	    json_equal(json_object_get(a.json, "before"), json_object_get(a.json, "after")));
	json_decref(a.json);
	assert_int_equal(count(f), 1);
}

/* --- lost and found --- */

static int losses;

/* A disk or a connection fails, after something was written, as often as LOSSES says. */
static int op_lost_at_first(struct db *d, const json_t *in, json_t **out, struct err *e)
{
	int r = lines_add(d, in, out, e);
	if (r < 0 || losses-- <= 0) {
		return r;
	}
	json_decref(*out);
	*out = NULL;
	return err_set(e, ERR_UNAVAILABLE, "lost");
}

static int op_ends_connection(struct db *d, const json_t *in, json_t **out, struct err *e)
{
	if (lines_add(d, in, out, e) < 0) {
		return -1;
	}
	if (losses-- > 0 && db_run(d, "SELECT pg_terminate_backend(pg_backend_pid())", NULL, 0,
				NULL, NULL, NULL, e) < 0) {
		json_decref(*out);
		*out = NULL;
		return -1;
	}
	return 0;
}

static int check_lost_and_found(struct fixture *f, records_fn op)
{
	struct answer held, answers[3];
	hold(&held, f);
	losses = 3;
	(void)begin(&answers[0], f, lines_add, numbered(1));
	(void)begin(&answers[1], f, op, numbered(2));
	(void)begin(&answers[2], f, lines_add, numbered(3));
	let_go(&held);
	end(&answers[2]);
	for (int i = 0; i < 3; i++) {
		if (answers[i].e.code != ERR_NONE) {
			(void)fprintf(stderr, "%s\n", answers[i].e.text);
			return 1;
		}
		json_decref(answers[i].json);
	}
	return count(f) == 3 ? 0 : 2;
}

static void what_was_not_committed_is_tried_again(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(check_lost_and_found(f, op_lost_at_first), 0);
	if (f->postgres != NULL) {
		assert_int_equal(ask(f, true, lines_clear, json_object(), NULL), ERR_NONE);
		assert_int_equal(check_lost_and_found(f, op_ends_connection), 0);
	}
}

/* The connection ends at COMMIT. With the transaction the trigger is gone, too. */
static int op_ends_connection_at_commit(struct db *d, const json_t *in, json_t **out, struct err *e)
{
	static const char script[] =
	    "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS "
	    "$$BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END$$; "
	    "CREATE CONSTRAINT TRIGGER die AFTER INSERT ON line DEFERRABLE INITIALLY DEFERRED "
	    "FOR EACH ROW EXECUTE FUNCTION die()";
	return db_script(d, script, e) < 0 ? -1 : lines_add(d, in, out, e);
}

/* Three in one batch, of which the second one has FN. */
static void begin_three(struct answer answers[3], struct fixture *f, records_fn fn)
{
	struct answer held;
	hold(&held, f);
	(void)begin(&answers[0], f, lines_add, numbered(1));
	(void)begin(&answers[1], f, fn, numbered(2));
	(void)begin(&answers[2], f, lines_add, numbered(3));
	let_go(&held);
}

static void expect_three(struct answer answers[3], enum err_code code)
{
	for (int i = 0; i < 3; i++) {
		end(&answers[i]);
		assert_int_equal(answers[i].e.code, code);
		json_decref(answers[i].json);
	}
}

/* Nobody knows: no answer says that it was done, none that it was not, and nothing of it is done a
 * second time. */
static void a_lost_commit_is_told_to_all_of_its_batch(void **state)
{
	struct fixture *f = *state;
	struct answer answers[3];
	f->told[0] = '\0';
	atomic_store(&faulty_disk.no_syncs, f->postgres != NULL ? 0 : 1);
	begin_three(answers, f, f->postgres != NULL ? op_ends_connection_at_commit : lines_add);
	expect_three(answers, ERR_UNSURE);
	assert_int_equal(ask(f, true, lines_add, numbered(4), NULL), ERR_NONE);
	assert_int_equal(count(f), 1);
	assert_string_equal(f->told, "line-4 ");
}

/* What the first of them came to was known, and is worth nothing. */
static void no_answer_outlives_its_transaction(void **state)
{
	struct fixture *f = *state;
	struct answer answers[3];
	f->told[0] = '\0';
	losses = 1000000;
	begin_three(answers, f, f->postgres != NULL ? op_ends_connection : op_lost_at_first);
	expect_three(answers, ERR_UNAVAILABLE);
	losses = 0;
	assert_int_equal(count(f), 0);
	assert_string_equal(f->told, "");
}

/* --- bad disks --- */

static void wait_for_faults(int count)
{
	int before = atomic_load(&faulty_disk.faults);
	while (atomic_load(&faulty_disk.faults) < before + count) {
		(void)nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
}

/* What is on a full disk was not done, which is certain. */
static void a_full_disk_is_waited_for(void **state)
{
	struct fixture *f = *state;
	struct answer answers[3];
	if (f->postgres != NULL) {
		return; /* its disk is its server's */
	}
	atomic_store(&faulty_disk.full, true);
	begin_three(answers, f, lines_add);
	wait_for_faults(2);
	atomic_store(&faulty_disk.full, false);
	expect_three(answers, ERR_NONE);
	assert_int_equal(count(f), 3);
	assert_int_equal(ask(f, true, lines_clear, json_object(), NULL), ERR_NONE);
	atomic_store(&faulty_disk.full, true);
	begin_three(answers, f, lines_add);
	expect_three(answers, ERR_UNAVAILABLE);
	atomic_store(&faulty_disk.full, false);
	assert_int_equal(ask(f, true, lines_add, numbered(4), NULL), ERR_NONE);
	assert_int_equal(count(f), 1);
}

static void a_slow_disk_has_its_answers_wait(void **state)
{
	enum { SLOW_MS = 400 };
	struct fixture *f = *state;
	struct answer answers[3];
	if (f->postgres != NULL) {
		return;
	}
	uint64_t start_ms = clock_mono_ms();
	atomic_store(&faulty_disk.slow_ms, SLOW_MS);
	begin_three(answers, f, lines_add);
	expect_three(answers, ERR_NONE);
	assert_true(clock_mono_ms() - start_ms >= SLOW_MS);
	atomic_store(&faulty_disk.slow_ms, 0);
	assert_int_equal(count(f), 3);
}

/* --- behind the seal --- */

/* Who closes the database last writes the journal back and removes it. */
static int check_journal_is_gone(const struct fixture *f)
{
	char path[64];
	(void)snprintf(path, sizeof(path), "%s/approvals.db-wal", f->dir);
	return access(path, F_OK) == 0 ? 13 : 0;
}

/* Enough for the journal to be written back in the middle, and a database that is lost. */
static int work_behind_the_seal(struct fixture *f)
{
	enum { N = 3000 };
	struct err e = {0};
	static struct answer answers[N];
	bool root = getuid() == 0;
	if (seal_drop_privileges(root ? 65534 : getuid(), root ? 65534 : getgid(), &e) < 0 ||
	    seal_system_calls(f->postgres != NULL, &e) < 0) {
		return 10;
	}
	int r = check_lost_and_found(f, f->postgres ? op_ends_connection : op_lost_at_first);
	for (int i = 0; r == 0 && i < N; i++) {
		(void)begin(&answers[i], f, lines_add_once, numbered(i));
		if (i % 100 == 99) {
			end(&answers[i]);
		}
	}
	for (int i = 0; r == 0 && i < N; i++) {
		r = answers[i].e.code == ERR_NONE && answers[i].called ? 0 : 11;
		json_decref(answers[i].json);
	}
	r = r == 0 && count(f) != N ? 12 : r;
	close_store(f);
	return r != 0 || f->postgres != NULL ? r : check_journal_is_gone(f);
}

static void it_works_behind_the_seal(void **state)
{
	struct fixture *f = *state;
	int status = -1;
	close_store(f);
	(void)fflush(NULL);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		(void)uv_loop_fork(&f->loop);
		if (getuid() == 0 &&
		    (chown(f->dir, 65534, 65534) < 0 || setegid(65534) < 0 || seteuid(65534) < 0)) {
			_exit(20);
		}
		(void)unlink(f->url + strlen("sqlite:"));
		open_store(f);
		(void)(seteuid(0) + setegid(0));
		_exit(work_behind_the_seal(f));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	open_store(f);
	assert_int_equal(count(f), 3000);
}

static int op_starts_program(struct db *d, const json_t *in, json_t **out, struct err *e)
{
	(void)d;
	(void)in;
	(void)execl("/bin/false", "false", (char *)NULL);
	int why = errno;
	*out = json_pack("{s:i}", "errno", why);
	return *out != NULL ? 0 : err_set_os(e, why, "exec");
}

static int seal_and_exec(struct fixture *f)
{
	struct err e = {0};
	json_t *json = NULL;
	if (seal_drop_privileges(getuid() == 0 ? 65534 : getuid(), 65534, &e) < 0 ||
	    seal_system_calls(true, &e) < 0) {
		return 10;
	}
	if (ask(f, false, op_starts_program, json_object(), &json) != ERR_NONE) {
		return 11;
	}
	return json_integer_value(json_object_get(json, "errno")) == ENOSYS ? 0 : 12;
}

static void its_threads_are_sealed_too(void **state)
{
	struct fixture *f = *state;
	int status = -1;
	close_store(f);
	(void)fflush(NULL);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		(void)uv_loop_fork(&f->loop);
		open_store(f);
		_exit(seal_and_exec(f));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	open_store(f);
}

/* --- several servers --- */

static void servers_of_one_database_tell_each_other(void **state)
{
	struct fixture *f = *state;
	struct fixture other = {.loop = f->loop};
	(void)snprintf(other.url, sizeof(other.url), "%s", f->url);
	struct err e = {0};
	other.s = approval_store_new(&f->loop, other.url, on_changed, &other, &e);
	assert_non_null(other.s);
	assert_int_equal(ask(f, true, lines_add, line(1, "mine"), NULL), ERR_NONE);
	run_for(f, 300);
	assert_string_equal(f->told, "mine "); /* once: its own news are no news */
	assert_string_equal(other.told, f->postgres != NULL ? "mine " : "");
	f->told[0] = other.told[0] = '\0';
	/* Many at once come in several messages. */
	static struct answer answers[400];
	struct answer held;
	hold(&held, f);
	for (int i = 0; i < 400; i++) {
		(void)begin(&answers[i], f, lines_add, numbered(10 + i));
	}
	let_go(&held);
	end(&answers[399]);
	run_for(f, 300);
	assert_string_equal(other.told, f->postgres != NULL ? f->told : "");
	for (int i = 0; i < 400; i++) {
		json_decref(answers[i].json);
	}
	/* What is taken back is not told. */
	f->told[0] = other.told[0] = '\0';
	assert_int_equal(ask(f, true, op_half_done, line(2000, "half"), NULL), ERR_CONFLICT);
	run_for(f, 300);
	assert_string_equal(other.told, "");
	approval_store_free(other.s);
}

int main(void)
{
	struct err e = {0};
	if (seal_refuse_io_uring(&e) < 0) { /* before any loop, as the server does */
		(void)fprintf(stderr, "%s\n", e.text);
		return 1;
	}
	const struct CMUnitTest tests[] = {
#define T(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)
	    T(what_is_written_is_read),
	    T(values_come_back_as_they_were),
	    T(a_nul_in_a_text_is_kept_or_refused),
	    T(changes_are_made_and_answered_in_order),
	    T(those_that_wait_are_committed_together),
	    T(a_change_that_fails_takes_nothing_along),
	    T(a_read_that_fails_leaves_the_others),
	    T(nobody_is_called_after_a_cancel),
	    T(the_queue_has_an_end),
	    T(the_queue_has_an_end_in_bytes_too),
	    T(who_waits_too_long_is_told_so),
	    T(what_is_queued_is_written_before_the_end),
	    T(the_answer_comes_before_the_news),
	    T(a_question_sees_one_state),
	    T(what_was_not_committed_is_tried_again),
	    T(a_lost_commit_is_told_to_all_of_its_batch),
	    T(no_answer_outlives_its_transaction),
	    T(a_full_disk_is_waited_for),
	    T(a_slow_disk_has_its_answers_wait),
	    T(it_works_behind_the_seal),
	    T(its_threads_are_sealed_too),
	    T(servers_of_one_database_tell_each_other),
	};
	faulty_disk_install();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
