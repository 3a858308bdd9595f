#include "base/clock.h"

#include <stdio.h>
#include <time.h>

uint64_t clock_mono_us(void)
{
	struct timespec t;
	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

uint64_t clock_mono_ms(void)
{
	return clock_mono_us() / 1000;
}

int64_t clock_wall_us(void)
{
	struct timespec t;
	(void)clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

char *clock_rfc3339(int64_t wall_us, int digits, char out[CLOCK_RFC3339_BYTES])
{
	time_t seconds = wall_us / 1000000;
	int micros = (int)(wall_us % 1000000);
	if (micros < 0) {
		micros += 1000000;
		seconds -= 1;
	}
	struct tm tm;
	(void)gmtime_r(&seconds, &tm);
	char fraction[8]; /* seven digits: the wire's own precision, in tenths of a microsecond */
	(void)snprintf(fraction, sizeof(fraction), "%06u0", (unsigned)micros % 1000000U);
	size_t n = strftime(out, CLOCK_RFC3339_BYTES, "%Y-%m-%dT%H:%M:%S", &tm);
	(void)snprintf(out + n, CLOCK_RFC3339_BYTES - n, ".%.*sZ", digits, fraction);
	return out;
}
