/*
 * url: the addresses the client speaks to.
 *
 * A base is `http[s]://host[:port][/prefix][/sessionPools/NAME]` without a last slash, checked
 * once. Every segment and every value after it is percent-encoded here and nowhere else. The
 * api-version is added to each address.
 */
#ifndef CLI_URL_H
#define CLI_URL_H

#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

#define URL_MAX_BYTES 16384
/* The data plane's version whose flat ("new") dialect this client speaks. */
#define URL_API_VERSION "2025-10-02-preview"

struct url_query {
	const char *key;
	const char *value; /* NULL: left out */
};

/* Checks the server's address, http:// where it has no scheme, and adds the pool (NULL: the default
 * pool). Refused: any scheme but
 * http and https, a user or password, a query, a fragment. 0, or -1 with ERR_INVALID. */
int url_base(struct buf *out, const char *server, const char *pool, struct err *e);

/* Replaces OUT by BASE, the NULL-terminated SEGMENTS and the QUERY (ended by a NULL key; may be
 * NULL). A segment that is empty, "." or ".." is refused, as it would change the path. 0, or -1
 * with ERR_INVALID. */
int url_build(struct buf *out, const char *base, const char *const *segments,
    const struct url_query *query, struct err *e);

/* Replaces OUT by the address LINK (absolute or relative) means when found in the answer to
 * CURRENT. Refused unless scheme, host and port are those of CURRENT: the token goes nowhere else.
 * 0, or -1 with ERR_DENIED. OUT is not CURRENT's own buffer. */
int url_follow(struct buf *out, const char *current, const char *link, struct err *e);

#endif
