/*
 * event_stream: a parser of server-sent events (the text/event-stream of the WHATWG HTML
 * standard, 9.2.6).
 *
 * Bytes go in as they come, in pieces of any size; whole events come out. Lines end in LF, CR or
 * CRLF; a first byte order mark is dropped; comments, `id` and `retry` are read over; an event
 * without data, or cut off by the end of the stream, does not exist.
 *
 * Invariant: it holds at most two times the maximum given at the start, one line and one event.
 */
#ifndef BASE_EVENT_STREAM_H
#define BASE_EVENT_STREAM_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

#define EVENT_STREAM_NAME_BYTES 32

struct event_stream {
	struct buf line; /* the line that has not ended yet */
	struct buf data; /* the data lines of the event so far, each followed by LF */
	char name[EVENT_STREAM_NAME_BYTES]; /* cut when longer: no event we know is */
	bool after_cr;                      /* an LF that comes now belongs to the line before */
	bool past_first_line;
};

/* NAME is "message" where the stream gave none. DATA is NUL-terminated and borrowed for the call.
 * Any return but 0 ends event_stream_feed with that value. */
typedef int event_stream_fn(void *arg, const char *name, const char *data, size_t len);

/* MAX_BYTES bounds a line and an event's data. */
void event_stream_init(struct event_stream *s, size_t max_bytes);
void event_stream_fini(struct event_stream *s);

/* 0, -EMSGSIZE past the maximum, -ENOMEM, or what ON_EVENT returned. After a failure the parser can
 * only be thrown away. */
int event_stream_feed(
    struct event_stream *s, const char *bytes, size_t len, event_stream_fn *on_event, void *arg);

#endif
