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
	char guid[TEXT_GUID_BYTES];
	char tenant[ENGINE_TENANT_MAX + 1];
	char identifier[ENGINE_IDENTIFIER_MAX + 1];
};

/* The held session, or NULL when it has ended (or was lost and made anew). Borrowed. */
struct session *aca_hold_session(const struct aca_hold *h);
/* May be called again, and when nothing is held. */
void aca_hold_release(struct aca_hold *h);

/* DIR_FD is lent for the call; HOLD is run's to keep (copy) and to release. LATER: aca_with_dir had
 * returned before. It answers, now or later. */
typedef void (*aca_dir_run)(struct call *c, int dir_fd, const struct aca_hold *hold, bool later);

/* Opens the session W and calls RUN when its directory is there. Answers the call when that fails.
 * c->ctx and c->gone are in use until then. True when RUN was called or the call answered already.
 */
bool aca_with_dir(struct call *c, const struct aca_where *w, aca_dir_run run);

#endif
