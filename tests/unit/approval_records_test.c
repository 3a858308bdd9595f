/* The changes of approvals, one by one: what each does, and what it refuses. */
#include "approval_base.h"

#include <stdio.h>
#include <string.h>

#include "base/compiler.h"

/* Does it, and gives a text of the approval that comes back. */
static void must(struct approval_base *b, records_fn op, json_t *in, const char *state)
{
	cleanup(json_decrefp) json_t *out = base_do(b, op, in);
	assert_string_equal(b->e.text, "");
	const json_t *approval = json_object_get(out, "approval");
	assert_string_equal(json_string_value(json_object_get(approval, "state")), state);
	assert_int_equal(json_array_size(json_object_get(out, "changed")), 1);
}

static bool again(struct approval_base *b, records_fn op, json_t *in)
{
	cleanup(json_decrefp) json_t *out = base_do(b, op, in);
	assert_string_equal(b->e.text, "");
	return json_is_true(json_object_get(out, "again"));
}

/* --- the ways of the policies --- */

static void after_is_run_then_decided(void **state)
{
	struct approval_base *b = *state;
	const char *id = base_new(b, "after");
	assert_string_equal(base_state(b, id), "queued");
	base_run(b, id, true);
	assert_string_equal(base_state(b, id), "waiting");
	assert_string_equal(base_member(b, id, "stage"), "result");
	char deadline[32];
	(void)snprintf(deadline, sizeof(deadline), "%lld",
	    (long long)(b->now_us + BASE_DEADLINE_MS * 1000));
	assert_string_equal(base_member(b, id, "deadline_us"), deadline);
	must(b, records_decide, base_decision(b, id, "t1", NULL, true), "approved");
	assert_string_equal(base_member(b, id, "deadline_us"), "");
	assert_string_equal(base_member(b, id, "stage"), "");
	assert_string_equal(base_events(b, id),
	    "submitted run_started run_finished waiting decided approved ");
	(void)base_verify(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(after_is_run_then_decided, base_setup, base_teardown),
	};
	(void)again;
	return cmocka_run_group_tests_name("approval_records", tests, NULL, NULL);
}
