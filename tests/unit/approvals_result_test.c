/* What is kept of a run: hostile bytes, values that JSON cannot carry, and more than fits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "approvals/result.h"
#include "base/compiler.h"
#include "base/text.h"

/* An execution that has ended; its buffers are the test's. */
static struct execution ended(enum verdict v)
{
	struct execution x = {.state = EXECUTION_SUCCEEDED, .verdict = v, .duration_us = 1500};
	x.out = x.err = BUF_INIT(64U << 20);
	x.value.json = x.value.text = BUF_INIT(64U << 20);
	x.value.error_name = x.value.error_value = x.value.traceback = BUF_INIT(64U << 20);
	return x;
}

static void fini(struct execution *x)
{
	buf_fini(&x->out);
	buf_fini(&x->err);
	buf_fini(&x->value.json);
	buf_fini(&x->value.text);
	buf_fini(&x->value.error_name);
	buf_fini(&x->value.error_value);
	buf_fini(&x->value.traceback);
}

static const char *text_of(const json_t *j, const char *name)
{
	const char *text = json_string_value(json_object_get(j, name));
	return text != NULL ? text : "";
}

static int64_t cut_of(const json_t *j, const char *name)
{
	return json_integer_value(json_object_get(json_object_get(j, "truncated"), name));
}

static void fill(struct buf *b, char c, size_t len)
{
	char *at = buf_reserve(b, len);
	assert_non_null(at);
	memset(at, c, len);
	buf_grew(b, len);
}

static void bytes_become_text(void **state)
{
	cleanup(fini) struct execution x = ended(VERDICT_SUCCEEDED);
	(void)state;
	(void)buf_add(&x.out, "a\xff\xc3\0b", 5);
	(void)buf_add(&x.err, "\xed\xa0\x80", 3); /* a surrogate */
	cleanup(json_decrefp) json_t *r = result_of(&x, "id:1");
	const json_t *out = json_object_get(r, "stdout");
	assert_int_equal(json_string_length(out), 1 + 3 + 3 + 1 + 1);
	assert_memory_equal(json_string_value(out), "a\xef\xbf\xbd\xef\xbf\xbd\0b", 9);
	assert_string_equal(text_of(r, "run"), "id:1");
	assert_int_equal(json_integer_value(json_object_get(r, "duration_ms")), 2);
	cleanup(text_free) char *dumped = json_dumps(r, JSON_COMPACT);
	assert_non_null(dumped);
	assert_non_null(strstr(dumped, "\\u0000"));
}

static void values_are_json_where_it_can_carry_them(void **state)
{
	static const struct {
		enum ipc_kind kind;
		const char *json, *text, *value;
	} rows[] = {
	    {IPC_KIND_NONE, "", "", "null"},
	    {IPC_KIND_NULL, "null", "None", "null"},
	    {IPC_KIND_INT, "42", "42", "42"},
	    {IPC_KIND_BOOL, "true", "True", "true"},
	    {IPC_KIND_FLOAT, "0.5", "0.5", "0.5"},
	    {IPC_KIND_FLOAT, "NaN", "nan", "null"},
	    {IPC_KIND_FLOAT, "", "inf", "\"inf\""},
	    {IPC_KIND_INT, "99999999999999999999", "99999999999999999999",
		"\"99999999999999999999\""},
	    {IPC_KIND_STR, "\"a\\\"b\"", "", "\"a\\\"b\""},
	    {IPC_KIND_OTHER, "[1, {\"a\": null}]", "", "[1, {\"a\": null}]"},
	    {IPC_KIND_OTHER, "", "<object>", "\"<object>\""},
	    /* A session may say anything. */
	    {IPC_KIND_OTHER, "[NaN, \"\\ud800\"]", "", "[null, \"\xef\xbf\xbd\"]"},
	    {IPC_KIND_BOOL, "[[[[", "", "\"[[[[\""},
	    {IPC_KIND_FLOAT, "1e999", "inf", "\"inf\""},
	    {IPC_KIND_STR, "\"a\\u0000b\"", "", "\"a\\u0000b\""},
	};
	(void)state;
	for (size_t i = 0; i < array_len(rows); i++) {
		cleanup(fini) struct execution x = ended(VERDICT_SUCCEEDED);
		x.value.kind = rows[i].kind;
		(void)buf_add_str(&x.value.json, rows[i].json);
		(void)buf_add_str(&x.value.text, rows[i].text);
		cleanup(json_decrefp) json_t *r = result_of(&x, "id:1");
		cleanup(text_free) char *value = json_dumps(
		    json_object_get(r, "value"), JSON_ENCODE_ANY);
		assert_string_equal(value, rows[i].value);
		assert_string_equal(text_of(r, "value_text"), rows[i].text);
	}
}

static void how_it_ended_is_told(void **state)
{
	cleanup(fini) struct execution x = ended(VERDICT_TIME_LIMIT);
	(void)state;
	x.state = EXECUTION_FAILED;
	(void)buf_add_str(&x.value.error_name, "KeyboardInterrupt");
	cleanup(json_decrefp) json_t *r = result_of(&x, "id:2");
	assert_string_equal(text_of(r, "status"), "Failed");
	assert_string_equal(text_of(r, "verdict"), "time_limit");
	assert_non_null(strstr(text_of(r, "why"), "limit of time"));
	assert_string_equal(text_of(json_object_get(r, "error"), "name"), "KeyboardInterrupt");
	cleanup(fini) struct execution fine = ended(VERDICT_SUCCEEDED);
	cleanup(json_decrefp) json_t *good = result_of(&fine, "id:2");
	assert_true(json_is_null(json_object_get(good, "error")));
	assert_true(json_is_null(json_object_get(good, "why")));
	assert_int_equal(json_object_size(json_object_get(good, "truncated")), 0);
}

static struct display *image(size_t len)
{
	struct display *d = calloc(1, sizeof(*d));
	assert_non_null(d);
	d->count = 1;
	d->items[0].mime = strdup("image/png");
	d->items[0].data = calloc(1, len);
	d->items[0].len = len;
	return d;
}

/* Each part as large as the engine may hand over, in bytes that JSON makes six of. */
static void what_does_not_fit_is_cut_and_says_so(void **state)
{
	cleanup(fini) struct execution x = ended(VERDICT_EXCEPTION);
	struct display *shown[] = {image(1 << 20), image(8 << 20), image(1000)};
	(void)state;
	fill(&x.out, '\x01', 16 << 20);
	fill(&x.err, '"', 16 << 20);
	fill(&x.value.text, '\xff', 16 << 20);
	fill(&x.value.error_name, '\x02', 16 << 20);
	fill(&x.value.error_value, '\x02', 16 << 20);
	fill(&x.value.traceback, '\x02', 16 << 20);
	x.value.kind = IPC_KIND_OTHER;
	x.out_cut_bytes = 5;
	x.displays = shown;
	x.display_count = array_len(shown);
	cleanup(json_decrefp) json_t *r = result_of(&x, "id:1");
	assert_non_null(r);
	assert_true(json_dumpb(r, NULL, 0, JSON_COMPACT) <= RESULT_MAX_BYTES);
	size_t kept = json_string_length(json_object_get(r, "stdout"));
	assert_true(kept > 0);
	assert_int_equal(cut_of(r, "stdout"), (16 << 20) + 5 - (int64_t)kept);
	assert_true(cut_of(r, "stderr") > 0);
	assert_true(cut_of(r, "value") > 0);
	assert_true(cut_of(r, "error") > 0);
	assert_int_equal(json_array_size(json_object_get(r, "displays")), 2);
	assert_int_equal(cut_of(r, "displays"), 1);
	for (size_t i = 0; i < array_len(shown); i++) {
		display_free(shown[i]);
	}
}

/* Not in the middle of a character. */
static void a_cut_text_is_whole(void **state)
{
	cleanup(fini) struct execution x = ended(VERDICT_OUTPUT_LIMIT);
	(void)state;
	(void)buf_add_char(&x.out, 'x');
	for (int i = 0; i < 1 << 20; i++) {
		(void)buf_add_str(&x.out, "\xe2\x82\xac");
	}
	cleanup(json_decrefp) json_t *r = result_of(&x, "id:1");
	size_t kept = json_string_length(json_object_get(r, "stdout"));
	assert_int_equal(kept % 3, 1);
	assert_int_equal(cut_of(r, "stdout"), (3 << 20) + 1 - (int64_t)kept);
}

/* What a shell would make of each end. */
static void an_end_has_an_exit_code(void **state)
{
	static const struct {
		enum verdict verdict;
		uint32_t own;
		bool raised;
		int64_t code;
	} rows[] = {
	    {VERDICT_SUCCEEDED, 0, false, 0},
	    {VERDICT_OUTPUT_LIMIT, 0, false, 0},
	    {VERDICT_EXITED, 0, false, 0},
	    {VERDICT_EXITED, 3, false, 3},
	    {VERDICT_EXCEPTION, 0, true, 1},
	    {VERDICT_EXCEPTION, 42, false, 42}, /* a shell command */
	    {VERDICT_MEMORY_LIMIT, 0, true, 1}, /* MemoryError */
	    {VERDICT_MEMORY_LIMIT, 0, false, 137},
	    {VERDICT_SESSION_KILLED, 0, false, 137},
	    {VERDICT_TIME_LIMIT, 0, true, 124},
	    {VERDICT_TIME_LIMIT, 0, false, 124},
	    {VERDICT_INTERRUPTED, 0, true, 130},
	};
	(void)state;
	for (size_t i = 0; i < array_len(rows); i++) {
		cleanup(fini) struct execution x = ended(rows[i].verdict);
		x.value.exit_code = rows[i].own;
		if (rows[i].raised) {
			(void)buf_add_str(&x.value.traceback, "Traceback");
		}
		cleanup(json_decrefp) json_t *r = result_of(&x, "id:1");
		assert_int_equal(json_integer_value(json_object_get(r, "exit_code")), rows[i].code);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(bytes_become_text),
	    cmocka_unit_test(values_are_json_where_it_can_carry_them),
	    cmocka_unit_test(how_it_ended_is_told),
	    cmocka_unit_test(an_end_has_an_exit_code),
	    cmocka_unit_test(what_does_not_fit_is_cut_and_says_so),
	    cmocka_unit_test(a_cut_text_is_whole),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
