/* From a definition and arguments to words: what py-code-mode's forms give, and what may not be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "tools/argv.h"
#include "tools/definition.h"

struct row {
	const char *callable;
	const char *arguments; /* JSON */
	const char *words;     /* JSON, or NULL */
	const char *error;     /* of which the text begins so */
};

static json_t *read_tool(const char *yaml)
{
	json_t *tools = json_array();
	json_t *problems = json_array();
	definition_read_file("t.yaml", "/etc/tools", yaml, strlen(yaml), tools, problems);
	if (json_array_size(tools) != 1) {
		fail_msg("%s", json_dumps(problems, 0));
	}
	json_t *tool = json_incref(json_array_get(tools, 0));
	json_decref(tools);
	json_decref(problems);
	return tool;
}

static void check(const char *yaml, const struct row *rows, size_t count)
{
	cleanup(json_decrefp) json_t *tool = read_tool(yaml);
	for (size_t i = 0; i < count; i++) {
		struct err e = {0};
		cleanup(json_decrefp)
		    json_t *arguments = json_loads(rows[i].arguments, JSON_ALLOW_NUL, NULL);
		assert_non_null(arguments);
		cleanup(json_decrefp)
		    json_t *words = argv_build(tool, rows[i].callable, arguments, &e);
		char *text = words != NULL ? json_dumps(words, JSON_COMPACT) : NULL;
		if (rows[i].words != NULL) {
			if (text == NULL) {
				fail_msg("%s: %s", rows[i].arguments, e.text);
			}
			assert_string_equal(text, rows[i].words);
		} else {
			if (text != NULL || strstr(e.text, rows[i].error) != e.text) {
				fail_msg("%s: %s, %s", rows[i].arguments, text != NULL ? text : "-",
				    e.text);
			}
		}
		free(text);
	}
}

#define CHECK(yaml, ...)                                            \
	do {                                                        \
		static const struct row rows_[] = {__VA_ARGS__};    \
		check(yaml, rows_, sizeof(rows_) / sizeof(*rows_)); \
	} while (0)

static void the_template_splits_as_shlex_does(void **state)
{
	(void)state;
	CHECK("name: nmap\nargs: \"{flags} {target}\"\n",
	    {NULL, "{\"flags\":\"-p 80,443\",\"target\":\"10.0.0.1\"}",
		"[\"nmap\",\"-p\",\"80,443\",\"10.0.0.1\"]", NULL},
	    {"nmap", "{\"flags\":\"\",\"target\":\"a\"}", "[\"nmap\",\"a\"]", NULL},
	    {NULL, "{\"flags\":\"-x\",\"target\":\"a b\"}", "[\"nmap\",\"-x\",\"a\",\"b\"]", NULL},
	    {NULL, "{\"flags\":\"-x\",\"target\":\"'a b'\"}", "[\"nmap\",\"-x\",\"a b\"]", NULL},
	    {NULL, "{\"flags\":\"''\",\"target\":\"\\\"a\\\\\\\"b\\\"\"}",
		"[\"nmap\",\"\",\"a\\\"b\"]", NULL},
	    {NULL, "{\"flags\":1,\"target\":true}", "[\"nmap\",\"1\",\"True\"]", NULL},
	    {NULL, "{\"flags\":1.5,\"target\":2.0}", "[\"nmap\",\"1.5\",\"2.0\"]", NULL},
	    /* No shell: these are words. */
	    {NULL, "{\"flags\":\"-x\",\"target\":\"a;rm -rf $HOME|`id`>f&\"}",
		"[\"nmap\",\"-x\",\"a;rm\",\"-rf\",\"$HOME|`id`>f&\"]", NULL},
	    {NULL, "{\"flags\":\"-x\"}", NULL, "Missing required argument: 'target'"},
	    {NULL, "{\"flags\":\"-x\",\"target\":null}", NULL,
		"Missing required argument: 'target'"},
	    {NULL, "{\"flags\":\"-x\",\"target\":\"'a\"}", NULL, "No closing quotation"},
	    {NULL, "{\"flags\":\"-x\",\"target\":\"a\\\\\"}", NULL, "No escaped character"},
	    {NULL, "{\"flags\":\"-x\",\"target\":[1]}", NULL, "'target' must be text"},
	    {NULL, "{\"flags\":\"-x\",\"target\":\"a\\u0000b\"}", NULL, "'target' has a NUL"},
	    {NULL, "{\"flags\":\"-x\",\"target\":\"a\",\"ports\":1}", NULL,
		"Unknown argument: 'ports'. Known: flags, target"},
	    {"scan", "{}", NULL, "Unknown callable: nmap.scan"},
	    {NULL, "[]", NULL, "the arguments"});
	CHECK("name: n\ncommand: /usr/bin/env -i nmap\nargs: \"{{x}} {flags} {t}\"\n"
	      "defaults: {flags: -v}\n",
	    {NULL, "{\"t\":\"a\"}", "[\"/usr/bin/env\",\"-i\",\"nmap\",\"{x}\",\"-v\",\"a\"]",
		NULL},
	    /* A value is not a template. */
	    {NULL, "{\"t\":\"{flags}\"}",
		"[\"/usr/bin/env\",\"-i\",\"nmap\",\"{x}\",\"-v\",\"{flags}\"]", NULL});
}

static void without_a_template_names_become_options(void **state)
{
	(void)state;
	CHECK("name: ls\n", {NULL, "{}", "[\"ls\"]", NULL},
	    {NULL,
		"{\"all\":true,\"sort\":\"size x\",\"not\":false,\"n\":3,\"paths\":[\"a "
		"b\",\"c\"]}",
		"[\"ls\",\"--all\",\"--sort=size x\",\"--n=3\",\"a b\",\"c\"]", NULL},
	    {NULL, "{\"-x\":1}", NULL, "'-x' cannot be an option"},
	    {NULL, "{\"a=b\":1}", NULL, "'a=b' cannot be an option"});
}

static const char curl[] = "name: curl\n"
			   "schema:\n"
			   "  options:\n"
			   "    silent: {type: boolean, short: s}\n"
			   "    header: {type: array, short: H}\n"
			   "    max-time: {type: integer}\n"
			   "    request: {type: string, short: X, enum: [GET, POST]}\n"
			   "  positional:\n"
			   "    - {name: url, type: string, required: true}\n"
			   "recipes:\n"
			   "  get:\n"
			   "    preset: {silent: true, max-time: 5}\n"
			   "    params: {url: {}, header: {default: [\"A: b\"]}}\n"
			   "  post:\n"
			   "    preset: {request: POST}\n"
			   "    params: {url: {}, request: {enum: [POST]}}\n";

static void a_recipe_gives_options_in_the_schemas_order(void **state)
{
	(void)state;
	CHECK(curl,
	    {"get", "{\"url\":\"http://x/a b\"}",
		"[\"curl\",\"-s\",\"-H\",\"A: b\",\"--max-time\",\"5\",\"http://x/a b\"]", NULL},
	    {"get", "{\"url\":\"u\",\"header\":[\"X: 1\",\"Y: 2; rm\"],\"silent\":false}",
		"[\"curl\",\"-H\",\"X: 1\",\"-H\",\"Y: 2; rm\",\"--max-time\",\"5\",\"u\"]", NULL},
	    {"get", "{\"url\":\"u\",\"header\":\"One: 1\",\"max-time\":\"9\"}",
		"[\"curl\",\"-s\",\"-H\",\"One: 1\",\"--max-time\",\"9\",\"u\"]", NULL},
	    {NULL, "{\"url\":\"u\",\"request\":\"GET\"}", "[\"curl\",\"-X\",\"GET\",\"u\"]", NULL},
	    {"post", "{\"url\":\"u\"}", "[\"curl\",\"-X\",\"POST\",\"u\"]", NULL},
	    {"post", "{\"url\":\"u\",\"request\":\"GET\"}", NULL, "'request' must be one of: POST"},
	    {"get", "{}", NULL, "Required parameter 'url' is missing"},
	    {"get", "{\"url\":\"\"}", "[\"curl\",\"-s\",\"-H\",\"A: b\",\"--max-time\",\"5\",\"\"]",
		NULL},
	    {"get", "{\"url\":\"u\",\"max-time\":\"5s\"}", NULL,
		"'max-time' must be a whole number"},
	    {"get", "{\"url\":\"u\",\"max-time\":1.5}", NULL, "'max-time' must be a whole number"},
	    {"get", "{\"url\":\"u\",\"silent\":\"yes\"}", NULL, "'silent' must be true or false"},
	    {"get", "{\"url\":true}", NULL, "'url' must be text"},
	    {"get", "{\"url\":{}}", NULL, "'url' must be text"},
	    {"get", "{\"url\":\"u\",\"output\":\"/etc/x\"}", NULL,
		"Unknown argument: 'output'. Known: silent, header, max-time, request, url"},
	    {"get", "{\"url\":\"-o/etc/passwd\"}", NULL, "'url' begins with '-'"},
	    {"get", "{\"url\":\"--config=x\"}", NULL, "'url' begins with '-'"},
	    {"get", "{\"url\":\"-\",\"header\":[]}", "[\"curl\",\"-s\",\"--max-time\",\"5\",\"-\"]",
		NULL},
	    {"get", "{\"url\":\"a\\u0000b\"}", NULL, "a word with a NUL"},
	    {"gone", "{}", NULL, "Unknown callable: curl.gone"});
}

/* What Python's shlex.split makes of each, joined by '|'. */
static void quotes_and_backslashes_are_shlexs(void **state)
{
	(void)state;
	static const char *const cases[][2] = {
	    {"'a\\b'", "a\\b"},
	    {"'a\\'b", "a\\b"},
	    {"'\\\\'", "\\\\"},
	    {"'\\\"'", "\\\""},
	    {"\"a\\b\"", "a\\b"},
	    {"\"a\\\\b\"", "a\\b"},
	    {"\"a\\\"b\"", "a\"b"},
	    {"\"a'b\"", "a'b"},
	    {"a\\ b c", "a b|c"},
	    {"a\\'b", "a'b"},
	};
	for (size_t i = 0; i < array_len(cases); i++) {
		struct err e = {0};
		cleanup(json_decrefp) json_t *words = json_array();
		cleanup(buf_fini) struct buf joined = BUF_INIT(256);
		assert_int_equal(argv_split(cases[i][0], words, &e), 0);
		for (size_t k = 0; k < json_array_size(words); k++) {
			(void)buf_addf(&joined, "%s%s", k > 0 ? "|" : "",
			    json_string_value(json_array_get(words, k)));
		}
		assert_string_equal(buf_str(&joined), cases[i][1]);
	}
}

static void the_end_of_options_is_marked_where_the_definition_says(void **state)
{
	(void)state;
	CHECK("name: grep\nend_of_options: true\n"
	      "schema:\n  options: {count: {type: boolean, short: c}}\n"
	      "  positional: [{name: pattern, required: true}, {name: files, type: array}]\n",
	    {NULL, "{\"pattern\":\"-f/etc/passwd\",\"files\":[\"-x\",\"b c\"],\"count\":true}",
		"[\"grep\",\"-c\",\"--\",\"-f/etc/passwd\",\"-x\",\"b c\"]", NULL},
	    {NULL, "{\"pattern\":\"a\"}", "[\"grep\",\"--\",\"a\"]", NULL});
	CHECK("name: dig\nschema:\n  options:\n    short: {type: boolean, flag: \"+short\"}\n"
	      "    type: {type: string, short: t}\n"
	      "  positional: [{name: name, required: true}, {name: extra, allow_dash: true}]\n",
	    {NULL, "{\"name\":\"example.org\",\"short\":true,\"type\":\"MX\",\"extra\":\"-4\"}",
		"[\"dig\",\"+short\",\"-t\",\"MX\",\"example.org\",\"-4\"]", NULL},
	    {NULL, "{\"name\":\"-f\",\"extra\":\"-4\"}", NULL, "'name' begins with '-'"});
}

static void numbers_keep_their_sign(void **state)
{
	(void)state;
	CHECK(
	    "name: sleep\nschema:\n  positional: [{name: a, type: integer}, {name: b, type: number}"
	    ", {name: c, type: array}]\n",
	    {NULL, "{\"a\":-1}", NULL, "'a' begins with '-'"},
	    {NULL, "{\"a\":\"-1\"}", NULL, "'a' begins with '-'"},
	    {NULL, "{\"b\":-0.5}", NULL, "'b' begins with '-'"},
	    {NULL, "{\"b\":-0.0}", NULL, "'b' begins with '-'"},
	    {NULL, "{\"c\":[1,-1]}", NULL, "'c' begins with '-'"},
	    {NULL, "{\"a\":1,\"b\":0,\"c\":[2]}", "[\"sleep\",\"1\",\"0\",\"2\"]", NULL});
	CHECK("name: sleep\nend_of_options: true\n"
	      "schema:\n  positional: [{name: a, type: integer}]\n",
	    {NULL, "{\"a\":-1}", "[\"sleep\",\"--\",\"-1\"]", NULL});
	CHECK("name: seq\nschema:\n  positional: [{name: from, type: integer, allow_dash: true}, "
	      "{name: to, type: number, default: 2}]\n",
	    {NULL, "{\"from\":-3}", "[\"seq\",\"-3\",\"2\"]", NULL},
	    {NULL, "{\"from\":\"-3\",\"to\":\"1e2\"}", "[\"seq\",\"-3\",\"100.0\"]", NULL},
	    {NULL, "{\"from\":\"-f\"}", NULL, "'from' must be a whole number"},
	    {NULL, "{\"from\":\"99999999999999999999\"}", NULL, "'from' must be a whole number"});
}

static void a_command_line_has_bounds(void **state)
{
	(void)state;
	cleanup(json_decrefp) json_t *tool = read_tool("name: echo\nschema:\n  positional: "
						       "[{name: a, type: array}]\n");
	struct err e = {0};
	size_t len = 200000;
	char *large = calloc(1, len + 1);
	memset(large, 'x', len);
	cleanup(json_decrefp) json_t *one = json_pack("{s:[s]}", "a", large);
	assert_null(argv_build(tool, NULL, one, &e));
	assert_int_equal(e.code, ERR_INVALID);
	cleanup(json_decrefp) json_t *many = json_pack("{s:[]}", "a");
	for (int i = 0; i < 5000; i++) {
		(void)json_array_append_new(json_object_get(many, "a"), json_string("x"));
	}
	assert_null(argv_build(tool, NULL, many, &e));
	assert_int_equal(e.code, ERR_INVALID);
	/* All words together, each with its end: exactly the bound, and one more. */
	for (size_t over = 0; over < 2; over++) {
		size_t left = ARGV_TOTAL_MAX_BYTES - sizeof("echo") + over;
		cleanup(json_decrefp) json_t *whole = json_pack("{s:[]}", "a");
		while (left > 0) {
			size_t n = left > 100000 ? 100000 : left;
			json_t *word = json_stringn(large, n - 1);
			(void)json_array_append_new(json_object_get(whole, "a"), word);
			left -= n;
		}
		cleanup(json_decrefp) json_t *words = argv_build(tool, NULL, whole, &e);
		assert_int_equal(words == NULL, over);
	}
	free(large);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_template_splits_as_shlex_does),
	    cmocka_unit_test(quotes_and_backslashes_are_shlexs),
	    cmocka_unit_test(without_a_template_names_become_options),
	    cmocka_unit_test(a_recipe_gives_options_in_the_schemas_order),
	    cmocka_unit_test(the_end_of_options_is_marked_where_the_definition_says),
	    cmocka_unit_test(numbers_keep_their_sign),
	    cmocka_unit_test(a_command_line_has_bounds),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
