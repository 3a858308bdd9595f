/*
 * samples: how long things took, kept one by one, and told as JSON.
 *
 * Invariants: at most SAMPLES_MAX are kept; more are counted in `dropped`, and told. Times are
 * nanoseconds of the monotonic clock here, and microseconds in the JSON.
 */
#ifndef BENCH_SAMPLES_H
#define BENCH_SAMPLES_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define SAMPLES_MAX (4U << 20)

struct samples {
	uint64_t *ns;
	size_t len;
	size_t room;
	uint64_t dropped;
};

/* Monotonic time since an unnamed start. */
uint64_t samples_now_ns(void);

/* Frees the times; the struct is empty again. For cleanup(). NULL is allowed. */
void samples_fini(struct samples *s);

/* 0 or -ENOMEM. Past SAMPLES_MAX the time is dropped and counted. */
int samples_add(struct samples *s, uint64_t ns);

/* Sorts S, and writes `"count":…,"mean_us":…,"p50_us":…,…` without braces to OUT. The percentiles
 * are nearest ranks: values that were really measured. All are null when S is empty. */
void samples_print(struct samples *s, FILE *out);

#endif
