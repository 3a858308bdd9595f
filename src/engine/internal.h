/* What the files of the engine share with each other and with nobody else. */
#ifndef ENGINE_INTERNAL_H
#define ENGINE_INTERNAL_H

#include "engine/engine.h"
#include "engine/packages.h"

#define ENGINE_DISPLAYS_MAX 128              /* displays kept by an execution */
#define ENGINE_DISPLAY_BYTES_MAX (32U << 20) /* and their data together */

/* --- execution.c --- */

/* A new execution in state QUEUED with one reference; NULL without memory, or when TENANT
 * has no room in HELD for its code. HELD is borrowed for the execution's life. */
struct execution *execution_new(const struct execution_request *r, const struct pool_config *pool,
    uint64_t seq, uint64_t now_us, struct quota *held, const char *tenant);
/* The code has been sent: frees it. */
void execution_drop_code(struct execution *x);
void execution_move(struct execution *x, enum execution_state to);
void execution_add_output(
    struct execution *x, enum output_kind kind, const char *bytes, size_t len);
void execution_add_display(struct execution *x, struct display *d);
void execution_set_value(struct execution *x, const struct ipc_result *r);
void execution_tell(struct execution *x);
size_t execution_kept_bytes(const struct execution *x);

/* --- session.c --- */

struct session *session_new(struct pool *p, const char *tenant, const char *identifier);
/* Gives a PENDING session its worker. */
void session_attach(struct session *s, struct worker *w);
/* The session's worker is gone for good: what ran is final with VERDICT, what waited gets a fresh
 * worker; without anything waiting the session ends. */
void session_lose(struct session *s, enum verdict verdict, const char *reason);
/* Ends it: running and queued executions become final, waiters are told E. Frees S. */
void session_end(struct session *s, enum verdict verdict, const struct err *e);
void session_tick(struct session *s);
/* An access: the cooldown begins anew. */
void session_touch(struct session *s);

/* --- queue.c: the executions of a session --- */

/* Starts the next execution when it may. */
void session_pump(struct session *s);
/* Takes X out of the queue with its verdict, keeps it for look-ups and tells its observers. */
void session_finish(struct session *s, struct execution *x, enum verdict v);
/* Asks the running execution to stop because of WHY; the grace time runs from here. */
void session_interrupt(struct session *s, struct execution *x, enum verdict why);
/* Once more, in the middle of what is left of that time: code that waits for its threads or
 * processes at its end needs another, and code that cleans up has time for it. */
void session_interrupt_again(struct session *s);
/* True when the time of X, which runs, is over. */
bool session_is_late(struct session *s, const struct execution *x);
void session_drop_oldest(struct session *s);
/* Those that filled the memory before X have gone: what is counted from here on is its own. */
void session_settle(struct session *s, const struct execution *x);
/* For a person; cut to what there is room for. */
void execution_set_reason(struct execution *x, const char *reason);

/* --- packages.c --- */

/* Asks for what W, which is attached, lacks of its tenant's packages. True when nothing is left to
 * wait for. */
bool packages_ready(struct worker *w);
/* W has ended: whoever waits is told. */
void packages_tell_gone(struct worker *w);
/* Frees what is known of W's mounts. */
void packages_release(struct worker *w);
/* Frees what is known of tenants' packages. */
void packages_forget(struct engine *en);

/* --- pool.c --- */

void pool_init(struct pool *p, struct engine *en, uint32_t index, const struct pool_config *c);
void pool_fini(struct pool *p);
/* As engine_set_limits. */
void pool_set_limits(struct pool *p, const struct pool_config *c);
/* Starts workers until the ready ones and those pending sessions wait for are there or coming. */
void pool_refill(struct pool *p);
/* Gives S a ready worker, or puts it at the end of the pending ones. */
void pool_place(struct pool *p, struct session *s);
/* Ends a worker, whatever its state; engine_on_worker_ended follows. */
void worker_end(struct worker *w);
/* Sessions that were lost: remembered within a bound, told once. */
void pool_remember_loss(struct pool *p, const struct session *s);
/* When the one before S was lost: S gets its workspace and is to tell. */
void pool_forget_loss(struct pool *p, struct session *s);

#endif
