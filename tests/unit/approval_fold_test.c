/* What events add up to: from each place of an approval's way, which may follow, and that no other
 * may. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "approvals/lifecycle.h"
#include "approvals/records_fold.h"
#include "base/compiler.h"

/* Events as words: a kind, for waiting and decided with the stage behind it, and "yes" or "no". */
static const char *const words[] = {"submitted", "run_started", "run_interrupted", "run_put_back",
    "run_finished", "waiting code", "waiting result", "waiting call", "decided code yes",
    "decided code no", "decided result yes", "decided result no", "decided call yes",
    "decided call no", "approved", "rejected", "expired", "failed", "cancelled", "call_finished",
    "callback_delivered", "callback_failed", "callback_given_up", "promoted", "promote_failed"};

#define AFTERWARDS                                                                                 \
	"call_finished", "callback_delivered", "callback_failed", "callback_given_up", "promoted", \
	    "promote_failed"

struct place {
	const char *policy; /* "call": of that kind */
	const char *way[10];
	const char *state;
	const char *next[12]; /* all that may follow */
};

static const struct place places[] = {
    {"after", {NULL}, "", {"submitted"}},
    {"after", {"submitted"}, "queued",
	{"decided result yes", "decided result no", "run_started", "failed", "cancelled"}},
    {"after", {"submitted", "run_started"}, "running",
	{"decided result yes", "decided result no", "run_interrupted", "run_put_back",
	    "run_finished", "waiting result", "failed", "cancelled"}},
    {"after", {"submitted", "run_started", "run_interrupted"}, "queued",
	{"decided result yes", "decided result no", "run_started", "failed", "cancelled"}},
    {"after", {"submitted", "run_started", "run_put_back"}, "queued",
	{"decided result yes", "decided result no", "run_started", "failed", "cancelled"}},
    /* what came before its result */
    {"after", {"submitted", "decided result yes"}, "queued",
	{"run_started", "failed", "cancelled"}},
    {"after", {"submitted", "decided result yes", "run_started"}, "running",
	{"run_interrupted", "run_put_back", "run_finished", "approved", "failed", "cancelled"}},
    {"after", {"submitted", "run_started", "decided result no", "run_finished"}, "running",
	{"run_interrupted", "run_put_back", "run_finished", "rejected", "failed", "cancelled"}},
    {"after", {"submitted", "run_started", "waiting result"}, "waiting",
	{"decided result yes", "decided result no", "expired", "cancelled"}},
    {"after", {"submitted", "run_started", "waiting result", "decided result yes"}, "waiting",
	{"approved"}},
    {"after", {"submitted", "run_started", "waiting result", "decided result no"}, "waiting",
	{"rejected"}},
    {"after", {"submitted", "run_started", "failed"}, "failed", {AFTERWARDS}},
    {"after", {"submitted", "cancelled"}, "cancelled", {AFTERWARDS}},
    {"after", {"submitted", "run_started", "waiting result", "expired"}, "expired", {AFTERWARDS}},
    {"after", {"submitted", "run_started", "waiting result", "decided result no", "rejected"},
	"rejected", {AFTERWARDS}},
    {"after", {"submitted", "run_started", "waiting result", "decided result yes", "approved"},
	"approved", {AFTERWARDS}},
    {"before", {"submitted"}, "", {"waiting code"}},
    {"before", {"submitted", "waiting code"}, "waiting",
	{"decided code yes", "decided code no", "expired", "cancelled"}},
    {"before", {"submitted", "waiting code", "decided code no"}, "waiting", {"rejected"}},
    {"before", {"submitted", "waiting code", "decided code yes"}, "queued",
	{"run_started", "failed", "cancelled"}},
    {"before", {"submitted", "waiting code", "decided code yes", "run_started"}, "running",
	{"run_interrupted", "run_put_back", "run_finished", "approved", "failed", "cancelled"}},
    {"both", {"submitted"}, "", {"waiting code"}},
    {"both", {"submitted", "waiting code", "decided code yes", "run_started"}, "running",
	{"run_interrupted", "run_put_back", "run_finished", "waiting result", "failed",
	    "cancelled"}},
    {"both", {"submitted", "waiting code", "decided code yes", "run_started", "waiting result"},
	"waiting", {"decided result yes", "decided result no", "expired", "cancelled"}},
    {"rules", {"submitted"}, "queued", {"run_started", "failed", "cancelled"}},
    {"rules", {"submitted", "run_started"}, "running",
	{"run_interrupted", "run_put_back", "run_finished", "approved", "failed", "cancelled"}},
    {"rules", {"submitted", "run_started", "approved"}, "approved", {AFTERWARDS}},
    {"call", {"submitted"}, "", {"waiting call"}},
    {"call", {"submitted", "waiting call"}, "waiting",
	{"decided call yes", "decided call no", "expired", "cancelled"}},
    {"call", {"submitted", "waiting call", "decided call yes", "approved"}, "approved",
	{AFTERWARDS}},
};

static json_t *body_of(const char *policy, const char *word)
{
	bool call = strcmp(policy, "call") == 0;
	char stage[16] = "";
	char yes[8] = "";
	(void)sscanf(word, "%*s %15s %7s", stage, yes);
	if (strcmp(word, "submitted") == 0) {
		return json_pack(
		    "{s:s, s:s, s:s, s:s, s:s, s:s, s:n, s:n, s:n, s:n, s:n, s:n, s:{}}", "id", "i",
		    "kind", call ? "call" : "code", "tenant", "", "pool", "p", "policy",
		    call ? "rules" : policy, "submitter", "a", "code_sha256", "arguments_sha256",
		    "call", "parent", "session", "execution", "settings");
	}
	if (yes[0] != '\0') {
		return json_pack("{s:s, s:b}", "stage", stage, "approve", yes[0] == 'y');
	}
	return json_pack("{s:s, s:i, s:n}", "stage", stage, "deadline_us", 1, "result_sha256");
}

static int fold(json_t *row, const char *policy, const char *word, struct err *e)
{
	char kind[32];
	assert_int_equal(sscanf(word, "%31s", kind), 1);
	cleanup(json_decrefp) json_t *event = json_pack("{s:I, s:i, s:s, s:s, s:o}", "seq",
	    json_integer_value(json_object_get(row, "version")) + 1, "at_us", 10, "kind", kind,
	    "actor", "a", "body", body_of(policy, word));
	assert_non_null(event);
	return records_fold(row, event, e);
}

static json_t *go(const struct place *p)
{
	json_t *row = json_object();
	struct err e = {0};
	for (size_t i = 0; p->way[i] != NULL; i++) {
		(void)fold(row, p->policy, p->way[i], &e);
		assert_string_equal(e.text, "");
	}
	return row;
}

static bool is_next(const struct place *p, const char *word)
{
	for (size_t i = 0; i < array_len(p->next) && p->next[i] != NULL; i++) {
		if (strcmp(p->next[i], word) == 0) {
			return true;
		}
	}
	return false;
}

static const char *text_of(const json_t *row, const char *name)
{
	const char *text = json_string_value(json_object_get(row, name));
	return text != NULL ? text : "";
}

static void only_what_may_follow_follows(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_len(places); i++) {
		for (size_t w = 0; w < array_len(words); w++) {
			struct err e = {0};
			cleanup(json_decrefp) json_t *row = go(&places[i]);
			assert_string_equal(text_of(row, "state"), places[i].state);
			bool done = fold(row, places[i].policy, words[w], &e) == 0;
			if (done != is_next(&places[i], words[w])) {
				fail_msg("place %zu, %s: %s", i, words[w], done ? "taken" : e.text);
			}
			assert_int_equal(e.code, done ? ERR_NONE : ERR_INTERNAL);
		}
	}
}

static void what_waits_has_a_stage_and_a_deadline(void **state)
{
	(void)state;
	for (size_t i = 0; i < array_len(places); i++) {
		cleanup(json_decrefp) json_t *row = go(&places[i]);
		bool waits = strcmp(text_of(row, "state"), "waiting") == 0;
		assert_true(waits == (*text_of(row, "stage") != '\0'));
		assert_true(waits == json_is_integer(json_object_get(row, "deadline_us")));
	}
}

static void events_are_numbered_without_a_gap(void **state)
{
	(void)state;
	struct err e = {0};
	cleanup(json_decrefp) json_t *row = go(&places[1]);
	cleanup(json_decrefp) json_t *event = json_pack("{s:i, s:i, s:s, s:s, s:{}}", "seq", 3,
	    "at_us", 1, "kind", "run_started", "actor", "a", "body");
	assert_int_equal(records_fold(row, event, &e), -1);
	assert_int_equal(json_object_set_new(event, "seq", json_integer(1)), 0);
	assert_int_equal(records_fold(row, event, &e), -1);
	assert_int_equal(json_object_set_new(event, "seq", json_integer(2)), 0);
	assert_int_equal(records_fold(row, event, &e), 0);
	assert_int_equal(json_object_set_new(event, "seq", json_integer(3)), 0);
	assert_int_equal(json_object_set_new(event, "kind", json_string("exploded")), 0);
	assert_int_equal(records_fold(row, event, &e), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(only_what_may_follow_follows),
	    cmocka_unit_test(what_waits_has_a_stage_and_a_deadline),
	    cmocka_unit_test(events_are_numbered_without_a_gap),
	};
	return cmocka_run_group_tests_name("approval_fold", tests, NULL, NULL);
}
