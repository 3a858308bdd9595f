/* The few compiler attributes this project uses, spelt once. Everything else is plain gnu2x. */
#ifndef BASE_COMPILER_H
#define BASE_COMPILER_H

#include <stddef.h>

/* Runs FN(&variable) when the variable leaves its scope, on every path. */
#define cleanup(fn) __attribute__((cleanup(fn)))
#define printf_like(fmt_at, args_at) __attribute__((format(printf, fmt_at, args_at)))
#define array_len(a) (sizeof(a) / sizeof((a)[0]))
/* The struct of type TYPE whose member MEMBER is at PTR. */
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))
/* Takes the value out of a pointer, leaving NULL: ownership moves to the caller. */
#define steal(pp)                                 \
	({                                        \
		__typeof__(*(pp)) taken_ = *(pp); \
		*(pp) = NULL;                     \
		taken_;                           \
	})

#endif
