/*
 * carrel-runner: started by `carrel serve` with its socket as descriptor 3, and by nobody else.
 *
 * It touches the world for sessions. Its last block says what it may: as the server's user, without
 * a capability, it reads what that user may, writes in its work directory alone, starts programs
 * behind walls of their own (sandbox/command.h), and opens connections to what tools name.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "ipc/helper.h"
#include "tools/definition.h"
#include "tools/fetch.h"
#include "tools/mcp.h"
#include "tools/process.h"
#include "tools/protocol.h"
#include "tools/runner.h"

#define RESCAN_MS 1000
#define SETTLE_MS 20
#define STOP_MS 3000

struct watching {
	uv_fs_event_t dir;
	uv_fs_event_t file;
	uv_timer_t rescan;
	uv_timer_t settle;
};

static struct runner runner;
static struct watching watching;

/* --- what the gateway asks
 * -----------------------------------------------------------------------
 */

static void on_define(struct runner *r, const struct ipc_message *m)
{
	json_t *request = protocol_json_decode(&m->body);
	const char *prefix = json_string_value(json_object_get(request, "prefix"));
	if (catalog_define(r->catalog, prefix, json_object_get(request, "definitions"))) {
		mcp_refresh(r->mcp);
		runner_tools_changed(r);
	}
	json_decref(request);
}

/* False when TOOL waits for a person, having said so. APPROVED: the definition a person allowed. */
static bool is_allowed(struct runner *r, uint64_t ref, const json_t *tool, const char *approved)
{
	if (strcmp(json_string_value(json_object_get(tool, "approval")), "required") != 0) {
		return true;
	}
	char definition[DEFINITION_DIGEST_BYTES];
	struct err e;
	if (definition_digest(tool, definition) < 0) {
		(void)err_set(&e, ERR_INTERNAL, "out of memory");
		runner_refuse(r, ref, &e);
		return false;
	}
	if (approved != NULL && strcmp(approved, definition) == 0) {
		return true;
	}
	runner_refuse_unapproved(r, ref, definition);
	return false;
}

static void call_tool(struct runner *r, uint64_t ref, const json_t *request, int data_dir_fd)
{
	const char *prefix = json_string_value(json_object_get(request, "prefix"));
	const char *name = json_string_value(json_object_get(request, "tool"));
	const char *callable = json_string_value(json_object_get(request, "callable"));
	const json_t *arguments = json_object_get(request, "arguments");
	struct err e;
	const json_t *tool = name != NULL ? catalog_find(r->catalog, prefix, name) : NULL;
	if (tool == NULL) {
		(void)err_set(
		    &e, ERR_NOT_FOUND, "there is no tool '%.64s'", name != NULL ? name : "");
		runner_refuse(r, ref, &e);
		return;
	}
	if (!is_allowed(r, ref, tool, json_string_value(json_object_get(request, "approved")))) {
		return;
	}
	const char *type = json_string_value(json_object_get(tool, "type"));
	if (strcmp(type, "cli") == 0) {
		cli_begin(r, ref, tool, callable, arguments, data_dir_fd);
	} else if (strcmp(type, "http") == 0) {
		http_begin(r, ref, tool, callable, arguments);
	} else {
		mcp_begin(r->mcp, ref, prefix, tool, callable, arguments);
	}
}

static void cancel_task(struct runner *r, uint64_t ref)
{
	struct runner_task *t;
	HASH_FIND(hh, r->tasks, &ref, sizeof(ref), t);
	if (t != NULL) {
		HASH_DELETE(hh, r->tasks, t);
		t->cancel(t);
	}
}

static void on_request(struct runner *r, const struct ipc_message *m)
{
	json_t *request = protocol_json_decode(&m->body);
	if (request == NULL) {
		struct err e;
		(void)err_set(&e, ERR_INVALID, "the request is not one");
		runner_refuse(r, m->ref, &e);
		return;
	}
	if (m->type == IPC_DEPS_INSTALL) {
		install_begin(r, m->ref, request);
	} else if (m->type == IPC_EMBED) {
		embed_begin(r, m->ref, request);
	} else if (m->type == IPC_CALLBACK) {
		callback_send_begin(r, m->ref, request);
	} else {
		call_tool(r, m->ref, request, m->fd_count > 0 ? m->fds[0] : -1);
	}
	json_decref(request);
}

static void stop(struct runner *r)
{
	(void)uv_poll_stop(&r->gateway);
	uv_stop(&r->loop);
}

static void on_message(struct runner *r, const struct ipc_message *m)
{
	switch (m->type) {
	case IPC_TOOLS_DEFINE:
		on_define(r, m);
		break;
	case IPC_TOOL_CANCEL:
		cancel_task(r, m->ref);
		break;
	case IPC_TOOL_CALL:
	case IPC_TOOL_CALL_DATA:
	case IPC_DEPS_INSTALL:
	case IPC_EMBED:
	case IPC_CALLBACK:
		on_request(r, m);
		break;
	default:
		log_event(LOG_LEVEL_ERROR, "message_not_allowed", LOG_INT("type", m->type));
		stop(r);
	}
}

static void receive(struct runner *r)
{
	int got = ipc_receive(r->fd, &r->message, true);
	if (got == -EAGAIN || got == 0) {
		return;
	}
	if (got < 0) {
		stop(r); /* the gateway is gone */
		return;
	}
	on_message(r, &r->message);
	ipc_message_reset(&r->message);
}

static void on_gateway(uv_poll_t *poll, int status, int events)
{
	struct runner *r = poll->data;
	if (status >= 0 && (events & UV_WRITABLE) != 0) {
		int left = ipc_outbox_flush(&r->outbox, r->fd);
		if (left < 0) {
			stop(r);
			return;
		}
		if (left == 0) {
			runner_watch(r);
		}
	}
	if (status < 0 || (events & UV_READABLE) != 0) {
		receive(r);
	}
}

void runner_watch(struct runner *r)
{
	int events = UV_READABLE | (r->outbox.bytes.len > 0 ? UV_WRITABLE : 0);
	(void)uv_poll_start(&r->gateway, events, on_gateway);
}

/* --- the tools' files
 * ----------------------------------------------------------------------------
 */

static void reload(struct runner *r)
{
	if (catalog_reload(r->catalog)) {
		mcp_refresh(r->mcp);
		runner_tools_changed(r);
	}
}

static void on_reload_timer(uv_timer_t *timer)
{
	reload(timer->data);
}

/* A little later: an editor writes a file in several steps. */
static void on_file_event(uv_fs_event_t *event, const char *name, int events, int status)
{
	(void)event;
	(void)name;
	(void)events;
	(void)status;
	(void)uv_timer_start(&watching.settle, on_reload_timer, SETTLE_MS, 0);
}

/* The file system tells of changes where it can; the rest is found by looking. */
static void watch_files(struct runner *r)
{
	const char *dir = json_string_value(json_object_get(r->config, "tools_dir"));
	const char *file = json_string_value(json_object_get(r->config, "tools_file"));
	(void)uv_timer_init(&r->loop, &watching.rescan);
	(void)uv_timer_init(&r->loop, &watching.settle);
	watching.rescan.data = watching.settle.data = r;
	(void)uv_timer_start(&watching.rescan, on_reload_timer, RESCAN_MS, RESCAN_MS);
	if (dir != NULL && uv_fs_event_init(&r->loop, &watching.dir) == 0) {
		(void)uv_fs_event_start(&watching.dir, on_file_event, dir, 0);
	}
	if (file != NULL && uv_fs_event_init(&r->loop, &watching.file) == 0) {
		(void)uv_fs_event_start(&watching.file, on_file_event, file, 0);
	}
}

/* --- start and stop
 * ------------------------------------------------------------------------------
 */

static int receive_config(struct runner *r, struct err *e)
{
	int got;
	do {
		got = ipc_receive(r->fd, &r->message, false);
	} while (got == 0);
	if (got < 0) {
		return err_set_os(e, -got, "waiting for the configuration");
	}
	r->config = r->message.type == IPC_RUNNER_CONFIG ? protocol_json_decode(&r->message.body)
							 : NULL;
	r->work_dir = json_string_value(json_object_get(r->config, "work_dir"));
	if (r->work_dir == NULL) {
		return err_set(e, ERR_INVALID, "the configuration is not one");
	}
	json_t *secrets = json_object_get(r->config, "secrets");
	r->secrets = json_is_object(secrets) ? json_incref(secrets) : json_object();
	(void)json_object_del(r->config, "secrets");
	explicit_bzero(r->message.body.data, r->message.body.len);
	ipc_message_reset(&r->message);
	return 0;
}

static int make_parts(struct runner *r, struct err *e)
{
	r->catalog = catalog_new(json_string_value(json_object_get(r->config, "tools_dir")),
	    json_string_value(json_object_get(r->config, "tools_file")));
	r->fetcher = fetcher_new(&r->loop);
	r->mcp = mcp_new(r);
	if (r->catalog == NULL || r->fetcher == NULL || r->mcp == NULL) {
		return err_set(e, ERR_INTERNAL, "out of memory");
	}
	int got = fd_set_nonblocking(r->fd);
	if (got < 0) {
		return err_set_os(e, -got, "the gateway's socket");
	}
	return install_open(r, e);
}

static void cancel_all(struct runner *r)
{
	while (r->tasks != NULL) {
		struct runner_task *t = r->tasks;
		HASH_DELETE(hh, r->tasks, t);
		t->cancel(t);
	}
	mcp_stop(r->mcp);
}

/* Everything that was started is killed, and its directories are removed. */
static void wind_up(struct runner *r)
{
	uint64_t until = clock_mono_ms() + STOP_MS;
	(void)uv_timer_stop(&watching.settle);
	(void)uv_timer_start(&watching.rescan, on_reload_timer, SETTLE_MS, SETTLE_MS);
	catalog_free(r->catalog);
	r->catalog = catalog_new(NULL, NULL); /* nothing is read any more */
	cancel_all(r);
	while (process_count() > 0 && clock_mono_ms() < until) {
		(void)uv_run(&r->loop, UV_RUN_ONCE);
	}
	install_close(r);
	command_walls_free(r->walls);
}

static void free_group(struct command_group **group)
{
	command_group_free(*group);
}

/* Of all commands together, in bytes; 0: none is wanted. */
static uint64_t memory_limit(const struct runner *r)
{
	return (uint64_t)json_integer_value(json_object_get(r->config, "memory_bytes"));
}

static void make_limit(const struct runner *r, struct command_group *group)
{
	command_group_open(group);
	const char *why = command_group_why(group);
	if (why == NULL) {
		log_event(
		    LOG_LEVEL_INFO, "commands_memory", LOG_INT("limit_bytes", memory_limit(r)));
	} else if (memory_limit(r) > 0) {
		log_event(LOG_LEVEL_WARNING, "commands_memory_unlimited", LOG_STR("reason", why));
	}
}

static int run(struct runner *r, struct err *e)
{
	r->fd = IPC_HELPER_FD;
	r->outbox = IPC_OUTBOX_INIT(RUNNER_OUTBOX_MAX_BYTES);
	r->message = IPC_MESSAGE_INIT(RUNNER_MESSAGE_MAX_BYTES);
	(void)uv_loop_init(&r->loop);
	if (receive_config(r, e) < 0) {
		return -1;
	}
	cleanup(free_group) struct command_group *group = command_group_new(
	    r->work_dir, memory_limit(r), NULL);
	if (group == NULL) {
		return err_set(e, ERR_INTERNAL, "out of memory");
	}
	/* drop */
	if (command_become_owner(r->work_dir, e) < 0) {
		return -1;
	}
	make_limit(r, group);
	/* seal: it starts programs, so there is no list of system calls that would mean much */
	if (command_restrict_runner(r->work_dir, e) < 0) {
		return -1;
	}
	r->walls = command_walls_new(r->work_dir, true, e);
	if (r->walls == NULL) {
		return -1;
	}
	command_walls_limit(r->walls, steal(&group));
	if (make_parts(r, e) < 0) {
		return -1;
	}
	log_event(LOG_LEVEL_INFO, "runner_ready",
	    LOG_STR("processes", command_walls_namespaces(r->walls) ? "namespace" : "group"));
	/* the one peer that asks */
	(void)uv_poll_init(&r->loop, &r->gateway, r->fd);
	r->gateway.data = r;
	runner_watch(r);
	(void)ipc_outbox_send(&r->outbox, r->fd, IPC_RUNNER_READY, 0, "", 0);
	(void)catalog_reload(r->catalog);
	mcp_refresh(r->mcp);
	runner_tools_changed(r);
	watch_files(r);
	command_walls_prepare(r->walls);
	/* loop */
	(void)uv_run(&r->loop, UV_RUN_DEFAULT);
	wind_up(r);
	return 0;
}

static int fail(const struct err *e)
{
	cleanup(buf_fini) struct buf body = BUF_INIT(4096);
	json_t *why = protocol_error(e, NULL);
	(void)protocol_done_encode(false, why, &body);
	json_decref(why);
	(void)ipc_send(IPC_HELPER_FD, IPC_RUNNER_DONE, 0, body.data, body.len, NULL, 0);
	return EXIT_FAILURE;
}

static bool has_socket(void)
{
	struct stat st;
	return fstat(IPC_HELPER_FD, &st) == 0 && S_ISSOCK(st.st_mode);
}

int main(void)
{
	log_set_process("runner");
	if (!has_socket()) {
		(void)fputs("carrel-runner is started by 'carrel serve'\n", stderr);
		return 2;
	}
	const struct sigaction ignore = {.sa_handler = SIG_IGN};
	(void)sigaction(SIGPIPE, &ignore, NULL);
	(void)sigaction(SIGHUP, &ignore, NULL); /* it is the gateway's */
	/* A terminal's Ctrl-C is for the gateway, which then ends this process in order. */
	(void)setsid();
	struct err e = {0};
	if (run(&runner, &e) < 0) {
		log_event(LOG_LEVEL_ERROR, "runner_failed", LOG_STR("reason", e.text));
		return fail(&e);
	}
	return EXIT_SUCCESS;
}
