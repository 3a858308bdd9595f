/*
 * output: what the client commands write, to people and to programs.
 *
 * Text on a terminal is made harmless first (see cli/terminal.h); elsewhere bytes pass as they are.
 * With -o json, stdout carries one JSON document and nothing else. Notes go to stderr as
 * "carrel: ...". Nothing is buffered, so that stdout and stderr keep their order.
 */
#ifndef CLI_OUTPUT_H
#define CLI_OUTPUT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "cli/client.h"
#include "cli/terminal.h"

struct output {
	bool json;
	bool terminal[3]; /* by descriptor: 1 and 2 */
	bool together;    /* both lead to the same file */
	struct terminal_filter filter[3];
	bool mid_line[3]; /* the last byte written was not a line end */
};

void output_init(struct output *o, bool json);

/* Writes to FD, 1 or 2. 0, or -1 with ERR_INTERNAL. */
int output_bytes(struct output *o, int fd, const char *bytes, size_t len, struct err *e);
int output_linef(struct output *o, const char *fmt, ...) printf_like(2, 3);

/* Shows what a piece cut in the middle of a character left behind. Call it after the last piece. */
void output_bytes_end(struct output *o, int fd);

/* Starts a new line on FD where the last one was not ended, if FD is a terminal. */
void output_fresh_line(struct output *o, int fd);

/* "carrel: ..." and a line end on stderr, on a line of its own. Control characters are always
 * escaped. */
void output_note(struct output *o, const char *fmt, ...) printf_like(2, 3);

/* One JSON document on stdout. 0, or -1 with ERR_INTERNAL. */
int output_json(struct output *o, const json_t *value, struct err *e);
/* The same for one that is text already and known to be JSON. */
int output_json_text(struct output *o, const char *text, size_t len, struct err *e);

/* Tells a failure as a note and, with -o json, as {"error":{"code","message","httpStatus"}}. C may
 * be NULL. Returns command_exit_of(E). */
int output_failure(struct output *o, const struct client *c, const struct err *e);

/* --- a progress bar on stderr, when that is a terminal and the output is for people --- */

struct progress {
	bool on;
	bool drawn;
	const char *name;
	uint64_t start_ms;
	uint64_t last_ms;
};

/* NAME is borrowed. */
void progress_begin(struct progress *p, const struct output *o, const char *name);
/* TOTAL is 0 when not known. Draws at most ten times a second. */
void progress_update(struct progress *p, uint64_t done, uint64_t total);
/* Takes the bar away. */
void progress_end(struct progress *p);

/* "12.3 MiB" and the like. */
#define OUTPUT_SIZE_BYTES 24
char *output_size(uint64_t bytes, char text[OUTPUT_SIZE_BYTES]);

#endif
