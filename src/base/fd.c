#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

void fd_close(int *fd)
{
	if (*fd >= 0) {
		int saved = errno;
		(void)close(*fd);
		errno = saved;
	}
	*fd = -1;
}

int fd_take(int *fd)
{
	int taken = *fd;
	*fd = -1;
	return taken;
}

static int open_resolving(int dir_fd, const char *path, int flags, mode_t mode, uint64_t resolve)
{
	struct open_how how = {
	    .flags = (unsigned)(flags | O_CLOEXEC),
	    .mode = mode,
	    .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | resolve,
	};
	for (int tries = 0;; tries++) {
		long fd = syscall(
		    SYS_openat2, dir_fd, *path == '\0' ? "." : path, &how, sizeof(how));
		/* EAGAIN: something was renamed meanwhile and the kernel could not be sure. */
		if (fd >= 0 || (errno != EINTR && errno != EAGAIN) || tries == 8) {
			return fd >= 0 ? (int)fd : -errno;
		}
	}
}

int fd_open_beneath(int dir_fd, const char *path, int flags, mode_t mode)
{
	return open_resolving(
	    dir_fd, path, flags | O_NOFOLLOW, mode, RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV);
}

int fd_open_inside(int dir_fd, const char *path, int flags)
{
	return open_resolving(dir_fd, path, flags, 0, 0);
}

int fd_write_all(int fd, const void *bytes, size_t len)
{
	const char *at = bytes;
	while (len > 0) {
		ssize_t n = write(fd, at, len);
		if (n < 0) {
			if (errno == EINTR) {
				continue;
			}
			return -errno;
		}
		at += n;
		len -= (size_t)n;
	}
	return 0;
}

int fd_read_all(int fd, struct buf *out)
{
	for (;;) {
		char piece[16384];
		ssize_t n = read(fd, piece, sizeof(piece));
		if (n < 0) {
			if (errno == EINTR) {
				continue;
			}
			return -errno;
		}
		if (n == 0) {
			return 0;
		}
		int r = buf_add(out, piece, (size_t)n);
		if (r < 0) {
			return r;
		}
	}
}

int fd_read_file(int dir_fd, const char *path, struct buf *out)
{
	cleanup(fd_close) int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		return -errno;
	}
	return fd_read_all(fd, out);
}

int fd_write_file(int dir_fd, const char *path, const char *text)
{
	cleanup(fd_close) int fd = openat(dir_fd, path, O_WRONLY | O_CLOEXEC);
	if (fd < 0) {
		return -errno;
	}
	size_t len = strlen(text);
	ssize_t n = write(fd, text, len);
	if (n < 0) {
		return -errno;
	}
	return (size_t)n == len ? 0 : -EIO;
}

int fd_set_nonblocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
		return -errno;
	}
	return 0;
}

int fd_set_inherited(int fd)
{
	int flags = fcntl(fd, F_GETFD);
	if (flags < 0 || fcntl(fd, F_SETFD, flags & ~FD_CLOEXEC) < 0) {
		return -errno;
	}
	return 0;
}
