/*
 * What the files of mcp share with each other: mcp.c has the servers and their lives,
 * mcp_conversation.c what is said to one and what it says.
 */
#ifndef TOOLS_MCP_INTERNAL_H
#define TOOLS_MCP_INTERNAL_H

#include <stdint.h>

#include "tools/mcp.h"
#include "tools/mcp_transport.h"

#define MCP_HANDSHAKE_MS 30000
#define MCP_KEY_BYTES 600
#define MCP_WHY_BYTES 300

enum mcp_request_kind { MCP_REQUEST_INITIALIZE, MCP_REQUEST_LIST, MCP_REQUEST_CALL };

struct mcp_request {
	uint64_t id;
	enum mcp_request_kind kind;
	uint64_t deadline_ms;
	uint64_t timeout_ms;
	struct mcp_server *server;
	struct runner_task task; /* of a call */
	UT_hash_handle hh;
};

enum mcp_server_state {
	MCP_SERVER_STARTING, /* connecting, initializing, listing for the first time */
	MCP_SERVER_READY,
	MCP_SERVER_DOWN,    /* its connection is to be closed */
	MCP_SERVER_PAUSING, /* until it is tried again */
};

struct mcp_server {
	char key[MCP_KEY_BYTES];
	struct mcp *mcp;
	json_t *tool; /* a reference to the definition it was made from */
	const char *name;
	enum mcp_server_state state;
	bool seen;    /* by a refresh */
	bool stopped; /* it is only waiting for its timer to close */
	bool is_open;
	bool listing;    /* tools/list is under way */
	bool list_again; /* they have changed meanwhile */
	uint64_t listed_ms;
	const struct mcp_transport *transport;
	void *connection;
	uv_timer_t timer;
	unsigned failures;
	uint64_t ready_ms;
	uint64_t give_up_ms; /* of the handshake */
	char why[MCP_WHY_BYTES];
	json_t *callables; /* as listings have them; NULL before the first time */
	json_t *gathered;
	int pages;
	struct mcp_request *requests; /* by id */
	uint64_t last_id;
	UT_hash_handle hh;
};

struct mcp {
	struct runner *r;
	struct mcp_server *servers; /* by key */
	uv_timer_t tick;
};

/* --- mcp.c --- */

/* Closes the connection of a server that is down, and later tries it again. */
void mcp_on_timer(uv_timer_t *timer);

/* --- mcp_conversation.c --- */

/* How its connection tells S what comes. */
struct mcp_owner mcp_owner_of(struct mcp_server *s);
/* The first thing that is said. */
void mcp_begin_initialize(struct mcp_server *s);
/* Asks for the page of tools at CURSOR; NULL: the first. */
void mcp_begin_list(struct mcp_server *s, const char *cursor);

/* PARAMS is taken over. NULL with E. */
struct mcp_request *mcp_send_request(struct mcp_server *s, enum mcp_request_kind kind,
    const char *method, json_t *params, uint64_t timeout_ms, struct err *e);
/* The server is told that nobody waits, in case it can stop, and the transport. */
void mcp_abandon(struct mcp_request *q, const char *reason);
/* Takes Q out of its server's and frees it. */
void mcp_end_request(struct mcp_request *q);
/* The same, and answers a call: MESSAGE NULL: e->text. */
void mcp_fail_request(struct mcp_request *q, const struct err *e, const char *message);
/* All of a server's, because of its why. */
void mcp_fail_all(struct mcp_server *s);
/* S is down because of WHY: everything that waits for it fails, and it is tried again later. */
void mcp_fail_server(struct mcp_server *s, const char *why);

#endif
