/* One call of a command. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/text.h"
#include "tools/argv.h"
#include "tools/process.h"
#include "tools/runner.h"

#define STDERR_MAX_BYTES (64U << 10)

struct cli_call {
	struct runner_task task;
	struct process *process;
	double timeout_seconds;
};

static void cancel(struct runner_task *t)
{
	struct cli_call *c = container_of(t, struct cli_call, task);
	process_cancel(c->process);
	free(c);
}

/* "Command failed: <what it said, or its exit code>", as py-code-mode has it. */
static void fail_with_output(struct cli_call *c, const struct process_end *end)
{
	cleanup(buf_fini) struct buf text = BUF_INIT(STDERR_MAX_BYTES * 4);
	struct err e = {.code = ERR_INTERNAL};
	const char *said = buf_str(end->err);
	size_t len = end->err->len;
	while (len > 0 && strchr(" \t\r\n", said[len - 1]) != NULL) {
		len--;
	}
	(void)buf_add_str(&text, "Command failed: ");
	if (len == 0) {
		(void)buf_addf(&text, "Exit code %d", end->status);
	} else {
		(void)text_add_utf8_lossy(&text, said, len);
	}
	runner_task_failed(&c->task, &e, buf_str(&text));
}

static void on_done(void *ctx, const struct process_end *end)
{
	struct cli_call *c = ctx;
	struct err e;
	if (end->timed_out) {
		(void)err_set(&e, ERR_TIMEOUT, "timed out after %gs", c->timeout_seconds);
		runner_task_failed(&c->task, &e, NULL);
	} else if (end->memory_full) {
		(void)err_set(&e, ERR_INTERNAL, "Command failed: %s", PROCESS_MEMORY_FULL);
		runner_task_failed(&c->task, &e, NULL);
	} else if (end->status != 0 && !end->cut) {
		fail_with_output(c, end);
	} else {
		runner_task_done(&c->task,
		    runner_text_result(c->task.runner, buf_str(end->out), end->out->len, end->cut));
	}
	free(c);
}

static int start(
    struct cli_call *c, const json_t *tool, const json_t *words, int data_dir_fd, struct err *e)
{
	struct runner *r = c->task.runner;
	const json_t *spec = json_object_get(tool, "spec");
	cleanup(json_decrefp) json_t *env = runner_expand(r, json_object_get(spec, "env"), e);
	if (env == NULL) {
		return -1;
	}
	uint64_t timeout_ms = (uint64_t)json_integer_value(json_object_get(tool, "timeout_ms"));
	c->timeout_seconds = (double)timeout_ms / 1000.0;
	const struct process_options o = {
	    .words = words,
	    .environment = env,
	    .read_paths = json_object_get(spec, "read"),
	    .directory = json_string_value(json_object_get(spec, "working_dir")),
	    .data_dir_fd = json_is_true(json_object_get(spec, "data")) ? data_dir_fd : -1,
	    .timeout_ms = timeout_ms,
	    .out_max_bytes = RUNNER_TEXT_MAX_BYTES,
	    .err_max_bytes = STDERR_MAX_BYTES,
	    .done = on_done,
	    .ctx = c,
	};
	c->process = process_start(&r->loop, r->walls, &o, e);
	return c->process == NULL ? -1 : 0;
}

void cli_begin(struct runner *r, uint64_t ref, const json_t *tool, const char *callable,
    const json_t *arguments, int data_dir_fd)
{
	struct err e = {0};
	cleanup(json_decrefp) json_t *words = argv_build(tool, callable, arguments, &e);
	struct cli_call *c = words != NULL ? calloc(1, sizeof(*c)) : NULL;
	if (c == NULL || runner_task_add(r, &c->task, ref, cancel, &e) < 0) {
		if (words != NULL && c == NULL) {
			(void)err_set(&e, ERR_INTERNAL, "out of memory");
		}
		free(c);
		runner_refuse(r, ref, &e);
		return;
	}
	if (start(c, tool, words, data_dir_fd, &e) < 0) {
		if (e.code == ERR_NOT_FOUND) {
			e.code = ERR_INTERNAL; /* the tool is there; what it runs is not */
		}
		runner_task_failed(&c->task, &e, NULL);
		free(c);
	}
}
