/*
 * callback_url: whether a callback may be sent to a URL that a client named. The configuration
 * lists URLs; a callback's URL has the same scheme, host and port as one of them, spelt the same
 * but for the case of letters, and its path begins with that one's, segment by segment.
 *
 * A URL that different readers could take for different places is refused: with user information,
 * '\', '%2e' or '%2f' in its path, '.' or '..' segments, characters that a URL does not have, a
 * fragment. The gateway asks when an approval is submitted, the runner again before it sends.
 */
#ifndef TOOLS_CALLBACK_URL_H
#define TOOLS_CALLBACK_URL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define CALLBACK_URL_MAX_BYTES 2048

/* Whether URL is an http or https URL as above. 0, or -1 with ERR_INVALID. Also for a prefix, which
 * has no query. */
int callback_url_check(const char *url, struct err *e);
/* 0, or -1 with ERR_INVALID when URL is none, or is beneath none of PREFIXES, which have been
 * checked. */
int callback_url_allowed(
    const char *url, const char *const *prefixes, uint32_t count, struct err *e);

#endif
