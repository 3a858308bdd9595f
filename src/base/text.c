#include "base/text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

void text_free(char **p)
{
	free(*p);
	*p = NULL;
}

int text_to_u64(const char *text, uint64_t max, uint64_t *out)
{
	if (*text == '\0') {
		return -EINVAL;
	}
	uint64_t value = 0;
	for (const char *c = text; *c != '\0'; c++) {
		if (*c < '0' || *c > '9') {
			return -EINVAL;
		}
		if (__builtin_mul_overflow(value, 10, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(*c - '0'), &value)) {
			return -ERANGE;
		}
	}
	if (value > max) {
		return -ERANGE;
	}
	*out = value;
	return 0;
}

int text_to_bytes(const char *text, uint64_t *out)
{
	static const struct {
		char letter;
		unsigned shift;
	} units[] = {{'k', 10}, {'m', 20}, {'g', 30}, {'t', 40}};
	char digits[24];
	size_t n = strspn(text, "0123456789");
	if (n == 0 || n >= sizeof(digits)) {
		return -EINVAL;
	}
	memcpy(digits, text, n);
	digits[n] = '\0';
	const char *suffix = text + n;
	unsigned shift = 0;
	for (size_t i = 0; i < array_len(units); i++) {
		if ((*suffix | 0x20) == units[i].letter) {
			shift = units[i].shift;
			suffix++;
			break;
		}
	}
	if (*suffix != '\0' && strcasecmp(suffix, "b") != 0 && strcasecmp(suffix, "ib") != 0) {
		return -EINVAL;
	}
	uint64_t value;
	int r = text_to_u64(digits, UINT64_MAX >> shift, &value);
	if (r < 0) {
		return r;
	}
	*out = value << shift;
	return 0;
}

void text_hex(char *out, const unsigned char *bytes, size_t len)
{
	static const char digits[] = "0123456789abcdef";
	for (size_t i = 0; i < len; i++) {
		out[2 * i] = digits[bytes[i] >> 4];
		out[2 * i + 1] = digits[bytes[i] & 15];
	}
	out[2 * len] = '\0';
}

bool text_is_hex(const char *text, size_t digits)
{
	return strspn(text, "0123456789abcdef") == digits && text[digits] == '\0';
}

bool text_has_prefix(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

bool text_has_suffix(const char *text, const char *suffix)
{
	size_t n = strlen(text);
	size_t m = strlen(suffix);
	return n >= m && strcmp(text + n - m, suffix) == 0;
}

bool text_equal_constant_time(const void *a, const void *b, size_t len)
{
	const volatile unsigned char *x = a;
	const volatile unsigned char *y = b;
	unsigned char differ = 0;
	for (size_t i = 0; i < len; i++) {
		differ |= (unsigned char)(x[i] ^ y[i]);
	}
	return differ == 0;
}

/* Length of the well-formed UTF-8 sequence at BYTES, or 0 (Unicode 15, table 3-7). */
static size_t utf8_sequence(const unsigned char *s, size_t len)
{
	if (s[0] < 0x80) {
		return 1;
	}
	size_t n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
	if (s[0] < 0xc2 || s[0] > 0xf4 || len < n) {
		return 0;
	}
	unsigned char low = s[0] == 0xe0 ? 0xa0 : s[0] == 0xf0 ? 0x90 : 0x80;
	unsigned char high = s[0] == 0xed ? 0x9f : s[0] == 0xf4 ? 0x8f : 0xbf;
	if (s[1] < low || s[1] > high) {
		return 0;
	}
	for (size_t i = 2; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80) {
			return 0;
		}
	}
	return n;
}

bool text_is_utf8(const char *bytes, size_t len)
{
	const unsigned char *s = (const unsigned char *)bytes;
	for (size_t i = 0; i < len;) {
		size_t n = utf8_sequence(s + i, len - i);
		if (n == 0) {
			return false;
		}
		i += n;
	}
	return true;
}

int text_add_utf8_lossy(struct buf *out, const char *bytes, size_t len)
{
	const unsigned char *s = (const unsigned char *)bytes;
	size_t good = 0; /* start of the well-formed run that is not added yet */
	for (size_t i = 0; i < len;) {
		size_t n = utf8_sequence(s + i, len - i);
		if (n > 0) {
			i += n;
			continue;
		}
		int r = buf_add(out, bytes + good, i - good);
		if (r == 0) {
			r = buf_add_str(out, "\xef\xbf\xbd");
		}
		if (r < 0) {
			return r;
		}
		good = ++i;
	}
	return buf_add(out, bytes + good, len - good);
}

char *text_guid(char out[TEXT_GUID_BYTES])
{
	unsigned char r[16];
	if (getrandom(r, sizeof(r), 0) != sizeof(r)) {
		abort(); /* cannot fail for 16 bytes once the kernel's pool is ready */
	}
	r[6] = (unsigned char)((r[6] & 0x0f) | 0x40);
	r[8] = (unsigned char)((r[8] & 0x3f) | 0x80);
	static const unsigned char parts[] = {4, 2, 2, 2, 6}; /* RFC 9562 */
	const unsigned char *at = r;
	char *to = out;
	for (size_t i = 0; i < array_len(parts); i++) {
		text_hex(to, at, parts[i]);
		at += parts[i];
		to += 2 * parts[i];
		*to++ = '-';
	}
	to[-1] = '\0';
	return out;
}
