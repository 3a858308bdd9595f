/*
 * metrics: counters and latency histograms of a pool. Plain numbers, no I/O; the metrics endpoint
 * prints them.
 */
#ifndef ENGINE_METRICS_H
#define ENGINE_METRICS_H

#include <stdint.h>

#include "engine/verdict.h"

#define METRICS_BUCKETS 18

struct histogram {
	uint64_t buckets[METRICS_BUCKETS + 1]; /* not cumulative; the last is +Inf */
	uint64_t count;
	uint64_t sum_us;
};

/* Upper bounds of the buckets, in microseconds, ascending. */
extern const uint64_t metrics_bounds_us[METRICS_BUCKETS];

void histogram_add(struct histogram *h, uint64_t us);

/* Host calls are counted by method; one that no server knows counts as the last, because a session
 * says what it likes. */
#define METRICS_HOST_METHODS 21

extern const char *const metrics_host_methods[METRICS_HOST_METHODS];

enum host_outcome {
	HOST_OUTCOME_OK,
	HOST_OUTCOME_ERROR,    /* answered with one */
	HOST_OUTCOME_CANCELED, /* nobody waits for the answer any more */
	HOST_OUTCOME_REFUSED,  /* past a bound */
	HOST_OUTCOME_COUNT,
};

/* "ok", "error", "canceled", "refused". */
const char *host_outcome_name(enum host_outcome o);

struct pool_metrics {
	uint64_t executions[VERDICT_COUNT]; /* by verdict */
	struct histogram create;            /* from a session's first request to its worker */
	struct histogram execute;           /* from queued to final */
	uint64_t sessions_created;
	uint64_t sessions_lost;    /* ended by themselves: crash, exit, limit */
	uint64_t sessions_refused; /* pool full */
	uint64_t workers_started;
	uint64_t workers_failed;
	uint64_t memory_peak_bytes; /* largest seen of a session that ended */
	uint64_t upload_bytes;
	uint64_t download_bytes;
	uint64_t uploads;
	uint64_t downloads;
	uint64_t host_calls[METRICS_HOST_METHODS][HOST_OUTCOME_COUNT];
	struct histogram host_call; /* from a host call to its answer */
};

void metrics_host_call(
    struct pool_metrics *m, const char *method, enum host_outcome outcome, uint64_t us);

#endif
