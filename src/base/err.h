/*
 * err: a reason that reaches a user.
 *
 * Leaf functions return 0 or -errno. An operation whose reason somebody will read takes a
 * `struct err *` last and returns `err_set(...)`, which is -1. The struct is the caller's, of fixed
 * size, and never allocates. Success leaves it untouched; failure leaves every other output
 * untouched. A NULL `struct err *` is allowed and drops the text.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include "base/compiler.h"

/* What went wrong, in the terms of the one who asked. The dialects map these to their own codes. */
enum err_code {
	ERR_NONE = 0,
	ERR_INVALID,     /* the request or the configuration is not well formed */
	ERR_NOT_FOUND,   /* the thing named does not exist */
	ERR_CONFLICT,    /* it exists in a state that does not allow this */
	ERR_TOO_LARGE,   /* past a limit on size */
	ERR_BUSY,        /* past a limit on number; may succeed later */
	ERR_UNSUPPORTED, /* understood, but not offered here */
	ERR_DENIED,      /* the caller may not do this */
	ERR_TIMEOUT,     /* it took longer than it may */
	ERR_GONE,        /* the session ended under the request */
	ERR_UNAVAILABLE, /* the server is stopping, or a part of it is not there */
	ERR_UNSURE,      /* it was begun, and nobody knows whether it was done */
	ERR_INTERNAL,    /* ours */
};

struct err {
	enum err_code code;
	int os_errno; /* 0 where no system call was the cause */
	char text[512];
};

/* Sets *e and returns -1, so that `return err_set(...)` is the whole error path. */
int err_set(struct err *e, enum err_code code, const char *fmt, ...) printf_like(3, 4);

/* The same for a failed system call: ERR_INTERNAL, and ": <reason>" is added. OS_ERRNO > 0. */
int err_set_os(struct err *e, int os_errno, const char *fmt, ...) printf_like(3, 4);

/* Puts "<prefix>: " before the text of an error that is already set; returns -1. */
int err_prefix(struct err *e, const char *fmt, ...) printf_like(2, 3);

#endif
