/*
 * linger: connections that are closed while the client may still be sending.
 *
 * A socket that is closed with unread bytes makes the kernel send a reset, and a reset can take an
 * answer that was already sent away from the client. So a duplicate of the descriptor is kept, what
 * still comes is thrown away, and the socket is closed when the client closes, or at a bound of
 * time or number. RFC 9112, 9.6, asks for this.
 */
#ifndef HTTP_LINGER_H
#define HTTP_LINGER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/quota.h"
#include "http/watch.h"

#define LINGER_MAX 128
#define LINGER_TIME_MS 30000

struct linger_entry;

struct linger_set {
	struct watch_set *watches;
	struct linger_entry *entries[LINGER_MAX];
	unsigned count;
	struct quota addresses;
};

/* WATCHES is borrowed. */
void linger_init(struct linger_set *l, struct watch_set *watches);
/* Closes all. */
void linger_fini(struct linger_set *l);

/* Keeps a duplicate of FD, a connection of ADDRESS. Nothing when that has its share of LINGER_MAX
 * already. */
void linger_add(struct linger_set *l, int fd, const char *address, uint64_t now_ms);
/* Closes those whose time is over. */
void linger_tick(struct linger_set *l, uint64_t now_ms);

#endif
