/* What the files of the installer share with each other. */
#ifndef TOOLS_INSTALLER_INTERNAL_H
#define TOOLS_INSTALLER_INTERNAL_H

#include "base/buf.h"
#include "tools/installer.h"

#define INSTALLER_PYTHON "/usr/bin/python3"
#define INSTALLER_ENVIRONMENT_MAX 64

/* How to install, and from where. */
struct installer_config {
	char *uv; /* path of uv; NULL: pip */
	char *index_url;
	char *find_links;
	bool offline;
	bool allow_build;
	uint32_t timeout_ms;
	char *python; /* where INSTALLER_PYTHON leads: names its version */
	char *environment[INSTALLER_ENVIRONMENT_MAX + 1]; /* NAME=value; ends with NULL */
};

/* 0, or -1 with ERR_INVALID. C is to be freed either way. */
int installer_config_read(struct installer_config *c, const json_t *config, struct err *e);
void installer_config_fini(struct installer_config *c);

/* Arguments that borrow their texts. */
struct installer_argv {
	const char *list[INSTALLER_ARGUMENTS_MAX + 1];
	size_t count;
};

/* The installer for LINES into DIRECTORY. */
void installer_argv_installer(struct installer_argv *a, const struct installer_config *c,
    const char *directory, const char *const *lines, size_t count);
/* Python that prints, as a JSON array, those of LINES that are satisfied by what it has itself. */
void installer_argv_present(struct installer_argv *a, const char *const *lines, size_t count);
/* Takes away everybody's right to write beneath DIRECTORY. */
void installer_argv_close(struct installer_argv *a, const char *directory);
void installer_argv_remove(struct installer_argv *a, const char *directory);

/* Adds what a user is told of a command that failed: its last lines, without the index's
 * credentials. */
void installer_reason(const struct installer_config *c, int status, bool timed_out,
    const char *output, struct buf *out);

#define INSTALLER_UNFINISHED "unfinished-" /* names of directories that are being filled */
#define INSTALLER_PATH_BYTES 4096
#define INSTALLER_CLOSE_TIMEOUT_MS 60000

enum installer_line_state { LINE_WANTED, LINE_PRESENT, LINE_INSTALLED, LINE_FAILED };

struct installer_line {
	char *text;
	enum installer_line_state state;
	char *reason; /* of LINE_FAILED */
};

struct installer {
	struct installer_config config;
	struct installer_host host;
	char *directory;
	json_t *present; /* line: bool; what Python here has itself does not change */
	struct installer_job *jobs;
	unsigned job_count;
	unsigned next_number;
};

/* What a job's command is. */
enum installer_step { STEP_PRESENT, STEP_TOGETHER, STEP_ONE, STEP_CLOSE, STEP_REMOVE };

struct installer_job {
	struct installer *install;
	installer_done_fn done;
	void *done_ctx;
	enum installer_step step;
	void *command; /* of the host; NULL: none runs */
	struct installer_line *lines;
	size_t count;
	size_t at;                       /* STEP_ONE: which line */
	uint64_t started_ms;             /* of the first attempt, and again of the others */
	char path[INSTALLER_PATH_BYTES]; /* the directory that is being filled; "" none */
	char name[INSTALLER_NAME_BYTES]; /* what it will be called; "" nothing to show */
	struct installer_job *prev, *next;
};

/* Marks what Python has itself, or asks it, and goes on from there to the end of J. It may be over
 * before this returns. installer_steps.c */
void installer_job_begin(struct installer_job *j);
/* Takes J out of its installer and frees it; nothing of it runs any more. installer.c */
void installer_job_free(struct installer_job *j);

#endif
