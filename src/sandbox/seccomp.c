/*
 * The system calls a session may make: an allow-list, compiled once by libseccomp and installed by
 * each session with one call.
 *
 * Three answers: allowed; EPERM for what is known and refused; ENOSYS for all else, so that
 * libraries take their path for older kernels (clone3, whose flags a filter cannot read, is refused
 * that way and libc goes back to clone). A call of another architecture's ABI kills the process.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "sandbox/seccomp_rules.h"
#include "sandbox/walls.h"

/* Stand for the session's pid and for its negative in a program of signals_to_self_only; no pid
 * reaches them (the kernel's limit is 2^22). */
#define PLACEHOLDER_PID 0x5eaf00d1u
#define PLACEHOLDER_GROUP 0x5eaf00d2u

#define ALLOW SCMP_ACT_ALLOW
#define REFUSE SCMP_ACT_ERRNO(EPERM)
#define INT_MASK 0xffffffffULL /* an int argument; what is above it is noise */
#define NEW_NAMESPACES                                                                             \
	(CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | \
	    CLONE_NEWCGROUP)

/* A filter while it is being built: the first failure is kept, and what follows does nothing. */
struct builder {
	scmp_filter_ctx ctx;
	int failed; /* 0 or -errno */
	const char *failed_at;
};

static void builder_fini(struct builder *b)
{
	if (b->ctx != NULL) {
		seccomp_release(b->ctx);
	}
}

static void add(struct builder *b, uint32_t action, const char *name, unsigned count,
    const struct scmp_arg_cmp *args)
{
	int number = seccomp_syscall_resolve_name(name);
	if (b->failed != 0 || number == __NR_SCMP_ERROR) {
		return; /* a call this libseccomp does not know is ENOSYS anyway */
	}
	int r = seccomp_rule_add_array(b->ctx, action, number, count, args);
	if (r < 0) {
		b->failed = r;
		b->failed_at = name;
	}
}

static void add_all(struct builder *b, uint32_t action, const char *const *names, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		add(b, action, names[i], 0, NULL);
	}
}

static void add_1(struct builder *b, uint32_t action, const char *name, struct scmp_arg_cmp x)
{
	add(b, action, name, 1, &x);
}

static void add_2(struct builder *b, uint32_t action, const char *name, struct scmp_arg_cmp x,
    struct scmp_arg_cmp y)
{
	add(b, action, name, 2, (const struct scmp_arg_cmp[]){x, y});
}

static struct scmp_arg_cmp arg_is(unsigned arg, uint64_t value)
{
	return SCMP_CMP64(arg, SCMP_CMP_EQ, value, 0);
}

static struct scmp_arg_cmp arg_int_is(unsigned arg, uint32_t value)
{
	return SCMP_CMP64(arg, SCMP_CMP_MASKED_EQ, INT_MASK, value);
}

static struct scmp_arg_cmp arg_bits_are(unsigned arg, uint64_t mask, uint64_t value)
{
	return SCMP_CMP64(arg, SCMP_CMP_MASKED_EQ, mask, value);
}

static void add_new_namespaces(struct builder *b)
{
	static const uint64_t namespaces[] = {CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNS,
	    CLONE_NEWNET, CLONE_NEWIPC, CLONE_NEWUTS, CLONE_NEWCGROUP};
	for (size_t i = 0; i < array_len(namespaces); i++) {
		add_1(b, REFUSE, "clone", arg_bits_are(0, namespaces[i], namespaces[i]));
	}
}

/* AF_UNIX, and TCP and UDP over the session's own loopback. The protocol is named too: others make
 * the kernel look for modules (SCTP, DCCP, L2TP). Types beyond these are raw. */
static void add_socket(struct builder *b)
{
	static const struct {
		int family;
		int type;
		int protocol;
	} allowed[] = {
	    {AF_UNIX, SOCK_STREAM, 0},
	    {AF_UNIX, SOCK_DGRAM, 0},
	    {AF_UNIX, SOCK_SEQPACKET, 0},
	    {AF_INET, SOCK_STREAM, 0},
	    {AF_INET, SOCK_STREAM, 6},
	    {AF_INET, SOCK_DGRAM, 0},
	    {AF_INET, SOCK_DGRAM, 17},
	    {AF_INET6, SOCK_STREAM, 0},
	    {AF_INET6, SOCK_STREAM, 6},
	    {AF_INET6, SOCK_DGRAM, 0},
	    {AF_INET6, SOCK_DGRAM, 17},
	};
	for (size_t i = 0; i < array_len(allowed); i++) {
		const struct scmp_arg_cmp args[] = {
		    arg_int_is(0, (uint32_t)allowed[i].family),
		    arg_bits_are(1, 0xf, (uint64_t)allowed[i].type),
		    arg_int_is(2, (uint32_t)allowed[i].protocol),
		};
		add(b, ALLOW, "socket", array_len(args), args);
	}
	static const uint32_t families[] = {AF_UNIX, AF_INET, AF_INET6};
	static const uint64_t raw_types[] = {SOCK_RAW, SOCK_RDM, SOCK_DCCP, SOCK_PACKET};
	for (size_t i = 0; i < array_len(families); i++) {
		for (size_t j = 0; j < array_len(raw_types); j++) {
			add_2(b, REFUSE, "socket", arg_int_is(0, families[i]),
			    arg_bits_are(1, 0xf, raw_types[j]));
		}
	}
	/* All later families than these: netlink, packet, vsock, alg and the like. */
	add_1(b, SCMP_ACT_ERRNO(EAFNOSUPPORT), "socket", SCMP_CMP64(0, SCMP_CMP_GT, AF_INET6, 0));
}

/* Without a network namespace there is no socket but a pair; and no datagram pair, since such a
 * socket can send to any path or abstract name of the host. */
static void add_sockets_landlock(struct builder *b)
{
	static const char *const refused[] = {"socket", "connect"};
	add_all(b, REFUSE, refused, array_len(refused));
	add_2(b, ALLOW, "socketpair", arg_int_is(0, AF_UNIX), arg_bits_are(1, 0xf, SOCK_STREAM));
	add_2(b, ALLOW, "socketpair", arg_int_is(0, AF_UNIX), arg_bits_are(1, 0xf, SOCK_SEQPACKET));
}

static void add_sockets(struct builder *b)
{
	static const char *const allowed[] = {"connect"};
	add_all(b, ALLOW, allowed, array_len(allowed));
	add_socket(b);
	add_1(b, ALLOW, "socketpair", arg_int_is(0, AF_UNIX));
}

/* Pipes, sockets and plain files, but no devices. */
static void add_mknod(struct builder *b, const char *name, unsigned mode_arg)
{
	static const uint64_t allowed[] = {0, S_IFREG, S_IFIFO, S_IFSOCK};
	static const uint64_t refused[] = {S_IFCHR, S_IFBLK};
	for (size_t i = 0; i < array_len(allowed); i++) {
		add_1(b, ALLOW, name, arg_bits_are(mode_arg, S_IFMT, allowed[i]));
	}
	for (size_t i = 0; i < array_len(refused); i++) {
		add_1(b, REFUSE, name, arg_bits_are(mode_arg, S_IFMT, refused[i]));
	}
}

static void add_values(struct builder *b, uint32_t action, const char *name, unsigned arg,
    const uint32_t *values, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		add_1(b, action, name, arg_int_is(arg, values[i]));
	}
}

static void add_fcntls(
    struct builder *b, uint32_t action, const uint32_t (*commands)[2], size_t count)
{
	for (size_t i = 0; i < count; i++) {
		add_1(b, action, "fcntl",
		    arg_bits_are(1, INT_MASK & ~(uint64_t)commands[i][1], commands[i][0]));
	}
}

/* The levels that a session's sockets have, and every option but SO_LINGER: with it the last close
 * of a socket waits, in whichever process that happens. It succeeds and does nothing. Options of
 * sockets go up to 127; SO_LINGER is 13, so each other number has bit 1 set, or bit 0, 2 or 3
 * clear, or a bit above these. */
static void add_socket_options(struct builder *b)
{
	static const uint32_t levels[] = {0, 6, 17, 41}; /* IP, TCP, UDP, IPv6 */
	static const uint64_t others[][2] = {
	    {1, 0}, {4, 0}, {8, 0}, {2, 2}, {16, 16}, {32, 32}, {64, 64}};
	const struct scmp_arg_cmp of_socket = arg_int_is(1, SOL_SOCKET);
	add_values(b, ALLOW, "setsockopt", 1, levels, array_len(levels));
	for (size_t i = 0; i < array_len(others); i++) {
		add_2(b, ALLOW, "setsockopt", of_socket,
		    arg_bits_are(2, 0xffffff80 | others[i][0], others[i][1]));
	}
	add_2(b, SCMP_ACT_ERRNO(0), "setsockopt", of_socket, arg_int_is(2, SO_LINGER));
}

/* No policy or nice value with which a thread would hardly run beside others: what it holds in the
 * kernel meanwhile, such as the lock of a file, somebody else may be waiting for. 10 is what
 * nice(1) does unless told otherwise. sched_setattr has its policy in memory, where a filter cannot
 * look. */
#define NICE_MAX 10

static void add_scheduling(struct builder *b, bool of_self_only)
{
	static const uint32_t others[] = {PRIO_PGRP, PRIO_USER};
	static const uint32_t policies[] = {SCHED_FIFO, SCHED_RR, SCHED_BATCH, SCHED_IDLE};
	const unsigned count = of_self_only ? 3 : 2; /* the process itself comes last */
	const struct scmp_arg_cmp nice[] = {
	    arg_int_is(0, PRIO_PROCESS), SCMP_CMP64(2, SCMP_CMP_LE, NICE_MAX, 0), arg_int_is(1, 0)};
	const struct scmp_arg_cmp nicer[] = {
	    arg_int_is(0, PRIO_PROCESS), SCMP_CMP64(2, SCMP_CMP_GT, NICE_MAX, 0), arg_int_is(1, 0)};
	add(b, ALLOW, "setpriority", count, nice);
	add(b, REFUSE, "setpriority", count, nicer);
	add_values(b, REFUSE, "setpriority", 0, others, array_len(others));
	const struct scmp_arg_cmp ordinary[] = {
	    arg_bits_are(1, INT_MASK & ~(uint64_t)SCHED_RESET_ON_FORK, SCHED_OTHER),
	    arg_int_is(0, 0)};
	add(b, ALLOW, "sched_setscheduler", count - 1, ordinary);
	add_values(b, REFUSE, "sched_setscheduler", 1, policies, array_len(policies));
}

static void add_by_argument(struct builder *b)
{
	/* New processes and threads, but no new namespaces. */
	add_1(b, ALLOW, "clone", arg_bits_are(0, NEW_NAMESPACES, 0));
	add_new_namespaces(b);
	add_socket_options(b);
	add_fcntls(b, ALLOW, seccomp_fcntls, array_len(seccomp_fcntls));
	add_fcntls(b, REFUSE, seccomp_fcntls_refused, array_len(seccomp_fcntls_refused));
	add_mknod(b, "mknod", 1);
	add_mknod(b, "mknodat", 2);
	add_values(b, ALLOW, "ioctl", 1, seccomp_ioctls, array_len(seccomp_ioctls));
	add_values(b, ALLOW, "prctl", 0, seccomp_prctls, array_len(seccomp_prctls));
	/* A session that outlived its keeper would be nobody's. */
	add_2(b, ALLOW, "prctl", arg_int_is(0, PR_SET_PDEATHSIG), arg_is(1, SIGKILL));
	add_1(b, REFUSE, "ioctl", arg_int_is(1, SECCOMP_TIOCSTI));
	add_1(b, REFUSE, "ioctl", arg_int_is(1, SECCOMP_TIOCLINUX));
	/* The query, and the ordinary personality. */
	add_1(b, ALLOW, "personality", arg_int_is(0, 0xffffffffu));
	add_1(b, ALLOW, "personality", arg_int_is(0, 0));
	/* There is nothing of a session's to be written to a disk; and the host's is not its own.
	 */
	add(b, SCMP_ACT_ERRNO(0), "sync", 0, NULL);
	add(b, SCMP_ACT_ERRNO(0), "syncfs", 0, NULL);
}

/* Limits may be read, and all but one lowered. That of core files is 1: with 0 the kernel would
 * start the host's crash handler for a session's core, as root (do_coredump in fs/coredump.c). The
 * numbers are 0 to 15; all but RLIMIT_CORE, 4, have bit 2 clear or another one set. */
static void add_limits(struct builder *b, bool of_self_only)
{
	static const uint64_t others[][2] = {{4, 0}, {1, 1}, {2, 2}, {8, 8}};
	const struct scmp_arg_cmp self = arg_int_is(0, 0);
	const struct scmp_arg_cmp core = arg_bits_are(1, 0xf, RLIMIT_CORE);
	/* SELF is the last of each, and left out where any process may be named. */
	const struct scmp_arg_cmp read_core[] = {core, arg_is(2, 0), self};
	const struct scmp_arg_cmp set_core[] = {core, SCMP_CMP64(2, SCMP_CMP_NE, 0, 0), self};
	const unsigned left_out = of_self_only ? 0 : 1;
	for (size_t i = 0; i < array_len(others); i++) {
		const struct scmp_arg_cmp any[] = {
		    arg_bits_are(1, others[i][0], others[i][1]), self};
		add_1(b, ALLOW, "setrlimit", arg_bits_are(0, others[i][0], others[i][1]));
		add(b, ALLOW, "prlimit64", 2 - left_out, any);
	}
	add_1(b, REFUSE, "setrlimit", arg_bits_are(0, 0xf, RLIMIT_CORE));
	add(b, ALLOW, "prlimit64", 3 - left_out, read_core);
	add(b, REFUSE, "prlimit64", 3 - left_out, set_core);
}

/* Calls that name another process by its number: without a pid namespace those are the host's, and
 * the sessions have the keeper's user. */
static void add_processes_landlock(struct builder *b)
{
	add_all(b, REFUSE, seccomp_groups, array_len(seccomp_groups));
	add_all(b, REFUSE, seccomp_ipc, array_len(seccomp_ipc));
	for (size_t i = 0; i < array_len(seccomp_on_processes); i++) {
		add_1(b, ALLOW, seccomp_on_processes[i], arg_int_is(0, 0));
	}
	add_scheduling(b, true);
	add_all(b, SCMP_ACT_ERRNO(0), seccomp_by_path, array_len(seccomp_by_path));
	add_1(b, ALLOW, "utimensat", arg_is(1, 0));
	add_1(b, SCMP_ACT_ERRNO(0), "utimensat", SCMP_CMP64(1, SCMP_CMP_NE, 0, 0));
	add_limits(b, true);
}

static void add_processes(struct builder *b)
{
	add_all(b, ALLOW, seccomp_groups, array_len(seccomp_groups));
	add_all(b, ALLOW, seccomp_ipc, array_len(seccomp_ipc));
	add_all(b, ALLOW, seccomp_on_processes, array_len(seccomp_on_processes));
	/* IOPRIO_WHO_PROCESS: not a group's or a user's. */
	add_1(b, ALLOW, "ioprio_set", arg_int_is(0, 1));
	add_scheduling(b, false);
	add_all(b, ALLOW, seccomp_by_path, array_len(seccomp_by_path));
	add(b, ALLOW, "utimensat", 0, NULL);
	add_limits(b, false);
}

static void add_signals(struct builder *b, bool to_self_only)
{
	static const char *const any[] = {
	    "kill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "tkill", "pidfd_send_signal"};
	static const char *const self[] = {
	    "kill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo"};
	if (!to_self_only) {
		add_all(b, ALLOW, any, array_len(any));
		return;
	}
	for (size_t i = 0; i < array_len(self); i++) {
		add_1(b, ALLOW, self[i], arg_int_is(0, PLACEHOLDER_PID));
	}
	add_1(b, ALLOW, "kill", arg_int_is(0, 0));
	add_1(b, ALLOW, "kill", arg_int_is(0, PLACEHOLDER_GROUP));
	add_all(b, REFUSE, &any[4], 2);
}

static int choose_arch(struct builder *b, enum seccomp_arch arch)
{
	if (arch == SECCOMP_ARCH_NATIVE) {
		return 0;
	}
	uint32_t token = arch == SECCOMP_ARCH_X86_64 ? SCMP_ARCH_X86_64 : SCMP_ARCH_AARCH64;
	int r = seccomp_arch_add(b->ctx, token);
	if (r == -EEXIST) {
		return 0;
	}
	return r < 0 ? r : seccomp_arch_remove(b->ctx, seccomp_arch_native());
}

static int set_attributes(struct builder *b, enum seccomp_arch arch)
{
	int r = seccomp_attr_set(b->ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	if (r == 0) {
		/* A binary tree: the cost of a call grows with the list's logarithm. */
		r = seccomp_attr_set(b->ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	}
	return r < 0 ? r : choose_arch(b, arch);
}

static int export(struct builder *b, struct seccomp_program *program, struct err *e)
{
	cleanup(fd_close) int fd = memfd_create("seccomp", MFD_CLOEXEC);
	if (fd < 0) {
		return err_set_os(e, errno, "cannot create a memory file");
	}
	int r = seccomp_export_bpf(b->ctx, fd);
	struct stat st;
	if (r < 0 || fstat(fd, &st) < 0) {
		return err_set_os(e, r < 0 ? -r : errno, "cannot compile the seccomp filter");
	}
	size_t bytes = (size_t)st.st_size;
	size_t len = bytes / sizeof(struct sock_filter);
	if (len == 0 || len > BPF_MAXINSNS) {
		return err_set(e, ERR_INTERNAL, "the seccomp filter has %zu instructions", len);
	}
	struct sock_filter *code = malloc(bytes);
	if (code == NULL || pread(fd, code, bytes, 0) != (ssize_t)bytes) {
		free(code);
		return err_set(e, ERR_INTERNAL, "cannot read the seccomp filter");
	}
	*program = (struct seccomp_program){.code = code, .len = (unsigned short)len};
	return 0;
}

int seccomp_compile(
    const struct seccomp_options *options, struct seccomp_program *program, struct err *e)
{
	cleanup(builder_fini) struct builder b = {.ctx = seccomp_init(SCMP_ACT_ERRNO(ENOSYS))};
	if (b.ctx == NULL) {
		return err_set(e, ERR_INTERNAL, "cannot start a seccomp filter");
	}
	int r = set_attributes(&b, options->arch);
	if (r < 0) {
		return err_set_os(e, -r, "cannot set up a seccomp filter");
	}
	add_all(&b, ALLOW, seccomp_allowed, array_len(seccomp_allowed));
	add_all(&b, REFUSE, seccomp_refused, array_len(seccomp_refused));
	add_all(&b, SCMP_ACT_ERRNO(EOPNOTSUPP), seccomp_xattr_setters,
	    array_len(seccomp_xattr_setters));
	add_by_argument(&b);
	if (options->level == SANDBOX_LANDLOCK) {
		add_sockets_landlock(&b);
		add_processes_landlock(&b);
	} else {
		add_sockets(&b);
		add_processes(&b);
	}
	const bool by_path = options->level == SANDBOX_LANDLOCK;
	add_signals(&b, by_path && !landlock_abi_scopes_signals(options->landlock_abi));
	add(&b, by_path && !landlock_abi_covers_truncate(options->landlock_abi) ? REFUSE : ALLOW,
	    "truncate", 0, NULL);
	if (b.failed != 0) {
		return err_set_os(e, -b.failed, "cannot add %s to the seccomp filter", b.failed_at);
	}
	return export(&b, program, e);
}

/* Programs with a file capability, such as ping, ask for this before they drop what they do not
 * have, and give up when it is refused, as the locked securebits do. There is nothing to keep. */
static void add_keep_caps(struct builder *b)
{
	add_1(b, SCMP_ACT_ERRNO(0), "prctl", arg_int_is(0, PR_SET_KEEPCAPS));
}

/* In a namespace without a map every user and group looks like this one (overflowuid), and cannot
 * be named: a program that goes back to its own user, as ping does, would be told it does not
 * exist.
 */
#define UNMAPPED_ID 65534

static void add_own_ids(struct builder *b)
{
	static const char *const names[] = {
	    "setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid"};
	const struct scmp_arg_cmp same[] = {
	    arg_int_is(0, UNMAPPED_ID), arg_int_is(1, UNMAPPED_ID), arg_int_is(2, UNMAPPED_ID)};
	for (unsigned i = 0; i < array_len(names); i++) {
		add(b, SCMP_ACT_ERRNO(0), names[i], i / 2 + 1, same);
	}
}

/* By path Landlock does not check these, and the command is the server's user: they do nothing, and
 * say that they did it, as for sessions without a mount namespace. */
static void add_paths_command(struct builder *b)
{
	static const char *const pretended[] = {"chmod", "fchmodat", "fchmodat2", "chown", "lchown",
	    "fchownat", "utime", "utimes", "futimesat"};
	add_all(b, SCMP_ACT_ERRNO(0), pretended, array_len(pretended));
	add_1(b, SCMP_ACT_ERRNO(0), "utimensat", SCMP_CMP64(1, SCMP_CMP_NE, 0, 0));
}

/* What no namespace keeps a command from. */
static void add_shared_command(struct builder *b, bool no_signals)
{
	static const char *const signals[] = {
	    "kill", "tkill", "pidfd_send_signal", "rt_sigqueueinfo", "rt_tgsigqueueinfo"};
	add_all(b, REFUSE, seccomp_groups, array_len(seccomp_groups));
	add_all(b, REFUSE, seccomp_ipc, array_len(seccomp_ipc));
	if (no_signals) {
		add_all(b, REFUSE, signals, array_len(signals));
	}
}

int seccomp_compile_command(
    bool namespaces, int landlock_abi, struct seccomp_program *program, struct err *e)
{
	cleanup(builder_fini) struct builder b = {.ctx = seccomp_init(ALLOW)};
	if (b.ctx == NULL) {
		return err_set(e, ERR_INTERNAL, "cannot start a seccomp filter");
	}
	int r = set_attributes(&b, SECCOMP_ARCH_NATIVE);
	if (r < 0) {
		return err_set_os(e, -r, "cannot set up a seccomp filter");
	}
	add_all(&b, REFUSE, seccomp_command_refused, array_len(seccomp_command_refused));
	add_all(&b, SCMP_ACT_ERRNO(EOPNOTSUPP), seccomp_xattr_setters,
	    array_len(seccomp_xattr_setters));
	/* Its flags lie in memory, where a filter cannot look; libc goes back to clone. */
	add_all(&b, SCMP_ACT_ERRNO(ENOSYS), (const char *const[]){"clone3"}, 1);
	add_new_namespaces(&b);
	/* Putting bytes into a terminal's input. */
	add_1(&b, REFUSE, "ioctl", arg_int_is(1, TIOCSTI));
	/* Later families than netlink: packets, the hypervisor's, the kernel's ciphers and so on.
	 */
	add_1(
	    &b, SCMP_ACT_ERRNO(EAFNOSUPPORT), "socket", SCMP_CMP64(0, SCMP_CMP_GT, AF_NETLINK, 0));
	add_paths_command(&b);
	add_keep_caps(&b);
	if (namespaces) {
		add_own_ids(&b);
	} else {
		add_shared_command(&b, !landlock_abi_scopes_signals(landlock_abi));
	}
	if (!landlock_abi_covers_truncate(landlock_abi)) {
		add(&b, REFUSE, "truncate", 0, NULL);
	}
	if (b.failed != 0) {
		return err_set_os(e, -b.failed, "cannot add %s to the seccomp filter", b.failed_at);
	}
	return export(&b, program, e);
}

void seccomp_fini(struct seccomp_program *program)
{
	free(program->code);
	*program = (struct seccomp_program){0};
}

void seccomp_bind_pid(struct seccomp_program *program, pid_t pid)
{
	for (unsigned short i = 0; i < program->len; i++) {
		struct sock_filter *at = &program->code[i];
		if (BPF_CLASS(at->code) != BPF_JMP) {
			continue;
		}
		if (at->k == PLACEHOLDER_PID) {
			at->k = (uint32_t)pid;
		} else if (at->k == PLACEHOLDER_GROUP) {
			at->k = (uint32_t)-pid;
		}
	}
}

int seccomp_install(const struct seccomp_program *program, struct err *e)
{
	struct sock_fprog filter = {.len = program->len, .filter = program->code};

	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) != 0) {
		return err_set_os(e, errno, "cannot install the seccomp filter");
	}
	return 0;
}
