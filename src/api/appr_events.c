/*
 * GET /approvals/{id}/events: the history of one approval as server-sent events, and what is added
 * to it until it is final.
 *
 *     id: 3
 *     event: waiting
 *     data: {"seq": 3, "kind": "waiting", …}       the event as the history has it
 *
 * Who was cut off says with Last-Event-ID (or `after`) what it has; when nothing can come any more
 * the answer is 204, at which a browser's EventSource stops asking.
 *
 * A stream holds one page of events as text and asks for the next one when that is sent, so a slow
 * reader costs one page. Of the streams, and of the bytes they hold, each token has its share; past
 * it a stream ends and its client comes back with Last-Event-ID.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "api/appr.h"
#include "base/json_text.h"
#include "base/quota.h"
#include "base/text.h"

#define STREAMS_MAX 1024
#define HELD_MAX_BYTES (256UL << 20)

struct stream {
	struct call_source source; /* closed once it was given to call_reply_source */
	struct appr *room;
	struct approvals *approvals;
	struct call *call;
	struct approvals_who who; /* its texts are the call's */
	const char *holder;       /* the call's */
	struct approvals_watch watch;
	struct approvals_call *pending;
	struct buf text; /* being sent */
	size_t held;     /* of text, charged */
	size_t at;
	int64_t after; /* the last event in text, or before it */
	bool answered; /* the source is the call's */
	bool changed;  /* there may be events past AFTER */
	bool final;
	bool ended;
	bool silent;                /* nothing was sent since the last beat */
	struct stream *prev, *next; /* of room->streams */
};

struct appr {
	struct stream *streams;
	struct quota open; /* streams, by holder */
	struct quota held; /* bytes of their texts, by holder */
	bool draining;
};

struct appr *appr_new(void)
{
	struct appr *a = calloc(1, sizeof(*a));
	if (a != NULL) {
		a->open = (struct quota)QUOTA_INIT(STREAMS_MAX);
		a->held = (struct quota)QUOTA_INIT(HELD_MAX_BYTES);
	}
	return a;
}

void appr_free(struct appr *a)
{
	if (a != NULL) {
		quota_fini(&a->open);
		quota_fini(&a->held);
	}
	free(a);
}

/* --- life ---------------------------------------------------------------------------------------
 */

static void stream_add(struct appr *room, struct stream *s)
{
	s->room = room;
	s->next = room->streams;
	if (s->next != NULL) {
		s->next->prev = s;
	}
	room->streams = s;
}

static void drop_text(struct stream *s)
{
	quota_release(&s->room->held, s->holder, s->held);
	s->held = 0;
	buf_fini(&s->text);
	s->at = 0;
}

static void stream_free(struct stream *s)
{
	approvals_cancel_call(s->pending);
	approvals_unwatch(s->approvals, &s->watch);
	drop_text(s);
	if (s->prev != NULL) {
		s->prev->next = s->next;
	} else {
		s->room->streams = s->next;
	}
	if (s->next != NULL) {
		s->next->prev = s->prev;
	}
	quota_release(&s->room->open, s->holder, 1);
	free(s);
}

static void wake(struct stream *s)
{
	if (s->answered) {
		call_wake(s->source.call);
	}
}

/* --- events -------------------------------------------------------------------------------------
 */

static int add_event(struct buf *out, const json_t *event)
{
	int64_t seq = json_integer_value(json_object_get(event, "seq"));
	const char *kind = json_string_value(json_object_get(event, "kind"));
	int r = buf_addf(out, "id: %" PRId64 "\nevent: %s\ndata: ", seq, kind != NULL ? kind : "");
	r = r < 0 ? r : json_text_add_tree(out, event);
	return r < 0 ? r : buf_add_str(out, "\n\n");
}

/* The text has grown. */
static int charge_text(struct stream *s)
{
	int err = quota_charge(&s->room->held, s->holder, s->text.len - s->held);
	s->held = err < 0 ? s->held : s->text.len;
	return err;
}

/* A page of events as text; false when there is no room for it. */
static bool hold(struct stream *s, const json_t *events)
{
	for (size_t i = 0; i < json_array_size(events); i++) {
		const json_t *event = json_array_get(events, i);
		if (add_event(&s->text, event) < 0 || charge_text(s) < 0) {
			return false;
		}
		s->after = json_integer_value(json_object_get(event, "seq"));
	}
	return true;
}

static void take(struct stream *s, const json_t *answer)
{
	const json_t *events = json_object_get(answer, "events");
	s->final = json_is_true(json_object_get(answer, "final"));
	if (json_array_size(events) > 0) {
		s->changed = true; /* there may be another page */
		s->ended = !hold(s, events);
	} else if (s->final) {
		s->ended = true;
	}
}

static void on_events(void *ctx, const json_t *answer, const struct err *e)
{
	struct stream *s = ctx;
	s->pending = NULL;
	if (e != NULL) {
		s->ended = true; /* its client asks again, and is told why */
	} else {
		take(s, answer);
	}
	wake(s);
}

static void ask(struct stream *s, approvals_fn fn)
{
	s->changed = false;
	struct approvals_call *pending = approvals_events(
	    s->approvals, &s->who, s->watch.id, s->after, fn, s);
	if (pending != NULL) {
		s->pending = pending;
	}
}

static void on_changed(void *ctx)
{
	struct stream *s = ctx;
	s->changed = true;
	wake(s);
}

/* A comment, which clients pass over and proxies count as life. */
static void add_comment(struct stream *s)
{
	static const char comment[] = ": nothing new\n\n";
	if (buf_add_str(&s->text, comment) == 0 && charge_text(s) < 0) {
		s->ended = true;
	}
}

static ssize_t stream_read(struct call_source *source, char *out, size_t max)
{
	struct stream *s = container_of(source, struct stream, source);
	if (s->at == s->text.len) {
		drop_text(s);
		if (!s->ended && s->changed && s->pending == NULL) {
			ask(s, on_events);
		}
	}
	size_t len = s->text.len - s->at;
	if (len == 0) {
		return s->ended ? -1 : 0;
	}
	len = len < max ? len : max;
	memcpy(out, s->text.data + s->at, len);
	s->at += len;
	s->silent = false;
	return (ssize_t)len;
}

static void stream_close(struct call_source *source)
{
	stream_free(container_of(source, struct stream, source));
}

void appr_beat(struct appr *a)
{
	for (struct stream *s = a->streams; s != NULL; s = s->next) {
		if (s->silent && s->answered && s->at == s->text.len && !s->ended) {
			drop_text(s);
			add_comment(s);
			wake(s);
		}
		s->silent = true;
	}
}

void appr_drain(struct appr *a)
{
	a->draining = true;
	for (struct stream *s = a->streams; s != NULL; s = s->next) {
		s->ended = true;
		wake(s);
	}
}

/* --- the route ----------------------------------------------------------------------------------
 */

static void on_gone(struct call *c)
{
	stream_free(c->ctx);
}

/* The first page decides what the answer is. */
static void on_first(void *ctx, const json_t *answer, const struct err *e)
{
	struct stream *s = ctx;
	struct call *c = s->call;
	s->pending = NULL;
	c->ctx = NULL;
	c->gone = NULL;
	if (e != NULL) {
		stream_free(s);
		appr_fail_err(c, e);
		return;
	}
	take(s, answer);
	if (s->ended && s->text.len == 0) {
		struct buf none = BUF_INIT(0);
		stream_free(s);
		call_reply(c, 204, NULL, &none);
		return;
	}
	s->answered = true;
	s->ended |= s->room->draining;
	call_set_header(c, "Cache-Control", "no-cache");
	call_set_header(c, "X-Accel-Buffering", "no");
	call_reply_source(c, 200, "text/event-stream", &s->source);
}

static int read_after(struct call *c, int64_t *out, struct err *e)
{
	const char *text = call_header(c, "Last-Event-ID");
	uint64_t after = 0;
	if (text == NULL) {
		text = call_query(c, "after");
	}
	if (text != NULL && *text != '\0' && text_to_u64(text, INT64_MAX, &after) < 0) {
		return err_set(e, ERR_INVALID,
		    "Last-Event-ID, or the query parameter 'after', must be the number of an "
		    "event");
	}
	*out = (int64_t)after;
	return 0;
}

void appr_events(struct call *c)
{
	const struct api *api = c->app;
	struct approvals_who w;
	struct err e;
	int64_t after = 0;
	const char *id = NULL;
	if (appr_who(c, &w, &e) < 0 || read_after(c, &after, &e) < 0) {
		appr_fail_err(c, &e);
		return;
	}
	id = appr_id(c);
	if (id == NULL) {
		return;
	}
	if (quota_charge(&api->appr->open, c->holder, 1) < 0) {
		appr_fail(c, ERR_BUSY, "too many streams of events are open");
		return;
	}
	struct stream *s = calloc(1, sizeof(*s));
	if (s == NULL) {
		quota_release(&api->appr->open, c->holder, 1);
		appr_fail(c, ERR_INTERNAL, "out of memory");
		return;
	}
	*s = (struct stream){
	    .source = {.read = stream_read, .close = stream_close},
	    .approvals = api->approvals,
	    .call = c,
	    .who = w,
	    .holder = c->holder,
	    .watch = {.changed = on_changed, .ctx = s},
	    .text = BUF_INIT(JSON_TEXT_MAX_BYTES),
	    .after = after,
	};
	(void)memccpy(s->watch.id, id, '\0', sizeof(s->watch.id) - 1);
	stream_add(api->appr, s);
	approvals_watch(s->approvals, &s->watch);
	c->ctx = s;
	c->gone = on_gone;
	ask(s, on_first);
}
