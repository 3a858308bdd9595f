#include "base/log.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/text.h"

#define LOG_LINE_MAX_BYTES 8192

static const char *const level_names[] = {
    [LOG_LEVEL_ERROR] = "error",
    [LOG_LEVEL_WARNING] = "warning",
    [LOG_LEVEL_INFO] = "info",
    [LOG_LEVEL_DEBUG] = "debug",
};

static enum log_level threshold = LOG_LEVEL_INFO;
static const char *process_name = "carrel";

void log_set_level(enum log_level level)
{
	threshold = level;
}

int log_level_parse(const char *text, enum log_level *level)
{
	for (size_t i = 0; i < array_len(level_names); i++) {
		if (strcmp(text, level_names[i]) == 0) {
			*level = (enum log_level)i;
			return 0;
		}
	}
	return -EINVAL;
}

void log_set_process(const char *name)
{
	process_name = name;
}

/* Writes TEXT between quotes; bytes that JSON does not take as they are become escapes. */
static void add_quoted(struct buf *line, const char *text)
{
	bool well_formed = text_is_utf8(text, strlen(text));
	(void)buf_add_char(line, '"');
	for (const unsigned char *c = (const unsigned char *)text; *c != '\0'; c++) {
		if (*c == '"' || *c == '\\') {
			(void)buf_addf(line, "\\%c", *c);
		} else if (*c < 0x20 || *c == 0x7f || (*c > 0x7f && !well_formed)) {
			(void)buf_addf(line, "\\u%04x", (unsigned)*c);
		} else {
			(void)buf_add_char(line, (char)*c);
		}
	}
	(void)buf_add_char(line, '"');
}

void log_fields(enum log_level level, const char *event, const struct log_field *fields, int count)
{
	if (level > threshold) {
		return;
	}
	int saved = errno;
	char when[CLOCK_RFC3339_BYTES];
	cleanup(buf_fini) struct buf line = BUF_INIT(LOG_LINE_MAX_BYTES);
	(void)buf_addf(&line,
	    "{\"time\":\"%s\",\"level\":\"%s\",\"process\":\"%s\",\"event\":\"%s\"",
	    clock_rfc3339(clock_wall_us(), 3, when), level_names[level], process_name, event);
	for (int i = 0; i < count; i++) {
		size_t before = line.len;
		(void)buf_addf(&line, ",\"%s\":", fields[i].key);
		if (fields[i].text == NULL) {
			(void)buf_addf(&line, "%lld", (long long)fields[i].number);
		} else {
			add_quoted(&line, fields[i].text);
		}
		/* A field that did not fit whole is left out whole, so the line stays JSON. */
		if (line.len + 2 >= line.max) {
			line.len = before;
			break;
		}
	}
	(void)buf_add_str(&line, "}\n");
	(void)fd_write_all(STDERR_FILENO, buf_str(&line), line.len);
	errno = saved;
}
