#include "engine/metrics.h"

#include <string.h>

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

const char *const metrics_host_methods[METRICS_HOST_METHODS] = {"tools.list", "tools.search",
    "tools.call", "skills.list", "skills.search", "skills.get", "skills.create", "skills.delete",
    "artifacts.list", "artifacts.get", "artifacts.exists", "artifacts.save", "artifacts.load",
    "artifacts.register", "artifacts.delete", "artifacts.path", "deps.list", "deps.add",
    "deps.remove", "deps.sync", "other"};

const char *host_outcome_name(enum host_outcome o)
{
	static const char *const names[HOST_OUTCOME_COUNT] = {
	    [HOST_OUTCOME_OK] = "ok",
	    [HOST_OUTCOME_ERROR] = "error",
	    [HOST_OUTCOME_CANCELED] = "canceled",
	    [HOST_OUTCOME_REFUSED] = "refused",
	};
	return names[o];
}

void metrics_host_call(
    struct pool_metrics *m, const char *method, enum host_outcome outcome, uint64_t us)
{
	size_t i = 0;
	while (i < METRICS_HOST_METHODS - 1 && strcmp(metrics_host_methods[i], method) != 0) {
		i++;
	}
	m->host_calls[i][outcome]++;
	histogram_add(&m->host_call, us);
}
