/*
 * kept: the files of a run that are to outlive it. Which those are says a glob: plain names with
 * '/' between, beneath /mnt/data, in which '*' stands for any characters but '/' and '?' for one.
 *
 * Reading blocks (the session's directory may be large) and is for a thread beside the loop. The
 * directory is the session's: engine/files.h says how it is read.
 */
#ifndef APPROVALS_KEPT_H
#define APPROVALS_KEPT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define KEPT_GLOBS_MAX 64
#define KEPT_GLOB_MAX_BYTES 1024
#define KEPT_FILES_MAX 256
#define KEPT_MAX_BYTES (16U << 20) /* of all files together */
#define KEPT_LOOKED_AT_MAX 200000U /* entries of the directory */

/* 0, or -1 with ERR_INVALID and what is wrong with it. */
int kept_glob_check(const char *glob, struct err *e);
/* NAME: a path relative to /mnt/data. Takes no more than their lengths multiplied. */
bool kept_glob_matches(const char *glob, const char *name);

/* What GLOBS (array of text) name beneath DIR_FD, borrowed: FILES gets {name, base64}, LIST gets
 * {name, size_bytes, sha256}, both new arrays sorted by name. 0, or -1 with E: ERR_TOO_LARGE past
 * the bounds above (then nothing is kept), ERR_INVALID for names that are not UTF-8. */
int kept_read(int dir_fd, const json_t *globs, json_t **files, json_t **list, struct err *e);

#endif
