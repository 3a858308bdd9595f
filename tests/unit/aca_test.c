/* The dialects' execute routes: shapes, what is refused, identifiers, and executions by id; driven
 * through struct call against the real engine. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "aca_fixture.h"
#include "api/aca_request.h"

/* --- shapes
 * ---------------------------------------------------------------------------------------- */

static void test_old_shape(void **state)
{
	(void)state;
	struct fake_call f;
	value(IPC_KIND_INT, "2", "2");
	world.script.out = "Hello, World!\n";
	post(&f, "code/execute",
	    "{\"properties\":{\"codeInputType\":\"inline\",\"executionType\":\"synchronous\","
	    "\"code\":\"print('Hello, World!')\\n1+1\"}}",
	    200);
	assert_string_equal(world.code, "print('Hello, World!')\n1+1");
	assert_string_equal(fake_text(&f, "$id"), "1");
	assert_string_equal(fake_text(&f, "properties.$id"), "2");
	assert_string_equal(fake_text(&f, "properties.status"), "Success");
	assert_string_equal(fake_text(&f, "properties.stdout"), "Hello, World!\n");
	assert_string_equal(fake_text(&f, "properties.stderr"), "");
	assert_int_equal(json_integer_value(fake_at(&f, "properties.result")), 2);
	assert_int_equal(
	    json_integer_value(fake_at(&f, "properties.executionTimeInMilliseconds")), 9);
	/* What Azure answers, and nothing beside. */
	assert_int_equal(json_object_size(fake_at(&f, "properties")), 6);
	assert_non_null(fake_header(&f, "Operation-Id"));
	assert_non_null(strstr(fake_header(&f, "Operation-Location"), "/executions/"));
	assert_non_null(
	    strstr(fake_header(&f, "Operation-Location"), fake_header(&f, "Operation-Id")));
	assert_int_equal(strlen(fake_header(&f, "X-Ms-Session-Guid")), 36);
	assert_non_null(fake_header(&f, "X-Ms-Execution-Request-Time"));
	assert_non_null(fake_header(&f, "X-Ms-Overall-Execution-Time"));
	fake_call_fini(&f);
}

static void test_oldest_shape(void **state)
{
	(void)state;
	struct fake_call f;
	value(IPC_KIND_STR, "", "text");
	/* The identifier may be in the body alone. */
	fake_send(&f, &world, "POST", "/python/execute?" V,
	    "{\"properties\":{\"identifier\":\"body-id\",\"codeInputType\":\"inline\","
	    "\"executionType\":\"synchronous\",\"pythonCode\":\"'text'\"}}");
	assert_int_equal(f.status, 200);
	assert_string_equal(fake_text(&f, "status"), "Success");
	assert_string_equal(fake_text(&f, "result"), "text");
	assert_string_equal(fake_text(&f, "stdout"), "");
	assert_null(fake_at(&f, "properties"));
	assert_int_equal(json_object_size(f.json), 6);
	assert_non_null(engine_session_find(&world.engine->pools[0], NULL, "body-id"));
	fake_call_fini(&f);
	/* It is older than the api-version. */
	fake_send(&f, &world, "POST", "/python/execute?" ID, "{\"pythonCode\":\"'text'\"}");
	assert_int_equal(f.status, 200);
	assert_non_null(
	    strstr(fake_header(&f, "Operation-Location"), "?api-version=2024-02-02-preview&"));
	fake_call_fini(&f);
	expect_error("POST", "/code/execute?" ID, CODE, 400, "SessionRequestValidationFailed",
	    "api-version");
}

static void test_new_shape(void **state)
{
	(void)state;
	struct fake_call f;
	value(IPC_KIND_NONE, "", "");
	fake_send(&f, &world, "POST",
	    "/subscriptions/s/resourceGroups/g/sessionPools/default/executions" Q,
	    "{\"codeInputType\":\"Inline\",\"executionType\":\"Synchronous\",\"timeoutInSeconds\":"
	    "100,"
	    "\"code\":\"x=1\",\"unknown\":[1]}");
	assert_int_equal(f.status, 200);
	assert_string_equal(fake_text(&f, "identifier"), "user-0001");
	assert_string_equal(fake_text(&f, "status"), "Succeeded");
	assert_string_equal(fake_text(&f, "executionType"), "Synchronous");
	assert_string_equal(fake_text(&f, "id"), fake_header(&f, "Operation-Id"));
	assert_string_equal(fake_text(&f, "sessionId"), fake_header(&f, "X-Ms-Session-Guid"));
	assert_true(json_is_string(fake_at(&f, "result.executionResult")));
	assert_string_equal(fake_text(&f, "result.executionResult"), "");
	assert_string_equal(fake_text(&f, "result.stdout"), "");
	assert_null(fake_at(&f, "error"));
	assert_null(fake_at(&f, "newSession"));
	assert_null(fake_at(&f, "truncated"));
	assert_null(fake_at(&f, "displays"));
	fake_call_fini(&f);
}

/* Wrapped and flat bodies on every route; the answer follows the route. */
static void test_bodies_on_every_route(void **state)
{
	(void)state;
	static const char *const routes[] = {"code/execute", "python/execute", "executions"};
	static const char *const status[] = {"properties.status", "status", "status"};
	static const char *const bodies[] = {
	    "{\"code\":\"A\"}",
	    "{\"pythonCode\":\"A\"}",
	    "{\"properties\":{\"code\":\"A\"}}",
	    "{\"properties\":{\"pythonCode\":\"A\"}}",
	    "{\"properties\":null,\"code\":\"A\"}",
	    "{\"properties\":{\"code\":\"A\"},\"code\":\"B\"}",
	    "{\"properties\":{\"codeInputType\":\"INLINE\"},\"code\":\"A\"}",
	    "{\"code\":\"A\",\"codeInputType\":\"InlineText\",\"timeoutInSeconds\":null}",
	    "{\"code\":\"QQ==\",\"codeInputType\":\"InlineBase64\",\"timeoutInSeconds\":600}",
	    "{\"code\":\"A\",\"timeoutInSeconds\":1.5,\"outputStreamsMaxLength\":4096}",
	};
	value(IPC_KIND_NONE, "", "");
	for (size_t r = 0; r < array_len(routes); r++) {
		for (size_t b = 0; b < array_len(bodies); b++) {
			struct fake_call f;
			world.code[0] = '\0';
			post(&f, routes[r], bodies[b], 200);
			assert_string_equal(world.code, "A");
			assert_true(strlen(fake_text(&f, status[r])) > 0);
			fake_call_fini(&f);
		}
	}
}

static void test_limits_of_a_request(void **state)
{
	(void)state;
	static const struct pool pool = {
	    .config = {.execution_time_ms = 5000, .output_max_bytes = 100}};
	static const struct {
		const char *time, *output;
		uint32_t timeout_ms, output_max_bytes;
	} cases[] = {{"null", "null", 0, 0}, {"1.5", "1", 1500, 1}, {"0.0001", "99", 1, 99},
	    {"4.9991", "100", 5000, 100}, {"5", "101", 5000, 100}, {"600", "4096", 5000, 100}};
	for (size_t i = 0; i < array_len(cases); i++) {
		char text[128];
		struct aca_problem p;
		cleanup(aca_request_fini) struct aca_request r = ACA_REQUEST_INIT;
		(void)snprintf(text, sizeof(text),
		    "{\"code\":\"a\",\"timeoutInSeconds\":%s,\"outputStreamsMaxLength\":%s}",
		    cases[i].time, cases[i].output);
		json_t *body = json_loads(text, 0, NULL);
		assert_int_equal(aca_request_read(&r, body, &pool, &p), 0);
		assert_int_equal(r.timeout_ms, cases[i].timeout_ms);
		assert_int_equal(r.output_max_bytes, cases[i].output_max_bytes);
		json_decref(body);
	}
}

static void test_request_refused(void **state)
{
	(void)state;
	static const struct {
		const char *body;
		const char *code;
		const char *target;
	} cases[] = {
	    {"", "SessionRequestValidationFailed", "body"},
	    {"{", "SessionRequestValidationFailed", "body"},
	    {"[]", "SessionRequestValidationFailed", "body"},
	    {"\"code\"", "SessionRequestValidationFailed", "body"},
	    {"{\"code\":\"a\",\"code\":\"b\"}", "SessionRequestValidationFailed", "body"},
	    {"{\"code\":\"a\"} x", "SessionRequestValidationFailed", "body"},
	    {"{\"code\":\"\\ud800\"}", "SessionRequestValidationFailed", "body"},
	    {"{\"code\":\"\xff\"}", "SessionRequestValidationFailed", "body"},
	    {"{}", "SessionPropertiesMissing", "code"},
	    {"{\"properties\":{}}", "SessionPropertiesMissing", "code"},
	    {"{\"code\":null}", "SessionPropertiesMissing", "code"},
	    {"{\"shellCommand\":\"ls\"}", "SessionPropertiesMissing", "code"},
	    {"{\"properties\":[]}", "SessionRequestValidationFailed", "properties"},
	    {"{\"code\":1}", "SessionRequestValidationFailed", "code"},
	    {"{\"code\":\"a\\u0000b\"}", "SessionRequestValidationFailed", "code"},
	    {"{\"code\":\"a\",\"codeInputType\":\"file\"}", "SessionRequestValidationFailed",
		"codeInputType"},
	    {"{\"code\":\"a\",\"codeInputType\":1}", "SessionRequestValidationFailed",
		"codeInputType"},
	    {"{\"code\":\"a\",\"executionType\":\"later\"}", "SessionRequestValidationFailed",
		"executionType"},
	    {"{\"code\":\"a\",\"timeoutInSeconds\":0}", "SessionRequestValidationFailed",
		"timeoutInSeconds"},
	    {"{\"code\":\"a\",\"timeoutInSeconds\":-1}", "SessionRequestValidationFailed",
		"timeoutInSeconds"},
	    {"{\"code\":\"a\",\"timeoutInSeconds\":\"9\"}", "SessionRequestValidationFailed",
		"timeoutInSeconds"},
	    {"{\"code\":\"a\",\"outputStreamsMaxLength\":0}", "SessionRequestValidationFailed",
		"outputStreamsMaxLength"},
	    {"{\"code\":\"a\",\"outputStreamsMaxLength\":1.5}", "SessionRequestValidationFailed",
		"outputStreamsMaxLength"},
	    {"{\"code\":\"a\",\"useEmptyKernel\":1}", "SessionRequestValidationFailed",
		"useEmptyKernel"},
	    {"{\"code\":\"a\",\"returnJupyterFormat\":\"x\"}", "SessionRequestValidationFailed",
		"returnJupyterFormat"},
	    {"{\"code\":\"QQ=\",\"codeInputType\":\"inlinebase64\"}",
		"SessionRequestValidationFailed", "code"},
	    {"{\"code\":\"QR==\",\"codeInputType\":\"inlinebase64\"}",
		"SessionRequestValidationFailed", "code"},
	    {"{\"code\":\"Q Q=\",\"codeInputType\":\"inlinebase64\"}",
		"SessionRequestValidationFailed", "code"},
	    {"{\"code\":\"AA==\",\"codeInputType\":\"inlinebase64\"}",
		"SessionRequestValidationFailed", "code"},
	    {"{\"code\":\"/w==\",\"codeInputType\":\"inlinebase64\"}",
		"SessionRequestValidationFailed", "code"},
	};
	for (size_t i = 0; i < array_len(cases); i++) {
		expect_error(
		    "POST", "/executions" Q, cases[i].body, 400, cases[i].code, cases[i].target);
		expect_error(
		    "POST", "/code/execute" Q, cases[i].body, 400, cases[i].code, cases[i].target);
	}
	/* Nothing of that made a session. */
	assert_int_equal(world.engine->pools[0].session_count, 0);
}

static void test_code_too_large(void **state)
{
	(void)state;
	size_t size = 5U << 20;
	char *body = malloc(size + 32);
	int head = snprintf(body, size, "{\"code\":\"");
	memset(body + head, 'a', size);
	memcpy(body + head + size, "\"}", 3);
	expect_error("POST", "/executions" Q, body, 413, "SessionRequestTooLarge", "code");
	free(body);
}

/* --- who and where
 * --------------------------------------------------------------------------------- */

static void test_query_refused(void **state)
{
	(void)state;
	static const char bad[] = "SessionRequestValidationFailed";
	static const char length[] = "InvalidLengthOfSessionIdentifier";
	expect_error("POST", "/executions?" ID, CODE, 400, bad, "api-version");
	expect_error("POST", "/executions?api-version=&" ID, CODE, 400, bad, "api-version");
	expect_error("POST", "/executions?api-version=latest&" ID, CODE, 400, bad, "api-version");
	expect_error("POST", "/executions?" V, CODE, 400, bad, "identifier");
	expect_error("POST", "/executions?" V "&identifier=", CODE, 400, length, "identifier");
	expect_error("POST", "/executions?" V "&identifier=abc", CODE, 400, length, "identifier");
	expect_error(
	    "POST", "/executions?" V "&identifier=caf%C3%A9", CODE, 400, bad, "identifier");
	char longest[512] = "/executions?" V "&identifier=";
	memset(longest + strlen(longest), 'x', 129);
	expect_error("POST", longest, CODE, 400, length, "identifier");
	expect_error(
	    "POST", "/sessionPools/none/executions" Q, CODE, 404, "SessionPoolNotFound", "");
	expect_error("GET", "/nothing" Q, NULL, 404, "NotFound", "");
	expect_error("PUT", "/executions" Q, CODE, 405, "MethodNotAllowed", "");
	expect_error("GET", "/listSessions?" V "&skip=-1", NULL, 400, bad, "skip");
	expect_error("GET", "/files" Q "&recursive=perhaps", NULL, 400, bad, "recursive");
}

static void test_identifier_places(void **state)
{
	(void)state;
	struct fake_call f;
	struct pool *pool = &world.engine->pools[0];
	value(IPC_KIND_NONE, "", "");
	fake_send(&f, &world, "POST", "/identifier/path-id/code/execute?" V, CODE);
	assert_int_equal(f.status, 200);
	assert_non_null(engine_session_find(pool, NULL, "path-id"));
	fake_call_fini(&f);
	/* The query's comes first. */
	fake_send(&f, &world, "POST", "/identifier/path-2/code/execute?" V "&identifier=query-2",
	    "{\"identifier\":\"body-2\",\"code\":\"1\"}");
	assert_int_equal(f.status, 200);
	assert_non_null(engine_session_find(pool, NULL, "query-2"));
	assert_null(engine_session_find(pool, NULL, "path-2"));
	assert_null(engine_session_find(pool, NULL, "body-2"));
	fake_call_fini(&f);
}

static void test_token_for_another_pool(void **state)
{
	(void)state;
	struct fake_call f;
	static const char list[] = "/listSessions?" V;
	fake_send(&f, &world, "GET", list, NULL);
	assert_int_equal(f.status, 200);
	/* The same call again as a principal of pool "sh". */
	f.principal.pool = "sh";
	f.answers = 0;
	f.header_count = 0;
	json_decref(f.json);
	f.json = NULL;
	f.call.route->handle(&f.call);
	assert_int_equal(f.status, 403);
	assert_string_equal(fake_text(&f, "error.code"), "Forbidden");
	fake_call_fini(&f);
}

static void test_http_layer_errors(void **state)
{
	(void)state;
	static const struct {
		int status;
		const char *code;
	} cases[] = {{400, "SessionRequestValidationFailed"}, {401, "Unauthorized"},
	    {403, "Forbidden"}, {404, "NotFound"}, {405, "MethodNotAllowed"},
	    {413, "SessionRequestTooLarge"}, {500, "InternalServerError"},
	    {503, "SessionPoolUnavailable"}};
	for (size_t i = 0; i < array_len(cases); i++) {
		struct fake_call f = {0};
		struct err e;
		(void)err_set(&e, ERR_INVALID, "why \xff");
		api_on_error(&f.call, cases[i].status, &e);
		assert_int_equal(f.status, cases[i].status);
		assert_string_equal(fake_text(&f, "error.code"), cases[i].code);
		assert_string_equal(fake_text(&f, "error.message"), "why \xef\xbf\xbd");
		fake_call_fini(&f);
	}
}

/* --- by id
 * --------------------------------------------------------------------------------------------- */

static void test_asynchronous(void **state)
{
	(void)state;
	struct fake_call f;
	char location[4096];
	static const char body[] = "{\"code\":\"x\",\"executionType\":\"Asynchronous\"}";
	value(IPC_KIND_INT, "5", "5");
	world.script.silent = true;
	fake_start(&f, &world, "POST",
	    "/sub%20s/sessionPools/default/executions?" V "&identifier=a%26b%2Fc", "operation-id",
	    "my.op-1", body, strlen(body));
	assert_int_equal(f.status, 202);
	assert_string_equal(fake_text(&f, "status"), "Running");
	assert_string_equal(fake_text(&f, "executionType"), "Asynchronous");
	assert_null(fake_at(&f, "result"));
	assert_string_equal(fake_header(&f, "Operation-Id"), "my.op-1");
	(void)snprintf(location, sizeof(location), "%s", fake_header(&f, "Operation-Location"));
	assert_string_equal(location,
	    "/sub%20s/sessionPools/default/executions/my.op-1?" V "&identifier=a%26b%2Fc");
	fake_leave(&f);
	fake_call_fini(&f);
	fake_pump(&world);
	assert_int_equal(world.interrupts, 0);
	fake_send(&f, &world, "GET", location, NULL);
	assert_int_equal(f.status, 200);
	assert_string_equal(fake_text(&f, "status"), "Running");
	fake_call_fini(&f);
	world.script.silent = false;
	fake_pump(&world);
	fake_send(&f, &world, "GET", location, NULL);
	assert_string_equal(fake_text(&f, "status"), "Succeeded");
	assert_int_equal(json_integer_value(fake_at(&f, "result.executionResult")), 5);
	fake_call_fini(&f);
	/* The id is taken now. */
	fake_start(&f, &world, "POST", "/executions?" V "&identifier=a%26b%2Fc", "operation-id",
	    "my.op-1", body, strlen(body));
	assert_int_equal(f.status, 409);
	fake_call_fini(&f);
	/* An id that cannot be one is ours to choose. */
	fake_start(&f, &world, "POST", "/code/execute?" V "&identifier=a%26b%2Fc", "operation-id",
	    "a/b", body, strlen(body));
	assert_int_equal(f.status, 202);
	assert_int_equal(strlen(fake_header(&f, "Operation-Id")), 36);
	assert_string_equal(fake_text(&f, "properties.status"), "Running");
	fake_call_fini(&f);
}

static void test_cancel(void **state)
{
	(void)state;
	struct fake_call run;
	struct fake_call queued;
	struct fake_call f;
	char target[256];
	value(IPC_KIND_NONE, "", "");
	world.script.silent = true;
	fake_start(
	    &run, &world, "POST", "/executions" Q, "operation-id", "one", CODE, strlen(CODE));
	fake_pump(&world);
	fake_start(
	    &queued, &world, "POST", "/executions" Q, "operation-id", "two", CODE, strlen(CODE));
	(void)snprintf(target, sizeof(target), "/executions/two" Q);
	fake_send(&f, &world, "DELETE", target, NULL);
	assert_int_equal(f.status, 200);
	assert_string_equal(fake_text(&f, "status"), "Canceled");
	assert_string_equal(fake_text(&queued, "status"), "Canceled");
	fake_call_fini(&f);
	fake_call_fini(&queued);
	fake_start(&f, &world, "DELETE", "/executions/one" Q, NULL, NULL, NULL, 0);
	assert_int_equal(f.answers, 0);
	fake_pump(&world);
	assert_string_equal(fake_text(&f, "status"), "Canceled");
	assert_string_equal(fake_text(&f, "verdict"), "interrupted");
	assert_string_equal(fake_text(&run, "status"), "Canceled");
	assert_non_null(strstr(fake_text(&run, "result.stderr"), "Execution was interrupted"));
	fake_call_fini(&f);
	fake_call_fini(&run);
	expect_error("GET", "/executions/none" Q, NULL, 404, "SessionExecutionNotFound", "");
	expect_error("GET", "/executions/none?" V "&identifier=nobody", NULL, 400,
	    "SessionWithIdentifierNotFound", "identifier");
}

/* --- limits
 * --------------------------------------------------------------------------------------------- */

static void test_pool_full(void **state)
{
	(void)state;
	struct fake_call f;
	value(IPC_KIND_NONE, "", "");
	for (int i = 0; i < 3; i++) {
		char target[128];
		(void)snprintf(target, sizeof(target), "/executions?" V "&identifier=user-%d", i);
		fake_send(&f, &world, "POST", target, CODE);
		assert_int_equal(f.status, 200);
		fake_call_fini(&f);
	}
	fake_send(&f, &world, "POST", "/executions?" V "&identifier=user-4", CODE);
	assert_int_equal(f.status, 429);
	assert_string_equal(fake_text(&f, "error.code"), "SessionPoolFull");
	assert_non_null(fake_header(&f, "Retry-After"));
	fake_call_fini(&f);
}

static void test_queue_full(void **state)
{
	(void)state;
	struct fake_call calls[ENGINE_QUEUE_MAX + 1];
	value(IPC_KIND_NONE, "", "");
	world.script.silent = true;
	for (int i = 0; i <= ENGINE_QUEUE_MAX; i++) {
		fake_start(
		    &calls[i], &world, "POST", "/executions" Q, NULL, NULL, CODE, strlen(CODE));
	}
	assert_int_equal(calls[ENGINE_QUEUE_MAX].status, 429);
	assert_string_equal(fake_text(&calls[ENGINE_QUEUE_MAX], "error.code"), "SessionQueueFull");
	world.script.silent = false;
	fake_pump(&world);
	for (int i = 0; i <= ENGINE_QUEUE_MAX; i++) {
		assert_int_equal(calls[i].answers, 1);
		fake_call_fini(&calls[i]);
	}
}

static void test_draining(void **state)
{
	(void)state;
	struct fake_call f;
	engine_drain(world.engine);
	expect_error("POST", "/executions" Q, CODE, 503, "SessionPoolUnavailable", "");
	fake_send(&f, &world, "GET", "/health", NULL);
	assert_int_equal(f.status, 503);
	fake_call_fini(&f);
}

/* --- shell pools
 * ------------------------------------------------------------------------------------------ */

static void test_shell(void **state)
{
	(void)state;
	struct fake_call f;
	static const char sh[] = "/sessionPools/sh/executions" Q;
	value(IPC_KIND_NONE, "", "");
	world.script.out = "out";
	fake_send(&f, &world, "POST", sh,
	    "{\"shellCommand\":\"echo out\",\"stdin\":\"in\",\"codeInputType\":\"whatever\"}");
	assert_int_equal(f.status, 200);
	assert_int_equal(world.kind, IPC_EXECUTE_SHELL);
	assert_string_equal(world.code, "echo out");
	assert_string_equal(world.stdin_text, "in");
	assert_string_equal(fake_text(&f, "status"), "0");
	assert_string_equal(fake_text(&f, "result.stdout"), "out");
	fake_call_fini(&f);
	world.script.result.exit_code = 2;
	fake_send(&f, &world, "POST", sh, "{\"execCommandAndArgs\":[\"ls\",\"-l\",\"\"]}");
	assert_int_equal(world.kind, IPC_EXECUTE_ARGV);
	assert_string_equal(world.code, "ls|-l||");
	assert_string_equal(fake_text(&f, "status"), "2");
	assert_null(fake_at(&f, "error"));
	fake_call_fini(&f);
	world.script.silent = true;
	fake_start(&f, &world, "POST", sh, NULL, NULL, "{\"shellCommand\":\"sleep 999\"}", 28);
	fake_pump(&world);
	engine_tick(world.engine, 300000);
	fake_pump(&world);
	assert_string_equal(fake_text(&f, "status"), "124");
	assert_string_equal(fake_text(&f, "error.error.code"), "KeyboardInterrupt");
	fake_call_fini(&f);
	world.script.silent = false;
	world.script.dies = true;
	fake_send(&f, &world, "POST", sh, "{\"shellCommand\":\"kill -9 -1\"}");
	assert_string_equal(fake_text(&f, "status"), "137");
	fake_call_fini(&f);
	static const char bad[] = "SessionRequestValidationFailed";
	expect_error("POST", sh, CODE, 400, "SessionPropertiesMissing", "shellCommand");
	expect_error("POST", sh, "{\"shellCommand\":\"a\",\"execCommandAndArgs\":[\"a\"]}", 400,
	    bad, "shellCommand");
	expect_error("POST", sh, "{\"execCommandAndArgs\":[]}", 400, bad, "execCommandAndArgs");
	expect_error("POST", sh, "{\"execCommandAndArgs\":\"ls\"}", 400, bad, "execCommandAndArgs");
	expect_error("POST", sh, "{\"execCommandAndArgs\":[1]}", 400, bad, "execCommandAndArgs");
	expect_error("POST", sh, "{\"execCommandAndArgs\":[\"\"]}", 400, bad, "execCommandAndArgs");
	expect_error(
	    "POST", sh, "{\"execCommandAndArgs\":[\"a\\u0000\"]}", 400, bad, "execCommandAndArgs");
	expect_error("POST", sh, "{\"shellCommand\":\"a\",\"stdin\":1}", 400, bad, "stdin");
}

static void test_empty_kernel(void **state)
{
	(void)state;
	struct fake_call f;
	value(IPC_KIND_NONE, "", "");
	post(&f, "executions", "{\"code\":\"x\",\"useEmptyKernel\":true}", 200);
	assert_true(world.empty_namespace);
	fake_call_fini(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    ACA_TEST(test_old_shape),
	    ACA_TEST(test_oldest_shape),
	    ACA_TEST(test_new_shape),
	    ACA_TEST(test_bodies_on_every_route),
	    ACA_TEST(test_limits_of_a_request),
	    ACA_TEST(test_request_refused),
	    ACA_TEST(test_code_too_large),
	    ACA_TEST(test_query_refused),
	    ACA_TEST(test_identifier_places),
	    ACA_TEST(test_token_for_another_pool),
	    ACA_TEST(test_http_layer_errors),
	    ACA_TEST(test_asynchronous),
	    ACA_TEST(test_cancel),
	    ACA_TEST(test_pool_full),
	    ACA_TEST(test_queue_full),
	    ACA_TEST(test_draining),
	    ACA_TEST(test_shell),
	    ACA_TEST(test_empty_kernel),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
