#include "store/redis_link.h"

#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INBOX_BYTES 65536
#define PLAIN_MAX_BYTES (1U << 20)
#define SEND_KEEP_BYTES (1U << 20) /* a larger buffer is given back once it is sent */
#define KEEPALIVE_SECONDS 60

/* A socket, which outlives its link until the loop has closed it. */
struct sock {
	union {
		uv_handle_t handle;
		uv_stream_t stream;
		uv_tcp_t tcp;
		uv_pipe_t pipe;
	};
	struct redis_link *link; /* NULL: given up */
	uv_connect_t connecting;
	uv_write_t write;
	struct buf sending; /* what the write holds */
	bool writing;
};

/* The same for a lookup. */
struct lookup {
	uv_getaddrinfo_t request;
	struct redis_link *link;
};

struct redis_link {
	uv_loop_t *loop;
	const struct redis_url *url;
	struct redis_tls *tls;
	const struct redis_link_events *events;
	void *ctx;

	uv_timer_t timer; /* of one address */
	struct lookup *lookup;
	struct addrinfo *addresses;
	const struct addrinfo *next; /* the one to try next */
	struct sock *sock;
	struct redis_tls_stream *stream;
	struct buf out; /* waits until SOCK's write is over */
	struct buf plain;
	uint64_t moved_ms;
	bool open;
	char inbox[INBOX_BYTES];
};

static void try_next(struct redis_link *l, const struct err *last);

/* --- closing --- */

static void on_sock_closed(uv_handle_t *handle)
{
	struct sock *s = handle->data;
	buf_fini(&s->sending);
	free(s);
}

static void drop_sock(struct redis_link *l)
{
	struct sock *s = l->sock;
	l->sock = NULL;
	if (s != NULL) {
		s->link = NULL;
		uv_close(&s->handle, on_sock_closed);
	}
}

static void on_timer_closed(uv_handle_t *handle)
{
	free(handle->data);
}

void redis_link_free(struct redis_link *l)
{
	if (l == NULL) {
		return;
	}
	drop_sock(l);
	if (l->lookup != NULL) {
		l->lookup->link = NULL;
		(void)uv_cancel((uv_req_t *)&l->lookup->request);
	}
	uv_freeaddrinfo(l->addresses);
	redis_tls_stream_free(l->stream);
	buf_fini(&l->out);
	buf_fini(&l->plain);
	uv_close((uv_handle_t *)&l->timer, on_timer_closed);
}

static void lose(struct redis_link *l, const struct err *e)
{
	drop_sock(l);
	(void)uv_timer_stop(&l->timer);
	l->events->lost(l->ctx, e);
}

static void lose_uv(struct redis_link *l, int status)
{
	struct err e;
	(void)err_set(&e, ERR_UNAVAILABLE, "%s",
	    status == UV_EOF ? "the connection was closed" : uv_strerror(status));
	lose(l, &e);
}

/* --- sending --- */

static void on_written(uv_write_t *write, int status);

/* Hands what waits to the socket. 0 or a libuv error. */
static int flush(struct redis_link *l)
{
	struct sock *s = l->sock;
	if (s->writing || l->out.len == 0) {
		return 0;
	}
	struct buf was = s->sending;
	s->sending = l->out;
	l->out = was;
	buf_clear(&l->out);
	uv_buf_t piece = uv_buf_init(s->sending.data, (unsigned)s->sending.len);
	int r = uv_write(&s->write, &s->stream, &piece, 1, on_written);
	s->writing = r == 0;
	return r;
}

static void on_written(uv_write_t *write, int status)
{
	struct sock *s = write->data;
	struct redis_link *l = s->link;
	s->writing = false;
	if (l == NULL) {
		return;
	}
	l->moved_ms = uv_now(l->loop);
	if (s->sending.alloc > SEND_KEEP_BYTES) {
		buf_fini(&s->sending);
	}
	int r = status < 0 ? status : flush(l);
	if (r < 0) {
		lose_uv(l, r);
	}
}

int redis_link_put(struct redis_link *l, const char *bytes, size_t len, struct err *e)
{
	if (l->sock == NULL) {
		return err_set(e, ERR_UNAVAILABLE, "the connection is lost");
	}
	if (l->stream != NULL) {
		if (redis_tls_put(l->stream, bytes, len, &l->out, e) < 0) {
			return -1;
		}
	} else if (buf_add(&l->out, bytes, len) < 0) {
		return err_set(e, ERR_UNAVAILABLE, "too much waits to be sent");
	}
	int r = flush(l);
	return r < 0 ? err_set(e, ERR_UNAVAILABLE, "%s", uv_strerror(r)) : 0;
}

/* --- receiving --- */

static void opened(struct redis_link *l)
{
	l->open = true;
	(void)uv_timer_stop(&l->timer);
	l->events->open(l->ctx);
}

/* Ciphertext came, or the handshake is to begin. */
static void take_tls(struct redis_link *l, const char *bytes, size_t len)
{
	struct err e = {0};
	int r = redis_tls_take(l->stream, bytes, len, &l->plain, &l->out, &e);
	int flushed = flush(l);
	if (r == 0 && flushed < 0) {
		r = err_set(&e, ERR_UNAVAILABLE, "%s", uv_strerror(flushed));
	}
	if (r == 0 && !l->open && redis_tls_is_ready(l->stream)) {
		opened(l);
	}
	if (l->plain.len > 0) {
		l->events->bytes(l->ctx, l->plain.data, l->plain.len);
		buf_clear(&l->plain);
	}
	if (r < 0) {
		lose(l, &e);
	}
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
	(void)suggested;
	struct sock *s = handle->data;
	*out = s->link != NULL ? uv_buf_init(s->link->inbox, INBOX_BYTES) : uv_buf_init(NULL, 0);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *in)
{
	struct sock *s = stream->data;
	struct redis_link *l = s->link;
	if (l == NULL || n == 0) {
		return;
	}
	if (n < 0) {
		lose_uv(l, (int)n);
		return;
	}
	l->moved_ms = uv_now(l->loop);
	if (l->stream != NULL) {
		take_tls(l, in->base, (size_t)n);
	} else {
		l->events->bytes(l->ctx, in->base, (size_t)n);
	}
}

/* --- connecting --- */

static void on_connected(uv_connect_t *request, int status)
{
	struct sock *s = request->data;
	struct redis_link *l = s->link;
	if (l == NULL) {
		return;
	}
	int r = status < 0 ? status : uv_read_start(&s->stream, on_alloc, on_read);
	if (r < 0) {
		struct err e;
		(void)err_set(&e, ERR_UNAVAILABLE, "%s", uv_strerror(r));
		try_next(l, &e);
		return;
	}
	if (l->url->path == NULL) {
		(void)uv_tcp_nodelay(&s->tcp, 1);
		(void)uv_tcp_keepalive(&s->tcp, 1, KEEPALIVE_SECONDS);
	}
	l->moved_ms = uv_now(l->loop);
	if (l->tls == NULL) {
		opened(l);
		return;
	}
	l->stream = redis_tls_stream_new(l->tls);
	if (l->stream == NULL) {
		lose_uv(l, UV_ENOMEM);
		return;
	}
	take_tls(l, NULL, 0);
}

static struct sock *sock_new(struct redis_link *l)
{
	struct sock *s = calloc(1, sizeof(*s));
	if (s == NULL) {
		return NULL;
	}
	int r = l->url->path != NULL ? uv_pipe_init(l->loop, &s->pipe, 0)
				     : uv_tcp_init(l->loop, &s->tcp);
	if (r < 0) {
		free(s);
		return NULL;
	}
	s->link = l;
	s->sending = BUF_INIT(REDIS_SEND_MAX_BYTES);
	s->handle.data = s->connecting.data = s->write.data = s;
	return s;
}

static void on_address_time(uv_timer_t *timer)
{
	struct err e;
	(void)err_set(&e, ERR_UNAVAILABLE, "no connection within %d s", REDIS_ADDRESS_MS / 1000);
	try_next(timer->data, &e);
}

/* The address after the one that failed with LAST, if there is one. */
static void try_next(struct redis_link *l, const struct err *last)
{
	drop_sock(l);
	(void)uv_timer_stop(&l->timer);
	const struct addrinfo *at = l->next;
	if (at == NULL) {
		lose(l, last);
		return;
	}
	l->next = at->ai_next;
	l->sock = sock_new(l);
	int r = l->sock == NULL ? UV_ENOMEM
				: uv_tcp_connect(&l->sock->connecting, &l->sock->tcp, at->ai_addr,
				      on_connected);
	if (r < 0) {
		struct err e;
		(void)err_set(&e, ERR_UNAVAILABLE, "%s", uv_strerror(r));
		try_next(l, &e);
	} else if (l->next != NULL) {
		(void)uv_timer_start(&l->timer, on_address_time, REDIS_ADDRESS_MS, 0);
	}
}

static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *found)
{
	struct lookup *lookup = request->data;
	struct redis_link *l = lookup->link;
	free(lookup);
	if (l == NULL) {
		uv_freeaddrinfo(found);
		return;
	}
	l->lookup = NULL;
	l->addresses = found;
	l->next = found;
	struct err e;
	(void)err_set(&e, ERR_UNAVAILABLE, "%s: %s", l->url->host,
	    status < 0 ? uv_strerror(status) : "it has no address");
	try_next(l, &e);
}

static int resolve(struct redis_link *l)
{
	char port[8];
	(void)snprintf(port, sizeof(port), "%u", l->url->port);
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_family = AF_UNSPEC};
	l->lookup = calloc(1, sizeof(*l->lookup));
	if (l->lookup == NULL) {
		return UV_ENOMEM;
	}
	l->lookup->link = l;
	l->lookup->request.data = l->lookup;
	int r = uv_getaddrinfo(
	    l->loop, &l->lookup->request, on_resolved, l->url->host, port, &hints);
	if (r < 0) {
		free(steal(&l->lookup));
	}
	return r;
}

/* In the loop's next turn, so that no event comes from within redis_link_new. */
static void begin(uv_timer_t *timer)
{
	struct redis_link *l = timer->data;
	int r;
	if (l->url->path == NULL) {
		r = resolve(l);
	} else {
		l->sock = sock_new(l);
		r = l->sock == NULL ? UV_ENOMEM : 0;
		if (r == 0) {
			uv_pipe_connect(
			    &l->sock->connecting, &l->sock->pipe, l->url->path, on_connected);
		}
	}
	if (r < 0) {
		lose_uv(l, r);
	}
}

struct redis_link *redis_link_new(uv_loop_t *loop, const struct redis_url *url,
    struct redis_tls *tls, const struct redis_link_events *events, void *ctx)
{
	struct redis_link *l = calloc(1, sizeof(*l));
	if (l == NULL) {
		return NULL;
	}
	l->loop = loop;
	l->url = url;
	l->tls = tls;
	l->events = events;
	l->ctx = ctx;
	l->out = BUF_INIT(REDIS_SEND_MAX_BYTES);
	l->plain = BUF_INIT(PLAIN_MAX_BYTES);
	(void)uv_timer_init(loop, &l->timer);
	l->timer.data = l;
	(void)uv_timer_start(&l->timer, begin, 0, 0);
	return l;
}

bool redis_link_is_resolving(const struct redis_link *l)
{
	return l->lookup != NULL;
}

uint64_t redis_link_moved_ms(const struct redis_link *l)
{
	return l->moved_ms;
}
