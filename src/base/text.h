/* text: small questions about bytes and strings. No allocation unless the name says so. */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/* Frees *P and leaves NULL. For cleanup() on `char *`. */
void text_free(char **p);

/* Whole decimal number without sign, space or rest. 0, -EINVAL, or -ERANGE past MAX. */
int text_to_u64(const char *text, uint64_t max, uint64_t *out);

/* A size with an optional suffix k, m, g (powers of 1024; upper or lower case, "b" or "ib" may
 * follow): "64m", "2GiB", "4096". 0, -EINVAL or -ERANGE. */
int text_to_bytes(const char *text, uint64_t *out);

/* LEN bytes as 2 * LEN hexadecimal digits in lower case and a NUL, to OUT. */
void text_hex(char *out, const unsigned char *bytes, size_t len);

/* True when TEXT is DIGITS hexadecimal digits in lower case and nothing else. */
bool text_is_hex(const char *text, size_t digits);

bool text_has_prefix(const char *text, const char *prefix);
bool text_has_suffix(const char *text, const char *suffix);

/* Compares LEN bytes in a time that does not depend on where they differ. */
bool text_equal_constant_time(const void *a, const void *b, size_t len);

/* True when the bytes are well-formed UTF-8 (no surrogates, no overlong forms). */
bool text_is_utf8(const char *bytes, size_t len);

/* Adds BYTES to OUT with each ill-formed sequence replaced by U+FFFD. As buf_add. */
int text_add_utf8_lossy(struct buf *out, const char *bytes, size_t len);

#define TEXT_GUID_BYTES 37

/* A random (version 4) UUID in lower case. OUT is returned. */
char *text_guid(char out[TEXT_GUID_BYTES]);

#endif
