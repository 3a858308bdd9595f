/* What is told of a skill's source without a Python. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cli/skill_source.h"

static void expect(const char *source, const char *description)
{
	struct err e = {0};
	cleanup(buf_fini) struct buf b = BUF_INIT(1000);
	if (skill_source_read(source, strlen(source), &b, &e) < 0) {
		fail_msg("%s: %s", source, e.text);
	}
	assert_string_equal(buf_str(&b), description);
}

static void expect_problem(const char *source, size_t len, const char *problem)
{
	struct err e = {0};
	cleanup(buf_fini) struct buf b = BUF_INIT(1000);
	assert_int_equal(skill_source_read(source, len, &b, &e), -1);
	assert_int_equal(e.code, ERR_INVALID);
	assert_string_equal(e.text, problem);
}

static void the_description_is_the_docstrings_first_line(void **state)
{
	(void)state;
	expect("\"\"\"Scan things.\n\nMore.\n\"\"\"\ndef run(): pass\n", "Scan things.");
	expect("# a comment\n\n'One line'\nasync def run(a, b=1): pass", "One line");
	expect("r'''\n   Indented \n'''\ndef run(): pass\n", "Indented");
	expect("import os\ndef run(x: str = \")\") -> str:\n    \"\"\"Of run.\"\"\"\n", "Of run.");
	expect("def run(): 'At once'", "At once");
	expect("\"The module's\"\ndef run():\n    'not this'\n", "The module's");
	expect("def run(\n    a,  # :\n    b={1: 2},\n):\n    # first\n    '''Late'''\n", "Late");
	expect("def run():\n    return 'no docstring'\n", "");
	expect("f'no {docstring}'\ndef run():\n    b'nor this'\n", "");
	expect("def other():\n    '''Not this'''\ndef run(): pass\n", "");
	expect("def  run (x): pass\n", "");
	expect("x = 'it\\'s \\\n a def run('\ndef run(): pass # (\n", "");
	expect("\r\n\"\"\"Windows\r\nlines\"\"\"\r\ndef run():\r\n    pass\r\n", "Windows");
}

static void faults_are_told_with_their_line(void **state)
{
	(void)state;
#define PROBLEM(source, problem) expect_problem(source, strlen(source), problem)
	PROBLEM("x = (1,\ndef run(): pass\n", "line 1: a bracket is not closed");
	PROBLEM("x = 1\n\nprint(]\n", "line 3: a ']' that nothing opened");
	PROBLEM("def run():\n  return 'abc\n", "line 2: a string is not closed");
	PROBLEM("\n\"\"\"abc\n\n\n", "line 2: a string is not closed");
	PROBLEM("x = 1\n", "line 2: it defines no function run()");
	PROBLEM("", "line 1: it defines no function run()");
	PROBLEM("# def run():\n", "line 2: it defines no function run()");
	PROBLEM("'''\ndef run(): pass\n'''\n", "line 4: it defines no function run()");
	PROBLEM("def runner(): pass", "line 1: it defines no function run()");
	PROBLEM("class A:\n  def run(self): pass", "line 2: it defines no function run()");
	PROBLEM("a\nb\xff\n", "line 2: it is not UTF-8 text");
	expect_problem("a\n\0", 3, "line 2: it is not UTF-8 text");
	char deep[1000];
	memset(deep, '(', sizeof(deep));
	expect_problem(deep, sizeof(deep), "line 1: too many brackets");
	PROBLEM("x = 'abc\\", "line 1: a string is not closed");
	PROBLEM("\"\"\"abc\\", "line 1: a string is not closed");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_description_is_the_docstrings_first_line),
	    cmocka_unit_test(faults_are_told_with_their_line),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
