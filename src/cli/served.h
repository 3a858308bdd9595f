/* served: what a server has, for more than one command. */
#ifndef CLI_SERVED_H
#define CLI_SERVED_H

#include "cli/client.h"

#define SERVED_POOL_NAME_BYTES 64 /* of a name, with its NUL */

/* What GET metrics says of each pool: [{"name", "sessions", "max_sessions", "executing_sessions",
 * "pending_sessions", "ready_sessions"}], owned by the caller. 0, or -1 with *E. */
int served_pools(struct client *c, json_t **out, struct err *e);

/* `carrel tools ls`. */
int served_tools(int argc, char **argv);

#endif
