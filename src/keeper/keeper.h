/*
 * keeper: makes sessions out of the warm image, kills them, and tells the gateway how they ended.
 *
 * It answers to one peer, the gateway, on one socket, by the table of messages in
 * ipc/messages.def; it never reads a byte of a request. When the gateway goes away it kills every
 * session and ends.
 */
#ifndef KEEPER_KEEPER_H
#define KEEPER_KEEPER_H

#include "ipc/codec.h"
#include "sandbox/sandbox.h"

struct keeper;

/* CONFIG's limits are copied; SB is borrowed. NULL with E. */
struct keeper *keeper_new(
    int gateway_fd, struct sandbox *sb, const struct ipc_keeper_config *config, struct err *e);
void keeper_free(struct keeper *k);

/* Serves until the gateway closes its end; all sessions are dead and reaped then. Returns 0, or -1
 * with E when the gateway broke the protocol. */
int keeper_loop(struct keeper *k, struct err *e);

#endif
