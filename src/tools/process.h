/*
 * process: a walled command on the event loop: its pipes, its time, its end.
 *
 * Its output is kept up to a maximum, or handed on as it comes. Past the maximum it is killed: what
 * was kept counts, and is marked as cut. Its standard error is kept up to a maximum of its own, and
 * what is more is read and dropped.
 *
 * Invariants: DONE is called exactly once, unless process_cancel was called before, and never
 * before process_start returns; by then nothing of the command runs any more.
 */
#ifndef TOOLS_PROCESS_H
#define TOOLS_PROCESS_H

#include <jansson.h>
#include <stdbool.h>
#include <uv.h>

#include "base/buf.h"
#include "base/err.h"
#include "sandbox/command.h"

#define PROCESSES_MAX 256
#define PROCESS_MEMORY_FULL "killed, because the memory that all commands share was used up"

struct process;

struct process_end {
	int status;       /* as shells have it */
	bool timed_out;   /* ended because its time was up */
	bool cut;         /* ended because it said too much */
	bool memory_full; /* killed at the limit of memory of all commands together */
	const struct buf *out;
	const struct buf *err;
};

typedef void (*process_done_fn)(void *ctx, const struct process_end *end);
typedef void (*process_bytes_fn)(void *ctx, const char *bytes, size_t len);

/* All borrowed for the call. */
struct process_options {
	const json_t *words;       /* array of texts; the first is the program */
	const json_t *environment; /* {name: text}, added to PATH, LANG, HOME and TMPDIR */
	const json_t *read_paths;  /* array of texts, or NULL */
	const json_t *write_paths; /* the same */
	const char *directory;     /* NULL: its own */
	int data_dir_fd;           /* or -1 */
	uint64_t timeout_ms;       /* 0: none */
	size_t out_max_bytes;
	size_t err_max_bytes;
	uint64_t file_max_bytes; /* 0: the usual */
	bool input;              /* it has a standard input, for process_write */
	process_bytes_fn on_out; /* NULL: kept */
	process_bytes_fn on_err; /* NULL: kept */
	process_done_fn done;
	void *ctx;
};

/* NULL with E: ERR_NOT_FOUND, ERR_BUSY, ERR_INTERNAL. */
struct process *process_start(
    uv_loop_t *loop, struct command_walls *walls, const struct process_options *o, struct err *e);
/* Kills it; DONE is still called. */
void process_kill(struct process *p);
/* Kills it; DONE and the others are not called any more. NULL is allowed. */
void process_cancel(struct process *p);
/* Sends BYTES to its standard input. 0, or -ENOBUFS when too much waits already, or -EPIPE. */
int process_write(struct process *p, const char *bytes, size_t len);

/* How many there are. */
int process_count(void);

#endif
