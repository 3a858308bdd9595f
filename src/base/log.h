/*
 * log: one structured line an event, as JSON on stderr, with milliseconds.
 *
 *     log_event(LOG_LEVEL_INFO, "session_assigned", LOG_STR("pool", name), LOG_INT("ms", ms));
 *
 * Never a token, never user code. A function logs or returns an error, not both; the rooms below
 * the processes' mains do not log above debug.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdint.h>

#include "base/compiler.h"

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARNING,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG,
};

struct log_field {
	const char *key;
	const char *text; /* NULL: the field is the number */
	int64_t number;
};

#define LOG_STR(k, v) ((struct log_field){.key = (k), .text = (v) != NULL ? (v) : ""})
#define LOG_INT(k, v) ((struct log_field){.key = (k), .number = (int64_t)(v)})

/* Events above LEVEL are dropped. Starts at LOG_LEVEL_INFO. */
void log_set_level(enum log_level level);

/* "error", "warning", "info", "debug" to *LEVEL: 0, or -EINVAL. */
int log_level_parse(const char *text, enum log_level *level);

/* Every line carries "process":NAME from now on. NAME is borrowed for good. */
void log_set_process(const char *name);

void log_fields(enum log_level level, const char *event, const struct log_field *fields, int count);

#define log_event(level, event, ...)                                                     \
	log_fields((level), (event), (const struct log_field[]){{0}, ##__VA_ARGS__} + 1, \
	    (int)(sizeof((const struct log_field[]){{0}, ##__VA_ARGS__}) /               \
		  sizeof(struct log_field)) -                                            \
		1)

#endif
