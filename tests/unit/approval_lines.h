/*
 * approval_lines: a small table in the place of the approvals' own, with which the store and the
 * databases beneath it are tested: lines (number, text), each written once. It stands in for
 * records_migrate.
 */
#ifndef APPROVAL_LINES_H
#define APPROVAL_LINES_H

#include <jansson.h>

#include "approvals/records.h"

/* {number, text} -> {number, changed: [text]}, where the text could be an id. ERR_CONFLICT when
 * there is one of that number. */
int lines_add(struct db *d, const json_t *in, json_t **out, struct err *e);
/* The same, but for one that is there already: then {number}. */
int lines_add_once(struct db *d, const json_t *in, json_t **out, struct err *e);
/* {} -> {numbers: […], texts: […]}, in the order in which they were written. */
int lines_list(struct db *d, const json_t *in, json_t **out, struct err *e);
/* {} -> {count} */
int lines_count(struct db *d, const json_t *in, json_t **out, struct err *e);
/* {} -> {}; none is left. */
int lines_clear(struct db *d, const json_t *in, json_t **out, struct err *e);

#endif
