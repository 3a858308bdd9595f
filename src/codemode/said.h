/*
 * said: what the parsing session says of skills' sources. The session ran hostile text: its word
 * has the shape it must have, or counts for nothing.
 */
#ifndef CODEMODE_SAID_H
#define CODEMODE_SAID_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* Names the version of skill_source.py that speaks here, and of its Python. Made by the build. */
extern const char said_format[];

/* Whether RESULT is {"description", "parameters"} or {"error", "message"} as they must be. */
bool said_is_good(const json_t *result);

/* TEXT as COUNT results that are good; a new reference, or NULL: it counts for nothing. */
json_t *said_parse(const char *text, size_t len, size_t count);

#endif
