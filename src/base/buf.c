#include "base/buf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BUF_FIRST_BYTES 256

void buf_fini(struct buf *b)
{
	if (b == NULL) {
		return;
	}
	free(b->data);
	b->data = NULL;
	b->len = 0;
	b->alloc = 0;
}

void buf_clear(struct buf *b)
{
	b->len = 0;
	if (b->data != NULL) {
		b->data[0] = '\0';
	}
}

static int grow(struct buf *b, size_t more)
{
	if (more > b->max || b->len > b->max - more) {
		return -EMSGSIZE;
	}
	size_t need = b->len + more + 1;
	if (need <= b->alloc) {
		return 0;
	}
	size_t alloc = b->alloc < BUF_FIRST_BYTES ? BUF_FIRST_BYTES : b->alloc;
	while (alloc < need) {
		alloc += alloc / 2;
	}
	if (alloc > b->max + 1) {
		alloc = b->max + 1;
	}
	char *data = realloc(b->data, alloc);
	if (data == NULL) {
		return -ENOMEM;
	}
	b->data = data;
	b->alloc = alloc;
	b->data[b->len] = '\0'; /* also of one that nobody has added to yet */
	return 0;
}

char *buf_reserve(struct buf *b, size_t len)
{
	if (grow(b, len) < 0) {
		return NULL;
	}
	return b->data + b->len;
}

void buf_grew(struct buf *b, size_t len)
{
	b->len += len;
	b->data[b->len] = '\0';
}

int buf_add(struct buf *b, const void *bytes, size_t len)
{
	int r = grow(b, len);
	if (r < 0) {
		return r;
	}
	if (len > 0) {
		memcpy(b->data + b->len, bytes, len);
	}
	buf_grew(b, len);
	return 0;
}

int buf_add_str(struct buf *b, const char *text)
{
	return buf_add(b, text, strlen(text));
}

int buf_add_char(struct buf *b, char c)
{
	return buf_add(b, &c, 1);
}

int buf_addf(struct buf *b, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	int n = vsnprintf(NULL, 0, fmt, args);
	va_end(args);
	if (n < 0) {
		return -EINVAL;
	}
	int r = grow(b, (size_t)n);
	if (r < 0) {
		return r;
	}
	va_start(args, fmt);
	(void)vsnprintf(b->data + b->len, (size_t)n + 1, fmt, args);
	va_end(args);
	b->len += (size_t)n;
	return 0;
}

void buf_drop(struct buf *b, size_t len)
{
	if (len == 0) {
		return;
	}
	memmove(b->data, b->data + len, b->len - len);
	b->len -= len;
	b->data[b->len] = '\0';
}

const char *buf_str(const struct buf *b)
{
	return b->data == NULL ? "" : b->data;
}
