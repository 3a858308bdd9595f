/* Bearer tokens: who is let in, and as whom. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/compiler.h"
#include "http/auth.h"

#define NOW_US 1700000000000000

static int add(struct auth *a, const char *token, const char *name, enum role role,
    const char *pool, int64_t expires_wall_us, struct err *e)
{
	const struct principal who = {.name = name, .role = role, .pool = pool};
	return auth_add(a, token, &who, expires_wall_us, e);
}

static int setup(void **state)
{
	struct err e;
	struct auth *a = auth_new();
	assert_non_null(a);
	assert_int_equal(add(a, "first", "one", ROLE_EXECUTE, NULL, 0, &e), 0);
	assert_int_equal(add(a, "second", "two", ROLE_ADMIN, "blue", NOW_US + 1, &e), 0);
	assert_int_equal(add(a, "third", "three", ROLE_METRICS, NULL, NOW_US, &e), 0);
	*state = a;
	return 0;
}

static int teardown(void **state)
{
	auth_free(*state);
	return 0;
}

static void known_tokens_are_let_in(void **state)
{
	const struct principal *p = NULL;
	assert_int_equal(auth_check(*state, "Bearer first", NOW_US, &p), AUTH_OK);
	assert_string_equal(p->name, "one");
	assert_int_equal(p->role, ROLE_EXECUTE);
	assert_null(p->pool);
	assert_int_equal(auth_check(*state, " bEARER \t second", NOW_US, &p), AUTH_OK);
	assert_string_equal(p->name, "two");
	assert_string_equal(p->pool, "blue");
}

/* Tokens come and go; who they stood for stays, and there is one of each. */
static void tokens_are_replaced(void **state)
{
	struct auth *a = *state;
	struct err e;
	const struct principal *before = NULL;
	const struct principal *after = NULL;
	assert_int_equal(auth_check(a, "Bearer first", NOW_US, &before), AUTH_OK);
	for (int round = 0; round < 3; round++) {
		struct auth *fresh = auth_new();
		assert_int_equal(add(fresh, "other", "one", ROLE_EXECUTE, NULL, 0, &e), 0);
		assert_int_equal(auth_replace(a, fresh, "two", &e), 0);
		auth_free(fresh);
		assert_int_equal(auth_check(a, "Bearer first", NOW_US, &after), AUTH_UNKNOWN);
		assert_int_equal(auth_check(a, "Bearer other", NOW_US, &after), AUTH_OK);
		assert_ptr_equal(after, before);
		assert_int_equal(auth_check(a, "Bearer second", NOW_US, &after), AUTH_OK);
		assert_true(auth_has(a, "two"));
		assert_false(auth_has(a, "three"));
	}
	struct auth *fresh = auth_new();
	assert_int_equal(add(fresh, "other", "one", ROLE_ADMIN, NULL, 0, &e), 0);
	assert_int_equal(add(fresh, "second", "new", ROLE_EXECUTE, NULL, 0, &e), 0);
	assert_int_equal(auth_replace(a, fresh, "two", &e), 0);
	auth_free(fresh);
	assert_int_equal(auth_check(a, "Bearer other", NOW_US, &after), AUTH_OK);
	assert_int_equal(after->role, ROLE_ADMIN);
	assert_int_equal(auth_check(a, "Bearer second", NOW_US, &after), AUTH_OK);
	assert_string_equal(after->name, "new"); /* a token that is kept and given anew is new */
	assert_string_equal(before->name, "one");
	assert_int_equal(before->role, ROLE_EXECUTE);
}

static void a_token_has_a_tenant(void **state)
{
	const struct principal *p = NULL;
	struct err e;
	char prefix[] = "acme";
	const struct principal who = {.name = "four", .role = ROLE_EXECUTE, .prefix = prefix};
	assert_int_equal(auth_add(*state, "fourth", &who, 0, &e), 0);
	prefix[0] = 'X'; /* it has been copied */
	assert_int_equal(auth_check(*state, "Bearer fourth", NOW_US, &p), AUTH_OK);
	assert_string_equal(p->prefix, "acme");
	assert_int_equal(auth_check(*state, "Bearer first", NOW_US, &p), AUTH_OK);
	assert_null(p->prefix);
}

static void a_token_without_a_name_has_one_of_its_own(void **state)
{
	const struct principal *p = NULL;
	struct err e;
	assert_int_equal(add(*state, "unnamed", NULL, ROLE_EXECUTE, NULL, 0, &e), 0);
	assert_int_equal(add(*state, "unnamed too", NULL, ROLE_EXECUTE, NULL, 0, &e), -1);
	assert_int_equal(add(*state, "unnamed-too", NULL, ROLE_EXECUTE, NULL, 0, &e), 0);
	assert_int_equal(auth_check(*state, "Bearer unnamed", NOW_US, &p), AUTH_OK);
	assert_string_equal(
	    p->name, "token-e882bcaa"); /* of its SHA-256: the same in every server */
	assert_int_equal(auth_check(*state, "Bearer unnamed-too", NOW_US, &p), AUTH_OK);
	assert_string_not_equal(p->name, "token-e882bcaa");
}

static void others_are_told_why_not(void **state)
{
	static const struct {
		const char *header;
		enum auth_result result;
	} cases[] = {
	    {NULL, AUTH_MISSING},
	    {"", AUTH_MALFORMED},
	    {"Bearer", AUTH_MALFORMED},
	    {"Bearer ", AUTH_MALFORMED},
	    {"Bearerfirst", AUTH_MALFORMED},
	    {"Basic first", AUTH_MALFORMED},
	    {"first", AUTH_MALFORMED},
	    {"Bearer first second", AUTH_MALFORMED},
	    {"Bearer f\xc3\xa4rst", AUTH_MALFORMED},
	    {"Bearer firs", AUTH_UNKNOWN},
	    {"Bearer firstx", AUTH_UNKNOWN},
	    {"Bearer First", AUTH_UNKNOWN},
	    {"Bearer third", AUTH_EXPIRED},
	};
	const struct principal *p = NULL;
	for (size_t i = 0; i < array_len(cases); i++) {
		assert_int_equal(auth_check(*state, cases[i].header, NOW_US, &p), cases[i].result);
		assert_null(p);
		assert_non_null(auth_result_text(cases[i].result));
	}
	assert_int_equal(auth_check(*state, "Bearer second", NOW_US + 1, &p), AUTH_EXPIRED);
}

static void without_tokens_nobody_is_let_in(void **state)
{
	(void)state;
	const struct principal *p = NULL;
	struct auth *a = auth_new();
	assert_non_null(a);
	assert_int_equal(auth_check(a, "Bearer x", NOW_US, &p), AUTH_UNKNOWN);
	assert_false(auth_is_disabled(a));
	auth_set_disabled(a);
	assert_true(auth_is_disabled(a));
	assert_int_equal(auth_check(a, NULL, NOW_US, &p), AUTH_OK);
	assert_string_equal(p->name, "anonymous");
	assert_int_equal(p->role, ROLE_ADMIN);
	auth_free(a);
}

static void bad_tokens_are_not_taken(void **state)
{
	struct err e;
	char longest[AUTH_TOKEN_MAX_BYTES + 2];
	memset(longest, 'x', sizeof(longest));
	longest[AUTH_TOKEN_MAX_BYTES + 1] = '\0';
	static const char *const bad[] = {"", "a b", "a\n", "a\x7f", "\xc3\xa4"};
	for (size_t i = 0; i < array_len(bad); i++) {
		assert_int_equal(add(*state, bad[i], "n", ROLE_ADMIN, NULL, 0, &e), -1);
		assert_int_equal(e.code, ERR_INVALID);
	}
	assert_int_equal(add(*state, longest, "n", ROLE_ADMIN, NULL, 0, &e), -1);
	longest[AUTH_TOKEN_MAX_BYTES] = '\0';
	assert_int_equal(add(*state, longest, "n", ROLE_ADMIN, NULL, 0, &e), 0);
	assert_int_equal(add(*state, "first", "again", ROLE_ADMIN, NULL, 0, &e), -1);
	assert_int_equal(e.code, ERR_CONFLICT);
	assert_null(strstr(e.text, "first"));
	assert_int_equal(add(*state, "fine", "n", ROLE_NONE, NULL, 0, &e), -1);
}

static void there_is_a_bound(void **state)
{
	struct err e;
	char token[16];
	for (int i = 3; i < AUTH_TOKENS_MAX; i++) {
		(void)snprintf(token, sizeof(token), "t%d", i);
		assert_int_equal(add(*state, token, token, ROLE_ADMIN, NULL, 0, &e), 0);
	}
	assert_int_equal(add(*state, "more", "more", ROLE_ADMIN, NULL, 0, &e), -1);
	assert_int_equal(e.code, ERR_BUSY);
	const struct principal *p = NULL;
	assert_int_equal(auth_check(*state, "Bearer t255", NOW_US, &p), AUTH_OK);
	assert_string_equal(p->name, "t255");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(known_tokens_are_let_in, setup, teardown),
	    cmocka_unit_test_setup_teardown(tokens_are_replaced, setup, teardown),
	    cmocka_unit_test_setup_teardown(
		a_token_without_a_name_has_one_of_its_own, setup, teardown),
	    cmocka_unit_test_setup_teardown(a_token_has_a_tenant, setup, teardown),
	    cmocka_unit_test_setup_teardown(others_are_told_why_not, setup, teardown),
	    cmocka_unit_test(without_tokens_nobody_is_let_in),
	    cmocka_unit_test_setup_teardown(bad_tokens_are_not_taken, setup, teardown),
	    cmocka_unit_test_setup_teardown(there_is_a_bound, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
