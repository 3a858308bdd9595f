/* Frames over real socket pairs, and the bodies of the messages. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "ipc/codec.h"
#include "ipc/frame.h"

struct pair {
	int end[2];
};

static int setup(void **state)
{
	struct pair *p = calloc(1, sizeof(*p));
	*state = p;
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, p->end);
}

static int teardown(void **state)
{
	struct pair *p = *state;
	fd_close(&p->end[0]);
	fd_close(&p->end[1]);
	free(p);
	return 0;
}

static void a_message_arrives_whole(void **state)
{
	struct pair *p = *state;
	cleanup(ipc_message_fini) struct ipc_message m = IPC_MESSAGE_INIT(1 << 20);
	assert_int_equal(ipc_send(p->end[0], IPC_RESULT, 7, "hello", 5, NULL, 0), 0);
	assert_int_equal(ipc_receive(p->end[1], &m, false), 1);
	assert_int_equal(m.type, IPC_RESULT);
	assert_int_equal(m.ref, 7);
	assert_memory_equal(m.body.data, "hello", 5);
	ipc_message_reset(&m);
	assert_int_equal(ipc_receive(p->end[1], &m, false), -EAGAIN);
	fd_close(&p->end[0]);
	assert_int_equal(ipc_receive(p->end[1], &m, false), -ECONNRESET);
}

/* More than the socket holds at once: kept, flushed bit by bit, and assembled on the other side. */
static void a_large_message_travels_in_pieces(void **state)
{
	struct pair *p = *state;
	const size_t len = 3 << 20;
	cleanup(ipc_outbox_fini) struct ipc_outbox o = IPC_OUTBOX_INIT(8 << 20);
	cleanup(ipc_message_fini) struct ipc_message m = IPC_MESSAGE_INIT(4 << 20);
	cleanup(buf_fini) struct buf body = BUF_INIT(len);
	for (size_t i = 0; i < len; i++) {
		assert_int_equal(buf_add_char(&body, (char)(i * 31 >> 3)), 0);
	}
	assert_int_equal(ipc_outbox_send(&o, p->end[0], IPC_EXECUTE, 1, body.data, len), 0);
	assert_int_equal(ipc_outbox_send(&o, p->end[0], IPC_EXECUTE, 2, "next", 4), 0);
	assert_true(o.bytes.len > 0);
	int r;
	while ((r = ipc_receive(p->end[1], &m, false)) != 1) {
		assert_true(r == 0 || r == -EAGAIN);
		assert_true(ipc_outbox_flush(&o, p->end[0]) >= 0);
	}
	assert_int_equal(m.body.len, len);
	assert_memory_equal(m.body.data, body.data, len);
	ipc_message_reset(&m);
	assert_int_equal(ipc_outbox_flush(&o, p->end[0]), 0);
	assert_int_equal(ipc_receive(p->end[1], &m, false), 1);
	assert_int_equal(m.ref, 2);
}

static void an_outbox_has_a_bound(void **state)
{
	struct pair *p = *state;
	static char block[256 << 10];
	cleanup(ipc_outbox_fini) struct ipc_outbox o = IPC_OUTBOX_INIT(1 << 20);
	int r = 0;
	for (int i = 0; i < 64 && r == 0; i++) {
		r = ipc_outbox_send(&o, p->end[0], IPC_EXECUTE, 1, block, sizeof(block));
	}
	assert_int_equal(r, -ENOBUFS);
}

static void descriptors_ride_along(void **state)
{
	struct pair *p = *state;
	cleanup(ipc_message_fini) struct ipc_message m = IPC_MESSAGE_INIT(1 << 10);
	int fds[3] = {0, 1, 2};
	assert_int_equal(ipc_send(p->end[0], IPC_SPAWNED, 1, NULL, 0, fds, 3), 0);
	assert_int_equal(ipc_receive(p->end[1], &m, true), 1);
	assert_int_equal(m.fd_count, 3);
	assert_int_equal(ipc_type_fds(m.type), 3);
	int taken = fd_take(&m.fds[1]);
	assert_true(taken > 2);
	assert_int_equal(close(taken), 0);
}

static void unwanted_descriptors_do_not_arrive(void **state)
{
	struct pair *p = *state;
	cleanup(ipc_message_fini) struct ipc_message m = IPC_MESSAGE_INIT(1 << 10);
	int fds[2] = {0, 1};
	int before = dup(0);
	assert_int_equal(close(before), 0);
	assert_int_equal(ipc_send(p->end[0], IPC_DISPLAY, 1, "x", 1, fds, 2), 0);
	assert_int_equal(ipc_receive(p->end[1], &m, false), 1);
	assert_int_equal(m.fd_count, 0);
	int after = dup(0);
	assert_int_equal(before, after); /* none was opened in this process */
	assert_int_equal(close(after), 0);
}

/* Whoever takes such a packet out of the socket is the one who closes what it carries. */
static void a_packet_with_descriptors_is_known_before_it_is_received(void **state)
{
	struct pair *p = *state;
	cleanup(ipc_message_fini) struct ipc_message m = IPC_MESSAGE_INIT(1 << 10);
	assert_int_equal(ipc_carries_fds(p->end[1]), -EAGAIN);
	assert_int_equal(ipc_send(p->end[0], IPC_DISPLAY, 1, "x", 1, NULL, 0), 0);
	assert_int_equal(ipc_carries_fds(p->end[1]), 0);
	assert_int_equal(ipc_receive(p->end[1], &m, false), 1);
	ipc_message_reset(&m);

	int ends[2];
	char byte;
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(ipc_send(p->end[0], IPC_DISPLAY, 1, "x", 1, &ends[1], 1), 0);
	assert_int_equal(close(ends[1]), 0);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(ipc_carries_fds(p->end[1]), 1);
	}
	/* It is in the socket still: the pipe has a writer, until the socket goes. */
	assert_int_equal(fcntl(ends[0], F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(read(ends[0], &byte, 1), -1);
	fd_close(&p->end[1]);
	assert_int_equal(read(ends[0], &byte, 1), 0);
	assert_int_equal(close(ends[0]), 0);
	fd_close(&p->end[0]);
}

static void malformed_packets_are_refused(void **state)
{
	struct pair *p = *state;
	struct ipc_header h = {IPC_RESULT, IPC_MORE, 1};
	cleanup(ipc_message_fini) struct ipc_message m = IPC_MESSAGE_INIT(100);
	assert_int_equal(send(p->end[0], "short", 5, 0), 5);
	assert_int_equal(ipc_receive(p->end[1], &m, false), -EPROTO);
	ipc_message_reset(&m);

	/* Another message in the middle of one. */
	assert_true(send(p->end[0], &h, sizeof(h), 0) > 0);
	h.ref = 2;
	assert_true(send(p->end[0], &h, sizeof(h), 0) > 0);
	assert_int_equal(ipc_receive(p->end[1], &m, false), 0);
	assert_int_equal(ipc_receive(p->end[1], &m, false), -EPROTO);
	ipc_message_reset(&m);

	h.flags = 0x80;
	assert_true(send(p->end[0], &h, sizeof(h), 0) > 0);
	assert_int_equal(ipc_receive(p->end[1], &m, false), -EPROTO);
	ipc_message_reset(&m);

	/* Past the receiver's maximum. */
	assert_int_equal(ipc_send(p->end[0], IPC_RESULT, 1, (char[200]){0}, 200, NULL, 0), 0);
	assert_int_equal(ipc_receive(p->end[1], &m, false), -EPROTO);
}

static void every_message_has_its_direction(void **state)
{
	(void)state;
	assert_true(ipc_type_allowed(IPC_RESULT, IPC_SESSION, IPC_GATEWAY));
	assert_false(ipc_type_allowed(IPC_RESULT, IPC_KEEPER, IPC_GATEWAY));
	assert_false(ipc_type_allowed(IPC_SPAWN, IPC_SESSION, IPC_GATEWAY));
	assert_false(ipc_type_allowed(IPC_KILL, IPC_SESSION, IPC_KEEPER));
	assert_false(ipc_type_allowed(9999, IPC_SESSION, IPC_GATEWAY));
	assert_string_equal(ipc_type_name(IPC_SEALED), "SEALED");
	assert_string_equal(ipc_type_name(9999), "?");
}

static void results_come_back_as_they_were(void **state)
{
	(void)state;
	struct ipc_result in = {
	    .status = IPC_STATUS_EXIT,
	    .kind = IPC_KIND_OTHER,
	    .limit = IPC_LIMIT_OPEN_FILES,
	    .exit_code = 3,
	    .duration_us = 1ULL << 40,
	    .json = {"1", 1},
	    .text = {"a\0b", 3},
	    .error_name = {"E", 1},
	    .error_value = {"", 0},
	    .traceback = {"T", 1},
	};
	struct ipc_result out;
	cleanup(buf_fini) struct buf b = BUF_INIT(1000);
	assert_int_equal(ipc_result_encode(&in, &b), 0);
	assert_int_equal(ipc_result_decode(&b, &out), 0);
	assert_int_equal(out.duration_us, in.duration_us);
	assert_int_equal(out.text.len, 3);
	assert_memory_equal(out.text.data, "a\0b", 3);
	/* Every shortened body, and every lengthened one, is refused. */
	for (size_t len = b.len; len-- > 0;) {
		struct buf cut = {.data = b.data, .len = len, .max = b.max};
		assert_int_equal(ipc_result_decode(&cut, &out), -EPROTO);
	}
	assert_int_equal(buf_add_char(&b, 'x'), 0);
	assert_int_equal(ipc_result_decode(&b, &out), -EPROTO);
	/* A number outside its range. */
	b.len--;
	b.data[0] = 9;
	assert_int_equal(ipc_result_decode(&b, &out), -EPROTO);
}

static void text_has_no_nul_inside(void **state)
{
	(void)state;
	const char *text;
	cleanup(buf_fini) struct buf b = BUF_INIT(100);
	assert_int_equal(ipc_text_encode("hello", &b), 0);
	assert_int_equal(ipc_text_decode(&b, &text), 0);
	assert_string_equal(text, "hello");
	b.data[6] = '\0';
	assert_int_equal(ipc_text_decode(&b, &text), -EPROTO);
	b.data[6] = 'l';
	b.data[b.len - 1] = 'x';
	assert_int_equal(ipc_text_decode(&b, &text), -EPROTO);
}

static void configurations_come_back_as_they_were(void **state)
{
	(void)state;
	static struct ipc_keeper_config in = {
	    .isolation = 1,
	    .uid = 5,
	    .gid = 6,
	    .work_dir = "/w",
	    .read_only_paths = {"/a", "/b"},
	    .read_only_path_count = 2,
	    .preload = {"numpy"},
	    .preload_count = 1,
	    .pools = {{1, 2, 3, 4, 5}},
	    .pool_count = 1,
	    .may_add_packages = 1,
	};
	static struct ipc_keeper_config out;
	cleanup(buf_fini) struct buf b = BUF_INIT(4096);
	assert_int_equal(ipc_keeper_config_encode(&in, &b), 0);
	assert_int_equal(ipc_keeper_config_decode(&b, &out), 0);
	assert_string_equal(out.read_only_paths[1], "/b");
	assert_int_equal(out.pools[0].open_files, 5);
	assert_int_equal(out.may_add_packages, 1);
	b.data[12] = 127; /* a text that is longer than the body */
	assert_int_equal(ipc_keeper_config_decode(&b, &out), -EPROTO);
}

/* BODY begins with a count: is it taken as COUNT, each of them the bytes of ONE? */
static int decode_so_many(uint32_t count, const struct buf *one, struct ipc_display *out)
{
	cleanup(buf_fini) struct buf b = BUF_INIT(4096);
	assert_int_equal(buf_add(&b, &count, sizeof(count)), 0);
	for (uint32_t i = 0; i < count; i++) {
		assert_int_equal(
		    buf_add(&b, one->data + sizeof(count), one->len - sizeof(count)), 0);
	}
	return ipc_display_decode(&b, out);
}

static void a_count_has_a_maximum(void **state)
{
	(void)state;
	/* With room for the one that is too many, should it be taken. */
	struct ipc_display room[2] = {
	    {.count = 1, .items = {{.mime = "text/plain", .data = {"x", 1}}}}};
	cleanup(buf_fini) struct buf one = BUF_INIT(100);
	assert_int_equal(ipc_display_encode(room, &one), 0);
	assert_int_equal(decode_so_many(IPC_DISPLAY_ITEMS_MAX, &one, room), 0);
	assert_int_equal(room->count, IPC_DISPLAY_ITEMS_MAX);
	assert_int_equal(decode_so_many(IPC_DISPLAY_ITEMS_MAX + 1, &one, room), -EPROTO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(a_message_arrives_whole, setup, teardown),
	    cmocka_unit_test_setup_teardown(a_large_message_travels_in_pieces, setup, teardown),
	    cmocka_unit_test_setup_teardown(an_outbox_has_a_bound, setup, teardown),
	    cmocka_unit_test_setup_teardown(descriptors_ride_along, setup, teardown),
	    cmocka_unit_test_setup_teardown(unwanted_descriptors_do_not_arrive, setup, teardown),
	    cmocka_unit_test_setup_teardown(
		a_packet_with_descriptors_is_known_before_it_is_received, setup, teardown),
	    cmocka_unit_test_setup_teardown(malformed_packets_are_refused, setup, teardown),
	    cmocka_unit_test(every_message_has_its_direction),
	    cmocka_unit_test(results_come_back_as_they_were),
	    cmocka_unit_test(text_has_no_nul_inside),
	    cmocka_unit_test(configurations_come_back_as_they_were),
	    cmocka_unit_test(a_count_has_a_maximum),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
