/* A change to one approval: what record_change and the tasks of records_rows.h do. */
#include <stdlib.h>
#include <string.h>

#include "approvals/audit.h"
#include "approvals/records.h"
#include "approvals/records_fold.h"
#include "approvals/records_rows.h"
#include "base/log.h"
#include "base/text.h"

#define ASIDE_US (60 * 1000000LL)

void record_change_fini(struct record_change *c)
{
	json_decref(c->row);
	json_decref(c->events);
	c->row = NULL;
	c->events = NULL;
}

int record_change_load(struct record_change *c, struct db *d, const char *id, const char *tenant,
    int64_t now_us, struct err *e)
{
	*c = (struct record_change){.d = d, .now_us = now_us};
	if (record_row_load(d, id, tenant, &c->row, e) < 0) {
		return -1;
	}
	c->version = records_number(c->row, "version");
	c->from = record_state(c->row);
	c->events = json_array();
	return c->events != NULL ? 0 : records_no_memory(e);
}

static int on_any(void *ctx, const struct db_row *r)
{
	(void)r;
	*(bool *)ctx = true;
	return 1;
}

int record_change_new(
    struct record_change *c, struct db *d, const char *id, int64_t now_us, struct err *e)
{
	bool there = false;
	*c = (struct record_change){.d = d, .now_us = now_us, .from = APPROVAL_STATE_COUNT};
	if (strlen(id) == 0 || strlen(id) > RECORDS_ID_MAX_BYTES) {
		return err_set(e, ERR_INTERNAL, "approvals: no id");
	}
	if (db_run(d, "SELECT 1 FROM approval WHERE id = $1",
		(const struct db_value[]){DB_TEXT(id)}, 1, on_any, &there, NULL, e) < 0) {
		return -1;
	}
	if (there) {
		return err_set(e, ERR_CONFLICT, "there is an approval '%s'", id);
	}
	c->row = json_object();
	c->events = json_array();
	return c->row != NULL && c->events != NULL ? 0 : records_no_memory(e);
}

int record_change_event(
    struct record_change *c, const char *kind, const char *actor, json_t *body, struct err *e)
{
	body = body != NULL ? body : json_object();
	json_t *event = json_pack("{s:I, s:I, s:s, s:s, s:o}", "seq",
	    (json_int_t)records_number(c->row, "version") + 1, "at_us", (json_int_t)c->now_us,
	    "kind", kind, "actor", actor, "body", body);
	if (event == NULL || json_array_append_new(c->events, event) < 0) {
		return records_no_memory(e);
	}
	if (records_fold(c->row, event, e) < 0) {
		/* Whoever asked for it had checked before; that it comes here is a fault of ours.
		 */
		log_event(LOG_LEVEL_ERROR, "approval_change_refused",
		    LOG_STR("approval", records_text(c->row, "id")), LOG_STR("reason", e->text));
		return -1;
	}
	return 0;
}

/* --- writing --- */

static int insert_row(struct record_change *c, const char *settings, struct err *e)
{
	const json_t *row = c->row;
	const json_t *call = json_object_get(row, "call");
	return db_run(c->d,
	    "INSERT INTO approval (id, kind, tenant, pool, policy, state, stage, submitter, "
	    "created_us, changed_us, deadline_us, attempt, code_sha256, arguments_sha256, "
	    "tool, callable, parent, session, execution, settings, decisions, version) VALUES "
	    "($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 0, $12, $13, $14, $15, $16, $17, $18, "
	    "$19, '[]', $20)",
	    (const struct db_value[]){
		DB_TEXT(records_text(row, "id")),
		DB_TEXT(records_text(row, "kind")),
		DB_TEXT(records_text(row, "tenant")),
		DB_TEXT(records_text(row, "pool")),
		DB_TEXT(records_text(row, "policy")),
		DB_TEXT(records_text(row, "state")),
		DB_TEXT(records_text(row, "stage")),
		DB_TEXT(records_text(row, "submitter")),
		DB_INT(records_number(row, "created_us")),
		DB_INT(records_number(row, "changed_us")),
		json_is_null(json_object_get(row, "deadline_us"))
		    ? DB_TEXT(NULL)
		    : DB_INT(records_number(row, "deadline_us")),
		DB_TEXT(records_text(row, "code_sha256")),
		DB_TEXT(records_text(row, "arguments_sha256")),
		DB_TEXT(records_text(call, "tool")),
		DB_TEXT(records_text(call, "callable")),
		DB_TEXT(records_text(row, "parent")),
		DB_TEXT(records_text(row, "session")),
		DB_TEXT(records_text(row, "execution")),
		DB_TEXT(settings),
		DB_INT(records_number(row, "version")),
	    },
	    20, NULL, NULL, NULL, e);
}

/* Nothing else of a row ever changes. */
static int update_row(struct record_change *c, const char *decisions, struct err *e)
{
	const json_t *row = c->row;
	int64_t changed = 0;
	if (db_run(c->d,
		"UPDATE approval SET state = $1, stage = $2, changed_us = $3, deadline_us = $4, "
		"attempt = $5, result_sha256 = $6, decisions = $7, version = $8, "
		"final_us = COALESCE(final_us, $9) WHERE id = $10 AND version = $11",
		(const struct db_value[]){
		    DB_TEXT(records_text(row, "state")),
		    DB_TEXT(records_text(row, "stage")),
		    DB_INT(records_number(row, "changed_us")),
		    json_is_null(json_object_get(row, "deadline_us"))
			? DB_TEXT(NULL)
			: DB_INT(records_number(row, "deadline_us")),
		    DB_INT(records_number(row, "attempt")),
		    DB_TEXT(records_text(row, "result_sha256")),
		    DB_TEXT(decisions),
		    DB_INT(records_number(row, "version")),
		    record_is_final(row) ? DB_INT(c->now_us) : DB_TEXT(NULL),
		    DB_TEXT(records_text(row, "id")),
		    DB_INT(c->version),
		},
		11, NULL, NULL, &changed, e) < 0) {
		return -1;
	}
	return changed == 1 ? 0 : err_set(e, ERR_CONFLICT, "somebody else changed it meanwhile");
}

static int write_row(struct record_change *c, struct err *e)
{
	bool new = c->from == APPROVAL_STATE_COUNT;
	cleanup(text_free) char *text = records_dump(
	    json_object_get(c->row, new ? "settings" : "decisions"));
	if (text == NULL) {
		return records_no_memory(e);
	}
	return new ? insert_row(c, text, e) : update_row(c, text, e);
}

static int write_event(struct record_change *c, const json_t *event, struct err *e)
{
	cleanup(text_free) char *body = records_dump(json_object_get(event, "body"));
	if (body == NULL) {
		return records_no_memory(e);
	}
	return db_run(c->d,
	    "INSERT INTO approval_event (approval, seq, at_us, kind, actor, body) "
	    "VALUES ($1, $2, $3, $4, $5, $6)",
	    (const struct db_value[]){DB_TEXT(records_text(c->row, "id")),
		DB_INT(records_number(event, "seq")), DB_INT(records_number(event, "at_us")),
		DB_TEXT(records_text(event, "kind")), DB_TEXT(records_text(event, "actor")),
		DB_TEXT(body)},
	    6, NULL, NULL, NULL, e);
}

/* How many of a tenant are not final. */
static int count_open(struct record_change *c, int by, struct err *e)
{
	return db_run(c->d,
	    "INSERT INTO approval_open (tenant, count) VALUES ($1, $2) "
	    "ON CONFLICT (tenant) DO UPDATE SET count = approval_open.count + $2",
	    (const struct db_value[]){DB_TEXT(records_text(c->row, "tenant")), DB_INT(by)}, 2, NULL,
	    NULL, NULL, e);
}

/* What is left to do once it is final. */
static int follow_up(struct record_change *c, bool approved, struct err *e)
{
	const char *id = records_text(c->row, "id");
	const json_t *settings = json_object_get(c->row, "settings");
	bool is_call = record_policy(c->row) == APPROVAL_POLICY_COUNT;
	bool calls = json_is_object(json_object_get(settings, "callback"));
	bool promotes = json_is_object(json_object_get(settings, "promote"));
	/* The call itself is still to be made, and its session waits to make it. */
	if (is_call && !approved && record_task_drop(c->d, id, "call", e) < 0) {
		return -1;
	}
	if (promotes && (approved ? record_task_add(c, "promote", c->now_us, NULL, e)
				  : record_files_drop(c->d, id, e)) < 0) {
		return -1;
	}
	if (calls && record_task_add(c, "callback", c->now_us, NULL, e) < 0) {
		return -1;
	}
	return count_open(c, -1, e);
}

/* Which tasks there are follows from the state. A run that goes back to queued keeps its own
 * (record_task_release). */
static int write_tasks(struct record_change *c, struct err *e)
{
	const char *id = records_text(c->row, "id");
	enum approval_state from = c->from, to = record_state(c->row);
	bool ran = from == APPROVAL_QUEUED || from == APPROVAL_RUNNING;
	bool runs = to == APPROVAL_QUEUED || to == APPROVAL_RUNNING;
	if (from == to) {
		return 0;
	}
	if (from == APPROVAL_WAITING && record_task_drop(c->d, id, "expire", e) < 0) {
		return -1;
	}
	if (ran && !runs && record_task_drop(c->d, id, "run", e) < 0) {
		return -1;
	}
	if (!ran && runs && record_task_add(c, "run", c->now_us, NULL, e) < 0) {
		return -1;
	}
	if (to == APPROVAL_WAITING &&
	    record_task_add(c, "expire", records_number(c->row, "deadline_us"), NULL, e) < 0) {
		return -1;
	}
	return approval_state_is_final(to) ? follow_up(c, to == APPROVAL_APPROVED, e) : 0;
}

int record_change_write(struct record_change *c, struct err *e)
{
	size_t i;
	const json_t *event;
	if (record_state(c->row) == APPROVAL_STATE_COUNT) {
		return err_set(e, ERR_INTERNAL, "approvals: a change without a state");
	}
	if (write_row(c, e) < 0) {
		return -1;
	}
	json_array_foreach(c->events, i, event)
	{
		if (write_event(c, event, e) < 0) {
			return -1;
		}
	}
	if (c->from == APPROVAL_STATE_COUNT && count_open(c, 1, e) < 0) {
		return -1;
	}
	return write_tasks(c, e);
}

int record_change_audit(const struct record_change *c, const char *actor, const char *action,
    const char *outcome, json_t *detail, struct err *e)
{
	cleanup(json_decrefp) json_t *held = detail;
	return audit_add(
	    c->d, c->now_us, actor, action, records_text(c->row, "id"), outcome, held, e);
}

int record_change_answer(
    struct record_change *c, const char *name, bool flag, json_t **out, struct err *e)
{
	if (record_row_complete(c->d, c->row, e) < 0) {
		return -1;
	}
	/* Without new events nothing has changed. */
	bool changed = json_array_size(c->events) > 0;
	cleanup(json_decrefp) json_t *answer = json_pack("{s:O, s:[s*]}", "approval", c->row,
	    "changed", changed ? records_text(c->row, "id") : NULL);
	if (answer == NULL ||
	    (name != NULL && json_object_set_new(answer, name, json_boolean(flag)) < 0)) {
		return records_no_memory(e);
	}
	*out = steal(&answer);
	return 0;
}

/* --- tasks --- */

static int on_task(void *ctx, const struct db_row *r)
{
	struct record_task *t = ctx;
	const char *owner = db_text(r, 2, NULL);
	t->found = true;
	t->fence = db_int(r, 0);
	t->attempt = db_int(r, 1);
	(void)memccpy(t->owner, owner != NULL ? owner : "", '\0', sizeof(t->owner) - 1);
	return 1;
}

int record_task_load(
    struct db *d, const char *id, const char *kind, struct record_task *t, struct err *e)
{
	*t = (struct record_task){0};
	return db_run(d,
	    "SELECT fence, attempt, owner FROM approval_task WHERE approval = $1 AND kind = $2",
	    (const struct db_value[]){DB_TEXT(id), DB_TEXT(kind)}, 2, on_task, t, NULL, e);
}

int record_task_check(const struct record_change *c, const char *kind, int64_t fence,
    struct record_task *t, struct err *e)
{
	struct record_task task;
	if (record_task_load(c->d, records_text(c->row, "id"), kind, &task, e) < 0) {
		return -1;
	}
	if (!task.found) {
		return err_set(e, ERR_CONFLICT, "the approval is %s; there is no %.20s to end",
		    records_text(c->row, "state"), kind);
	}
	if (fence != RECORD_ANY_FENCE && (task.fence != fence || task.owner[0] == '\0')) {
		return err_set(e, ERR_CONFLICT, "the %.20s is another's by now", kind);
	}
	if (strcmp(kind, "run") == 0 ? record_state(c->row) != APPROVAL_RUNNING
				     : !record_is_final(c->row)) {
		return err_set(
		    e, ERR_CONFLICT, "the approval is %s", records_text(c->row, "state"));
	}
	if (t != NULL) {
		*t = task;
	}
	return 0;
}

int record_task_add(const struct record_change *c, const char *kind, int64_t due_us,
    const char *owner, struct err *e)
{
	/* Only a run needs a place in its pool. */
	const char *pool = strcmp(kind, "run") == 0 ? records_text(c->row, "pool") : "-";
	return db_run(c->d,
	    "INSERT INTO approval_task "
	    "(approval, kind, wake_us, owner, fence, attempt, tenant, pool) "
	    "VALUES ($1, $2, $3, $4, 0, 0, $5, $6)",
	    (const struct db_value[]){DB_TEXT(records_text(c->row, "id")), DB_TEXT(kind),
		DB_INT(due_us), DB_TEXT(owner), DB_TEXT(records_text(c->row, "tenant")),
		DB_TEXT(pool)},
	    6, NULL, NULL, NULL, e);
}

int record_task_drop(struct db *d, const char *id, const char *kind, struct err *e)
{
	return db_run(d, "DELETE FROM approval_task WHERE approval = $1 AND kind = $2",
	    (const struct db_value[]){DB_TEXT(id), DB_TEXT(kind)}, 2, NULL, NULL, NULL, e);
}

int record_task_release(
    struct db *d, const char *id, const char *kind, int64_t due_us, int64_t attempt, struct err *e)
{
	return db_run(d,
	    "UPDATE approval_task SET wake_us = $1, attempt = $2, owner = NULL, fence = fence + 1 "
	    "WHERE approval = $3 AND kind = $4",
	    (const struct db_value[]){DB_INT(due_us), DB_INT(attempt), DB_TEXT(id), DB_TEXT(kind)},
	    4, NULL, NULL, NULL, e);
}

bool record_can_skip(struct db *d, uint64_t before, const struct err *e)
{
	return e->code != ERR_UNAVAILABLE && e->code != ERR_BUSY && !db_is_broken(d) &&
	       db_changes(d) == before;
}

int record_task_put_aside(struct db *d, const char *id, const char *kind, int64_t now_us,
    const struct err *why, struct err *e)
{
	log_event(LOG_LEVEL_ERROR, "approval_put_aside", LOG_STR("approval", id),
	    LOG_STR("task", kind), LOG_STR("reason", why->text));
	return db_run(d, "UPDATE approval_task SET wake_us = $1 WHERE approval = $2 AND kind = $3",
	    (const struct db_value[]){DB_INT(now_us + ASIDE_US), DB_TEXT(id), DB_TEXT(kind)}, 3,
	    NULL, NULL, NULL, e);
}

int record_files_drop(struct db *d, const char *id, struct err *e)
{
	return db_run(d, "DELETE FROM approval_file WHERE approval = $1",
	    (const struct db_value[]){DB_TEXT(id)}, 1, NULL, NULL, NULL, e);
}

int record_run_interrupt(struct record_change *c, const char *owner, struct err *e)
{
	const char *id = records_text(c->row, "id");
	int64_t attempt = records_number(c->row, "attempt");
	bool last = attempt >= RECORDS_ATTEMPTS_MAX;
	if (record_change_event(c, "run_interrupted", "server",
		json_pack("{s:I, s:s}", "attempt", (json_int_t)attempt, "owner", owner), e) < 0) {
		return -1;
	}
	if (last && record_change_event(c, "failed", "server",
			json_pack("{s:s}", "reason", "its run was interrupted too often"), e) < 0) {
		return -1;
	}
	if (record_change_write(c, e) < 0 ||
	    (!last && record_task_release(c->d, id, "run", c->now_us, 0, e) < 0) ||
	    record_change_audit(c, "server", "approval.run", "interrupted",
		json_pack("{s:I, s:s}", "attempt", (json_int_t)attempt, "owner", owner), e) < 0) {
		return -1;
	}
	return last ? record_change_audit(c, "server", "approval.fail", "failed",
			  json_pack("{s:s}", "reason", "interrupted too often"), e)
		    : 0;
}
