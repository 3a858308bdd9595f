/*
 * packages: which directories of packages a tenant's sessions see, and when a session has them.
 *
 * A tenant has a list of directories, named by what is in them (64 hexadecimal digits), which
 * somebody else has filled. They are mounted into the worker of each of its sessions, at the latest
 * before the next execution starts; a session that runs code gets them without losing its state
 * when somebody waits with engine_packages_wait.
 *
 * Invariants: only names of a session's own tenant are ever mounted into its worker; what was
 * mounted stays for the worker's life, even when the tenant's list no longer has it; an execution
 * starts only when each mount has been made or has failed; one that failed is not tried again in
 * that worker, is told in the log, and is not told to the session.
 */
#ifndef ENGINE_PACKAGES_H
#define ENGINE_PACKAGES_H

#include "engine/engine.h"

#define ENGINE_PACKAGES_MAX 8         /* directories a tenant has at once */
#define ENGINE_PACKAGES_NAME_BYTES 65 /* with its NUL */
#define ENGINE_PACKAGES_TENANTS_MAX 10000

/* Who waits until a worker has what its tenant has now. */
struct packages_waiter {
	/* Called once: all is there, or E says what of it is not. The worker may have ended:
	 * ERR_GONE. */
	void (*ready)(void *ctx, const struct err *e);
	void *ctx;
	struct packages_waiter *prev, *next; /* worker.packages_waiters */
};

/* From now on TENANT (NULL or "": the server's own) has these COUNT directories and no others. 0,
 * or -1 with ERR_INVALID (a name that is none) or ERR_TOO_LARGE (too many, of them or of tenants).
 */
int engine_packages_set(
    struct engine *en, const char *tenant, const char *const *names, unsigned count, struct err *e);

/* Calls EACH for every directory that a tenant has, or a worker has had mounted; a name may come
 * more than once. */
void engine_packages_each(
    const struct engine *en, void (*each)(void *ctx, const char *name), void *ctx);

/* Calls PW->ready when W, which is attached, has what its session's tenant has now; perhaps before
 * this returns. */
void engine_packages_wait(struct worker *w, struct packages_waiter *pw);
void engine_packages_unwait(struct worker *w, struct packages_waiter *pw);

/* Adds the names of what W's session may use now, each ended by a line feed. As buf_add. */
int engine_packages_add_names(const struct worker *w, struct buf *out);

/* The answer to ops->mount. REASON is NULL when it is there. */
void engine_on_mounted(struct worker *w, const char *name, const char *reason);

#endif
