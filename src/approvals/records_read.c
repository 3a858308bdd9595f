/* Questions about one approval, and how many there are. */
#include <string.h>

#include "approvals/records.h"
#include "approvals/records_rows.h"

static int on_event(void *ctx, const struct db_row *r)
{
	json_t *event = record_event_read(r, 0);
	return event != NULL && json_array_append_new(ctx, event) == 0 ? 0 : 1;
}

static int read_events(
    struct db *d, const char *id, int64_t after, int64_t limit, json_t *events, struct err *e)
{
	return db_run(d,
	    "SELECT " RECORD_EVENT_COLUMNS
	    " FROM approval_event e WHERE e.approval = $1 AND e.seq > $2 ORDER BY e.seq LIMIT $3",
	    (const struct db_value[]){DB_TEXT(id), DB_INT(after), DB_INT(limit)}, 3, on_event,
	    events, NULL, e);
}

int records_get(struct db *d, const json_t *in, json_t **out, struct err *e)
{
	static const struct record_field fields[] = {
	    {"id", RECORD_TEXT, false},
	    {"tenant", RECORD_TEXT, true},
	};
	const char *id = records_text(in, "id");
	cleanup(json_decrefp) json_t *row = NULL;
	cleanup(json_decrefp) json_t *events = json_array();
	if (records_check(in, fields, array_len(fields), e) < 0 ||
	    record_row_load(d, id, records_text(in, "tenant"), &row, e) < 0 ||
	    record_row_complete(d, row, e) < 0 ||
	    read_events(d, id, 0, RECORDS_EVENTS_MAX, events, e) < 0) {
		return -1;
	}
	*out = json_pack("{s:O, s:O}", "approval", row, "events", events);
	return *out != NULL ? 0 : records_no_memory(e);
}

int records_events(struct db *d, const json_t *in, json_t **out, struct err *e)
{
	static const struct record_field fields[] = {
	    {"id", RECORD_TEXT, false},
	    {"tenant", RECORD_TEXT, true},
	    {"after", RECORD_NUMBER, false},
	    {"limit", RECORD_NUMBER, false},
	};
	const char *id = records_text(in, "id");
	int64_t limit = records_number(in, "limit");
	limit = limit < RECORDS_EVENTS_MAX ? limit : RECORDS_EVENTS_MAX;
	cleanup(json_decrefp) json_t *row = NULL;
	cleanup(json_decrefp) json_t *events = json_array();
	if (records_check(in, fields, array_len(fields), e) < 0 ||
	    record_row_load(d, id, records_text(in, "tenant"), &row, e) < 0 ||
	    read_events(d, id, records_number(in, "after"), limit, events, e) < 0) {
		return -1;
	}
	*out = json_pack("{s:O, s:s, s:b}", "events", events, "state", records_text(row, "state"),
	    "final", (int)record_is_final(row));
	return *out != NULL ? 0 : records_no_memory(e);
}

static int on_file(void *ctx, const struct db_row *r)
{
	json_t *file = json_pack(
	    "{s:o, s:o}", "name", records_column_text(r, 0), "base64", records_column_text(r, 1));
	return file != NULL && json_array_append_new(ctx, file) == 0 ? 0 : 1;
}

/* As the result lists them. */
static const json_t *sha256_shown(const json_t *row, const char *name)
{
	size_t i;
	const json_t *file;
	json_array_foreach(json_object_get(json_object_get(row, "result"), "files"), i, file)
	{
		const char *listed = records_text(file, "name");
		if (listed != NULL && name != NULL && strcmp(listed, name) == 0) {
			return json_object_get(file, "sha256");
		}
	}
	return NULL;
}

static int add_shown(struct db *d, const char *id, json_t *files, struct err *e)
{
	size_t i;
	json_t *file;
	cleanup(json_decrefp) json_t *row = json_pack("{s:s}", "id", id);
	if (row == NULL || record_row_complete(d, row, e) < 0) {
		return row == NULL ? records_no_memory(e) : -1;
	}
	json_array_foreach(files, i, file)
	{
		const json_t *shown = sha256_shown(row, records_text(file, "name"));
		json_t *sha256 = shown != NULL ? json_deep_copy(shown) : json_null();
		if (json_object_set_new(file, "sha256", sha256) < 0) {
			return records_no_memory(e);
		}
	}
	return 0;
}

int records_files(struct db *d, const json_t *in, json_t **out, struct err *e)
{
	static const struct record_field fields[] = {{"id", RECORD_TEXT, false}};
	cleanup(json_decrefp) json_t *files = json_array();
	if (records_check(in, fields, array_len(fields), e) < 0 ||
	    db_run(d, "SELECT name, content FROM approval_file WHERE approval = $1 ORDER BY name",
		(const struct db_value[]){DB_TEXT(records_text(in, "id"))}, 1, on_file, files, NULL,
		e) < 0 ||
	    add_shown(d, records_text(in, "id"), files, e) < 0) {
		return -1;
	}
	return records_answer(out, "files", steal(&files), e);
}

static int on_group(void *ctx, const struct db_row *r)
{
	const char *name = db_text(r, 0, NULL);
	return json_object_set_new(ctx, name != NULL ? name : "", json_integer(db_int(r, 1))) == 0
		   ? 0
		   : 1;
}

int records_count(struct db *d, const json_t *in, json_t **out, struct err *e)
{
	(void)in;
	cleanup(json_decrefp) json_t *answer = json_pack("{s:{}, s:{}}", "open", "tasks");
	if (answer == NULL) {
		return records_no_memory(e);
	}
	if (db_run(d,
		"SELECT state, count(*) FROM approval "
		"WHERE state IN ('queued', 'running', 'waiting') GROUP BY state",
		NULL, 0, on_group, json_object_get(answer, "open"), NULL, e) < 0 ||
	    db_run(d, "SELECT kind, count(*) FROM approval_task GROUP BY kind", NULL, 0, on_group,
		json_object_get(answer, "tasks"), NULL, e) < 0) {
		return -1;
	}
	*out = steal(&answer);
	return 0;
}
