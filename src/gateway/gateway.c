#include "gateway/gateway.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/fd.h"
#include "gateway/internal.h"

/* --- what the engine asks for --------------------------------------------------------------------
 */

static void op_spawn(void *ctx, struct worker *w)
{
	cleanup(buf_fini) struct buf body = BUF_INIT(16);
	(void)ipc_u32_encode(w->pool->index, &body);
	keeper_link_send(ctx, IPC_SPAWN, w->id, &body);
}

static void op_kill(void *ctx, struct worker *w)
{
	if (w->link != NULL) {
		host_calls_end(w->link);
	}
	keeper_link_send(ctx, IPC_KILL, w->id, &BUF_INIT(0));
}

static void op_interrupt(void *ctx, struct worker *w)
{
	/* The signal may arrive before the session has read its code, and is then lost. */
	if (w->session != NULL && w->session->queue != NULL) {
		link_cancel(w->link, w->session->queue->seq);
		host_calls_interrupt(w->link);
	}
	keeper_link_send(ctx, IPC_INTERRUPT, w->id, &BUF_INIT(0));
}

static int op_execute(void *ctx, struct worker *w, struct execution *x)
{
	(void)ctx;
	return link_execute(w->link, x);
}

static void op_release(void *ctx, struct worker *w)
{
	(void)ctx;
	link_close(w->link);
	w->link = NULL;
	w->data_dir_fd = -1;
}

static void op_mount(void *ctx, struct worker *w, const char *name)
{
	cleanup(buf_fini) struct buf body = BUF_INIT(256);
	(void)ipc_text_encode(name, &body);
	keeper_link_send(ctx, IPC_MOUNT, w->id, &body);
}

static void op_usage(void *ctx, struct worker *w)
{
	keeper_link_send(ctx, IPC_USAGE, w->id, &BUF_INIT(0));
}

static void op_work(void *ctx, uint64_t worker_id, const char *tenant, struct engine_job *j)
{
	const struct gateway *g = ctx;
	work_add(g->work, worker_id, WORK_FILES, tenant, j);
}

static void op_cancel_work(void *ctx, struct engine_job *j)
{
	const struct gateway *g = ctx;
	work_cancel(g->work, j);
}

static const struct engine_ops ops = {
    .spawn = op_spawn,
    .kill = op_kill,
    .interrupt = op_interrupt,
    .execute = op_execute,
    .release = op_release,
    .mount = op_mount,
    .usage = op_usage,
    .work = op_work,
    .cancel_work = op_cancel_work,
};

/* --- life ----------------------------------------------------------------------------------------
 */

static void on_tick(uv_timer_t *timer)
{
	struct gateway *g = timer->data;
	uint64_t now_ms = clock_mono_ms();
	struct worker *w;
	struct worker *next;
	HASH_ITER(by_id, g->engine->workers, w, next)
	{
		if (w->link != NULL) {
			link_tick(w->link, now_ms);
		}
	}
	engine_tick(g->engine, now_ms);
}

/* A turn goes from the end of the loop's sleep to the next: what it did is time that nobody else
 * was served. */
static void on_turn(uv_prepare_t *handle)
{
	struct gateway *g = handle->data;
	uint64_t now_ns = uv_hrtime();
	uint64_t idle_ns = uv_metrics_idle_time(g->loop);
	uint64_t slept_ns = idle_ns - g->idle_ns;
	if (g->turn_began_ns != 0 && now_ns - g->turn_began_ns >= slept_ns) {
		histogram_add(&g->engine->turn, (now_ns - g->turn_began_ns - slept_ns) / 1000);
	}
	g->turn_began_ns = now_ns;
	g->idle_ns = idle_ns;
}

struct gateway *gateway_new(uv_loop_t *loop, const struct gateway_config *config,
    gateway_keeper_fn on_keeper, void *ctx, struct err *e)
{
	struct gateway *g = calloc(1, sizeof(*g));
	if (g == NULL) {
		(void)err_set(e, ERR_INTERNAL, "out of memory");
		return NULL;
	}
	g->loop = loop;
	g->on_keeper = on_keeper;
	g->ctx = ctx;
	g->keeper_fd = -1;
	g->scratch = IPC_MESSAGE_INIT(GATEWAY_MESSAGE_MAX_BYTES);
	g->partial = (struct quota)QUOTA_INIT(GATEWAY_PARTIAL_MAX_BYTES);
	g->replies = (struct quota)QUOTA_INIT(GATEWAY_ALL_REPLIES_MAX_BYTES);
	g->work = work_new(loop);
	g->engine = g->work == NULL ? NULL : engine_new(&config->engine, &ops, g);
	if (g->engine == NULL) {
		(void)err_set(e, ERR_INTERNAL, "out of memory");
	} else {
		engine_set_now(g->engine, clock_mono_ms());
	}
	if (g->engine == NULL || keeper_link_start(g, config, e) < 0) {
		keeper_link_stop(g);
		engine_free(g->engine);
		work_free(g->work);
		free(g);
		return NULL;
	}
	(void)uv_timer_init(loop, &g->tick);
	g->tick.data = g;
	(void)uv_timer_start(&g->tick, on_tick, ENGINE_TICK_MS, ENGINE_TICK_MS);
	(void)uv_loop_configure(loop, UV_METRICS_IDLE_TIME);
	(void)uv_prepare_init(loop, &g->turn);
	g->turn.data = g;
	(void)uv_prepare_start(&g->turn, on_turn);
	return g;
}

struct engine *gateway_engine(struct gateway *g)
{
	return g->engine;
}

void gateway_set_limits(struct gateway *g, const struct engine_config *c)
{
	for (uint32_t i = 0; i < g->engine->pool_count && i < c->pool_count; i++) {
		cleanup(buf_fini) struct buf body = BUF_INIT(64);
		(void)ipc_pool_limits_encode(&c->pools[i].limits, &body);
		keeper_link_send(g, IPC_POOL_LIMITS, i, &body);
	}
	engine_set_limits(g->engine, c);
}

void gateway_set_host_calls(struct gateway *g, const struct host_call_handler *h, void *ctx)
{
	g->host_calls = h;
	g->host_calls_ctx = ctx;
}

static void on_closed(uv_handle_t *handle)
{
	struct gateway *g = handle->data;
	g->open--;
}

void gateway_free(struct gateway *g)
{
	if (g == NULL) {
		return;
	}
	g->keeper_gone = true;
	engine_free(g->engine);
	g->tick.data = g->turn.data = g->keeper_poll.data = g;
	g->open += 3;
	uv_close((uv_handle_t *)&g->tick, on_closed);
	uv_close((uv_handle_t *)&g->turn, on_closed);
	uv_close((uv_handle_t *)&g->keeper_poll, on_closed);
	keeper_link_stop(g);
	/* Others may have handles on the loop that stay: the store's, the runner's. */
	while (g->open > 0) {
		(void)uv_run(g->loop, UV_RUN_ONCE);
	}
	work_free(g->work);
	ipc_message_fini(&g->scratch);
	quota_fini(&g->partial);
	quota_fini(&g->replies);
	free(g);
}
