#include "approvals/audit.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "approvals/records_rows.h"
#include "base/buf.h"
#include "base/text.h"

#define RECORD_MAX_BYTES (DB_TEXT_MAX_BYTES + (1U << 20))
#define READ_MAX 1000
#define PAGE_BYTES (16U << 20) /* a page ends early with the record that passes it */

/* HASH of PREVIOUS and RECORD, which has no hash of its own. */
static int hash_of(
    const char *previous, const json_t *record, char hash[AUDIT_HASH_BYTES], struct err *e)
{
	cleanup(buf_fini) struct buf text = BUF_INIT(RECORD_MAX_BYTES);
	cleanup(text_free) char *canonical = json_dumps(record, JSON_SORT_KEYS | JSON_COMPACT);
	if (canonical == NULL) {
		return records_no_memory(e);
	}
	if (buf_add_str(&text, previous) < 0 || buf_add_char(&text, '\n') < 0 ||
	    buf_add_str(&text, canonical) < 0) {
		return err_set(e, ERR_TOO_LARGE, "a record of the audit trail is too large");
	}
	return records_sha256(text.data, text.len, hash, e);
}

/* --- adding --- */

struct head {
	int64_t seq;
	char hash[AUDIT_HASH_BYTES];
};

static int on_head(void *ctx, const struct db_row *r)
{
	struct head *head = ctx;
	const char *hash = db_text(r, 1, NULL);
	if (hash != NULL && text_is_hex(hash, AUDIT_HASH_BYTES - 1)) {
		head->seq = db_int(r, 0);
		memcpy(head->hash, hash, AUDIT_HASH_BYTES);
	}
	return 1;
}

static int read_head(struct db *d, struct head *head, struct err *e)
{
	*head = (struct head){.seq = -1};
	if (db_run(d, "SELECT seq, hash FROM audit_head WHERE id = 1", NULL, 0, on_head, head, NULL,
		e) < 0) {
		return -1;
	}
	return head->seq >= 0 ? 0 : err_set(e, ERR_INTERNAL, "the audit trail has no head");
}

/* A record to be added: what its caller gives, and what the chain gives it. */
struct added {
	int64_t at_us;
	const char *actor, *action, *subject, *outcome;
	const char *detail; /* canonical */
	struct head before, next;
};

static bool is_plain(const char *text)
{
	for (; *text != '\0'; text++) {
		if (*text < ' ' || *text > '~' || *text == '"' || *text == '\\') {
			return false;
		}
	}
	return true;
}

/* As canonical JSON has it; most are plain. */
static int add_text(struct buf *b, const char *text)
{
	if (is_plain(text)) {
		return buf_addf(b, "\"%s\"", text);
	}
	cleanup(json_decrefp) json_t *value = json_string(text);
	cleanup(text_free) char *quoted = records_dump(value);
	return quoted != NULL ? buf_add_str(b, quoted) : -EINVAL;
}

static int add_member(struct buf *b, const char *name, const char *text)
{
	int r = buf_add_str(b, name);
	return r < 0 ? r : add_text(b, text);
}

/* The hash of A, as hash_of would find it, without an object that would be made for it alone. */
static int hash_added(struct added *a, struct err *e)
{
	cleanup(buf_fini) struct buf b = BUF_INIT(RECORD_MAX_BYTES);
	if (buf_addf(&b, "%s\n", a->before.hash) < 0 ||
	    add_member(&b, "{\"action\":", a->action) < 0 ||
	    add_member(&b, ",\"actor\":", a->actor) < 0 ||
	    buf_addf(&b, ",\"at_us\":%" PRId64 ",\"detail\":", a->at_us) < 0 ||
	    buf_add_str(&b, a->detail) < 0 || add_member(&b, ",\"outcome\":", a->outcome) < 0 ||
	    add_member(&b, ",\"previous\":", a->before.hash) < 0 ||
	    buf_addf(&b, ",\"seq\":%" PRId64, a->next.seq) < 0 ||
	    add_member(&b, ",\"subject\":", a->subject) < 0 || buf_add_char(&b, '}') < 0) {
		return err_set(
		    e, ERR_TOO_LARGE, "a record of the audit trail is too large, or no UTF-8");
	}
	return records_sha256(b.data, b.len, a->next.hash, e);
}

static int insert(struct db *d, const struct added *a, struct err *e)
{
	if (strlen(a->detail) > DB_TEXT_MAX_BYTES) {
		return err_set(e, ERR_TOO_LARGE, "a record of the audit trail is too large");
	}
	if (db_run(d,
		"INSERT INTO audit (seq, at_us, actor, action, subject, outcome, detail, previous, "
		"hash) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
		(const struct db_value[]){DB_INT(a->next.seq), DB_INT(a->at_us), DB_TEXT(a->actor),
		    DB_TEXT(a->action), DB_TEXT(a->subject), DB_TEXT(a->outcome),
		    DB_TEXT(a->detail), DB_TEXT(a->before.hash), DB_TEXT(a->next.hash)},
		9, NULL, NULL, NULL, e) < 0) {
		return -1;
	}
	return db_run(d, "UPDATE audit_head SET seq = $1, hash = $2 WHERE id = 1",
	    (const struct db_value[]){DB_INT(a->next.seq), DB_TEXT(a->next.hash)}, 2, NULL, NULL,
	    NULL, e);
}

int audit_add(struct db *d, int64_t at_us, const char *actor, const char *action,
    const char *subject, const char *outcome, const json_t *detail, struct err *e)
{
	cleanup(text_free) char *canonical = detail != NULL
						 ? json_dumps(detail, JSON_SORT_KEYS | JSON_COMPACT)
						 : strdup("{}");
	struct added a = {
	    .at_us = at_us,
	    .actor = actor,
	    .action = action,
	    .subject = subject,
	    .outcome = outcome,
	    .detail = canonical,
	};
	if (canonical == NULL) {
		return records_no_memory(e);
	}
	if (read_head(d, &a.before, e) < 0) {
		return -1;
	}
	a.next.seq = a.before.seq + 1;
	return hash_added(&a, e) < 0 ? -1 : insert(d, &a, e);
}

int audit_append(struct db *d, const json_t *in, json_t **out, struct err *e)
{
	static const struct record_field fields[] = {
	    {"at_us", RECORD_NUMBER, false},
	    {"actor", RECORD_TEXT, false},
	    {"action", RECORD_TEXT, false},
	    {"subject", RECORD_TEXT, false},
	    {"outcome", RECORD_TEXT, false},
	    {"detail", RECORD_OBJECT, true},
	};
	const json_t *detail = json_object_get(in, "detail");
	if (records_check(in, fields, array_len(fields), e) < 0 ||
	    audit_add(d, records_number(in, "at_us"), records_text(in, "actor"),
		records_text(in, "action"), records_text(in, "subject"),
		records_text(in, "outcome"), json_is_object(detail) ? detail : NULL, e) < 0) {
		return -1;
	}
	*out = json_object();
	return *out != NULL ? 0 : records_no_memory(e);
}

/* --- reading --- */

struct page {
	json_t *records;
	size_t bytes;
};

/* The detail as JSON, if it stands there as audit_add wrote it; else somebody changed it, and it is
 * the text as it stands, which no record had. */
static json_t *read_detail(const struct db_row *r, int column)
{
	size_t len;
	const char *text = db_text(r, column, &len);
	cleanup(json_decrefp) json_t *detail = text != NULL ? records_load(text, len) : NULL;
	cleanup(text_free) char *again = detail != NULL
					     ? json_dumps(detail, JSON_SORT_KEYS | JSON_COMPACT)
					     : NULL;
	return again != NULL && strcmp(again, text) == 0 ? steal(&detail)
							 : records_column_text(r, column);
}

static int on_record(void *ctx, const struct db_row *r)
{
	struct page *page = ctx;
	size_t len = 0;
	(void)db_text(r, 6, &len);
	page->bytes += len;
	json_t *record = json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "seq",
	    records_column_number(r, 0), "at_us", records_column_number(r, 1), "actor",
	    records_column_text(r, 2), "action", records_column_text(r, 3), "subject",
	    records_column_text(r, 4), "outcome", records_column_text(r, 5), "detail",
	    read_detail(r, 6), "previous", records_column_text(r, 7), "hash",
	    records_column_text(r, 8));
	if (record == NULL || json_array_append_new(page->records, record) < 0) {
		return 1;
	}
	return page->bytes > PAGE_BYTES ? 1 : 0;
}

int audit_read(struct db *d, const json_t *in, json_t **out, struct err *e)
{
	static const struct record_field fields[] = {
	    {"after", RECORD_NUMBER, true},
	    {"limit", RECORD_NUMBER, false},
	};
	if (records_check(in, fields, array_len(fields), e) < 0) {
		return -1;
	}
	int64_t limit = records_number(in, "limit");
	limit = limit < READ_MAX ? limit : READ_MAX;
	cleanup(json_decrefp) json_t *records = json_array();
	struct page page = {.records = records};
	if (db_run(d,
		"SELECT seq, at_us, actor, action, subject, outcome, detail, previous, hash "
		"FROM audit WHERE seq > $1 ORDER BY seq LIMIT $2",
		(const struct db_value[]){DB_INT(records_number(in, "after")), DB_INT(limit)}, 2,
		on_record, &page, NULL, e) < 0) {
		return -1;
	}
	return records_answer(out, "records", steal(&records), e);
}

int audit_head(struct db *d, const json_t *in, json_t **out, struct err *e)
{
	struct head head;
	(void)in;
	if (read_head(d, &head, e) < 0) {
		return -1;
	}
	*out = json_pack("{s:I, s:s}", "seq", (json_int_t)head.seq, "hash", head.hash);
	return *out != NULL ? 0 : records_no_memory(e);
}

/* --- checking --- */

int audit_check(const json_t *record, int64_t *seq, char previous[AUDIT_HASH_BYTES], struct err *e)
{
	char hash[AUDIT_HASH_BYTES];
	const char *says = records_text(record, "hash");
	const char *before = records_text(record, "previous");
	int64_t number = records_number(record, "seq");
	if (number != *seq + 1) {
		return err_set(e, ERR_INVALID, "record %lld: it follows record %lld",
		    (long long)number, (long long)*seq);
	}
	if (before == NULL || strcmp(before, previous) != 0) {
		return err_set(e, ERR_INVALID, "record %lld: it does not continue the one before",
		    (long long)number);
	}
	cleanup(json_decrefp) json_t *rest = json_deep_copy(record);
	if (rest == NULL) {
		return records_no_memory(e);
	}
	(void)json_object_del(rest, "hash");
	if (hash_of(previous, rest, hash, e) < 0) {
		return -1;
	}
	if (says == NULL || strcmp(says, hash) != 0) {
		return err_set(e, ERR_INVALID, "record %lld: it was changed", (long long)number);
	}
	*seq = number;
	memcpy(previous, hash, AUDIT_HASH_BYTES);
	return 0;
}
