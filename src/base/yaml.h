/*
 * yaml: YAML read into a jansson tree, so that everything configured is validated one way.
 *
 * Takes one document of mappings, sequences and scalars. Plain scalars become null, booleans
 * (true/false), integers and reals by the JSON schema of YAML 1.2; everything quoted is a string.
 * Aliases, tags, duplicate keys and keys that are not strings are refused.
 */
#ifndef BASE_YAML_H
#define BASE_YAML_H

#include <jansson.h>
#include <stddef.h>

#include "base/err.h"

/* The tree, owned by the caller; an empty document is an empty object. NULL with ERR_INVALID and a
 * text that begins with "line N: ". */
json_t *yaml_parse(const char *text, size_t len, struct err *e);

/* The same, and in *LINES (the caller's; NULL on failure) an object with the line of each node by
 * its path: "" for the document, "/schema/options/count", "/tools/0/name" for what is within. */
json_t *yaml_parse_lines(const char *text, size_t len, json_t **lines, struct err *e);

#endif
