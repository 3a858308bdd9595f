/*
 * seal: what the gateway gives up once it has its sockets and its keeper.
 */
#ifndef GATEWAY_SEAL_H
#define GATEWAY_SEAL_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/err.h"

/* Looks up the user the server's processes become when it is started as root: NAME, or when it is
 * NULL "carrel" where there is such a user, else "nobody". -1 when there is none, or when it is
 * root. */
int seal_find_user(const char *name, uid_t *uid, gid_t *gid, struct err *e);

/* Has io_uring_setup answer ENOSYS in this process and all it starts: libuv from 1.45 on makes a
 * ring for each loop, whatever its settings, and could not use it behind the seal. Sets
 * no_new_privs. Before the first loop. Irreversible. */
int seal_refuse_io_uring(struct err *e);

/* As root: becomes UID and GID for good, without groups and capabilities. Otherwise only drops what
 * is left. Then no_new_privs, and other processes of the user may not look into this one. */
int seal_drop_privileges(uid_t uid, gid_t gid, struct err *e);

/* Allows from now on, in all threads, only the system calls an event loop over sockets and files
 * needs: no program is started, no socket opened, no process traced. Irreversible. CONNECTS: there
 * is a store on the network; then stream sockets may be opened and connected (internet and Unix),
 * and datagram sockets to look its name up, but none may be bound, and none of another family. */
int seal_system_calls(bool connects, struct err *e);

#endif
