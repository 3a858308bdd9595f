/* Connections as we see them beside libmicrohttpd: who waits and may have gone, who is too slow. */
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "http/internal.h"

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

/* ---- connections ---- */

static bool conn_is_too_slow(const struct conn *c, uint64_t now_ms)
{
	uint64_t age_ms = now_ms - c->phase_since_ms;
	switch (c->phase) {
	case CONN_HEAD:
		return age_ms > c->http->idle_timeout_ms + HEAD_TIME_MS;
	case CONN_BODY:
		return age_ms > c->http->idle_timeout_ms + c->body_bytes / BODY_LEAST_BYTES_PER_MS;
	case CONN_ANSWER:
		break;
	}
	return false;
}

/* Whether the client has closed and nothing of it is unread. libmicrohttpd learns of a close by an
 * edge, and the edge is lost when it comes together with the last bytes. */
static bool conn_has_ended(const struct conn *c, uint64_t now_ms)
{
	char byte;
	return c->phase != CONN_ANSWER && now_ms - c->phase_since_ms >= TICK_MS &&
	       recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

static void on_tick(uv_timer_t *timer)
{
	struct http *h = timer->data;
	uint64_t now_ms = uv_now(h->loop);
	for (struct link *l = h->conns.next; l != &h->conns; l = l->next) {
		struct conn *c = container_of(l, struct conn, link);
		if (conn_is_too_slow(c, now_ms) || conn_has_ended(c, now_ms)) {
			(void)shutdown(
			    c->fd, SHUT_RDWR); /* libmicrohttpd sees the end and closes */
		}
	}
	linger_tick(&h->linger, now_ms);
	if (h->conn_count == 0 && h->linger.count == 0) {
		(void)uv_timer_stop(timer);
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
	*socket_context = c;
	if (!uv_is_active((uv_handle_t *)&h->tick)) {
		(void)uv_timer_start(&h->tick, on_tick, TICK_MS, TICK_MS);
	}
}

static void conn_closed(struct http *h, struct conn *c)
{
	if (c->linger && !h->freeing) {
		linger_add(&h->linger, c->fd, uv_now(h->loop));
	}
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
