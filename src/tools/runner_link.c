#include "tools/runner_link.h"

#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/log.h"
#include "ipc/codec.h"
#include "ipc/frame.h"
#include "ipc/helper.h"
#include "tools/protocol.h"

#define START_MS 10000

struct runner_call {
	uint64_t ref;
	struct runner_link *link;
	runner_done_fn done;
	void *ctx;
	UT_hash_handle hh;
};

struct runner_link {
	uv_poll_t poll;
	bool poll_open;
	bool gone;
	int fd;
	pid_t pid;
	struct ipc_outbox outbox;
	struct ipc_message message;
	runner_tools_fn on_tools;
	void *ctx;
	struct runner_call *calls; /* by ref */
	uint64_t last_ref;
	char why[256]; /* why it is gone */
};

/* --- calls
 * ---------------------------------------------------------------------------------------
 */

static void end_call(struct runner_call *c, const json_t *result, const struct err *e)
{
	HASH_DELETE(hh, c->link->calls, c);
	c->done(c->ctx, result, e);
	free(c);
}

static void lost(struct runner_link *l, const char *why)
{
	if (l->gone) {
		return;
	}
	l->gone = true;
	(void)uv_poll_stop(&l->poll);
	(void)memccpy(l->why, why, '\0', sizeof(l->why) - 1);
	log_event(LOG_LEVEL_ERROR, "runner_lost", LOG_STR("reason", why));
	struct err e;
	(void)err_set(&e, ERR_UNAVAILABLE, "the runner is gone: %s", l->why);
	while (l->calls != NULL) {
		end_call(l->calls, NULL, &e);
	}
}

static void on_done(struct runner_link *l, const struct ipc_message *m)
{
	struct runner_call *c;
	bool ok = false;
	HASH_FIND(hh, l->calls, &m->ref, sizeof(m->ref), c);
	if (c == NULL) {
		return; /* cancelled meanwhile */
	}
	json_t *value = protocol_done_decode(&m->body, &ok);
	if (value == NULL) {
		lost(l, "it sent a result that is not one");
		return;
	}
	struct err e = {0};
	if (!ok) {
		protocol_error_read(value, &e);
	}
	end_call(c, value, ok ? NULL : &e);
	json_decref(value);
}

static void on_tools_changed(struct runner_link *l, const struct ipc_message *m)
{
	json_t *value = protocol_json_decode(&m->body);
	json_t *tools = json_object_get(value, "tools");
	json_t *problems = json_object_get(value, "problems");
	if (json_is_array(tools) && json_is_array(problems)) {
		l->on_tools(l->ctx, tools, problems);
	}
	json_decref(value);
}

static void receive(struct runner_link *l)
{
	int r = ipc_receive(l->fd, &l->message, false);
	if (r == -EAGAIN || r == 0) {
		return;
	}
	if (r < 0) {
		lost(l, r == -ECONNRESET ? "it ended" : strerrordesc_np(-r));
		return;
	}
	if (l->message.type == IPC_RUNNER_DONE) {
		on_done(l, &l->message);
	} else if (l->message.type == IPC_TOOLS_CHANGED) {
		on_tools_changed(l, &l->message);
	} else {
		lost(l, "it sent a message that is not allowed");
	}
	ipc_message_reset(&l->message);
}

static void on_poll(uv_poll_t *poll, int status, int events);

static void watch(struct runner_link *l)
{
	int events = UV_READABLE | (l->outbox.bytes.len > 0 ? UV_WRITABLE : 0);
	(void)uv_poll_start(&l->poll, events, on_poll);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
	struct runner_link *l = poll->data;
	if (status >= 0 && (events & UV_WRITABLE) != 0) {
		int r = ipc_outbox_flush(&l->outbox, l->fd);
		if (r < 0) {
			lost(l, strerrordesc_np(-r));
			return;
		}
		if (r == 0) {
			watch(l);
		}
	}
	if (status < 0 || (events & UV_READABLE) != 0) {
		receive(l);
	}
}

static bool is_writable(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	return poll(&p, 1, 0) == 1 && (p.revents & POLLOUT) != 0;
}

/* Sends VALUE, with FD where it is one. 0 or -errno. A message with a descriptor cannot wait in the
 * outbox: -EBUSY when the socket is full. */
static int send_json(
    struct runner_link *l, uint32_t type, uint64_t ref, const json_t *value, int fd)
{
	cleanup(buf_fini) struct buf body = BUF_INIT(RUNNER_MESSAGE_MAX_BYTES);
	int r = protocol_json_encode(value, &body);
	if (r < 0) {
		return r;
	}
	if (fd >= 0 && l->outbox.bytes.len == 0 && is_writable(l->fd)) {
		return ipc_send(l->fd, type, ref, body.data, body.len, &fd, 1);
	}
	if (fd >= 0) {
		return -EBUSY;
	}
	bool waited = l->outbox.bytes.len > 0;
	r = ipc_outbox_send(&l->outbox, l->fd, type, ref, body.data, body.len);
	if (r == 0 && !waited && l->outbox.bytes.len > 0) {
		watch(l);
	}
	return r;
}

/* Takes over VALUE. */
static struct runner_call *begin(
    struct runner_link *l, uint32_t type, json_t *value, int fd, runner_done_fn done, void *ctx)
{
	struct err e = {0};
	struct runner_call *c = NULL;
	if (l->gone) {
		(void)err_set(&e, ERR_UNAVAILABLE, "the runner is gone: %s", l->why);
	} else if (HASH_COUNT(l->calls) >= RUNNER_CALLS_MAX) {
		(void)err_set(&e, ERR_BUSY, "too many calls at once");
	} else if (value == NULL || (c = calloc(1, sizeof(*c))) == NULL) {
		(void)err_set(&e, ERR_INTERNAL, "out of memory");
	} else {
		int r = send_json(l, type, ++l->last_ref, value, fd);
		if (r < 0) {
			(void)err_set(&e, r == -EMSGSIZE ? ERR_TOO_LARGE : ERR_BUSY,
			    r == -EMSGSIZE ? "the arguments are too large" : "the runner is busy");
		}
	}
	json_decref(value);
	if (e.code != ERR_NONE) {
		free(c);
		done(ctx, NULL, &e);
		return NULL;
	}
	*c = (struct runner_call){.ref = l->last_ref, .link = l, .done = done, .ctx = ctx};
	HASH_ADD(hh, l->calls, ref, sizeof(c->ref), c);
	return c;
}

struct runner_call *runner_tool(struct runner_link *r, const char *prefix, const char *tool,
    const char *callable, const json_t *arguments, int data_dir_fd, const char *approved,
    runner_done_fn done, void *ctx)
{
	json_t *value = json_pack("{s:s?, s:s, s:s?, s:O, s:s?}", "prefix", prefix, "tool", tool,
	    "callable", callable, "arguments", arguments, "approved", approved);
	return begin(r, data_dir_fd >= 0 ? IPC_TOOL_CALL_DATA : IPC_TOOL_CALL, value, data_dir_fd,
	    done, ctx);
}

struct runner_call *runner_install(
    struct runner_link *r, const json_t *packages, runner_done_fn done, void *ctx)
{
	return begin(r, IPC_DEPS_INSTALL, json_pack("{s:O}", "packages", packages), -1, done, ctx);
}

struct runner_call *runner_find_packages(
    struct runner_link *r, const json_t *packages, runner_done_fn done, void *ctx)
{
	return begin(r, IPC_DEPS_INSTALL,
	    json_pack("{s:O, s:b}", "packages", packages, "find", true), -1, done, ctx);
}

struct runner_call *runner_clean_packages(
    struct runner_link *r, const json_t *in_use, runner_done_fn done, void *ctx)
{
	return begin(r, IPC_DEPS_INSTALL, json_pack("{s:O}", "in_use", in_use), -1, done, ctx);
}

struct runner_call *runner_embed(
    struct runner_link *r, const json_t *texts, runner_done_fn done, void *ctx)
{
	return begin(r, IPC_EMBED, json_incref((json_t *)(uintptr_t)texts), -1, done, ctx);
}

struct runner_call *runner_callback(struct runner_link *r, const char *url, const char *id,
    const char *body, runner_done_fn done, void *ctx)
{
	json_t *value = json_pack("{s:s, s:s, s:s}", "url", url, "id", id, "body", body);
	return begin(r, IPC_CALLBACK, value, -1, done, ctx);
}

void runner_cancel(struct runner_call *c)
{
	if (c == NULL) {
		return;
	}
	struct runner_link *l = c->link;
	if (!l->gone) {
		bool waited = l->outbox.bytes.len > 0;
		(void)ipc_outbox_send(&l->outbox, l->fd, IPC_TOOL_CANCEL, c->ref, "", 0);
		if (!waited && l->outbox.bytes.len > 0) {
			watch(l);
		}
	}
	HASH_DELETE(hh, l->calls, c);
	free(c);
}

void runner_define(struct runner_link *r, const char *prefix, const json_t *definitions)
{
	if (r->gone) {
		return;
	}
	json_t *value = json_pack("{s:s?, s:O}", "prefix", prefix, "definitions", definitions);
	int sent = value == NULL ? -EINVAL : send_json(r, IPC_TOOLS_DEFINE, 0, value, -1);
	json_decref(value);
	if (sent < 0) {
		log_event(LOG_LEVEL_ERROR, "tools_define_failed", LOG_INT("errno", -sent));
	}
}

/* --- starting and stopping it
 * --------------------------------------------------------------------
 */

static json_t *config_json(const struct runner_config *c)
{
	const json_t *secrets = c->secrets;
	const json_t *deps = c->deps;
	json_t *prefixes = json_array();
	for (uint32_t i = 0; i < c->callback_prefix_count; i++) {
		(void)json_array_append_new(prefixes, json_string(c->callback_prefixes[i]));
	}
	return json_pack("{s:s?, s:s?, s:s, s:O?, s:O?, s:{s:s?, s:s?, s:s?}, s:{s:o, s:s?}, s:I}",
	    "tools_dir", c->tools_dir, "tools_file", c->tools_file, "work_dir", c->work_dir,
	    "secrets", secrets, "deps", deps, "embeddings", "url", c->embeddings_url, "model",
	    c->embeddings_model, "secret", c->embeddings_secret, "callbacks", "prefixes", prefixes,
	    "secret", c->callback_secret, "memory_bytes", (json_int_t)c->memory_bytes);
}

static int send_config(struct runner_link *l, const struct runner_config *c, struct err *e)
{
	json_t *value = config_json(c);
	cleanup(buf_fini) struct buf body = BUF_INIT(RUNNER_MESSAGE_MAX_BYTES);
	int r = value == NULL ? -EINVAL : protocol_json_encode(value, &body);
	json_decref(value);
	r = r < 0 ? r : ipc_send(l->fd, IPC_RUNNER_CONFIG, 0, body.data, body.len, NULL, 0);
	if (body.data != NULL) {
		explicit_bzero(body.data, body.len); /* the secrets were in it */
	}
	if (r == -EPIPE || r == -ECONNRESET) {
		return err_set(e, ERR_UNAVAILABLE, "the runner ended at its start");
	}
	return r < 0 ? err_set_os(e, -r, "the runner's socket") : 0;
}

/* Its first word: RUNNER_READY, or why not. */
static int await_ready(struct runner_link *l, struct err *e)
{
	int r;
	do {
		struct pollfd p = {.fd = l->fd, .events = POLLIN};
		if (poll(&p, 1, START_MS) <= 0) {
			return err_set(e, ERR_UNAVAILABLE, "the runner did not start");
		}
		r = ipc_receive(l->fd, &l->message, false);
	} while (r == 0 || r == -EAGAIN);
	if (r < 0) {
		return err_set(e, ERR_UNAVAILABLE, "the runner ended at its start");
	}
	bool ready = l->message.type == IPC_RUNNER_READY;
	if (!ready) {
		bool ok;
		json_t *why = l->message.type == IPC_RUNNER_DONE
				  ? protocol_done_decode(&l->message.body, &ok)
				  : NULL;
		protocol_error_read(why, e);
		json_decref(why);
		(void)err_prefix(e, "the runner");
	}
	ipc_message_reset(&l->message);
	return ready ? 0 : -1;
}

static int start_process(struct runner_link *l, const char *path, struct err *e)
{
	char *const environment[] = {NULL};
	struct ipc_helper runner;
	if (ipc_helper_start(&runner, path, "carrel-runner", environment, e) < 0) {
		return -1;
	}
	l->fd = runner.fd;
	l->pid = runner.pid;
	return 0;
}

static void on_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static int watch_socket(struct runner_link *l, uv_loop_t *loop, struct err *e)
{
	int r = fd_set_nonblocking(l->fd);
	r = r < 0 ? r : uv_poll_init(loop, &l->poll, l->fd);
	return r < 0 ? err_set_os(e, -r, "the runner's socket") : 0;
}

struct runner_link *runner_link_start(uv_loop_t *loop, const struct runner_config *c,
    runner_tools_fn on_tools, void *ctx, struct err *e)
{
	struct runner_link *l = calloc(1, sizeof(*l));
	if (l == NULL) {
		(void)err_set(e, ERR_INTERNAL, "out of memory");
		return NULL;
	}
	l->fd = -1;
	l->on_tools = on_tools;
	l->ctx = ctx;
	l->outbox = IPC_OUTBOX_INIT(RUNNER_OUTBOX_MAX_BYTES);
	l->message = IPC_MESSAGE_INIT(RUNNER_MESSAGE_MAX_BYTES);
	if (start_process(l, c->path, e) < 0 || send_config(l, c, e) < 0 || await_ready(l, e) < 0 ||
	    watch_socket(l, loop, e) < 0) {
		runner_link_stop(l);
		return NULL;
	}
	l->poll_open = true;
	l->poll.data = l;
	watch(l);
	return l;
}

void runner_link_stop(struct runner_link *r)
{
	if (r == NULL) {
		return;
	}
	if (r->poll_open) {
		(void)uv_poll_stop(&r->poll);
	}
	while (r->calls != NULL) {
		struct runner_call *c = r->calls;
		HASH_DELETE(hh, r->calls, c);
		free(c);
	}
	/* At the end of its socket it kills what it started, and ends. */
	fd_close(&r->fd);
	ipc_helper_wait(&r->pid);
	ipc_outbox_fini(&r->outbox);
	ipc_message_fini(&r->message);
	if (r->poll_open) {
		uv_close((uv_handle_t *)&r->poll, on_closed);
	} else {
		free(r);
	}
}
