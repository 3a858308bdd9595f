/*
 * options: the command line's options, those of every command and those of one.
 *
 * Each option is one row of a table: it takes a text or raises a flag. A command gives its own
 * rows; the ones all client commands share are added here: --url, --token-file, --pool, --ca-file,
 * -o. Everything is borrowed from argv and the environment. Not reentrant (getopt_long).
 */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

#define OPTIONS_DEFAULT_URL "http://127.0.0.1:8080"
#define OPTIONS_TOKEN_MAX_BYTES 16384

struct options {
	const char *url;        /* --url, CARREL_URL, or the default */
	const char *token_file; /* --token-file, or NULL */
	const char *pool;       /* --pool, or NULL for the default pool */
	const char *ca_file;    /* --ca-file, or NULL for the system's */
	bool json;              /* -o json */
};

struct option_entry {
	const char *name;  /* long form, without "--" */
	char letter;       /* short form, or 0 */
	const char **text; /* takes a value, which may not be empty */
	bool *flag;        /* takes none; exactly one of the two is not NULL */
};

/* Reads the options of a command, wherever they stand; "--" ends them. Operands are moved to the
 * end of ARGV. Returns the index of the first operand, or -1 with ERR_INVALID. */
int options_parse(struct options *o, int argc, char **argv, const struct option_entry *own,
    size_t own_count, struct err *e);

/* The same for a command that has none of the shared ones. */
int options_parse_own(
    int argc, char **argv, const struct option_entry *own, size_t own_count, struct err *e);

/* The token to TOKEN: from --token-file (its white space around dropped), else from CARREL_TOKEN,
 * else empty. 0; -1 with ERR_INVALID for one that no header can carry, ERR_INTERNAL for a file that
 * cannot be read. */
int options_token(const struct options *o, struct buf *token, struct err *e);

/* The index of the command's name in ARGV, past the shared options before it; ARGC when there is
 * none; -1 with ERR_INVALID for an option that is not shared. */
int options_command_at(int argc, char **argv, struct err *e);

/* A whole number of at least MIN and at most MAX for the option NAME. 0, or -1 with ERR_INVALID. */
int options_number(
    const char *name, const char *text, uint64_t min, uint64_t max, uint64_t *out, struct err *e);

#endif
