/*
 * redis_conn: one connection to a Redis (or Valkey) on the event loop: commands out, replies in, in
 * order, connected again whenever it is lost. RESP2
 * (https://redis.io/docs/reference/protocol-spec), formatted and read by hiredis; the socket is
 * libuv's, TLS is redis_tls.
 *
 * A command that was taken is answered exactly once: by the server's reply, which may be an error,
 * or with ERR_UNAVAILABLE "the store cannot be reached: ..." when the connection is lost or nothing
 * came for REDIS_TIMEOUT_MS. It is never sent twice, for it may have been carried out. While the
 * server is known to be down commands are refused at once; during the first attempt, and the one
 * right after a loss, they wait for its outcome.
 *
 * Bounds: REDIS_PENDING_MAX commands and REDIS_SEND_MAX_BYTES wait; a reply may have
 * REDIS_REPLY_MAX_BYTES and REDIS_ELEMENTS_MAX elements, and one that is larger or malformed ends
 * the connection. Attempts come 50 ms to 2 s apart. An idle connection is pinged, so that a dead
 * one is noticed before it is needed.
 *
 * All for the loop's thread. A callback may send, but not free the connection.
 */
#ifndef STORE_REDIS_CONN_H
#define STORE_REDIS_CONN_H

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stddef.h>
#include <uv.h>

#include "base/err.h"
#include "store/redis_link.h"
#include "store/redis_tls.h"
#include "store/redis_url.h"

#define REDIS_TIMEOUT_MS 5000
#define REDIS_IDLE_PING_MS 30000
#define REDIS_PENDING_MAX 16384
#define REDIS_REPLY_MAX_BYTES (160U << 20)
#define REDIS_ELEMENTS_MAX 1000000
#define REDIS_ARGS_MAX 16

struct redis_conn;

/* One word of a command. */
struct redis_arg {
	const char *bytes;
	size_t len;
};

#define REDIS_TEXT(t) ((struct redis_arg){(t), strlen(t)})

/* REPLY: borrowed for the call, never an error; NULL with E. E's code: ERR_UNAVAILABLE when the
 * server cannot be asked or does not serve now, ERR_INTERNAL for an error it answered; its text is
 * then the server's. */
typedef void (*redis_reply_fn)(void *ctx, const redisReply *reply, const struct err *e);

/* Borrowed for the connection's life; each may be NULL. */
struct redis_conn_events {
	void (*up)(void *ctx);   /* commands are served */
	void (*down)(void *ctx); /* after up: the connection is lost, its commands have failed */
	/* A message of a subscription: an array that begins with "message". */
	void (*message)(void *ctx, const redisReply *message);
};

/* Begins to connect. URL and TLS (NULL when the URL has none) are borrowed for its life. NULL when
 * memory is out. */
struct redis_conn *redis_conn_new(uv_loop_t *loop, const struct redis_url *url,
    struct redis_tls *tls, const struct redis_conn_events *events, void *ctx);
/* What is pending fails with ERR_GONE, during the call. The loop must be run once more. NULL is
 * allowed. */
void redis_conn_free(struct redis_conn *c);

/* Sends a command of N (at most REDIS_ARGS_MAX) words, which are copied. 0: FN will be called,
 * later. -1 with ERR_UNAVAILABLE: it will not. */
int redis_conn_send(struct redis_conn *c, const struct redis_arg *args, size_t n, redis_reply_fn fn,
    void *ctx, struct err *e);

bool redis_conn_is_up(const struct redis_conn *c);

#endif
