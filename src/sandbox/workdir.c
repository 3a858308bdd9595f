/*
 * The sessions' directories where there is no mount namespace: <work_dir>/<id>/{data,tmp}.
 *
 * A session may leave anything there: a million files, directories within directories beyond any
 * path length, modes that let nobody in. Removal therefore goes by descriptors, never follows a
 * link, has a budget of entries a call, and cuts deep trees by moving their lower part up into the
 * trash.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "sandbox/walls.h"

#define TRASH "trash"
#define DEPTH_MAX 32
#define BUDGET_PER_CALL 20000
#define ID_BYTES WORKDIR_NAME_BYTES

struct removal {
	int trash_fd;
	int budget;
	pid_t pid;
};

static void close_dir(DIR **dir)
{
	if (*dir != NULL) {
		(void)closedir(*dir);
	}
}

static void name_of(char name[ID_BYTES], uint64_t id)
{
	(void)snprintf(name, ID_BYTES, "s%" PRIx64, id);
}

int workdir_open(const struct sandbox_config *config, int *fd, struct err *e)
{
	const char *path = config->work_dir;
	if (path == NULL) {
		return err_set(e, ERR_INVALID, "the landlock level needs a directory for sessions");
	}
	if (mkdir(path, 0700) < 0 && errno != EEXIST) {
		return err_set_os(e, errno, "cannot make %s", path);
	}
	cleanup(fd_close) int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (dir < 0) {
		return err_set_os(e, errno, "cannot open %s", path);
	}
	if (geteuid() == 0 && fchown(dir, config->uid, config->gid) < 0) {
		return err_set_os(e, errno, "cannot give %s to user %u", path, config->uid);
	}
	if (fchmod(dir, 0700) < 0) {
		return err_set_os(e, errno, "cannot close %s to others", path);
	}
	*fd = fd_take(&dir);
	return 0;
}

int workdir_add(int work_fd, uint64_t id, struct err *e)
{
	char name[ID_BYTES];
	name_of(name, id);
	/* A session is the same user and knows the path; Landlock does not keep it from chmod. */
	(void)fchmod(work_fd, 0700);
	if (mkdirat(work_fd, name, 0700) < 0) {
		return err_set_os(e, errno, "cannot make a directory for a session");
	}
	cleanup(fd_close) int dir = openat(work_fd, name, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0 || mkdirat(dir, "data", 0700) < 0 || mkdirat(dir, "tmp", 0700) < 0) {
		int failed = errno;
		workdir_remove(work_fd, id);
		return err_set_os(e, failed, "cannot make a session's directories");
	}
	return 0;
}

int workdir_open_session(int work_fd, uint64_t id, struct err *e)
{
	char name[ID_BYTES];
	name_of(name, id);
	int fd = openat(work_fd, name, O_PATH | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? err_set_os(e, errno, "cannot open a session's directory") : fd;
}

static int open_any_mode(int dir_fd, const char *name)
{
	const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	int fd = openat(dir_fd, name, flags);
	if (fd < 0 && errno == EACCES && fchmodat(dir_fd, name, 0700, 0) == 0) {
		fd = openat(dir_fd, name, flags);
	}
	return fd;
}

/* Counts up over the process's life, so that two trees in the trash never share a name. */
static unsigned next_number(void)
{
	static unsigned number;
	return number++;
}

static void remove_dir(struct removal *r, int dir_fd, const char *name, int depth);

static void remove_entry(struct removal *r, int dir_fd, const char *name, int depth)
{
	r->budget--;
	if (unlinkat(dir_fd, name, 0) == 0 || (errno != EISDIR && errno != EPERM)) {
		return;
	}
	if (depth < DEPTH_MAX) {
		remove_dir(r, dir_fd, name, depth + 1);
		return;
	}
	char moved[64];
	(void)snprintf(moved, sizeof(moved), "%d-%u", (int)r->pid, next_number());
	/* A directory's own mode counts when it gets another parent. */
	if (fchmodat(dir_fd, name, 0700, 0) == 0) {
		(void)renameat(dir_fd, name, r->trash_fd, moved);
	}
}

static void remove_dir(struct removal *r, int dir_fd, const char *name, int depth)
{
	int fd = open_any_mode(dir_fd, name);
	if (fd < 0) {
		return;
	}
	(void)fchmod(fd, 0700);
	cleanup(close_dir) DIR *dir = fdopendir(fd);
	if (dir == NULL) {
		(void)close(fd);
		return;
	}
	struct dirent *entry;
	while (r->budget > 0 && (entry = readdir(dir)) != NULL) {
		const char *n = entry->d_name;
		if (n[0] == '.' && (n[1] == '\0' || (n[1] == '.' && n[2] == '\0'))) {
			continue;
		}
		remove_entry(r, fd, n, depth);
	}
	(void)unlinkat(dir_fd, name, AT_REMOVEDIR);
}

void workdir_remove(int work_fd, uint64_t id)
{
	char name[ID_BYTES];
	char moved[64];
	name_of(name, id);
	/* Most commands leave nothing, and then there is nothing to move, nor left from before. */
	if (unlinkat(work_fd, name, AT_REMOVEDIR) == 0 &&
	    (unlinkat(work_fd, TRASH, AT_REMOVEDIR) == 0 || errno == ENOENT)) {
		return;
	}
	if (mkdirat(work_fd, TRASH, 0700) < 0 && errno != EEXIST) {
		return;
	}
	cleanup(fd_close) int trash = open_any_mode(work_fd, TRASH);
	if (trash < 0) {
		return;
	}
	pid_t pid = getpid();
	(void)snprintf(moved, sizeof(moved), "%d-%u", (int)pid, next_number());
	(void)renameat(work_fd, name, trash, moved);
	struct removal removal = {.trash_fd = trash, .budget = BUDGET_PER_CALL, .pid = pid};
	int listing = dup(trash);
	cleanup(close_dir) DIR *dir = listing < 0 ? NULL : fdopendir(listing);
	if (dir == NULL) {
		return;
	}
	rewinddir(dir);
	struct dirent *entry;
	while (removal.budget > 0 && (entry = readdir(dir)) != NULL) {
		if (entry->d_name[0] != '.') {
			remove_entry(&removal, trash, entry->d_name, 0);
		}
	}
}

int workdir_add_empty(int work_fd, uint64_t id, char name[WORKDIR_NAME_BYTES], struct err *e)
{
	name_of(name, id);
	(void)fchmod(work_fd, 0700);
	if (mkdirat(work_fd, name, 0700) < 0) {
		return err_set_os(e, errno, "cannot make a working directory");
	}
	int fd = openat(work_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	return fd < 0 ? err_set_os(e, errno, "cannot open a working directory") : fd;
}

/* Also one that nobody has reaped, as a process 1 that is a program of a container's own may leave
 * it for ever. */
static bool has_ended(pid_t pid)
{
	cleanup(fd_close) int fd = pidfd_open(pid, 0);
	struct pollfd p = {.fd = fd, .events = POLLIN};
	return fd < 0 ? errno == ESRCH : poll(&p, 1, 0) == 1;
}

static bool is_abandoned(const char *name, uint64_t *id)
{
	char *end;
	if (name[0] != 's') {
		return false;
	}
	errno = 0;
	*id = strtoull(name + 1, &end, 16);
	if (errno != 0 || *end != '\0' || *id >> 32 == 0) {
		return false;
	}
	return has_ended((pid_t)(*id >> 32));
}

void workdir_sweep(int work_fd)
{
	int listing = openat(work_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cleanup(close_dir) DIR *dir = listing < 0 ? NULL : fdopendir(listing);
	struct dirent *entry;
	uint64_t id;
	while (dir != NULL && (entry = readdir(dir)) != NULL) {
		if (is_abandoned(entry->d_name, &id)) {
			workdir_remove(work_fd, id);
		}
	}
}
