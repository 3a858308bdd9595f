/*
 * aca_session_wait: a call that needs its session's directory.
 *
 * Life: open finds or makes the session; run is called once, with the session's directory, when the
 * session has its worker (which may be at once), and the session is then held, so that the cooldown
 * waits for it, until aca_dir_release. A session that ends before has its call answered with an
 * error and run is never called; the same when the client leaves.
 */
#ifndef API_ACA_SESSION_WAIT_H
#define API_ACA_SESSION_WAIT_H

#include "api/aca.h"

/* Who holds a session; enough to let go of it when it may be gone. */
struct aca_hold {
	struct pool *pool; /* NULL: holds nothing */
	struct engine *engine;
	uint64_t worker_id; /* whose directory it is */
	int dir_fd;         /* that directory: for jobs of this worker's only, which it outlasts */
	char guid[TEXT_GUID_BYTES];
	char tenant[ENGINE_TENANT_MAX + 1];
	char identifier[ENGINE_IDENTIFIER_MAX + 1];
};

/* The held session, or NULL when it has ended (or was lost and made anew). Borrowed. */
struct session *aca_hold_session(const struct aca_hold *h);
/* May be called again, and when nothing is held. */
void aca_hold_release(struct aca_hold *h);

/* Runs J, an operation on H's files, on a thread; engine_work says when it is done. */
void aca_hold_work(const struct aca_hold *h, struct engine_job *j);
/* What an operation that did not run failed for. */
void aca_hold_gone(struct err *e);
/* Closes *FD, a file of that session, on a thread: it may be the last to have it open. */
void aca_hold_close(const struct aca_hold *h, int *fd);

/* HOLD is run's to keep (copy) and to release. LATER: aca_with_dir had returned before. It answers,
 * now or later. */
typedef void (*aca_dir_run)(struct call *c, const struct aca_hold *hold, bool later);

/* Opens the session W and calls RUN when its directory is there. Answers the call when that fails.
 * c->ctx and c->gone are in use until then. True when RUN was called or the call answered already.
 */
bool aca_with_dir(struct call *c, const struct aca_where *w, aca_dir_run run);

#endif
