/*
 * carrel approvals watch: one approval's history as it grows, or every approval that waits, with a
 * question after each that a person at a terminal answers.
 *
 * An answer is only ever for what was shown: what was typed before the question is thrown away, and
 * the stage that was shown is named in the decision.
 */
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "base/event_stream.h"
#include "base/text.h"
#include "cli/approval_calls.h"
#include "cli/approval_view.h"
#include "cli/cmd_approvals.h"
#include "cli/command.h"
#include "cli/url.h"

#define EVENT_MAX_BYTES ((size_t)16 << 20)
#define RETRIES_MAX 20
#define RETRY_MS 1000
#define ROUND_MS 1000
#define ROUND_PAGES_MAX 5
#define LINES_SHOWN_MAX 60
#define ANSWER_BYTES 1024

static void sleep_ms(long ms)
{
	const struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
	(void)nanosleep(&time, NULL);
}

/* Whether the last call failed for a reason that may pass: no answer, or the server's own state. */
static bool may_pass(const struct client *c, const struct err *e)
{
	long status = c->refusal.http_status;
	return e->code == ERR_UNAVAILABLE && (status == 0 || status == 429 || status >= 500);
}

/* A JSON document on a line of its own, for what has no end. */
static int print_json_line(struct approvals_command *c, const json_t *value, struct err *e)
{
	cleanup(text_free) char *text = json_dumps(value, JSON_COMPACT);
	return text == NULL ? err_set(e, ERR_INTERNAL, "out of memory")
			    : output_json_text(&c->output, text, strlen(text), e);
}

/* --- one approval's history --- */

struct follower {
	struct approvals_command *command;
	struct event_stream stream;
	int64_t after; /* the last event that came */
	bool tells;
	struct err *e; /* of the event in hand */
};

static int tell_event(struct approvals_command *c, const json_t *event, struct err *e)
{
	if (c->output.json) {
		return print_json_line(c, event, e);
	}
	approval_view_event(&c->paper, event);
	return paper_flush(&c->paper, e);
}

/* As event_stream_fn; -1 with the follower's error set. */
static int take_event(void *arg, const char *name, const char *data, size_t len)
{
	struct follower *f = arg;
	(void)name;
	cleanup(json_decrefp) json_t *event = client_parse_json(data, len, f->e);
	if (event == NULL) {
		return -1;
	}
	f->after = json_integer_value(json_object_get(event, "seq"));
	return f->tells ? tell_event(f->command, event, f->e) : 0;
}

static int take_body(struct client_call *call, const char *bytes, size_t len, struct err *e)
{
	struct follower *f = call->arg;
	f->e = e;
	int r = event_stream_feed(&f->stream, bytes, len, take_event, f);
	return r == 0 || r == -1 ? r : err_set(e, ERR_TOO_LARGE, "the server's event is too large");
}

/* One stream, to its end. */
static int follow_once(struct follower *f, const char *id, struct err *e)
{
	struct client *c = &f->command->client;
	const char *const segments[] = {"approvals", id, "events", NULL};
	char after[24];
	(void)snprintf(after, sizeof(after), "%" PRId64, f->after);
	const struct url_query query[] = {{"after", after}, {NULL, NULL}};
	cleanup(buf_fini) struct buf url = BUF_INIT(URL_MAX_BYTES);
	if (url_build(&url, buf_str(&c->base), segments, query, e) < 0) {
		return -1;
	}
	cleanup(client_call_fini) struct client_call call = {
	    .method = CLIENT_GET,
	    .url = url.data,
	    .accept = "text/event-stream, application/json;q=0.5",
	    .on_body = take_body,
	    .arg = f,
	};
	event_stream_init(&f->stream, EVENT_MAX_BYTES);
	int r = client_perform(c, &call, e);
	event_stream_fini(&f->stream);
	return r;
}

static bool is_final(const char *state)
{
	static const char *const final[] = {
	    "approved", "rejected", "expired", "failed", "cancelled"};
	for (size_t i = 0; i < array_len(final); i++) {
		if (strcmp(final[i], state) == 0) {
			return true;
		}
	}
	return false;
}

static int64_t last_event(const json_t *approval)
{
	const json_t *history = json_object_get(approval, "history");
	const json_t *last = json_array_get(history, json_array_size(history) - 1);
	return json_integer_value(json_object_get(last, "seq"));
}

/* A stream's end, then the approval: 1 when it is final and all events have come, with *OUT; 0 when
 * not yet. */
static int follow_step(struct follower *f, const char *id, json_t **out, struct err *e)
{
	cleanup(json_decrefp) json_t *approval = NULL;
	if (follow_once(f, id, e) < 0 || approval_get(&f->command->client, id, &approval, e) < 0) {
		return -1;
	}
	if (!is_final(client_text(approval, "state")) || f->after < last_event(approval)) {
		return 0;
	}
	*out = steal(&approval);
	return 1;
}

static int wait_for(
    struct approvals_command *c, const char *id, bool tells, json_t **out, struct err *e)
{
	struct follower f = {.command = c, .tells = tells};
	bool reached = false;
	for (int failures = 0;;) {
		int r = follow_step(&f, id, out, e);
		if (r == 1) {
			bool approved = strcmp(client_text(*out, "state"), "approved") == 0;
			c->status = approved ? CLI_EXIT_OK : CLI_EXIT_USER;
			return 0;
		}
		reached |= r == 0 || f.after > 0;
		failures = r == 0 ? 0 : failures + 1;
		if (r < 0 && (!reached || !may_pass(&c->client, e) || failures > RETRIES_MAX)) {
			return -1;
		}
		sleep_ms(RETRY_MS);
	}
}

int approvals_wait(struct approvals_command *c, const char *id, json_t **out, struct err *e)
{
	return wait_for(c, id, false, out, e);
}

/* --- a person's answer --- */

enum answer {
	ANSWER_YES,
	ANSWER_NO,
	ANSWER_SKIP,
	ANSWER_QUIT,
	ANSWER_NONE, /* none of these words */
};

/* The word at the start of LINE; *REST is what follows it, as the reason. */
static enum answer answer_of(char *line, const char **rest)
{
	static const struct {
		const char *word;
		enum answer answer;
	} words[] = {{"y", ANSWER_YES}, {"yes", ANSWER_YES}, {"n", ANSWER_NO}, {"no", ANSWER_NO},
	    {"s", ANSWER_SKIP}, {"skip", ANSWER_SKIP}, {"q", ANSWER_QUIT}, {"quit", ANSWER_QUIT}};
	size_t len = strcspn(line, " \t");
	const char *after = line + len + strspn(line + len, " \t");
	*rest = after[0] != '\0' ? after : NULL;
	for (size_t i = 0; i < array_len(words); i++) {
		if (strlen(words[i].word) == len && memcmp(words[i].word, line, len) == 0) {
			return words[i].answer;
		}
	}
	return ANSWER_NONE;
}

/* A typed line without its end. False at the end of the input. One that is too long is empty. */
static bool read_line(char line[ANSWER_BYTES])
{
	ssize_t n = read(STDIN_FILENO, line, ANSWER_BYTES - 1);
	if (n <= 0) {
		return false;
	}
	line[n] = '\0';
	char *lf = strchr(line, '\n');
	if (lf == NULL) {
		(void)tcflush(STDIN_FILENO, TCIFLUSH);
		lf = line;
	}
	*lf = '\0';
	return true;
}

static enum answer ask(struct approvals_command *c, const json_t *approval, char line[ANSWER_BYTES],
    const char **reason, struct err *e)
{
	for (;;) {
		approval_view_question(&c->paper, approval);
		paper_add(&c->paper, "\napprove? [y/n/s/q] ");
		(void)tcflush(STDIN_FILENO, TCIFLUSH);
		if (paper_flush(&c->paper, e) < 0 || !read_line(line)) {
			return ANSWER_QUIT;
		}
		enum answer answer = answer_of(line, reason);
		if (answer != ANSWER_NONE) {
			return answer;
		}
		paper_add(&c->paper, "y (yes), n (no), s (skip) or q (quit); words after y or n "
				     "are the reason\n");
	}
}

/* Tells the server. What it refuses is told, and goes on. -1 with *E when it may be asked again. */
static int answer(struct approvals_command *c, const json_t *approval, bool approve,
    const char *reason, struct err *e)
{
	cleanup(json_decrefp) json_t *after = NULL;
	const struct approval_decision decision = {
	    .approve = approve,
	    .stage = client_text(approval, "stage"),
	    .by = c->by,
	    .reason = reason,
	};
	if (approval_decide(&c->client, client_text(approval, "id"), &decision, &after, e) == 0) {
		paper_add(&c->paper, "%s; it is now ", approve ? "approved" : "rejected");
		paper_quote_text(&c->paper, client_text(after, "state"));
		paper_add(&c->paper, "\n\n");
		return paper_flush(&c->paper, e);
	}
	if (may_pass(&c->client, e)) {
		return -1;
	}
	output_note(&c->output, "%s", e->text);
	return 0;
}

/* --- what waits --- */

struct watcher {
	struct approvals_command *command;
	bool asks;
	bool reached; /* a list has come */
	bool told;    /* that the server is away */
	bool quits;
	json_t *seen; /* ID:STAGE of what was shown and still waits */
};

static void watcher_fini(struct watcher *w)
{
	json_decref(w->seen);
}

/* The newest that wait, newest first: as many as a person has a chance to get to. */
static int list_waiting(struct approvals_command *c, json_t **out, struct err *e)
{
	cleanup(approval_pages_fini) struct approval_pages pages = APPROVAL_PAGES("waiting", NULL);
	cleanup(json_decrefp) json_t *all = json_array();
	while (pages.count < ROUND_PAGES_MAX) {
		cleanup(json_decrefp) json_t *page = NULL;
		if (approval_pages_next(&c->client, &pages, &page, e) < 0) {
			return -1;
		}
		if (page == NULL) {
			break;
		}
		(void)json_array_extend(all, page);
	}
	*out = steal(&all);
	return 0;
}

/* 0 when it was dealt with. */
static int show_waiting(struct watcher *w, const char *id, const char *stage, struct err *e)
{
	struct approvals_command *c = w->command;
	cleanup(json_decrefp) json_t *approval = NULL;
	if (approval_get(&c->client, id, &approval, e) < 0) {
		return may_pass(&c->client, e) ? -1 : 0; /* it may be gone by now */
	}
	if (strcmp(client_text(approval, "state"), "waiting") != 0 ||
	    strcmp(client_text(approval, "stage"), stage) != 0) {
		return 0;
	}
	if (c->output.json) {
		return print_json_line(c, approval, e);
	}
	approval_view(&c->paper, approval, LINES_SHOWN_MAX);
	paper_add(&c->paper, "\n");
	if (paper_flush(&c->paper, e) < 0 || !w->asks) {
		return c->paper.failed == 0 ? 0 : -1;
	}
	char line[ANSWER_BYTES];
	const char *reason = NULL;
	enum answer said = ask(c, approval, line, &reason, e);
	w->quits = said == ANSWER_QUIT;
	return said == ANSWER_YES || said == ANSWER_NO
		   ? answer(c, approval, said == ANSWER_YES, reason, e)
		   : 0;
}

/* Shows what is new in LIST, the oldest first, and keeps in `seen` what is listed. */
static int show_new(struct watcher *w, const json_t *list, struct err *e)
{
	cleanup(json_decrefp) json_t *before = w->seen;
	w->seen = json_object();
	for (size_t i = json_array_size(list); i-- > 0 && !w->quits;) {
		const json_t *one = json_array_get(list, i);
		const char *id = client_text(one, "id");
		const char *stage = client_text(one, "stage");
		char key[APPROVAL_ID_BYTES + 32];
		(void)snprintf(key, sizeof(key), "%s:%s", id, stage);
		if (json_object_get(before, key) == NULL && show_waiting(w, id, stage, e) < 0) {
			(void)json_object_update(w->seen, before); /* what was not come to again */
			return -1;
		}
		(void)json_object_set_new(w->seen, key, json_true());
	}
	return 0;
}

static int round_of(struct watcher *w, struct err *e)
{
	cleanup(json_decrefp) json_t *list = NULL;
	if (list_waiting(w->command, &list, e) < 0) {
		return -1;
	}
	w->reached = true;
	w->told = false;
	return show_new(w, list, e);
}

/* Until the next round. A person may type q meanwhile. */
static void rest(struct watcher *w)
{
	char line[ANSWER_BYTES];
	const char *unused;
	struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
	if (!w->asks) {
		sleep_ms(ROUND_MS);
	} else if (poll(&input, 1, ROUND_MS) == 1) {
		w->quits = !read_line(line) || answer_of(line, &unused) == ANSWER_QUIT;
	}
}

static int watch_all(struct approvals_command *c, struct err *e)
{
	cleanup(watcher_fini) struct watcher w = {
	    .command = c,
	    .asks = !c->output.json && isatty(STDIN_FILENO) == 1 &&
		    c->output.terminal[STDOUT_FILENO],
	    .seen = json_object(),
	};
	while (!w.quits) {
		if (round_of(&w, e) < 0) {
			if (!w.reached || !may_pass(&c->client, e)) {
				return -1;
			}
			if (!w.told) {
				output_note(&c->output, "%s; trying again", e->text);
			}
			w.told = true;
		}
		if (!w.quits) {
			rest(&w);
		}
	}
	return 0;
}

int approvals_follow(struct approvals_command *c, struct err *e)
{
	char id[APPROVAL_ID_BYTES];
	cleanup(json_decrefp) json_t *final = NULL;
	if (c->count == 0) {
		return watch_all(c, e);
	}
	if (c->by != NULL) {
		return err_set(e, ERR_INVALID, "watch ID only looks: it takes no --by");
	}
	return approval_find(&c->client, c->operands[0], id, e) < 0
		   ? -1
		   : wait_for(c, id, true, &final, e);
}
