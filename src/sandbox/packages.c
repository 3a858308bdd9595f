/*
 * Directories of packages that reach sessions which run, without their state being lost.
 *
 * The keeper has one more mount namespace than it is in: as its own was when the directory of all
 * packages was still mounted in it, owned by a user namespace of its own. It is held by two
 * descriptors and no process. What sessions are cloned from has an empty directory at that place,
 * so that a session's namespace holds no trace of what was not mounted into it.
 *
 * To mount one, a child of the keeper's goes into the held namespace and takes a detached copy of
 * the directory; a second one goes into the session's and puts it there. Both share the keeper's
 * memory and descriptors and last for a few system calls, so that the image is not copied. The
 * keeper has no capability; as the owner of both user namespaces it may go into them and has every
 * capability in there (user_namespaces(7)), and comes back with none.
 *
 * The session is hostile and runs meanwhile. Its root is read-only, so it cannot put anything else
 * in the place of /mnt/packages; on that is a tmpfs, writable only while the mount point is made.
 * Where Landlock does not keep it from that too, it could make or move the mount point in those
 * microseconds, and would see its own packages at another name. It cannot see the children, which
 * are in the keeper's pid namespace.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/text.h"
#include "sandbox/walls.h"

#define STACK_BYTES 65536
#define READ_ONLY (MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)
#define MOUNT_POINTS_OPTIONS "mode=0755,size=64k,nr_inodes=128"

/* What a child is to do, and what came of it. */
struct job {
	int user_fd; /* where to: two namespaces, or the session's process */
	int mnt_fd;
	int pid_fd;
	const char *name;
	bool first; /* nothing has been mounted there before */
	int tree;   /* the detached copy */
	int failed; /* errno */
	const char *step;
};

static int fail(struct job *j, const char *step)
{
	j->failed = errno;
	j->step = step;
	return 1;
}

/* Runs FN in a child with the caller's memory and descriptors; the caller waits for its end. */
static int in_child(int (*fn)(void *), struct job *j, struct err *e)
{
	static _Alignas(16) char stack[STACK_BYTES]; /* one keeper, one thread */
	const int flags = CLONE_VM | CLONE_VFORK | CLONE_FILES | SIGCHLD;
	int status = 0;
	pid_t pid = clone(fn, stack + sizeof(stack), flags, j);
	if (pid < 0) {
		return err_set_os(e, errno, "cannot start a process to mount packages");
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
	}
	if (j->failed != 0) {
		return err_set_os(e, j->failed, "%s", j->step);
	}
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
		return err_set(e, ERR_INTERNAL, "the process that mounts packages died");
	}
	return 0;
}

/* --- in the held namespace ----------------------------------------------------------------------
 */

static int take_copy(void *arg)
{
	struct job *j = arg;
	if (setns(j->user_fd, CLONE_NEWUSER) < 0 || setns(j->mnt_fd, CLONE_NEWNS) < 0) {
		return fail(j, "cannot go where packages are");
	}
	cleanup(fd_close) int all = open(
	    SESSION_PACKAGES, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (all < 0) {
		return fail(j, "cannot open the directory of packages");
	}
	j->tree = open_tree(
	    all, j->name, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_SYMLINK_NOFOLLOW);
	struct mount_attr attr = {.attr_set = READ_ONLY};
	if (j->tree < 0 || mount_setattr(j->tree, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0) {
		return fail(j, "cannot take that directory of packages");
	}
	return 0;
}

/* --- in the session's ---------------------------------------------------------------------------
 */

static int set_writable(int fd, bool writable)
{
	struct mount_attr attr = {
	    .attr_set = writable ? 0 : MOUNT_ATTR_RDONLY,
	    .attr_clr = writable ? MOUNT_ATTR_RDONLY : 0,
	};
	return mount_setattr(fd, "", AT_EMPTY_PATH, &attr, sizeof(attr));
}

static int put_copy(void *arg)
{
	struct job *j = arg;
	if (setns(j->pid_fd, CLONE_NEWUSER | CLONE_NEWNS) < 0) {
		return fail(j, "cannot go into the session");
	}
	if (j->first && mount("carrel", SESSION_PACKAGES, "tmpfs", MS_NOSUID | MS_NODEV,
			    MOUNT_POINTS_OPTIONS) < 0) {
		return fail(j, "cannot mount " SESSION_PACKAGES);
	}
	cleanup(fd_close) int dir = open(
	    SESSION_PACKAGES, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0 || set_writable(dir, true) < 0) {
		return fail(j, "cannot open the session's " SESSION_PACKAGES);
	}
	int made = mkdirat(dir, j->name, 0755) < 0 && errno != EEXIST ? errno : 0;
	if (set_writable(dir, false) < 0) {
		return fail(j, "cannot close the session's " SESSION_PACKAGES);
	}
	if (made != 0) {
		errno = made;
		return fail(j, "cannot make a mount point for packages");
	}
	if (move_mount(j->tree, "", dir, j->name, MOVE_MOUNT_F_EMPTY_PATH) < 0) {
		return fail(j, "cannot mount packages");
	}
	return 0;
}

int packages_mount(struct sandbox *sb, struct sandbox_child *child, const char *name, struct err *e)
{
	cleanup(fd_close) int pid_fd = pidfd_open(child->pid, 0);
	if (pid_fd < 0) {
		return err_set_os(e, errno, "the session has ended");
	}
	struct job j = {
	    .user_fd = sb->packages_user_fd,
	    .mnt_fd = sb->packages_mnt_fd,
	    .pid_fd = pid_fd,
	    .name = name,
	    .first = child->mounts == 0,
	    .tree = -1,
	};
	int r = in_child(take_copy, &j, e);
	if (r == 0) {
		r = in_child(put_copy, &j, e);
	}
	fd_close(&j.tree);
	return r;
}

int packages_find(const struct sandbox *sb, const char *name, struct err *e)
{
	char path[PATH_MAX];
	struct stat st;
	int n = snprintf(path, sizeof(path), "%s/%s", sb->config.packages_dir, name);
	if (n >= (int)sizeof(path) || lstat(path, &st) < 0 || !S_ISDIR(st.st_mode)) {
		return err_set(e, ERR_NOT_FOUND, "there is no such directory of packages");
	}
	return 0;
}

/* --- the held namespace -------------------------------------------------------------------------
 */

static int open_namespace(pid_t pid, const char *kind, struct err *e)
{
	char path[64];
	(void)snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)pid, kind);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? err_set_os(e, errno, "cannot hold the namespace of packages") : fd;
}

int packages_hold(struct sandbox *sb, struct err *e)
{
	pid_t pid = sandbox_clone(sb, CLONE_NEWUSER | CLONE_NEWNS, -1);
	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
		for (;;) {
			(void)pause();
		}
	}
	if (pid < 0) {
		return err_set_os(e, -pid, "cannot make the namespace of packages");
	}
	sb->packages_user_fd = open_namespace(pid, "user", e);
	sb->packages_mnt_fd = sb->packages_user_fd < 0 ? -1 : open_namespace(pid, "mnt", e);
	(void)kill(pid, SIGKILL);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
	}
	if (sb->packages_mnt_fd < 0) {
		return -1;
	}
	return umount2(SESSION_PACKAGES, MNT_DETACH) < 0
		   ? err_set_os(e, errno, "cannot take packages out of the root")
		   : 0;
}
