#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "engine/packages.h"
#include "gateway/internal.h"

#define KEEPER_MESSAGE_MAX_BYTES (1U << 20)
#define KEEPER_OUTBOX_MAX_BYTES (4U << 20)
#define KEEPER_CHILD_FD 3

/* --- what the keeper tells -----------------------------------------------------------------------
 */

static void lost_keeper(struct gateway *g, const char *why)
{
	if (g->keeper_gone) {
		return;
	}
	g->keeper_gone = true;
	(void)uv_poll_stop(&g->keeper_poll);
	/* Sessions die with their keeper, but without a pid namespace what they started does not.
	 */
	struct worker *w;
	struct worker *next;
	HASH_ITER(by_id, g->engine->workers, w, next)
	{
		if (w->pid > 1) {
			(void)kill(-(pid_t)w->pid, SIGKILL);
		}
	}
	struct err e;
	(void)err_set(&e, ERR_UNAVAILABLE, "the keeper is gone: %s", why);
	g->on_keeper(g->ctx, NULL, &e);
}

static void on_ready(struct gateway *g, const struct ipc_message *m)
{
	struct ipc_keeper_ready *ready = calloc(1, sizeof(*ready));
	if (ready == NULL || ipc_keeper_ready_decode(&m->body, ready) < 0) {
		free(ready);
		lost_keeper(g, "malformed KEEPER_READY");
		return;
	}
	g->on_keeper(g->ctx, ready, NULL);
	free(ready);
	engine_start(g->engine);
}

static void on_spawned(struct gateway *g, struct ipc_message *m)
{
	struct worker *w = engine_worker_find(g->engine, m->ref);
	uint32_t pid;
	if (w == NULL || ipc_u32_decode(&m->body, &pid) < 0) {
		return; /* the descriptors are closed with the message */
	}
	w->pid = pid;
	w->link = link_new(g, w, fd_take(&m->fds[0]), fd_take(&m->fds[1]), fd_take(&m->fds[2]));
	if (w->link == NULL) {
		engine_on_worker_broken(w, "out of memory or descriptors");
	}
}

static void on_ended(struct gateway *g, const struct ipc_message *m)
{
	struct worker *w = engine_worker_find(g->engine, m->ref);
	struct ipc_ended x;
	if (w == NULL || ipc_ended_decode(&m->body, &x) < 0) {
		return;
	}
	struct link *l = w->link;
	char reason[sizeof(l->failure)] = "";
	if (l != NULL) {
		link_drain(l);
		memcpy(reason, l->failure, sizeof(reason));
	}
	struct worker_end end = {
	    .wait_status = (int)x.wait_status,
	    .oom_kills = x.oom_kills,
	    .memory_peak_bytes = x.memory_peak_bytes,
	    .reason = *reason != '\0' ? reason : NULL,
	};
	engine_on_worker_ended(w, &end);
}

static void on_spawn_failed(struct gateway *g, const struct ipc_message *m)
{
	struct worker *w = engine_worker_find(g->engine, m->ref);
	struct worker_end end = {.wait_status = -1};
	if (w != NULL && ipc_text_decode(&m->body, &end.reason) == 0) {
		engine_on_worker_ended(w, &end);
	}
}

static void on_mounted(struct gateway *g, const struct ipc_message *m)
{
	struct worker *w = engine_worker_find(g->engine, m->ref);
	struct ipc_mounted x;
	if (w != NULL && ipc_mounted_decode(&m->body, &x) == 0) {
		engine_on_mounted(w, x.name, *x.reason != '\0' ? x.reason : NULL);
	}
}

static void on_used(struct gateway *g, const struct ipc_message *m)
{
	struct worker *w = engine_worker_find(g->engine, m->ref);
	uint64_t oom_kills;
	if (w != NULL && ipc_u64_decode(&m->body, &oom_kills) == 0) {
		engine_on_usage(w, oom_kills);
	}
}

static void on_message(struct gateway *g, struct ipc_message *m)
{
	const char *text = "?";
	switch (m->type) {
	case IPC_KEEPER_READY:
		on_ready(g, m);
		break;
	case IPC_KEEPER_FAILED:
		(void)ipc_text_decode(&m->body, &text);
		lost_keeper(g, text);
		break;
	case IPC_SPAWNED:
		on_spawned(g, m);
		break;
	case IPC_SPAWN_FAILED:
		on_spawn_failed(g, m);
		break;
	case IPC_INTERRUPTED: {
		struct worker *w = engine_worker_find(g->engine, m->ref);
		if (w != NULL) {
			engine_on_interrupted(w);
		}
		break;
	}
	case IPC_ENDED:
		on_ended(g, m);
		break;
	case IPC_MOUNTED:
		on_mounted(g, m);
		break;
	case IPC_USED:
		on_used(g, m);
		break;
	default:
		lost_keeper(g, "it sent a message that is not allowed");
	}
}

static void on_keeper_poll(uv_poll_t *poll, int status, int events);

static void watch(struct gateway *g)
{
	int events = UV_READABLE | (g->keeper_outbox.bytes.len > 0 ? UV_WRITABLE : 0);
	(void)uv_poll_start(&g->keeper_poll, events, on_keeper_poll);
}

static void receive(struct gateway *g)
{
	int r = ipc_receive(g->keeper_fd, &g->from_keeper, true);
	if (r == -EAGAIN || r == 0) {
		return;
	}
	if (r < 0) {
		lost_keeper(g, r == -ECONNRESET ? "it ended" : strerrordesc_np(-r));
		return;
	}
	engine_set_now(g->engine, clock_mono_ms());
	on_message(g, &g->from_keeper);
	ipc_message_reset(&g->from_keeper);
}

static void on_keeper_poll(uv_poll_t *poll, int status, int events)
{
	struct gateway *g = poll->data;
	if (status < 0) {
		/* libuv only knows that there is an error; the socket may still hold its last
		 * words. */
		receive(g);
		return;
	}
	if ((events & UV_WRITABLE) != 0) {
		int r = ipc_outbox_flush(&g->keeper_outbox, g->keeper_fd);
		if (r < 0) {
			lost_keeper(g, strerrordesc_np(-r));
			return;
		}
		if (r == 0) {
			watch(g);
		}
	}
	if ((events & UV_READABLE) != 0) {
		receive(g);
	}
}

void keeper_link_send(struct gateway *g, uint32_t type, uint64_t ref, const struct buf *body)
{
	if (g->keeper_gone) {
		return;
	}
	bool waited = g->keeper_outbox.bytes.len > 0;
	int r = ipc_outbox_send(
	    &g->keeper_outbox, g->keeper_fd, type, ref, buf_str(body), body->len);
	if (r < 0) {
		log_event(LOG_LEVEL_ERROR, "keeper_send_failed", LOG_INT("errno", -r));
	} else if (!waited && g->keeper_outbox.bytes.len > 0) {
		watch(g);
	}
}

/* --- starting and stopping it --------------------------------------------------------------------
 */

/* How the server was started is not for sessions: nohup ignores SIGHUP, a shell's "&" SIGINT and
 * SIGQUIT, and what is ignored stays so in every program that is run from here on. */
static void reset_signals(void)
{
	const struct sigaction usual = {.sa_handler = SIG_DFL};
	for (int number = 1; number < NSIG; number++) {
		(void)sigaction(number, &usual, NULL); /* some cannot be changed, nor ignored */
	}
	sigset_t none;
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/* A copy of the executable in memory, closed upon exec. Every session reaches the file it runs from
 * as /proc/self/exe, past all mounts, and an owner may change the mode and times of his file even
 * while it runs. Sessions are its owner where somebody runs what he has built himself. */
static int open_executable(const char *path, struct err *e)
{
	cleanup(fd_close) int file = open(path, O_RDONLY | O_CLOEXEC);
	cleanup(fd_close) int copy = memfd_create("carrel-keeper", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct stat st;
	if (file < 0 || fstat(file, &st) < 0) {
		return err_set_os(e, errno, "%s", path);
	}
	ssize_t n = copy < 0 ? -1 : 1;
	for (off_t at = 0; n > 0 && at < st.st_size;) {
		n = sendfile(copy, file, &at, (size_t)(st.st_size - at));
	}
	const int seals = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;
	if (n <= 0 || fchmod(copy, 0555) < 0 || fcntl(copy, F_ADD_SEALS, seals) < 0) {
		return err_set_os(e, errno, "cannot copy %s to memory", path);
	}
	return fd_take(&copy);
}

static _Noreturn void exec_keeper(int executable, int fd)
{
	char *const argv[] = {(char *)(uintptr_t) "carrel-keeper", NULL};
	/* The image on huge pages (keeper/arena.h), as far as it is libc's; read before main. */
	char *const environment[] = {
	    (char *)(uintptr_t) "GLIBC_TUNABLES=glibc.malloc.hugetlb=1", NULL};
	if (fd == KEEPER_CHILD_FD) {
		(void)fd_set_inherited(fd);
	} else {
		(void)dup2(fd, KEEPER_CHILD_FD);
	}
	(void)close_range(KEEPER_CHILD_FD + 1, ~0U, CLOSE_RANGE_CLOEXEC);
	reset_signals();
	(void)fexecve(executable, argv, environment);
	_exit(127);
}

int keeper_link_start(struct gateway *g, const struct gateway_config *config, struct err *e)
{
	cleanup(fd_close) int executable = open_executable(config->keeper_path, e);
	if (executable < 0) {
		return -1;
	}
	int ends[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) {
		return err_set_os(e, errno, "socketpair");
	}
	pid_t pid = fork();
	if (pid == 0) {
		exec_keeper(executable, ends[1]);
	}
	int saved = errno;
	fd_close(&ends[1]);
	g->keeper_fd = ends[0];
	if (pid < 0) {
		return err_set_os(e, saved, "fork");
	}
	g->keeper_pid = pid;
	g->keeper_outbox = IPC_OUTBOX_INIT(KEEPER_OUTBOX_MAX_BYTES);
	g->from_keeper = IPC_MESSAGE_INIT(KEEPER_MESSAGE_MAX_BYTES);
	cleanup(buf_fini) struct buf body = BUF_INIT(KEEPER_MESSAGE_MAX_BYTES);
	int r = ipc_keeper_config_encode(&config->keeper, &body);
	r = r < 0 ? r : ipc_send(g->keeper_fd, IPC_KEEPER_CONFIG, 0, body.data, body.len, NULL, 0);
	r = r < 0 ? r : fd_set_nonblocking(g->keeper_fd);
	if (r < 0) {
		return err_set_os(e, -r, "the keeper's socket");
	}
	(void)uv_poll_init(g->loop, &g->keeper_poll, g->keeper_fd);
	g->keeper_poll.data = g;
	watch(g);
	return 0;
}

void keeper_link_stop(struct gateway *g)
{
	fd_close(&g->keeper_fd);
	if (g->keeper_pid > 0) {
		while (waitpid(g->keeper_pid, NULL, 0) < 0 && errno == EINTR) {
		}
		g->keeper_pid = 0;
	}
	ipc_outbox_fini(&g->keeper_outbox);
	ipc_message_fini(&g->from_keeper);
}
