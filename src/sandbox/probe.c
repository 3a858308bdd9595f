/*
 * Tries each wall for real. The work is done by a child, which walks through the steps of
 * sandbox_new one by one, and by children of its own, which walk through those of a session; all of
 * them write what they find into one shared page, so that a step which dies leaves its wall marked
 * as missing.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/users.h"
#include "sandbox/walls.h"

enum wall {
	WALL_USER,
	WALL_USERNS,
	WALL_ROOT,
	WALL_PID,
	WALL_NET,
	WALL_IPC,
	WALL_UTS,
	WALL_CGROUPNS,
	WALL_FILES,
	WALL_PROC,
	WALL_LOOPBACK,
	WALL_GROUP,
	WALL_WORKDIR,
	WALL_CAPS,
	WALL_LANDLOCK,
	WALL_SIGNALS,
	WALL_SECCOMP,
	WALL_MEMORY,
	WALL_PROCESSES,
	WALL_CPU,
	WALL_OPEN_FILES,
	WALL_COUNTERS,
	WALL_COMMANDS,
	WALL_COMMANDS_MEMORY,
	WALL_COUNT,
};

#define COMMAND_ENDS_MS 10000

enum at_level { NEITHER = 0, AT_NAMESPACES = 1, AT_LANDLOCK = 2, BOTH = 3 };

#define MEND_USERNS                                                                                \
	"allow unprivileged user namespaces: sysctl kernel.unprivileged_userns_clone=1 (Debian), " \
	"kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu), user.max_user_namespaces above " \
	"0; "                                                                                      \
	"in a container a seccomp profile that allows unshare and clone"
#define MEND_CGROUPS                                                                          \
	"start the server as root, or in a control group of its own: systemd's Delegate=yes " \
	"(systemd-run --user --scope -p Delegate=yes carrel serve)"
#define MEND_PROC                                                                         \
	"the container's /proc is masked: Docker --security-opt systempaths=unconfined, " \
	"Kubernetes securityContext.procMount: Unmasked with hostUsers: false"
#define MEND_APPARMOR                                                                   \
	"AppArmor keeps user namespaces from programs without a profile here: install " \
	"examples/apparmor/carrel as /etc/apparmor.d/carrel, or sysctl "                \
	"kernel.apparmor_restrict_unprivileged_userns=0"
#define MEND_LANDLOCK "Linux 5.13 or later with landlock in its lsm= list"

/* Each wall: where it stands, where the level cannot do without it, and the usual way to mend it.
 */
static const struct {
	const char *name;
	enum at_level shown;
	enum at_level required;
	const char *mend;
} table[WALL_COUNT] = {
    [WALL_USER] = {"ordinary user", BOTH, BOTH,
	"give the server a user and group other than root to become"},
    [WALL_USERNS] = {"user namespace", AT_NAMESPACES, AT_NAMESPACES, MEND_USERNS},
    [WALL_ROOT] = {"read-only root", AT_NAMESPACES, AT_NAMESPACES,
	"in a container, a seccomp and AppArmor profile that allows mount and pivot_root"},
    [WALL_PID] = {"pid namespace", AT_NAMESPACES, AT_NAMESPACES, MEND_USERNS},
    [WALL_NET] = {"network namespace", AT_NAMESPACES, AT_NAMESPACES,
	"sysctl user.max_net_namespaces above 0"},
    [WALL_IPC] = {"ipc namespace", AT_NAMESPACES, AT_NAMESPACES,
	"sysctl user.max_ipc_namespaces above 0"},
    [WALL_UTS] = {"uts namespace", AT_NAMESPACES, AT_NAMESPACES,
	"sysctl user.max_uts_namespaces above 0"},
    [WALL_CGROUPNS] = {"cgroup namespace", AT_NAMESPACES, AT_NAMESPACES,
	"sysctl user.max_cgroup_namespaces above 0"},
    [WALL_FILES] = {"file space limit", BOTH, AT_NAMESPACES, "use --isolation namespaces"},
    [WALL_PROC] = {"own /proc", AT_NAMESPACES, AT_NAMESPACES, MEND_PROC},
    [WALL_LOOPBACK] = {"own loopback", AT_NAMESPACES, AT_NAMESPACES,
	"let user namespaces administer their own networks (AppArmor, SELinux)"},
    [WALL_GROUP] = {"own process group", BOTH, BOTH, ""},
    [WALL_WORKDIR] = {"own directory", AT_LANDLOCK, AT_LANDLOCK,
	"give the server a directory it may write (--data-dir)"},
    [WALL_CAPS] = {"no capabilities", BOTH, BOTH, ""},
    [WALL_LANDLOCK] = {"landlock", BOTH, AT_LANDLOCK, MEND_LANDLOCK},
    [WALL_SIGNALS] = {"signals stay inside", AT_LANDLOCK, NEITHER,
	"Linux 6.12 (Landlock version 6)"},
    [WALL_SECCOMP] = {"system call filter", BOTH, BOTH, "a kernel with CONFIG_SECCOMP_FILTER"},
    [WALL_MEMORY] = {"memory limit", BOTH, NEITHER, MEND_CGROUPS},
    [WALL_PROCESSES] = {"process limit", BOTH, NEITHER, MEND_CGROUPS},
    [WALL_CPU] = {"cpu limit", BOTH, NEITHER, MEND_CGROUPS},
    [WALL_OPEN_FILES] = {"open files limit", BOTH, BOTH, ""},
    [WALL_COUNTERS] = {"gateway's counters", BOTH, NEITHER,
	"start the server as root, with all users in its user namespace"},
    [WALL_COMMANDS] = {"tools' commands", BOTH, NEITHER, MEND_USERNS},
    [WALL_COMMANDS_MEMORY] = {"tools' memory limit", BOTH, NEITHER, MEND_CGROUPS},
};

/* Shared by the prober and its children. */
struct report {
	struct sandbox_wall walls[WALL_COUNT];
};

/* As Ubuntu has it from 23.10 on: a user namespace is made, or not, and has no powers. */
static bool apparmor_restricts(void)
{
	cleanup(buf_fini) struct buf text = BUF_INIT(16);
	return fd_read_file(AT_FDCWD, "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
		   &text) == 0 &&
	       buf_str(&text)[0] == '1';
}

static void enforced(struct report *report, enum wall wall)
{
	report->walls[wall].state = SANDBOX_ENFORCED;
	report->walls[wall].reason[0] = '\0';
	report->walls[wall].mend[0] = '\0';
}

static void fall_short(
    struct report *report, enum wall wall, enum sandbox_state state, const char *reason)
{
	struct sandbox_wall *w = &report->walls[wall];
	w->state = state;
	(void)snprintf(w->reason, sizeof(w->reason), "%.*s", (int)sizeof(w->reason) - 1, reason);
	bool apparmor = (table[wall].required & AT_NAMESPACES) != 0 &&
			(table[wall].required & AT_LANDLOCK) == 0 && apparmor_restricts();
	(void)snprintf(w->mend, sizeof(w->mend), "%s", apparmor ? MEND_APPARMOR : table[wall].mend);
}

/* Records RESULT (0, or -1 with E set) for WALL; true when it stands. */
static bool record(struct report *report, enum wall wall, int result, const struct err *e)
{
	if (result == 0) {
		enforced(report, wall);
		return true;
	}
	fall_short(report, wall, SANDBOX_MISSING, e->text);
	return false;
}

static void init_report(struct report *report, enum sandbox_level level)
{
	enum at_level here = level == SANDBOX_NAMESPACES ? AT_NAMESPACES : AT_LANDLOCK;
	for (int i = 0; i < WALL_COUNT; i++) {
		report->walls[i] = (struct sandbox_wall){
		    .name = table[i].name, .required = (table[i].required & here) != 0};
		fall_short(report, (enum wall)i, SANDBOX_MISSING,
		    "not tried: a wall that it stands on is missing");
		report->walls[i].mend[0] = '\0';
	}
}

static void wait_for(pid_t pid)
{
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
	}
}

/* One namespace alone, beside the user namespace that a session's fork always makes. */
static void try_namespace(
    const struct sandbox *sb, struct report *report, enum wall wall, unsigned long long flag)
{
	struct err e = {0};
	pid_t pid = sandbox_clone(sb, CLONE_NEWUSER | flag, -1);
	if (pid == 0) {
		_exit(0);
	}
	if (pid > 0) {
		wait_for(pid);
	}
	int r = pid < 0 ? err_set_os(&e, -pid, "cannot create one") : 0;
	(void)record(report, wall, r, &e);
}

static void try_mounts(struct report *report, const struct sandbox_limits *limits)
{
	struct err e = {0};
	enum proc_kind kind = PROC_PIDS_ONLY;
	(void)record(report, WALL_FILES, mounts_add_files(limits->file_space_bytes, &e), &e);
	if (record(report, WALL_PROC, mounts_add_proc(&kind, &e), &e) && kind == PROC_MASKED) {
		fall_short(report, WALL_PROC, SANDBOX_WEAKER,
		    "this kernel shows all of /proc; the host's parts are covered one by one");
		(void)snprintf(report->walls[WALL_PROC].mend, sizeof(report->walls[WALL_PROC].mend),
		    "Linux 5.8 or later");
	}
	(void)record(report, WALL_LOOPBACK, net_loopback_up(&e), &e);
}

static int check_nofile(const struct sandbox_limits *limits, struct err *e)
{
	int fd = fcntl(0, F_DUPFD_CLOEXEC, (int)limits->open_files + 64);
	if (fd >= 0) {
		(void)close(fd);
		return err_set(e, ERR_INTERNAL, "the limit is set and not obeyed");
	}
	return 0;
}

static void try_limits(
    struct sandbox *sb, struct report *report, const struct sandbox_limits *limits)
{
	struct err e = {0};
	int r = limits_set(limits, sb->config.level, sb->pids_by_cgroup, &e);
	if (r == 0) {
		r = check_nofile(limits, &e);
	}
	(void)record(report, WALL_OPEN_FILES, r, &e);
}

static void try_landlock(struct sandbox *sb, struct report *report)
{
	struct err e = {0};
	int abi = sb->landlock_abi;
	if (abi == 0) {
		fall_short(report, WALL_LANDLOCK, SANDBOX_MISSING, "this kernel has no Landlock");
		return;
	}
	int r = sb->config.level == SANDBOX_NAMESPACES
		    ? landlock_restrict_root(abi, &e)
		    : landlock_restrict_host(abi, &sb->config, sb->session_fd, &e);
	bool stands = record(report, WALL_LANDLOCK, r, &e);
	if (landlock_abi_scopes_signals(abi)) {
		enforced(report, WALL_SIGNALS);
		return;
	}
	if (stands && sb->config.level == SANDBOX_NAMESPACES) {
		char reason[96];
		(void)snprintf(reason, sizeof(reason),
		    "it is version %d; signals and abstract sockets are kept in by the namespaces "
		    "alone",
		    abi);
		fall_short(report, WALL_LANDLOCK, SANDBOX_WEAKER, reason);
		(void)snprintf(report->walls[WALL_LANDLOCK].mend,
		    sizeof(report->walls[WALL_LANDLOCK].mend), "%s", table[WALL_SIGNALS].mend);
	}
	fall_short(report, WALL_SIGNALS, SANDBOX_WEAKER,
	    "sessions may send signals to their first process only, not to their own children");
}

/* Installs the filter and asks for something it must refuse. */
static void try_seccomp(struct sandbox *sb, struct report *report)
{
	struct err e = {0};
	int r = seccomp_install(&sb->program, &e);
	if (r == 0 && (unshare(CLONE_NEWUTS) == 0 || errno != EPERM)) {
		r = err_set(&e, ERR_INTERNAL, "the filter is installed and does not refuse");
	}
	(void)record(report, WALL_SECCOMP, r, &e);
}

static void try_seal(struct sandbox *sb, struct report *report)
{
	struct err e = {0};
	(void)record(report, WALL_CAPS, caps_drop_all(&e), &e);
	try_landlock(sb, report);
	try_seccomp(sb, report);
}

static void session_namespaces(
    struct sandbox *sb, struct report *report, const struct sandbox_limits *limits)
{
	struct err e = {0};
	if (!record(report, WALL_USERNS,
		userns_map(SESSION_UID, SESSION_UID, SESSION_GID, SESSION_GID, &e), &e)) {
		return;
	}
	int r = unshare(CLONE_NEWCGROUP) < 0 ? err_set_os(&e, errno, "cannot create one") : 0;
	(void)record(report, WALL_CGROUPNS, r, &e);
	try_mounts(report, limits);
	try_limits(sb, report, limits);
	try_seal(sb, report);
}

static void session_landlock(
    struct sandbox *sb, struct report *report, uint64_t id, const struct sandbox_limits *limits)
{
	struct err e = {0};
	sb->session_fd = workdir_open_session(sb->work_fd, id, &e);
	(void)record(report, WALL_WORKDIR, sb->session_fd < 0 ? -1 : 0, &e);
	fall_short(report, WALL_FILES, SANDBOX_WEAKER,
	    "each file has a size limit, all of a session's together have none");
	seccomp_bind_pid(&sb->program, getpid());
	try_limits(sb, report, limits);
	try_seal(sb, report);
}

/* The limits by control groups: what is enforced once a session has been put into them, and what
 * stands in where there are none. */
static void record_cgroups(const struct sandbox *sb, struct report *report)
{
	static const struct {
		enum wall wall;
		enum cgroup_kind kind;
		const char *instead;
	} kinds[] = {
	    {WALL_MEMORY, CGROUP_MEMORY, "limited for each process, not for all of a session's"},
	    {WALL_PROCESSES, CGROUP_PIDS, NULL},
	    {WALL_CPU, CGROUP_CPU, "none"},
	    {WALL_COMMANDS_MEMORY, CGROUP_MEMORY,
		"limited for each process, not for all commands together"},
	};
	for (size_t i = 0; i < array_len(kinds); i++) {
		if (kinds[i].wall == WALL_COMMANDS_MEMORY && sb->config.commands_unlimited) {
			fall_short(report, WALL_COMMANDS_MEMORY, SANDBOX_MISSING,
			    "code_mode.tools.memory is 0");
			report->walls[WALL_COMMANDS_MEMORY].mend[0] = '\0';
			continue;
		}
		if (cgroups_have(&sb->cgroups, kinds[i].kind)) {
			enforced(report, kinds[i].wall);
			continue;
		}
		const char *instead = kinds[i].instead;
		if (instead == NULL) {
			instead = sb->config.level != SANDBOX_NAMESPACES
				      ? "one limit for all sessions together"
				  : limits_nproc_is_per_namespace() ? "limited by rlimit"
								    : "none";
		}
		char reason[sizeof(report->walls[0].reason)];
		(void)snprintf(
		    reason, sizeof(reason), "%s (%s)", instead, sb->cgroups.why[kinds[i].kind]);
		fall_short(report, kinds[i].wall,
		    strcmp(instead, "none") == 0 ? SANDBOX_MISSING : SANDBOX_WEAKER, reason);
	}
}

/* Made at the fork. */
static void try_group(struct report *report)
{
	struct err e = {0};
	bool own = getpgrp() == getpid() && getsid(0) == getpid();
	int r = own ? 0 : err_set(&e, ERR_INTERNAL, "a session is in somebody else's");
	(void)record(report, WALL_GROUP, r, &e);
}

/* Before anything is dropped, in a child: whether the gateway can have a real user of its own. */
static void try_counters(const struct sandbox_config *config, struct report *report)
{
	pid_t pid = fork();
	if (pid == 0) {
		const uid_t own = users_gateway_counted_as(config->uid);
		_exit(geteuid() == 0 && setresuid(own, config->uid, config->uid) == 0 ? 0 : 1);
	}
	int status = -1;
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR) {
	}
	if (status == 0) {
		enforced(report, WALL_COUNTERS);
		return;
	}
	fall_short(report, WALL_COUNTERS, SANDBOX_WEAKER,
	    "watches of epoll, pages of pipes and descriptors in flight are counted for sessions "
	    "and gateway together: sessions that use them up keep clients from connecting");
}

static void try_session(struct sandbox *sb, struct report *report)
{
	const struct sandbox_limits limits = {.memory_bytes = 64u << 20,
	    .file_space_bytes = 1u << 20,
	    .cpu_millis = 1000,
	    .pids = 8,
	    .open_files = 64};
	const uint64_t id = SESSION_ID_TRIAL;
	struct err e = {0};
	struct sandbox_child child = {0};
	pid_t pid = sandbox_fork(sb, &limits, id, &child, &e);
	if (pid < 0) {
		fall_short(report, WALL_MEMORY, SANDBOX_MISSING, e.text);
		return;
	}
	if (pid == 0) {
		if (sb->child_failed) {
			fall_short(report, WALL_MEMORY, SANDBOX_MISSING, sb->child_error.text);
			_exit(1);
		}
		cgroups_close(&sb->cgroups);
		try_group(report);
		if (sb->config.level == SANDBOX_NAMESPACES) {
			session_namespaces(sb, report, &limits);
		} else {
			session_landlock(sb, report, id, &limits);
		}
		_exit(0);
	}
	wait_for(pid);
	sandbox_child_remove(sb, &child);
	record_cgroups(sb, report);
}

static void probe_namespaces(struct sandbox *sb, struct report *report)
{
	struct err e = {0};
	if (!record(report, WALL_USER, identity_drop(sb->config.uid, sb->config.gid, &e), &e) ||
	    !record(report, WALL_USERNS, userns_enter(&e), &e) ||
	    !record(report, WALL_ROOT, root_enter(&sb->config, &e), &e) ||
	    !record(report, WALL_CAPS, caps_drop_all(&e), &e)) {
		return;
	}
	try_namespace(sb, report, WALL_PID, CLONE_NEWPID);
	try_namespace(sb, report, WALL_NET, CLONE_NEWNET);
	try_namespace(sb, report, WALL_IPC, CLONE_NEWIPC);
	try_namespace(sb, report, WALL_UTS, CLONE_NEWUTS);
	try_session(sb, report);
}

static void probe_in_workdir(
    struct sandbox *sb, struct report *report, const struct sandbox_config *config)
{
	struct err e = {0};
	if (record(report, WALL_WORKDIR, workdir_open(config, &sb->work_fd, &e), &e) &&
	    record(report, WALL_USER, identity_drop(sb->config.uid, sb->config.gid, &e), &e) &&
	    record(report, WALL_CAPS, caps_drop_all(&e), &e)) {
		try_session(sb, report);
		(void)unlinkat(sb->work_fd, "trash", AT_REMOVEDIR);
	}
}

/* In a directory of the probe's own, where the configuration names none yet. */
static void probe_landlock(
    struct sandbox *sb, struct report *report, const struct sandbox_config *config)
{
	if (config->work_dir != NULL) {
		probe_in_workdir(sb, report, config);
		return;
	}
	char made[] = "/tmp/carrel-doctor-XXXXXX";
	if (mkdtemp(made) == NULL) {
		fall_short(
		    report, WALL_WORKDIR, SANDBOX_MISSING, "cannot make a directory in /tmp");
		return;
	}
	struct sandbox_config own = *config;
	own.work_dir = made;
	probe_in_workdir(sb, report, &own);
	(void)rmdir(made);
}

static void probe(struct sandbox *sb, struct report *report, const struct sandbox_config *config)
{
	struct err e = {0};
	try_counters(config, report);
	const struct seccomp_options options = {
	    .level = config->level, .landlock_abi = sb->landlock_abi};
	if (!record(report, WALL_SECCOMP, seccomp_compile(&options, &sb->program, &e), &e)) {
		return;
	}
	fall_short(report, WALL_SECCOMP, SANDBOX_MISSING, "compiled, and could not be tried");
	if (cgroups_init(&sb->cgroups, config->cgroup_root, config->uid, config->gid, &e) < 0) {
		fall_short(report, WALL_MEMORY, SANDBOX_MISSING, e.text);
	}
	if (config->level == SANDBOX_NAMESPACES) {
		probe_namespaces(sb, report);
	} else {
		probe_landlock(sb, report, config);
	}
}

static void free_walls(struct command_walls **w)
{
	command_walls_free(*w);
}

/* In DIR, as the runner would. 0, or -1 with E. */
static int run_command(const char *dir, bool *namespaces, struct err *e)
{
	static char name[] = "true";
	static char *const argv[] = {name, NULL};
	static char *const environment[] = {NULL};
	char path[sizeof("/usr/local/bin/true")];
	struct command_child child = COMMAND_CHILD_INIT;
	cleanup(fd_close) int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	cleanup(free_walls) struct command_walls *walls = command_walls_new(dir, true, e);
	if (walls == NULL || command_find(name, path, sizeof(path), e) < 0 ||
	    command_child_new(walls, &child, e) < 0) {
		return -1;
	}
	*namespaces = command_walls_namespaces(walls);
	const struct command what = {.path = path,
	    .argv = argv,
	    .environment = environment,
	    .in_fd = null,
	    .out_fd = null,
	    .err_fd = null,
	    .data_dir_fd = -1,
	    .limits = {.processes = 8, .open_files = 64, .file_bytes = 1U << 20}};
	int r = command_start(walls, &what, &child, e);
	if (r == 0) {
		struct pollfd ended = {.fd = child.pid_fd, .events = POLLIN};
		(void)poll(&ended, 1, COMMAND_ENDS_MS);
		int status = command_reap(&child);
		r = status == 0 ? 0 : err_set(e, ERR_INTERNAL, "it ended with status %d", status);
	}
	command_child_fini(walls, &child);
	return r;
}

static void command_process(
    struct report *report, const struct sandbox_config *config, const char *dir)
{
	struct err e = {0};
	bool namespaces = false;
	int r = identity_drop(config->uid, config->gid, &e) < 0 ||
			command_restrict_runner(dir, &e) < 0 ||
			run_command(dir, &namespaces, &e) < 0
		    ? -1
		    : 0;
	if (record(report, WALL_COMMANDS, r, &e) && !namespaces) {
		fall_short(report, WALL_COMMANDS, SANDBOX_WEAKER,
		    "held together by a process group, not by a pid namespace");
	}
}

static void remove_commands_dir(const char *dir)
{
	static const char *const parts[] = {"/run/trash", "/run", ""};
	for (size_t i = 0; i < array_len(parts); i++) {
		char path[64];
		(void)snprintf(path, sizeof(path), "%s%s", dir, parts[i]);
		(void)rmdir(path);
	}
}

static void probe_commands(struct report *report, const struct sandbox_config *config)
{
	char dir[] = "/tmp/carrel-doctor-XXXXXX";
	if (mkdtemp(dir) == NULL || (geteuid() == 0 && chown(dir, config->uid, config->gid) < 0)) {
		struct err e;
		(void)err_set_os(&e, errno, "%s", dir);
		(void)record(report, WALL_COMMANDS, -1, &e);
		return;
	}
	pid_t pid = fork();
	if (pid == 0) {
		command_process(report, config, dir);
		_exit(0);
	}
	if (pid > 0) {
		wait_for(pid);
	}
	remove_commands_dir(dir);
}

static int collect(
    const struct report *report, enum sandbox_level level, struct sandbox_wall *walls)
{
	enum at_level here = level == SANDBOX_NAMESPACES ? AT_NAMESPACES : AT_LANDLOCK;
	int count = 0;
	for (int i = 0; i < WALL_COUNT && count < SANDBOX_WALLS_MAX; i++) {
		if ((table[i].shown & here) != 0) {
			walls[count++] = report->walls[i];
		}
	}
	return count;
}

int sandbox_probe(const struct sandbox_config *config, struct sandbox_wall walls[SANDBOX_WALLS_MAX])
{
	struct report *report = mmap(
	    NULL, sizeof(*report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct report fallback;
	if (report == MAP_FAILED) {
		init_report(&fallback, config->level);
		return collect(&fallback, config->level, walls);
	}
	init_report(report, config->level);
	pid_t pid = fork();
	if (pid == 0) {
		struct sandbox *sb = calloc(1, sizeof(*sb));
		if (sb != NULL) {
			sb->work_fd = -1;
			sb->session_fd = -1;
			sb->config = *config;
			sb->landlock_abi = landlock_abi();
			probe(sb, report, config);
		}
		_exit(0);
	}
	if (pid > 0) {
		wait_for(pid);
	}
	probe_commands(report, config);
	cgroups_sweep(config->cgroup_root);
	int count = collect(report, config->level, walls);
	(void)munmap(report, sizeof(*report));
	return count;
}
