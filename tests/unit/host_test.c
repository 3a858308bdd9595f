/* The session's half of host calls over a socket pair; the test is the server. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "keeper/host.h"

#define WAKE_AT 900
#define NOTHING            \
	(struct ipc_bytes) \
	{                  \
		"{}", 2    \
	}

static int server = -1;
static int session = -1;

/* One pair for all tests, since there is one session in a process. */
static int begin_all(void **state)
{
	int ends[2];
	(void)state;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) {
		return -1;
	}
	server = ends[0];
	session = ends[1];
	host_init(session, WAKE_AT);
	return 0;
}

static int end_all(void **state)
{
	(void)state;
	fd_close(&server);
	fd_close(&session);
	return close(WAKE_AT);
}

/* What the session sent is not looked at. */
static void forget_sent(void)
{
	cleanup(ipc_message_fini) struct ipc_message m = IPC_MESSAGE_INIT(1 << 20);
	char byte;
	while (recv(server, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0) {
		assert_true(ipc_receive(server, &m, false) >= 0);
		ipc_message_reset(&m);
	}
}

static void tell(uint32_t type, uint64_t ref, const char *body, size_t len)
{
	assert_int_equal(ipc_send(server, type, ref, body, len, NULL, 0), 0);
}

static void reply(uint64_t id, bool ok)
{
	cleanup(buf_fini) struct buf body = BUF_INIT(100);
	assert_int_equal(
	    ipc_host_reply_encode(&(struct ipc_host_reply){.ok = ok, .json = NOTHING}, &body), 0);
	tell(IPC_HOST_REPLY, id, body.data, body.len);
}

static uint64_t call(void)
{
	uint64_t id = 0;
	assert_int_equal(host_call("artifacts.load", NOTHING, &id), 0);
	return id;
}

static void only_its_own_cancel_cancels_an_execution(void **state)
{
	(void)state;
	assert_false(host_is_cancelled(7));
	tell(IPC_CANCEL, 6, NULL, 0); /* it had ended by itself */
	assert_false(host_is_cancelled(7));
	tell(IPC_CANCEL, 5, NULL, 0);
	tell(IPC_CANCEL, 7, NULL, 0);
	tell(IPC_CANCEL, 6, NULL, 0);
	assert_true(host_is_cancelled(7));
	/* They are used up, and what is behind them is not. */
	assert_false(host_is_cancelled(7));
	tell(IPC_CANCEL, 7, NULL, 0);
	tell(IPC_EXECUTE, 8, "x", 1);
	tell(IPC_CANCEL, 8, NULL, 0);
	assert_false(host_is_cancelled(8));
	cleanup(ipc_message_fini) struct ipc_message m = IPC_MESSAGE_INIT(100);
	assert_int_equal(host_receive(&m), 1);
	assert_int_equal(m.type, IPC_EXECUTE);
	assert_int_equal(m.ref, 8);
	assert_true(host_is_cancelled(8));
}

static void so_many_calls_are_open_and_no_more(void **state)
{
	uint64_t ids[IPC_HOST_CALLS_MAX];
	uint64_t id;
	(void)state;
	assert_int_equal(host_call("artifacts.load", NOTHING, &id), -ESHUTDOWN);
	for (int round = 0; round < 3; round++) {
		host_begin();
		for (size_t i = 0; i < IPC_HOST_CALLS_MAX; i++) {
			ids[i] = call();
		}
		assert_int_equal(host_call("artifacts.load", NOTHING, &id), -EBUSY);
		/* Whichever way a place becomes free, it is. */
		host_cancel(ids[3]);
		ids[3] = call();
		assert_int_equal(host_call("artifacts.load", NOTHING, &id), -EBUSY);
		reply(ids[5], true);
		assert_int_equal(host_wait(ids[5], 10000), 1);
		struct host_answer a;
		assert_int_equal(host_take(ids[5], false, &a), 0);
		host_answer_fini(&a);
		ids[5] = call();
		assert_int_equal(host_call("artifacts.load", NOTHING, &id), -EBUSY);
		host_end();
		assert_int_equal(host_is_ready(ids[0]), -ESHUTDOWN);
		forget_sent();
	}
}

static void a_call_is_ready_when_its_bytes_are_there(void **state)
{
	(void)state;
	host_begin();
	uint64_t id = call();
	host_want(id, 6);
	reply(id, true);
	assert_int_equal(host_poll(), 0);
	assert_int_equal(host_is_ready(id), 0);
	tell(IPC_HOST_BYTES, id, "abcde", 5);
	assert_int_equal(host_poll(), 0);
	assert_int_equal(host_is_ready(id), 0);
	tell(IPC_HOST_BYTES, id, "f", 1);
	assert_int_equal(host_poll(), 0);
	assert_int_equal(host_is_ready(id), 1);
	struct host_answer a;
	assert_int_equal(host_take(id, false, &a), 0);
	assert_true(a.ok);
	assert_int_equal(a.len, 6);
	assert_memory_equal(a.list->bytes, "abcdef", 6);
	host_answer_fini(&a);
	host_end();
	forget_sent();
}

static void nothing_is_sent_for_what_is_answered(void **state)
{
	(void)state;
	host_begin();
	uint64_t id = call();
	assert_int_equal(host_put(id, "x", 1), 0);
	reply(id, false);
	assert_int_equal(host_poll(), 0);
	forget_sent();
	assert_int_equal(host_put(id, "x", 1), 1);
	char byte;
	assert_int_equal(recv(server, &byte, 1, MSG_DONTWAIT), -1);
	host_end();
}

/* The most bytes that an answer has, and then one more. */
static void an_answers_bytes_have_a_bound(void **state)
{
	static const char piece[IPC_PIECE_BYTES];
	struct host_answer a;
	(void)state;
	host_begin();
	uint64_t id = call();
	host_want(id, IPC_HOST_BYTES_MAX);
	reply(id, true);
	for (uint64_t left = IPC_HOST_BYTES_MAX; left > 0;) {
		size_t n = left < sizeof(piece) ? (size_t)left : sizeof(piece);
		tell(IPC_HOST_BYTES, id, piece, n);
		assert_int_equal(host_poll(), 0);
		left -= n;
	}
	assert_int_equal(host_is_ready(id), 1);
	assert_int_equal(host_take(id, true, &a), 0);
	assert_true(a.ok);
	host_answer_fini(&a);
	tell(IPC_HOST_BYTES, id, "x", 1);
	assert_int_equal(host_poll(), 0);
	assert_int_equal(host_take(id, true, &a), 0);
	assert_false(a.ok);
	host_answer_fini(&a);
	host_end();
	forget_sent();
}

/* An interrupt ends a load: its bytes still come, and perhaps the middle of its answer. */
static void what_comes_too_late_is_dropped(void **state)
{
	static const char large[2 * IPC_PIECE_BYTES];
	cleanup(ipc_message_fini) struct ipc_message m = IPC_MESSAGE_INIT(1 << 20);
	(void)state;
	host_begin();
	uint64_t id = call();
	struct ipc_header head = {IPC_HOST_REPLY, IPC_MORE, id};
	assert_int_equal(send(server, &head, sizeof(head), 0), sizeof(head));
	assert_int_equal(host_poll(), 0);
	host_end();
	head.flags = 0;
	assert_int_equal(send(server, &head, sizeof(head), 0), sizeof(head));
	tell(IPC_HOST_BYTES, id, "late", 4);
	tell(IPC_HOST_REPLY, id, large, sizeof(large));
	tell(IPC_EXECUTE, 9, "next", 4);
	int r;
	for (int i = 0; (r = host_receive(&m)) == 0; i++) {
		assert_true(i < 10);
	}
	assert_int_equal(r, 1);
	assert_int_equal(m.type, IPC_EXECUTE);
	assert_int_equal(m.ref, 9);
	assert_int_equal(m.body.len, 4);
	/* And nothing of it is in the way of the next call's. */
	host_begin();
	id = call();
	reply(id, true);
	assert_int_equal(host_wait(id, 10000), 1);
	host_end();
	forget_sent();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(only_its_own_cancel_cancels_an_execution),
	    cmocka_unit_test(so_many_calls_are_open_and_no_more),
	    cmocka_unit_test(a_call_is_ready_when_its_bytes_are_there),
	    cmocka_unit_test(nothing_is_sent_for_what_is_answered),
	    cmocka_unit_test(an_answers_bytes_have_a_bound),
	    cmocka_unit_test(what_comes_too_late_is_dropped),
	};
	return cmocka_run_group_tests(tests, begin_all, end_all);
}
