/*
 * records_fold: what an approval's events add up to. The one place where a row changes: each event
 * a change makes goes through here before it is written, and records_replay folds the events again
 * and compares. A state that lifecycle.h does not allow to follow, a decision at a stage the
 * approval does not wait at, an approved one that nobody approved: refused here, never written.
 */
#ifndef APPROVALS_RECORDS_FOLD_H
#define APPROVALS_RECORDS_FOLD_H

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"

/* ROW: {} or what the events before EVENT gave, without its texts. ERR_INTERNAL with the reason;
 * ROW is then of no use. */
int records_fold(json_t *row, const json_t *event, struct err *e);

/* Whether ROW may be decided at STAGE before it gets there: a result, of the policy after, whose
 * code is queued or runs. What was decided so, borrowed; NULL. */
bool records_early(const json_t *row, const char *stage);
const json_t *records_early_decision(const json_t *row);

#endif
