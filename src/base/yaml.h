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

#endif
