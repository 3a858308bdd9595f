#include "base/json_text.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

static int add_escape(struct buf *out, unsigned char c)
{
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
		return buf_addf(out, "\\u%04x", (unsigned)c);
	}
}

static bool needs_escape(unsigned char c)
{
	return c < ' ' || c == '"' || c == '\\';
}

static int add_quoted(struct buf *out, const char *bytes, size_t len)
{
	int r = buf_add_char(out, '"');
	size_t from = 0;
	for (size_t i = 0; r == 0 && i < len; i++) {
		if (needs_escape((unsigned char)bytes[i])) {
			r = buf_add(out, bytes + from, i - from);
			r = r < 0 ? r : add_escape(out, (unsigned char)bytes[i]);
			from = i + 1;
		}
	}
	r = r < 0 ? r : buf_add(out, bytes + from, len - from);
	return r < 0 ? r : buf_add_char(out, '"');
}

int json_text_add_string(struct buf *out, const char *bytes, size_t len)
{
	size_t before = out->len;
	int r;
	if (text_is_utf8(bytes, len)) {
		r = add_quoted(out, bytes, len);
	} else {
		cleanup(buf_fini) struct buf mended = BUF_INIT(len * 3);
		r = text_add_utf8_lossy(&mended, bytes, len);
		r = r < 0 ? r : add_quoted(out, buf_str(&mended), mended.len);
	}
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

struct copy {
	const char *at;
	const char *end;
	const char *from; /* what lies between this and AT is not copied yet */
	struct buf *out;
	uint64_t objects[JSON_TEXT_DEPTH_MAX / 64]; /* of each level: an object, not a list */
	unsigned depth;
};

static bool here(const struct copy *c, char wanted)
{
	return c->at < c->end && *c->at == wanted;
}

static void skip_blanks(struct copy *c)
{
	while (c->at < c->end && strchr(" \t\r\n", *c->at) != NULL && *c->at != '\0') {
		c->at++;
	}
}

/* Puts TEXT in the place of the last LEN bytes before AT. */
static int replace(struct copy *c, size_t len, const char *text)
{
	int r = buf_add(c->out, c->from, (size_t)(c->at - c->from) - len);
	c->from = c->at;
	return r < 0 ? r : buf_add_str(c->out, text);
}

/* Four hex digits at AT, or -1. */
static int hex4(const struct copy *c, const char *at)
{
	int value = 0;
	for (int i = 0; i < 4; i++) {
		char d = at + i < c->end ? at[i] : '\0';
		int digit = d >= '0' && d <= '9'   ? d - '0'
			    : d >= 'a' && d <= 'f' ? d - 'a' + 10
			    : d >= 'A' && d <= 'F' ? d - 'A' + 10
						   : -1;
		if (digit < 0) {
			return -1;
		}
		value = value * 16 + digit;
	}
	return value;
}

/* Behind "\u". */
static int copy_unicode(struct copy *c)
{
	int high = hex4(c, c->at);
	if (high < 0) {
		return -EINVAL;
	}
	c->at += 4;
	if (high < 0xd800 || high > 0xdfff) {
		return 0;
	}
	if (high < 0xdc00 && c->end - c->at >= 6 && c->at[0] == '\\' && c->at[1] == 'u') {
		int low = hex4(c, c->at + 2);
		if (low >= 0xdc00 && low <= 0xdfff) {
			c->at += 6;
			return 0;
		}
	}
	return replace(c, 6, "\\ufffd");
}

static int copy_string(struct copy *c)
{
	c->at++;
	while (c->at < c->end) {
		unsigned char ch = (unsigned char)*c->at++;
		if (ch == '"') {
			return 0;
		}
		if (ch < ' ') {
			return -EINVAL;
		}
		if (ch != '\\') {
			continue;
		}
		char escape = c->at < c->end ? *c->at++ : '\0';
		int r = escape == 'u'                                            ? copy_unicode(c)
			: escape != '\0' && strchr("\"\\/bfnrt", escape) != NULL ? 0
										 : -EINVAL;
		if (r < 0) {
			return r;
		}
	}
	return -EINVAL;
}

static size_t skip_digits(struct copy *c)
{
	size_t n = 0;
	for (; c->at < c->end && *c->at >= '0' && *c->at <= '9'; n++) {
		c->at++;
	}
	return n;
}

static int copy_number(struct copy *c)
{
	if (here(c, '-')) {
		c->at++;
	}
	bool zero = here(c, '0');
	size_t whole = skip_digits(c);
	if (whole == 0 || (zero && whole > 1)) {
		return -EINVAL;
	}
	if (here(c, '.')) {
		c->at++;
		if (skip_digits(c) == 0) {
			return -EINVAL;
		}
	}
	if (here(c, 'e') || here(c, 'E')) {
		c->at++;
		if (here(c, '+') || here(c, '-')) {
			c->at++;
		}
		if (skip_digits(c) == 0) {
			return -EINVAL;
		}
	}
	return 0;
}

static int copy_word(struct copy *c)
{
	static const struct {
		const char *word;
		bool null;
	} words[] = {{"true", false}, {"false", false}, {"null", false}, {"NaN", true},
	    {"Infinity", true}, {"-Infinity", true}};
	for (size_t i = 0; i < array_len(words); i++) {
		size_t len = strlen(words[i].word);
		if ((size_t)(c->end - c->at) >= len && memcmp(c->at, words[i].word, len) == 0) {
			c->at += len;
			return words[i].null ? replace(c, len, "null") : 0;
		}
	}
	return copy_number(c);
}

static bool in_object(const struct copy *c)
{
	unsigned level = c->depth - 1;
	return (c->objects[level / 64] & 1ULL << level % 64) != 0;
}

static int enter(struct copy *c)
{
	if (c->depth == JSON_TEXT_DEPTH_MAX) {
		return -EINVAL;
	}
	unsigned level = c->depth++;
	uint64_t bit = 1ULL << level % 64;
	uint64_t *word = &c->objects[level / 64];
	*word = *c->at == '{' ? *word | bit : *word & ~bit;
	c->at++;
	return 0;
}

/* A member's name and the colon, when this level is an object. */
static int copy_name(struct copy *c)
{
	if (c->depth == 0 || !in_object(c)) {
		return 0;
	}
	skip_blanks(c);
	int r = here(c, '"') ? copy_string(c) : -EINVAL;
	skip_blanks(c);
	if (r == 0 && !here(c, ':')) {
		r = -EINVAL;
	}
	c->at += r == 0;
	return r;
}

/* Behind a value: closes what closes. 1: a value is due, 0: all is read. */
static int after_value(struct copy *c)
{
	for (;;) {
		skip_blanks(c);
		if (c->depth == 0) {
			return c->at == c->end ? 0 : -EINVAL;
		}
		if (here(c, ',')) {
			c->at++;
			int r = copy_name(c);
			return r < 0 ? r : 1;
		}
		if (!here(c, in_object(c) ? '}' : ']')) {
			return -EINVAL;
		}
		c->at++;
		c->depth--;
	}
}

/* One value, or the beginning of a list or an object. As after_value. */
static int copy_value(struct copy *c)
{
	skip_blanks(c);
	if (!here(c, '{') && !here(c, '[')) {
		int r = here(c, '"') ? copy_string(c) : copy_word(c);
		return r < 0 ? r : after_value(c);
	}
	int r = enter(c);
	if (r < 0) {
		return r;
	}
	skip_blanks(c);
	if (here(c, in_object(c) ? '}' : ']')) {
		return after_value(c);
	}
	r = copy_name(c);
	return r < 0 ? r : 1;
}

int json_text_add_checked(struct buf *out, const char *bytes, size_t len)
{
	if (len == 0 || !text_is_utf8(bytes, len)) {
		return -EINVAL;
	}
	size_t before = out->len;
	struct copy c = {.at = bytes, .end = bytes + len, .from = bytes, .out = out};
	int r;
	do {
		r = copy_value(&c);
	} while (r == 1);
	if (r == 0) {
		r = buf_add(out, c.from, (size_t)(c.end - c.from));
	}
	if (r < 0) {
		cut(out, before);
	}
	return r;
}
