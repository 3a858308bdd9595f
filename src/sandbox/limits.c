#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/fd.h"
#include "sandbox/walls.h"

#define STACK_BYTES (8u << 20)
#define MEMLOCK_BYTES (64u << 10)
#define MSGQUEUE_BYTES (64u << 10)
#define SIGNALS_PENDING 256
/* Descriptors that are the session's own machinery, beside the user's. */
#define OWN_FILES 8
/* The kernel's memory limit also counts what RLIMIT_DATA does not: pages of the warm image that the
 * session writes to, page tables, files in /tmp. So that Python's MemoryError comes first, the one
 * is a little lower than the other. */
#define DATA_MARGIN_MAX_BYTES (32u << 20)
/* Where no namespace and no control group counts a session's processes, this is for all of them. */
#define NPROC_SHARED 4096

bool limits_nproc_is_per_namespace(void)
{
	struct utsname name;
	unsigned major;
	unsigned minor;
	if (uname(&name) < 0 || sscanf(name.release, "%u.%u", &major, &minor) != 2) {
		return false;
	}
	return major > 5 || (major == 5 && minor >= 14);
}

uint64_t limits_data_bytes(uint64_t base_bytes, uint64_t memory_bytes)
{
	uint64_t margin = memory_bytes / 8;
	if (margin > DATA_MARGIN_MAX_BYTES) {
		margin = DATA_MARGIN_MAX_BYTES;
	}
	return base_bytes + memory_bytes - margin;
}

/* Bytes that count to RLIMIT_DATA now: field 6 of /proc/self/statm, in pages. */
static int data_in_use(uint64_t *out, struct err *e)
{
	cleanup(fd_close) int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	char text[256];
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n <= 0) {
		return err_set_os(e, errno, "cannot read /proc/self/statm");
	}
	text[n] = '\0';
	unsigned long long pages;
	if (sscanf(text, "%*u %*u %*u %*u %*u %llu", &pages) != 1) {
		return err_set(e, ERR_INTERNAL, "cannot understand /proc/self/statm");
	}
	*out = pages * (uint64_t)sysconf(_SC_PAGESIZE);
	return 0;
}

/* Never above the hard limit the process has, which only a privileged one may raise. */
static int lower(__rlimit_resource_t resource, uint64_t value, const char *name, struct err *e)
{
	struct rlimit set = {.rlim_cur = (rlim_t)value, .rlim_max = (rlim_t)value};
	if (setrlimit(resource, &set) == 0) {
		return 0;
	}
	if (errno != EPERM) {
		return err_set_os(e, errno, "cannot limit %s", name);
	}
	struct rlimit now;
	if (getrlimit(resource, &now) < 0) {
		return err_set_os(e, errno, "cannot read the limit of %s", name);
	}
	set = (struct rlimit){.rlim_cur = now.rlim_max, .rlim_max = now.rlim_max};
	return setrlimit(resource, &set) < 0 ? err_set_os(e, errno, "cannot limit %s", name) : 0;
}

struct fixed {
	__rlimit_resource_t resource;
	uint64_t value;
	const char *name;
};

static int lower_all(const struct fixed *fixed, size_t count, struct err *e)
{
	for (size_t i = 0; i < count; i++) {
		if (lower(fixed[i].resource, fixed[i].value, fixed[i].name, e) < 0) {
			return -1;
		}
	}
	return 0;
}

/* Counted by the kernel in each user namespace and in those above it (Linux 5.14), by user before.
 * What is over a namespace's limit is compared with its creator's limit as it was then: the keeper
 * keeps those as high as it may, and each session lowers its own. */
static const struct fixed counted[] = {
    {RLIMIT_MEMLOCK, MEMLOCK_BYTES, "locked memory"},
    {RLIMIT_MSGQUEUE, MSGQUEUE_BYTES, "message queues"},
    {RLIMIT_SIGPENDING, SIGNALS_PENDING, "pending signals"},
};

static void raise_limit(__rlimit_resource_t resource)
{
	struct rlimit now = {.rlim_cur = RLIM_INFINITY, .rlim_max = RLIM_INFINITY};
	if (setrlimit(resource, &now) < 0 && getrlimit(resource, &now) == 0) {
		now.rlim_cur = now.rlim_max;
		(void)setrlimit(resource, &now);
	}
}

int limits_set_fixed(struct err *e)
{
	static const struct fixed fixed[] = {
	    /* 1, not 0: only 1 also keeps the kernel from piping a core to the host's crash
	     * handler (do_coredump in fs/coredump.c). */
	    {RLIMIT_CORE, 1, "core files"},
	    {RLIMIT_STACK, STACK_BYTES, "the stack"},
	    {RLIMIT_RTPRIO, 0, "real-time priority"},
	    {RLIMIT_NICE, 0, "the nice value"},
	};
	for (size_t i = 0; i < array_len(counted); i++) {
		raise_limit(counted[i].resource);
	}
	raise_limit(RLIMIT_NPROC);
	return lower_all(fixed, array_len(fixed), e);
}

static int lower_processes(
    const struct sandbox_limits *limits, enum sandbox_level level, bool by_cgroup, struct err *e)
{
	if (limits->pids == 0) {
		return 0;
	}
	if (by_cgroup) {
		return 0; /* which tells us of each refusal; this limit would be reached first */
	}
	if (level != SANDBOX_NAMESPACES) {
		return lower(RLIMIT_NPROC, NPROC_SHARED, "processes", e);
	}
	/* Before 5.14 it would count the processes of all sessions against each. */
	return limits_nproc_is_per_namespace() ? lower(RLIMIT_NPROC, limits->pids, "processes", e)
					       : 0;
}

int limits_set(const struct sandbox_limits *limits, enum sandbox_level level, bool pids_by_cgroup,
    struct err *e)
{
	uint64_t in_use;
	if (lower_all(counted, array_len(counted), e) < 0 ||
	    lower_processes(limits, level, pids_by_cgroup, e) < 0) {
		return -1;
	}
	if (limits->open_files > 0 &&
	    lower(RLIMIT_NOFILE, (uint64_t)limits->open_files + OWN_FILES, "open files", e) < 0) {
		return -1;
	}
	if (limits->file_space_bytes > 0 &&
	    lower(RLIMIT_FSIZE, limits->file_space_bytes, "file size", e) < 0) {
		return -1;
	}
	if (limits->memory_bytes > 0) {
		if (data_in_use(&in_use, e) < 0) {
			return -1;
		}
		return lower(
		    RLIMIT_DATA, limits_data_bytes(in_use, limits->memory_bytes), "memory", e);
	}
	return 0;
}
