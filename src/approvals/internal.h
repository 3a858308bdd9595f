/*
 * What the files of approvals that are not about the database share: one struct approvals, which
 * works off what is due in lanes (runs, callbacks, promotions) and answers those who ask.
 *
 * A thing in progress is claimed under this server's name and a fence; whoever does it says how it
 * ended with the same fence, in a write that is made surely (sure_write), and gives its place in
 * the lane back. When the lease was lost meanwhile, that write is refused and nothing has happened.
 */
#ifndef APPROVALS_INTERNAL_H
#define APPROVALS_INTERNAL_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "approvals/approvals.h"
#include "approvals/store.h"
#include "base/quota.h"
#include "base/text.h"

#define APPROVALS_ID_BYTES 64
#define APPROVALS_WATCH_BUCKETS 256
#define APPROVALS_CALLBACKS_MAX 32 /* at once */
#define APPROVALS_PROMOTIONS_MAX 4
#define APPROVALS_AUDITS_MAX 8192 /* records that wait for the trail */

enum lane_kind { LANE_RUN, LANE_CALLBACK, LANE_PROMOTE, LANE_COUNT };

/* A pool that had no room: nothing is claimed for it until then. */
struct pool_pause {
	uint64_t pause_us; /* the next one; 0: the first */
	int64_t until_us;
};

struct lane {
	struct approvals *approvals;
	enum lane_kind kind;
	uint32_t max;
	uint32_t active;
	bool again;  /* something may have come due while it was asked */
	bool unsure; /* a claim may have been made of which nobody has heard */
	struct approval_request *claim;
	json_t *turns; /* who had the last (records_claim) */
};

struct approvals {
	uv_loop_t *loop;
	struct approvals_config config;
	char owner[128]; /* this server's name, and which start of it */
	struct approval_store *store;
	bool started;
	bool draining;
	bool stopped;
	unsigned handles; /* open ones, of those below */
	uv_timer_t due;   /* when there is something to look for */
	uv_timer_t renew; /* the leases */
	uv_timer_t retry; /* writes that failed */
	uv_timer_t later; /* runs that have ended */

	struct lane lanes[LANE_COUNT];
	struct approval_request *lapse;
	struct approval_request *renewal;
	struct approval_request *count;
	int64_t count_us; /* when to count next */
	struct approval_request *forget;
	int64_t forget_us; /* when to look next */
	struct run *runs;
	struct callback *callbacks;
	struct promotion *promotions;
	struct approvals_parked *parked;
	struct sure *sure;
	struct quota audits; /* of them, by actor */
	struct approvals_call *calls;
	struct pool_pause pauses[IPC_POOLS_MAX];

	struct approvals_watch *watches[APPROVALS_WATCH_BUCKETS];
	struct approvals_watch *next_watch; /* to be told, while some are told */
	struct approvals_counts counts;
};

int64_t approvals_now_us(const struct approvals *a);

/* What was claimed. */
struct task {
	char id[APPROVALS_ID_BYTES];
	int64_t fence;
	int64_t attempt;
	const json_t *approval; /* borrowed for the call that begins it */
};

/* --- workflow.c --- */

void workflow_init(struct approvals *a);
void workflow_start(struct approvals *a);
void workflow_stop(struct approvals *a);
/* runs_conclude is called, on a fresh stack. */
void workflow_later(struct approvals *a);
/* Something may be due. */
void workflow_poke(struct approvals *a);
/* One thing of the lane is over. */
void lane_done(struct approvals *a, enum lane_kind kind);
/* AT_US, and later for each ATTEMPT (from 1): 1 s, 2 s, 4 s … up to an hour, each up to a quarter
 * longer by chance. */
int64_t workflow_retry_us(int64_t at_us, int64_t attempt);

/* --- sure.c --- */

/* A change that is tried until the database takes or refuses it. IN is taken over. FN, which may be
 * NULL, is as of approval_store_write. After sure_stop nobody is told. */
void sure_write(struct approvals *a, records_fn op, json_t *in, approval_store_fn fn, void *ctx);
/* The same for HOLDER, who has a share of a->audits. 0, or -EDQUOT, -ENOMEM; IN is gone then, too.
 */
int sure_write_for(
    struct approvals *a, const char *holder, records_fn op, json_t *in, approval_store_fn fn);
/* FN of CTX's will not be called. */
void sure_forget(struct approvals *a, const void *ctx);
/* Gives all of them to the store a last time. */
void sure_stop(struct approvals *a);
/* After the store is gone. */
void sure_free(struct approvals *a);

/* --- run.c --- */

void run_begin(struct approvals *a, const struct task *t);
/* Those that have ended since. */
void runs_conclude(struct approvals *a);
/* The approval has new events: when its run was cancelled, it is interrupted. */
void runs_changed(struct approvals *a, const char *id);
/* The id of the approval that runs in the session, or NULL. Borrowed. */
const char *run_of_session(const struct approvals *a, const struct session *s);
/* The ids of those that have begun. A new reference; so for the two below. */
json_t *runs_held(const struct approvals *a);
void runs_stop(struct approvals *a);

/* --- deliver.c: callbacks --- */

void callback_begin(struct approvals *a, const struct task *t);
json_t *callbacks_held(const struct approvals *a);
void callbacks_stop(struct approvals *a);

/* --- promote.c --- */

void promotion_begin(struct approvals *a, const struct task *t);
json_t *promotions_held(const struct approvals *a);
void promotions_stop(struct approvals *a);

/* --- parked.c --- */

/* Asks again for those whose question failed. */
void parked_beat(struct approvals *a);
void parked_stop(struct approvals *a);
void parked_free(struct approvals *a);

/* --- request.c --- */

void calls_stop(struct approvals *a);

#endif
