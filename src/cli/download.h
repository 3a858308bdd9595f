/*
 * download: where a file's bytes go, such that its final name never holds a part of it.
 *
 * Bytes go to a new file beside the final name, which takes that name only when all have come. A
 * destination that is not a regular file (a device, a pipe) is written to as it is, and so is "-",
 * stdout.
 */
#ifndef CLI_DOWNLOAD_H
#define CLI_DOWNLOAD_H

#include <limits.h>
#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"

struct download {
	int fd; /* written to; -1: nothing is open, or stdout */
	bool to_stdout;
	char final[PATH_MAX]; /* links followed */
	char part[PATH_MAX];  /* the file beside it; empty: there is none */
};

#define DOWNLOAD_NONE     \
	(struct download) \
	{                 \
		.fd = -1  \
	}

/* Opens what PATH needs. 0, or -1 with ERR_INTERNAL, or ERR_INVALID for a directory. */
int download_open(struct download *d, const char *path, struct err *e);

/* Gives the file its name. 0, or -1 with ERR_INTERNAL. */
int download_commit(struct download *d, struct err *e);

/* Closes, and removes what was not committed. */
void download_fini(struct download *d);

#endif
