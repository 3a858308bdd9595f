/*
 * line_editor: lines from a person, with libedit's editing and a history kept between runs; or
 * plain lines where stdin or stdout is not a terminal.
 *
 * The history is $XDG_STATE_HOME/carrel/history, else ~/.local/state/carrel/history, readable by
 * its owner alone; without either there is none. At the prompt Ctrl-C is a key, not a signal.
 *
 * What is pasted (the terminal tells by bracketed paste) is not run as it comes: its whole lines
 * are handed over together as LINE_PASTED, and the rest waits at the prompt for Enter.
 */
#ifndef CLI_LINE_EDITOR_H
#define CLI_LINE_EDITOR_H

#include <histedit.h>
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <wchar.h>

#include "base/buf.h"
#include "base/err.h"

#define LINE_EDITOR_FIRST ">>> "
#define LINE_EDITOR_MORE "... "
#define LINE_EDITOR_HISTORY 2000
#define LINE_EDITOR_MAX_BYTES ((size_t)1 << 20)

enum line_outcome {
	LINE_READ,
	LINE_PASTED,  /* several lines, none of which was ended by a person */
	LINE_CLEARED, /* Ctrl-C */
	LINE_END,     /* Ctrl-D, or the end of the file */
};

/* What the editor asks of its user while a line is typed. */
struct line_hooks {
	/* The words that could stand in the place of WORD, as an array of texts that the caller
	 * owns, or NULL. Whatever does not begin with WORD, or is no name, is not shown. */
	json_t *(*complete)(void *arg, const char *word);
	/* Called each time nothing was typed for IDLE_MS (0: never). True when it has written
	 * something, which it begins on a line of its own. */
	bool (*idle)(void *arg);
	uint32_t idle_ms;
	void *arg;
};

struct line_editor {
	bool typed; /* both ends are a terminal */
	bool cleared;
	bool pastes; /* the terminal tells what is pasted */
	bool in_paste;
	const char *prompt;
	const struct line_hooks *hooks; /* borrowed */
	uint64_t idle_at_ms;
	mbstate_t cut; /* of a character whose bytes have not all come */
	EditLine *edit;
	History *history;
	struct buf history_path; /* empty: none is kept */
	struct buf line;
	struct buf
	    rest; /* what was pasted behind the last line end: the next line begins with it */
};

/* 0, or -1 with ERR_INTERNAL. */
int line_editor_init(struct line_editor *l, const struct line_hooks *hooks, struct err *e);

/* Saves the history. NULL or zeroed: nothing. */
void line_editor_fini(struct line_editor *l);

/* On LINE_READ and LINE_PASTED, *LINE is the line or the lines with their LF, borrowed until the
 * next call. */
enum line_outcome line_editor_read(
    struct line_editor *l, const char *prompt, const char **line, size_t *len);

/* One entry of the history: a whole cell, with its last LF. */
void line_editor_remember(struct line_editor *l, const char *cell);

#endif
