#include "base/json_text.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_stream.h"
#include "base/text.h"

/* Back to LEN bytes, after a failure. */
static void cut(struct buf *out, size_t len)
{
	out->len = len;
	if (out->data != NULL) {
		out->data[len] = '\0';
	}
}

/* --- strings ------------------------------------------------------------------------------------
 */

/* A megabyte of NUL bytes is a million of these, so no formatting. */
static int add_escape(struct buf *out, unsigned char c)
{
	static const char digits[] = "0123456789abcdef";
	char escape[] = {'\\', 'u', '0', '0', digits[c >> 4], digits[c & 15]};
	switch (c) {
	case '"':
		return buf_add_str(out, "\\\"");
	case '\\':
		return buf_add_str(out, "\\\\");
	case '\n':
		return buf_add_str(out, "\\n");
	case '\r':
		return buf_add_str(out, "\\r");
	case '\t':
		return buf_add_str(out, "\\t");
	default:
		return buf_add(out, escape, sizeof(escape));
	}
}

static bool needs_escape(unsigned char c)
{
	return c < ' ' || c == '"' || c == '\\';
}

static int add_escaped(struct buf *out, const char *bytes, size_t len)
{
	int r = 0;
	size_t from = 0;
	for (size_t i = 0; r == 0 && i < len; i++) {
		if (needs_escape((unsigned char)bytes[i])) {
			r = buf_add(out, bytes + from, i - from);
			r = r < 0 ? r : add_escape(out, (unsigned char)bytes[i]);
			from = i + 1;
		}
	}
	return r < 0 ? r : buf_add(out, bytes + from, len - from);
}

int json_text_add_inside(struct buf *out, const char *bytes, size_t len)
{
	size_t before = out->len;
	int r;
	if (text_is_utf8(bytes, len)) {
		r = add_escaped(out, bytes, len);
	} else {
		cleanup(buf_fini) struct buf mended = BUF_INIT(len * 3);
		r = text_add_utf8_lossy(&mended, bytes, len);
		r = r < 0 ? r : add_escaped(out, buf_str(&mended), mended.len);
	}
	if (r < 0) {
		cut(out, before);
	}
	return r;
}

int json_text_add_string(struct buf *out, const char *bytes, size_t len)
{
	size_t before = out->len;
	int r = buf_add_char(out, '"');
	r = r < 0 ? r : json_text_add_inside(out, bytes, len);
	r = r < 0 ? r : buf_add_char(out, '"');
	if (r < 0) {
		cut(out, before);
	}
	return r;
}

json_t *json_text_string(const char *bytes, size_t len)
{
	if (len == 0) {
		return json_string("");
	}
	json_t *as_it_is = json_stringn(bytes, len); /* NULL when it is not UTF-8 */
	if (as_it_is != NULL) {
		return as_it_is;
	}
	cleanup(buf_fini) struct buf b = BUF_INIT(len * 3);
	if (text_add_utf8_lossy(&b, bytes, len) < 0) {
		return json_string("");
	}
	return json_stringn_nocheck(buf_str(&b), b.len);
}

/* --- numbers and trees --------------------------------------------------------------------------
 */

/* 15 digits survive text to double to text; 17 survive double to text to double. */
#define DIGITS_LEAST 15
#define DIGITS_MOST 17

static unsigned digits_of(double value)
{
	for (int digits = DIGITS_LEAST; digits < DIGITS_MOST; digits++) {
		char text[40];
		(void)snprintf(text, sizeof(text), "%.*g", digits, value);
		if (strtod(text, NULL) == value) {
			return (unsigned)digits;
		}
	}
	return DIGITS_MOST;
}

int json_text_add_real(struct buf *out, double value)
{
	char text[40];
	(void)snprintf(text, sizeof(text), "%.*g", (int)digits_of(value), value);
	bool whole = text[strspn(text, "-0123456789")] == '\0';
	return buf_addf(out, "%s%s", text, whole ? ".0" : "");
}

/* The most that a real in J needs, since a tree is printed with one precision. */
static unsigned digits_in(const json_t *j)
{
	unsigned most = json_is_real(j) ? digits_of(json_real_value(j)) : DIGITS_LEAST;
	const char *key;
	size_t i;
	json_t *child;
	/* jansson's iterators want a tree that may be changed; this one is not. */
	json_t *tree = (json_t *)(uintptr_t)j;
	json_object_foreach(tree, key, child)
	{
		unsigned digits = digits_in(child);
		most = digits > most ? digits : most;
	}
	json_array_foreach(tree, i, child)
	{
		unsigned digits = digits_in(child);
		most = digits > most ? digits : most;
	}
	return most;
}

static int add_bytes(const char *bytes, size_t len, void *out)
{
	return buf_add(out, bytes, len);
}

int json_text_add_tree(struct buf *out, const json_t *j)
{
	size_t flags = JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(digits_in(j));
	size_t before = out->len;
	if (json_dump_callback(j, add_bytes, out, flags) < 0) {
		cut(out, before);
		return -EMSGSIZE;
	}
	return 0;
}

/* --- a text that claims to be JSON --------------------------------------------------------------
 */

int json_text_add_checked(struct buf *out, const char *bytes, size_t len)
{
	struct json_stream s;
	size_t before = out->len;
	json_stream_init(&s);
	int r = json_stream_add(&s, bytes, len, out);
	r = r < 0 ? r : json_stream_end(&s, out);
	if (r < 0) {
		cut(out, before);
	}
	return r;
}
