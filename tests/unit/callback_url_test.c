/* Which URLs callbacks may be sent to, and spellings that try to be another. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"
#include "tools/callback_url.h"

static const char *const prefixes[] = {
    "https://hooks.example.com/carrel", "http://127.0.0.1:9000/", "http://[::1]:8080/in/"};

static bool allowed(const char *url)
{
	struct err e = {0};
	int r = callback_url_allowed(url, prefixes, array_len(prefixes), &e);
	assert_true(r == 0 || (e.code == ERR_INVALID && *e.text != '\0'));
	return r == 0;
}

static void what_lies_beneath_a_prefix_is_allowed(void **state)
{
	static const char *const good[] = {
	    "https://hooks.example.com/carrel",
	    "https://hooks.example.com/carrel/",
	    "https://hooks.example.com/carrel/a/b?x=1&y=%2F",
	    "https://hooks.example.com/carrel?token=a",
	    "HTTPS://Hooks.Example.COM/carrel/a",
	    "https://hooks.example.com:443/carrel/a",
	    "http://127.0.0.1:9000",
	    "http://127.0.0.1:9000/anything%20at/all",
	    "http://[::1]:8080/in",
	    "http://[::1]:8080/in/x",
	};
	(void)state;
	for (size_t i = 0; i < array_len(good); i++) {
		if (!allowed(good[i])) {
			fail_msg("%s", good[i]);
		}
	}
}

static void anything_else_is_refused(void **state)
{
	static const char *const bad[] = {
	    "",
	    "hooks.example.com/carrel",
	    "ftp://hooks.example.com/carrel",
	    "file:///etc/passwd",
	    "gopher://127.0.0.1:9000/x",
	    "http://hooks.example.com/carrel", /* another scheme */
	    "https://127.0.0.1:9000/",
	    "https://hooks.example.com/carrel-of-another",
	    "https://hooks.example.com/Carrel",
	    "https://hooks.example.com/",
	    "https://hooks.example.com",
	    "https://hooks.example/carrel",
	    "https://hooks/carrel",
	    "https://hooks.example.com:8443/carrel",
	    "https://hooks.example.com.evil.net/carrel",
	    "https://evil.net/hooks.example.com/carrel",
	    "https://hooks.example.com./carrel",
	    "https://hooks.example.com@evil.net/carrel",
	    "https://hooks.example.com:443@evil.net/carrel",
	    "https://user:secret@hooks.example.com/carrel",
	    "https://evil.net#@hooks.example.com/carrel",
	    "https://evil.net\\@hooks.example.com/carrel",
	    "https://evil.net?@hooks.example.com/carrel",
	    "https://hooks.example.com\\.evil.net/carrel",
	    "https://hooks.example.com/carrel/../admin",
	    "https://hooks.example.com/carrel/..",
	    "https://hooks.example.com/carrel/./x",
	    "https://hooks.example.com/carrel/%2e%2e/admin",
	    "https://hooks.example.com/carrel/.%2E/admin",
	    "https://hooks.example.com/carrel%2f..%2fadmin",
	    "https://hooks.example.com/carrel/a%2f..%2f..%2fadmin",
	    "https://hooks.example.com/carrel/a%2F..%2F..%2Fadmin",
	    "https://hooks.example.com/carrel/%5c..%5Cadmin",
	    "https://hooks.example.com/carrel/%252e%252e/admin",
	    "https://hooks.example.com/carrel/..;/admin\\x",
	    "https://hooks.example.com/carrel\\..\\admin",
	    "https://hooks.example.com//carrel",
	    "https://hooks.example.com/carrel//admin",
	    "https://hooks.example.com/carrel/%0d%0aHost:%20evil.net",
	    "https://hooks.example.com/carrel/%00",
	    "https://hooks.example.com/carrel/a b",
	    "https://hooks.example.com/carrel/a\r\nX: y",
	    "https://hooks.example.com/carrel/\xc3\xa4",
	    "https://hooks.example.com/carrel/%zz",
	    "https://hooks.example.com/carrel/%",
	    "https://hooks.example.com/carrel#fragment",
	    "https://hooks.example.com:/carrel",
	    "https://hooks.example.com:0443x/carrel",
	    "https://hooks.example.com:99999/carrel",
	    "https://hooks.example.com:4294967739/carrel", /* 443 in 32 bits */
	    "https:///carrel",
	    "https:/hooks.example.com/carrel",
	    " https://hooks.example.com/carrel",
	    "http://127.0.0.1:9001/",
	    "http://127.1:9000/",
	    "http://2130706433:9000/",
	    "http://0x7f.0.0.1:9000/",
	    "http://127.0.0.1.:9000/",
	    "http://[::1]:8080/",
	    "http://[::2]:8080/in",
	    "http://[::1%25eth0]:8080/in",
	    "http://[::1:8080/in",
	};
	(void)state;
	for (size_t i = 0; i < array_len(bad); i++) {
		if (allowed(bad[i])) {
			fail_msg("%s", bad[i]);
		}
	}
}

static void a_url_is_bounded(void **state)
{
	char url[CALLBACK_URL_MAX_BYTES + 2];
	struct err e;
	(void)state;
	memset(url, 'a', sizeof(url));
	memcpy(url, "http://127.0.0.1:9000/", 22);
	url[CALLBACK_URL_MAX_BYTES] = '\0';
	assert_true(allowed(url));
	url[CALLBACK_URL_MAX_BYTES] = 'a';
	url[CALLBACK_URL_MAX_BYTES + 1] = '\0';
	assert_false(allowed(url));
	assert_int_equal(callback_url_check("https://a.example/b", &e), 0);
	assert_int_equal(callback_url_allowed("https://a.example/b", NULL, 0, &e), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(what_lies_beneath_a_prefix_is_allowed),
	    cmocka_unit_test(anything_else_is_refused),
	    cmocka_unit_test(a_url_is_bounded),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
