#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/clock.h"
#include "engine/internal.h"

#define FILLS_MEMORY_US 50000 /* an execution that took less has not filled memory */
#define SETTLED_US 100000     /* processes that were killed are gone after that */
#define USAGE_KNOWN_MS 1000   /* how long what was counted is taken as still so */

/* Letters and digits aside, what the wire allows in an identifier
 * (DynamicSessions.json, the pattern of parameter "identifier"). */
static const char identifier_punctuation[] = "_|}{[]:\";'<>?/.,@#$%^&*()-+=!~` ";

int engine_identifier_check(const char *identifier, struct err *e)
{
	size_t len = strlen(identifier);
	if (len < ENGINE_IDENTIFIER_MIN || len > ENGINE_IDENTIFIER_MAX) {
		return err_set(e, ERR_INVALID,
		    "the session identifier must have %d to %d characters; this one has %zu",
		    ENGINE_IDENTIFIER_MIN, ENGINE_IDENTIFIER_MAX, len);
	}
	for (const char *c = identifier; *c != '\0'; c++) {
		bool letter = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z');
		bool digit = *c >= '0' && *c <= '9';
		if (!letter && !digit && strchr(identifier_punctuation, *c) == NULL) {
			return err_set(e, ERR_INVALID,
			    "the session identifier has a character (byte 0x%02x) that is not "
			    "allowed",
			    (unsigned)(unsigned char)*c);
		}
	}
	return 0;
}

bool engine_tenant_is_valid(const char *tenant)
{
	static const char allowed[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.";
	size_t len = strlen(tenant);
	return len >= 1 && len <= ENGINE_TENANT_MAX && tenant[strspn(tenant, allowed)] == '\0' &&
	       strchr("_-.", tenant[0]) == NULL;
}

bool engine_session_is_own(const struct session *s)
{
	return strcmp(s->tenant, ENGINE_TENANT_OWN) == 0;
}

/* Whether P has no place for one more of clients' sessions, or of the server's OWN. */
static bool is_full(const struct pool *p, bool own)
{
	return own ? p->own_count >= ENGINE_OWN_SESSIONS_MAX
		   : p->session_count - p->own_count >= p->config.max_sessions;
}

/* An identifier has no control character, so the two parts cannot run into each other. */
static void key_of(
    char key[sizeof(((struct session *)NULL)->key)], const char *tenant, const char *identifier)
{
	(void)snprintf(key, sizeof(((struct session *)NULL)->key), "%.*s\x1f%.*s",
	    ENGINE_TENANT_MAX, tenant == NULL ? "" : tenant, ENGINE_IDENTIFIER_MAX, identifier);
}

static void stamp(struct session *s)
{
	(void)text_guid(s->guid);
	s->created_wall_us = clock_wall_us();
	s->created_us = clock_mono_us();
}

static void touch(struct session *s)
{
	s->accessed_wall_us = clock_wall_us();
	s->accessed_ms = s->pool->engine->now_ms;
}

struct session *session_new(struct pool *p, const char *tenant, const char *identifier)
{
	struct session *s = calloc(1, sizeof(*s));
	if (s == NULL) {
		return NULL;
	}
	key_of(s->key, tenant, identifier);
	(void)memccpy(s->identifier, identifier, '\0', sizeof(s->identifier) - 1);
	(void)memccpy(s->tenant, tenant == NULL ? "" : tenant, '\0', sizeof(s->tenant) - 1);
	s->pool = p;
	s->state = SESSION_PENDING;
	stamp(s);
	touch(s);
	HASH_ADD_KEYPTR(by_key, p->sessions, s->key, strlen(s->key), s);
	p->session_count++;
	p->own_count += engine_session_is_own(s);
	p->metrics.sessions_created++;
	return s;
}

static struct session *find_any(struct pool *p, const char *tenant, const char *identifier)
{
	char key[sizeof(((struct session *)NULL)->key)];
	struct session *s = NULL;
	if (strlen(identifier) > ENGINE_IDENTIFIER_MAX) {
		return NULL;
	}
	key_of(key, tenant, identifier);
	HASH_FIND(by_key, p->sessions, key, strlen(key), s);
	return s;
}

struct session *engine_session_find(struct pool *p, const char *tenant, const char *identifier)
{
	struct session *s = find_any(p, tenant, identifier);
	return s != NULL && !s->reserved ? s : NULL;
}

struct session *engine_session_find_reserved(
    struct pool *p, const char *tenant, const char *identifier)
{
	struct session *s = find_any(p, tenant, identifier);
	return s != NULL && s->reserved ? s : NULL;
}

struct session *engine_session_reserve(
    struct pool *p, const char *tenant, const char *identifier, struct err *e)
{
	if (find_any(p, tenant, identifier) != NULL) {
		(void)err_set(e, ERR_CONFLICT, "there is a session with that identifier");
		return NULL;
	}
	struct session *s = engine_session_open(p, tenant, identifier, e);
	if (s != NULL) {
		s->reserved = true;
	}
	return s;
}

struct session *engine_session_open(
    struct pool *p, const char *tenant, const char *identifier, struct err *e)
{
	bool own = tenant != NULL && strcmp(tenant, ENGINE_TENANT_OWN) == 0;
	if (tenant != NULL && *tenant != '\0' && !own && !engine_tenant_is_valid(tenant)) {
		(void)err_set(e, ERR_INVALID, "the tenant's name is not valid");
		return NULL;
	}
	if (engine_identifier_check(identifier, e) < 0) {
		return NULL;
	}
	struct session *s = find_any(p, tenant, identifier);
	if (s != NULL && s->reserved) {
		(void)err_set(e, ERR_CONFLICT, "that identifier belongs to code that is reviewed");
		return NULL;
	}
	if (s != NULL) {
		touch(s);
		return s;
	}
	if (p->engine->draining) {
		(void)err_set(e, ERR_UNAVAILABLE, "the server is stopping");
		return NULL;
	}
	if (is_full(p, own)) {
		p->metrics.sessions_refused++;
		(void)err_set(e, ERR_BUSY,
		    "pool '%s' has reached its %u concurrent sessions; delete one, or wait for one "
		    "to "
		    "cool down",
		    p->config.name, p->config.max_sessions);
		return NULL;
	}
	s = session_new(p, tenant, identifier);
	if (s == NULL) {
		(void)err_set(e, ERR_BUSY, "out of memory");
		return NULL;
	}
	pool_forget_loss(p, s);
	pool_place(p, s);
	return s;
}

void engine_session_wait(struct session *s, struct session_waiter *w)
{
	if (s->state == SESSION_ACTIVE) {
		w->ready(w->ctx, s, NULL);
		return;
	}
	DL_APPEND(s->waiters, w);
}

void engine_session_unwait(struct session *s, struct session_waiter *w)
{
	DL_DELETE(s->waiters, w);
}

void engine_session_hold(struct session *s)
{
	s->holds++;
}

void engine_session_unhold(
    struct pool *p, const char *guid, const char *tenant, const char *identifier)
{
	struct session *s = find_any(p, tenant, identifier);
	if (s != NULL && strcmp(s->guid, guid) == 0 && s->holds > 0) {
		s->holds--;
		touch(s);
	}
}

int64_t engine_session_expires_wall_us(const struct session *s)
{
	return s->accessed_wall_us + (int64_t)s->pool->config.cooldown_ms * 1000;
}

struct execution *engine_session_running(const struct session *s)
{
	return s->queue != NULL && s->queue->state == EXECUTION_RUNNING ? s->queue : NULL;
}

/* --- executions of a session -------------------------------------------------------------------
 */

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

static void drop_oldest_finished(struct session *s)
{
	struct execution *x = s->finished;
	DL_DELETE(s->finished, x);
	s->finished_len--;
	s->finished_bytes -= execution_kept_bytes(x);
	x->session = NULL;
	execution_unref(x);
}

static void keep_finished(struct session *s, struct execution *x)
{
	DL_APPEND(s->finished, x);
	s->finished_len++;
	s->finished_bytes += execution_kept_bytes(x);
	const size_t *held = &s->pool->engine->held_bytes;
	while (s->finished_len > ENGINE_FINISHED_MAX ||
	       (s->finished_len > 1 && (s->finished_bytes > ENGINE_FINISHED_BYTES_MAX ||
					   *held > ENGINE_HELD_BYTES_MAX / 2))) {
		drop_oldest_finished(s);
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

/* How long X's clock has stood still. */
static uint64_t paused_ms(const struct execution *x)
{
	uint64_t now_ms = x->session->pool->engine->now_ms;
	return x->paused_ms + (x->pauses > 0 ? now_ms - x->paused_since_ms : 0);
}

/* Takes X out of the queue with its verdict, keeps it for look-ups and tells its observers. */
static void finish(struct session *s, struct execution *x, enum verdict v)
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
	uint64_t paused_us = paused_ms(x) * 1000;
	x->duration_us -= x->duration_us > paused_us ? paused_us : x->duration_us;
	x->deadline_ms = 0;
	x->verdict = v;
	execution_move(x, state_of(v, x));
	p->metrics.executions[v]++;
	histogram_add(&p->metrics.execute, x->ended_us - x->queued_us);
	touch(s);
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
	    r, &s->pool->config, ++en->next_seq, clock_mono_us(), &en->held_bytes);
	if (x == NULL) {
		(void)err_set(e, ERR_BUSY, "the server holds as much code and output as it may");
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

/* Asks the running execution to stop because of WHY; the grace time runs from here. */
static void interrupt_running(struct session *s, struct execution *x, enum verdict why)
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
		finish(s, x, VERDICT_INTERRUPTED);
	} else if (x->stopping == VERDICT_NONE && s->worker->state == WORKER_ATTACHED) {
		interrupt_running(s, x, VERDICT_INTERRUPTED);
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
	}
}

void engine_resume(struct execution *x)
{
	if (x->state != EXECUTION_RUNNING || x->pauses == 0 || --x->pauses > 0) {
		return;
	}
	uint64_t stood_ms = x->session->pool->engine->now_ms - x->paused_since_ms;
	x->paused_ms += stood_ms;
	x->deadline_ms += stood_ms;
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
	finish(w->session, x, v);
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

void engine_on_usage(struct worker *w, uint64_t oom_kills)
{
	struct execution *x = w->session == NULL ? NULL : engine_session_running(w->session);
	uint64_t before = w->oom_kills;
	w->oom_kills = oom_kills;
	if (w->usage_pending > 0) {
		w->usage_pending--;
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

/* --- beginning and end -------------------------------------------------------------------------
 */

static void tell_waiters(struct session *s, const struct err *e)
{
	struct session_waiter *w;
	while ((w = s->waiters) != NULL) {
		DL_DELETE(s->waiters, w);
		w->ready(w->ctx, e == NULL ? s : NULL, e);
	}
}

void session_attach(struct session *s, struct worker *w)
{
	w->state = WORKER_ATTACHED;
	w->session = s;
	s->worker = w;
	s->state = SESSION_ACTIVE;
	s->interrupt_pending = false;
	s->kill_at_ms = 0;
	w->usage_asked_ms = s->pool->engine->now_ms; /* it has done nothing yet */
	touch(s);
	histogram_add(&s->pool->metrics.create, clock_mono_us() - s->created_us);
	/* A waiter may answer its caller, who may delete the session: the worker tells. */
	tell_waiters(s, NULL);
	if (w->session == s) {
		session_pump(s);
	}
}

static void set_reason(struct execution *x, const char *reason)
{
	(void)snprintf(x->reason, sizeof(x->reason), "%.*s", (int)sizeof(x->reason) - 1, reason);
}

static void finish_running(struct session *s, enum verdict v, const char *reason)
{
	struct execution *x = engine_session_running(s);
	if (x != NULL) {
		set_reason(x, reason);
		/* With its result there, what became of the session after it changes nothing. */
		finish(s, x, x->told != VERDICT_NONE && v != VERDICT_MEMORY_LIMIT ? x->told : v);
	}
}

void session_lose(struct session *s, enum verdict verdict, const char *reason)
{
	struct pool *p = s->pool;
	p->metrics.sessions_lost++;
	s->worker = NULL;
	finish_running(s, verdict, reason);
	while (s->finished != NULL) {
		drop_oldest_finished(s);
	}
	if (s->queue == NULL) {
		pool_remember_loss(p, s);
		session_end(s, verdict, NULL);
		return;
	}
	/* Others wait for this identifier: they get a fresh session, and the first is told. */
	stamp(s);
	s->state = SESSION_PENDING;
	s->holds = 0;
	s->queue->new_session = true;
	struct execution *x;
	DL_FOREACH(s->queue, x)
	{
		memcpy(x->session_guid, s->guid, sizeof(x->session_guid));
	}
	pool_place(p, s);
}

void session_end(struct session *s, enum verdict verdict, const struct err *e)
{
	struct pool *p = s->pool;
	struct worker *w = s->worker;
	HASH_DELETE(by_key, p->sessions, s);
	p->session_count--;
	p->own_count -= engine_session_is_own(s);
	if (s->state == SESSION_PENDING) {
		DL_DELETE(p->pending, s);
		p->pending_count--;
	}
	if (w != NULL) {
		w->session = NULL;
		s->worker = NULL;
		worker_end(w);
	}
	struct err gone = {.code = ERR_GONE, .text = "the session has ended"};
	const struct err *why = e != NULL ? e : &gone;
	while (s->queue != NULL) {
		set_reason(s->queue, why->text);
		finish(s, s->queue, verdict);
	}
	while (s->finished != NULL) {
		drop_oldest_finished(s);
	}
	tell_waiters(s, why);
	free(s);
}

void engine_session_delete(struct session *s)
{
	struct pool *p = s->pool;
	session_end(s, VERDICT_SESSION_KILLED, NULL);
	pool_refill(p);
}

/* One a tick: an observer may end the session. */
static void tell_still(struct session *s)
{
	struct execution *x;
	uint64_t now_ms = s->pool->engine->now_ms;
	DL_FOREACH(s->queue, x)
	{
		if (x->still_ms == 0) {
			x->still_ms = now_ms;
		} else if (now_ms >= x->still_ms + EXECUTION_STILL_MS) {
			x->still_ms = now_ms;
			execution_tell(x);
			return;
		}
	}
}

/* Those that filled the memory before X have gone: what is counted from here on is its own. */
static void settle(struct session *s, const struct execution *x)
{
	struct worker *w = s->worker;
	if (w != NULL && w->settling && w->state == WORKER_ATTACHED &&
	    clock_mono_us() - x->started_us >= SETTLED_US) {
		w->settling = false;
		ask_usage(w);
	}
}

void session_tick(struct session *s)
{
	struct engine *en = s->pool->engine;
	const struct pool_config *c = &s->pool->config;
	struct execution *x = engine_session_running(s);
	uint64_t now_us = en->now_ms * 1000;
	if (x != NULL) {
		settle(s, x);
	}
	if (c->max_lifetime_ms > 0 && s->created_us + c->max_lifetime_ms * 1000 <= now_us) {
		struct err e;
		(void)err_set(&e, ERR_GONE, "the session reached its maximum lifetime");
		session_end(s, VERDICT_SESSION_KILLED, &e);
	} else if (x != NULL && s->kill_at_ms != 0 && en->now_ms >= s->kill_at_ms) {
		s->kill_at_ms = 0;
		worker_end(s->worker);
	} else if (x != NULL && x->stopping == VERDICT_NONE && x->pauses == 0 &&
		   en->now_ms >= x->deadline_ms && s->worker->state == WORKER_ATTACHED) {
		interrupt_running(s, x, VERDICT_TIME_LIMIT);
	} else if (s->queue == NULL && s->waiters == NULL && s->holds == 0 &&
		   en->now_ms >= s->accessed_ms + c->cooldown_ms) {
		session_end(s, VERDICT_SESSION_KILLED, NULL);
	} else if (s->finished != NULL &&
		   s->finished->ended_us + (uint64_t)en->config.finished_keep_ms * 1000 <= now_us) {
		drop_oldest_finished(s);
	} else {
		tell_still(s);
	}
}
