/*
 * mcp: servers of tools that speak the Model Context Protocol, with this process as their client.
 *
 * One server for each tool of type mcp in the catalog. It is started (stdio) or connected to when
 * the catalog first names it, asked what it has, and stays. When it ends, or cannot be reached, it
 * is tried again after a pause that doubles from one second to a minute, and is a second again once
 * a call was answered; meanwhile it keeps its place in the listing, and calls fail at once with the
 * reason.
 *
 * Transports: stdio (a line of JSON a message), sse (revision 2024-11-05: a stream of events, whose
 * first names where to post), http (2025-03-26 and later: post, and an answer as JSON or as events;
 * Mcp-Session-Id). Source: the protocol's specification, revisions 2024-11-05 to 2025-06-18.
 *
 * Bounds: MCP_SERVERS_MAX connections; a message MCP_MESSAGE_MAX_BYTES; MCP_CALLS_MAX open calls a
 * server; MCP_TOOLS_MAX tools a server; a server that says its tools have changed is asked once a
 * second. Everything a server says is hostile input: what is no message is dropped, what is too
 * long ends the connection, or with http the call. One call cannot take the others of its server
 * down.
 */
#ifndef TOOLS_MCP_H
#define TOOLS_MCP_H

#include <jansson.h>

#include "tools/runner.h"

#define MCP_MESSAGE_MAX_BYTES (4U << 20)
#define MCP_SERVERS_MAX 128
#define MCP_CALLS_MAX 256
#define MCP_TOOLS_MAX 1000
#define MCP_PAGES_MAX 100

struct mcp *mcp_new(struct runner *r);
/* Ends every server. The loop must run for it to be done. */
void mcp_stop(struct mcp *m);

/* Starts and ends servers so that they are those of the catalog. */
void mcp_refresh(struct mcp *m);

/* What a server has (borrowed array); NULL when it has not told yet. */
json_t *mcp_callables(const struct mcp *m, const char *prefix, const json_t *tool);
/* Adds the servers that cannot be reached. */
void mcp_problems(const struct mcp *m, json_t *problems);

/* Calls a tool of a server; answers REF now or later. */
void mcp_begin(struct mcp *m, uint64_t ref, const char *prefix, const json_t *tool,
    const char *callable, const json_t *arguments);

#endif
