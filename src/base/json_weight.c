#include "base/json_weight.h"

/* Of jansson 2.14 over glibc's malloc on 64 bits: an empty object has a table of eight buckets, an
 * empty list room for eight items. */
#define OBJECT_BYTES 272
#define ARRAY_BYTES 136
#define MEMBER_BYTES 96 /* without its value */
#define ITEM_BYTES 48

/* Where the string that begins at AT ends. */
static size_t skip_string(const char *text, size_t len, size_t at)
{
	for (at++; at < len && text[at] != '"'; at++) {
		at += text[at] == '\\';
	}
	return at;
}

size_t json_weight(const char *text, size_t len)
{
	size_t weight = len;
	for (size_t i = 0; i < len; i++) {
		switch (text[i]) {
		case '"':
			i = skip_string(text, len, i);
			break;
		case '{':
			weight += OBJECT_BYTES;
			break;
		case '[':
			weight += ARRAY_BYTES;
			break;
		case ':':
			weight += MEMBER_BYTES;
			break;
		case ',':
			weight += ITEM_BYTES;
			break;
		default:
			break;
		}
	}
	return weight;
}
