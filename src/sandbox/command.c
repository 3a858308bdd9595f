#include "sandbox/command.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/text.h"
#include "sandbox/walls.h"

#define RULESET_FD 3
#define CHANNEL_FD 4
#define HIGH_FD 512
#define PROCESSES_SHARED 2048
#define OPEN_FILES_MIN (COMMAND_DATA_FD + 8)
#define ORDER_MAX_BYTES (4U << 20)

struct command_walls {
	int landlock_abi;
	bool namespaces;
	int run_fd;
	char run_path[COMMAND_HOME_BYTES - WORKDIR_NAME_BYTES];
	uint64_t next_id;
	struct landlock_paths paths;
	struct seccomp_program filter;
	struct command_child ready; /* home_fd is -1 when there is none */
};

/* What a command is to be, as the runner sends it. With it come, in this order, standard input,
 * output and error, the directory it starts in, a file in memory, and the session's files. The file
 * holds the pointers of argv and of the environment, each list with its NULL, as offsets into
 * itself, and then their texts. */
struct order {
	uint64_t bytes;
	uint64_t environment_at;
	uint64_t path_at;
	struct command_limits limits;
};

#define ORDER_FDS_MAX 6
enum order_fd { ORDER_IN, ORDER_OUT, ORDER_ERR, ORDER_START, ORDER_TEXTS, ORDER_DATA };

/* --- in the process that waits, and in the command before its exec. They allocate nothing.
 * -------------------------------------------------------------------------------------------------
 */

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
static int receive_order(struct order *o, int fds[ORDER_FDS_MAX])
{
	struct iovec part = {o, sizeof(*o)};
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * ORDER_FDS_MAX)];
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
static char *take_texts(const struct order *o, int fd)
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

static int take_place(int fds[ORDER_FDS_MAX], int count, struct err *e)
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
	if (landlock_command_enforce(w->landlock_abi, RULESET_FD, e) < 0) {
		return -1;
	}
	(void)close(RULESET_FD);
	return 0;
}

/* All that can be done before it is known what it will be; then it waits for that. */
static _Noreturn void become_command(const struct command_walls *w)
{
	struct order o;
	struct err e = {0};
	int fds[ORDER_FDS_MAX];
	sigset_t none;
	(void)sigemptyset(&none);
	(void)umask(0077);
	(void)setsid();
	bool walled = caps_drop_all(&e) == 0 && seccomp_install(&w->filter, &e) == 0;
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

static int status_of(int wait_status)
{
	return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
}

/* Kills what is left of the COMMAND until there is nothing. It cannot leave its group, and one
 * signal to a group reaches all of it at once: whoever forks meanwhile does not come to its end. */
static void kill_group(pid_t command)
{
	for (;;) {
		(void)kill(-command, SIGKILL);
		pid_t pid;
		do {
			pid = waitpid(-1, NULL, WNOHANG);
		} while (pid > 0);
		if (pid < 0 && errno == ECHILD) {
			return;
		}
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
			return status_of(status);
		}
		if (pid > 0) {
			continue;
		}
		if (sigwaitinfo(&wanted, NULL) == SIGTERM) {
			return 128 + SIGKILL;
		}
	}
}

/* As fork, but that no handlers of libraries run: those libraries may not be there. */
static pid_t clone_process(uint64_t flags, int *pid_fd)
{
	struct clone_args args = {
	    .flags = flags | (pid_fd != NULL ? CLONE_PIDFD : 0),
	    .pidfd = (uint64_t)(uintptr_t)pid_fd,
	    .exit_signal = SIGCHLD,
	};
	return (pid_t)syscall(SYS_clone3, &args, sizeof(args));
}

/* In its namespace it has no map of users: files go by the number outside, which is what it was,
 * and inside there is nobody else to be. Its memory is a copy of the runner's, with its secrets in
 * it: not dumpable, and outside of the command's Landlock domain, so that the command cannot look
 * into it. */
static _Noreturn void be_waiter(const struct command_walls *w, int ruleset_fd, int channel_fd)
{
	bool group = !w->namespaces;
	reset_signals();
	if (keep_fds(ruleset_fd, channel_fd) < 0 ||
	    prctl(PR_SET_PDEATHSIG, group ? SIGTERM : SIGKILL, 0, 0, 0) < 0 ||
	    (group && prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)) {
		_exit(127);
	}
	(void)setsid();
	pid_t command = clone_process(0, NULL);
	if (command == 0) {
		become_command(w);
	}
	if (command < 0) {
		_exit(127);
	}
	(void)close_range(0, ~0U, 0);
	int status = wait_for(command);
	if (group) {
		kill_group(command);
	}
	_exit(status);
}

/* --- in the runner
 * --------------------------------------------------------------------------------
 */

static uint64_t waiter_namespaces(const struct command_walls *w)
{
	return w->namespaces ? CLONE_NEWUSER | CLONE_NEWPID : 0;
}

/* Whether they can be had, for real. */
static bool try_namespaces(void)
{
	int pid_fd = -1;
	pid_t pid = clone_process(CLONE_NEWUSER | CLONE_NEWPID, &pid_fd);
	if (pid == 0) {
		_exit(0);
	}
	if (pid < 0) {
		return false;
	}
	int status = 0;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
	}
	fd_close(&pid_fd);
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static int open_run_dir(struct command_walls *w, const char *work_dir, struct err *e)
{
	int n = snprintf(w->run_path, sizeof(w->run_path), "%s/run", work_dir);
	if (n < 0 || (size_t)n >= sizeof(w->run_path)) {
		return err_set(e, ERR_INVALID, "the path %s is too long", work_dir);
	}
	const struct sandbox_config config = {
	    .work_dir = w->run_path, .uid = geteuid(), .gid = getegid()};
	if (workdir_open(&config, &w->run_fd, e) < 0) {
		return -1;
	}
	workdir_sweep(w->run_fd);
	return 0;
}

#ifndef CARREL_SANITIZED
/* The libraries that the waiting process calls; the vdso and the like have no name of a file. */
static bool is_needed(const char *path)
{
	static const char *const needed[] = {"/libc.so", "/libc-", "/ld-linux", "/libcap.so"};
	for (size_t i = 0; i < array_len(needed); i++) {
		if (strstr(path, needed[i]) != NULL) {
			return true;
		}
	}
	return strstr(path, ".so") == NULL;
}

/* Leaves the other libraries out of forks: copying their page tables, and taking them down again,
 * is a third of what starting a small program takes. */
static void lighten_forks(void)
{
	cleanup(buf_fini) struct buf maps = BUF_INIT(4U << 20);
	if (fd_read_file(AT_FDCWD, "/proc/self/maps", &maps) < 0) {
		return;
	}
	for (char *line = maps.data; line != NULL && *line != '\0';) {
		char *end = strchr(line, '\n');
		if (end != NULL) {
			*end = '\0';
		}
		unsigned long from;
		unsigned long to;
		/* NOLINTNEXTLINE(cert-err34-c): the kernel's own numbers */
		bool read = sscanf(line, "%lx-%lx", &from, &to) == 2;
		const char *path = strchr(line, '/');
		if (read && path != NULL && !is_needed(path)) {
			(void)madvise((void *)(uintptr_t)from, to - from, MADV_DONTFORK);
		}
		line = end != NULL ? end + 1 : NULL;
	}
}
#else
static void lighten_forks(void)
{
}
#endif

struct command_walls *command_walls_new(const char *work_dir, bool namespaces, struct err *e)
{
	struct command_walls *w = calloc(1, sizeof(*w));
	if (w == NULL) {
		(void)err_set(e, ERR_INTERNAL, "out of memory");
		return NULL;
	}
	w->run_fd = -1;
	w->ready = COMMAND_CHILD_INIT;
	w->landlock_abi = landlock_abi();
	w->next_id = (uint64_t)getpid() << 32;
	int r = w->landlock_abi > 0 ? 0
				    : err_set(e, ERR_UNSUPPORTED,
					  "this kernel has no Landlock, and without it no "
					  "tool is run");
	r = r < 0 ? r : open_run_dir(w, work_dir, e);
	r = r < 0 ? r : landlock_command_paths(&w->paths, e);
	lighten_forks();
	w->namespaces = namespaces && try_namespaces();
	bool no_signals = !w->namespaces && !landlock_abi_scopes_signals(w->landlock_abi);
	r = r < 0 ? r : seccomp_compile_command(!w->namespaces, no_signals, &w->filter, e);
	if (r < 0) {
		command_walls_free(w);
		return NULL;
	}
	if (!w->namespaces) {
		(void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	}
	return w;
}

void command_walls_free(struct command_walls *w)
{
	if (w == NULL) {
		return;
	}
	command_child_fini(w, &w->ready);
	fd_close(&w->run_fd);
	landlock_paths_fini(&w->paths);
	seccomp_fini(&w->filter);
	free(w);
}

bool command_walls_namespaces(const struct command_walls *w)
{
	return w->namespaces;
}

int command_become_owner(const char *work_dir, struct err *e)
{
	struct stat st;
	if (stat(work_dir, &st) < 0) {
		return err_set_os(e, errno, "%s", work_dir);
	}
	return identity_drop(st.st_uid, st.st_gid, e);
}

#ifdef CARREL_SANITIZED
#define DUMPABLE 1 /* the leak checker looks at its own process through /proc and ptrace */
#else
#define DUMPABLE 0
#endif

int command_restrict_runner(const char *work_dir, struct err *e)
{
	if (caps_drop_all(e) < 0 || landlock_restrict_runner(landlock_abi(), work_dir, e) < 0) {
		return -1;
	}
	return prctl(PR_SET_DUMPABLE, DUMPABLE, 0, 0, 0) < 0 ? err_set_os(e, errno, "prctl") : 0;
}

static bool is_program(const char *path)
{
	struct stat st;
	return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

int command_find(const char *name, char *out, size_t size, struct err *e)
{
	if (strchr(name, '/') != NULL) {
		int n = snprintf(out, size, "%s", name);
		if (name[0] != '/' || n < 0 || (size_t)n >= size) {
			return err_set(e, ERR_INVALID, "%s: not an absolute path", name);
		}
		return is_program(name) ? 0
					: err_set(e, ERR_NOT_FOUND, "%s: no such program", name);
	}
	for (const char *at = COMMAND_PATH; *at != '\0';) {
		size_t len = strcspn(at, ":");
		int n = snprintf(out, size, "%.*s/%s", (int)len, at, name);
		if (n > 0 && (size_t)n < size && is_program(out)) {
			return 0;
		}
		at += len + (at[len] == ':');
	}
	return err_set(e, ERR_NOT_FOUND, "%s: command not found", name);
}

/* The waiting process and the one that will be the command, with the channel to it. */
static int start_waiter(struct command_walls *w, struct command_child *c, struct err *e)
{
	int ends[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) {
		return err_set_os(e, errno, "socketpair");
	}
	sigset_t all;
	sigset_t before;
	(void)sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, &before);
	pid_t pid = clone_process(waiter_namespaces(w), &c->pid_fd);
	if (pid == 0) {
		be_waiter(w, c->ruleset_fd, ends[1]);
	}
	int saved = errno;
	(void)sigprocmask(SIG_SETMASK, &before, NULL);
	fd_close(&ends[1]);
	c->channel_fd = ends[0];
	if (pid < 0) {
		return err_set_os(e, saved, "cannot start a process");
	}
	c->pid = pid;
	return 0;
}

static int make_child(struct command_walls *w, struct command_child *c, struct err *e)
{
	char name[WORKDIR_NAME_BYTES];
	*c = COMMAND_CHILD_INIT;
	c->id = ++w->next_id;
	c->home_fd = workdir_add_empty(w->run_fd, c->id, name, e);
	if (c->home_fd < 0) {
		return -1;
	}
	(void)snprintf(c->home, sizeof(c->home), "%s/%s", w->run_path, name);
	c->ruleset_fd = landlock_command_ruleset(w->landlock_abi, &w->paths, c->home_fd, e);
	if (c->ruleset_fd < 0 || start_waiter(w, c, e) < 0) {
		command_child_fini(w, c);
		return -1;
	}
	return 0;
}

void command_walls_prepare(struct command_walls *w)
{
	struct err ignored;
	if (w->ready.home_fd < 0) {
		(void)make_child(w, &w->ready, &ignored);
	}
}

int command_child_new(struct command_walls *w, struct command_child *c, struct err *e)
{
	if (w->ready.home_fd < 0) {
		return make_child(w, c, e);
	}
	*c = w->ready;
	w->ready = COMMAND_CHILD_INIT;
	return 0;
}

void command_child_fini(struct command_walls *w, struct command_child *c)
{
	fd_close(&c->channel_fd);
	if (c->pid > 0) {
		command_kill(w, c, false);
		while (waitpid(c->pid, NULL, 0) < 0 && errno == EINTR) {
		}
	}
	fd_close(&c->pid_fd);
	fd_close(&c->ruleset_fd);
	if (c->home_fd >= 0) {
		fd_close(&c->home_fd);
		workdir_remove(w->run_fd, c->id);
	}
	c->pid = 0;
}

static int open_start(const struct command *what, const struct command_child *c, struct err *e)
{
	if (what->data_dir_fd >= 0) {
		char target[64];
		(void)snprintf(target, sizeof(target), "/proc/self/fd/%d", COMMAND_DATA_FD);
		if (symlinkat(target, c->home_fd, "data") < 0) {
			return err_set_os(e, errno, "cannot show the session's files");
		}
	}
	const int flags = O_PATH | O_DIRECTORY | O_CLOEXEC;
	int fd = what->directory != NULL ? open(what->directory, flags)
					 : openat(c->home_fd, ".", flags);
	return fd < 0 ? err_set_os(e, errno, "%s",
			    what->directory != NULL ? what->directory : "its directory")
		      : fd;
}

static int add_list(struct buf *slots, struct buf *texts, char *const *list, uint64_t texts_at)
{
	int r = 0;
	for (size_t i = 0; list[i] != NULL && r == 0; i++) {
		uint64_t at = texts_at + texts->len;
		r = buf_add(slots, &at, sizeof(at));
		r = r < 0 ? r : buf_add(texts, list[i], strlen(list[i]) + 1);
	}
	const uint64_t end = 0;
	return r < 0 ? r : buf_add(slots, &end, sizeof(end));
}

static size_t list_length(char *const *list)
{
	size_t n = 0;
	while (list[n] != NULL) {
		n++;
	}
	return n;
}

/* Fills O and a file in memory, the caller's. -1 with E. */
static int write_order(const struct command *what, struct order *o, struct err *e)
{
	size_t words = list_length(what->argv) + 1;
	size_t variables = list_length(what->environment) + 1;
	uint64_t texts_at = (words + variables) * sizeof(uint64_t);
	cleanup(buf_fini) struct buf slots = BUF_INIT(ORDER_MAX_BYTES);
	cleanup(buf_fini) struct buf texts = BUF_INIT(ORDER_MAX_BYTES);
	int r = buf_add(&texts, what->path, strlen(what->path) + 1);
	r = r < 0 ? r : add_list(&slots, &texts, what->argv, texts_at);
	r = r < 0 ? r : add_list(&slots, &texts, what->environment, texts_at);
	if (r < 0) {
		return err_set(e, ERR_INVALID, "the command line is too long");
	}
	cleanup(fd_close) int fd = memfd_create("command", MFD_CLOEXEC);
	r = fd < 0 ? -errno : fd_write_all(fd, slots.data, slots.len);
	r = r < 0 ? r : fd_write_all(fd, texts.data, texts.len);
	if (r < 0) {
		return err_set_os(e, -r, "a file in memory");
	}
	*o = (struct order){.bytes = slots.len + texts.len,
	    .environment_at = words * sizeof(uint64_t),
	    .path_at = texts_at,
	    .limits = what->limits};
	return fd_take(&fd);
}

static int send_order(int channel, const struct order *o, const int *fds, size_t count)
{
	struct iovec part = {(void *)(uintptr_t)o, sizeof(*o)};
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * ORDER_FDS_MAX)];
	} control;
	memset(&control, 0, sizeof(control));
	struct msghdr h = {.msg_iov = &part,
	    .msg_iovlen = 1,
	    .msg_control = control.bytes,
	    .msg_controllen = CMSG_SPACE(sizeof(int) * count)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&h);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int) * count);
	memcpy(CMSG_DATA(c), fds, sizeof(int) * count);
	return sendmsg(channel, &h, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int command_start(
    struct command_walls *w, const struct command *what, struct command_child *c, struct err *e)
{
	struct order o;
	cleanup(fd_close) int start = open_start(what, c, e);
	if (start < 0 || landlock_command_allow(w->landlock_abi, c->ruleset_fd, what, e) < 0) {
		return -1;
	}
	cleanup(fd_close) int texts = write_order(what, &o, e);
	if (texts < 0) {
		return -1;
	}
	const int fds[] = {
	    what->in_fd, what->out_fd, what->err_fd, start, texts, what->data_dir_fd};
	int r = send_order(c->channel_fd, &o, fds, what->data_dir_fd >= 0 ? 6 : 5);
	fd_close(&c->channel_fd);
	fd_close(&c->ruleset_fd);
	return r < 0 ? err_set_os(e, -r, "cannot start a process") : 0;
}

static void signal_child(const struct command_child *c, int number)
{
	(void)syscall(SYS_pidfd_send_signal, c->pid_fd, number, NULL, 0);
}

void command_kill(const struct command_walls *w, const struct command_child *c, bool hard)
{
	if (c->pid <= 0 || c->pid_fd < 0) {
		return;
	}
	signal_child(c, w->namespaces ? SIGKILL : SIGTERM);
	if (hard) {
		signal_child(c, SIGCONT);
	}
}

int command_reap(struct command_child *c)
{
	int status;
	pid_t pid = waitpid(c->pid, &status, WNOHANG);
	if (pid == 0 || (pid < 0 && errno == EINTR)) {
		return -EAGAIN;
	}
	c->pid = 0;
	return pid < 0 ? 128 + SIGKILL : status_of(status);
}
