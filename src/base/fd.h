/*
 * fd: file descriptors. Each one in this project is close-on-exec from birth; -1 means none.
 */
#ifndef BASE_FD_H
#define BASE_FD_H

#include <stddef.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/compiler.h"

/* Closes *FD if it is one, keeps errno, and leaves -1. For cleanup(). */
void fd_close(int *fd);

/* Takes the descriptor out of *FD, leaving -1. */
int fd_take(int *fd);

/* Opens PATH ("" is the directory itself) beneath DIR_FD, through no link and into no other file
 * system. A close-on-exec descriptor or -errno. */
int fd_open_beneath(int dir_fd, const char *path, int flags, mode_t mode);

/* The same for a directory whose owner may use links: they are followed as long as they stay
 * beneath DIR_FD (the volumes that orchestrators mount are made of such links). */
int fd_open_inside(int dir_fd, const char *path, int flags);

/* Writes all LEN bytes, through short writes and EINTR. 0 or -errno. For blocking descriptors. */
int fd_write_all(int fd, const void *bytes, size_t len);

/* Reads to the end of file into OUT, within its maximum. 0 or -errno (-EMSGSIZE past the maximum).
 */
int fd_read_all(int fd, struct buf *out);

/* Reads a whole file beneath DIR_FD (AT_FDCWD for a plain path). 0 or -errno. */
int fd_read_file(int dir_fd, const char *path, struct buf *out);

/* Writes TEXT in one write to an existing file, as kernel interfaces (cgroupfs, /proc) want. */
int fd_write_file(int dir_fd, const char *path, const char *text);

/* 0 or -errno. */
int fd_set_nonblocking(int fd);

/* Takes close-on-exec away, for the one descriptor a child is given. 0 or -errno. */
int fd_set_inherited(int fd);

#endif
