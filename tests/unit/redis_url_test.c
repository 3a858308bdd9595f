/* Where a Redis is, from one text; and that nothing of a password gets out of it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "store/redis_url.h"

static void expect(
    const char *text, const char *description, const char *user, const char *password, bool tls)
{
	struct redis_url u;
	struct err e = {0};
	if (redis_url_parse(text, &u, &e) < 0) {
		fail_msg("%s: %s", text, e.text);
	}
	assert_string_equal(u.description, description);
	assert_string_equal(u.user != NULL ? u.user : "none", user != NULL ? user : "none");
	assert_string_equal(
	    u.password != NULL ? u.password : "none", password != NULL ? password : "none");
	assert_int_equal(u.tls, tls);
	redis_url_fini(&u);
}

static void every_form_is_read(void **state)
{
	(void)state;
	expect("redis://localhost", "redis://localhost:6379/0", NULL, NULL, false);
	expect("REDIS://localhost:7000/3", "redis://localhost:7000/3", NULL, NULL, false);
	expect("rediss://h", "rediss://h:6379/0", NULL, NULL, true);
	expect("redis://:p@h", "redis://h:6379/0", NULL, "p", false);
	expect("redis://u:p@h:1/", "redis://h:1/0", "u", "p", false);
	expect("redis://u:p%40%3a%2f%25@h", "redis://h:6379/0", "u", "p@:/%", false);
	/* As Azure's keys are, with nothing encoded. */
	expect("redis://:Ab+/=@x.redis.cache.windows.net:6380?ssl=true",
	    "rediss://x.redis.cache.windows.net:6380/0", NULL, "Ab+/=", true);
	expect("x.y:6380?ssl=True", "rediss://x.y:6380/0", NULL, NULL, true);
	expect("u:p@x.y:6380/2?ssl=true", "rediss://x.y:6380/2", "u", "p", true);
	expect("redis://[::1]:7", "redis://[::1]:7/0", NULL, NULL, false);
	expect("redis://h?db=4", "redis://h:6379/4", NULL, NULL, false);
	expect("unix:///run/r%20s?db=2", "unix:///run/r s?db=2", NULL, NULL, false);
	expect("unix://:p@/run/r", "unix:///run/r?db=0", NULL, "p", false);
	expect("redis://a:b@c@h", "redis://h:6379/0", "a", "b@c", false);
}

static void what_is_wrong_is_said_without_the_password(void **state)
{
	(void)state;
	static const char *const bad[] = {"", "redis://", "redis://:hush@", "redis://:hush@h:0",
	    "redis://:hush@h:65536", "redis://:hush@h:1x", "redis://:hush@h/x", "http://:hush@h",
	    "redis://hush@h", "redis://hush:@h", "redis://:hu%sh@h", "redis://:hush%@h",
	    "redis://:hush%0@h", "redis://:hush%00@h", "redis://:hush@h?ssl=hush",
	    "redis://:hush@h?hush=1", "redis://:hush@[::1", "redis://:hush@h h",
	    "redis://:hush@h?db=-1", "unix://hush", "redis://:hush@h?ssl_cert_reqs=hush",
	    "redis://:hush@h\n"};
	for (size_t i = 0; i < array_len(bad); i++) {
		struct redis_url u;
		struct err e = {0};
		if (redis_url_parse(bad[i], &u, &e) == 0) {
			fail_msg("'%s' was taken", bad[i]);
		}
		assert_int_equal(e.code, ERR_INVALID);
		assert_null(strstr(e.text, "hush"));
		assert_null(u.host);
		assert_null(u.password);
	}
}

static void certificates_are_checked_unless_told(void **state)
{
	(void)state;
	struct redis_url u;
	struct err e;
	assert_int_equal(redis_url_parse("rediss://h", &u, &e), 0);
	assert_true(u.verify && u.verify_host);
	redis_url_fini(&u);
	assert_int_equal(
	    redis_url_parse("rediss://h?ssl_cert_reqs=none&ssl_ca_certs=%2Fa%2Fb.pem", &u, &e), 0);
	assert_false(u.verify);
	assert_string_equal(u.ca_file, "/a/b.pem");
	redis_url_fini(&u);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(every_form_is_read),
	    cmocka_unit_test(what_is_wrong_is_said_without_the_password),
	    cmocka_unit_test(certificates_are_checked_unless_told),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
