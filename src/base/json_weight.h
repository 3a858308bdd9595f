/*
 * json_weight: what a JSON text becomes as a tree, told before it is read.
 *
 * "[{},{},{}…" of 8 MiB is a tree of more than half a gibibyte, and takes seconds to build; whoever
 * reads the JSON of a stranger asks first.
 */
#ifndef BASE_JSON_WEIGHT_H
#define BASE_JSON_WEIGHT_H

#include <stddef.h>

/* Arguments of a host call: a skill's source or a tool's text of 8 MiB, and a list of some 300,000
 * numbers beside it. */
#define JSON_WEIGHT_CALL_MAX (24UL << 20)
/* The body of a request. */
#define JSON_WEIGHT_BODY_MAX (64UL << 20)

/* About as many bytes as jansson's tree of the text takes, rather more; of any text, JSON or not.
 */
size_t json_weight(const char *text, size_t len);

#endif
