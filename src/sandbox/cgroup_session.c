/* One session's control groups: made with their limits, joined, read, removed. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/text.h"
#include "sandbox/cgroup_files.h"
#include "sandbox/walls.h"

#define CPU_PERIOD_US 100000u
#define CPU_QUOTA_MIN_US 1000u /* the kernel's own minimum (kernel/sched/core.c) */
#define PENDING_PER_CALL 8
#define NSEC_PER_USEC 1000

/* COUNT numbers of /proc/<pid>/stat from field FIRST (proc(5)) on. 0 or -errno. */
static int process_fields(int pid, int first, uint64_t *out, int count)
{
	char path[64];
	cleanup(buf_fini) struct buf text = {.max = 4096};
	(void)snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	int r = fd_read_file(AT_FDCWD, path, &text);
	if (r < 0) {
		return r;
	}
	/* The name, in brackets, may hold anything; the fields are counted from its end. */
	const char *at = strrchr(buf_str(&text), ')');
	for (int field = 2; field < first + count; field++) {
		if (field >= first && sscanf(at, " %" SCNu64, &out[field - first]) != 1) {
			return -EINVAL;
		}
		at = at == NULL ? NULL : strchr(at + 1, ' ');
		if (at == NULL) {
			return -EINVAL;
		}
	}
	return 0;
}

int cgroup_process_start(int pid, uint64_t *out)
{
	return process_fields(pid, 22, out, 1);
}

uint64_t cgroup_pid_namespace(void)
{
	struct stat st;
	return stat("/proc/self/ns/pid", &st) == 0 ? (uint64_t)st.st_ino : 0;
}

static void name_of(char name[CGROUP_NAME_BYTES], uint64_t id)
{
	(void)snprintf(name, CGROUP_NAME_BYTES, "s%" PRIx64, id);
}

static bool has(const struct cgroup_hierarchy *h, enum cgroup_kind kind)
{
	return (h->kinds & 1u << kind) != 0;
}

bool cgroups_have(const struct cgroups *cg, enum cgroup_kind kind)
{
	for (int i = 0; i < cg->count; i++) {
		if (has(&cg->hierarchies[i], kind)) {
			return true;
		}
	}
	return false;
}

void cgroups_close(struct cgroups *cg)
{
	for (int i = 0; i < cg->count; i++) {
		fd_close(&cg->hierarchies[i].base_fd);
	}
	cg->count = 0;
}

void cgroups_fini(struct cgroups *cg)
{
	cgroups_close(cg);
}

static int write_number(const struct cgroups *cg, int fd, const char *file, uint64_t value)
{
	char text[32];
	(void)snprintf(text, sizeof(text), "%" PRIu64, value);
	return cgroup_write(cg, fd, file, text);
}

/* Swap is not there to go past the limit with. Kernels without swap accounting lack the file. */
static int set_memory(const struct cgroups *cg, int fd, int version, uint64_t bytes)
{
	int r = write_number(cg, fd, version == 2 ? "memory.max" : "memory.limit_in_bytes", bytes);
	if (r < 0) {
		return r;
	}
	r = version == 2 ? cgroup_write(cg, fd, "memory.swap.max", "0")
			 : write_number(cg, fd, "memory.memsw.limit_in_bytes", bytes);
	return r == -ENOENT || r == -EACCES ? 0 : r;
}

static int set_cpu(const struct cgroups *cg, int fd, int version, uint32_t millis)
{
	uint64_t quota = (uint64_t)millis * (CPU_PERIOD_US / 1000);
	if (quota < CPU_QUOTA_MIN_US) {
		quota = CPU_QUOTA_MIN_US;
	}
	if (version == 2) {
		char text[48];
		(void)snprintf(text, sizeof(text), "%" PRIu64 " %u", quota, CPU_PERIOD_US);
		return cgroup_write(cg, fd, "cpu.max", text);
	}
	int r = write_number(cg, fd, "cpu.cfs_period_us", CPU_PERIOD_US);
	return r < 0 ? r : write_number(cg, fd, "cpu.cfs_quota_us", quota);
}

static int set_limits(const struct cgroups *cg, const struct cgroup_hierarchy *h, int fd,
    const struct sandbox_limits *limits)
{
	int r = 0;
	if (has(h, CGROUP_MEMORY) && limits->memory_bytes > 0) {
		r = set_memory(cg, fd, h->version, limits->memory_bytes);
	}
	if (r == 0 && has(h, CGROUP_PIDS) && limits->pids > 0) {
		r = write_number(cg, fd, "pids.max", limits->pids);
	}
	if (r == 0 && has(h, CGROUP_CPU) && limits->cpu_millis > 0) {
		r = set_cpu(cg, fd, h->version, limits->cpu_millis);
	}
	return r;
}

static int add_one(const struct cgroups *cg, const struct cgroup_hierarchy *h, const char *name,
    const struct sandbox_limits *limits, int *v2_fd)
{
	if (mkdirat(h->base_fd, name, 0755) < 0) {
		return -errno;
	}
	cleanup(fd_close) int fd = openat(h->base_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) {
		return -errno;
	}
	int r = set_limits(cg, h, fd, limits);
	if (r == 0 && h->version == 2) {
		*v2_fd = fd_take(&fd);
	}
	return r;
}

int cgroups_add(
    struct cgroups *cg, uint64_t id, const struct sandbox_limits *limits, int *v2_fd, struct err *e)
{
	char name[CGROUP_NAME_BYTES];
	name_of(name, id);
	*v2_fd = -1;
	for (int i = 0; i < cg->count; i++) {
		int r = add_one(cg, &cg->hierarchies[i], name, limits, v2_fd);
		if (r < 0) {
			fd_close(v2_fd);
			cgroups_remove(cg, id);
			return err_set_os(e, -r, "cannot make a control group");
		}
	}
	return 0;
}

int cgroups_join_v1(const struct cgroups *cg, uint64_t id, struct err *e)
{
	/* `tasks` moves the one thread there is. `cgroup.procs` would move the whole process, and
	 * takes a lock against every fork on the host for it, after a wait for RCU: 3 to 14 ms. */
	char file[CGROUP_NAME_BYTES + 16];
	(void)snprintf(file, sizeof(file), "s%" PRIx64 "/tasks", id);
	for (int i = 0; i < cg->count; i++) {
		const struct cgroup_hierarchy *h = &cg->hierarchies[i];
		int r = h->version == 1 ? cgroup_write(cg, h->base_fd, file, "0") : 0;
		if (r < 0) {
			return err_set_os(e, -r, "cannot join the session's control group");
		}
	}
	return 0;
}

uint64_t cgroup_number(const char *text, const char *key)
{
	uint64_t value = 0;
	const char *at = text;
	if (key == NULL) {
		return sscanf(at, "%" SCNu64, &value) == 1 ? value : 0;
	}
	size_t n = strlen(key);
	while (*at != '\0') {
		if (strncmp(at, key, n) == 0 && at[n] == ' ') {
			return sscanf(at + n, "%" SCNu64, &value) == 1 ? value : 0;
		}
		at = strchrnul(at, '\n');
		at += *at == '\n' ? 1 : 0;
	}
	return 0;
}

/* As cgroup_number, of FILE of the group NAME. */
static uint64_t read_number(int base_fd, const char *name, const char *file, const char *key)
{
	char path[CGROUP_NAME_BYTES + 64];
	cleanup(buf_fini) struct buf text = {.max = 4096};
	(void)snprintf(path, sizeof(path), "%s/%s", name, file);
	return fd_read_file(base_fd, path, &text) < 0 ? 0 : cgroup_number(buf_str(&text), key);
}

void cgroups_usage(const struct cgroups *cg, uint64_t id, struct sandbox_usage *out)
{
	char name[CGROUP_NAME_BYTES];
	name_of(name, id);
	for (int i = 0; i < cg->count; i++) {
		const struct cgroup_hierarchy *h = &cg->hierarchies[i];
		bool v2 = h->version == 2;
		if (has(h, CGROUP_MEMORY)) {
			out->oom_kills = read_number(h->base_fd, name,
			    v2 ? "memory.events" : "memory.oom_control", "oom_kill");
			out->memory_peak_bytes = read_number(h->base_fd, name,
			    v2 ? "memory.peak" : "memory.max_usage_in_bytes", NULL);
		}
		if (has(h, CGROUP_PIDS)) {
			out->pids_refused = read_number(h->base_fd, name, "pids.events", "max");
		}
		/* Version 1 counts time in a hierarchy of its own, which as a rule is that of cpu.
		 */
		if (v2) {
			out->cpu_us = read_number(h->base_fd, name, "cpu.stat", "usage_usec");
		} else if (has(h, CGROUP_CPU)) {
			out->cpu_us = read_number(h->base_fd, name, "cpuacct.usage", NULL) /
				      NSEC_PER_USEC;
		}
	}
}

static uint64_t process_cpu_us(int pid)
{
	uint64_t ticks[4]; /* utime, stime, cutime, cstime */
	if (process_fields(pid, 14, ticks, 4) < 0) {
		return 0;
	}
	uint64_t a_second = (uint64_t)sysconf(_SC_CLK_TCK);
	return (ticks[0] + ticks[1] + ticks[2] + ticks[3]) * 1000000 / a_second;
}

uint64_t cgroups_cpu_us(const struct cgroups *cg, uint64_t id, pid_t first)
{
	char path[CGROUP_NAME_BYTES + 16];
	cleanup(buf_fini) struct buf pids = {.max = 1 << 16};
	(void)snprintf(path, sizeof(path), "s%" PRIx64 "/cgroup.procs", id);
	if (cg->count == 0 || fd_read_file(cg->hierarchies[0].base_fd, path, &pids) < 0) {
		return process_cpu_us(first);
	}
	uint64_t sum_us = 0;
	int pid = 0;
	int len = 0;
	for (const char *at = buf_str(&pids); sscanf(at, "%d%n", &pid, &len) == 1; at += len) {
		sum_us += process_cpu_us(pid);
	}
	return sum_us;
}

int cgroups_kill(const struct cgroups *cg, uint64_t id)
{
	char file[CGROUP_NAME_BYTES + 16];
	(void)snprintf(file, sizeof(file), "s%" PRIx64 "/cgroup.kill", id);
	for (int i = 0; i < cg->count; i++) {
		if (cg->hierarchies[i].version == 2) {
			return cgroup_write(cg, cg->hierarchies[i].base_fd, file, "1");
		}
	}
	return -EOPNOTSUPP;
}

/* True when none of ID's groups is left. */
static bool remove_all(const struct cgroups *cg, uint64_t id)
{
	char name[CGROUP_NAME_BYTES];
	name_of(name, id);
	bool gone = true;
	for (int i = 0; i < cg->count; i++) {
		if (unlinkat(cg->hierarchies[i].base_fd, name, AT_REMOVEDIR) < 0 &&
		    errno != ENOENT) {
			gone = false;
		}
	}
	return gone;
}

static void retry_pending(struct cgroups *cg)
{
	int tries = cg->pending_count < PENDING_PER_CALL ? cg->pending_count : PENDING_PER_CALL;
	uint64_t again[PENDING_PER_CALL];
	int again_count = 0;
	for (int i = 0; i < tries; i++) {
		if (!remove_all(cg, cg->pending[i])) {
			again[again_count++] = cg->pending[i];
		}
	}
	int rest = cg->pending_count - tries;
	memmove(cg->pending, cg->pending + tries, (size_t)rest * sizeof(cg->pending[0]));
	memcpy(cg->pending + rest, again, (size_t)again_count * sizeof(again[0]));
	cg->pending_count = rest + again_count;
}

void cgroups_remove(struct cgroups *cg, uint64_t id)
{
	retry_pending(cg);
	/* Past the table's end a group stays until the next server's start removes it. */
	if (!remove_all(cg, id) && cg->pending_count < CGROUP_PENDING_MAX) {
		cg->pending[cg->pending_count++] = id;
	}
}
