/*
 * events: server-sent events taken apart as their bytes come. Source: the HTML standard, section
 * 9.2.6, without ids and retry times.
 */
#ifndef TOOLS_EVENTS_H
#define TOOLS_EVENTS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

struct events {
	struct buf line;
	struct buf data;
	char name[32];
	bool after_cr; /* a line feed that follows belongs to the line that has ended */
	bool has_data;
};

/* An event of more than MAX_BYTES ends the stream. */
void events_init(struct events *s, size_t max_bytes);
void events_fini(struct events *s);

/* Takes BYTES and calls FN with each event that is whole; NAME is "message" where it has none. 0,
 * or -EMSGSIZE. FN must not free S. */
typedef void (*events_fn)(void *ctx, const char *name, const char *data, size_t len);
int events_add(struct events *s, const char *bytes, size_t len, events_fn fn, void *ctx);

#endif
