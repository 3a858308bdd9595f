/*
 * records_rows: what the files of records.h share: arguments, rows, and a change to one approval.
 *
 * A change is made in memory first: record_change_load, then record_change_event for each thing
 * that happened, which folds it into the row (records_fold.h checks it), then record_change_write,
 * the first that touches the database. What fails before it has done nothing.
 *
 * Locks. There is one transaction that writes at a time, by db_begin, however many servers share
 * the database; so what a change reads stays true until its commit, the audit trail is one chain,
 * there is one lock and no deadlock. It costs nothing that commits in groups have not paid for: a
 * server waits once a batch, not once a change. Claims take their rows FOR UPDATE SKIP LOCKED
 * beneath it, so that a row somebody holds by other means (an operator's psql) stops nobody.
 */
#ifndef APPROVALS_RECORDS_ROWS_H
#define APPROVALS_RECORDS_ROWS_H

#include <jansson.h>
#include <stdbool.h>

#include "approvals/db.h"
#include "approvals/lifecycle.h"
#include "base/compiler.h"

#define RECORDS_SHA256_BYTES 65
#define RECORDS_ID_MAX_BYTES 63

/* --- arguments --- */

enum record_field_type { RECORD_TEXT, RECORD_NUMBER, RECORD_FLAG, RECORD_OBJECT, RECORD_ARRAY };

/* A member of IN. One that is optional may be null or absent. */
struct record_field {
	const char *name;
	enum record_field_type type;
	bool optional;
};

/* Whether IN has what FIELDS name. ERR_INTERNAL: it is the caller who built it; ERR_INVALID for a
 * text with a NUL character, which PostgreSQL cannot hold. */
int records_check(const json_t *in, const struct record_field *fields, size_t count, struct err *e);
/* Borrowed; NULL for null and absent. */
const char *records_text(const json_t *in, const char *name);
/* 0 for null and absent. */
int64_t records_number(const json_t *in, const char *name);

/* --- values --- */

/* SHA-256 in lower-case hex. 0, or -1 with ERR_INTERNAL. */
int records_sha256(const char *bytes, size_t len, char out[RECORDS_SHA256_BYTES], struct err *e);
/* Of SETTINGS as canonical JSON (sorted keys, compact), as the audit trail has it. As above. */
int records_settings_sha256(const json_t *settings, char out[RECORDS_SHA256_BYTES], struct err *e);
/* The JSON text as it stands in the database, the caller's to free; NULL when out of memory. */
char *records_dump(const json_t *value);
/* What records_dump made; NULL when it is none. */
json_t *records_load(const char *text, size_t len);
/* A column as JSON: a string, or null. */
json_t *records_column_text(const struct db_row *r, int column);
json_t *records_column_number(const struct db_row *r, int column);
/* -1 with ERR_INTERNAL. */
int records_no_memory(struct err *e);
/* {NAME: VALUE} into *OUT; VALUE is taken. */
int records_answer(json_t **out, const char *name, json_t *value, struct err *e);

/* --- rows --- */

/* The columns of an approval, in the order that record_row_read knows. */
#define RECORD_COLUMNS                                                                            \
	"a.id, a.kind, a.tenant, a.pool, a.policy, a.state, a.stage, a.submitter, a.created_us, " \
	"a.changed_us, a.deadline_us, a.attempt, a.code_sha256, a.arguments_sha256, "             \
	"a.result_sha256, a.tool, a.callable, a.parent, a.session, a.execution, a.settings, "     \
	"a.decisions, a.version"
#define RECORD_COLUMN_COUNT 23

/* The columns of an event, in the order that record_event_read knows. */
#define RECORD_EVENT_COLUMNS "e.seq, e.at_us, e.kind, e.actor, e.body"

/* The approval's object without its texts (code, result, call's arguments); the caller's. NULL when
 * out of memory or when the row holds what is no JSON. */
json_t *record_row_read(const struct db_row *r);
/* The event of the columns from FIRST on. As above. */
json_t *record_event_read(const struct db_row *r, int first);

/* *ROW: the approval's object without its texts, of TENANT (NULL: whichever). ERR_NOT_FOUND. */
int record_row_load(struct db *d, const char *id, const char *tenant, json_t **row, struct err *e);
/* *IDS: the caller's array of the ids past AFTER (NULL: all), in order, at most LIMIT and
 * RECORDS_PAGE_MAX. ERR_INVALID: one that cannot be read, or that AFTER does not get past; neither
 * was ever written by records_submit, and what is behind it would go unseen. */
int record_ids_load(struct db *d, const char *after, int64_t limit, json_t **ids, struct err *e);
/* Adds what the row does not hold: code, result, call.arguments. */
int record_row_complete(struct db *d, json_t *row, struct err *e);
/* Stores one of the texts, "code", "result" or "arguments". */
int record_text_store(
    struct db *d, const char *id, const char *kind, const char *text, size_t len, struct err *e);

enum approval_state record_state(const json_t *row);
bool record_is_final(const json_t *row);
/* The policy of a "code", the COUNT for a "call". */
enum approval_policy record_policy(const json_t *row);

/* --- a change to one approval --- */

struct record_change {
	struct db *d;
	json_t *row;
	json_t *events; /* new ones */
	int64_t version;
	enum approval_state from; /* the COUNT: it is new */
	int64_t now_us;
};

/* For cleanup. */
void record_change_fini(struct record_change *c);
int record_change_load(struct record_change *c, struct db *d, const char *id, const char *tenant,
    int64_t now_us, struct err *e);
/* For an approval that is to be made. */
int record_change_new(
    struct record_change *c, struct db *d, const char *id, int64_t now_us, struct err *e);
/* One more event, folded into the row. BODY is taken, may be NULL. */
int record_change_event(
    struct record_change *c, const char *kind, const char *actor, json_t *body, struct err *e);
/* Writes the row, the events and the tasks that follow from the new state. */
int record_change_write(struct record_change *c, struct err *e);
/* Into the audit trail; DETAIL is taken. */
int record_change_audit(const struct record_change *c, const char *actor, const char *action,
    const char *outcome, json_t *detail, struct err *e);
/* {approval, changed: [id], NAME: FLAG} into *OUT; NAME may be NULL. The row gets its texts. */
int record_change_answer(
    struct record_change *c, const char *name, bool flag, json_t **out, struct err *e);

/* --- tasks --- */

struct record_task {
	bool found;
	int64_t fence;
	int64_t attempt;
	char owner[128]; /* "" when nobody has it */
};

int record_task_load(
    struct db *d, const char *id, const char *kind, struct record_task *t, struct err *e);
#define RECORD_ANY_FENCE (-1)
/* Whether what was begun may be ended now: the task is there, its newest fence is FENCE, and its
 * approval (C's) still runs, or for another kind than "run" is final. Else ERR_CONFLICT. T may be
 * NULL. */
int record_task_check(const struct record_change *c, const char *kind, int64_t fence,
    struct record_task *t, struct err *e);
/* Of C's approval; due at DUE_US, OWNER's (NULL: nobody's) until then. */
int record_task_add(const struct record_change *c, const char *kind, int64_t due_us,
    const char *owner, struct err *e);
int record_task_drop(struct db *d, const char *id, const char *kind, struct err *e);
/* Nobody's, due at DUE_US; its fence grows, so that the owner it had cannot finish it. */
int record_task_release(
    struct db *d, const char *id, const char *kind, int64_t due_us, int64_t attempt, struct err *e);
/* Whether what failed with E had only begun: nothing was changed since db_changes was BEFORE, and
 * the database is there. */
bool record_can_skip(struct db *d, uint64_t before, const struct err *e);
/* One approval that cannot be gone on with (a row that somebody damaged) does not stop the others:
 * its task is due again in a minute, and the reason is logged. */
int record_task_put_aside(struct db *d, const char *id, const char *kind, int64_t now_us,
    const struct err *why, struct err *e);
int record_files_drop(struct db *d, const char *id, struct err *e);

/* A run whose lease has ended: back to queued, or failed when it was the last that is tried. The
 * change is written. */
int record_run_interrupt(struct record_change *c, const char *owner, struct err *e);

#endif
