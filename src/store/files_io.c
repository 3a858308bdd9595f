/* Whole writes, locks and signatures of files. Without state, for any thread. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/text.h"
#include "store/files_internal.h"

#define TEMP_PREFIX ".carrel-"
#define LOCK_NAME ".carrel-lock"
#define TEMP_STALE_SECONDS 3600

struct fstore_signature fstore_signature_of(const struct stat *st)
{
	return (struct fstore_signature){
	    .dev = st->st_dev,
	    .ino = st->st_ino,
	    .size = st->st_size,
	    .mtime = st->st_mtim,
	    .ctime = st->st_ctim,
	};
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

bool fstore_signature_equal(const struct fstore_signature *a, const struct fstore_signature *b)
{
	return a->dev == b->dev && a->ino == b->ino && a->size == b->size &&
	       same_time(&a->mtime, &b->mtime) && same_time(&a->ctime, &b->ctime);
}

bool fstore_is_racy(const struct fstore_signature *s, int64_t now_us)
{
	int64_t at_us = (int64_t)s->ctime.tv_sec * 1000000 + s->ctime.tv_nsec / 1000;
	return at_us >= now_us - FSTORE_RACY_MS * 1000;
}

int fstore_error(struct err *e, int os_errno, const char *what)
{
	switch (os_errno) {
	case ENOENT:
	case ESTALE:
		(void)err_set(e, ERR_UNAVAILABLE, "the store's directory is gone");
		break;
	case ENOSPC:
	case EDQUOT:
		(void)err_set(e, ERR_TOO_LARGE, "the store has no room left");
		break;
	case EFBIG:
	case EMSGSIZE:
		(void)err_set(e, ERR_TOO_LARGE, "%s is too large", what);
		break;
	case EROFS:
	case EACCES:
	case EPERM:
		(void)err_set(e, ERR_UNAVAILABLE, "the server may not change the store: %s", what);
		break;
	case ENAMETOOLONG:
		(void)err_set(e, ERR_INVALID, "%s: the name is too long", what);
		break;
	case EISDIR:
	case EEXIST:
	case ENOTEMPTY:
		(void)err_set(e, ERR_INVALID, "%s: there is a directory of that name", what);
		break;
	case ENOTDIR:
		(void)err_set(
		    e, ERR_INVALID, "%s: a part of the name is a file, not a directory", what);
		break;
	case ELOOP:
	case EXDEV:
		(void)err_set(e, ERR_INVALID, "%s: links are not followed", what);
		break;
	case ETIMEDOUT:
		(void)err_set(e, ERR_UNAVAILABLE,
		    "another process has held the store's lock for %d seconds",
		    FSTORE_LOCK_WAIT_MS / 1000);
		break;
	default:
		return err_set_os(e, os_errno, "%s", what);
	}
	if (e != NULL) {
		e->os_errno = os_errno;
	}
	return -1;
}

int fstore_temp_open(int dir_fd, char name[FSTORE_TEMP_BYTES])
{
	char guid[TEXT_GUID_BYTES];
	(void)snprintf(name, FSTORE_TEMP_BYTES, TEMP_PREFIX "%.8s%.4s", text_guid(guid), guid + 9);
	return fd_open_beneath(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL, 0666);
}

int fstore_temp_write(int dir_fd, const char *bytes, size_t len, char name[FSTORE_TEMP_BYTES])
{
	cleanup(fd_close) int fd = fstore_temp_open(dir_fd, name);
	if (fd < 0) {
		return fd;
	}
	int r = fd_write_all(fd, bytes, len);
	if (r == 0 && fsync(fd) < 0) {
		r = -errno;
	}
	if (r < 0) {
		(void)unlinkat(dir_fd, name, 0);
	}
	return r;
}

static void sweep_one(int dir_fd, const char *name, time_t now)
{
	struct stat st;
	if (text_has_prefix(name, TEMP_PREFIX) && strcmp(name, LOCK_NAME) != 0 &&
	    fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
	    st.st_mtim.tv_sec < now - TEMP_STALE_SECONDS) {
		(void)unlinkat(dir_fd, name, 0);
	}
}

void fstore_temp_sweep(int dir_fd)
{
	int fd = fd_open_beneath(dir_fd, "", O_RDONLY | O_DIRECTORY, 0);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	if (dir == NULL) {
		fd_close(&fd);
		return;
	}
	time_t now = (time_t)(clock_wall_us() / 1000000);
	for (const struct dirent *d; (d = readdir(dir)) != NULL;) {
		sweep_one(dir_fd, d->d_name, now);
	}
	(void)closedir(dir);
}

int fstore_flush_above(int dir_fd, unsigned levels)
{
	cleanup(fd_close) int dir = fcntl(dir_fd, F_DUPFD_CLOEXEC, 3);
	while (dir >= 0 && levels-- > 0) {
		int above = openat(dir, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		fd_close(&dir);
		dir = above;
		if (dir >= 0 && fsync(dir) < 0) {
			return -errno;
		}
	}
	return dir < 0 ? -errno : 0;
}

int fstore_make_directories(int dir_fd, const char *path, size_t len, bool *made)
{
	int dir = fd_open_beneath(dir_fd, "", O_RDONLY | O_DIRECTORY, 0);
	const char *end = path + len;
	while (dir >= 0 && path < end) {
		char segment[256];
		size_t n = strcspn(path, "/");
		n = n > (size_t)(end - path) ? (size_t)(end - path) : n;
		if (n >= sizeof(segment)) {
			(void)close(dir);
			return -ENAMETOOLONG;
		}
		(void)snprintf(segment, sizeof(segment), "%.*s", (int)n, path);
		bool new = mkdirat(dir, segment, 0777) == 0;
		bool there = new || errno == EEXIST;
		*made = *made || new;
		int next = there ? fd_open_beneath(dir, segment, O_RDONLY | O_DIRECTORY, 0)
				 : -errno;
		(void)close(dir);
		dir = next;
		path += n + (path + n < end);
	}
	return dir;
}

int fstore_lock(int dir_fd)
{
	cleanup(fd_close) int fd = fd_open_beneath(dir_fd, LOCK_NAME, O_RDWR | O_CREAT, 0666);
	if (fd < 0) {
		return fd;
	}
	uint64_t deadline_ms = clock_mono_ms() + FSTORE_LOCK_WAIT_MS;
	struct timespec pause = {.tv_nsec = 200000};
	while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK && errno != EINTR) {
			return -errno;
		}
		if (clock_mono_ms() >= deadline_ms) {
			return -ETIMEDOUT;
		}
		(void)nanosleep(&pause, NULL);
		pause.tv_nsec = pause.tv_nsec < 10000000 ? pause.tv_nsec * 2 : pause.tv_nsec;
	}
	return fd_take(&fd);
}

int fstore_read(int dir_fd, const char *path, int flags, struct buf *out)
{
	int how = O_RDONLY | O_NONBLOCK | O_NOCTTY;
	cleanup(fd_close) int fd = (flags & FSTORE_LINKS) != 0
				       ? fd_open_inside(dir_fd, path, how)
				       : fd_open_beneath(dir_fd, path, how, 0);
	if (fd < 0) {
		return fd;
	}
	struct stat st;
	if (fstat(fd, &st) < 0) {
		return -errno;
	}
	if (!S_ISREG(st.st_mode)) {
		return -ENOENT;
	}
	if ((uint64_t)st.st_size > out->max) {
		return -EMSGSIZE;
	}
	return fd_read_all(fd, out);
}
