/*
 * said: what the parsing session says of sources: read as the hostile input it is, and kept by the
 * hash of the source, within a bound; past it the oldest is forgotten.
 */
#ifndef CODEMODE_SAID_H
#define CODEMODE_SAID_H

#include <jansson.h>
#include <stddef.h>

#define SAID_HASH_BYTES 32 /* SHA-256 */

struct said;

/* All zero: empty. */
struct said_cache {
	struct said *said;
	size_t bytes;
};

/* The hash of a text. */
void said_hash(const json_t *source, unsigned char hash[SAID_HASH_BYTES]);
/* What was said of the source of that hash. Borrowed; NULL when it is not known. */
json_t *said_find(const struct said_cache *c, const unsigned char hash[SAID_HASH_BYTES]);
/* Keeps RESULT, a reference of which is taken. What is known already stays. */
void said_keep(struct said_cache *c, const json_t *source, json_t *result);
void said_clear(struct said_cache *c);

/* TEXT as COUNT results, each with the shape it must have ({"description", "parameters"} or
 * {"error", "message"}); a new reference, or NULL: it counts for nothing. */
json_t *said_parse(const char *text, size_t len, size_t count);

#endif
