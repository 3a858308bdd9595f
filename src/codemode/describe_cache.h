/*
 * describe_cache: what the parsing session said of skills' sources, by the hash of the source, and
 * on the disk, so that the next life of the server need not ask again.
 *
 * One file, {"format": 1, "said": {SHA-256 of the source in hex: {"description", "parameters"}}},
 * written whole by a thread and put in its place by a rename. What a source failed with is not in
 * it: another Python may read it. It is the server's own, and still believed only in its shape.
 *
 * Bounds: 32,768 sources and 64 MiB, the oldest go first.
 */
#ifndef CODEMODE_DESCRIBE_CACHE_H
#define CODEMODE_DESCRIBE_CACHE_H

#include <jansson.h>
#include <uv.h>

#define DESCRIBE_HASH_BYTES 32 /* SHA-256 */

struct describe_cache;

/* With what is in DIR's file (borrowed for its life; NULL: there is none). NULL when out of memory.
 */
struct describe_cache *describe_cache_new(uv_loop_t *loop, const char *dir);
/* Writes what is new. The loop must run until that is done. NULL is allowed. */
void describe_cache_free(struct describe_cache *d);

void describe_cache_hash(const json_t *source, unsigned char hash[DESCRIBE_HASH_BYTES]);
/* Borrowed; NULL when nothing is known. */
json_t *describe_cache_get(struct describe_cache *d, const unsigned char hash[DESCRIBE_HASH_BYTES]);
/* Keeps a reference to RESULT, which nobody changes any more. */
void describe_cache_keep(struct describe_cache *d, const json_t *source, json_t *result);

#endif
