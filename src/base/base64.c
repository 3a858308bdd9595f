#include "base/base64.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

int base64_encode(const char *bytes, size_t len, struct buf *out)
{
	const unsigned char *s = (const unsigned char *)bytes;
	if (len > SIZE_MAX / 2) {
		return -EMSGSIZE;
	}
	size_t need = (len + 2) / 3 * 4;
	char *to = buf_reserve(out, need);
	if (to == NULL) {
		return -EMSGSIZE;
	}
	for (size_t i = 0; i < len; i += 3) {
		size_t n = len - i < 3 ? len - i : 3;
		uint32_t group = (uint32_t)s[i] << 16 | (n > 1 ? (uint32_t)s[i + 1] << 8 : 0) |
				 (n > 2 ? s[i + 2] : 0);
		*to++ = alphabet[group >> 18];
		*to++ = alphabet[group >> 12 & 63];
		*to++ = n > 1 ? alphabet[group >> 6 & 63] : '=';
		*to++ = n > 2 ? alphabet[group & 63] : '=';
	}
	buf_grew(out, need);
	return 0;
}

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

/* One group of four, of which PAD are padding: 0 with 3 - PAD bytes in OUT, or -EINVAL. */
static int decode_group(const char *text, size_t pad, char out[3])
{
	uint32_t group = 0;
	for (size_t i = 0; i < 4; i++) {
		int bits = i < 4 - pad ? bits_of(text[i]) : 0;
		if (bits < 0) {
			return -EINVAL;
		}
		group = group << 6 | (uint32_t)bits;
	}
	if ((pad == 1 && (group & 0xff) != 0) || (pad == 2 && (group & 0xffff) != 0)) {
		return -EINVAL;
	}
	out[0] = (char)(group >> 16);
	out[1] = (char)(group >> 8 & 0xff);
	out[2] = (char)(group & 0xff);
	return 0;
}

int base64_decode(const char *text, size_t len, struct buf *out)
{
	if (len % 4 != 0) {
		return -EINVAL;
	}
	for (size_t i = 0; i < len; i += 4) {
		size_t pad = 0;
		if (i + 4 == len) {
			pad = text[i + 3] != '=' ? 0 : text[i + 2] != '=' ? 1 : 2;
		}
		char bytes[3];
		int r = decode_group(text + i, pad, bytes);
		if (r == 0) {
			r = buf_add(out, bytes, 3 - pad);
		}
		if (r < 0) {
			return r;
		}
	}
	return 0;
}
