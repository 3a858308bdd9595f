/* Calls of tools that wait for a person: what is asked, what is run, and what a session can not get
 * around. */
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/compiler.h"
#include "codemode/codemode.h"
#include "fake_parking.h"
#include "fake_runner.h"

#define START_MS 1000000U
#define EXECUTION_MS 5000U

struct world {
	uv_loop_t loop;
	char dir[64];
	struct engine *engine;
	struct store *store;
	struct runner_link runner;
	struct json_work *json_work;
	struct codemode *codemode;
	struct session *session;
	struct execution *execution;
	int interrupts;

	int replies;
	bool ok;
	char reply[1024];
};

static struct world *the_world; /* for the gateway's part */

/* --- the engine's world --------------------------------------------------------------------------
 */

static void op_spawn(void *ctx, struct worker *w)
{
	(void)ctx;
	engine_on_worker_ready(w, -1);
}

static void op_kill(void *ctx, struct worker *w)
{
	(void)ctx;
	struct worker_end end = {.wait_status = 9};
	engine_on_worker_ended(w, &end);
}

static void op_interrupt(void *ctx, struct worker *w)
{
	struct world *world = ctx;
	(void)w;
	world->interrupts++;
}

static int op_execute(void *ctx, struct worker *w, struct execution *x)
{
	(void)ctx;
	(void)w;
	(void)x;
	return 0;
}

static void op_release(void *ctx, struct worker *w)
{
	(void)ctx;
	(void)w;
}

static void op_usage(void *ctx, struct worker *w)
{
	(void)ctx;
	engine_on_usage(w, 0, 0);
}

static const struct engine_ops ops = {
    .spawn = op_spawn,
    .kill = op_kill,
    .interrupt = op_interrupt,
    .execute = op_execute,
    .release = op_release,
    .usage = op_usage,
};

/* --- the gateway's part --------------------------------------------------------------------------
 */

void host_call_reply(
    struct host_call *c, bool ok, const char *json, size_t len, struct host_source *source)
{
	(void)c;
	assert_null(source);
	the_world->replies++;
	the_world->ok = ok;
	(void)snprintf(the_world->reply, sizeof(the_world->reply), "%.*s", (int)len, json);
}

void host_call_resume(struct host_call *c)
{
	(void)c;
}

/* --- life ----------------------------------------------------------------------------------------
 */

static void give_tool(struct world *world, const char *approval)
{
	json_t *tools = json_pack("[{s:s, s:s, s:[], s:[], s:s, s:s}]", "name", "pay",
	    "description", "", "tags", "callables", "source", "file", "approval", approval);
	json_t *problems = json_array();
	codemode_on_tools(world->codemode, tools, problems);
	json_decref(tools);
	json_decref(problems);
}

static void begin_codemode(struct world *world, struct approvals *approvals)
{
	struct err e;
	struct codemode_config config = {.engine = world->engine,
	    .store = world->store,
	    .json_work = world->json_work,
	    .runner = &world->runner,
	    .approvals = approvals};
	world->codemode = codemode_new(&world->loop, &config, &e);
	assert_non_null(world->codemode);
	give_tool(world, "none");
}

static int setup(void **state)
{
	struct world *world = calloc(1, sizeof(*world));
	static struct engine_config c;
	struct err e;
	the_world = world;
	(void)snprintf(world->dir, sizeof(world->dir), "/tmp/parked-test-XXXXXX");
	assert_non_null(mkdtemp(world->dir));
	(void)uv_loop_init(&world->loop);
	c = (struct engine_config){.pool_count = 1, .grace_ms = 1000, .finished_keep_ms = 3600000};
	c.pools[0] = (struct pool_config){
	    .name = "default",
	    .max_sessions = 2,
	    .ready_sessions = 0,
	    .cooldown_ms = 1000,
	    .execution_time_ms = EXECUTION_MS,
	    .output_max_bytes = 1024,
	};
	world->engine = engine_new(&c, &ops, world);
	engine_set_now(world->engine, START_MS);
	fake_runner_init(&world->runner);
	struct store_config stored = {.dir = world->dir};
	world->store = store_new(&world->loop, &stored, &e);
	world->json_work = json_work_new(&world->loop);
	begin_codemode(world, fake_parking_init());
	world->session = engine_session_open(
	    &world->engine->pools[0], "tenant-a", "conversation", &e);
	struct execution_request r = {.code = {"tools.pay(amount=5)", 19}};
	world->execution = engine_execute(world->session, &r, &e);
	*state = world;
	return world->execution == NULL || world->store == NULL;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
	(void)st;
	(void)type;
	(void)where;
	return remove(path);
}

static int teardown(void **state)
{
	struct world *world = *state;
	execution_unref(world->execution);
	codemode_stop(world->codemode);
	codemode_free(world->codemode);
	json_work_free(world->json_work);
	engine_free(world->engine);
	store_free(world->store);
	(void)uv_run(&world->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&world->loop), 0);
	fake_runner_fini(&world->runner);
	fake_parking_fini();
	(void)nftw(world->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	free(world);
	return 0;
}

static void begin(struct world *world, struct host_call *c, const char *arguments)
{
	*c = (struct host_call){.worker = world->session->worker,
	    .arguments = arguments,
	    .arguments_len = strlen(arguments)};
	(void)snprintf(c->method, sizeof(c->method), "tools.call");
	codemode_host_calls.begin(world->codemode, c);
}

static const char pay[] = "{\"tool\": \"pay\", \"arguments\": {\"amount\": 5}}";

/* A call that has come as far as the person. */
static void begin_parked(struct world *world, struct host_call *c)
{
	int asked = fake_parking.asked;
	begin(world, c, pay);
	fake_runner_fail_unapproved(&world->runner, "as-it-is");
	assert_int_equal(fake_parking.asked, asked + 1);
}

/* --- tests ---------------------------------------------------------------------------------------
 */

static void what_a_person_allows_is_run_with_what_was_shown(void **state)
{
	struct world *world = *state;
	struct host_call c;
	begin_parked(world, &c);
	const struct approvals_parked *p = &fake_parking.parked[0];
	assert_string_equal(p->tool, "pay");
	assert_int_equal(json_integer_value(json_object_get(p->arguments, "amount")), 5);
	assert_null(fake_runner_last(&world->runner));
	assert_int_equal(world->replies, 0);

	fake_parking_decide(true, NULL);
	const struct runner_call *call = fake_runner_last(&world->runner);
	assert_non_null(call);
	assert_string_equal(call->approved, "as-it-is");
	assert_int_equal(json_integer_value(json_object_get(call->arguments, "amount")), 5);
	fake_runner_answer(&world->runner, json_pack("{s:s}", "text", "paid"));
	assert_int_equal(world->replies, 1);
	assert_true(world->ok);
	assert_string_equal(world->reply, "{\"text\":\"paid\"}");
	assert_int_equal(fake_parking.ended_well, 1);
	assert_int_equal(fake_parking.given_up, 0);
}

static void what_a_person_refuses_is_not_run(void **state)
{
	struct world *world = *state;
	struct host_call c;
	begin_parked(world, &c);
	fake_parking_decide(false, "rejected by ann: too much");
	assert_null(fake_runner_last(&world->runner));
	assert_int_equal(world->runner.begun, 1); /* the one that was refused */
	assert_false(world->ok);
	assert_string_equal(world->reply,
	    "{\"error\":\"ApprovalDenied\",\"message\":\"Tool 'pay' was not run: rejected by ann: "
	    "too much\"}");
}

static void another_definition_than_the_one_allowed_is_not_run(void **state)
{
	struct world *world = *state;
	struct host_call c;
	begin_parked(world, &c);
	fake_parking_decide(true, NULL);
	fake_runner_fail_unapproved(&world->runner, "changed");
	assert_int_equal(world->replies, 1);
	assert_false(world->ok);
	assert_non_null(strstr(world->reply, "ApprovalDenied"));
	assert_non_null(strstr(world->reply, "definition was changed"));
	assert_int_equal(fake_parking.asked, 1);
	assert_int_equal(fake_parking.ended_badly, 1);
}

static void the_clock_stands_still_meanwhile(void **state)
{
	struct world *world = *state;
	struct host_call c;
	begin_parked(world, &c);
	engine_tick(world->engine, START_MS + 100 * EXECUTION_MS);
	assert_int_equal(world->interrupts, 0);
	engine_abandon(world->execution); /* its client has gone */
	assert_int_equal(world->interrupts, 0);
	fake_parking_decide(true, NULL);
	fake_runner_answer(&world->runner, json_pack("{s:s}", "text", "paid"));
	engine_tick(world->engine, START_MS + 101 * EXECUTION_MS - 1);
	assert_int_equal(world->interrupts, 0);
	engine_tick(world->engine, START_MS + 101 * EXECUTION_MS);
	assert_int_equal(world->interrupts, 1);
}

static void rules_ask_before_the_runner_is(void **state)
{
	struct world *world = *state;
	struct host_call c;
	fake_parking.ruled = "pay";
	begin(world, &c, pay);
	assert_int_equal(fake_parking.asked, 1);
	assert_int_equal(world->runner.begun, 0);
	fake_parking_decide(true, NULL);
	assert_int_equal(world->runner.begun, 1);
	fake_runner_answer(&world->runner, json_pack("{s:s}", "text", "paid"));
	assert_true(world->ok);
}

static void a_tool_may_be_marked_and_ruled(void **state)
{
	struct world *world = *state;
	struct host_call c;
	fake_parking.ruled = "pay";
	give_tool(world, "required");
	begin_parked(world, &c);
	fake_parking_decide(true, NULL);
	assert_string_equal(fake_runner_last(&world->runner)->approved, "as-it-is");
	fake_runner_answer(&world->runner, json_pack("{s:s}", "text", "paid"));
	assert_true(world->ok);
}

static void nobody_is_asked_twice_about_one_call(void **state)
{
	struct world *world = *state;
	struct host_call c;
	fake_parking.ruled = "pay";
	begin(world, &c, pay);
	fake_parking_decide(true, NULL);
	fake_runner_fail_unapproved(&world->runner, "and its file says so too");
	assert_int_equal(fake_parking.asked, 1);
	assert_int_equal(world->replies, 1);
	assert_false(world->ok);
}

static void who_is_given_up_waits_no_more(void **state)
{
	struct world *world = *state;
	struct host_call c;
	begin_parked(world, &c);
	codemode_host_calls.cancel(world->codemode, &c);
	assert_int_equal(fake_parking.given_up, 1);
	assert_int_equal(world->execution->pauses, 0);
	assert_int_equal(world->replies, 0);
	/* Likewise while it runs. */
	begin_parked(world, &c);
	fake_parking_decide(true, NULL);
	codemode_host_calls.cancel(world->codemode, &c);
	assert_int_equal(fake_parking.given_up, 2);
	assert_int_equal(fake_parking.ended_well + fake_parking.ended_badly, 0);
}

static void a_session_asks_for_no_more_than_a_person_can_read(void **state)
{
	struct world *world = *state;
	struct host_call calls[17];
	for (int i = 0; i < 16; i++) {
		begin_parked(world, &calls[i]);
	}
	begin(world, &calls[16], pay);
	fake_runner_fail_unapproved(&world->runner, "as-it-is");
	assert_int_equal(fake_parking.asked, 16);
	assert_non_null(strstr(world->reply, "TooManyCalls"));
	for (int i = 0; i < 16; i++) {
		codemode_host_calls.cancel(world->codemode, &calls[i]);
	}
	cleanup(buf_fini) struct buf large = BUF_INIT(1U << 20);
	assert_int_equal(buf_add_str(&large, "{\"tool\": \"pay\", \"arguments\": {\"a\": \""), 0);
	for (int i = 0; i < 1 << 16; i++) {
		assert_int_equal(buf_add_char(&large, 'x'), 0);
	}
	assert_int_equal(buf_add_str(&large, "\"}}"), 0);
	int begun = world->runner.begun;
	begin(world, &calls[16], buf_str(&large));
	while (world->runner.begun == begun) {
		(void)uv_run(&world->loop, UV_RUN_ONCE); /* a thread reads it */
	}
	fake_runner_fail_unapproved(&world->runner, "as-it-is");
	assert_int_equal(fake_parking.asked, 16);
	assert_non_null(strstr(world->reply, "ApprovalDenied"));
}

static void without_approvals_it_is_never_run(void **state)
{
	struct world *world = *state;
	struct host_call c;
	codemode_stop(world->codemode);
	codemode_free(world->codemode);
	begin_codemode(world, NULL);
	begin(world, &c, pay);
	fake_runner_fail_unapproved(&world->runner, "as-it-is");
	assert_int_equal(world->runner.begun, 1);
	assert_non_null(strstr(world->reply, "ApprovalDenied"));
	assert_non_null(strstr(world->reply, "keeps no approvals"));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
	    TEST(what_a_person_allows_is_run_with_what_was_shown),
	    TEST(what_a_person_refuses_is_not_run),
	    TEST(another_definition_than_the_one_allowed_is_not_run),
	    TEST(the_clock_stands_still_meanwhile),
	    TEST(rules_ask_before_the_runner_is),
	    TEST(a_tool_may_be_marked_and_ruled),
	    TEST(nobody_is_asked_twice_about_one_call),
	    TEST(who_is_given_up_waits_no_more),
	    TEST(a_session_asks_for_no_more_than_a_person_can_read),
	    TEST(without_approvals_it_is_never_run),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
