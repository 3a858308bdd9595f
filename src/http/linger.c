#include "http/linger.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/compiler.h"
#include "base/fd.h"
#include "http/peer.h"

/* Thrown away in one turn of the loop, so that one fast sender does not hold up the others. */
#define BYTES_A_TURN (4U << 20)

struct linger_entry {
	struct watch watch;
	struct linger_set *linger;
	unsigned place;
	int fd;
	uint64_t until_ms;
	char address[PEER_NAME_BYTES];
};

static void entry_end(struct linger_entry *e)
{
	struct linger_set *l = e->linger;
	watch_remove(l->watches, &e->watch);
	fd_close(&e->fd);
	quota_release(&l->addresses, e->address, 1);
	l->count--;
	l->entries[e->place] = l->entries[l->count];
	l->entries[e->place]->place = e->place;
	free(e);
}

/* Takes what there is. False at the end of file and on an error. */
static bool throw_away(int fd)
{
	static char scrap[64 << 10];
	for (size_t total = 0; total < BYTES_A_TURN;) {
		ssize_t n = recv(fd, scrap, sizeof(scrap), MSG_DONTWAIT);
		if (n > 0) {
			total += (size_t)n;
		} else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
			return false;
		} else if (errno == EAGAIN) {
			break;
		}
	}
	return true;
}

static void on_ready(struct watch *w)
{
	struct linger_entry *e = container_of(w, struct linger_entry, watch);
	if (!throw_away(e->fd) ||
	    watch_add(e->linger->watches, w, e->fd, EPOLLIN | EPOLLRDHUP) < 0) {
		entry_end(e);
	}
}

void linger_init(struct linger_set *l, struct watch_set *watches)
{
	*l = (struct linger_set){.watches = watches, .addresses = QUOTA_INIT(LINGER_MAX)};
}

void linger_fini(struct linger_set *l)
{
	while (l->count > 0) {
		entry_end(l->entries[0]);
	}
	quota_fini(&l->addresses);
}

void linger_add(struct linger_set *l, int fd, const char *address, uint64_t now_ms)
{
	struct linger_entry *e = calloc(1, sizeof(*e));
	if (e == NULL || quota_charge(&l->addresses, address, 1) < 0) {
		free(e);
		return;
	}
	*e = (struct linger_entry){.watch.ready = on_ready,
	    .linger = l,
	    .place = l->count,
	    .fd = fcntl(fd, F_DUPFD_CLOEXEC, 0),
	    .until_ms = now_ms + LINGER_TIME_MS};
	(void)snprintf(e->address, sizeof(e->address), "%s", address);
	if (e->fd < 0 || watch_add(l->watches, &e->watch, e->fd, EPOLLIN | EPOLLRDHUP) < 0) {
		quota_release(&l->addresses, address, 1);
		fd_close(&e->fd);
		free(e);
		return;
	}
	l->entries[l->count++] = e;
}

void linger_tick(struct linger_set *l, uint64_t now_ms)
{
	for (unsigned i = l->count; i-- > 0;) {
		if (now_ms >= l->entries[i]->until_ms) {
			entry_end(l->entries[i]);
		}
	}
}
