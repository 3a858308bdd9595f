#include "tools/events.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

void events_init(struct events *s, size_t max_bytes)
{
	*s = (struct events){.line = BUF_INIT(max_bytes), .data = BUF_INIT(max_bytes)};
}

void events_fini(struct events *s)
{
	buf_fini(&s->line);
	buf_fini(&s->data);
}

static void dispatch(struct events *s, events_fn fn, void *ctx)
{
	if (s->has_data) {
		fn(ctx, *s->name != '\0' ? s->name : "message", buf_str(&s->data), s->data.len);
	}
	buf_clear(&s->data);
	s->name[0] = '\0';
	s->has_data = false;
}

static int take_field(struct events *s, const char *field, size_t field_len, const char *value)
{
	if (field_len == 5 && memcmp(field, "event", 5) == 0) {
		(void)snprintf(s->name, sizeof(s->name), "%s", value);
	} else if (field_len == 4 && memcmp(field, "data", 4) == 0) {
		int r = s->has_data ? buf_add_char(&s->data, '\n') : 0;
		s->has_data = true;
		return r < 0 ? r : buf_add_str(&s->data, value);
	}
	return 0;
}

static int end_line(struct events *s, events_fn fn, void *ctx)
{
	int r = 0;
	if (s->line.len == 0) {
		dispatch(s, fn, ctx);
	} else if (s->line.data[0] != ':') {
		const char *colon = memchr(s->line.data, ':', s->line.len);
		size_t len = colon != NULL ? (size_t)(colon - s->line.data) : s->line.len;
		const char *value = colon != NULL ? colon + 1 + (colon[1] == ' ') : "";
		r = take_field(s, s->line.data, len, value);
	}
	buf_clear(&s->line);
	return r;
}

int events_add(struct events *s, const char *bytes, size_t len, events_fn fn, void *ctx)
{
	int r = 0;
	for (size_t i = 0; i < len && r == 0;) {
		if (s->after_cr && bytes[i] == '\n') {
			s->after_cr = false;
			i++;
			continue;
		}
		s->after_cr = false;
		size_t n = 0;
		while (i + n < len && bytes[i + n] != '\n' && bytes[i + n] != '\r') {
			n++;
		}
		r = buf_add(&s->line, bytes + i, n);
		i += n;
		if (r == 0 && i < len) {
			s->after_cr = bytes[i] == '\r';
			r = end_line(s, fn, ctx);
			i++;
		}
	}
	return r;
}
