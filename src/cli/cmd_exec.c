/* carrel exec: runs one cell. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/text.h"
#include "cli/client.h"
#include "cli/command.h"
#include "cli/execution.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/signals.h"

struct exec_options {
	struct options shared;
	const char *session;
	const char *file;
	const char *timeout;
	const char *shell;
	const char *operand; /* CODE or "-", or NULL */
	uint32_t timeout_s;
};

static int parse(struct exec_options *x, int argc, char **argv, struct err *e)
{
	*x = (struct exec_options){0};
	const struct option_entry own[] = {
	    {.name = "session", .letter = 's', .text = &x->session},
	    {.name = "file", .letter = 'f', .text = &x->file},
	    {.name = "timeout", .letter = 't', .text = &x->timeout},
	    {.name = "shell", .text = &x->shell},
	};
	int first = options_parse(&x->shared, argc, argv, own, array_len(own), e);
	if (first < 0) {
		return -1;
	}
	x->operand = first < argc ? argv[first] : NULL;
	int sources = (x->operand != NULL) + (x->file != NULL) + (x->shell != NULL);
	if (sources > 1 || argc - first > 1) {
		return err_set(
		    e, ERR_INVALID, "give the code once: CODE, -, -f FILE, or --shell CMD");
	}
	if (sources == 0 && isatty(STDIN_FILENO) == 1) {
		return err_set(e, ERR_INVALID, "no code: give CODE, -, -f FILE, or --shell CMD");
	}
	if (x->timeout != NULL) {
		uint64_t timeout_s;
		if (options_number("timeout", x->timeout, 1, INT32_MAX, &timeout_s, e) < 0) {
			return -1;
		}
		x->timeout_s = (uint32_t)timeout_s;
	}
	return 0;
}

static int read_code(const struct exec_options *x, struct buf *code, struct err *e)
{
	const char *given = x->shell != NULL ? x->shell : x->operand;
	int r;
	if (given != NULL && (x->shell != NULL || strcmp(given, "-") != 0)) {
		r = buf_add_str(code, given);
	} else if (x->file != NULL && strcmp(x->file, "-") != 0) {
		r = fd_read_file(AT_FDCWD, x->file, code);
	} else {
		r = fd_read_all(STDIN_FILENO, code);
	}
	if (r == -EMSGSIZE) {
		return err_set(
		    e, ERR_INVALID, "the code is larger than %zu bytes", EXECUTION_CODE_MAX_BYTES);
	}
	if (r < 0) {
		return err_set_os(e, -r, "cannot read %s", x->file != NULL ? x->file : "stdin");
	}
	if (text_has_prefix(buf_str(code), "\xef\xbb\xbf")) {
		buf_drop(code, 3); /* a byte order mark, as some editors leave */
	}
	return 0;
}

/* A session of our own ends with its cell. That it is gone already is fine. */
static void end_own_session(
    struct client *c, struct output *o, struct signals *signals, const char *identifier)
{
	struct err e;
	const struct client_refusal keep = c->refusal;
	if (execution_end_session(c, signals, identifier, &e) < 0 &&
	    (c->refusal.http_status < 400 || c->refusal.http_status > 499)) {
		output_note(o, "the session %s could not be deleted: %s", identifier, e.text);
	}
	c->refusal = keep; /* a failure that is told next is the cell's */
}

static int run(const struct exec_options *x, struct client *c, struct output *o,
    struct signals *signals, struct err *e)
{
	cleanup(buf_fini) struct buf code = BUF_INIT(EXECUTION_CODE_MAX_BYTES);
	if (client_init(c, &x->shared, e) < 0 || read_code(x, &code, e) < 0 ||
	    signals_begin(signals, e) < 0) {
		return -1;
	}
	char own[TEXT_GUID_BYTES];
	const struct execution cell = {
	    .identifier = x->session != NULL ? x->session : text_guid(own),
	    .code = buf_str(&code),
	    .code_len = code.len,
	    .is_shell = x->shell != NULL,
	    .stays = x->session != NULL,
	    .timeout_s = x->timeout_s,
	};
	struct execution_outcome outcome;
	int r = execution_run(c, o, signals, &cell, &outcome, e);
	if (r == 0 && x->session != NULL && outcome.new_session && !o->json) {
		output_note(o, "the session %s is new", x->session);
	}
	if (x->session == NULL && outcome.reached) {
		end_own_session(c, o, signals, cell.identifier);
	}
	return r < 0 ? r : outcome.status;
}

int cmd_exec(int argc, char **argv)
{
	struct exec_options x;
	struct err e;
	if (parse(&x, argc, argv, &e) < 0) {
		return command_usage_error("exec", &e);
	}
	struct output o;
	output_init(&o, x.shared.json);
	cleanup(client_fini) struct client c = {0};
	cleanup(signals_end) struct signals signals = SIGNALS_NONE;
	int r = run(&x, &c, &o, &signals, &e);
	return r < 0 ? output_failure(&o, &c, &e) : r;
}
