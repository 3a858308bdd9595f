/*
 * mcp_transport: how messages get to a server of tools and back; one file a transport.
 *
 * A connection tells its owner of each message, of each request that will have no answer while the
 * rest goes on, and once that it is down; after that it does nothing until it is closed. It is
 * never closed from within one of its own calls.
 */
#ifndef TOOLS_MCP_TRANSPORT_H
#define TOOLS_MCP_TRANSPORT_H

#include <jansson.h>
#include <stdint.h>

#include "base/err.h"
#include "tools/runner.h"

struct mcp_owner {
	struct runner *runner;
	const char *name;           /* of the tool, for the log */
	const json_t *spec;         /* the owner's */
	void (*on_open)(void *ctx); /* messages can be sent */
	void (*on_message)(void *ctx, const char *text, size_t len);
	void (*on_refused)(void *ctx, uint64_t id, const struct err *e);
	void (*on_down)(void *ctx, const char *why);
	void *ctx;
};

struct mcp_transport {
	/* The connection, or NULL with E. on_open may be called before it returns. */
	void *(*open)(const struct mcp_owner *o, struct err *e);
	/* ID of a request that is answered within TIMEOUT_MS or forgotten; 0 of what has no answer.
	 * 0, or -1 with E. */
	int (*send)(void *connection, uint64_t id, uint64_t timeout_ms, const char *text,
	    size_t len, struct err *e);
	/* Nobody waits for the answer to request ID any more. May be NULL. */
	void (*forget)(void *connection, uint64_t id);
	/* The server has answered initialize with this VERSION. May be NULL. */
	void (*initialized)(void *connection, const char *version);
	void (*close)(void *connection);
};

extern const struct mcp_transport mcp_stdio;
extern const struct mcp_transport mcp_sse;
extern const struct mcp_transport mcp_http;

#endif
