/* Connections as we see them beside libmicrohttpd: who waits and may have gone, who is too slow. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/log.h"
#include "http/internal.h"

#define VICTIMS_SEEN_MAX 64
#define REFUSAL_LOG_MS 60000

/* ---- exchanges that wait ---- */

static void on_hangup(struct watch *w)
{
	exchange_hung_up(container_of(w, struct exchange, watch));
}

/* Watches those that have waited long enough: most answers are there sooner, and cost nothing. */
static void on_hangup_timer(uv_timer_t *timer)
{
	struct http *h = timer->data;
	uint64_t now_ms = uv_now(h->loop);
	while (h->waiting.next != &h->waiting) {
		struct exchange *x = container_of(h->waiting.next, struct exchange, waiting);
		uint64_t due_ms = x->suspended_ms + HANGUP_DELAY_MS;
		if (due_ms > now_ms) {
			(void)uv_timer_start(timer, on_hangup_timer, due_ms - now_ms, 0);
			return;
		}
		link_remove(&x->waiting);
		x->watch.ready = on_hangup;
		/* Failing (no memory) leaves only that a client who goes is not noticed. */
		(void)watch_add(&h->watches, &x->watch, x->conn->fd, EPOLLRDHUP);
	}
}

void exchange_suspend(struct exchange *x)
{
	struct http *h = x->http;
	MHD_suspend_connection(x->mhd);
	x->suspended = true;
	x->suspended_ms = uv_now(h->loop);
	link_append(&h->waiting, &x->waiting);
	if (!uv_is_active((uv_handle_t *)&h->hangup)) {
		(void)uv_timer_start(&h->hangup, on_hangup_timer, HANGUP_DELAY_MS, 0);
	}
}

void exchange_resume(struct exchange *x)
{
	if (!x->suspended) {
		return;
	}
	x->suspended = false;
	link_remove(&x->waiting);
	watch_remove(&x->http->watches, &x->watch);
	MHD_resume_connection(x->mhd);
	http_want_run(x->http);
}

/* ---- connections that are too slow ---- */

/* How long a buffered body of BYTES so far may have taken. The fuller its holder's share is, the
 * less: what others wait for is not held by those who are slow. */
static uint64_t body_time_ms(const struct conn *c)
{
	const struct http *h = c->http;
	const struct exchange *x = c->exchange;
	uint64_t usual_ms = h->idle_timeout_ms + c->body_bytes / BODY_LEAST_BYTES_PER_MS;
	if (x == NULL || x->kept_bytes == 0) {
		return usual_ms;
	}
	uint64_t room_kb = quota_room(&h->bodies, x->call.holder) >> 10;
	uint64_t held_kb = quota_held(&h->bodies, x->call.holder) >> 10;
	uint64_t least_ms = (h->idle_timeout_ms < BODY_SURE_TIME_MS ? h->idle_timeout_ms
								    : BODY_SURE_TIME_MS) +
			    c->body_bytes / BODY_SURE_BYTES_PER_MS;
	uint64_t share_ms = usual_ms * (room_kb + 1) / (room_kb + held_kb + 1);
	return share_ms > least_ms ? share_ms : least_ms;
}

static bool conn_is_too_slow(const struct conn *c, uint64_t now_ms)
{
	uint64_t age_ms = now_ms - c->phase_since_ms;
	uint64_t kept_ms = c->served ? c->http->idle_timeout_ms : 0;
	switch (c->phase) {
	case CONN_HEAD:
		return age_ms > kept_ms + HEAD_TIME_MS;
	case CONN_BODY:
		return age_ms > body_time_ms(c);
	case CONN_ANSWER:
		break;
	}
	return false;
}

/* Whether the client has closed and nothing of it is unread: libmicrohttpd learns of a close by an
 * edge, and the edge is lost when it comes together with the last bytes. Or whether libmicrohttpd
 * takes nothing although it should: then its memory is full of what it throws away only when it has
 * seen the end of it (a chunk's extension, before 1.0), and it is run without an end. */
static bool conn_is_stuck(struct conn *c, uint64_t now_ms)
{
	char byte;
	if (c->phase == CONN_ANSWER || now_ms - c->phase_since_ms < TICK_MS) {
		c->unread = false;
		return false;
	}
	ssize_t n = recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
	bool stuck = n > 0 && c->unread && c->tick_bytes == c->body_bytes;
	c->unread = n > 0;
	c->tick_bytes = c->body_bytes;
	return n == 0 || stuck;
}

/* A file that was cut while it is sent will never be sent whole, and sendfile() does not say so. */
static void cut_shrunk_files(struct http *h)
{
	for (struct link *l = h->sending.next; l != &h->sending; l = l->next) {
		struct exchange *x = container_of(l, struct exchange, sending);
		struct stat st;
		if (fstat(x->file_fd, &st) < 0 || (uint64_t)st.st_size < x->file_end) {
			(void)shutdown(x->conn->fd, SHUT_RDWR);
		}
	}
}

/* ---- room for connections ---- */

/* The rest is libmicrohttpd's: with both directions shut it sees the end and closes. */
static void conn_cut(struct conn *c)
{
	if (c->cut) {
		return;
	}
	c->cut = true;
	(void)shutdown(c->fd, SHUT_RDWR);
	link_remove(&c->rank);
	c->http->conns_open--;
	quota_release(&c->http->addresses, c->address, *c->address != '\0' ? 1 : 0);
}

/* Answers one whose request will never be handed over. Not with TLS, where bytes of ours would be
 * no answer. What the socket does not take at once is lost. */
static void conn_refuse(const struct conn *c, const char *text)
{
	char answer[512];
	int len = snprintf(answer, sizeof(answer),
	    "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n"
	    "Content-Length: %zu\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n"
	    "Retry-After: 1\r\n\r\n%s\n",
	    strlen(text) + 1, text);
	if (!c->http->tls) {
		(void)send(c->fd, answer, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL);
	}
}

/* Once a minute at most: whoever is refused comes back. */
static void log_refusal(struct http *h, const char *reason)
{
	uint64_t now_ms = uv_now(h->loop);
	if (h->refused_ms == 0 || now_ms - h->refused_ms >= REFUSAL_LOG_MS) {
		h->refused_ms = now_ms;
		log_event(LOG_LEVEL_WARNING, "connections_refused", LOG_STR("reason", reason),
		    LOG_INT("connections", h->conns_open));
	}
}

/* Whether one more connection of C's address is too many: for all, or for the address. */
static bool needs_room(const struct conn *c)
{
	const struct http *h = c->http;
	if (h->conns_open >= h->connections_max) {
		return true;
	}
	return *c->address != '\0' && quota_room(&h->addresses, c->address) == 0;
}

static bool is_at_limit(const struct conn *c)
{
	unsigned most = c->http->connections_per_address;
	return most != 0 && *c->address != '\0' &&
	       quota_held(&c->http->addresses, c->address) >= most;
}

/* The first in RING of an address that has no less than C's: who has few connections does not give
 * way to who has many. Only the first ones are looked at. */
static struct conn *find_victim(const struct conn *c, struct link *ring)
{
	const struct http *h = c->http;
	bool own_only = is_at_limit(c);
	size_t least = quota_held(&h->addresses, c->address);
	unsigned seen = 0;
	for (struct link *l = ring->next; l != ring && seen < VICTIMS_SEEN_MAX; l = l->next) {
		struct conn *v = container_of(l, struct conn, rank);
		bool fits = own_only ? strcmp(v->address, c->address) == 0
				     : *v->address == '\0' ||
					   quota_held(&h->addresses, v->address) >= least;
		if (fits) {
			return v;
		}
		seen++;
	}
	return NULL;
}

/* Who has shown no token gives way first, the oldest before the younger; then who is idle. */
static bool make_room(const struct conn *c)
{
	struct http *h = c->http;
	while (is_at_limit(c) || needs_room(c)) {
		struct conn *v = find_victim(c, &h->strangers);
		v = v != NULL ? v : find_victim(c, &h->idle);
		if (v == NULL) {
			return false;
		}
		conn_cut(v);
	}
	return true;
}

static void enter(struct conn *c)
{
	struct http *h = c->http;
	bool room = make_room(c);
	if (room && *c->address != '\0' && quota_charge(&h->addresses, c->address, 1) < 0) {
		room = false;
	}
	h->conns_open++;
	link_append(&h->strangers, &c->rank);
	if (!room) {
		log_refusal(h, "connections_max or connections_per_address is reached");
		conn_refuse(c, "there are too many connections");
		c->address[0] = '\0'; /* not charged */
		conn_cut(c);
	}
}

void conn_admit(struct conn *c)
{
	c->known = true;
	link_remove(&c->rank);
}

void conn_rest(struct conn *c)
{
	struct http *h = c->http;
	c->phase = CONN_HEAD;
	c->phase_since_ms = uv_now(h->loop);
	c->served = true;
	c->unread = false;
	if (c->known && !c->cut) {
		link_remove(&c->rank);
		link_append(&h->idle, &c->rank);
	}
}

/* ---- coming, going and every second ---- */

static void on_tick(uv_timer_t *timer)
{
	struct http *h = timer->data;
	uint64_t now_ms = uv_now(h->loop);
	for (struct link *l = h->conns.next; l != &h->conns; l = l->next) {
		struct conn *c = container_of(l, struct conn, link);
		if (conn_is_too_slow(c, now_ms) || conn_is_stuck(c, now_ms)) {
			conn_cut(c);
		}
	}
	cut_shrunk_files(h);
	linger_tick(&h->linger, now_ms);
	if (h->conn_count == 0 && h->linger.count == 0) {
		(void)uv_timer_stop(timer);
	}
}

static void find_peer(struct conn *c, struct MHD_Connection *mhd)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(
	    mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
	if (info != NULL && info->client_addr != NULL) {
		c->peer = peer_of_socket(info->client_addr);
	}
	if (!peer_in(&c->http->proxies, &c->peer)) {
		peer_name(&c->peer, c->address);
	}
}

static void conn_started(struct http *h, struct MHD_Connection *mhd, void **socket_context)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(
	    mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
	struct conn *c = info != NULL ? calloc(1, sizeof(*c)) : NULL;
	if (c == NULL) {
		return; /* its first request is refused */
	}
	c->http = h;
	c->fd = info->connect_fd;
	c->phase_since_ms = uv_now(h->loop);
	link_append(&h->conns, &c->link);
	h->conn_count++;
	h->watch_failed = false;
	*socket_context = c;
	find_peer(c, mhd);
	enter(c);
	if (!uv_is_active((uv_handle_t *)&h->tick)) {
		(void)uv_timer_start(&h->tick, on_tick, TICK_MS, TICK_MS);
	}
}

static void conn_closed(struct http *h, struct conn *c)
{
	if (c->exchange != NULL) {
		/* libmicrohttpd 1.0 does not say so of a request that it refuses within its body.
		 */
		void *left = c->exchange;
		exchange_completed(h, NULL, &left, MHD_REQUEST_TERMINATED_WITH_ERROR);
	}
	if (h->watch_failed) {
		/* Before the first byte was read: there is no request that could be answered. */
		h->watch_failed = false;
		log_refusal(h, "fs.epoll.max_user_watches of the server's user is used up");
		conn_refuse(c, "the server cannot watch any more sockets");
	}
	if (c->linger && !h->freeing) {
		linger_add(&h->linger, c->fd, c->address, uv_now(h->loop));
	}
	if (!c->cut) {
		h->conns_open--;
		quota_release(&h->addresses, c->address, *c->address != '\0' ? 1 : 0);
	}
	link_remove(&c->rank);
	link_remove(&c->link);
	h->conn_count--;
	free(c);
}

void conn_notify(void *http, struct MHD_Connection *mhd, void **socket_context,
    enum MHD_ConnectionNotificationCode what)
{
	if (what == MHD_CONNECTION_NOTIFY_STARTED) {
		conn_started(http, mhd, socket_context);
	} else if (*socket_context != NULL) {
		conn_closed(http, *socket_context);
		*socket_context = NULL;
	}
}
