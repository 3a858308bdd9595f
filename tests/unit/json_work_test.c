/* Large JSON read and written by threads: what comes of it, whose turn it is, and what is left when
 * nobody waits any more. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/compiler.h"
#include "base/json_work.h"

#define LARGE_BYTES (1U << 20)
#define ORDER_MAX 32
#define MANY 20000U /* ones, which are large together */

static uv_loop_t loop;
static struct json_work *work;
static char order[ORDER_MAX + 1]; /* whose job was done, first to last */
static json_t *value;
static struct json_read last; /* the last one, without its value */
static size_t text_len;
static char *written;
static int failure;

static int setup(void **state)
{
	(void)state;
	memset(order, 0, sizeof(order));
	return uv_loop_init(&loop) == 0 && (work = json_work_new(&loop)) != NULL ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	json_work_free(steal(&work));
	(void)uv_run(&loop, UV_RUN_DEFAULT);
	json_decref(steal(&value));
	free(steal(&written));
	return uv_loop_close(&loop);
}

static void on_read(void *ctx, const struct json_read *r, struct buf *text)
{
	const char *who = ctx;
	order[strlen(order)] = *who;
	json_decref(value);
	value = json_incref(r->value);
	last = *r;
	text_len = text->len;
}

static void on_written(void *ctx, int err, struct buf *text)
{
	const char *who = ctx;
	order[strlen(order)] = *who;
	free(steal(&written));
	written = text != NULL ? steal(&text->data) : NULL;
	failure = err;
}

static int add_size(struct buf *out, const json_t *list)
{
	return json_array_size(list) % 2 == 1 ? -EMSGSIZE
					      : buf_addf(out, "%zu", json_array_size(list));
}

static json_t *list_of(size_t count)
{
	json_t *list = json_array();
	while (json_array_size(list) < count) {
		(void)json_array_append_new(list, json_integer(1));
	}
	return list;
}

static struct json_job *write_size(const char *who, const json_t *list)
{
	return json_work_write(work, who, list, add_size, on_written, (void *)(uintptr_t)who);
}

static struct json_job *read_text(const char *who, const char *text, size_t weight_max)
{
	cleanup(buf_fini) struct buf b = BUF_INIT(1024);
	assert_int_equal(buf_add_str(&b, text), 0);
	struct json_job *j = json_work_read(work, who, &b, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY,
	    weight_max, on_read, (void *)(uintptr_t)who);
	assert_non_null(j);
	assert_int_equal(b.len, 0); /* taken over */
	return j;
}

static void a_text_is_read(void **state)
{
	(void)state;
	(void)read_text("a", "{\"a\":[1,2]}", LARGE_BYTES);
	assert_string_equal(order, "");
	(void)uv_run(&loop, UV_RUN_DEFAULT);
	assert_string_equal(order, "a");
	assert_int_equal(json_array_size(json_object_get(value, "a")), 2);
	assert_true(last.weight > 11);
	assert_int_equal(text_len, 11);
	/* The thread has let go of it: whoever took a reference has the last. */
	assert_int_equal(value->refcount, 1);
}

static void what_is_no_json_is_told(void **state)
{
	(void)state;
	(void)read_text("a", "{\"a\":1,\"a\":2}", LARGE_BYTES);
	(void)uv_run(&loop, UV_RUN_DEFAULT);
	assert_null(value);
	assert_false(last.heavy);
	assert_non_null(strstr(last.error.text, "duplicate"));
	(void)read_text("a", "[{},{},{}]", 100);
	(void)uv_run(&loop, UV_RUN_DEFAULT);
	assert_null(value);
	assert_true(last.heavy);
}

static void a_value_is_written(void **state)
{
	(void)state;
	static const char who[] = "w";
	json_t *list = list_of(MANY);
	assert_non_null(write_size(who, list));
	/* Whoever has the list goes on with it. */
	assert_int_equal(json_array_clear(list), 0);
	json_decref(list);
	assert_string_equal(order, "");
	(void)uv_run(&loop, UV_RUN_DEFAULT);
	assert_string_equal(written, "20000");
}

static void what_cannot_be_written_is_told(void **state)
{
	(void)state;
	json_t *list = list_of(MANY + 1);
	assert_non_null(write_size("w", list));
	json_decref(list);
	(void)uv_run(&loop, UV_RUN_DEFAULT);
	assert_string_equal(order, "w");
	assert_null(written);
	assert_int_equal(failure, -EMSGSIZE);
}

static void what_is_small_is_written_at_once(void **state)
{
	(void)state;
	json_t *list = json_array();
	assert_null(write_size("a", list));
	assert_string_equal(written, "0");
	(void)json_array_append_new(list, json_null());
	assert_null(write_size("a", list));
	assert_null(written);
	assert_int_equal(failure, -EMSGSIZE);
	assert_string_equal(order, "aa");
	json_decref(list);
}

/* One that asks for much does not keep the others waiting until it has it. A holder is known by its
 * name, wherever that stands. */
static void holders_take_turns(void **state)
{
	(void)state;
	static const char a[][2] = {"a", "a"};
	for (size_t i = 0; i < 6; i++) {
		(void)read_text(a[i % 2], "1", LARGE_BYTES);
	}
	(void)read_text("b", "1", LARGE_BYTES);
	(void)read_text("b", "1", LARGE_BYTES);
	(void)read_text("c", "1", LARGE_BYTES);
	(void)uv_run(&loop, UV_RUN_DEFAULT);
	assert_string_equal(order, "ababcaaaa");
}

static void what_is_cancelled_is_not_told(void **state)
{
	(void)state;
	struct json_job *jobs[8];
	json_t *list = list_of(MANY);
	for (size_t i = 0; i < array_len(jobs); i++) {
		jobs[i] = i % 2 == 0 ? read_text("a", "1", LARGE_BYTES) : write_size("a", list);
	}
	for (size_t i = 0; i < array_len(jobs); i++) {
		json_work_cancel(jobs[i]);
	}
	json_work_cancel(NULL);
	(void)read_text("b", "[]", LARGE_BYTES);
	(void)uv_run(&loop, UV_RUN_DEFAULT);
	assert_string_equal(order, "b");
	assert_int_equal(list->refcount, 1);
	json_decref(list);
}

static void nobody_is_told_after_the_end(void **state)
{
	(void)state;
	for (int i = 0; i < 8; i++) {
		(void)read_text("a", "1", LARGE_BYTES);
	}
	json_work_free(steal(&work));
	(void)uv_run(&loop, UV_RUN_DEFAULT);
	assert_string_equal(order, "");
}

static int add_subject(struct buf *out, const void *subject)
{
	return buf_add_str(out, subject);
}

static unsigned dropped;

static void drop_subject(void *subject)
{
	(void)subject;
	dropped++;
}

static struct json_job *make_text(const char *who, json_t *of)
{
	static char text[] = "made";
	const struct json_subject subject = {text, add_subject, drop_subject, json_incref(of)};
	return json_work_make(work, who, &subject, on_written, (void *)(uintptr_t)who);
}

/* A subject is dropped once, whatever becomes of its job. */
static void what_is_no_tree_is_made_and_dropped(void **state)
{
	(void)state;
	json_t *of = json_array();
	dropped = 0;
	assert_non_null(make_text("a", of));
	struct json_job *runs = make_text("b", of);
	struct json_job *waits = make_text("b", of);
	struct json_job *plain = make_text("b", NULL);
	json_work_cancel(runs);
	json_work_cancel(waits);
	json_work_cancel(plain);
	assert_string_equal(order, "");
	json_work_settle(work);
	(void)uv_run(&loop, UV_RUN_DEFAULT);
	assert_string_equal(order, "a");
	assert_string_equal(written, "made");
	assert_int_equal(dropped, 4);
	while (make_text("a", of) != NULL) {
	}
	assert_int_equal(failure, -EDQUOT);
	assert_int_equal(dropped, 5);
	json_work_free(steal(&work));
	(void)uv_run(&loop, UV_RUN_DEFAULT);
	assert_int_equal(dropped, 5 + JSON_WORK_WRITING_MAX / 2);
	assert_int_equal(of->refcount, 1);
	json_decref(of);
}

/* One whose answers fill the bound is told so, and nobody else; they are never written on the loop.
 */
static void values_that_wait_have_shares(void **state)
{
	(void)state;
	json_t *list = list_of(MANY);
	struct json_job *jobs[JSON_WORK_WRITING_MAX];
	size_t taken = 0;
	while ((jobs[taken] = write_size("w", list)) != NULL) {
		taken++;
		assert_true(taken <= JSON_WORK_WRITING_MAX / 2);
	}
	assert_int_equal(taken, JSON_WORK_WRITING_MAX / 2);
	assert_int_equal(failure, -EDQUOT);
	assert_string_equal(order, "w");
	assert_non_null(write_size("x", list));
	for (size_t i = 0; i < taken; i++) {
		json_work_cancel(jobs[i]);
	}
	(void)uv_run(&loop, UV_RUN_DEFAULT);
	assert_string_equal(order, "wx");
	/* What has ended is not counted. */
	assert_non_null(write_size("w", list));
	(void)uv_run(&loop, UV_RUN_DEFAULT);
	assert_string_equal(order, "wxw");
	json_decref(list);
}

static void what_is_large_is_told_from_what_is_small(void **state)
{
	(void)state;
	json_t *list = json_array();
	for (int i = 0; i < 1000; i++) {
		(void)json_array_append_new(list, json_integer(i));
	}
	assert_false(json_work_exceeds(list, JSON_WORK_SMALL_BYTES));
	for (int i = 0; i < 20000; i++) {
		(void)json_array_append_new(list, json_integer(i));
	}
	assert_true(json_work_exceeds(list, JSON_WORK_SMALL_BYTES));
	json_decref(list);
	char *text = calloc(1, JSON_WORK_SMALL_BYTES + 1);
	assert_non_null(text);
	memset(text, 'x', JSON_WORK_SMALL_BYTES);
	json_t *large = json_pack("{s:{s:s}}", "a", "b", text);
	assert_true(json_work_exceeds(large, JSON_WORK_SMALL_BYTES));
	json_decref(large);
	free(text);
	json_t *small = json_pack("{s:s, s:n}", "a", "b", "c");
	assert_false(json_work_exceeds(small, JSON_WORK_SMALL_BYTES));
	json_decref(small);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(a_text_is_read, setup, teardown),
	    cmocka_unit_test_setup_teardown(what_is_no_json_is_told, setup, teardown),
	    cmocka_unit_test_setup_teardown(a_value_is_written, setup, teardown),
	    cmocka_unit_test_setup_teardown(what_cannot_be_written_is_told, setup, teardown),
	    cmocka_unit_test_setup_teardown(what_is_small_is_written_at_once, setup, teardown),
	    cmocka_unit_test_setup_teardown(holders_take_turns, setup, teardown),
	    cmocka_unit_test_setup_teardown(what_is_cancelled_is_not_told, setup, teardown),
	    cmocka_unit_test_setup_teardown(nobody_is_told_after_the_end, setup, teardown),
	    cmocka_unit_test_setup_teardown(what_is_no_tree_is_made_and_dropped, setup, teardown),
	    cmocka_unit_test_setup_teardown(values_that_wait_have_shares, setup, teardown),
	    cmocka_unit_test_setup_teardown(
		what_is_large_is_told_from_what_is_small, setup, teardown),
	};
	/* So that what is begun first is done first, however busy the machine is. */
	if (setenv("UV_THREADPOOL_SIZE", "1", 1) < 0) {
		return 1;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
