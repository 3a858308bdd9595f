/* The wire of approvals: what each route asks of the approvals and how it answers; the events are
 * in appr_events_test.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "appr_fixture.h"

#define ID "0b7d9b1e-5f0e-4c39-8a9f-3c8a3f6f5f10"
#define APPROVAL "{\"id\":\"" ID "\",\"state\":\"queued\"}"
#define CREATED "{\"approval\":" APPROVAL ",\"created\":true}"
#define KNOWN "{\"approval\":" APPROVAL ",\"created\":false}"
#define DECIDED "{\"approval\":{\"id\":\"" ID "\",\"state\":\"approved\"},\"again\":false}"

/* --- the sample's routes ------------------------------------------------------------------------
 */

static void the_sample_submits_with_a_bare_string(void **state)
{
	(void)state;
	struct fake_call f;
	fake_approvals_answer(&appr_fake, CREATED);
	appr_send(&f, "POST", "/code/execute", NULL, NULL, "\"print('Hello, World!')\"", 200);
	assert_string_equal(fake_text(&f, "requestId"), ID);
	assert_string_equal(fake_text(&f, "RequestId"), ID);
	assert_int_equal(json_object_size(f.json), 2);
	assert_string_equal(fake_approvals_last(&appr_fake),
	    "submit name=tester tenant=* pool=- in=- key=- "
	    "request={\"code\":\"print('Hello, World!')\"}");
	fake_call_fini(&f);
	appr_send(&f, "POST", "/sessionPools/default/Code/EXECUTE?api-version=x", "Idempotency-Key",
	    "k1", " \n\"1\"", 200);
	assert_string_equal(fake_approvals_last(&appr_fake),
	    "submit name=tester tenant=* pool=default in=default key=k1 request={\"code\":\"1\"}");
	fake_call_fini(&f);
}

static void the_sample_refuses_no_code_in_its_own_words(void **state)
{
	(void)state;
	static const char *const bodies[] = {"\"\"", "\"  \\n\\t\"", "null", " null\n", "", " \n"};
	for (size_t i = 0; i < array_len(bodies); i++) {
		appr_expect_plain(
		    "POST", "/code/execute", bodies[i], 400, "Code cannot be null or empty.");
	}
	assert_int_equal(appr_fake.asked_count, 0);
}

static void a_body_that_is_cut_is_no_code(void **state)
{
	(void)state;
	static const char *const bodies[] = {
	    "\"abc", "\"a\" \"b\"", "\"a\\u0000b\"", "\"\\x\"", "print('bare')", "nullx", "[1"};
	for (size_t i = 0; i < array_len(bodies); i++) {
		struct fake_call f;
		appr_send(&f, "POST", "/code/execute", NULL, NULL, bodies[i], 400);
		assert_non_null(strstr(buf_str(&f.body), "the body is not JSON"));
		assert_null(f.json);
		fake_call_fini(&f);
	}
	appr_expect_plain(
	    "POST", "/code/execute", "[\"1\"]", 400, "the body must be a JSON string: the code");
	assert_int_equal(appr_fake.asked_count, 0);
}

/* An object body, or a session's name, is the sessions' old route. */
static void the_sessions_keep_their_route(void **state)
{
	(void)state;
	struct fake_call f;
	static const char *const targets[] = {
	    "/code/execute?api-version=2024-02-02-preview&identifier=demo",
	    "/identifier/demo/code/execute?api-version=2024-02-02-preview"};
	for (size_t i = 0; i < array_len(targets); i++) {
		fake_send(&f, &appr_world, "POST", targets[i],
		    "{\"properties\":{\"codeInputType\":\"inline\",\"executionType\":"
		    "\"synchronous\",\"code\":\"1\"}}");
		assert_int_equal(f.status, 200);
		assert_non_null(fake_at(&f, "properties"));
		fake_call_fini(&f);
		fake_send(&f, &appr_world, "POST", targets[i], "\"1\"");
		assert_int_equal(f.status, 400);
		assert_string_equal(fake_text(&f, "error.code"), "SessionRequestValidationFailed");
		fake_call_fini(&f);
	}
	static const char *const bodies[] = {
	    "{}", "", "[]", "1", "null", "nullx", "{\"code\":\"1\"}"};
	for (size_t i = 0; i < array_len(bodies); i++) {
		fake_send(&f, &appr_world, "POST", "/code/execute?api-version=2024-02-02-preview",
		    bodies[i]);
		assert_int_equal(f.status, 400);
		assert_non_null(fake_at(&f, "error.traceId"));
		fake_call_fini(&f);
	}
	assert_int_equal(appr_fake.asked_count, 0);
}

static void expect_review(const char *query, const char *message, const char *approve)
{
	struct fake_call f;
	char target[200];
	char asked[300];
	(void)snprintf(target, sizeof(target), "/code/review?requestId=" ID "%s", query);
	(void)snprintf(asked, sizeof(asked),
	    "review name=tester tenant=* pool=- id=" ID " stage=- approve=%s by=- reason=-",
	    approve);
	appr_send(&f, "POST", target, NULL, NULL, NULL, 200);
	assert_string_equal(fake_text(&f, "message"), message);
	assert_int_equal(json_object_size(f.json), 1);
	assert_string_equal(fake_approvals_last(&appr_fake), asked);
	fake_call_fini(&f);
}

static void the_sample_reviews(void **state)
{
	(void)state;
	fake_approvals_answer(&appr_fake, DECIDED);
	expect_review("&approve=true", "Code execution approved.", "true");
	expect_review("&approve=True", "Code execution approved.", "true");
	expect_review("&approve=false", "Code execution rejected.", "false");
	expect_review("&approve=FALSE", "Code execution rejected.", "false");
	/* as its model has it */
	expect_review("", "Code execution rejected.", "false");
	/* ASP.NET's routes and names of parameters have no case. */
	expect_review("&Approve=true", "Code execution approved.", "true");
	appr_expect_asked("POST", "/Code/Review?RequestId=x", NULL, 200,
	    "review name=tester tenant=* pool=- id=x stage=- approve=false by=- reason=-");
	appr_expect_asked("POST",
	    "/code/review?approve=true&requestId=x&stage=code&by=Ada%20L&reason=so", NULL, 200,
	    "review name=tester tenant=* pool=- id=x stage=code approve=true by=Ada L reason=so");
}

static void a_review_is_checked(void **state)
{
	(void)state;
	appr_expect_plain(
	    "POST", "/code/review?approve=true", NULL, 400, "Request ID cannot be null or empty.");
	appr_expect_plain("POST", "/code/review?approve=true&requestId=", NULL, 400,
	    "Request ID cannot be null or empty.");
	appr_expect_plain("POST", "/code/review?approve=true&requestId=%20", NULL, 400,
	    "Request ID cannot be null or empty.");
	static const char *const values[] = {"yes", "1", "", "true%20x", "null"};
	for (size_t i = 0; i < array_len(values); i++) {
		char target[100];
		(void)snprintf(
		    target, sizeof(target), "/code/review?requestId=a&approve=%s", values[i]);
		appr_expect_plain("POST", target, NULL, 400,
		    "The query parameter 'approve' must be true or false.");
	}
	assert_int_equal(appr_fake.asked_count, 0);
	fake_approvals_fail(&appr_fake, ERR_NOT_FOUND, "there is no such approval");
	fake_approvals_fail(&appr_fake, ERR_CONFLICT, "Ada rejected it");
	appr_expect_plain("POST", "/code/review?requestId=a&approve=true", NULL, 404,
	    "there is no such approval");
	appr_expect_plain(
	    "POST", "/code/review?requestId=a&approve=true", NULL, 409, "Ada rejected it");
}

/* --- submit -------------------------------------------------------------------------------------
 */

static void a_submission_is_created_once(void **state)
{
	(void)state;
	struct fake_call f;
	fake_approvals_answer(&appr_fake, CREATED);
	fake_approvals_answer(&appr_fake, KNOWN);
	for (int i = 0; i < 2; i++) {
		appr_send(&f, "POST", i == 0 ? "/approvals" : "/sessionPools/sh/approvals",
		    "Idempotency-Key", "order-7", "{\"policy\":\"both\",\"code\":\"1\"}",
		    i == 0 ? 201 : 200);
		assert_string_equal(fake_header(&f, "Location"),
		    i == 0 ? "/approvals/" ID : "/sessionPools/sh/approvals/" ID);
		assert_string_equal(fake_text(&f, "id"), ID);
		fake_call_fini(&f);
	}
	assert_string_equal(appr_fake.asked[0],
	    "submit name=tester tenant=* pool=- in=- key=order-7 "
	    "request={\"code\":\"1\",\"policy\":\"both\"}");
	assert_string_equal(appr_fake.asked[1],
	    "submit name=tester tenant=* pool=sh in=sh key=order-7 "
	    "request={\"code\":\"1\",\"policy\":\"both\"}");
}

static void a_submission_s_body_is_an_object(void **state)
{
	(void)state;
	static const struct {
		const char *body;
		const char *text;
	} cases[] = {
	    {"{", "the body is not JSON"},
	    {"[]", "must be a JSON object"},
	    {"\"print(1)\"", "the body is not JSON"},
	    {"{\"code\":\"a\",\"code\":\"b\"}", "the body is not JSON"},
	    {"{\"code\":\"a\\u0000\"}", "the body is not JSON"},
	    {"{\"code\":\"\\ud800\"}", "the body is not JSON"},
	};
	for (size_t i = 0; i < array_len(cases); i++) {
		appr_expect_error("POST", "/approvals", cases[i].body, 400,
		    "ApprovalRequestInvalid", cases[i].text);
	}
	assert_int_equal(appr_fake.asked_count, 0);
}

static void a_body_of_a_million_values_is_refused(void **state)
{
	(void)state;
	size_t len = 6U << 20;
	char *body = malloc(len + 1);
	assert_non_null(body);
	for (size_t i = 0; i < len; i += 3) {
		memcpy(body + i, "{},", 3);
	}
	body[0] = '[';
	body[len] = '\0';
	appr_expect_error(
	    "POST", "/approvals", body, 413, "ApprovalRequestTooLarge", "more values");
	free(body);
}

static void a_key_is_checked(void **state)
{
	(void)state;
	char longer[300];
	memset(longer, 'k', sizeof(longer));
	longer[256] = '\0';
	const char *const keys[] = {"", "a b", "a\tb", "schl\xc3\xbcssel", longer};
	for (size_t i = 0; i < array_len(keys); i++) {
		struct fake_call f;
		appr_send(
		    &f, "POST", "/approvals", "Idempotency-Key", keys[i], "{\"code\":\"1\"}", 400);
		assert_non_null(strstr(fake_text(&f, "error.message"), "Idempotency-Key"));
		fake_call_fini(&f);
	}
	assert_int_equal(appr_fake.asked_count, 0);
}

static void each_reason_has_its_status(void **state)
{
	(void)state;
	static const struct {
		enum err_code code;
		int status;
		const char *name;
		const char *retry;
	} cases[] = {
	    {ERR_INVALID, 400, "ApprovalRequestInvalid", NULL},
	    {ERR_UNSUPPORTED, 400, "ApprovalNotSupported", NULL},
	    {ERR_DENIED, 403, "Forbidden", NULL},
	    {ERR_NOT_FOUND, 404, "ApprovalNotFound", NULL},
	    {ERR_CONFLICT, 409, "ApprovalConflict", NULL},
	    {ERR_TOO_LARGE, 413, "ApprovalRequestTooLarge", NULL},
	    {ERR_BUSY, 429, "ApprovalsFull", "5"},
	    {ERR_UNAVAILABLE, 503, "ApprovalsUnavailable", "5"},
	    {ERR_TIMEOUT, 503, "ApprovalsUnavailable", "5"},
	    {ERR_INTERNAL, 500, "InternalServerError", NULL},
	};
	for (size_t i = 0; i < array_len(cases); i++) {
		struct fake_call f;
		fake_approvals_reset(&appr_fake);
		fake_approvals_fail(&appr_fake, cases[i].code, "why it is so");
		appr_send(&f, "POST", "/approvals", NULL, NULL, "{}", cases[i].status);
		assert_string_equal(fake_text(&f, "error.code"), cases[i].name);
		assert_string_equal(fake_text(&f, "error.message"), "why it is so");
		const char *retry = fake_header(&f, "Retry-After");
		assert_true((retry == NULL) == (cases[i].retry == NULL));
		fake_call_fini(&f);
	}
}

/* --- the others ---------------------------------------------------------------------------------
 */

static void a_list_is_asked_for_page_by_page(void **state)
{
	(void)state;
	struct fake_call f;
	fake_approvals_answer(&appr_fake, "{\"approvals\":[" APPROVAL "],\"next\":\"c2\"}");
	appr_send(&f, "GET", "/approvals", NULL, NULL, NULL, 200);
	assert_string_equal(fake_text(&f, "approvals.0.id"), ID);
	assert_string_equal(fake_text(&f, "next"), "c2");
	fake_call_fini(&f);
	assert_string_equal(fake_approvals_last(&appr_fake),
	    "list name=tester tenant=* pool=- state=- kind=- after=- limit=100");
	appr_expect_asked("GET",
	    "/sessionPools/sh/approvals?state=waiting&kind=call&after=c2&limit=7", NULL, 200,
	    "list name=tester tenant=* pool=sh state=waiting kind=call after=c2 limit=7");
	appr_expect_asked("GET", "/approvals?tenant=blue&limit=200", NULL, 200,
	    "list name=tester tenant=blue pool=- state=- kind=- after=- limit=200");
}

static void a_list_s_query_is_checked(void **state)
{
	(void)state;
	static const struct {
		const char *query;
		const char *text;
	} cases[] = {
	    {"state=done", "queued, running"},
	    {"kind=tool", "code or call"},
	    {"limit=0", "from 1 to 200"},
	    {"limit=201", "from 1 to 200"},
	    {"limit=-1", "from 1 to 200"},
	    {"limit=ten", "from 1 to 200"},
	    {"after=%ff", "not UTF-8"},
	    {"tenant=..", "not the name of a tenant"},
	};
	for (size_t i = 0; i < array_len(cases); i++) {
		char target[100];
		(void)snprintf(target, sizeof(target), "/approvals?%s", cases[i].query);
		appr_expect_error(
		    "GET", target, NULL, 400, "ApprovalRequestInvalid", cases[i].text);
	}
	assert_int_equal(appr_fake.asked_count, 0);
}

static void one_is_shown_with_its_history(void **state)
{
	(void)state;
	struct fake_call f;
	fake_approvals_answer(&appr_fake,
	    "{\"approval\":" APPROVAL ",\"events\":[{\"seq\":1,\"kind\":\"submitted\"}]}");
	appr_send(&f, "GET", "/approvals/" ID, NULL, NULL, NULL, 200);
	assert_string_equal(fake_text(&f, "state"), "queued");
	assert_string_equal(fake_text(&f, "history.0.kind"), "submitted");
	fake_call_fini(&f);
	assert_string_equal(
	    fake_approvals_last(&appr_fake), "get name=tester tenant=* pool=- id=" ID);
}

static void what_cannot_be_an_id_is_not_there(void **state)
{
	(void)state;
	static const char *const ids[] = {"a%2Fb", "..", "%ff", "a%20b",
	    "0123456789012345678901234567890123456789012345678901234567890123"};
	for (size_t i = 0; i < array_len(ids); i++) {
		char target[120];
		(void)snprintf(target, sizeof(target), "/approvals/%s", ids[i]);
		appr_expect_error("GET", target, NULL, 404, "ApprovalNotFound", "no approval");
		appr_expect_error("DELETE", target, NULL, 404, "ApprovalNotFound", "no approval");
		(void)snprintf(target, sizeof(target), "/approvals/%s/events", ids[i]);
		appr_expect_error("GET", target, NULL, 404, "ApprovalNotFound", "no approval");
		(void)snprintf(target, sizeof(target), "/approvals/%s/decision", ids[i]);
		appr_expect_error(
		    "POST", target, "{\"approve\":true}", 404, "ApprovalNotFound", "no approval");
	}
	assert_int_equal(appr_fake.asked_count, 0);
}

static void a_decision_is_passed_on(void **state)
{
	(void)state;
	struct fake_call f;
	fake_approvals_answer(&appr_fake, DECIDED);
	appr_send(&f, "POST", "/approvals/" ID "/decision", NULL, NULL, "{\"approve\":true}", 200);
	assert_string_equal(fake_text(&f, "state"), "approved");
	fake_call_fini(&f);
	assert_string_equal(fake_approvals_last(&appr_fake),
	    "decide name=tester tenant=* pool=- id=" ID " stage=- approve=true by=- reason=-");
	appr_expect_asked("POST", "/approvals/" ID "/decision",
	    "{\"approve\":false,\"reason\":\"no\",\"by\":\"Ada\",\"stage\":\"code\"}", 200,
	    "decide name=tester tenant=* pool=- id=" ID
	    " stage=code approve=false by=Ada reason=no");
	appr_expect_asked("POST", "/approvals/" ID "/decision",
	    "{\"approve\":false,\"reason\":null,\"by\":null,\"stage\":null}", 200,
	    "decide name=tester tenant=* pool=- id=" ID " stage=- approve=false by=- reason=-");
}

static void a_decision_is_checked(void **state)
{
	(void)state;
	static const struct {
		const char *body;
		const char *text;
	} cases[] = {
	    {"", "approve: must be true or false"},
	    {"{}", "approve: must be true or false"},
	    {"{\"approve\":1}", "approve: must be true or false"},
	    {"{\"approve\":\"true\"}", "approve: must be true or false"},
	    {"{\"approve\":null}", "approve: must be true or false"},
	    {"{\"approve\":true,\"who\":\"Ada\"}",
		"'who' is not known here: known are approve, reason, by and stage"},
	    {"{\"approve\":true,\"by\":1}", "by: must be a text"},
	    {"{\"approve\":true,\"reason\":[]}", "reason: must be a text"},
	};
	for (size_t i = 0; i < array_len(cases); i++) {
		appr_expect_error("POST", "/approvals/" ID "/decision", cases[i].body, 400,
		    "ApprovalRequestInvalid", cases[i].text);
	}
	char body[6000];
	int n = snprintf(body, sizeof(body), "{\"approve\":true,\"reason\":\"%05000d\"}", 0);
	assert_true(n > 0 && (size_t)n < sizeof(body));
	appr_expect_error("POST", "/approvals/" ID "/decision", body, 400, "ApprovalRequestInvalid",
	    "reason: longer than 4096 bytes");
	assert_int_equal(appr_fake.asked_count, 0);
}

static void one_is_cancelled(void **state)
{
	(void)state;
	fake_approvals_answer(&appr_fake, DECIDED);
	appr_expect_asked("DELETE", "/approvals/" ID "?reason=not%20any%20more", NULL, 200,
	    "cancel name=tester tenant=* pool=- id=" ID " reason=not any more");
	appr_expect_asked("DELETE", "/sessionPools/default/approvals/" ID, NULL, 200,
	    "cancel name=tester tenant=* pool=default id=" ID " reason=-");
}

/* --- who ----------------------------------------------------------------------------------------
 */

static void who_asks_is_passed_on(void **state)
{
	(void)state;
	fake_approvals_answer(&appr_fake, "{\"approvals\":[],\"next\":null}");
	appr_world.role = ROLE_REVIEW;
	appr_expect_asked("GET", "/approvals", NULL, 200,
	    "list name=tester tenant=- pool=- state=- kind=- after=- limit=100");
	appr_expect_error(
	    "GET", "/approvals?tenant=blue", NULL, 403, "Forbidden", "another tenant");
	appr_world.prefix = "blue";
	appr_expect_asked("GET", "/approvals?tenant=blue", NULL, 200,
	    "list name=tester tenant=blue pool=- state=- kind=- after=- limit=100");
	appr_expect_error("GET", "/approvals?tenant=red", NULL, 403, "Forbidden", "another tenant");
	appr_world.role = ROLE_ADMIN;
	appr_expect_asked("GET", "/approvals", NULL, 200,
	    "list name=tester tenant=blue pool=- state=- kind=- after=- limit=100");
	appr_expect_error("GET", "/approvals?tenant=red", NULL, 403, "Forbidden", "another tenant");
	appr_world.others_only = true;
	appr_expect_asked("GET", "/approvals", NULL, 200,
	    "list name=tester tenant=blue pool=- others-only state=- kind=- after=- limit=100");
	appr_expect_error(
	    "GET", "/sessionPools/none/approvals", NULL, 404, "ApprovalNotFound", "pool");
}

static void a_server_may_keep_none(void **state)
{
	(void)state;
	appr_world.api.approvals = NULL;
	static const char *const targets[][2] = {{"GET", "/approvals"}, {"POST", "/approvals"},
	    {"GET", "/approvals/a"}, {"GET", "/approvals/a/events"}, {"DELETE", "/approvals/a"},
	    {"POST", "/approvals/a/decision"}};
	for (size_t i = 0; i < array_len(targets); i++) {
		appr_expect_error(targets[i][0], targets[i][1], "{\"approve\":true}", 503,
		    "ApprovalsUnavailable", "keeps no approvals");
	}
	struct fake_call f;
	appr_send(&f, "POST", "/code/execute", NULL, NULL, "\"1\"", 503);
	fake_call_fini(&f);
	appr_send(&f, "POST", "/code/review?requestId=a", NULL, NULL, NULL, 503);
	fake_call_fini(&f);
}

static void routes_want_their_roles(void **state)
{
	(void)state;
	static const struct {
		const char *method;
		const char *path;
		enum role role;
	} cases[] = {{"POST", "/approvals", ROLE_EXECUTE}, {"POST", "/code/execute", ROLE_EXECUTE},
	    {"POST", "/code/review", ROLE_REVIEW}, {"GET", "/approvals", ROLE_REVIEW},
	    {"GET", "/approvals/a", ROLE_REVIEW}, {"GET", "/approvals/a/events", ROLE_REVIEW},
	    {"POST", "/approvals/a/decision", ROLE_REVIEW},
	    {"DELETE", "/approvals/a", ROLE_REVIEW}};
	assert_true(ROLE_METRICS < ROLE_REVIEW && ROLE_REVIEW < ROLE_EXECUTE);
	for (size_t i = 0; i < array_len(cases); i++) {
		struct route_match m;
		assert_int_equal(
		    router_find(appr_world.router, method_of(cases[i].method), cases[i].path, &m),
		    0);
		assert_int_equal(m.route->role, cases[i].role);
		route_match_fini(&m);
	}
}

static void what_has_no_route_is_told_in_this_dialect(void **state)
{
	(void)state;
	appr_expect_error("PUT", "/approvals", NULL, 405, "MethodNotAllowed", "route");
	appr_expect_plain("GET", "/code/review", NULL, 405, "no such route");
	appr_expect_error("GET", "/approvals/a/b/c", NULL, 404, "NotFound", "route");
	appr_expect_error(
	    "GET", "/sessionPools/default/approvals/a/b", NULL, 404, "NotFound", "route");
	struct fake_call f;
	fake_start(&f, &appr_world, "GET", "/approvalsx", NULL, NULL, NULL, 0);
	assert_non_null(fake_at(&f, "error.traceId")); /* Azure's */
	fake_call_fini(&f);
}

/* --- waiting ------------------------------------------------------------------------------------
 */

static void an_answer_may_come_later(void **state)
{
	(void)state;
	struct fake_call f;
	appr_fake.later = true;
	fake_approvals_answer(&appr_fake, DECIDED);
	fake_start(&f, &appr_world, "POST", "/approvals/" ID "/decision", NULL, NULL,
	    "{\"approve\":true}", 16);
	assert_int_equal(f.answers, 0);
	fake_approvals_release(&appr_fake);
	assert_int_equal(f.answers, 1);
	assert_int_equal(f.status, 200);
	assert_null(f.call.gone);
	fake_call_fini(&f);
}

static void nobody_is_told_who_has_left(void **state)
{
	(void)state;
	struct fake_call f;
	appr_fake.later = true;
	fake_start(&f, &appr_world, "GET", "/approvals/" ID, NULL, NULL, NULL, 0);
	fake_leave(&f);
	assert_int_equal(appr_fake.cancelled, 1);
	fake_call_fini(&f);
	fake_start(&f, &appr_world, "GET", "/approvals/" ID "/events", NULL, NULL, NULL, 0);
	fake_leave(&f);
	assert_int_equal(appr_fake.cancelled, 2);
	assert_null(appr_fake.watches);
	fake_call_fini(&f);
}

/* --- beside it ----------------------------------------------------------------------------------
 */

static void changes_by_the_api_are_in_the_trail(void **state)
{
	(void)state;
	struct fake_call f;
	static const char session[] = "/session?api-version=2025-10-02-preview&identifier=demo";
	fake_send(&f, &appr_world, "DELETE", session, NULL);
	assert_int_equal(appr_fake.audited_count, 0); /* there was none */
	fake_call_fini(&f);
	fake_send(&f, &appr_world, "POST",
	    "/executions?api-version=2025-10-02-preview&identifier=demo", "{\"code\":\"1\"}");
	fake_call_fini(&f);
	fake_send(&f, &appr_world, "DELETE", session, NULL);
	assert_int_equal(f.status, 204);
	assert_int_equal(appr_fake.audited_count, 1);
	assert_string_equal(appr_fake.audited[0], "tester session.delete demo ok");
	fake_call_fini(&f);
}

static void numbers_are_for_metrics(void **state)
{
	(void)state;
	struct fake_call f;
	fake_send(&f, &appr_world, "GET", "/metrics", NULL);
	assert_non_null(strstr(buf_str(&f.body), "\ncarrel_approvals_submitted_total 7\n"));
	assert_non_null(strstr(buf_str(&f.body), "\ncarrel_approval_parked_calls 2\n"));
	assert_non_null(strstr(buf_str(&f.body), "\ncarrel_approvals{state=\"waiting\"} 5\n"));
	assert_non_null(strstr(
	    buf_str(&f.body), "\ncarrel_approvals_decided_total{decision=\"approved\"} 0\n"));
	fake_call_fini(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    APPR_TEST(the_sample_submits_with_a_bare_string),
	    APPR_TEST(the_sample_refuses_no_code_in_its_own_words),
	    APPR_TEST(a_body_that_is_cut_is_no_code),
	    APPR_TEST(the_sessions_keep_their_route),
	    APPR_TEST(the_sample_reviews),
	    APPR_TEST(a_review_is_checked),
	    APPR_TEST(a_submission_is_created_once),
	    APPR_TEST(a_submission_s_body_is_an_object),
	    APPR_TEST(a_body_of_a_million_values_is_refused),
	    APPR_TEST(a_key_is_checked),
	    APPR_TEST(each_reason_has_its_status),
	    APPR_TEST(a_list_is_asked_for_page_by_page),
	    APPR_TEST(a_list_s_query_is_checked),
	    APPR_TEST(one_is_shown_with_its_history),
	    APPR_TEST(what_cannot_be_an_id_is_not_there),
	    APPR_TEST(a_decision_is_passed_on),
	    APPR_TEST(a_decision_is_checked),
	    APPR_TEST(one_is_cancelled),
	    APPR_TEST(who_asks_is_passed_on),
	    APPR_TEST(a_server_may_keep_none),
	    APPR_TEST(routes_want_their_roles),
	    APPR_TEST(what_has_no_route_is_told_in_this_dialect),
	    APPR_TEST(an_answer_may_come_later),
	    APPR_TEST(nobody_is_told_who_has_left),
	    APPR_TEST(changes_by_the_api_are_in_the_trail),
	    APPR_TEST(numbers_are_for_metrics),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
