/*
 * installer: puts packages of an index into directories that sessions get read-only.
 *
 * A directory is named by what was asked for: SHA-256 over the sorted requirement lines, Python's
 * version, the installer and where it installs from. It appears under its name whole and written to
 * the disk, and is never changed after that, so what is there after a restart is good; its time of
 * change is when it was used last. One that is there is not made again, so that an unpinned
 * requirement stays at the version that was newest when it was first asked for.
 *
 * Of a request, what Python's own packages here satisfy already is left out. The rest is installed
 * in one go, so that the installer can find versions that go together; when that fails, one by one,
 * so that one bad name does not take the others with it. A requirement whose installer failed is
 * reported as failed with the installer's last words, and is in no directory.
 *
 * Wheels only, unless the configuration allows builds: a source distribution runs code of its
 * author's at its installation, outside any session, with the network.
 *
 * This file knows steps and results. Whoever owns it runs its commands (struct installer_host).
 *
 * Bounds: INSTALLER_JOBS_MAX requests at once, INSTALLER_PACKAGES_MAX lines in one, a time for all
 * of a request's first attempt and the same again for one by one; of what a command prints, the
 * end.
 */
#ifndef TOOLS_INSTALLER_H
#define TOOLS_INSTALLER_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define INSTALLER_JOBS_MAX 8
#define INSTALLER_PACKAGES_MAX 256
#define INSTALLER_LINE_MAX 256          /* bytes of a requirement */
#define INSTALLER_NAME_BYTES 65         /* a directory's name with its NUL */
#define INSTALLER_OUTPUT_BYTES 16384    /* of a command's output: the end of it */
#define INSTALLER_REASON_MAX_BYTES 2000 /* of what a user is told of it */
#define INSTALLER_ARGUMENTS_MAX (INSTALLER_PACKAGES_MAX + 24)

/* A command as it is to be run. Borrowed for the call of start. */
struct installer_command {
	const char *const *argv;        /* argv[0] is an absolute path; ends with NULL */
	const char *const *environment; /* ends with NULL; the host may add HOME and TMPDIR */
	const char
	    *write_dir;      /* the one directory it writes in, beside its own working directory */
	uint32_t timeout_ms; /* then all of it is to be killed */
};

/* STATUS: the exit status as shells have it (128 + signal). OUTPUT: the last
 * INSTALLER_OUTPUT_BYTES of standard output and standard error together, NUL-terminated, borrowed.
 */
typedef void (*installer_ended_fn)(void *ctx, int status, bool timed_out, const char *output);

/* Who runs commands. */
struct installer_host {
	/* Starts one, with nothing on its standard input. ENDED is called once, later. NULL with E.
	 */
	void *(*start)(void *ctx, const struct installer_command *c, installer_ended_fn ended,
	    void *ended_ctx, struct err *e);
	/* Kills it; ENDED is not called. */
	void (*stop)(void *ctx, void *command);
	void *ctx;
};

struct installer;
struct installer_job;

/* The key `deps` of the runner's configuration: {installer: "pip" or "uv" or the path of an uv,
 * index_url, find_links, offline: bool, allow_build: bool, timeout_seconds, environment: {},
 * unused_days, size_max_bytes}, all optional; NULL: {}. DIRECTORY is where directories are made;
 * what an earlier process left unfinished there is removed when it can be. NULL with ERR_INVALID
 * and the key. */
struct installer *installer_new(
    const json_t *config, const char *directory, const struct installer_host *host, struct err *e);
/* Stops what runs, without telling. NULL is allowed. */
void installer_free(struct installer *in);

/* RESULT (borrowed): {"installed": [line], "already_present": [line], "failed": [{"package": line,
 * "reason"}], "directory": name or null}. With E instead: ERR_INVALID for lines that are none,
 * ERR_BUSY, ERR_INTERNAL. */
typedef void (*installer_done_fn)(void *ctx, const json_t *result, const struct err *e);

/* Installs PACKAGES, an array of checked requirement lines (borrowed). DONE is called exactly once,
 * perhaps before this returns, and then NULL is returned. */
struct installer_job *installer_start(
    struct installer *in, const json_t *packages, installer_done_fn done, void *ctx);
/* The same without installing: what is there of an earlier time, also when a line of PACKAGES
 * failed then. "directory" is null when there is none. */
struct installer_job *installer_find(
    struct installer *in, const json_t *packages, installer_done_fn done, void *ctx);
/* DONE will not be called; what runs for it is killed. */
void installer_cancel(struct installer_job *j);

struct installer_cleaning;

/* Removes directories not used for the configured time, and those not used the longest while all
 * are more bytes than configured; never one of IN_USE (array of names, borrowed; they count as used
 * now) or one used within two hours. RESULT: {"removed": number, "bytes": what is left}. ERR_BUSY
 * while another is at it. DONE as of installer_start. */
struct installer_cleaning *installer_clean(
    struct installer *in, const json_t *in_use, installer_done_fn done, void *ctx);
/* DONE will not be called. NULL is allowed. */
void installer_clean_cancel(struct installer_cleaning *k);

/* The name of the directory for COUNT lines, in any order. Returns OUT. */
char *installer_name(const struct installer *in, const char *const *lines, size_t count,
    char out[INSTALLER_NAME_BYTES]);

#endif
