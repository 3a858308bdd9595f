#include "http/watch.h"

#include <errno.h>
#include <sys/epoll.h>

#include "base/compiler.h"
#include "base/fd.h"

#define EVENTS_A_TURN 64

static void on_poll(uv_poll_t *poll, int status, int uv_events)
{
	(void)status;
	(void)uv_events;
	struct watch_set *s = container_of(poll, struct watch_set, poll);
	struct epoll_event events[EVENTS_A_TURN];
	int n = epoll_wait(s->epoll_fd, events, EVENTS_A_TURN, 0);
	for (int i = 0; i < n; i++) {
		struct watch *w = events[i].data.ptr;
		if (w->on) {
			watch_remove(s, w);
			w->ready(w);
		}
	}
}

int watch_set_init(struct watch_set *s, uv_loop_t *loop)
{
	s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (s->epoll_fd < 0) {
		return -errno;
	}
	int err = uv_poll_init(loop, &s->poll, s->epoll_fd);
	if (err < 0) {
		fd_close(&s->epoll_fd);
		return err;
	}
	return uv_poll_start(&s->poll, UV_READABLE, on_poll);
}

static void on_closed(uv_handle_t *handle)
{
	struct watch_set *s = container_of(handle, struct watch_set, poll);
	fd_close(&s->epoll_fd);
	s->closed(s);
}

void watch_set_close(struct watch_set *s, void (*closed)(struct watch_set *s))
{
	s->closed = closed;
	uv_close((uv_handle_t *)&s->poll, on_closed);
}

int watch_add(struct watch_set *s, struct watch *w, int fd, uint32_t events)
{
	struct epoll_event event = {.events = events, .data.ptr = w};
	if (epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
		return -errno;
	}
	w->fd = fd;
	w->on = true;
	return 0;
}

void watch_remove(struct watch_set *s, struct watch *w)
{
	if (w->on) {
		(void)epoll_ctl(s->epoll_fd, EPOLL_CTL_DEL, w->fd, NULL);
		w->on = false;
	}
}
