/*
 * pcm_reply: an execution that has ended, as the answer to POST /execute.
 *
 *     {"value", "stdout", "error", "execution_time_ms", "session_id"}     the reference's
 *     "stderr", "verdict"                                                 ours, always
 *     "displays", "truncated", "new_session"                              ours, when there are any
 *
 * The text is written straight into the answer, without a tree between.
 */
#ifndef API_PCM_REPLY_H
#define API_PCM_REPLY_H

#include <stdbool.h>

#include "base/buf.h"
#include "engine/execution.h"

/* SESSION_ID: as the client knows it. EXTENSIONS: it reads what was displayed; without, the text of
 * that is in stdout. As buf_add. */
int pcm_reply_execution(
    struct buf *out, const struct execution *x, const char *session_id, bool extensions);

#endif
