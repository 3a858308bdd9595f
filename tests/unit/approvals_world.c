#include "approvals_world.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/compiler.h"
#include "base/fd.h"

static int64_t passed_us;

const struct approvals_who world_alice = {.name = "alice", .tenant = "red", .own = true};
const struct approvals_who world_bob = {.name = "bob", .tenant = "red", .own = true};
const struct approvals_who world_admin = {.name = "admin", .every_tenant = true, .own = true};

static int64_t wall_us(void)
{
	return clock_wall_us() + passed_us;
}

void world_pass_us(int64_t us)
{
	passed_us += us;
}

/* --- workers -------------------------------------------------------------------------------------
 */

static struct world_worker *place_of(struct world *w, const struct worker *worker)
{
	size_t i = 0;
	while (i < WORLD_WORKERS_MAX && w->workers[i].worker != worker) {
		i++;
	}
	assert_true(i < WORLD_WORKERS_MAX);
	return &w->workers[i];
}

static void op_spawn(void *ctx, struct worker *worker)
{
	struct world *w = ctx;
	struct world_worker *at = place_of(w, NULL);
	*at = (struct world_worker){.worker = worker, .dir_fd = -1};
	(void)snprintf(at->dir, sizeof(at->dir), "%s/data-XXXXXX", w->base);
	assert_non_null(mkdtemp(at->dir));
	at->dir_fd = open(at->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void op_kill(void *ctx, struct worker *worker)
{
	place_of(ctx, worker)->killed = true;
}

static void op_interrupt(void *ctx, struct worker *worker)
{
	place_of(ctx, worker)->interrupted = true;
}

static int op_execute(void *ctx, struct worker *worker, struct execution *x)
{
	struct world_worker *at = place_of(ctx, worker);
	at->executing = true;
	at->seq = x->seq;
	(void)snprintf(at->code, sizeof(at->code), "%s", buf_str(&x->code));
	return 0;
}

static void op_release(void *ctx, struct worker *worker)
{
	struct world_worker *at = place_of(ctx, worker);
	fd_close(&at->dir_fd);
	at->worker = NULL;
}

static void op_mount(void *ctx, struct worker *worker, const char *name)
{
	(void)ctx;
	(void)worker;
	(void)name;
}

static void op_usage(void *ctx, struct worker *worker)
{
	(void)ctx;
	engine_on_usage(worker, 0, 0);
}

static const struct engine_ops ops = {
    op_spawn, op_kill, op_interrupt, op_execute, op_release, op_mount, op_usage};

static void settle(struct world *w, struct world_worker *at)
{
	const struct worker_end end = {.wait_status = w->no_workers && !at->ready ? -1 : 0};
	if (at->worker == NULL) {
		return;
	}
	if (at->killed || (w->no_workers && !at->ready)) {
		engine_on_worker_ended(at->worker, &end);
		at->worker = NULL;
		at->executing = false;
	} else if (!at->ready) {
		at->ready = true;
		engine_on_worker_ready(at->worker, at->dir_fd);
	} else if (at->interrupted) {
		at->interrupted = false;
		engine_on_interrupted(at->worker);
		if (at->executing) {
			const struct ipc_result r = {.status = IPC_STATUS_INTERRUPTED};
			world_answer_with(at, &r);
		}
	}
}

void world_turn(struct world *w)
{
	(void)uv_run(&w->loop, UV_RUN_NOWAIT);
	engine_set_now(w->engine, clock_mono_ms());
	for (size_t i = 0; i < WORLD_WORKERS_MAX; i++) {
		settle(w, &w->workers[i]);
	}
	engine_tick(w->engine, clock_mono_ms());
	(void)poll(NULL, 0, 1);
}

void world_turns(struct world *w, int count)
{
	for (int i = 0; i < count; i++) {
		world_turn(w);
	}
}

struct world_worker *world_running(struct world *w, const char *text)
{
	for (size_t i = 0; i < WORLD_WORKERS_MAX; i++) {
		struct world_worker *at = &w->workers[i];
		if (at->worker != NULL && at->executing && !at->killed &&
		    strstr(at->code, text) != NULL) {
			return at;
		}
	}
	return NULL;
}

unsigned world_running_count(const struct world *w)
{
	unsigned n = 0;
	for (size_t i = 0; i < WORLD_WORKERS_MAX; i++) {
		n += w->workers[i].worker != NULL && w->workers[i].executing &&
		     !w->workers[i].killed;
	}
	return n;
}

void world_answer_with(struct world_worker *at, const struct ipc_result *r)
{
	assert_non_null(at);
	at->executing = false;
	assert_int_equal(engine_on_result(at->worker, at->seq, r), 0);
}

void world_answer(struct world_worker *at, const char *value)
{
	struct ipc_result r = {.status = IPC_STATUS_OK, .duration_us = 1500};
	if (value != NULL) {
		r.kind = IPC_KIND_OTHER;
		r.json = (struct ipc_bytes){value, strlen(value)};
	}
	world_answer_with(at, &r);
}

/* --- beginning and end ---------------------------------------------------------------------------
 */

static void make_engine(struct world *w)
{
	struct engine_config *c = calloc(1, sizeof(*c));
	c->pool_count = 2;
	c->grace_ms = 1000;
	c->finished_keep_ms = 3600000;
	for (uint32_t i = 0; i < 2; i++) {
		struct pool_config *p = &c->pools[i];
		(void)snprintf(p->name, sizeof(p->name), "%s", i == 0 ? "default" : "other");
		p->max_sessions = 2 - i;
		p->cooldown_ms = 60000;
		p->execution_time_ms = 30000;
		p->output_max_bytes = 16U << 20;
	}
	w->engine = engine_new(c, &ops, w);
	free(c);
	engine_set_now(w->engine, clock_mono_ms());
	engine_start(w->engine);
}

struct world *world_new(void)
{
	static const char *const prefixes[] = {"https://hooks.example.com/in"};
	struct world *w = calloc(1, sizeof(*w));
	struct err e = {0};
	passed_us = 0;
	(void)snprintf(w->base, sizeof(w->base), "/tmp/carrel-approvals-XXXXXX");
	assert_non_null(mkdtemp(w->base));
	(void)snprintf(w->url, sizeof(w->url), "sqlite:%s/approvals.db", w->base);
	assert_int_equal(uv_loop_init(&w->loop), 0);
	make_engine(w);
	fake_runner_init(&w->runner);
	char dir[96];
	(void)snprintf(dir, sizeof(dir), "%s/store", w->base);
	w->store = store_new(&w->loop, &(struct store_config){.dir = dir}, &e);
	assert_string_equal(e.text, "");
	for (size_t i = 0; i < array_len(w->pools); i++) {
		w->pools[i] = (struct approvals_pool){.policies = {true, true, true, true},
		    .deadline_ms = 3600000,
		    .deadline_max_ms = 86400000};
	}
	w->config = (struct approvals_config){
	    .engine = w->engine,
	    .store = w->store,
	    .runner = &w->runner,
	    .url = w->url,
	    .callback_prefixes = prefixes,
	    .callback_prefix_count = 1,
	    .callback_secret = "hook",
	    .callback_attempts = 3,
	    .runs_max = 4,
	    .open_max = 100,
	    .keep_ms = 86400000,
	    .lease_ms = 10000,
	    .pools = w->pools,
	    .wall_us = wall_us,
	};
	return w;
}

struct approvals *world_open(struct world *w)
{
	struct err e = {0};
	struct approvals *a = approvals_new(&w->loop, &w->config, &e);
	assert_string_equal(e.text, "");
	assert_non_null(a);
	approvals_start(a);
	return a;
}

void world_close(struct world *w, struct approvals **a)
{
	approvals_stop(*a);
	approvals_free(*a);
	*a = NULL;
	(void)uv_run(&w->loop, UV_RUN_NOWAIT);
}

static void remove_all(const char *path)
{
	pid_t child = fork();
	if (child == 0) {
		(void)execl("/bin/rm", "rm", "-rf", path, (char *)NULL);
		_exit(127);
	}
	(void)waitpid(child, NULL, 0);
}

int world_teardown(void **state)
{
	struct world *w = *state;
	approvals_stop(w->a);
	approvals_stop(w->b);
	engine_free(w->engine);
	approvals_free(w->a);
	approvals_free(w->b);
	store_free(w->store);
	(void)uv_run(&w->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&w->loop), 0);
	fake_runner_fini(&w->runner);
	remove_all(w->base);
	free(w);
	return 0;
}

/* --- calls ---------------------------------------------------------------------------------------
 */

void world_told(void *ctx, const json_t *answer, const struct err *e)
{
	struct world_answer *out = ctx;
	assert_false(out->called);
	assert_true((answer == NULL) != (e == NULL));
	out->called = true;
	out->json = json_deep_copy(answer);
	if (e != NULL) {
		out->e = *e;
	}
}

struct world_answer world_ask_submit(struct world *w, struct approvals *a,
    const struct approvals_who *who, json_t *request, const char *key)
{
	struct world_answer out = {0};
	(void)approvals_submit(a, who, NULL, request, key, world_told, &out);
	world_until(w, out.called);
	json_decref(request);
	return out;
}

struct world_answer world_ask_get(
    struct world *w, struct approvals *a, const struct approvals_who *who, const char *id)
{
	struct world_answer out = {0};
	(void)approvals_get(a, who, id, world_told, &out);
	world_until(w, out.called);
	return out;
}

struct world_answer world_ask_decide(struct world *w, struct approvals *a,
    const struct approvals_who *who, const char *id, const char *stage, bool approve)
{
	struct world_answer out = {0};
	(void)approvals_decide(a, who, id,
	    &(struct approvals_decision){
		.stage = stage, .approve = approve, .by = "Bob B.", .reason = "seen"},
	    world_told, &out);
	world_until(w, out.called);
	return out;
}

struct world_answer world_ask_cancel(
    struct world *w, struct approvals *a, const struct approvals_who *who, const char *id)
{
	struct world_answer out = {0};
	(void)approvals_cancel(a, who, id, "not needed", world_told, &out);
	world_until(w, out.called);
	return out;
}

struct world_answer world_ask_list(
    struct world *w, struct approvals *a, const struct approvals_who *who, const char *state)
{
	struct world_answer out = {0};
	(void)approvals_list(a, who, state, NULL, NULL, 50, world_told, &out);
	world_until(w, out.called);
	return out;
}

const char *world_submit(
    struct world *w, struct approvals *a, const char *code, const char *policy, json_t *more)
{
	static char ids[4][64];
	static unsigned next;
	char *id = ids[next++ % 4];
	json_t *request = json_pack("{s:s, s:s*}", "code", code, "policy", policy);
	if (more != NULL) {
		(void)json_object_update(request, more);
		json_decref(more);
	}
	struct world_answer out = world_ask_submit(w, a, &world_alice, request, NULL);
	assert_string_equal(out.e.text, "");
	assert_true(json_is_true(json_object_get(out.json, "created")));
	(void)snprintf(id, sizeof(ids[0]), "%s",
	    json_string_value(json_object_get(json_object_get(out.json, "approval"), "id")));
	json_decref(out.json);
	return id;
}

json_t *world_get(struct world *w, struct approvals *a, const char *id)
{
	struct world_answer out = world_ask_get(w, a, &world_admin, id);
	assert_string_equal(out.e.text, "");
	return out.json;
}

const char *world_state(struct world *w, struct approvals *a, const char *id)
{
	static char state[32];
	struct world_answer out = world_ask_get(w, a, &world_admin, id);
	const char *text = json_string_value(
	    json_object_get(json_object_get(out.json, "approval"), "state"));
	(void)snprintf(state, sizeof(state), "%s", text != NULL ? text : "");
	json_decref(out.json);
	return state;
}

unsigned world_events(struct world *w, struct approvals *a, const char *id, const char *kind)
{
	unsigned n = 0;
	size_t i;
	json_t *event;
	json_t *all = world_get(w, a, id);
	json_array_foreach(json_object_get(all, "events"), i, event)
	{
		n += strcmp(json_string_value(json_object_get(event, "kind")), kind) == 0;
	}
	json_decref(all);
	return n;
}

void world_decide(
    struct world *w, struct approvals *a, const char *id, const char *stage, bool approve)
{
	struct world_answer out = world_ask_decide(w, a, &world_bob, id, stage, approve);
	assert_string_equal(out.e.text, "");
	json_decref(out.json);
}
