/*
 * paper: what a person reads before saying yes or no, on stdout.
 *
 * Its words are of two kinds. Ours are given as a format and written as they are. Those of others
 * (code, what a session printed, names, reasons) go through paper_quote or paper_block, wherever
 * stdout leads: every character that could move the cursor, reorder text or hide is shown as an
 * escape, and a block stands behind a gutter, each of its lines and, at a terminal, each piece of a
 * line that is wider than the terminal. So nothing of others ever stands in the first column, where
 * our own lines and questions stand.
 *
 * Colours only at a terminal, and not when NO_COLOR is set and not empty, or TERM is dumb.
 */
#ifndef CLI_PAPER_H
#define CLI_PAPER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "cli/output.h"

enum paper_colour {
	PAPER_PLAIN,
	PAPER_BOLD,
	PAPER_DIM,
	PAPER_ADDED,
	PAPER_REMOVED,
	PAPER_WAITING,
};

enum paper_kind {
	PAPER_CODE,   /* as added lines of a diff, with their numbers */
	PAPER_OUTPUT, /* what was printed, or a value */
	PAPER_ERROR,  /* what went wrong */
};

struct paper {
	bool colour;
	unsigned columns; /* of the terminal; 0: lines are not folded */
	size_t column;    /* where the next character stands, or would at most */
	struct buf text;  /* not written yet */
	int failed;       /* 0, or -errno of the first write that failed; nothing more is written */
};

void paper_init(struct paper *p, const struct output *o);
void paper_fini(struct paper *p);

/* Our own words. A text of others is never an argument. */
void paper_add(struct paper *p, const char *fmt, ...) printf_like(2, 3);
/* Another's, within a line; what does not fit in it goes on behind the gutter. */
void paper_quote(struct paper *p, const char *bytes, size_t len);
void paper_quote_text(struct paper *p, const char *text);
/* What is added until paper_plain has this colour. */
void paper_colour(struct paper *p, enum paper_colour colour);
void paper_plain(struct paper *p);

/* Another's text as lines of its own, all of it where LINES_MAX is 0. Else of more than LINES_MAX
 * lines the first and the last are shown, of a very long line its beginning, and what is left out
 * is said. */
void paper_block(
    struct paper *p, enum paper_kind kind, const char *bytes, size_t len, size_t lines_max);

/* Writes what is there. 0, or -1 with ERR_INTERNAL, for any write since the start. */
int paper_flush(struct paper *p, struct err *e);

#endif
