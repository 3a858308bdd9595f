/* cmd_approvals: what the verbs of `carrel approvals` share. */
#ifndef CLI_CMD_APPROVALS_H
#define CLI_CMD_APPROVALS_H

#include <jansson.h>
#include <stdbool.h>

#include "cli/client.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/paper.h"

struct approvals_command {
	struct options shared;
	/* Options; NULL or false where they were not given. */
	const char *code, *policy, *deadline, *timeout, *callback, *promote, *promote_prefix, *key;
	const char *state, *kind, *reason, *by, *stage;
	bool wait, all;
	char **operands; /* past the verb */
	int count;

	struct client client;
	struct output output;
	struct paper paper;
	int status; /* the exit status of what succeeded */
};

/* Each does one verb. 0, or -1 with *E. */
int approvals_show_list(struct approvals_command *c, struct err *e);
int approvals_show_one(struct approvals_command *c, struct err *e);
int approvals_follow(struct approvals_command *c, struct err *e);

/* Follows the history of ID until it is final, each event a line. The status is then
 * CLI_EXIT_USER unless it was approved. *OUT, owned by the caller: the final approval. */
int approvals_wait(struct approvals_command *c, const char *id, json_t **out, struct err *e);

/* Shows an approval whole, or as JSON. 0, or -1 with *E. */
int approvals_print(struct approvals_command *c, const json_t *approval, struct err *e);

#endif
