/*
 * store_threads: what is behind store.h: a lane for each direction, which is a thread with a
 * database and the requests that wait for it, and, where the database tells, a thread that listens.
 *
 * Who may touch what: a request belongs to the lane while it waits or is done, and to the loop
 * before and after. What a lane's lock guards stands below it. The loop hears of finished requests
 * and of others' changes through one uv_async.
 */
#ifndef APPROVALS_STORE_THREADS_H
#define APPROVALS_STORE_THREADS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "approvals/store.h"

/* What a records_fn came to. */
struct approval_outcome {
	json_t *out; /* NULL: it failed, with E */
	struct err e;
};

/* It has no answer until request_answer or request_refuse: what its operation came to is the lane's
 * (store_lane.drafts) until the transaction has been committed, and gone with one that has not. */
struct approval_request {
	records_fn op;
	json_t *in;
	size_t bytes; /* of the texts in it */
	uint64_t since_ms;
	struct approval_outcome answer;
	approval_store_fn fn; /* NULL: nobody is interested; only the loop reads it */
	void *ctx;
	struct approval_request *next;
};

/* First in, first out. */
struct request_queue {
	struct approval_request *first;
	struct approval_request **last;
	uint32_t count;
	size_t bytes;
};

void request_queue_init(struct request_queue *q);
void request_queue_add(struct request_queue *q, struct approval_request *r);
/* NULL when it is empty. */
struct approval_request *request_queue_take(struct request_queue *q);
/* Moves all of FROM to the end of Q. */
void request_queue_move(struct request_queue *q, struct request_queue *from);
/* Frees what is in it. */
void request_queue_fini(struct request_queue *q);
/* FROM is moved, and empty then. Only for what is committed, or was only read. */
void request_answer(struct approval_request *r, struct approval_outcome *from);
void request_refuse(struct approval_request *r, const struct err *e);
/* What is in O is freed; it is empty then. */
void approval_outcome_clear(struct approval_outcome *o);
/* NULL is allowed. */
void approval_request_free(struct approval_request *r);

/* Ids the listener has heard, for the loop. */
#define HEARD_MAX 1024
#define HEARD_ID_BYTES 64

struct store_lane {
	struct approval_store *store;
	const char *name; /* the thread's */
	bool writes;
	bool started;
	pthread_t thread;
	struct db *db;     /* the thread's; NULL: lost */
	uint32_t pause_ms; /* the thread's: before it opens again */
	bool away;         /* the thread's: it could not be opened, which was logged */
	/* The thread's: of the transaction that it is in, APPROVAL_STORE_BATCH_MAX of them. */
	struct approval_outcome *drafts;
	pthread_mutex_t lock;
	pthread_cond_t more;
	struct request_queue waiting;
	bool stop;
};

struct approval_store {
	uv_loop_t *loop;
	uv_async_t told;
	uv_timer_t sweep; /* runs while something is pending */
	uint64_t pending; /* requests without an answer; the loop's */
	int open_handles;
	char *url;
	approval_changed_fn on_changed;
	void *ctx;
	struct store_lane writer;
	struct store_lane reader;

	/* the listener */
	bool listens;
	pthread_t listener;
	struct db *listener_db;
	int wake_fd;
	atomic_bool stop_listening;
	atomic_int_fast64_t writer_session; /* whose news are no news */

	/* for the loop */
	pthread_mutex_t done_lock;
	struct request_queue done;
	char (*heard)[HEARD_ID_BYTES]; /* HEARD_MAX of them */
	uint32_t heard_count;
	bool heard_all; /* something may have been missed */

	atomic_uint_fast64_t commits;
	atomic_uint_fast64_t changes;
	atomic_uint_fast64_t failures;
};

/* Starts the lane's thread, over DB, which becomes its own. 0 or -errno; then DB is still the
 * caller's. */
int store_lane_start(
    struct store_lane *l, struct approval_store *s, const char *name, bool writes, struct db *db);
/* Waits until what waits has been done, as far as the database is there, and ends the thread. */
void store_lane_stop(struct store_lane *l);
/* 0, or -EBUSY when it is full; R is then still the caller's. */
int store_lane_add(struct store_lane *l, struct approval_request *r);
/* Moves what has waited since before BEFORE_MS to OUT. */
void store_lane_expire(struct store_lane *l, uint64_t before_ms, struct request_queue *out);
uint32_t store_lane_waiting(struct store_lane *l);

/* The same for the listener, over DB that listens. */
int store_listener_start(struct approval_store *s, struct db *db);
void store_listener_stop(struct approval_store *s);

/* Hands finished requests to the loop; Q is empty then. Any thread. */
void store_finish(struct approval_store *s, struct request_queue *q);

#endif
