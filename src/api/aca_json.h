/*
 * aca_json: replies that may hold a number of the user's as JSON text, see json_text.h.
 */
#ifndef API_ACA_JSON_H
#define API_ACA_JSON_H

#include <jansson.h>

#include "api/call.h"

/* Answers with J; takes over the reference. */
void aca_json_reply(struct call *c, int status, json_t *j);
/* Answers with TEXT, whose bytes it takes; NULL: ERR of json_write_fn. */
void aca_json_reply_text(struct call *c, int status, int err, struct buf *text);
/* Adds J as text; takes over the reference. 0 or -errno. */
int aca_json_add(struct buf *out, json_t *j);

#endif
