#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <utlist.h>

#include "base/log.h"
#include "engine/internal.h"

/* Workers being started at once. The keeper forks one after the other and a fork is a third of a
 * start, so more only share the processors, and take them from sessions that work: each has a
 * control group of its own, and with it a share as large as theirs. */
#define STARTING_MAX 4
#define LOST_MAX 1024
#define FAILED_STARTS_MAX 5
#define BACKOFF_FIRST_MS 100
#define BACKOFF_MAX_MS 10000

struct lost {
	char key[sizeof(((struct session *)NULL)->key)];
	char workspace[ENGINE_WORKSPACE_MAX + 1];
	UT_hash_handle hh;
};

void pool_init(struct pool *p, struct engine *en, uint32_t index, const struct pool_config *c)
{
	memset(p, 0, sizeof(*p));
	p->config = *c;
	p->index = index;
	p->engine = en;
}

void pool_fini(struct pool *p)
{
	struct lost *l;
	struct lost *next;
	HASH_ITER(hh, p->lost, l, next)
	{
		HASH_DEL(p->lost, l);
		free(l);
	}
}

void pool_remember_loss(struct pool *p, const struct session *s)
{
	struct lost *l = NULL;
	HASH_FIND_STR(p->lost, s->key, l);
	if (l != NULL) {
		return;
	}
	if (HASH_COUNT(p->lost) >= LOST_MAX) {
		l = p->lost; /* the hash keeps the order of insertion: this is the oldest */
		HASH_DEL(p->lost, l);
	} else {
		l = calloc(1, sizeof(*l));
	}
	if (l != NULL) {
		memcpy(l->key, s->key, sizeof(l->key));
		memcpy(l->workspace, s->workspace, sizeof(l->workspace));
		HASH_ADD_STR(p->lost, key, l);
	}
}

void pool_forget_loss(struct pool *p, struct session *s)
{
	struct lost *l = NULL;
	HASH_FIND_STR(p->lost, s->key, l);
	if (l != NULL) {
		s->after_loss = true;
		memcpy(s->workspace, l->workspace, sizeof(s->workspace));
		HASH_DEL(p->lost, l);
		free(l);
	}
}

static struct worker *worker_new(struct pool *p)
{
	struct worker *w = calloc(1, sizeof(*w));
	if (w == NULL) {
		return NULL;
	}
	struct engine *en = p->engine;
	w->id = ++en->next_worker_id;
	w->state = WORKER_STARTING;
	w->pool = p;
	w->limits_age = p->limits_age;
	w->data_dir_fd = -1;
	HASH_ADD(by_id, en->workers, id, sizeof(w->id), w);
	p->starting_count++;
	return w;
}

/* Takes the worker out of what its state counts it in. */
static void leave_state(struct worker *w)
{
	if (w->state == WORKER_READY) {
		DL_DELETE(w->pool->ready, w);
		w->pool->ready_count--;
	} else if (w->state == WORKER_STARTING) {
		w->pool->starting_count--;
	}
}

void worker_end(struct worker *w)
{
	struct engine *en = w->pool->engine;
	if (w->state == WORKER_ENDING) {
		return;
	}
	leave_state(w);
	w->state = WORKER_ENDING;
	en->ops->kill(en->ops_ctx, w);
}

void pool_refill(struct pool *p)
{
	struct engine *en = p->engine;
	if (en->draining || en->now_ms < p->refill_at_ms) {
		return;
	}
	uint32_t clients = p->session_count - p->own_count;
	uint32_t free_places = p->config.max_sessions > clients ? p->config.max_sessions - clients
								: 0;
	uint32_t spare = p->config.ready_sessions < free_places ? p->config.ready_sessions
								: free_places;
	uint32_t want = p->pending_count + spare;
	while (p->ready_count + p->starting_count < want && p->starting_count < STARTING_MAX) {
		struct worker *w = worker_new(p);
		if (w == NULL) {
			return;
		}
		en->ops->spawn(en->ops_ctx, w);
	}
}

static bool same_limits(const struct ipc_pool_limits *a, const struct ipc_pool_limits *b)
{
	return a->memory_bytes == b->memory_bytes && a->file_space_bytes == b->file_space_bytes &&
	       a->cpu_millis == b->cpu_millis && a->pids == b->pids &&
	       a->open_files == b->open_files;
}

void pool_set_limits(struct pool *p, const struct pool_config *c)
{
	struct pool_config next = *c;
	memcpy(next.name, p->config.name, sizeof(next.name));
	next.type = p->config.type;
	bool anew = !same_limits(&next.limits, &p->config.limits);
	p->config = next;
	if (anew) {
		p->limits_age++;
	}
	while (p->ready != NULL && (anew || p->ready_count > next.ready_sessions)) {
		worker_end(p->ready);
	}
	pool_refill(p);
}

void pool_place(struct pool *p, struct session *s)
{
	struct worker *w = p->ready;
	if (w != NULL) {
		DL_DELETE(p->ready, w);
		p->ready_count--;
		session_attach(s, w);
	} else {
		DL_APPEND(p->pending, s);
		p->pending_count++;
	}
	/* A fork beside the first cell would only slow it down: while enough are ready, the next
	 * tick is soon enough. */
	if (p->pending_count > 0 || p->ready_count < p->config.ready_sessions / 2) {
		pool_refill(p);
	}
}

struct worker *engine_worker_find(struct engine *en, uint64_t id)
{
	struct worker *w = NULL;
	HASH_FIND(by_id, en->workers, &id, sizeof(id), w);
	return w;
}

void engine_on_worker_ready(struct worker *w, int data_dir_fd)
{
	struct pool *p = w->pool;
	w->data_dir_fd = data_dir_fd;
	if (w->state != WORKER_STARTING) {
		return; /* it was ended while it started */
	}
	if (w->limits_age != p->limits_age) {
		worker_end(w); /* its limits are those of before */
		pool_refill(p);
		return;
	}
	p->starting_count--;
	p->failed_starts = 0;
	p->metrics.workers_started++;
	struct session *s = p->pending;
	if (s != NULL) {
		DL_DELETE(p->pending, s);
		p->pending_count--;
		session_attach(s, w);
	} else {
		w->state = WORKER_READY;
		DL_APPEND(p->ready, w);
		p->ready_count++;
	}
	pool_refill(p);
}

void engine_on_worker_broken(struct worker *w, const char *why)
{
	if (w->state == WORKER_ENDING) {
		return;
	}
	log_event(LOG_LEVEL_INFO, "worker_broken", LOG_INT("worker", w->id),
	    LOG_STR("reason", why != NULL ? why : "it closed its control socket"));
	w->broken_by = why;
	worker_end(w);
}

/* A worker that never served: sessions that wait are told after a few in a row. */
static void start_failed(struct pool *p, const char *reason)
{
	p->metrics.workers_failed++;
	p->failed_starts++;
	unsigned shift = p->failed_starts < 8 ? p->failed_starts - 1 : 7;
	uint64_t backoff_ms = (uint64_t)BACKOFF_FIRST_MS << shift;
	p->refill_at_ms = p->engine->now_ms +
			  (backoff_ms < BACKOFF_MAX_MS ? backoff_ms : BACKOFF_MAX_MS);
	log_event(LOG_LEVEL_ERROR, "worker_start_failed", LOG_STR("pool", p->config.name),
	    LOG_STR("reason", reason));
	if (p->failed_starts < FAILED_STARTS_MAX) {
		return;
	}
	struct err e;
	(void)err_set(&e, ERR_UNAVAILABLE, "sessions cannot be started on this host now");
	while (p->pending != NULL) {
		session_end(p->pending, VERDICT_SESSION_KILLED, &e);
	}
}

static void describe_end(int wait_status, char *out, size_t size)
{
	if (wait_status == -1) {
		(void)snprintf(out, size, "the session's process is gone");
	} else if (WIFSIGNALED(wait_status)) {
		const char *name = sigabbrev_np(WTERMSIG(wait_status));
		(void)snprintf(out, size, "the session's process was ended by SIG%s",
		    name != NULL ? name : "?");
	} else {
		(void)snprintf(out, size, "the session's process exited with status %d",
		    WEXITSTATUS(wait_status));
	}
}

void engine_on_worker_ended(struct worker *w, const struct worker_end *end)
{
	struct engine *en = w->pool->engine;
	struct pool *p = w->pool;
	struct session *s = w->session;
	bool never_served = w->data_dir_fd < 0;
	char how[160];
	bool killed = WIFSIGNALED(end->wait_status) && WTERMSIG(end->wait_status) == SIGKILL;
	if (w->broken_by != NULL && killed) {
		(void)snprintf(how, sizeof(how), "the server ended it: %s", w->broken_by);
	} else {
		describe_end(end->wait_status, how, sizeof(how));
	}
	if (end->memory_peak_bytes > p->metrics.memory_peak_bytes) {
		p->metrics.memory_peak_bytes = end->memory_peak_bytes;
	}
	leave_state(w);
	w->session = NULL;
	packages_tell_gone(w);
	en->ops->release(en->ops_ctx, w);
	HASH_DELETE(by_id, en->workers, w);
	packages_release(w);
	free(w);
	if (s != NULL) {
		struct execution *x = engine_session_running(s);
		enum verdict v = VERDICT_SESSION_KILLED;
		if (end->oom_kills > 0) {
			v = VERDICT_MEMORY_LIMIT;
		} else if (x != NULL && x->stopping != VERDICT_NONE) {
			v = x->stopping;
		}
		session_lose(s, v, how);
	} else if (never_served && !en->draining) {
		start_failed(p, end->reason != NULL ? end->reason : how);
	}
	pool_refill(p);
}
