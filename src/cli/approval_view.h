/*
 * approval_view: an approval as a person reads it before deciding.
 *
 * Everything of an approval but our own words is of others: see cli/paper.h. An approval or an
 * event is the JSON object of the wire (docs/approvals.md); members that are missing are left out.
 */
#ifndef CLI_APPROVAL_VIEW_H
#define CLI_APPROVAL_VIEW_H

#include <jansson.h>
#include <stdint.h>

#include "cli/paper.h"

/* The whole of it: the code (or the call's arguments) always in full; of what was printed at most
 * LINES_MAX lines each, 0: all. */
void approval_view(struct paper *p, const json_t *approval, size_t lines_max);

/* One line of a list. */
void approval_view_row(struct paper *p, const json_t *approval);

/* One line of a history. */
void approval_view_event(struct paper *p, const json_t *event);

/* What is asked, in words without a line end: "code of agent, policy before, expires in 3 h". */
void approval_view_question(struct paper *p, const json_t *approval);

#define APPROVAL_WHEN_BYTES 32
/* How far RFC3339 is from NOW_US: "in 3 h", "90 s ago", "now"; "" where it is no time. */
char *approval_view_when(const char *rfc3339, int64_t now_us, char out[APPROVAL_WHEN_BYTES]);

#endif
