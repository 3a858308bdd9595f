/*
 * catalog: all the tools there are: those of files, and those a store gave, space by space.
 *
 * Invariants: one bad file takes no other down; of two tools with one name in a space the first
 * stays and the second is a problem; files are read in the order of their names, the list file
 * last; what was read of a file stays until that file changes.
 */
#ifndef TOOLS_CATALOG_H
#define TOOLS_CATALOG_H

#include <jansson.h>
#include <stdbool.h>

#define CATALOG_FILES_MAX 4096
#define CATALOG_TOOLS_MAX 10000

struct catalog;

/* TOOLS_DIR: its *.yaml; TOOLS_FILE: one file with a list. Either may be NULL. Copied. NULL when
 * there is no memory. */
struct catalog *catalog_new(const char *tools_dir, const char *tools_file);
void catalog_free(struct catalog *c);

/* Reads what has changed since the last time. True when the tools or the problems are not what they
 * were. A file that cannot be read is a problem. */
bool catalog_reload(struct catalog *c);

/* The tools of a store for the space of PREFIX (NULL: the server's own), in the place of those
 * given before. True as above. */
bool catalog_define(struct catalog *c, const char *prefix, const json_t *definitions);

/* A tool as in tools/definition.h, borrowed until the next change; NULL when there is none. */
const json_t *catalog_find(const struct catalog *c, const char *prefix, const char *name);

/* Calls FN for each tool with the space it is for: NULL for a file's and for the server's own. */
typedef void (*catalog_fn)(void *ctx, const char *prefix, const json_t *tool);
void catalog_each(const struct catalog *c, catalog_fn fn, void *ctx);

/* The problems of all (new array). */
json_t *catalog_problems(const struct catalog *c);

#endif
