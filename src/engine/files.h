/*
 * files: what clients do with a session's files, beneath a directory descriptor and without knowing
 * of sessions or HTTP.
 *
 * The directory's contents are the session's, which changes them at will and against us. So nothing
 * is ever opened by a path that could lead out: every step is openat2 with RESOLVE_BENEATH,
 * RESOLVE_NO_SYMLINKS, RESOLVE_NO_MAGICLINKS and RESOLVE_NO_XDEV, only regular files are read, no
 * open waits (a FIFO), and what is measured is measured on the opened file.
 *
 * Invariants: an upload is under its name only when it is complete; a path of a client has no "."
 * or
 * ".." segments; every listing is made in bounded steps.
 *
 * Errors: ERR_INVALID (name, path, not a regular file), ERR_NOT_FOUND, ERR_CONFLICT (a directory is
 * in the way), ERR_TOO_LARGE (the file; with os_errno ENOSPC or EDQUOT: no room), ERR_DENIED,
 * ERR_INTERNAL.
 */
#ifndef ENGINE_FILES_H
#define ENGINE_FILES_H

#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define FILES_ROOT "/mnt/data" /* what clients call the directory */
#define FILES_NAME_MAX 255
#define FILES_PATH_MAX 4095
#define FILES_DEPTH_MAX 64 /* segments of a path; levels of a recursive listing */
#define FILES_UPLOAD_PREFIX ".carrel-upload-" /* names of unfinished uploads; never listed */

/* A checked path beneath the directory: no leading or doubled slash; "" is the directory itself. */
struct files_path {
	char text[FILES_PATH_MAX + 1];
};

/* Adds TEXT to P (start with {{0}}). TEXT is relative, or absolute beneath /mnt/data, and then P
 * starts anew there. 0 or -1 with ERR_INVALID. */
int files_path_add(struct files_path *p, const char *text, struct err *e);

/* The name for an upload: 1 to 255 bytes of printable characters but '/'; not "." or "..". 0 or -1
 * with ERR_INVALID. (Azure documents fewer; code in the session may make more.) */
int files_name_check(const char *name, struct err *e);

struct files_entry {
	char name[FILES_NAME_MAX + 1];
	char directory[FILES_PATH_MAX + 1]; /* relative to what was listed, else to the root */
	bool is_directory;
	uint64_t size_bytes;
	int64_t modified_wall_us;
};

/* Opens a regular file for reading: 0 with *FD the caller's and *OUT filled, or -1. */
int files_open(
    int root_fd, const struct files_path *p, int *fd, struct files_entry *out, struct err *e);

/* What is at P, a regular file or a directory. 0 or -1. */
int files_stat(int root_fd, const struct files_path *p, struct files_entry *out, struct err *e);

/* Removes a file, or a directory that is empty (else ERR_CONFLICT). 0 or -1. */
int files_remove(int root_fd, const struct files_path *p, struct err *e);

/* --- uploads ------------------------------------------------------------------------------------
 */

struct files_upload {
	int dir_fd; /* -1: not begun, or over */
	int fd;
	uint64_t bytes;
	uint64_t max_bytes;
	char temporary[sizeof(FILES_UPLOAD_PREFIX) + 16];
	struct files_entry entry; /* filled by commit */
};

#define FILES_UPLOAD_INIT              \
	(struct files_upload)          \
	{                              \
		.dir_fd = -1, .fd = -1 \
	}

/* Makes the directories of DIRECTORY that are missing and a temporary file in it. U keeps nothing
 * of ROOT_FD. 0 or -1; after -1 U is as FILES_UPLOAD_INIT. */
int files_upload_begin(struct files_upload *u, int root_fd, const struct files_path *directory,
    const char *name, uint64_t max_bytes, struct err *e);
int files_upload_write(struct files_upload *u, const char *bytes, size_t len, struct err *e);
/* All bytes are there: moves the file over its name. U is over, whatever the outcome. */
int files_upload_commit(struct files_upload *u, struct err *e);
/* Removes the temporary file of one that is not over. NULL is allowed. */
void files_upload_abort(struct files_upload *u);

/* --- listings -----------------------------------------------------------------------------------
 */

/* A walk through a directory; depth first, in the order of the file system. Symbolic links, FIFOs,
 * sockets, devices and unfinished uploads are left out. */
struct files_walk {
	DIR *dirs[FILES_DEPTH_MAX];
	size_t path_len[FILES_DEPTH_MAX]; /* of the path of each */
	unsigned depth;
	bool recursive;
	char path[FILES_PATH_MAX + 1]; /* of the directory being read, relative to what is listed */
};

/* 0 or -1. W keeps nothing of ROOT_FD. */
int files_walk_init(
    struct files_walk *w, int root_fd, const struct files_path *p, bool recursive, struct err *e);
/* NULL is allowed, and one that is over. */
void files_walk_fini(struct files_walk *w);

/* 1 with an entry, 0 at the end, -EAGAIN when *BUDGET directory entries have been looked at. */
int files_walk_next(struct files_walk *w, unsigned *budget, struct files_entry *out);

#endif
