#include "approvals/audit.h"
#include "approvals/records.h"
#include "approvals/records_rows.h"

#define FORGET_MAX 1024

static int on_final(void *ctx, const struct db_row *r)
{
	json_t *one = json_pack(
	    "{s:o, s:o}", "id", records_column_text(r, 0), "state", records_column_text(r, 1));
	return one != NULL && json_array_append_new(ctx, one) == 0 ? 0 : 1;
}

/* The approval first: what holds its events lets go of them then (records_schema.c). The trail says
 * that it went this way, and not another. */
static int forget_one(struct db *d, int64_t now_us, const json_t *one, struct err *e)
{
	const char *id = records_text(one, "id");
	static const char *const statements[] = {
	    "DELETE FROM approval WHERE id = $1",
	    "DELETE FROM approval_event WHERE approval = $1",
	    "DELETE FROM approval_text WHERE approval = $1",
	    "DELETE FROM approval_file WHERE approval = $1",
	    "DELETE FROM approval_key WHERE approval = $1",
	};
	for (size_t i = 0; i < array_len(statements); i++) {
		if (db_run(d, statements[i], (const struct db_value[]){DB_TEXT(id)}, 1, NULL, NULL,
			NULL, e) < 0) {
			return -1;
		}
	}
	return audit_add(
	    d, now_us, "server", "approval.forget", id, records_text(one, "state"), NULL, e);
}

int records_forget(struct db *d, const json_t *in, json_t **out, struct err *e)
{
	static const struct record_field fields[] = {
	    {"before_us", RECORD_NUMBER, false},
	    {"now_us", RECORD_NUMBER, false},
	    {"limit", RECORD_NUMBER, false},
	};
	size_t i;
	const json_t *one;
	cleanup(json_decrefp) json_t *found = json_array();
	if (records_check(in, fields, array_len(fields), e) < 0) {
		return -1;
	}
	int64_t limit = records_number(in, "limit");
	limit = limit < FORGET_MAX ? limit : FORGET_MAX;
	/* Those with something left to do stay until it is done: a callback, say, that nobody took
	 * yet. */
	if (db_run(d,
		"SELECT a.id, a.state FROM approval a WHERE a.final_us < $1 AND NOT EXISTS "
		"(SELECT 1 FROM approval_task t WHERE t.approval = a.id) "
		"ORDER BY a.final_us LIMIT $2",
		(const struct db_value[]){DB_INT(records_number(in, "before_us")), DB_INT(limit)},
		2, on_final, found, NULL, e) < 0) {
		return -1;
	}
	json_array_foreach(found, i, one)
	{
		if (forget_one(d, records_number(in, "now_us"), one, e) < 0) {
			return -1;
		}
	}
	return records_answer(out, "removed", json_integer((json_int_t)json_array_size(found)), e);
}
