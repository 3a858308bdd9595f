/*
 * Landlock: access to files by path, whatever the mounts say; and no signals or abstract sockets
 * out of the session. The kernel is told only of rights its version knows. Debian 12's header stops
 * at version 2, so the later bits are spelt here (include/uapi/linux/landlock.h of Linux 6.12).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <linux/landlock.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/text.h"
#include "sandbox/host_paths.h"
#include "sandbox/walls.h"

#define FS_REFER (1ULL << 13)     /* version 2 */
#define FS_TRUNCATE (1ULL << 14)  /* version 3 */
#define FS_IOCTL_DEV (1ULL << 15) /* version 5 */
#define FS_VERSION_1 ((1ULL << 13) - 1)
#define NET_ALL 3ULL   /* version 4: bind and connect TCP */
#define SCOPE_ALL 3ULL /* version 6: abstract unix sockets, signals */
#define ABI_SCOPE 6
#define ABI_TRUNCATE 3

#define FS_READ \
	(LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_EXECUTE)
#define FS_DEVICE \
	(LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | FS_TRUNCATE | FS_IOCTL_DEV)
#define FS_ON_FILES                                                     \
	(LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | \
	    LANDLOCK_ACCESS_FS_EXECUTE | FS_TRUNCATE | FS_IOCTL_DEV)
#define FS_OWN \
	(~(uint64_t)(LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_BLOCK | FS_IOCTL_DEV))

/* The whole of struct landlock_ruleset_attr as of version 6; older kernels take it with zeros. */
struct ruleset_attr {
	uint64_t handled_access_fs;
	uint64_t handled_access_net;
	uint64_t scoped;
};

struct ruleset {
	int fd;
	uint64_t handled; /* file rights; a rule may not name others */
};

int landlock_abi(void)
{
	long r = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	return r < 0 ? 0 : (int)r;
}

bool landlock_abi_scopes_signals(int abi)
{
	return abi >= ABI_SCOPE;
}

bool landlock_abi_covers_truncate(int abi)
{
	return abi >= ABI_TRUNCATE;
}

static uint64_t file_rights(int abi)
{
	uint64_t rights = FS_VERSION_1;
	rights |= abi >= 2 ? FS_REFER : 0;
	rights |= landlock_abi_covers_truncate(abi) ? FS_TRUNCATE : 0;
	rights |= abi >= 5 ? FS_IOCTL_DEV : 0;
	return rights;
}

static void ruleset_fini(struct ruleset *rules)
{
	fd_close(&rules->fd);
}

static int ruleset_init(struct ruleset *rules, int abi, bool network, struct err *e)
{
	const struct ruleset_attr attr = {
	    .handled_access_fs = file_rights(abi),
	    .handled_access_net = network && abi >= 4 ? NET_ALL : 0,
	    .scoped = landlock_abi_scopes_signals(abi) ? SCOPE_ALL : 0,
	};
	rules->handled = attr.handled_access_fs;
	rules->fd = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
	return rules->fd < 0 ? err_set_os(e, errno, "cannot make a Landlock ruleset") : 0;
}

/* What of RIGHTS there is for what FD is. 0 or -1. */
static int fit_rights(int fd, uint64_t *rights, struct err *e)
{
	struct stat st;
	if (fstat(fd, &st) < 0) {
		return err_set_os(e, errno, "cannot look at a path for Landlock");
	}
	*rights &= S_ISDIR(st.st_mode) ? ~0ULL : FS_ON_FILES;
	return 0;
}

/* RIGHTS: none that FD cannot have. */
static int add_rule(const struct ruleset *rules, int fd, uint64_t rights, struct err *e)
{
	const struct landlock_path_beneath_attr rule = {
	    .allowed_access = rights & rules->handled,
	    .parent_fd = fd,
	};
	if (syscall(SYS_landlock_add_rule, rules->fd, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0) {
		return err_set_os(e, errno, "cannot add a Landlock rule");
	}
	return 0;
}

static int allow_fd(const struct ruleset *rules, int fd, uint64_t rights, struct err *e)
{
	return fit_rights(fd, &rights, e) < 0 ? -1 : add_rule(rules, fd, rights, e);
}

/* What does not exist needs no rule; what we may not reach, the session may not either. */
static int allow_at(
    const struct ruleset *rules, int dir_fd, const char *path, uint64_t rights, struct err *e)
{
	cleanup(fd_close) int fd = openat(dir_fd, path, O_PATH | O_CLOEXEC);
	if (fd < 0) {
		return errno == ENOENT || errno == EACCES
			   ? 0
			   : err_set_os(e, errno, "cannot open %s for Landlock", path);
	}
	return allow_fd(rules, fd, rights, e);
}

static int allow_devices(const struct ruleset *rules, struct err *e)
{
	for (size_t i = 0; i < array_len(host_devices); i++) {
		if (allow_at(rules, AT_FDCWD, host_devices[i], FS_DEVICE, e) < 0) {
			return -1;
		}
	}
	return 0;
}

static int restrict_self(const struct ruleset *rules, struct err *e)
{
	if (syscall(SYS_landlock_restrict_self, rules->fd, 0) < 0) {
		return err_set_os(e, errno, "cannot enforce Landlock");
	}
	return 0;
}

int landlock_restrict_root(int abi, struct err *e)
{
	cleanup(ruleset_fini) struct ruleset rules = {.fd = -1};
	/* The network namespace has nothing but the session's own loopback. */
	if (ruleset_init(&rules, abi, false, e) < 0 ||
	    allow_at(&rules, AT_FDCWD, "/", FS_READ, e) < 0 ||
	    allow_at(&rules, AT_FDCWD, SESSION_TMP, FS_OWN, e) < 0 ||
	    allow_at(&rules, AT_FDCWD, SESSION_DATA, FS_OWN, e) < 0 ||
	    allow_at(&rules, AT_FDCWD, "/dev", FS_DEVICE, e) < 0) {
		return -1;
	}
	return restrict_self(&rules, e);
}

static void close_dir(DIR **dir)
{
	if (*dir != NULL) {
		(void)closedir(*dir);
	}
}

/* The entries of TOP that start with python3. */
static int allow_pythons(const struct ruleset *rules, const char *top, struct err *e)
{
	cleanup(close_dir) DIR *dir = opendir(top);
	if (dir == NULL) {
		return 0;
	}
	struct dirent *entry;
	while ((entry = readdir(dir)) != NULL) {
		if (text_has_prefix(entry->d_name, HOST_PYTHON_PREFIX) &&
		    allow_at(rules, dirfd(dir), entry->d_name, FS_READ, e) < 0) {
			return -1;
		}
	}
	return 0;
}

static int allow_etc(const struct ruleset *rules, struct err *e)
{
	static const char *const more[] = {
	    "passwd", "group", "hostname", "hosts", "nsswitch.conf", "localtime", "os-release"};
	cleanup(fd_close) int etc = open("/etc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (etc < 0) {
		return err_set_os(e, errno, "cannot open /etc for Landlock");
	}
	for (size_t i = 0; i < array_len(host_etc_files); i++) {
		if (allow_at(rules, etc, host_etc_files[i], FS_READ, e) < 0) {
			return -1;
		}
	}
	for (size_t i = 0; i < array_len(more); i++) {
		if (allow_at(rules, etc, more[i], FS_READ, e) < 0) {
			return -1;
		}
	}
	return allow_pythons(rules, "/etc", e);
}

static int allow_host(
    const struct ruleset *rules, const struct sandbox_config *config, struct err *e)
{
	for (size_t i = 0; i < array_len(host_trees); i++) {
		if (allow_at(rules, AT_FDCWD, host_trees[i], FS_READ, e) < 0) {
			return -1;
		}
	}
	for (int i = 0; i < config->read_only_path_count; i++) {
		if (allow_at(rules, AT_FDCWD, config->read_only_paths[i], FS_READ, e) < 0) {
			return -1;
		}
	}
	if (config->packages_dir != NULL &&
	    allow_at(rules, AT_FDCWD, config->packages_dir, FS_READ, e) < 0) {
		return -1;
	}
	if (allow_pythons(rules, HOST_LOCAL_LIB, e) < 0 || allow_etc(rules, e) < 0) {
		return -1;
	}
	return allow_devices(rules, e);
}

/* What a process may read of itself. Not all of /proc/self: its net and mountinfo are the host's
 * here, and those of its threads in task. Not other directories of /proc: the keeper and the other
 * sessions have the same user. */
static int allow_own_proc(const struct ruleset *rules, struct err *e)
{
	static const char *const names[] = {"auxv", "cgroup", "cmdline", "comm", "environ", "fd",
	    "fdinfo", "io", "limits", "maps", "mem", "oom_score", "oom_score_adj", "smaps",
	    "smaps_rollup", "stat", "statm", "status"};
	cleanup(fd_close) int self = open("/proc/self", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (self < 0) {
		return errno == ENOENT ? 0 : err_set_os(e, errno, "cannot open /proc/self");
	}
	for (size_t i = 0; i < array_len(names); i++) {
		const uint64_t rights = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
		if (allow_at(rules, self, names[i], rights, e) < 0) {
			return -1;
		}
	}
	return 0;
}

int landlock_restrict_host(
    int abi, const struct sandbox_config *config, int session_dir_fd, struct err *e)
{
	cleanup(ruleset_fini) struct ruleset rules = {.fd = -1};
	if (ruleset_init(&rules, abi, true, e) < 0 || allow_host(&rules, config, e) < 0) {
		return -1;
	}
	if (allow_own_proc(&rules, e) < 0 ||
	    allow_at(&rules, session_dir_fd, "data", FS_OWN, e) < 0 ||
	    allow_at(&rules, session_dir_fd, "tmp", FS_OWN, e) < 0) {
		return -1;
	}
	return restrict_self(&rules, e);
}

/* --- commands outside sessions (sandbox/command.h)
 * ----------------------------------------------------------------
 */

static int open_path(struct landlock_paths *p, const char *path, uint64_t rights, struct err *e)
{
	int fd = open(path, O_PATH | O_CLOEXEC);
	if (fd < 0) {
		return 0; /* what is not there needs no rule */
	}
	if (p->count == LANDLOCK_PATHS_MAX) {
		fd_close(&fd);
		return err_set(e, ERR_INTERNAL, "too many paths for Landlock");
	}
	if (fit_rights(fd, &rights, e) < 0) {
		fd_close(&fd);
		return -1;
	}
	p->fds[p->count] = fd;
	p->rights[p->count++] = rights;
	return 0;
}

static int open_pythons(struct landlock_paths *p, struct err *e)
{
	glob_t found;
	int r = 0;
	if (glob("/etc/" HOST_PYTHON_PREFIX "*", 0, NULL, &found) == 0) {
		for (size_t i = 0; r == 0 && i < found.gl_pathc; i++) {
			r = open_path(p, found.gl_pathv[i], FS_READ, e);
		}
		globfree(&found);
	}
	return r;
}

int landlock_command_paths(struct landlock_paths *p, struct err *e)
{
	for (size_t i = 0; i < array_len(host_trees); i++) {
		/* Those beneath /usr are there with it. */
		if (!text_has_prefix(host_trees[i], "/usr/") &&
		    open_path(p, host_trees[i], FS_READ, e) < 0) {
			return -1;
		}
	}
	for (size_t i = 0; i < array_len(command_trees); i++) {
		if (open_path(p, command_trees[i], FS_READ, e) < 0) {
			return -1;
		}
	}
	for (size_t i = 0; i < array_len(host_etc_files); i++) {
		char path[64];
		(void)snprintf(path, sizeof(path), "/etc/%s", host_etc_files[i]);
		if (open_path(p, path, FS_READ, e) < 0) {
			return -1;
		}
	}
	for (size_t i = 0; i < array_len(host_devices); i++) {
		if (open_path(p, host_devices[i], FS_DEVICE, e) < 0) {
			return -1;
		}
	}
	return open_pythons(p, e);
}

void landlock_paths_fini(struct landlock_paths *p)
{
	for (int i = 0; i < p->count; i++) {
		fd_close(&p->fds[i]);
	}
	p->count = 0;
}

static int allow_all(const struct ruleset *rules, const char *const *paths, size_t count,
    uint64_t rights, struct err *e)
{
	for (size_t i = 0; i < count; i++) {
		if (allow_at(rules, AT_FDCWD, paths[i], rights, e) < 0) {
			return -1;
		}
	}
	return 0;
}

int landlock_command_ruleset(
    int abi, const struct landlock_paths *paths, int home_fd, struct err *e)
{
	cleanup(ruleset_fini) struct ruleset rules = {.fd = -1};
	if (ruleset_init(&rules, abi, false, e) < 0) {
		return -1;
	}
	for (int i = 0; i < paths->count; i++) {
		if (add_rule(&rules, paths->fds[i], paths->rights[i], e) < 0) {
			return -1;
		}
	}
	return add_rule(&rules, home_fd, FS_OWN, e) < 0 ? -1 : fd_take(&rules.fd);
}

int landlock_command_allow(int abi, int ruleset_fd, const struct command *what, struct err *e)
{
	const struct ruleset rules = {.fd = ruleset_fd, .handled = file_rights(abi)};
	if (allow_at(&rules, AT_FDCWD, what->path, FS_READ, e) < 0 ||
	    allow_all(&rules, what->read_paths, what->read_path_count, FS_READ, e) < 0 ||
	    allow_all(&rules, what->write_paths, what->write_path_count, FS_OWN, e) < 0) {
		return -1;
	}
	if (what->directory != NULL &&
	    allow_at(&rules, AT_FDCWD, what->directory, FS_READ, e) < 0) {
		return -1;
	}
	const uint64_t data = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
	return what->data_dir_fd >= 0 ? allow_fd(&rules, what->data_dir_fd, data, e) : 0;
}

int landlock_command_allow_self(int abi, int ruleset_fd, struct err *e)
{
	const struct ruleset rules = {.fd = ruleset_fd, .handled = file_rights(abi)};
	const uint64_t own = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
	return allow_at(&rules, AT_FDCWD, "/proc/self", own, e);
}

int landlock_command_enforce(int ruleset_fd, struct err *e)
{
	const struct ruleset rules = {.fd = ruleset_fd};
	return restrict_self(&rules, e);
}

int landlock_restrict_runner(int abi, const char *work_dir, struct err *e)
{
	cleanup(ruleset_fini) struct ruleset rules = {.fd = -1};
	const uint64_t proc = FS_READ | LANDLOCK_ACCESS_FS_WRITE_FILE |
			      FS_TRUNCATE; /* maps of namespaces */
	if (ruleset_init(&rules, abi, false, e) < 0 ||
	    allow_at(&rules, AT_FDCWD, "/", FS_READ, e) < 0 ||
	    allow_at(&rules, AT_FDCWD, "/proc", proc, e) < 0 ||
	    allow_at(&rules, AT_FDCWD, work_dir, FS_OWN, e) < 0 || allow_devices(&rules, e) < 0) {
		return -1;
	}
	return restrict_self(&rules, e);
}
