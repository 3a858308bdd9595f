/*
 * watch: an epoll set of our own inside the libuv loop, for descriptors that belong to somebody
 * else.
 *
 * libuv allows one handle a descriptor, frees it in a later turn, and touches the descriptor when
 * it stops; libmicrohttpd's connections come and go faster than that. Here watching costs one
 * epoll_ctl and stopping one more, at once, and the struct is part of its owner.
 *
 * A watch is one shot: after its callback it is off. A watch that was removed is not called any
 * more, also when its event had already been fetched; so an owner may be freed from its own
 * callback, or outside of watch callbacks, but not from the callback of another watch.
 */
#ifndef HTTP_WATCH_H
#define HTTP_WATCH_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

struct watch {
	void (*ready)(struct watch *w); /* set by the owner */
	int fd;
	bool on;
};

struct watch_set {
	uv_poll_t poll;
	int epoll_fd;
	void (*closed)(struct watch_set *s);
};

/* 0 or -errno. */
int watch_set_init(struct watch_set *s, uv_loop_t *loop);
/* Closes; CLOSED is called when the loop is done with S. */
void watch_set_close(struct watch_set *s, void (*closed)(struct watch_set *s));

/* Waits once for EVENTS (EPOLLIN, EPOLLRDHUP, ...; errors and hang-ups always) on FD, which must
 * stay open until watch_remove() or the callback. W must be off. 0 or -errno. */
int watch_add(struct watch_set *s, struct watch *w, int fd, uint32_t events);
/* Also when it is off. */
void watch_remove(struct watch_set *s, struct watch *w);

#endif
