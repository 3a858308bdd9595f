#include <stdlib.h>
#include <string.h>

#include "approvals/records.h"
#include "approvals/records_rows.h"
#include "base/text.h"

#define DEADLINE_MAX_MS (100LL * 366 * 24 * 3600 * 1000) /* so that sums of times are numbers */

/* --- the client's key --- */

struct known {
	char sha256[RECORDS_SHA256_BYTES];
	char id[RECORDS_ID_MAX_BYTES + 1];
};

static int on_key(void *ctx, const struct db_row *r)
{
	struct known *k = ctx;
	const char *sha256 = db_text(r, 0, NULL);
	const char *id = db_text(r, 1, NULL);
	if (sha256 != NULL && id != NULL) {
		(void)memccpy(k->sha256, sha256, '\0', sizeof(k->sha256) - 1);
		(void)memccpy(k->id, id, '\0', sizeof(k->id) - 1);
	}
	return 1;
}

/* 1: the approval made then is in *OUT; 0: the key is new. */
static int find_known(struct db *d, const json_t *in, json_t **out, struct err *e)
{
	struct known k = {0};
	if (records_text(in, "key") == NULL) {
		return 0;
	}
	if (db_run(d,
		"SELECT sha256, approval FROM approval_key "
		"WHERE tenant = $1 AND submitter = $2 AND name = $3",
		(const struct db_value[]){DB_TEXT(records_text(in, "tenant")),
		    DB_TEXT(records_text(in, "submitter")), DB_TEXT(records_text(in, "key"))},
		3, on_key, &k, NULL, e) < 0) {
		return -1;
	}
	if (k.id[0] == '\0') {
		return 0;
	}
	const char *sha256 = records_text(in, "key_sha256");
	if (sha256 == NULL || strcmp(k.sha256, sha256) != 0) {
		return err_set(e, ERR_CONFLICT, "this Idempotency-Key came with another request");
	}
	cleanup(record_change_fini) struct record_change c = {0};
	if (record_change_load(&c, d, k.id, NULL, records_number(in, "now_us"), e) < 0 ||
	    record_change_answer(&c, "created", false, out, e) < 0) {
		return -1;
	}
	return 1;
}

static int store_key(struct db *d, const json_t *in, struct err *e)
{
	if (records_text(in, "key") == NULL) {
		return 0;
	}
	return db_run(d,
	    "INSERT INTO approval_key (tenant, submitter, name, sha256, approval) "
	    "VALUES ($1, $2, $3, $4, $5)",
	    (const struct db_value[]){DB_TEXT(records_text(in, "tenant")),
		DB_TEXT(records_text(in, "submitter")), DB_TEXT(records_text(in, "key")),
		DB_TEXT(records_text(in, "key_sha256")), DB_TEXT(records_text(in, "id"))},
	    5, NULL, NULL, NULL, e);
}

/* --- bounds --- */

static int on_count(void *ctx, const struct db_row *r)
{
	*(int64_t *)ctx = db_int(r, 0);
	return 1;
}

static int check_room(struct db *d, const json_t *in, struct err *e)
{
	int64_t open = 0;
	int64_t max = records_number(in, "open_max");
	if (db_run(d, "SELECT count FROM approval_open WHERE tenant = $1",
		(const struct db_value[]){DB_TEXT(records_text(in, "tenant"))}, 1, on_count, &open,
		NULL, e) < 0) {
		return -1;
	}
	return open < max ? 0
			  : err_set(e, ERR_BUSY, "there are %lld approvals that are not decided",
				(long long)open);
}

static int check_texts(const json_t *in, struct err *e)
{
	const json_t *deadline = json_object_get(json_object_get(in, "settings"), "deadline_ms");
	const char *kind = records_text(in, "kind");
	bool is_call = strcmp(kind, "call") == 0;
	if (!is_call && strcmp(kind, "code") != 0) {
		return err_set(e, ERR_INTERNAL, "approvals: there is no kind %.40s", kind);
	}
	if (!json_is_integer(deadline) || json_integer_value(deadline) <= 0 ||
	    json_integer_value(deadline) > DEADLINE_MAX_MS) {
		return err_set(e, ERR_INTERNAL, "approvals: no deadline_ms in the settings");
	}
	if (approval_policy_named(records_text(in, "policy")) == APPROVAL_POLICY_COUNT) {
		return err_set(e, ERR_INTERNAL, "approvals: no such policy");
	}
	if (!is_call) {
		return records_text(in, "code") != NULL
			   ? 0
			   : err_set(e, ERR_INTERNAL, "approvals: no code given");
	}
	const json_t *call = json_object_get(in, "call");
	if (records_text(call, "tool") == NULL || records_text(in, "owner") == NULL ||
	    records_number(in, "lease_us") == 0) {
		return err_set(e, ERR_INTERNAL, "approvals: a call without a tool or an owner");
	}
	return 0;
}

/* --- making one --- */

static json_t *text_or_null(const char *text)
{
	return text != NULL ? json_string(text) : json_null();
}

static json_t *member_or_null(const json_t *in, const char *name)
{
	json_t *value = json_object_get(in, name);
	return value != NULL ? json_incref(value) : json_null();
}

/* The texts beside the row, and their hashes. */
struct texts {
	const char *code; /* borrowed, or NULL */
	char *arguments;  /* as JSON, or NULL */
	char code_sha256[RECORDS_SHA256_BYTES];
	char arguments_sha256[RECORDS_SHA256_BYTES];
};

static void texts_fini(struct texts *t)
{
	free(t->arguments);
}

static int texts_init(struct texts *t, const json_t *in, struct err *e)
{
	const json_t *arguments = json_object_get(json_object_get(in, "call"), "arguments");
	const char *code = records_text(in, "code");
	bool is_call = json_is_object(json_object_get(in, "call"));
	t->code = code != NULL && (*code != '\0' || !is_call) ? code : NULL;
	if (t->code != NULL && records_sha256(t->code, strlen(t->code), t->code_sha256, e) < 0) {
		return -1;
	}
	if (arguments == NULL) {
		return 0;
	}
	t->arguments = records_dump(arguments);
	if (t->arguments == NULL) {
		return records_no_memory(e);
	}
	if (strlen(t->arguments) > DB_TEXT_MAX_BYTES) {
		return err_set(
		    e, ERR_TOO_LARGE, "the arguments of a call that waits are too large");
	}
	return records_sha256(t->arguments, strlen(t->arguments), t->arguments_sha256, e);
}

static int store_texts(struct db *d, const char *id, const struct texts *t, struct err *e)
{
	if (t->code != NULL && record_text_store(d, id, "code", t->code, strlen(t->code), e) < 0) {
		return -1;
	}
	return t->arguments != NULL
		   ? record_text_store(d, id, "arguments", t->arguments, strlen(t->arguments), e)
		   : 0;
}

static json_t *submitted_body(const json_t *in, const struct texts *t)
{
	const json_t *call = json_object_get(in, "call");
	json_t *named = json_is_object(call)
			    ? json_pack("{s:s, s:s?}", "tool", records_text(call, "tool"),
				  "callable", records_text(call, "callable"))
			    : json_null();
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:O}", "id",
	    records_text(in, "id"), "kind", records_text(in, "kind"), "tenant",
	    records_text(in, "tenant"), "pool", records_text(in, "pool"), "policy",
	    records_text(in, "policy"), "submitter", records_text(in, "submitter"), "code_sha256",
	    text_or_null(t->code != NULL ? t->code_sha256 : NULL), "arguments_sha256",
	    text_or_null(t->arguments != NULL ? t->arguments_sha256 : NULL), "call", named,
	    "parent", member_or_null(in, "parent"), "session", member_or_null(in, "session"),
	    "execution", member_or_null(in, "execution"), "settings",
	    json_object_get(in, "settings"));
}

static int make_events(
    struct record_change *c, const json_t *in, const struct texts *t, struct err *e)
{
	const char *by = records_text(in, "submitter");
	json_t *body = submitted_body(in, t);
	if (body == NULL) {
		return records_no_memory(e);
	}
	if (record_change_event(c, "submitted", by, body, e) < 0) {
		return -1;
	}
	if (record_state(c->row) == APPROVAL_QUEUED) {
		return 0;
	}
	bool is_call = record_policy(c->row) == APPROVAL_POLICY_COUNT;
	const json_t *settings = json_object_get(in, "settings");
	json_int_t deadline_us = c->now_us + records_number(settings, "deadline_ms") * 1000;
	return record_change_event(c, "waiting", "server",
	    json_pack("{s:s, s:I}", "stage",
		approval_stage_name(is_call ? APPROVAL_STAGE_CALL : APPROVAL_STAGE_CODE),
		"deadline_us", deadline_us),
	    e);
}

/* The trail names what is to run by its hash; the thing itself is in it where the configuration
 * says so. Of the settings (deadline, callback, promotion) it has the hash alone. */
static json_t *audit_detail(const json_t *in, const struct texts *t)
{
	char settings_sha256[RECORDS_SHA256_BYTES];
	if (records_settings_sha256(json_object_get(in, "settings"), settings_sha256, NULL) < 0) {
		return NULL;
	}
	json_t *detail = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s*, s:s*, s:O*, s:O*}", "tenant",
	    records_text(in, "tenant"), "pool", records_text(in, "pool"), "kind",
	    records_text(in, "kind"), "policy", records_text(in, "policy"), "settings_sha256",
	    settings_sha256, "code_sha256", t->code != NULL ? t->code_sha256 : NULL,
	    "arguments_sha256", t->arguments != NULL ? t->arguments_sha256 : NULL, "parent",
	    json_object_get(in, "parent"), "session", json_object_get(in, "session"));
	const json_t *call = json_object_get(in, "call");
	if (json_is_object(call)) {
		(void)json_object_set_new(detail, "tool", json_string(records_text(call, "tool")));
		(void)json_object_set(detail, "callable", json_object_get(call, "callable"));
	}
	if (json_is_true(json_object_get(in, "audit_code"))) {
		const char *name = json_is_object(call) ? "arguments" : "code";
		(void)json_object_set(
		    detail, name, json_object_get(json_is_object(call) ? call : in, name));
	}
	return detail;
}

static int write_all(
    struct record_change *c, const json_t *in, const struct texts *t, struct err *e)
{
	const char *id = records_text(in, "id");
	if (record_change_write(c, e) < 0 || store_texts(c->d, id, t, e) < 0 ||
	    store_key(c->d, in, e) < 0) {
		return -1;
	}
	if (record_policy(c->row) == APPROVAL_POLICY_COUNT &&
	    record_task_add(
		c, "call", records_number(in, "lease_us"), records_text(in, "owner"), e) < 0) {
		return -1;
	}
	json_t *detail = audit_detail(in, t);
	return detail == NULL ? records_no_memory(e)
			      : record_change_audit(c, records_text(in, "submitter"),
				    "approval.submit", records_text(c->row, "state"), detail, e);
}

int records_submit(struct db *d, const json_t *in, json_t **out, struct err *e)
{
	static const struct record_field fields[] = {
	    {"id", RECORD_TEXT, false},
	    {"tenant", RECORD_TEXT, false},
	    {"pool", RECORD_TEXT, false},
	    {"kind", RECORD_TEXT, false},
	    {"policy", RECORD_TEXT, false},
	    {"submitter", RECORD_TEXT, false},
	    {"code", RECORD_TEXT, true},
	    {"settings", RECORD_OBJECT, false},
	    {"now_us", RECORD_NUMBER, false},
	    {"key", RECORD_TEXT, true},
	    {"key_sha256", RECORD_TEXT, true},
	    {"open_max", RECORD_NUMBER, false},
	    {"call", RECORD_OBJECT, true},
	    {"parent", RECORD_TEXT, true},
	    {"session", RECORD_TEXT, true},
	    {"execution", RECORD_TEXT, true},
	    {"owner", RECORD_TEXT, true},
	    {"lease_us", RECORD_NUMBER, true},
	    {"audit_code", RECORD_FLAG, true},
	};
	cleanup(texts_fini) struct texts t = {0};
	cleanup(record_change_fini) struct record_change c = {0};
	if (records_check(in, fields, array_len(fields), e) < 0 || check_texts(in, e) < 0) {
		return -1;
	}
	int known = find_known(d, in, out, e);
	if (known != 0) {
		return known < 0 ? -1 : 0;
	}
	if (check_room(d, in, e) < 0 || texts_init(&t, in, e) < 0 ||
	    record_change_new(&c, d, records_text(in, "id"), records_number(in, "now_us"), e) < 0 ||
	    make_events(&c, in, &t, e) < 0 || write_all(&c, in, &t, e) < 0) {
		return -1;
	}
	return record_change_answer(&c, "created", true, out, e);
}
