/*
 * approval_base: a database of approvals of a test's own, and its operations in few words.
 *
 * SQLite in a directory of its own; where CARREL_TEST_POSTGRES is a URL, that database, emptied.
 */
#ifndef APPROVAL_BASE_H
#define APPROVAL_BASE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdbool.h>

#include "approvals/audit.h"
#include "approvals/records.h"

#define BASE_START_US 1700000000000000LL
#define BASE_SECOND_US 1000000LL
#define BASE_DEADLINE_MS 3600000LL
#define BASE_LEASE_US (30 * BASE_SECOND_US)

struct approval_base {
	struct db *db;
	char dir[32];
	char url[256];
	int64_t now_us; /* what every operation is told */
	unsigned made;
	struct err e;     /* of the last operation */
	char reason[256]; /* the last that base_trail_wrong found; "" */
};

/* cmocka's: *state is a struct approval_base. */
int base_setup(void **state);
int base_teardown(void **state);
/* Opens it once more, as another process would. */
struct db *base_open(const struct approval_base *b);

/* In a transaction of its own: committed when OP succeeds. IN is taken. The answer is the caller's;
 * NULL with b->e. */
json_t *base_do(struct approval_base *b, records_fn op, json_t *in);
/* That fails, with CODE, and has changed nothing. IN is taken. */
void base_refuses(struct approval_base *b, records_fn op, json_t *in, enum err_code code);
/* The same for db_run, without values; for what no operation does. False when it fails (b->e). */
bool base_sql(struct approval_base *b, const char *sql);

/* What records_submit takes, with an id of its own. For more members, json_object_set. */
json_t *base_submission(struct approval_base *b, const char *tenant, const char *policy);
/* A call of the tool "shell" whose owner is "server-a". */
json_t *base_call(struct approval_base *b, const char *tenant);
/* Submits; the id, valid until the fixture ends. */
const char *base_submit(struct approval_base *b, json_t *submission);
const char *base_new(struct approval_base *b, const char *policy);
/* A member of the approval as it stands, as text: "" for null. */
const char *base_member(struct approval_base *b, const char *id, const char *name);
#define base_state(b, id) base_member((b), (id), "state")

/* Takes the one task of KIND that is due, for OWNER: {kind, fence, attempt, approval}; NULL when
 * there is none. */
json_t *base_claim(struct approval_base *b, const char *owner, const char *kind);
/* Runs the one that is queued, and ends it. */
void base_run(struct approval_base *b, const char *id, bool ok);
json_t *base_finish(
    const struct approval_base *b, const char *id, const json_t *task, bool ok, const char *said);
/* What records_decide and records_cancel take. TENANT and STAGE may be NULL. */
json_t *base_decision(const struct approval_base *b, const char *id, const char *tenant,
    const char *stage, bool approve);
json_t *base_cancel(const struct approval_base *b, const char *id, const char *tenant);
/* How many changed. */
size_t base_lapse(struct approval_base *b);
/* The kinds of ID's events, with a space after each. Valid until the next call. */
const char *base_events(struct approval_base *b, const char *id);
/* How often the trail and the approvals do not tell the same (trail.h). */
size_t base_trail_wrong(struct approval_base *b);
/* Replays all, walks the trail and compares the two; nothing may be wrong. How many records the
 * trail has. */
int64_t base_verify(struct approval_base *b);
/* How many approvals records_replay finds wrong. */
size_t base_wrong(struct approval_base *b);

#endif
