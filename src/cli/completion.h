/*
 * completion: the names that may follow at a prompt, asked of the session itself.
 *
 * It is an ordinary execution of an expression that is None, so `_` and the session's names stay as
 * they are. Nothing is called on the way but what attribute access calls; a session that does not
 * answer in time has no names, and is interrupted.
 */
#ifndef CLI_COMPLETION_H
#define CLI_COMPLETION_H

#include "cli/client.h"

#define COMPLETION_TIME_S 1
#define COMPLETION_MAX 500

/* The words that begin with WORD (letters, digits, '_', '.' and what is beyond ASCII), in order, as
 * an array of texts. What a session says is hostile: they may be anything. NULL when there are
 * none to be had. Owned by the caller. */
json_t *completion_ask(struct client *c, const char *identifier, const char *word);

#endif
