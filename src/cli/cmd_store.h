/* cmd_store: what the verbs of `carrel store` share. */
#ifndef CLI_CMD_STORE_H
#define CLI_CMD_STORE_H

#include <jansson.h>
#include <stdbool.h>
#include <uv.h>

#include "cli/options.h"
#include "cli/output.h"
#include "cli/store_place.h"

struct store_command {
	struct options shared;
	const char *source, *target, *prefix, *dest, *type_name;
	const char *first_dep; /* of --deps; the others are operands */
	bool clear;
	char **operands; /* past the verb */
	int count;

	int type; /* TYPE_COUNT: all, for export and import */
	uv_loop_t loop;
	struct store_place store; /* the target */
	struct output output;
	struct progress progress;
	json_t *problems; /* [{file, message}] */
	json_t *items;    /* what -o json shows */
	bool differs;
};

/* Each does one verb on the open target. 0, or -1 with E. */
int store_bootstrap(struct store_command *c, struct err *e);
int store_show(struct store_command *c, struct err *e);
int store_pull(struct store_command *c, struct err *e);
int store_diff(struct store_command *c, struct err *e);
/* Everything, between the target and a directory that is a file store (cmd_store_move.c). */
int store_export(struct store_command *c, struct err *e);
int store_import(struct store_command *c, struct err *e);

/* Copies artifacts FROM, or records, all of TYPE, to TO; with a bar. Adds each to items; its line
 * begins with WORD, NULL: none. The number copied, or -1 with E. */
long store_copy_all(struct store_command *c, struct store_place *from, struct store_place *to,
    int type, const char *word, struct err *e);
/* Empties TYPE of the target. 0, or -1 with E. */
int store_clear(struct store_command *c, int type, struct err *e);
/* The prefix as it is shown: given, or the default. */
const char *store_shown_prefix(const struct store_command *c);
/* Notes PROBLEMS (taken) on stderr, and keeps them: the exit status will say that there were some.
 */
void store_note_problems(struct store_command *c, json_t *problems);

#endif
