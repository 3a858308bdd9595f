/* base64: RFC 4648, section 4. */
#ifndef BASE_BASE64_H
#define BASE_BASE64_H

#include <stddef.h>

#include "base/buf.h"

/* Adds the encoding of BYTES, padded and without line breaks. As buf_add. */
int base64_encode(const char *bytes, size_t len, struct buf *out);

/* Adds the decoding of TEXT. Strict: the length is a multiple of four, nothing but the alphabet and
 * at most two '=' at the end, no bits left over. As buf_add, or -EINVAL. */
int base64_decode(const char *text, size_t len, struct buf *out);

#endif
