/* The parts of the walls that can be judged without building them. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/audit.h>
#include <linux/seccomp.h>

#include <seccomp.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/text.h"
#include "sandbox/command_internal.h"
#include "sandbox/walls.h"

/* --- mountinfo --- */

static void mountinfo_reads_fields_and_escapes(void **state)
{
	(void)state;
	const char *text = "36 35 98:0 /a\\040b /mnt\\134x rw,noatime shared:1 master:2 - cgroup "
			   "none rw,cpu,cpuacct\n"
			   "22 27 0:21 / /proc ro,nosuid - proc proc rw\n";
	struct mountinfo m;
	assert_int_equal(mountinfo_next(&text, &m), 1);
	assert_string_equal(m.root, "/a b");
	assert_string_equal(m.point, "/mnt\\x");
	assert_string_equal(m.options, "rw,noatime");
	assert_string_equal(m.type, "cgroup");
	assert_string_equal(m.super_options, "rw,cpu,cpuacct");
	assert_true(mountinfo_has_option(m.super_options, "cpu"));
	assert_true(mountinfo_has_option(m.super_options, "cpuacct"));
	assert_false(mountinfo_has_option(m.super_options, "cpua"));
	assert_int_equal(mountinfo_next(&text, &m), 1);
	assert_string_equal(m.point, "/proc");
	assert_int_equal(mountinfo_next(&text, &m), 0);
}

static void mountinfo_refuses_what_is_none(void **state)
{
	(void)state;
	static const char *const bad[] = {
	    "\n", "1 2 3\n", "36 35 98:0 / /mnt rw shared:1\n", "36 35 98:0 / /mnt rw - cgroup\n"};
	for (size_t i = 0; i < array_len(bad); i++) {
		const char *text = bad[i];
		struct mountinfo m;
		assert_int_equal(mountinfo_next(&text, &m), -EINVAL);
		assert_int_equal(mountinfo_next(&text, &m), 0);
	}
}

/* --- where the control groups are --- */

#define V1_MOUNTS                                                                     \
	"31 23 0:28 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755\n"                  \
	"32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n" \
	"35 31 0:32 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n" \
	"39 31 0:36 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n"
#define V2_MOUNT "41 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n"
#define HYBRID_MOUNT "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"

static void cgroup_is_found_in_version_1(void **state)
{
	(void)state;
	const char *own = "8:pids:/\n4:memory:/docker/abc/x\n1:cpu,cpuacct:/user\n0::/\n";
	char path[256];
	assert_int_equal(cgroup_find(own, V1_MOUNTS, "memory", path, sizeof(path)), 1);
	assert_string_equal(path, "/sys/fs/cgroup/memory/x");
	assert_int_equal(cgroup_find(own, V1_MOUNTS, "pids", path, sizeof(path)), 1);
	assert_string_equal(path, "/sys/fs/cgroup/pids");
	assert_int_equal(cgroup_find(own, V1_MOUNTS, "cpu", path, sizeof(path)), 1);
	assert_string_equal(path, "/sys/fs/cgroup/cpu,cpuacct/user");
	assert_int_equal(cgroup_find(own, V1_MOUNTS, "io", path, sizeof(path)), 0);
	assert_int_equal(cgroup_find(own, V1_MOUNTS, "", path, sizeof(path)), 0);
	assert_int_equal(cgroup_find(own, V1_MOUNTS, "memory", path, 8), -ENAMETOOLONG);
}

static void cgroup_is_found_in_version_2(void **state)
{
	(void)state;
	char path[256];
	const char *own = "0::/user.slice/carrel.service\n";
	assert_int_equal(cgroup_find(own, V2_MOUNT, "", path, sizeof(path)), 2);
	assert_string_equal(path, "/sys/fs/cgroup/user.slice/carrel.service");
	assert_int_equal(cgroup_find(own, V2_MOUNT, "memory", path, sizeof(path)), 0);
}

static void cgroup_outside_the_namespace_is_not_used(void **state)
{
	(void)state;
	char path[256];
	assert_int_equal(cgroup_find("0::/../other\n", V2_MOUNT, "", path, sizeof(path)), 0);
	assert_int_equal(
	    cgroup_find("4:memory:/elsewhere\n", V1_MOUNTS, "memory", path, sizeof(path)), 0);
}

/* --- control groups in a directory of plain files --- */

struct host {
	char root[64];
};

static void remove_tree(const char *path)
{
	pid_t pid = fork();
	if (pid == 0) {
		execl("/bin/rm", "rm", "-rf", path, (char *)NULL);
		_exit(127);
	}
	(void)waitpid(pid, NULL, 0);
}

static void put(const struct host *h, const char *path, const char *text)
{
	char full[512];
	(void)snprintf(full, sizeof(full), "%s%s", h->root, path);
	for (char *slash = strchr(full + strlen(h->root) + 1, '/'); slash != NULL;
	     slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		(void)mkdir(full, 0755);
		*slash = '/';
	}
	int fd = open(full, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
	(void)close(fd);
}

/* The text of the only file that matches DIR/carrel-<name>/REST. */
static char *get(const struct host *h, const char *dir, const char *rest)
{
	static char text[256];
	char path[512];
	unsigned long long started = 0;
	char stat_path[64];
	cleanup(buf_fini) struct buf stat_text = {.max = 4096};
	(void)snprintf(stat_path, sizeof(stat_path), "/proc/%d/stat", (int)getpid());
	assert_int_equal(fd_read_file(AT_FDCWD, stat_path, &stat_text), 0);
	const char *at = strrchr(stat_text.data, ')');
	for (int i = 2; i < 22; i++) {
		at = strchr(at + 1, ' ');
	}
	assert_int_equal(sscanf(at, "%llu", &started), 1);
	struct stat ns;
	assert_int_equal(stat("/proc/self/ns/pid", &ns), 0);
	(void)snprintf(path, sizeof(path), "%s%s/carrel-%lx-%d-%llu/%s", h->root, dir,
	    (unsigned long)ns.st_ino, (int)getpid(), started, rest);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		return NULL;
	}
	ssize_t n = read(fd, text, sizeof(text) - 1);
	(void)close(fd);
	text[n > 0 ? n : 0] = '\0';
	return text;
}

static int set_up_host(void **state)
{
	static struct host h;
	(void)snprintf(h.root, sizeof(h.root), "/tmp/sandbox_test_XXXXXX");
	*state = &h;
	return mkdtemp(h.root) == NULL ? -1 : 0;
}

static int tear_down_host(void **state)
{
	struct host *h = *state;
	remove_tree(h->root);
	return 0;
}

static const struct sandbox_limits some_limits = {
    .memory_bytes = 1u << 30, .cpu_millis = 1500, .pids = 32};

static void add_session(struct cgroups *cg, int *v2_fd)
{
	struct err e = {0};
	assert_int_equal(cgroups_add(cg, 0x2a, &some_limits, v2_fd, &e), 0);
}

static void version_2_limits_are_written(void **state)
{
	struct host *h = *state;
	put(h, "/proc/self/cgroup", "0::/carrel.service\n");
	put(h, "/proc/self/mountinfo", V2_MOUNT);
	put(h, "/sys/fs/cgroup/carrel.service/cgroup.controllers", "cpu io memory pids\n");
	put(h, "/sys/fs/cgroup/carrel.service/cgroup.subtree_control", "");
	struct err e = {0};
	cleanup(cgroups_fini) struct cgroups cg;
	assert_int_equal(cgroups_init(&cg, h->root, getuid(), getgid(), &e), 0);
	assert_int_equal(cg.count, 1);
	assert_true(cgroups_have(&cg, CGROUP_MEMORY) && cgroups_have(&cg, CGROUP_PIDS) &&
		    cgroups_have(&cg, CGROUP_CPU));
	int v2_fd = -1;
	add_session(&cg, &v2_fd);
	assert_true(v2_fd >= 0);
	(void)close(v2_fd);
	const char *dir = "/sys/fs/cgroup/carrel.service";
	assert_string_equal(get(h, dir, "cgroup.subtree_control"), "+memory +pids +cpu");
	assert_string_equal(get(h, dir, "keeper/cgroup.procs"), "0");
	assert_string_equal(get(h, dir, "s2a/memory.max"), "1073741824");
	assert_string_equal(get(h, dir, "s2a/memory.swap.max"), "0");
	assert_string_equal(get(h, dir, "s2a/pids.max"), "32");
	assert_string_equal(get(h, dir, "s2a/cpu.max"), "150000 100000");
}

static void version_1_limits_are_written_and_joined(void **state)
{
	struct host *h = *state;
	put(h, "/proc/self/cgroup", "8:pids:/\n4:memory:/docker/abc\n1:cpu,cpuacct:/\n0::/\n");
	put(h, "/proc/self/mountinfo", V1_MOUNTS HYBRID_MOUNT);
	put(h, "/sys/fs/cgroup/memory/x", "");
	put(h, "/sys/fs/cgroup/pids/x", "");
	put(h, "/sys/fs/cgroup/cpu,cpuacct/x", "");
	put(h, "/sys/fs/cgroup/unified/cgroup.controllers", "hugetlb\n");
	struct err e = {0};
	cleanup(cgroups_fini) struct cgroups cg;
	assert_int_equal(cgroups_init(&cg, h->root, getuid(), getgid(), &e), 0);
	assert_int_equal(cg.count, 3);
	int v2_fd = -1;
	add_session(&cg, &v2_fd);
	assert_int_equal(v2_fd, -1);
	assert_int_equal(cgroups_join_v1(&cg, 0x2a, &e), 0);
	assert_string_equal(
	    get(h, "/sys/fs/cgroup/memory", "s2a/memory.limit_in_bytes"), "1073741824");
	assert_string_equal(
	    get(h, "/sys/fs/cgroup/memory", "s2a/memory.memsw.limit_in_bytes"), "1073741824");
	assert_string_equal(get(h, "/sys/fs/cgroup/memory", "s2a/tasks"), "0");
	assert_string_equal(get(h, "/sys/fs/cgroup/pids", "s2a/pids.max"), "32");
	assert_string_equal(get(h, "/sys/fs/cgroup/pids", "s2a/tasks"), "0");
	assert_string_equal(get(h, "/sys/fs/cgroup/cpu,cpuacct", "s2a/cpu.cfs_quota_us"), "150000");
	assert_string_equal(
	    get(h, "/sys/fs/cgroup/cpu,cpuacct", "s2a/cpu.cfs_period_us"), "100000");
}

static void hybrid_takes_each_controller_where_it_is(void **state)
{
	struct host *h = *state;
	put(h, "/proc/self/cgroup", "8:pids:/\n0::/\n");
	put(h, "/proc/self/mountinfo",
	    "39 31 0:36 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n" HYBRID_MOUNT);
	put(h, "/sys/fs/cgroup/pids/x", "");
	put(h, "/sys/fs/cgroup/unified/cgroup.controllers", "memory\n");
	struct err e = {0};
	cleanup(cgroups_fini) struct cgroups cg;
	assert_int_equal(cgroups_init(&cg, h->root, getuid(), getgid(), &e), 0);
	assert_int_equal(cg.count, 2);
	assert_true(cgroups_have(&cg, CGROUP_MEMORY) && cgroups_have(&cg, CGROUP_PIDS));
	assert_false(cgroups_have(&cg, CGROUP_CPU));
	assert_string_not_equal(cg.why[CGROUP_CPU], "");
	int v2_fd = -1;
	add_session(&cg, &v2_fd);
	(void)close(v2_fd);
	assert_string_equal(get(h, "/sys/fs/cgroup/unified", "s2a/memory.max"), "1073741824");
	assert_null(get(h, "/sys/fs/cgroup/unified", "s2a/pids.max"));
	assert_string_equal(get(h, "/sys/fs/cgroup/pids", "s2a/pids.max"), "32");
}

static void without_control_groups_there_is_a_reason(void **state)
{
	struct host *h = *state;
	put(h, "/proc/self/cgroup", "");
	put(h, "/proc/self/mountinfo", "22 27 0:21 / /proc rw - proc proc rw\n");
	struct err e = {0};
	cleanup(cgroups_fini) struct cgroups cg;
	assert_int_equal(cgroups_init(&cg, h->root, getuid(), getgid(), &e), 0);
	assert_int_equal(cg.count, 0);
	for (int i = 0; i < CGROUP_KINDS; i++) {
		assert_string_not_equal(cg.why[i], "");
	}
	int v2_fd = -1;
	add_session(&cg, &v2_fd);
	assert_int_equal(v2_fd, -1);
}

static struct command_group *open_group(const struct host *h, uint64_t memory_bytes)
{
	struct command_group *g = command_group_new(h->root, memory_bytes, h->root);
	assert_non_null(g);
	command_group_open(g);
	return g;
}

/* Its own group's processes were moved into a leaf, and the runner's with them. */
static void commands_have_one_limit_in_version_2(void **state)
{
	struct host *h = *state;
	const char *dir = "/sys/fs/cgroup/carrel.service";
	put(h, "/proc/self/cgroup", "0::/carrel.service/carrel.processes\n");
	put(h, "/proc/self/mountinfo", V2_MOUNT);
	put(h, "/sys/fs/cgroup/carrel.service/cgroup.controllers", "cpu io memory pids\n");
	put(h, "/sys/fs/cgroup/carrel.service/cgroup.subtree_control", "");
	put(h, "/sys/fs/cgroup/carrel.service/carrel.processes/cgroup.controllers", "cpu\n");
	struct command_group *g = open_group(h, 64U << 20);
	assert_null(command_group_why(g));
	assert_true(g->v2_fd >= 0);
	assert_int_equal(g->v1_fd, -1);
	assert_string_equal(get(h, dir, "cgroup.subtree_control"), "+memory");
	assert_string_equal(get(h, dir, "runner/cgroup.procs"), "0");
	assert_string_equal(get(h, dir, "s0/memory.max"), "67108864");
	assert_string_equal(get(h, dir, "s0/memory.swap.max"), "0");
	command_group_free(g);
}

static void commands_have_one_limit_in_version_1(void **state)
{
	struct host *h = *state;
	put(h, "/proc/self/cgroup", "8:pids:/\n4:memory:/docker/abc\n1:cpu,cpuacct:/\n0::/\n");
	put(h, "/proc/self/mountinfo", V1_MOUNTS HYBRID_MOUNT);
	put(h, "/sys/fs/cgroup/memory/x", "");
	put(h, "/sys/fs/cgroup/pids/x", "");
	struct command_group *g = open_group(h, 64U << 20);
	assert_null(command_group_why(g));
	assert_int_equal(g->v2_fd, -1);
	assert_string_equal(
	    get(h, "/sys/fs/cgroup/memory", "s0/memory.limit_in_bytes"), "67108864");
	assert_string_equal(get(h, "/sys/fs/cgroup/memory", "s0/tasks"), "");
	assert_int_equal(command_group_join(g), 0);
	assert_string_equal(get(h, "/sys/fs/cgroup/memory", "s0/tasks"), "0");
	/* Memory alone is limited, and no group is made for what is not. */
	assert_null(get(h, "/sys/fs/cgroup/pids", "s0/tasks"));
	command_group_free(g);
}

static void commands_without_a_limit_have_a_reason(void **state)
{
	struct host *h = *state;
	put(h, "/proc/self/cgroup", "8:pids:/\n");
	put(h, "/proc/self/mountinfo", V1_MOUNTS);
	struct command_group *g = open_group(h, 64U << 20);
	assert_string_equal(command_group_why(g), "the host offers no memory controller here");
	assert_int_equal(command_group_join(g), 0);
	command_group_free(g);
	g = open_group(h, 0);
	assert_string_equal(command_group_why(g), "none was asked for");
	command_group_free(g);
}

static void kills_of_commands_are_counted_in_both_versions(void **state)
{
	struct host *h = *state;
	char path[128];
	(void)snprintf(path, sizeof(path), "%s/counts", h->root);
	put(h, "/counts", "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n");
	cleanup(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC);
	const struct command_walls walls = {.group = {.kills_fd = fd}};
	assert_int_equal(command_walls_kills(&walls), 5);
	put(h, "/counts", "low 0\nmax 9\noom 7\noom_kill 6\noom_group_kill 0\n");
	assert_int_equal(command_walls_kills(&walls), 6);
	const struct command_walls none = {.group = COMMAND_GROUP_NONE};
	assert_int_equal(command_walls_kills(&none), 0);
}

static void usage_is_read_in_both_versions(void **state)
{
	struct host *h = *state;
	put(h, "/v2/s7/memory.events", "low 0\noom 3\noom_kill 2\noom_group_kill 0\n");
	put(h, "/v2/s7/memory.peak", "4096\n");
	put(h, "/v2/s7/cpu.stat", "usage_usec 12345\nuser_usec 12000\nsystem_usec 345\n");
	put(h, "/v1/s7/cpuacct.usage", "23456789\n");
	put(h, "/v1/s7/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n");
	put(h, "/v1/s7/memory.max_usage_in_bytes", "8192\n");
	put(h, "/v1/s7/pids.events", "max 9\n");
	for (int version = 1; version <= 2; version++) {
		char path[128];
		(void)snprintf(path, sizeof(path), "%s/v%d", h->root, version);
		cleanup(cgroups_fini) struct cgroups cg = {.count = 1};
		cg.hierarchies[0] = (struct cgroup_hierarchy){
		    .base_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
		    .version = version,
		    .kinds = 1u << CGROUP_MEMORY | 1u << CGROUP_PIDS | 1u << CGROUP_CPU,
		};
		struct sandbox_usage usage = {0};
		cgroups_usage(&cg, 7, &usage);
		assert_int_equal(usage.oom_kills, version == 2 ? 2 : 5);
		assert_int_equal(usage.memory_peak_bytes, version == 2 ? 4096 : 8192);
		assert_int_equal(usage.pids_refused, version == 2 ? 0 : 9);
		assert_int_equal(usage.cpu_us, version == 2 ? 12345 : 23456);
		cgroups_usage(&cg, 8, &usage);
		assert_int_equal(usage.oom_kills, 0);
	}
}

static void a_busy_group_is_removed_later(void **state)
{
	struct host *h = *state;
	put(h, "/base/s1/held", "");
	put(h, "/base/x", "");
	char path[128];
	(void)snprintf(path, sizeof(path), "%s/base", h->root);
	cleanup(cgroups_fini) struct cgroups cg = {.count = 1};
	cg.hierarchies[0] = (struct cgroup_hierarchy){
	    .base_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), .version = 2};
	cgroups_remove(&cg, 1);
	assert_int_equal(cg.pending_count, 1);
	assert_int_equal(unlinkat(cg.hierarchies[0].base_fd, "s1/held", 0), 0);
	cgroups_remove(&cg, 2);
	assert_int_equal(cg.pending_count, 0);
	assert_int_equal(faccessat(cg.hierarchies[0].base_fd, "s1", F_OK, 0), -1);
}

/* --- seccomp: the compiled program's answers, by running it --- */

/* What the kernel does with a classic BPF program over struct seccomp_data (as far as libseccomp's
 * code goes: it loads, masks, compares and returns). */
static uint32_t run_filter(const struct seccomp_program *p, const struct seccomp_data *data)
{
	uint32_t a = 0;
	for (unsigned pc = 0; pc < p->len; pc++) {
		const struct sock_filter *i = &p->code[pc];
		bool jump = false;
		switch (i->code) {
		case BPF_LD | BPF_W | BPF_ABS:
			memcpy(&a, (const char *)data + i->k, sizeof(a));
			continue;
		case BPF_ALU | BPF_AND | BPF_K:
			a &= i->k;
			continue;
		case BPF_RET | BPF_K:
			return i->k;
		case BPF_JMP | BPF_JA:
			pc += i->k;
			continue;
		case BPF_JMP | BPF_JEQ | BPF_K:
			jump = a == i->k;
			break;
		case BPF_JMP | BPF_JGT | BPF_K:
			jump = a > i->k;
			break;
		case BPF_JMP | BPF_JGE | BPF_K:
			jump = a >= i->k;
			break;
		case BPF_JMP | BPF_JSET | BPF_K:
			jump = (a & i->k) != 0;
			break;
		default:
			fail_msg("instruction %x", i->code);
		}
		pc += jump ? i->jt : i->jf;
	}
	fail_msg("the program has no end");
	return 0;
}

#define NOTHING_DONE (-1)

struct question {
	const char *call;
	uint64_t args[3];
	int expected; /* 0: allowed; NOTHING_DONE: success without the call; else the errno */
};

static void answer_as_expected(const struct seccomp_program *p, uint32_t token, uint32_t audit,
    const struct question *q, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		int nr = seccomp_syscall_resolve_name_arch(token, q[i].call);
		if (nr < 0) {
			continue; /* not of this architecture */
		}
		struct seccomp_data data = {
		    .nr = nr, .arch = audit, .args = {q[i].args[0], q[i].args[1], q[i].args[2]}};
		uint32_t want = SECCOMP_RET_ALLOW;
		if (q[i].expected != 0) {
			want = SECCOMP_RET_ERRNO;
			want |= q[i].expected == NOTHING_DONE ? 0 : (uint32_t)q[i].expected;
		}
		uint32_t got = run_filter(p, &data);
		if (got != want) {
			fail_msg("%s(%llx, %llx, %llx) on %x: %x, not %x", q[i].call,
			    (unsigned long long)q[i].args[0], (unsigned long long)q[i].args[1],
			    (unsigned long long)q[i].args[2], audit, got, want);
		}
		/* The same call of another architecture is the end. */
		data.arch = AUDIT_ARCH_I386;
		assert_int_equal(run_filter(p, &data), SECCOMP_RET_KILL_PROCESS);
	}
}

static const struct arch {
	enum seccomp_arch arch;
	uint32_t token;
	uint32_t audit;
} arches[] = {
    {SECCOMP_ARCH_X86_64, SCMP_ARCH_X86_64, AUDIT_ARCH_X86_64},
    {SECCOMP_ARCH_AARCH64, SCMP_ARCH_AARCH64, AUDIT_ARCH_AARCH64},
};

static void ask(const struct seccomp_options *options, const struct question *q, size_t count)
{
	for (size_t a = 0; a < array_len(arches); a++) {
		struct seccomp_options o = *options;
		o.arch = arches[a].arch;
		struct err e = {0};
		cleanup(seccomp_fini) struct seccomp_program p = {0};
		assert_int_equal(seccomp_compile(&o, &p, &e), 0);
		seccomp_bind_pid(&p, 4321);
		answer_as_expected(&p, arches[a].token, arches[a].audit, q, count);
	}
}

static void seccomp_answers_at_both_levels(void **state)
{
	(void)state;
	static const struct question questions[] = {
	    {"read", {0}, 0},
	    {"openat", {0}, 0},
	    {"open", {0}, 0},
	    {"mmap", {0}, 0},
	    {"execve", {0}, 0},
	    {"futex", {0}, 0},
	    {"memfd_create", {0}, 0},
	    {"rseq", {0}, 0},
	    {"statx", {0}, 0},
	    {"getrandom", {0}, 0},
	    {"wait4", {0}, 0},
	    {"epoll_pwait2", {0}, 0},
	    {"clone", {SIGCHLD}, 0},
	    {"clone", {CLONE_VM | CLONE_VFORK | SIGCHLD}, 0},
	    {"clone", {0x3d0f00}, 0},
	    {"clone", {CLONE_NEWUSER | SIGCHLD}, EPERM},
	    {"clone", {CLONE_NEWNS | SIGCHLD}, EPERM},
	    {"clone", {CLONE_NEWPID | SIGCHLD}, EPERM},
	    {"clone", {CLONE_NEWNET | SIGCHLD}, EPERM},
	    {"clone", {CLONE_NEWIPC | SIGCHLD}, EPERM},
	    {"clone", {CLONE_NEWUTS | SIGCHLD}, EPERM},
	    {"clone", {CLONE_NEWCGROUP | SIGCHLD}, EPERM},
	    {"clone", {CLONE_NEWNS | CLONE_NEWPID}, EPERM},
	    {"clone3", {0}, ENOSYS},
	    {"unshare", {0}, EPERM},
	    {"setns", {0}, EPERM},
	    {"mount", {0}, EPERM},
	    {"umount2", {0}, EPERM},
	    {"open_tree", {0}, EPERM},
	    {"move_mount", {0}, EPERM},
	    {"fsopen", {0}, EPERM},
	    {"mount_setattr", {0}, EPERM},
	    {"pivot_root", {0}, EPERM},
	    {"chroot", {0}, EPERM},
	    {"ptrace", {0}, EPERM},
	    {"process_vm_readv", {0}, EPERM},
	    {"pidfd_getfd", {0}, EPERM},
	    {"bpf", {0}, EPERM},
	    {"perf_event_open", {0}, EPERM},
	    {"userfaultfd", {0}, EPERM},
	    {"keyctl", {0}, EPERM},
	    {"io_uring_setup", {0}, EPERM},
	    {"kexec_load", {0}, EPERM},
	    {"syslog", {0}, EPERM},
	    {"open_by_handle_at", {0}, EPERM},
	    {"modify_ldt", {0}, EPERM},
	    {"iopl", {0}, EPERM},
	    {"seccomp", {0}, ENOSYS},
	    {"landlock_create_ruleset", {0}, ENOSYS},
	    {"sync", {0}, NOTHING_DONE},
	    {"syncfs", {0}, NOTHING_DONE},
	    {"setxattr", {0}, EOPNOTSUPP},
	    {"ioctl", {0, 0x5401}, 0},
	    {"ioctl", {0, 0x541b}, 0},
	    {"ioctl", {0, 0x5412}, EPERM},
	    {"ioctl", {0, 0x100005412}, EPERM},
	    {"ioctl", {0, 0x541c}, EPERM},
	    {"ioctl", {0, 0x8901}, ENOSYS},
	    {"ioctl", {0, 0x5423}, ENOSYS},
	    {"fcntl", {0, F_DUPFD_CLOEXEC}, 0},
	    {"fcntl", {0, F_NOTIFY | 1ULL << 32}, EPERM},
	    {"setsockopt", {0, SOL_SOCKET, SO_LINGER}, NOTHING_DONE},
	    {"setsockopt", {0, SOL_SOCKET | 1ULL << 32, SO_LINGER | 1ULL << 32}, NOTHING_DONE},
	    {"setsockopt", {0, SOL_SOCKET, SO_REUSEADDR}, 0},
	    {"setsockopt", {0, SOL_SOCKET, 128 | SO_LINGER}, ENOSYS},
	    {"setsockopt", {0, 6, SO_LINGER}, 0},
	    {"setsockopt", {0, 282, 1}, ENOSYS},
	    {"sched_setattr", {0}, EPERM},
	    {"sched_setscheduler", {0, SCHED_OTHER}, 0},
	    {"sched_setscheduler", {0, SCHED_OTHER | SCHED_RESET_ON_FORK}, 0},
	    {"sched_setscheduler", {0, SCHED_IDLE}, EPERM},
	    {"sched_setscheduler", {0, SCHED_BATCH}, EPERM},
	    {"sched_setscheduler", {0, SCHED_FIFO}, EPERM},
	    {"setpriority", {PRIO_PROCESS, 0, 0}, 0},
	    {"setpriority", {PRIO_PROCESS, 0, 10}, 0},
	    {"setpriority", {PRIO_PROCESS, 0, 11}, EPERM},
	    {"setpriority", {PRIO_PROCESS, 0, (uint32_t)-1}, EPERM},
	    {"setpriority", {PRIO_PROCESS, 0, 1ULL << 32}, EPERM},
	    {"setpriority", {PRIO_PGRP, 0, 1}, EPERM},
	    {"setpriority", {PRIO_USER, 0, 1}, EPERM},
	    {"prctl", {PR_SET_NAME}, 0},
	    {"prctl", {PR_SET_MM}, ENOSYS},
	    {"prctl", {PR_SET_SECCOMP}, ENOSYS},
	    {"prctl", {PR_SET_PDEATHSIG, SIGKILL}, 0},
	    {"prctl", {PR_SET_PDEATHSIG, 0}, ENOSYS},
	    {"prctl", {PR_SET_SECUREBITS}, ENOSYS},
	    {"personality", {0xffffffff}, 0},
	    {"personality", {0}, 0},
	    {"personality", {0x0040000}, ENOSYS},
	    {"mknod", {0, S_IFIFO | 0600}, 0},
	    {"mknod", {0, S_IFCHR | 0600}, EPERM},
	    {"mknodat", {0, 0, S_IFIFO | 0600}, 0},
	    {"mknodat", {0, 0, S_IFREG | 0600}, 0},
	    {"mknodat", {0, 0, S_IFBLK | 0600}, EPERM},
	    {"socketpair", {AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC}, 0},
	    {"socketpair", {AF_TIPC, SOCK_STREAM}, ENOSYS},
	};
	for (int level = SANDBOX_NAMESPACES; level <= SANDBOX_LANDLOCK; level++) {
		ask(&(struct seccomp_options){.level = (enum sandbox_level)level}, questions,
		    array_len(questions));
	}
}

static void seccomp_knows_each_command_of_fcntl(void **state)
{
	(void)state;
	static const int allowed[] = {F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_GETLK, F_SETLK,
	    F_SETLKW, F_GETOWN, F_GETSIG, F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW, F_GETLEASE, 1027,
	    F_DUPFD_CLOEXEC, F_SETPIPE_SZ, F_GETPIPE_SZ, F_ADD_SEALS, F_GET_SEALS, F_GET_RW_HINT,
	    F_SET_RW_HINT, F_GET_FILE_RW_HINT, F_SET_FILE_RW_HINT};
	static const int refused[] = {F_SETOWN, F_SETSIG, F_SETOWN_EX, F_SETLEASE, F_NOTIFY};
	static struct question questions[1100];
	for (size_t i = 0; i < array_len(questions); i++) {
		questions[i] = (struct question){"fcntl", {0, i}, ENOSYS};
	}
	for (size_t i = 0; i < array_len(allowed); i++) {
		questions[allowed[i]].expected = 0;
	}
	for (size_t i = 0; i < array_len(refused); i++) {
		questions[refused[i]].expected = EPERM;
	}
	for (int level = SANDBOX_NAMESPACES; level <= SANDBOX_LANDLOCK; level++) {
		ask(&(struct seccomp_options){.level = (enum sandbox_level)level}, questions,
		    array_len(questions));
	}
}

static void seccomp_answers_with_namespaces(void **state)
{
	(void)state;
	static const struct question questions[] = {
	    {"socket", {AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0}, 0},
	    {"socket", {AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 17}, 0},
	    {"socket", {AF_INET6, SOCK_STREAM, 6}, 0},
	    {"socket", {AF_UNIX, SOCK_SEQPACKET, 0}, 0},
	    {"socket", {AF_INET, SOCK_RAW, 1}, EPERM},
	    {"socket", {AF_INET6, SOCK_RAW, 58}, EPERM},
	    {"socket", {AF_INET, SOCK_PACKET, 3}, EPERM},
	    {"socket", {AF_INET, SOCK_STREAM, 132}, ENOSYS},
	    {"socket", {AF_INET, SOCK_DGRAM, 1}, ENOSYS},
	    {"socket", {AF_NETLINK, SOCK_RAW, 0}, EAFNOSUPPORT},
	    {"socket", {AF_PACKET, SOCK_RAW, 0}, EAFNOSUPPORT},
	    {"socket", {AF_VSOCK, SOCK_STREAM, 0}, EAFNOSUPPORT},
	    {"socket", {AF_ALG, SOCK_SEQPACKET, 0}, EAFNOSUPPORT},
	    {"socket", {44, SOCK_RAW, 0}, EAFNOSUPPORT},
	    {"socket", {1000, SOCK_RAW, 0}, EAFNOSUPPORT},
	    {"connect", {0}, 0},
	    {"socketpair", {AF_UNIX, SOCK_DGRAM}, 0},
	    {"kill", {1}, 0},
	    {"setsid", {0}, 0},
	    {"setpgid", {0}, 0},
	    {"prlimit64", {1, RLIMIT_DATA, 8}, 0},
	    {"prlimit64", {0, RLIMIT_NOFILE, 8}, 0},
	    {"prlimit64", {0, RLIMIT_CORE, 0}, 0},
	    {"prlimit64", {0, RLIMIT_CORE, 8}, EPERM},
	    {"setrlimit", {RLIMIT_CORE}, EPERM},
	    {"shmget", {0}, 0},
	    {"ioprio_set", {1, 7}, 0},
	    {"ioprio_set", {2, 0}, ENOSYS},
	    {"ioprio_set", {3, 0}, ENOSYS},
	    {"setpriority", {PRIO_PROCESS, 7, 5}, 0},
	};
	ask(&(struct seccomp_options){.level = SANDBOX_NAMESPACES}, questions,
	    array_len(questions));
}

static void seccomp_answers_without_namespaces(void **state)
{
	(void)state;
	static const struct question questions[] = {
	    {"socket", {AF_UNIX, SOCK_STREAM, 0}, EPERM},
	    {"socket", {AF_INET, SOCK_STREAM, 0}, EPERM},
	    {"connect", {0}, EPERM},
	    {"socketpair", {AF_UNIX, SOCK_DGRAM}, ENOSYS},
	    {"socketpair", {AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC}, 0},
	    {"setsid", {0}, EPERM},
	    {"setpgid", {0}, EPERM},
	    {"prlimit64", {0}, 0},
	    {"prlimit64", {1, RLIMIT_DATA, 8}, ENOSYS},
	    {"prlimit64", {0, RLIMIT_CORE, 8}, EPERM},
	    {"prlimit64", {0, RLIMIT_NOFILE, 8}, 0},
	    {"sched_setaffinity", {0}, 0},
	    {"sched_setaffinity", {7}, ENOSYS},
	    {"setpriority", {PRIO_PROCESS, 0}, 0},
	    {"setpriority", {PRIO_PROCESS, 7}, ENOSYS},
	    {"shmget", {0}, EPERM},
	    {"mq_open", {0}, EPERM},
	    {"kill", {7}, 0},
	    {"truncate", {0}, 0},
	};
	ask(&(struct seccomp_options){.level = SANDBOX_LANDLOCK, .landlock_abi = 6}, questions,
	    array_len(questions));
}

static void seccomp_keeps_signals_to_the_session(void **state)
{
	(void)state;
	static const struct question questions[] = {
	    {"kill", {4321}, 0},
	    {"kill", {0}, 0},
	    {"kill", {(uint32_t)-4321}, 0},
	    {"kill", {(uint64_t)-4321}, 0},
	    {"kill", {1}, ENOSYS},
	    {"kill", {(uint64_t)-1}, ENOSYS},
	    {"tgkill", {4321}, 0},
	    {"tgkill", {1}, ENOSYS},
	    {"rt_sigqueueinfo", {1}, ENOSYS},
	    {"tkill", {4321}, EPERM},
	    {"pidfd_send_signal", {0}, EPERM},
	};
	for (int abi = 1; abi < 6; abi++) {
		ask(&(struct seccomp_options){.level = SANDBOX_LANDLOCK, .landlock_abi = abi},
		    questions, array_len(questions));
	}
}

/* What the kernel's Landlock does not check before version 3, where no mount is read-only. */
static void seccomp_keeps_files_from_being_cut(void **state)
{
	(void)state;
	for (int abi = 0; abi <= 7; abi++) {
		const struct question by_path[] = {
		    {"truncate", {0}, abi < 3 ? EPERM : 0}, {"ftruncate", {0}, 0}};
		const struct question allowed = {"truncate", {0}, 0};
		ask(&(struct seccomp_options){.level = SANDBOX_LANDLOCK, .landlock_abi = abi},
		    by_path, array_len(by_path));
		ask(&(struct seccomp_options){.level = SANDBOX_NAMESPACES, .landlock_abi = abi},
		    &allowed, 1);
	}
}

/* --- commands outside sessions --- */

static void ask_command(bool namespaces, int abi, const struct question *q, size_t count)
{
	struct err e = {0};
	cleanup(seccomp_fini) struct seccomp_program p = {0};
	assert_int_equal(seccomp_compile_command(namespaces, abi, &p, &e), 0);
	for (size_t a = 0; a < array_len(arches); a++) {
		if (arches[a].token == seccomp_arch_native()) {
			answer_as_expected(&p, arches[a].token, arches[a].audit, q, count);
		}
	}
}

static void seccomp_answers_to_commands(void **state)
{
	(void)state;
	for (int abi = 1; abi <= 7; abi++) {
		for (int namespaces = 0; namespaces <= 1; namespaces++) {
			const int shared = namespaces ? 0 : EPERM;
			const struct question questions[] = {
			    {"openat", {0}, 0},
			    {"ptrace", {0}, EPERM},
			    {"clone3", {0}, ENOSYS},
			    {"clone", {SIGCHLD}, 0},
			    {"clone", {CLONE_NEWNET | SIGCHLD}, EPERM},
			    {"setsid", {0}, shared},
			    {"shmget", {0}, shared},
			    {"semget", {0}, shared},
			    {"msgget", {0}, shared},
			    {"mq_open", {0}, shared},
			    {"kill", {0}, namespaces || abi >= 6 ? 0 : EPERM},
			    {"truncate", {0}, abi >= 3 ? 0 : EPERM},
			    {"ftruncate", {0}, 0},
			};
			ask_command(namespaces != 0, abi, questions, array_len(questions));
		}
	}
}

static void seccomp_kills_the_x32_abi(void **state)
{
	(void)state;
	struct err e = {0};
	cleanup(seccomp_fini) struct seccomp_program p = {0};
	const struct seccomp_options o = {.arch = SECCOMP_ARCH_X86_64};
	assert_int_equal(seccomp_compile(&o, &p, &e), 0);
	struct seccomp_data data = {.nr = 0x40000000 | 39, .arch = AUDIT_ARCH_X86_64};
	assert_int_equal(run_filter(&p, &data), SECCOMP_RET_KILL_PROCESS);
}

/* --- limits --- */

static uint64_t data_now(void)
{
	cleanup(buf_fini) struct buf text = {.max = 4096};
	unsigned long long pages = 0;
	assert_int_equal(fd_read_file(AT_FDCWD, "/proc/self/statm", &text), 0);
	assert_int_equal(sscanf(buf_str(&text), "%*u %*u %*u %*u %*u %llu", &pages), 1);
	return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static bool limit_is(__rlimit_resource_t resource, const char *name, uint64_t value)
{
	struct rlimit r;
	if (getrlimit(resource, &r) == 0 && r.rlim_cur == value && r.rlim_max == value) {
		return true;
	}
	(void)fprintf(stderr, "%s is %llu and %llu, not %llu\n", name,
	    (unsigned long long)r.rlim_cur, (unsigned long long)r.rlim_max,
	    (unsigned long long)value);
	return false;
}

static bool limits_have_their_values(const struct sandbox_limits *limits)
{
	static const struct {
		__rlimit_resource_t resource;
		const char *name;
		uint64_t value;
	} expected[] = {
	    {RLIMIT_CORE, "CORE", 1},
	    {RLIMIT_STACK, "STACK", 8u << 20},
	    {RLIMIT_RTPRIO, "RTPRIO", 0},
	    {RLIMIT_NICE, "NICE", 0},
	    {RLIMIT_MEMLOCK, "MEMLOCK", 65536},
	    {RLIMIT_MSGQUEUE, "MSGQUEUE", 65536},
	    {RLIMIT_SIGPENDING, "SIGPENDING", 256},
	    {RLIMIT_NOFILE, "NOFILE", 108},
	    {RLIMIT_FSIZE, "FSIZE", 5u << 20},
	};
	bool ok = true;
	for (size_t i = 0; i < array_len(expected); i++) {
		ok = limit_is(expected[i].resource, expected[i].name, expected[i].value) && ok;
	}
	struct rlimit r;
	const uint64_t near = limits_data_bytes(data_now(), limits->memory_bytes);
	ok = ok && getrlimit(RLIMIT_DATA, &r) == 0 && r.rlim_max > near - (4u << 20) &&
	     r.rlim_max < near + (4u << 20);
	return ok && getrlimit(RLIMIT_NPROC, &r) == 0 &&
	       (r.rlim_max == 20) == limits_nproc_is_per_namespace();
}

/* What the kernel counts for all sessions together is as high in the keeper as it may be. */
static bool keeper_shares_no_limit(const struct rlimit before[3])
{
	static const __rlimit_resource_t shared[3] = {
	    RLIMIT_SIGPENDING, RLIMIT_MSGQUEUE, RLIMIT_NPROC};
	for (size_t i = 0; i < array_len(shared); i++) {
		struct rlimit r;
		if (getrlimit(shared[i], &r) < 0 || r.rlim_cur != r.rlim_max ||
		    r.rlim_max < before[i].rlim_max) {
			return false;
		}
	}
	return true;
}

/* In a child: limits can only be lowered. */
static void limits_are_set(void **state)
{
	(void)state;
	const struct sandbox_limits limits = {
	    .memory_bytes = 1u << 30, .file_space_bytes = 5u << 20, .pids = 20, .open_files = 100};
	pid_t pid = fork();
	if (pid == 0) {
		struct err e = {0};
		struct rlimit before[3];
		/* Where it is allowed: there is something to lower. */
		(void)setrlimit(RLIMIT_NICE, &(struct rlimit){20, 20});
		bool ok = getrlimit(RLIMIT_SIGPENDING, &before[0]) == 0 &&
			  getrlimit(RLIMIT_MSGQUEUE, &before[1]) == 0 &&
			  getrlimit(RLIMIT_NPROC, &before[2]) == 0;
		ok = ok && limits_set_fixed(&e) == 0 && keeper_shares_no_limit(before) &&
		     limits_set(&limits, SANDBOX_NAMESPACES, false, &e) == 0;
		_exit(ok && limits_have_their_values(&limits) ? 0 : 1);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void data_limit_leaves_room_before_the_kernels(void **state)
{
	(void)state;
	assert_int_equal(limits_data_bytes(1000, 80), 1000 + 70);
	assert_int_equal(limits_data_bytes(0, 1u << 30), (1u << 30) - (32u << 20));
}

/* --- directories without mount namespaces --- */

static void workdir_removes_whatever_was_left(void **state)
{
	struct host *h = *state;
	struct err e = {0};
	cleanup(fd_close) int work = open(h->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(workdir_add(work, 9, &e), 0);
	cleanup(fd_close) int session = workdir_open_session(work, 9, &e);
	cleanup(fd_close) int at = openat(session, "data", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	put(h, "/outside/kept", "x");
	assert_int_equal(symlinkat(h->root, at, "link"), 0);
	/* Deeper than any path, and than one call goes down. */
	for (int depth = 0; depth < 300; depth++) {
		assert_int_equal(mkdirat(at, "a-directory-with-a-rather-long-name", 0700), 0);
		int next = openat(
		    at, "a-directory-with-a-rather-long-name", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_true(next >= 0);
		(void)fchmod(at, 0);
		(void)close(at);
		at = next;
	}
	for (int i = 0; i < 20; i++) {
		workdir_remove(work, 9);
	}
	assert_int_equal(faccessat(work, "s9", F_OK, 0), -1);
	assert_int_equal(unlinkat(work, "trash", AT_REMOVEDIR), 0);
	assert_int_equal(faccessat(work, "outside/kept", F_OK, 0), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(mountinfo_reads_fields_and_escapes),
	    cmocka_unit_test(mountinfo_refuses_what_is_none),
	    cmocka_unit_test(cgroup_is_found_in_version_1),
	    cmocka_unit_test(cgroup_is_found_in_version_2),
	    cmocka_unit_test(cgroup_outside_the_namespace_is_not_used),
	    cmocka_unit_test_setup_teardown(
		version_2_limits_are_written, set_up_host, tear_down_host),
	    cmocka_unit_test_setup_teardown(
		version_1_limits_are_written_and_joined, set_up_host, tear_down_host),
	    cmocka_unit_test_setup_teardown(
		hybrid_takes_each_controller_where_it_is, set_up_host, tear_down_host),
	    cmocka_unit_test_setup_teardown(
		without_control_groups_there_is_a_reason, set_up_host, tear_down_host),
	    cmocka_unit_test_setup_teardown(
		commands_have_one_limit_in_version_2, set_up_host, tear_down_host),
	    cmocka_unit_test_setup_teardown(
		commands_have_one_limit_in_version_1, set_up_host, tear_down_host),
	    cmocka_unit_test_setup_teardown(
		commands_without_a_limit_have_a_reason, set_up_host, tear_down_host),
	    cmocka_unit_test_setup_teardown(
		kills_of_commands_are_counted_in_both_versions, set_up_host, tear_down_host),
	    cmocka_unit_test_setup_teardown(
		usage_is_read_in_both_versions, set_up_host, tear_down_host),
	    cmocka_unit_test_setup_teardown(
		a_busy_group_is_removed_later, set_up_host, tear_down_host),
	    cmocka_unit_test(seccomp_answers_at_both_levels),
	    cmocka_unit_test(seccomp_knows_each_command_of_fcntl),
	    cmocka_unit_test(seccomp_answers_with_namespaces),
	    cmocka_unit_test(seccomp_answers_without_namespaces),
	    cmocka_unit_test(seccomp_keeps_signals_to_the_session),
	    cmocka_unit_test(seccomp_keeps_files_from_being_cut),
	    cmocka_unit_test(seccomp_answers_to_commands),
	    cmocka_unit_test(seccomp_kills_the_x32_abi),
	    cmocka_unit_test(limits_are_set),
	    cmocka_unit_test(data_limit_leaves_room_before_the_kernels),
	    cmocka_unit_test_setup_teardown(
		workdir_removes_whatever_was_left, set_up_host, tear_down_host),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
