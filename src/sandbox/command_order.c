/* Telling the waiting process what the command is to be. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "sandbox/command_internal.h"

#define ORDER_MAX_BYTES (4U << 20)

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

static int add_list(struct buf *slots, struct buf *texts, char *const *list, uint64_t texts_at)
{
	int r = 0;
	for (size_t i = 0; list[i] != NULL && r == 0; i++) {
		uint64_t at = texts_at + texts->len;
		r = buf_add(slots, &at, sizeof(at));
		r = r < 0 ? r : buf_add(texts, list[i], strlen(list[i]) + 1);
	}
	const uint64_t end = 0;
	return r < 0 ? r : buf_add(slots, &end, sizeof(end));
}

static size_t list_length(char *const *list)
{
	size_t n = 0;
	while (list[n] != NULL) {
		n++;
	}
	return n;
}

/* Fills O and a file in memory, the caller's. -1 with E. */
static int write_order(const struct command *what, struct command_order *o, struct err *e)
{
	size_t words = list_length(what->argv) + 1;
	size_t variables = list_length(what->environment) + 1;
	uint64_t texts_at = (words + variables) * sizeof(uint64_t);
	cleanup(buf_fini) struct buf slots = BUF_INIT(ORDER_MAX_BYTES);
	cleanup(buf_fini) struct buf texts = BUF_INIT(ORDER_MAX_BYTES);
	int r = buf_add(&texts, what->path, strlen(what->path) + 1);
	r = r < 0 ? r : add_list(&slots, &texts, what->argv, texts_at);
	r = r < 0 ? r : add_list(&slots, &texts, what->environment, texts_at);
	if (r < 0) {
		return err_set(e, ERR_INVALID, "the command line is too long");
	}
	cleanup(fd_close) int fd = memfd_create("command", MFD_CLOEXEC);
	r = fd < 0 ? -errno : fd_write_all(fd, slots.data, slots.len);
	r = r < 0 ? r : fd_write_all(fd, texts.data, texts.len);
	if (r < 0) {
		return err_set_os(e, -r, "a file in memory");
	}
	*o = (struct command_order){.bytes = slots.len + texts.len,
	    .environment_at = words * sizeof(uint64_t),
	    .path_at = texts_at,
	    .limits = what->limits};
	return fd_take(&fd);
}

static int send_order(int channel, const struct command_order *o, const int *fds, size_t count)
{
	struct iovec part = {(void *)(uintptr_t)o, sizeof(*o)};
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(sizeof(int) * COMMAND_ORDER_FDS_MAX)];
	} control;
	memset(&control, 0, sizeof(control));
	struct msghdr h = {.msg_iov = &part,
	    .msg_iovlen = 1,
	    .msg_control = control.bytes,
	    .msg_controllen = CMSG_SPACE(sizeof(int) * count)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&h);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int) * count);
	memcpy(CMSG_DATA(c), fds, sizeof(int) * count);
	return sendmsg(channel, &h, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int command_send_order(const struct command *what, const struct command_child *c, struct err *e)
{
	struct command_order o;
	cleanup(fd_close) int start = open_start(what, c, e);
	cleanup(fd_close) int texts = start < 0 ? -1 : write_order(what, &o, e);
	if (texts < 0) {
		return -1;
	}
	const int fds[] = {
	    what->in_fd, what->out_fd, what->err_fd, start, texts, what->data_dir_fd};
	int r = send_order(c->channel_fd, &o, fds, what->data_dir_fd >= 0 ? 6 : 5);
	return r < 0 ? err_set_os(e, -r, "cannot start a process") : 0;
}
