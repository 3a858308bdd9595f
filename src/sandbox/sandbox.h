/*
 * sandbox: the walls around a session, and everything the keeper needs to build them.
 *
 *     sandbox_new       once, in the keeper, single-threaded and before Python starts: prepares the
 *                       host side (control groups, seccomp program, Landlock) and moves the keeper
 *                       itself into its own user and mount namespace on the read-only root
 *     sandbox_fork      once a session: control groups, then clone3 into fresh namespaces
 *     sandbox_enter     in the child: identity, mounts, host name, loopback; returns its /mnt/data
 *     sandbox_seal      in the child: rlimits, no capabilities, Landlock, seccomp
 *     sandbox_child_*   in the keeper: kill, learn how it ended, remove what it left
 *
 * Invariants: sandbox_seal is irreversible and is the last thing before a session serves its
 * socket; a wall that the level asks for and the host refuses is an error, never a silent step
 * down; no function here reads a byte that came from a client or a session.
 */
#ifndef SANDBOX_SANDBOX_H
#define SANDBOX_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

enum sandbox_level {
	SANDBOX_NAMESPACES, /* every wall; as root or with unprivileged user namespaces */
	SANDBOX_LANDLOCK,   /* own process, seccomp, Landlock, rlimits; no namespace needed */
};

#define SANDBOX_PATHS_MAX 32

struct sandbox_config {
	enum sandbox_level level;
	/* Who the keeper and its sessions are on the host when it was started as root; ignored when
	 * it was not. Never 0. */
	uid_t uid;
	gid_t gid;
	/* More host paths to show read-only in every session, at the same place. Borrowed. */
	const char *read_only_paths[SANDBOX_PATHS_MAX];
	int read_only_path_count;
	/* SANDBOX_LANDLOCK only: where the sessions' directories are made. Borrowed. */
	const char *work_dir;
	/* Where the directories for sandbox_child_mount are. NULL, or one that UID cannot reach
	 * (which is logged): there are none.
	 * At SANDBOX_LANDLOCK every session may read all of it. Borrowed. */
	const char *packages_dir;
	/* Where the control group hierarchies are looked for; NULL for what /proc/self/cgroup and
	 * /proc/self/mountinfo say. Tests give a directory of plain files. */
	const char *cgroup_root;
	/* Of sandbox_probe alone: all commands together shall have no limit of memory. */
	bool commands_unlimited;
};

/* One session's limits. 0 means no limit of that kind. */
struct sandbox_limits {
	uint64_t memory_bytes;
	uint64_t file_space_bytes; /* of /mnt/data and of /tmp, each */
	uint32_t cpu_millis;       /* thousandths of a core */
	uint32_t pids;             /* processes and threads */
	uint32_t open_files;       /* a process */
};

struct sandbox;

/* Prepares the host and moves the calling process behind the outer walls (see above). On success
 * *OUT is the caller's, for sandbox_free. Not to be called twice in a process. */
int sandbox_new(const struct sandbox_config *config, struct sandbox **out, struct err *e);
void sandbox_free(struct sandbox *sb);

/* A session as the keeper sees it. Zero it before sandbox_fork. */
struct sandbox_child {
	unsigned mounts; /* by sandbox_child_mount */
	pid_t pid;
	uint64_t id; /* names its control group and its directories; chosen by the caller, unique */
};

/* Forks the calling process into a new session with ID. Returns the child's pid in the parent, 0 in
 * the child, -1 on failure (nothing is left behind). In the parent, the child is inside its control
 * groups with its limits set when this returns. */
pid_t sandbox_fork(struct sandbox *sb, const struct sandbox_limits *limits, uint64_t id,
    struct sandbox_child *child, struct err *e);

/* In the child: becomes the session's user, mounts its /tmp, /mnt/data and /proc, names the host,
 * brings its loopback up and goes to /mnt/data. *DATA_DIR_FD is an O_PATH directory descriptor of
 * /mnt/data, the caller's. Also tells what went wrong in the child since the fork. On failure the
 * child must exit. At SANDBOX_LANDLOCK the directory is <work_dir>/s<id in hex>/data, and beside it
 * is "tmp"; the caller points TMPDIR there. */
int sandbox_enter(struct sandbox *sb, const struct sandbox_limits *limits, uint64_t id,
    int *data_dir_fd, struct err *e);

/* In the child, after its warm-up: see above. The child must have one thread. On failure it must
 * exit.
 *
 * Descriptors are best sent before: the kernel refuses one to a sender once more of its user's are
 * in flight than the sender's own RLIMIT_NOFILE, and all sessions are one user, so that a hostile
 * one could keep a sealed neighbour from sending any. */
int sandbox_seal(struct sandbox *sb, struct err *e);

/* Kills the session with all its processes. 0 or -errno (-ESRCH when it has gone already). Before
 * the child is reaped: afterwards its number may be another's. At SANDBOX_LANDLOCK also to be
 * called for a child that has ended by itself (waitid with WNOWAIT tells), whose descendants may
 * live on. */
int sandbox_child_kill(struct sandbox *sb, const struct sandbox_child *child);

/* Interrupts the session as Ctrl-C at a terminal would: SIGINT to its first process and all in its
 * process group, which is all it started but what asked for a group of its own. */
int sandbox_child_interrupt(const struct sandbox_child *child);

/* What the kernel counted against the session. Fields it cannot tell are 0. */
struct sandbox_usage {
	uint64_t oom_kills;    /* processes killed at the memory limit */
	uint64_t pids_refused; /* forks refused at the process limit */
	uint64_t memory_peak_bytes;
	uint64_t cpu_us; /* computed by its processes; where no control group counts it, by those
			    that live and the children they waited for */
};

void sandbox_child_usage(
    struct sandbox *sb, const struct sandbox_child *child, struct sandbox_usage *out);

/* After the child was reaped: removes its control groups and directories. What cannot be removed
 * yet (a control group that is still being emptied) is tried again at the next call for any child.
 */
void sandbox_child_remove(struct sandbox *sb, const struct sandbox_child *child);

#define SANDBOX_MOUNTS_MAX 64      /* into one session over its life */
#define SANDBOX_PACKAGES_DIGITS 64 /* of the name of a directory of packages, lower-case hex */

/* Shows the session, which may be running code, the directory NAME of packages_dir, read-only and
 * without set-user-id or devices. It is then at sandbox_packages_dir. -1 with ERR_INVALID for a
 * NAME that is not one, ERR_BUSY past SANDBOX_MOUNTS_MAX, or with what the kernel says. To be
 * called while the child is not reaped, once for each NAME. */
int sandbox_child_mount(
    struct sandbox *sb, struct sandbox_child *child, const char *name, struct err *e);

/* Where sessions find what was mounted for them. Borrowed; "" when there can be nothing. */
const char *sandbox_packages_dir(const struct sandbox *sb);

/* One wall, for `carrel doctor` and for the server's start. */
enum sandbox_state {
	SANDBOX_ENFORCED,
	SANDBOX_WEAKER,  /* given in part: text says why */
	SANDBOX_MISSING, /* not given: text says why */
};

struct sandbox_wall {
	const char *name; /* "user namespace", "seccomp", "memory limit", ... */
	enum sandbox_state state;
	bool required;    /* the level cannot be given without it */
	char reason[256]; /* empty when enforced */
	char mend[256];   /* what an administrator can do; empty when enforced */
};

#define SANDBOX_WALLS_MAX 32

/* Tries each wall of CONFIG's level for real, in a child process of its own, and fills WALLS.
 * Returns how many, at most SANDBOX_WALLS_MAX. The calling process is left as it was. */
int sandbox_probe(
    const struct sandbox_config *config, struct sandbox_wall walls[SANDBOX_WALLS_MAX]);

#endif
