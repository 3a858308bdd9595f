/* Tools' files: what is read, and that each mistake is told with its line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/compiler.h"
#include "base/fd.h"
#include "tools/catalog.h"
#include "tools/definition.h"
#include "tools/secrets.h"

struct fixture {
	json_t *tools;
	json_t *problems;
};

static void fixture_fini(struct fixture *f)
{
	json_decref(f->tools);
	json_decref(f->problems);
}

static struct fixture read_text(const char *yaml)
{
	struct fixture f = {json_array(), json_array()};
	definition_read_file("t.yaml", "/etc/tools", yaml, strlen(yaml), f.tools, f.problems);
	return f;
}

static void expect_problem(const char *yaml, int line, const char *message, size_t tools)
{
	cleanup(fixture_fini) struct fixture f = read_text(yaml);
	for (size_t i = 0; i < json_array_size(f.problems); i++) {
		const json_t *p = json_array_get(f.problems, i);
		const char *text = json_string_value(json_object_get(p, "message"));
		if (strstr(text, message) != NULL) {
			assert_int_equal(json_integer_value(json_object_get(p, "line")), line);
			assert_int_equal(json_array_size(f.tools), tools);
			return;
		}
	}
	fail_msg("'%s' is not told of in %s", message, json_dumps(f.problems, 0));
}

static void mistakes_are_told_with_their_lines(void **state)
{
	(void)state;
	expect_problem("name: a\nargs: [x\n", 3, "", 0);
	expect_problem("description: no name\n", 1, "'name' is missing", 0);
	expect_problem("name: a\n\ntype: cgi\n", 3, "there is no type 'cgi'", 0);
	expect_problem("name: a\ntimeout: soon\n", 2, "'timeout' must be a number", 0);
	expect_problem("name: a\ntimeout: -1\n", 2, "'timeout' must be a number", 0);
	expect_problem("name: \"a b\"\n", 1, "is no name for a tool", 0);
	expect_problem("name: a\nargs: \"{x\"\n", 2, "a '{' without its '}'", 0);
	expect_problem("name: a\nargs: \"{0} {x!r}\"\n", 2, "is no placeholder", 0);
	expect_problem("name: a\nargs: \"{x}\"\ndefaults: {y: 1}\n", 3, "Unknown argument: 'y'", 0);
	expect_problem("name: a\ntimeot: 5\n", 2, "the key 'timeot' means nothing here", 1);
	expect_problem("name: a\nschema:\n  options:\n    n: {type: integr}\n", 4,
	    "there is no type 'integr'", 0);
	expect_problem(
	    "name: a\nschema:\n  options: {n: {type: integer}}\nrecipes:\n  r:\n    preset:\n"
	    "      m: 1\n",
	    7, "the schema has no 'm'", 0);
	expect_problem(
	    "name: a\nschema:\n  options: {n: {type: integer}}\nrecipes:\n  r:\n    preset:\n"
	    "      n: x\n",
	    7, "'n' must be a whole number", 0);
	expect_problem(
	    "name: a\nschema:\n  positional: [{type: string}]\n", 3, "'name' is missing", 0);
	expect_problem("name: a\nargs: x\nschema: {}\n", 2, "do not go together", 0);
	expect_problem("name: a\nread: [etc/x]\n", 2, "is not an absolute path", 0);
	expect_problem("name: a\nenv: {\"A=B\": x}\n", 2, "no name of a variable", 0);
	expect_problem("name: a\nenv:\n  A: \"${secret:\"\n", 3, "without a name", 0);
	expect_problem("name: a\ndata: write\n", 2, "'data' must be", 0);
	expect_problem("name: a\napproval: maybe\n", 2, "'approval' must be", 0);
	expect_problem("name: a\ntype: mcp\n", 1, "'command' is missing", 0);
	expect_problem("name: a\ntype: mcp\ntransport: pigeon\n", 3, "no transport 'pigeon'", 0);
	expect_problem(
	    "name: a\ntype: mcp\ntransport: sse\nurl: file:///etc/passwd\n", 4, "must be http", 0);
	expect_problem("name: a\ntype: http\nbase_url: http://x\n", 1, "'endpoints' is missing", 0);
	expect_problem(
	    "name: a\ntype: http\nbase_url: ftp://x\nendpoints: []\n", 3, "must be http", 0);
	expect_problem(
	    "name: a\ntype: http\nbase_url: http://x\nendpoints:\n  - name: e\n    path: x\n", 6,
	    "must begin with '/'", 0);
	expect_problem("name: a\ntype: http\nbase_url: http://x\nheaders: {\"A\\r\\nB\": x}\n"
		       "endpoints: []\n",
	    4, "is no header", 0);
	expect_problem("tools:\n  - name: a\n  - timeout: 3\n", 3, "'name' is missing", 1);
}

static void a_list_holds_tools_of_all_kinds(void **state)
{
	(void)state;
	cleanup(fixture_fini) struct fixture f = read_text(
	    "python_deps: [requests]\n"
	    "cli_tools:\n"
	    "  - name: nmap\n"
	    "    args_template: \"{flags} {target}\"\n"
	    "    timeout_seconds: 300\n"
	    "    env: {A: \"${tool_dir}/x\", B: 1}\n"
	    "    tags: [network, recon]\n"
	    "    approval: required\n"
	    "mcp_servers:\n"
	    "  web: {transport: streamable-http, url: \"https://x/mcp\"}\n");
	assert_int_equal(json_array_size(f.problems), 0);
	assert_int_equal(json_array_size(f.tools), 2);
	const json_t *nmap = json_array_get(f.tools, 0);
	const json_t *env = json_object_get(json_object_get(nmap, "spec"), "env");
	assert_int_equal(json_integer_value(json_object_get(nmap, "timeout_ms")), 300000);
	assert_string_equal(json_string_value(json_object_get(env, "A")), "/etc/tools/x");
	assert_string_equal(json_string_value(json_object_get(env, "B")), "1");
	assert_string_equal(json_string_value(json_object_get(nmap, "approval")), "required");
	assert_int_equal(json_array_size(json_object_get(nmap, "tags")), 2);
	const json_t *web = json_array_get(f.tools, 1);
	assert_string_equal(json_string_value(json_object_get(web, "name")), "web");
	assert_string_equal(
	    json_string_value(json_object_get(json_object_get(web, "spec"), "transport")), "http");
}

static void a_listing_says_what_a_caller_needs(void **state)
{
	(void)state;
	cleanup(fixture_fini) struct fixture f = read_text(
	    "name: t\nschema:\n  options:\n    n: {type: integer, description: how many}\n"
	    "    q: {type: boolean}\n  positional: [{name: text, required: true}]\nrecipes:\n"
	    "  all: {preset: {q: true}}\n"
	    "  some:\n    description: A few\n    params: {n: {default: 3, enum: [1, 3]}}\n");
	cleanup(json_decrefp)
	    json_t *listing = definition_listing(json_array_get(f.tools, 0), NULL);
	const json_t *callables = json_object_get(listing, "callables");
	assert_null(json_object_get(listing, "spec"));
	assert_int_equal(json_array_size(callables), 2);
	cleanup(json_decrefp) json_t *all = json_loads(
	    "{\"name\":\"all\",\"description\":\"\",\"parameters\":["
	    "{\"name\":\"text\",\"type\":\"str\",\"required\":true,\"description\":\"\","
	    "\"default\":null},"
	    "{\"name\":\"n\",\"type\":\"integer\",\"required\":false,"
	    "\"description\":\"how many\",\"default\":null}]}",
	    0, NULL);
	cleanup(json_decrefp) json_t *some = json_loads(
	    "{\"name\":\"some\",\"description\":\"A few\",\"parameters\":["
	    "{\"name\":\"n\",\"type\":\"integer\",\"required\":false,"
	    "\"description\":\"how many\",\"default\":3,\"enum\":[1,3]}]}",
	    0, NULL);
	assert_true(json_equal(json_array_get(callables, 0), all));
	assert_true(json_equal(json_array_get(callables, 1), some));
}

static bool stored_is_taken(const char *text, bool own)
{
	cleanup(json_decrefp) json_t *document = json_loads(text, 0, NULL);
	struct fixture f = {json_array(), json_array()};
	definition_read_stored(document, own, f.tools, f.problems);
	bool taken = json_array_size(f.tools) == 1;
	fixture_fini(&f);
	return taken;
}

static void a_store_cannot_name_what_is_the_operators(void **state)
{
	(void)state;
	assert_true(stored_is_taken("{\"name\":\"a\",\"args\":\"{x}\"}", false));
	assert_false(stored_is_taken("{\"name\":\"a\",\"read\":[\"/etc/shadow\"]}", true));
	assert_false(stored_is_taken("{\"name\":\"a\",\"working_dir\":\"/root\"}", true));
	assert_false(stored_is_taken("{\"name\":\"a\",\"command\":\"${tool_dir}/x\"}", true));
	assert_false(stored_is_taken("{\"name\":\"a\",\"env\":{\"LD_PRELOAD\":\"x\"}}", true));
	assert_true(stored_is_taken("{\"name\":\"a\",\"env\":{\"K\":\"${secret:k}\"}}", true));
	assert_false(stored_is_taken("{\"name\":\"a\",\"env\":{\"K\":\"${secret:k}\"}}", false));
	assert_false(stored_is_taken("{\"name\":\"a\",\"type\":\"http\",\"base_url\":\"http://x\","
				     "\"headers\":{\"K\":\"${secret:k}\"},\"endpoints\":[]}",
	    false));
	assert_false(stored_is_taken("[]", true));
	assert_false(stored_is_taken("{\"name\":7}", true));
}

/* --- files in a directory
 * ------------------------------------------------------------------------
 */

static char dir[] = "/tmp/definition-test-XXXXXX";

static void put(const char *name, const char *text)
{
	char path[128];
	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	FILE *f = fopen(path, "we");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static void take_away(const char *name)
{
	char path[128];
	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	assert_int_equal(unlink(path), 0);
}

static void a_catalog_follows_its_files(void **state)
{
	(void)state;
	assert_non_null(mkdtemp(dir));
	struct catalog *c = catalog_new(dir, NULL);
	assert_false(catalog_reload(c));
	put("a.yaml", "name: one\n");
	put("b.yaml", "name: one\ndescription: second\n");
	put("c.yaml", "name: two: three\n");
	put("d.yml", "name: four\n");
	assert_true(catalog_reload(c));
	assert_false(catalog_reload(c));
	assert_non_null(catalog_find(c, NULL, "one"));
	assert_string_equal(
	    json_string_value(json_object_get(catalog_find(c, "t", "one"), "description")),
	    "Run one command");
	assert_null(catalog_find(c, NULL, "four"));
	json_t *problems = catalog_problems(c);
	assert_int_equal(json_array_size(problems), 2);
	json_decref(problems);

	/* A bad file takes no other down, and is good again when it is mended. */
	put("c.yaml", "name: two\ntags: [x]\n");
	take_away("a.yaml");
	assert_true(catalog_reload(c));
	assert_string_equal(
	    json_string_value(json_object_get(catalog_find(c, NULL, "one"), "description")),
	    "second");
	assert_non_null(catalog_find(c, NULL, "two"));

	cleanup(json_decrefp) json_t *mine = json_loads(
	    "[{\"name\":\"two\",\"description\":\"s\"},{\"name\":\"five\"}]", 0, NULL);
	assert_true(catalog_define(c, "tenant-a", mine));
	assert_false(catalog_define(c, "tenant-a", mine));
	assert_non_null(catalog_find(c, "tenant-a", "five"));
	assert_null(catalog_find(c, "tenant-b", "five"));
	assert_null(catalog_find(c, NULL, "five"));
	assert_string_equal(
	    json_string_value(json_object_get(catalog_find(c, "tenant-a", "two"), "source")),
	    "file");
	catalog_free(c);
	take_away("b.yaml");
	take_away("c.yaml");
	take_away("d.yml");
	assert_int_equal(rmdir(dir), 0);
}

static void secrets_are_put_in_and_taken_out(void **state)
{
	(void)state;
	struct err e = {0};
	cleanup(json_decrefp)
	    json_t *secrets = json_pack("{s:s, s:s}", "key", "s3cr3t-value", "short", "ab");
	cleanup(buf_fini) struct buf out = BUF_INIT(4096);
	assert_int_equal(
	    secrets_expand(secrets, "Bearer ${secret:key}/${secret:short}$", &out, &e), 0);
	assert_string_equal(buf_str(&out), "Bearer s3cr3t-value/ab$");
	assert_int_equal(secrets_expand(secrets, "${secret:other}", &out, &e), -1);
	assert_string_equal(e.text, "the secret 'other' is not configured");
	buf_clear(&out);
	assert_int_equal(secrets_redact(secrets, "a s3cr3t-value b ab", 19, &out), 0);
	assert_string_equal(buf_str(&out), "a *** b ab");
	static const struct {
		const char *text, *told;
	} cases[] = {
	    {"abcdefghij", "***"},   /* the longer of two with one beginning */
	    {"abcdefghi", "***ghi"}, /* it is not all there */
	    {"xabcdefgabcdefghijx", "x***g***x"},
	    {"abcdefghijKLM1", "***"}, /* one that begins within another ends behind it */
	    {"abcdeabcdef", "abcde***"},
	};
	cleanup(json_decrefp) json_t *alike = json_pack(
	    "{s:s, s:s, s:s}", "a", "abcdef", "b", "abcdefghij", "c", "hijKLM1");
	for (size_t i = 0; i < array_len(cases); i++) {
		buf_clear(&out);
		assert_int_equal(
		    secrets_redact(alike, cases[i].text, strlen(cases[i].text), &out), 0);
		assert_string_equal(buf_str(&out), cases[i].told);
	}
	buf_clear(&out);
	/* A value that looks like a placeholder is not one. */
	cleanup(json_decrefp) json_t *sly = json_pack("{s:s}", "a", "${secret:b}");
	buf_clear(&out);
	assert_int_equal(secrets_expand(sly, "${secret:a}", &out, &e), 0);
	assert_string_equal(buf_str(&out), "${secret:b}");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(mistakes_are_told_with_their_lines),
	    cmocka_unit_test(a_list_holds_tools_of_all_kinds),
	    cmocka_unit_test(a_listing_says_what_a_caller_needs),
	    cmocka_unit_test(a_store_cannot_name_what_is_the_operators),
	    cmocka_unit_test(a_catalog_follows_its_files),
	    cmocka_unit_test(secrets_are_put_in_and_taken_out),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
