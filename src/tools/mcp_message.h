/* mcp_message: the messages of the Model Context Protocol, made and read. No connection. */
#ifndef TOOLS_MCP_MESSAGE_H
#define TOOLS_MCP_MESSAGE_H

#include <jansson.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "tools/runner.h"

/* All new. PARAMS is taken over and may be NULL. */
json_t *mcp_request(uint64_t id, const char *method, json_t *params);
json_t *mcp_notification(const char *method, json_t *params);
json_t *mcp_cancelled(uint64_t id, const char *reason);
json_t *mcp_reply(const json_t *id);     /* an empty result */
json_t *mcp_not_found(const json_t *id); /* there is no such method here */

/* A tool of tools/list as a callable of a listing (new): {name, description, parameters}, and
 * "open" where more arguments than those are taken. NULL when it is none. */
json_t *mcp_callable(const json_t *tool);

/* The arguments of one call, checked against the parameters of a callable (new). NULL with E. */
json_t *mcp_arguments(const json_t *callable, const json_t *arguments, struct err *e);

/* What a call came to: {text} or {json} (new), or NULL with E when isError says so; MESSAGE is then
 * all of its text. */
json_t *mcp_call_result(
    const struct runner *r, const json_t *result, struct buf *message, struct err *e);

/* ERR_NOT_FOUND for a tool the server does not know, else ERR_INTERNAL. */
void mcp_error(const json_t *error, struct err *e);

#endif
