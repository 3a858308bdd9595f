#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int err_set(struct err *e, enum err_code code, const char *fmt, ...)
{
	if (e == NULL) {
		return -1;
	}
	va_list args;
	va_start(args, fmt);
	e->code = code;
	e->os_errno = 0;
	(void)vsnprintf(e->text, sizeof(e->text), fmt, args);
	va_end(args);
	return -1;
}

int err_set_os(struct err *e, int os_errno, const char *fmt, ...)
{
	if (e == NULL) {
		return -1;
	}
	va_list args;
	va_start(args, fmt);
	int n = vsnprintf(e->text, sizeof(e->text), fmt, args);
	va_end(args);
	if (n >= 0 && (size_t)n < sizeof(e->text)) {
		(void)snprintf(e->text + n, sizeof(e->text) - (size_t)n, ": %s",
		    strerrordesc_np(os_errno) ? strerrordesc_np(os_errno) : "unknown error");
	}
	e->code = ERR_INTERNAL;
	e->os_errno = os_errno;
	return -1;
}

int err_prefix(struct err *e, const char *fmt, ...)
{
	if (e == NULL) {
		return -1;
	}
	char tail[sizeof(e->text)];
	memcpy(tail, e->text, sizeof(tail));
	va_list args;
	va_start(args, fmt);
	int n = vsnprintf(e->text, sizeof(e->text), fmt, args);
	va_end(args);
	if (n >= 0 && (size_t)n < sizeof(e->text)) {
		size_t left = sizeof(e->text) - (size_t)n;
		(void)snprintf(e->text + n, left, ": %.*s", (int)left, tail);
	}
	return -1;
}
