/*
 * buf: a growing run of bytes with a maximum that is given at the start.
 *
 * Invariants: len <= max; data[len] is always a NUL when data is not NULL, so text may be read as a
 * C string (it may hold NULs of its own). A failed append leaves the contents as they were.
 *
 *     cleanup(buf_fini) struct buf b = BUF_INIT(1 << 20);
 *     if (buf_add(&b, bytes, n) < 0) ...
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stddef.h>

#include "base/compiler.h"

struct buf {
	char *data;
	size_t len;   /* bytes in use */
	size_t alloc; /* bytes allocated, the NUL's place included */
	size_t max;   /* most bytes it may ever hold, without the NUL */
};

#define BUF_INIT(max_bytes)        \
	(struct buf)               \
	{                          \
		.max = (max_bytes) \
	}

/* Frees the bytes; the struct may be used again with the same maximum. NULL is allowed. */
void buf_fini(struct buf *b);

/* Empties without freeing. */
void buf_clear(struct buf *b);

/* All of these return 0, -EMSGSIZE past the maximum, or -ENOMEM. */
int buf_add(struct buf *b, const void *bytes, size_t len);
int buf_add_str(struct buf *b, const char *text);
int buf_add_char(struct buf *b, char c);
int buf_addf(struct buf *b, const char *fmt, ...) printf_like(2, 3);

/* Makes room for LEN more bytes after the ones in use and returns the place, or NULL on -EMSGSIZE
 * or -ENOMEM. The caller writes there and then adds what it wrote to b->len with buf_grew(). */
char *buf_reserve(struct buf *b, size_t len);
void buf_grew(struct buf *b, size_t len);

/* Drops LEN bytes from the front. LEN <= b->len. */
void buf_drop(struct buf *b, size_t len);

/* As a C string, never NULL. Borrowed until the next change. */
const char *buf_str(const struct buf *b);

#endif
