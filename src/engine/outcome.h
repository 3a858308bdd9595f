/*
 * outcome: what every dialect tells of an execution that has ended, in the same words.
 *
 * Everything a session sent is hostile bytes; what leaves here is well-formed UTF-8.
 */
#ifndef ENGINE_OUTCOME_H
#define ENGINE_OUTCOME_H

#include <jansson.h>

#include "engine/execution.h"

#define OUTCOME_NOTES_MAX_BYTES 4096 /* what is added to a stream in our own words */

/* Adds a stream's text, with a visible mark where CUT_BYTES of it are missing. OUT needs room for
 * three times the stream and OUTCOME_NOTES_MAX_BYTES. */
void outcome_add_stream(struct buf *out, const struct buf *stream, uint64_t cut_bytes);

/* Adds stdout as outcome_add_stream has it. WITH_DISPLAYS: for those who look nowhere else, with
 * the text of what was displayed where it was shown, unless it is a picture or the cell's value; as
 * much of it as stdout may have. OUT needs room for outcome_stdout_max. */
void outcome_add_stdout(struct buf *out, const struct execution *x, bool with_displays);
size_t outcome_stdout_max(const struct execution *x);

/* True when D holds a picture that every client can show. */
bool outcome_is_picture(const struct display *d);

/* Why X ended, for the verdicts that neither a traceback nor an exit code tells of; NULL for the
 * others. Static. */
const char *outcome_sentence(const struct execution *x);

/* What a shell would make of X's end: the status it ended with itself, 1 for an exception, 124 past
 * its time (as timeout(1)), 130 when it was interrupted, 137 when it was killed. */
uint32_t outcome_exit_code(const struct execution *x);

/* Adds why X failed, on a line of its own: its traceback, then SENTENCE (may be NULL) and what is
 * known of it, or the code it exited with. Nothing for one that succeeded. */
void outcome_add_why(struct buf *out, const struct execution *x, const char *sentence);

/* One display as {mime: data}: text as it is, anything else in base64. A new reference. */
json_t *outcome_display(const struct display *d);

#endif
