/*
 * json_read: JSON of a stranger, weighed before it is read.
 *
 * Large texts are read by a thread: json_work.h.
 */
#ifndef BASE_JSON_READ_H
#define BASE_JSON_READ_H

#include <jansson.h>
#include <stdbool.h>

#include "base/buf.h"

struct json_read {
	json_t *value;      /* a reference of whoever has this; NULL: none could be read, because */
	bool heavy;         /* it would hold more values than it may, or else of */
	json_error_t error; /* this */
	size_t weight;      /* as json_weight */
};

/* Reads TEXT with jansson's FLAGS into R; above WEIGHT_MAX it is not built. */
void json_read(struct json_read *r, const struct buf *text, size_t flags, size_t weight_max);

#endif
