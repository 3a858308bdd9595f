#include "ipc/frame.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/compiler.h"
#include "base/fd.h"

static const struct {
	uint32_t type;
	enum ipc_party from;
	enum ipc_party to;
	int fds;
	const char *name;
} messages[] = {
#define MESSAGE(name, number, from, to, fds, body) {(number), IPC_##from, IPC_##to, (fds), #name},
#include "ipc/messages.def"
#undef MESSAGE
};

const char *ipc_type_name(uint32_t type)
{
	for (size_t i = 0; i < array_len(messages); i++) {
		if (messages[i].type == type) {
			return messages[i].name;
		}
	}
	return "?";
}

bool ipc_type_allowed(uint32_t type, enum ipc_party from, enum ipc_party to)
{
	for (size_t i = 0; i < array_len(messages); i++) {
		if (messages[i].type == type) {
			return messages[i].from == from && messages[i].to == to;
		}
	}
	return false;
}

int ipc_type_fds(uint32_t type)
{
	for (size_t i = 0; i < array_len(messages); i++) {
		if (messages[i].type == type) {
			return messages[i].fds;
		}
	}
	return 0;
}

static void close_fds(struct ipc_message *m)
{
	for (int i = 0; i < IPC_FDS_MAX; i++) {
		fd_close(&m->fds[i]);
	}
	m->fd_count = 0;
}

void ipc_message_fini(struct ipc_message *m)
{
	if (m == NULL) {
		return;
	}
	close_fds(m);
	buf_fini(&m->body);
	m->partial = false;
}

void ipc_message_reset(struct ipc_message *m)
{
	close_fds(m);
	if (m->body.alloc > IPC_PIECE_BYTES * 2) {
		buf_fini(&m->body);
	} else {
		buf_clear(&m->body);
	}
	m->partial = false;
}

/* Takes descriptors out of a control message; more than IPC_FDS_MAX cannot come, because the
 * control buffer has no room for them. */
static void take_fds(struct ipc_message *m, struct msghdr *h)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c != NULL; c = CMSG_NXTHDR(h, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) {
			continue;
		}
		size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (m->fd_count < IPC_FDS_MAX) {
				m->fds[m->fd_count++] = fd;
			} else {
				fd_close(&fd);
			}
		}
	}
}

int ipc_receive(int fd, struct ipc_message *m, bool accept_fds)
{
	char *into = buf_reserve(&m->body, IPC_PIECE_BYTES);
	size_t room = IPC_PIECE_BYTES;
	if (into == NULL) {
		/* Near the maximum: offer what is left, a longer packet is cut and refused below.
		 */
		room = m->body.max - m->body.len;
		into = buf_reserve(&m->body, room);
		if (into == NULL) {
			return -ENOMEM;
		}
	}
	struct ipc_header head;
	struct iovec parts[2] = {{&head, sizeof(head)}, {into, room}};
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * IPC_FDS_MAX)];
	} control;
	struct msghdr h = {.msg_iov = parts, .msg_iovlen = 2};
	if (accept_fds) {
		h.msg_control = control.bytes;
		h.msg_controllen = sizeof(control.bytes);
	}
	ssize_t n;
	do {
		n = recvmsg(fd, &h, MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0) {
		return -errno;
	}
	if (accept_fds) {
		take_fds(m, &h);
	}
	if (n == 0) {
		return -ECONNRESET;
	}
	bool cut = (h.msg_flags & MSG_TRUNC) != 0;
	bool strange = (size_t)n < sizeof(head) || (head.flags & ~IPC_MORE) != 0;
	if (cut || strange || (m->partial && (head.type != m->type || head.ref != m->ref))) {
		return -EPROTO;
	}
	buf_grew(&m->body, (size_t)n - sizeof(head));
	m->type = head.type;
	m->ref = head.ref;
	m->partial = (head.flags & IPC_MORE) != 0;
	return m->partial ? 0 : 1;
}

int ipc_carries_fds(int fd)
{
	struct ipc_header head;
	struct iovec part = {&head, sizeof(head)};
	struct msghdr h = {.msg_iov = &part, .msg_iovlen = 1};
	ssize_t n;
	do {
		n = recvmsg(fd, &h, MSG_PEEK | MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n < 0) {
		return -errno;
	}
	/* No room was given for a control message: one that is there is cut. */
	return n == 0 ? -ECONNRESET : (h.msg_flags & MSG_CTRUNC) != 0;
}

static int send_packet(int fd, const struct ipc_header *head, const void *body, size_t len,
    const int *fds, int fd_count, int flags)
{
	struct iovec parts[2] = {
	    {(void *)(uintptr_t)head, sizeof(*head)}, {(void *)(uintptr_t)body, len}};
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * IPC_FDS_MAX)];
	} control;
	struct msghdr h = {.msg_iov = parts, .msg_iovlen = 2};
	if (fd_count > 0) {
		size_t bytes = sizeof(int) * (size_t)fd_count;
		memset(&control, 0, sizeof(control));
		h.msg_control = control.bytes;
		h.msg_controllen = CMSG_SPACE(bytes);
		struct cmsghdr *c = CMSG_FIRSTHDR(&h);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(bytes);
		memcpy(CMSG_DATA(c), fds, bytes);
	}
	for (;;) {
		if (sendmsg(fd, &h, MSG_NOSIGNAL | flags) >= 0) {
			return 0;
		}
		if (errno != EINTR) {
			return -errno;
		}
	}
}

static int wait_writable(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	while (poll(&p, 1, -1) < 0) {
		if (errno != EINTR) {
			return -errno;
		}
	}
	return 0;
}

int ipc_send(
    int fd, uint32_t type, uint64_t ref, const void *body, size_t len, const int *fds, int fd_count)
{
	const char *at = body;
	for (;;) {
		size_t piece = len < IPC_PIECE_BYTES ? len : IPC_PIECE_BYTES;
		struct ipc_header head = {type, piece < len ? IPC_MORE : 0, ref};
		int r = send_packet(fd, &head, at, piece, fds, fd_count, 0);
		if (r == -EAGAIN) {
			r = wait_writable(fd);
			if (r == 0) {
				continue;
			}
		}
		if (r < 0) {
			return r;
		}
		len -= piece;
		if (len == 0) {
			return 0;
		}
		at += piece;
		fd_count = 0;
	}
}

void ipc_outbox_fini(struct ipc_outbox *o)
{
	if (o != NULL) {
		buf_fini(&o->bytes);
	}
}

static int keep(struct ipc_outbox *o, const struct ipc_header *head, const char *body, size_t len)
{
	size_t whole = sizeof(*head) + len;
	if (o->bytes.max - o->bytes.len < sizeof(whole) + whole) {
		return -ENOBUFS;
	}
	int r = buf_add(&o->bytes, &whole, sizeof(whole));
	if (r == 0) {
		r = buf_add(&o->bytes, head, sizeof(*head));
	}
	return r == 0 ? buf_add(&o->bytes, body, len) : r;
}

int ipc_outbox_send(
    struct ipc_outbox *o, int fd, uint32_t type, uint64_t ref, const void *body, size_t len)
{
	const char *at = body;
	do {
		size_t piece = len < IPC_PIECE_BYTES ? len : IPC_PIECE_BYTES;
		struct ipc_header head = {type, piece < len ? IPC_MORE : 0, ref};
		int r = -EAGAIN;
		if (o->bytes.len == 0) {
			r = send_packet(fd, &head, at, piece, NULL, 0, MSG_DONTWAIT);
		}
		if (r == -EAGAIN) {
			r = keep(o, &head, at, piece);
		}
		if (r < 0) {
			return r;
		}
		at += piece;
		len -= piece;
	} while (len > 0);
	return 0;
}

int ipc_outbox_flush(struct ipc_outbox *o, int fd)
{
	size_t done = 0;
	int r = 0;
	while (done < o->bytes.len) {
		size_t whole;
		struct ipc_header head;
		const char *packet = o->bytes.data + done + sizeof(whole);
		memcpy(&whole, o->bytes.data + done, sizeof(whole));
		memcpy(&head, packet, sizeof(head));
		r = send_packet(
		    fd, &head, packet + sizeof(head), whole - sizeof(head), NULL, 0, MSG_DONTWAIT);
		if (r < 0) {
			break;
		}
		done += sizeof(whole) + whole;
	}
	buf_drop(&o->bytes, done);
	if (o->bytes.len == 0) {
		buf_fini(&o->bytes);
	}
	return r == -EAGAIN ? 1 : r;
}
