/* GET /approvals/{id}/events: the history of an approval as a stream. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "appr_fixture.h"

#define ID "0b7d9b1e-5f0e-4c39-8a9f-3c8a3f6f5f10"
#define EVENTS "/approvals/" ID "/events"
#define ONE "{\"kind\":\"submitted\",\"seq\":1}"
#define TWO "{\"kind\":\"waiting\",\"seq\":2}"
#define THREE "{\"kind\":\"approved\",\"seq\":3}"
#define NOTHING "{\"events\":[],\"state\":\"waiting\",\"final\":false}"
#define FINAL "{\"events\":[],\"state\":\"approved\",\"final\":true}"

#define TEXT_ONE "id: 1\nevent: submitted\ndata: " ONE "\n\n"
#define TEXT_TWO "id: 2\nevent: waiting\ndata: " TWO "\n\n"
#define TEXT_THREE "id: 3\nevent: approved\ndata: " THREE "\n\n"

static void page(const char *json)
{
	fake_approvals_answer(&appr_fake, json);
}

static void a_history_streams_until_it_is_final(void **state)
{
	(void)state;
	struct fake_call f;
	page("{\"events\":[" ONE "," TWO "],\"state\":\"waiting\",\"final\":false}");
	page(NOTHING);
	page("{\"events\":[" THREE "],\"state\":\"approved\",\"final\":true}");
	page(FINAL);
	appr_send(&f, "GET", EVENTS, NULL, NULL, NULL, 200);
	assert_string_equal(fake_header(&f, "Content-Type"), "text/event-stream");
	assert_string_equal(fake_header(&f, "Cache-Control"), "no-cache");
	assert_false(fake_pull(&f, 7)); /* a few bytes at a time */
	assert_string_equal(buf_str(&f.body), TEXT_ONE TEXT_TWO);
	assert_int_equal(appr_fake.asked_count, 2);
	/* Nothing new: nothing is asked. */
	assert_false(fake_pull(&f, 4096));
	assert_int_equal(appr_fake.asked_count, 2);
	fake_approvals_changed(&appr_fake, "another");
	assert_false(f.woken);
	fake_approvals_changed(&appr_fake, ID);
	assert_true(f.woken);
	assert_true(fake_pull(&f, 4096));
	assert_string_equal(buf_str(&f.body), TEXT_ONE TEXT_TWO TEXT_THREE);
	assert_string_equal(
	    appr_fake.asked[2], "events name=tester tenant=* pool=- id=" ID " after=2");
	assert_string_equal(
	    appr_fake.asked[3], "events name=tester tenant=* pool=- id=" ID " after=3");
	assert_null(appr_fake.watches);
	fake_call_fini(&f);
}

static void who_comes_back_goes_on_where_it_was(void **state)
{
	(void)state;
	struct fake_call f;
	page("{\"events\":[" THREE "],\"state\":\"approved\",\"final\":true}");
	page(FINAL);
	appr_send(&f, "GET", EVENTS, "Last-Event-ID", "2", NULL, 200);
	assert_string_equal(
	    appr_fake.asked[0], "events name=tester tenant=* pool=- id=" ID " after=2");
	assert_true(fake_pull(&f, 4096));
	assert_string_equal(buf_str(&f.body), TEXT_THREE);
	fake_call_fini(&f);
	/* An EventSource that has all of it stops asking at 204. */
	appr_send(&f, "GET", EVENTS "?after=3", NULL, NULL, NULL, 204);
	assert_null(appr_fake.watches);
	fake_call_fini(&f);
	static const char *const bad[] = {"x", "-1", "1.5", "9223372036854775808"};
	unsigned before = appr_fake.asked_count;
	for (size_t i = 0; i < array_len(bad); i++) {
		appr_send(&f, "GET", EVENTS, "Last-Event-ID", bad[i], NULL, 400);
		fake_call_fini(&f);
	}
	assert_int_equal(appr_fake.asked_count, before);
}

static void one_that_is_not_there_is_404(void **state)
{
	(void)state;
	fake_approvals_fail(&appr_fake, ERR_NOT_FOUND, "there is no such approval");
	appr_expect_error("GET", EVENTS, NULL, 404, "ApprovalNotFound", "no such");
	assert_null(appr_fake.watches);
}

/* What comes between the first page and the end of its sending is not lost. */
static void a_change_while_it_sends_is_asked_for(void **state)
{
	(void)state;
	struct fake_call f;
	appr_fake.later = true;
	page("{\"events\":[" ONE "],\"state\":\"running\",\"final\":false}");
	page("{\"events\":[" TWO "],\"state\":\"waiting\",\"final\":false}");
	page(NOTHING);
	fake_start(&f, &appr_world, "GET", EVENTS, NULL, NULL, NULL, 0);
	assert_int_equal(f.answers, 0);
	fake_approvals_changed(&appr_fake, ID);
	fake_approvals_release(&appr_fake);
	assert_int_equal(f.status, 200);
	assert_false(fake_pull(&f, 4096));
	assert_string_equal(buf_str(&f.body), TEXT_ONE);
	fake_approvals_changed(&appr_fake, ID); /* while it is asked already */
	assert_false(fake_pull(&f, 4096));
	fake_approvals_release(&appr_fake);
	assert_true(f.woken);
	assert_false(fake_pull(&f, 4096));
	assert_string_equal(buf_str(&f.body), TEXT_ONE TEXT_TWO);
	fake_leave(&f);
	assert_int_equal(appr_fake.cancelled, 1);
	assert_null(appr_fake.watches);
	fake_call_fini(&f);
}

static void silence_is_told_of(void **state)
{
	(void)state;
	struct fake_call f;
	page("{\"events\":[" ONE "],\"state\":\"running\",\"final\":false}");
	page(NOTHING);
	appr_send(&f, "GET", EVENTS, NULL, NULL, NULL, 200);
	assert_false(fake_pull(&f, 4096));
	f.woken = false;
	appr_beat(appr_world.api.appr);
	assert_false(f.woken); /* something was sent since the last */
	appr_beat(appr_world.api.appr);
	assert_true(f.woken);
	assert_false(fake_pull(&f, 4096));
	assert_string_equal(buf_str(&f.body), TEXT_ONE ": nothing new\n\n");
	fake_call_fini(&f);
}

static void a_server_that_stops_ends_its_streams(void **state)
{
	(void)state;
	struct fake_call f;
	page("{\"events\":[" ONE "],\"state\":\"running\",\"final\":false}");
	page(NOTHING);
	appr_send(&f, "GET", EVENTS, NULL, NULL, NULL, 200);
	assert_false(fake_pull(&f, 4096));
	appr_drain(appr_world.api.appr);
	assert_true(f.woken);
	assert_true(fake_pull(&f, 4096));
	fake_call_fini(&f);
	/* One that begins after it gets what there is. */
	appr_send(&f, "GET", EVENTS, NULL, NULL, NULL, 200);
	fake_call_fini(&f);
}

static void a_database_that_goes_away_ends_a_stream(void **state)
{
	(void)state;
	struct fake_call f;
	page("{\"events\":[" ONE "],\"state\":\"running\",\"final\":false}");
	fake_approvals_fail(&appr_fake, ERR_UNAVAILABLE, "away");
	appr_send(&f, "GET", EVENTS, NULL, NULL, NULL, 200);
	assert_true(fake_pull(&f, 4096));
	assert_string_equal(buf_str(&f.body), TEXT_ONE);
	fake_call_fini(&f);
}

/* What code prints may look like an event; JSON keeps it on one line. */
static void an_event_is_one_line(void **state)
{
	(void)state;
	struct fake_call f;
	page("{\"events\":[{\"seq\":1,\"kind\":\"run_finished\",\"body\":"
	     "{\"stdout\":\"\\n\\nid: 9\\nevent: approved\\rdata: x\\n\\n\"}}],"
	     "\"state\":\"waiting\",\"final\":false}");
	page(NOTHING);
	appr_send(&f, "GET", EVENTS, NULL, NULL, NULL, 200);
	assert_false(fake_pull(&f, 4096));
	assert_string_equal(buf_str(&f.body),
	    "id: 1\nevent: run_finished\ndata: {\"seq\":1,\"kind\":\"run_finished\",\"body\":"
	    "{\"stdout\":\"\\n\\nid: 9\\nevent: approved\\rdata: x\\n\\n\"}}\n\n");
	fake_call_fini(&f);
}

static void one_token_cannot_hold_all_streams(void **state)
{
	(void)state;
	enum { COUNT = 512, OTHERS = 256 }; /* half of the 1024, and half of what is left */
	struct fake_call *others = calloc(OTHERS, sizeof(*others));
	assert_non_null(others);
	struct fake_call *calls = calloc(COUNT, sizeof(*calls));
	assert_non_null(calls);
	page(NOTHING);
	for (int i = 0; i < COUNT; i++) {
		appr_send(&calls[i], "GET", EVENTS, NULL, NULL, NULL, 200);
	}
	appr_expect_error("GET", EVENTS, NULL, 429, "ApprovalsFull", "too many streams");
	fake_call_fini(&calls[17]);
	appr_send(&calls[17], "GET", EVENTS, NULL, NULL, NULL, 200);
	appr_world.caller = "another";
	for (int i = 0; i < OTHERS; i++) {
		appr_send(&others[i], "GET", EVENTS, NULL, NULL, NULL, 200);
	}
	appr_expect_error("GET", EVENTS, NULL, 429, "ApprovalsFull", "too many streams");
	appr_world.caller = NULL;
	for (int i = 0; i < OTHERS; i++) {
		fake_call_fini(&others[i]);
	}
	free(others);
	for (int i = 0; i < COUNT; i++) {
		fake_call_fini(&calls[i]);
	}
	free(calls);
	assert_null(appr_fake.watches);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    APPR_TEST(a_history_streams_until_it_is_final),
	    APPR_TEST(who_comes_back_goes_on_where_it_was),
	    APPR_TEST(one_that_is_not_there_is_404),
	    APPR_TEST(a_change_while_it_sends_is_asked_for),
	    APPR_TEST(silence_is_told_of),
	    APPR_TEST(a_server_that_stops_ends_its_streams),
	    APPR_TEST(a_database_that_goes_away_ends_a_stream),
	    APPR_TEST(an_event_is_one_line),
	    APPR_TEST(one_token_cannot_hold_all_streams),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
