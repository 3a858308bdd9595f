/* Whether the rows are what their events add up to. */
#include <stdio.h>
#include <string.h>

#include "approvals/records.h"
#include "approvals/records_fold.h"
#include "approvals/records_rows.h"

struct replay {
	struct db *d;
	json_t *wrong;
};

static int add_wrong(struct replay *r, const char *id, const char *reason)
{
	json_t *one = json_pack("{s:s, s:s}", "id", id, "reason", reason);
	return one != NULL && json_array_append_new(r->wrong, one) == 0 ? 0 : -1;
}

/* --- one approval --- */

/* Row and events come in one statement, so that no change comes between them. */
struct folding {
	json_t *row;  /* as it stands */
	json_t *sum;  /* of the events */
	struct err e; /* why an event does not fit */
};

static int on_event(void *ctx, const struct db_row *r)
{
	struct folding *f = ctx;
	if (f->row == NULL) {
		f->row = record_row_read(r);
	}
	if (db_is_null(r, RECORD_COLUMN_COUNT)) {
		return 1; /* no events at all */
	}
	cleanup(json_decrefp) json_t *event = record_event_read(r, RECORD_COLUMN_COUNT);
	if (event == NULL) {
		(void)err_set(&f->e, ERR_INTERNAL, "an event that is no JSON");
		return 1;
	}
	return records_fold(f->sum, event, &f->e) == 0 ? 0 : 1;
}

/* The member in which A and B differ. */
static const char *difference(const json_t *a, json_t *b)
{
	const char *name;
	json_t *value;
	json_object_foreach(b, name, value)
	{
		if (!json_equal(json_object_get(a, name), value)) {
			return name;
		}
	}
	return "";
}

/* --- its texts --- */

struct hashing {
	const json_t *row;
	unsigned seen;
	const char *wrong;
};

static const char *const text_kinds[] = {"code", "arguments", "result"};
static const char *const text_hashes[] = {"code_sha256", "arguments_sha256", "result_sha256"};

static int on_text(void *ctx, const struct db_row *r)
{
	struct hashing *h = ctx;
	size_t len;
	char sha256[RECORDS_SHA256_BYTES];
	const char *kind = db_text(r, 0, NULL);
	const char *text = db_text(r, 1, &len);
	for (unsigned i = 0; kind != NULL && text != NULL && i < array_len(text_kinds); i++) {
		const char *says = records_text(h->row, text_hashes[i]);
		if (strcmp(kind, text_kinds[i]) != 0) {
			continue;
		}
		h->seen |= 1U << i;
		if (says == NULL || records_sha256(text, len, sha256, NULL) < 0 ||
		    strcmp(says, sha256) != 0) {
			h->wrong = text_kinds[i];
		}
	}
	return 0;
}

/* The text that is not what its hash says; NULL when all are. */
static int check_texts(
    struct db *d, const char *id, const json_t *row, const char **wrong, struct err *e)
{
	struct hashing h = {.row = row};
	if (db_run(d, "SELECT kind, body FROM approval_text WHERE approval = $1",
		(const struct db_value[]){DB_TEXT(id)}, 1, on_text, &h, NULL, e) < 0) {
		return -1;
	}
	for (unsigned i = 0; i < array_len(text_kinds) && h.wrong == NULL; i++) {
		if (records_text(row, text_hashes[i]) != NULL && (h.seen & (1U << i)) == 0) {
			h.wrong = text_kinds[i];
		}
	}
	*wrong = h.wrong;
	return 0;
}

static void folding_fini(struct folding *f)
{
	json_decref(f->row);
	json_decref(f->sum);
}

static int check_one(struct replay *r, const char *id, struct err *e)
{
	char reason[sizeof(e->text)];
	const char *text = NULL;
	cleanup(folding_fini) struct folding f = {.sum = json_object()};
	if (db_run(r->d,
		"SELECT " RECORD_COLUMNS ", " RECORD_EVENT_COLUMNS " FROM approval a "
		"LEFT JOIN approval_event e ON e.approval = a.id WHERE a.id = $1 ORDER BY e.seq",
		(const struct db_value[]){DB_TEXT(id)}, 1, on_event, &f, NULL, e) < 0 ||
	    check_texts(r->d, id, f.sum, &text, e) < 0) {
		return -1;
	}
	if (f.e.code != ERR_NONE) {
		return add_wrong(r, id, f.e.text);
	}
	if (f.row == NULL || json_object_size(f.sum) == 0) {
		return add_wrong(r, id, "it has no events, or cannot be read");
	}
	if (!json_equal(f.row, f.sum)) {
		(void)snprintf(reason, sizeof(reason), "%s is not what its events add up to",
		    difference(f.row, f.sum));
		return add_wrong(r, id, reason);
	}
	if (text != NULL) {
		(void)snprintf(reason, sizeof(reason), "its %s is not the one it had", text);
		return add_wrong(r, id, reason);
	}
	return 0;
}

/* --- all of them --- */

static int on_id(void *ctx, const struct db_row *r)
{
	json_t *id = records_column_text(r, 0);
	return id != NULL && json_array_append_new(ctx, id) == 0 ? 0 : 1;
}

static int on_count(void *ctx, const struct db_row *r)
{
	char reason[96];
	const char *tenant = db_text(r, 0, NULL);
	if (db_int(r, 1) != db_int(r, 2)) {
		(void)snprintf(reason, sizeof(reason), "%lld are open, and %lld are counted",
		    (long long)db_int(r, 2), (long long)db_int(r, 1));
		(void)add_wrong(ctx, tenant != NULL ? tenant : "", reason);
	}
	return 0;
}

/* Tenants' counts of open approvals; once, with the first page. */
static int check_counts(struct replay *r, struct err *e)
{
	return db_run(r->d,
	    "SELECT o.tenant, o.count, (SELECT count(*) FROM approval a WHERE "
	    "a.tenant = o.tenant AND a.state IN ('queued', 'running', 'waiting')) "
	    "FROM approval_open o ORDER BY o.tenant",
	    NULL, 0, on_count, r, NULL, e);
}

/* Events whose approval is not there: it was taken away from under them. */
static int check_orphans(struct replay *r, struct err *e)
{
	size_t i;
	const json_t *id;
	cleanup(json_decrefp) json_t *ids = json_array();
	if (db_run(r->d,
		"SELECT DISTINCT e.approval FROM approval_event e WHERE NOT EXISTS "
		"(SELECT 1 FROM approval a WHERE a.id = e.approval) LIMIT 200",
		NULL, 0, on_id, ids, NULL, e) < 0) {
		return -1;
	}
	json_array_foreach(ids, i, id)
	{
		if (add_wrong(r, json_string_value(id), "its events are there, it is not") < 0) {
			return records_no_memory(e);
		}
	}
	return 0;
}

int records_replay(struct db *d, const json_t *in, json_t **out, struct err *e)
{
	static const struct record_field fields[] = {
	    {"after", RECORD_TEXT, true},
	    {"limit", RECORD_NUMBER, false},
	};
	if (records_check(in, fields, array_len(fields), e) < 0) {
		return -1;
	}
	size_t i;
	const json_t *id;
	const char *after = records_text(in, "after");
	int64_t limit = records_number(in, "limit");
	limit = limit < RECORDS_PAGE_MAX ? limit : RECORDS_PAGE_MAX;
	cleanup(json_decrefp) json_t *ids = NULL;
	cleanup(json_decrefp) json_t *wrong = json_array();
	struct replay r = {.d = d, .wrong = wrong};
	if (after == NULL && (check_counts(&r, e) < 0 || check_orphans(&r, e) < 0)) {
		return -1;
	}
	if (record_ids_load(d, after, limit, &ids, e) < 0) {
		return -1;
	}
	json_array_foreach(ids, i, id)
	{
		if (check_one(&r, json_string_value(id), e) < 0) {
			return -1;
		}
	}
	size_t count = json_array_size(ids);
	bool more = limit > 0 && count == (size_t)limit;
	*out = json_pack("{s:I, s:O?, s:O}", "checked", (json_int_t)count, "next",
	    more ? json_array_get(ids, count - 1) : NULL, "wrong", wrong);
	return *out != NULL ? 0 : records_no_memory(e);
}
