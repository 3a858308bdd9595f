/* What an answer holds: the result slot, displays, failures, cut output, and event streams. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "aca_fixture.h"
#include "api/aca_value.h"

/* --- §1.4: what is in the result slot
 * ----------------------------------------------------------------- */

/* Expects these JSON texts in the slot, by default and in the notebook's format. */
static void expect_result(const char *expected, const char *jupyter)
{
	static const char *const bodies[] = {
	    CODE, "{\"code\":\"x\",\"returnJupyterFormatExecutionResult\":true}"};
	for (int j = 0; j < 2; j++) {
		struct fake_call f;
		post(&f, "executions", bodies[j], 200);
		json_t *slot = fake_at(&f, "result.executionResult");
		char *text = json_dumps(slot, JSON_ENCODE_ANY | JSON_COMPACT);
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
	    {IPC_KIND_FLOAT, "", "inf", "null", "\"inf\""},
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

/* As few digits as read back the same. */
static void test_reals(void **state)
{
	(void)state;
	static const char *const reals[] = {"0.1", "0.30000000000000004", "3.141592653589793",
	    "1e22", "1.7976931348623157e308", "100.0"};
	for (size_t i = 0; i < array_len(reals); i++) {
		struct fake_call f;
		char expected[64];
		value(IPC_KIND_FLOAT, reals[i], reals[i]);
		post(&f, "executions", CODE, 200);
		(void)snprintf(expected, sizeof(expected), "\"executionResult\":%s,", reals[i]);
		assert_non_null(strstr(buf_str(&f.body), expected));
		fake_call_fini(&f);
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
	    {"", 0, "''"},
	    {"a", 1, "'a'"},
	    {"\0", 1, "'\\x00'"},
	    {"\t\r\n", 3, "'\\t\\r\\n'"},
	    {"\x7f", 1, "'\\x7f'"},
	    {"\xc2\xa0", 2, "'\\xa0'"},
	    {"\xc3\xa9", 2, "'\xc3\xa9'"},
	    {"\xe2\x80\xa8", 3, "'\\u2028'"},
	    {"\xf0\x9f\x90\x8d", 4, "'\xf0\x9f\x90\x8d'"},
	    {"\xf3\xa0\x80\x81", 4, "'\\U000e0001'"},
	    {"'\"", 2, "'\\'\"'"},
	    {"\"", 1, "'\"'"},
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

/* --- displays
 * --------------------------------------------------------------------------------------- */

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
	post_extended(&f, "executions", CODE, 200);
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
	post_extended(&f, "code/execute", CODE, 200);
	assert_string_equal(fake_text(&f, "properties.result"), "   a\n0  1");
	assert_string_equal(fake_text(&f, "properties.displays.0.text/html"), "<table>");
	assert_string_equal(fake_text(&f, "properties.displays.0.mime\xef\xbf\xbd/x"), "eQ==");
	fake_call_fini(&f);
}

/* A client that asks for nothing has each figure once, and texts where it looks for them. */
/* A large answer comes from a thread, and says what a small one would. */
static void test_large_output(void **state)
{
	(void)state;
	static char out[90001];
	struct fake_call f;
	memset(out, 'x', sizeof(out) - 1);
	world.script.out = out;
	post(&f, "executions", CODE, 200);
	assert_int_equal(strlen(fake_text(&f, "result.stdout")), sizeof(out) - 1);
	assert_non_null(fake_header(&f, "Operation-Id"));
	fake_call_fini(&f);
	/* Whoever leaves while it is put together is not answered. */
	world.script.silent = true;
	fake_send(&f, &world, "POST", "/executions" Q, CODE);
	assert_int_equal(f.answers, 0);
	fake_finish(&world);
	assert_int_equal(f.answers, 0);
	assert_non_null(f.call.gone);
	fake_leave(&f);
	fake_pump(&world);
	assert_int_equal(f.answers, 1); /* fake_leave's own */
	fake_call_fini(&f);
	world.script.silent = false;
}

static void test_displays_unasked(void **state)
{
	(void)state;
	static const char *const routes[] = {"code/execute", "python/execute", "executions"};
	struct fake_call f;
	value(IPC_KIND_OTHER, "", "   a\n0  1");
	world.script.out = "printed";
	add_display("text/plain", "shown\xff", "text/html", "<b>");
	add_display("text/plain", "<Figure>", "image/png", "one");
	add_display("text/plain", "   a\n0  1", "text/html", "<i>");
	add_display("text/html", "<u>", NULL, NULL);
	add_display("text/plain", "   a\n0  1", "text/html", "<table>");
	for (size_t i = 0; i < array_len(routes); i++) {
		post(&f, routes[i], CODE, 200);
		const json_t *inner = i == 0   ? fake_at(&f, "properties")
				      : i == 1 ? f.json
					       : fake_at(&f, "result");
		const json_t *slot = json_object_get(inner, i == 2 ? "executionResult" : "result");
		/* The last one is the value, whose place the figure has taken. */
		assert_string_equal(json_string_value(json_object_get(inner, "stdout")),
		    "printed\nshown\xef\xbf\xbd\n   a\n0  1\n");
		assert_string_equal(
		    json_string_value(json_object_get(slot, "base64_data")), "b25l");
		assert_null(json_object_get(f.json, "displays"));
		assert_null(json_object_get(inner, "displays"));
		fake_call_fini(&f);
		post_extended(&f, routes[i], CODE, 200);
		inner = i == 0   ? fake_at(&f, "properties")
			: i == 1 ? f.json
				 : fake_at(&f, "result");
		assert_string_equal(json_string_value(json_object_get(inner, "stdout")), "printed");
		inner = i == 2 ? f.json : inner;
		assert_int_equal(json_array_size(json_object_get(inner, "displays")), 5);
		assert_string_equal(
		    json_string_value(json_object_get(inner, "value")), "   a\n0  1");
		fake_call_fini(&f);
	}
	expect_error("POST", "/executions" Q "&extensions=maybe", CODE, 400,
	    "SessionRequestValidationFailed", "extensions");
}

/* Displayed text is bounded as stdout is: exactly as much is whole, one byte more is cut. */
static void test_displayed_text_is_bounded(void **state)
{
	(void)state;
	struct fake_call f;
	value(IPC_KIND_NONE, "", "");
	add_display("text/plain", "0123456789", NULL, NULL);
	post(&f, "code/execute", "{\"code\":\"1\",\"outputStreamsMaxLength\":10}", 200);
	assert_string_equal(fake_text(&f, "properties.stdout"), "0123456789\n");
	fake_call_fini(&f);
	post(&f, "code/execute", "{\"code\":\"1\",\"outputStreamsMaxLength\":9}", 200);
	assert_string_equal(
	    fake_text(&f, "properties.stdout"), "012345678\n[display cut: 9 of 10 bytes kept]\n");
	fake_call_fini(&f);
	add_display("text/plain", "more", NULL, NULL);
	post(&f, "code/execute", "{\"code\":\"1\",\"outputStreamsMaxLength\":10}", 200);
	assert_string_equal(
	    fake_text(&f, "properties.stdout"), "0123456789\n[display cut: 0 of 4 bytes kept]\n");
	fake_call_fini(&f);
}

/* --- §1.5: failures
 * ----------------------------------------------------------------------------------- */

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
	post_extended(&f, "code/execute", CODE, 200);
	assert_true(json_is_true(fake_at(&f, "properties.newSession")));
	fake_call_fini(&f);
	post_extended(&f, "code/execute", CODE, 200);
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

static void test_redrawn_lines(void **state)
{
	(void)state;
	static const char *const rows[][2] = {
	    {" 1%\r 2%\r99%\ndone\n", "99%\ndone\n"},
	    {"a\r\nb\r\n", "a\r\nb\r\n"}, /* another system's lines */
	    {"1\r2\r3\r", "3\r"},
	    {"\r1\r2", "2"},
	    {"\r\r", "\r\r"},
	    {"a\rb\n\nc\rd", "b\n\nd"},
	    {"x\r\xff\n", "\xef\xbf\xbd\n"},
	};
	value(IPC_KIND_NONE, "", "");
	for (size_t i = 0; i < array_len(rows); i++) {
		struct fake_call f;
		world.script.out = world.script.err = rows[i][0];
		post(&f, "executions", "{\"code\":\"x\"}", 200);
		assert_string_equal(fake_text(&f, "result.stdout"), rows[i][1]);
		assert_string_equal(fake_text(&f, "result.stderr"), rows[i][1]);
		fake_call_fini(&f);
	}
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

/* --- streams
 * ---------------------------------------------------------------------------------------------- */

static void start_stream(struct fake_call *f)
{
	value(IPC_KIND_INT, "3", "3");
	world.script.silent = true;
	fake_start(
	    f, &world, "POST", "/executions" Q, "Accept", "text/event-stream", CODE, strlen(CODE));
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
	static const char first[] =
	    "event: display\ndata: {\"image/png\":\"eA==\",\"text/plain\":\"fig\"}\n\n"
	    "event: stdout\ndata: {\"text\":\"\xef\xbf\xbd\"}\n\n"
	    "event: result\ndata: {\"id\":";
	assert_int_equal(strncmp(text, first, strlen(first)), 0);
	assert_non_null(strstr(text, "\"status\":\"Succeeded\""));
	assert_string_equal(text + f.body.len - 3, "}\n\n");
	assert_int_equal(world.interrupts, 0);
	fake_call_fini(&f);
}

/* A cell that is silent for long: proxies see that the stream lives, clients see nothing. */
static void test_stream_still(void **state)
{
	(void)state;
	struct fake_call f;
	start_stream(&f);
	engine_tick(world.engine, world.engine->now_ms + 1);
	engine_tick(world.engine, world.engine->now_ms + EXECUTION_STILL_MS);
	assert_true(f.woken);
	assert_false(fake_pull(&f, 100));
	assert_string_equal(buf_str(&f.body), ": still running\n\n");
	engine_tick(world.engine, world.engine->now_ms + EXECUTION_STILL_MS - 1);
	assert_false(fake_pull(&f, 100));
	fake_output(&world, OUTPUT_STDOUT, "a", 1);
	assert_false(fake_pull(&f, 100));
	assert_string_equal(
	    buf_str(&f.body), ": still running\n\nevent: stdout\ndata: {\"text\":\"a\"}\n\n");
	engine_tick(world.engine, world.engine->now_ms + 1);
	assert_false(fake_pull(&f, 100));
	buf_clear(&f.body);
	fake_finish(&world);
	assert_true(fake_pull(&f, 1000));
	assert_int_equal(strncmp(buf_str(&f.body), "event: result", 13), 0);
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
	for (const char *p = buf_str(&f.body);
	     (p = strstr(p, "\xf0\x9f\x90\x8d")) != NULL && p < result; p++) {
		snakes++;
	}
	assert_int_equal(snakes, 9000);
	assert_null(strstr(buf_str(&f.body), "\xef\xbf\xbd"));
	fake_call_fini(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    ACA_TEST(test_result_typing),
	    ACA_TEST(test_reals),
	    ACA_TEST(test_repr),
	    ACA_TEST(test_results_as_strings),
	    ACA_TEST(test_one_image),
	    ACA_TEST(test_more_displays),
	    ACA_TEST(test_display_without_image),
	    ACA_TEST(test_displays_unasked),
	    ACA_TEST(test_large_output),
	    ACA_TEST(test_displayed_text_is_bounded),
	    ACA_TEST(test_exception),
	    ACA_TEST(test_time_limit),
	    ACA_TEST(test_killed),
	    ACA_TEST(test_exit),
	    ACA_TEST(test_redrawn_lines),
	    ACA_TEST(test_output_cut),
	    ACA_TEST(test_gone_interrupts),
	    ACA_TEST(test_stream),
	    ACA_TEST(test_stream_still),
	    ACA_TEST(test_stream_gone),
	    ACA_TEST(test_stream_large),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
