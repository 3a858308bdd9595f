/* unicode: questions about code points in UTF-8 text. No tables beyond a few ranges, no locale. */
#ifndef BASE_UNICODE_H
#define BASE_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Reads the code point at BYTES into *CP: its length, 1 to 4, or 0 when there is no well-formed
 * sequence there (*CP is then untouched). */
size_t unicode_decode(const char *bytes, size_t len, uint32_t *cp);

/* False for controls, spaces other than U+0020, separators, invisible and direction-changing format
 * characters, surrogates, private use and noncharacters. Unassigned code points count as printable,
 * which needs no table that ages. */
bool unicode_is_printable(uint32_t cp);

/* How many of the LEN bytes are left when a sequence that the end cuts short is left out. */
size_t unicode_whole(const char *bytes, size_t len);

#endif
