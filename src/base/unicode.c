#include "base/unicode.h"

#include "base/compiler.h"

size_t unicode_decode(const char *bytes, size_t len, uint32_t *cp)
{
	const unsigned char *s = (const unsigned char *)bytes;
	if (len == 0) {
		return 0;
	}
	if (s[0] < 0x80) {
		*cp = s[0];
		return 1;
	}
	if (s[0] < 0xc2 || s[0] > 0xf4) {
		return 0;
	}
	size_t n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
	if (len < n) {
		return 0;
	}
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	uint32_t value = s[0] & (0x7fU >> n);
	for (size_t i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80) {
			return 0;
		}
		value = value << 6 | (s[i] & 0x3fU);
	}
	if (value < least[n] || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff)) {
		return 0;
	}
	*cp = value;
	return n;
}

bool unicode_is_printable(uint32_t cp)
{
	static const struct {
		uint32_t first;
		uint32_t last;
	} hidden[] = {
	    {0x0000, 0x001f},
	    {0x007f, 0x00a0},
	    {0x00ad, 0x00ad},
	    {0x0600, 0x0605},
	    {0x061c, 0x061c},
	    {0x06dd, 0x06dd},
	    {0x070f, 0x070f},
	    {0x1680, 0x1680},
	    {0x180e, 0x180e},
	    {0x2000, 0x200f},
	    {0x2028, 0x202f},
	    {0x205f, 0x206f},
	    {0x3000, 0x3000},
	    {0xd800, 0xf8ff},
	    {0xfdd0, 0xfdef},
	    {0xfeff, 0xfeff},
	    {0xfff0, 0xfffb},
	    {0xfffe, 0xffff},
	    {0x1bca0, 0x1bca3},
	    {0x1d173, 0x1d17a},
	    {0xe0000, 0x10ffff},
	};
	for (size_t i = 0; i < array_len(hidden); i++) {
		if (cp >= hidden[i].first && cp <= hidden[i].last) {
			return false;
		}
	}
	return true;
}

size_t unicode_whole(const char *bytes, size_t len)
{
	const unsigned char *s = (const unsigned char *)bytes;
	for (size_t back = 1; back <= 3 && back <= len; back++) {
		unsigned char c = s[len - back];
		if ((c & 0xc0) == 0x80) {
			continue;
		}
		size_t need = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 1;
		return need > back ? len - back : len;
	}
	return len;
}
