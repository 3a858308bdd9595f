#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/clock.h"
#include "engine/internal.h"

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

void session_touch(struct session *s)
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
	session_touch(s);
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

static void set_workspace(struct session *s)
{
	const struct engine *en = s->pool->engine;
	const char *name = en->workspace_of == NULL ? NULL
						    : en->workspace_of(en->workspace_ctx, s->pool,
							  s->tenant, s->identifier);
	if (name != NULL) {
		(void)memccpy(s->workspace, name, '\0', sizeof(s->workspace) - 1);
	}
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
		session_touch(s);
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
	set_workspace(s);
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
		session_touch(s);
	}
}

int64_t engine_session_expires_wall_us(const struct session *s)
{
	return s->accessed_wall_us + (int64_t)s->pool->config.cooldown_ms * 1000;
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
	memcpy(w->tenant, s->tenant, sizeof(w->tenant));
	s->worker = w;
	s->state = SESSION_ACTIVE;
	s->interrupt_pending = false;
	s->kill_at_ms = 0;
	w->usage_asked_ms = s->pool->engine->now_ms; /* it has done nothing yet */
	session_touch(s);
	histogram_add(&s->pool->metrics.create, clock_mono_us() - s->created_us);
	/* A waiter may answer its caller, who may delete the session: the worker tells. */
	tell_waiters(s, NULL);
	if (w->session == s) {
		session_pump(s);
	}
}

static void finish_running(struct session *s, enum verdict v, const char *reason)
{
	struct execution *x = engine_session_running(s);
	if (x != NULL) {
		execution_set_reason(x, reason);
		/* With its result there, what became of the session after it changes nothing. */
		session_finish(
		    s, x, x->told != VERDICT_NONE && v != VERDICT_MEMORY_LIMIT ? x->told : v);
	}
}

void session_lose(struct session *s, enum verdict verdict, const char *reason)
{
	struct pool *p = s->pool;
	p->metrics.sessions_lost++;
	s->worker = NULL;
	finish_running(s, verdict, reason);
	while (s->finished != NULL) {
		session_drop_oldest(s);
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
		execution_set_reason(s->queue, why->text);
		session_finish(s, s->queue, verdict);
	}
	while (s->finished != NULL) {
		session_drop_oldest(s);
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

void session_tick(struct session *s)
{
	struct engine *en = s->pool->engine;
	const struct pool_config *c = &s->pool->config;
	struct execution *x = engine_session_running(s);
	uint64_t now_us = en->now_ms * 1000;
	if (x != NULL) {
		session_settle(s, x);
	}
	if (c->max_lifetime_ms > 0 && s->created_us + c->max_lifetime_ms * 1000 <= now_us) {
		struct err e;
		(void)err_set(&e, ERR_GONE, "the session reached its maximum lifetime");
		session_end(s, VERDICT_SESSION_KILLED, &e);
	} else if (x != NULL && s->kill_at_ms != 0 && en->now_ms >= s->kill_at_ms) {
		s->kill_at_ms = 0;
		worker_end(s->worker);
	} else if (x != NULL && x->stopping == VERDICT_NONE &&
		   s->worker->state == WORKER_ATTACHED && session_is_late(s, x)) {
		session_interrupt(s, x, VERDICT_TIME_LIMIT);
	} else if (s->queue == NULL && s->waiters == NULL && s->holds == 0 &&
		   en->now_ms >= s->accessed_ms + c->cooldown_ms) {
		session_end(s, VERDICT_SESSION_KILLED, NULL);
	} else if (s->finished != NULL &&
		   s->finished->ended_us + (uint64_t)en->config.finished_keep_ms * 1000 <= now_us) {
		session_drop_oldest(s);
	} else {
		tell_still(s);
	}
}
