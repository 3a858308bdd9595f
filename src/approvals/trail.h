/*
 * trail: whether the audit trail and the approvals of one database tell the same. Every change of
 * an approval writes its events and its record in one transaction (records_rows.h), so at any
 * moment, after any crash, an approval has the records that its events call for, in their order,
 * and no other (trail_expect.h says which). What was forgotten (records_forget) has left a record
 * of that, approval.forget, in the transaction that took it away; other records without an approval
 * are of one that somebody took away.
 *
 * The trail has no index by approval, which each change would pay for. Who compares makes one, in
 * a temporary table of its own connection, which the database keeps in files: collected once, then
 * brought up to date by every question below in the state that it looks at. So the server may go on
 * writing meanwhile, no state is held for long, and memory has a bound however long the trail is.
 *
 * It says nothing about the chain (audit_check); what it tells is worth what the chain is.
 */
#ifndef APPROVALS_TRAIL_H
#define APPROVALS_TRAIL_H

#include <jansson.h>

#include "approvals/db.h"
#include "base/err.h"

/* At most so many disagreements of one approval are told; one more says that there are others. */
#define TRAIL_WRONG_MAX 8

/* Makes the temporary table, or empties it. Outside a transaction. */
int trail_begin(struct db *d, struct err *e);

/*
 * The three are records_fn (records.h), after trail_begin, on the same connection. They are called
 * in a transaction, a snapshot too, that is ended with db_commit: a rollback takes back what was
 * collected. COLLECTED: the number of the last record that was, 0 at first.
 */

/* {collected, upto} -> {collected}: the records up to UPTO. For a walk along the chain, so that no
 * later question has many to collect. */
int trail_collect(struct db *d, const json_t *in, json_t **out, struct err *e);

/* {collected, after?: id, limit} -> {collected, next: id or null, wrong: [{id, record?, reason}]}:
 * the approvals past AFTER, their events against their records. RECORD: the number of the record
 * in question, left out where there is none. */
int trail_compare(struct db *d, const json_t *in, json_t **out, struct err *e);

/* {collected, at?: as "next" was given, limit} -> {collected, next or null, wrong}: records whose
 * approval is neither there nor forgotten. LIMIT: records looked at. */
int trail_missing(struct db *d, const json_t *in, json_t **out, struct err *e);

#endif
