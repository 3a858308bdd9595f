#include "http/range.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "base/text.h"

/* Digits that need not end the text. A number past UINT64_MAX is as good as the largest. -EINVAL
 * without a digit. */
static int number(const char **at, uint64_t *out)
{
	char digits[32];
	size_t n = strspn(*at, "0123456789");
	if (n == 0) {
		return -EINVAL;
	}
	*out = UINT64_MAX;
	if (n < sizeof(digits)) {
		memcpy(digits, *at, n);
		digits[n] = '\0';
		(void)text_to_u64(digits, UINT64_MAX, out); /* -ERANGE leaves it */
	}
	*at += n;
	return 0;
}

/* "-N": the last N bytes. */
static enum range_kind suffix(const char *at, uint64_t size, struct range *out)
{
	uint64_t n;
	if (number(&at, &n) < 0 || *at != '\0') {
		return RANGE_NONE;
	}
	if (n == 0 || size == 0) {
		return RANGE_OUTSIDE;
	}
	n = n < size ? n : size;
	*out = (struct range){.first = size - n, .len = n};
	return RANGE_ONE;
}

enum range_kind range_parse(const char *header, uint64_t size, struct range *out)
{
	if (header == NULL || strncasecmp(header, "bytes=", 6) != 0) {
		return RANGE_NONE;
	}
	const char *at = header + 6;
	at += strspn(at, " \t");
	if (*at == '-') {
		return suffix(at + 1, size, out);
	}
	uint64_t first;
	uint64_t last = UINT64_MAX;
	if (number(&at, &first) < 0 || *at++ != '-') {
		return RANGE_NONE;
	}
	if (*at != '\0' && (number(&at, &last) < 0 || *at != '\0' || last < first)) {
		return RANGE_NONE;
	}
	if (first >= size) {
		return RANGE_OUTSIDE;
	}
	last = last < size ? last : size - 1;
	*out = (struct range){.first = first, .len = last - first + 1};
	return RANGE_ONE;
}
