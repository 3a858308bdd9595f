/*
 * redis_link: one connection's way to a Redis: looks its name up, connects to the first of its
 * addresses that answers, speaks TLS where the URL says so, and carries bytes. Of what the bytes
 * mean it knows nothing.
 *
 * Invariants: `open` comes at most once, `bytes` only after it, and `lost` at most once and last;
 * none of them comes from within a call of these functions, nor after redis_link_free, which is not
 * called from within `open` or `bytes`. At most
 * REDIS_SEND_MAX_BYTES wait to be sent.
 */
#ifndef STORE_REDIS_LINK_H
#define STORE_REDIS_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "base/err.h"
#include "store/redis_tls.h"
#include "store/redis_url.h"

#define REDIS_SEND_MAX_BYTES (160U << 20)
/* For each address but the last, which has as long as the owner waits. */
#define REDIS_ADDRESS_MS 2000

struct redis_link;

struct redis_link_events {
	void (*open)(void *ctx);
	void (*bytes)(void *ctx, const char *bytes, size_t len);
	void (*lost)(void *ctx, const struct err *e);
};

/* Begins. URL, TLS (NULL: none) and EVENTS are borrowed for its life. NULL when memory is out. */
struct redis_link *redis_link_new(uv_loop_t *loop, const struct redis_url *url,
    struct redis_tls *tls, const struct redis_link_events *events, void *ctx);
/* No event comes any more; the memory goes when the loop has run. NULL is allowed. */
void redis_link_free(struct redis_link *l);

/* Sends LEN bytes, which are copied, after what waits already. Only once open. 0, or -1 with
 * ERR_UNAVAILABLE: the link is of no use any more. */
int redis_link_put(struct redis_link *l, const char *bytes, size_t len, struct err *e);

/* The name's lookup, in a thread that cannot be stopped, is not over. */
bool redis_link_is_resolving(const struct redis_link *l);

/* When bytes last moved, either way; uv_now's milliseconds. */
uint64_t redis_link_moved_ms(const struct redis_link *l);

#endif
