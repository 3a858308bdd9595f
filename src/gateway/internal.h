/* What the files of the gateway share with each other. */
#ifndef GATEWAY_INTERNAL_H
#define GATEWAY_INTERNAL_H

#include "engine/host_call.h"
#include "gateway/gateway.h"
#include "ipc/frame.h"

#define GATEWAY_MESSAGE_MAX_BYTES (48U << 20)  /* from a session, whole */
#define GATEWAY_PARTIAL_MAX_BYTES (512U << 20) /* unfinished messages of all sessions together */
#define GATEWAY_CODE_MAX_BYTES (8U << 20)      /* to a session, one execution */
#define GATEWAY_OUTBOX_MAX_BYTES (24U << 20)   /* to a session, waiting: code after an answer */
/* Answers to host calls that wait for room in their session's outbox. */
#define GATEWAY_REPLIES_MAX_BYTES (64U << 20)      /* of one session */
#define GATEWAY_ALL_REPLIES_MAX_BYTES (256U << 20) /* of all together */

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
	uv_prepare_t turn;      /* before the loop sleeps: measures engine.turn */
	uint64_t turn_began_ns; /* 0: the first has not ended */
	uint64_t idle_ns;       /* the loop's sleep so far */
	unsigned open; /* links, and while it ends its own handles, that are not closed yet */
	const struct host_call_handler *host_calls; /* NULL: there is nobody who answers */
	void *host_calls_ctx;
	size_t reply_bytes; /* of all links' answers that wait */

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
	int watched; /* what control_poll waits for */
	bool sealed;
	bool out_paused; /* it printed while nothing ran */
	bool err_paused;
	struct ipc_outbox outbox;
	struct ipc_message *partial;
	size_t partial_bytes;     /* its part of gateway.partial_bytes */
	struct host_calls *calls; /* of the running execution; NULL until its first */
	bool send_failed;         /* found out in a place where it may not be ended */
	char failure[512];        /* why its walls did not stand */
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

/* Polls its control socket for what can be done now. */
void link_watch(struct link *l);
/* Ends the session, because of something it did. */
void link_broken(struct link *l, const char *why);
/* True while its session runs an execution. */
bool link_is_executing(const struct link *l);

/* --- host_calls.c --- */

/* HOST_CALL, HOST_PUT or HOST_CANCEL of a sealed session. What is wrong with it ends the session.
 */
void host_calls_on_message(struct link *l, const struct ipc_message *m);
/* True when the unfinished M, of a host call, is longer than any may be. */
bool host_calls_is_too_long(const struct ipc_message *m);
/* Puts answers and their bytes into the outbox, as long as that is short. */
void host_calls_pump(struct link *l);
/* True when host_calls_pump would have something to do. */
bool host_calls_have_more(const struct link *l);
/* True while a call cannot take more bytes, so nothing may be read from the session. */
bool host_calls_are_full(const struct link *l);
/* Gives up calls that keep the session from being read, so that its interrupt gets through. */
void host_calls_interrupt(struct link *l);
/* Cancels what is pending: the execution is final, or the session is ending. */
void host_calls_end(struct link *l);

/* --- keeper_link.c --- */

int keeper_link_start(struct gateway *g, const struct gateway_config *config, struct err *e);
void keeper_link_send(struct gateway *g, uint32_t type, uint64_t ref, const struct buf *body);
/* Closes the socket, which makes the keeper kill all and end, and waits for it. */
void keeper_link_stop(struct gateway *g);

#endif
