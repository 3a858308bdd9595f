/*
 * store: the database of approvals off the event loop. One thread writes: it takes what has come in
 * meanwhile, up to STORE_BATCH_MAX changes, runs them in one transaction and commits once (group
 * commit); one thread reads, with a connection of its own. Answers come on the loop, changes' after
 * their commit only: what is answered is on disk.
 *
 * When a change fails (ERR_CONFLICT and the like) the others of its batch go on, if it had done
 * nothing yet. If it had, or a statement or the transaction failed, all of the batch is taken back
 * and each of its changes tried once more alone, so nothing is ever half done; this costs where a
 * records_fn writes before it is sure, and nothing where it does not (a savepoint for each would
 * cost every change).
 *
 * When the database is away it is opened again, with a growing pause; what had not been committed
 * waits with the rest. Whatever has waited APPROVAL_STORE_WAIT_MS in its queue is not done, and
 * ERR_UNAVAILABLE. When the connection is lost in the middle of a commit, nobody knows whether it
 * was done: its changes are ERR_UNSURE, which is neither.
 *
 * Bounds: APPROVAL_STORE_QUEUE_MAX requests, and 256 MiB of texts in them, wait in each direction;
 * past it ERR_BUSY.
 */
#ifndef APPROVALS_STORE_H
#define APPROVALS_STORE_H

#include <jansson.h>
#include <uv.h>

#include "approvals/records.h"

#define APPROVAL_STORE_BATCH_MAX 512
#define APPROVAL_STORE_QUEUE_MAX 16384
#define APPROVAL_STORE_WAIT_MS 5000

struct approval_store;
struct approval_request;

/* ANSWER: borrowed for the call; NULL with E. On the loop, never before the asking call returned.
 */
typedef void (*approval_store_fn)(void *ctx, const json_t *answer, const struct err *e);
/* Approval ID has new events: by this server's commits (after the answer to the change) or, where
 * the database tells, another's. ID "": something may have been missed, so any may have. */
typedef void (*approval_changed_fn)(void *ctx, const char *id);

/* Opens and migrates, blocking, with the privileges the caller has; the threads are made in here,
 * and the seal (gateway/seal.h) may come after it. URL as db_open; copied. On failure, too, the
 * loop must run once more. */
struct approval_store *approval_store_new(
    uv_loop_t *loop, const char *url, approval_changed_fn on_changed, void *ctx, struct err *e);
/* Waits for what is queued to be written, ends the threads; nobody is called any more. The loop
 * must run once more. NULL is allowed. */
void approval_store_free(struct approval_store *s);

/* IN is taken over. NULL only when out of memory, with FN not called; else FN is called once, with
 * ERR_BUSY too. */
struct approval_request *approval_store_write(
    struct approval_store *s, records_fn op, json_t *in, approval_store_fn fn, void *ctx);
struct approval_request *approval_store_read(
    struct approval_store *s, records_fn op, json_t *in, approval_store_fn fn, void *ctx);
/* FN will not be called; a change may still be made. NULL is allowed. */
void approval_store_cancel(struct approval_request *r);

struct approval_store_counts {
	uint64_t commits;
	uint64_t changes;
	uint64_t failures; /* of whole transactions */
	uint32_t waiting;
};
void approval_store_counts(const struct approval_store *s, struct approval_store_counts *out);

#endif
