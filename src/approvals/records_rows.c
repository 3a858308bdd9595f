#include "approvals/records_rows.h"

#include <openssl/evp.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "approvals/records.h"
#include "base/text.h"

/* --- arguments --- */

static bool is_type(const json_t *value, enum record_field_type type)
{
	switch (type) {
	case RECORD_TEXT:
		return json_is_string(value);
	case RECORD_NUMBER:
		return json_is_integer(value);
	case RECORD_FLAG:
		return json_is_boolean(value);
	case RECORD_OBJECT:
		return json_is_object(value);
	default:
		return json_is_array(value);
	}
}

int records_check(const json_t *in, const struct record_field *fields, size_t count, struct err *e)
{
	for (size_t i = 0; i < count; i++) {
		const json_t *value = json_object_get(in, fields[i].name);
		if (value == NULL || json_is_null(value)) {
			if (!fields[i].optional) {
				return err_set(
				    e, ERR_INTERNAL, "approvals: no %s given", fields[i].name);
			}
			continue;
		}
		if (!is_type(value, fields[i].type)) {
			return err_set(
			    e, ERR_INTERNAL, "approvals: %s is of the wrong type", fields[i].name);
		}
		if (json_is_string(value) &&
		    strlen(json_string_value(value)) != json_string_length(value)) {
			return err_set(e, ERR_INVALID, "%s: a NUL character", fields[i].name);
		}
	}
	return 0;
}

const char *records_text(const json_t *in, const char *name)
{
	return json_string_value(json_object_get(in, name));
}

int64_t records_number(const json_t *in, const char *name)
{
	return json_integer_value(json_object_get(in, name));
}

/* --- values --- */

static EVP_MD *sha256;

/* Looking for it takes longer than hashing what is short. */
static void find_sha256(void)
{
	sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
}

int records_sha256(const char *bytes, size_t len, char out[RECORDS_SHA256_BYTES], struct err *e)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	unsigned char hash[EVP_MAX_MD_SIZE];
	unsigned size = 0;
	(void)pthread_once(&once, find_sha256);
	if (sha256 == NULL || EVP_Digest(bytes, len, hash, &size, sha256, NULL) != 1 ||
	    size != 32) {
		return err_set(e, ERR_INTERNAL, "SHA-256 failed");
	}
	text_hex(out, hash, size);
	return 0;
}

int records_settings_sha256(const json_t *settings, char out[RECORDS_SHA256_BYTES], struct err *e)
{
	cleanup(text_free) char *text = json_dumps(
	    settings, JSON_SORT_KEYS | JSON_COMPACT | JSON_ENCODE_ANY);
	return text != NULL ? records_sha256(text, strlen(text), out, e) : records_no_memory(e);
}

char *records_dump(const json_t *value)
{
	return json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
}

json_t *records_load(const char *text, size_t len)
{
	return json_loadb(text, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
}

json_t *records_column_text(const struct db_row *r, int column)
{
	size_t len;
	const char *text = db_text(r, column, &len);
	return text != NULL ? json_stringn(text, len) : json_null();
}

json_t *records_column_number(const struct db_row *r, int column)
{
	return db_is_null(r, column) ? json_null() : json_integer(db_int(r, column));
}

static json_t *column_json(const struct db_row *r, int column)
{
	size_t len;
	const char *text = db_text(r, column, &len);
	return text != NULL ? records_load(text, len) : json_null();
}

int records_no_memory(struct err *e)
{
	return err_set(e, ERR_INTERNAL, "out of memory");
}

int records_answer(json_t **out, const char *name, json_t *value, struct err *e)
{
	cleanup(json_decrefp) json_t *answer = json_object();
	if (json_object_set_new(answer, name, value) < 0) {
		return records_no_memory(e);
	}
	*out = steal(&answer);
	return 0;
}

/* --- rows --- */

enum column_type { COLUMN_TEXT, COLUMN_NUMBER, COLUMN_JSON, COLUMN_TOOL, COLUMN_CALLABLE };

/* As RECORD_COLUMNS. */
static const struct {
	const char *name;
	enum column_type type;
} columns[] = {
    {"id", COLUMN_TEXT},
    {"kind", COLUMN_TEXT},
    {"tenant", COLUMN_TEXT},
    {"pool", COLUMN_TEXT},
    {"policy", COLUMN_TEXT},
    {"state", COLUMN_TEXT},
    {"stage", COLUMN_TEXT},
    {"submitter", COLUMN_TEXT},
    {"created_us", COLUMN_NUMBER},
    {"changed_us", COLUMN_NUMBER},
    {"deadline_us", COLUMN_NUMBER},
    {"attempt", COLUMN_NUMBER},
    {"code_sha256", COLUMN_TEXT},
    {"arguments_sha256", COLUMN_TEXT},
    {"result_sha256", COLUMN_TEXT},
    {"tool", COLUMN_TOOL},
    {"callable", COLUMN_CALLABLE},
    {"parent", COLUMN_TEXT},
    {"session", COLUMN_TEXT},
    {"execution", COLUMN_TEXT},
    {"settings", COLUMN_JSON},
    {"decisions", COLUMN_JSON},
    {"version", COLUMN_NUMBER},
};
_Static_assert(array_len(columns) == RECORD_COLUMN_COUNT, "a column more or less");

static json_t *read_call(const struct db_row *r, int tool)
{
	if (db_is_null(r, tool)) {
		return json_null();
	}
	return json_pack("{s:o, s:o}", "tool", records_column_text(r, tool), "callable",
	    records_column_text(r, tool + 1));
}

json_t *record_row_read(const struct db_row *r)
{
	cleanup(json_decrefp) json_t *row = json_object();
	for (int i = 0; i < (int)array_len(columns); i++) {
		enum column_type type = columns[i].type;
		if (type == COLUMN_CALLABLE) {
			continue; /* with the tool */
		}
		json_t *value = type == COLUMN_TEXT     ? records_column_text(r, i)
				: type == COLUMN_NUMBER ? records_column_number(r, i)
				: type == COLUMN_JSON   ? column_json(r, i)
							: read_call(r, i);
		const char *name = type == COLUMN_TOOL ? "call" : columns[i].name;
		if (json_object_set_new_nocheck(row, name, value) < 0) {
			return NULL;
		}
	}
	return steal(&row);
}

json_t *record_event_read(const struct db_row *r, int first)
{
	return json_pack("{s:o, s:o, s:o, s:o, s:o}", "seq", records_column_number(r, first),
	    "at_us", records_column_number(r, first + 1), "kind", records_column_text(r, first + 2),
	    "actor", records_column_text(r, first + 3), "body", column_json(r, first + 4));
}

struct reading {
	const char *tenant;
	bool found;
	json_t *row;
};

static int on_row(void *ctx, const struct db_row *r)
{
	struct reading *reading = ctx;
	const char *tenant = db_text(r, 2, NULL);
	reading->found = reading->tenant == NULL ||
			 (tenant != NULL && strcmp(tenant, reading->tenant) == 0);
	reading->row = reading->found ? record_row_read(r) : NULL;
	return 1;
}

int record_row_load(struct db *d, const char *id, const char *tenant, json_t **row, struct err *e)
{
	struct reading r = {.tenant = tenant};
	if (db_run(d, "SELECT " RECORD_COLUMNS " FROM approval a WHERE a.id = $1",
		(const struct db_value[]){DB_TEXT(id)}, 1, on_row, &r, NULL, e) < 0) {
		return -1;
	}
	if (!r.found) {
		return err_set(e, ERR_NOT_FOUND, "there is no approval '%.64s'", id);
	}
	*row = r.row;
	return r.row != NULL ? 0 : err_set(e, ERR_INTERNAL, "approval %.64s cannot be read", id);
}

static int on_id(void *ctx, const struct db_row *r)
{
	json_t *id = records_column_text(r, 0);
	return json_array_append_new(ctx, id != NULL ? id : json_null()) == 0 ? 0 : 1;
}

int record_ids_load(struct db *d, const char *after, int64_t limit, json_t **ids, struct err *e)
{
	size_t i;
	const json_t *id;
	cleanup(json_decrefp) json_t *found = json_array();
	limit = limit < RECORDS_PAGE_MAX ? limit : RECORDS_PAGE_MAX;
	/* The empty one, which somebody put there, comes with the first page. */
	const char *sql = after == NULL
			      ? "SELECT id FROM approval WHERE id >= $1 ORDER BY id LIMIT $2"
			      : "SELECT id FROM approval WHERE id > $1 ORDER BY id LIMIT $2";
	after = after != NULL ? after : "";
	if (db_run(d, sql, (const struct db_value[]){DB_TEXT(after), DB_INT(limit)}, 2, on_id,
		found, NULL, e) < 0) {
		return -1;
	}
	json_array_foreach(found, i, id)
	{
		const char *text = json_string_value(id);
		if (text == NULL || strlen(text) != json_string_length(id) ||
		    strcmp(text, after) == 0) {
			return err_set(e, ERR_INVALID,
			    "there is an approval after '%.64s' whose id cannot be read", after);
		}
	}
	*ids = steal(&found);
	return 0;
}

/* A text into its place; the "code" is one, the others are JSON. */
static int on_text(void *ctx, const struct db_row *r)
{
	json_t *row = ctx;
	const char *kind = db_text(r, 0, NULL);
	if (kind == NULL) {
		return 0;
	}
	if (strcmp(kind, "code") == 0) {
		(void)json_object_set_new(row, kind, records_column_text(r, 1));
	} else if (strcmp(kind, "arguments") == 0) {
		(void)json_object_set_new(json_object_get(row, "call"), kind, column_json(r, 1));
	} else {
		(void)json_object_set_new(row, kind, column_json(r, 1));
	}
	return 0;
}

int record_row_complete(struct db *d, json_t *row, struct err *e)
{
	if (json_object_set_new(row, "code", json_null()) < 0 ||
	    json_object_set_new(row, "result", json_null()) < 0) {
		return records_no_memory(e);
	}
	return db_run(d, "SELECT kind, body FROM approval_text WHERE approval = $1",
	    (const struct db_value[]){DB_TEXT(records_text(row, "id"))}, 1, on_text, row, NULL, e);
}

int record_text_store(
    struct db *d, const char *id, const char *kind, const char *text, size_t len, struct err *e)
{
	const struct db_value body = {.is_text = true, .text = text, .len = len};
	return db_run(d, "INSERT INTO approval_text (approval, kind, body) VALUES ($1, $2, $3)",
	    (const struct db_value[]){DB_TEXT(id), DB_TEXT(kind), body}, 3, NULL, NULL, NULL, e);
}

enum approval_state record_state(const json_t *row)
{
	return approval_state_named(records_text(row, "state"));
}

bool record_is_final(const json_t *row)
{
	enum approval_state s = record_state(row);
	return s != APPROVAL_STATE_COUNT && approval_state_is_final(s);
}

enum approval_policy record_policy(const json_t *row)
{
	const char *kind = records_text(row, "kind");
	return kind != NULL && strcmp(kind, "call") == 0
		   ? APPROVAL_POLICY_COUNT
		   : approval_policy_named(records_text(row, "policy"));
}
