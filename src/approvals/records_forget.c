#include "approvals/records.h"
#include "approvals/records_rows.h"

#define FORGET_MAX 1024

static int on_id(void *ctx, const struct db_row *r)
{
	json_t *id = records_column_text(r, 0);
	return id != NULL && json_array_append_new(ctx, id) == 0 ? 0 : 1;
}

/* The approval first: what holds its events lets go of them then (records_schema.c). */
static int forget_one(struct db *d, const char *id, struct err *e)
{
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
	return 0;
}

int records_forget(struct db *d, const json_t *in, json_t **out, struct err *e)
{
	static const struct record_field fields[] = {
	    {"before_us", RECORD_NUMBER, false},
	    {"limit", RECORD_NUMBER, false},
	};
	size_t i;
	const json_t *id;
	cleanup(json_decrefp) json_t *ids = json_array();
	if (records_check(in, fields, array_len(fields), e) < 0) {
		return -1;
	}
	int64_t limit = records_number(in, "limit");
	limit = limit < FORGET_MAX ? limit : FORGET_MAX;
	/* Those with something left to do stay until it is done: a callback, say, that nobody took
	 * yet. */
	if (db_run(d,
		"SELECT a.id FROM approval a WHERE a.final_us < $1 AND NOT EXISTS "
		"(SELECT 1 FROM approval_task t WHERE t.approval = a.id) "
		"ORDER BY a.final_us LIMIT $2",
		(const struct db_value[]){DB_INT(records_number(in, "before_us")), DB_INT(limit)},
		2, on_id, ids, NULL, e) < 0) {
		return -1;
	}
	json_array_foreach(ids, i, id)
	{
		if (forget_one(d, json_string_value(id), e) < 0) {
			return -1;
		}
	}
	return records_answer(out, "removed", json_integer((json_int_t)json_array_size(ids)), e);
}
