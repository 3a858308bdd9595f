/*
 * session: what a fork of the keeper does from its birth to its end.
 *
 * It moves its descriptors to their places, builds its walls, warms up, seals itself, tells the
 * gateway, and then serves: one EXECUTE after the other, in order. Whatever user code does to the
 * process, the gateway believes nothing that comes from it; so there is no check in here that
 * guards against the user, only ones that keep ordinary accidents from ending the session.
 */
#ifndef KEEPER_SESSION_H
#define KEEPER_SESSION_H

#include "sandbox/sandbox.h"

/* The ends of a session's channels, as made by the keeper before the fork. */
struct session_channels {
	int control; /* SOCK_SEQPACKET */
	int out;     /* the write end of stdout's pipe */
	int err;
};

/* Never returns. Called in the child right after sandbox_fork. CHANNELS are taken over. */
_Noreturn void session_run(struct sandbox *sb, const struct sandbox_limits *limits, uint64_t id,
    struct session_channels channels);

#endif
