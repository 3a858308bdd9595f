#include <stdlib.h>
#include <string.h>

#include "api/appr.h"
#include "base/text.h"

/* --- who asks -----------------------------------------------------------------------------------
 */

/* The tenant's own token sees its tenant's alone. The server's own sees what has no tenant, and as
 * admin every tenant's, or the one that the query names. */
static int set_tenant(
    struct call *c, const struct principal *who, struct approvals_who *w, struct err *e)
{
	const char *named = call_query(c, "tenant");
	w->tenant = who->prefix;
	w->every_tenant = who->prefix == NULL && who->role >= ROLE_ADMIN;
	if (named == NULL || *named == '\0' ||
	    (who->prefix != NULL && strcmp(named, who->prefix) == 0)) {
		return 0;
	}
	if (!w->every_tenant) {
		return err_set(e, ERR_DENIED, "this token is for another tenant");
	}
	if (!engine_tenant_is_valid(named)) {
		return err_set(
		    e, ERR_INVALID, "the query parameter 'tenant' is not the name of a tenant");
	}
	w->tenant = named;
	w->every_tenant = false;
	return 0;
}

int appr_who(struct call *c, struct approvals_who *w, struct err *e)
{
	const struct api *api = c->app;
	const struct principal *who = c->principal;
	if (api->approvals == NULL) {
		return err_set(e, ERR_UNAVAILABLE,
		    "this server keeps no approvals: 'approvals.enabled' is false");
	}
	*w = (struct approvals_who){.name = who->name,
	    .pool = c->pool != NULL ? c->pool : who->pool,
	    /* Who runs nothing has submitted nothing. */
	    .own = !who->others_only || who->role < ROLE_EXECUTE};
	if (w->pool != NULL && engine_pool(api->engine, w->pool) == NULL) {
		return err_set(e, ERR_NOT_FOUND, "there is no session pool of that name");
	}
	return set_tenant(c, who, w, e);
}

/* --- waiting ------------------------------------------------------------------------------------
 */

struct appr_asking {
	struct call *call;
	struct approvals_call *pending;
	appr_answer_fn answer;
	bool starting; /* appr_asked has not been called yet */
	bool done;
};

static void on_gone(struct call *c)
{
	struct appr_asking *a = c->ctx;
	approvals_cancel_call(a->pending);
	free(a);
}

struct appr_asking *appr_ask(struct call *c, appr_answer_fn answer)
{
	struct appr_asking *a = calloc(1, sizeof(*a));
	if (a == NULL) {
		struct err e;
		(void)err_set(&e, ERR_INTERNAL, "out of memory");
		answer(c, NULL, &e);
		return NULL;
	}
	*a = (struct appr_asking){.call = c, .answer = answer, .starting = true};
	c->ctx = a;
	c->gone = on_gone;
	return a;
}

void appr_told(void *asking, const json_t *answer, const struct err *e)
{
	struct appr_asking *a = asking;
	struct call *c = a->call;
	bool starting = a->starting;
	a->done = true;
	c->ctx = NULL;
	c->gone = NULL;
	a->answer(c, answer, e);
	if (!starting) {
		free(a);
	}
}

void appr_asked(struct appr_asking *a, struct approvals_call *pending)
{
	if (a->done) {
		free(a);
		return;
	}
	a->pending = pending;
	a->starting = false;
}

/* --- what a request says ------------------------------------------------------------------------
 */

int appr_query(struct call *c, const char *name, size_t max_bytes, const char **out, struct err *e)
{
	const char *text = call_query(c, name);
	*out = NULL;
	if (text == NULL || *text == '\0') {
		return 0;
	}
	if (strlen(text) > max_bytes) {
		return err_set(e, ERR_INVALID, "the query parameter '%s' is longer than %zu bytes",
		    name, max_bytes);
	}
	if (!text_is_utf8(text, strlen(text))) {
		return err_set(e, ERR_INVALID, "the query parameter '%s' is not UTF-8", name);
	}
	*out = text;
	return 0;
}

int appr_key(struct call *c, const char **out, struct err *e)
{
	const char *key = call_header(c, "Idempotency-Key");
	*out = NULL;
	if (key == NULL) {
		return 0;
	}
	size_t len = strlen(key);
	bool good = len > 0 && len <= APPR_KEY_MAX_BYTES;
	for (size_t i = 0; good && i < len; i++) {
		good = key[i] > ' ' && key[i] <= '~';
	}
	if (!good) {
		return err_set(e, ERR_INVALID,
		    "the header Idempotency-Key must be 1 to %d printable ASCII characters without "
		    "spaces",
		    APPR_KEY_MAX_BYTES);
	}
	*out = key;
	return 0;
}

const char *appr_id(struct call *c)
{
	static const char allowed[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-";
	const char *id = c->params[0];
	size_t len = strlen(id);
	if (len == 0 || len >= sizeof((struct approvals_watch){0}.id) ||
	    strspn(id, allowed) != len) {
		appr_fail(c, ERR_NOT_FOUND, "there is no approval of that id");
		return NULL;
	}
	return id;
}
