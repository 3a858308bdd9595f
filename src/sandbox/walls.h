/*
 * walls: what the walls' files share with one another; nobody outside src/sandbox includes this.
 *
 * Each wall is one file. A wall's function either leaves its wall standing and returns 0, or says
 * why not and returns -1; sandbox.c puts them in order, probe.c tries them one by one.
 *
 * Invariants: what runs between the fork and the seal allocates nothing and reads only the kernel's
 * own files; descriptors of the host's side (control groups, the sessions' directory) are closed in
 * the child before sandbox_enter returns.
 */
#ifndef SANDBOX_WALLS_H
#define SANDBOX_WALLS_H

#include <linux/filter.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "sandbox/command.h"
#include "sandbox/sandbox.h"

/* The keeper and each session, inside their user namespaces. Outside they are the host's user. */
#define SESSION_UID 1000
#define SESSION_GID 1000
#define SESSION_HOSTNAME "carrel"
#define SESSION_DATA "/mnt/data"
#define SESSION_TMP "/tmp"
#define SESSION_PACKAGES "/mnt/packages"
/* Passed to the walls for a child that only proves they stand. Not for callers of sandbox_fork. */
#define SESSION_ID_TRIAL UINT64_MAX

/* ---- caps.c: who the process is, and which powers it holds ---- */

/* As root: becomes UID and GID for good, with at most CAP_SYS_ADMIN left, which unshare may need on
 * hosts that forbid unprivileged user namespaces. Otherwise only checks that it is not root. */
int identity_drop(uid_t uid, gid_t gid, struct err *e);

/* Drops every capability and sets no_new_privs, so that none comes back. Allocates nothing. */
int caps_drop_all(struct err *e);

/* 0 when the calling process has one thread; the walls of a thread do not hold another. */
int caps_check_single_thread(struct err *e);

/* ---- userns.c ---- */

/* Moves the caller into a user and a mount namespace of its own, with every capability there. */
int userns_enter(struct err *e);

/* Maps INSIDE_UID and INSIDE_GID of the caller's own new user namespace to OUTSIDE_* of its parent.
 * Writes beneath /proc/self. Allocates nothing. */
int userns_map(
    uid_t inside_uid, uid_t outside_uid, gid_t inside_gid, gid_t outside_gid, struct err *e);

/* ---- root.c and etc.c: the read-only root ---- */

/* Builds it from the caller's own root, goes into it and lets go of the old one. */
int root_enter(const struct sandbox_config *config, struct err *e);

/* Fills ETC_DIR_FD with the files every session sees in /etc, from the host's HOST_ETC_FD. */
int etc_build(int host_etc_fd, int etc_dir_fd, struct err *e);

/* ---- packages.c: directories of packages in sessions that run ---- */

/* Before the keeper drops its capabilities, on the new root with all packages mounted in it: keeps
 * a namespace that has them, and takes them out of the caller's own. */
int packages_hold(struct sandbox *sb, struct err *e);

/* Mounts the directory NAME into CHILD, as sandbox_child_mount. */
int packages_mount(
    struct sandbox *sb, struct sandbox_child *child, const char *name, struct err *e);

/* SANDBOX_LANDLOCK: whether there is a directory NAME, which every session can read anyway. */
int packages_find(const struct sandbox *sb, const char *name, struct err *e);

/* ---- mountinfo.c ---- */

/* One line of /proc/self/mountinfo (proc(5)); octal escapes are resolved. */
struct mountinfo {
	char root[512];
	char point[512];
	char options[256];
	char type[32];
	char super_options[512];
};

/* Reads the line at *TEXT and moves *TEXT past it. 1, 0 at the end of the text, -EINVAL for a line
 * that is not one, or whose fields are longer than the kernel's mounts have any need to be. */
int mountinfo_next(const char **text, struct mountinfo *out);

/* True when NAME is one of the comma-separated words of OPTIONS. */
bool mountinfo_has_option(const char *options, const char *name);

#define MOUNTINFO_MAX_BYTES (4u << 20)

/* Sets ATTRIBUTES (MOUNT_ATTR_*) on the mount at PATH, and on all beneath it where RECURSIVE. */
int mount_restrict(const char *path, uint64_t attributes, bool recursive, struct err *e);

/* ---- mounts.c: what each session mounts for itself ---- */

int mounts_add_files(uint64_t size_bytes, struct err *e);

enum proc_kind {
	PROC_PIDS_ONLY, /* nothing but the session's own processes (Linux 5.8) */
	PROC_MASKED,    /* all of /proc, with the host's parts covered */
};

int mounts_add_proc(enum proc_kind *kind, struct err *e);

/* ---- net.c ---- */

int net_loopback_up(struct err *e);

/* ---- limits.c ---- */

/* In the keeper, once: sets the rlimits that are the same for all sessions and inherited, and
 * raises as far as it may those that the kernel counts for all sessions together, which each
 * session lowers for itself. */
int limits_set_fixed(struct err *e);

/* Sets a session's own rlimits on the calling process. DATA counts from what it has now.
 * PIDS_BY_CGROUP: a control group counts its processes already. */
int limits_set(const struct sandbox_limits *limits, enum sandbox_level level, bool pids_by_cgroup,
    struct err *e);

/* What limits_set gives RLIMIT_DATA: BASE_BYTES are in use already. */
uint64_t limits_data_bytes(uint64_t base_bytes, uint64_t memory_bytes);

/* True where the kernel counts RLIMIT_NPROC a user namespace (Linux 5.14), so that one session's
 * processes are not charged to its neighbours. */
bool limits_nproc_is_per_namespace(void);

/* ---- seccomp.c ---- */

struct seccomp_program {
	struct sock_filter *code;
	unsigned short len;
};

enum seccomp_arch {
	SECCOMP_ARCH_NATIVE,
	SECCOMP_ARCH_X86_64,
	SECCOMP_ARCH_AARCH64,
};

struct seccomp_options {
	enum sandbox_level level;
	/* At SANDBOX_LANDLOCK the filter stands in for what the version does not do: below 6
	 * signals go to the process itself only, below 3 no file is cut by its path. */
	int landlock_abi;
	enum seccomp_arch arch;
};

/* Compiles the allow-list. PROGRAM is the caller's, for seccomp_fini. */
int seccomp_compile(
    const struct seccomp_options *options, struct seccomp_program *program, struct err *e);
void seccomp_fini(struct seccomp_program *program);

/* Binds a program that keeps signals to the process itself to PID. To be called in the child only:
 * it writes into the program. Does nothing to other programs. */
void seccomp_bind_pid(struct seccomp_program *program, pid_t pid);

int seccomp_install(const struct seccomp_program *program, struct err *e);

/* What a command outside sessions is kept from; all else is allowed (sandbox/command.h). Without
 * NAMESPACES it may not leave its process group, by which it is killed, nor use System V IPC or
 * message queues; and send no signals where Landlock does not keep them from the server's own
 * processes. PROGRAM is the caller's, for seccomp_fini. */
int seccomp_compile_command(
    bool namespaces, int landlock_abi, struct seccomp_program *program, struct err *e);

/* ---- landlock.c ---- */

/* The kernel's Landlock version, 0 where it has none. */
int landlock_abi(void);
bool landlock_abi_scopes_signals(int abi);
/* Otherwise truncate(2) by path changes any file of the same user. */
bool landlock_abi_covers_truncate(int abi);

/* Restricts the caller on the read-only root: reading everywhere, writing in its own two places. */
int landlock_restrict_root(int abi, struct err *e);

/* Restricts the caller on the host's own root: the paths a session needs, and its own directory. */
int landlock_restrict_host(
    int abi, const struct sandbox_config *config, int session_dir_fd, struct err *e);

/* The paths every command may read, opened once: opening them costs more than the rules do. */
#define LANDLOCK_PATHS_MAX 64
struct landlock_paths {
	int fds[LANDLOCK_PATHS_MAX];
	uint64_t rights[LANDLOCK_PATHS_MAX];
	int count;
};
int landlock_command_paths(struct landlock_paths *p, struct err *e);
void landlock_paths_fini(struct landlock_paths *p);

/* A ruleset for one command: PATHS, and HOME_FD to write in. The descriptor, or -1. */
int landlock_command_ruleset(
    int abi, const struct landlock_paths *paths, int home_fd, struct err *e);
/* Adds to it what WHAT says of its own. */
int landlock_command_allow(int abi, int ruleset_fd, const struct command *what, struct err *e);
/* Adds the calling process's own directory of /proc. */
int landlock_command_allow_self(int abi, int ruleset_fd, struct err *e);
/* Puts the calling process behind it, for good. */
int landlock_command_enforce(int ruleset_fd, struct err *e);
/* For the runner: reads all, writes beneath WORK_DIR, in /proc and on devices. */
int landlock_restrict_runner(int abi, const char *work_dir, struct err *e);

/* ---- cgroup.c (finding and preparing), cgroup_session.c (one session's) ---- */

enum cgroup_kind { CGROUP_MEMORY, CGROUP_PIDS, CGROUP_CPU };
#define CGROUP_KINDS 3
#define CGROUP_HIERARCHIES_MAX CGROUP_KINDS
#define CGROUP_PENDING_MAX 1024
#define CGROUP_NAME_BYTES 32

/* One hierarchy that carries at least one of the kinds. */
struct cgroup_hierarchy {
	int base_fd;    /* our directory in it, the keeper's */
	int version;    /* 1 or 2 */
	unsigned kinds; /* bits 1 << enum cgroup_kind */
};

struct cgroups {
	struct cgroup_hierarchy hierarchies[CGROUP_HIERARCHIES_MAX];
	int count;
	bool simulated;                       /* a test's plain files */
	char why[CGROUP_KINDS][192];          /* why a kind is not there; empty when it is */
	uint64_t pending[CGROUP_PENDING_MAX]; /* sessions whose groups are still being emptied */
	int pending_count;
};

/* Makes our directory in every hierarchy that lets us, given to UID and GID when the caller is
 * root. Having none is no error: CG->why tells. Errors are of memory and of tests' files only. */
int cgroups_init(struct cgroups *cg, const char *test_root, uid_t uid, gid_t gid, struct err *e);
/* The same for memory alone, in the runner. */
int cgroups_init_memory(
    struct cgroups *cg, const char *test_root, uid_t uid, gid_t gid, struct err *e);
void cgroups_fini(struct cgroups *cg);
/* Removes what dead servers left in the caller's groups. */
void cgroups_sweep(const char *test_root);
/* Closes the descriptors, in the child. */
void cgroups_close(struct cgroups *cg);
bool cgroups_have(const struct cgroups *cg, enum cgroup_kind kind);

/* Makes session ID's groups with LIMITS. *V2_FD is the v2 group to be cloned into, the caller's, or
 * -1. On failure nothing is left behind. */
int cgroups_add(struct cgroups *cg, uint64_t id, const struct sandbox_limits *limits, int *v2_fd,
    struct err *e);
/* Moves the calling process into ID's v1 groups. Allocates nothing. */
int cgroups_join_v1(const struct cgroups *cg, uint64_t id, struct err *e);
/* Fills in what the groups tell; the rest stays as it is. */
void cgroups_usage(const struct cgroups *cg, uint64_t id, struct sandbox_usage *out);
/* Where no group counts it: how long ID's processes (without any group, FIRST alone) have computed,
 * with those children that they waited for. */
uint64_t cgroups_cpu_us(const struct cgroups *cg, uint64_t id, pid_t first);
/* Kills all in ID's group where the kernel can (v2, Linux 5.14). 0 or -errno. */
int cgroups_kill(const struct cgroups *cg, uint64_t id);
void cgroups_remove(struct cgroups *cg, uint64_t id);

/* Finds the calling process's directory for controller NAME ("" for the v2 hierarchy) from the
 * texts of /proc/self/cgroup and /proc/self/mountinfo. Returns the hierarchy's version with PATH
 * filled, 0 when there is none, -ENAMETOOLONG. */
int cgroup_find(const char *self_cgroup, const char *self_mountinfo, const char *name, char *path,
    size_t path_size);

/* ---- workdir.c: SANDBOX_LANDLOCK's directories ---- */

/* Opens (and as root makes, for UID and GID) the directory the sessions' own are made in. */
int workdir_open(const struct sandbox_config *config, int *fd, struct err *e);
/* Makes <id>/data and <id>/tmp beneath WORK_FD. */
int workdir_add(int work_fd, uint64_t id, struct err *e);
/* Opens <id>. -1 with E set, or the descriptor. */
int workdir_open_session(int work_fd, uint64_t id, struct err *e);
/* Removes <id> with all in it, as far as one call's budget reaches; the rest goes at the next. */
void workdir_remove(int work_fd, uint64_t id);
/* Makes <id>, empty, and opens it. -1 with E set, or the descriptor. NAME gets its name. */
#define WORKDIR_NAME_BYTES 24
int workdir_add_empty(int work_fd, uint64_t id, char name[WORKDIR_NAME_BYTES], struct err *e);
/* Removes the directories whose id's upper half is a process that is no more. */
void workdir_sweep(int work_fd);

/* ---- sandbox.c ---- */

struct sandbox {
	struct sandbox_config config;         /* its strings are copies of our own */
	char *strings[SANDBOX_PATHS_MAX + 1]; /* the last: packages_dir */
	struct cgroups cgroups;
	struct seccomp_program program;
	int landlock_abi;
	int work_fd;    /* SANDBOX_LANDLOCK, else -1 */
	int session_fd; /* in the child at SANDBOX_LANDLOCK: its directory, else -1 */
	/* SANDBOX_NAMESPACES with a packages_dir, in the keeper: the namespaces of packages.c, else
	 * -1 */
	int packages_user_fd;
	int packages_mnt_fd;
	enum proc_kind proc_kind;
	bool pids_by_cgroup;
	struct sandbox_limits session_limits; /* in the child, from sandbox_enter on */
	int *tid_address; /* where libc keeps the thread's id, which a bare clone3 must renew */
	/* What went wrong in the child before sandbox_enter, which reports it. */
	bool child_failed;
	struct err child_error;
};

/* The namespaces a session is cloned into. */
unsigned long long sandbox_session_namespaces(void);

/* ---- clone.c ---- */

struct clone_args;

/* clone3, or clone where that is refused and ARGS asks for no control group. As fork, but that no
 * handlers of libraries run: the child's number, 0, or -1 with errno. */
pid_t clone_process(const struct clone_args *args);

/* clone_process with FLAGS, into the v2 control group at V2_FD unless it is -1. As fork: the
 * child's pid, 0, or -errno. */
pid_t sandbox_clone(const struct sandbox *sb, unsigned long long flags, int v2_fd);

/* Everything of sandbox_new but the last step, the trial of a whole session. */
int sandbox_prepare(const struct sandbox_config *config, struct sandbox **out, struct err *e);

#endif
