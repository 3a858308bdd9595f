#include "approvals/trail.h"

#include <stdio.h>
#include <string.h>

#include "approvals/audit.h"
#include "approvals/records.h"
#include "approvals/records_rows.h"
#include "approvals/trail_expect.h"
#include "base/text.h"

#define LOOK_AHEAD 8 /* so far is looked for where events and records go on together */
#define RECORDS_READ 32
#define RECORDS_READ_BYTES (16U << 20)
#define MISSING_MAX 1000

/* --- collecting --- */

int trail_begin(struct db *d, struct err *e)
{
	/* In files, which are nobody else's, and not in memory; with a cache of some size. */
	if (strcmp(db_kind(d), "sqlite") == 0 &&
	    db_script(d, "PRAGMA temp_store = FILE; PRAGMA temp.cache_size = -32768", e) < 0) {
		return -1;
	}
	return db_script(d,
	    "CREATE TEMPORARY TABLE IF NOT EXISTS trail_record (subject TEXT NOT NULL, "
	    "seq BIGINT NOT NULL, forgotten BIGINT NOT NULL, PRIMARY KEY (subject, seq));"
	    "DELETE FROM trail_record",
	    e);
}

static int collect(struct db *d, int64_t after, int64_t upto, struct err *e)
{
	if (upto <= after) {
		return 0;
	}
	return db_run(d,
	    "INSERT INTO trail_record (subject, seq, forgotten) "
	    "SELECT subject, seq, CASE WHEN action = 'approval.forget' THEN 1 ELSE 0 END "
	    "FROM audit WHERE seq > $1 AND seq <= $2 AND action LIKE 'approval.%'",
	    (const struct db_value[]){DB_INT(after), DB_INT(upto)}, 2, NULL, NULL, NULL, e);
}

int trail_collect(struct db *d, const json_t *in, json_t **out, struct err *e)
{
	static const struct record_field fields[] = {
	    {"collected", RECORD_NUMBER, false},
	    {"upto", RECORD_NUMBER, false},
	};
	int64_t collected = records_number(in, "collected");
	int64_t upto = records_number(in, "upto");
	if (records_check(in, fields, array_len(fields), e) < 0 ||
	    collect(d, collected, upto, e) < 0) {
		return -1;
	}
	return records_answer(
	    out, "collected", json_integer(upto > collected ? upto : collected), e);
}

/* Up to the trail's end, as this state has it. */
static int collect_all(struct db *d, const json_t *in, int64_t *collected, struct err *e)
{
	cleanup(json_decrefp) json_t *head = NULL;
	*collected = records_number(in, "collected");
	if (audit_head(d, NULL, &head, e) < 0) {
		return -1;
	}
	int64_t upto = records_number(head, "seq");
	if (collect(d, *collected, upto, e) < 0) {
		return -1;
	}
	*collected = upto > *collected ? upto : *collected;
	return 0;
}

/* --- telling --- */

/* What is told at most of one approval, one after the other. */
struct telling {
	const char *id;
	json_t *wrong;
	unsigned told;
};

static int add_wrong(
    json_t *wrong, const char *id, int64_t record, const char *reason, struct err *e)
{
	json_t *one = json_pack("{s:s, s:s}", "id", id, "reason", reason);
	if (one == NULL || json_array_append_new(wrong, one) < 0) {
		return records_no_memory(e);
	}
	return record > 0 ? json_object_set_new(one, "record", json_integer(record)) : 0;
}

static int printf_like(4, 5)
    tell(struct telling *t, int64_t record, struct err *e, const char *fmt, ...)
{
	char text[256];
	va_list args;
	if (t->told == TRAIL_WRONG_MAX) {
		return 0;
	}
	t->told++;
	if (t->told == TRAIL_WRONG_MAX) {
		return add_wrong(t->wrong, t->id, 0, "and more of it in the trail", e);
	}
	va_start(args, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	return add_wrong(t->wrong, t->id, record, text, e);
}

/* A name as it may be shown: what somebody put there may be anything. */
static const char *shown(const json_t *object, const char *name)
{
	const char *text = records_text(object, name);
	size_t len = text != NULL ? strlen(text) : 0;
	for (size_t i = 0; i < len; i++) {
		if (text[i] <= ' ' || text[i] > '~') {
			return "?";
		}
	}
	return len > 0 && len <= 32 ? text : "?";
}

/* --- the records of one approval --- */

struct record_cursor {
	struct db *d;
	const char *id;
	json_t *ahead; /* read, and not taken yet */
	int64_t read;
	bool end;
};

struct page {
	json_t *records;
	size_t count, bytes;
	bool failed;
};

static int on_record(void *ctx, const struct db_row *r)
{
	struct page *page = ctx;
	size_t len = 0;
	const char *text = db_text(r, 5, &len);
	json_t *detail = text != NULL ? records_load(text, len) : NULL;
	json_t *record = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "seq",
	    records_column_number(r, 0), "at_us", records_column_number(r, 1), "actor",
	    records_column_text(r, 2), "action", records_column_text(r, 3), "outcome",
	    records_column_text(r, 4), "detail", detail != NULL ? detail : json_null());
	page->failed = record == NULL || json_array_append_new(page->records, record) < 0;
	page->count++;
	page->bytes += len;
	return page->failed || page->bytes > RECORDS_READ_BYTES ? 1 : 0;
}

static int read_records(struct record_cursor *c, struct err *e)
{
	struct page page = {.records = c->ahead};
	if (db_run(c->d,
		"SELECT a.seq, a.at_us, a.actor, a.action, a.outcome, a.detail "
		"FROM trail_record t JOIN audit a ON a.seq = t.seq "
		"WHERE t.subject = $1 AND t.seq > $2 ORDER BY t.seq LIMIT $3",
		(const struct db_value[]){DB_TEXT(c->id), DB_INT(c->read), DB_INT(RECORDS_READ)}, 3,
		on_record, &page, NULL, e) < 0) {
		return -1;
	}
	if (page.failed) {
		return err_set(
		    e, ERR_INVALID, "a record after %lld cannot be read", (long long)c->read);
	}
	c->end = page.count < RECORDS_READ && page.bytes <= RECORDS_READ_BYTES;
	if (page.count > 0) {
		size_t last = json_array_size(c->ahead) - 1;
		c->read = records_number(json_array_get(c->ahead, last), "seq");
	}
	return 0;
}

/* --- one approval --- */

struct comparing {
	struct trail_expect expect;
	struct record_cursor records;
	json_t *wants; /* expected, and not taken yet */
	struct telling telling;
};

static void comparing_fini(struct comparing *c)
{
	trail_expect_fini(&c->expect);
	json_decref(c->records.ahead);
	json_decref(c->wants);
}

/* So many of both are there as may be looked at, unless it ends. */
static int fill(struct comparing *c, struct err *e)
{
	json_t *want = NULL;
	do {
		if (json_array_size(c->wants) > LOOK_AHEAD) {
			break;
		}
		if (trail_expect_next(&c->expect, &want, e) < 0) {
			return -1;
		}
		if (want != NULL && json_array_append_new(c->wants, want) < 0) {
			return records_no_memory(e);
		}
	} while (want != NULL);
	while (json_array_size(c->records.ahead) <= LOOK_AHEAD && !c->records.end) {
		if (read_records(&c->records, e) < 0) {
			return -1;
		}
	}
	return 0;
}

/* The two are of one change, whatever else differs. */
static bool belong(const json_t *want, const json_t *record)
{
	const json_t *action = json_object_get(want, "action");
	return action != NULL && json_equal(action, json_object_get(record, "action")) &&
	       json_equal(json_object_get(want, "outcome"), json_object_get(record, "outcome"));
}

static int take_want(struct comparing *c, struct err *e)
{
	const json_t *want = json_array_get(c->wants, 0);
	int r = tell(&c->telling, 0, e, "event %lld (%s): there is no record of it",
	    (long long)records_number(want, "event"), shown(want, "kind"));
	(void)json_array_remove(c->wants, 0);
	return r;
}

static int take_record(struct comparing *c, struct err *e)
{
	const json_t *record = json_array_get(c->records.ahead, 0);
	int64_t seq = records_number(record, "seq");
	int r = tell(&c->telling, seq, e, "record %lld (%s, %s): there is no event of it",
	    (long long)seq, shown(record, "action"), shown(record, "outcome"));
	(void)json_array_remove(c->records.ahead, 0);
	return r;
}

static int take_both(struct comparing *c, struct err *e)
{
	char name[TRAIL_NAME_BYTES];
	const json_t *want = json_array_get(c->wants, 0);
	const json_t *record = json_array_get(c->records.ahead, 0);
	const char *problem = records_text(want, "problem");
	int64_t seq = records_number(record, "seq");
	int r = 0;
	if (problem != NULL) {
		r = tell(&c->telling, seq, e, "%s", problem);
	}
	if (r == 0 && trail_differs(want, record, name)) {
		r = tell(&c->telling, seq, e,
		    "record %lld (%s, %s): its %s is not that of event %lld", (long long)seq,
		    shown(record, "action"), shown(record, "outcome"), name,
		    (long long)records_number(want, "event"));
	}
	(void)json_array_remove(c->wants, 0);
	(void)json_array_remove(c->records.ahead, 0);
	return r;
}

/* The two are the same in everything. */
static bool equal(const json_t *want, const json_t *record)
{
	char name[TRAIL_NAME_BYTES];
	return belong(want, record) && !trail_differs(want, record, name);
}

/* How many of the wants, or of the records, come before the two go on together by FITS. */
static bool find_by(const struct comparing *c, bool (*fits)(const json_t *, const json_t *),
    size_t *wants, size_t *records)
{
	const json_t *want = json_array_get(c->wants, 0);
	const json_t *record = json_array_get(c->records.ahead, 0);
	*wants = 0;
	*records = 0;
	for (size_t k = 0; k <= LOOK_AHEAD; k++) {
		if (fits(want, json_array_get(c->records.ahead, k))) {
			*records = k;
			return true;
		}
		if (fits(json_array_get(c->wants, k), record)) {
			*wants = k;
			return true;
		}
	}
	return false;
}

/* Both 0: the first two are of one change, or it cannot be seen. */
static void find_together(const struct comparing *c, size_t *wants, size_t *records)
{
	if (!find_by(c, equal, wants, records) && !find_by(c, belong, wants, records)) {
		*wants = json_array_size(c->records.ahead) == 0;
		*records = json_array_size(c->wants) == 0;
	}
}

static int step(struct comparing *c, struct err *e)
{
	size_t wants, records;
	find_together(c, &wants, &records);
	if (wants == 0 && records == 0) {
		return take_both(c, e);
	}
	for (; wants > 0; wants--) {
		if (take_want(c, e) < 0) {
			return -1;
		}
	}
	for (; records > 0; records--) {
		if (take_record(c, e) < 0) {
			return -1;
		}
	}
	return 0;
}

static int compare_one(struct db *d, const char *id, json_t *wrong, struct err *e)
{
	cleanup(comparing_fini) struct comparing c = {
	    .expect = {.d = d, .id = id},
	    .records = {.d = d, .id = id, .ahead = json_array()},
	    .wants = json_array(),
	    .telling = {.id = id, .wrong = wrong},
	};
	for (;;) {
		if (fill(&c, e) < 0) {
			return -1;
		}
		bool end = json_array_size(c.wants) == 0 && json_array_size(c.records.ahead) == 0;
		if (end || c.telling.told == TRAIL_WRONG_MAX) {
			return 0;
		}
		if (step(&c, e) < 0) {
			return -1;
		}
	}
}

/* --- all of them --- */

static int answer(json_t **out, int64_t collected, json_t *next, json_t *wrong, struct err *e)
{
	*out = json_pack(
	    "{s:I, s:o?, s:O}", "collected", (json_int_t)collected, "next", next, "wrong", wrong);
	return *out != NULL ? 0 : records_no_memory(e);
}

int trail_compare(struct db *d, const json_t *in, json_t **out, struct err *e)
{
	static const struct record_field fields[] = {
	    {"collected", RECORD_NUMBER, false},
	    {"after", RECORD_TEXT, true},
	    {"limit", RECORD_NUMBER, false},
	};
	size_t i;
	const json_t *id;
	int64_t collected, limit = records_number(in, "limit");
	cleanup(json_decrefp) json_t *ids = NULL;
	cleanup(json_decrefp) json_t *wrong = json_array();
	limit = limit < RECORDS_PAGE_MAX ? limit : RECORDS_PAGE_MAX;
	if (records_check(in, fields, array_len(fields), e) < 0 ||
	    collect_all(d, in, &collected, e) < 0 ||
	    record_ids_load(d, records_text(in, "after"), limit, &ids, e) < 0) {
		return -1;
	}
	json_array_foreach(ids, i, id)
	{
		if (compare_one(d, json_string_value(id), wrong, e) < 0) {
			return -1;
		}
	}
	size_t count = json_array_size(ids);
	json_t *next = json_array_get(ids, count - 1);
	bool more = limit > 0 && count == (size_t)limit;
	return answer(out, collected, more ? json_incref(next) : NULL, wrong, e);
}

/* --- what is not there --- */

/* The last record of one subject, as it is gone along. */
struct looking {
	json_t *at; /* {subject, seq, there, forgotten}, or NULL */
	json_t *wrong;
	int64_t count;
	struct err *e;
};

static int leave(struct looking *l)
{
	char text[96];
	int64_t seq = records_number(l->at, "seq");
	if (l->at == NULL || records_number(l->at, "there") != 0 ||
	    records_number(l->at, "forgotten") != 0) {
		return 0;
	}
	(void)snprintf(text, sizeof(text),
	    "record %lld: the approval is not there, and was not forgotten", (long long)seq);
	return add_wrong(l->wrong, records_text(l->at, "subject"), seq, text, l->e);
}

static int on_place(void *ctx, const struct db_row *r)
{
	struct looking *l = ctx;
	const char *subject = db_text(r, 0, NULL);
	const char *before = records_text(l->at, "subject");
	bool same = subject != NULL && before != NULL && strcmp(subject, before) == 0;
	int64_t forgotten = same ? records_number(l->at, "forgotten") : 0;
	l->count++;
	if (!same && leave(l) < 0) {
		return 1;
	}
	json_decref(l->at);
	l->at = json_pack("{s:o, s:I, s:I, s:I}", "subject", records_column_text(r, 0), "seq",
	    (json_int_t)db_int(r, 1), "forgotten", (json_int_t)(forgotten | db_int(r, 2)), "there",
	    (json_int_t)db_int(r, 3));
	return l->at != NULL ? 0 : records_no_memory(l->e);
}

static void looking_fini(struct looking *l)
{
	json_decref(l->at);
}

int trail_missing(struct db *d, const json_t *in, json_t **out, struct err *e)
{
	static const struct record_field fields[] = {
	    {"collected", RECORD_NUMBER, false},
	    {"at", RECORD_OBJECT, true},
	    {"limit", RECORD_NUMBER, false},
	};
	int64_t collected, limit = records_number(in, "limit");
	struct err why = {0};
	json_t *at = json_object_get(in, "at");
	const char *subject = records_text(at, "subject");
	cleanup(json_decrefp) json_t *wrong = json_array();
	cleanup(looking_fini) struct looking l = {
	    .at = json_is_object(at) ? json_incref(at) : NULL, .wrong = wrong, .e = &why};
	limit = limit < MISSING_MAX ? limit : MISSING_MAX;
	if (records_check(in, fields, array_len(fields), e) < 0 ||
	    collect_all(d, in, &collected, e) < 0 ||
	    db_run(d,
		"SELECT t.subject, t.seq, t.forgotten, CASE WHEN EXISTS "
		"(SELECT 1 FROM approval a WHERE a.id = t.subject) THEN 1 ELSE 0 END "
		"FROM trail_record t WHERE (t.subject, t.seq) > ($1, $2) "
		"ORDER BY t.subject, t.seq LIMIT $3",
		(const struct db_value[]){DB_TEXT(subject != NULL ? subject : ""),
		    DB_INT(records_number(at, "seq")), DB_INT(limit)},
		3, on_place, &l, NULL, e) < 0) {
		return -1;
	}
	bool more = limit > 0 && l.count == limit;
	if (why.code == ERR_NONE && !more) {
		(void)leave(&l);
	}
	if (why.code != ERR_NONE) {
		return err_set(e, why.code, "%s", why.text);
	}
	return answer(out, collected, more ? json_incref(l.at) : NULL, wrong, e);
}
