/*
 * config_tree: reading the configuration's tree, and its parts that have a file of their own.
 * Shared by the config files; nobody else includes it.
 *
 * Each reader leaves its output alone when the key is absent or null. All return 0, or -1 with
 * ERR_INVALID and a text that names the key by its place.
 */
#ifndef CLI_CONFIG_TREE_H
#define CLI_CONFIG_TREE_H

#include "cli/config.h"

/* Where in the tree a value stands, for messages: "pools[1].memory". */
struct config_place {
	const char *prefix;
	const char *key;
};

/* Sets "configuration: PLACE: WHAT" and returns -1. */
int config_bad(struct err *e, struct config_place p, const char *what);

/* *OUT is borrowed from MAP. */
int config_get_text(const json_t *map, struct config_place p, const char **out, struct err *e);

/* A whole number from MIN to MAX. */
int config_get_u32(const json_t *map, struct config_place p, uint32_t min, uint32_t max,
    uint32_t *out, struct err *e);

/* MIN to MAX seconds, whole or not, as milliseconds. */
int config_get_seconds(const json_t *map, struct config_place p, double min, double max,
    uint32_t *out_ms, struct err *e);

/* A size as a number or as text_to_bytes takes it, at least MIN. */
int config_get_bytes(
    const json_t *map, struct config_place p, uint64_t min, uint64_t *out, struct err *e);

/* Fails on the first member of MAP that is not one of the NULL-ended NAMES. */
int config_only_known(
    const json_t *map, const char *prefix, const char *const *names, struct err *e);

/* --- config_fixed.c --- */

/* Marks what is in the file under each of the NULL-ended KEYS, but for what can be changed while
 * the server runs. */
int config_mark(struct config *c, const char *const *keys, struct err *e);

/* --- config_pools.c --- */

/* The key "pools", or one pool of defaults. */
int config_pools_read(struct config *c, struct err *e);

/* --- config_codemode.c --- */

int config_code_mode_defaults(struct config *c, struct err *e);
/* The key "code_mode". */
int config_code_mode_read(struct config *c, struct err *e);
/* The variables of py-code-mode's container. */
int config_code_mode_environment(struct config *c, struct err *e);
/* What was not given, once the data directory is known. */
int config_code_mode_finish(struct config *c, struct err *e);
void config_code_mode_fini(struct config *c);

/* --- config_approvals.c --- */

void config_approvals_defaults(struct config *c);
/* The key "approvals", and that of each pool; after both pools and code mode. */
int config_approvals_read(struct config *c, struct err *e);
/* CARREL_DATABASE_URL. */
int config_approvals_environment(struct config *c, struct err *e);
/* What was not given, once the data directory is known. */
int config_approvals_finish(struct config *c, struct err *e);
/* Overwrites the database's URL. */
void config_approvals_forget(struct config *c);

/* --- config_tokens.c --- */

/* The key "auth". */
int config_auth_read(struct config *c, struct err *e);

/* Adds T with TEXT, without the white space around it, as its token; the copy is C's. */
int config_token_add(struct config *c, struct config_token t, const char *text, struct err *e);

/* The same with what is in the file at PATH. */
int config_token_add_file(struct config *c, struct config_token t, const char *path, struct err *e);

#endif
