/*
 * secrets: `${secret:NAME}` in texts of definitions. Values are known in the runner alone, are put
 * in where they are used, and taken out of whatever is told.
 */
#ifndef TOOLS_SECRETS_H
#define TOOLS_SECRETS_H

#include <jansson.h>

#include "base/buf.h"
#include "base/err.h"

/* How many secrets TEXT names. -1 with ERR_INVALID for one that is not closed or has no name. */
int secrets_count(const char *text, struct err *e);

/* Adds TEXT to OUT with the values of SECRETS ({name: text}, or NULL) put in. 0, or -1 with
 * ERR_UNAVAILABLE that says which one there is not. */
int secrets_expand(const json_t *secrets, const char *text, struct buf *out, struct err *e);

/* Adds TEXT to OUT with each value of SECRETS that is longer than a few bytes as "***". As buf_add.
 */
int secrets_redact(const json_t *secrets, const char *text, size_t len, struct buf *out);

#endif
