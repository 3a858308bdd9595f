/* carrel repl: a Python prompt in a session. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "cli/client.h"
#include "cli/command.h"
#include "cli/completion.h"
#include "cli/execution.h"
#include "cli/line_editor.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/repl_input.h"
#include "cli/signals.h"

#define CELL_MAX_BYTES ((size_t)1 << 20)
/* Between two uses that keep the session alive; a third of its idle time, within these. */
#define STAY_MIN_MS 200
#define STAY_MAX_MS 10000

struct repl {
	struct options shared;
	const char *session; /* NULL: one of our own */
	const char *timeout;
	uint32_t timeout_s;
	char own[TEXT_GUID_BYTES];
	struct client client;
	struct output output;
	struct line_editor editor;
	struct line_hooks hooks;
	struct buf cell;            /* the lines so far */
	char guid[TEXT_GUID_BYTES]; /* of the session, "": there is none, or it is not known */
	bool pasted;                /* some of the cell */
	bool reached;
	bool unreachable; /* that the server does not answer was told */
	int worst;        /* exit status of the worst cell, for input that is not typed */
};

static int parse(struct repl *r, int argc, char **argv, struct err *e)
{
	const struct option_entry own[] = {
	    {.name = "session", .letter = 's', .text = &r->session},
	    {.name = "timeout", .letter = 't', .text = &r->timeout},
	};
	int first = options_parse(&r->shared, argc, argv, own, array_len(own), e);
	if (first < 0) {
		return -1;
	}
	if (first < argc) {
		return err_set(e, ERR_INVALID, "'%s' is one word too many", argv[first]);
	}
	if (r->shared.json) {
		return err_set(e, ERR_INVALID, "a prompt has no -o json; use carrel exec");
	}
	uint64_t timeout_s = 0;
	if (r->timeout != NULL &&
	    options_number("timeout", r->timeout, 1, INT32_MAX, &timeout_s, e) < 0) {
		return -1;
	}
	r->timeout_s = (uint32_t)timeout_s;
	return 0;
}

static const char *identifier(const struct repl *r)
{
	return r->session != NULL ? r->session : r->own;
}

/* The session that the identifier has now: whether, and how often, it needs to be kept alive. As
 * execution_find_session. */
static int look(struct repl *r, struct execution_session *now, struct err *e)
{
	int there = execution_find_session(&r->client, identifier(r), now, e);
	if (there < 0) {
		return -1;
	}
	uint32_t stay_ms = now->idle_ms / 3;
	stay_ms = stay_ms < STAY_MIN_MS ? STAY_MIN_MS : stay_ms;
	r->hooks.idle_ms = there == 0 ? 0 : stay_ms < STAY_MAX_MS ? stay_ms : STAY_MAX_MS;
	memcpy(r->guid, now->guid, sizeof(r->guid));
	return there;
}

/* While a person thinks: keeps the session, or says that it is gone, before the next cell does. */
static bool stay(void *arg)
{
	struct repl *r = arg;
	struct execution_session now;
	struct err e;
	char before[TEXT_GUID_BYTES];
	memcpy(before, r->guid, sizeof(before));
	int there = look(r, &now, &e);
	if (there > 0 && strcmp(before, now.guid) == 0) {
		there = execution_touch_session(&r->client, identifier(r), &e) < 0 ? -1 : 1;
		bool was_away = r->unreachable;
		r->unreachable = there < 0;
		if (there > 0 || was_away) {
			return false;
		}
	}
	if (there < 0 && r->unreachable) {
		return false;
	}
	/* The prompt, and what is typed. */
	r->output.mid_line[STDERR_FILENO] = r->output.terminal[STDERR_FILENO];
	if (there < 0) {
		r->unreachable = true;
		output_note(&r->output, "%s", e.text);
	} else {
		output_note(&r->output,
		    there == 0 ? "the session has ended, and its state is gone; the next cell "
				 "begins a new one"
			       : "the session has ended; another one has its name now");
	}
	return true;
}

static json_t *complete(void *arg, const char *word)
{
	struct repl *r = arg;
	r->reached = true;
	return completion_ask(&r->client, identifier(r), word);
}

static void run_cell(struct repl *r)
{
	struct err e;
	struct execution_outcome outcome = {0};
	cleanup(signals_end) struct signals signals = SIGNALS_NONE;
	const struct execution cell = {
	    .identifier = identifier(r),
	    .code = r->cell.data,
	    .code_len = r->cell.len,
	    .as_repr = true,
	    .stays = true,
	    .timeout_s = r->timeout_s,
	};
	int status = signals_begin(&signals, &e);
	if (status == 0) {
		status = execution_run(&r->client, &r->output, &signals, &cell, &outcome, &e);
	}
	status = status < 0 ? output_failure(&r->output, &r->client, &e) : outcome.status;
	r->worst = status > r->worst ? status : r->worst;
	r->reached |= outcome.reached;
	if (strcmp(outcome.session, r->guid) == 0 || *outcome.session == '\0') {
		return;
	}
	if (*r->guid != '\0') {
		output_note(&r->output,
		    "the session had ended, and its state is gone; this cell ran in a new one");
	}
	struct execution_session now;
	if (look(r, &now, &e) < 0) {
		memcpy(r->guid, outcome.session, sizeof(r->guid));
	}
}

static bool is_farewell(const struct buf *cell)
{
	static const char *const words[] = {"exit\n", "quit\n", "exit()\n", "quit()\n"};
	for (size_t i = 0; i < array_len(words); i++) {
		if (strcmp(buf_str(cell), words[i]) == 0) {
			return true;
		}
	}
	return false;
}

/* Runs the cell when it is whole; what was PASTED is not judged before a person ended a line. False
 * at the end of the conversation. */
static bool take_line(struct repl *r, const char *line, size_t len, bool pasted)
{
	/* Several lines that end in Enter are one entry of the history. */
	bool at_once = pasted || memchr(line, '\n', len - 1) != NULL;
	r->pasted = at_once || (r->pasted && r->cell.len > 0);
	if (buf_add(&r->cell, line, len) < 0) {
		output_note(
		    &r->output, "the cell is larger than %zu bytes, it is dropped", CELL_MAX_BYTES);
		buf_clear(&r->cell);
		return true;
	}
	if (repl_input_is_blank(r->cell.data, r->cell.len)) {
		buf_clear(&r->cell);
		return true;
	}
	if (pasted || !repl_input_is_whole(r->cell.data, r->cell.len, r->pasted)) {
		return true;
	}
	line_editor_remember(&r->editor, r->cell.data);
	if (is_farewell(&r->cell)) {
		return false;
	}
	run_cell(r);
	buf_clear(&r->cell);
	return true;
}

static void converse(struct repl *r)
{
	for (;;) {
		const char *line;
		size_t len;
		const char *prompt = r->cell.len == 0 ? LINE_EDITOR_FIRST : LINE_EDITOR_MORE;
		enum line_outcome got = line_editor_read(&r->editor, prompt, &line, &len);
		if (got == LINE_END) {
			break;
		}
		if (got == LINE_CLEARED) {
			buf_clear(&r->cell);
		} else if (!take_line(r, line, len, got == LINE_PASTED)) {
			return;
		}
	}
	/* A last cell that a file leaves open is the session's to judge; one at a terminal is
	 * dropped. */
	if (!r->editor.typed && !repl_input_is_blank(buf_str(&r->cell), r->cell.len)) {
		run_cell(r);
	}
}

/* Speaks to the server before the first line: a wrong address, token or pool is told at once. */
static int start(struct repl *r, struct err *e)
{
	struct execution_session now;
	r->hooks = (struct line_hooks){.complete = complete, .idle = stay, .arg = r};
	if (client_init(&r->client, &r->shared, e) < 0) {
		return -1;
	}
	int there = look(r, &now, e);
	if (there < 0 || line_editor_init(&r->editor, &r->hooks, e) < 0) {
		return -1;
	}
	if (!r->editor.typed) {
		return 0;
	}
	if (r->session == NULL) {
		(void)output_linef(
		    &r->output, "carrel " CARREL_VERSION ", session %s. Ctrl-D ends it.", r->own);
	} else if (there == 0) {
		(void)output_linef(&r->output,
		    "carrel " CARREL_VERSION ", session %s, which is new. Ctrl-D ends; the session "
		    "stays.",
		    r->session);
	} else {
		(void)output_linef(&r->output,
		    "carrel " CARREL_VERSION ", session %s with all it has since %.19s UTC. Ctrl-D "
		    "ends; the session stays.",
		    r->session, now.created);
	}
	return 0;
}

static void stop(struct repl *r)
{
	struct err e;
	if (r->session == NULL && r->reached &&
	    execution_end_session(&r->client, NULL, r->own, &e) < 0 &&
	    (r->client.refusal.http_status < 400 || r->client.refusal.http_status > 499)) {
		output_note(&r->output, "the session %s could not be deleted: %s", r->own, e.text);
	}
}

int cmd_repl(int argc, char **argv)
{
	struct repl r = {.cell = BUF_INIT(CELL_MAX_BYTES)};
	struct err e;
	if (parse(&r, argc, argv, &e) < 0) {
		return command_usage_error("repl", &e);
	}
	(void)text_guid(r.own);
	output_init(&r.output, false);
	int status = CLI_EXIT_OK;
	if (start(&r, &e) < 0) {
		status = output_failure(&r.output, &r.client, &e);
	} else {
		converse(&r);
		stop(&r);
		status = r.editor.typed ? CLI_EXIT_OK : r.worst;
	}
	line_editor_fini(&r.editor);
	buf_fini(&r.cell);
	client_fini(&r.client);
	return status;
}
