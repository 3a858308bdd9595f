/*
 * engine: pools, workers, sessions and executions as state tables and decisions.
 *
 * The engine does no input or output and reads no clock: what happened comes in through the
 * engine_on_* calls with the time, and what shall happen goes out through struct engine_ops. It
 * knows no dialect and no socket.
 *
 *   worker   a process made by the keeper:  STARTING -> READY -> ATTACHED -> ENDING -> gone
 *            (and STARTING | READY -> ENDING). Never attached twice.
 *   session  what an identifier names:      PENDING -> ACTIVE -> gone. PENDING waits for a worker;
 *            ACTIVE has exactly one. An identifier is a tenant's: the same one under two tenants
 *            names two sessions, and no call finds the other's.
 *
 * Invariants: at most pool.max_sessions sessions in a pool; at most one execution of a session is
 * RUNNING, and executions run in the order they were queued; a session's place is free at once when
 * it is deleted or its worker is lost; every queue is bounded.
 *
 * All functions are for the thread of the event loop.
 */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include <stdbool.h>
#include <stdint.h>
#include <uthash.h>

#include "base/err.h"
#include "base/text.h"
#include "engine/execution.h"
#include "engine/metrics.h"

#define ENGINE_IDENTIFIER_MIN 4
#define ENGINE_IDENTIFIER_MAX 128
#define ENGINE_WORKSPACE_MAX 128
/* The tenant of sessions that the server runs for itself: no token's, no client can name it, and no
 * list shows it. They stand beside the pool's max_sessions, ENGINE_OWN_SESSIONS_MAX in a pool. */
#define ENGINE_TENANT_OWN "\x01"
#define ENGINE_OWN_SESSIONS_MAX 2
#define ENGINE_QUEUE_MAX 32                  /* executions waiting in a session */
#define ENGINE_FINISHED_MAX 64               /* final executions kept by a session */
#define ENGINE_FINISHED_BYTES_MAX (8U << 20) /* and their output together */
/* Code, output, values and displays of all executions together, queued, running and kept, with a
 * share for each tenant. Past it new work is refused and output is cut, and says so. */
#define ENGINE_HELD_BYTES_MAX (1ULL << 30)
#define ENGINE_POOL_NAME_MAX 63

enum pool_type { POOL_PYTHON, POOL_SHELL };

struct pool_config {
	char name[ENGINE_POOL_NAME_MAX + 1];
	enum pool_type type;
	uint32_t max_sessions;
	uint32_t ready_sessions;
	uint32_t cooldown_ms;       /* idle time after which a session ends */
	uint64_t max_lifetime_ms;   /* 0: none */
	uint32_t execution_time_ms; /* most, and default, for one execution */
	uint32_t output_max_bytes;  /* of each of stdout and stderr */
	struct ipc_pool_limits limits;
};

enum worker_state { WORKER_STARTING, WORKER_READY, WORKER_ATTACHED, WORKER_ENDING };
enum session_state { SESSION_PENDING, SESSION_ACTIVE };

struct engine;
struct pool;
struct package_mount;
struct package_set;
struct packages_waiter;

struct worker {
	uint64_t id;
	enum worker_state state;
	struct pool *pool;
	struct session *session;            /* when ATTACHED */
	char tenant[ENGINE_TENANT_MAX + 1]; /* of the session it has, or had */
	int data_dir_fd; /* its /mnt/data; owned by the one who does the I/O; -1 before READY */
	uint32_t pid;    /* on the host; 0 before it is known */
	void *link;      /* of the one who does the I/O */
	const char *broken_by; /* see engine_on_worker_broken; NULL */
	/* Of engine/packages.h. */
	struct package_mount *mounts;
	unsigned mount_count;
	unsigned mounts_pending; /* asked for, and not answered */
	struct packages_waiter *packages_waiters;
	uint64_t oom_kills;      /* in its control group, when last asked */
	uint64_t usage_asked_ms; /* when that was; 0: never */
	unsigned usage_pending;  /* questions that are not answered */
	bool end_children;       /* they filled the memory: they go before the next execution */
	bool settling;           /* and while they go, what is counted is nobody's */
	uint32_t limits_age;     /* pool.limits_age when it was asked for */
	UT_hash_handle by_id;
	struct worker *prev, *next; /* pool.ready */
};

/* Somebody waiting until a session has its worker: files can be reached, or it failed. */
struct session_waiter {
	/* S is NULL when the session ended before it was ready; then E says why. */
	void (*ready)(void *ctx, struct session *s, const struct err *e);
	void *ctx;
	struct session_waiter *prev, *next; /* session.waiters */
};

struct session {
	char key[ENGINE_TENANT_MAX + 1 + ENGINE_IDENTIFIER_MAX + 1]; /* of pool.sessions */
	char identifier[ENGINE_IDENTIFIER_MAX + 1];
	char tenant[ENGINE_TENANT_MAX + 1]; /* "" none: the server's own */
	/* Which skills and artifacts it sees; "" none. From its beginning what
	 * engine_set_workspaces says, whoever opens it; kept when the session is lost and made
	 * anew. */
	char workspace[ENGINE_WORKSPACE_MAX + 1];
	char guid[TEXT_GUID_BYTES];
	enum session_state state;
	struct pool *pool;
	struct worker *worker; /* NULL while PENDING */
	int64_t created_wall_us;
	int64_t accessed_wall_us;
	uint64_t created_us;
	uint64_t accessed_ms;
	bool after_loss;        /* the one before it was lost; told with its first execution */
	bool reserved;          /* only who made it finds it by its identifier */
	bool interrupt_pending; /* a signal is on its way: nothing new is started */
	uint64_t kill_at_ms;    /* grace after an interrupt; 0: none */
	uint64_t again_at_ms;   /* the next interrupt in that time */
	unsigned holds;         /* requests in progress: the cooldown waits for them */

	struct execution *queue; /* the first may be RUNNING */
	unsigned queue_len;
	struct execution *finished; /* oldest first */
	unsigned finished_len;
	size_t finished_bytes;
	struct session_waiter *waiters;
	UT_hash_handle by_key;
	struct session *prev, *next; /* pool.pending, exactly while PENDING */
};

struct pool {
	struct pool_config config;
	uint32_t index;
	struct engine *engine;
	struct session *sessions; /* hash by tenant and identifier */
	struct session *pending;  /* oldest first */
	struct worker *ready;     /* oldest first */
	uint32_t session_count;
	uint32_t own_count; /* of these, those of ENGINE_TENANT_OWN */
	uint32_t pending_count;
	uint32_t ready_count;
	uint32_t starting_count;
	uint32_t executing_count;
	uint32_t failed_starts; /* in a row; backs off the refill */
	uint32_t limits_age;    /* counts up when workers' limits change */
	uint64_t refill_at_ms;
	struct lost *lost; /* identifiers whose session was lost lately; hash */
	struct pool_metrics metrics;
};

/*
 * Work on what a session can make slow, its files above all: it runs on a thread, one job of a
 * session after the other. DONE is called once, on the loop, after engine_work has returned; RAN
 * false: the session ended first, it was cancelled, or there was no memory. J is the caller's and
 * must last until then.
 */
struct engine_job {
	void (*run)(struct engine_job *j); /* on a thread: it touches nothing that others use */
	void (*done)(struct engine_job *j, bool ran);
	/* Of the one who runs it. */
	void *lane;
	bool ran;
	struct engine_job *prev, *next;
};

/* What the engine wants done. All are asynchronous; each is answered by an engine_on_* call. */
struct engine_ops {
	/* Make a worker -> engine_on_worker_ready or engine_on_worker_ended. */
	void (*spawn)(void *ctx, struct worker *w);
	/* End a worker now -> engine_on_worker_ended. */
	void (*kill)(void *ctx, struct worker *w);
	/* Interrupt what a worker runs -> engine_on_interrupted, and later engine_on_result. */
	void (*interrupt)(void *ctx, struct worker *w);
	/* Send an execution to its worker. 0 or -errno; a failure ends the worker. */
	int (*execute)(void *ctx, struct worker *w, struct execution *x);
	/* The worker is about to be freed: drop its link and descriptors. */
	void (*release)(void *ctx, struct worker *w);
	/* Show the worker a directory of packages -> engine_on_mounted. */
	void (*mount)(void *ctx, struct worker *w, const char *name);
	/* Ask what the kernel has counted against the worker -> engine_on_usage. */
	void (*usage)(void *ctx, struct worker *w);
	/* Run a job of the worker of that id, which may be gone, and of that tenant. */
	void (*work)(void *ctx, uint64_t worker_id, const char *tenant, struct engine_job *j);
	/* A job that waits or runs: when it has not begun it need not. */
	void (*cancel_work)(void *ctx, struct engine_job *j);
};

/* The workspace that a new session of that name belongs to; NULL: none. Borrowed for the call. */
typedef const char *(*engine_workspace_fn)(
    void *ctx, const struct pool *pool, const char *tenant, const char *identifier);

struct engine_config {
	struct pool_config pools[IPC_POOLS_MAX];
	uint32_t pool_count;       /* the first is the default pool */
	uint32_t grace_ms;         /* from an interrupt to the kill */
	uint32_t finished_keep_ms; /* how long final executions can be looked up */
};

struct engine {
	struct engine_config config;
	const struct engine_ops *ops;
	void *ops_ctx;
	struct pool pools[IPC_POOLS_MAX];
	uint32_t pool_count;
	struct worker *workers;       /* hash by id */
	struct package_set *packages; /* hash by tenant; of engine/packages.h */
	uint64_t next_worker_id;
	uint64_t next_seq;
	engine_workspace_fn workspace_of; /* NULL: no session has one */
	void *workspace_ctx;
	struct quota held;     /* bytes, by tenant; see ENGINE_HELD_BYTES_MAX */
	struct histogram turn; /* of the loop: from waking to sleeping again; its driver's to add */
	bool draining;
	uint64_t now_ms; /* of the call that is being handled */
};

/* OPS and OPS_CTX are borrowed for the engine's life. */
struct engine *engine_new(
    const struct engine_config *c, const struct engine_ops *ops, void *ops_ctx);
/* Who knows the workspaces of sessions to come; CTX is borrowed for the engine's life. */
void engine_set_workspaces(struct engine *en, engine_workspace_fn fn, void *ctx);
/* New limits for the pools, in their order; names and types stay as they are. Sessions that are
 * there keep their process's limits (memory and the like); workers that wait for one are made anew.
 */
void engine_set_limits(struct engine *en, const struct engine_config *c);
/* Ends without telling anybody; after engine_drain. NULL is allowed. */
void engine_free(struct engine *en);

/* --- what dialects ask ------------------------------------------------------------------------ */

/* The pool of that name; NULL or "" names the default pool. NULL when there is none. Borrowed. */
struct pool *engine_pool(struct engine *en, const char *name);

/* 0, or -1 with ERR_INVALID and a text that names the rule (4 to 128 of the wire's characters). */
int engine_identifier_check(const char *identifier, struct err *e);

/* TENANT is 1 to 64 letters, digits, '_', '-' and '.', and begins with a letter or a digit. */
bool engine_tenant_is_valid(const char *tenant);
/* Whether S is one of ENGINE_TENANT_OWN. */
bool engine_session_is_own(const struct session *s);

/* TENANT, here and below: whose session; NULL and "" stand for the server's own. */

/* The session of that identifier, or NULL. Does not count as an access. Borrowed. */
struct session *engine_session_find(struct pool *p, const char *tenant, const char *identifier);

/* Finds or makes the session and counts an access. NULL with ERR_INVALID, ERR_BUSY (pool full) or
 * ERR_UNAVAILABLE (draining). Borrowed: valid until the loop runs again. */
struct session *engine_session_open(
    struct pool *p, const char *tenant, const char *identifier, struct err *e);

/* The same for a session that nobody else may enter: what runs in it was looked at by a person, and
 * is to run in a Python that nobody has prepared. A client finds no session of that identifier and
 * can make none (ERR_CONFLICT); it is listed. NULL with ERR_CONFLICT when there is one already. */
struct session *engine_session_reserve(
    struct pool *p, const char *tenant, const char *identifier, struct err *e);
/* The reserved session of that identifier, or NULL. Borrowed. */
struct session *engine_session_find_reserved(
    struct pool *p, const char *tenant, const char *identifier);

/* Calls W->ready once: now when the session is ACTIVE, else when it is or when it ends. */
void engine_session_wait(struct session *s, struct session_waiter *w);
void engine_session_unwait(struct session *s, struct session_waiter *w);

/* A request that is using the session (an upload, a download): the cooldown waits for it. */
void engine_session_hold(struct session *s);
/* By identifier, because the session may have ended in between. */
void engine_session_unhold(
    struct pool *p, const char *guid, const char *tenant, const char *identifier);

/* Has J run for the worker of that id, and for TENANT's share of threads; the worker may have ended
 * (a descriptor that is still open is then closed where it may take long). */
void engine_work(struct engine *en, uint64_t worker_id, const char *tenant, struct engine_job *j);
/* Nobody wants what J, which is not done, would bring: it is done(J, false) later when it has not
 * begun. */
void engine_work_cancel(struct engine *en, struct engine_job *j);

/* Ends the session now; what it runs becomes CANCELED, SESSION_KILLED. Its place is free at once.
 */
void engine_session_delete(struct session *s);

/* Queues. The new execution is returned with a reference of the caller's; it may be final already.
 * NULL with ERR_BUSY (queue full), ERR_CONFLICT (the id is in use), ERR_TOO_LARGE or
 * ERR_UNAVAILABLE. */
struct execution *engine_execute(
    struct session *s, const struct execution_request *r, struct err *e);

/* What S runs now; NULL when nothing. Borrowed. */
struct execution *engine_session_running(const struct session *s);
/* By id, queued, running or kept; NULL when there is none. Borrowed. */
struct execution *engine_execution_find(struct session *s, const char *id);

/* Interrupts a running execution (final later, VERDICT_INTERRUPTED), takes a queued one out (final
 * now, CANCELED). A final one stays as it is. */
void engine_cancel(struct execution *x);

/* Nobody waits for it any more: it is cancelled, unless it is detached. */
void engine_abandon(struct execution *x);

/* The clock of a running execution stands still from here: it waits for something that is not its
 * own doing, a person. Its deadline comes nearer only by what the session computes meanwhile, and
 * it goes on when its client is gone. The session's maximum lifetime ends it all the same. Each
 * pause is taken back by one engine_resume; both may come after the execution is final. */
void engine_pause(struct execution *x);
void engine_resume(struct execution *x);

/* When the session ends if nothing touches it, as wall clock microseconds. */
int64_t engine_session_expires_wall_us(const struct session *s);

/* --- what happened ------------------------------------------------------------------------------
 */

/* To be called with the time before any other call of a loop turn. */
void engine_set_now(struct engine *en, uint64_t now_ms);

/* The keeper is there: fill the pools. */
void engine_start(struct engine *en);

struct worker *engine_worker_find(struct engine *en, uint64_t id);

/* The worker is sealed and serves; DATA_DIR_FD is lent to the engine until ops->release. */
void engine_on_worker_ready(struct worker *w, int data_dir_fd);

/* Output of the running execution. Bytes that come while nothing runs are dropped by the caller. */
void engine_on_output(struct worker *w, enum output_kind kind, const char *bytes, size_t len);
/* Takes over D. */
void engine_on_display(struct worker *w, uint64_t seq, struct display *d);
/* -1 when no execution of that number runs there: the caller then breaks the worker. */
int engine_on_result(struct worker *w, uint64_t seq, const struct ipc_result *r);
void engine_on_interrupted(struct worker *w);
/* The answer to ops->usage; answers come in the order of the questions. */
void engine_on_usage(struct worker *w, uint64_t oom_kills, uint64_t cpu_us);

/* The worker broke the protocol: it is killed, and its session lost. WHY, which whoever waits for
 * the session is told, is a string that lasts; NULL: its socket is closed, so it has ended, and how
 * is told by engine_on_worker_ended. */
void engine_on_worker_broken(struct worker *w, const char *why);

struct worker_end {
	int wait_status; /* as from waitpid; -1 when it never started */
	uint64_t oom_kills;
	uint64_t memory_peak_bytes;
	const char *reason; /* for the log, when it never started */
};

/* The process is gone and reaped. W is freed. */
void engine_on_worker_ended(struct worker *w, const struct worker_end *end);

/* Deadlines, cooldowns, refills. To be called at least every ENGINE_TICK_MS while there is
 * anything. */
#define ENGINE_TICK_MS 50
void engine_tick(struct engine *en, uint64_t now_ms);

/* Refuses new work from now on. */
void engine_drain(struct engine *en);
/* How many executions are queued or running. */
uint32_t engine_active_executions(const struct engine *en);

#endif
