/* Who may not decide about what is its own, nor about what might be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "approval_base.h"

/* OWN: whether the one who decides, "bob", may decide about its own. */
static json_t *decision(struct approval_base *b, const char *id, bool own)
{
	json_t *in = base_decision(b, id, NULL, NULL, true);
	assert_int_equal(json_object_set_new(in, "own", json_boolean(own)), 0);
	return in;
}

static const char *submitted_by(struct approval_base *b, json_t *submission, const char *who)
{
	assert_int_equal(json_object_set_new(submission, "submitter", json_string(who)), 0);
	return base_submit(b, submission);
}

static void code_of_ones_own_waits_for_another(void **state)
{
	struct approval_base *b = *state;
	const char *own = submitted_by(b, base_submission(b, "", "before"), "bob");
	const char *other = submitted_by(b, base_submission(b, "", "before"), "alice");
	base_refuses(b, records_decide, decision(b, own, false), ERR_DENIED);
	assert_string_equal(base_state(b, own), "waiting");
	json_decref(base_do(b, records_decide, decision(b, other, false)));
	assert_string_equal(base_state(b, other), "queued");
	json_decref(base_do(b, records_decide, decision(b, own, true)));
	assert_string_equal(base_state(b, own), "queued");
}

/* Whoever had the code run: several may use the session that calls. */
static void a_session_s_call_waits_for_one_who_may(void **state)
{
	struct approval_base *b = *state;
	const char *call = submitted_by(b, base_call(b, ""), "carol");
	base_refuses(b, records_decide, decision(b, call, false), ERR_DENIED);
	assert_string_equal(base_state(b, call), "waiting");
	json_decref(base_do(b, records_decide, decision(b, call, true)));
	assert_string_equal(base_state(b, call), "approved");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(
		code_of_ones_own_waits_for_another, base_setup, base_teardown),
	    cmocka_unit_test_setup_teardown(
		a_session_s_call_waits_for_one_who_may, base_setup, base_teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
