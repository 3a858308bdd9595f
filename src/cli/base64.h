/* base64: decoding of the standard alphabet (RFC 4648, 4), as images travel in. */
#ifndef CLI_BASE64_H
#define CLI_BASE64_H

#include <stddef.h>

#include "base/buf.h"

/* Adds the bytes TEXT stands for to OUT. White space is read over, the padding may be missing. 0,
 * -EINVAL for anything else, or as buf_add; OUT may then hold a part. */
int base64_decode(struct buf *out, const char *text, size_t len);

#endif
