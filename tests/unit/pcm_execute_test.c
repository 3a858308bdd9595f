/* py-code-mode's POST /execute: what is asked, refused and answered. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "pcm_fixture.h"

#define ONE "{\"code\":\"1\"}"

static void run(struct fake_call *f, const char *body, int status)
{
	pcm_send(f, "POST", "/execute", "agent-1", body, status);
}

/* The answer's member NAME as JSON text. */
static void expect_member(const struct fake_call *f, const char *name, const char *json)
{
	json_t *expected = json_loads(json, JSON_DECODE_ANY, NULL);
	assert_non_null(expected);
	if (!json_equal(json_object_get(f->json, name), expected)) {
		print_error("%s in %s\n", name, buf_str(&f->body));
	}
	assert_true(json_equal(json_object_get(f->json, name), expected));
	json_decref(expected);
}

static void the_answer_has_all_of_the_reference(void **state)
{
	(void)state;
	struct fake_call f;
	pcm_value(IPC_KIND_INT, "42", "42");
	world.script.out = "hi \"there\"\n";
	world.script.err = "warned";
	run(&f, "{\"code\":\"print('hi')\\n42\",\"timeout\":null,\"unknown\":1}", 200);
	assert_string_equal(world.code, "print('hi')\n42");
	assert_int_equal(world.timeout_ms, 30000);
	expect_member(&f, "value", "42");
	expect_member(&f, "stdout", "\"hi \\\"there\\\"\\n\"");
	expect_member(&f, "error", "null");
	expect_member(&f, "execution_time_ms", "8.6");
	expect_member(&f, "session_id", "\"agent-1\"");
	expect_member(&f, "stderr", "\"warned\"");
	expect_member(&f, "verdict", "\"succeeded\"");
	assert_int_equal(json_object_size(f.json), 7);
	fake_call_fini(&f);
}

static void values_are_what_the_session_says_in_json(void **state)
{
	(void)state;
	static const struct {
		enum ipc_kind kind;
		const char *json;
		const char *text;
		const char *value;
	} cases[] = {
	    {IPC_KIND_NONE, "", "", "null"},
	    {IPC_KIND_NULL, "", "None", "null"},
	    {IPC_KIND_NULL, "5", "5", "null"},
	    {IPC_KIND_BOOL, "true", "True", "true"},
	    {IPC_KIND_FLOAT, "0.1", "0.1", "0.1"},
	    {IPC_KIND_FLOAT, "NaN", "nan", "null"},
	    {IPC_KIND_STR, "", "text", "\"text\""},
	    {IPC_KIND_STR, "\"a\\ud800\"", "a?", "\"a\\ufffd\""},
	    {IPC_KIND_OTHER, "{\"a\": [1, null, {\"b\": 2.5}]}", "{...}",
		"{\"a\":[1,null,{\"b\":2.5}]}"},
	    {IPC_KIND_OTHER, "", "<object>", "\"<object>\""},
	    /* A session that lies harms its own answer only, and not the shape of it. */
	    {IPC_KIND_OTHER, "1,\"error\":\"forged\"", "x", "\"x\""},
	    {IPC_KIND_OTHER, "1}", "x\xff", "\"x\\ufffd\""},
	    {IPC_KIND_INT, "[", "", "\"\""},
	};
	for (size_t i = 0; i < array_len(cases); i++) {
		struct fake_call f;
		pcm_value(cases[i].kind, cases[i].json, cases[i].text);
		run(&f, ONE, 200);
		expect_member(&f, "value", cases[i].value);
		expect_member(&f, "error", "null");
		fake_call_fini(&f);
	}
}

static void an_exception_is_its_traceback(void **state)
{
	(void)state;
	struct fake_call f;
	exception("ZeroDivisionError", "division by zero",
	    "Traceback (most recent call last):\nZeroDivisionError: division by zero\n");
	world.script.out = "before";
	run(&f, ONE, 200);
	expect_member(&f, "error",
	    "\"Traceback (most recent call last):\\nZeroDivisionError: division by zero\\n\"");
	expect_member(&f, "value", "null");
	expect_member(&f, "stdout", "\"before\"");
	expect_member(&f, "verdict", "\"exception\"");
	fake_call_fini(&f);
}

static void past_its_time_the_limit_is_named(void **state)
{
	(void)state;
	static const struct {
		const char *timeout;
		uint32_t ms;
		const char *text;
	} cases[] = {
	    {"5", 5000, "5.0"}, {"0.25", 250, "0.25"}, {"0", 30000, "30.0"},
	    {"null", 30000, "30.0"}, {"100000", 220000, "220.0"}, /* the pool's */
	};
	for (size_t i = 0; i < array_len(cases); i++) {
		struct fake_call f;
		char body[100];
		char expected[100];
		(void)snprintf(
		    body, sizeof(body), "{\"code\":\"1\",\"timeout\":%s}", cases[i].timeout);
		(void)snprintf(expected, sizeof(expected), "\"Execution timeout after %s seconds\"",
		    cases[i].text);
		world.script = (struct fake_script){.silent = true, .out = "so far"};
		fake_start(
		    &f, &world, "POST", "/execute", "X-Session-ID", "agent-1", body, strlen(body));
		fake_pump(&world);
		assert_int_equal(f.answers, 0);
		assert_int_equal(world.timeout_ms, cases[i].ms);
		engine_tick(world.engine, world.engine->now_ms + cases[i].ms + 1);
		fake_pump(&world);
		assert_int_equal(f.status, 200);
		expect_member(&f, "error", expected);
		expect_member(&f, "verdict", "\"time_limit\"");
		/* Where it was when its time was up. */
		expect_member(&f, "stderr", "\"KeyboardInterrupt\"");
		fake_call_fini(&f);
	}
}

static void the_limit_of_the_wire_holds_too(void **state)
{
	(void)state;
	static const struct pcm_config low = {.timeout_ms = 1000, .timeout_max_ms = 2000};
	struct fake_call f;
	pcm_free(world.api.pcm);
	world.api.pcm = pcm_new(&low);
	run(&f, "{\"code\":\"1\",\"timeout\":60}", 200);
	assert_int_equal(world.timeout_ms, 2000);
	fake_call_fini(&f);
	run(&f, ONE, 200);
	assert_int_equal(world.timeout_ms, 1000);
	fake_call_fini(&f);
}

static void a_session_that_dies_says_so_and_the_next_is_new(void **state)
{
	(void)state;
	struct fake_call f;
	world.script = (struct fake_script){.dies = true};
	run(&f, ONE, 200);
	assert_true(text_has_prefix(
	    fake_text(&f, "error"), "The session ended; its variables and files are gone"));
	expect_member(&f, "verdict", "\"session_killed\"");
	fake_call_fini(&f);
	world.script = (struct fake_script){.dies = true, .oom_kills = 1};
	run(&f, ONE, 200);
	expect_member(&f, "error", "\"The session reached its limit of memory and ended\"");
	expect_member(&f, "new_session", "true");
	fake_call_fini(&f);
}

static void an_exit_is_an_error_when_it_says_so(void **state)
{
	(void)state;
	struct fake_call f;
	world.script = (struct fake_script){.result = {.status = IPC_STATUS_EXIT, .exit_code = 3}};
	run(&f, ONE, 200);
	expect_member(&f, "error", "\"SystemExit: 3\"");
	fake_call_fini(&f);
	world.script.result.exit_code = 0;
	run(&f, ONE, 200);
	expect_member(&f, "error", "null");
	fake_call_fini(&f);
}

static void output_that_is_cut_is_marked_and_told(void **state)
{
	(void)state;
	struct fake_call f;
	static char much[100010 + 1];
	memset(much, 'x', sizeof(much) - 1);
	world.script = (struct fake_script){.out = much};
	run(&f, ONE, 200);
	const char *out = fake_text(&f, "stdout");
	assert_non_null(strstr(out, "\n[output cut: 100000 of 100010 bytes kept]\n"));
	expect_member(&f, "truncated", "{\"stdout\":10,\"stderr\":0,\"displays\":0}");
	expect_member(&f, "error", "null");
	expect_member(&f, "verdict", "\"output_limit\"");
	fake_call_fini(&f);
}

static void displays_are_told(void **state)
{
	(void)state;
	struct fake_call f;
	pcm_value(IPC_KIND_NONE, "", "");
	add_display("image/png", "\x89PNG", "text/plain", "<Figure>");
	add_display("text/html", "<b>", "text/plain", "b");
	run(&f, ONE, 200);
	/* Its clients look at stdout, and nowhere else. */
	expect_member(&f, "stdout", "\"b\\n\"");
	assert_null(json_object_get(f.json, "displays"));
	fake_call_fini(&f);
	pcm_send(&f, "POST", "/execute?extensions=true", "agent-1", ONE, 200);
	expect_member(&f, "stdout", "\"\"");
	expect_member(&f, "displays",
	    "[{\"image/png\":\"iVBORw==\",\"text/plain\":\"<Figure>\"},{\"text/"
	    "html\":\"<b>\",\"text/plain\":\"b\"}]");
	fake_call_fini(&f);
}

static void a_client_that_leaves_interrupts(void **state)
{
	(void)state;
	struct fake_call f;
	world.script = (struct fake_script){.silent = true};
	fake_start(&f, &world, "POST", "/execute", "X-Session-ID", "agent-1", ONE, strlen(ONE));
	fake_pump(&world);
	assert_int_equal(world.interrupts, 0);
	fake_leave(&f);
	assert_int_equal(world.interrupts, 1);
	fake_pump(&world);
	fake_call_fini(&f);
}

/* --- refusals -----------------------------------------------------------------------------------
 */

static void expect_422(const char *body, const char *type, const char *at, const char *field)
{
	struct fake_call f;
	run(&f, body, 422);
	if (strcmp(fake_text(&f, "detail.0.type"), type) != 0) {
		print_error("%s: %s\n", body, buf_str(&f.body));
	}
	assert_string_equal(fake_text(&f, "detail.0.type"), type);
	assert_string_equal(fake_text(&f, "detail.0.loc.0"), at);
	assert_string_equal(fake_text(&f, "detail.0.loc.1"), field);
	assert_true(strlen(fake_text(&f, "detail.0.msg")) > 0);
	assert_non_null(fake_at(&f, "detail.0.input"));
	fake_call_fini(&f);
}

static void bodies_that_are_not_well_formed_are_refused(void **state)
{
	(void)state;
	expect_422(NULL, "missing", "body", "");
	expect_422("", "missing", "body", "");
	expect_422("{}", "missing", "body", "code");
	expect_422("{\"code\":5}", "string_type", "body", "code");
	expect_422("{\"code\":null}", "string_type", "body", "code");
	expect_422("{\"code\":\"a\\u0000b\"}", "value_error", "body", "code");
	expect_422("{\"code\":\"1\",\"timeout\":\"soon\"}", "float_type", "body", "timeout");
	expect_422("{\"code\":\"1\",\"timeout\":true}", "float_type", "body", "timeout");
	expect_422("{\"code\":\"1\",\"timeout\":-1}", "greater_than_equal", "body", "timeout");
	expect_422("[1]", "model_attributes_type", "body", "");
	expect_422("\"code\"", "model_attributes_type", "body", "");
	expect_422("{\"code\":\"1\"", "json_invalid", "body", "");
	expect_422("{\"code\":\"1\",\"code\":\"2\"}", "json_invalid", "body", "");
	expect_422("{\"code\":\"\\ud800\"}", "json_invalid", "body", "");
	assert_int_equal(world.engine->pools[0].session_count, 0);
}

static void everything_that_is_wrong_is_told_at_once(void **state)
{
	(void)state;
	struct fake_call f;
	run(&f, "{\"code\":5,\"timeout\":[]}", 422);
	assert_int_equal(json_array_size(fake_at(&f, "detail")), 2);
	fake_call_fini(&f);
}

static void a_large_input_is_not_told_back(void **state)
{
	(void)state;
	struct fake_call f;
	static char body[70000] = "{\"cod\":\"";
	size_t at = strlen(body);
	memset(body + at, 'x', sizeof(body) - at - 3);
	(void)snprintf(body + sizeof(body) - 3, 3, "\"}");
	run(&f, body, 422);
	assert_true(json_is_null(fake_at(&f, "detail.0.input")));
	fake_call_fini(&f);
}

static void a_body_of_another_type_is_refused(void **state)
{
	(void)state;
	static const struct {
		const char *type;
		int status;
	} cases[] = {{"application/json", 200}, {"Application/JSON; charset=utf-8", 200},
	    {"application/vnd.api+json", 200}, {"", 200}, {"text/plain", 422},
	    {"application/x-www-form-urlencoded", 422}, {"text/json", 422}, {"application/", 422},
	    {"application/jsonx", 422}};
	for (size_t i = 0; i < array_len(cases); i++) {
		struct fake_call f;
		fake_start(&f, &world, "POST", "/execute", "Content-Type", cases[i].type, ONE,
		    strlen(ONE));
		fake_pump(&world);
		assert_int_equal(f.status, cases[i].status);
		/* Without a header each has a session of its own; their place is needed. */
		if (f.status == 200) {
			const char *id = fake_text(&f, "session_id");
			engine_session_delete(
			    engine_session_find(&world.engine->pools[0], NULL, id));
		}
		fake_call_fini(&f);
	}
}

/* A page of somebody else's can send a body without a type to a server on the same machine. */
static void a_web_page_must_say_json(void **state)
{
	(void)state;
	struct fake_call f;
	fake_start(
	    &f, &world, "POST", "/execute", "Origin", "http://evil.example", ONE, strlen(ONE));
	assert_int_equal(f.status, 422);
	assert_int_equal(world.engine->pools[0].session_count, 0);
	fake_call_fini(&f);
}

static void limits_are_told_with_their_status(void **state)
{
	(void)state;
	struct fake_call f;
	cleanup(buf_fini) struct buf body = BUF_INIT(8U << 20);
	(void)buf_add_str(&body, "{\"code\":\"");
	while (body.len < (4U << 20) + 32) {
		(void)buf_add_str(&body, "0123456789abcdef");
	}
	(void)buf_add_str(&body, "\"}");
	pcm_expect("POST", "/execute", "agent-1", buf_str(&body), 413,
	    "The code is larger than 4194304 bytes");
	/* The pool has three sessions. */
	static const char *const ids[] = {"one-1", "two-2", "three-3"};
	for (size_t i = 0; i < array_len(ids); i++) {
		pcm_send(&f, "POST", "/execute", ids[i], ONE, 200);
		fake_call_fini(&f);
	}
	pcm_send(&f, "POST", "/execute", "four-4", ONE, 429);
	assert_string_equal(fake_header(&f, "Retry-After"), "1");
	fake_call_fini(&f);
	engine_drain(world.engine);
	pcm_expect("POST", "/execute", "four-4", ONE, 503, "the server is stopping");
}

static void the_session_of_a_review_is_a_conflict(void **state)
{
	(void)state;
	struct err e = {0};
	assert_non_null(
	    engine_session_reserve(engine_pool(world.engine, NULL), NULL, "reviewed", &e));
	pcm_expect("POST", "/execute", "reviewed", ONE, 409,
	    "that identifier belongs to code that is reviewed");
}

static void pools_are_named_as_on_the_other_wire(void **state)
{
	(void)state;
	struct fake_call f;
	pcm_send(&f, "POST", "/sessionPools/default/execute", "agent-1", ONE, 200);
	fake_call_fini(&f);
	pcm_expect("POST", "/sessionPools/none/execute", "agent-1", ONE, 404,
	    "There is no session pool of that name");
	pcm_expect("POST", "/sessionPools/sh/execute", "agent-1", ONE, 400,
	    "This session pool does not run Python");
}

static void paths_and_methods_there_are_not(void **state)
{
	(void)state;
	static const char *const missing[] = {"/api", "/api/", "/api/none", "/api/tools/x/y",
	    "/sessionPools/default/api/none", "/api/skills/a/b"};
	for (size_t i = 0; i < array_len(missing); i++) {
		pcm_expect("GET", missing[i], NULL, NULL, 404, "Not Found");
	}
	static const char *const wrong[] = {"/execute", "/reset", "/install_deps", "/api/deps/add",
	    "/sessionPools/default/execute"};
	for (size_t i = 0; i < array_len(wrong); i++) {
		pcm_expect("GET", wrong[i], NULL, NULL, 405, "Method Not Allowed");
	}
	/* The other wire's stay its own. */
	struct fake_call f;
	pcm_send(&f, "GET", "/code/execute", NULL, NULL, 405);
	assert_string_equal(fake_text(&f, "error.code"), "MethodNotAllowed");
	fake_call_fini(&f);
	pcm_send(&f, "GET", "/none", NULL, NULL, 404);
	assert_string_equal(fake_text(&f, "error.code"), "NotFound");
	fake_call_fini(&f);
}

static void health_tells_both_wires_and_no_sessions(void **state)
{
	(void)state;
	struct fake_call f;
	pcm_send(&f, "POST", "/execute", "agent-1", ONE, 200);
	fake_call_fini(&f);
	pcm_send(&f, "GET", "/health", NULL, NULL, 200);
	assert_string_equal(fake_text(&f, "status"), "healthy");
	assert_string_equal(fake_text(&f, "message"), "healthy");
	assert_true(json_real_value(fake_at(&f, "uptime_seconds")) >= 0);
	assert_true(json_is_real(fake_at(&f, "uptime_seconds")));
	assert_int_equal(json_object_size(f.json), 3);
	fake_call_fini(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    PCM_TEST(the_answer_has_all_of_the_reference),
	    PCM_TEST(values_are_what_the_session_says_in_json),
	    PCM_TEST(an_exception_is_its_traceback),
	    PCM_TEST(past_its_time_the_limit_is_named),
	    PCM_TEST(the_limit_of_the_wire_holds_too),
	    PCM_TEST(a_session_that_dies_says_so_and_the_next_is_new),
	    PCM_TEST(an_exit_is_an_error_when_it_says_so),
	    PCM_TEST(output_that_is_cut_is_marked_and_told),
	    PCM_TEST(displays_are_told),
	    PCM_TEST(a_client_that_leaves_interrupts),
	    PCM_TEST(bodies_that_are_not_well_formed_are_refused),
	    PCM_TEST(everything_that_is_wrong_is_told_at_once),
	    PCM_TEST(a_large_input_is_not_told_back),
	    PCM_TEST(a_body_of_another_type_is_refused),
	    PCM_TEST(a_web_page_must_say_json),
	    PCM_TEST(limits_are_told_with_their_status),
	    PCM_TEST(the_session_of_a_review_is_a_conflict),
	    PCM_TEST(pools_are_named_as_on_the_other_wire),
	    PCM_TEST(paths_and_methods_there_are_not),
	    PCM_TEST(health_tells_both_wires_and_no_sessions),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
