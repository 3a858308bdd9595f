/*
 * server: HTTP/1.1, with or without TLS, on a libuv loop. It serves the routes of the dialects, who
 * see of it only api/call.h.
 *
 * libmicrohttpd runs in external epoll mode on the loop's thread: its epoll descriptor is watched
 * by the loop, and it is run at most once a turn, after all events of the turn, so that any number
 * of answers given in a turn cost one run.
 *
 * What every answer has: "X-Content-Type-Options: nosniff", a Date, no Server. What libmicrohttpd
 * refuses before there is a request (headers that do not fit, a malformed field line or chunk) is
 * answered by it, in HTML; a first line without a blank, which is no request, is not answered; all
 * else is JSON.
 *
 * A client that closes its sending side while an answer is not there yet, or while a source has
 * nothing to send, counts as gone, as with nginx. It is noticed some 20 ms after the wait began.
 *
 * Bounds: connections, open calls and buffered bodies, each with a share for each holder
 * (base/quota.h), which is an address for connections and a principal for the rest; a connection's
 * memory (config); a request's body (route); the time a connection may be silent (config); the time
 * a head may take to arrive (10 s from the connection's beginning, idle time + 10 s after a
 * request); the least speed of a body (4 KiB/s after the idle time, and up to 64 KiB/s after 5 s
 * the fuller its holder's share of bodies is).
 *
 * When connections run short, the oldest that has shown no token gives way, then the one that has
 * been idle for longest; see conn.c. A connection from which libmicrohttpd takes no more bytes
 * is closed at the second tick, one with a chunked body after a tenth of a second.
 *
 * Heads that two readers could read differently are refused; see head.c.
 *
 * A body that is refused at once is answered without reading it when its Content-Length is past
 * 64 KiB; the connection then closes, but only after the rest of what was sent has been thrown away
 * (bounded), since closing with unread bytes could take the answer from the client. A refusal in
 * the middle of a body is answered at the end of it, and the connection lives on.
 *
 * SIGPIPE is ignored from http_start() on, since sendfile() knows no other way.
 */
#ifndef HTTP_SERVER_H
#define HTTP_SERVER_H

#include <uv.h>

#include "api/call.h"
#include "base/json_work.h"
#include "http/auth.h"
#include "http/peer.h"

struct http_config {
	const char *address;       /* name or literal; NULL: 127.0.0.1 */
	uint16_t port;             /* 0: any free one, see http_port() */
	const char *tls_cert_file; /* PEM, both or none */
	const char *tls_key_file;
	unsigned connections_max;         /* 0: 4096 */
	unsigned connections_per_address; /* 0: its share of connections_max is the only limit */
	const struct peer_nets *trusted_proxies; /* copied; may be NULL */
	struct json_work *json_work;             /* borrowed; reads large bodies */
	size_t bodies_max_bytes;                 /* buffered bodies of all calls; 0: 512 MiB */
	uint32_t idle_timeout_ms;                /* 0: 75 s; rounded up to a second */
	size_t connection_memory_bytes; /* 0: 32 KiB; a request's head must fit in about half */
	const struct auth *auth;        /* borrowed */
	const char *default_pool;       /* the pool of a call whose pool is NULL; copied */
};

struct http;

/* Reads the TLS files, binds and listens: before privileges are dropped. NULL with *E. */
struct http *http_new(uv_loop_t *loop, const struct http_config *config, struct err *e);

/* Starts serving. 0, or -1 with *E (no descriptors). */
int http_start(struct http *h, struct err *e);

/* Answers new connections with the certificate of these files. Only for a server that has TLS. 0,
 * or -1 with *E and all as it was. */
int http_reload_tls(struct http *h, const char *cert_file, const char *key_file, struct err *e);

/* As router_add(). ROUTES and APP are borrowed. Before http_start(). */
int http_add_routes(struct http *h, const struct route *routes, size_t count, void *app);

/* Answers what no route answers for: 400, 404, 405. Without it a plain JSON error. */
void http_set_default_error(
    struct http *h, void (*fn)(struct call *c, int status, const struct err *e));

/* The port that is listened on, in host order. */
uint16_t http_port(const struct http *h);

/* No new connections. Those that are there finish; each answer from now on says Connection: close.
 */
void http_stop_listening(struct http *h);

/* Requests that are not answered completely. */
unsigned http_open_calls(const struct http *h);
/* Connections there are, idle ones included. */
unsigned http_connections(const struct http *h);
/* Of buffered bodies, all calls together. */
size_t http_bodies_bytes(const struct http *h);

/* Cuts all connections (call->gone and the sources' close are called from here) and frees H. The
 * memory goes when the loop has run its closing callbacks, so run the loop once more. NULL is
 * allowed. Not from within a call's callbacks. */
void http_free(struct http *h);

#endif
