/*
 * work: threads for what a session can make slow: operations on its files, reading its pipes,
 * dropping the last reference to what it filled. A session that writes a file from sixty threads
 * holds the file's lock for as long as it likes; whoever wants it waits, and that is never the
 * loop.
 *
 * Jobs of one lane run one after the other, in the order they came; a session has a lane for its
 * files and one for its output. Threads are shared by tenant (base/quota.h), so that one whose jobs
 * are all stuck leaves threads to everybody else.
 *
 * Invariants: a job's done is called once, on the loop, after work_add has returned; no job runs
 * after it. All functions are for the loop's thread.
 */
#ifndef GATEWAY_WORK_H
#define GATEWAY_WORK_H

#include <uv.h>

#include "engine/engine.h"

#define WORK_THREADS_MAX 64

enum work_lane { WORK_FILES, WORK_OUTPUT };

struct work;

/* NULL when out of memory. */
struct work *work_new(uv_loop_t *loop);
/* For a lane of the worker of that ID. TENANT is whose share it is; borrowed for the call. */
void work_add(
    struct work *w, uint64_t id, enum work_lane kind, const char *tenant, struct engine_job *j);
/* J, which waits or runs, is not wanted any more: when it has not begun, it is not run. */
void work_cancel(struct work *w, struct engine_job *j);
/* The same for all that wait in a lane. */
void work_cancel_lane(struct work *w, uint64_t id, enum work_lane kind);
/* Runs the loop until every job is done, and frees. NULL is allowed. */
void work_free(struct work *w);

#endif
