#include <stdio.h>
#include <string.h>

#include "approvals/records.h"
#include "approvals/records_rows.h"
#include "base/text.h"

/* A list is by created_us and id, newest first; the cursor is the last one that was told. New ones
 * come before it, so pages do not move. */
struct cursor {
	int64_t created_us;
	const char *id;
};

/* "MICROSECONDS-ID". */
static int read_cursor(const char *text, struct cursor *out, struct err *e)
{
	char number[24];
	uint64_t value = 0;
	*out = (struct cursor){.created_us = INT64_MAX, .id = ""};
	if (text == NULL) {
		return 0;
	}
	const char *dash = strchr(text, '-');
	size_t len = dash != NULL ? (size_t)(dash - text) : 0;
	if (len == 0 || len >= sizeof(number) || strlen(dash + 1) > RECORDS_ID_MAX_BYTES) {
		return err_set(e, ERR_INVALID, "there is no such page");
	}
	memcpy(number, text, len);
	number[len] = '\0';
	if (text_to_u64(number, INT64_MAX, &value) < 0) {
		return err_set(e, ERR_INVALID, "there is no such page");
	}
	*out = (struct cursor){.created_us = (int64_t)value, .id = dash + 1};
	return 0;
}

/* The statement for each set of filters, so that each finds its index. Bits: the tenant, the
 * state, the kind, the pool. */
#define HEAD "SELECT " RECORD_COLUMNS " FROM approval a WHERE (a.created_us, a.id) < ($1, $2)"
#define TAIL " ORDER BY a.created_us DESC, a.id DESC LIMIT "
static const char *const statements[16] = {
    HEAD TAIL "$3",
    HEAD " AND a.tenant = $3" TAIL "$4",
    HEAD " AND a.state = $3" TAIL "$4",
    HEAD " AND a.tenant = $3 AND a.state = $4" TAIL "$5",
    HEAD " AND a.kind = $3" TAIL "$4",
    HEAD " AND a.tenant = $3 AND a.kind = $4" TAIL "$5",
    HEAD " AND a.state = $3 AND a.kind = $4" TAIL "$5",
    HEAD " AND a.tenant = $3 AND a.state = $4 AND a.kind = $5" TAIL "$6",
    HEAD " AND a.pool = $3" TAIL "$4",
    HEAD " AND a.tenant = $3 AND a.pool = $4" TAIL "$5",
    HEAD " AND a.state = $3 AND a.pool = $4" TAIL "$5",
    HEAD " AND a.tenant = $3 AND a.state = $4 AND a.pool = $5" TAIL "$6",
    HEAD " AND a.kind = $3 AND a.pool = $4" TAIL "$5",
    HEAD " AND a.tenant = $3 AND a.kind = $4 AND a.pool = $5" TAIL "$6",
    HEAD " AND a.state = $3 AND a.kind = $4 AND a.pool = $5" TAIL "$6",
    HEAD " AND a.tenant = $3 AND a.state = $4 AND a.kind = $5 AND a.pool = $6" TAIL "$7",
};

static int on_row(void *ctx, const struct db_row *r)
{
	json_t *row = record_row_read(r);
	return row != NULL && json_array_append_new(ctx, row) == 0 ? 0 : 1;
}

/* Where the next page begins, when there may be one. */
static json_t *next_of(const json_t *rows, int64_t limit)
{
	char text[24 + RECORDS_ID_MAX_BYTES + 2];
	size_t count = json_array_size(rows);
	if (count == 0 || (int64_t)count < limit) {
		return json_null();
	}
	const json_t *last = json_array_get(rows, count - 1);
	(void)snprintf(text, sizeof(text), "%lld-%s", (long long)records_number(last, "created_us"),
	    records_text(last, "id"));
	return json_string(text);
}

int records_list(struct db *d, const json_t *in, json_t **out, struct err *e)
{
	static const struct record_field fields[] = {
	    {"tenant", RECORD_TEXT, true},
	    {"state", RECORD_TEXT, true},
	    {"kind", RECORD_TEXT, true},
	    {"pool", RECORD_TEXT, true},
	    {"after", RECORD_TEXT, true},
	    {"limit", RECORD_NUMBER, false},
	};
	struct cursor at;
	if (records_check(in, fields, array_len(fields), e) < 0 ||
	    read_cursor(records_text(in, "after"), &at, e) < 0) {
		return -1;
	}
	int64_t limit = records_number(in, "limit");
	limit = limit < RECORDS_PAGE_MAX ? limit : RECORDS_PAGE_MAX;
	struct db_value values[7] = {DB_INT(at.created_us), DB_TEXT(at.id)};
	size_t count = 2;
	unsigned which = 0;
	for (unsigned i = 0; i < 4; i++) {
		const char *text = records_text(in, fields[i].name);
		if (text != NULL) {
			which |= 1U << i;
			values[count++] = DB_TEXT(text);
		}
	}
	values[count++] = DB_INT(limit);
	cleanup(json_decrefp) json_t *rows = json_array();
	if (db_run(d, statements[which], values, count, on_row, rows, NULL, e) < 0) {
		return -1;
	}
	*out = json_pack("{s:O, s:o}", "approvals", rows, "next", next_of(rows, limit));
	return *out != NULL ? 0 : records_no_memory(e);
}
