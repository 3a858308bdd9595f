/*
 * line_editor: lines from a person, with libedit's editing and a history kept between runs; or
 * plain lines where stdin or stdout is not a terminal.
 *
 * The history is $XDG_STATE_HOME/carrel/history, else ~/.local/state/carrel/history, readable by
 * its owner alone; without either there is none. At the prompt Ctrl-C is a key, not a signal.
 */
#ifndef CLI_LINE_EDITOR_H
#define CLI_LINE_EDITOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include <histedit.h>

#include "base/buf.h"
#include "base/err.h"

#define LINE_EDITOR_HISTORY 2000
#define LINE_EDITOR_MAX_BYTES ((size_t)1 << 20)

enum line_outcome {
	LINE_READ,
	LINE_CLEARED, /* Ctrl-C */
	LINE_END,     /* Ctrl-D, or the end of the file */
};

struct line_editor {
	bool typed; /* both ends are a terminal */
	bool cleared;
	const char *prompt;
	EditLine *edit;
	History *history;
	struct buf history_path; /* empty: none is kept */
	struct buf line;
};

/* 0, or -1 with ERR_INTERNAL. */
int line_editor_init(struct line_editor *l, struct err *e);

/* Saves the history. NULL or zeroed: nothing. */
void line_editor_fini(struct line_editor *l);

/* On LINE_READ, *LINE is the line with its LF, borrowed until the next call. */
enum line_outcome line_editor_read(
    struct line_editor *l, const char *prompt, const char **line, size_t *len);

#endif
