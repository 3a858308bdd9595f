/* The pools of the configuration. */
#include <string.h>
#include <strings.h>
#include <sys/sysinfo.h>

#include "cli/config_tree.h"

#define SESSIONS_DEFAULT 1000
/* Half of the machine for idle sessions, at what one costs with everything around it. */
#define SESSION_COST_BYTES (8ULL << 20)

static uint32_t default_sessions(void)
{
	struct sysinfo s;
	if (sysinfo(&s) < 0) {
		return SESSIONS_DEFAULT;
	}
	uint64_t fit = (uint64_t)s.totalram * s.mem_unit / 2 / SESSION_COST_BYTES;
	return fit < SESSIONS_DEFAULT ? (uint32_t)(fit > 1 ? fit : 1) : SESSIONS_DEFAULT;
}

static void pool_defaults(struct pool_config *p)
{
	*p = (struct pool_config){
	    .name = "default",
	    .type = POOL_PYTHON,
	    .max_sessions = default_sessions(),
	    .ready_sessions = 16,
	    .cooldown_ms = 300 * 1000,
	    .execution_time_ms = 220 * 1000,
	    .output_max_bytes = 1U << 20,
	    .limits =
		{
		    .memory_bytes = 1ULL << 30,
		    .file_space_bytes = 512ULL << 20,
		    .cpu_millis = 1000,
		    .pids = 128,
		    .open_files = 512,
		},
	};
}

static int pool_name(const json_t *map, const char *prefix, struct pool_config *p, struct err *e)
{
	const char *name = NULL;
	struct config_place at = {prefix, "name"};
	if (config_get_text(map, at, &name, e) < 0) {
		return -1;
	}
	if (name == NULL) {
		return 0;
	}
	size_t len = strlen(name);
	if (len < 3 || len > ENGINE_POOL_NAME_MAX || name[0] < 'a' || name[0] > 'z' ||
	    strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != len) {
		return config_bad(e, at,
		    "must be 3 to 63 lower-case letters, digits and hyphens, a letter first");
	}
	(void)memccpy(p->name, name, '\0', sizeof(p->name));
	return 0;
}

static int pool_type(const json_t *map, const char *prefix, struct pool_config *p, struct err *e)
{
	const char *type = "PythonLTS";
	struct config_place at = {prefix, "container_type"};
	if (config_get_text(map, at, &type, e) < 0) {
		return -1;
	}
	if (strcasecmp(type, "PythonLTS") == 0) {
		p->type = POOL_PYTHON;
	} else if (strcasecmp(type, "Shell") == 0) {
		p->type = POOL_SHELL;
	} else {
		return config_bad(e, at,
		    "PythonLTS and Shell are offered; CustomContainer, NodeLTS, GpuBase and "
		    "CsharpLTS "
		    "are not");
	}
	return 0;
}

static int pool_egress(const json_t *map, const char *prefix, struct err *e)
{
	const char *egress = "EgressDisabled";
	struct config_place at = {prefix, "egress"};
	if (config_get_text(map, at, &egress, e) < 0) {
		return -1;
	}
	if (strcasecmp(egress, "EgressDisabled") != 0) {
		return config_bad(e, at,
		    "only EgressDisabled is offered: sessions have no way to the network yet");
	}
	return 0;
}

static int pool_cpu(const json_t *map, const char *prefix, uint32_t *cpu_millis, struct err *e)
{
	const json_t *j = json_object_get(map, "cpu");
	if (j == NULL || json_is_null(j)) {
		return 0;
	}
	double v = json_number_value(j);
	if (!json_is_number(j) || !(v >= 0.01) || !(v <= 1024)) {
		return config_bad(
		    e, (struct config_place){prefix, "cpu"}, "must be 0.01 to 1024 cores");
	}
	*cpu_millis = (uint32_t)(v * 1000);
	return 0;
}

static int pool_read(const json_t *map, const char *prefix, struct pool_config *p, struct err *e)
{
	static const char *const known[] = {"name", "container_type", "max_concurrent_sessions",
	    "ready_sessions", "cooldown_seconds", "max_lifetime_seconds", "egress", "memory", "cpu",
	    "processes", "open_files", "file_space", "execution_seconds", "output", "approvals",
	    NULL};
	if (!json_is_object(map)) {
		return config_bad(e, (struct config_place){prefix, ""}, "must be a mapping");
	}
	struct ipc_pool_limits *l = &p->limits;
	uint64_t output = p->output_max_bytes;
	uint32_t lifetime_ms = 0;
	if (config_only_known(map, prefix, known, e) < 0 || pool_name(map, prefix, p, e) < 0 ||
	    pool_type(map, prefix, p, e) < 0 || pool_egress(map, prefix, e) < 0 ||
	    config_get_u32(map, (struct config_place){prefix, "max_concurrent_sessions"}, 1, 100000,
		&p->max_sessions, e) < 0 ||
	    config_get_u32(map, (struct config_place){prefix, "ready_sessions"}, 0, 10000,
		&p->ready_sessions, e) < 0 ||
	    config_get_seconds(map, (struct config_place){prefix, "cooldown_seconds"}, 1, 604800,
		&p->cooldown_ms, e) < 0 ||
	    config_get_seconds(map, (struct config_place){prefix, "max_lifetime_seconds"}, 1,
		2592000, &lifetime_ms, e) < 0 ||
	    config_get_seconds(map, (struct config_place){prefix, "execution_seconds"}, 0.1, 86400,
		&p->execution_time_ms, e) < 0 ||
	    config_get_bytes(
		map, (struct config_place){prefix, "memory"}, 16U << 20, &l->memory_bytes, e) < 0 ||
	    config_get_bytes(map, (struct config_place){prefix, "file_space"}, 1U << 20,
		&l->file_space_bytes, e) < 0 ||
	    config_get_bytes(map, (struct config_place){prefix, "output"}, 1024, &output, e) < 0 ||
	    pool_cpu(map, prefix, &l->cpu_millis, e) < 0 ||
	    config_get_u32(
		map, (struct config_place){prefix, "processes"}, 1, 100000, &l->pids, e) < 0 ||
	    config_get_u32(map, (struct config_place){prefix, "open_files"}, 64, 1000,
		&l->open_files, e) < 0) {
		return -1;
	}
	if (output > (256U << 20)) {
		return config_bad(
		    e, (struct config_place){prefix, "output"}, "must be at most 256m");
	}
	p->output_max_bytes = (uint32_t)output;
	p->max_lifetime_ms = lifetime_ms;
	return 0;
}

int config_pools_read(struct config *c, struct err *e)
{
	json_t *list = json_object_get(c->tree, "pools");
	struct engine_config *en = &c->engine;
	if (list == NULL) {
		pool_defaults(&en->pools[0]);
		en->pool_count = 1;
		return 0;
	}
	struct config_place at = {"", "pools"};
	if (!json_is_array(list) || json_array_size(list) == 0 ||
	    json_array_size(list) > IPC_POOLS_MAX) {
		return config_bad(e, at, "must be a list of 1 to 64 pools");
	}
	for (size_t i = 0; i < json_array_size(list); i++) {
		char prefix[32];
		cleanup(buf_fini) struct buf text = BUF_INIT(sizeof(prefix));
		(void)buf_addf(&text, "pools[%zu].", i);
		struct pool_config *p = &en->pools[i];
		pool_defaults(p);
		if (pool_read(json_array_get(list, i), buf_str(&text), p, e) < 0) {
			return -1;
		}
		for (size_t k = 0; k < i; k++) {
			if (strcmp(en->pools[k].name, p->name) == 0) {
				return config_bad(e, (struct config_place){buf_str(&text), "name"},
				    "is another pool's too");
			}
		}
		en->pool_count++;
	}
	return 0;
}
