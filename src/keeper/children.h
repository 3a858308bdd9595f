/*
 * children: what a session reaps. As process 1 of its namespace it gets every process whose parent
 * has ended; those are reaped as they end, or they would fill the limit of processes. A process
 * that user code has started itself stays for that code's own wait.
 *
 * The prelude tells which those are: between children_starting and children_started nothing is
 * reaped, so that one that ends at once is not taken for an orphan. A C library may start some that
 * nobody tells of; the newest few that ended are left for it while a cell runs.
 */
#ifndef KEEPER_CHILDREN_H
#define KEEPER_CHILDREN_H

#include <sys/types.h>

/* In a session, before user code: from here on orphans are reaped. */
void children_watch(void);

/* Around the start of a process, whichever thread does it. PID: the new process; anything else when
 * there is none. */
void children_starting(void);
void children_started(pid_t pid);

/* At the limit of processes a place is worth more than the status of one that ended: what user code
 * started is an orphan now. */
void children_disown(void);

/* Reaps the orphans that have ended, all of them. Returns how many; cheap when there are none. */
int children_reap(void);

#endif
