/*
 * The installer with a host that runs its commands plainly, for install_test.py; or the runner, in
 * which it belongs.
 *
 *     installer_test DIRECTORY CONFIG [RUNNER]
 *
 * With RUNNER, its executable, DIRECTORY is the runner's and has the one of packages in it.
 *
 * Each line of standard input is an array of requirement lines, or {"cancel": array}, which is
 * given up at once, {"find": array} or {"clean": [names in use]}; each is answered with the result,
 * or {"error"}, once it is there. {"at_once": [array, …]} is answered with an array of results.
 */
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "base/compiler.h"
#include "tools/installer.h"
#include "tools/runner_link.h"

static uv_loop_t loop;
static struct runner_link *runner; /* NULL: the installer itself */

struct command {
	uv_process_t process;
	uv_pipe_t out;
	uv_timer_t timer;
	installer_ended_fn ended;
	void *ctx;
	int open;
	int status;
	bool timed_out;
	bool stopped;
	char bytes[65536];
	char output[INSTALLER_OUTPUT_BYTES + 1];
	size_t len;
};

static void on_closed(uv_handle_t *h)
{
	struct command *c = h->data;
	if (--c->open > 0) {
		return;
	}
	if (!c->stopped) {
		c->ended(c->ctx, c->status, c->timed_out, c->output);
	}
	free(c);
}

static void on_exit_of(uv_process_t *p, int64_t status, int signal_number)
{
	struct command *c = p->data;
	c->status = signal_number != 0 ? 128 + signal_number : (int)status;
	uv_close((uv_handle_t *)&c->timer, on_closed);
	uv_close((uv_handle_t *)p, on_closed);
}

static void on_alloc(uv_handle_t *h, size_t size, uv_buf_t *buf)
{
	(void)size;
	struct command *c = h->data;
	*buf = uv_buf_init(c->bytes, sizeof(c->bytes));
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
	struct command *c = s->data;
	if (n < 0) {
		uv_close((uv_handle_t *)s, on_closed);
		return;
	}
	for (ssize_t i = 0; i < n; i++) {
		if (c->len == INSTALLER_OUTPUT_BYTES) {
			memmove(c->output, c->output + 1024, c->len -= 1024);
		}
		c->output[c->len++] = buf->base[i];
	}
	c->output[c->len] = '\0';
}

static void on_timer(uv_timer_t *t)
{
	struct command *c = t->data;
	c->timed_out = true;
	(void)kill(-c->process.pid, SIGKILL);
}

static void *start(void *ctx, const struct installer_command *what, installer_ended_fn ended,
    void *ended_ctx, struct err *e)
{
	(void)ctx;
	struct command *c = calloc(1, sizeof(*c));
	c->ended = ended;
	c->ctx = ended_ctx;
	c->open = 3;
	(void)uv_pipe_init(&loop, &c->out, 0);
	(void)uv_timer_init(&loop, &c->timer);
	c->out.data = c->timer.data = c->process.data = c;
	int ends[2];
	if (uv_pipe(ends, 0, 0) < 0) {
		abort();
	}
	(void)uv_pipe_open(&c->out, ends[0]);
	uv_stdio_container_t stdio[3] = {{.flags = UV_IGNORE},
	    {.flags = UV_INHERIT_FD, .data.fd = ends[1]},
	    {.flags = UV_INHERIT_FD, .data.fd = ends[1]}};
	const uv_process_options_t options = {
	    .file = what->argv[0],
	    .args = (char **)(uintptr_t)what->argv,
	    .env = (char **)(uintptr_t)what->environment,
	    .exit_cb = on_exit_of,
	    .flags = UV_PROCESS_DETACHED,
	    .stdio = stdio,
	    .stdio_count = 3,
	};
	int r = uv_spawn(&loop, &c->process, &options);
	(void)close(ends[1]);
	if (r < 0) {
		(void)err_set(e, ERR_INTERNAL, "%s", uv_strerror(r));
		abort();
	}
	(void)uv_read_start((uv_stream_t *)&c->out, on_alloc, on_read);
	(void)uv_timer_start(&c->timer, on_timer, what->timeout_ms, 0);
	return c;
}

static void stop(void *ctx, void *command)
{
	(void)ctx;
	struct command *c = command;
	c->stopped = true;
	(void)kill(-c->process.pid, SIGKILL);
}

static void on_done(void *ctx, const json_t *result, const struct err *e)
{
	json_t **out = ctx;
	*out = e != NULL ? json_pack("{s:s, s:i}", "error", e->text, "code", (int)e->code)
			 : json_deep_copy(result);
}

static json_t *install_all(struct installer *in, const json_t *requests)
{
	static json_t *results[64];
	size_t count = json_array_size(requests);
	json_t *all = json_array();
	for (size_t i = 0; i < count; i++) {
		results[i] = NULL;
		const json_t *one = json_array_get(requests, i);
		if (runner != NULL) {
			(void)runner_install(runner, one, on_done, &results[i]);
		} else {
			(void)installer_start(in, one, on_done, &results[i]);
		}
	}
	for (size_t i = 0; runner != NULL && i < count; i++) {
		while (results[i] == NULL) {
			(void)uv_run(&loop, UV_RUN_ONCE);
		}
	}
	(void)uv_run(&loop, runner != NULL ? UV_RUN_NOWAIT : UV_RUN_DEFAULT);
	for (size_t i = 0; i < count; i++) {
		(void)json_array_append_new(
		    all, results[i] != NULL ? results[i] : json_string("nothing was told"));
	}
	return all;
}

static json_t *cancel(struct installer *in, const json_t *packages)
{
	json_t *result = NULL;
	if (runner != NULL) {
		struct runner_call *c = runner_install(runner, packages, on_done, &result);
		for (int i = 0; i < 3 && result == NULL; i++) {
			(void)uv_run(&loop, UV_RUN_NOWAIT);
		}
		runner_cancel(c);
		return json_object();
	}
	struct installer_job *j = installer_start(in, packages, on_done, &result);
	for (int i = 0; i < 20 && result == NULL; i++) {
		(void)uv_run(&loop, UV_RUN_ONCE);
	}
	if (result == NULL) {
		installer_cancel(j);
	}
	(void)uv_run(&loop, UV_RUN_DEFAULT);
	return result != NULL ? result : json_object();
}

/* "find" or "clean". */
static json_t *upkeep(struct installer *in, const char *what, const json_t *list)
{
	json_t *result = NULL;
	bool find = strcmp(what, "find") == 0;
	if (runner != NULL) {
		(void)(find ? runner_find_packages(runner, list, on_done, &result)
			    : runner_clean_packages(runner, list, on_done, &result));
	} else if (find) {
		(void)installer_find(in, list, on_done, &result);
	} else {
		(void)installer_clean(in, list, on_done, &result);
	}
	while (result == NULL) {
		(void)uv_run(&loop, UV_RUN_ONCE);
	}
	return result;
}

static json_t *answer(struct installer *in, json_t *question)
{
	static const char *const others[] = {"find", "clean"};
	for (size_t i = 0; i < array_len(others); i++) {
		if (json_object_get(question, others[i]) != NULL) {
			return upkeep(in, others[i], json_object_get(question, others[i]));
		}
	}
	json_t *many = json_object_get(question, "at_once");
	json_t *given_up = json_object_get(question, "cancel");
	if (many != NULL) {
		return install_all(in, many);
	}
	if (given_up != NULL) {
		return cancel(in, given_up);
	}
	json_t *one = json_pack("[O]", question);
	json_t *all = install_all(in, one);
	json_t *result = json_incref(json_array_get(all, 0));
	json_decref(all);
	json_decref(one);
	return result;
}

static void on_tools(void *ctx, const json_t *tools, const json_t *problems)
{
	(void)ctx;
	(void)tools;
	(void)problems;
}

static void start_runner(const char *path, const char *directory, const json_t *config)
{
	const struct runner_config c = {.path = path, .work_dir = directory, .deps = config};
	struct err e;
	runner = runner_link_start(&loop, &c, on_tools, NULL, &e);
	if (runner == NULL) {
		(void)printf("%s\n", e.text);
		exit(2);
	}
}

int main(int argc, char **argv)
{
	static char line[1 << 20];
	const struct installer_host host = {.start = start, .stop = stop};
	struct err e = {0};
	json_t *config = argc >= 3 ? json_loads(argv[2], 0, NULL) : NULL;
	struct installer *in = NULL;
	(void)uv_loop_init(&loop);
	if (config != NULL && argc == 4) {
		start_runner(argv[3], argv[1], config);
	} else if (config != NULL) {
		in = installer_new(config, argv[1], &host, &e);
	}
	if (in == NULL && runner == NULL) {
		(void)printf("%s\n", e.text);
		json_decref(config);
		return 2;
	}
	/* what it sweeps away */
	(void)uv_run(&loop, runner != NULL ? UV_RUN_NOWAIT : UV_RUN_DEFAULT);
	while (fgets(line, sizeof(line), stdin) != NULL) {
		json_t *question = json_loads(line, 0, NULL);
		json_t *reply = answer(in, question);
		char *text = json_dumps(reply, JSON_COMPACT | JSON_ENCODE_ANY);
		(void)puts(text);
		(void)fflush(stdout);
		free(text);
		json_decref(reply);
		json_decref(question);
	}
	installer_free(in);
	runner_link_stop(runner);
	(void)uv_run(&loop, UV_RUN_DEFAULT);
	json_decref(config);
	(void)uv_loop_close(&loop);
	return 0;
}
