/*
 * audit: who did what, when, and how it ended; one chain of records for a database. Each holds the
 * SHA-256 of the one before it, so nothing in between can be changed, taken out or put in without
 * verification failing; the database itself refuses UPDATE and DELETE on the table. What was cut
 * off at the end only somebody notices who kept a head (seq and hash): the server logs it (event
 * audit_head), and audit_verify compares.
 *
 *   hash = SHA-256(hash before, hex || "\n" || canonical JSON of the record without its hash), hex;
 *   the one before the first is 64 zeros. Canonical: sorted keys, compact, UTF-8 as it is.
 *
 * A record: {seq, at_us, actor (token's name, or "server"), action, subject (id or name), outcome,
 * detail (object), previous, hash}. Actions: approval.submit, approval.run, approval.finish,
 * approval.decide, approval.expire, approval.cancel, approval.fail, approval.callback,
 * approval.promote, approval.forget; server.start, server.stop; session.delete, deps.add,
 * deps.remove, skills.delete, artifacts.delete …: what an operator or client changed. Code is there
 * as its SHA-256 (detail.code_sha256) and whole (detail.code) where the configuration says so. What
 * an approval's records say is also in its events; trail.h compares them.
 */
#ifndef APPROVALS_AUDIT_H
#define APPROVALS_AUDIT_H

#include <jansson.h>
#include <stdbool.h>

#include "approvals/db.h"

#define AUDIT_HASH_BYTES 65

/* Adds one record, within the caller's transaction. DETAIL is borrowed, NULL stands for {}. The
 * chain's head is locked until the end of the transaction. */
int audit_add(struct db *d, int64_t at_us, const char *actor, const char *action,
    const char *subject, const char *outcome, const json_t *detail, struct err *e);

/* As records_fn: {at_us, actor, action, subject, outcome, detail?} -> {}. */
int audit_append(struct db *d, const json_t *in, json_t **out, struct err *e);
/* As records_fn: {after: seq, limit} -> {records}, oldest first. */
int audit_read(struct db *d, const json_t *in, json_t **out, struct err *e);
/* As records_fn: {} -> {seq, hash}; seq 0 and 64 zeros when there is none. */
int audit_head(struct db *d, const json_t *in, json_t **out, struct err *e);

/* Checks the next record of a chain: seq follows *SEQ, previous is PREVIOUS, hash is right. Then
 * *SEQ and PREVIOUS become its own. 0, or -1 with what is wrong. */
int audit_check(const json_t *record, int64_t *seq, char previous[AUDIT_HASH_BYTES], struct err *e);

#endif
