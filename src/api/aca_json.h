/*
 * aca_json: replies that may hold a number of the user's as JSON text, see json_text.h.
 */
#ifndef API_ACA_JSON_H
#define API_ACA_JSON_H

#include <jansson.h>

#include "api/call.h"

/* Answers with J; takes over the reference. */
void aca_json_reply(struct call *c, int status, json_t *j);

#endif
