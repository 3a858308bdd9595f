/* JSON as text: what is written reads back, and what claims to be JSON is JSON or refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>

#include "base/json_text.h"

static void check(const char *text, const char *expected)
{
	cleanup(buf_fini) struct buf b = BUF_INIT(1U << 20);
	(void)buf_add_str(&b, "before");
	int r = json_text_add_checked(&b, text, strlen(text));
	if ((r == 0) != (expected != NULL)) {
		print_error("%s: %d\n", text, r);
	}
	assert_int_equal(r, expected != NULL ? 0 : -EINVAL);
	assert_string_equal(buf_str(&b) + 6, expected != NULL ? expected : "");
}

static void json_is_copied_as_it_stands(void **state)
{
	(void)state;
	static const char *const texts[] = {"null", "true", "false", "0", "-0", "12", "1.5",
	    "-1e+400", "1E5", "1.25e-7",
	    "123456789012345678901234567890123456789012345678901234567890", "\"\"",
	    "\"a\\\"b\\\\ \\n\\u00e9 \xc3\xa9 \\ud83d\\ude00\"", "[]", "{}", "[ ]", "[1,[2,{}],3]",
	    "{\"a\":{\"b\":[null, 1 ]} , \"\":0}", " \t\r\n[1]\n"};
	for (size_t i = 0; i < array_len(texts); i++) {
		check(texts[i], texts[i]);
	}
}

static void what_others_refuse_is_mended(void **state)
{
	(void)state;
	check("NaN", "null");
	check("[NaN,Infinity,-Infinity,1]", "[null,null,null,1]");
	check("{\"a\":NaN}", "{\"a\":null}");
	check("\"\\ud800\"", "\"\\ufffd\"");
	check("\"x\\udc00y\\uD83D\"", "\"x\\ufffdy\\ufffd\"");
	check("\"\\ud83d\\ud83d\\ude00\"", "\"\\ufffd\\ud83d\\ude00\"");
	check("\"\\ud83d\\n\"", "\"\\ufffd\\n\"");
	check("[\"\\ud800\",NaN,\"\\udfff\"]", "[\"\\ufffd\",null,\"\\ufffd\"]");
}

static void what_is_no_json_is_refused(void **state)
{
	(void)state;
	static const char *const texts[] = {"", " ", "nul", "truex", "tru", "+1", "01", "-", "1.",
	    ".5", "1e", "1e+", "--1", "-NaN", "Inf", "\"", "\"a", "\"\\", "\"\\x\"", "\"\\u12\"",
	    "\"\\u12g4\"", "\"\n\"", "\"\t\"", "[", "]", "[1", "[1,", "[1,]", "[,1]", "[1 2]", "{",
	    "}", "{\"a\"", "{\"a\":", "{\"a\":1", "{\"a\":1,", "{\"a\":1,}", "{a:1}", "{1:1}",
	    "{\"a\" 1}", "[}", "{]", "[1}", "{\"a\":1]", "1 1", "[] []", "1,\"error\":null",
	    "null}", "'a'", "\"\xff\"", "\"\xed\xa0\x80\"", "/* */ 1"};
	for (size_t i = 0; i < array_len(texts); i++) {
		check(texts[i], NULL);
	}
}

static void a_nul_ends_nothing(void **state)
{
	(void)state;
	cleanup(buf_fini) struct buf b = BUF_INIT(100);
	assert_int_equal(json_text_add_checked(&b, "1\0", 2), -EINVAL);
	assert_int_equal(json_text_add_checked(&b, "[\0]", 3), -EINVAL);
	assert_int_equal(json_text_add_checked(&b, "\"\0\"", 3), -EINVAL);
	assert_int_equal(b.len, 0);
}

static void depth_is_bounded(void **state)
{
	(void)state;
	enum { DEEP = JSON_TEXT_DEPTH_MAX };
	static char text[2 * DEEP + 3];
	for (unsigned extra = 0; extra < 2; extra++) {
		unsigned depth = DEEP + extra;
		memset(text, '[', depth);
		memset(text + depth, ']', depth);
		text[2 * depth] = '\0';
		check(text, extra == 0 ? text : NULL);
	}
}

/* Every beginning of a text is refused, and nothing is read behind its end. */
static void a_text_that_is_cut_is_refused(void **state)
{
	(void)state;
	static const char text[] = "{\"a\":[1.5e3,\"\\ud83d\\ude00\",{\"b\":NaN}],\"c\":true}";
	for (size_t len = 0; len + 1 < sizeof(text); len++) {
		cleanup(buf_fini) struct buf b = BUF_INIT(1000);
		char *exact = malloc(len == 0 ? 1 : len);
		assert_non_null(exact);
		memcpy(exact, text, len);
		assert_int_equal(json_text_add_checked(&b, exact, len), -EINVAL);
		free(exact);
	}
}

/* However a text is cut, what comes of it is what comes of the whole. */
static void pieces_make_the_same_as_the_whole(void **state)
{
	(void)state;
	static const char *const texts[] = {
	    "{\"a\":[1.5e-3,-0,\"\\ud83d\\ude00 \xf0\x9f\x98\x80\"],\"\\n\":-Infinity}",
	    "[\"\\ud800\\ud800\\udc00\\udc00\",\"\\ud800\\n\",\"\\ud800x\"]",
	    "[\"\\ud800\",NaN, true , null,\"\xe2\x82\xac\"]", "Infinity", "-12.50E+7", "0",
	    "[\"\\ud83dx\\ude00\"", "\"\xe2\x82\"", "-I", "[1,]", "\"\xe2\x82\xacz"};
	for (size_t t = 0; t < array_len(texts); t++) {
		size_t len = strlen(texts[t]);
		cleanup(buf_fini) struct buf whole = BUF_INIT(1000);
		int r = json_text_add_checked(&whole, texts[t], len);
		for (size_t step = 1; step < len; step++) {
			cleanup(buf_fini) struct buf b = BUF_INIT(1000);
			struct json_stream s;
			json_stream_init(&s);
			int had = 0;
			for (size_t at = 0; had == 0 && at < len; at += step) {
				size_t n = len - at < step ? len - at : step;
				had = json_stream_add(&s, texts[t] + at, n, &b);
			}
			had = had < 0 ? had : json_stream_end(&s, &b);
			assert_int_equal(had, r);
			if (r == 0) {
				assert_string_equal(buf_str(&b), buf_str(&whole));
			}
		}
	}
}

static void pieces_of_a_string_make_the_same_as_the_whole(void **state)
{
	(void)state;
	static const char *const texts[] = {"a\"\xe2\x82\xac\xf0\x9f\x98\x80\n", "\xf0\xe2\x82\xac",
	    "\xe2\x82", "\xf0\x9f\x98", "\xf0\x9f\x98z\xff\x80\x80", "\xed\xa0\x80x"};
	for (size_t t = 0; t < array_len(texts); t++) {
		size_t len = strlen(texts[t]);
		cleanup(buf_fini) struct buf whole = BUF_INIT(1000);
		assert_int_equal(json_text_add_inside(&whole, texts[t], len), 0);
		for (size_t step = 1; step <= len; step++) {
			cleanup(buf_fini) struct buf b = BUF_INIT(1000);
			struct json_quoting q = {0};
			for (size_t at = 0; at < len; at += step) {
				size_t n = len - at < step ? len - at : step;
				assert_int_equal(
				    json_quoting_add(&q, texts[t] + at, n, at + n == len, &b), 0);
			}
			assert_string_equal(buf_str(&b), buf_str(&whole));
		}
	}
}

static void a_full_buffer_is_told_and_left_alone(void **state)
{
	(void)state;
	cleanup(buf_fini) struct buf b = BUF_INIT(8);
	(void)buf_add_str(&b, "123");
	assert_int_equal(json_text_add_checked(&b, "[1,2,3,4]", 9), -EMSGSIZE);
	assert_int_equal(json_text_add_string(&b, "\n\n\n", 3), -EMSGSIZE);
	assert_string_equal(buf_str(&b), "123");
}

static void strings_read_back(void **state)
{
	(void)state;
	for (unsigned first = 0; first < 256; first++) {
		cleanup(buf_fini) struct buf b = BUF_INIT(1000);
		const char bytes[] = {'a', (char)first, 'z'};
		assert_int_equal(json_text_add_string(&b, bytes, sizeof(bytes)), 0);
		json_t *j = json_loadb(b.data, b.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
		assert_non_null(j);
		if (first < 0x80) {
			assert_int_equal(json_string_length(j), 3);
			assert_memory_equal(json_string_value(j), bytes, 3);
		} else {
			assert_string_equal(json_string_value(j), "a\xef\xbf\xbdz");
		}
		json_decref(j);
	}
}

static void reals_are_as_python_prints_them(void **state)
{
	(void)state;
	static const struct {
		double value;
		const char *text;
	} cases[] = {{5, "5.0"}, {0.5, "0.5"}, {0.1, "0.1"}, {30, "30.0"}, {1e-7, "1e-07"},
	    {1.0 / 3, "0.3333333333333333"}, {-2.25, "-2.25"}};
	for (size_t i = 0; i < array_len(cases); i++) {
		cleanup(buf_fini) struct buf b = BUF_INIT(100);
		assert_int_equal(json_text_add_real(&b, cases[i].value), 0);
		assert_string_equal(buf_str(&b), cases[i].text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(json_is_copied_as_it_stands),
	    cmocka_unit_test(what_others_refuse_is_mended),
	    cmocka_unit_test(what_is_no_json_is_refused),
	    cmocka_unit_test(a_nul_ends_nothing),
	    cmocka_unit_test(depth_is_bounded),
	    cmocka_unit_test(a_text_that_is_cut_is_refused),
	    cmocka_unit_test(pieces_make_the_same_as_the_whole),
	    cmocka_unit_test(pieces_of_a_string_make_the_same_as_the_whole),
	    cmocka_unit_test(a_full_buffer_is_told_and_left_alone),
	    cmocka_unit_test(strings_read_back),
	    cmocka_unit_test(reals_are_as_python_prints_them),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
