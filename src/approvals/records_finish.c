/* What was begun has ended: a run, a callback, a promotion, a call. */
#include <stdlib.h>
#include <string.h>

#include "approvals/records.h"
#include "approvals/records_fold.h"
#include "approvals/records_rows.h"
#include "base/text.h"

/* --- a run --- */

/* What a run left, ready to be stored. */
struct outcome {
	char *text; /* the result as JSON; NULL: there is none */
	char sha256[RECORDS_SHA256_BYTES];
};

static void outcome_fini(struct outcome *o)
{
	free(o->text);
}

static int outcome_init(struct outcome *o, const json_t *in, struct err *e)
{
	const json_t *result = json_object_get(in, "result");
	if (result == NULL || json_is_null(result)) {
		return 0;
	}
	o->text = records_dump(result);
	if (o->text == NULL) {
		return records_no_memory(e);
	}
	if (strlen(o->text) > DB_TEXT_MAX_BYTES) {
		return err_set(e, ERR_TOO_LARGE, "the result is too large to be kept");
	}
	return records_sha256(o->text, strlen(o->text), o->sha256, e);
}

static int check_files(const json_t *files, struct err *e)
{
	size_t i;
	const json_t *file;
	json_array_foreach(files, i, file)
	{
		if (records_text(file, "name") == NULL || records_text(file, "base64") == NULL) {
			return err_set(e, ERR_INTERNAL, "approvals: a file without name or bytes");
		}
		if (json_string_length(json_object_get(file, "base64")) > DB_TEXT_MAX_BYTES) {
			return err_set(e, ERR_TOO_LARGE,
			    "the file '%.100s' is too large to be kept",
			    records_text(file, "name"));
		}
	}
	return 0;
}

static int store_files(struct db *d, const char *id, const json_t *files, struct err *e)
{
	size_t i;
	const json_t *file;
	json_array_foreach(files, i, file)
	{
		if (db_run(d,
			"INSERT INTO approval_file (approval, name, content) VALUES ($1, $2, $3) "
			"ON CONFLICT (approval, name) DO UPDATE SET content = $3",
			(const struct db_value[]){DB_TEXT(id), DB_TEXT(records_text(file, "name")),
			    DB_TEXT(records_text(file, "base64"))},
			3, NULL, NULL, NULL, e) < 0) {
			return -1;
		}
	}
	return 0;
}

static int end_events(
    struct record_change *c, const json_t *in, const struct outcome *o, struct err *e)
{
	bool ok = json_is_true(json_object_get(in, "ok"));
	enum approval_policy p = record_policy(c->row);
	json_t *sha256 = o->text != NULL ? json_string(o->sha256) : json_null();
	if (record_change_event(c, "run_finished", "server",
		json_pack("{s:b, s:s*, s:o, s:I}", "ok", (int)ok, "reason",
		    records_text(in, "reason"), "result_sha256", sha256, "attempt",
		    (json_int_t)records_number(c->row, "attempt")),
		e) < 0) {
		return -1;
	}
	if (!ok) {
		return record_change_event(c, "failed", "server",
		    json_pack("{s:s*}", "reason", records_text(in, "reason")), e);
	}
	if (p != APPROVAL_AFTER && p != APPROVAL_BOTH) {
		return record_change_event(c, "approved", "server", NULL, e);
	}
	const json_t *early = records_early_decision(c->row);
	if (early != NULL) {
		bool approve = json_is_true(json_object_get(early, "approve"));
		return record_change_event(c, approve ? "approved" : "rejected", "server", NULL, e);
	}
	const json_t *settings = json_object_get(c->row, "settings");
	json_int_t deadline_us = c->now_us + records_number(settings, "deadline_ms") * 1000;
	return record_change_event(c, "waiting", "server",
	    json_pack("{s:s, s:I}", "stage", approval_stage_name(APPROVAL_STAGE_RESULT),
		"deadline_us", deadline_us),
	    e);
}

static int write_end(
    struct record_change *c, const json_t *in, const struct outcome *o, struct err *e)
{
	const char *id = records_text(in, "id");
	bool ok = json_is_true(json_object_get(in, "ok"));
	bool promotes = ok && record_state(c->row) != APPROVAL_REJECTED;
	const json_t *settings = json_object_get(c->row, "settings");
	if (record_change_write(c, e) < 0 ||
	    (o->text != NULL &&
		record_text_store(c->d, id, "result", o->text, strlen(o->text), e) < 0)) {
		return -1;
	}
	if (promotes && json_is_object(json_object_get(settings, "promote")) &&
	    store_files(c->d, id, json_object_get(in, "files"), e) < 0) {
		return -1;
	}
	return record_change_audit(c, "server", "approval.finish", records_text(c->row, "state"),
	    json_pack("{s:b, s:s*, s:s*, s:I}", "ok", (int)ok, "reason", records_text(in, "reason"),
		"result_sha256", o->text != NULL ? o->sha256 : NULL, "attempt",
		(json_int_t)records_number(c->row, "attempt")),
	    e);
}

int records_finish_run(struct db *d, const json_t *in, json_t **out, struct err *e)
{
	static const struct record_field fields[] = {
	    {"id", RECORD_TEXT, false},
	    {"fence", RECORD_NUMBER, false},
	    {"now_us", RECORD_NUMBER, false},
	    {"ok", RECORD_FLAG, false},
	    {"reason", RECORD_TEXT, true},
	    {"result", RECORD_OBJECT, true},
	    {"files", RECORD_ARRAY, true},
	};
	cleanup(outcome_fini) struct outcome o = {0};
	cleanup(record_change_fini) struct record_change c = {0};
	if (records_check(in, fields, array_len(fields), e) < 0 ||
	    check_files(json_object_get(in, "files"), e) < 0 ||
	    record_change_load(
		&c, d, records_text(in, "id"), NULL, records_number(in, "now_us"), e) < 0 ||
	    record_task_check(&c, "run", records_number(in, "fence"), NULL, e) < 0 ||
	    outcome_init(&o, in, e) < 0 || end_events(&c, in, &o, e) < 0 ||
	    write_end(&c, in, &o, e) < 0) {
		return -1;
	}
	return record_change_answer(&c, NULL, false, out, e);
}

/* --- what goes on after it is final --- */

static const struct {
	const char *task, *event, *action;
} endings[] = {
    {"callback", "callback_delivered", "approval.callback"},
    {"callback", "callback_failed", "approval.callback"},
    {"callback", "callback_given_up", "approval.callback"},
    {"promote", "promoted", "approval.promote"},
    {"promote", "promote_failed", "approval.promote"},
    {"call", "call_finished", "approval.finish"},
};

/* The action for the audit trail; NULL: a task of that kind does not end so. */
static const char *action_of(const char *task, const char *event)
{
	for (size_t i = 0; event != NULL && i < array_len(endings); i++) {
		if (strcmp(endings[i].task, task) == 0 && strcmp(endings[i].event, event) == 0) {
			return endings[i].action;
		}
	}
	return NULL;
}

static int write_event(
    struct record_change *c, const char *task, const json_t *event, struct err *e)
{
	const char *kind = records_text(event, "kind");
	const char *action = action_of(task, kind);
	json_t *body = json_object_get(event, "body");
	if (action == NULL || (body != NULL && !json_is_object(body))) {
		return err_set(e, ERR_INTERNAL, "approvals: a %.20s does not end so", task);
	}
	if (record_change_event(c, kind, "server", body != NULL ? json_incref(body) : NULL, e) <
		0 ||
	    record_change_write(c, e) < 0) {
		return -1;
	}
	return record_change_audit(
	    c, "server", action, kind, body != NULL ? json_incref(body) : NULL, e);
}

/* Without an event nothing was tried. */
static int end_task(struct db *d, const json_t *in, const struct record_task *t, struct err *e)
{
	const char *id = records_text(in, "id");
	const char *kind = records_text(in, "kind");
	const json_t *retry_us = json_object_get(in, "retry_us");
	int64_t tried = json_is_object(json_object_get(in, "event")) ? 1 : 0;
	if (json_is_integer(retry_us)) {
		return record_task_release(
		    d, id, kind, json_integer_value(retry_us), t->attempt + tried, e);
	}
	if (strcmp(kind, "promote") == 0 && record_files_drop(d, id, e) < 0) {
		return -1;
	}
	return record_task_drop(d, id, kind, e);
}

int records_finish_task(struct db *d, const json_t *in, json_t **out, struct err *e)
{
	static const struct record_field fields[] = {
	    {"id", RECORD_TEXT, false},
	    {"fence", RECORD_NUMBER, true},
	    {"kind", RECORD_TEXT, false},
	    {"event", RECORD_OBJECT, true},
	    {"retry_us", RECORD_NUMBER, true},
	    {"now_us", RECORD_NUMBER, false},
	};
	const char *id = records_text(in, "id");
	const char *kind = records_text(in, "kind");
	const json_t *event = json_object_get(in, "event");
	struct record_task t;
	cleanup(record_change_fini) struct record_change c = {0};
	if (records_check(in, fields, array_len(fields), e) < 0 ||
	    record_change_load(&c, d, id, NULL, records_number(in, "now_us"), e) < 0 ||
	    record_task_check(&c, kind,
		strcmp(kind, "call") == 0 ? RECORD_ANY_FENCE : records_number(in, "fence"), &t,
		e) < 0) {
		return -1;
	}
	if (json_is_object(event) && write_event(&c, kind, event, e) < 0) {
		return -1;
	}
	if (end_task(d, in, &t, e) < 0) {
		return -1;
	}
	return records_answer(
	    out, "changed", json_is_object(event) ? json_pack("[s]", id) : json_array(), e);
}
