/*
 * approvals: code that waits for a person, and the calls of sessions that do. What routes, sessions
 * and the command line may ask; how it becomes durable is behind store.h, what happens next behind
 * workflow.c.
 *
 * Nothing is acknowledged before it is on disk: every done function is called after the commit. All
 * functions are for the thread of the event loop.
 *
 * The public approval, as answers carry it: records.h's object with times as RFC 3339 text
 * (created, changed, deadline) instead of *_us, without tenant's and owner's inner members;
 * docs/wire.md has it.
 */
#ifndef APPROVALS_APPROVALS_H
#define APPROVALS_APPROVALS_H

#include <jansson.h>
#include <stdbool.h>
#include <uv.h>

#include "approvals/lifecycle.h"
#include "engine/engine.h"
#include "store/store.h"
#include "tools/runner_link.h"

#define APPROVALS_CODE_MAX_BYTES (4U << 20)
#define APPROVALS_RULES_MAX 64

struct approvals;

/* What a pool's configuration says. */
struct approvals_pool {
	bool policies[APPROVAL_POLICY_COUNT]; /* a submitter may choose these */
	enum approval_policy policy;          /* when it chooses none */
	/* "rules": calls of these tools wait for a person, in every session of the pool. */
	const char *tools[APPROVALS_RULES_MAX];
	uint32_t tool_count;
	uint64_t deadline_ms;     /* when the submitter sets none */
	uint64_t deadline_max_ms; /* and the most it may set */
};

/* Borrowed texts must outlive it. */
struct approvals_config {
	struct engine *engine;
	struct store *store;        /* where promoted files go; NULL: no promotion */
	struct runner_link *runner; /* sends callbacks; NULL: none can be asked for */
	const char *url;            /* sqlite:PATH or postgresql://… */
	const char *server;         /* this server's name in leases; NULL: made at random */
	const char *const
	    *callback_prefixes;         /* a callback's URL begins with one of these, up to a '/' */
	uint32_t callback_prefix_count; /* 0: no callbacks */
	const char *callback_secret;    /* name of the runner's secret that signs them */
	uint32_t callback_attempts;     /* then it is given up */
	uint32_t runs_max;              /* at once, of this server */
	uint32_t open_max;              /* of a tenant, not final */
	uint64_t keep_ms;               /* final ones are forgotten after it */
	uint32_t lease_ms; /* after it another server takes over what this one had begun */
	bool audit_code;   /* the trail holds the code itself */
	const struct approvals_pool *pools; /* as many as the engine's, in its order */
	int64_t (*wall_us)(void);           /* for tests; NULL: the wall clock */
};

/* Opens the database with the privileges the caller has; threads and connections are made in here.
 */
struct approvals *approvals_new(uv_loop_t *loop, const struct approvals_config *c, struct err *e);
/* Begins to work off what is due; to be called when sessions can be made. */
void approvals_start(struct approvals *a);
/* Takes on no new run; to be called with engine_drain. What runs goes on; what is still running
 * when approvals_stop comes is queued again by whoever starts next. */
void approvals_drain(struct approvals *a);
/* How many runs are in progress. */
uint32_t approvals_running(const struct approvals *a);
/* Lets go of the engine and of parked calls; before the engine is freed. NULL is allowed. */
void approvals_stop(struct approvals *a);
/* After the last approvals_parked_done or approvals_unpark. The loop must run once more. NULL is
 * allowed. */
void approvals_free(struct approvals *a);

/* Who asks. Borrowed for the call. */
struct approvals_who {
	const char *name;   /* the token's */
	const char *tenant; /* "" or NULL: the server's own */
	bool every_tenant;  /* sees all */
	const char *pool;   /* the only pool it may use, or NULL */
	bool own;           /* may decide about what it submitted itself */
};

/* ANSWER as below, borrowed; NULL with E (ERR_INVALID, ERR_NOT_FOUND, ERR_CONFLICT, ERR_DENIED,
 * ERR_BUSY, ERR_UNAVAILABLE, ERR_TOO_LARGE, ERR_INTERNAL). */
typedef void (*approvals_fn)(void *ctx, const json_t *answer, const struct err *e);
struct approvals_call;
/* FN will not be called. NULL is allowed. */
void approvals_cancel_call(struct approvals_call *c);

/* All of these: NULL when FN was called before they returned. FN is called once otherwise. */

/* REQUEST, borrowed: {code, policy?, deadline_seconds?, timeout_seconds?, callback?: {url},
 * promote?: {files: [glob], prefix?}}; unknown members are ERR_INVALID that names the known. POOL:
 * NULL the default. KEY: the Idempotency-Key or NULL. -> {approval, created: bool}. */
struct approvals_call *approvals_submit(struct approvals *a, const struct approvals_who *who,
    const char *pool, const json_t *request, const char *key, approvals_fn fn, void *ctx);
/* -> {approval, events}. */
struct approvals_call *approvals_get(struct approvals *a, const struct approvals_who *who,
    const char *id, approvals_fn fn, void *ctx);
/* -> {approvals, next}. STATE, KIND, AFTER may be NULL; LIMIT 1 to RECORDS_PAGE_MAX. */
struct approvals_call *approvals_list(struct approvals *a, const struct approvals_who *who,
    const char *state, const char *kind, const char *after, uint32_t limit, approvals_fn fn,
    void *ctx);
/* -> {events, state, final}. */
struct approvals_call *approvals_events(struct approvals *a, const struct approvals_who *who,
    const char *id, int64_t after, approvals_fn fn, void *ctx);
/* Borrowed. */
struct approvals_decision {
	const char *stage; /* NULL: the only one there is */
	bool approve;
	const char *by;     /* a person's name that the caller gives; beside the token's; or NULL */
	const char *reason; /* NULL: none */
	bool early;         /* kept if it comes before a result (records_decide) */
};
/* -> {approval, again: bool}. */
struct approvals_call *approvals_decide(struct approvals *a, const struct approvals_who *who,
    const char *id, const struct approvals_decision *d, approvals_fn fn, void *ctx);
/* -> {approval, again}. A run in progress is interrupted. */
struct approvals_call *approvals_cancel(struct approvals *a, const struct approvals_who *who,
    const char *id, const char *reason, approvals_fn fn, void *ctx);

/* Tells whenever the approval has new events, until it is taken away. The watch is the caller's. */
struct approvals_watch {
	void (*changed)(void *ctx);
	void *ctx;
	char id[64];
	struct approvals_watch *prev, *next;
};
void approvals_watch(struct approvals *a, struct approvals_watch *w);
void approvals_unwatch(struct approvals *a, struct approvals_watch *w);

/* Puts a record into the audit trail (audit.h), however long the database is away, as far as ACTOR
 * has a share of those that wait (APPROVALS_AUDITS_MAX). What cannot be written is logged. DETAIL
 * is borrowed, may be NULL. */
void approvals_audit(struct approvals *a, const char *actor, const char *action,
    const char *subject, const char *outcome, const json_t *detail);

/* -> {seq, hash}: the last record of the trail (audit.h). */
struct approvals_call *approvals_audit_head(struct approvals *a, approvals_fn fn, void *ctx);

/* Numbers for /metrics. */
struct approvals_counts {
	uint64_t submitted;
	uint64_t decided_approved;
	uint64_t decided_rejected;
	uint64_t runs;
	uint64_t runs_interrupted;
	uint64_t callbacks_delivered;
	uint64_t callbacks_failed;
	uint32_t running;
	uint32_t parked;
	uint64_t open_queued; /* in the database, whoever submitted them, as counted a while ago */
	uint64_t open_running;
	uint64_t open_waiting;
	uint64_t commits;
	uint64_t changes;
};
void approvals_counts(const struct approvals *a, struct approvals_counts *out);

/* --- calls of sessions
 * ----------------------------------------------------------------------------
 */

/* Whether calls of TOOL wait for a person in sessions of pool number POOL, by the pool's rules. */
bool approvals_rule(const struct approvals *a, uint32_t pool, const char *tool);

struct approvals_parked;
/* The person has decided: ALLOWED, or not with REASON for the session (rejected by whom and why,
 * expired, cancelled, or E's text when it could not be recorded). Called once, unless unparked
 * before. */
typedef void (*approvals_parked_fn)(void *ctx, bool allowed, const char *reason);
/* A call of S's running execution waits. ARGUMENTS borrowed. From the commit on it can be seen and
 * decided; the caller has the execution's clock stand still (engine_pause). FN is never called
 * before this returns; after FN without ALLOWED P is gone. NULL when out of memory. */
struct approvals_parked *approvals_park(struct approvals *a, struct session *s, const char *tool,
    const char *callable, const json_t *arguments, approvals_parked_fn fn, void *ctx);
/* The id of the approval, "" until it is on disk. */
const char *approvals_parked_id(const struct approvals_parked *p);
/* After FN with ALLOWED: how the call ended; into the history. P is gone after it. */
void approvals_parked_done(struct approvals_parked *p, bool ok, const char *text);
/* Nobody waits any more: the approval is cancelled, or, after FN with ALLOWED, its history says
 * that the call was given up. P is gone. NULL is allowed. */
void approvals_unpark(struct approvals_parked *p);

#endif
