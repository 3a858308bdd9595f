/*
 * redis_tls: TLS for a connection whose bytes somebody else carries: ciphertext in and out of
 * memory, no socket. Certificates are read when a context is made, so that it works after the
 * gateway's files are out of reach.
 *
 * Invariants: TLS 1.2 or newer; unless the URL says otherwise, the peer's certificate leads to a
 * trusted one and is of the host that the URL names. Nothing of plain text leaves before that is
 * certain.
 */
#ifndef STORE_REDIS_TLS_H
#define STORE_REDIS_TLS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"
#include "store/redis_url.h"

struct redis_tls;        /* for all connections to one server */
struct redis_tls_stream; /* one connection */

/* Trusts CA_FILE, or U's own, or when both are NULL what the system trusts. U is borrowed for the
 * context's life. NULL with ERR_INVALID when the file holds no certificate. */
struct redis_tls *redis_tls_new(const struct redis_url *u, const char *ca_file, struct err *e);
/* NULL is allowed, here and below. */
void redis_tls_free(struct redis_tls *t);

/* NULL when memory is out. T outlives it. */
struct redis_tls_stream *redis_tls_stream_new(struct redis_tls *t);
void redis_tls_stream_free(struct redis_tls_stream *s);

/* Takes LEN bytes that came from the network (0 begins the handshake), adds to PLAIN what they say
 * and to WIRE what must be sent. 0, or -1 with E: the connection is of no use any more. */
int redis_tls_take(struct redis_tls_stream *s, const char *bytes, size_t len, struct buf *plain,
    struct buf *wire, struct err *e);

/* The handshake is over: redis_tls_put may be called. */
bool redis_tls_is_ready(const struct redis_tls_stream *s);

/* Adds PLAIN, encrypted, to WIRE. 0, or -1 with E. */
int redis_tls_put(
    struct redis_tls_stream *s, const char *plain, size_t len, struct buf *wire, struct err *e);

#endif
