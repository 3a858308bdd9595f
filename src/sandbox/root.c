/*
 * The read-only root. A small tmpfs holds the directories, and recursive read-only binds of the
 * host's own trees hang in it; nothing else of the host is there. It is built from an outer tmpfs
 * that has the host's root beneath /old and the new one beneath /new:
 *
 *     tmpfs on an existing directory -> pivot_root, so that all of the host is beneath /old
 *     build /new from /old           -> pivot_root again, and let go of /old
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/text.h"
#include "sandbox/host_paths.h"
#include "sandbox/walls.h"

#define OLD "/old"
#define NEW "/new"
#define ATTR_READ_ONLY (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)
/* What the keeper itself may write: its imports want a temporary directory. */
#define KEEPER_TMP_OPTIONS "mode=1777,size=64m,nr_inodes=8k"

static void close_dir(DIR **dir)
{
	if (*dir != NULL) {
		(void)closedir(*dir);
	}
}

static int join(char out[PATH_MAX], const char *top, const char *path, struct err *e)
{
	if (snprintf(out, PATH_MAX, "%s%s", top, path) >= PATH_MAX) {
		return err_set(e, ERR_INVALID, "the path %s is too long", path);
	}
	return 0;
}

static int make_dir(const char *path, mode_t mode, struct err *e)
{
	if (mkdir(path, mode) < 0 && errno != EEXIST) {
		return err_set_os(e, errno, "cannot make %s", path);
	}
	return 0;
}

/* Makes each directory of PATH (absolute) but its last part. */
static int make_parents(const char *path, struct err *e)
{
	char part[PATH_MAX];
	if (join(part, "", path, e) < 0) {
		return -1;
	}
	for (char *slash = strchr(part + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (make_dir(part, 0755, e) < 0) {
			return -1;
		}
		*slash = '/';
	}
	return 0;
}

static int make_file(const char *path, struct err *e)
{
	cleanup(fd_close) int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0444);
	return fd < 0 ? err_set_os(e, errno, "cannot make %s", path) : 0;
}

static int bind_restricted(
    const char *source, const char *target, bool is_dir, uint64_t attributes, struct err *e)
{
	if ((is_dir ? make_dir(target, 0755, e) : make_file(target, e)) < 0) {
		return -1;
	}
	if (mount(source, target, NULL, MS_BIND | (is_dir ? MS_REC : 0u), NULL) < 0) {
		return err_set_os(e, errno, "cannot show %s", source + strlen(OLD));
	}
	return mount_restrict(target, attributes, is_dir, e);
}

static int copy_symlink(const char *source, const char *target, struct err *e)
{
	char link[PATH_MAX];
	ssize_t n = readlink(source, link, sizeof(link) - 1);
	if (n < 0) {
		return err_set_os(e, errno, "cannot read the link %s", source + strlen(OLD));
	}
	link[n] = '\0';
	if (symlink(link, target) < 0) {
		return err_set_os(e, errno, "cannot make the link %s", target);
	}
	return 0;
}

/* Shows the host's PATH at the same place: a directory or a file as a read-only bind, a symbolic
 * link as the same link. What the host does not have is left out. */
static int show(const char *path, struct err *e)
{
	char source[PATH_MAX];
	char target[PATH_MAX];
	if (join(source, OLD, path, e) < 0 || join(target, NEW, path, e) < 0) {
		return -1;
	}
	struct stat st;
	if (lstat(source, &st) < 0) {
		return errno == ENOENT ? 0 : err_set_os(e, errno, "cannot look at %s", path);
	}
	if (make_parents(target, e) < 0) {
		return -1;
	}
	if (S_ISLNK(st.st_mode)) {
		return copy_symlink(source, target, e);
	}
	return bind_restricted(source, target, S_ISDIR(st.st_mode), ATTR_READ_ONLY, e);
}

/* Debian keeps what pip installed for everyone in /usr/local/lib/python3.N. */
static int show_local_python(struct err *e)
{
	cleanup(close_dir) DIR *dir = opendir(OLD HOST_LOCAL_LIB);
	if (dir == NULL) {
		return 0;
	}
	struct dirent *entry;
	while ((entry = readdir(dir)) != NULL) {
		char path[PATH_MAX];
		if (!text_has_prefix(entry->d_name, HOST_PYTHON_PREFIX)) {
			continue;
		}
		if (join(path, HOST_LOCAL_LIB "/", entry->d_name, e) < 0 || show(path, e) < 0) {
			return -1;
		}
	}
	return 0;
}

static int show_system(struct err *e)
{
	for (size_t i = 0; i < array_len(host_trees); i++) {
		if (show(host_trees[i], e) < 0) {
			return -1;
		}
	}
	return show_local_python(e);
}

/* A path of the configuration: SOURCE is where its links lead on the host. */
static int show_extra(const char *path, const char *resolved, struct err *e)
{
	char source[PATH_MAX];
	char target[PATH_MAX];
	if (join(source, OLD, resolved, e) < 0 || join(target, NEW, path, e) < 0) {
		return -1;
	}
	struct stat st;
	struct stat shown;
	if (stat(source, &st) < 0) {
		return err_set_os(e, errno, "cannot look at %s", path);
	}
	if (stat(target, &shown) == 0 && shown.st_dev == st.st_dev && shown.st_ino == st.st_ino) {
		return 0; /* within a tree that is there already */
	}
	if (make_parents(target, e) < 0) {
		return -1;
	}
	return bind_restricted(source, target, S_ISDIR(st.st_mode), ATTR_READ_ONLY, e);
}

static int check_extra(const char *path, struct err *e)
{
	static const char *const taken[] = {
	    "/proc", "/sys", "/dev", "/tmp", "/mnt/data", SESSION_PACKAGES, "/etc"};
	size_t len = strlen(path);
	if (path[0] != '/' || len < 2 || path[len - 1] == '/' || strstr(path, "//") != NULL ||
	    strstr(path, "/../") != NULL || text_has_suffix(path, "/..") ||
	    strstr(path, "/./") != NULL || text_has_suffix(path, "/.")) {
		return err_set(
		    e, ERR_INVALID, "\"%s\" is not a plain absolute path that can be shown", path);
	}
	for (size_t i = 0; i < array_len(taken); i++) {
		size_t n = strlen(taken[i]);
		if (strcmp(path, taken[i]) == 0 ||
		    (strcmp(taken[i], "/etc") != 0 && strncmp(path, taken[i], n) == 0 &&
			path[n] == '/')) {
			return err_set(e, ERR_INVALID,
			    "%s cannot be shown: sessions have a %s of their own", path, taken[i]);
		}
	}
	return 0;
}

struct extras {
	char *resolved[SANDBOX_PATHS_MAX];
	char *packages; /* NULL: none */
};

static void extras_fini(struct extras *x)
{
	for (int i = 0; i < SANDBOX_PATHS_MAX; i++) {
		text_free(&x->resolved[i]);
	}
	text_free(&x->packages);
}

static int extras_resolve(const struct sandbox_config *config, struct extras *x, struct err *e)
{
	if (config->read_only_path_count > SANDBOX_PATHS_MAX) {
		return err_set(e, ERR_INVALID, "more than %d paths to show", SANDBOX_PATHS_MAX);
	}
	for (int i = 0; i < config->read_only_path_count; i++) {
		const char *path = config->read_only_paths[i];
		if (check_extra(path, e) < 0) {
			return -1;
		}
		x->resolved[i] = realpath(path, NULL);
		if (x->resolved[i] == NULL) {
			return err_set_os(e, errno, "cannot show %s", path);
		}
	}
	if (config->packages_dir != NULL) {
		x->packages = realpath(config->packages_dir, NULL);
		if (x->packages == NULL) {
			return err_set_os(e, errno, "cannot find %s", config->packages_dir);
		}
	}
	return 0;
}

static int build_etc(struct err *e)
{
	cleanup(fd_close) int host = open(OLD "/etc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cleanup(fd_close) int ours = open(NEW "/etc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (host < 0 || ours < 0) {
		return err_set_os(e, errno, "cannot open /etc");
	}
	return etc_build(host, ours, e);
}

static int build_dev(struct err *e)
{
	static const char *const links[][2] = {
	    {"/proc/self/fd", NEW "/dev/fd"},
	    {"/proc/self/fd/0", NEW "/dev/stdin"},
	    {"/proc/self/fd/1", NEW "/dev/stdout"},
	    {"/proc/self/fd/2", NEW "/dev/stderr"},
	    {"/tmp", NEW "/dev/shm"},
	};
	for (size_t i = 0; i < array_len(host_devices); i++) {
		char source[PATH_MAX];
		char target[PATH_MAX];
		/* Not NODEV: these are to work as devices. */
		if (join(source, OLD, host_devices[i], e) < 0 ||
		    join(target, NEW, host_devices[i], e) < 0 ||
		    bind_restricted(source, target, false,
			MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC, e) < 0) {
			return -1;
		}
	}
	for (size_t i = 0; i < array_len(links); i++) {
		if (symlink(links[i][0], links[i][1]) < 0) {
			return err_set_os(e, errno, "cannot make %s", links[i][1]);
		}
	}
	return 0;
}

static int build_skeleton(struct err *e)
{
	static const char *const dirs[] = {
	    NEW "/usr",
	    NEW "/usr/local",
	    NEW "/usr/local/bin",
	    NEW "/usr/local/lib",
	    NEW "/etc",
	    NEW "/etc/ssl",
	    NEW "/dev",
	    NEW "/proc",
	    NEW "/sys",
	    NEW "/run",
	    NEW "/var",
	    NEW "/mnt",
	    NEW "/mnt/data",
	    NEW SESSION_PACKAGES,
	    NEW "/home",
	    NEW "/tmp",
	};
	for (size_t i = 0; i < array_len(dirs); i++) {
		if (make_dir(dirs[i], 0755, e) < 0) {
			return -1;
		}
	}
	/* What Debian calls python3 alone; first on PATH. */
	if (symlink("/usr/bin/python3", NEW "/usr/local/bin/python") < 0) {
		return err_set_os(e, errno, "cannot make /usr/local/bin/python");
	}
	return symlink("/tmp", NEW "/var/tmp") < 0 ? err_set_os(e, errno, "cannot make /var/tmp")
						   : 0;
}

/* The host's /proc stays mounted here, whole: the kernel lets a user namespace mount a fresh one
 * only where it can see one already (mount_too_revealing in fs/namespace.c). Sessions cover it with
 * their own, and cannot take that off again: they have no capability, and seccomp refuses them
 * umount. */
static int keep_proc(struct err *e)
{
	if (mount(OLD "/proc", NEW "/proc", NULL, MS_BIND | MS_REC, NULL) < 0) {
		return err_set_os(e, errno, "cannot keep /proc");
	}
	return 0;
}

/* For packages_hold, which takes them out again. */
static int show_packages(const struct extras *x, struct err *e)
{
	char source[PATH_MAX];
	if (x->packages == NULL) {
		return 0;
	}
	if (join(source, OLD, x->packages, e) < 0) {
		return -1;
	}
	return bind_restricted(source, NEW SESSION_PACKAGES, true, ATTR_READ_ONLY, e);
}

static int build(const struct sandbox_config *config, const struct extras *x, struct err *e)
{
	if (mount("carrel", NEW, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=16m,nr_inodes=8k") <
	    0) {
		return err_set_os(e, errno, "cannot mount the new root");
	}
	if (build_skeleton(e) < 0 || show_system(e) < 0 || build_etc(e) < 0 || build_dev(e) < 0) {
		return -1;
	}
	for (int i = 0; i < config->read_only_path_count; i++) {
		if (show_extra(config->read_only_paths[i], x->resolved[i], e) < 0) {
			return -1;
		}
	}
	if (show_packages(x, e) < 0) {
		return -1;
	}
	if (mount("tmpfs", NEW "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, KEEPER_TMP_OPTIONS) < 0) {
		return err_set_os(e, errno, "cannot mount /tmp");
	}
	if (keep_proc(e) < 0) {
		return -1;
	}
	return mount_restrict(NEW, ATTR_READ_ONLY, false, e);
}

/* Mounts the outer tmpfs over a directory every host has, and makes it the root. */
static int enter_outer(struct err *e)
{
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
		return err_set_os(e, errno, "cannot make the mounts private");
	}
	static const char *const places[] = {"/tmp", "/run", "/mnt", "/var"};
	const char *base = NULL;
	for (size_t i = 0; i < array_len(places) && base == NULL; i++) {
		if (mount("carrel", places[i], "tmpfs", MS_NOSUID | MS_NODEV,
			"mode=0755,size=1m") == 0) {
			base = places[i];
		} else if (errno != ENOENT && errno != ENOTDIR) {
			return err_set_os(e, errno, "cannot mount a tmpfs on %s", places[i]);
		}
	}
	if (base == NULL) {
		return err_set(e, ERR_UNSUPPORTED, "the host has no directory to build a root on");
	}
	if (chdir(base) < 0 || mkdir("old", 0755) < 0 || mkdir("new", 0755) < 0) {
		return err_set_os(e, errno, "cannot prepare the new root");
	}
	if (syscall(SYS_pivot_root, ".", "old") < 0) {
		return err_set_os(e, errno, "cannot change the root");
	}
	return chdir("/") < 0 ? err_set_os(e, errno, "cannot go to the root") : 0;
}

/* The old root is stacked upon the new one at "/" for a moment (pivot_root(2), last example). */
static int enter_built(struct err *e)
{
	if (chdir(NEW) < 0 || syscall(SYS_pivot_root, ".", ".") < 0) {
		return err_set_os(e, errno, "cannot go into the new root");
	}
	if (umount2(".", MNT_DETACH) < 0 || chdir("/") < 0) {
		return err_set_os(e, errno, "cannot let go of the old root");
	}
	return 0;
}

int root_enter(const struct sandbox_config *config, struct err *e)
{
	cleanup(extras_fini) struct extras extras = {0};
	if (extras_resolve(config, &extras, e) < 0) {
		return -1;
	}
	mode_t mask = umask(0022);
	int r = enter_outer(e);
	if (r == 0) {
		r = build(config, &extras, e);
	}
	if (r == 0) {
		r = enter_built(e);
	}
	(void)umask(mask);
	return r;
}
