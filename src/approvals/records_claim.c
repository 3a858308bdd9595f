/* Tasks are taken, kept, and given back: claim, renew, put_back. */
#include <string.h>

#include "approvals/records.h"
#include "approvals/records_rows.h"
#include "approvals/records_turn.h"
#include "base/text.h"

#define CLAIM_MAX 256

/* --- claiming --- */

/* The owner's, until the lease; its fence is the new one. */
static int take_task(
    struct db *d, const json_t *in, const char *id, const char *kind, struct err *e)
{
	return db_run(d,
	    "UPDATE approval_task SET owner = $1, wake_us = $2, fence = fence + 1 "
	    "WHERE approval = $3 AND kind = $4",
	    (const struct db_value[]){DB_TEXT(records_text(in, "owner")),
		DB_INT(records_number(in, "lease_us")), DB_TEXT(id), DB_TEXT(kind)},
	    4, NULL, NULL, NULL, e);
}

/* 1: it was interrupted too often, and has failed. */
static int interrupt(struct db *d, const char *id, int64_t now_us, const char *owner, struct err *e)
{
	cleanup(record_change_fini) struct record_change c = {0};
	if (record_change_load(&c, d, id, NULL, now_us, e) < 0) {
		return -1;
	}
	if (record_state(c.row) != APPROVAL_RUNNING) {
		return 0;
	}
	if (record_run_interrupt(&c, owner, e) < 0) {
		return -1;
	}
	return record_is_final(c.row) ? 1 : 0;
}

static int begin_run(struct record_change *c, const char *owner, struct err *e)
{
	json_int_t attempt = records_number(c->row, "attempt") + 1;
	if (record_change_event(c, "run_started", "server",
		json_pack("{s:I, s:s}", "attempt", attempt, "owner", owner), e) < 0 ||
	    record_change_write(c, e) < 0) {
		return -1;
	}
	return record_change_audit(c, "server", "approval.run", "started",
	    json_pack("{s:I, s:s, s:s*}", "attempt", attempt, "owner", owner, "code_sha256",
		records_text(c->row, "code_sha256")),
	    e);
}

/* --- what was claimed unheard --- */

static int on_owned(void *ctx, const struct db_row *r)
{
	return json_array_append_new(ctx, records_column_text(r, 0));
}

static bool holds(const json_t *held, const char *id)
{
	size_t i;
	const json_t *one;
	json_array_foreach(held, i, one)
	{
		if (json_is_string(one) && strcmp(json_string_value(one), id) == 0) {
			return true;
		}
	}
	return false;
}

static int let_go(struct db *d, const json_t *in, struct err *e)
{
	size_t i;
	const json_t *one;
	const json_t *held = json_object_get(in, "held");
	const char *kind = records_text(in, "kind");
	cleanup(json_decrefp) json_t *owned = json_array();
	if (held == NULL) {
		return 0;
	}
	if (db_run(d, "SELECT approval FROM approval_task WHERE owner = $1 AND kind = $2",
		(const struct db_value[]){DB_TEXT(records_text(in, "owner")), DB_TEXT(kind)}, 2,
		on_owned, owned, NULL, e) < 0) {
		return -1;
	}
	json_array_foreach(owned, i, one)
	{
		const char *id = json_string_value(one);
		if (!holds(held, id) &&
		    db_run(d,
			"UPDATE approval_task SET wake_us = $1 WHERE approval = $2 AND kind = $3",
			(const struct db_value[]){
			    DB_INT(records_number(in, "now_us")), DB_TEXT(id), DB_TEXT(kind)},
			3, NULL, NULL, NULL, e) < 0) {
			return -1;
		}
	}
	return 0;
}

/* --- taking --- */

struct claim {
	struct db *d;
	const json_t *in;
	json_t *tasks;
	json_t *changed;
};

/* FOUND: what find_due told of the task. */
static int add_task(struct claim *c, struct record_change *change, const char *kind,
    const json_t *found, struct err *e)
{
	bool run = strcmp(kind, "run") == 0;
	json_int_t attempt = run ? records_number(change->row, "attempt")
				 : records_number(found, "attempt") + 1;
	if (take_task(c->d, c->in, records_text(found, "id"), kind, e) < 0 ||
	    record_row_complete(c->d, change->row, e) < 0) {
		return -1;
	}
	/* A release in between has made it grow. */
	struct record_task now;
	if (record_task_load(c->d, records_text(found, "id"), kind, &now, e) < 0) {
		return -1;
	}
	json_t *task = json_pack("{s:s, s:I, s:I, s:O}", "kind", kind, "fence",
	    (json_int_t)now.fence, "attempt", attempt, "approval", change->row);
	return task != NULL && json_array_append_new(c->tasks, task) == 0 ? 0
									  : records_no_memory(e);
}

static int claim_one(struct claim *c, const char *kind, const json_t *found, struct err *e)
{
	const char *id = records_text(found, "id");
	const char *before = records_text(found, "owner");
	int64_t now_us = records_number(c->in, "now_us");
	bool run = strcmp(kind, "run") == 0;
	if (run && before != NULL) {
		int failed = interrupt(c->d, id, now_us, before, e);
		if (failed != 0) {
			(void)json_array_append_new(c->changed, json_string(id));
			return failed < 0 ? -1 : 0;
		}
	}
	cleanup(record_change_fini) struct record_change change = {0};
	if (record_change_load(&change, c->d, id, NULL, now_us, e) < 0) {
		return -1;
	}
	if (run) {
		if (begin_run(&change, records_text(c->in, "owner"), e) < 0) {
			return -1;
		}
		(void)json_array_append_new(c->changed, json_string(id));
	}
	return add_task(c, &change, kind, found, e);
}

/* One that cannot be gone on with stops nobody. */
static int claim_or_put_aside(struct claim *c, const char *kind, const json_t *found, struct err *e)
{
	struct err why = {0};
	uint64_t before = db_changes(c->d);
	if (claim_one(c, kind, found, &why) == 0) {
		return 0;
	}
	if (!record_can_skip(c->d, before, &why)) {
		return err_set(e, why.code, "%s", why.text);
	}
	return record_task_put_aside(
	    c->d, records_text(found, "id"), kind, records_number(c->in, "now_us"), &why, e);
}

static int claim_all(struct claim *c, struct record_turns *turns, int64_t limit, struct err *e)
{
	for (int64_t i = 0; i < limit; i++) {
		cleanup(json_decrefp) json_t *found = NULL;
		if (record_turns_next(turns, &found, e) < 0) {
			return -1;
		}
		if (found == NULL) {
			return 0;
		}
		if (claim_or_put_aside(c, turns->kind, found, e) < 0) {
			return -1;
		}
	}
	return 0;
}

static int claim_check(const json_t *in, struct err *e)
{
	static const struct record_field fields[] = {
	    {"owner", RECORD_TEXT, false},
	    {"now_us", RECORD_NUMBER, false},
	    {"lease_us", RECORD_NUMBER, false},
	    {"limit", RECORD_NUMBER, false},
	    {"kind", RECORD_TEXT, false},
	    {"share", RECORD_NUMBER, true},
	    {"places", RECORD_OBJECT, true},
	    {"turns", RECORD_OBJECT, true},
	    {"held", RECORD_ARRAY, true},
	};
	if (records_check(in, fields, array_len(fields), e) < 0) {
		return -1;
	}
	const char *kind = records_text(in, "kind");
	return strcmp(kind, "run") == 0 || strcmp(kind, "callback") == 0 ||
		       strcmp(kind, "promote") == 0
		   ? 0
		   : err_set(e, ERR_INTERNAL, "approvals: nobody claims such a task");
}

int records_claim(struct db *d, const json_t *in, json_t **out, struct err *e)
{
	if (claim_check(in, e) < 0) {
		return -1;
	}
	int64_t limit = records_number(in, "limit");
	limit = limit < CLAIM_MAX ? limit : CLAIM_MAX;
	cleanup(json_decrefp) json_t *answer = json_pack("{s:[], s:[]}", "tasks", "changed");
	cleanup(record_turns_fini) struct record_turns turns = {0};
	struct claim c = {
	    .d = d,
	    .in = in,
	    .tasks = json_object_get(answer, "tasks"),
	    .changed = json_object_get(answer, "changed"),
	};
	if (let_go(d, in, e) < 0 || record_turns_find(&turns, d, in, limit, e) < 0 ||
	    claim_all(&c, &turns, limit, e) < 0) {
		return -1;
	}
	if (json_object_set(answer, "turns", turns.said) < 0) {
		return records_no_memory(e);
	}
	*out = steal(&answer);
	return 0;
}

/* --- keeping --- */

int records_renew(struct db *d, const json_t *in, json_t **out, struct err *e)
{
	static const struct record_field fields[] = {
	    {"owner", RECORD_TEXT, false},
	    {"lease_us", RECORD_NUMBER, false},
	};
	if (records_check(in, fields, array_len(fields), e) < 0 ||
	    db_run(d, "UPDATE approval_task SET wake_us = $1 WHERE owner = $2",
		(const struct db_value[]){
		    DB_INT(records_number(in, "lease_us")), DB_TEXT(records_text(in, "owner"))},
		2, NULL, NULL, NULL, e) < 0) {
		return -1;
	}
	*out = json_object();
	return *out != NULL ? 0 : records_no_memory(e);
}

/* --- giving back --- */

int records_put_back(struct db *d, const json_t *in, json_t **out, struct err *e)
{
	static const struct record_field fields[] = {
	    {"id", RECORD_TEXT, false},
	    {"fence", RECORD_NUMBER, false},
	    {"now_us", RECORD_NUMBER, false},
	    {"retry_us", RECORD_NUMBER, false},
	    {"reason", RECORD_TEXT, false},
	};
	const char *id = records_text(in, "id");
	cleanup(record_change_fini) struct record_change c = {0};
	if (records_check(in, fields, array_len(fields), e) < 0 ||
	    record_change_load(&c, d, id, NULL, records_number(in, "now_us"), e) < 0 ||
	    record_task_check(&c, "run", records_number(in, "fence"), NULL, e) < 0) {
		return -1;
	}
	json_int_t attempt = records_number(c.row, "attempt");
	if (record_change_event(&c, "run_put_back", "server",
		json_pack("{s:I, s:s}", "attempt", attempt, "reason", records_text(in, "reason")),
		e) < 0 ||
	    record_change_write(&c, e) < 0 ||
	    record_task_release(d, id, "run", records_number(in, "retry_us"), 0, e) < 0 ||
	    record_change_audit(&c, "server", "approval.run", "put_back",
		json_pack("{s:I, s:s}", "attempt", attempt, "reason", records_text(in, "reason")),
		e) < 0) {
		return -1;
	}
	return records_answer(out, "changed", json_pack("[s]", id), e);
}
