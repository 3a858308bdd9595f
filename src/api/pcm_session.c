#include "api/pcm_session.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "base/text.h"
#define DIGEST_BYTES 32
#define DIGEST_TEXT_BYTES (2 * DIGEST_BYTES + 1)
#define DIGEST_PREFIX "sha256:"
/* Of an id that the server gives: how much of it is random, and then its check. */
#define GIVEN_RANDOM_CHARS 28
#define GIVEN_CHECK_CHARS 8

/* A tenant to whose tokens ids were given. */
struct holder {
	char tenant[ENGINE_TENANT_MAX + 1]; /* "" none */
	unsigned count;
	UT_hash_handle by_tenant; /* of pcm.holders */
};

/* An id that the server gave. */
struct issued {
	char id[TEXT_GUID_BYTES];
	struct holder *holder;
	char workspace[ENGINE_WORKSPACE_MAX + 1];
	struct pool *pool;
	uint64_t used_ms;
	UT_hash_handle by_id; /* of pcm.issued, the one not used the longest first */
};

struct pcm {
	struct pcm_config config;
	struct issued *issued;
	unsigned issued_count;
	struct holder *holders; /* each with at least one id */
	struct quota sending;   /* artifacts, by tenant; see pcm_artifact_body.c */
};

struct pcm *pcm_new(const struct pcm_config *c)
{
	struct pcm *p = calloc(1, sizeof(*p));
	if (p != NULL) {
		p->config = *c;
		p->sending = (struct quota)QUOTA_INIT(PCM_SENDING_MAX);
	}
	return p;
}

/* Frees it when it holds nothing. NULL is allowed. */
static void holder_release(struct pcm *p, struct holder *h)
{
	if (h != NULL && h->count == 0) {
		HASH_DELETE(by_tenant, p->holders, h);
		free(h);
	}
}

static void issued_free(struct pcm *p, struct issued *i)
{
	HASH_DELETE(by_id, p->issued, i);
	p->issued_count--;
	i->holder->count--;
	holder_release(p, i->holder);
	free(i);
}

void pcm_free(struct pcm *p)
{
	while (p != NULL && p->issued != NULL) {
		issued_free(p, p->issued);
	}
	if (p != NULL) {
		quota_fini(&p->sending);
	}
	free(p);
}

const struct pcm_config *pcm_config(const struct call *c)
{
	const struct api *api = c->app;
	return &api->pcm->config;
}

struct quota *pcm_sending(const struct call *c)
{
	return &((const struct api *)c->app)->pcm->sending;
}

/* --- ids ----------------------------------------------------------------------------------------
 */

/* SHA-256 of PREFIX and TEXT in hex. False when it cannot be had. */
static bool digest(const char *text, size_t len, char out[DIGEST_TEXT_BYTES])
{
	unsigned char bytes[DIGEST_BYTES];
	if (EVP_Digest(text, len, bytes, NULL, EVP_sha256(), NULL) != 1) {
		return false;
	}
	text_hex(out, bytes, sizeof(bytes));
	return true;
}

/* The engine's identifier for a client's ID. False when it cannot be had. */
static bool identifier_of(const char *id, char out[ENGINE_IDENTIFIER_MAX + 1])
{
	if (engine_identifier_check(id, NULL) == 0 && !text_has_prefix(id, DIGEST_PREFIX)) {
		(void)snprintf(out, ENGINE_IDENTIFIER_MAX + 1, "%s", id);
		return true;
	}
	char hex[DIGEST_TEXT_BYTES];
	if (!digest(id, strlen(id), hex)) {
		return false;
	}
	(void)snprintf(out, ENGINE_IDENTIFIER_MAX + 1, DIGEST_PREFIX "%s", hex);
	return true;
}

/* The check of an id: the digest of its other characters behind a word of ours. */
static bool check_of(const char *id, char out[GIVEN_CHECK_CHARS + 1])
{
	char text[64];
	char hex[DIGEST_TEXT_BYTES];
	int n = snprintf(text, sizeof(text), "carrel session %.*s", GIVEN_RANDOM_CHARS, id);
	if (!digest(text, (size_t)n, hex)) {
		return false;
	}
	memcpy(out, hex, GIVEN_CHECK_CHARS);
	out[GIVEN_CHECK_CHARS] = '\0';
	return true;
}

static bool make_id(char out[TEXT_GUID_BYTES])
{
	char check[GIVEN_CHECK_CHARS + 1];
	if (!check_of(text_guid(out), check)) {
		return false;
	}
	memcpy(out + GIVEN_RANDOM_CHARS, check, GIVEN_CHECK_CHARS);
	return true;
}

static bool has_given_form(const char *id)
{
	static const char shape[] = "xxxxxxxx-xxxx-4xxx-xxxx-xxxxxxxxxxxx";
	for (size_t i = 0; i < sizeof(shape); i++) {
		bool hex = id[i] != '\0' && strchr("0123456789abcdef", id[i]) != NULL;
		if (shape[i] == 'x' ? !hex : id[i] != shape[i]) {
			return false;
		}
	}
	char check[GIVEN_CHECK_CHARS + 1];
	return check_of(id, check) && strcmp(id + GIVEN_RANDOM_CHARS, check) == 0;
}

/* --- the table of ids that were given -----------------------------------------------------------
 */

static const char *tenant_of(const struct call *c)
{
	return c->principal != NULL ? c->principal->prefix : NULL;
}

/* The one of a tenant (NULL: none), with no id yet when it is new; NULL when memory is out. */
static struct holder *holder_of(struct pcm *p, const char *tenant)
{
	struct holder *h = NULL;
	const char *name = tenant != NULL ? tenant : "";
	HASH_FIND(by_tenant, p->holders, name, strlen(name), h);
	if (h == NULL && (h = calloc(1, sizeof(*h))) != NULL) {
		(void)snprintf(h->tenant, sizeof(h->tenant), "%s", name);
		HASH_ADD(by_tenant, p->holders, tenant, strlen(h->tenant), h);
	}
	return h;
}

static struct session *session_of(const struct issued *i)
{
	return engine_session_find(i->pool, i->holder->tenant, i->id);
}

static bool is_past_cooldown(const struct issued *i)
{
	return i->pool->engine->now_ms >= i->used_ms + i->pool->config.cooldown_ms;
}

static bool has_run_out(const struct issued *i)
{
	return is_past_cooldown(i) && session_of(i) == NULL;
}

/* To the end of the order. */
static void touch(struct pcm *p, struct issued *i)
{
	i->used_ms = i->pool->engine->now_ms;
	HASH_DELETE(by_id, p->issued, i);
	HASH_ADD(by_id, p->issued, id, strlen(i->id), i);
}

/* Takes the id that was not used the longest, and has no session, from the tenant that has the
 * most, when HOLDER has clearly fewer. */
static bool take_from_another(struct pcm *p, const struct holder *holder)
{
	struct holder *most = p->holders;
	for (struct holder *h = most; h != NULL; h = h->by_tenant.next) {
		most = h->count > most->count ? h : most;
	}
	if (most == NULL || holder->count >= most->count) {
		return false;
	}
	for (struct issued *i = p->issued; i != NULL; i = i->by_id.next) {
		if (i->holder == most && session_of(i) == NULL) {
			issued_free(p, i);
			return true;
		}
	}
	return false;
}

/* Makes room for one more of HOLDER's. False when all are in use. Each turn frees the oldest, or
 * finds that its session lives on and makes it the youngest. */
static bool make_room(struct pcm *p, const struct holder *holder)
{
	struct issued *i;
	while ((i = p->issued) != NULL && is_past_cooldown(i)) {
		if (session_of(i) != NULL) {
			touch(p, i);
		} else {
			issued_free(p, i);
		}
	}
	return p->issued_count < PCM_ISSUED_MAX || take_from_another(p, holder);
}

/* The one of that id, of that tenant (NULL: none) and pool. */
static struct issued *look_up(
    const struct pcm *p, const struct pool *pool, const char *tenant, const char *id)
{
	struct issued *i = NULL;
	HASH_FIND(by_id, p->issued, id, strlen(id), i);
	bool its = i != NULL && i->pool == pool &&
		   strcmp(i->holder->tenant, tenant != NULL ? tenant : "") == 0;
	return its ? i : NULL;
}

const char *pcm_workspace_of(
    void *api, const struct pool *pool, const char *tenant, const char *identifier)
{
	const struct issued *i = look_up(((const struct api *)api)->pcm, pool, tenant, identifier);
	/* Also of one that has run out: better its own workspace than everybody's. */
	return i != NULL ? i->workspace : NULL;
}

/* The same, when it has not run out; or NULL. */
static struct issued *find_issued(struct call *c, const struct pool *pool, const char *id)
{
	struct pcm *p = ((const struct api *)c->app)->pcm;
	struct issued *i = look_up(p, pool, tenant_of(c), id);
	if (i == NULL) {
		return NULL;
	}
	if (has_run_out(i)) {
		issued_free(p, i);
		return NULL;
	}
	touch(p, i);
	return i;
}

bool pcm_give_id(struct call *c, struct pcm_where *w, const char *workspace)
{
	struct pcm *p = ((const struct api *)c->app)->pcm;
	struct holder *holder = holder_of(p, tenant_of(c));
	struct issued *i = holder != NULL ? calloc(1, sizeof(*i)) : NULL;
	if (i == NULL || !make_id(i->id)) {
		free(i);
		holder_release(p, holder);
		pcm_fail(c, 500, "Internal Server Error");
		return false;
	}
	holder->count++; /* from here on, so that making room does not free it */
	if (!make_room(p, holder)) {
		free(i);
		holder->count--;
		holder_release(p, holder);
		pcm_fail(c, 429, "The server has given out as many session IDs as it may");
		return false;
	}
	i->holder = holder;
	(void)snprintf(
	    i->workspace, sizeof(i->workspace), "%s", workspace != NULL ? workspace : "");
	i->pool = w->pool;
	i->used_ms = w->pool->engine->now_ms;
	HASH_ADD(by_id, p->issued, id, strlen(i->id), i);
	p->issued_count++;
	memcpy(w->own_id, i->id, sizeof(w->own_id));
	memcpy(w->identifier, i->id, sizeof(i->id));
	w->id = w->own_id;
	w->issued = i;
	w->given = true;
	w->space.workspace = i->workspace[0] != '\0' ? i->workspace : NULL;
	return true;
}

void pcm_forget(struct call *c, struct pcm_where *w)
{
	if (w->issued != NULL) {
		issued_free(((const struct api *)c->app)->pcm, w->issued);
		w->issued = NULL;
	}
}

/* --- where a request belongs --------------------------------------------------------------------
 */

static struct pool *find_pool(struct call *c)
{
	const struct api *api = c->app;
	const struct principal *who = c->principal;
	struct pool *pool = engine_pool(api->engine, c->pool);
	if (pool == NULL) {
		pcm_fail(c, 404, "There is no session pool of that name");
		return NULL;
	}
	/* The HTTP layer has checked this too; a second look costs nothing. */
	if (who != NULL && who->pool != NULL && strcmp(who->pool, pool->config.name) != 0) {
		pcm_fail(c, 403, "This token is for another session pool");
		return NULL;
	}
	if (pool->config.type != POOL_PYTHON) {
		pcm_fail(c, 400, "This session pool does not run Python");
		return NULL;
	}
	return pool;
}

/* Whether an id that is no issued one may be used. One that the server gave cannot have a session
 * any more, so whoever has one chose its id itself. */
static bool may_be_used(const struct call *c, struct pcm_where *w)
{
	if (pcm_session_find(c, w) != NULL) {
		return true;
	}
	w->given = has_given_form(w->id);
	return !w->given && !pcm_config(c)->strict_sessions;
}

bool pcm_where(struct call *c, struct pcm_where *w, bool check)
{
	const char *id = call_header(c, "X-Session-ID");
	*w = (struct pcm_where){.id = id != NULL ? id : "", .space = {.prefix = tenant_of(c)}};
	w->pool = find_pool(c);
	if (w->pool == NULL) {
		return false;
	}
	if (w->id[0] == '\0') {
		return true;
	}
	if (!identifier_of(w->id, w->identifier)) {
		pcm_fail(c, 500, "Internal Server Error");
		return false;
	}
	w->issued = find_issued(c, w->pool, w->id);
	if (w->issued != NULL) {
		w->given = true;
		w->space.workspace = w->issued->workspace[0] != '\0' ? w->issued->workspace : NULL;
		return true;
	}
	if (!may_be_used(c, w) && check) {
		pcm_fail(c, 400, "Invalid session ID");
		return false;
	}
	return true;
}

struct session *pcm_session_find(const struct call *c, const struct pcm_where *w)
{
	return engine_session_find(w->pool, tenant_of(c), w->identifier);
}

struct session *pcm_session_open(struct call *c, const struct pcm_where *w)
{
	struct err e;
	struct session *s = engine_session_open(w->pool, tenant_of(c), w->identifier, &e);
	if (s == NULL) {
		pcm_fail_err(c, &e);
	}
	return s;
}
