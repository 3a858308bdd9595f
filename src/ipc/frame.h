/*
 * frame: how bytes become messages on a SOCK_SEQPACKET socket pair.
 *
 * A message is a type, a reference (which worker or execution it is about) and a body. It travels
 * as one or more packets of at most IPC_PIECE_BYTES; all but the last carry IPC_MORE. Descriptors
 * ride on the first packet. Both ends are the same build on the same machine, so integers are in
 * host order.
 *
 * Invariants: a packet that is short, names another message than the one being assembled, or would
 * grow it past the receiver's maximum is -EPROTO, and the receiver gives the socket up. Descriptors
 * that a receiver does not expect are closed before it sees the message.
 */
#ifndef IPC_FRAME_H
#define IPC_FRAME_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

#define IPC_PIECE_BYTES 61440 /* body bytes in a packet; well below the default socket buffer */
#define IPC_FDS_MAX 4
#define IPC_MORE 1U

enum ipc_type {
#define MESSAGE(name, number, from, to, fds, body) IPC_##name = (number),
#include "ipc/messages.def"
#undef MESSAGE
};

enum ipc_party { IPC_GATEWAY, IPC_KEEPER, IPC_SESSION, IPC_RUNNER };

/* The name of a message type, "?" when there is none. */
const char *ipc_type_name(uint32_t type);

/* True when TYPE is one that FROM may send to TO. */
bool ipc_type_allowed(uint32_t type, enum ipc_party from, enum ipc_party to);

/* How many descriptors TYPE carries. */
int ipc_type_fds(uint32_t type);

struct ipc_header {
	uint32_t type;
	uint32_t flags;
	uint64_t ref;
};

/* A message being received or complete. */
struct ipc_message {
	uint32_t type;
	uint64_t ref;
	struct buf body; /* its max is the receiver's bound on a whole message */
	int fds[IPC_FDS_MAX];
	int fd_count;
	bool partial; /* more packets are to come */
};

#define IPC_MESSAGE_INIT(max_bytes)                                    \
	(struct ipc_message)                                           \
	{                                                              \
		.body = BUF_INIT(max_bytes), .fds = { -1, -1, -1, -1 } \
	}

/* Frees the body and closes descriptors that were not taken. */
void ipc_message_fini(struct ipc_message *m);

/* Makes M ready for the next message, keeping its allocation when it is small. */
void ipc_message_reset(struct ipc_message *m);

/* Receives one packet into M. 1: M is complete. 0: more packets are to come. -EAGAIN; -ECONNRESET
 * at the end of the stream; -EPROTO (see above); another -errno. ACCEPT_FDS false makes the kernel
 * drop descriptors. After 1, call ipc_message_reset before the next. */
int ipc_receive(int fd, struct ipc_message *m, bool accept_fds);

/* Whether the next packet at FD carries descriptors; it is not received. 1, 0, or as ipc_receive.
 * Who receives such a packet has them, even when it asks for none: the kernel closes them in its
 * name, and closing what a stranger chose may take as long as he likes. */
int ipc_carries_fds(int fd);

/* Sends a whole message, waiting where the socket is full even when it is non-blocking. FDS stay
 * the caller's. 0 or -errno. */
int ipc_send(int fd, uint32_t type, uint64_t ref, const void *body, size_t len, const int *fds,
    int fd_count);

/*
 * Sending without waiting: packets that do not fit now are kept, in order, within a maximum.
 */
struct ipc_outbox {
	struct buf bytes; /* packets, each after a size_t length */
};

#define IPC_OUTBOX_INIT(max_bytes)           \
	(struct ipc_outbox)                  \
	{                                    \
		.bytes = BUF_INIT(max_bytes) \
	}

void ipc_outbox_fini(struct ipc_outbox *o);

/* Sends or keeps a message without descriptors. 0, -ENOBUFS past the maximum, or -errno. */
int ipc_outbox_send(
    struct ipc_outbox *o, int fd, uint32_t type, uint64_t ref, const void *body, size_t len);

/* Sends what was kept, as far as the socket takes it. 1: something is left, wait until the socket
 * is writable and call again. 0: all sent. Or -errno. */
int ipc_outbox_flush(struct ipc_outbox *o, int fd);

#endif
