/*
 * result: what a run came to, as the JSON that is stored, shown to a person and audited:
 *
 *   {status: "Succeeded"|"Failed"|"Canceled", verdict, why: sentence or null, stdout, stderr,
 *    value: the last expression's as JSON, or as text where JSON cannot carry it (null: none),
 *    value_text: as Python shows it, where that is more than the JSON says,
 *    error: {name, value, traceback} or null, exit_code,
 *    displays: [{mime: data}], truncated: {stdout, stderr, displays: how much is missing},
 *    duration_ms, run: its key}
 *
 * Everything a session sent is hostile bytes; what is here is well-formed UTF-8, and at most
 * RESULT_MAX_BYTES of JSON: what does not fit is cut, and `truncated` says so.
 */
#ifndef APPROVALS_RESULT_H
#define APPROVALS_RESULT_H

#include <jansson.h>

#include "engine/execution.h"

#define RESULT_MAX_BYTES (8U << 20)

/* X is final. A new object; NULL when out of memory. */
json_t *result_of(const struct execution *x, const char *run);

#endif
