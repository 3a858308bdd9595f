/* range: the Range header of a request for bytes (RFC 9110, 14.1.2). Pure. */
#ifndef HTTP_RANGE_H
#define HTTP_RANGE_H

#include <stdint.h>

struct range {
	uint64_t first, len;
};

enum range_kind {
	RANGE_NONE,    /* all of it: no header, one that is not understood, or several ranges */
	RANGE_ONE,     /* *OUT is within SIZE */
	RANGE_OUTSIDE, /* 416 */
};

/* HEADER may be NULL. *OUT is touched for RANGE_ONE only. */
enum range_kind range_parse(const char *header, uint64_t size, struct range *out);

#endif
