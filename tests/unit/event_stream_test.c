/* Server-sent events, as the command line and the runner read them. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/event_stream.h"

/* Writes each event as "name=data;" to ARG, a struct buf. */
static int record_event(void *arg, const char *name, const char *data, size_t len)
{
	struct buf *out = arg;
	assert_int_equal(data[len], '\0');
	return buf_addf(out, "%s=%.*s;", name, (int)len, data);
}

/* The events of STREAM when it comes in pieces of PIECE bytes. */
static void assert_events(const char *stream, size_t piece, const char *expected)
{
	cleanup(buf_fini) struct buf out = BUF_INIT(4096);
	cleanup(event_stream_fini) struct event_stream s;
	event_stream_init(&s, 1024);
	size_t len = strlen(stream);
	for (size_t at = 0; at < len; at += piece) {
		size_t n = len - at < piece ? len - at : piece;
		assert_int_equal(event_stream_feed(&s, stream + at, n, record_event, &out), 0);
	}
	assert_string_equal(buf_str(&out), expected);
}

static void it_gives_the_same_events_however_the_bytes_are_cut(void **state)
{
	(void)state;
	static const char stream[] =
	    "\xef\xbb\xbf: hello\n\nevent: stdout\ndata: {\"text\":\"a\"}\n\n"
	    ":\r\n\r\nevent:display\r\ndata:1\r\ndata: 2\r\n\r\n"
	    "data\rdata:  x\r\revent: lost\n\nid: 3\nretry: 1\nother\n"
	    "data: last\n\ndata: cut off";
	static const char expected[] =
	    "stdout={\"text\":\"a\"};display=1\n2;message=\n x;message=last;";
	for (size_t piece = 1; piece <= sizeof(stream); piece++) {
		assert_events(stream, piece, expected);
	}
}

static void it_refuses_a_line_or_an_event_past_its_bound(void **state)
{
	(void)state;
	cleanup(buf_fini) struct buf out = BUF_INIT(4096);
	cleanup(event_stream_fini) struct event_stream line;
	event_stream_init(&line, 16);
	assert_int_equal(
	    event_stream_feed(&line, "data: 0123456789abc", 19, record_event, &out), -EMSGSIZE);
	cleanup(event_stream_fini) struct event_stream event;
	event_stream_init(&event, 16);
	static const char many[] = "data:01234567\ndata:89abcdef\n\n";
	assert_int_equal(
	    event_stream_feed(&event, many, strlen(many), record_event, &out), -EMSGSIZE);
	assert_int_equal(out.len, 0);
}

static int refuse_event(void *arg, const char *name, const char *data, size_t len)
{
	(void)name;
	(void)data;
	(void)len;
	(*(int *)arg)++;
	return -7;
}

static void it_stops_when_its_listener_says_so(void **state)
{
	(void)state;
	int calls = 0;
	cleanup(event_stream_fini) struct event_stream s;
	event_stream_init(&s, 64);
	assert_int_equal(
	    event_stream_feed(&s, "data:1\n\ndata:2\n\n", 16, refuse_event, &calls), -7);
	assert_int_equal(calls, 1);
}

static void what_lies_between_events_is_read_over(void **state)
{
	(void)state;
	/* no name without data, an empty datum, a name of more than fits, a NUL */
	assert_events("event: none\n\ndata\n\n", 3, "message=;");
	assert_events("event: 0123456789012345678901234567890123456789\ndata: 1\n\n", 5,
	    "0123456789012345678901234567890=1;");
	assert_events(":only a comment\n\n\n\n", 1, "");
	cleanup(buf_fini) struct buf out = BUF_INIT(64);
	cleanup(event_stream_fini) struct event_stream s;
	event_stream_init(&s, 64);
	static const char nul[] = "data: a\0b\n\n";
	assert_int_equal(event_stream_feed(&s, nul, sizeof(nul) - 1, record_event, &out), 0);
	assert_memory_equal(buf_str(&out), "message=a", 9);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(it_gives_the_same_events_however_the_bytes_are_cut),
	    cmocka_unit_test(it_refuses_a_line_or_an_event_past_its_bound),
	    cmocka_unit_test(it_stops_when_its_listener_says_so),
	    cmocka_unit_test(what_lies_between_events_is_read_over),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
