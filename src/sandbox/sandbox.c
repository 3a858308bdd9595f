#include "sandbox/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/text.h"
#include "sandbox/walls.h"

unsigned long long sandbox_session_namespaces(void)
{
	return CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC |
	       CLONE_NEWUTS;
}

pid_t sandbox_clone(const struct sandbox *sb, unsigned long long flags, int v2_fd)
{
	struct clone_args args = {.flags = flags, .exit_signal = SIGCHLD};
	if (sb->tid_address != NULL) {
		/* As libc's fork does: the one thread's id, as the child's own namespace counts it.
		 */
		args.flags |= CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID;
		args.child_tid = (uint64_t)(uintptr_t)sb->tid_address;
	}
	if (v2_fd >= 0) {
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = (unsigned)v2_fd;
	}
	pid_t pid = clone_process(&args);
	return pid < 0 ? -errno : pid;
}

static int copy_config(struct sandbox *sb, const struct sandbox_config *config, struct err *e)
{
	sb->config = *config;
	if (config->read_only_path_count < 0 || config->read_only_path_count > SANDBOX_PATHS_MAX) {
		return err_set(e, ERR_INVALID, "at most %d paths can be shown", SANDBOX_PATHS_MAX);
	}
	for (int i = 0; i < config->read_only_path_count; i++) {
		sb->strings[i] = strdup(config->read_only_paths[i]);
		sb->config.read_only_paths[i] = sb->strings[i];
		if (sb->strings[i] == NULL) {
			return err_set(e, ERR_INTERNAL, "out of memory");
		}
	}
	if (config->packages_dir != NULL) {
		sb->strings[SANDBOX_PATHS_MAX] = strdup(config->packages_dir);
		sb->config.packages_dir = sb->strings[SANDBOX_PATHS_MAX];
		if (sb->config.packages_dir == NULL) {
			return err_set(e, ERR_INTERNAL, "out of memory");
		}
	}
	sb->config.work_dir = NULL;
	sb->config.cgroup_root = NULL;
	return 0;
}

static int compile_filter(struct sandbox *sb, struct err *e)
{
	const struct seccomp_options options = {
	    .level = sb->config.level,
	    .landlock_abi = sb->landlock_abi,
	};
	return seccomp_compile(&options, &sb->program, e);
}

/* As root a server can have a directory that its user cannot reach. Without packages it is a whole
 * server still. */
static void check_packages(struct sandbox *sb)
{
	const char *dir = sb->config.packages_dir;
	if (dir != NULL && access(dir, R_OK | X_OK) < 0) {
		log_event(LOG_LEVEL_WARNING, "packages_out_of_reach", LOG_STR("directory", dir),
		    LOG_STR("reason", strerrordesc_np(errno)));
		sb->config.packages_dir = NULL;
	}
}

static int enter_namespaces_level(struct sandbox *sb, struct err *e)
{
	if (identity_drop(sb->config.uid, sb->config.gid, e) < 0) {
		return -1;
	}
	check_packages(sb);
	if (userns_enter(e) < 0 || root_enter(&sb->config, e) < 0) {
		return -1;
	}
	if (sb->config.packages_dir != NULL && packages_hold(sb, e) < 0) {
		return -1;
	}
	/* A process without any capability may still make user namespaces, and is all-powerful
	 * within each new one; that is all a session's fork needs. */
	return caps_drop_all(e);
}

static int enter_landlock_level(
    struct sandbox *sb, const struct sandbox_config *config, struct err *e)
{
	if (sb->landlock_abi == 0) {
		return err_set(e, ERR_UNSUPPORTED, "this kernel has no Landlock");
	}
	if (workdir_open(config, &sb->work_fd, e) < 0 ||
	    identity_drop(sb->config.uid, sb->config.gid, e) < 0) {
		return -1;
	}
	check_packages(sb);
	/* So that what a session leaves behind becomes ours to reap, not the host's. */
	if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0) {
		return err_set_os(e, errno, "cannot become the sessions' reaper");
	}
	return caps_drop_all(e);
}

int sandbox_prepare(const struct sandbox_config *config, struct sandbox **out, struct err *e)
{
	struct sandbox *sb = calloc(1, sizeof(*sb));
	if (sb == NULL) {
		return err_set(e, ERR_INTERNAL, "out of memory");
	}
	sb->work_fd = -1;
	sb->session_fd = -1;
	sb->packages_user_fd = -1;
	sb->packages_mnt_fd = -1;
	sb->landlock_abi = landlock_abi();
	/* Not on kernels built without checkpoint and restore; the thread keeps its parent's number
	 * in libc then, which only recursive mutexes compare. */
	(void)prctl(PR_GET_TID_ADDRESS, &sb->tid_address, 0, 0, 0);
	int r = caps_check_single_thread(e);
	if (r == 0) {
		r = copy_config(sb, config, e);
	}
	if (r == 0) {
		r = compile_filter(sb, e);
	}
	if (r == 0) {
		r = cgroups_init(&sb->cgroups, config->cgroup_root, config->uid, config->gid, e);
	}
	if (r == 0) {
		r = limits_set_fixed(e);
	}
	if (r == 0) {
		sb->pids_by_cgroup = cgroups_have(&sb->cgroups, CGROUP_PIDS);
		r = config->level == SANDBOX_NAMESPACES ? enter_namespaces_level(sb, e)
							: enter_landlock_level(sb, config, e);
	}
	if (r < 0) {
		sandbox_free(sb);
		return -1;
	}
	*out = sb;
	return 0;
}

/* The trial's child: writes its error to FD, or nothing when every wall stands. */
static void trial_child(struct sandbox *sb, const struct sandbox_limits *limits, int fd)
{
	struct err e = {0};
	int data_fd = -1;
	if (sandbox_enter(sb, limits, SESSION_ID_TRIAL, &data_fd, &e) < 0 ||
	    sandbox_seal(sb, &e) < 0) {
		(void)fd_write_all(fd, e.text, strlen(e.text));
		_exit(1);
	}
	_exit(0);
}

static int trial_result(struct sandbox *sb, struct sandbox_child *child, int fd, struct err *e)
{
	cleanup(buf_fini) struct buf text = {.max = sizeof(e->text)};
	int r = fd_read_all(fd, &text);
	int status = 0;
	while (waitpid(child->pid, &status, 0) < 0 && errno == EINTR) {
	}
	sandbox_child_remove(sb, child);
	if (r == 0 && text.len == 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0) {
		return 0;
	}
	return err_set(e, ERR_UNSUPPORTED, "a session cannot be walled in here: %s",
	    text.len > 0 ? buf_str(&text) : "it died at its walls");
}

/* One whole session, walled in and sealed, before the first real one: what the host refuses is
 * known when the server starts, with its reason. */
static int run_trial(struct sandbox *sb, struct err *e)
{
	const struct sandbox_limits limits = {.memory_bytes = 64u << 20,
	    .file_space_bytes = 1u << 20,
	    .cpu_millis = 1000,
	    .pids = 8,
	    .open_files = 64};
	cleanup(fd_close) int read_fd = -1;
	cleanup(fd_close) int write_fd = -1;
	int fds[2];
	if (pipe2(fds, O_CLOEXEC) < 0) {
		return err_set_os(e, errno, "cannot make a pipe");
	}
	read_fd = fds[0];
	write_fd = fds[1];
	struct sandbox_child child = {0};
	pid_t pid = sandbox_fork(sb, &limits, SESSION_ID_TRIAL, &child, e);
	if (pid < 0) {
		return -1;
	}
	if (pid == 0) {
		trial_child(sb, &limits, write_fd);
	}
	fd_close(&write_fd);
	return trial_result(sb, &child, read_fd, e);
}

int sandbox_new(const struct sandbox_config *config, struct sandbox **out, struct err *e)
{
	struct sandbox *sb = NULL;
	if (sandbox_prepare(config, &sb, e) < 0) {
		return -1;
	}
	if (run_trial(sb, e) < 0) {
		sandbox_free(sb);
		return -1;
	}
	*out = sb;
	return 0;
}

void sandbox_free(struct sandbox *sb)
{
	if (sb == NULL) {
		return;
	}
	cgroups_fini(&sb->cgroups);
	seccomp_fini(&sb->program);
	fd_close(&sb->work_fd);
	fd_close(&sb->session_fd);
	fd_close(&sb->packages_user_fd);
	fd_close(&sb->packages_mnt_fd);
	for (size_t i = 0; i < array_len(sb->strings); i++) {
		text_free(&sb->strings[i]);
	}
	free(sb);
}

static bool at_landlock(const struct sandbox *sb)
{
	return sb->config.level == SANDBOX_LANDLOCK;
}

/* The child's first steps, before anybody may rely on it. Errors wait for sandbox_enter. */
static void start_child(struct sandbox *sb, uint64_t id)
{
	struct err *e = &sb->child_error;
	if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) < 0) {
		(void)err_set_os(e, errno, "cannot tie the session to its keeper");
		sb->child_failed = true;
		return;
	}
	/* A pid namespace does not stop kill(0, ...), nor priorities set for a whole group: both
	 * reach the caller's group, whoever else is in it. */
	if (setsid() < 0) {
		(void)err_set_os(e, errno, "cannot make a session and process group");
		sb->child_failed = true;
		return;
	}
	sb->child_failed = cgroups_join_v1(&sb->cgroups, id, e) < 0;
}

static int make_session(
    struct sandbox *sb, const struct sandbox_limits *limits, uint64_t id, int *v2_fd, struct err *e)
{
	if (at_landlock(sb) && workdir_add(sb->work_fd, id, e) < 0) {
		return -1;
	}
	if (cgroups_add(&sb->cgroups, id, limits, v2_fd, e) < 0) {
		if (at_landlock(sb)) {
			workdir_remove(sb->work_fd, id);
		}
		return -1;
	}
	return 0;
}

pid_t sandbox_fork(struct sandbox *sb, const struct sandbox_limits *limits, uint64_t id,
    struct sandbox_child *child, struct err *e)
{
	cleanup(fd_close) int v2_fd = -1;
	if (make_session(sb, limits, id, &v2_fd, e) < 0) {
		return -1;
	}
	unsigned long long flags = at_landlock(sb) ? 0 : sandbox_session_namespaces();
	pid_t pid = sandbox_clone(sb, flags, v2_fd);
	if (pid == 0) {
		start_child(sb, id);
		return 0;
	}
	child->pid = pid;
	child->id = id;
	if (pid < 0) {
		child->pid = 0;
		sandbox_child_remove(sb, child);
		return err_set_os(e, -pid, "cannot fork a session");
	}
	return pid;
}

static int enter_namespaces(struct sandbox *sb, const struct sandbox_limits *limits, struct err *e)
{
	if (userns_map(SESSION_UID, SESSION_UID, SESSION_GID, SESSION_GID, e) < 0) {
		return -1;
	}
	/* The first to be killed when the host itself runs out of memory; raising it is always
	 * allowed. */
	int r = fd_write_file(AT_FDCWD, "/proc/self/oom_score_adj", "800");
	if (r < 0) {
		return err_set_os(e, -r, "cannot set oom_score_adj");
	}
	/* Only here, inside its own groups: made at the fork it would show the keeper's. */
	if (unshare(CLONE_NEWCGROUP) < 0) {
		return err_set_os(e, errno, "cannot create a cgroup namespace");
	}
	if (mounts_add_files(limits->file_space_bytes, e) < 0 ||
	    mounts_add_proc(&sb->proc_kind, e) < 0 || net_loopback_up(e) < 0) {
		return -1;
	}
	if (sethostname(SESSION_HOSTNAME, strlen(SESSION_HOSTNAME)) < 0) {
		return err_set_os(e, errno, "cannot set the host name");
	}
	return chdir(SESSION_DATA) < 0 ? err_set_os(e, errno, "cannot go to " SESSION_DATA) : 0;
}

static int enter_landlock(struct sandbox *sb, uint64_t id, struct err *e)
{
	int r = fd_write_file(AT_FDCWD, "/proc/self/oom_score_adj", "800");
	if (r < 0) {
		return err_set_os(e, -r, "cannot set oom_score_adj");
	}
	sb->session_fd = workdir_open_session(sb->work_fd, id, e);
	fd_close(&sb->work_fd);
	if (sb->session_fd < 0) {
		return -1;
	}
	cleanup(fd_close) int data = openat(
	    sb->session_fd, "data", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (data < 0 || fchdir(data) < 0) {
		return err_set_os(e, errno, "cannot go to the session's directory");
	}
	seccomp_bind_pid(&sb->program, getpid());
	return 0;
}

int sandbox_enter(struct sandbox *sb, const struct sandbox_limits *limits, uint64_t id,
    int *data_dir_fd, struct err *e)
{
	cgroups_close(&sb->cgroups);
	fd_close(&sb->packages_user_fd);
	fd_close(&sb->packages_mnt_fd);
	if (sb->child_failed) {
		*e = sb->child_error;
		return -1;
	}
	int r = at_landlock(sb) ? enter_landlock(sb, id, e) : enter_namespaces(sb, limits, e);
	if (r < 0) {
		return -1;
	}
	sb->session_limits = *limits;
	(void)umask(0022);
	*data_dir_fd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return *data_dir_fd < 0 ? err_set_os(e, errno, "cannot open the session's directory") : 0;
}

int sandbox_seal(struct sandbox *sb, struct err *e)
{
	if (caps_check_single_thread(e) < 0 ||
	    limits_set(&sb->session_limits, sb->config.level, sb->pids_by_cgroup, e) < 0 ||
	    caps_drop_all(e) < 0) {
		return -1;
	}
	if (at_landlock(sb)) {
		if (landlock_restrict_host(sb->landlock_abi, &sb->config, sb->session_fd, e) < 0) {
			return -1;
		}
		fd_close(&sb->session_fd);
	} else if (sb->landlock_abi > 0 && landlock_restrict_root(sb->landlock_abi, e) < 0) {
		return -1;
	}
	return seccomp_install(&sb->program, e);
}

int sandbox_child_kill(struct sandbox *sb, const struct sandbox_child *child)
{
	if (child->pid <= 0) {
		return -ESRCH;
	}
	if (at_landlock(sb)) {
		/* Its group, which it has not made yet when it was forked just now. */
		(void)kill(-child->pid, SIGKILL);
		(void)cgroups_kill(&sb->cgroups, child->id);
	}
	/* The first process of a pid namespace takes all the others with it. */
	return kill(child->pid, SIGKILL) < 0 ? -errno : 0;
}

int sandbox_child_mount(
    struct sandbox *sb, struct sandbox_child *child, const char *name, struct err *e)
{
	if (sb->config.packages_dir == NULL) {
		return err_set(e, ERR_UNAVAILABLE, "this server has no directory of packages");
	}
	if (!text_is_hex(name, SANDBOX_PACKAGES_DIGITS)) {
		return err_set(e, ERR_INVALID, "that is no directory of packages");
	}
	if (child->mounts >= SANDBOX_MOUNTS_MAX) {
		return err_set(e, ERR_BUSY, "a session has at most %d directories of packages",
		    SANDBOX_MOUNTS_MAX);
	}
	if ((at_landlock(sb) ? packages_find(sb, name, e) : packages_mount(sb, child, name, e)) <
	    0) {
		return -1;
	}
	child->mounts++;
	return 0;
}

const char *sandbox_packages_dir(const struct sandbox *sb)
{
	if (sb->config.packages_dir == NULL) {
		return "";
	}
	return at_landlock(sb) ? sb->config.packages_dir : SESSION_PACKAGES;
}

void sandbox_child_usage(
    struct sandbox *sb, const struct sandbox_child *child, struct sandbox_usage *out)
{
	*out = (struct sandbox_usage){0};
	cgroups_usage(&sb->cgroups, child->id, out);
	if (out->cpu_us == 0) {
		out->cpu_us = cgroups_cpu_us(&sb->cgroups, child->id, child->pid);
	}
}

void sandbox_child_remove(struct sandbox *sb, const struct sandbox_child *child)
{
	cgroups_remove(&sb->cgroups, child->id);
	if (at_landlock(sb)) {
		workdir_remove(sb->work_fd, child->id);
	}
}
