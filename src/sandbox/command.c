#include <errno.h>
#include <linux/sched.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "sandbox/command_internal.h"

#define END_TRIES 1000

static uint64_t waiter_namespaces(const struct command_walls *w)
{
	return w->namespaces ? COMMAND_NAMESPACES : 0;
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
	pid_t pid = command_clone(waiter_namespaces(w), w->group.v2_fd, &c->pid_fd);
	if (pid == 0) {
		command_be_waiter(w, c->ruleset_fd, ends[1]);
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

int command_start(
    struct command_walls *w, const struct command *what, struct command_child *c, struct err *e)
{
	if (landlock_command_allow(w->landlock_abi, c->ruleset_fd, what, e) < 0 ||
	    command_send_order(what, c, e) < 0) {
		return -1;
	}
	fd_close(&c->ruleset_fd);
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

int command_ended(struct command_child *c)
{
	int status = 0;
	ssize_t n;
	do {
		n = recv(c->channel_fd, &status, sizeof(status), MSG_DONTWAIT);
		if (n == (ssize_t)sizeof(status) && status < 0) {
			c->group = -status;
		}
	} while ((n < 0 && errno == EINTR) || (n > 0 && status < 0));
	if (n < 0 && errno == EAGAIN) {
		return -EAGAIN;
	}
	return n == (ssize_t)sizeof(status) ? status : -EPIPE;
}

/* The process that waited was killed, by the kernel at a limit of memory, before it could end the
 * COMMAND: this process has inherited it, and all that it started as their parents end. Its number
 * is nobody else's before it is reaped here. */
static void end_group(pid_t command)
{
	for (int i = 0; i < END_TRIES; i++) {
		pid_t pid;
		(void)kill(-command, SIGKILL);
		do {
			pid = waitpid(-command, NULL, WNOHANG);
		} while (pid > 0);
		if (pid < 0 && errno == ECHILD) {
			return;
		}
		(void)poll(NULL, 0, 1);
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
	if (pid > 0 && WIFSIGNALED(status)) {
		(void)command_ended(c); /* it may have told of the command, and nobody looked */
		if (c->group > 0) {
			end_group(c->group);
		}
	}
	return pid < 0 ? 128 + SIGKILL : command_status(status);
}
