/* The process that waits for a command, and the command before its exec. They allocate nothing. */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "sandbox/command_internal.h"

#define RULESET_FD 3
#define CHANNEL_FD 4
#define HIGH_FD 512
#define PROCESSES_SHARED 2048
#define OPEN_FILES_MIN (COMMAND_DATA_FD + 8)

static _Noreturn void fail_child(const struct err *e)
{
	(void)fd_write_all(STDERR_FILENO, "cannot be run: ", 15);
	(void)fd_write_all(STDERR_FILENO, e->text, strlen(e->text));
	_exit(127);
}

static void reset_signals(void)
{
	const struct sigaction usual = {.sa_handler = SIG_DFL};
	for (int number = 1; number < NSIG; number++) {
		(void)sigaction(number, &usual, NULL); /* some cannot be changed, nor ignored */
	}
}

/* Keeps the ruleset and the channel, and closes all others: they are the runner's sockets and the
 * pipes of other commands. */
static int keep_fds(int ruleset_fd, int channel_fd)
{
	int ruleset = fcntl(ruleset_fd, F_DUPFD_CLOEXEC, HIGH_FD);
	int channel = fcntl(channel_fd, F_DUPFD_CLOEXEC, HIGH_FD);
	if (ruleset < 0 || channel < 0 || dup3(ruleset, RULESET_FD, O_CLOEXEC) < 0 ||
	    dup3(channel, CHANNEL_FD, O_CLOEXEC) < 0) {
		return -errno;
	}
	(void)close_range(0, RULESET_FD - 1, 0);
	(void)close_range(CHANNEL_FD + 1, ~0U, 0);
	return 0;
}

static int lower_limit(__rlimit_resource_t resource, uint64_t value)
{
	struct rlimit now;
	if (getrlimit(resource, &now) < 0) {
		return -errno;
	}
	if (now.rlim_max > value) {
		now.rlim_max = value;
	}
	now.rlim_cur = now.rlim_max;
	return setrlimit(resource, &now) < 0 ? -errno : 0;
}

static int set_limits(const struct command_walls *w, const struct command_limits *l)
{
	uint64_t files = l->open_files < OPEN_FILES_MIN ? OPEN_FILES_MIN : l->open_files;
	int r = lower_limit(RLIMIT_CORE, 1);
	r = r < 0 ? r : lower_limit(RLIMIT_NOFILE, files);
	r = r < 0 || l->file_bytes == 0 ? r : lower_limit(RLIMIT_FSIZE, l->file_bytes);
	r = r < 0 || l->memory_bytes == 0 ? r : lower_limit(RLIMIT_DATA, l->memory_bytes);
	/* Without a namespace of its own it counts all the processes of the server's user. */
	uint64_t processes = w->namespaces ? l->processes : PROCESSES_SHARED;
	return r < 0 || l->processes == 0 ? r : lower_limit(RLIMIT_NPROC, processes);
}

/* Waits for the order. Its descriptors take the lowest numbers that are free: the first three are
 * 0, 1 and 2. How many came, or -1. */
static int receive_order(struct command_order *o, int fds[COMMAND_ORDER_FDS_MAX])
{
	struct iovec part = {o, sizeof(*o)};
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * COMMAND_ORDER_FDS_MAX)];
	} control;
	struct msghdr h = {.msg_iov = &part,
	    .msg_iovlen = 1,
	    .msg_control = control.bytes,
	    .msg_controllen = sizeof(control.bytes)};
	ssize_t n;
	do {
		n = recvmsg(CHANNEL_FD, &h, 0);
	} while (n < 0 && errno == EINTR);
	struct cmsghdr *c = n == (ssize_t)sizeof(*o) ? CMSG_FIRSTHDR(&h) : NULL;
	if (c == NULL) {
		return -1;
	}
	size_t bytes = c->cmsg_len - CMSG_LEN(0);
	memcpy(fds, CMSG_DATA(c), bytes);
	return (int)(bytes / sizeof(int));
}

/* Maps the texts and makes pointers of the offsets. NULL when they cannot be had. */
static char *take_texts(const struct command_order *o, int fd)
{
	char *base = mmap(NULL, o->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	if (base == MAP_FAILED) {
		return NULL;
	}
	/* Two lists, one after the other; the path stands right behind them. */
	uint64_t *at = (uint64_t *)(void *)base;
	for (; (char *)at < base + o->path_at; at++) {
		*at += *at != 0 ? (uint64_t)(uintptr_t)base : 0;
	}
	return base;
}

static int take_place(int fds[COMMAND_ORDER_FDS_MAX], int count, struct err *e)
{
	if (fchdir(fds[ORDER_START]) < 0) {
		return err_set_os(e, errno, "its directory");
	}
	if (count > ORDER_DATA && dup2(fds[ORDER_DATA], COMMAND_DATA_FD) < 0) {
		return err_set_os(e, errno, "its descriptors");
	}
	(void)close_range(CHANNEL_FD, COMMAND_DATA_FD - 1, 0);
	return 0;
}

static int enter_walls(
    const struct command_walls *w, const struct command_limits *limits, struct err *e)
{
	int r = set_limits(w, limits);
	if (r < 0) {
		return err_set_os(e, -r, "its limits");
	}
	if (landlock_command_enforce(RULESET_FD, e) < 0) {
		return -1;
	}
	(void)close(RULESET_FD);
	return 0;
}

/* All that can be done before it is known what it will be; then it waits for that. */
static _Noreturn void become_command(const struct command_walls *w)
{
	struct command_order o;
	struct err e = {0};
	int fds[COMMAND_ORDER_FDS_MAX];
	sigset_t none;
	(void)sigemptyset(&none);
	(void)umask(0077);
	(void)setsid();
	bool walled = caps_drop_all(&e) == 0 && seccomp_install(&w->filter, &e) == 0 &&
		      landlock_command_allow_self(w->landlock_abi, RULESET_FD, &e) == 0;
	int count = receive_order(&o, fds);
	if (count <= ORDER_TEXTS) {
		_exit(0); /* nothing was to be run */
	}
	char *texts = take_texts(&o, fds[ORDER_TEXTS]);
	if (texts == NULL) {
		(void)err_set_os(&e, errno, "its words");
		fail_child(&e);
	}
	if (!walled || take_place(fds, count, &e) < 0 || enter_walls(w, &o.limits, &e) < 0) {
		fail_child(&e);
	}
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)execve(
	    texts + o.path_at, (char **)(void *)texts, (char **)(void *)(texts + o.environment_at));
	(void)err_set_os(&e, errno, "%s", texts + o.path_at);
	fail_child(&e);
}
int command_status(int wait_status)
{
	return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
}

/* Kills what is left of the COMMAND until there is nothing: all of the namespace, or of the group,
 * which it cannot leave. One such signal reaches all at once: whoever forks meanwhile does not come
 * to its end. Whatever has lost its parent is a child of this process. */
static void kill_rest(pid_t command)
{
	pid_t all = getpid() == 1 ? -1 : -command;
	for (;;) {
		pid_t pid;
		do {
			pid = waitpid(-1, NULL, WNOHANG);
		} while (pid > 0);
		if (pid < 0 && errno == ECHILD) {
			return;
		}
		(void)kill(all, SIGKILL);
		(void)poll(NULL, 0, 1);
	}
}

/* Until the command has ended, or (without a namespace) SIGTERM asks to end it. */
static int wait_for(pid_t command)
{
	sigset_t wanted;
	(void)sigemptyset(&wanted);
	(void)sigaddset(&wanted, SIGCHLD);
	(void)sigaddset(&wanted, SIGTERM);
	for (;;) {
		int status;
		pid_t pid = waitpid(-1, &status, WNOHANG);
		if (pid == command) {
			return command_status(status);
		}
		if (pid > 0) {
			continue;
		}
		if (sigwaitinfo(&wanted, NULL) == SIGTERM) {
			return 128 + SIGKILL;
		}
	}
}

pid_t command_clone(uint64_t flags, int group_fd, int *pid_fd)
{
	struct clone_args args = {
	    .flags = flags | (pid_fd != NULL ? CLONE_PIDFD : 0),
	    .pidfd = (uint64_t)(uintptr_t)pid_fd,
	    .exit_signal = SIGCHLD,
	};
	if (group_fd >= 0) {
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = (unsigned)group_fd;
	}
	return clone_process(&args);
}

#ifndef CARREL_SANITIZED
#define STACK_BYTES 65536

static int command_main(void *walls)
{
	become_command(walls);
}

/* The command shares the memory of the process that waits for it until its exec, so that there is
 * none to copy and to take down. It has a stack of its own; the other one touches nothing but its
 * own stack meanwhile, and sleeps. */
static pid_t start_command(const struct command_walls *w)
{
	static _Alignas(16) char stack[STACK_BYTES];
	return clone(command_main, stack + sizeof(stack), CLONE_VM | SIGCHLD, (void *)(uintptr_t)w);
}
#else
/* The sanitizer knows of one stack only. */
static pid_t start_command(const struct command_walls *w)
{
	pid_t pid = command_clone(0, -1, NULL);
	if (pid == 0) {
		become_command(w);
	}
	return pid;
}
#endif

/* In its namespace it has no map of users: files go by the number outside, which is what it was,
 * and inside there is nobody else to be. Its memory is a copy of the runner's, with its secrets in
 * it: not dumpable, and outside of the command's Landlock domain, so that the command cannot look
 * into it. */
_Noreturn void command_be_waiter(const struct command_walls *w, int ruleset_fd, int channel_fd)
{
	bool group = !w->namespaces;
	reset_signals();
	if (command_group_join(&w->group) < 0 || keep_fds(ruleset_fd, channel_fd) < 0 ||
	    prctl(PR_SET_PDEATHSIG, group ? SIGTERM : SIGKILL, 0, 0, 0) < 0 ||
	    (group && prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)) {
		_exit(127);
	}
	(void)setsid();
	pid_t command = start_command(w);
	if (command < 0) {
		_exit(127);
	}
	if (group) {
		const int number = -command;
		(void)send(CHANNEL_FD, &number, sizeof(number), MSG_NOSIGNAL | MSG_DONTWAIT);
	}
	(void)close_range(0, CHANNEL_FD - 1, 0);
	int status = wait_for(command);
	kill_rest(command);
	(void)send(CHANNEL_FD, &status, sizeof(status), MSG_NOSIGNAL | MSG_DONTWAIT);
	_exit(status);
}
