#include "cli/execution.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "base/event_stream.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/images.h"
#include "cli/url.h"

/* Longest silence on a stream beyond the cell's own time: a cell may wait for others before it. */
#define STREAM_IDLE_MS 900000

/* How much of stdout or stderr was shown, and a mark of it, to tell whether the reply's own text
 * begins with just that. */
struct shown {
	uint64_t bytes;
	uint64_t mark;
};

struct run {
	struct client *client;
	struct output *out;
	const struct execution *x;
	struct execution_outcome *outcome;
	struct images images;
	struct event_stream events;
	struct buf reply; /* the result event's data */
	struct shown shown[3];
	unsigned ctrl_c;
	bool interrupt_sent;
	bool began; /* the first bytes of the answer have come */
	bool streams;
	bool displayed;
	bool given_up;
	uint64_t rich_mark; /* of the last display's plain text, where it had other forms too */
};

/* FNV-1a, 64 bits, continued from MARK. */
static uint64_t mark_more(uint64_t mark, const char *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		mark = (mark ^ (unsigned char)bytes[i]) * 0x100000001b3U;
	}
	return mark;
}

static int show_text(struct run *run, int fd, const json_t *text, struct err *e)
{
	const char *bytes = json_string_value(text);
	size_t len = json_string_length(text);
	if (bytes == NULL || run->out->json) {
		return 0;
	}
	run->shown[fd].bytes += len;
	run->shown[fd].mark = mark_more(run->shown[fd].mark, bytes, len);
	return output_bytes(run->out, fd, bytes, len, e);
}

/* Shows what the reply has beyond what was streamed: all of it where nothing was. */
static int show_rest(struct run *run, int fd, const json_t *text, struct err *e)
{
	const char *bytes = json_string_value(text);
	size_t len = json_string_length(text);
	const struct shown *shown = &run->shown[fd];
	if (bytes == NULL || len <= shown->bytes ||
	    mark_more(0, bytes, (size_t)shown->bytes) != shown->mark) {
		return 0;
	}
	return output_bytes(run->out, fd, bytes + shown->bytes, len - (size_t)shown->bytes, e);
}

static void show_image(struct run *run, const char *mime_type, const json_t *data)
{
	char name[IMAGES_NAME_BYTES];
	struct err why;
	int r = images_save(&run->images, mime_type, data, name, &why);
	if (r == 0) {
		output_note(run->out, "image saved as %s", name);
	} else if (r < 0) {
		output_note(run->out, "%s", why.text);
	}
}

static int show_line(struct run *run, const char *text, size_t len, struct err *e)
{
	output_fresh_line(run->out, STDERR_FILENO);
	output_fresh_line(run->out, STDOUT_FILENO);
	if (output_bytes(run->out, STDOUT_FILENO, text, len, e) < 0) {
		return -1;
	}
	bool ended = len > 0 && text[len - 1] == '\n';
	return ended ? 0 : output_bytes(run->out, STDOUT_FILENO, "\n", 1, e);
}

/* A MIME bundle: its picture is saved, else its plain text shown, else its types named. */
static int show_display(struct run *run, json_t *bundle, struct err *e)
{
	const char *picture = images_find(bundle);
	const json_t *plain = json_object_get(bundle, "text/plain");
	run->displayed = true;
	run->rich_mark = json_object_size(bundle) > 1 && plain != NULL
			     ? mark_more(1, json_string_value(plain), json_string_length(plain))
			     : 0;
	if (run->out->json) {
		return 0;
	}
	if (picture != NULL) {
		show_image(run, picture, json_object_get(bundle, picture));
		return 0;
	}
	if (json_is_string(plain)) {
		return show_line(run, json_string_value(plain), json_string_length(plain), e);
	}
	const char *type;
	json_t *data;
	json_object_foreach(bundle, type, data)
	{
		output_note(run->out, "a display of type %s is not shown here", type);
	}
	return 0;
}

/* As Python writes it: the fewest digits that give the same number back. */
static int show_real(struct run *run, double value, struct err *e)
{
	char number[32];
	char text[40];
	for (int digits = 15; digits <= 17; digits++) {
		(void)snprintf(number, sizeof(number), "%.*g", digits, value);
		if (strtod(number, NULL) == value) {
			break;
		}
	}
	bool whole = strpbrk(number, ".e") == NULL;
	(void)snprintf(text, sizeof(text), "%s%s", number, whole ? ".0" : "");
	return show_line(run, text, strlen(text), e);
}

/* The value of the cell's last expression. */
static int show_value(struct run *run, const json_t *value, struct err *e)
{
	switch (json_typeof(value)) {
	case JSON_NULL:
		return 0;
	case JSON_TRUE:
		return show_line(run, "True", 4, e);
	case JSON_FALSE:
		return show_line(run, "False", 5, e);
	case JSON_REAL:
		return show_real(run, json_real_value(value), e);
	case JSON_STRING:
		/* A value with several forms is a display too: it was shown as the last one. */
		return json_string_length(value) == 0 ||
			       mark_more(1, json_string_value(value), json_string_length(value)) ==
				   run->rich_mark
			   ? 0
			   : show_line(run, json_string_value(value), json_string_length(value), e);
	default:
		break;
	}
	/* {"type":"image","format":"png","base64_data":"..."} is the wire's form of a shown figure.
	 */
	if (strcmp(client_text(value, "type"), "image") == 0) {
		show_image(run, "image/png", json_object_get(value, "base64_data"));
		return 0;
	}
	cleanup(text_free) char *text = json_dumps(value, JSON_ENCODE_ANY);
	return text == NULL ? err_set(e, ERR_INTERNAL, "out of memory")
			    : show_line(run, text, strlen(text), e);
}

static void note_verdict(struct run *run, const json_t *reply)
{
	static const char *const notes[][2] = {
	    {"time_limit", "the cell reached its time limit"},
	    {"memory_limit", "the session reached its memory limit"},
	    {"process_limit", "the session reached its limit of processes"},
	    {"file_space_limit", "the session's file space is full"},
	    {"output_limit", "the cell reached its output limit"},
	    {"session_killed", "the session was ended, its state is gone"},
	    {"interrupted", "interrupted"},
	};
	const char *verdict = client_text(reply, "verdict");
	for (size_t i = 0; i < array_len(notes); i++) {
		if (strcmp(verdict, notes[i][0]) == 0) {
			output_note(run->out, "%s", notes[i][1]);
		}
	}
	if (strcmp(verdict, "exited") == 0 && run->x->stays) {
		output_note(run->out, "the code has exited; its session lives on, with its state");
	}
	const json_t *cut = json_object_get(reply, "truncated");
	bool is_cut = json_is_true(cut) || json_array_size(cut) > 0 || json_object_size(cut) > 0 ||
		      json_string_length(cut) > 0 || json_integer_value(cut) > 0;
	if (is_cut && strcmp(verdict, "output_limit") != 0) {
		output_note(run->out, "the output was cut");
	}
}

static int show_reply(struct run *run, const json_t *reply, struct err *e)
{
	const json_t *result = json_object_get(reply, "result");
	const json_t *value = json_object_get(result, "executionResult");
	if (show_rest(run, STDOUT_FILENO, json_object_get(result, "stdout"), e) < 0 ||
	    show_rest(run, STDERR_FILENO, json_object_get(result, "stderr"), e) < 0) {
		return -1;
	}
	size_t i;
	json_t *display;
	json_t *displays = run->displayed ? NULL : json_object_get(reply, "displays");
	json_array_foreach(displays, i, display)
	{
		if (show_display(run, display, e) < 0) {
			return -1;
		}
	}
	if (value != NULL && show_value(run, value, e) < 0) {
		return -1;
	}
	/* The value of a cell whose picture has taken the slot. */
	const json_t *beside = json_object_get(reply, "value");
	if (beside != NULL && show_value(run, beside, e) < 0) {
		return -1;
	}
	output_fresh_line(run->out, STDERR_FILENO);
	output_fresh_line(run->out, STDOUT_FILENO);
	note_verdict(run, reply);
	return 0;
}

/* The exit status that a number in digits stands for, as the kernel cuts it, when it is one of a
 * failure. */
static int failure_of(const char *digits)
{
	char *end = NULL;
	errno = 0;
	long long number = strtoll(digits, &end, 10);
	bool whole = digits[0] != '\0' && *end == '\0' && errno == 0;
	int status = whole ? (int)((unsigned long long)number & 0xff) : 0;
	return status != 0 ? status : CLI_EXIT_USER;
}

/* A word for interpreter pools, the command's exit code in digits for shell pools. */
static int status_of(const json_t *reply, int *status, struct err *e)
{
	const char *text = client_text(reply, "status");
	const char *digits = text[0] == '-' ? text + 1 : text;
	if (strcasecmp(text, "Succeeded") == 0 || strcmp(text, "0") == 0) {
		*status = CLI_EXIT_OK;
		return 0;
	}
	if (digits[0] != '\0' && digits[strspn(digits, "0123456789")] == '\0') {
		*status = failure_of(text);
		return 0;
	}
	if (strcasecmp(text, "Failed") == 0 || strcasecmp(text, "Canceled") == 0) {
		const json_t *why = json_object_get(json_object_get(reply, "error"), "error");
		bool exited = strcmp(client_text(reply, "verdict"), "exited") == 0;
		*status = exited ? failure_of(client_text(why, "message")) : CLI_EXIT_USER;
		return 0;
	}
	return err_set(
	    e, ERR_UNAVAILABLE, "the server's reply has no status this client knows ('%s')", text);
}

/* --- the answer as it comes --- */

struct event_context {
	struct run *run;
	struct err *e;
};

static int take_result(struct run *run, const char *data, size_t len, struct err *e)
{
	buf_clear(&run->reply);
	return buf_add(&run->reply, data, len) < 0 ? err_set(e, ERR_INTERNAL, "out of memory") : 0;
}

/* As event_stream_fn; -1 with the context's error set. */
static int take_event(void *arg, const char *name, const char *data, size_t len)
{
	const struct event_context *context = arg;
	struct run *run = context->run;
	if (strcmp(name, "result") == 0) {
		return take_result(run, data, len, context->e);
	}
	if (strcmp(name, "error") == 0) {
		return client_refuse(run->client, 0, data, len, context->e);
	}
	int fd = strcmp(name, "stdout") == 0   ? STDOUT_FILENO
		 : strcmp(name, "stderr") == 0 ? STDERR_FILENO
					       : -1;
	if (fd < 0 && strcmp(name, "display") != 0) {
		return 0; /* a later server may have more kinds */
	}
	cleanup(json_decrefp) json_t *value = client_parse_json(data, len, context->e);
	if (value == NULL) {
		return err_prefix(context->e, "event %s", name);
	}
	if (fd >= 0) {
		return show_text(run, fd, json_object_get(value, "text"), context->e);
	}
	return show_display(run, value, context->e);
}

static int take_body(struct client_call *call, const char *bytes, size_t len, struct err *e)
{
	struct run *run = call->arg;
	if (!run->began) {
		run->began = true;
		run->streams = text_has_prefix(
		    client_header(run->client, "Content-Type"), "text/event-stream");
		images_init(&run->images, client_header(run->client, "Operation-Id"));
	}
	if (!run->streams) {
		return buf_add(&run->reply, bytes, len) < 0
			   ? err_set(e, ERR_TOO_LARGE, "the server's answer is too large")
			   : 0;
	}
	struct event_context context = {.run = run, .e = e};
	int r = event_stream_feed(&run->events, bytes, len, take_event, &context);
	if (r == -EMSGSIZE || r == -ENOMEM) {
		return err_set(e, ERR_TOO_LARGE, "the server sent an event that is too large");
	}
	return r;
}

/* Asks the server to interrupt the cell, as soon as its id is known. */
static void send_interrupt(struct run *run)
{
	const char *id = client_header(run->client, "Operation-Id");
	cleanup(buf_fini) struct buf url = BUF_INIT(URL_MAX_BYTES);
	const char *segments[] = {"executions", id, NULL};
	const struct url_query query[] = {{"identifier", run->x->identifier}, {NULL, NULL}};
	if (id[0] != '\0' &&
	    url_build(&url, buf_str(&run->client->base), segments, query, NULL) == 0) {
		run->interrupt_sent = client_delete_beside(run->client, url.data);
	}
}

static bool take_turn(struct client_call *call, int signo)
{
	struct run *run = call->arg;
	run->ctrl_c += signo == SIGINT;
	/* The terminal has shown "^C". */
	run->out->mid_line[STDERR_FILENO] |= signo == SIGINT && run->out->terminal[STDERR_FILENO];
	if (signo == SIGTERM || signo == SIGHUP || run->ctrl_c > 1) {
		run->given_up = true;
		return false;
	}
	if (signo == SIGINT) {
		output_fresh_line(run->out, STDOUT_FILENO);
		output_note(run->out, "interrupting the cell; Ctrl-C again gives up");
	}
	if (run->ctrl_c > 0 && !run->interrupt_sent) {
		send_interrupt(run);
	}
	return true;
}

/* Of "2026-11-30T12:00:00.123Z", in ms since 1970; 0 for what is none. */
static int64_t time_of(const char *rfc3339)
{
	struct tm parts = {0};
	const char *rest = strptime(rfc3339, "%Y-%m-%dT%H:%M:%S", &parts);
	if (rest == NULL) {
		return 0;
	}
	double fraction = *rest == '.' ? strtod(rest, NULL) : 0;
	return (int64_t)timegm(&parts) * 1000 + (int64_t)(fraction * 1000);
}

/* --- the request --- */

/* The call's address and body. */
static int build_request(const struct client *c, const struct execution *x, struct buf *url,
    struct buf *body, struct err *e)
{
	const struct url_query query[] = {{"identifier", x->identifier}, {NULL, NULL}};
	if (url_build(url, buf_str(&c->base), (const char *const[]){"executions", NULL}, query, e) <
	    0) {
		return -1;
	}
	if (!text_is_utf8(x->code, x->code_len)) {
		return err_set(e, ERR_INVALID, "the code is not UTF-8 text");
	}
	cleanup(json_decrefp) json_t *request = json_object();
	json_t *code = json_stringn(x->code, x->code_len);
	int bad = json_object_set_new(request, x->is_shell ? "shellCommand" : "code", code);
	if (!x->is_shell) {
		bad |= json_object_set_new(request, "codeInputType", json_string("Inline"));
		bad |= json_object_set_new(request, "executionType", json_string("Synchronous"));
	}
	if (x->as_repr) {
		bad |= json_object_set_new(
		    request, "returnJupyterFormatExecutionResult", json_true());
	}
	if (x->timeout_s != 0) {
		bad |= json_object_set_new(request, "timeoutInSeconds", json_integer(x->timeout_s));
	}
	cleanup(text_free) char *text = bad != 0 ? NULL : json_dumps(request, JSON_COMPACT);
	if (text == NULL || buf_add_str(body, text) < 0) {
		return err_set(e, ERR_INTERNAL, "out of memory");
	}
	return 0;
}

static int finish(struct run *run, struct err *e)
{
	if (run->reply.len == 0) {
		return err_set(e, ERR_UNAVAILABLE, "the server's answer ended before the result");
	}
	cleanup(json_decrefp) json_t *reply = client_parse_json(run->reply.data, run->reply.len, e);
	if (reply == NULL) {
		return -1;
	}
	if (!run->streams) {
		images_init(&run->images, client_text(reply, "id"));
	}
	struct execution_outcome *outcome = run->outcome;
	(void)snprintf(
	    outcome->session, sizeof(outcome->session), "%s", client_text(reply, "sessionId"));
	outcome->new_session = json_is_true(json_object_get(reply, "newSession"));
	if (status_of(reply, &outcome->status, e) < 0) {
		return -1;
	}
	if (run->out->json) {
		return output_json_text(run->out, run->reply.data, run->reply.len, e);
	}
	return show_reply(run, reply, e);
}

static void run_fini(struct run *run)
{
	event_stream_fini(&run->events);
	buf_fini(&run->reply);
}

int execution_run(struct client *c, struct output *o, struct signals *signals,
    const struct execution *x, struct execution_outcome *out, struct err *e)
{
	*out = (struct execution_outcome){0};
	cleanup(run_fini) struct run run = {
	    .client = c,
	    .out = o,
	    .x = x,
	    .outcome = out,
	    .reply = BUF_INIT(CLIENT_REPLY_MAX_BYTES),
	};
	event_stream_init(&run.events, CLIENT_REPLY_MAX_BYTES);
	cleanup(buf_fini) struct buf url = BUF_INIT(URL_MAX_BYTES);
	cleanup(buf_fini) struct buf body = BUF_INIT(6 * x->code_len + 256);
	if (build_request(c, x, &url, &body, e) < 0) {
		return -1;
	}
	cleanup(client_call_fini) struct client_call call = {
	    .method = CLIENT_POST,
	    .url = url.data,
	    .accept = "text/event-stream, application/json;q=0.5",
	    .json = &body,
	    .idle_ms = STREAM_IDLE_MS + (uint64_t)x->timeout_s * 1000,
	    .signals = signals,
	    .on_body = take_body,
	    .on_turn = take_turn,
	    .arg = &run,
	};
	int r = client_perform(c, &call, e);
	bool good = call.http_status >= 200 && call.http_status <= 299;
	out->reached = good || run.given_up; /* either may have made a session */
	return r < 0 ? r : finish(&run, e);
}

int execution_watch(struct client *c, struct output *o, struct signals *signals,
    const char *identifier, const char *id, struct execution_outcome *out, struct err *e)
{
	*out = (struct execution_outcome){0};
	const struct execution x = {.identifier = identifier, .stays = true};
	cleanup(run_fini) struct run run = {
	    .client = c,
	    .out = o,
	    .x = &x,
	    .outcome = out,
	    .reply = BUF_INIT(CLIENT_REPLY_MAX_BYTES),
	};
	event_stream_init(&run.events, CLIENT_REPLY_MAX_BYTES);
	cleanup(buf_fini) struct buf url = BUF_INIT(URL_MAX_BYTES);
	const struct url_query query[] = {{"identifier", identifier}, {NULL, NULL}};
	if (url_build(&url, buf_str(&c->base), (const char *const[]){"executions", id, NULL}, query,
		e) < 0) {
		return -1;
	}
	cleanup(client_call_fini) struct client_call call = {
	    .method = CLIENT_GET,
	    .url = url.data,
	    .accept = "text/event-stream, application/json;q=0.5",
	    .idle_ms = STREAM_IDLE_MS,
	    .signals = signals,
	    .on_body = take_body,
	    .arg = &run,
	};
	int r = client_perform(c, &call, e);
	return r < 0 ? r : finish(&run, e);
}

int execution_ask(
    struct client *c, const struct execution *x, uint64_t patience_ms, json_t **out, struct err *e)
{
	cleanup(buf_fini) struct buf url = BUF_INIT(URL_MAX_BYTES);
	cleanup(buf_fini) struct buf body = BUF_INIT(6 * x->code_len + 256);
	if (build_request(c, x, &url, &body, e) < 0) {
		return -1;
	}
	cleanup(client_call_fini) struct client_call call = {
	    .method = CLIENT_POST, .url = url.data, .json = &body, .idle_ms = patience_ms};
	return client_perform_json(c, &call, out, e);
}

int execution_find_session(
    struct client *c, const char *identifier, struct execution_session *out, struct err *e)
{
	const struct url_query query[] = {{"identifier", identifier}, {NULL, NULL}};
	cleanup(json_decrefp) json_t *session = NULL;
	*out = (struct execution_session){0};
	if (client_get(c, (const char *const[]){"session", NULL}, query, EXECUTION_LOOK_MS,
		&session, e) < 0) {
		return strcmp(c->refusal.code, "SessionWithIdentifierNotFound") == 0 ? 0 : -1;
	}
	int64_t used_ms = time_of(client_text(session, "lastAccessedAt"));
	int64_t ends_ms = time_of(client_text(session, "expireAt"));
	(void)snprintf(out->guid, sizeof(out->guid), "%s", client_text(session, "etag"));
	(void)snprintf(out->created, sizeof(out->created), "%s", client_text(session, "createdAt"));
	out->idle_ms = ends_ms > used_ms && ends_ms - used_ms < UINT32_MAX
			   ? (uint32_t)(ends_ms - used_ms)
			   : 0;
	return 1;
}

/* A file that is not there is asked for: that is a use of the session, and no work. */
int execution_touch_session(struct client *c, const char *identifier, struct err *e)
{
	const char *const segments[] = {"files", ".carrel-repl", NULL};
	const struct url_query query[] = {{"identifier", identifier}, {NULL, NULL}};
	cleanup(json_decrefp) json_t *entry = NULL;
	int r = client_get(c, segments, query, EXECUTION_LOOK_MS, &entry, e);
	return r < 0 && c->refusal.http_status == 404 ? 0 : r;
}

int execution_end_session(
    struct client *c, struct signals *signals, const char *identifier, struct err *e)
{
	cleanup(buf_fini) struct buf url = BUF_INIT(URL_MAX_BYTES);
	const struct url_query query[] = {{"identifier", identifier}, {NULL, NULL}};
	if (url_build(&url, buf_str(&c->base), (const char *const[]){"session", NULL}, query, e) <
	    0) {
		return -1;
	}
	cleanup(client_call_fini) struct client_call call = {
	    .method = CLIENT_DELETE,
	    .url = url.data,
	    .signals = signals,
	};
	return client_perform(c, &call, e);
}
