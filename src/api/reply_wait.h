/*
 * reply_wait: a call that is answered when its execution has ended, in whatever dialect.
 *
 * While it waits, c->ctx and c->gone are in use.
 */
#ifndef API_REPLY_WAIT_H
#define API_REPLY_WAIT_H

#include <stdbool.h>

#include "api/call.h"
#include "engine/execution.h"

/* What the dialect adds: it answers C with X, which is final. EXTRA: its own copy's bytes. */
typedef void (*reply_final_fn)(struct call *c, struct execution *x, const void *extra);

#define REPLY_EXTRA_MAX_BYTES 64

/* Calls REPLY when X is final, perhaps before this returns. EXTRA (LEN bytes, at most
 * REPLY_EXTRA_MAX_BYTES) is copied. ABANDON_WHEN_GONE: when the client leaves,
 * engine_abandon has X. Takes over the reference to X. False when out of memory: X is cancelled and
 * gone, and the dialect answers. */
bool reply_when_final(struct call *c, struct execution *x, reply_final_fn reply, const void *extra,
    size_t len, bool abandon_when_gone);

#endif
