/*
 * aca_json: replies that may hold a number of the user's as JSON text.
 *
 * jansson prints every real with 17 digits, so that 0.1 reads 0.10000000000000001. Here reals get
 * as few digits as read back as the same number.
 */
#ifndef API_ACA_JSON_H
#define API_ACA_JSON_H

#include <jansson.h>

#include "api/call.h"
#include "base/buf.h"

/* Above any reply that the engine's own bounds on an execution allow. */
#define ACA_JSON_MAX_BYTES (512U << 20)

/* Adds J as compact JSON, on one line. As buf_add. */
int aca_json_add(struct buf *out, json_t *j);

/* Answers with J; takes over the reference. */
void aca_json_reply(struct call *c, int status, json_t *j);

#endif
