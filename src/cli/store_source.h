/*
 * store_source: what people write by hand, read for a store: a directory of *.py (skills) or *.yaml
 * (tools), one a file, or a file of requirements. What is wrong with one is a problem that names
 * its file and line, and costs none of the others. Source of the forms: py-code-mode's store
 * command.
 */
#ifndef CLI_STORE_SOURCE_H
#define CLI_STORE_SOURCE_H

#include <jansson.h>

#include "base/err.h"

#define STORE_SOURCE_FILES_MAX 100000

/* *RECORDS: what a store takes for TYPE (TYPE_TOOLS, TYPE_SKILLS or TYPE_DEPS), in the order of
 * their names; *PROBLEMS: array of {file, message}. Both the caller's. 0, or -1 with ERR_INTERNAL
 * when PATH cannot be read at all. */
int store_source_read(
    int type, const char *path, json_t **records, json_t **problems, struct err *e);

/* Adds {name, size} to LIST for each regular file beneath DIR that can be an artifact and is not in
 * LIST by its name. Links are not followed. 0, or -1 with E. */
int store_source_add_files(const char *dir, json_t *list, struct err *e);

/* Adds one line of requirements to RECORDS, or what is wrong with it, for the LINE of FILE (0: of
 * the command line), to PROBLEMS. Blank lines and comments are passed over. */
void store_source_add_requirement(
    const char *text, const char *file, unsigned line, json_t *records, json_t *problems);

#endif
