/* The two routes of the sample. What it does not know (a reason, a stage, who decides) may be added
 * to the query. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "api/appr.h"
#include "base/text.h"

#define WHITE_SPACE " \t\r\n"

bool appr_is_sample(struct call *c)
{
	if (call_query(c, "identifier") != NULL || c->path_identifier != NULL) {
		return false;
	}
	const char *text = buf_str(&c->body);
	text += strspn(text, WHITE_SPACE);
	return *text == '"' || (*text != '{' && call_query(c, "api-version") == NULL);
}

/* --- POST /code/execute -------------------------------------------------------------------------
 */

/* The README shows the name as C# writes it, the sample's server sends it as JavaScript would. */
static void answer_execute(struct call *c, const json_t *answer, const struct err *e)
{
	if (e != NULL) {
		appr_fail_plain(c, e);
		return;
	}
	json_t *id = json_object_get(json_object_get(answer, "approval"), "id");
	appr_reply(c, 200, json_pack("{s:O, s:O}", "requestId", id, "RequestId", id));
}

size_t appr_sample_json(struct call *c)
{
	(void)c;
	return JSON_DECODE_ANY;
}

/* The code, or NULL with E. A new reference. */
static json_t *code_of(struct call *c, struct err *e)
{
	const json_error_t *error = &c->json.error;
	const char *body = buf_str(&c->body);
	bool empty = body[strspn(body, WHITE_SPACE)] == '\0';
	json_t *code = empty ? json_null() : json_incref(c->json.value);
	if (code == NULL && !c->json.heavy) {
		(void)err_set(e, ERR_INVALID, "the body is not JSON: line %d, column %d: %s",
		    error->line, error->column, error->text);
		return NULL;
	}
	const char *text = json_string_value(code);
	if (text == NULL && !json_is_null(code)) {
		(void)err_set(e, ERR_INVALID, "the body must be a JSON string: the code");
		json_decref(code);
		return NULL;
	}
	if (text == NULL || text[strspn(text, WHITE_SPACE "\f\v")] == '\0') {
		(void)err_set(e, ERR_INVALID, "Code cannot be null or empty.");
		json_decref(code);
		return NULL;
	}
	return code;
}

void appr_code_execute(struct call *c)
{
	const struct api *api = c->app;
	struct approvals_who w;
	struct err e;
	const char *key;
	json_t *code = NULL;
	if (appr_who(c, &w, &e) == 0 && appr_key(c, &key, &e) == 0) {
		code = code_of(c, &e);
	}
	if (code == NULL) {
		appr_fail_plain(c, &e);
		return;
	}
	json_t *request = json_pack("{s:o}", "code", code);
	struct appr_asking *a = appr_ask(c, answer_execute);
	if (a != NULL) {
		appr_asked(
		    a, approvals_submit(api->approvals, &w, w.pool, request, key, appr_told, a));
	}
	json_decref(request);
}

/* --- POST /code/review --------------------------------------------------------------------------
 */

/* A missing one is false, as the sample's model has it; one without a value is none. */
static int read_approve(struct call *c, bool *out, struct err *e)
{
	const char *text = call_query(c, "approve");
	*out = text != NULL && strcasecmp(text, "true") == 0;
	if (text != NULL && !*out && strcasecmp(text, "false") != 0) {
		return err_set(
		    e, ERR_INVALID, "The query parameter 'approve' must be true or false.");
	}
	return 0;
}

static void answer_review(struct call *c, const json_t *answer, const struct err *e)
{
	(void)answer;
	bool approve;
	struct err ignored;
	if (e != NULL) {
		appr_fail_plain(c, e);
		return;
	}
	(void)read_approve(c, &approve, &ignored);
	appr_reply(c, 200,
	    json_pack("{s:s}", "message",
		approve ? "Code execution approved." : "Code execution rejected."));
}

static int read_review(struct call *c, const char **id, struct approvals_decision *r, struct err *e)
{
	if (appr_query(c, "requestId", APPR_NAME_MAX_BYTES, id, e) < 0 ||
	    appr_query(c, "stage", APPR_NAME_MAX_BYTES, &r->stage, e) < 0 ||
	    appr_query(c, "by", APPR_NAME_MAX_BYTES, &r->by, e) < 0 ||
	    appr_query(c, "reason", APPR_TEXT_MAX_BYTES, &r->reason, e) < 0) {
		return -1;
	}
	if (*id == NULL || (*id)[strspn(*id, WHITE_SPACE)] == '\0') {
		return err_set(e, ERR_INVALID, "Request ID cannot be null or empty.");
	}
	return read_approve(c, &r->approve, e);
}

void appr_code_review(struct call *c)
{
	const struct api *api = c->app;
	struct approvals_who w;
	/* The sample raises an event, which waits until somebody waits for it. */
	struct approvals_decision r = {.early = true};
	const char *id;
	struct err e;
	if (appr_who(c, &w, &e) < 0 || read_review(c, &id, &r, &e) < 0) {
		appr_fail_plain(c, &e);
		return;
	}
	struct appr_asking *a = appr_ask(c, answer_review);
	if (a != NULL) {
		appr_asked(a, approvals_decide(api->approvals, &w, id, &r, appr_told, a));
	}
}
