/*
 * clock: the two clocks this project reads. Durations and deadlines use the monotonic one; only
 * what a person or a wire shows uses the wall clock.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

/* Monotonic time since an unnamed start. */
uint64_t clock_mono_us(void);
uint64_t clock_mono_ms(void);

/* Wall clock, microseconds since 1970-01-01T00:00:00Z. */
int64_t clock_wall_us(void);

#define CLOCK_RFC3339_BYTES 32

/* Writes WALL_US as RFC 3339 in UTC with DIGITS (3 to 7) digits of a second, e.g.
 * 2024-05-02T07:21:07.9922617Z, and returns OUT. */
char *clock_rfc3339(int64_t wall_us, int digits, char out[CLOCK_RFC3339_BYTES]);

#endif
