/*
 * command: the walls around a program that is run outside sessions: a tool's command, a server of
 * tools, an installer. Unlike a session it has the network and the host's own file system; unlike a
 * plain child it can be ended whole, and reads and writes almost nothing.
 *
 *     command_walls_new      once, in the runner, before it drops what is left of its powers
 *     command_child_new      a working directory and a process, half walled in, that waits to be
 *                            told what it is
 *     command_start          tells it: Landlock, exec
 *     command_ended          how it ended, told when nothing is left of it
 *     command_kill           everything it has started, whatever that did to get away
 *     command_reap           the process that waited for it
 *     command_child_fini     when that has been reaped: removes the directory
 *
 * Between the runner and the command stands a process that waits for it, kills what it has left
 * behind, tells how it ended, and ends. It is the first process of a pid namespace where one may be
 * made, so that the kernel kills all that is left should it be killed itself. Elsewhere the command
 * may not leave its process group (setsid and setpgid are refused), and one signal to that reaches
 * all of it.
 *
 * Walls: no capabilities, no_new_privs; Landlock: reads and executes the system's directories and
 * what the caller names, writes its own directory only, no signals and no abstract sockets out of
 * itself (Linux 6.12); a filter that refuses namespaces, mounts, tracing, and the kernel's wide
 * interfaces; rlimits; no descriptor but those named here. Where neither a namespace nor Landlock
 * keeps its signals from the server's processes, it may send none but to its own threads.
 *
 * Invariants: without Landlock there are no commands; nothing is allocated between clone and exec.
 */
#ifndef SANDBOX_COMMAND_H
#define SANDBOX_COMMAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

#define COMMAND_PATH "/usr/local/bin:/usr/bin:/bin"
#define COMMAND_DATA_FD 198 /* where the command finds the session's files; "data" leads to it */
#define COMMAND_HOME_BYTES 1024

struct command_walls;
struct command_group;

struct command_child {
	uint64_t id;
	int home_fd;                   /* its working directory */
	int ruleset_fd;                /* what every command may reach, and its directory */
	char home[COMMAND_HOME_BYTES]; /* the same by name */
	int channel_fd;                /* where it is told what to be, and tells how it ended */
	pid_t pid;                     /* of the process that waits for it; 0 once reaped */
	int pid_fd;                    /* readable when that process has ended */
	pid_t group;                   /* without a namespace: the command's, once it told; or 0 */
};

#define COMMAND_CHILD_INIT                                                       \
	(struct command_child)                                                   \
	{                                                                        \
		.home_fd = -1, .ruleset_fd = -1, .channel_fd = -1, .pid_fd = -1, \
	}

struct command_limits {
	uint64_t memory_bytes; /* RLIMIT_DATA, each process */
	uint64_t file_bytes;   /* RLIMIT_FSIZE */
	uint32_t processes;    /* with a pid namespace; 0: none */
	uint32_t open_files;
};

/* All borrowed for the call. */
struct command {
	const char *path; /* the executable, absolute */
	char *const *argv;
	char *const *environment;
	int in_fd, out_fd, err_fd;
	const char *directory; /* where it starts; NULL: its own directory */
	const char *const *read_paths;
	size_t read_path_count;
	const char *const *write_paths;
	size_t write_path_count;
	int data_dir_fd; /* readable as "data" in its directory; -1: none */
	struct command_limits limits;
};

/* Tries what this host gives, and opens (or makes) WORK_DIR/run for the working directories.
 * NAMESPACES false: does without, as on a host that refuses them. NULL with E, ERR_UNSUPPORTED
 * where there is no Landlock. */
struct command_walls *command_walls_new(const char *work_dir, bool namespaces, struct err *e);
void command_walls_free(struct command_walls *w);
/* Whether commands get a pid namespace of their own here. */
bool command_walls_namespaces(const struct command_walls *w);

/* As root: becomes the owner of WORK_DIR for good, who may not be root. */
int command_become_owner(const char *work_dir, struct err *e);

/* One control group for all commands together, with a limit of memory that the kernel keeps by
 * killing in it. The runner itself is not in it, so that it is never what is killed; nor is what
 * it keeps of their output counted.
 *
 *     command_group_new     before command_become_owner: finds the place
 *     command_group_open    after it, before command_restrict_runner: makes the group
 *     command_walls_limit   from then on commands are born in it, or join it as their first step
 *
 * Never NULL but without memory; where the host gives no group, or MEMORY_BYTES is 0, it is one
 * without effect, and command_group_why tells. TEST_ROOT: as cgroup_root in sandbox.h. */
struct command_group *command_group_new(
    const char *work_dir, uint64_t memory_bytes, const char *test_root);
void command_group_open(struct command_group *g);
/* NULL when there is a limit. */
const char *command_group_why(const struct command_group *g);
void command_group_free(struct command_group *g);
/* Takes G over. To be called before there is any command. */
void command_walls_limit(struct command_walls *w, struct command_group *g);
/* How many processes the kernel has killed at the limit so far. */
uint64_t command_walls_kills(const struct command_walls *w);

/* Restricts the calling process, the runner, for good: it reads what its user may, and writes in
 * WORK_DIR, /proc and the usual devices only. */
int command_restrict_runner(const char *work_dir, struct err *e);

/* The absolute path of NAME, looked for in COMMAND_PATH unless it is a path itself. 0, or -1 with
 * ERR_NOT_FOUND. */
int command_find(const char *name, char *out, size_t size, struct err *e);

/* Makes the next command's directory, its ruleset and its processes, so that a call need not wait
 * for them. At most one is ready; best called when a command has just been started, since this
 * takes about as long as a small command does. */
void command_walls_prepare(struct command_walls *w);

/* 0, or -1 with E. */
int command_child_new(struct command_walls *w, struct command_child *c, struct err *e);
/* Closes and removes, and kills what still runs, waiting for its end. */
void command_child_fini(struct command_walls *w, struct command_child *c);

/* 0, or -1 with E. What goes wrong after the clone is told on ERR_FD, with exit status 127. */
int command_start(
    struct command_walls *w, const struct command *what, struct command_child *c, struct err *e);
/* Begins to kill all of it; pid_fd tells when that is done. HARD: it did not work before. */
void command_kill(const struct command_walls *w, const struct command_child *c, bool hard);
/* When channel_fd is readable: the exit status as shells have it (128 + signal); by then the
 * command and all that it started have ended and are reaped, only the process that waited for it
 * may still be there. -EAGAIN, or -EPIPE when that was killed: then pid_fd and command_reap tell.
 */
int command_ended(struct command_child *c);
/* Reaps what waited for it, when that has ended. The exit status as above, or -EAGAIN. */
int command_reap(struct command_child *c);

#endif
