/* Calls of sessions that wait for a person. */
#include "approvals_world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"

struct parked_call {
	struct approvals_parked *p;
	unsigned told;
	bool allowed;
	char reason[512];
};

static void on_decided(void *ctx, bool allowed, const char *reason)
{
	struct parked_call *c = ctx;
	c->told++;
	c->allowed = allowed;
	(void)snprintf(c->reason, sizeof(c->reason), "%s", reason);
	if (!allowed) {
		c->p = NULL;
	}
}

static int setup(void **state)
{
	static const char *const tools[] = {"deploy"};
	struct world *w = world_new();
	w->pools[0].tools[0] = tools[0];
	w->pools[0].tool_count = 1;
	w->a = world_open(w);
	*state = w;
	return 0;
}

/* A session of red's that runs CODE. */
static struct session *running_session(struct world *w, const char *code)
{
	struct err e = {0};
	struct session *s = engine_session_open(
	    engine_pool(w->engine, NULL), "red", "conversation", &e);
	const struct execution_request r = {.code = {code, strlen(code)}};
	assert_non_null(s);
	execution_unref(engine_execute(s, &r, &e));
	world_until(w, world_running(w, code) != NULL);
	return s;
}

static void park(struct world *w, struct parked_call *c, struct session *s)
{
	cleanup(json_decrefp) json_t *arguments = json_pack("{s:s}", "to", "production");
	*c = (struct parked_call){0};
	c->p = approvals_park(w->a, s, "deploy", NULL, arguments, on_decided, c);
	assert_non_null(c->p);
	assert_string_equal(approvals_parked_id(c->p), "");
	world_until(w, c->told > 0 || *approvals_parked_id(c->p) != '\0');
}

static void a_rule_names_tools(void **state)
{
	struct world *w = *state;
	assert_true(approvals_rule(w->a, 0, "deploy"));
	assert_false(approvals_rule(w->a, 0, "Deploy"));
	assert_false(approvals_rule(w->a, 0, "deploy2"));
	assert_false(approvals_rule(w->a, 1, "deploy"));
}

static void it_waits_and_can_be_seen(void **state)
{
	struct world *w = *state;
	struct parked_call c;
	park(w, &c, running_session(w, "cell"));
	char id[64];
	(void)snprintf(id, sizeof(id), "%s", approvals_parked_id(c.p));
	cleanup(json_decrefp) json_t *all = world_get(w, w->a, id);
	const json_t *approval = json_object_get(all, "approval");
	const json_t *call = json_object_get(approval, "call");
	assert_string_equal(json_string_value(json_object_get(approval, "kind")), "call");
	assert_string_equal(json_string_value(json_object_get(approval, "state")), "waiting");
	assert_string_equal(json_string_value(json_object_get(approval, "stage")), "call");
	assert_string_equal(
	    json_string_value(json_object_get(approval, "session")), "conversation");
	assert_true(json_is_string(json_object_get(approval, "execution")));
	assert_string_equal(json_string_value(json_object_get(call, "tool")), "deploy");
	assert_string_equal(
	    json_string_value(json_object_get(json_object_get(call, "arguments"), "to")),
	    "production");
	assert_int_equal(c.told, 0);
	struct approvals_counts counts;
	approvals_counts(w->a, &counts);
	assert_int_equal(counts.parked, 1);
	world_decide(w, w->a, id, NULL, true);
	world_until(w, c.told > 0);
	assert_true(c.allowed);
	approvals_parked_done(c.p, true, "deployed");
	world_until(w, world_events(w, w->a, id, "call_finished") == 1);
	assert_string_equal(world_state(w, w->a, id), "approved");
	approvals_counts(w->a, &counts);
	assert_int_equal(counts.parked, 0);
	assert_int_equal(c.told, 1);
}

static void its_lease_is_kept_for_as_long_as_it_waits(void **state)
{
	struct world *w = *state;
	struct parked_call c;
	world_close(w, &w->a);
	w->config.lease_ms = 300;
	w->a = world_open(w);
	w->b = world_open(w); /* who would take it for gone */
	park(w, &c, running_session(w, "cell"));
	world_turns(w, 900);
	assert_int_equal(c.told, 0);
	assert_string_equal(world_state(w, w->b, approvals_parked_id(c.p)), "waiting");
	approvals_unpark(c.p);
}

static void a_person_says_no(void **state)
{
	struct world *w = *state;
	struct parked_call c;
	park(w, &c, running_session(w, "cell"));
	world_decide(w, w->a, approvals_parked_id(c.p), NULL, false);
	world_until(w, c.told > 0);
	assert_false(c.allowed);
	assert_string_equal(c.reason, "it was rejected by Bob B.: seen");
}

static void nobody_says_anything(void **state)
{
	struct world *w = *state;
	struct parked_call c;
	w->pools[0].deadline_ms = 300;
	park(w, &c, running_session(w, "cell"));
	world_until(w, c.told > 0);
	assert_false(c.allowed);
	assert_string_equal(c.reason, "nobody decided before its deadline");
}

static void somebody_cancels_it(void **state)
{
	struct world *w = *state;
	struct parked_call c;
	park(w, &c, running_session(w, "cell"));
	struct world_answer out = world_ask_cancel(w, w->a, &world_bob, approvals_parked_id(c.p));
	json_decref(out.json);
	world_until(w, c.told > 0);
	assert_false(c.allowed);
	assert_string_equal(c.reason, "its approval was cancelled");
}

static void the_caller_goes_away(void **state)
{
	struct world *w = *state;
	struct parked_call c;
	char id[64];
	park(w, &c, running_session(w, "cell"));
	(void)snprintf(id, sizeof(id), "%s", approvals_parked_id(c.p));
	approvals_unpark(c.p);
	approvals_unpark(NULL);
	world_until(w, strcmp(world_state(w, w->a, id), "cancelled") == 0);
	assert_int_equal(c.told, 0);
	struct world_answer out = world_ask_decide(w, w->a, &world_bob, id, NULL, true);
	assert_int_equal(out.e.code, ERR_CONFLICT);
}

/* Before it is on disk. */
static void the_caller_goes_away_at_once(void **state)
{
	struct world *w = *state;
	struct parked_call c = {0};
	cleanup(json_decrefp) json_t *arguments = json_object();
	c.p = approvals_park(
	    w->a, running_session(w, "cell"), "deploy", "now", arguments, on_decided, &c);
	approvals_unpark(c.p);
	world_turns(w, 50);
	struct world_answer out = world_ask_list(w, w->a, &world_admin, "waiting");
	assert_int_equal(json_array_size(json_object_get(out.json, "approvals")), 0);
	json_decref(out.json);
	out = world_ask_list(w, w->a, &world_admin, "cancelled");
	assert_int_equal(json_array_size(json_object_get(out.json, "approvals")), 1);
	json_decref(out.json);
	assert_int_equal(c.told, 0);
}

/* Somebody allowed it in the moment in which its caller went. */
static void allowed_when_nobody_waits_any_more(void **state)
{
	struct world *w = *state;
	struct parked_call c;
	struct world_answer out = {0};
	char id[64];
	park(w, &c, running_session(w, "cell"));
	(void)snprintf(id, sizeof(id), "%s", approvals_parked_id(c.p));
	(void)approvals_decide(
	    w->a, &world_bob, id, &(struct approvals_decision){.approve = true}, world_told, &out);
	approvals_unpark(c.p);
	world_until(w, out.called);
	json_decref(out.json);
	world_until(w, world_events(w, w->a, id, "call_finished") == 1);
	assert_int_equal(c.told, 0);
	assert_string_equal(world_state(w, w->a, id), "approved");
}

static void what_cannot_be_kept_is_denied(void **state)
{
	struct world *w = *state;
	struct parked_call c;
	world_close(w, &w->a);
	w->config.open_max = 0;
	w->a = world_open(w);
	park(w, &c, running_session(w, "cell"));
	assert_int_equal(c.told, 1);
	assert_false(c.allowed);
	assert_non_null(strstr(c.reason, "could not be kept"));
}

/* A call of approved code stands beneath its approval. */
static void it_has_its_parent(void **state)
{
	struct world *w = *state;
	struct parked_call c;
	const char *id = world_submit(w, w->a, "by rule()", "rules", NULL);
	world_until(w, world_running(w, "by rule()") != NULL);
	park(w, &c, world_running(w, "by rule()")->worker->session);
	cleanup(json_decrefp) json_t *all = world_get(w, w->a, approvals_parked_id(c.p));
	assert_string_equal(
	    json_string_value(json_object_get(json_object_get(all, "approval"), "parent")), id);
	approvals_unpark(c.p);
}

static void other_tenants_do_not_see_it(void **state)
{
	struct world *w = *state;
	struct parked_call c;
	const struct approvals_who mallory = {.name = "mallory", .tenant = "blue", .own = true};
	park(w, &c, running_session(w, "cell"));
	struct world_answer out = world_ask_decide(
	    w, w->a, &mallory, approvals_parked_id(c.p), NULL, true);
	assert_int_equal(out.e.code, ERR_NOT_FOUND);
	out = world_ask_list(w, w->a, &mallory, NULL);
	assert_int_equal(json_array_size(json_object_get(out.json, "approvals")), 0);
	json_decref(out.json);
	world_turns(w, 20);
	assert_int_equal(c.told, 0);
	approvals_unpark(c.p);
}

static void a_stop_cancels_them_and_tells_nobody(void **state)
{
	struct world *w = *state;
	struct parked_call c;
	char id[64];
	park(w, &c, running_session(w, "cell"));
	(void)snprintf(id, sizeof(id), "%s", approvals_parked_id(c.p));
	approvals_stop(w->a);
	approvals_unpark(c.p); /* as the one who parked it does when it stops */
	approvals_free(w->a);
	w->a = world_open(w);
	assert_string_equal(world_state(w, w->a, id), "cancelled");
	assert_int_equal(c.told, 0);
}

/* Its server is gone without a word: the lease ends, and so does it. */
static void a_killed_server_s_calls_are_cancelled(void **state)
{
	struct world *w = *state;
	struct parked_call c;
	char id[64];
	park(w, &c, running_session(w, "cell"));
	(void)snprintf(id, sizeof(id), "%s", approvals_parked_id(c.p));
	w->b = world_open(w);
	world_pass_us(11000000);
	world_until(w, strcmp(world_state(w, w->b, id), "cancelled") == 0);
}

#define WITH_WORLD(test) cmocka_unit_test_setup_teardown(test, setup, world_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    WITH_WORLD(a_rule_names_tools),
	    WITH_WORLD(it_waits_and_can_be_seen),
	    WITH_WORLD(its_lease_is_kept_for_as_long_as_it_waits),
	    WITH_WORLD(a_person_says_no),
	    WITH_WORLD(nobody_says_anything),
	    WITH_WORLD(somebody_cancels_it),
	    WITH_WORLD(the_caller_goes_away),
	    WITH_WORLD(the_caller_goes_away_at_once),
	    WITH_WORLD(allowed_when_nobody_waits_any_more),
	    WITH_WORLD(what_cannot_be_kept_is_denied),
	    WITH_WORLD(it_has_its_parent),
	    WITH_WORLD(other_tenants_do_not_see_it),
	    WITH_WORLD(a_stop_cancels_them_and_tells_nobody),
	    WITH_WORLD(a_killed_server_s_calls_are_cancelled),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
