/* Packages, for the gateway: the installer with the runner's walled processes as its hands. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "tools/installer.h"
#include "tools/process.h"
#include "tools/runner.h"

/* Of one command: installed files may be large. */
#define FILE_MAX_BYTES (4ULL << 30)

struct install_command {
	struct process *process;
	installer_ended_fn ended;
	void *ctx;
	size_t len;
	char output[INSTALLER_OUTPUT_BYTES + 1];
};

/* --- commands -----------------------------------------------------------------------------------
 */

/* Keeps the end of what it says on either stream, in the order it comes. */
static void on_bytes(void *ctx, const char *bytes, size_t len)
{
	struct install_command *c = ctx;
	if (len > INSTALLER_OUTPUT_BYTES) {
		bytes += len - INSTALLER_OUTPUT_BYTES;
		len = INSTALLER_OUTPUT_BYTES;
	}
	size_t over = c->len + len > INSTALLER_OUTPUT_BYTES ? c->len + len - INSTALLER_OUTPUT_BYTES
							    : 0;
	memmove(c->output, c->output + over, c->len - over);
	c->len -= over;
	memcpy(c->output + c->len, bytes, len);
	c->len += len;
	c->output[c->len] = '\0';
}

static void on_end(void *ctx, const struct process_end *end)
{
	struct install_command *c = ctx;
	installer_ended_fn ended = c->ended;
	if (end->memory_full) {
		static const char why[] = "\n" PROCESS_MEMORY_FULL "\n";
		on_bytes(c, why, sizeof(why) - 1);
	}
	ended(c->ctx, end->status, end->timed_out, c->output);
	free(c);
}

static json_t *words_of(const char *const *argv)
{
	json_t *words = json_array();
	for (; *argv != NULL; argv++) {
		(void)json_array_append_new(words, json_string(*argv));
	}
	return words;
}

static json_t *environment_of(const char *const *environment)
{
	json_t *all = json_object();
	for (; *environment != NULL; environment++) {
		const char *equals = strchr(*environment, '=');
		(void)json_object_setn_new(
		    all, *environment, (size_t)(equals - *environment), json_string(equals + 1));
	}
	return all;
}

/* What the installer reads beside the system's own directories: a directory of wheels, an uv. */
static json_t *read_paths(const struct runner *r)
{
	static const char *const keys[] = {"find_links", "installer"};
	const json_t *config = json_object_get(r->config, "deps");
	json_t *paths = json_array();
	for (size_t i = 0; i < array_len(keys); i++) {
		const char *path = json_string_value(json_object_get(config, keys[i]));
		if (path != NULL && *path == '/') {
			(void)json_array_append_new(paths, json_string(path));
		}
	}
	return paths;
}

static void *start(void *ctx, const struct installer_command *what, installer_ended_fn ended,
    void *ended_ctx, struct err *e)
{
	struct runner *r = ctx;
	struct install_command *c = calloc(1, sizeof(*c));
	if (c == NULL) {
		(void)err_set(e, ERR_INTERNAL, "out of memory");
		return NULL;
	}
	c->ended = ended;
	c->ctx = ended_ctx;
	json_t *words = words_of(what->argv);
	json_t *environment = environment_of(what->environment);
	json_t *read = read_paths(r);
	json_t *write = json_pack("[s]", what->write_dir);
	const struct process_options options = {
	    .words = words,
	    .environment = environment,
	    .read_paths = read,
	    .write_paths = write,
	    .data_dir_fd = -1,
	    .timeout_ms = what->timeout_ms,
	    .file_max_bytes = FILE_MAX_BYTES,
	    .on_out = on_bytes,
	    .on_err = on_bytes,
	    .done = on_end,
	    .ctx = c,
	};
	c->process = process_start(&r->loop, r->walls, &options, e);
	json_decref(words);
	json_decref(environment);
	json_decref(read);
	json_decref(write);
	if (c->process == NULL) {
		free(c);
		return NULL;
	}
	return c;
}

static void stop(void *ctx, void *command)
{
	struct install_command *c = command;
	(void)ctx;
	process_cancel(c->process);
	free(c);
}

/* --- requests -----------------------------------------------------------------------------------
 */

struct install_task {
	struct runner_task task;
	struct installer_job *job;
	struct installer_cleaning *cleaning; /* or this */
};

static void on_cancel(struct runner_task *t)
{
	struct install_task *it = container_of(t, struct install_task, task);
	if (it->job != NULL) {
		installer_cancel(it->job);
	}
	installer_clean_cancel(it->cleaning);
	free(it);
}

static void on_done(void *ctx, const json_t *result, const struct err *e)
{
	struct install_task *it = ctx;
	if (e != NULL) {
		runner_task_failed(&it->task, e, NULL);
	} else {
		runner_task_done(&it->task, json_incref((json_t *)(uintptr_t)result));
	}
	free(it);
}

void install_begin(struct runner *r, uint64_t ref, const json_t *request)
{
	struct err e;
	struct install_task *it = calloc(1, sizeof(*it));
	if (it == NULL) {
		(void)err_set(&e, ERR_INTERNAL, "out of memory");
		runner_refuse(r, ref, &e);
		return;
	}
	if (runner_task_add(r, &it->task, ref, on_cancel, &e) < 0) {
		runner_refuse(r, ref, &e);
		free(it);
		return;
	}
	/* What returns NULL is over, and IT is gone. */
	const json_t *packages = json_object_get(request, "packages");
	const json_t *in_use = json_object_get(request, "in_use");
	bool find = json_is_true(json_object_get(request, "find"));
	if (in_use != NULL) {
		struct installer_cleaning *k = installer_clean(r->installer, in_use, on_done, it);
		if (k != NULL) {
			it->cleaning = k;
		}
		return;
	}
	struct installer_job *j = find ? installer_find(r->installer, packages, on_done, it)
				       : installer_start(r->installer, packages, on_done, it);
	if (j != NULL) {
		it->job = j;
	}
}

int install_open(struct runner *r, struct err *e)
{
	cleanup(buf_fini) struct buf directory = BUF_INIT(4096);
	const struct installer_host host = {.start = start, .stop = stop, .ctx = r};
	if (buf_addf(&directory, "%s/packages", r->work_dir) < 0) {
		return err_set(e, ERR_INVALID, "the path of the packages is too long");
	}
	if (mkdir(buf_str(&directory), 0700) < 0 && errno != EEXIST) {
		return err_set_os(e, errno, "the directory %s", buf_str(&directory));
	}
	r->installer = installer_new(
	    json_object_get(r->config, "deps"), buf_str(&directory), &host, e);
	return r->installer == NULL ? -1 : 0;
}

void install_close(struct runner *r)
{
	installer_free(r->installer);
	r->installer = NULL;
}
