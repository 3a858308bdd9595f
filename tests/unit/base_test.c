/* The small things everything else stands on. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/base64.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/json_weight.h"
#include "base/quota.h"
#include "base/text.h"
#include "base/yaml.h"

/* Whatever the memory held before. */
static void reserved_room_is_no_text(void **state)
{
	(void)state;
	cleanup(buf_fini) struct buf b = BUF_INIT(1000);
	cleanup(buf_fini) struct buf other = BUF_INIT(1000);
	char *at = buf_reserve(&other, 500);
	assert_non_null(at);
	memset(at, 'x', 500);
	buf_grew(&other, 500);
	buf_fini(&other);
	assert_non_null(buf_reserve(&b, 500));
	assert_string_equal(buf_str(&b), "");
}

static void a_buf_never_grows_past_its_maximum(void **state)
{
	(void)state;
	cleanup(buf_fini) struct buf b = BUF_INIT(10);
	assert_int_equal(buf_add(&b, "12345678", 8), 0);
	assert_int_equal(buf_add(&b, "abc", 3), -EMSGSIZE);
	assert_string_equal(buf_str(&b), "12345678");
	assert_int_equal(buf_addf(&b, "%d", 123), -EMSGSIZE);
	assert_int_equal(buf_addf(&b, "%d", 99), 0);
	assert_string_equal(buf_str(&b), "1234567899");
	assert_null(buf_reserve(&b, 1));
	assert_int_equal(buf_add(&b, "x", SIZE_MAX), -EMSGSIZE);
	buf_drop(&b, 8);
	assert_string_equal(buf_str(&b), "99");
}

static void numbers_and_sizes_are_strict(void **state)
{
	(void)state;
	uint64_t v = 7;
	assert_int_equal(text_to_u64("65535", UINT16_MAX, &v), 0);
	assert_int_equal(v, 65535);
	assert_int_equal(text_to_u64("65536", UINT16_MAX, &v), -ERANGE);
	assert_int_equal(text_to_u64("99999999999999999999", UINT64_MAX, &v), -ERANGE);
	assert_int_equal(text_to_u64("-1", 10, &v), -EINVAL);
	assert_int_equal(text_to_u64(" 1", 10, &v), -EINVAL);
	assert_int_equal(text_to_u64("", 10, &v), -EINVAL);
	assert_int_equal(text_to_bytes("64m", &v), 0);
	assert_int_equal(v, 64 << 20);
	assert_int_equal(text_to_bytes("2GiB", &v), 0);
	assert_int_equal(v, 2ULL << 30);
	assert_int_equal(text_to_bytes("4096", &v), 0);
	assert_int_equal(text_to_bytes("m", &v), -EINVAL);
	assert_int_equal(text_to_bytes("1mm", &v), -EINVAL);
	assert_int_equal(text_to_bytes("20000000000g", &v), -ERANGE);
}

static void utf8_is_judged_as_unicode_does(void **state)
{
	(void)state;
	static const char *const bad[] = {"\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xff",
	    "\xe2\x82", "a\x80", "\xf8\x88\x80\x80\x80"};
	assert_true(text_is_utf8("a\xe2\x82\xac\xf0\x9f\x98\x80", 8));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_false(text_is_utf8(bad[i], strlen(bad[i])));
		cleanup(buf_fini) struct buf b = BUF_INIT(64);
		assert_int_equal(text_add_utf8_lossy(&b, bad[i], strlen(bad[i])), 0);
		assert_true(text_is_utf8(buf_str(&b), b.len));
		assert_non_null(strstr(buf_str(&b), "\xef\xbf\xbd"));
	}
}

static void secrets_are_compared_whole(void **state)
{
	(void)state;
	assert_true(text_equal_constant_time("abcd", "abcd", 4));
	assert_false(text_equal_constant_time("abcd", "abce", 4));
	assert_false(text_equal_constant_time("xbcd", "abcd", 4));
}

static void guids_are_random_and_well_formed(void **state)
{
	(void)state;
	char a[TEXT_GUID_BYTES];
	char b[TEXT_GUID_BYTES];
	assert_int_equal(strlen(text_guid(a)), 36);
	assert_string_not_equal(a, text_guid(b));
	assert_int_equal(a[14], '4');
	assert_non_null(strchr("89ab", a[19]));
}

static void times_are_rfc3339(void **state)
{
	(void)state;
	char out[CLOCK_RFC3339_BYTES];
	assert_string_equal(
	    clock_rfc3339(1714634467992261, 7, out), "2024-05-02T07:21:07.9922610Z");
	assert_string_equal(clock_rfc3339(0, 3, out), "1970-01-01T00:00:00.000Z");
	assert_string_equal(clock_rfc3339(-1, 6, out), "1969-12-31T23:59:59.999999Z");
}

static void errors_carry_their_reason(void **state)
{
	(void)state;
	struct err e = {0};
	assert_int_equal(err_set(&e, ERR_BUSY, "pool '%s' is full", "a"), -1);
	assert_int_equal(err_prefix(&e, "file %d", 3), -1);
	assert_string_equal(e.text, "file 3: pool 'a' is full");
	assert_int_equal(err_set_os(&e, ENOENT, "opening"), -1);
	assert_string_equal(e.text, "opening: No such file or directory");
	assert_int_equal(e.os_errno, ENOENT);
	assert_int_equal(err_set(NULL, ERR_BUSY, "nobody reads this"), -1);
}

static size_t weight_of(const char *text)
{
	return json_weight(text, strlen(text));
}

static void a_json_text_is_weighed_before_it_is_read(void **state)
{
	(void)state;
	assert_int_equal(weight_of(""), 0);
	/* What is in a string weighs as text, whatever it looks like. */
	assert_int_equal(weight_of("\"[{},:\\\"[[\""), 11);
	assert_int_equal(weight_of("\"\\"), 2);
	assert_true(weight_of("{}") > weight_of("[]") && weight_of("[]") > 64);
	assert_true(weight_of("[1,2]") > weight_of("[1]") + 32);
	assert_true(weight_of("{\"a\":1}") > weight_of("{}") + 64);

	cleanup(buf_fini) struct buf bomb = BUF_INIT(8U << 20);
	assert_int_equal(buf_add_char(&bomb, '['), 0);
	while (bomb.len < (1U << 20)) {
		assert_int_equal(buf_add_str(&bomb, "{},"), 0);
	}
	assert_true(json_weight(buf_str(&bomb), bomb.len) > JSON_WEIGHT_BODY_MAX);
}

static void base64_is_strict(void **state)
{
	(void)state;
	static const char *const bad[] = {
	    "QQ=", "QQ", "QR==", "QUJ=", "Q===", "QUI=QUI=", "Q Q=", "\n"};
	for (int n = 0; n < 20; n++) {
		char in[20];
		memset(in, 0xfb, sizeof(in));
		cleanup(buf_fini) struct buf text = BUF_INIT(64);
		cleanup(buf_fini) struct buf back = BUF_INIT(64);
		assert_int_equal(base64_encode(in, (size_t)n, &text), 0);
		assert_int_equal(base64_decode(buf_str(&text), text.len, &back), 0);
		assert_int_equal(back.len, n);
		assert_memory_equal(buf_str(&back), in, (size_t)n);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		cleanup(buf_fini) struct buf b = BUF_INIT(64);
		assert_int_equal(base64_decode(bad[i], strlen(bad[i]), &b), -EINVAL);
	}
}

static json_t *yaml(const char *text, struct err *e)
{
	return yaml_parse(text, strlen(text), e);
}

static void yaml_becomes_json(void **state)
{
	(void)state;
	struct err e = {0};
	json_t *t = yaml("a: 1\nb: [true, null, 1.5, x, '1']\nc: {d: \"e\\n\"}\n", &e);
	assert_non_null(t);
	char *s = json_dumps(t, JSON_COMPACT | JSON_SORT_KEYS);
	assert_string_equal(
	    s, "{\"a\":1,\"b\":[true,null,1.5,\"x\",\"1\"],\"c\":{\"d\":\"e\\n\"}}");
	free(s);
	json_decref(t);
	t = yaml("", &e);
	assert_int_equal(json_object_size(t), 0);
	json_decref(t);
}

static void yaml_that_is_not_plain_is_refused_with_its_line(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		const char *says;
	} bad[] = {
	    {"a: 1\na: 2\n", "line 2: the key 'a' stands twice"},
	    {"a: &x 1\nb: *x\n", "aliases are not taken"},
	    {"a: !!str 1\n", "tags are not taken"},
	    {"a: [1\n", "line"},
	    {"a: 1\n---\nb: 2\n", "more than one document"},
	    {"? [a]\n: 1\n", "a key must be text"},
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct err e = {0};
		assert_null(yaml(bad[i].text, &e));
		assert_int_equal(e.code, ERR_INVALID);
		assert_non_null(strstr(e.text, bad[i].says));
	}
	cleanup(buf_fini) struct buf deep = BUF_INIT(1000);
	for (int i = 0; i < 200; i++) {
		assert_int_equal(buf_add_char(&deep, '['), 0);
	}
	struct err e = {0};
	assert_null(yaml(buf_str(&deep), &e));
	assert_non_null(strstr(e.text, "nested too deeply"));
}

static void whoever_fills_a_quota_meets_its_own_share(void **state)
{
	(void)state;
	struct quota q = QUOTA_INIT(1200);
	assert_int_equal(quota_room(&q, "hog"), 600);
	assert_int_equal(quota_charge(&q, "hog", 601), -EDQUOT);
	for (int i = 0; i < 600; i++) {
		assert_int_equal(quota_charge(&q, "hog", 1), 0);
	}
	assert_int_equal(quota_charge(&q, "hog", 1), -EDQUOT);
	assert_int_equal(quota_held(&q, "hog"), 600);
	/* The next one finds room, and so does each one after it. */
	assert_int_equal(quota_charge(&q, "second", 300), 0);
	assert_int_equal(quota_charge(&q, "second", 1), -EDQUOT);
	assert_int_equal(quota_charge(&q, "third", 150), 0);
	assert_int_equal(quota_charge(&q, "hog", 1), -EDQUOT);
	quota_release(&q, "second", 300);
	quota_release(&q, "third", 150);
	quota_release(&q, "hog", 600);
	assert_int_equal(q.held, 0);
	assert_null(q.holders);
	assert_int_equal(quota_charge(&q, "nobody", 0), 0);
	assert_null(q.holders);
	quota_fini(&q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_buf_never_grows_past_its_maximum),
	    cmocka_unit_test(reserved_room_is_no_text),
	    cmocka_unit_test(numbers_and_sizes_are_strict),
	    cmocka_unit_test(utf8_is_judged_as_unicode_does),
	    cmocka_unit_test(secrets_are_compared_whole),
	    cmocka_unit_test(guids_are_random_and_well_formed),
	    cmocka_unit_test(times_are_rfc3339),
	    cmocka_unit_test(errors_carry_their_reason),
	    cmocka_unit_test(a_json_text_is_weighed_before_it_is_read),
	    cmocka_unit_test(whoever_fills_a_quota_meets_its_own_share),
	    cmocka_unit_test(base64_is_strict),
	    cmocka_unit_test(yaml_becomes_json),
	    cmocka_unit_test(yaml_that_is_not_plain_is_refused_with_its_line),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
