/* The executions of a session: queued, run, interrupted, concluded, kept for a while. */
#include <stdio.h>
#include <string.h>
#include <utlist.h>

#include "base/clock.h"
#include "engine/internal.h"

#define FILLS_MEMORY_US 50000 /* an execution that took less has not filled memory */
#define SETTLED_US 100000     /* processes that were killed are gone after that */
#define USAGE_KNOWN_MS 1000   /* how long what was counted is taken as still so */

void execution_set_reason(struct execution *x, const char *reason)
{
	(void)snprintf(x->reason, sizeof(x->reason), "%.*s", (int)sizeof(x->reason) - 1, reason);
}

struct execution *engine_session_running(const struct session *s)
{
	return s->queue != NULL && s->queue->state == EXECUTION_RUNNING ? s->queue : NULL;
}

static struct execution *find_in(struct execution *list, const char *id)
{
	struct execution *x;
	DL_FOREACH(list, x)
	{
		if (strcmp(x->id, id) == 0) {
			return x;
		}
	}
	return NULL;
}

struct execution *engine_execution_find(struct session *s, const char *id)
{
	struct execution *x = find_in(s->queue, id);
	return x != NULL ? x : find_in(s->finished, id);
}

void session_drop_oldest(struct session *s)
{
	struct execution *x = s->finished;
	DL_DELETE(s->finished, x);
	s->finished_len--;
	s->finished_bytes -= execution_kept_bytes(x);
	x->session = NULL;
	execution_unref(x);
}

/* Whether TENANT has used up more than half of its share. */
static bool room_is_tight(const struct quota *q, const char *tenant)
{
	return quota_held(q, tenant) > quota_room(q, tenant);
}

static void keep_finished(struct session *s, struct execution *x)
{
	DL_APPEND(s->finished, x);
	s->finished_len++;
	s->finished_bytes += execution_kept_bytes(x);
	while (s->finished_len > ENGINE_FINISHED_MAX ||
	       (s->finished_len > 1 && (s->finished_bytes > ENGINE_FINISHED_BYTES_MAX ||
					   room_is_tight(&s->pool->engine->held, s->tenant)))) {
		session_drop_oldest(s);
	}
}

static enum execution_state state_of(enum verdict v, const struct execution *x)
{
	switch (v) {
	case VERDICT_SUCCEEDED:
	case VERDICT_OUTPUT_LIMIT:
		return EXECUTION_SUCCEEDED;
	case VERDICT_EXITED:
		return x->value.exit_code == 0 ? EXECUTION_SUCCEEDED : EXECUTION_FAILED;
	case VERDICT_INTERRUPTED:
		return EXECUTION_CANCELED;
	case VERDICT_SESSION_KILLED:
		return x->started_us == 0 ? EXECUTION_CANCELED : EXECUTION_FAILED;
	case VERDICT_NONE:
	case VERDICT_EXCEPTION:
	case VERDICT_TIME_LIMIT:
	case VERDICT_MEMORY_LIMIT:
	case VERDICT_PROCESS_LIMIT:
	case VERDICT_FILE_SPACE_LIMIT:
	case VERDICT_OPEN_FILES_LIMIT:
	case VERDICT_COUNT:
		break;
	}
	return EXECUTION_FAILED;
}

/* How long X's clock has stood still in this pause: not while the session computed. */
static uint64_t standing_ms(const struct execution *x)
{
	if (x->pauses == 0) {
		return 0;
	}
	uint64_t wall_ms = x->session->pool->engine->now_ms - x->paused_since_ms;
	uint64_t cpu_ms = x->paused_cpu_us / 1000;
	return wall_ms > cpu_ms ? wall_ms - cpu_ms : 0;
}

void session_finish(struct session *s, struct execution *x, enum verdict v)
{
	struct pool *p = s->pool;
	DL_DELETE(s->queue, x);
	s->queue_len--;
	if (x->state == EXECUTION_RUNNING) {
		p->executing_count--;
		s->kill_at_ms = 0;
	}
	x->ended_us = clock_mono_us();
	if (x->duration_us == 0 && x->started_us != 0) {
		x->duration_us = x->ended_us - x->started_us;
	}
	uint64_t paused_us = (x->paused_ms + standing_ms(x)) * 1000;
	x->duration_us -= x->duration_us > paused_us ? paused_us : x->duration_us;
	x->deadline_ms = 0;
	x->verdict = v;
	execution_move(x, state_of(v, x));
	p->metrics.executions[v]++;
	histogram_add(&p->metrics.execute, x->ended_us - x->queued_us);
	session_touch(s);
	(void)execution_ref(x);
	keep_finished(s, x);
	execution_tell(x);
	execution_unref(x);
}

struct execution *engine_execute(
    struct session *s, const struct execution_request *r, struct err *e)
{
	struct engine *en = s->pool->engine;
	if (en->draining) {
		(void)err_set(e, ERR_UNAVAILABLE, "the server is stopping");
		return NULL;
	}
	if (s->queue_len >= ENGINE_QUEUE_MAX) {
		(void)err_set(
		    e, ERR_BUSY, "this session already has %u executions waiting", s->queue_len);
		return NULL;
	}
	if (r->id != NULL && engine_execution_find(s, r->id) != NULL) {
		(void)err_set(e, ERR_CONFLICT, "this session already has an execution of that id");
		return NULL;
	}
	struct execution *x = execution_new(
	    r, &s->pool->config, ++en->next_seq, clock_mono_us(), &en->held, s->tenant);
	if (x == NULL) {
		(void)err_set(
		    e, ERR_BUSY, "the server holds as much of your code and output as it may");
		return NULL;
	}
	x->session = s;
	memcpy(x->identifier, s->identifier, sizeof(x->identifier));
	memcpy(x->session_guid, s->guid, sizeof(x->session_guid));
	x->new_session = s->after_loss;
	s->after_loss = false;
	DL_APPEND(s->queue, x);
	s->queue_len++;
	(void)execution_ref(x);
	session_pump(s);
	return x;
}

static void ask_usage(struct worker *w)
{
	struct engine *en = w->pool->engine;
	w->usage_asked_ms = en->now_ms;
	w->usage_pending++;
	en->ops->usage(en->ops_ctx, w);
}

/* What was killed at the memory limit before an execution is not its doing. Nobody waits for the
 * answer, and it is not asked for at each of many in a row. */
static void look_before(struct worker *w)
{
	if (!w->settling && w->pool->engine->now_ms >= w->usage_asked_ms + USAGE_KNOWN_MS) {
		ask_usage(w);
	}
}

void session_pump(struct session *s)
{
	struct execution *x = s->queue;
	/* No worker: it was just lost, and observers are being told. */
	bool may = s->state == SESSION_ACTIVE && s->worker != NULL &&
		   s->worker->state == WORKER_ATTACHED && !s->interrupt_pending && x != NULL &&
		   x->state == EXECUTION_QUEUED;
	if (!may || !packages_ready(s->worker)) {
		return;
	}
	struct engine *en = s->pool->engine;
	look_before(s->worker);
	x->started_us = clock_mono_us();
	x->deadline_ms = en->now_ms + x->timeout_ms;
	execution_move(x, EXECUTION_RUNNING);
	s->pool->executing_count++;
	int r = en->ops->execute(en->ops_ctx, s->worker, x);
	s->worker->end_children = false;
	execution_drop_code(x);
	if (r < 0) {
		engine_on_worker_broken(s->worker, "it does not take its code");
	}
}

void session_interrupt(struct session *s, struct execution *x, enum verdict why)
{
	struct engine *en = s->pool->engine;
	x->stopping = why;
	s->interrupt_pending = true;
	s->kill_at_ms = en->now_ms + en->config.grace_ms;
	en->ops->interrupt(en->ops_ctx, s->worker);
}

void engine_cancel(struct execution *x)
{
	struct session *s = x->session;
	if (execution_is_final(x) || s == NULL) {
		return;
	}
	if (x->state == EXECUTION_QUEUED) {
		session_finish(s, x, VERDICT_INTERRUPTED);
	} else if (x->stopping == VERDICT_NONE && s->worker->state == WORKER_ATTACHED) {
		session_interrupt(s, x, VERDICT_INTERRUPTED);
	}
}

void engine_abandon(struct execution *x)
{
	if (!x->detached) {
		engine_cancel(x);
	}
}

void engine_pause(struct execution *x)
{
	if (x->state != EXECUTION_RUNNING) {
		return;
	}
	/* Who sent it need not wait as long as a person does. */
	x->detached = true;
	if (x->pauses++ == 0) {
		x->paused_since_ms = x->session->pool->engine->now_ms;
		x->paused_cpu_known = false;
		x->paused_cpu_us = 0;
		ask_usage(x->session->worker);
	}
}

void engine_resume(struct execution *x)
{
	if (x->state != EXECUTION_RUNNING || x->pauses == 0) {
		return;
	}
	uint64_t stood_ms = standing_ms(x);
	if (--x->pauses == 0) {
		x->paused_ms += stood_ms;
		x->deadline_ms += stood_ms;
	}
}

bool session_is_late(struct session *s, const struct execution *x)
{
	struct worker *w = s->worker;
	uint64_t now_ms = s->pool->engine->now_ms;
	if (x->pauses > 0 && w->usage_pending == 0 &&
	    now_ms >= w->usage_asked_ms + USAGE_KNOWN_MS) {
		ask_usage(w);
	}
	return now_ms >= x->deadline_ms + standing_ms(x);
}

static void count_pause(struct execution *x, uint64_t cpu_us)
{
	if (!x->paused_cpu_known) {
		x->paused_cpu_known = true;
		x->paused_from_cpu_us = cpu_us;
	}
	if (cpu_us > x->paused_from_cpu_us) {
		x->paused_cpu_us = cpu_us - x->paused_from_cpu_us;
	}
}

void engine_on_interrupted(struct worker *w)
{
	if (w->session != NULL) {
		w->session->interrupt_pending = false;
		session_pump(w->session);
	}
}

static enum verdict verdict_of_exception(const struct ipc_result *r)
{
	switch ((enum ipc_limit)r->limit) {
	case IPC_LIMIT_MEMORY:
		return VERDICT_MEMORY_LIMIT;
	case IPC_LIMIT_PROCESSES:
		return VERDICT_PROCESS_LIMIT;
	case IPC_LIMIT_FILE_SPACE:
		return VERDICT_FILE_SPACE_LIMIT;
	case IPC_LIMIT_OPEN_FILES:
		return VERDICT_OPEN_FILES_LIMIT;
	case IPC_LIMIT_NONE:
		break;
	}
	return VERDICT_EXCEPTION;
}

static enum verdict verdict_of(const struct execution *x, const struct ipc_result *r)
{
	/* Past its deadline is past its deadline, even when the code swallowed the interrupt. */
	if (x->stopping == VERDICT_TIME_LIMIT) {
		return VERDICT_TIME_LIMIT;
	}
	switch ((enum ipc_status)r->status) {
	case IPC_STATUS_OK:
		break;
	case IPC_STATUS_EXCEPTION:
		return verdict_of_exception(r);
	case IPC_STATUS_INTERRUPTED:
		/* A KeyboardInterrupt that nobody asked for is the user's own exception. */
		return x->stopping == VERDICT_NONE ? VERDICT_EXCEPTION : x->stopping;
	case IPC_STATUS_EXIT:
		return VERDICT_EXITED;
	}
	if (x->kind != IPC_EXECUTE_PYTHON && r->exit_code != 0) {
		return VERDICT_EXCEPTION;
	}
	bool cut = x->out_cut_bytes > 0 || x->err_cut_bytes > 0 || x->displays_cut > 0;
	return cut ? VERDICT_OUTPUT_LIMIT : VERDICT_SUCCEEDED;
}

/* X, which runs in W, ends with V. */
static void conclude(struct worker *w, struct execution *x, enum verdict v)
{
	session_finish(w->session, x, v);
	/* The observers may have deleted the session; its worker tells. */
	if (w->session != NULL) {
		session_pump(w->session);
	}
}

/* True when processes that X started may have been killed at the memory limit, which the session
 * cannot tell: it takes a while to fill memory. */
static bool may_have_filled_memory(const struct execution *x, enum verdict v)
{
	return v != VERDICT_MEMORY_LIMIT && x->stopping == VERDICT_NONE &&
	       !x->session->worker->settling && clock_mono_us() - x->started_us >= FILLS_MEMORY_US;
}

int engine_on_result(struct worker *w, uint64_t seq, const struct ipc_result *r)
{
	struct session *s = w->session;
	struct execution *x = s == NULL ? NULL : engine_session_running(s);
	if (x == NULL || x->seq != seq || x->told != VERDICT_NONE) {
		return -1;
	}
	execution_set_value(x, r);
	enum verdict v = verdict_of(x, r);
	if (may_have_filled_memory(x, v)) {
		x->told = v;
		ask_usage(w);
	} else {
		conclude(w, x, v);
	}
	return 0;
}

void engine_on_usage(struct worker *w, uint64_t oom_kills, uint64_t cpu_us)
{
	struct execution *x = w->session == NULL ? NULL : engine_session_running(w->session);
	uint64_t before = w->oom_kills;
	w->oom_kills = oom_kills;
	if (w->usage_pending > 0) {
		w->usage_pending--;
	}
	if (x != NULL && x->pauses > 0) {
		count_pause(x, cpu_us);
	}
	if (x == NULL || x->told == VERDICT_NONE || w->usage_pending > 0) {
		return;
	}
	x->oom_kills = oom_kills - before;
	w->end_children = w->settling = x->oom_kills > 0;
	conclude(w, x, x->oom_kills > 0 ? VERDICT_MEMORY_LIMIT : x->told);
}

void engine_on_output(struct worker *w, enum output_kind kind, const char *bytes, size_t len)
{
	struct execution *x = w->session == NULL ? NULL : engine_session_running(w->session);
	if (x != NULL) {
		execution_add_output(x, kind, bytes, len);
	}
}

void engine_on_display(struct worker *w, uint64_t seq, struct display *d)
{
	struct execution *x = w->session == NULL ? NULL : engine_session_running(w->session);
	if (x == NULL || x->seq != seq) {
		display_free(d);
		return;
	}
	execution_add_display(x, d);
}

void session_settle(struct session *s, const struct execution *x)
{
	struct worker *w = s->worker;
	if (w != NULL && w->settling && w->state == WORKER_ATTACHED &&
	    clock_mono_us() - x->started_us >= SETTLED_US) {
		w->settling = false;
		ask_usage(w);
	}
}
