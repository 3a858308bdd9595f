/*
 * gateway: the engine's hands. It starts the keeper, holds one link to each session (its control
 * socket, the read ends of its stdout and stderr, its /mnt/data), moves bytes between them and the
 * engine on a libuv loop, and keeps the engine's time.
 *
 * Each byte from a session is hostile input: a frame that is malformed, of a type a session may not
 * send, or about another execution than the one that runs ends that session and nothing else.
 *
 * Output is read while an execution runs. What a session prints between executions waits in its
 * pipe (back-pressure) and belongs to the next one. When a result comes, what its pipes hold at
 * that moment is read first, so the result never overtakes the output.
 */
#ifndef GATEWAY_GATEWAY_H
#define GATEWAY_GATEWAY_H

#include <uv.h>

#include "base/err.h"
#include "engine/engine.h"
#include "engine/host_call.h"
#include "ipc/codec.h"

struct gateway;

struct gateway_config {
	struct engine_config engine;
	struct ipc_keeper_config keeper; /* borrowed strings, until gateway_start returns */
	const char *keeper_path;         /* the executable; borrowed likewise */
};

/* Told once: the keeper is ready (E NULL; READY is borrowed for the call), or it is gone (E). After
 * E the server can make no more sessions. */
typedef void (*gateway_keeper_fn)(
    void *ctx, const struct ipc_keeper_ready *ready, const struct err *e);

/* Starts the keeper with the privileges the caller has now; it reports through ON_KEEPER once the
 * loop runs. CONFIG is copied where it is needed later. */
struct gateway *gateway_new(uv_loop_t *loop, const struct gateway_config *config,
    gateway_keeper_fn on_keeper, void *ctx, struct err *e);

struct engine *gateway_engine(struct gateway *g);

/* New limits for the pools, as engine_set_limits; the keeper is told first. */
void gateway_set_limits(struct gateway *g, const struct engine_config *c);

/* Who answers what sessions ask (engine/host_call.h). H and CTX are borrowed for the gateway's
 * life. To be set before the loop runs; without it each call is answered with an error. */
void gateway_set_host_calls(struct gateway *g, const struct host_call_handler *h, void *ctx);

/* Kills every session, waits for the keeper to have ended, and frees. The loop must not be running;
 * it is run here until all handles are closed. NULL is allowed. */
void gateway_free(struct gateway *g);

#endif
