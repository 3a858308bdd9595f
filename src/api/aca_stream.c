#include "api/aca_stream.h"

#include <stdlib.h>
#include <string.h>

#include "base/json_text.h"
#include "base/unicode.h"
#include "engine/outcome.h"

#define CHUNK_BYTES 16384U /* of output in one event */

struct stream {
	struct call_source source;
	struct execution *x;
	struct execution_observer observer;
	struct aca_format format;
	bool abandon_when_gone;
	bool ended;       /* the result event has been made */
	bool still;       /* told that nothing changed, and has not said so */
	size_t known;     /* how much there was when it was last told */
	size_t run;       /* the run being sent */
	size_t at[2];     /* bytes sent of stdout and stderr */
	struct buf event; /* being sent */
	size_t event_at;
};

/* Takes over DATA. */
static void set_event(struct stream *s, const char *name, json_t *data)
{
	buf_clear(&s->event);
	s->event_at = 0;
	(void)buf_addf(&s->event, "event: %s\ndata: ", name);
	if (json_text_add_tree(&s->event, data) < 0) {
		(void)buf_add_str(&s->event, "{}");
	}
	(void)buf_add_str(&s->event, "\n\n");
	json_decref(data);
}

/* An event with what may be sent of KIND up to END; without WHOLE even a cut sequence is sent.
 * False when there is nothing. */
static bool set_text(struct stream *s, enum output_kind kind, size_t end, bool whole)
{
	const struct buf *b = kind == OUTPUT_STDOUT ? &s->x->out : &s->x->err;
	size_t *at = &s->at[kind];
	size_t len = end > *at ? end - *at : 0;
	if (len > CHUNK_BYTES) {
		len = CHUNK_BYTES;
	}
	if (whole || len == CHUNK_BYTES) {
		len = unicode_whole(buf_str(b) + *at, len);
	}
	if (len == 0) {
		return false;
	}
	set_event(s, kind == OUTPUT_STDOUT ? "stdout" : "stderr",
	    json_pack("{s:o}", "text", aca_string(buf_str(b) + *at, len)));
	*at += len;
	return true;
}

/* The next event of the output; false when all there is has been sent. */
static bool next_output(struct stream *s)
{
	while (s->run < s->x->run_count) {
		const struct output_run *r = &s->x->runs[s->run];
		if (r->kind == OUTPUT_DISPLAY) {
			s->run++;
			set_event(s, "display", outcome_display(s->x->displays[r->start]));
			return true;
		}
		if (set_text(s, r->kind, r->start + r->len, true)) {
			return true;
		}
		if (s->run + 1 == s->x->run_count) {
			return false; /* the last run may still grow */
		}
		s->run++;
	}
	return false;
}

/* A comment, which clients pass over and proxies count as life. */
static bool set_comment(struct stream *s)
{
	if (!s->still) {
		return false;
	}
	s->still = false;
	buf_clear(&s->event);
	s->event_at = 0;
	return buf_add_str(&s->event, ": still running\n\n") == 0;
}

/* Makes the next event: false when there is none yet, or none any more. */
static bool next_event(struct stream *s)
{
	if (s->ended) {
		return false;
	}
	if (next_output(s)) {
		return true;
	}
	if (!execution_is_final(s->x)) {
		return set_comment(s);
	}
	if (set_text(s, OUTPUT_STDOUT, s->x->out.len, false) ||
	    set_text(s, OUTPUT_STDERR, s->x->err.len, false)) {
		return true;
	}
	s->ended = true;
	set_event(s, "result", aca_reply_execution(s->x, &s->format));
	return true;
}

static ssize_t stream_read(struct call_source *source, char *out, size_t max)
{
	struct stream *s = container_of(source, struct stream, source);
	if (s->event_at == s->event.len && !next_event(s)) {
		return s->ended ? -1 : 0;
	}
	size_t len = s->event.len - s->event_at;
	if (len > max) {
		len = max;
	}
	memcpy(out, s->event.data + s->event_at, len);
	s->event_at += len;
	return (ssize_t)len;
}

static void stream_close(struct call_source *source)
{
	struct stream *s = container_of(source, struct stream, source);
	execution_unobserve(s->x, &s->observer);
	if (s->abandon_when_gone) {
		engine_abandon(s->x);
	}
	execution_unref(s->x);
	buf_fini(&s->event);
	free(s);
}

static void stream_notify(void *ctx, struct execution *x)
{
	struct stream *s = ctx;
	size_t now = x->out.len + x->err.len + x->display_count;
	s->still = now == s->known;
	s->known = now;
	call_wake(s->source.call);
}

bool aca_stream_wanted(struct call *c)
{
	const char *accept = call_header(c, "Accept");
	return accept != NULL && strcasestr(accept, "text/event-stream") != NULL;
}

void aca_stream_reply(
    struct call *c, struct execution *x, const struct aca_format *f, bool abandon_when_gone)
{
	struct stream *s = calloc(1, sizeof(*s));
	if (s == NULL) {
		struct aca_problem p;
		(void)aca_problem(&p, ACA_INTERNAL, NULL, "out of memory");
		engine_cancel(x);
		execution_unref(x);
		aca_fail(c, &p);
		return;
	}
	*s = (struct stream){
	    .source = {.read = stream_read, .close = stream_close, .call = c},
	    .x = x,
	    .format = *f,
	    .abandon_when_gone = abandon_when_gone,
	    .event = BUF_INIT(JSON_TEXT_MAX_BYTES + 64U),
	};
	s->known = x->out.len + x->err.len + x->display_count;
	s->observer = (struct execution_observer){.notify = stream_notify, .ctx = s};
	execution_observe(x, &s->observer);
	aca_reply_headers(c, x);
	call_set_header(c, "Cache-Control", "no-cache");
	call_set_header(c, "X-Accel-Buffering", "no");
	call_reply_source(c, 200, "text/event-stream", &s->source);
}
