/*
 * json_work: JSON that is too large for the event loop, read and written by a thread.
 *
 * A text of 8 MiB takes two tenths of a second to read, and about half of that to write; nobody
 * else would be served meanwhile. What is small is better done at once: a thread's turn costs more
 * than it.
 *
 * Invariants: JSON_WORK_AT_ONCE threads at most are at it, so that some are left for the store, and
 * one of them for the same asker; the askers take turns. A value that is written is not changed by
 * anybody meanwhile. All functions are for the loop's thread.
 */
#ifndef CODEMODE_JSON_WORK_H
#define CODEMODE_JSON_WORK_H

#include <jansson.h>
#include <stdbool.h>
#include <uv.h>

#include "base/buf.h"

#define JSON_WORK_AT_ONCE 2
#define JSON_WORK_WAITING_MAX 256
#define JSON_WORK_SMALL_BYTES (64U << 10) /* up to this the loop does it */

struct json_work;
struct json_job;

/* NULL when out of memory. */
struct json_work *json_work_new(uv_loop_t *loop);
/* Nobody is told any more. The loop must run until its threads are done. NULL is allowed. */
void json_work_free(struct json_work *w);

/* VALUE: a new reference, or NULL with WHY (good for the call). WEIGHT: as json_weight. */
typedef void (*json_read_fn)(void *ctx, json_t *value, size_t weight, const char *why);
/* Reads a copy of the LEN bytes at TEXT; above WEIGHT_MAX it is not built. WHO asks is only
 * compared. NULL when out of memory, otherwise FN is called later, once, unless the job is
 * cancelled. How many wait is for whoever asks to bound. */
struct json_job *json_work_read(struct json_work *w, const void *who, const char *text, size_t len,
    size_t weight_max, json_read_fn fn, void *ctx);

/* Adds to OUT what is to be sent of VALUE; 0 or negative. On any thread: it changes nothing else.
 */
typedef int (*json_add_fn)(struct buf *out, const json_t *value);
/* TEXT: borrowed, its bytes may be taken out of it; NULL when it could not be written. */
typedef void (*json_write_fn)(void *ctx, struct buf *text);
/* Writes VALUE, of which a reference is kept, with ADD. As json_work_read, and NULL, too, when
 * JSON_WORK_WAITING_MAX jobs wait. */
struct json_job *json_work_write(struct json_work *w, const void *who, const json_t *value,
    json_add_fn add, json_write_fn fn, void *ctx);
/* The same for whatever size: what is small, or has no room to wait, is written at once. NULL when
 * FN was called already. */
struct json_job *json_work_text(struct json_work *w, const void *who, const json_t *value,
    json_add_fn add, json_write_fn fn, void *ctx);

/* FN will not be called. NULL is allowed. */
void json_work_cancel(struct json_job *j);

/* Whether VALUE is more than JSON_WORK_SMALL_BYTES as text, roughly; looks no further than that. */
bool json_work_is_large(const json_t *value);

#endif
