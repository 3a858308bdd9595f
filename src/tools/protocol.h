/*
 * protocol: the JSON of messages 64 to 82 of ipc/messages.def, between the gateway and the runner.
 *
 *   RUNNER_CONFIG   {tools_dir, tools_file, work_dir, secrets: {name: text}, deps: {…},
 *                    embeddings: {url, model, secret}, callbacks: {prefixes: [text], secret}};
 *                    what is not configured is null
 *   TOOLS_DEFINE    {prefix: text or null, definitions: [a tool's file as JSON]}
 *   TOOL_CALL       {prefix, tool, callable: text or null, arguments: {…}, approved: text or null}
 *   TOOL_CALL_DATA  the same; with it goes the session's /mnt/data
 *   DEPS_INSTALL    {packages: [text]}
 *   EMBED           [text]
 *   CALLBACK        {url, id, body: text}
 *   TOOLS_CHANGED   {tools: […], problems: [{file, line, message}]}, as on_tools has them
 *   RUNNER_DONE     ok: the result, as runner_done_fn has it; not ok: {code: enum err_code,
 *                   message, definition?}
 *
 * Bounds: RUNNER_MESSAGE_MAX_BYTES a message, both ways.
 */
#ifndef TOOLS_PROTOCOL_H
#define TOOLS_PROTOCOL_H

#include <jansson.h>
#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"

#define RUNNER_MESSAGE_MAX_BYTES (32U << 20)
#define RUNNER_OUTBOX_MAX_BYTES (128U << 20)

/* Encoders: 0 or -errno. Decoders: a new object, or NULL when the body is not one. */
int protocol_json_encode(const json_t *value, struct buf *out);
json_t *protocol_json_decode(const struct buf *body);
int protocol_done_encode(bool ok, const json_t *value, struct buf *out);
json_t *protocol_done_decode(const struct buf *body, bool *ok);

/* {code, message} (new) of an error, and back. MESSAGE NULL: e->text. */
json_t *protocol_error(const struct err *e, const char *message);
void protocol_error_read(const json_t *value, struct err *e);

#endif
