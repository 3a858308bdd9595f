#include "engine/engine.h"

#include <stdlib.h>
#include <string.h>

#include "engine/internal.h"

struct engine *engine_new(
    const struct engine_config *c, const struct engine_ops *ops, void *ops_ctx)
{
	struct engine *en = calloc(1, sizeof(*en));
	if (en == NULL) {
		return NULL;
	}
	en->config = *c;
	en->ops = ops;
	en->ops_ctx = ops_ctx;
	en->held = (struct quota)QUOTA_INIT(ENGINE_HELD_BYTES_MAX);
	en->pool_count = c->pool_count;
	for (uint32_t i = 0; i < c->pool_count; i++) {
		pool_init(&en->pools[i], en, i, &c->pools[i]);
	}
	return en;
}

void engine_set_workspaces(struct engine *en, engine_workspace_fn fn, void *ctx)
{
	en->workspace_of = fn;
	en->workspace_ctx = ctx;
}

void engine_set_limits(struct engine *en, const struct engine_config *c)
{
	for (uint32_t i = 0; i < en->pool_count && i < c->pool_count; i++) {
		pool_set_limits(&en->pools[i], &c->pools[i]);
	}
}

void engine_free(struct engine *en)
{
	if (en == NULL) {
		return;
	}
	en->draining = true;
	for (uint32_t i = 0; i < en->pool_count; i++) {
		struct session *s;
		struct session *next;
		HASH_ITER(by_key, en->pools[i].sessions, s, next)
		{
			session_end(s, VERDICT_SESSION_KILLED, NULL);
		}
		pool_fini(&en->pools[i]);
	}
	struct worker *w;
	struct worker *next;
	HASH_ITER(by_id, en->workers, w, next)
	{
		HASH_DELETE(by_id, en->workers, w);
		en->ops->release(en->ops_ctx, w);
		packages_release(w);
		free(w);
	}
	packages_forget(en);
	quota_fini(&en->held);
	free(en);
}

struct pool *engine_pool(struct engine *en, const char *name)
{
	if (name == NULL || *name == '\0') {
		return &en->pools[0];
	}
	for (uint32_t i = 0; i < en->pool_count; i++) {
		if (strcmp(en->pools[i].config.name, name) == 0) {
			return &en->pools[i];
		}
	}
	return NULL;
}

void engine_set_now(struct engine *en, uint64_t now_ms)
{
	en->now_ms = now_ms;
}

void engine_start(struct engine *en)
{
	for (uint32_t i = 0; i < en->pool_count; i++) {
		pool_refill(&en->pools[i]);
	}
}

void engine_tick(struct engine *en, uint64_t now_ms)
{
	en->now_ms = now_ms;
	for (uint32_t i = 0; i < en->pool_count; i++) {
		struct session *s;
		struct session *next;
		HASH_ITER(by_key, en->pools[i].sessions, s, next)
		{
			session_tick(s);
		}
		pool_refill(&en->pools[i]);
	}
}

void engine_work(struct engine *en, uint64_t worker_id, const char *tenant, struct engine_job *j)
{
	en->ops->work(en->ops_ctx, worker_id, tenant, j);
}

void engine_work_cancel(struct engine *en, struct engine_job *j)
{
	en->ops->cancel_work(en->ops_ctx, j);
}

void engine_drain(struct engine *en)
{
	en->draining = true;
}

uint32_t engine_active_executions(const struct engine *en)
{
	uint32_t active = 0;
	for (uint32_t i = 0; i < en->pool_count; i++) {
		struct session *s;
		struct session *next;
		HASH_ITER(by_key, en->pools[i].sessions, s, next)
		{
			active += s->queue_len;
		}
	}
	return active;
}
