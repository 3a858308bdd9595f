/*
 * discard: frees what is large on a thread of the loop's pool, so that the loop does not stop for
 * it: ten thousand records take it several milliseconds.
 *
 * What is given away must be held by nobody else, but for JSON, whose references are counted
 * atomically. The loop must be run until it is done, as for every other job of the pool.
 */
#ifndef STORE_DISCARD_H
#define STORE_DISCARD_H

#include <jansson.h>
#include <uv.h>

/* Calls FN(WHAT) on a thread; at once when memory is out. WHAT may be NULL, and then nothing is
 * called. */
void discard(uv_loop_t *loop, void (*fn)(void *what), void *what);
/* Gives up a reference; at once when it is of a small array or object. NULL is allowed. */
void discard_json(uv_loop_t *loop, json_t *json);

#endif
