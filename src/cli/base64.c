#include "cli/base64.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

/* The six bits of a character, or -1. */
static int bits_of(char c)
{
	if (c >= 'A' && c <= 'Z') {
		return c - 'A';
	}
	if (c >= 'a' && c <= 'z') {
		return c - 'a' + 26;
	}
	if (c >= '0' && c <= '9') {
		return c - '0' + 52;
	}
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* What comes after the last character with bits: padding and white space only. */
static int check_rest(const char *text, size_t len)
{
	size_t padding = 0;
	for (size_t i = 0; i < len; i++) {
		padding += text[i] == '=';
		if (text[i] == '\0' || strchr("= \t\r\n", text[i]) == NULL) {
			return -EINVAL;
		}
	}
	return padding <= 2 ? 0 : -EINVAL;
}

int base64_decode(struct buf *out, const char *text, size_t len)
{
	char *room = buf_reserve(out, len / 4 * 3 + 3);
	if (room == NULL) {
		return out->max - out->len < len / 4 * 3 + 3 ? -EMSGSIZE : -ENOMEM;
	}
	size_t made = 0;
	uint32_t held = 0;
	unsigned held_bits = 0;
	size_t i = 0;
	for (; i < len && text[i] != '='; i++) {
		if (text[i] != '\0' && strchr(" \t\r\n", text[i]) != NULL) {
			continue;
		}
		int bits = bits_of(text[i]);
		if (bits < 0) {
			return -EINVAL;
		}
		held = (held << 6 | (uint32_t)bits) & 0xfffff;
		held_bits += 6;
		if (held_bits >= 8) {
			held_bits -= 8;
			room[made++] = (char)(held >> held_bits & 0xff);
		}
	}
	if (held_bits == 6 || check_rest(text + i, len - i) < 0) {
		return -EINVAL; /* one character alone makes no byte */
	}
	buf_grew(out, made);
	return 0;
}
