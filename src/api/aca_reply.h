/*
 * aca_reply: an execution as JSON, in each shape of the wire.
 *
 * Everything a session sent is hostile bytes: it becomes well-formed UTF-8, and what claims to be
 * JSON is parsed before it is believed.
 */
#ifndef API_ACA_REPLY_H
#define API_ACA_REPLY_H

#include <jansson.h>
#include <stdbool.h>

#include "api/aca.h"

struct aca_format {
	enum aca_shape shape;
	bool jupyter;    /* primitives as the text a notebook shows */
	bool strings;    /* struct api's results_as_strings */
	bool extensions; /* the client reads the members beyond Azure's */
};

/* The whole reply object. A new reference. */
json_t *aca_reply_execution(const struct execution *x, const struct aca_format *f);

/* Its status in the new shape. A new reference. */
json_t *aca_execution_status(const struct execution *x);

/* Operation-Id, X-Ms-Session-Guid and, once X is final, how long it took. */
void aca_reply_headers(struct call *c, const struct execution *x);

#endif
