/* carrel repl: a Python prompt in a session. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "cli/client.h"
#include "cli/command.h"
#include "cli/execution.h"
#include "cli/line_editor.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/repl_input.h"
#include "cli/signals.h"

#define CELL_MAX_BYTES ((size_t)1 << 20)

struct repl {
	struct options shared;
	const char *session; /* NULL: one of our own */
	const char *timeout;
	uint32_t timeout_s;
	char own[TEXT_GUID_BYTES];
	struct client client;
	struct output output;
	struct line_editor editor;
	struct buf cell; /* the lines so far */
	unsigned cells;  /* that a session answered */
	bool reached;
	int worst; /* exit status of the worst cell, for input that is not typed */
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

static void run_cell(struct repl *r)
{
	struct err e;
	struct execution_outcome outcome = {0};
	cleanup(signals_end) struct signals signals = SIGNALS_NONE;
	const struct execution cell = {
	    .identifier = identifier(r),
	    .code = r->cell.data,
	    .code_len = r->cell.len,
	    .timeout_s = r->timeout_s,
	};
	int status = signals_begin(&signals, &e);
	if (status == 0) {
		status = execution_run(&r->client, &r->output, &signals, &cell, &outcome, &e);
	}
	status = status < 0 ? output_failure(&r->output, &r->client, &e) : outcome.status;
	if (outcome.new_session && r->cells > 0) {
		output_note(&r->output, "the session had ended; this cell ran in a new one");
	}
	r->reached |= outcome.reached;
	r->cells += outcome.reached;
	r->worst = status > r->worst ? status : r->worst;
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

/* Runs the cell when it is whole. False at the end of the conversation. */
static bool take_line(struct repl *r, const char *line, size_t len)
{
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
	if (!repl_input_is_whole(r->cell.data, r->cell.len)) {
		return true;
	}
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
		const char *prompt = r->cell.len == 0 ? ">>> " : "... ";
		enum line_outcome got = line_editor_read(&r->editor, prompt, &line, &len);
		if (got == LINE_END) {
			break;
		}
		if (got == LINE_CLEARED) {
			buf_clear(&r->cell);
		} else if (!take_line(r, line, len)) {
			return;
		}
	}
	/* A last cell that a file leaves open is the session's to judge; one at a terminal is
	 * dropped. */
	if (!r->editor.typed && !repl_input_is_blank(buf_str(&r->cell), r->cell.len)) {
		run_cell(r);
	}
}

static int start(struct repl *r, struct err *e)
{
	if (client_init(&r->client, &r->shared, e) < 0 || line_editor_init(&r->editor, e) < 0) {
		return -1;
	}
	if (r->editor.typed) {
		(void)output_linef(&r->output,
		    "carrel " CARREL_VERSION ", session %s. Ctrl-D ends%s.", identifier(r),
		    r->session == NULL ? " it" : "; the session stays");
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
