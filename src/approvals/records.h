/*
 * records: approvals as rows of a database, and every change to them as one function. Each runs in
 * a transaction that the caller has begun (store.h: in a thread, many in one commit), reads its
 * arguments from a JSON object and gives a JSON object back. Nothing here knows time but from
 * arguments, or HTTP, or sessions.
 *
 * An approval is its events: event (approval, seq) with kind, actor and body is only ever added to,
 * and the row in approval is what they add up to (records_replay proves it). Every change checks
 * the state it starts from, so a change that was overtaken fails with ERR_CONFLICT and does
 * nothing; lifecycle.h says which state may follow which. Each change adds its line to the audit
 * trail (audit.h) in the same transaction.
 *
 * What is to be done later is a task (approval, kind): run, expire, call, callback, promote; with
 * due_us, and while somebody does it an owner, a lease and a fence (a number that grows with each
 * claim). Only the owner of the newest fence may finish it. A lease that ran out makes the task
 * somebody else's: runs are at least once, with the key APPROVAL-ID ":" ATTEMPT, transitions are
 * exactly once.
 *
 * The approval object, wherever "approval" stands below (a member that has no value is null):
 *   id, kind ("code"|"call"), tenant ("" the server's own), pool, policy, state, stage, submitter,
 *   created_us, changed_us, deadline_us (of the stage it waits in, else null), attempt (runs so
 * far), code, code_sha256, result (object: the outcome of the run, whatever the workflow stored),
 *   call ({tool, callable, arguments}, kind call), parent (id of the approval whose code called),
 *   session, execution (identifiers, kind call), settings (object, kept as submitted: deadline_ms,
 *   timeout_ms, callback, promote), decisions ([{stage, approve, by, reason, at_us}]), version
 * (number of events) The event object: {seq, at_us, kind, actor, body (object)}; kinds: submitted,
 * run_started, run_interrupted, run_put_back, run_finished, waiting, decided, approved, rejected,
 * expired, failed, cancelled, call_finished, callback_delivered, callback_failed,
 * callback_given_up, promoted, promote_failed.
 *
 * A decision, in the row and in the event decided: {stage, approve, by (the token's name), person
 * (whom the caller names, or null), reason, at_us}.
 *
 * The object has code_sha256, arguments_sha256 and result_sha256 besides, of the texts as stored.
 *
 * Errors of all: ERR_INTERNAL, ERR_UNAVAILABLE, ERR_BUSY from the db; what else is named. With
 * ERR_INTERNAL, ERR_UNAVAILABLE and a BUSY database a part may have been written, and the
 * transaction must be taken back; with any other error nothing was.
 */
#ifndef APPROVALS_RECORDS_H
#define APPROVALS_RECORDS_H

#include <jansson.h>

#include "approvals/db.h"
#include "base/err.h"

/* Runs of one approval that were interrupted; then it has failed. */
#define RECORDS_ATTEMPTS_MAX 5
#define RECORDS_PAGE_MAX 200
/* Told at once, the oldest first; records_events has the others. */
#define RECORDS_EVENTS_MAX 1000
/* The submitter of a call: a session, nobody knows with which token. No token has this name. */
#define RECORDS_SESSION "session"

/* Which step of the tables a database is at. */
int records_version(struct db *d, int64_t *version, struct err *e);
/* For who only reads: ERR_UNSUPPORTED when it is another one than this program's. */
int records_check_version(struct db *d, struct err *e);
/* Makes or brings up to date the tables, each step numbered and done once, in a transaction of its
 * own. ERR_UNSUPPORTED when the database is of a later version than this program. */
int records_migrate(struct db *d, struct err *e);

/* One change or one question. IN is borrowed. OUT: a new reference, set on success. An object that
 * holds "changed": [id, …] names the approvals that have new events. */
typedef int (*records_fn)(struct db *d, const json_t *in, json_t **out, struct err *e);

/* {id, tenant, pool, kind, policy, submitter, code, settings, now_us, key?, key_sha256?, open_max,
 *  call?, parent?, session?, execution?, owner?, lease_us?, audit_code?: bool}
 * -> {approval, created: bool, changed}. KEY is the client's Idempotency-Key, of its tenant and
 * submitter: known with the same key_sha256, the approval made then comes back, created false; with
 * another one ERR_CONFLICT. ERR_BUSY past open_max approvals of the tenant that are not final.
 * Kind "call" has a task "call" of OWNER until LEASE_US. */
int records_submit(struct db *d, const json_t *in, json_t **out, struct err *e);

/* {owner, now_us, lease_us, limit, kind: "run"|"callback"|"promote", share?, places?, turns?,
 * held?: [id, …]}
 * -> {tasks: [{kind, fence, attempt, approval}], changed, turns}. ATTEMPT: the run's number; of
 * another kind one more than how often it failed. Takes due tasks; a run's approval
 * becomes running (run_started; before it run_interrupted when another's lease had run out).
 * Whose: tenants take turns (records_turn.h). TURNS, as the last claim of the kind gave it back:
 * who had the last. SHARE: who holds as many of OWNER's gets no more while another waits. PLACES:
 * {pool: at most so many of its runs}; a pool that is not named has no bound.
 * HELD: all that OWNER knows to have; its lease of others of this kind ends now, as it would have
 * at its end, had OWNER not gone on renewing what it never heard that it claimed. */
int records_claim(struct db *d, const json_t *in, json_t **out, struct err *e);

/* {owner, lease_us} -> {}: all tasks of OWNER are its own until LEASE_US. */
int records_renew(struct db *d, const json_t *in, json_t **out, struct err *e);

/* {now_us, limit} -> {changed, next_due_us or null}: approvals whose deadline has passed expire;
 * calls whose owner is gone are cancelled; runs interrupted too often have failed. next_due_us: of
 * all tasks, when the next is due or its lease ends. */
int records_lapse(struct db *d, const json_t *in, json_t **out, struct err *e);

/* {id, fence, now_us, ok: bool, reason?, result, files?: [{name, base64}]} -> {approval, changed}.
 * OK false: failed. Else waiting(result), or approved, as the policy says. ERR_CONFLICT: the fence
 * is not the newest, or the approval was cancelled meanwhile. */
int records_finish_run(struct db *d, const json_t *in, json_t **out, struct err *e);
/* {id, fence, now_us, retry_us, reason} -> {changed}: back to queued, not counted as an attempt
 * (there was no room for it). */
int records_put_back(struct db *d, const json_t *in, json_t **out, struct err *e);

/* {id, tenant or null (all), stage or null, approve: bool, by, person?, reason or null, now_us,
 *  own: bool, early?: bool}
 * -> {approval, again: bool, changed}. ERR_NOT_FOUND. The same decision at the same stage again is
 * AGAIN; ERR_CONFLICT for the other one, or when it does not wait. ERR_INVALID: policy both, and
 * STAGE null (a repeated answer to the code would decide about a result nobody has seen). OWN
 * false: ERR_DENIED when BY submitted it, or may have: any call. EARLY: with the policy after one
 * that comes before the result is kept, and decides when the run has ended. */
int records_decide(struct db *d, const json_t *in, json_t **out, struct err *e);

/* {id, tenant or null, by, reason or null, now_us} -> {approval, again, changed}. ERR_NOT_FOUND;
 * ERR_CONFLICT when it is final otherwise. */
int records_cancel(struct db *d, const json_t *in, json_t **out, struct err *e);

/* {id, fence, kind ("callback"|"promote"|"call"), event: {kind, body} or null, retry_us or null,
 *  now_us} -> {changed}: the task is done, or due again at retry_us (with no event, as
 * if it had not been tried: its attempts are not more). ERR_CONFLICT as above. Kind
 * "call": fence is not looked at. */
int records_finish_task(struct db *d, const json_t *in, json_t **out, struct err *e);

/* {id, tenant or null} -> {approval, events}. ERR_NOT_FOUND. */
int records_get(struct db *d, const json_t *in, json_t **out, struct err *e);
/* {id, tenant or null, after (seq), limit} -> {events, state, final: bool}: events past AFTER. */
int records_events(struct db *d, const json_t *in, json_t **out, struct err *e);
/* {tenant or null, state?, kind?, pool?, after?: cursor, limit} -> {approvals, next: cursor or
 * null}, newest first; without code, result and a call's arguments. ERR_INVALID: the cursor. */
int records_list(struct db *d, const json_t *in, json_t **out, struct err *e);
/* {id} -> {files: [{name, base64, sha256}]} kept at finish_run for a promotion; dropped with the
 * task. SHA256 is what the result says that people decided about, or null: it names no such file.
 */
int records_files(struct db *d, const json_t *in, json_t **out, struct err *e);

/* {before_us, now_us, limit} -> {removed}: approvals that became final before BEFORE_US and have
 * nothing left to do, and their events, texts and keys. The audit trail stays, and says of each
 * that it was forgotten. */
int records_forget(struct db *d, const json_t *in, json_t **out, struct err *e);

/* {} -> {open: {state: n}, tasks: {kind: n}}: the states that are not final, none where there is
 * none. */
int records_count(struct db *d, const json_t *in, json_t **out, struct err *e);

/* {after?: id, limit} -> {checked, next: id or null, wrong: [{id, reason}]}: whether each row is
 * what its events add up to. */
int records_replay(struct db *d, const json_t *in, json_t **out, struct err *e);

#endif
