/* list: a list that the server gives in pages, whole. */
#ifndef CLI_LIST_H
#define CLI_LIST_H

#include <jansson.h>

#include "cli/client.h"
#include "cli/url.h"

#define LIST_MAX_PAGES 10000
#define LIST_MAX_ITEMS 1000000

/* GETs the list and every page its `nextLink` leads to, on this server only, and puts the items of
 * the array at KEY of each together in *OUT (owned by the caller). 0, or -1 with *E as
 * client_perform, ERR_DENIED for a nextLink to elsewhere, ERR_TOO_LARGE past the bounds above. */
int list_get(struct client *c, const char *const *segments, const struct url_query *query,
    const char *key, json_t **out, struct err *e);

#endif
