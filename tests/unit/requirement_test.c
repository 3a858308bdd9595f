/* Requirement lines: what is let through, and in which words the rest is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <string.h>

#include "store/requirement.h"

static void good(void **state)
{
	(void)state;
	static const char *const lines[] = {"requests", "Requests>=2.0", "a", "0x", "my_pkg.sub-x",
	    "x[a]", "x[a,b.c_d-e]==1.*", "x>=1, <2", "x~=1.4.2", "x!=3", "x===1", "x==1.0.post1 "};
	for (size_t i = 0; i < array_len(lines); i++) {
		struct err e = {0};
		assert_int_equal(requirement_check(lines[i], &e), 0);
		assert_string_equal(e.text, "");
	}
}

static void refused(void **state)
{
	(void)state;
	static const struct {
		const char *line, *message;
	} rows[] = {
	    {"", "Invalid package: empty or whitespace-only"},
	    {" \t\n", "Invalid package: empty or whitespace-only"},
	    {"a\nb", "Invalid package: contains control characters"},
	    {"a\x7f", "Invalid package: contains control characters"},
	    {"a\x1b[0m", "Invalid package: contains control characters"},
	    {"x; rm", "Invalid package: contains blocked character ';'"},
	    {"x @ http://h/x.whl", "Invalid package: contains blocked character '@'"},
	    {"x(y)", "Invalid package: contains blocked character '('"},
	    {"x|y", "Invalid package name: contains shell metacharacters: x|y"},
	    {"x&y", "Invalid package name: contains shell metacharacters: x&y"},
	    {"`x`", "Invalid package name: contains shell metacharacters: `x`"},
	    {"$x", "Invalid package name: contains shell metacharacters: $x"},
	    {"--index-url=http://h", "Invalid package name: --index-url=http://h"},
	    {"-r", "Invalid package name: -r"},
	    {"../x", "Invalid package name: ../x"},
	    {"./x.whl", "Invalid package name: ./x.whl"},
	    {"x/y", "Invalid package name: x/y"},
	    {"git+https://h", "Invalid package name: git+https://h"},
	    {"x y", "Invalid package name: x y"},
	    {" x", "Invalid package name:  x"},
	    {"x[]", "Invalid package name: x[]"},
	    {"x[a", "Invalid package name: x[a"},
	    {"x[a]b", "Invalid package name: x[a]b"},
	    {"x=", "Invalid package name: x="},
	    {"x==1 --hash=sha256:0", "Invalid package name: x==1 --hash=sha256:0"},
	    {"x==\xc3\xa9", "Invalid package name: x==\xc3\xa9"},
	    {"\xff", "Invalid package name: not UTF-8"},
	};
	for (size_t i = 0; i < array_len(rows); i++) {
		struct err e = {0};
		assert_int_equal(requirement_check(rows[i].line, &e), -1);
		assert_int_equal(e.code, ERR_INVALID);
		assert_string_equal(e.text, rows[i].message);
	}
	char line[300];
	memset(line, 'a', sizeof(line));
	line[256] = '\0';
	assert_int_equal(requirement_check(line, NULL), 0);
	line[256] = 'a';
	line[257] = '\0';
	struct err e = {0};
	assert_int_equal(requirement_check(line, &e), -1);
	assert_string_equal(e.text, "Invalid package: name too long (max 256 characters)");
}

static void normalised(void **state)
{
	(void)state;
	static const struct {
		const char *line, *normal, *name;
	} rows[] = {
	    {"My_Package>=2.0_B", "my-package>=2.0_B", "my-package"},
	    {"Requests", "requests", "requests"},
	    {"X_y[A_B]==1", "x-y[A_B]==1", "x-y"},
	    {"a.B<2", "a.b<2", "a.b"},
	    {"a_b!=1", "a-b!=1", "a-b"},
	};
	for (size_t i = 0; i < array_len(rows); i++) {
		char out[REQUIREMENT_MAX + 1];
		assert_string_equal(requirement_normalise(rows[i].line, out), rows[i].normal);
		assert_string_equal(requirement_name(rows[i].line, out), rows[i].name);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(good),
	    cmocka_unit_test(refused),
	    cmocka_unit_test(normalised),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
