/*
 * execution: one cell, from its code to its exit status, for `carrel exec` and `carrel repl`.
 *
 * stdout and stderr are written as they come, displays are shown or saved at once, then the result.
 * A server that does not stream answers with the same reply in one piece, which is shown the same.
 * The first Ctrl-C interrupts the cell, the second gives up waiting; SIGTERM and SIGHUP give up at
 * once. A request that is given up is closed, which interrupts the cell too.
 */
#ifndef CLI_EXECUTION_H
#define CLI_EXECUTION_H

#include <stdbool.h>
#include <stdint.h>

#include "cli/client.h"
#include "cli/output.h"
#include "cli/signals.h"

#define EXECUTION_CODE_MAX_BYTES ((size_t)32 << 20)

struct execution {
	const char *identifier;
	const char *code; /* UTF-8, or the command of a shell pool */
	size_t code_len;
	bool is_shell;
	uint32_t timeout_s; /* 0: the server's */
};

struct execution_outcome {
	int status;       /* CLI_EXIT_OK or CLI_EXIT_USER */
	bool new_session; /* the session was made for this cell */
	bool reached;     /* the server may have a session of this identifier; set on failure too */
};

/* Runs it. With -o json in O, the reply is printed as the one document instead. 0, or -1 with *E
 * (as client_perform; ERR_INVALID for code that is not UTF-8) when there is no reply to speak of.
 */
int execution_run(struct client *c, struct output *o, struct signals *signals,
    const struct execution *x, struct execution_outcome *out, struct err *e);

/* DELETE /session. 0, or -1 with *E. */
int execution_end_session(
    struct client *c, struct signals *signals, const char *identifier, struct err *e);

#endif
