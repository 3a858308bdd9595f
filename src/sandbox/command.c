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
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/text.h"
#include "sandbox/walls.h"

#define RULESET_FD 3
#define START_FD 4 /* the directory it starts in */
#define HIGH_FD 512
#define PROCESSES_SHARED 2048
#define OPEN_FILES_MIN (COMMAND_DATA_FD + 8)

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

/* --- in the process that waits, and in the command before its exec
 * -------------------------------------------------------------- */

/* Everything is gathered before the clone; the child allocates nothing. */
struct plan {
	const struct command_walls *walls;
	const struct command *what;
	int ruleset_fd;
	int start_fd;
	struct err e; /* the child's own copy */
};

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

/* Puts each descriptor where the command expects it, and closes all others: they are the runner's
 * sockets and the pipes of other commands. */
static int place_fds(const struct plan *p)
{
	const int from[] = {p->what->in_fd, p->what->out_fd, p->what->err_fd, p->ruleset_fd,
	    p->start_fd, p->what->data_dir_fd};
	static const int to[] = {0, 1, 2, RULESET_FD, START_FD, COMMAND_DATA_FD};
	int high[array_len(from)];
	for (size_t i = 0; i < array_len(from); i++) {
		high[i] = from[i] < 0 ? -1 : fcntl(from[i], F_DUPFD_CLOEXEC, HIGH_FD);
		if (from[i] >= 0 && high[i] < 0) {
			return -errno;
		}
	}
	for (size_t i = 0; i < array_len(from); i++) {
		if (high[i] >= 0 && dup2(high[i], to[i]) < 0) {
			return -errno;
		}
	}
	(void)close_range(START_FD + 1, COMMAND_DATA_FD - 1, 0);
	(void)close_range(
	    p->what->data_dir_fd >= 0 ? COMMAND_DATA_FD + 1 : COMMAND_DATA_FD, ~0U, 0);
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

static int set_limits(const struct plan *p)
{
	const struct command_limits *l = &p->what->limits;
	uint64_t files = l->open_files < OPEN_FILES_MIN ? OPEN_FILES_MIN : l->open_files;
	int r = lower_limit(RLIMIT_CORE, 1);
	r = r < 0 ? r : lower_limit(RLIMIT_NOFILE, files);
	r = r < 0 || l->file_bytes == 0 ? r : lower_limit(RLIMIT_FSIZE, l->file_bytes);
	r = r < 0 || l->memory_bytes == 0 ? r : lower_limit(RLIMIT_DATA, l->memory_bytes);
	/* Without a namespace of its own it counts all the processes of the server's user. */
	uint64_t processes = p->walls->namespaces ? l->processes : PROCESSES_SHARED;
	return r < 0 || l->processes == 0 ? r : lower_limit(RLIMIT_NPROC, processes);
}

/* Between vfork and exec: it shares the memory of the one who waits. */
static int enter_walls(struct plan *p)
{
	if (fchdir(START_FD) < 0) {
		return err_set_os(&p->e, errno, "its directory");
	}
	int r = set_limits(p);
	if (r < 0) {
		return err_set_os(&p->e, -r, "its limits");
	}
	if (caps_drop_all(&p->e) < 0 ||
	    landlock_command_enforce(p->walls->landlock_abi, RULESET_FD, &p->e) < 0) {
		return -1;
	}
	(void)close_range(RULESET_FD, START_FD, 0);
	return seccomp_install(&p->walls->filter, &p->e);
}

static _Noreturn void become_command(struct plan *p)
{
	sigset_t none;
	(void)sigemptyset(&none);
	(void)umask(0077);
	/* A group of its own, out of reach of what it might send its parent's. */
	(void)setsid();
	if (enter_walls(p) < 0) {
		fail_child(&p->e);
	}
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)execve(p->what->path, p->what->argv, p->what->environment);
	(void)err_set_os(&p->e, errno, "%s", p->what->path);
	fail_child(&p->e);
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

/* In its namespace it has no map of users: files go by the number outside, which is what it was,
 * and inside there is nobody else to be. */
static int prepare_waiter(struct plan *p)
{
	bool group = !p->walls->namespaces;
	if (prctl(PR_SET_PDEATHSIG, group ? SIGTERM : SIGKILL, 0, 0, 0) < 0 ||
	    (group && prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)) {
		return err_set_os(&p->e, errno, "prctl");
	}
	return 0;
}

/* Its memory is a copy of the runner's, with its secrets in it: not dumpable, and outside of the
 * command's Landlock domain, so that the command cannot look into it. */
static _Noreturn void be_waiter(struct plan *p)
{
	reset_signals();
	int r = place_fds(p);
	if (r < 0) {
		(void)err_set_os(&p->e, -r, "its descriptors");
		fail_child(&p->e);
	}
	(void)setsid();
	if (prepare_waiter(p) < 0) {
		fail_child(&p->e);
	}
	pid_t command = vfork();
	if (command == 0) {
		become_command(p);
	}
	if (command < 0) {
		(void)err_set_os(&p->e, errno, "fork");
		fail_child(&p->e);
	}
	(void)close_range(0, ~0U, 0);
	int status = wait_for(command);
	if (!p->walls->namespaces) {
		kill_group(command);
	}
	_exit(status);
}

/* --- in the runner
 * --------------------------------------------------------------------------------
 */

/* As fork, with the child's pidfd. No handlers of libc's run, so the child may only make system
 * calls. */
static pid_t clone_waiter(bool namespaces, int *pid_fd)
{
	struct clone_args args = {
	    .flags = CLONE_PIDFD | (namespaces ? CLONE_NEWUSER | CLONE_NEWPID : 0),
	    .pidfd = (uint64_t)(uintptr_t)pid_fd,
	    .exit_signal = SIGCHLD,
	};
	return (pid_t)syscall(SYS_clone3, &args, sizeof(args));
}

/* Whether they can be had, for real. */
static bool try_namespaces(void)
{
	int pid_fd = -1;
	pid_t pid = clone_waiter(true, &pid_fd);
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

int command_restrict_runner(const char *work_dir, struct err *e)
{
	if (caps_drop_all(e) < 0 || landlock_restrict_runner(landlock_abi(), work_dir, e) < 0) {
		return -1;
	}
	return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 ? err_set_os(e, errno, "prctl") : 0;
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
	if (c->ruleset_fd < 0) {
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

int command_start(
    struct command_walls *w, const struct command *what, struct command_child *c, struct err *e)
{
	cleanup(fd_close) int start = open_start(what, c, e);
	if (start < 0 || landlock_command_allow(w->landlock_abi, c->ruleset_fd, what, e) < 0) {
		return -1;
	}
	struct plan p = {
	    .walls = w,
	    .what = what,
	    .ruleset_fd = c->ruleset_fd,
	    .start_fd = start,
	};
	sigset_t all;
	sigset_t before;
	(void)sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, &before);
	pid_t pid = clone_waiter(w->namespaces, &c->pid_fd);
	if (pid == 0) {
		be_waiter(&p);
	}
	int saved = errno;
	(void)sigprocmask(SIG_SETMASK, &before, NULL);
	if (pid < 0) {
		return err_set_os(e, saved, "cannot start a process");
	}
	c->pid = pid;
	return 0;
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

int command_reap(const struct command_child *c)
{
	int status;
	pid_t pid = waitpid(c->pid, &status, WNOHANG);
	if (pid == 0 || (pid < 0 && errno == EINTR)) {
		return -EAGAIN;
	}
	return pid < 0 ? 128 + SIGKILL : status_of(status);
}
