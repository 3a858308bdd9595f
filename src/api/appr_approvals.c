/* Approvals as a resource: submit, list, look at, decide, cancel. */
#include <string.h>

#include "api/appr.h"
#include "approvals/records.h"
#include "base/text.h"

#define LIMIT_DEFAULT 100

/* Who asks; false having answered. */
static bool who(struct call *c, struct approvals_who *w)
{
	struct err e;
	if (appr_who(c, w, &e) < 0) {
		appr_fail_err(c, &e);
		return false;
	}
	return true;
}

/* --- bodies -------------------------------------------------------------------------------------
 */

/* The body as a JSON object, none at all as an empty one. A new reference; NULL having answered. */
static json_t *body_of(struct call *c)
{
	const json_error_t *error = &c->json.error;
	json_t *j = c->body.len == 0 ? json_object() : json_incref(c->json.value);
	if (c->json.heavy) {
		appr_fail(c, ERR_TOO_LARGE, "the body holds more values than it may");
	} else if (j == NULL) {
		appr_fail(c, ERR_INVALID, "the body is not JSON: line %d, column %d: %s",
		    error->line, error->column, error->text);
	} else if (!json_is_object(j)) {
		appr_fail(c, ERR_INVALID, "the body must be a JSON object");
		json_decref(j);
		j = NULL;
	}
	return j;
}

/* A text of BODY, NULL when it is absent or null. */
static int text_member(
    const json_t *body, const char *name, size_t max_bytes, const char **out, struct err *e)
{
	const json_t *j = json_object_get(body, name);
	*out = NULL;
	if (j == NULL || json_is_null(j)) {
		return 0;
	}
	if (!json_is_string(j)) {
		return err_set(e, ERR_INVALID, "%s: must be a text", name);
	}
	if (json_string_length(j) > max_bytes) {
		return err_set(e, ERR_INVALID, "%s: longer than %zu bytes", name, max_bytes);
	}
	*out = json_string_value(j);
	return 0;
}

static int only_known(const json_t *body, const char *const *names, const char *list, struct err *e)
{
	const char *name;
	json_t *value;
	json_object_foreach((json_t *)(uintptr_t)body, name, value)
	{
		const char *const *at = names;
		while (*at != NULL && strcmp(*at, name) != 0) {
			at++;
		}
		if (*at == NULL) {
			return err_set(
			    e, ERR_INVALID, "'%.100s' is not known here: known are %s", name, list);
		}
	}
	return 0;
}

/* --- answers ------------------------------------------------------------------------------------
 */

static void answer_approval(struct call *c, const json_t *answer, const struct err *e)
{
	if (e != NULL) {
		appr_fail_err(c, e);
	} else {
		appr_reply(c, 200, json_incref(json_object_get(answer, "approval")));
	}
}

static void set_location(struct call *c, const char *id)
{
	cleanup(buf_fini) struct buf b = BUF_INIT(512);
	int r = c->pool != NULL ? buf_addf(&b, "/sessionPools/%s/approvals/%s", c->pool, id)
				: buf_addf(&b, "/approvals/%s", id);
	if (r == 0) {
		call_set_header(c, "Location", buf_str(&b));
	}
}

static void answer_submit(struct call *c, const json_t *answer, const struct err *e)
{
	if (e != NULL) {
		appr_fail_err(c, e);
		return;
	}
	json_t *approval = json_object_get(answer, "approval");
	const char *id = json_string_value(json_object_get(approval, "id"));
	if (id != NULL) {
		set_location(c, id);
	}
	bool created = json_is_true(json_object_get(answer, "created"));
	appr_reply(c, created ? 201 : 200, json_incref(approval));
}

/* The approval with its events as one more member. */
static void answer_get(struct call *c, const json_t *answer, const struct err *e)
{
	if (e != NULL) {
		appr_fail_err(c, e);
		return;
	}
	json_t *whole = json_copy(json_object_get(answer, "approval"));
	if (whole != NULL) {
		(void)json_object_set(whole, "history", json_object_get(answer, "events"));
	}
	appr_reply(c, 200, whole);
}

static void answer_list(struct call *c, const json_t *answer, const struct err *e)
{
	if (e != NULL) {
		appr_fail_err(c, e);
	} else {
		appr_reply(c, 200, json_copy((json_t *)(uintptr_t)answer));
	}
}

/* --- the routes ---------------------------------------------------------------------------------
 */

void appr_submit(struct call *c)
{
	const struct api *api = c->app;
	struct approvals_who w;
	struct err e;
	const char *key;
	if (!who(c, &w)) {
		return;
	}
	if (appr_key(c, &key, &e) < 0) {
		appr_fail_err(c, &e);
		return;
	}
	json_t *request = body_of(c);
	struct appr_asking *a = request != NULL ? appr_ask(c, answer_submit) : NULL;
	if (a != NULL) {
		appr_asked(
		    a, approvals_submit(api->approvals, &w, w.pool, request, key, appr_told, a));
	}
	json_decref(request);
}

struct listing {
	const char *state;
	const char *kind;
	const char *after;
	uint64_t limit;
};

static int read_listing(struct call *c, struct listing *l, struct err *e)
{
	const char *limit;
	if (appr_query(c, "state", APPR_NAME_MAX_BYTES, &l->state, e) < 0 ||
	    appr_query(c, "kind", APPR_NAME_MAX_BYTES, &l->kind, e) < 0 ||
	    appr_query(c, "after", APPR_NAME_MAX_BYTES, &l->after, e) < 0 ||
	    appr_query(c, "limit", APPR_NAME_MAX_BYTES, &limit, e) < 0) {
		return -1;
	}
	if (l->state != NULL && approval_state_named(l->state) == APPROVAL_STATE_COUNT) {
		return err_set(e, ERR_INVALID,
		    "the query parameter 'state' must be queued, running, waiting, approved, "
		    "rejected, expired, failed or cancelled");
	}
	if (l->kind != NULL && strcmp(l->kind, "code") != 0 && strcmp(l->kind, "call") != 0) {
		return err_set(e, ERR_INVALID, "the query parameter 'kind' must be code or call");
	}
	l->limit = LIMIT_DEFAULT;
	if (limit != NULL &&
	    (text_to_u64(limit, RECORDS_PAGE_MAX, &l->limit) < 0 || l->limit == 0)) {
		return err_set(e, ERR_INVALID,
		    "the query parameter 'limit' must be a whole number from 1 to %d",
		    RECORDS_PAGE_MAX);
	}
	return 0;
}

void appr_list(struct call *c)
{
	const struct api *api = c->app;
	struct approvals_who w;
	struct listing l;
	struct err e;
	if (!who(c, &w)) {
		return;
	}
	if (read_listing(c, &l, &e) < 0) {
		appr_fail_err(c, &e);
		return;
	}
	struct appr_asking *a = appr_ask(c, answer_list);
	if (a != NULL) {
		appr_asked(a, approvals_list(api->approvals, &w, l.state, l.kind, l.after,
				  (uint32_t)l.limit, appr_told, a));
	}
}

void appr_get(struct call *c)
{
	const struct api *api = c->app;
	struct approvals_who w;
	const char *id;
	if (!who(c, &w) || (id = appr_id(c)) == NULL) {
		return;
	}
	struct appr_asking *a = appr_ask(c, answer_get);
	if (a != NULL) {
		appr_asked(a, approvals_get(api->approvals, &w, id, appr_told, a));
	}
}

static int read_decision(const json_t *body, struct approvals_decision *d, struct err *e)
{
	static const char *const known[] = {"approve", "reason", "by", "stage", NULL};
	const json_t *approve = json_object_get(body, "approve");
	if (only_known(body, known, "approve, reason, by and stage", e) < 0) {
		return -1;
	}
	if (!json_is_boolean(approve)) {
		return err_set(e, ERR_INVALID, "approve: must be true or false");
	}
	d->approve = json_is_true(approve);
	return text_member(body, "stage", APPR_NAME_MAX_BYTES, &d->stage, e) < 0 ||
		       text_member(body, "by", APPR_NAME_MAX_BYTES, &d->by, e) < 0 ||
		       text_member(body, "reason", APPR_TEXT_MAX_BYTES, &d->reason, e) < 0
		   ? -1
		   : 0;
}

/* BODY is borrowed. */
static void decide(
    struct call *c, const char *id, const struct approvals_who *w, const json_t *body)
{
	const struct api *api = c->app;
	struct approvals_decision d = {0};
	struct err e;
	if (read_decision(body, &d, &e) < 0) {
		appr_fail_err(c, &e);
		return;
	}
	struct appr_asking *a = appr_ask(c, answer_approval);
	if (a != NULL) {
		appr_asked(a, approvals_decide(api->approvals, w, id, &d, appr_told, a));
	}
}

void appr_decide(struct call *c)
{
	struct approvals_who w;
	const char *id;
	if (!who(c, &w) || (id = appr_id(c)) == NULL) {
		return;
	}
	json_t *body = body_of(c);
	if (body != NULL) {
		decide(c, id, &w, body);
	}
	json_decref(body);
}

void appr_cancel(struct call *c)
{
	const struct api *api = c->app;
	struct approvals_who w;
	struct err e;
	const char *id;
	const char *reason;
	if (!who(c, &w) || (id = appr_id(c)) == NULL) {
		return;
	}
	if (appr_query(c, "reason", APPR_TEXT_MAX_BYTES, &reason, &e) < 0) {
		appr_fail_err(c, &e);
		return;
	}
	struct appr_asking *a = appr_ask(c, answer_approval);
	if (a != NULL) {
		appr_asked(a, approvals_cancel(api->approvals, &w, id, reason, appr_told, a));
	}
}
