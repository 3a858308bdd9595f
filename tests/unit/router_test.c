/* The router: prefixes, patterns, decoding; and the range header beside it. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/compiler.h"
#include "http/range.h"
#include "http/router.h"

static void handle(struct call *c)
{
	(void)c;
}

#define ROUTE(m, p)                                             \
	{                                                       \
		.method = (m), .pattern = (p), .handle = handle \
	}

static const struct route routes[] = {
    ROUTE(CALL_GET, "files/{name}"),
    ROUTE(CALL_DELETE, "files/{name}"),
    ROUTE(CALL_POST, "files/upload"),
    ROUTE(CALL_GET, "files/{name}/content"),
    ROUTE(CALL_GET, "files/content/{name}"),
    ROUTE(CALL_GET, "tree/{rest...}"),
    ROUTE(CALL_GET, "tree/{a}/x"),
    ROUTE(CALL_HEAD, "head"),
    ROUTE(CALL_GET, "head"),
    ROUTE(CALL_POST, "executions"),
    ROUTE(CALL_GET, ""),
    {.method = CALL_POST, .pattern = "code/{x}/run", .handle = handle, .flags = ROUTE_ANY_CASE},
};

static int setup(void **state)
{
	struct router *r = router_new();
	assert_non_null(r);
	assert_int_equal(router_add(r, routes, 7, (void *)(uintptr_t)1), 0);
	assert_int_equal(router_add(r, routes + 7, 5, (void *)(uintptr_t)2), 0);
	*state = r;
	return 0;
}

static int teardown(void **state)
{
	router_free(*state);
	return 0;
}

static void check(void **state, enum call_method method, const char *path, int expected,
    const char *pattern, struct route_match *m)
{
	int got = router_find(*state, method, path, m);
	if (got != expected) {
		fail_msg("%s: %d instead of %d", path, got, expected);
	}
	if (expected == 0) {
		assert_string_equal(m->route->pattern, pattern);
	}
}

static void finds(void **state, enum call_method method, const char *path, const char *pattern)
{
	struct route_match m;
	check(state, method, path, 0, pattern, &m);
	assert_int_equal(m.route->method, method == CALL_HEAD ? m.route->method : method);
	route_match_fini(&m);
}

static void refuses(void **state, enum call_method method, const char *path, int expected)
{
	struct route_match m;
	check(state, method, path, expected, NULL, &m);
	assert_null(m.route);
	route_match_fini(&m);
}

static void patterns_are_matched(void **state)
{
	finds(state, CALL_GET, "/files/a", "files/{name}");
	finds(state, CALL_POST, "/files/upload", "files/upload");
	finds(state, CALL_GET, "/files/upload", "files/{name}");
	finds(state, CALL_GET, "/files/a/content", "files/{name}/content");
	finds(state, CALL_GET, "/files/content/a", "files/content/{name}");
	finds(state, CALL_GET, "/files/content/content", "files/content/{name}");
	finds(state, CALL_GET, "/tree/a/b", "tree/{rest...}");
	finds(state, CALL_GET, "/tree/a/x", "tree/{a}/x");
	finds(state, CALL_GET, "/", "");
	finds(state, CALL_GET, "//", "");
	refuses(state, CALL_GET, "/tree", -ENOENT);
	refuses(state, CALL_GET, "/files", -ENOENT);
	refuses(state, CALL_GET, "/filesx/a", -ENOENT);
	refuses(state, CALL_GET, "/file/a", -ENOENT);
}

static void a_route_may_take_any_case(void **state)
{
	finds(state, CALL_POST, "/code/A/run", "code/{x}/run");
	finds(state, CALL_POST, "/CODE/a/Run", "code/{x}/run");
	finds(state, CALL_POST, "/sessionPools/p/Code/a/run", "code/{x}/run");
	refuses(state, CALL_POST, "/Code/a/runs", -ENOENT);
	refuses(state, CALL_POST, "/Cod/a/run", -ENOENT);
	refuses(state, CALL_POST, "/Executions", -ENOENT);
}

static void empty_segments_are_nothing(void **state)
{
	finds(state, CALL_GET, "//files//a///", "files/{name}");
	finds(state, CALL_POST, "/executions/", "executions");
}

static void other_methods_are_told(void **state)
{
	struct route_match m;
	check(state, CALL_PUT, "/files/upload", -ENOTSUP, NULL, &m);
	assert_int_equal(m.allowed, 1U << CALL_GET | 1U << CALL_DELETE | 1U << CALL_POST);
	route_match_fini(&m);
	refuses(state, CALL_OTHER, "/executions", -ENOTSUP);
	refuses(state, CALL_GET, "/executions", -ENOTSUP);
	refuses(state, CALL_HEAD, "/executions", -ENOTSUP);
}

static void head_falls_back_on_get(void **state)
{
	struct route_match m;
	check(state, CALL_HEAD, "/files/a", 0, "files/{name}", &m);
	assert_int_equal(m.route->method, CALL_GET);
	route_match_fini(&m);
	check(state, CALL_HEAD, "/head", 0, "head", &m);
	assert_int_equal(m.route->method, CALL_HEAD);
	route_match_fini(&m);
}

static void check_prefix(
    void **state, const char *path, const char *pattern, const char *pool, const char *identifier)
{
	struct route_match m;
	check(state, CALL_GET, path, 0, pattern, &m);
	if (pool == NULL) {
		assert_null(m.pool);
	} else {
		assert_non_null(m.pool);
		assert_string_equal(m.pool, pool);
	}
	if (identifier == NULL) {
		assert_null(m.path_identifier);
	} else {
		assert_non_null(m.path_identifier);
		assert_string_equal(m.path_identifier, identifier);
	}
	route_match_fini(&m);
}

static void prefixes_are_stripped(void **state)
{
	check_prefix(state, "/files/a", "files/{name}", NULL, NULL);
	check_prefix(state, "/sessionPools/p/files/a", "files/{name}", "p", NULL);
	check_prefix(state, "/subscriptions/s/resourceGroups/g/sessionPools/p%20q/files/a",
	    "files/{name}", "p q", NULL);
	check_prefix(state, "/SessionPOOLS/p/files/a", "files/{name}", "p", NULL);
	check_prefix(state, "/sessionPools/p/sessionPools/q/files/a", "files/{name}", "q", NULL);
	check_prefix(state, "/sessionPools/p/identifier/i%2f/files/a", "files/{name}", "p", "i/");
	check_prefix(state, "/identifier/i/files/a", "files/{name}", NULL, "i");
	check_prefix(state, "/sessionPools/p", "", "p", NULL);
	check_prefix(state, "/sessionPools/identifier/identifier/files/files/a", "files/{name}",
	    "identifier", "files");
}

static void names_may_look_like_prefixes(void **state)
{
	check_prefix(state, "/files/sessionPools", "files/{name}", NULL, NULL);
	check_prefix(state, "/files/content/sessionPools", "files/content/{name}", NULL, NULL);
	check_prefix(
	    state, "/sessionPools/p/files/content/sessionPools", "files/content/{name}", "p", NULL);
	check_prefix(state, "/files/identifier", "files/{name}", NULL, NULL);
}

static void parameters_are_decoded_after_the_cut(void **state)
{
	struct route_match m;
	check(state, CALL_GET, "/files/a%2Fb%20%C3%A4%25", 0, "files/{name}", &m);
	assert_string_equal(m.params[0], "a/b \xc3\xa4%");
	assert_null(m.params[1]);
	assert_string_equal(m.path, "/files/a/b \xc3\xa4%");
	assert_ptr_equal(m.app, (void *)(uintptr_t)1);
	route_match_fini(&m);
	check(state, CALL_GET, "/tree/a//b%2fc/d", 0, "tree/{rest...}", &m);
	assert_string_equal(m.params[0], "a/b/c/d");
	route_match_fini(&m);
	/* An encoded literal is that literal. */
	finds(state, CALL_GET, "/f%69les/a", "files/{name}");
}

static void bad_encodings_are_refused(void **state)
{
	static const char *const bad[] = {"/files/%", "/files/%4", "/files/%4g", "/files/%%41",
	    "/files/a%00b", "files/a", "", "*"};
	for (size_t i = 0; i < array_len(bad); i++) {
		refuses(state, CALL_GET, bad[i], -EINVAL);
	}
}

static void too_many_segments_are_not_found(void **state)
{
	char path[2 * ROUTER_SEGMENTS_MAX + 3] = "";
	for (size_t i = 0; i <= ROUTER_SEGMENTS_MAX; i++) {
		memcpy(path + 2 * i, "/a", 3);
	}
	refuses(state, CALL_GET, path, -ENOENT);
}

static void bad_patterns_are_refused(void **state)
{
	(void)state;
	static const char *const bad[] = {"/a", "a/", "a//b", "{}", "{a", "a}", "a{b}", "{...}",
	    "{a...}/b", "{a}/{b}/{c}/{d}/{e}", "1/2/3/4/5/6/7/8/9/10/11/12/13"};
	struct router *r = router_new();
	assert_non_null(r);
	for (size_t i = 0; i < array_len(bad); i++) {
		struct route route = ROUTE(CALL_GET, bad[i]);
		if (router_add(r, &route, 1, NULL) != -EINVAL) {
			fail_msg("%s was taken", bad[i]);
		}
	}
	struct route many[ROUTER_ROUTES_MAX + 1];
	for (size_t i = 0; i < array_len(many); i++) {
		many[i] = (struct route)ROUTE(CALL_GET, "a");
	}
	assert_int_equal(router_add(r, many, array_len(many), NULL), -ENOSPC);
	assert_int_equal(router_add(r, many, ROUTER_ROUTES_MAX, NULL), 0);
	router_free(r);
}

static void methods_have_names(void **state)
{
	(void)state;
	for (int i = 0; i < CALL_OTHER; i++) {
		assert_int_equal(method_of(method_name((enum call_method)i)), i);
	}
	assert_int_equal(method_of("OPTIONS"), CALL_OTHER);
	assert_int_equal(method_of("get"), CALL_OTHER);
	assert_int_equal(method_of("OTHER"), CALL_OTHER);
}

static void ranges(void **state)
{
	(void)state;
	static const struct {
		const char *header;
		uint64_t size;
		enum range_kind kind;
		uint64_t first, len;
	} cases[] = {
	    {NULL, 10, RANGE_NONE, 0, 0},
	    {"bytes=0-0", 10, RANGE_ONE, 0, 1},
	    {"Bytes=2-5", 10, RANGE_ONE, 2, 4},
	    {"bytes=9-", 10, RANGE_ONE, 9, 1},
	    {"bytes=5-100", 10, RANGE_ONE, 5, 5},
	    {"bytes=0-8", 10, RANGE_ONE, 0, 9},
	    {"bytes=0-9", 10, RANGE_ONE, 0, 10},
	    {"bytes=0-10", 10, RANGE_ONE, 0, 10},
	    {"bytes=9-9", 10, RANGE_ONE, 9, 1},
	    {"bytes=9-10", 10, RANGE_ONE, 9, 1},
	    {"bytes=10-10", 10, RANGE_OUTSIDE, 0, 0},
	    {"bytes=-10", 10, RANGE_ONE, 0, 10},
	    {"bytes=-11", 10, RANGE_ONE, 0, 10},
	    {"bytes=-3", 10, RANGE_ONE, 7, 3},
	    {"bytes=-30", 10, RANGE_ONE, 0, 10},
	    {"bytes=0-18446744073709551615", 10, RANGE_ONE, 0, 10},
	    {"bytes=0-99999999999999999999999999999999999999", 10, RANGE_ONE, 0, 10},
	    {"bytes=10-", 10, RANGE_OUTSIDE, 0, 0},
	    {"bytes=99999999999999999999999-", 10, RANGE_OUTSIDE, 0, 0},
	    {"bytes=-0", 10, RANGE_OUTSIDE, 0, 0},
	    {"bytes=-1", 0, RANGE_OUTSIDE, 0, 0},
	    {"bytes=0-", 0, RANGE_OUTSIDE, 0, 0},
	    {"bytes=5-2", 10, RANGE_NONE, 0, 0},
	    {"bytes=0-1,3-4", 10, RANGE_NONE, 0, 0},
	    {"bytes=-1,3-4", 10, RANGE_NONE, 0, 0},
	    {"bytes=-", 10, RANGE_NONE, 0, 0},
	    {"bytes=a-b", 10, RANGE_NONE, 0, 0},
	    {"items=0-1", 10, RANGE_NONE, 0, 0},
	};
	for (size_t i = 0; i < array_len(cases); i++) {
		struct range got = {0};
		assert_int_equal(range_parse(cases[i].header, cases[i].size, &got), cases[i].kind);
		assert_int_equal(got.first, cases[i].first);
		assert_int_equal(got.len, cases[i].len);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(patterns_are_matched, setup, teardown),
	    cmocka_unit_test_setup_teardown(a_route_may_take_any_case, setup, teardown),
	    cmocka_unit_test_setup_teardown(empty_segments_are_nothing, setup, teardown),
	    cmocka_unit_test_setup_teardown(other_methods_are_told, setup, teardown),
	    cmocka_unit_test_setup_teardown(head_falls_back_on_get, setup, teardown),
	    cmocka_unit_test_setup_teardown(prefixes_are_stripped, setup, teardown),
	    cmocka_unit_test_setup_teardown(names_may_look_like_prefixes, setup, teardown),
	    cmocka_unit_test_setup_teardown(parameters_are_decoded_after_the_cut, setup, teardown),
	    cmocka_unit_test_setup_teardown(bad_encodings_are_refused, setup, teardown),
	    cmocka_unit_test_setup_teardown(too_many_segments_are_not_found, setup, teardown),
	    cmocka_unit_test(bad_patterns_are_refused),
	    cmocka_unit_test(methods_have_names),
	    cmocka_unit_test(ranges),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
