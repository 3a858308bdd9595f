/*
 * aca_stream: an execution as server-sent events while it runs.
 *
 *     event: stdout | stderr    data: {"text":"…"}
 *     event: display            data: {"image/png":"<base64>","text/plain":"…"}
 *     event: result             data: the reply object of the route's shape; the last one
 *
 * The source walks the execution's output at a position of its own and makes one event at a time,
 * so a slow reader costs nothing. A UTF-8 sequence is never split between two events of a stream.
 */
#ifndef API_ACA_STREAM_H
#define API_ACA_STREAM_H

#include "api/aca_reply.h"

/* True when the client asks for an event stream. */
bool aca_stream_wanted(struct call *c);

/* Answers with X from its beginning; takes over the reference to X. With ABANDON_WHEN_GONE a client
 * that leaves abandons it (engine_abandon). */
void aca_stream_reply(
    struct call *c, struct execution *x, const struct aca_format *f, bool abandon_when_gone);

#endif
