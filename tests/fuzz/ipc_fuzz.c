/* Packets a hostile session could send: assembled and decoded as the gateway does. */
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "ipc/codec.h"
#include "ipc/frame.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void decode(const struct ipc_message *m)
{
	struct ipc_result r;
	struct ipc_display d;
	struct ipc_ended x;
	const char *text;
	uint32_t number;
	struct ipc_host_call call;
	struct ipc_host_reply reply;
	(void)ipc_result_decode(&m->body, &r);
	(void)ipc_display_decode(&m->body, &d);
	(void)ipc_ended_decode(&m->body, &x);
	(void)ipc_text_decode(&m->body, &text);
	(void)ipc_u32_decode(&m->body, &number);
	(void)ipc_host_call_decode(&m->body, &call);
	(void)ipc_host_reply_decode(&m->body, &reply);
}

/* The input is a run of packets: two bytes of length, then that many bytes. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int ends[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) < 0) {
		return 0;
	}
	struct ipc_message m = IPC_MESSAGE_INIT(1 << 16);
	while (size >= 2) {
		size_t len = (size_t)data[0] << 8 | data[1];
		data += 2;
		size -= 2;
		len = len < size ? len : size;
		if (send(ends[0], data, len, MSG_NOSIGNAL) < 0) {
			break;
		}
		data += len;
		size -= len;
		int r = ipc_receive(ends[1], &m, true);
		if (r < 0) {
			break;
		}
		if (r == 1) {
			decode(&m);
			ipc_message_reset(&m);
		}
	}
	ipc_message_fini(&m);
	fd_close(&ends[0]);
	fd_close(&ends[1]);
	return 0;
}
