/*
 * terminal: makes text from a session harmless to the terminal it is shown on.
 *
 * What a session prints is hostile: escape sequences can rewrite what was shown before, set the
 * window's title, or make the terminal type. Every control character but LF and TAB is shown as
 * \u001b and the like, so are the C1 controls in their UTF-8 form, DEL, and the characters that
 * reorder text (U+061C, U+200E, U+200F, U+202A to U+202E, U+2066 to U+2069). A byte that is not
 * UTF-8 is shown as \x9b. Everything else passes. The form is also JSON's, so a JSON document stays
 * the same document.
 */
#ifndef CLI_TERMINAL_H
#define CLI_TERMINAL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

/* Carries a character that was cut between two pieces. All zero at the start. */
struct terminal_filter {
	char tail[4];
	size_t tail_len;
	bool all; /* as terminal_escape_all */
};

/* Adds the shown form of BYTES to OUT; a cut last character waits in F. As buf_add. */
int terminal_filter_add(struct terminal_filter *f, struct buf *out, const char *bytes, size_t len);

/* Adds what still waits in F. As buf_add. */
int terminal_filter_end(struct terminal_filter *f, struct buf *out);

/* The same for one whole text. As buf_add. */
int terminal_escape(struct buf *out, const char *bytes, size_t len);

/* For what a person is to judge: LF and TAB are shown as \u000a and \u0009 too, and so is what is
 * not seen at all: soft hyphens, zero-width characters, line and paragraph separators, fillers,
 * variation selectors, tags (beyond U+FFFF as \U000e0041). As buf_add. */
int terminal_escape_all(struct buf *out, const char *bytes, size_t len);

#endif
