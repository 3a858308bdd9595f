/*
 * walls_probe: a keeper with one session, without Python, gateway or socket. The session is walled
 * in and sealed as any other, and then tries named hostile things, each in a process of its own.
 * One line an attempt: "ok NAME" or "FAILED NAME: what happened". Exit status 1 when one failed.
 *
 *     walls_probe [namespaces|landlock] [WORK_DIR]
 *
 * Started as root it becomes "nobody", as the server would.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/compiler.h"
#include "sandbox/walls.h"

#define MEMORY_BYTES (256u << 20)
#define FILE_SPACE_BYTES (16u << 20)
#define PIDS 24
#define OPEN_FILES 128
#define NOBODY 65534
#define HOST_SHM_KEY 0x43415252
#define ATTEMPT_SECONDS 10
#define ALL_SECONDS 60

/* What is there to be reached; made by the keeper before its walls. */
static struct {
	char path[64];     /* a file only its owner, the sessions' user, may read */
	int port;          /* a listener on the host's loopback */
	char abstract[64]; /* a listener's abstract name */
	pid_t keeper;
	int shm; /* a segment of System V shared memory */
	bool has_cgroups;
	bool filters_signals;
	enum sandbox_level level;
} host;

static char detail[256];

static bool fail(const char *fmt, ...) printf_like(1, 2);

static bool fail(const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	(void)vsnprintf(detail, sizeof(detail), fmt, args);
	va_end(args);
	return false;
}

/* RESULT < 0 with one of two errnos is what should have happened. */
static bool refused(long result, int expected, int or_expected)
{
	if (result >= 0) {
		return fail("it was allowed");
	}
	return errno == expected || errno == or_expected ? true
							 : fail("errno %s", strerrorname_np(errno));
}

static bool open_refused(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC, 0600);
	if (fd >= 0) {
		return fail("%s could be opened", path);
	}
	return errno == ENOENT || errno == EACCES || errno == EROFS || errno == EPERM
		   ? true
		   : fail("%s: %s", path, strerrorname_np(errno));
}

/* ---- files ---- */

static bool host_file(void)
{
	return open_refused(host.path, O_RDONLY);
}

static bool secrets(void)
{
	static const char *const paths[] = {"/etc/shadow", "/etc/machine-id", "/etc/resolv.conf",
	    "/root", "/var/log", "/etc/ssl/private", "/boot", "/sys/kernel", "/run/systemd",
	    "/etc/ssh", "/usr/local/sbin", "/usr/src"};
	for (size_t i = 0; i < array_len(paths); i++) {
		if (!open_refused(paths[i], O_RDONLY)) {
			return false;
		}
	}
	return true;
}

static bool write_system(void)
{
	static const char *const paths[] = {"/usr/carrel-x", "/etc/carrel-x", "/carrel-x",
	    "/usr/bin/env", "/etc/passwd", "/dev/carrel-x", "/var/carrel-x", "/run/carrel-x",
	    "/home/carrel-x", "/mnt/carrel-x", "/usr/lib/carrel-x"};
	for (size_t i = 0; i < array_len(paths); i++) {
		if (!open_refused(paths[i], O_WRONLY | O_CREAT)) {
			return false;
		}
	}
	return true;
}

static bool change_system(void)
{
	struct stat before;
	struct stat after;
	if (stat("/usr", &before) < 0) {
		return fail("%s", strerrorname_np(errno));
	}
	/* Without a mount namespace it says that it did it, and does not. */
	bool said = chmod("/usr", 0777) == 0;
	bool changed = stat("/usr", &after) < 0 || after.st_mode != before.st_mode;
	if (changed || (said && host.level == SANDBOX_NAMESPACES)) {
		return fail("the mode of /usr was changed");
	}
	return refused(unlink("/etc/passwd"), EROFS, EACCES) &&
	       refused(rename("/etc", "/mnt/etc"), EROFS, EACCES) &&
	       refused(symlink("/", "/usr/carrel-x"), EROFS, EACCES);
}

static bool own_files(void)
{
	static const char *const ns_paths[] = {"/tmp/x", "/mnt/data/x", "x", "/dev/shm/x"};
	size_t count = host.level == SANDBOX_NAMESPACES ? array_len(ns_paths) : 0;
	for (size_t i = 0; i < count; i++) {
		int fd = open(ns_paths[i], O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		if (fd < 0) {
			return fail("%s: %s", ns_paths[i], strerrorname_np(errno));
		}
	}
	int fd = open("y", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	int null = open("/dev/null", O_RDWR | O_TRUNC | O_CLOEXEC);
	return fd >= 0 && null >= 0 ? true : fail("%s", strerrorname_np(errno));
}

static bool devices(void)
{
	if (!open_refused("/dev/kmsg", O_RDONLY) || !open_refused("/dev/mem", O_RDONLY) ||
	    !open_refused("/dev/vda", O_RDONLY) || !open_refused("/dev/fuse", O_RDWR) ||
	    !open_refused("/dev/tty", O_RDWR)) {
		return false;
	}
	return refused(mknod("null", S_IFCHR | 0666, 0x103), EPERM, EPERM) &&
	       refused(mknod("disk", S_IFBLK | 0666, 0xfe00), EPERM, EPERM);
}

static bool fifo_allowed(void)
{
	return mkfifo("fifo", 0600) == 0 ? true : fail("%s", strerrorname_np(errno));
}

/* ---- mounts and namespaces ---- */

static bool mounts(void)
{
	return refused(mount("none", "/tmp", "tmpfs", 0, NULL), EPERM, EPERM) &&
	       refused(mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND, NULL), EPERM, EPERM) &&
	       refused(umount2("/proc", MNT_DETACH), EPERM, EPERM) &&
	       refused(umount2("/tmp", MNT_DETACH), EPERM, EPERM) &&
	       refused(chroot("."), EPERM, EPERM) &&
	       refused(syscall(SYS_pivot_root, ".", "."), EPERM, EPERM) &&
	       refused(syscall(SYS_open_tree, AT_FDCWD, "/", 1), EPERM, EPERM) &&
	       refused(syscall(SYS_fsopen, "tmpfs", 0), EPERM, EPERM) &&
	       refused(syscall(SYS_mount_setattr, AT_FDCWD, "/", 0, NULL, 0), EPERM, EPERM);
}

static bool namespaces(void)
{
	static const int flags[] = {CLONE_NEWUSER, CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET,
	    CLONE_NEWIPC, CLONE_NEWUTS, CLONE_NEWCGROUP, CLONE_NEWTIME};
	for (size_t i = 0; i < array_len(flags); i++) {
		if (!refused(unshare(flags[i]), EPERM, EPERM)) {
			return false;
		}
	}
	if (!refused(syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0), EPERM, EPERM)) {
		return false;
	}
	struct clone_args args = {.flags = CLONE_NEWUSER, .exit_signal = SIGCHLD};
	return refused(syscall(SYS_clone3, &args, sizeof(args)), ENOSYS, ENOSYS) &&
	       refused(syscall(SYS_setns, 0, 0), EPERM, EPERM);
}

/* ---- other processes ---- */

static bool keeper_signals(void)
{
	/* Where Landlock does not keep signals in, the filter does. */
	const int expected = host.filters_signals ? ENOSYS : ESRCH;
	return refused(kill(host.keeper, 0), expected, EPERM) &&
	       refused(kill(-host.keeper, 0), expected, EPERM) &&
	       refused(syscall(SYS_tgkill, host.keeper, host.keeper, 0), expected, EPERM);
}

static bool keeper_memory(void)
{
	char byte;
	struct iovec local = {&byte, 1};
	struct iovec remote = {&host, 1};
	return refused(ptrace(PTRACE_ATTACH, host.keeper, 0, 0), EPERM, EPERM) &&
	       refused(process_vm_readv(host.keeper, &local, 1, &remote, 1, 0), EPERM, EPERM) &&
	       refused(syscall(SYS_pidfd_getfd, 0, 0, 0), EPERM, EPERM) &&
	       refused(syscall(SYS_kcmp, 1, 1, 0, 0, 0), EPERM, EPERM);
}

static bool keeper_proc(void)
{
	static const char *const names[] = {
	    "mem", "environ", "maps", "fd", "root", "cmdline", "cwd"};
	for (size_t i = 0; i < array_len(names); i++) {
		char path[64];
		(void)snprintf(path, sizeof(path), "/proc/%d/%s", (int)host.keeper, names[i]);
		if (!open_refused(path, O_RDONLY)) {
			return false;
		}
	}
	return true;
}

static bool keeper_settings(void)
{
	struct rlimit none = {0, 0};
	cpu_set_t one;
	CPU_ZERO(&one);
	CPU_SET(0, &one);
	return refused(prlimit(host.keeper, RLIMIT_CPU, &none, NULL), ESRCH,
		   host.level == SANDBOX_LANDLOCK ? ENOSYS : ESRCH) &&
	       refused(sched_setaffinity(host.keeper, sizeof(one), &one), ESRCH,
		   host.level == SANDBOX_LANDLOCK ? ENOSYS : ESRCH) &&
	       refused(setpriority(PRIO_PROCESS, (id_t)host.keeper, 10), ESRCH,
		   host.level == SANDBOX_LANDLOCK ? ENOSYS : ESRCH);
}

/* SIGIO's owner may be any process: the kernel then sends the signal, not we. The keeper counts. */
static bool keeper_sigio(void)
{
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
		return fail("no socket pair: %s", strerrorname_np(errno));
	}
	(void)fcntl(pair[0], F_SETSIG, SIGUSR1);
	(void)fcntl(pair[0], F_SETOWN, host.keeper);
	(void)fcntl(pair[0], F_SETFL, O_ASYNC);
	return write(pair[1], "x", 1) == 1;
}

/* The group is its own: nobody else is in it to be signalled or to be made nicer. */
static bool group_of_its_own(void)
{
	pid_t session = getppid();
	return (getpgid(session) == session && getsid(session) == session) ||
	       fail("its group is %d, its session %d", (int)getpgid(session), (int)getsid(session));
}

/* The filter alone: a signal, a notice or a lease of the kernel's for somebody else. */
static bool kernel_signals(void)
{
	static const int commands[] = {F_SETOWN, F_SETOWN_EX, F_SETSIG, F_SETLEASE, F_NOTIFY};
	for (size_t i = 0; i < array_len(commands); i++) {
		if (!refused(fcntl(0, commands[i], 0), EPERM, EPERM)) {
			return false;
		}
	}
	return true;
}

/* Of a group or of a user the filter alone refuses them; a starved thread may hold a lock. */
static bool scheduling(void)
{
	const struct sched_param param = {0};
	const uint64_t attributes[6] = {48 | (uint64_t)SCHED_IDLE << 32};
	if (!refused(sched_setscheduler(0, SCHED_IDLE, &param), EPERM, EPERM) ||
	    !refused(sched_setscheduler(0, SCHED_BATCH, &param), EPERM, EPERM) ||
	    !refused(syscall(SYS_sched_setattr, 0, attributes, 0), EPERM, EPERM) ||
	    !refused(setpriority(PRIO_PROCESS, 0, 19), EPERM, EPERM) ||
	    !refused(setpriority(PRIO_PGRP, 0, 1), EPERM, EPERM) ||
	    !refused(setpriority(PRIO_USER, 0, 1), EPERM, EPERM) ||
	    !refused(syscall(SYS_ioprio_set, 2, 0, 3 << 13), ENOSYS, ENOSYS) ||
	    !refused(syscall(SYS_ioprio_set, 3, 0, 3 << 13), ENOSYS, ENOSYS)) {
		return false;
	}
	return setpriority(PRIO_PROCESS, 0, 10) == 0 || fail("%s", strerrorname_np(errno));
}

/* With SO_LINGER the last close would wait, in whichever process it happens. */
static bool linger(void)
{
	int pair[2];
	struct linger l = {.l_onoff = 1, .l_linger = 20};
	socklen_t len = sizeof(l);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0 ||
	    setsockopt(pair[0], SOL_SOCKET, SO_LINGER, &l, len) < 0 ||
	    getsockopt(pair[0], SOL_SOCKET, SO_LINGER, &l, &len) < 0) {
		return fail("%s", strerrorname_np(errno));
	}
	return l.l_onoff == 0 || fail("a close can be made to wait");
}

/* Which only the mounts stop where Landlock does not know it yet, and without them the filter. */
static bool truncate_host(void)
{
	if (host.level == SANDBOX_LANDLOCK) {
		return refused(truncate(host.path, 0), EACCES, EPERM);
	}
	return refused(truncate(host.path, 0), ENOENT, ENOENT) &&
	       refused(truncate("/usr/bin/env", 0), EROFS, EACCES);
}

static bool host_shared_memory(void)
{
	int id = shmget(HOST_SHM_KEY, 4096, 0);
	return refused(id, ENOENT, EPERM);
}

static bool own_group(void)
{
	return host.level == SANDBOX_NAMESPACES ||
	       (refused(setsid(), EPERM, EPERM) && refused(setpgid(0, 0), EPERM, EPERM));
}

/* ---- sockets ---- */

static bool exotic_sockets(void)
{
	static const int families[] = {AF_PACKET, AF_NETLINK, AF_VSOCK, AF_ALG, AF_BLUETOOTH,
	    AF_XDP, AF_TIPC, AF_CAN, AF_KEY, AF_RDS, AF_QIPCRTR, AF_IB, AF_PPPOX, AF_SMC, AF_KCM};
	for (size_t i = 0; i < array_len(families); i++) {
		if (!refused(socket(families[i], SOCK_RAW, 0), EAFNOSUPPORT, EPERM) ||
		    !refused(socket(families[i], SOCK_DGRAM, 0), EAFNOSUPPORT, EPERM)) {
			return false;
		}
	}
	return refused(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP), EPERM, EPERM) &&
	       refused(socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6), EPERM, EPERM) &&
	       refused(socket(AF_INET, SOCK_STREAM, IPPROTO_SCTP), ENOSYS, EPERM) &&
	       refused(socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP), ENOSYS, EPERM);
}

static bool host_network(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		return host.level == SANDBOX_LANDLOCK ? true : fail("%s", strerrorname_np(errno));
	}
	struct sockaddr_in to = {.sin_family = AF_INET,
	    .sin_port = htons((uint16_t)host.port),
	    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	if (!refused(connect(fd, (struct sockaddr *)&to, sizeof(to)), ECONNREFUSED, EPERM)) {
		return false;
	}
	to.sin_addr.s_addr = inet_addr("192.0.2.1");
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	return refused(connect(fd, (struct sockaddr *)&to, sizeof(to)), ENETUNREACH, EPERM);
}

static bool host_abstract_socket(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		return host.level == SANDBOX_LANDLOCK ? true : fail("%s", strerrorname_np(errno));
	}
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	size_t n = strlen(host.abstract);
	memcpy(to.sun_path + 1, host.abstract, n);
	return refused(connect(fd, (struct sockaddr *)&to,
			   (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + n)),
	    ECONNREFUSED, EPERM);
}

static bool datagrams_by_pair(void)
{
	int pair[2];
	if (host.level == SANDBOX_NAMESPACES) {
		return true;
	}
	return refused(socketpair(AF_UNIX, SOCK_DGRAM, 0, pair), ENOSYS, EPERM);
}

static bool own_loopback(void)
{
	if (host.level == SANDBOX_LANDLOCK) {
		return true;
	}
	int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(at);
	if (bind(server, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(server, 1) < 0 ||
	    getsockname(server, (struct sockaddr *)&at, &len) < 0 ||
	    connect(client, (struct sockaddr *)&at, sizeof(at)) < 0) {
		return fail("%s", strerrorname_np(errno));
	}
	return true;
}

/* ---- the kernel ---- */

static bool kernel_calls(void)
{
	static const struct {
		long number;
		const char *name;
	} calls[] = {
	    {SYS_bpf, "bpf"},
	    {SYS_perf_event_open, "perf_event_open"},
	    {SYS_keyctl, "keyctl"},
	    {SYS_add_key, "add_key"},
	    {SYS_request_key, "request_key"},
	    {SYS_userfaultfd, "userfaultfd"},
	    {SYS_io_uring_setup, "io_uring_setup"},
	    {SYS_io_uring_enter, "io_uring_enter"},
	    {SYS_io_uring_register, "io_uring_register"},
	    {SYS_init_module, "init_module"},
	    {SYS_finit_module, "finit_module"},
	    {SYS_kexec_load, "kexec_load"},
	    {SYS_reboot, "reboot"},
	    {SYS_swapon, "swapon"},
	    {SYS_syslog, "syslog"},
	    {SYS_acct, "acct"},
	    {SYS_quotactl, "quotactl"},
	    {SYS_settimeofday, "settimeofday"},
	    {SYS_clock_settime, "clock_settime"},
	    {SYS_adjtimex, "adjtimex"},
	    {SYS_sethostname, "sethostname"},
	    {SYS_name_to_handle_at, "name_to_handle_at"},
	    {SYS_open_by_handle_at, "open_by_handle_at"},
	    {SYS_fanotify_init, "fanotify_init"},
	    {SYS_move_pages, "move_pages"},
	    {SYS_memfd_secret, "memfd_secret"},
	};
	for (size_t i = 0; i < array_len(calls); i++) {
		long r = syscall(calls[i].number, 0, 0, 0, 0, 0, 0);
		if (r >= 0 || errno != EPERM) {
			return fail(
			    "%s: %s", calls[i].name, r >= 0 ? "allowed" : strerrorname_np(errno));
		}
	}
	return refused(syscall(SYS_personality, 0x0040000), ENOSYS, EPERM) &&
	       refused(ioctl(0, 0x5412, "x"), EPERM, EPERM) &&
	       refused(syscall(SYS_ioctl, 0, 0x100005412UL, "x"), EPERM, EPERM) &&
	       refused(syscall(SYS_seccomp, 0, 0, NULL), ENOSYS, ENOSYS);
}

static bool proc_writes(void)
{
	static const char *const paths[] = {"/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger",
	    "/proc/self/uid_map", "/proc/self/oom_score_adj", "/proc/self/mem", "/proc/kcore",
	    "/proc/sys/kernel/hostname", "/proc/kallsyms", "/proc/timer_list"};
	for (size_t i = 0; i < array_len(paths); i++) {
		if (!open_refused(paths[i], O_RDWR)) {
			return false;
		}
	}
	return true;
}

static bool powers(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {0};
	if (syscall(SYS_capget, &header, data) < 0 ||
	    (data[0].permitted | data[1].permitted) != 0) {
		return fail("capabilities are left");
	}
	data[0].permitted = 1u << CAP_SYS_ADMIN;
	return refused(syscall(SYS_capset, &header, data), EPERM, EPERM) &&
	       refused(setuid(0), EPERM, EINVAL) && refused(setgid(0), EPERM, EINVAL);
}

static bool raise_limits(void)
{
	static const __rlimit_resource_t kinds[] = {RLIMIT_NOFILE, RLIMIT_DATA, RLIMIT_FSIZE,
	    RLIMIT_NPROC, RLIMIT_MEMLOCK, RLIMIT_CORE, RLIMIT_STACK};
	const struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};
	for (size_t i = 0; i < array_len(kinds); i++) {
		if (!refused(setrlimit(kinds[i], &all), EPERM, EPERM)) {
			return false;
		}
	}
	return true;
}

#if defined(__x86_64__)
/* Run as children of their own; the parent looks at how they died. */
static bool killed_by(void (*fn)(void), int signal_1, int signal_2)
{
	pid_t pid = fork();
	if (pid == 0) {
		fn();
		_exit(0);
	}
	int status;
	if (pid < 0 || waitpid(pid, &status, 0) < 0) {
		return fail("cannot fork: %s", strerrorname_np(errno));
	}
	if (!WIFSIGNALED(status)) {
		return fail("it was allowed");
	}
	return WTERMSIG(status) == signal_1 || WTERMSIG(status) == signal_2;
}

static void call_32(void)
{
	long r;
	__asm__ volatile("int $0x80" : "=a"(r) : "a"(20L) : "memory", "r8", "r9", "r10", "r11");
}

static void call_x32(void)
{
	(void)syscall(0x40000000L | SYS_getpid);
}
#endif

static bool other_abis(void)
{
#if defined(__x86_64__)
	return killed_by(call_32, SIGSYS, SIGSEGV) && killed_by(call_x32, SIGSYS, SIGSYS);
#else
	return true;
#endif
}

/* ---- limits ---- */

static bool process_limit(void)
{
	if (host.level == SANDBOX_LANDLOCK && !host.has_cgroups) {
		return true; /* counted for the whole server there: weaker, as reported */
	}
	int end[2]; /* they wait for it: not everywhere may they be signalled */
	int count = 0;
	bool ok = fail("more than %d processes", PIDS);
	if (pipe2(end, O_CLOEXEC) < 0) {
		return fail("no pipe: %s", strerrorname_np(errno));
	}
	for (; count <= PIDS; count++) {
		pid_t pid = fork();
		if (pid == 0) {
			char byte;
			(void)close(end[1]);
			(void)!read(end[0], &byte, 1);
			_exit(0);
		}
		if (pid < 0) {
			ok = errno == EAGAIN;
			break;
		}
	}
	(void)close(end[1]);
	while (count-- > 0) {
		(void)waitpid(-1, NULL, 0);
	}
	return ok;
}

static bool descriptor_limit(void)
{
	for (int n = 0; n < OPEN_FILES + 64; n++) {
		if (dup(0) < 0) {
			return errno == EMFILE;
		}
	}
	return fail("more than %d descriptors", OPEN_FILES + 64);
}

static bool file_space(void)
{
	static char block[1 << 20];
	if (host.level == SANDBOX_LANDLOCK) {
		return true;
	}
	memset(block, 1, sizeof(block));
	struct sigaction ignore = {.sa_handler = SIG_IGN};
	(void)sigaction(SIGXFSZ, &ignore, NULL);
	uint64_t written = 0;
	for (int file = 0; file < 4; file++) {
		char name[32];
		(void)snprintf(name, sizeof(name), "big%d", file);
		int fd = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		ssize_t n;
		while (fd >= 0 && (n = write(fd, block, sizeof(block))) > 0) {
			written += (uint64_t)n;
		}
	}
	for (int file = 0; file < 4; file++) {
		char name[32];
		(void)snprintf(name, sizeof(name), "big%d", file);
		(void)unlink(name);
	}
	return written <= FILE_SPACE_BYTES && written > FILE_SPACE_BYTES / 2
		   ? true
		   : fail("%llu bytes could be written", (unsigned long long)written);
}

static bool inode_limit(void)
{
	if (host.level == SANDBOX_LANDLOCK) {
		return true;
	}
	(void)mkdir("inodes", 0700);
	char name[64];
	int made = 0;
	for (; made < 100000; made++) {
		(void)snprintf(name, sizeof(name), "inodes/%d", made);
		if (mknod(name, S_IFREG | 0600, 0) < 0) {
			break;
		}
	}
	int failed = errno;
	for (int i = 0; i < made; i++) {
		(void)snprintf(name, sizeof(name), "inodes/%d", i);
		(void)unlink(name);
	}
	return made < 100000 && failed == ENOSPC ? true : fail("%d files could be made", made);
}

/* One process is told by malloc, and lives. */
static bool memory_is_refused(void)
{
	const size_t piece = 1u << 20;
	for (size_t total = 0; total <= MEMORY_BYTES; total += piece) {
		char *p = malloc(piece);
		if (p == NULL) {
			return total > MEMORY_BYTES / 2 ? true : fail("only %zu bytes", total);
		}
		memset(p, 1, piece);
	}
	return fail("more than %u bytes", MEMORY_BYTES);
}

static bool shared_memory_is_killed(void)
{
	if (!host.has_cgroups) {
		return true;
	}
	pid_t pid = fork();
	if (pid == 0) {
		size_t size = MEMORY_BYTES * 2ul;
		char *p = mmap(
		    NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		if (p != MAP_FAILED) {
			memset(p, 1, size);
		}
		_exit(0);
	}
	int status;
	(void)waitpid(pid, &status, 0);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL
		   ? true
		   : fail("status %x", (unsigned)status);
}

static const struct attempt {
	const char *name;
	bool (*run)(void);
} attempts[] = {
    {"host_file", host_file},
    {"secrets", secrets},
    {"write_system", write_system},
    {"change_system", change_system},
    {"own_files", own_files},
    {"devices", devices},
    {"fifo_allowed", fifo_allowed},
    {"mounts", mounts},
    {"namespaces", namespaces},
    {"keeper_signals", keeper_signals},
    {"keeper_memory", keeper_memory},
    {"keeper_proc", keeper_proc},
    {"keeper_settings", keeper_settings},
    {"keeper_sigio", keeper_sigio},
    {"group_of_its_own", group_of_its_own},
    {"kernel_signals", kernel_signals},
    {"scheduling", scheduling},
    {"linger", linger},
    {"truncate_host", truncate_host},
    {"host_shared_memory", host_shared_memory},
    {"own_group", own_group},
    {"exotic_sockets", exotic_sockets},
    {"host_network", host_network},
    {"host_abstract_socket", host_abstract_socket},
    {"datagrams_by_pair", datagrams_by_pair},
    {"own_loopback", own_loopback},
    {"kernel_calls", kernel_calls},
    {"proc_writes", proc_writes},
    {"powers", powers},
    {"raise_limits", raise_limits},
    {"other_abis", other_abis},
    {"process_limit", process_limit},
    {"descriptor_limit", descriptor_limit},
    {"file_space", file_space},
    {"inode_limit", inode_limit},
    {"memory_is_refused", memory_is_refused},
    {"shared_memory_is_killed", shared_memory_is_killed},
};

/* ---- the session ---- */

static bool report(const char *name, bool ok, const char *why)
{
	(void)printf("%s %s%s%s\n", ok ? "ok" : "FAILED", name, ok ? "" : ": ", ok ? "" : why);
	(void)fflush(stdout);
	return ok;
}

static bool run_attempt(const struct attempt *a)
{
	int why[2];
	if (pipe2(why, O_CLOEXEC | O_NONBLOCK) < 0) {
		return report(a->name, false, "no pipe");
	}
	pid_t pid = fork();
	if (pid == 0) {
		(void)alarm(ATTEMPT_SECONDS);
		bool ok = a->run();
		ssize_t n = ok ? 0 : write(why[1], detail, strlen(detail));
		_exit(ok && n == 0 ? 0 : 1);
	}
	(void)close(why[1]);
	int status = -1;
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR) {
	}
	/* Without waiting for the end of the pipe: what an attempt leaves running holds it open. */
	char text[sizeof(detail)] = "";
	ssize_t n = read(why[0], text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = '\0';
	(void)close(why[0]);
	if (status != 0 && text[0] == '\0') {
		(void)snprintf(text, sizeof(text),
		    pid < 0 ? "cannot fork" : "it ended with status %x", (unsigned)status);
	}
	return report(a->name, status == 0, text);
}

/* Leaves a daemon behind that holds ALIVE_FD open. */
static void leave_daemon(int alive_fd)
{
	if (fork() == 0) {
		if (fork() == 0) {
			(void)fcntl(alive_fd, F_SETFD, 0);
			for (;;) {
				(void)pause();
			}
		}
		_exit(0);
	}
	(void)wait(NULL);
}

static _Noreturn void session(
    struct sandbox *sb, const struct sandbox_limits *limits, int ready_fd, int alive_fd)
{
	struct err e = {0};
	int data_fd;
	if (sandbox_enter(sb, limits, 1, &data_fd, &e) < 0 || sandbox_seal(sb, &e) < 0) {
		(void)printf("FAILED walls: %s\n", e.text);
		(void)fflush(stdout);
		_exit(2);
	}
	bool all = true;
	for (size_t i = 0; i < array_len(attempts); i++) {
		all = run_attempt(&attempts[i]) && all;
		while (waitpid(-1, NULL, WNOHANG) > 0) {
		}
	}
	leave_daemon(alive_fd);
	(void)close(alive_fd);
	char verdict = all ? 1 : 0;
	(void)!write(ready_fd, &verdict, 1);
	for (;;) {
		(void)pause();
	}
}

/* ---- the keeper ---- */

static volatile sig_atomic_t signals_seen;

static void count_signal(int number)
{
	(void)number;
	signals_seen++;
}

static int listen_on(int family, const struct sockaddr *at, socklen_t len)
{
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, at, len) < 0 || listen(fd, 4) < 0) {
		perror("listen");
		exit(2);
	}
	return fd;
}

static void prepare_host(uid_t uid)
{
	(void)snprintf(host.path, sizeof(host.path), "/var/tmp/carrel-canary-XXXXXX");
	int fd = mkstemp(host.path);
	if (fd < 0 || write(fd, "canary", 6) != 6 || fchown(fd, uid, (gid_t)-1) < 0) {
		perror("canary");
		exit(2);
	}
	(void)close(fd);
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(in);
	int tcp = listen_on(AF_INET, (struct sockaddr *)&in, sizeof(in));
	(void)getsockname(tcp, (struct sockaddr *)&in, &len);
	host.port = ntohs(in.sin_port);
	(void)snprintf(host.abstract, sizeof(host.abstract), "carrel-probe-%d", (int)getpid());
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	size_t n = strlen(host.abstract);
	memcpy(un.sun_path + 1, host.abstract, n);
	(void)listen_on(AF_UNIX, (struct sockaddr *)&un,
	    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + n));
	host.shm = shmget(HOST_SHM_KEY, 4096, IPC_CREAT | 0666);
	struct sigaction count = {.sa_handler = count_signal};
	(void)sigaction(SIGUSR1, &count, NULL);
}

static bool check_after(struct sandbox *sb, const struct sandbox_child *child, int alive_fd)
{
	bool ok = report("keeper_saw_no_signal", signals_seen == 0, "SIGUSR1 reached the keeper");
	struct sandbox_usage usage;
	sandbox_child_usage(sb, child, &usage);
	if (host.has_cgroups) {
		ok = report("memory_kill_is_counted", usage.oom_kills > 0, "no oom_kill") && ok;
		ok = report("fork_refusal_is_counted", usage.pids_refused > 0, "no refusal") && ok;
		ok = report("memory_peak_is_counted", usage.memory_peak_bytes > MEMORY_BYTES / 2,
			 "no peak") &&
		     ok;
	}
	int r = sandbox_child_kill(sb, child);
	(void)waitpid(child->pid, NULL, 0);
	/* The daemon was the last to hold the other end. */
	char byte;
	ok = report("kill_reaches_daemons", r == 0 && read(alive_fd, &byte, 1) == 0, "one lives") &&
	     ok;
	sandbox_child_remove(sb, child);
	sandbox_child_remove(sb, child);
	return ok;
}

static int run(struct sandbox *sb)
{
	const struct sandbox_limits limits = {.memory_bytes = MEMORY_BYTES,
	    .file_space_bytes = FILE_SPACE_BYTES,
	    .cpu_millis = 1000,
	    .pids = PIDS,
	    .open_files = OPEN_FILES};
	struct err e = {0};
	int ready[2];
	int alive[2];
	if (pipe2(ready, O_CLOEXEC) < 0 || pipe2(alive, O_CLOEXEC) < 0) {
		perror("pipe2");
		return 2;
	}
	struct sandbox_child child = {0};
	pid_t pid = sandbox_fork(sb, &limits, 1, &child, &e);
	if (pid == 0) {
		session(sb, &limits, ready[1], alive[1]);
	}
	(void)close(ready[1]);
	(void)close(alive[1]);
	char verdict = 0;
	if (pid < 0 || read(ready[0], &verdict, 1) != 1) {
		(void)printf("FAILED session: %s\n", pid < 0 ? e.text : "it died");
		return 1;
	}
	return check_after(sb, &child, alive[0]) && verdict == 1 ? 0 : 1;
}

static int keeper(const struct sandbox_config *config)
{
	struct err e = {0};
	struct sandbox *sb;
	(void)alarm(ALL_SECONDS);
	host.keeper = getpid();
	if (sandbox_new(config, &sb, &e) < 0) {
		(void)fprintf(stderr, "walls_probe: %s\n", e.text);
		return 2;
	}
	host.has_cgroups = cgroups_have(&sb->cgroups, CGROUP_MEMORY) &&
			   cgroups_have(&sb->cgroups, CGROUP_PIDS);
	host.filters_signals = config->level == SANDBOX_LANDLOCK &&
			       !landlock_abi_scopes_signals(sb->landlock_abi);
	int status = run(sb);
	sandbox_free(sb);
	return status;
}

int main(int argc, char **argv)
{
	struct sandbox_config config = {
	    .level = argc > 1 && strcmp(argv[1], "landlock") == 0 ? SANDBOX_LANDLOCK
								  : SANDBOX_NAMESPACES,
	    .uid = geteuid() == 0 ? NOBODY : geteuid(),
	    .gid = geteuid() == 0 ? NOBODY : getegid(),
	    .work_dir = argc > 2 ? argv[2] : NULL,
	};
	host.level = config.level;
	prepare_host(config.uid);
	pid_t pid = fork();
	if (pid == 0) {
		exit(keeper(&config));
	}
	int status = -1;
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR) {
	}
	/* Behind its walls the keeper cannot reach these any more. */
	(void)unlink(host.path);
	(void)shmctl(host.shm, IPC_RMID, NULL);
	cgroups_sweep(NULL);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 2;
}
