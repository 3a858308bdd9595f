#include "keeper/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uthash.h>

#include "base/fd.h"
#include "ipc/frame.h"
#include "keeper/python.h"
#include "keeper/session.h"

struct child {
	struct sandbox_child walls;
	UT_hash_handle by_id;
	UT_hash_handle by_pid;
};

struct keeper {
	int gateway;
	int child_signals; /* signalfd for SIGCHLD */
	struct sandbox *sb;
	struct sandbox_limits limits[IPC_POOLS_MAX];
	uint32_t pool_count;
	struct child *ids;
	struct child *pids;
};

static struct sandbox_limits limits_of(const struct ipc_pool_limits *p)
{
	return (struct sandbox_limits){
	    .memory_bytes = p->memory_bytes,
	    .file_space_bytes = p->file_space_bytes,
	    .cpu_millis = p->cpu_millis,
	    .pids = p->pids,
	    .open_files = p->open_files,
	};
}

struct keeper *keeper_new(
    int gateway_fd, struct sandbox *sb, const struct ipc_keeper_config *config, struct err *e)
{
	struct keeper *k = calloc(1, sizeof(*k));
	if (k == NULL) {
		(void)err_set(e, ERR_INTERNAL, "out of memory");
		return NULL;
	}
	k->gateway = gateway_fd;
	k->sb = sb;
	k->pool_count = config->pool_count;
	for (uint32_t i = 0; i < config->pool_count; i++) {
		k->limits[i] = limits_of(&config->pools[i]);
	}
	sigset_t set;
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGCHLD);
	k->child_signals = -1;
	if (sigprocmask(SIG_BLOCK, &set, NULL) == 0) {
		k->child_signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	}
	if (k->child_signals < 0) {
		(void)err_set_os(e, errno, "signalfd");
		keeper_free(k);
		return NULL;
	}
	return k;
}

void keeper_free(struct keeper *k)
{
	if (k != NULL) {
		fd_close(&k->child_signals);
		free(k);
	}
}

static int tell(struct keeper *k, uint32_t type, uint64_t ref, const struct buf *body)
{
	return ipc_send(k->gateway, type, ref, buf_str(body), body->len, NULL, 0);
}

static int tell_text(struct keeper *k, uint32_t type, uint64_t ref, const char *text)
{
	cleanup(buf_fini) struct buf body = BUF_INIT(4096);
	(void)ipc_text_encode(text, &body);
	return tell(k, type, ref, &body);
}

/* --- spawn --------------------------------------------------------------------------------------
 */

/* Both ends of a session's channels. */
struct channels {
	int control[2];
	int out[2];
	int err[2];
};

#define CHANNELS_INIT               \
	{                           \
		{-1, -1}, {-1, -1}, \
		{                   \
			-1, -1      \
		}                   \
	}

static void channels_close(struct channels *c)
{
	for (int i = 0; i < 2; i++) {
		fd_close(&c->control[i]);
		fd_close(&c->out[i]);
		fd_close(&c->err[i]);
	}
}

static int channels_open(struct channels *c)
{
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, c->control) < 0 ||
	    pipe2(c->out, O_CLOEXEC) < 0 || pipe2(c->err, O_CLOEXEC) < 0) {
		return -errno;
	}
	return 0;
}

static void forget(struct keeper *k, struct child *c)
{
	HASH_DELETE(by_id, k->ids, c);
	HASH_DELETE(by_pid, k->pids, c);
	free(c);
}

static int spawned(struct keeper *k, struct child *c, struct channels *ends)
{
	cleanup(buf_fini) struct buf body = BUF_INIT(64);
	int fds[3] = {ends->control[0], ends->out[0], ends->err[0]};
	(void)ipc_u32_encode((uint32_t)c->walls.pid, &body);
	return ipc_send(k->gateway, IPC_SPAWNED, c->walls.id, body.data, body.len, fds, 3);
}

static int spawn(struct keeper *k, uint64_t id, uint32_t pool)
{
	cleanup(channels_close) struct channels ends = CHANNELS_INIT;
	struct err e = {0};
	int r = channels_open(&ends);
	struct child *c = r < 0 ? NULL : calloc(1, sizeof(*c));
	if (c == NULL) {
		return tell_text(
		    k, IPC_SPAWN_FAILED, id, r < 0 ? "no more descriptors" : "out of memory");
	}
	python_before_fork();
	pid_t pid = sandbox_fork(k->sb, &k->limits[pool], id, &c->walls, &e);
	if (pid == 0) {
		struct session_channels mine = {ends.control[1], ends.out[1], ends.err[1]};
		session_run(k->sb, &k->limits[pool], id, mine);
	}
	python_after_fork_parent();
	if (pid < 0) {
		free(c);
		return tell_text(k, IPC_SPAWN_FAILED, id, e.text);
	}
	HASH_ADD(by_id, k->ids, walls.id, sizeof(c->walls.id), c);
	HASH_ADD(by_pid, k->pids, walls.pid, sizeof(c->walls.pid), c);
	return spawned(k, c, &ends);
}

/* --- what the gateway asks -----------------------------------------------------------------------
 */

static struct child *find(struct keeper *k, uint64_t id)
{
	struct child *c = NULL;
	HASH_FIND(by_id, k->ids, &id, sizeof(id), c);
	return c;
}

/* Packages for a session that runs: the name is the gateway's, which has it from its runner. */
static int mount_packages(struct keeper *k, uint64_t id, struct child *c, const char *name)
{
	struct err e = {.text = "the session has ended"};
	bool there = c != NULL && sandbox_child_mount(k->sb, &c->walls, name, &e) == 0;
	struct ipc_mounted x = {.name = name, .reason = there ? "" : e.text};
	cleanup(buf_fini) struct buf body = BUF_INIT(4096);
	int r = ipc_mounted_encode(&x, &body);
	return r < 0 ? r : tell(k, IPC_MOUNTED, id, &body);
}

static int tell_usage(struct keeper *k, uint64_t id, struct child *c)
{
	struct sandbox_usage usage = {0};
	if (c != NULL) {
		sandbox_child_usage(k->sb, &c->walls, &usage);
	}
	cleanup(buf_fini) struct buf body = BUF_INIT(64);
	struct ipc_used x = {.oom_kills = usage.oom_kills, .cpu_us = usage.cpu_us};
	int r = ipc_used_encode(&x, &body);
	return r < 0 ? r : tell(k, IPC_USED, id, &body);
}

/* A session that has ended in the meantime is told of by ENDED, so a signal that finds nobody is no
 * failure. */
static int handle(struct keeper *k, const struct ipc_message *m, struct err *e)
{
	struct child *c = find(k, m->ref);
	cleanup(buf_fini) struct buf nothing = BUF_INIT(0);
	uint32_t pool;
	const char *name;
	struct ipc_pool_limits limits;
	switch (m->type) {
	case IPC_POOL_LIMITS:
		if (m->ref >= k->pool_count || ipc_pool_limits_decode(&m->body, &limits) < 0) {
			break;
		}
		k->limits[m->ref] = limits_of(&limits);
		return 0;
	case IPC_SPAWN:
		if (ipc_u32_decode(&m->body, &pool) < 0 || pool >= k->pool_count || c != NULL) {
			break;
		}
		return spawn(k, m->ref, pool);
	case IPC_INTERRUPT:
		if (c != NULL) {
			(void)sandbox_child_interrupt(&c->walls);
		}
		return tell(k, IPC_INTERRUPTED, m->ref, &nothing);
	case IPC_KILL:
		if (c != NULL) {
			(void)sandbox_child_kill(k->sb, &c->walls);
		}
		return 0;
	case IPC_MOUNT:
		if (ipc_text_decode(&m->body, &name) < 0) {
			break;
		}
		return mount_packages(k, m->ref, c, name);
	case IPC_USAGE:
		return tell_usage(k, m->ref, c);
	default:
		break;
	}
	return err_set(
	    e, ERR_INTERNAL, "the gateway sent a %s that is not allowed", ipc_type_name(m->type));
}

/* --- what ended ----------------------------------------------------------------------------------
 */

static void ended(struct keeper *k, struct child *c, int wait_status)
{
	struct sandbox_usage usage = {0};
	sandbox_child_usage(k->sb, &c->walls, &usage);
	struct ipc_ended x = {
	    .wait_status = (uint32_t)wait_status,
	    .oom_kills = usage.oom_kills,
	    .pids_refused = usage.pids_refused,
	    .memory_peak_bytes = usage.memory_peak_bytes,
	};
	cleanup(buf_fini) struct buf body = BUF_INIT(256);
	(void)ipc_ended_encode(&x, &body);
	(void)tell(k, IPC_ENDED, c->walls.id, &body);
	sandbox_child_remove(k->sb, &c->walls);
	forget(k, c);
}

static void reap(struct keeper *k, int flags)
{
	for (;;) {
		siginfo_t info = {0};
		if (waitid(P_ALL, 0, &info, WEXITED | WNOWAIT | flags) < 0) {
			if (errno == EINTR) {
				continue;
			}
			return;
		}
		pid_t pid = info.si_pid;
		if (pid == 0) {
			return;
		}
		struct child *c = NULL;
		HASH_FIND(by_pid, k->pids, &pid, sizeof(pid), c);
		if (c != NULL) {
			/* Descendants may outlive their first process where there is no pid
			 * namespace; its number is still its own until it is reaped. */
			(void)sandbox_child_kill(k->sb, &c->walls);
		}
		int status = 0;
		if (waitpid(pid, &status, 0) == pid && c != NULL) {
			ended(k, c, status);
		}
	}
}

static void kill_all(struct keeper *k)
{
	struct child *c;
	struct child *next;
	HASH_ITER(by_id, k->ids, c, next)
	{
		(void)sandbox_child_kill(k->sb, &c->walls);
	}
	reap(k, 0);
}

/* --- loop ----------------------------------------------------------------------------------------
 */

static int receive(struct keeper *k, struct ipc_message *m, bool *open, struct err *e)
{
	int r = ipc_receive(k->gateway, m, false);
	if (r == -EAGAIN || r == 0) {
		return 0;
	}
	if (r == -ECONNRESET) {
		*open = false;
		return 0;
	}
	if (r < 0) {
		return err_set_os(e, -r, "the gateway's socket");
	}
	r = handle(k, m, e);
	ipc_message_reset(m);
	if (r == -EPIPE || r == -ECONNRESET) {
		*open = false;
		return 0;
	}
	return r;
}

int keeper_loop(struct keeper *k, struct err *e)
{
	cleanup(ipc_message_fini) struct ipc_message m = IPC_MESSAGE_INIT(1U << 16);
	bool open = true;
	int r = 0;
	while (open && r == 0) {
		struct pollfd p[2] = {
		    {.fd = k->gateway, .events = POLLIN},
		    {.fd = k->child_signals, .events = POLLIN},
		};
		if (poll(p, 2, -1) < 0) {
			if (errno != EINTR) {
				r = err_set_os(e, errno, "poll");
			}
			continue;
		}
		if (p[1].revents != 0) {
			struct signalfd_siginfo info;
			while (read(k->child_signals, &info, sizeof(info)) > 0) {
			}
			reap(k, WNOHANG);
		}
		if (p[0].revents != 0) {
			r = receive(k, &m, &open, e);
		}
	}
	kill_all(k);
	return r;
}
