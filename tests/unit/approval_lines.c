#include "approval_lines.h"

#include <string.h>

#include "base/compiler.h"

#define LINES_ID_MAX 40 /* longer ones are no ids, and what has spaces is none */

int records_migrate(struct db *d, struct err *e)
{
	return db_script(d,
	    "CREATE TABLE IF NOT EXISTS line ("
	    "place BIGINT NOT NULL, number BIGINT PRIMARY KEY, text TEXT)",
	    e);
}

static int keep_number(void *ctx, const struct db_row *r)
{
	*(int64_t *)ctx = db_int(r, 0);
	return 0;
}

static int insert(struct db *d, const json_t *in, int64_t *changed, struct err *e)
{
	const json_t *text = json_object_get(in, "text");
	const struct db_value values[] = {
	    DB_INT(json_integer_value(json_object_get(in, "number"))),
	    {.is_text = true, .text = json_string_value(text), .len = json_string_length(text)},
	};
	return db_run(d,
	    "INSERT INTO line (place, number, text)"
	    " SELECT COUNT(*), $1, CAST($2 AS TEXT) FROM line WHERE TRUE"
	    " ON CONFLICT (number) DO NOTHING",
	    values, array_len(values), NULL, NULL, changed, e);
}

static json_t *added(const json_t *in)
{
	const json_t *text = json_object_get(in, "text");
	json_t *out = json_pack("{s:O, s:[]}", "number", json_object_get(in, "number"), "changed");
	size_t len = json_string_length(text);
	if (len > 0 && len <= LINES_ID_MAX && strchr(json_string_value(text), ' ') == NULL) {
		(void)json_array_append_new(
		    json_object_get(out, "changed"), json_string(json_string_value(text)));
	}
	return out;
}

int lines_add(struct db *d, const json_t *in, json_t **out, struct err *e)
{
	int64_t changed = 0;
	if (insert(d, in, &changed, e) < 0) {
		return -1;
	}
	if (changed != 1) {
		return err_set(e, ERR_CONFLICT, "there is one of that number");
	}
	*out = added(in);
	return 0;
}

int lines_add_once(struct db *d, const json_t *in, json_t **out, struct err *e)
{
	int64_t changed = 0;
	if (insert(d, in, &changed, e) < 0) {
		return -1;
	}
	*out = changed == 1 ? added(in)
			    : json_pack("{s:O}", "number", json_object_get(in, "number"));
	return 0;
}

static int keep_line(void *ctx, const struct db_row *r)
{
	json_t *list = ctx;
	size_t len = 0;
	const char *text = db_text(r, 1, &len);
	(void)json_array_append_new(json_object_get(list, "numbers"), json_integer(db_int(r, 0)));
	(void)json_array_append_new(json_object_get(list, "texts"),
	    db_is_null(r, 1) ? json_null() : json_stringn(text, len));
	return 0;
}

int lines_list(struct db *d, const json_t *in, json_t **out, struct err *e)
{
	(void)in;
	json_t *list = json_pack("{s:[], s:[]}", "numbers", "texts");
	if (db_run(d, "SELECT number, text FROM line ORDER BY place", NULL, 0, keep_line, list,
		NULL, e) < 0) {
		json_decref(list);
		return -1;
	}
	*out = list;
	return 0;
}

int lines_count(struct db *d, const json_t *in, json_t **out, struct err *e)
{
	int64_t count = -1;
	(void)in;
	if (db_run(d, "SELECT COUNT(*) FROM line", NULL, 0, keep_number, &count, NULL, e) < 0) {
		return -1;
	}
	*out = json_pack("{s:I}", "count", (json_int_t)count);
	return 0;
}

int lines_clear(struct db *d, const json_t *in, json_t **out, struct err *e)
{
	(void)in;
	if (db_run(d, "DELETE FROM line", NULL, 0, NULL, NULL, NULL, e) < 0) {
		return -1;
	}
	*out = json_object();
	return 0;
}
