/* What the files of the gateway share with each other. */
#ifndef GATEWAY_INTERNAL_H
#define GATEWAY_INTERNAL_H

#include "gateway/gateway.h"
#include "ipc/frame.h"

#define GATEWAY_MESSAGE_MAX_BYTES (48U << 20)  /* from a session, whole */
#define GATEWAY_PARTIAL_MAX_BYTES (512U << 20) /* unfinished messages of all sessions together */
#define GATEWAY_OUTBOX_MAX_BYTES (16U << 20)   /* to a session, waiting */

struct gateway {
	uv_loop_t *loop;
	struct engine *engine;
	gateway_keeper_fn on_keeper;
	void *ctx;

	pid_t keeper_pid;
	int keeper_fd;
	uv_poll_t keeper_poll;
	struct ipc_outbox keeper_outbox;
	struct ipc_message from_keeper;
	bool keeper_gone;

	uv_timer_t tick;
	size_t partial_bytes;       /* of all links' unfinished messages */
	struct ipc_message scratch; /* the message being received, unless it comes in pieces */
};

/* The channels of one worker. Freed when libuv has closed the last of its handles. */
struct link {
	struct gateway *gateway;
	struct worker *worker; /* NULL once released */
	int control;
	int out;
	int err;
	int data_dir;
	uv_poll_t control_poll;
	uv_poll_t out_poll;
	uv_poll_t err_poll;
	int open_handles;
	bool sealed;
	bool out_paused; /* it printed while nothing ran */
	bool err_paused;
	struct ipc_outbox outbox;
	struct ipc_message *partial;
	size_t partial_bytes; /* its part of gateway.partial_bytes */
	char failure[512];    /* why its walls did not stand */
};

/* --- link.c --- */

/* Takes over the descriptors. NULL without memory; they are closed then. */
struct link *link_new(struct gateway *g, struct worker *w, int control, int out, int err);
/* Closes all; the link frees itself later. NULL is allowed. */
void link_close(struct link *l);
/* 0 or -errno. */
int link_execute(struct link *l, struct execution *x);
/* Tells the session which execution the interrupt that follows is for. A session that cannot be
 * told is interrupted all the same. */
void link_cancel(struct link *l, uint64_t seq);
/* Reads what the pipes hold now. */
void link_drain(struct link *l);

/* --- keeper_link.c --- */

int keeper_link_start(struct gateway *g, const struct gateway_config *config, struct err *e);
void keeper_link_send(struct gateway *g, uint32_t type, uint64_t ref, const struct buf *body);
/* Closes the socket, which makes the keeper kill all and end, and waits for it. */
void keeper_link_stop(struct gateway *g);

#endif
