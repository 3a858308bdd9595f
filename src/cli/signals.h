/*
 * signals: Ctrl-C and its kin as a descriptor to wait on, while a request runs.
 *
 * Between begin and end SIGINT, SIGTERM and SIGHUP do not end the process; they are read here. That
 * leaves no moment in which one could be missed, and no code that runs inside a handler.
 */
#ifndef CLI_SIGNALS_H
#define CLI_SIGNALS_H

#include <signal.h>

#include "base/err.h"

struct signals {
	int fd; /* readable when one waits; -1 before begin */
	sigset_t before;
};

#define SIGNALS_NONE     \
	(struct signals) \
	{                \
		.fd = -1 \
	}

/* 0, or -1 with ERR_INTERNAL. */
int signals_begin(struct signals *s, struct err *e);

/* Puts things back. A Ctrl-C that was not read is forgotten: it meant the request that has ended. A
 * SIGTERM or SIGHUP that was not read takes effect now. NULL or never begun: nothing. */
void signals_end(struct signals *s);

/* The number of a signal that came, or 0. Never waits. */
int signals_take(struct signals *s);

#endif
