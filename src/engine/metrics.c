#include "engine/metrics.h"

const uint64_t metrics_bounds_us[METRICS_BUCKETS] = {50, 100, 200, 500, 1000, 2000, 5000, 10000,
    20000, 50000, 100000, 200000, 500000, 1000000, 5000000, 20000000, 60000000, 300000000};

void histogram_add(struct histogram *h, uint64_t us)
{
	int i = 0;
	while (i < METRICS_BUCKETS && us > metrics_bounds_us[i]) {
		i++;
	}
	h->buckets[i]++;
	h->count++;
	h->sum_us += us;
}
