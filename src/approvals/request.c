/* What routes and sessions ask: each call is checked, and is one question or change. */
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "approvals/audit.h"
#include "approvals/internal.h"
#include "approvals/submission.h"
#include "approvals/view.h"

#define BY_MAX_BYTES 256
#define REASON_MAX_BYTES 4096

struct approvals_call {
	struct approvals *approvals;
	approvals_fn fn;
	void *ctx;
	bool every_tenant;
	records_fn op;
	bool is_write;
	uint64_t *count; /* one more when it succeeds and nothing says that it was known; or NULL */
	char *pool;      /* looked at before IN is done; NULL: any */
	json_t *in;
	struct approval_request *request;
	struct approvals_call *prev, *next; /* approvals.calls */
};

static void drop(struct approvals_call *c)
{
	DL_DELETE(c->approvals->calls, c);
	approval_store_cancel(c->request);
	json_decref(c->in);
	free(c->pool);
	free(c);
}

void approvals_cancel_call(struct approvals_call *c)
{
	if (c != NULL) {
		drop(c);
	}
}

void calls_stop(struct approvals *a)
{
	while (a->calls != NULL) {
		drop(a->calls);
	}
}

/* --- one call ------------------------------------------------------------------------------------
 */

static void count(const struct approvals_call *c, const json_t *answer)
{
	bool known = json_is_true(json_object_get(answer, "again")) ||
		     json_is_false(json_object_get(answer, "created"));
	if (c->count != NULL && !known) {
		++*c->count;
	}
}

static void on_answer(void *ctx, const json_t *answer, const struct err *e)
{
	struct approvals_call *c = ctx;
	c->request = NULL;
	struct err none = {.code = ERR_INTERNAL, .text = "out of memory"};
	json_t *view = e == NULL ? view_answer(answer, c->every_tenant) : NULL;
	if (e == NULL) {
		count(c, answer);
	}
	approvals_fn fn = c->fn;
	void *fn_ctx = c->ctx;
	drop(c);
	fn(fn_ctx, view, view != NULL ? NULL : e != NULL ? e : &none);
	json_decref(view);
}

static struct approval_request *ask(struct approvals_call *c)
{
	struct approval_store *s = c->approvals->store;
	json_t *in = steal(&c->in);
	return c->is_write ? approval_store_write(s, c->op, in, on_answer, c)
			   : approval_store_read(s, c->op, in, on_answer, c);
}

/* An approval never changes its pool, so what is done next is done to the one that was looked at.
 */
static void on_looked(void *ctx, const json_t *answer, const struct err *e)
{
	struct approvals_call *c = ctx;
	const char *pool = json_string_value(
	    json_object_get(json_object_get(answer, "approval"), "pool"));
	struct err none = {.code = ERR_NOT_FOUND, .text = "there is no such approval"};
	c->request = NULL;
	if (e != NULL || pool == NULL || strcmp(pool, c->pool) != 0) {
		on_answer(c, NULL, e != NULL ? e : &none);
		return;
	}
	c->request = ask(c);
	if (c->request == NULL) {
		none = (struct err){.code = ERR_INTERNAL, .text = "out of memory"};
		on_answer(c, NULL, &none);
	}
}

static struct approval_request *look(struct approvals_call *c)
{
	json_t *in = json_pack("{s:O, s:O?}", "id", json_object_get(c->in, "id"), "tenant",
	    json_object_get(c->in, "tenant"));
	return in != NULL ? approval_store_read(c->approvals->store, records_get, in, on_looked, c)
			  : NULL;
}

struct question {
	records_fn op;
	bool is_write;
	bool looks; /* at the pool first, when WHO has only one */
	uint64_t *count;
};

static struct approvals_call *refuse(approvals_fn fn, void *ctx, const struct err *e)
{
	fn(ctx, NULL, e);
	return NULL;
}

/* IN is taken over. */
static struct approvals_call *begin(struct approvals *a, const struct approvals_who *who,
    const struct question *q, json_t *in, approvals_fn fn, void *ctx)
{
	struct err e = {.code = ERR_INTERNAL, .text = "out of memory"};
	struct approvals_call *c = in != NULL ? calloc(1, sizeof(*c)) : NULL;
	char *pool = q->looks && who->pool != NULL ? strdup(who->pool) : NULL;
	if (c == NULL || (pool == NULL && q->looks && who->pool != NULL)) {
		if (in == NULL) {
			e = (struct err){.code = ERR_INVALID, .text = "a text is not UTF-8"};
		}
		json_decref(in);
		free(c);
		free(pool);
		return refuse(fn, ctx, &e);
	}
	*c = (struct approvals_call){
	    .approvals = a,
	    .fn = fn,
	    .ctx = ctx,
	    .every_tenant = who->every_tenant,
	    .op = q->op,
	    .is_write = q->is_write,
	    .count = q->count,
	    .pool = pool,
	    .in = in,
	};
	DL_APPEND(a->calls, c);
	c->request = pool != NULL ? look(c) : ask(c);
	if (c->request == NULL) {
		drop(c);
		return refuse(fn, ctx, &e);
	}
	return c;
}

/* As IN's "tenant": which one WHO sees; null: all. A new reference. */
static json_t *tenant_of(const struct approvals_who *who)
{
	return who->every_tenant ? json_null()
				 : json_string(who->tenant != NULL ? who->tenant : "");
}

/* --- submissions ---------------------------------------------------------------------------------
 */

static int find_pool(const struct approvals *a, const struct approvals_who *who, const char *pool,
    const struct pool **out, struct err *e)
{
	const char *name = pool != NULL && *pool != '\0' ? pool : who->pool;
	*out = engine_pool(a->config.engine, name);
	if (*out == NULL) {
		return err_set(e, ERR_NOT_FOUND, "there is no session pool of that name");
	}
	if (who->pool != NULL && strcmp(who->pool, (*out)->config.name) != 0) {
		return err_set(e, ERR_DENIED, "this token is for another session pool");
	}
	return 0;
}

static json_t *submission(struct approvals *a, const struct approvals_who *who, const char *pool,
    const json_t *request, const char *key, struct err *e)
{
	const struct pool *p;
	char key_sha256[65] = "";
	char id[TEXT_GUID_BYTES];
	enum approval_policy policy;
	if (find_pool(a, who, pool, &p, e) < 0 ||
	    (key != NULL && submission_key_check(key, e) < 0)) {
		return NULL;
	}
	json_t *settings = submission_settings(&a->config, p->index, request, &policy, e);
	if (settings == NULL || submission_sha256(p->config.name, request, key_sha256, e) < 0) {
		json_decref(settings);
		return NULL;
	}
	json_t *in = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:O, s:o, s:I, s:I, s:b}", "id",
	    text_guid(id), "tenant", who->tenant != NULL ? who->tenant : "", "pool", p->config.name,
	    "kind", "code", "policy", approval_policy_name(policy), "submitter", who->name, "code",
	    json_object_get(request, "code"), "settings", settings, "now_us",
	    (json_int_t)approvals_now_us(a), "open_max", (json_int_t)a->config.open_max,
	    "audit_code", (int)a->config.audit_code);
	if (in == NULL) {
		(void)err_set(e, ERR_INTERNAL, "out of memory");
		return NULL;
	}
	if (key != NULL) {
		(void)json_object_set_new(in, "key", json_string(key));
		(void)json_object_set_new(in, "key_sha256", json_string(key_sha256));
	}
	return in;
}

struct approvals_call *approvals_submit(struct approvals *a, const struct approvals_who *who,
    const char *pool, const json_t *request, const char *key, approvals_fn fn, void *ctx)
{
	struct err e = {0};
	struct err stopping = {.code = ERR_UNAVAILABLE, .text = "the server is stopping"};
	if (a->draining || a->stopped) {
		return refuse(fn, ctx, &stopping);
	}
	json_t *in = submission(a, who, pool, request, key, &e);
	if (in == NULL) {
		return refuse(fn, ctx, &e);
	}
	const struct question q = {
	    .op = records_submit, .is_write = true, .count = &a->counts.submitted};
	return begin(a, who, &q, in, fn, ctx);
}

/* --- questions -----------------------------------------------------------------------------------
 */

struct approvals_call *approvals_get(struct approvals *a, const struct approvals_who *who,
    const char *id, approvals_fn fn, void *ctx)
{
	const struct question q = {.op = records_get, .looks = true};
	return begin(
	    a, who, &q, json_pack("{s:s, s:o}", "id", id, "tenant", tenant_of(who)), fn, ctx);
}

struct approvals_call *approvals_events(struct approvals *a, const struct approvals_who *who,
    const char *id, int64_t after, approvals_fn fn, void *ctx)
{
	const struct question q = {.op = records_events, .looks = true};
	return begin(a, who, &q,
	    json_pack("{s:s, s:o, s:I, s:i}", "id", id, "tenant", tenant_of(who), "after",
		(json_int_t)after, "limit", RECORDS_PAGE_MAX),
	    fn, ctx);
}

struct approvals_call *approvals_list(struct approvals *a, const struct approvals_who *who,
    const char *state, const char *kind, const char *after, uint32_t limit, approvals_fn fn,
    void *ctx)
{
	struct err e = {0};
	if (state != NULL && approval_state_named(state) == APPROVAL_STATE_COUNT) {
		(void)err_set(&e, ERR_INVALID,
		    "'state' is one of queued, running, waiting, approved, rejected, expired, "
		    "failed, cancelled");
	} else if (kind != NULL && strcmp(kind, "code") != 0 && strcmp(kind, "call") != 0) {
		(void)err_set(&e, ERR_INVALID, "'kind' is code or call");
	} else if (limit < 1 || limit > RECORDS_PAGE_MAX) {
		(void)err_set(&e, ERR_INVALID, "'limit' is 1 to %d", RECORDS_PAGE_MAX);
	}
	if (e.code != ERR_NONE) {
		return refuse(fn, ctx, &e);
	}
	const struct question q = {.op = records_list};
	return begin(a, who, &q,
	    json_pack("{s:o, s:s?, s:s?, s:s?, s:s?, s:i}", "tenant", tenant_of(who), "state",
		state, "kind", kind, "pool", who->pool, "after", after, "limit", (int)limit),
	    fn, ctx);
}

/* --- decisions -----------------------------------------------------------------------------------
 */

static int check_texts(const char *by, const char *reason, struct err *e)
{
	if (by != NULL && strlen(by) > BY_MAX_BYTES) {
		return err_set(e, ERR_INVALID, "'by' has at most %d bytes", BY_MAX_BYTES);
	}
	if (reason != NULL && strlen(reason) > REASON_MAX_BYTES) {
		return err_set(e, ERR_INVALID, "'reason' has at most %d bytes", REASON_MAX_BYTES);
	}
	return 0;
}

struct approvals_call *approvals_decide(struct approvals *a, const struct approvals_who *who,
    const char *id, const struct approvals_decision *d, approvals_fn fn, void *ctx)
{
	struct err e = {0};
	enum approval_stage s = approval_stage_named(d->stage);
	if (d->stage != NULL && (s == APPROVAL_STAGE_COUNT || s == APPROVAL_STAGE_NONE)) {
		(void)err_set(&e, ERR_INVALID, "'stage' is code, result or call");
		return refuse(fn, ctx, &e);
	}
	if (check_texts(d->by, d->reason, &e) < 0) {
		return refuse(fn, ctx, &e);
	}
	const struct question q = {
	    .op = records_decide,
	    .is_write = true,
	    .looks = true,
	    .count = d->approve ? &a->counts.decided_approved : &a->counts.decided_rejected,
	};
	return begin(a, who, &q,
	    json_pack("{s:s, s:o, s:s?, s:b, s:s, s:s?, s:s?, s:I, s:b, s:b}", "id", id, "tenant",
		tenant_of(who), "stage", d->stage, "approve", (int)d->approve, "by", who->name,
		"person", d->by, "reason", d->reason, "now_us", (json_int_t)approvals_now_us(a),
		"own", (int)who->own, "early", (int)d->early),
	    fn, ctx);
}

struct approvals_call *approvals_cancel(struct approvals *a, const struct approvals_who *who,
    const char *id, const char *reason, approvals_fn fn, void *ctx)
{
	struct err e = {0};
	if (check_texts(NULL, reason, &e) < 0) {
		return refuse(fn, ctx, &e);
	}
	const struct question q = {.op = records_cancel, .is_write = true, .looks = true};
	return begin(a, who, &q,
	    json_pack("{s:s, s:o, s:s, s:s?, s:I}", "id", id, "tenant", tenant_of(who), "by",
		who->name, "reason", reason, "now_us", (json_int_t)approvals_now_us(a)),
	    fn, ctx);
}

/* --- the trail -----------------------------------------------------------------------------------
 */

struct approvals_call *approvals_audit_head(struct approvals *a, approvals_fn fn, void *ctx)
{
	static const struct approvals_who server = {.name = "server", .every_tenant = true};
	const struct question q = {.op = audit_head};
	return begin(a, &server, &q, json_object(), fn, ctx);
}
