/* users: numbers of users on the host that mean something to this program alone. */
#ifndef BASE_USERS_H
#define BASE_USERS_H

#include <sys/types.h>

/* The real user of the gateway of a server that runs as UID. The kernel counts watches of epoll,
 * pages of pipes and descriptors in flight by the real user; files and signals go by the effective
 * one, which is UID. The range above 0x70000000 is given to nobody (systemd's UIDS-GIDS). */
static inline uid_t users_gateway_counted_as(uid_t uid)
{
	return 0x70000000U | (uid & 0xffffU);
}

#endif
