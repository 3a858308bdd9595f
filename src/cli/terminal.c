#include "cli/terminal.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/text.h"

/* How many bytes the character that starts with LEAD has; 1 for what cannot start one. */
static size_t sequence_len(unsigned char lead)
{
	if (lead >= 0xc2 && lead <= 0xdf) {
		return 2;
	}
	if (lead >= 0xe0 && lead <= 0xef) {
		return 3;
	}
	return lead >= 0xf0 && lead <= 0xf4 ? 4 : 1;
}

/* The code point of a well-formed sequence. */
static uint32_t decode(const unsigned char *s, size_t n)
{
	if (n == 1) {
		return s[0];
	}
	uint32_t point = s[0] & (0xffU >> (n + 1));
	for (size_t i = 1; i < n; i++) {
		point = point << 6 | (s[i] & 0x3fU);
	}
	return point;
}

static bool is_harmless(uint32_t point)
{
	if (point == '\n' || point == '\t') {
		return true;
	}
	bool control = point < 0x20 || (point >= 0x7f && point <= 0x9f);
	bool reorders = point == 0x061c || point == 0x200e || point == 0x200f ||
			(point >= 0x202a && point <= 0x202e) ||
			(point >= 0x2066 && point <= 0x2069);
	return !control && !reorders;
}

/* Characters that take no place, or only an empty one, and are not combined with what they follow.
 */
static bool is_unseen(uint32_t point)
{
	static const struct {
		uint32_t first, last;
	} unseen[] = {
	    {'\t', '\n'}, {0x00ad, 0x00ad}, /* soft hyphen */
	    {0x034f, 0x034f},               /* combining grapheme joiner */
	    {0x115f, 0x1160},               /* Hangul fillers */
	    {0x17b4, 0x17b5},               /* Khmer inherent vowels */
	    {0x180e, 0x180e},               /* Mongolian vowel separator */
	    {0x200b, 0x200d},               /* zero-width space, non-joiner, joiner */
	    {0x2028, 0x2029},               /* line, paragraph separator */
	    {0x2060, 0x2065},               /* word joiner, invisible operators */
	    {0x206a, 0x206f},               /* deprecated format characters */
	    {0x3164, 0x3164},               /* Hangul filler */
	    {0xfe00, 0xfe0f},               /* variation selectors */
	    {0xfeff, 0xfeff},               /* byte order mark */
	    {0xffa0, 0xffa0},               /* halfwidth Hangul filler */
	    {0xfff9, 0xfffb},               /* annotations */
	    {0xe0000, 0xe0fff},             /* tags, variation selectors' supplement */
	};
	for (size_t i = 0; i < array_len(unseen); i++) {
		if (point >= unseen[i].first && point <= unseen[i].last) {
			return true;
		}
	}
	return false;
}

static int add_escape(struct buf *out, uint32_t point, bool good)
{
	if (!good) {
		return buf_addf(out, "\\x%02x", point);
	}
	return buf_addf(out, point > 0xffff ? "\\U%08x" : "\\u%04x", point);
}

/* True when the N bytes at S may still become a character of WANT bytes. */
static bool may_continue(const unsigned char *s, size_t n)
{
	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80) {
			return false;
		}
	}
	return true;
}

/* Adds the shown form of what is whole in BYTES; *LEFT is the length of a cut last character. */
static int add_whole(struct buf *out, const char *bytes, size_t len, bool all, size_t *left)
{
	const unsigned char *s = (const unsigned char *)bytes;
	size_t plain = 0; /* start of the harmless run that is not added yet */
	size_t i = 0;
	*left = 0;
	while (i < len) {
		size_t n = sequence_len(s[i]);
		if (n > len - i && may_continue(s + i, len - i)) {
			*left = len - i;
			break;
		}
		bool good = n <= len - i && text_is_utf8(bytes + i, n);
		uint32_t point = good ? decode(s + i, n) : s[i];
		if (good && is_harmless(point) && !(all && is_unseen(point))) {
			i += n;
			continue;
		}
		int r = buf_add(out, bytes + plain, i - plain);
		if (r == 0) {
			r = add_escape(out, point, good);
		}
		if (r < 0) {
			return r;
		}
		i += good ? n : 1;
		plain = i;
	}
	return buf_add(out, bytes + plain, i - plain);
}

int terminal_filter_add(struct terminal_filter *f, struct buf *out, const char *bytes, size_t len)
{
	while (f->tail_len > 0 && len > 0) {
		size_t left;
		f->tail[f->tail_len++] = *bytes++;
		len--;
		int r = add_whole(out, f->tail, f->tail_len, f->all, &left);
		if (r < 0) {
			return r;
		}
		memmove(f->tail, f->tail + f->tail_len - left, left);
		f->tail_len = left;
	}
	size_t left;
	int r = add_whole(out, bytes, len, f->all, &left);
	if (r == 0 && left > 0) {
		memcpy(f->tail, bytes + len - left, left);
		f->tail_len = left;
	}
	return r;
}

int terminal_filter_end(struct terminal_filter *f, struct buf *out)
{
	for (size_t i = 0; i < f->tail_len; i++) {
		int r = buf_addf(out, "\\x%02x", (unsigned)(unsigned char)f->tail[i]);
		if (r < 0) {
			return r;
		}
	}
	f->tail_len = 0;
	return 0;
}

int terminal_escape(struct buf *out, const char *bytes, size_t len)
{
	struct terminal_filter f = {0};
	int r = terminal_filter_add(&f, out, bytes, len);
	return r < 0 ? r : terminal_filter_end(&f, out);
}

int terminal_escape_all(struct buf *out, const char *bytes, size_t len)
{
	struct terminal_filter f = {.all = true};
	int r = terminal_filter_add(&f, out, bytes, len);
	return r < 0 ? r : terminal_filter_end(&f, out);
}
