/* What time does: deadlines pass, and owners are gone. */
#include <string.h>

#include "approvals/records.h"
#include "approvals/records_rows.h"

#define LAPSE_MAX 1024

struct lapse {
	struct db *d;
	int64_t now_us;
	int64_t limit;
	json_t *changed;
};

static int on_due(void *ctx, const struct db_row *r)
{
	json_t *one = json_pack(
	    "{s:o, s:o}", "id", records_column_text(r, 0), "owner", records_column_text(r, 1));
	return one != NULL && json_array_append_new(ctx, one) == 0 ? 0 : 1;
}

/* The end of a task, for its approval. */
typedef int (*lapse_fn)(struct record_change *c, const char *owner, struct err *e);

static int lapse_one(
    struct lapse *l, const char *kind, const json_t *one, lapse_fn end, struct err *e)
{
	struct err why = {0};
	uint64_t before = db_changes(l->d);
	const char *id = records_text(one, "id");
	cleanup(record_change_fini) struct record_change c = {0};
	if (record_change_load(&c, l->d, id, NULL, l->now_us, &why) == 0 &&
	    end(&c, records_text(one, "owner"), &why) == 0) {
		return json_array_append_new(l->changed, json_string(id)) == 0
			   ? 0
			   : records_no_memory(e);
	}
	if (!record_can_skip(l->d, before, &why)) {
		return err_set(e, why.code, "%s", why.text);
	}
	return record_task_put_aside(l->d, id, kind, l->now_us, &why, e);
}

/* SQL gives (approval, owner) of what is due at $1, at most $2. */
static int lapse_kind(
    struct lapse *l, const char *kind, const char *sql, lapse_fn end, struct err *e)
{
	size_t i;
	const json_t *one;
	cleanup(json_decrefp) json_t *due = json_array();
	if (l->limit <= 0) {
		return 0;
	}
	if (db_run(l->d, sql, (const struct db_value[]){DB_INT(l->now_us), DB_INT(l->limit)}, 2,
		on_due, due, NULL, e) < 0) {
		return -1;
	}
	json_array_foreach(due, i, one)
	{
		if (lapse_one(l, kind, one, end, e) < 0) {
			return -1;
		}
	}
	l->limit -= (int64_t)json_array_size(due);
	return 0;
}

static int expire(struct record_change *c, const char *owner, struct err *e)
{
	(void)owner;
	json_t *stage = json_string(records_text(c->row, "stage"));
	cleanup(json_decrefp) json_t *detail = json_pack("{s:o}", "stage", stage);
	if (record_change_event(c, "expired", "server", json_incref(detail), e) < 0 ||
	    record_change_write(c, e) < 0) {
		return -1;
	}
	return record_change_audit(
	    c, "server", "approval.expire", "expired", json_incref(detail), e);
}

/* A run's owner is gone. */
static int end_run(struct record_change *c, const char *owner, struct err *e)
{
	return record_run_interrupt(c, owner != NULL ? owner : "", e);
}

/* The session that waited is gone with its server; or it had its answer, and nobody can say any
 * more what it made of it. */
static int end_call(struct record_change *c, const char *owner, struct err *e)
{
	bool waited = !record_is_final(c->row);
	const char *reason = "the server of the session is gone";
	cleanup(json_decrefp)
	    json_t *detail = waited ? json_pack("{s:s, s:s}", "by", "server", "reason", reason)
				    : json_pack("{s:b, s:s}", "ok", 0, "text", reason);
	(void)owner;
	if (record_change_event(
		c, waited ? "cancelled" : "call_finished", "server", json_incref(detail), e) < 0 ||
	    record_change_write(c, e) < 0 ||
	    record_task_drop(c->d, records_text(c->row, "id"), "call", e) < 0) {
		return -1;
	}
	return record_change_audit(c, "server", waited ? "approval.cancel" : "approval.finish",
	    waited ? "cancelled" : "call_finished", json_incref(detail), e);
}

/* --- when next --- */

static int on_next(void *ctx, const struct db_row *r)
{
	int64_t *next = ctx;
	if (!db_is_null(r, 0) && db_int(r, 0) < *next) {
		*next = db_int(r, 0);
	}
	return 0;
}

/* Kind by kind, because each is a look at one end of an index. */
static int find_next(struct db *d, json_t **out, struct err *e)
{
	static const char *const kinds[] = {"run", "expire", "call", "callback", "promote"};
	int64_t next = INT64_MAX;
	for (size_t i = 0; i < array_len(kinds); i++) {
		if (db_run(d, "SELECT min(wake_us) FROM approval_task WHERE kind = $1",
			(const struct db_value[]){DB_TEXT(kinds[i])}, 1, on_next, &next, NULL,
			e) < 0) {
			return -1;
		}
	}
	*out = next == INT64_MAX ? json_null() : json_integer(next);
	return *out != NULL ? 0 : records_no_memory(e);
}

int records_lapse(struct db *d, const json_t *in, json_t **out, struct err *e)
{
	static const struct record_field fields[] = {
	    {"now_us", RECORD_NUMBER, false},
	    {"limit", RECORD_NUMBER, false},
	};
	if (records_check(in, fields, array_len(fields), e) < 0) {
		return -1;
	}
	int64_t limit = records_number(in, "limit");
	cleanup(json_decrefp) json_t *changed = json_array();
	struct lapse l = {
	    .d = d,
	    .now_us = records_number(in, "now_us"),
	    .limit = limit < LAPSE_MAX ? limit : LAPSE_MAX,
	    .changed = changed,
	};
	json_t *next = NULL;
	if (lapse_kind(&l, "expire",
		"SELECT approval, owner FROM approval_task WHERE kind = 'expire' AND wake_us <= $1 "
		"ORDER BY wake_us LIMIT $2",
		expire, e) < 0 ||
	    lapse_kind(&l, "call",
		"SELECT approval, owner FROM approval_task WHERE kind = 'call' AND wake_us <= $1 "
		"ORDER BY wake_us LIMIT $2",
		end_call, e) < 0 ||
	    lapse_kind(&l, "run",
		"SELECT approval, owner FROM approval_task WHERE kind = 'run' AND wake_us <= $1 "
		"AND owner IS NOT NULL ORDER BY wake_us LIMIT $2",
		end_run, e) < 0 ||
	    find_next(d, &next, e) < 0) {
		return -1;
	}
	*out = json_pack("{s:O, s:o}", "changed", changed, "next_due_us", next);
	return *out != NULL ? 0 : records_no_memory(e);
}
