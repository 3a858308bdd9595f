/*
 * requirement: one line of requirements: a package's name, perhaps extras, perhaps versions. What
 * could name a URL, a file, an option or a marker is refused, so that a line can be handed to an
 * installer.
 *
 * Source of the rules and of the messages: py-code-mode's dependency store.
 */
#ifndef STORE_REQUIREMENT_H
#define STORE_REQUIREMENT_H

#include <stdbool.h>

#include "base/err.h"

#define REQUIREMENT_MAX 256 /* bytes, without the NUL */

/* 0, or -1 with ERR_INVALID and the message for the user. */
int requirement_check(const char *line, struct err *e);

/* Writes LINE (checked, or a line of a file) with its name in lower case and '-' for '_'. Versions
 * and extras stay. Returns OUT; what is longer than REQUIREMENT_MAX is cut. */
char *requirement_normalise(const char *line, char out[REQUIREMENT_MAX + 1]);

/* Writes the normalised name alone: what an addition replaces and a removal matches. Returns OUT.
 */
char *requirement_name(const char *line, char out[REQUIREMENT_MAX + 1]);

#endif
