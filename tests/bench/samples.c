#include "samples.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "base/compiler.h"

#define FIRST_ROOM 4096

uint64_t samples_now_ns(void)
{
	struct timespec t;
	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

void samples_fini(struct samples *s)
{
	if (s == NULL) {
		return;
	}
	free(s->ns);
	*s = (struct samples){0};
}

int samples_add(struct samples *s, uint64_t ns)
{
	if (s->len == SAMPLES_MAX) {
		s->dropped++;
		return 0;
	}
	if (s->len == s->room) {
		size_t room = s->room == 0 ? FIRST_ROOM : s->room * 2;
		uint64_t *grown = realloc(s->ns, room * sizeof(*grown));
		if (grown == NULL) {
			return -ENOMEM;
		}
		s->ns = grown;
		s->room = room;
	}
	s->ns[s->len++] = ns;
	return 0;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a;
	uint64_t y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

/* The smallest value that at least PER_MILLE thousandths do not exceed. */
static double rank_us(const struct samples *s, size_t per_mille)
{
	size_t rank = (s->len * per_mille + 999) / 1000;
	return (double)s->ns[rank == 0 ? 0 : rank - 1] / 1000.0;
}

static double mean_us(const struct samples *s)
{
	double sum = 0;
	for (size_t i = 0; i < s->len; i++) {
		sum += (double)s->ns[i] / 1000.0;
	}
	return sum / (double)s->len;
}

void samples_print(struct samples *s, FILE *out)
{
	static const struct {
		const char *name;
		size_t per_mille;
	} ranks[] = {{"min_us", 0}, {"p50_us", 500}, {"p90_us", 900}, {"p99_us", 990},
	    {"p999_us", 999}, {"max_us", 1000}};
	(void)fprintf(
	    out, "\"count\":%zu,\"dropped\":%llu", s->len, (unsigned long long)s->dropped);
	if (s->len == 0) {
		(void)fputs(",\"mean_us\":null", out);
	} else {
		qsort(s->ns, s->len, sizeof(s->ns[0]), compare);
		(void)fprintf(out, ",\"mean_us\":%.3f", mean_us(s));
	}
	for (size_t i = 0; i < array_len(ranks); i++) {
		if (s->len == 0) {
			(void)fprintf(out, ",\"%s\":null", ranks[i].name);
		} else {
			(void)fprintf(
			    out, ",\"%s\":%.3f", ranks[i].name, rank_us(s, ranks[i].per_mille));
		}
	}
}
