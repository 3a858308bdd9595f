#include "keeper/children.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PIDS_MAX (1 << 22) /* the kernel's own limit (PID_MAX_LIMIT) */
#define ORPHANS_MAX 1024   /* looked at by one call */
/* Left alone while a cell runs: those of a C library that is about to wait for them. */
#define NEWEST_LEFT 16

/* A bit for each process that user code started. A session touches a page of it or two. */
static uint8_t own[PIDS_MAX / 8];
static pid_t highest;    /* of those */
static int starting;     /* threads between children_starting and children_started */
static int ended_during; /* something ended meanwhile */
static pid_t session;
static char list_path[64]; /* where the kernel lists the session's children */

/* Everything below down to on_child_ended is async-signal-safe. */

static bool is_own(pid_t pid)
{
	return pid <= 0 || pid >= PIDS_MAX ||
	       (__atomic_load_n(&own[pid / 8], __ATOMIC_RELAXED) & 1U << pid % 8) != 0;
}

static bool has_ended(idtype_t kind, pid_t pid, pid_t *which)
{
	siginfo_t info = {0};
	bool ended = waitid(kind, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
		     info.si_pid != 0;
	*which = info.si_pid;
	return ended;
}

/* Adds the orphans that have ended and are in the kernel's list, oldest first. */
static size_t add_listed(int fd, pid_t *orphans)
{
	char text[4096];
	size_t count = 0;
	pid_t pid = 0;
	pid_t which;
	for (ssize_t n; (n = read(fd, text, sizeof(text))) > 0;) {
		for (ssize_t i = 0; i < n; i++) {
			if (text[i] != ' ') {
				pid = pid * 10 + (text[i] - '0');
				continue;
			}
			if (count < ORPHANS_MAX && !is_own(pid) && has_ended(P_PID, pid, &which)) {
				orphans[count++] = pid;
			}
			pid = 0;
		}
	}
	return count;
}

/* Reaps orphans but for the newest LEFT. Returns how many. */
static int reap(size_t left)
{
	pid_t orphans[ORPHANS_MAX];
	int fd = open(list_path, O_RDONLY | O_CLOEXEC);
	size_t count = 0;
	if (fd >= 0) {
		count = add_listed(fd, orphans);
		(void)close(fd);
	}
	int reaped = 0;
	for (size_t i = 0; i + left < count; i++) {
		reaped += waitpid(orphans[i], NULL, WNOHANG) == orphans[i];
	}
	/* Without a list, or with more than one list tells: the first that ended, while it is none
	 * of user code's. */
	for (pid_t pid; (fd < 0 || left == 0) && has_ended(P_ALL, 0, &pid) && !is_own(pid);) {
		reaped += waitpid(pid, NULL, WNOHANG) == pid;
	}
	return reaped;
}

/* A handler is inherited by what user code forks, whose children are its own affair. */
static void on_child_ended(int number)
{
	(void)number;
	int saved = errno;
	if (__atomic_load_n(&starting, __ATOMIC_SEQ_CST) > 0) {
		__atomic_store_n(&ended_during, 1, __ATOMIC_SEQ_CST);
	} else if (getpid() == session) {
		(void)reap(NEWEST_LEFT);
	}
	errno = saved;
}

/* Where it is not process 1 orphans go to the keeper. Python knows of no handler, so user code that
 * puts its own there gets the default one back. */
static void catch_ends(void)
{
	const struct sigaction action = {
	    .sa_handler = on_child_ended, .sa_flags = SA_RESTART | SA_NOCLDSTOP};
	if (session == 1) {
		(void)sigaction(SIGCHLD, &action, NULL);
	}
}

void children_watch(void)
{
	children_disown(); /* what a preload started in the keeper */
	session = getpid();
	(void)snprintf(list_path, sizeof(list_path), "/proc/%d/task/%d/children", session, session);
	catch_ends();
}

void children_starting(void)
{
	(void)__atomic_add_fetch(&starting, 1, __ATOMIC_SEQ_CST);
}

void children_started(pid_t pid)
{
	if (pid > 0 && pid < PIDS_MAX) {
		(void)__atomic_or_fetch(&own[pid / 8], 1U << pid % 8, __ATOMIC_RELAXED);
		highest = pid > highest ? pid : highest;
	}
	if (__atomic_sub_fetch(&starting, 1, __ATOMIC_SEQ_CST) == 0 &&
	    __atomic_exchange_n(&ended_during, 0, __ATOMIC_SEQ_CST) != 0 && getpid() == session) {
		(void)reap(NEWEST_LEFT);
	}
}

void children_disown(void)
{
	if (highest > 0) {
		memset(own, 0, (size_t)highest / 8 + 1);
		highest = 0;
	}
}

int children_reap(void)
{
	siginfo_t info = {0};
	struct sigaction now;
	if (getpid() != session) {
		return 0;
	}
	if (sigaction(SIGCHLD, NULL, &now) == 0 && now.sa_handler == SIG_DFL) {
		catch_ends();
	}
	if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0) {
		children_disown(); /* none is left, and their numbers will be others' */
		return 0;
	}
	if (info.si_pid == 0) {
		return 0;
	}
	return reap(0);
}
