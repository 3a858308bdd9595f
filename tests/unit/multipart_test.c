/* The multipart reader: every body is fed whole, byte by byte, and in pieces of every small size,
 * and must give the same. What is given is written down as text: [name|filename]data; */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/compiler.h"
#include "http/multipart.h"

#define TYPE "multipart/form-data; boundary=B"
#define END "\r\n--B--\r\n"
#define PART(head) "--B\r\nContent-Disposition: form-data; " head "\r\n\r\n"

static int on_part(void *ctx, const char *name, const char *filename)
{
	return buf_addf(
	    ctx, "[%s|%s]", name != NULL ? name : "-", filename != NULL ? filename : "-");
}

static int on_data(void *ctx, const char *bytes, size_t len)
{
	assert_true(len > 0);
	return buf_add(ctx, bytes, len);
}

static int on_end(void *ctx)
{
	return buf_add_char(ctx, ';');
}

static const struct multipart_sink sink = {on_part, on_data, on_end};

/* Feeds BODY in pieces of STEP bytes, from memory of its own so that a sanitizer sees an overrun.
 * 0, -1 malformed (here or at the end), 1 stopped. */
static int feed(const char *type, const char *body, size_t len, size_t step, struct buf *out)
{
	struct err e;
	struct multipart m;
	int r = multipart_init(&m, type, &sink, out, &e);
	for (size_t at = 0; r == 0 && at < len; at += step) {
		size_t n = len - at < step ? len - at : step;
		char *piece = malloc(n);
		assert_non_null(piece);
		memcpy(piece, body + at, n);
		r = multipart_feed(&m, piece, n, &e);
		free(piece);
	}
	if (r == 0) {
		r = multipart_finish(&m, &e);
	}
	multipart_fini(&m);
	return r;
}

static void check_bytes(
    const char *body, size_t len, int expected, const char *text, size_t text_len)
{
	for (size_t step = 1; step <= len + 1; step = step < 40 ? step + 1 : step + len) {
		cleanup(buf_fini) struct buf out = BUF_INIT(1 << 20);
		/* Where the body begins with its boundary, no header need tell it. */
		bool opens = strncmp(body, "--B\r\n", 5) == 0 && step % 2 == 0;
		int r = feed(opens ? "application/json" : TYPE, body, len, step, &out);
		if (r != expected || (r == 0 && (out.len != text_len ||
						    memcmp(buf_str(&out), text, text_len) != 0))) {
			fail_msg("in pieces of %zu: %d instead of %d, \"%s\" instead of \"%s\" for "
				 "\"%s\"",
			    step, r, expected, buf_str(&out), text, body);
		}
	}
}

static void gives(const char *body, const char *text)
{
	check_bytes(body, strlen(body), 0, text, strlen(text));
}

static void is_malformed(const char *body)
{
	check_bytes(body, strlen(body), -1, "", 0);
}

static void parts(void **state)
{
	(void)state;
	gives(PART("name=\"file\"; filename=\"a\"") "data" END, "[file|a]data;");
	gives(PART("name=a") "1\r\n" PART("name=b; filename=c") "2" END, "[a|-]1;[b|c]2;");
	gives(PART("name=a") END, "[a|-];");
	/* Without data and without its line break: RFC 2046's body-part ends with its headers. */
	gives(PART("name=a") "--B--", "[a|-];");
	gives(PART("name=a") "--B\r\n\r\nx" END, "[a|-];[-|-]x;");
	gives("--B--", "");
	gives("\r\n--B--", "");
	gives(
	    "preamble\r\n--Bx\r\n\r\n" PART("name=a") "x" END "epilogue --B\r\n\r\n--B", "[a|-]x;");
	gives("--B\r\n\r\nx" END, "[-|-]x;");
	gives("--B\r\nX: y\r\ncontent-disposition:form-data;name=a\r\n\r\nx" END, "[a|-]x;");
	gives("--B \t \r\nContent-Disposition: form-data; name=a\r\n\r\nx\r\n--B--", "[a|-]x;");
}

static void what_only_looks_like_a_boundary_is_data(void **state)
{
	(void)state;
	static const char *const data[] = {"\r", "\n", "\r\n", "\r\r\n", "\r\n-", "\r\n--", "--B",
	    "\r\n--Bx", "\r\n--B-x", "\r\n--B -", "\r\n--B\r\r", "\r\n--B \t\rx", "\r\n--b\r\n",
	    "\r\n\r\n--A", "-", "--", "\r\n--\r\n--\r\n-", "\r\n--B\r\r\n--BB",
	    "\r\n--B                                                                    \r\n"};
	for (size_t i = 0; i < array_len(data); i++) {
		char body[512];
		char text[512];
		/* Behind "x", and at the very start, where the break before it is no data. */
		for (int lead = 0; lead < 2; lead++) {
			const char *x = lead != 0 ? "x" : "";
			if (lead == 0 && strcmp(data[i], "--B") == 0) {
				continue; /* there it is a boundary */
			}
			(void)snprintf(body, sizeof(body), PART("name=a") "%s%sy" END, x, data[i]);
			(void)snprintf(text, sizeof(text), "[a|-]%s%sy;", x, data[i]);
			gives(body, text);
		}
	}
	gives(PART("name=a") "--Bx" END, "[a|-]--Bx;");
}

static void any_byte_is_data(void **state)
{
	(void)state;
	char body[1024];
	char text[1024];
	int n = snprintf(body, sizeof(body), PART("name=a"));
	int t = snprintf(text, sizeof(text), "[a|-]");
	for (int i = 0; i < 256; i++) {
		body[n++] = (char)i;
		text[t++] = (char)i;
	}
	memcpy(body + n, END, sizeof(END) - 1);
	text[t++] = ';';
	check_bytes(body, (size_t)n + sizeof(END) - 1, 0, text, (size_t)t);
}

static void names(void **state)
{
	(void)state;
	gives(PART("name=\"a b\"; filename=\"\xc3\xa4;=\xe2\x82\xac.txt\"") "x" END,
	    "[a b|\xc3\xa4;=\xe2\x82\xac.txt]x;");
	gives(PART("filename=\"a%22b%41\"") "x" END, "[-|a\"b%41]x;");
	gives(PART("filename=\"a\\\"b\\\\c\\d\"") "x" END, "[-|a\"b\\c\\d]x;");
	gives(PART("FILENAME = \"a\" ; Name = b") "x" END, "[b|a]x;");
	gives(PART("filename=\"a\"; filename*=UTF-8''%c3%a4") "x" END, "[-|\xc3\xa4]x;");
	gives(PART("filename*=utf-8'de'%c3%a4; filename=\"a\"") "x" END, "[-|\xc3\xa4]x;");
	gives(PART("filename*=iso-8859-1''%e4; filename=\"a\"") "x" END, "[-|a]x;");
	gives(PART("filename*=UTF-8''%ff; filename=\"a\"") "x" END, "[-|a]x;");
	gives(PART("filename*=UTF-8''%00; filename=\"a\"") "x" END, "[-|a]x;");
	gives(PART("filename*=UTF-8; filename=\"a\"") "x" END, "[-|a]x;");
	gives(PART("filename=\"\"") "x" END, "[-|]x;");
	gives(PART("xname=y; name=z; other") "x" END, "[z|-]x;");
}

static void malformed_bodies(void **state)
{
	(void)state;
	is_malformed("");
	is_malformed("x");
	is_malformed("--B");
	is_malformed("--B\r\n");
	is_malformed("--B-");
	is_malformed(PART("name=a"));
	is_malformed(PART("name=a") "x");
	is_malformed(PART("name=a") "x\r\n--B");
	is_malformed(PART("name=a") "x\r\n--B-");
	is_malformed(PART("name=\"a") "x" END);
	is_malformed(PART("=a") "x" END);
	is_malformed("--B\r\nContent-Transfer-Encoding: base64\r\n\r\nQUJD" END);
	char nul[] = "--B\r\nX: ?\r\n\r\nx\r\n--B--";
	*strchr(nul, '?') = '\0';
	check_bytes(nul, sizeof(nul) - 1, -1, "", 0);
}

static void bounds(void **state)
{
	(void)state;
	cleanup(buf_fini) struct buf body = BUF_INIT(1 << 20);
	cleanup(buf_fini) struct buf out = BUF_INIT(1 << 20);
	(void)buf_add_str(&body, "--B\r\nX: ");
	for (int i = 0; i < MULTIPART_HEAD_MAX_BYTES; i++) {
		(void)buf_add_char(&body, 'x');
	}
	(void)buf_add_str(&body, "\r\n\r\nx" END);
	assert_int_equal(feed(TYPE, body.data, body.len, body.len, &out), -1);
	buf_clear(&body);
	for (int i = 0; i < MULTIPART_PARTS_MAX; i++) {
		(void)buf_add_str(&body, "--B\r\n\r\nx\r\n");
	}
	size_t most = body.len;
	(void)buf_add_str(&body, "--B--");
	assert_int_equal(feed(TYPE, body.data, body.len, body.len, &out), 0);
	body.len = most;
	(void)buf_add_str(&body, "--B\r\n\r\nx\r\n--B--");
	assert_int_equal(feed(TYPE, body.data, body.len, body.len, &out), -1);
}

static void the_sink_may_stop(void **state)
{
	(void)state;
	cleanup(buf_fini) struct buf out = BUF_INIT(8);
	static const char body[] = PART("name=a") "0123456789" END;
	assert_int_equal(feed(TYPE, body, sizeof(body) - 1, sizeof(body), &out), 1);
	assert_int_equal(feed(TYPE, body, sizeof(body) - 1, 1, &out), 1);
}

static void content_types(void **state)
{
	(void)state;
	static const char body[] = "--B--";
	static const char *const good[] = {TYPE, " multipart/form-data;boundary=B",
	    "Multipart/Form-Data; charset=utf-8; BOUNDARY=\"B\"",
	    "multipart/form-data ; boundary=B; x=y"};
	static const char *const bad[] = {NULL, "", "multipart/form-data",
	    "multipart/form-data; boundary=", "multipart/form-data; boundary=\"\"",
	    "multipart/form-data; boundary=\"B", "multipart/mixed; boundary=B",
	    "multipart/form-dataa; boundary=B", "multipart/form-data; xboundary=B"};
	cleanup(buf_fini) struct buf out = BUF_INIT(100);
	for (size_t i = 0; i < array_len(good); i++) {
		assert_int_equal(feed(good[i], body, sizeof(body) - 1, 100, &out), 0);
	}
	for (size_t i = 0; i < array_len(bad); i++) {
		assert_int_equal(feed(bad[i], body, sizeof(body) - 1, 100, &out), -1);
	}
}

/* Without a boundary in the header it is the first line that tells it. */
static void first_lines(void **state)
{
	(void)state;
	static const char *const types[] = {NULL, "", "application/json", "multipart/form-data",
	    "multipart/form-data; xboundary=C", "text/plain; boundary=C"};
	static const struct {
		const char *body;
		int result;
	} cases[] = {
	    {PART("name=a; filename=b") "x" END, 0},
	    {"--B \t\r\n\r\nx" END, 0},
	    {"{\"code\": 1}", -1},
	    {"{\"code\":\n 1}", -1},
	    {"", -1},
	    {"\r\n" PART("name=a") "x" END, -1}, /* no preamble */
	    {"--\r\n\r\nx\r\n----\r\n", -1},
	    {"-B\r\n\r\nx" END, -1},
	    {"--B\r\n\r\nx\r\n--C--\r\n", -1},
	};
	for (size_t t = 0; t < array_len(types); t++) {
		for (size_t i = 0; i < array_len(cases); i++) {
			for (size_t step = 1; step < 60; step++) {
				cleanup(buf_fini) struct buf out = BUF_INIT(1000);
				const char *body = cases[i].body;
				assert_int_equal(feed(types[t], body, strlen(body), step, &out),
				    cases[i].result);
			}
		}
	}
}

static void first_line_is_bounded(void **state)
{
	(void)state;
	char body[400];
	for (size_t len = 1; len < 150; len++) {
		char boundary[200] = "";
		memset(boundary, 'b', len);
		int n = snprintf(
		    body, sizeof(body), "--%s\r\n\r\nx\r\n--%s--\r\n", boundary, boundary);
		for (size_t step = 1; step < 400; step += 97) {
			cleanup(buf_fini) struct buf out = BUF_INIT(1000);
			assert_int_equal(feed(NULL, body, (size_t)n, step, &out),
			    len <= MULTIPART_BOUNDARY_MAX_BYTES ? 0 : -1);
		}
	}
}

static void long_boundaries(void **state)
{
	(void)state;
	char type[200];
	char body[400];
	char boundary[MULTIPART_BOUNDARY_MAX_BYTES + 2];
	memset(boundary, 'b', sizeof(boundary));
	boundary[MULTIPART_BOUNDARY_MAX_BYTES] = '\0';
	(void)snprintf(type, sizeof(type), "multipart/form-data; boundary=%s", boundary);
	int n = snprintf(
	    body, sizeof(body), "--%s\r\n\r\nx\r\n--%.69s\r\n--%s--", boundary, boundary, boundary);
	char text[200];
	(void)snprintf(text, sizeof(text), "[-|-]x\r\n--%.69s;", boundary);
	for (size_t step = 1; step < 100; step++) {
		cleanup(buf_fini) struct buf out = BUF_INIT(1000);
		assert_int_equal(feed(type, body, (size_t)n, step, &out), 0);
		assert_string_equal(buf_str(&out), text);
	}
	(void)snprintf(type, sizeof(type), "multipart/form-data; boundary=%sb", boundary);
	cleanup(buf_fini) struct buf out = BUF_INIT(1000);
	assert_int_equal(feed(type, body, (size_t)n, 1, &out), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(parts),
	    cmocka_unit_test(what_only_looks_like_a_boundary_is_data),
	    cmocka_unit_test(any_byte_is_data),
	    cmocka_unit_test(names),
	    cmocka_unit_test(malformed_bodies),
	    cmocka_unit_test(bounds),
	    cmocka_unit_test(the_sink_may_stop),
	    cmocka_unit_test(content_types),
	    cmocka_unit_test(first_lines),
	    cmocka_unit_test(first_line_is_bounded),
	    cmocka_unit_test(long_boundaries),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
