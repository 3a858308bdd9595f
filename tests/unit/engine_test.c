/* The engine's decisions, in virtual time and without a process: a fake world answers its ops. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/compiler.h"
#include "engine/engine.h"
#include "engine/internal.h"
#include "engine/packages.h"

#define WORKERS_MAX 64
#define MOUNTS_KEPT 8

struct world {
	struct engine *engine;
	struct worker *spawned[WORKERS_MAX];
	int spawned_count;
	struct worker *killed[WORKERS_MAX];
	int killed_count;
	int interrupts;
	struct worker *executing;
	uint64_t seq;
	char code[64];
	int execute_result;
	struct worker *mounting; /* of the last one asked for */
	char mounts[MOUNTS_KEPT][ENGINE_PACKAGES_NAME_BYTES];
	unsigned mount_count;
	int usage_asked;
};

static void op_spawn(void *ctx, struct worker *w)
{
	struct world *world = ctx;
	world->spawned[world->spawned_count++] = w;
}

static void op_kill(void *ctx, struct worker *w)
{
	struct world *world = ctx;
	world->killed[world->killed_count++] = w;
}

static void op_interrupt(void *ctx, struct worker *w)
{
	(void)w;
	((struct world *)ctx)->interrupts++;
}

static int op_execute(void *ctx, struct worker *w, struct execution *x)
{
	struct world *world = ctx;
	world->executing = w;
	world->seq = x->seq;
	(void)snprintf(world->code, sizeof(world->code), "%s", buf_str(&x->code));
	return world->execute_result;
}

static void op_release(void *ctx, struct worker *w)
{
	(void)ctx;
	(void)w;
}

static void op_mount(void *ctx, struct worker *w, const char *name)
{
	struct world *world = ctx;
	world->mounting = w;
	(void)snprintf(world->mounts[world->mount_count++ % MOUNTS_KEPT], sizeof(world->mounts[0]),
	    "%s", name);
}

static void op_usage(void *ctx, struct worker *w)
{
	(void)w;
	((struct world *)ctx)->usage_asked++;
}

static const struct engine_ops ops = {
    op_spawn, op_kill, op_interrupt, op_execute, op_release, op_mount, op_usage, NULL, NULL};

static int setup(void **state)
{
	struct world *world = calloc(1, sizeof(*world));
	static struct engine_config c;
	c = (struct engine_config){.pool_count = 1, .grace_ms = 1000, .finished_keep_ms = 3600000};
	c.pools[0] = (struct pool_config){
	    .name = "default",
	    .max_sessions = 3,
	    .ready_sessions = 2,
	    .cooldown_ms = 10000,
	    .execution_time_ms = 5000,
	    .output_max_bytes = 8,
	};
	world->engine = engine_new(&c, &ops, world);
	engine_set_now(world->engine, 1000000);
	*state = world;
	return world->engine == NULL;
}

static int teardown(void **state)
{
	struct world *world = *state;
	engine_free(world->engine);
	free(world);
	return 0;
}

/* Makes every spawned worker ready, those that come of it too. */
static void all_ready(struct world *world)
{
	for (int i = 0; i < world->spawned_count; i++) {
		if (world->spawned[i] != NULL) {
			struct worker *w = world->spawned[i];
			world->spawned[i] = NULL;
			engine_on_worker_ready(w, 100);
		}
	}
	world->spawned_count = 0;
}

static void all_ended(struct world *world, const struct worker_end *end)
{
	for (int i = 0; i < world->killed_count; i++) {
		engine_on_worker_ended(world->killed[i], end);
	}
	world->killed_count = 0;
}

static struct pool *pool_of(struct world *world)
{
	return engine_pool(world->engine, NULL);
}

static struct session *open_session(struct world *world, const char *identifier)
{
	struct err e = {0};
	struct session *s = engine_session_open(pool_of(world), NULL, identifier, &e);
	if (s == NULL) {
		print_message("%s\n", e.text);
	}
	assert_non_null(s);
	return s;
}

static struct execution *run(struct world *world, struct session *s, const char *code)
{
	struct execution_request r = {.code = {code, strlen(code)}};
	struct err e = {0};
	struct execution *x = engine_execute(s, &r, &e);
	(void)world;
	assert_non_null(x);
	return x;
}

static void answer(struct world *world, uint8_t status)
{
	struct ipc_result r = {.status = status, .duration_us = 5};
	assert_int_equal(engine_on_result(world->executing, world->seq, &r), 0);
}

static void pools_fill_themselves(void **state)
{
	struct world *world = *state;
	engine_start(world->engine);
	assert_int_equal(world->spawned_count, 2);
	all_ready(world);
	assert_int_equal(pool_of(world)->ready_count, 2);
	(void)open_session(world, "alpha");
	assert_int_equal(world->spawned_count, 0); /* not beside the first cell */
	engine_tick(world->engine, 1000000 + ENGINE_TICK_MS);
	assert_int_equal(world->spawned_count, 1);
	(void)open_session(world, "beta");
	(void)open_session(world, "gamma");
	all_ready(world);
	/* Three of three places are taken: nothing ready could ever be used. */
	assert_int_equal(pool_of(world)->ready_count, 0);
	assert_int_equal(pool_of(world)->session_count, 3);
}

static void few_start_at_once_and_all_get_one(void **state)
{
	struct world *world = *state;
	struct pool *p = pool_of(world);
	p->config.max_sessions = 20;
	for (int i = 0; i < 20; i++) {
		char name[32];
		(void)snprintf(name, sizeof(name), "session-%d", i);
		(void)open_session(world, name);
	}
	assert_int_equal(p->pending_count, 20);
	assert_int_equal(world->spawned_count, 4);
	for (int i = 0; i < world->spawned_count; i++) {
		struct worker *w = world->spawned[i];
		assert_true(p->starting_count <= 4);
		engine_on_worker_ready(w, 100);
	}
	assert_int_equal(world->spawned_count, 20);
	assert_int_equal(p->pending_count, 0);
}

static void a_full_pool_refuses_until_a_place_is_free(void **state)
{
	struct world *world = *state;
	struct err e = {0};
	struct session *first = open_session(world, "alpha");
	(void)open_session(world, "beta");
	(void)open_session(world, "gamma");
	assert_null(engine_session_open(pool_of(world), NULL, "delta", &e));
	assert_int_equal(e.code, ERR_BUSY);
	engine_session_delete(first);
	(void)open_session(world, "delta");
}

static void a_reserved_session_is_entered_by_nobody_else(void **state)
{
	struct world *world = *state;
	struct err e = {0};
	struct pool *p = pool_of(world);
	struct session *s = engine_session_reserve(p, "red", "reviewed", &e);
	assert_non_null(s);
	assert_null(engine_session_find(p, "red", "reviewed"));
	assert_null(engine_session_open(p, "red", "reviewed", &e));
	assert_int_equal(e.code, ERR_CONFLICT);
	assert_null(engine_session_reserve(p, "red", "reviewed", &e));
	assert_int_equal(e.code, ERR_CONFLICT);
	assert_ptr_equal(engine_session_find_reserved(p, "red", "reviewed"), s);
	/* Another tenant's identifiers are its own, and a client's session is not taken over. */
	assert_null(engine_session_find_reserved(p, "blue", "reviewed"));
	assert_non_null(engine_session_open(p, "blue", "reviewed", &e));
	assert_null(engine_session_reserve(p, "blue", "reviewed", &e));
	assert_null(engine_session_find_reserved(p, "blue", "reviewed"));
	engine_session_delete(s);
	assert_non_null(engine_session_open(p, "red", "reviewed", &e));
}

static void identifiers_are_checked(void **state)
{
	struct world *world = *state;
	struct err e = {0};
	char longest[140];
	memset(longest, 'a', sizeof(longest));
	longest[128] = '\0';
	(void)world;
	assert_int_equal(engine_identifier_check("abc", &e), -1);
	assert_int_equal(engine_identifier_check("abcd", &e), 0);
	assert_int_equal(engine_identifier_check("user-42_a.b:c/d e", &e), 0);
	assert_int_equal(engine_identifier_check(longest, &e), 0);
	longest[128] = 'a';
	longest[129] = '\0';
	assert_int_equal(engine_identifier_check(longest, &e), -1);
	assert_int_equal(engine_identifier_check("caf\xc3\xa9s", &e), -1);
	assert_int_equal(engine_identifier_check("tab\there", &e), -1);
}

static void executions_run_one_at_a_time_in_order(void **state)
{
	struct world *world = *state;
	struct session *s = open_session(world, "alpha");
	struct execution *one = run(world, s, "one");
	struct execution *two = run(world, s, "two");
	assert_int_equal(one->state, EXECUTION_QUEUED);
	all_ready(world);
	assert_int_equal(one->state, EXECUTION_RUNNING);
	assert_int_equal(two->state, EXECUTION_QUEUED);
	assert_string_equal(world->code, "one");
	answer(world, IPC_STATUS_OK);
	assert_int_equal(one->state, EXECUTION_SUCCEEDED);
	assert_int_equal(one->verdict, VERDICT_SUCCEEDED);
	assert_string_equal(world->code, "two");
	answer(world, IPC_STATUS_EXCEPTION);
	assert_int_equal(two->verdict, VERDICT_EXCEPTION);
	assert_ptr_equal(engine_execution_find(s, one->id), one);
	execution_unref(one);
	execution_unref(two);
}

static void a_queue_is_bounded(void **state)
{
	struct world *world = *state;
	struct session *s = open_session(world, "alpha");
	struct execution_request r = {.code = {"x", 1}};
	struct err e = {0};
	for (int i = 0; i < ENGINE_QUEUE_MAX; i++) {
		execution_unref(run(world, s, "x"));
	}
	assert_null(engine_execute(s, &r, &e));
	assert_int_equal(e.code, ERR_BUSY);
}

static void an_id_is_used_once(void **state)
{
	struct world *world = *state;
	struct session *s = open_session(world, "alpha");
	struct execution_request r = {.code = {"x", 1}, .id = "mine"};
	struct err e = {0};
	struct execution *x = engine_execute(s, &r, &e);
	assert_string_equal(x->id, "mine");
	assert_null(engine_execute(s, &r, &e));
	assert_int_equal(e.code, ERR_CONFLICT);
	execution_unref(x);
}

static void past_the_deadline_it_is_interrupted_then_killed(void **state)
{
	struct world *world = *state;
	struct session *s = open_session(world, "alpha");
	struct execution *x = run(world, s, "loop");
	all_ready(world);
	engine_tick(world->engine, 1000000 + 4999);
	assert_int_equal(world->interrupts, 0);
	engine_tick(world->engine, 1000000 + 5000);
	assert_int_equal(world->interrupts, 1);
	engine_on_interrupted(s->worker);
	engine_tick(world->engine, 1000000 + 5999);
	assert_int_equal(world->killed_count, 0);
	engine_tick(world->engine, 1000000 + 6000);
	assert_int_equal(world->killed_count, 1);
	assert_int_equal(x->state, EXECUTION_RUNNING); /* the kernel has the last word */
	all_ended(world, &(struct worker_end){.wait_status = 9});
	assert_int_equal(x->verdict, VERDICT_TIME_LIMIT);
	execution_unref(x);
	/* The next one with that identifier is told that its variables are gone. */
	x = run(world, open_session(world, "alpha"), "again");
	assert_true(x->new_session);
	execution_unref(x);
	x = run(world, open_session(world, "alpha"), "and again");
	assert_false(x->new_session);
	execution_unref(x);
}

/* --- pauses
 * ---------------------------------------------------------------------------------------
 */

static void a_paused_execution_has_no_deadline(void **state)
{
	struct world *world = *state;
	struct session *s = open_session(world, "alpha");
	struct execution *x = run(world, s, "tools.pay()");
	all_ready(world);
	engine_tick(world->engine, 1000000 + 4000);
	engine_pause(x);
	engine_tick(world->engine, 1000000 + 3600000);
	assert_int_equal(world->interrupts, 0);
	engine_resume(x);
	/* A second was left of its five. */
	engine_tick(world->engine, 1000000 + 3600999);
	assert_int_equal(world->interrupts, 0);
	engine_tick(world->engine, 1000000 + 3601000);
	assert_int_equal(world->interrupts, 1);
	execution_unref(x);
}

static void pauses_are_counted(void **state)
{
	struct world *world = *state;
	struct session *s = open_session(world, "alpha");
	struct execution *x = run(world, s, "gather");
	all_ready(world);
	engine_pause(x);
	engine_pause(x);
	engine_tick(world->engine, 1000000 + 10000);
	engine_resume(x);
	engine_tick(world->engine, 1000000 + 20000);
	assert_int_equal(world->interrupts, 0);
	engine_resume(x);
	engine_resume(x); /* one too many changes nothing */
	engine_tick(world->engine, 1000000 + 24999);
	assert_int_equal(world->interrupts, 0);
	struct ipc_result r = {.status = IPC_STATUS_OK, .duration_us = 24999000};
	assert_int_equal(engine_on_result(world->executing, world->seq, &r), 0);
	assert_int_equal(x->state, EXECUTION_SUCCEEDED);
	assert_int_equal(x->duration_us, 4999000);
	engine_pause(x);
	engine_resume(x);
	execution_unref(x);
}

static void computing_in_a_pause_counts(void **state)
{
	struct world *world = *state;
	struct session *s = open_session(world, "alpha");
	struct execution *x = run(world, s, "Thread(target=spin).start(); tools.pay()");
	all_ready(world);
	engine_pause(x);
	engine_on_usage(s->worker, 0, 700000); /* it had computed as much before */
	engine_tick(world->engine, 1000000 + 60000);
	engine_on_usage(s->worker, 0, 700000 + 3000000);
	engine_tick(world->engine, 1000000 + 61000);
	assert_int_equal(world->interrupts, 0);
	engine_resume(x);
	/* Two seconds are left of its five. */
	engine_tick(world->engine, 1000000 + 62000);
	engine_pause(x);
	engine_on_usage(s->worker, 0, 4000000);
	engine_tick(world->engine, 1000000 + 90000);
	engine_on_usage(s->worker, 0, 4000000 + 999000);
	engine_tick(world->engine, 1000000 + 91000);
	assert_int_equal(world->interrupts, 0);
	engine_on_usage(s->worker, 0, 4000000 + 1000000);
	engine_tick(world->engine, 1000000 + 92000);
	assert_int_equal(world->interrupts, 1);
	struct ipc_result r = {.status = IPC_STATUS_INTERRUPTED};
	assert_int_equal(engine_on_result(world->executing, world->seq, &r), 0);
	assert_int_equal(x->verdict, VERDICT_TIME_LIMIT);
	execution_unref(x);
}

static void who_is_paused_goes_on_without_its_client(void **state)
{
	struct world *world = *state;
	struct session *s = open_session(world, "alpha");
	struct execution *x = run(world, s, "tools.pay()");
	all_ready(world);
	engine_pause(x);
	engine_abandon(x);
	assert_int_equal(world->interrupts, 0);
	engine_cancel(x); /* but a person may still stop it */
	assert_int_equal(world->interrupts, 1);
	execution_unref(x);
	x = run(world, open_session(world, "beta"), "1");
	all_ready(world);
	engine_abandon(x);
	assert_int_equal(world->interrupts, 2);
	execution_unref(x);
}

static void a_paused_execution_ends_with_its_session(void **state)
{
	struct world *world = *state;
	struct session *s = open_session(world, "alpha");
	struct execution *x = run(world, s, "tools.pay()");
	all_ready(world);
	engine_pause(x);
	engine_session_delete(s);
	assert_int_equal(x->verdict, VERDICT_SESSION_KILLED);
	engine_resume(x);
	execution_unref(x);
}

static void a_swallowed_interrupt_is_still_the_time_limit(void **state)
{
	struct world *world = *state;
	struct session *s = open_session(world, "alpha");
	struct execution *x = run(world, s, "loop");
	all_ready(world);
	engine_tick(world->engine, 1000000 + 5000);
	engine_on_interrupted(s->worker);
	answer(world, IPC_STATUS_OK);
	assert_int_equal(x->verdict, VERDICT_TIME_LIMIT);
	assert_int_equal(x->state, EXECUTION_FAILED);
	execution_unref(x);
}

static void nothing_starts_while_a_signal_is_on_its_way(void **state)
{
	struct world *world = *state;
	struct session *s = open_session(world, "alpha");
	struct execution *one = run(world, s, "one");
	struct execution *two = run(world, s, "two");
	all_ready(world);
	engine_cancel(one);
	answer(world, IPC_STATUS_OK); /* it ended just before the signal came */
	assert_int_equal(one->verdict, VERDICT_SUCCEEDED);
	assert_int_equal(two->state, EXECUTION_QUEUED);
	engine_on_interrupted(s->worker);
	assert_int_equal(two->state, EXECUTION_RUNNING);
	execution_unref(one);
	execution_unref(two);
}

static void cancel_takes_a_queued_one_out(void **state)
{
	struct world *world = *state;
	struct session *s = open_session(world, "alpha");
	struct execution *one = run(world, s, "one");
	struct execution *two = run(world, s, "two");
	all_ready(world);
	engine_cancel(two);
	assert_int_equal(two->state, EXECUTION_CANCELED);
	assert_int_equal(world->interrupts, 0);
	engine_cancel(two);
	engine_cancel(one);
	engine_cancel(one); /* one signal is enough */
	assert_int_equal(world->interrupts, 1);
	answer(world, IPC_STATUS_INTERRUPTED);
	assert_int_equal(one->state, EXECUTION_CANCELED);
	assert_int_equal(one->verdict, VERDICT_INTERRUPTED);
	execution_unref(one);
	execution_unref(two);
}

static void tenants_do_not_meet(void **state)
{
	struct world *world = *state;
	struct pool *p = pool_of(world);
	struct session *own = open_session(world, "alpha");
	struct session *acme = engine_session_open(p, "acme", "alpha", NULL);
	struct session *other = engine_session_open(p, "acm", "ealpha", NULL);
	assert_non_null(acme);
	assert_ptr_not_equal(own, acme);
	assert_ptr_not_equal(acme, other);
	assert_ptr_equal(engine_session_open(p, "acme", "alpha", NULL), acme);
	assert_ptr_equal(engine_session_find(p, "", "alpha"), own);
	assert_null(engine_session_find(p, "beta", "alpha"));
	assert_null(engine_session_find(p, "acm", "alpha"));
	assert_null(engine_session_find(p, NULL, "ealpha"));
	engine_session_delete(acme);
	assert_null(engine_session_find(p, "acme", "alpha"));
	assert_ptr_equal(engine_session_find(p, NULL, "alpha"), own);
}

static void tenants_names_are_checked(void **state)
{
	struct world *world = *state;
	static const char *const bad[] = {"a/b", "..", ".a", "-a", "_a", "a b", "a:b", "a\x1fx",
	    "\xc3\xa4", "12345678901234567890123456789012345678901234567890123456789012345"};
	for (size_t i = 0; i < array_len(bad); i++) {
		struct err e = {0};
		assert_false(engine_tenant_is_valid(bad[i]));
		assert_null(engine_session_open(pool_of(world), bad[i], "alpha", &e));
		assert_int_equal(e.code, ERR_INVALID);
	}
	assert_false(engine_tenant_is_valid(""));
	assert_true(engine_tenant_is_valid("tenant-acme_1.x"));
}

/* One tenant's loss is not told to another, and a workspace outlives the session's process. */
static void a_loss_is_a_tenants(void **state)
{
	struct world *world = *state;
	struct pool *p = pool_of(world);
	struct session *s = engine_session_open(p, "acme", "alpha", NULL);
	(void)snprintf(s->workspace, sizeof(s->workspace), "desk");
	all_ready(world);
	engine_on_worker_broken(s->worker, "test");
	all_ended(world, &(struct worker_end){.wait_status = 9});
	assert_null(engine_session_find(p, "acme", "alpha"));
	assert_false(open_session(world, "alpha")->after_loss);
	s = engine_session_open(p, "acme", "alpha", NULL);
	assert_true(s->after_loss);
	assert_string_equal(s->workspace, "desk");
}

static void a_lost_worker_takes_only_what_ran(void **state)
{
	struct world *world = *state;
	struct session *s = open_session(world, "alpha");
	struct execution *one = run(world, s, "os._exit(3)");
	struct execution *two = run(world, s, "two");
	char guid[TEXT_GUID_BYTES];
	all_ready(world);
	memcpy(guid, s->guid, sizeof(guid));
	engine_on_worker_broken(s->worker, "gone");
	all_ended(world, &(struct worker_end){.wait_status = 3 << 8});
	assert_int_equal(one->verdict, VERDICT_SESSION_KILLED);
	assert_non_null(strstr(one->reason, "status 3"));
	assert_int_equal(two->state, EXECUTION_RUNNING); /* in a fresh session, and it says so */
	assert_true(two->new_session);
	assert_string_not_equal(guid, two->session_guid);
	execution_unref(one);
	execution_unref(two);
}

static void the_memory_limit_has_its_own_verdict(void **state)
{
	struct world *world = *state;
	struct session *s = open_session(world, "alpha");
	struct execution *x = run(world, s, "bomb");
	all_ready(world);
	engine_on_worker_ended(s->worker, &(struct worker_end){.wait_status = 9, .oom_kills = 1});
	assert_int_equal(x->verdict, VERDICT_MEMORY_LIMIT);
	execution_unref(x);
}

static void limits_that_the_session_tells_become_verdicts(void **state)
{
	static const struct {
		uint8_t limit;
		enum verdict verdict;
	} cases[] = {
	    {IPC_LIMIT_MEMORY, VERDICT_MEMORY_LIMIT},
	    {IPC_LIMIT_PROCESSES, VERDICT_PROCESS_LIMIT},
	    {IPC_LIMIT_FILE_SPACE, VERDICT_FILE_SPACE_LIMIT},
	    {IPC_LIMIT_OPEN_FILES, VERDICT_OPEN_FILES_LIMIT},
	};
	struct world *world = *state;
	struct session *s = open_session(world, "alpha");
	all_ready(world);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct execution *x = run(world, s, "x");
		struct ipc_result r = {.status = IPC_STATUS_EXCEPTION, .limit = cases[i].limit};
		assert_int_equal(engine_on_result(s->worker, world->seq, &r), 0);
		assert_int_equal(x->verdict, cases[i].verdict);
		execution_unref(x);
	}
}

static void output_is_cut_and_counted(void **state)
{
	struct world *world = *state;
	struct session *s = open_session(world, "alpha");
	struct execution *x = run(world, s, "x");
	all_ready(world);
	engine_on_output(s->worker, OUTPUT_STDOUT, "12345", 5);
	engine_on_output(s->worker, OUTPUT_STDERR, "e", 1);
	engine_on_output(s->worker, OUTPUT_STDOUT, "67890", 5);
	answer(world, IPC_STATUS_OK);
	assert_string_equal(buf_str(&x->out), "12345678");
	assert_int_equal(x->out_cut_bytes, 2);
	assert_int_equal(x->err_cut_bytes, 0);
	assert_int_equal(x->run_count, 3); /* in the order it came */
	assert_int_equal(x->runs[1].kind, OUTPUT_STDERR);
	assert_int_equal(x->verdict, VERDICT_OUTPUT_LIMIT);
	assert_int_equal(x->state, EXECUTION_SUCCEEDED);
	execution_unref(x);
}

static void a_result_nobody_waits_for_is_refused(void **state)
{
	struct world *world = *state;
	struct session *s = open_session(world, "alpha");
	struct ipc_result r = {0};
	all_ready(world);
	assert_int_equal(engine_on_result(s->worker, 1, &r), -1);
	struct execution *x = run(world, s, "x");
	assert_int_equal(engine_on_result(s->worker, world->seq + 1, &r), -1);
	assert_int_equal(x->state, EXECUTION_RUNNING);
	execution_unref(x);
}

static void idle_sessions_cool_down(void **state)
{
	struct world *world = *state;
	struct session *s = open_session(world, "alpha");
	all_ready(world);
	engine_session_hold(s);
	engine_tick(world->engine, 1000000 + 20000);
	assert_ptr_equal(engine_session_find(pool_of(world), NULL, "alpha"), s);
	engine_session_unhold(
	    pool_of(world), "another guid", NULL, "alpha"); /* not this session's */
	engine_tick(world->engine, 1000000 + 30000);
	assert_ptr_equal(engine_session_find(pool_of(world), NULL, "alpha"), s);
	engine_session_unhold(pool_of(world), s->guid, NULL, "alpha");
	engine_tick(world->engine, 1000000 + 39999);
	assert_non_null(engine_session_find(pool_of(world), NULL, "alpha"));
	engine_tick(world->engine, 1000000 + 40000);
	assert_null(engine_session_find(pool_of(world), NULL, "alpha"));
	assert_int_equal(world->killed_count, 1);
}

static void starts_that_fail_back_off_and_are_told(void **state)
{
	struct world *world = *state;
	uint64_t now_ms = 1000000;
	struct session *s = open_session(world, "alpha");
	struct execution *x = run(world, s, "x");
	for (int i = 0; i < 20 && !execution_is_final(x); i++) {
		int count = world->spawned_count;
		world->spawned_count = 0;
		for (int k = 0; k < count; k++) {
			engine_on_worker_ended(world->spawned[k],
			    &(struct worker_end){.wait_status = -1, .reason = "no namespaces"});
		}
		now_ms += 20000;
		engine_tick(world->engine, now_ms);
	}
	assert_int_equal(x->state, EXECUTION_CANCELED);
	assert_int_equal(pool_of(world)->session_count, 0);
	execution_unref(x);
}

static void deleting_ends_everything_at_once(void **state)
{
	struct world *world = *state;
	struct session *s = open_session(world, "alpha");
	struct execution *one = run(world, s, "one");
	struct execution *two = run(world, s, "two");
	all_ready(world);
	engine_session_delete(s);
	assert_int_equal(one->verdict, VERDICT_SESSION_KILLED);
	assert_int_equal(two->state, EXECUTION_CANCELED);
	assert_int_equal(pool_of(world)->session_count, 0);
	assert_int_equal(pool_of(world)->executing_count, 0);
	assert_int_equal(world->killed_count, 1);
	execution_unref(one);
	execution_unref(two);
	all_ended(world, &(struct worker_end){.wait_status = 9});
}

static void draining_takes_no_new_work(void **state)
{
	struct world *world = *state;
	struct err e = {0};
	struct session *s = open_session(world, "alpha");
	struct execution *x = run(world, s, "x");
	all_ready(world);
	engine_drain(world->engine);
	assert_null(engine_session_open(pool_of(world), NULL, "beta", &e));
	assert_int_equal(e.code, ERR_UNAVAILABLE);
	struct execution_request r = {.code = {"y", 1}};
	assert_null(engine_execute(s, &r, &e));
	assert_int_equal(e.code, ERR_UNAVAILABLE);
	assert_int_equal(engine_active_executions(world->engine), 1);
	answer(world, IPC_STATUS_OK);
	assert_int_equal(engine_active_executions(world->engine), 0);
	execution_unref(x);
}

static void final_states_are_final(void **state)
{
	(void)state;
	for (int from = 0; from < EXECUTION_STATE_COUNT; from++) {
		for (int to = 0; to < EXECUTION_STATE_COUNT; to++) {
			if (from >= EXECUTION_SUCCEEDED || to == EXECUTION_QUEUED) {
				assert_false(execution_state_may_follow(
				    (enum execution_state)from, (enum execution_state)to));
			}
		}
	}
	assert_string_equal(execution_state_name(EXECUTION_CANCELED), "Canceled");
}

/* As if it had run for a tenth of a second. */
static void run_long(struct execution *x)
{
	x->started_us -= 100000;
}

static void children_killed_at_the_memory_limit_are_its_verdict(void **state)
{
	struct world *world = *state;
	struct session *s = open_session(world, "alpha");
	all_ready(world);
	struct execution *x = run(world, s, "quick");
	answer(world, IPC_STATUS_OK);
	assert_int_equal(x->verdict, VERDICT_SUCCEEDED);
	assert_int_equal(world->usage_asked, 0);
	execution_unref(x);
	x = run(world, s, "slow");
	run_long(x);
	answer(world, IPC_STATUS_OK);
	assert_int_equal(x->state, EXECUTION_RUNNING);
	assert_int_equal(world->usage_asked, 1);
	/* A second result meanwhile is one that nobody waits for. */
	struct ipc_result r = {.status = IPC_STATUS_OK};
	assert_int_equal(engine_on_result(s->worker, x->seq, &r), -1);
	engine_on_usage(s->worker, 2, 0);
	assert_int_equal(x->verdict, VERDICT_MEMORY_LIMIT);
	assert_int_equal(x->state, EXECUTION_FAILED);
	assert_int_equal(x->oom_kills, 2);
	execution_unref(x);
	/* What is killed of those that are left while they are ended is not the next one's doing.
	 */
	x = run(world, s, "while they go");
	run_long(x);
	answer(world, IPC_STATUS_OK);
	assert_int_equal(x->verdict, VERDICT_SUCCEEDED);
	assert_int_equal(world->usage_asked, 1);
	execution_unref(x);
	x = run(world, s, "when they have gone");
	run_long(x);
	engine_tick(world->engine, 1000000 + 100);
	assert_int_equal(world->usage_asked, 2);
	engine_on_usage(s->worker, 5, 0);
	answer(world, IPC_STATUS_EXCEPTION);
	assert_int_equal(world->usage_asked, 3);
	/* What has been counted is not counted again, whatever the result. */
	engine_on_usage(s->worker, 5, 0);
	assert_int_equal(x->verdict, VERDICT_EXCEPTION);
	execution_unref(x);
}

static void what_was_killed_between_executions_is_nobodys(void **state)
{
	struct world *world = *state;
	struct session *s = open_session(world, "alpha");
	all_ready(world);
	execution_unref(run(world, s, "leaves something running"));
	answer(world, IPC_STATUS_OK);
	engine_set_now(world->engine, 1000000 + 5000);
	struct execution *x = run(world, s, "much later");
	assert_int_equal(world->usage_asked, 1);
	run_long(x);
	answer(world, IPC_STATUS_OK);
	assert_int_equal(world->usage_asked, 2);
	engine_on_usage(s->worker, 3, 0); /* as it was before */
	assert_int_equal(x->state, EXECUTION_RUNNING);
	engine_on_usage(s->worker, 3, 0);
	assert_int_equal(x->verdict, VERDICT_SUCCEEDED);
	execution_unref(x);
}

static void a_result_counts_though_its_worker_ends(void **state)
{
	struct world *world = *state;
	struct session *s = open_session(world, "alpha");
	all_ready(world);
	struct worker *w = s->worker;
	struct execution *x = run(world, s, "slow");
	run_long(x);
	answer(world, IPC_STATUS_OK);
	engine_on_worker_broken(w, "test");
	all_ended(world, &(struct worker_end){.wait_status = 9});
	assert_int_equal(x->verdict, VERDICT_SUCCEEDED);
	execution_unref(x);
}

#define PACKAGES_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define PACKAGES_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

static void set_packages(struct world *world, const char *tenant, const char *name)
{
	struct err e = {0};
	assert_int_equal(
	    engine_packages_set(world->engine, tenant, &name, name != NULL ? 1 : 0, &e), 0);
}

static void expect_names(const struct worker *w, const char *wanted)
{
	struct buf b = BUF_INIT(4096);
	assert_int_equal(engine_packages_add_names(w, &b), 0);
	assert_string_equal(buf_str(&b), wanted);
	buf_fini(&b);
}

static void an_execution_waits_for_its_packages(void **state)
{
	struct world *world = *state;
	all_ready(world);
	set_packages(world, "acme", PACKAGES_A);
	struct session *s = engine_session_open(pool_of(world), "acme", "alpha", NULL);
	struct session *other = open_session(world, "alpha");
	all_ready(world);
	struct execution *x = run(world, s, "one");
	assert_int_equal(x->state, EXECUTION_QUEUED);
	assert_int_equal(world->mount_count, 1);
	assert_ptr_equal(world->mounting, s->worker);
	assert_string_equal(world->mounts[0], PACKAGES_A);
	expect_names(s->worker, "");
	/* Nobody else's session is concerned. */
	struct execution *y = run(world, other, "two");
	assert_int_equal(y->state, EXECUTION_RUNNING);
	assert_int_equal(world->mount_count, 1);
	answer(world, IPC_STATUS_OK);
	/* An answer about something else is none. */
	engine_on_mounted(s->worker, PACKAGES_B, NULL);
	assert_int_equal(x->state, EXECUTION_QUEUED);
	engine_on_mounted(s->worker, PACKAGES_A, NULL);
	assert_int_equal(x->state, EXECUTION_RUNNING);
	expect_names(s->worker, PACKAGES_A "\n");
	expect_names(other->worker, "");
	answer(world, IPC_STATUS_OK);
	/* It is not asked for again, and what is on the list no more is not told. */
	execution_unref(run(world, s, "again"));
	assert_int_equal(world->mount_count, 1);
	answer(world, IPC_STATUS_OK);
	set_packages(world, "acme", NULL);
	expect_names(s->worker, "");
	execution_unref(x);
	execution_unref(y);
}

static void packages_that_cannot_be_mounted_stop_nothing(void **state)
{
	struct world *world = *state;
	set_packages(world, NULL, PACKAGES_A);
	struct session *s = open_session(world, "alpha");
	all_ready(world);
	struct execution *x = run(world, s, "one");
	engine_on_mounted(s->worker, PACKAGES_A, "no such directory");
	assert_int_equal(x->state, EXECUTION_RUNNING);
	expect_names(s->worker, "");
	answer(world, IPC_STATUS_OK);
	execution_unref(x);
	x = run(world, s, "two");
	assert_int_equal(world->mount_count, 1);
	assert_int_equal(x->state, EXECUTION_RUNNING);
	execution_unref(x);
}

struct told {
	struct packages_waiter waiter;
	int calls;
	enum err_code code;
};

static void on_packages(void *ctx, const struct err *e)
{
	struct told *t = ctx;
	t->calls++;
	t->code = e != NULL ? e->code : ERR_NONE;
}

#define TOLD(name) struct told name = {.waiter = {.ready = on_packages, .ctx = &(name)}}

static void who_waits_for_packages_is_told_once(void **state)
{
	struct world *world = *state;
	struct session *s = open_session(world, "alpha");
	all_ready(world);
	TOLD(nothing);
	engine_packages_wait(s->worker, &nothing.waiter);
	assert_int_equal(nothing.calls, 1);
	assert_int_equal(nothing.code, ERR_NONE);
	struct execution *x = run(world, s, "runs while they come");
	set_packages(world, NULL, PACKAGES_A);
	TOLD(first);
	TOLD(second);
	engine_packages_wait(s->worker, &first.waiter);
	engine_packages_wait(s->worker, &second.waiter);
	assert_int_equal(world->mount_count, 1);
	engine_packages_unwait(s->worker, &second.waiter);
	engine_on_mounted(s->worker, PACKAGES_A, NULL);
	assert_int_equal(first.calls, 1);
	assert_int_equal(first.code, ERR_NONE);
	assert_int_equal(second.calls, 0);
	/* One that fails is told as such, at once the second time. */
	set_packages(world, NULL, PACKAGES_B);
	TOLD(third);
	TOLD(fourth);
	engine_packages_wait(s->worker, &third.waiter);
	engine_on_mounted(s->worker, PACKAGES_B, "no");
	engine_packages_wait(s->worker, &fourth.waiter);
	assert_int_equal(third.code, ERR_INTERNAL);
	assert_int_equal(fourth.code, ERR_INTERNAL);
	execution_unref(x);
}

static void a_session_that_ends_tells_who_waits_for_packages(void **state)
{
	struct world *world = *state;
	struct session *s = open_session(world, "alpha");
	all_ready(world);
	struct worker *w = s->worker;
	set_packages(world, NULL, PACKAGES_A);
	TOLD(t);
	engine_packages_wait(w, &t.waiter);
	engine_session_delete(s);
	engine_on_mounted(w, PACKAGES_A, NULL);
	TOLD(late);
	engine_packages_wait(w, &late.waiter);
	assert_int_equal(late.code, ERR_GONE);
	all_ended(world, &(struct worker_end){.wait_status = 9});
	assert_int_equal(t.calls, 1);
	assert_int_equal(t.code, ERR_GONE);
}

static void packages_are_bounded_and_checked(void **state)
{
	struct world *world = *state;
	const char *names[ENGINE_PACKAGES_MAX + 1];
	static const char *const bad[] = {"", "a", "../" PACKAGES_A, PACKAGES_A "a",
	    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"};
	struct err e = {0};
	for (size_t i = 0; i < array_len(bad); i++) {
		assert_int_equal(engine_packages_set(world->engine, NULL, &bad[i], 1, &e), -1);
		assert_int_equal(e.code, ERR_INVALID);
	}
	for (size_t i = 0; i < array_len(names); i++) {
		names[i] = PACKAGES_A;
	}
	assert_int_equal(engine_packages_set(world->engine, NULL, names, array_len(names), &e), -1);
	assert_int_equal(e.code, ERR_TOO_LARGE);
	assert_int_equal(engine_packages_set(world->engine, "../x", names, 1, &e), -1);
	assert_int_equal(e.code, ERR_INVALID);
}

static void what_is_held_is_counted(void **state)
{
	struct world *world = *state;
	struct session *s = open_session(world, "alpha");
	struct execution *x = run(world, s, "12345");
	assert_int_equal(world->engine->held.held, 5);
	all_ready(world);
	assert_int_equal(world->engine->held.held, 0); /* the code has been sent */
	engine_on_output(s->worker, OUTPUT_STDOUT, "1234567890", 10);
	assert_int_equal(world->engine->held.held, 8);
	answer(world, IPC_STATUS_OK);
	execution_unref(x);
	engine_session_delete(s);
	assert_int_equal(world->engine->held.held, 0);
}

/* A tenant that fills its share is cut; another is not, and what was filled comes back. */
static void what_is_held_has_a_share_for_each_tenant(void **state)
{
	struct world *world = *state;
	struct engine *en = world->engine;
	en->held.max = 12;
	for (int round = 0; round < 3; round++) {
		struct err e;
		struct session *greedy = engine_session_open(&en->pools[0], "greedy", "alpha", &e);
		struct session *other = engine_session_open(&en->pools[0], "other", "alpha", &e);
		all_ready(world);
		struct execution *x = run(world, greedy, "123456");
		engine_on_output(greedy->worker, OUTPUT_STDOUT, "123456", 6);
		assert_int_equal(x->out.len, 6); /* half, exactly */
		engine_on_output(greedy->worker, OUTPUT_STDERR, "7", 1);
		assert_int_equal(x->err.len, 0);
		assert_int_equal(x->err_cut_bytes, 1);
		struct execution_request r = {.code = {"1", 1}};
		assert_null(engine_execute(greedy, &r, &e));
		assert_int_equal(e.code, ERR_BUSY);

		struct execution *y = run(world, other, "abc");
		engine_on_output(other->worker, OUTPUT_STDOUT, "abc", 3);
		assert_int_equal(y->out.len, 3);
		assert_int_equal(y->out_cut_bytes, 0);
		execution_unref(x);
		execution_unref(y);
		engine_session_delete(greedy);
		engine_session_delete(other);
		assert_int_equal(en->held.held, 0);
	}
}

/* A value that there is no room for is not kept, and the answer says that something was cut. */
static void a_value_past_the_share_is_cut(void **state)
{
	struct world *world = *state;
	world->engine->held.max = 8;
	struct session *s = open_session(world, "alpha");
	all_ready(world);
	struct execution *x = run(world, s, "1");
	const struct ipc_result r = {.kind = IPC_KIND_STR, .text = {"12345", 5}};
	assert_int_equal(engine_on_result(s->worker, x->seq, &r), 0);
	assert_int_equal(x->value.text.len, 0);
	assert_int_equal(x->verdict, VERDICT_OUTPUT_LIMIT);
	execution_unref(x);
}

static void who_was_ended_by_the_server_is_told_why(void **state)
{
	struct world *world = *state;
	struct session *s = open_session(world, "alpha");
	all_ready(world);
	struct execution *x = run(world, s, "1");
	struct worker *w = s->worker;
	engine_on_worker_broken(w, "it sends descriptors");
	const struct worker_end end = {.wait_status = SIGKILL};
	engine_on_worker_ended(w, &end);
	assert_int_equal(x->verdict, VERDICT_SESSION_KILLED);
	assert_string_equal(x->reason, "the server ended it: it sends descriptors");
	execution_unref(x);
}

/* --- exact bounds --------------------------------------------------------------------------------
 */

#define ID_BYTES sizeof(((struct execution *)NULL)->id)

/* One that has ended, as the oldest or newest that the session keeps; its id into ID. */
static void run_one(struct world *world, struct session *s, char id[ID_BYTES])
{
	struct execution *x = run(world, s, "x");
	memcpy(id, x->id, ID_BYTES);
	answer(world, IPC_STATUS_OK);
	execution_unref(x);
}

static void so_many_finished_ones_are_kept_and_no_more(void **state)
{
	struct world *world = *state;
	struct session *s = open_session(world, "alpha");
	char first[ID_BYTES];
	char second[ID_BYTES];
	char later[ID_BYTES];
	all_ready(world);
	run_one(world, s, first);
	run_one(world, s, second);
	for (int i = 2; i < ENGINE_FINISHED_MAX; i++) {
		run_one(world, s, later);
	}
	assert_int_equal(s->finished_len, ENGINE_FINISHED_MAX);
	assert_non_null(engine_execution_find(s, first));
	run_one(world, s, later);
	assert_int_equal(s->finished_len, ENGINE_FINISHED_MAX);
	assert_null(engine_execution_find(s, first));
	assert_non_null(engine_execution_find(s, second));
	assert_non_null(engine_execution_find(s, later));
}

/* Whoever gets the fresh session is not to read what ran in the one before. */
static void a_lost_session_keeps_nothing_of_what_ended(void **state)
{
	struct world *world = *state;
	struct session *s = open_session(world, "alpha");
	char ended[ID_BYTES];
	all_ready(world);
	run_one(world, s, ended);
	execution_unref(run(world, s, "os._exit(3)"));
	struct execution *next = run(world, s, "in the fresh one");
	engine_on_worker_broken(s->worker, "gone");
	all_ended(world, &(struct worker_end){.wait_status = 3 << 8});
	assert_true(next->new_session);
	assert_null(engine_execution_find(s, ended));
	assert_int_equal(s->finished_len, 0);
	assert_int_equal(s->finished_bytes, 0);
	execution_unref(next);
}

static void show(struct session *s, uint64_t seq)
{
	struct display *d = calloc(1, sizeof(*d));
	assert_non_null(d);
	engine_on_display(s->worker, seq, d);
}

static void so_many_displays_are_kept_and_no_more(void **state)
{
	struct world *world = *state;
	struct session *s = open_session(world, "alpha");
	all_ready(world);
	struct execution *x = run(world, s, "x");
	show(s, x->seq + 1); /* another's */
	show(s, x->seq - 1);
	assert_int_equal(x->display_count, 0);
	for (int i = 0; i < ENGINE_DISPLAYS_MAX; i++) {
		show(s, x->seq);
	}
	assert_int_equal(x->display_count, ENGINE_DISPLAYS_MAX);
	assert_int_equal(x->displays_cut, 0);
	show(s, x->seq);
	assert_int_equal(x->display_count, ENGINE_DISPLAYS_MAX);
	assert_int_equal(x->displays_cut, 1);
	answer(world, IPC_STATUS_OK);
	assert_int_equal(x->verdict, VERDICT_OUTPUT_LIMIT);
	execution_unref(x);
}

static void a_caller_may_ask_for_less_than_the_pool_allows(void **state)
{
	struct world *world = *state;
	static const struct {
		uint32_t time, output;
		uint32_t given_time, given_output;
	} cases[] = {{0, 0, 5000, 8}, {1, 1, 1, 1}, {5000, 8, 5000, 8}, {5001, 9, 5000, 8}};
	struct session *s = open_session(world, "alpha");
	for (size_t i = 0; i < array_len(cases); i++) {
		struct execution_request r = {.code = {"x", 1},
		    .timeout_ms = cases[i].time,
		    .output_max_bytes = cases[i].output};
		struct err e = {0};
		struct execution *x = engine_execute(s, &r, &e);
		assert_non_null(x);
		assert_int_equal(x->timeout_ms, cases[i].given_time);
		assert_int_equal(x->output_max_bytes, cases[i].given_output);
		execution_unref(x);
	}
}

/* Code that raises KeyboardInterrupt itself. */
static void an_interrupt_that_nobody_asked_for_is_the_codes(void **state)
{
	struct world *world = *state;
	struct session *s = open_session(world, "alpha");
	all_ready(world);
	struct execution *x = run(world, s, "raise KeyboardInterrupt");
	answer(world, IPC_STATUS_INTERRUPTED);
	assert_int_equal(x->verdict, VERDICT_EXCEPTION);
	execution_unref(x);
}

static void after_a_failed_start_the_next_one_waits(void **state)
{
	struct world *world = *state;
	const struct worker_end end = {.wait_status = -1, .reason = "no namespaces"};
	uint64_t now_ms = 1000000;
	(void)open_session(world, "alpha");
	for (uint64_t wait_ms = 100; wait_ms < 800; wait_ms *= 2) {
		int count = world->spawned_count;
		engine_on_worker_ended(world->spawned[count - 1], &end);
		world->spawned[count - 1] = NULL;
		engine_tick(world->engine, now_ms + wait_ms - 1);
		assert_int_equal(world->spawned_count, count);
		engine_tick(world->engine, now_ms + wait_ms);
		assert_int_equal(world->spawned_count, count + 1);
		now_ms += wait_ms;
	}
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    TEST(pools_fill_themselves),
	    TEST(few_start_at_once_and_all_get_one),
	    TEST(a_full_pool_refuses_until_a_place_is_free),
	    TEST(a_reserved_session_is_entered_by_nobody_else),
	    TEST(identifiers_are_checked),
	    TEST(executions_run_one_at_a_time_in_order),
	    TEST(a_queue_is_bounded),
	    TEST(an_id_is_used_once),
	    TEST(past_the_deadline_it_is_interrupted_then_killed),
	    TEST(a_paused_execution_has_no_deadline),
	    TEST(pauses_are_counted),
	    TEST(computing_in_a_pause_counts),
	    TEST(who_is_paused_goes_on_without_its_client),
	    TEST(a_paused_execution_ends_with_its_session),
	    TEST(a_swallowed_interrupt_is_still_the_time_limit),
	    TEST(nothing_starts_while_a_signal_is_on_its_way),
	    TEST(cancel_takes_a_queued_one_out),
	    TEST(tenants_do_not_meet),
	    TEST(tenants_names_are_checked),
	    TEST(a_loss_is_a_tenants),
	    TEST(a_lost_worker_takes_only_what_ran),
	    TEST(the_memory_limit_has_its_own_verdict),
	    TEST(limits_that_the_session_tells_become_verdicts),
	    TEST(output_is_cut_and_counted),
	    TEST(a_result_nobody_waits_for_is_refused),
	    TEST(idle_sessions_cool_down),
	    TEST(starts_that_fail_back_off_and_are_told),
	    TEST(deleting_ends_everything_at_once),
	    TEST(draining_takes_no_new_work),
	    TEST(final_states_are_final),
	    TEST(children_killed_at_the_memory_limit_are_its_verdict),
	    TEST(what_was_killed_between_executions_is_nobodys),
	    TEST(a_result_counts_though_its_worker_ends),
	    TEST(an_execution_waits_for_its_packages),
	    TEST(packages_that_cannot_be_mounted_stop_nothing),
	    TEST(who_waits_for_packages_is_told_once),
	    TEST(a_session_that_ends_tells_who_waits_for_packages),
	    TEST(packages_are_bounded_and_checked),
	    TEST(what_is_held_is_counted),
	    TEST(what_is_held_has_a_share_for_each_tenant),
	    TEST(a_value_past_the_share_is_cut),
	    TEST(who_was_ended_by_the_server_is_told_why),
	    TEST(so_many_finished_ones_are_kept_and_no_more),
	    TEST(a_lost_session_keeps_nothing_of_what_ended),
	    TEST(so_many_displays_are_kept_and_no_more),
	    TEST(a_caller_may_ask_for_less_than_the_pool_allows),
	    TEST(an_interrupt_that_nobody_asked_for_is_the_codes),
	    TEST(after_a_failed_start_the_next_one_waits),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
