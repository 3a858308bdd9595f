/* The dialects' execute routes, result typing, failures, sessions and the server's own routes, driven
 * through struct call against the real engine. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/aca_value.h"
#include "fake_api.h"

#define V "api-version=2025-10-02-preview"
#define ID "identifier=user-0001"
#define Q "?" V "&" ID
#define CODE "{\"code\":\"1+1\"}"

static struct fake_world world;

static int setup(void **state)
{
	(void)state;
	fake_world_init(&world);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fake_world_fini(&world);
	return 0;
}

static struct ipc_bytes bytes(const char *text)
{
	return (struct ipc_bytes){text, strlen(text)};
}

static void value(enum ipc_kind kind, const char *json, const char *text)
{
	world.script = (struct fake_script){
	    .result = {.kind = (uint8_t)kind, .json = bytes(json), .text = bytes(text),
		.duration_us = 8600},
	};
}

static void exception(const char *name, const char *message, const char *traceback)
{
	world.script = (struct fake_script){
	    .result = {.status = IPC_STATUS_EXCEPTION, .error_name = bytes(name),
		.error_value = bytes(message), .traceback = bytes(traceback)},
	};
}

/* POSTs BODY to ROUTE and expects STATUS. */
static void post(struct fake_call *f, const char *route, const char *body, int status)
{
	char target[512];
	(void)snprintf(target, sizeof(target), "/%s" Q, route);
	fake_send(f, &world, "POST", target, body);
	assert_int_equal(f->answers, 1);
	if (f->status != status) {
		print_error("%s: %s\n", body, fake_text(f, "error.message"));
	}
	assert_int_equal(f->status, status);
}

static void expect_error(
    const char *method, const char *target, const char *body, int status, const char *code, const char *at)
{
	struct fake_call f;
	fake_send(&f, &world, method, target, body);
	assert_int_equal(f.answers, 1);
	if (f.status != status || strcmp(fake_text(&f, "error.code"), code) != 0) {
		print_error("%s %s: %d %s: %s\n", method, target, f.status, fake_text(&f, "error.code"),
		    fake_text(&f, "error.message"));
	}
	assert_int_equal(f.status, status);
	assert_string_equal(fake_text(&f, "error.code"), code);
	assert_string_equal(fake_header(&f, "x-ms-error-code"), code);
	assert_string_equal(fake_text(&f, "error.target"), at);
	assert_int_equal(strlen(fake_text(&f, "error.traceId")), 36);
	assert_true(strlen(fake_text(&f, "error.message")) > 0);
	fake_call_fini(&f);
}

/* --- shapes ---------------------------------------------------------------------------------------- */

static void test_old_shape(void **state)
{
	(void)state;
	struct fake_call f;
	value(IPC_KIND_INT, "2", "2");
	world.script.out = "Hello, World!\n";
	post(&f, "code/execute",
	    "{\"properties\":{\"codeInputType\":\"inline\",\"executionType\":\"synchronous\","
	    "\"code\":\"print('Hello, World!')\\n1+1\"}}", 200);
	assert_string_equal(world.code, "print('Hello, World!')\n1+1");
	assert_string_equal(fake_text(&f, "$id"), "1");
	assert_string_equal(fake_text(&f, "properties.$id"), "2");
	assert_string_equal(fake_text(&f, "properties.status"), "Success");
	assert_string_equal(fake_text(&f, "properties.stdout"), "Hello, World!\n");
	assert_string_equal(fake_text(&f, "properties.stderr"), "");
	assert_int_equal(json_integer_value(fake_at(&f, "properties.result")), 2);
	assert_int_equal(json_integer_value(fake_at(&f, "properties.executionResult")), 2);
	assert_int_equal(json_integer_value(fake_at(&f, "properties.executionTimeInMilliseconds")), 9);
	assert_string_equal(fake_text(&f, "properties.verdict"), "succeeded");
	assert_non_null(fake_header(&f, "Operation-Id"));
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
	assert_non_null(engine_session_find(&world.engine->pools[0], "body-id"));
	fake_call_fini(&f);
}

static void test_new_shape(void **state)
{
	(void)state;
	struct fake_call f;
	value(IPC_KIND_NONE, "", "");
	fake_send(&f, &world, "POST", "/subscriptions/s/resourceGroups/g/sessionPools/default/executions" Q,
	    "{\"codeInputType\":\"Inline\",\"executionType\":\"Synchronous\",\"timeoutInSeconds\":100,"
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
	    "{\"code\":\"A\"}", "{\"pythonCode\":\"A\"}", "{\"properties\":{\"code\":\"A\"}}",
	    "{\"properties\":{\"pythonCode\":\"A\"}}", "{\"properties\":null,\"code\":\"A\"}",
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
	    {"{\"code\":\"a\",\"codeInputType\":1}", "SessionRequestValidationFailed", "codeInputType"},
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
	    {"{\"code\":\"a\",\"useEmptyKernel\":1}", "SessionRequestValidationFailed", "useEmptyKernel"},
	    {"{\"code\":\"a\",\"returnJupyterFormat\":\"x\"}", "SessionRequestValidationFailed",
		"returnJupyterFormat"},
	    {"{\"code\":\"QQ=\",\"codeInputType\":\"inlinebase64\"}", "SessionRequestValidationFailed",
		"code"},
	    {"{\"code\":\"QR==\",\"codeInputType\":\"inlinebase64\"}", "SessionRequestValidationFailed",
		"code"},
	    {"{\"code\":\"Q Q=\",\"codeInputType\":\"inlinebase64\"}", "SessionRequestValidationFailed",
		"code"},
	    {"{\"code\":\"AA==\",\"codeInputType\":\"inlinebase64\"}", "SessionRequestValidationFailed",
		"code"},
	    {"{\"code\":\"/w==\",\"codeInputType\":\"inlinebase64\"}", "SessionRequestValidationFailed",
		"code"},
	};
	for (size_t i = 0; i < array_len(cases); i++) {
		expect_error("POST", "/executions" Q, cases[i].body, 400, cases[i].code, cases[i].target);
		expect_error("POST", "/code/execute" Q, cases[i].body, 400, cases[i].code, cases[i].target);
	}
	/* Nothing of that made a session. */
	assert_int_equal(world.engine->pools[0].session_count, 0);
}

static void test_code_too_large(void **state)
{
	(void)state;
	size_t size = 5U << 20;
	char *body = malloc(size + 32);
	int head = sprintf(body, "{\"code\":\"");
	memset(body + head, 'a', size);
	memcpy(body + head + size, "\"}", 3);
	expect_error("POST", "/executions" Q, body, 413, "SessionRequestTooLarge", "");
	free(body);
}

/* --- who and where --------------------------------------------------------------------------------- */

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
	expect_error("POST", "/executions?" V "&identifier=caf%C3%A9", CODE, 400, bad, "identifier");
	char longest[512] = "/executions?" V "&identifier=";
	memset(longest + strlen(longest), 'x', 129);
	expect_error("POST", longest, CODE, 400, length, "identifier");
	expect_error("POST", "/sessionPools/none/executions" Q, CODE, 404, "SessionPoolNotFound", "");
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
	assert_non_null(engine_session_find(pool, "path-id"));
	fake_call_fini(&f);
	/* The query's comes first. */
	fake_send(&f, &world, "POST", "/identifier/path-2/code/execute?" V "&identifier=query-2",
	    "{\"identifier\":\"body-2\",\"code\":\"1\"}");
	assert_int_equal(f.status, 200);
	assert_non_null(engine_session_find(pool, "query-2"));
	assert_null(engine_session_find(pool, "path-2"));
	assert_null(engine_session_find(pool, "body-2"));
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
	} cases[] = {{400, "SessionRequestValidationFailed"}, {401, "Unauthorized"}, {403, "Forbidden"},
	    {404, "NotFound"}, {405, "MethodNotAllowed"}, {413, "SessionRequestTooLarge"},
	    {500, "InternalServerError"}, {503, "SessionPoolUnavailable"}};
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

/* --- §1.4: what is in the result slot ----------------------------------------------------------------- */

static void expect_result(const char *expected, const char *jupyter)
{
	for (int j = 0; j < 2; j++) {
		struct fake_call f;
		post(&f, "executions",
		    j == 0 ? CODE :
		    j == 1 ? "{\"code\":\"x\",\"returnJupyterFormatExecutionResult\":true}" : "", 200);
		char *text = json_dumps(
		    fake_at(&f, "result.executionResult"), JSON_ENCODE_ANY | JSON_COMPACT);
		assert_string_equal(text, j == 0 ? expected : jupyter);
		free(text);
		fake_call_fini(&f);
	}
}

static void test_result_typing(void **state)
{
	(void)state;
	static const struct {
		enum ipc_kind kind;
		const char *json;
		const char *text;
		const char *expected;
		const char *jupyter;
	} cases[] = {
	    {IPC_KIND_NONE, "", "", "\"\"", "\"\""},
	    {IPC_KIND_NULL, "null", "None", "\"\"", "null"},
	    {IPC_KIND_INT, "2", "2", "2", "\"2\""},
	    {IPC_KIND_INT, "-9223372036854775808", "-9223372036854775808", "-9223372036854775808",
		"\"-9223372036854775808\""},
	    {IPC_KIND_INT, "9223372036854775808", "9223372036854775808", "\"9223372036854775808\"",
		"\"9223372036854775808\""},
	    {IPC_KIND_FLOAT, "1.5", "1.5", "1.5", "\"1.5\""},
	    {IPC_KIND_FLOAT, "", "nan", "null", "\"nan\""},
	    {IPC_KIND_FLOAT, "NaN", "nan", "null", "\"nan\""},
	    {IPC_KIND_FLOAT, "null", "-inf", "null", "\"-inf\""},
	    {IPC_KIND_BOOL, "true", "True", "true", "\"True\""},
	    {IPC_KIND_BOOL, "false", "False", "false", "\"False\""},
	    {IPC_KIND_STR, "", "nan", "\"nan\"", "\"'nan'\""},
	    {IPC_KIND_STR, "", "it's", "\"it's\"", "\"\\\"it's\\\"\""},
	    {IPC_KIND_STR, "", "a'b\"c\\\n\x01", "\"a'b\\\"c\\\\\\n\\u0001\"",
		"\"'a\\\\'b\\\"c\\\\\\\\\\\\n\\\\x01'\""},
	    {IPC_KIND_OTHER, "", "[1, 2]", "\"[1, 2]\"", "\"[1, 2]\""},
	    {IPC_KIND_OTHER, "{\"a\":1}", "{'a': 1}", "\"{'a': 1}\"", "\"{'a': 1}\""},
	    /* A session that lies about its kind. */
	    {IPC_KIND_INT, "{\"a\":1}", "x", "\"x\"", "\"x\""},
	    {IPC_KIND_INT, "\"1\"", "", "\"\\\"1\\\"\"", "\"\\\"1\\\"\""},
	    {IPC_KIND_INT, "1.5", "1.5", "\"1.5\"", "\"1.5\""},
	    {IPC_KIND_BOOL, "1", "y", "\"y\"", "\"y\""},
	    {IPC_KIND_FLOAT, "1e999", "big", "\"big\"", "\"big\""},
	    {IPC_KIND_INT, "1 2", "z", "\"z\"", "\"z\""},
	    {IPC_KIND_STR, "", "a\xff\xc3", "\"a\xef\xbf\xbd\xef\xbf\xbd\"",
		"\"'a\xef\xbf\xbd\xef\xbf\xbd'\""},
	};
	for (size_t i = 0; i < array_len(cases); i++) {
		value(cases[i].kind, cases[i].json, cases[i].text);
		expect_result(cases[i].expected, cases[i].jupyter);
	}
}

static void test_repr(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		size_t len;
		const char *repr;
	} cases[] = {
	    {"", 0, "''"}, {"a", 1, "'a'"}, {"\0", 1, "'\\x00'"}, {"\t\r\n", 3, "'\\t\\r\\n'"},
	    {"\x7f", 1, "'\\x7f'"}, {"\xc2\xa0", 2, "'\\xa0'"}, {"\xc3\xa9", 2, "'\xc3\xa9'"},
	    {"\xe2\x80\xa8", 3, "'\\u2028'"}, {"\xf0\x9f\x90\x8d", 4, "'\xf0\x9f\x90\x8d'"},
	    {"\xf3\xa0\x80\x81", 4, "'\\U000e0001'"}, {"'\"", 2, "'\\'\"'"}, {"\"", 1, "'\"'"},
	};
	for (size_t i = 0; i < array_len(cases); i++) {
		cleanup(buf_fini) struct buf b = BUF_INIT(64);
		assert_int_equal(aca_value_add_repr(&b, cases[i].text, cases[i].len), 0);
		assert_string_equal(buf_str(&b), cases[i].repr);
	}
}

static void test_results_as_strings(void **state)
{
	(void)state;
	world.api.results_as_strings = true;
	value(IPC_KIND_INT, "2", "2");
	expect_result("\"2\"", "\"2\"");
	value(IPC_KIND_STR, "", "a");
	expect_result("\"a\"", "\"'a'\"");
}

/* --- displays --------------------------------------------------------------------------------------- */

static void add_display(const char *mime, const char *data, const char *mime2, const char *data2)
{
	struct ipc_display *d = &world.script.displays[world.script.display_count++];
	d->items[0].mime = mime;
	d->items[0].data = bytes(data);
	d->count = 1;
	if (mime2 != NULL) {
		d->items[1].mime = mime2;
		d->items[1].data = bytes(data2);
		d->count = 2;
	}
}

static void test_one_image(void **state)
{
	(void)state;
	struct fake_call f;
	value(IPC_KIND_NONE, "", "");
	add_display("text/plain", "<Figure size 640x480 with 1 Axes>", "image/png", "\x89PNG\xff");
	post(&f, "code/execute", CODE, 200);
	assert_string_equal(fake_text(&f, "properties.result.type"), "image");
	assert_string_equal(fake_text(&f, "properties.result.format"), "png");
	assert_string_equal(fake_text(&f, "properties.result.base64_data"), "iVBOR/8=");
	assert_null(fake_at(&f, "properties.displays"));
	assert_null(fake_at(&f, "properties.value"));
	fake_call_fini(&f);
}

static void test_more_displays(void **state)
{
	(void)state;
	struct fake_call f;
	value(IPC_KIND_INT, "7", "7");
	add_display("image/png", "one", NULL, NULL);
	add_display("image/jpeg", "two", NULL, NULL);
	add_display("text/html", "<b>\xff</b>", "application/json", "{\"a\":1}");
	post(&f, "executions", CODE, 200);
	/* The last image has the slot; nothing is lost of the rest. */
	assert_string_equal(fake_text(&f, "result.executionResult.format"), "jpeg");
	assert_string_equal(fake_text(&f, "result.executionResult.base64_data"), "dHdv");
	assert_int_equal(json_array_size(fake_at(&f, "displays")), 3);
	assert_string_equal(fake_text(&f, "displays.0.image/png"), "b25l");
	assert_string_equal(fake_text(&f, "displays.2.text/html"), "<b>\xef\xbf\xbd</b>");
	assert_string_equal(fake_text(&f, "displays.2.application/json"), "{\"a\":1}");
	assert_int_equal(json_integer_value(fake_at(&f, "value")), 7);
	fake_call_fini(&f);
}

static void test_display_without_image(void **state)
{
	(void)state;
	struct fake_call f;
	value(IPC_KIND_OTHER, "", "   a\n0  1");
	add_display("text/html", "<table>", "mime\xff/x", "y");
	post(&f, "code/execute", CODE, 200);
	assert_string_equal(fake_text(&f, "properties.result"), "   a\n0  1");
	assert_string_equal(fake_text(&f, "properties.displays.0.text/html"), "<table>");
	assert_string_equal(fake_text(&f, "properties.displays.0.mime\xef\xbf\xbd/x"), "eQ==");
	fake_call_fini(&f);
}

/* --- §1.5: failures ----------------------------------------------------------------------------------- */

static void test_exception(void **state)
{
	(void)state;
	struct fake_call f;
	exception("KeyError", "'sales_amount'", "Traceback\nKeyError: 'sales_amount'");
	world.script.err = "warning";
	post(&f, "executions", CODE, 200);
	assert_string_equal(fake_text(&f, "status"), "Failed");
	assert_string_equal(
	    fake_text(&f, "result.stderr"), "warning\nTraceback\nKeyError: 'sales_amount'");
	assert_string_equal(fake_text(&f, "error.error.code"), "KeyError");
	assert_string_equal(fake_text(&f, "error.error.message"), "'sales_amount'");
	assert_string_equal(fake_text(&f, "verdict"), "exception");
	fake_call_fini(&f);
	post(&f, "code/execute", CODE, 200);
	assert_string_equal(fake_text(&f, "properties.status"), "Failure");
	assert_string_equal(fake_text(&f, "properties.result"), "");
	fake_call_fini(&f);
}

static void test_time_limit(void **state)
{
	(void)state;
	struct fake_call f;
	value(IPC_KIND_NONE, "", "");
	world.script.silent = true;
	fake_start(&f, &world, "POST", "/executions" Q, NULL, NULL,
	    "{\"code\":\"sleep\",\"timeoutInSeconds\":2}", 37);
	fake_pump(&world);
	assert_int_equal(f.answers, 0);
	engine_tick(world.engine, 2500);
	fake_pump(&world);
	assert_int_equal(f.answers, 0);
	engine_tick(world.engine, 3500);
	fake_pump(&world);
	assert_int_equal(f.answers, 1);
	assert_string_equal(fake_text(&f, "status"), "Failed");
	assert_string_equal(fake_text(&f, "verdict"), "time_limit");
	assert_string_equal(fake_text(&f, "result.stderr"),
	    "KeyboardInterrupt\nRequest timed out waiting for code execution to complete");
	fake_call_fini(&f);
}

static void test_killed(void **state)
{
	(void)state;
	struct fake_call f;
	value(IPC_KIND_NONE, "", "");
	world.script.dies = true;
	world.script.oom_kills = 1;
	world.script.out = "before";
	post(&f, "executions", CODE, 200);
	assert_string_equal(fake_text(&f, "status"), "Failed");
	assert_string_equal(fake_text(&f, "verdict"), "memory_limit");
	assert_string_equal(fake_text(&f, "result.stdout"), "before");
	assert_string_equal(fake_text(&f, "result.stderr"), "Execution aborted");
	fake_call_fini(&f);
	/* The next request gets a fresh session and is told. */
	value(IPC_KIND_NONE, "", "");
	post(&f, "code/execute", CODE, 200);
	assert_true(json_is_true(fake_at(&f, "properties.newSession")));
	fake_call_fini(&f);
	post(&f, "code/execute", CODE, 200);
	assert_null(fake_at(&f, "properties.newSession"));
	fake_call_fini(&f);
	world.script.dies = true;
	post(&f, "executions", CODE, 200);
	assert_string_equal(fake_text(&f, "verdict"), "session_killed");
	assert_non_null(strstr(fake_text(&f, "result.stderr"), "SIGKILL"));
	fake_call_fini(&f);
}

static void test_exit(void **state)
{
	(void)state;
	struct fake_call f;
	value(IPC_KIND_NONE, "", "");
	world.script.result.status = IPC_STATUS_EXIT;
	world.script.result.exit_code = 3;
	post(&f, "executions", CODE, 200);
	assert_string_equal(fake_text(&f, "verdict"), "exited");
	assert_string_equal(fake_text(&f, "status"), "Failed");
	assert_string_equal(fake_text(&f, "result.stderr"), "SystemExit: 3");
	fake_call_fini(&f);
}

static void test_output_cut(void **state)
{
	(void)state;
	struct fake_call f;
	value(IPC_KIND_NONE, "", "");
	world.script.out = "12345678\xc3\xa9tail"; /* the cut is inside of the two-byte letter */
	world.script.err = "\xff";
	post(&f, "executions", "{\"code\":\"x\",\"outputStreamsMaxLength\":9}", 200);
	assert_string_equal(
	    fake_text(&f, "result.stdout"), "12345678\n[output cut: 9 of 14 bytes kept]\n");
	assert_string_equal(fake_text(&f, "result.stderr"), "\xef\xbf\xbd");
	assert_int_equal(json_integer_value(fake_at(&f, "truncated.stdout")), 5);
	assert_null(fake_at(&f, "truncated.stderr"));
	assert_string_equal(fake_text(&f, "verdict"), "output_limit");
	assert_string_equal(fake_text(&f, "status"), "Succeeded");
	fake_call_fini(&f);
}

static void test_gone_interrupts(void **state)
{
	(void)state;
	struct fake_call f;
	value(IPC_KIND_NONE, "", "");
	world.script.silent = true;
	fake_start(&f, &world, "POST", "/executions" Q, NULL, NULL, CODE, strlen(CODE));
	fake_pump(&world);
	fake_leave(&f);
	assert_int_equal(world.interrupts, 1);
	fake_pump(&world);
	assert_int_equal(engine_active_executions(world.engine), 0);
	fake_call_fini(&f);
}

/* --- by id --------------------------------------------------------------------------------------------- */

static void test_asynchronous(void **state)
{
	(void)state;
	struct fake_call f;
	char location[4096];
	static const char body[] = "{\"code\":\"x\",\"executionType\":\"Asynchronous\"}";
	value(IPC_KIND_INT, "5", "5");
	world.script.silent = true;
	fake_start(&f, &world, "POST", "/sub%20s/sessionPools/default/executions?" V "&identifier=a%26b%2Fc",
	    "operation-id", "my.op-1", body, strlen(body));
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
	fake_start(&f, &world, "POST", "/executions?" V "&identifier=a%26b%2Fc", "operation-id", "my.op-1",
	    body, strlen(body));
	assert_int_equal(f.status, 409);
	fake_call_fini(&f);
	/* An id that cannot be one is ours to choose. */
	fake_start(&f, &world, "POST", "/code/execute?" V "&identifier=a%26b%2Fc", "operation-id", "a/b",
	    body, strlen(body));
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
	fake_start(&run, &world, "POST", "/executions" Q, "operation-id", "one", CODE, strlen(CODE));
	fake_pump(&world);
	fake_start(&queued, &world, "POST", "/executions" Q, "operation-id", "two", CODE, strlen(CODE));
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

/* --- limits --------------------------------------------------------------------------------------------- */

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
		fake_start(&calls[i], &world, "POST", "/executions" Q, NULL, NULL, CODE, strlen(CODE));
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

/* --- shell pools ------------------------------------------------------------------------------------------ */

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
	fake_call_fini(&f);
	world.script.dies = true;
	fake_send(&f, &world, "POST", sh, "{\"shellCommand\":\"kill -9 -1\"}");
	assert_string_equal(fake_text(&f, "status"), "137");
	fake_call_fini(&f);
	static const char bad[] = "SessionRequestValidationFailed";
	expect_error("POST", sh, CODE, 400, "SessionPropertiesMissing", "shellCommand");
	expect_error("POST", sh, "{\"shellCommand\":\"a\",\"execCommandAndArgs\":[\"a\"]}", 400, bad,
	    "shellCommand");
	expect_error("POST", sh, "{\"execCommandAndArgs\":[]}", 400, bad, "execCommandAndArgs");
	expect_error("POST", sh, "{\"execCommandAndArgs\":\"ls\"}", 400, bad, "execCommandAndArgs");
	expect_error("POST", sh, "{\"execCommandAndArgs\":[1]}", 400, bad, "execCommandAndArgs");
	expect_error("POST", sh, "{\"execCommandAndArgs\":[\"\"]}", 400, bad, "execCommandAndArgs");
	expect_error("POST", sh, "{\"execCommandAndArgs\":[\"a\\u0000\"]}", 400, bad,
	    "execCommandAndArgs");
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

/* --- streams ---------------------------------------------------------------------------------------------- */

static void start_stream(struct fake_call *f)
{
	value(IPC_KIND_INT, "3", "3");
	world.script.silent = true;
	fake_start(f, &world, "POST", "/executions" Q, "Accept", "text/event-stream", CODE, strlen(CODE));
	fake_pump(&world);
	assert_int_equal(f->answers, 1);
	assert_non_null(f->source);
}

static void test_stream(void **state)
{
	(void)state;
	struct fake_call f;
	start_stream(&f);
	assert_string_equal(fake_header(&f, "Cache-Control"), "no-cache");
	assert_string_equal(fake_header(&f, "X-Accel-Buffering"), "no");
	assert_false(fake_pull(&f, 7));
	assert_int_equal(f.body.len, 0);
	/* A letter of two bytes, with stderr between its halves. */
	fake_output(&world, OUTPUT_STDOUT, "a\xc3", 2);
	assert_true(f.woken);
	assert_false(fake_pull(&f, 7));
	assert_string_equal(buf_str(&f.body), "event: stdout\ndata: {\"text\":\"a\"}\n\n");
	buf_clear(&f.body);
	fake_output(&world, OUTPUT_STDERR, "e", 1);
	fake_output(&world, OUTPUT_STDOUT, "\xa9", 1);
	assert_false(fake_pull(&f, 1));
	assert_string_equal(buf_str(&f.body), "event: stderr\ndata: {\"text\":\"e\"}\n\n"
					       "event: stdout\ndata: {\"text\":\"\xc3\xa9\"}\n\n");
	buf_clear(&f.body);
	/* A half that nothing follows comes at the end. */
	fake_output(&world, OUTPUT_STDOUT, "\xc3", 1);
	assert_false(fake_pull(&f, 100));
	add_display("image/png", "x", "text/plain", "fig");
	fake_finish(&world);
	assert_true(fake_pull(&f, 100));
	const char *text = buf_str(&f.body);
	static const char first[] = "event: display\ndata: {\"image/png\":\"eA==\",\"text/plain\":\"fig\"}\n\n"
				    "event: stdout\ndata: {\"text\":\"\xef\xbf\xbd\"}\n\n"
				    "event: result\ndata: {\"id\":";
	assert_int_equal(strncmp(text, first, strlen(first)), 0);
	assert_non_null(strstr(text, "\"status\":\"Succeeded\""));
	assert_string_equal(text + f.body.len - 3, "}\n\n");
	assert_int_equal(world.interrupts, 0);
	fake_call_fini(&f);
}

static void test_stream_gone(void **state)
{
	(void)state;
	struct fake_call f;
	start_stream(&f);
	fake_output(&world, OUTPUT_STDOUT, "abc", 3);
	fake_leave(&f);
	assert_int_equal(world.interrupts, 1);
	fake_pump(&world);
	assert_int_equal(engine_active_executions(world.engine), 0);
	fake_call_fini(&f);
}

/* A long output in pieces is the same as in one. */
static void test_stream_large(void **state)
{
	(void)state;
	struct fake_call f;
	start_stream(&f);
	for (int i = 0; i < 9000; i++) {
		fake_output(&world, OUTPUT_STDOUT, "\xf0\x9f\x90\x8d", 4);
	}
	fake_finish(&world);
	assert_true(fake_pull(&f, 999));
	size_t snakes = 0;
	const char *result = strstr(buf_str(&f.body), "event: result");
	assert_non_null(result);
	for (const char *p = buf_str(&f.body); (p = strstr(p, "\xf0\x9f\x90\x8d")) != NULL && p < result; p++) {
		snakes++;
	}
	assert_int_equal(snakes, 9000);
	assert_null(strstr(buf_str(&f.body), "\xef\xbf\xbd"));
	fake_call_fini(&f);
}

/* --- sessions and the server -------------------------------------------------------------------------------- */

static void test_sessions(void **state)
{
	(void)state;
	struct fake_call f;
	static const char none[] = "SessionWithIdentifierNotFound";
	expect_error("GET", "/session" Q, NULL, 400, none, "identifier");
	expect_error("DELETE", "/session" Q, NULL, 400, none, "identifier");
	expect_error("POST", "/.management/stopSession" Q, NULL, 400, none, "identifier");
	value(IPC_KIND_NONE, "", "");
	post(&f, "executions", CODE, 200);
	fake_call_fini(&f);
	static const char *const looks[][2] = {{"GET", "/session" Q}, {"POST", "/.management/getSession" Q}};
	for (size_t i = 0; i < 2; i++) {
		fake_send(&f, &world, looks[i][0], looks[i][1], NULL);
		assert_int_equal(f.status, 200);
		assert_string_equal(fake_text(&f, "identifier"), "user-0001");
		assert_int_equal(strlen(fake_text(&f, "createdAt")), 28);
		assert_true(strcmp(fake_text(&f, "expireAt"), fake_text(&f, "lastAccessedAt")) > 0);
		assert_int_equal(strlen(fake_text(&f, "etag")), 36);
		fake_call_fini(&f);
	}
	fake_send(&f, &world, "GET", "/listSessions?" V, NULL);
	assert_int_equal(json_array_size(fake_at(&f, "sessions")), 1);
	assert_string_equal(fake_text(&f, "sessions.0.identifier"), "user-0001");
	assert_null(fake_at(&f, "nextLink"));
	fake_call_fini(&f);
	fake_send(&f, &world, "DELETE", "/session" Q, NULL);
	assert_int_equal(f.status, 204);
	assert_int_equal(f.body.len, 0);
	fake_call_fini(&f);
	expect_error("GET", "/session" Q, NULL, 400, none, "identifier");
	post(&f, "executions", CODE, 200);
	fake_call_fini(&f);
	fake_send(&f, &world, "POST", "/.management/stopSession" Q, NULL);
	assert_int_equal(f.status, 200);
	assert_int_equal(world.engine->pools[0].session_count, 0);
	fake_call_fini(&f);
}

static void test_sessions_pages(void **state)
{
	(void)state;
	struct fake_call f;
	world.engine->pools[0].config.max_sessions = 150;
	for (int i = 0; i < 150; i++) {
		char id[16];
		(void)snprintf(id, sizeof(id), "user-%03d", i);
		assert_non_null(engine_session_open(&world.engine->pools[0], id, NULL));
	}
	fake_pump(&world);
	fake_send(&f, &world, "GET", "/a/sessionPools/default/listSessions?" V, NULL);
	assert_int_equal(json_array_size(fake_at(&f, "sessions")), 100);
	assert_string_equal(fake_text(&f, "nextLink"), "/a/sessionPools/default/listSessions?" V "&skip=100");
	char next[256];
	(void)snprintf(next, sizeof(next), "%s", fake_text(&f, "nextLink"));
	fake_call_fini(&f);
	fake_send(&f, &world, "GET", next, NULL);
	assert_int_equal(json_array_size(fake_at(&f, "sessions")), 50);
	assert_string_equal(fake_text(&f, "sessions.0.identifier"), "user-100");
	assert_null(fake_at(&f, "nextLink"));
	fake_call_fini(&f);
	fake_send(&f, &world, "POST", "/.management/listSessions?" V "&skip=149", NULL);
	assert_int_equal(json_array_size(fake_at(&f, "sessions")), 1);
	fake_call_fini(&f);
}

static void test_metadata(void **state)
{
	(void)state;
	struct fake_call f;
	fake_send(&f, &world, "GET", "/metadata?" V, NULL);
	assert_string_equal(fake_text(&f, "runtimes.0.name"), "Python");
	assert_string_equal(fake_text(&f, "runtimes.0.version"), "3.11.2");
	assert_string_equal(fake_text(&f, "preInstalledPackages.1.name"), "pandas");
	assert_string_equal(fake_text(&f, "preInstalledPackages.1.version"), "1.5.3");
	assert_string_equal(fake_text(&f, "createdAt"), "2024-05-02T07:21:07.9922610Z");
	fake_call_fini(&f);
}

static void test_health_and_metrics(void **state)
{
	(void)state;
	struct fake_call f;
	fake_send(&f, &world, "GET", "/health", NULL);
	assert_int_equal(f.status, 200);
	assert_string_equal(fake_text(&f, "message"), "healthy");
	assert_string_equal(fake_text(&f, "status"), "healthy");
	fake_call_fini(&f);
	value(IPC_KIND_NONE, "", "");
	post(&f, "executions", CODE, 200);
	fake_call_fini(&f);
	fake_send(&f, &world, "GET", "/metrics", NULL);
	static const char *const lines[] = {
	    "# TYPE carrel_pool_ready_sessions gauge\n",
	    "\ncarrel_pool_sessions{pool=\"default\"} 1\n",
	    "\ncarrel_executions_total{pool=\"default\",verdict=\"succeeded\"} 1\n",
	    "\ncarrel_executions_total{pool=\"sh\",verdict=\"time_limit\"} 0\n",
	    "\ncarrel_execution_seconds_bucket{pool=\"default\",le=\"+Inf\"} 1\n",
	    "\ncarrel_session_create_seconds_count{pool=\"default\"} 1\n",
	};
	for (size_t i = 0; i < array_len(lines); i++) {
		assert_non_null(strstr(buf_str(&f.body), lines[i]));
	}
	assert_int_equal(f.call.route->role, ROLE_METRICS);
	fake_call_fini(&f);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(test_old_shape), TEST(test_oldest_shape), TEST(test_new_shape),
	    TEST(test_bodies_on_every_route), TEST(test_request_refused), TEST(test_code_too_large),
	    TEST(test_query_refused), TEST(test_identifier_places), TEST(test_token_for_another_pool),
	    TEST(test_http_layer_errors), TEST(test_result_typing), TEST(test_repr),
	    TEST(test_results_as_strings), TEST(test_one_image), TEST(test_more_displays),
	    TEST(test_display_without_image), TEST(test_exception), TEST(test_time_limit),
	    TEST(test_killed), TEST(test_exit), TEST(test_output_cut), TEST(test_gone_interrupts),
	    TEST(test_asynchronous), TEST(test_cancel), TEST(test_pool_full), TEST(test_queue_full),
	    TEST(test_draining), TEST(test_shell), TEST(test_empty_kernel), TEST(test_stream),
	    TEST(test_stream_gone), TEST(test_stream_large), TEST(test_sessions),
	    TEST(test_sessions_pages), TEST(test_metadata), TEST(test_health_and_metrics),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
