#include "base/event_stream.h"

#include <stdio.h>
#include <string.h>

void event_stream_init(struct event_stream *s, size_t max_bytes)
{
	*s = (struct event_stream){.line = BUF_INIT(max_bytes), .data = BUF_INIT(max_bytes)};
}

void event_stream_fini(struct event_stream *s)
{
	if (s == NULL) {
		return;
	}
	buf_fini(&s->line);
	buf_fini(&s->data);
}

static int dispatch(struct event_stream *s, event_stream_fn *on_event, void *arg)
{
	int r = 0;
	if (s->data.len > 0) {
		s->data.len--; /* the LF after the last data line is not part of the data */
		s->data.data[s->data.len] = '\0';
		r = on_event(
		    arg, s->name[0] != '\0' ? s->name : "message", s->data.data, s->data.len);
	}
	buf_clear(&s->data);
	s->name[0] = '\0';
	return r;
}

static bool field_is(const char *line, size_t name_len, const char *field)
{
	return strlen(field) == name_len && memcmp(line, field, name_len) == 0;
}

static int take_line(struct event_stream *s, event_stream_fn *on_event, void *arg)
{
	const char *line = buf_str(&s->line);
	size_t len = s->line.len;
	if (!s->past_first_line && len >= 3 && memcmp(line, "\xef\xbb\xbf", 3) == 0) {
		line += 3;
		len -= 3;
	}
	s->past_first_line = true;
	if (len == 0) {
		return dispatch(s, on_event, arg);
	}
	const char *colon = memchr(line, ':', len);
	size_t name_len = colon == NULL ? len : (size_t)(colon - line);
	const char *value = colon == NULL ? line + len : colon + 1;
	size_t value_len = len - (size_t)(value - line);
	if (value_len > 0 && *value == ' ') {
		value++;
		value_len--;
	}
	if (field_is(line, name_len, "data")) {
		int r = buf_add(&s->data, value, value_len);
		return r < 0 ? r : buf_add_char(&s->data, '\n');
	}
	if (field_is(line, name_len, "event")) {
		(void)snprintf(s->name, sizeof(s->name), "%.*s",
		    (int)(value_len < sizeof(s->name) ? value_len : sizeof(s->name)), value);
	}
	return 0;
}

int event_stream_feed(
    struct event_stream *s, const char *bytes, size_t len, event_stream_fn *on_event, void *arg)
{
	const char *end = bytes + len;
	while (bytes < end) {
		if (s->after_cr && *bytes == '\n') {
			bytes++;
			s->after_cr = false;
			continue;
		}
		s->after_cr = false;
		const char *stop = bytes;
		while (stop < end && *stop != '\n' && *stop != '\r') {
			stop++;
		}
		int r = buf_add(&s->line, bytes, (size_t)(stop - bytes));
		if (r < 0) {
			return r;
		}
		if (stop == end) {
			return 0;
		}
		s->after_cr = *stop == '\r';
		bytes = stop + 1;
		r = take_line(s, on_event, arg);
		if (r != 0) {
			return r;
		}
		buf_clear(&s->line);
	}
	return 0;
}
