#include "cli/approval_view.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/text.h"
#include "cli/client.h"

#define DETAIL_MAX_BYTES 160

/* --- times --- */

char *approval_view_when(const char *rfc3339, int64_t now_us, char out[APPROVAL_WHEN_BYTES])
{
	static const struct {
		int64_t seconds;
		const char *name;
	} units[] = {{86400, "d"}, {3600, "h"}, {60, "min"}, {1, "s"}};
	struct tm parts = {0};
	out[0] = '\0';
	if (strptime(rfc3339, "%Y-%m-%dT%H:%M:%S", &parts) == NULL) {
		return out;
	}
	int64_t away = (int64_t)timegm(&parts) - now_us / 1000000;
	int64_t size = away < 0 ? -away : away;
	if (size == 0) {
		(void)snprintf(out, APPROVAL_WHEN_BYTES, "now");
		return out;
	}
	for (size_t i = 0; i < array_len(units); i++) {
		/* Two of a unit or nearly so: "90 min" says more than "1 h". */
		int64_t unit = units[i].seconds;
		if (size + unit / 20 >= 2 * unit || unit == 1) {
			(void)snprintf(out, APPROVAL_WHEN_BYTES, "%s%" PRId64 " %s%s",
			    away > 0 ? "in " : "", (size + unit / 2) / unit, units[i].name,
			    away < 0 ? " ago" : "");
			return out;
		}
	}
	return out;
}

static void add_when(struct paper *p, const char *rfc3339)
{
	char when[APPROVAL_WHEN_BYTES];
	paper_add(p, "%s", approval_view_when(rfc3339, clock_wall_us(), when));
}

/* --- words --- */

static enum paper_colour colour_of_state(const char *state)
{
	static const struct {
		const char *state;
		enum paper_colour colour;
	} colours[] = {
	    {"waiting", PAPER_WAITING},
	    {"approved", PAPER_ADDED},
	    {"rejected", PAPER_REMOVED},
	    {"failed", PAPER_REMOVED},
	    {"expired", PAPER_DIM},
	    {"cancelled", PAPER_DIM},
	};
	for (size_t i = 0; i < array_len(colours); i++) {
		if (strcmp(colours[i].state, state) == 0) {
			return colours[i].colour;
		}
	}
	return PAPER_PLAIN;
}

static void add_state(struct paper *p, const json_t *approval)
{
	const char *state = client_text(approval, "state");
	const char *stage = client_text(approval, "stage");
	paper_colour(p, colour_of_state(state));
	paper_quote_text(p, state);
	paper_plain(p);
	if (strcmp(state, "waiting") == 0 && stage[0] != '\0') {
		paper_add(p, " (");
		paper_quote_text(p, stage);
		paper_add(p, ")");
	}
}

/* "  name      value" where there is one. */
static void add_field(struct paper *p, const char *name, const json_t *object, const char *key)
{
	const char *value = client_text(object, key);
	if (value[0] != '\0') {
		paper_add(p, "  %-9s ", name);
		paper_quote_text(p, value);
		paper_add(p, "\n");
	}
}

static void add_time(struct paper *p, const char *name, const json_t *object, const char *key)
{
	const char *value = client_text(object, key);
	if (value[0] != '\0') {
		paper_add(p, "  %-9s ", name);
		add_when(p, value);
		paper_add(p, " (");
		paper_quote_text(p, value);
		paper_add(p, ")\n");
	}
}

/* A heading; what is said about it may follow, then paper_add("\n"). */
static void add_heading(struct paper *p, const char *name)
{
	paper_colour(p, PAPER_BOLD);
	paper_add(p, "%s", name);
	paper_plain(p);
}

/* A text member under a heading of its own, where it has one. */
static void add_block(struct paper *p, const char *name, enum paper_kind kind, const json_t *object,
    const char *key, size_t lines_max)
{
	const json_t *text = json_object_get(object, key);
	if (json_string_length(text) > 0) {
		add_heading(p, name);
		paper_add(p, "\n");
		paper_block(p, kind, json_string_value(text), json_string_length(text), lines_max);
	}
}

static void add_json_block(
    struct paper *p, const char *name, enum paper_kind kind, const json_t *value, size_t lines_max)
{
	cleanup(text_free) char *text = json_dumps(value, JSON_INDENT(2) | JSON_ENCODE_ANY);
	add_heading(p, name);
	paper_add(p, "\n");
	if (text != NULL) {
		paper_block(p, kind, text, strlen(text), lines_max);
	}
}

/* --- the parts of an approval --- */

static void add_head(struct paper *p, const json_t *approval)
{
	add_heading(p, "approval ");
	paper_quote_text(p, client_text(approval, "id"));
	paper_add(p, "\n  state     ");
	add_state(p, approval);
	paper_add(p, "\n");
	add_field(p, "kind", approval, "kind");
	add_field(p, "policy", approval, "policy");
	add_field(p, "pool", approval, "pool");
	add_field(p, "tenant", approval, "tenant");
	add_field(p, "submitter", approval, "submitter");
	add_time(p, "created", approval, "created");
	add_time(p, "deadline", approval, "deadline");
	const json_t *settings = json_object_get(approval, "settings");
	add_field(p, "callback", json_object_get(settings, "callback"), "url");
	const json_t *promote = json_object_get(settings, "promote");
	if (json_is_object(promote)) {
		cleanup(text_free) char *text = json_dumps(promote, JSON_COMPACT);
		paper_add(p, "  %-9s ", "promote");
		paper_quote_text(p, text != NULL ? text : "");
		paper_add(p, "\n");
	}
}

static void add_call(struct paper *p, const json_t *approval)
{
	const json_t *call = json_object_get(approval, "call");
	if (!json_is_object(call)) {
		return;
	}
	add_field(p, "session", approval, "session");
	add_field(p, "parent", approval, "parent");
	add_heading(p, "call ");
	paper_quote_text(p, client_text(call, "tool"));
	if (client_text(call, "callable")[0] != '\0') {
		paper_add(p, ".");
		paper_quote_text(p, client_text(call, "callable"));
	}
	paper_add(p, "\n");
	const json_t *arguments = json_object_get(call, "arguments");
	if (arguments != NULL) {
		add_json_block(p, "arguments", PAPER_CODE, arguments, 0);
	}
}

static void add_code(struct paper *p, const json_t *approval)
{
	const json_t *code = json_object_get(approval, "code");
	if (json_string_length(code) == 0) {
		return;
	}
	add_heading(p, "code");
	paper_add(p, " sha256 ");
	paper_quote_text(p, client_text(approval, "code_sha256"));
	paper_add(p, "\n");
	paper_block(p, PAPER_CODE, json_string_value(code), json_string_length(code), 0);
}

/* Bytes that a display's TYPE has: a picture is base64. */
static uint64_t display_bytes(const char *type, const json_t *data)
{
	if (!json_is_string(data)) {
		return json_dumpb(data, NULL, 0, JSON_COMPACT | JSON_ENCODE_ANY);
	}
	const char *text = json_string_value(data);
	uint64_t len = json_string_length(data);
	bool encoded = strcmp(type, "application/pdf") == 0 ||
		       (text_has_prefix(type, "image/") && strcmp(type, "image/svg+xml") != 0);
	uint64_t pad = 0;
	while (encoded && pad < len && pad < 2 && text[len - 1 - pad] == '=') {
		pad++;
	}
	return encoded ? len / 4 * 3 - (len >= 4 ? pad : 0) : len;
}

static void add_display(struct paper *p, size_t number, const json_t *bundle)
{
	const char *type;
	json_t *data;
	const char *before = "";
	paper_add(p, "%5zu | ", number);
	json_object_foreach((json_t *)(uintptr_t)bundle, type, data)
	{
		char size[OUTPUT_SIZE_BYTES];
		paper_add(p, "%s", before);
		paper_quote_text(p, type);
		paper_add(p, " %s", output_size(display_bytes(type, data), size));
		before = ", ";
	}
	paper_add(p, "\n");
}

static void add_displays(struct paper *p, const json_t *result)
{
	const json_t *displays = json_object_get(result, "displays");
	size_t i;
	const json_t *one;
	if (json_array_size(displays) > 0) {
		add_heading(p, "displays");
		paper_add(p, "\n");
	}
	json_array_foreach(displays, i, one)
	{
		add_display(p, i + 1, one);
	}
}

static void add_value(struct paper *p, const json_t *result, size_t lines_max)
{
	const json_t *value = json_object_get(result, "value");
	if (json_string_length(json_object_get(result, "value_text")) > 0) {
		add_block(p, "value", PAPER_OUTPUT, result, "value_text", lines_max);
	} else if (json_is_string(value)) {
		add_block(p, "value", PAPER_OUTPUT, result, "value", lines_max);
	} else if (value != NULL && !json_is_null(value)) {
		add_json_block(p, "value", PAPER_OUTPUT, value, lines_max);
	}
}

static void add_error(struct paper *p, const json_t *result, size_t lines_max)
{
	const json_t *error = json_object_get(result, "error");
	if (!json_is_object(error)) {
		return;
	}
	add_heading(p, "error ");
	paper_quote_text(p, client_text(error, "name"));
	paper_add(p, "\n");
	/* The traceback has the value. */
	const json_t *text = json_object_get(error, "traceback");
	text = json_string_length(text) > 0 ? text : json_object_get(error, "value");
	if (json_is_string(text)) {
		paper_block(
		    p, PAPER_ERROR, json_string_value(text), json_string_length(text), lines_max);
	}
}

static void add_truncated(struct paper *p, const json_t *result)
{
	const char *name;
	json_t *amount;
	json_t *truncated = json_object_get(result, "truncated");
	json_object_foreach(truncated, name, amount)
	{
		paper_add(p, "  cut: ");
		paper_quote_text(p, name);
		paper_add(p, ", %" JSON_INTEGER_FORMAT " %s more were not kept\n",
		    json_integer_value(amount),
		    strcmp(name, "displays") == 0 ? "displays" : "bytes");
	}
}

static void add_result(struct paper *p, const json_t *approval, size_t lines_max)
{
	const json_t *result = json_object_get(approval, "result");
	if (!json_is_object(result)) {
		return;
	}
	const char *status = client_text(result, "status");
	add_heading(p, "result ");
	paper_colour(p, strcmp(status, "Succeeded") == 0 ? PAPER_ADDED : PAPER_REMOVED);
	paper_quote_text(p, status);
	paper_plain(p);
	paper_add(p, " in %" JSON_INTEGER_FORMAT " ms, run %" JSON_INTEGER_FORMAT "\n",
	    json_integer_value(json_object_get(result, "duration_ms")),
	    json_integer_value(json_object_get(approval, "attempt")));
	add_field(p, "why", result, "why");
	add_block(p, "stdout", PAPER_OUTPUT, result, "stdout", lines_max);
	add_block(p, "stderr", PAPER_ERROR, result, "stderr", lines_max);
	add_displays(p, result);
	add_value(p, result, lines_max);
	add_error(p, result, lines_max);
	add_truncated(p, result);
}

static void add_history(struct paper *p, const json_t *approval)
{
	const json_t *history = json_object_get(approval, "history");
	size_t i;
	const json_t *event;
	if (json_array_size(history) > 0) {
		add_heading(p, "history");
		paper_add(p, "\n");
	}
	json_array_foreach(history, i, event)
	{
		approval_view_event(p, event);
	}
}

void approval_view(struct paper *p, const json_t *approval, size_t lines_max)
{
	add_head(p, approval);
	add_call(p, approval);
	add_code(p, approval);
	add_result(p, approval, lines_max);
	add_history(p, approval);
}

/* --- one line --- */

void approval_view_row(struct paper *p, const json_t *approval)
{
	const char *state = client_text(approval, "state");
	const char *stage = client_text(approval, "stage");
	paper_quote_text(p, client_text(approval, "id"));
	paper_add(p, "  ");
	add_state(p, approval);
	bool staged = strcmp(state, "waiting") == 0 && stage[0] != '\0';
	size_t width = strlen(state) + (staged ? strlen(stage) + 3 : 0);
	paper_add(p, "%*s", width < 18 ? (int)(18 - width) : 1, "");
	const json_t *call = json_object_get(approval, "call");
	const char *tool = client_text(call, "tool");
	const char *what = tool[0] != '\0' ? tool : client_text(approval, "policy");
	paper_quote_text(p, what);
	paper_add(p, "%*s  by ", strlen(what) < 6 ? (int)(6 - strlen(what)) : 0, "");
	paper_quote_text(p, client_text(approval, "submitter"));
	paper_add(p, ", ");
	add_when(p, client_text(approval, "created"));
	const char *deadline = client_text(approval, "deadline");
	if (deadline[0] != '\0') {
		paper_add(p, ", expires ");
		add_when(p, deadline);
	}
	paper_add(p, "\n");
}

/* One member of an event's body: short texts and numbers as they are, the rest as JSON, cut. */
static void add_detail(struct paper *p, const char *name, const json_t *value)
{
	if (json_is_null(value)) {
		return;
	}
	cleanup(text_free) char *dumped = json_is_string(value)
					      ? NULL
					      : json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
	const char *text = json_is_string(value) ? json_string_value(value) : dumped;
	if (text == NULL) {
		return;
	}
	size_t len = strlen(text);
	size_t kept = len > DETAIL_MAX_BYTES ? DETAIL_MAX_BYTES : len;
	while (kept < len && kept > 0 && ((unsigned char)text[kept] & 0xc0) == 0x80) {
		kept--;
	}
	paper_add(p, ", ");
	paper_quote_text(p, name);
	paper_add(p, " ");
	paper_quote(p, text, kept);
	paper_add(p, "%s", kept < len ? "..." : "");
}

/* Members of events that the approval shows, and inner ones. */
static bool is_left_out(const char *name)
{
	static const char *const names[] = {"arguments_sha256", "by", "call", "code", "code_sha256",
	    "deadline_us", "execution", "id", "kind", "owner", "parent", "policy", "pool", "result",
	    "result_sha256", "session", "settings", "submitter", "tenant"};
	for (size_t i = 0; i < array_len(names); i++) {
		if (strcmp(names[i], name) == 0) {
			return true;
		}
	}
	return false;
}

void approval_view_event(struct paper *p, const json_t *event)
{
	const char *kind = client_text(event, "kind");
	paper_add(
	    p, "%5" JSON_INTEGER_FORMAT "   ", json_integer_value(json_object_get(event, "seq")));
	paper_quote_text(p, client_text(event, "at"));
	paper_add(p, "  ");
	paper_colour(p, colour_of_state(kind));
	paper_quote_text(p, kind);
	paper_plain(p);
	paper_add(p, " by ");
	paper_quote_text(p, client_text(event, "actor"));
	const char *name;
	json_t *value;
	json_object_foreach(json_object_get(event, "body"), name, value)
	{
		if (!is_left_out(name)) {
			add_detail(p, name, value);
		}
	}
	paper_add(p, "\n");
}

void approval_view_question(struct paper *p, const json_t *approval)
{
	const char *deadline = client_text(approval, "deadline");
	paper_quote_text(p, client_text(approval, "id"));
	paper_add(p, ": ");
	paper_quote_text(p, client_text(approval, "stage"));
	paper_add(p, " of ");
	paper_quote_text(p, client_text(approval, "submitter"));
	if (deadline[0] != '\0') {
		paper_add(p, ", expires ");
		add_when(p, deadline);
	}
}
