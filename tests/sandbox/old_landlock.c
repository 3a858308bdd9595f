/*
 * old_landlock: runs a program as if the kernel had an older Landlock.
 *
 *     old_landlock VERSION PROGRAM [ARGUMENT...]
 *
 * VERSION 0: none. What is answered otherwise is what that version of the kernel would say: its
 * number, and EINVAL for rights that it did not know. A supervisor answers for the program and all
 * that it starts, and ends with the last of them; it is no child of the program's. Nothing else is
 * changed: as root not even no_new_privs is set.
 */
#include <errno.h>
#include <linux/landlock.h>
#include <poll.h>
#include <seccomp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/compiler.h"

struct attributes {
	uint64_t fs;
	uint64_t net;
	uint64_t scoped;
};

/* Indexed by version, from 1 on: what each knows. */
static const struct attributes known[] = {
    [1] = {(1U << 13) - 1, 0, 0},
    [2] = {(1U << 14) - 1, 0, 0},
    [3] = {(1U << 15) - 1, 0, 0},
    [4] = {(1U << 15) - 1, 3, 0},
    [5] = {(1U << 16) - 1, 3, 0},
    [6] = {(1U << 16) - 1, 3, 3},
};

static _Noreturn void die(const char *what)
{
	perror(what);
	_exit(125);
}

static void answer(int fd, int version, const struct seccomp_notif *call)
{
	struct seccomp_notif_resp reply = {.id = call->id};
	struct attributes asked = {0};
	struct iovec here = {&asked, sizeof(asked)};
	struct iovec there = {(void *)(uintptr_t)call->data.args[0], sizeof(asked)};
	if (call->data.args[1] < sizeof(asked)) {
		here.iov_len = there.iov_len = call->data.args[1];
	}
	if (call->data.args[2] == LANDLOCK_CREATE_RULESET_VERSION) {
		reply.val = version;
	} else if (process_vm_readv((pid_t)call->pid, &here, 1, &there, 1, 0) < 0) {
		reply.error = -EFAULT;
	} else if ((asked.fs & ~known[version].fs) != 0 || (asked.net & ~known[version].net) != 0 ||
		   (asked.scoped & ~known[version].scoped) != 0) {
		reply.error = -EINVAL;
	} else {
		reply.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
	}
	(void)seccomp_notify_respond(fd, &reply); /* ENOENT: the caller has died */
}

static _Noreturn void supervise(int fd, int version)
{
	struct seccomp_notif *call = NULL;
	struct seccomp_notif_resp *unused = NULL;
	if (seccomp_notify_alloc(&call, &unused) < 0) {
		die("seccomp_notify_alloc");
	}
	for (;;) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		if (poll(&p, 1, -1) < 0 && errno != EINTR) {
			die("poll");
		}
		if ((p.revents & POLLHUP) != 0) {
			_exit(0); /* nobody has the filter any more */
		}
		memset(call, 0, sizeof(*call)); /* as the kernel asks */
		if ((p.revents & POLLIN) != 0 && seccomp_notify_receive(fd, call) == 0) {
			answer(fd, version, call);
		}
	}
}

/* Its first message is the descriptor to answer on. */
static void start_supervisor(int link, int version)
{
	pid_t pid = fork();
	if (pid != 0) {
		if (pid < 0 || waitpid(pid, NULL, 0) < 0) {
			die("fork");
		}
		return;
	}
	if (fork() != 0) {
		_exit(0);
	}
	(void)setsid();
	char control[CMSG_SPACE(sizeof(int))];
	char byte;
	struct iovec io = {&byte, 1};
	struct msghdr m = {.msg_iov = &io,
	    .msg_iovlen = 1,
	    .msg_control = control,
	    .msg_controllen = sizeof(control)};
	if (recvmsg(link, &m, MSG_CMSG_CLOEXEC) != 1 || CMSG_FIRSTHDR(&m) == NULL) {
		_exit(125);
	}
	int fd;
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(fd));
	(void)close_range(0, (unsigned)fd - 1, 0);
	(void)close_range((unsigned)fd + 1, ~0U, 0);
	supervise(fd, version);
}

static void send_fd(int link, int fd)
{
	char control[CMSG_SPACE(sizeof(int))] = {0};
	char byte = 0;
	struct iovec io = {&byte, 1};
	struct msghdr m = {.msg_iov = &io,
	    .msg_iovlen = 1,
	    .msg_control = control,
	    .msg_controllen = sizeof(control)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	*c = (struct cmsghdr){
	    .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(fd))};
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	if (sendmsg(link, &m, 0) != 1) {
		die("sendmsg");
	}
}

static scmp_filter_ctx make_filter(int version)
{
	static const int calls[] = {
	    SYS_landlock_create_ruleset, SYS_landlock_add_rule, SYS_landlock_restrict_self};
	const uint32_t action = version == 0 ? SCMP_ACT_ERRNO(ENOSYS) : SCMP_ACT_NOTIFY;
	const size_t count = version == 0 ? array_len(calls) : 1;
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	int r = filter == NULL ? -ENOMEM
			       : seccomp_attr_set(filter, SCMP_FLTATR_CTL_NNP, geteuid() != 0);
	for (size_t i = 0; r == 0 && i < count; i++) {
		r = seccomp_rule_add(filter, action, calls[i], 0);
	}
	if (r < 0) {
		errno = -r;
		die("seccomp");
	}
	return filter;
}

static void load(scmp_filter_ctx filter)
{
	int r = seccomp_load(filter);
	if (r < 0) {
		errno = -r;
		die("seccomp_load");
	}
}

static void be_older(int version)
{
	int link[2];
	scmp_filter_ctx filter = make_filter(version);
	if (version == 0) {
		load(filter);
		return;
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, link) < 0) {
		die("socketpair");
	}
	start_supervisor(link[0], version);
	load(filter);
	send_fd(link[1], seccomp_notify_fd(filter));
	(void)close(seccomp_notify_fd(filter));
}

int main(int argc, char **argv)
{
	/* One digit. */
	int version = argc < 3 || strlen(argv[1]) != 1 ? -1 : argv[1][0] - '0';
	if (version < 0 || version >= (int)array_len(known)) {
		(void)fputs("usage: old_landlock VERSION PROGRAM [ARGUMENT...]\n", stderr);
		return 125;
	}
	be_older(version);
	(void)execvp(argv[2], &argv[2]);
	die(argv[2]);
}
