/*
 * reply_wait: a call that is answered when its execution has ended, in whatever dialect; by a
 * thread when it has much to tell.
 *
 * While it waits, c->ctx and c->gone are in use.
 */
#ifndef API_REPLY_WAIT_H
#define API_REPLY_WAIT_H

#include <stdbool.h>

#include "api/call.h"
#include "engine/execution.h"

/* What the dialect adds. X is final; EXTRA: its own copy's bytes. */
struct reply_form {
	/* The answer's text to OUT; 0 or negative. On any thread: it knows of no call. */
	int (*add)(struct buf *out, const struct execution *x, const void *extra);
	/* Answers C with TEXT, which it may take. NULL: it could not be put together; ERR: -EDQUOT
	 * when as many large answers of C's holder wait as may. */
	void (*answer)(struct call *c, const struct execution *x, int err, struct buf *text);
};

/* Answers when X is final, perhaps before this returns. EXTRA (LEN bytes) is copied.
 * ABANDON_WHEN_GONE: when the client leaves before, engine_abandon has X. Takes over the reference
 * to X. False when out of memory: X is cancelled and gone, and the dialect answers. */
bool reply_when_final(struct call *c, struct execution *x, const struct reply_form *form,
    const void *extra, size_t len, bool abandon_when_gone);

#endif
