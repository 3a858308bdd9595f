/*
 * helper: a process of the server's own, started from an executable of its own, that is told
 * everything over one socket.
 *
 * It is run from a sealed copy in memory: each process that descends from it reaches the file it
 * runs from as /proc/self/exe, past all mounts, and an owner may change the mode and times of his
 * file even while it runs. Sessions and tools are its owner where somebody runs what he has built
 * himself.
 *
 * Nothing is inherited but 0, 1, 2 and the socket, which is IPC_HELPER_FD in it; signals are as
 * usual, however the server was started (nohup ignores SIGHUP, a shell's "&" SIGINT and SIGQUIT).
 */
#ifndef IPC_HELPER_H
#define IPC_HELPER_H

#include <sys/types.h>

#include "base/err.h"

#define IPC_HELPER_FD 3

struct ipc_helper {
	pid_t pid;
	int fd; /* SOCK_SEQPACKET, blocking; the caller's */
};

/* Starts the executable PATH as NAME with this ENVIRONMENT (ends with NULL). 0, or -1 with E. */
int ipc_helper_start(struct ipc_helper *h, const char *path, const char *name,
    char *const environment[], struct err *e);

/* Waits for a helper whose socket is closed to have ended. PID 0 is allowed; it becomes 0. */
void ipc_helper_wait(pid_t *pid);

#endif
