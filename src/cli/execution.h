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

#include "base/text.h"
#include "cli/client.h"
#include "cli/output.h"
#include "cli/signals.h"

/* Of a prompt that waits for a person: a server that is away must not hold the keyboard. */
#define EXECUTION_LOOK_MS 2000
#define EXECUTION_CODE_MAX_BYTES ((size_t)32 << 20)

struct execution {
	const char *identifier;
	const char *code; /* UTF-8, or the command of a shell pool */
	size_t code_len;
	bool is_shell;
	bool as_repr;       /* values as Python's prompt shows them: '42', nan */
	bool stays;         /* the session is kept after the cell: its state is worth a word */
	uint32_t timeout_s; /* 0: the server's */
};

struct execution_outcome {
	/* CLI_EXIT_OK, CLI_EXIT_USER, or what the cell ended with itself: of sys.exit(), or the
	 * command of a shell pool. */
	int status;
	bool new_session; /* the session was made for this cell */
	bool reached;     /* the server may have a session of this identifier; set on failure too */
	char session[TEXT_GUID_BYTES]; /* which of the identifier's sessions ran it; may be "" */
};

/* A session as the server sees it. */
struct execution_session {
	char guid[TEXT_GUID_BYTES];
	char created[40]; /* RFC 3339 */
	uint32_t idle_ms; /* how long it lives without being used */
};

/* Runs it. With -o json in O, the reply is printed as the one document instead. 0, or -1 with *E
 * (as client_perform; ERR_INVALID for code that is not UTF-8) when there is no reply to speak of.
 */
int execution_run(struct client *c, struct output *o, struct signals *signals,
    const struct execution *x, struct execution_outcome *out, struct err *e);

/* Shows the execution ID of the session from its beginning to its end, as execution_run. A signal
 * gives up, and interrupts nothing. */
int execution_watch(struct client *c, struct output *o, struct signals *signals,
    const char *identifier, const char *id, struct execution_outcome *out, struct err *e);

/* Runs it and shows nothing: the reply to *OUT (owned by the caller). Given up, and with it
 * interrupted, when the server is silent for PATIENCE_MS. 0, or -1 with *E. */
int execution_ask(
    struct client *c, const struct execution *x, uint64_t patience_ms, json_t **out, struct err *e);

/* GET /session, which does not keep it alive: 1 with *OUT; 0 when there is none; -1 with *E. */
int execution_find_session(
    struct client *c, const char *identifier, struct execution_session *out, struct err *e);
/* Begins its idle time anew. A session that is not there is made. 0, or -1 with *E. */
int execution_touch_session(struct client *c, const char *identifier, struct err *e);

/* DELETE /session. 0, or -1 with *E. */
int execution_end_session(
    struct client *c, struct signals *signals, const char *identifier, struct err *e);

#endif
