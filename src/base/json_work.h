/*
 * json_work: JSON that is too large for the event loop, read, written and let go of by a thread.
 *
 * A text of 8 MiB takes two to six tenths of a second to read, up to two to free, and about as much
 * as that to write; nobody else would be served meanwhile. What is small is better done at once: a
 * thread's turn costs more than it.
 *
 * Invariants: JSON_WORK_AT_ONCE threads at most are at it, so that some are left for the store, and
 * one of them for the same holder (base/quota.h); the holders take turns. A value that is written
 * is not changed by anybody meanwhile. All functions are for the loop's thread.
 */
#ifndef BASE_JSON_WORK_H
#define BASE_JSON_WORK_H

#include <jansson.h>
#include <stdbool.h>
#include <uv.h>

#include "base/buf.h"
#include "base/json_read.h"

#define JSON_WORK_AT_ONCE 2
#define JSON_WORK_WRITING_MAX 256         /* values that wait to be written, or are; see quota.h */
#define JSON_WORK_SMALL_BYTES (64U << 10) /* up to this the loop does it */

struct json_work;
struct json_job;

/* NULL when out of memory. */
struct json_work *json_work_new(uv_loop_t *loop);
/* Nobody is told any more. The loop must run until its threads are done. NULL is allowed. */
void json_work_free(struct json_work *w);

/* R->value is borrowed: a thread lets go of it next. TEXT is what was read, and may be taken. */
typedef void (*json_read_fn)(void *ctx, const struct json_read *r, struct buf *text);
/* Reads TEXT, which is taken over, as json_read() does. NULL when out of memory, and TEXT is as it
 * was; otherwise FN is called later, once, unless the job is cancelled. How many wait is for
 * whoever asks to bound. */
struct json_job *json_work_read(struct json_work *w, const char *holder, struct buf *text,
    size_t flags, size_t weight_max, json_read_fn fn, void *ctx);

/* Adds to OUT what is to be sent of VALUE; 0 or negative. On any thread: it changes nothing else.
 */
typedef int (*json_add_fn)(struct buf *out, const json_t *value);
/* TEXT: borrowed, its bytes may be taken out of it; NULL when it could not be written. ERR: 0;
 * -EDQUOT, HOLDER has as many that wait as it may; or what ADD returned. */
typedef void (*json_write_fn)(void *ctx, int err, struct buf *text);
/* Has ADD write VALUE, of which a reference is kept: at once when it is small or nothing can be had
 * for it, and then NULL is returned; otherwise as json_work_read. */
struct json_job *json_work_write(struct json_work *w, const char *holder, const json_t *value,
    json_add_fn add, json_write_fn fn, void *ctx);

/* What is not a tree yet: SUBJECT, which nobody changes, as text. ADD is called on a thread.
 * SUBJECT is taken over: DROP is called once, when it is not read any more. NULL when FN was called
 * already, since nothing can be had for it; otherwise as json_work_read. */
struct json_subject {
	void *subject;
	int (*add)(struct buf *out, const void *subject);
	void (*drop)(void *subject);
	json_t *value; /* of what SUBJECT borrows, a reference that a thread lets go of; or NULL */
};
struct json_job *json_work_make(struct json_work *w, const char *holder,
    const struct json_subject *subject, json_write_fn fn, void *ctx);
/* Runs the loop until no thread reads a subject, once the jobs of all are cancelled. NULL is
 * allowed. */
void json_work_settle(struct json_work *w);

/* FN will not be called. NULL is allowed. */
void json_work_cancel(struct json_job *j);

/* Whether VALUE is more than BYTES as text, roughly; looks no further than that. */
bool json_work_exceeds(const json_t *value, size_t bytes);

#endif
