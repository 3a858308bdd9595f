/*
 * runner_driver: the gateway's half of the runner without a gateway, for tests: a line of JSON on
 * standard input is a request, a line on standard output an answer.
 *
 *   runner_driver CONFIG   (JSON: path and the keys of struct runner_config)
 *   {"tool": [id, prefix, tool, callable, arguments, directory or null]}
 *   {"define": [prefix, definitions]}  {"embed": [id, texts]}  {"install": [id, packages]}
 *   {"callback": [id, url, delivery, body]}
 *   {"cancel": id}  {"time": [count, tool, arguments, pause_ms]}
 *   -> {"tools": …, "problems": …}  {"id": …, "ok": …, "result": …}  {"failed": text}
 *
 * As root it becomes nobody once the runner runs, as the server does.
 */
#include <fcntl.h>
#include <grp.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>
#include <uv.h>

#include "base/clock.h"
#include "base/compiler.h"
#include "base/fd.h"
#include "tools/runner_link.h"

#define NOBODY 65534
#define CALLS_MAX 4096
#define LINE_MAX_BYTES (16U << 20)

static uv_loop_t loop;
static struct runner_link *runner;
static struct runner_call *calls[CALLS_MAX]; /* by id */
static struct buf input = BUF_INIT(LINE_MAX_BYTES);
static uv_poll_t poll_in;

static void print(json_t *value)
{
	char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY);
	(void)printf("%s\n", text);
	(void)fflush(stdout);
	free(text);
	json_decref(value);
}

static void on_tools(void *ctx, const json_t *tools, const json_t *problems)
{
	(void)ctx;
	print(json_pack("{s:O, s:O}", "tools", tools, "problems", problems));
}

static void on_done(void *ctx, const json_t *result, const struct err *e)
{
	size_t id = (size_t)(uintptr_t)ctx;
	calls[id] = NULL;
	print(json_pack("{s:I, s:b, s:i, s:s, s:O?}", "id", (json_int_t)id, "ok", e == NULL, "code",
	    e != NULL ? (int)e->code : 0, "text", e != NULL ? e->text : "", "result", result));
}

/* --- how long a call takes
 * -----------------------------------------------------------------------
 */

static struct {
	json_t *request;
	json_int_t left;
	uint64_t began_us;
	json_t *took;
	uv_timer_t timer;
} timing;

static void time_next(uv_timer_t *timer);

static void on_timed(void *ctx, const json_t *result, const struct err *e)
{
	(void)ctx;
	(void)result;
	uint64_t us = clock_mono_us() - timing.began_us;
	(void)json_array_append_new(
	    timing.took, e == NULL ? json_integer((json_int_t)us) : json_string(e->text));
	uint64_t pause_ms = (uint64_t)json_integer_value(json_array_get(timing.request, 3));
	(void)uv_timer_start(&timing.timer, time_next, pause_ms, 0);
}

static void time_next(uv_timer_t *timer)
{
	(void)timer;
	if (timing.left-- == 0) {
		print(json_pack("{s:o}", "took_us", timing.took));
		json_decref(timing.request);
		return;
	}
	timing.began_us = clock_mono_us();
	(void)runner_tool(runner, NULL, json_string_value(json_array_get(timing.request, 1)), NULL,
	    json_array_get(timing.request, 2), -1, NULL, on_timed, NULL);
}

/* --- requests
 * ------------------------------------------------------------------------------------
 */

static void *context_of(const json_t *args)
{
	return (void *)(uintptr_t)json_integer_value(json_array_get(args, 0));
}

static void keep(const json_t *args, struct runner_call *call)
{
	size_t id = (size_t)json_integer_value(json_array_get(args, 0));
	if (call != NULL) {
		calls[id] = call;
	}
}

static void request_tool(const json_t *a)
{
	const char *directory = json_string_value(json_array_get(a, 5));
	cleanup(fd_close) int fd = directory != NULL
				       ? open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC)
				       : -1;
	keep(a, runner_tool(runner, json_string_value(json_array_get(a, 1)),
		    json_string_value(json_array_get(a, 2)),
		    json_string_value(json_array_get(a, 3)), json_array_get(a, 4), fd,
		    json_string_value(json_array_get(a, 6)), on_done, context_of(a)));
}

static void on_line(const char *line, size_t len)
{
	cleanup(json_decrefp) json_t *request = json_loadb(line, len, JSON_ALLOW_NUL, NULL);
	json_t *a;
	if ((a = json_object_get(request, "tool")) != NULL) {
		request_tool(a);
	} else if ((a = json_object_get(request, "define")) != NULL) {
		runner_define(
		    runner, json_string_value(json_array_get(a, 0)), json_array_get(a, 1));
	} else if ((a = json_object_get(request, "embed")) != NULL) {
		keep(a, runner_embed(runner, json_array_get(a, 1), on_done, context_of(a)));
	} else if ((a = json_object_get(request, "install")) != NULL) {
		keep(a, runner_install(runner, json_array_get(a, 1), on_done, context_of(a)));
	} else if ((a = json_object_get(request, "callback")) != NULL) {
		keep(a, runner_callback(runner, json_string_value(json_array_get(a, 1)),
			    json_string_value(json_array_get(a, 2)),
			    json_string_value(json_array_get(a, 3)), on_done, context_of(a)));
	} else if ((a = json_object_get(request, "cancel")) != NULL) {
		size_t id = (size_t)json_integer_value(a);
		runner_cancel(calls[id]);
		calls[id] = NULL;
	} else if ((a = json_object_get(request, "time")) != NULL) {
		timing.request = json_incref(a);
		timing.left = json_integer_value(json_array_get(a, 0));
		timing.took = json_array();
		(void)uv_timer_init(&loop, &timing.timer);
		time_next(&timing.timer);
	}
}

static void on_input(uv_poll_t *poll, int status, int events)
{
	static char bytes[65536];
	ssize_t n = read(STDIN_FILENO, bytes, sizeof(bytes));
	(void)poll;
	(void)status;
	(void)events;
	if (n <= 0) {
		(void)uv_poll_stop(&poll_in);
		uv_stop(&loop);
		return;
	}
	(void)buf_add(&input, bytes, (size_t)n);
	for (;;) {
		const char *end = memchr(buf_str(&input), '\n', input.len);
		if (end == NULL) {
			return;
		}
		size_t len = (size_t)(end - input.data);
		on_line(input.data, len);
		buf_drop(&input, len + 1);
	}
}

static int drop(void)
{
	if (geteuid() == 0 && (setgroups(0, NULL) < 0 || setresgid(NOBODY, NOBODY, NOBODY) < 0 ||
				  setresuid(NOBODY, NOBODY, NOBODY) < 0)) {
		return -1;
	}
	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

static const char *text_of(const json_t *config, const char *key)
{
	return json_string_value(json_object_get(config, key));
}

int main(int argc, char **argv)
{
	struct err e = {0};
	cleanup(json_decrefp) json_t *config = argc == 2 ? json_loads(argv[1], 0, NULL) : NULL;
	if (config == NULL) {
		return 2;
	}
	const char *prefix = text_of(config, "callback_prefix");
	const struct runner_config c = {
	    .callback_prefixes = &prefix,
	    .callback_prefix_count = prefix != NULL ? 1 : 0,
	    .callback_secret = text_of(config, "callback_secret"),
	    .path = text_of(config, "path"),
	    .tools_dir = text_of(config, "tools_dir"),
	    .tools_file = text_of(config, "tools_file"),
	    .work_dir = text_of(config, "work_dir"),
	    .memory_bytes = (uint64_t)json_integer_value(json_object_get(config, "memory_bytes")),
	    .secrets = json_object_get(config, "secrets"),
	    .deps = json_object_get(config, "deps"),
	    .embeddings_url = text_of(config, "embeddings_url"),
	    .embeddings_model = text_of(config, "embeddings_model"),
	    .embeddings_secret = text_of(config, "embeddings_secret"),
	};
	(void)uv_loop_init(&loop);
	runner = runner_link_start(&loop, &c, on_tools, NULL, &e);
	if (runner == NULL) {
		print(json_pack("{s:s}", "failed", e.text));
		return 1;
	}
	if (drop() < 0) {
		return 2;
	}
	(void)uv_poll_init(&loop, &poll_in, STDIN_FILENO);
	(void)uv_poll_start(&poll_in, UV_READABLE, on_input);
	(void)uv_run(&loop, UV_RUN_DEFAULT);
	runner_link_stop(runner);
	(void)uv_run(&loop, UV_RUN_NOWAIT);
	buf_fini(&input);
	return 0;
}
