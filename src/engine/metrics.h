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
};

#endif
