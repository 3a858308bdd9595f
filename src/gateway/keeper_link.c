#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "engine/packages.h"
#include "gateway/internal.h"
#include "ipc/helper.h"

#define KEEPER_MESSAGE_MAX_BYTES (1U << 20)
#define KEEPER_OUTBOX_MAX_BYTES (4U << 20)

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
		engine_on_worker_broken(w, "out of memory, descriptors or watches of epoll");
	}
}

static void on_ended(struct gateway *g, const struct ipc_message *m)
{
	struct worker *w = engine_worker_find(g->engine, m->ref);
	struct ipc_ended x;
	if (w == NULL || ipc_ended_decode(&m->body, &x) < 0) {
		return;
	}
	if (w->link != NULL) {
		link_ended(w->link, &x);
		return;
	}
	struct worker_end end = {
	    .wait_status = (int)x.wait_status,
	    .oom_kills = x.oom_kills,
	    .memory_peak_bytes = x.memory_peak_bytes,
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
	struct ipc_used x;
	if (w != NULL && ipc_used_decode(&m->body, &x) == 0) {
		engine_on_usage(w, x.oom_kills, x.cpu_us);
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

int keeper_link_start(struct gateway *g, const struct gateway_config *config, struct err *e)
{
	/* The image on huge pages (keeper/arena.h), as far as it is libc's; read before main. */
	char *const environment[] = {
	    (char *)(uintptr_t) "GLIBC_TUNABLES=glibc.malloc.hugetlb=1", NULL};
	struct ipc_helper keeper;
	if (ipc_helper_start(&keeper, config->keeper_path, "carrel-keeper", environment, e) < 0) {
		return -1;
	}
	g->keeper_fd = keeper.fd;
	g->keeper_pid = keeper.pid;
	g->keeper_outbox = IPC_OUTBOX_INIT(KEEPER_OUTBOX_MAX_BYTES);
	g->from_keeper = IPC_MESSAGE_INIT(KEEPER_MESSAGE_MAX_BYTES);
	cleanup(buf_fini) struct buf body = BUF_INIT(KEEPER_MESSAGE_MAX_BYTES);
	int r = ipc_keeper_config_encode(&config->keeper, &body);
	r = r < 0 ? r : ipc_send(g->keeper_fd, IPC_KEEPER_CONFIG, 0, body.data, body.len, NULL, 0);
	r = r < 0 ? r : fd_set_nonblocking(g->keeper_fd);
	r = r < 0 ? r : uv_poll_init(g->loop, &g->keeper_poll, g->keeper_fd);
	if (r < 0) {
		return err_set_os(e, -r, "the keeper's socket");
	}
	g->keeper_poll.data = g;
	watch(g);
	return 0;
}

void keeper_link_stop(struct gateway *g)
{
	fd_close(&g->keeper_fd);
	ipc_helper_wait(&g->keeper_pid);
	ipc_outbox_fini(&g->keeper_outbox);
	ipc_message_fini(&g->from_keeper);
}
