/* A server of tools that is a program: each message is a line on its standard input and output. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/text.h"
#include "tools/mcp.h"
#include "tools/mcp_transport.h"
#include "tools/process.h"
#include "tools/secrets.h"

#define SAID_BYTES 200

struct stdio_connection {
	struct mcp_owner owner;
	struct process *process;
	struct buf line;
	char said[SAID_BYTES]; /* the end of what it said on standard error */
};

static void down(struct stdio_connection *c, const char *why)
{
	process_cancel(c->process);
	c->process = NULL;
	c->owner.on_down(c->owner.ctx, why);
}

/* Takes whole lines out of what has come. */
static void on_out(void *ctx, const char *bytes, size_t len)
{
	struct stdio_connection *c = ctx;
	while (len > 0 && c->process != NULL) {
		const char *end = memchr(bytes, '\n', len);
		size_t n = end != NULL ? (size_t)(end - bytes) : len;
		if (buf_add(&c->line, bytes, n) < 0) {
			down(c, "it sent a message that is too long");
			return;
		}
		bytes += n;
		len -= n;
		if (end == NULL) {
			return;
		}
		bytes++;
		len--;
		if (c->line.len > 0) {
			c->owner.on_message(c->owner.ctx, buf_str(&c->line), c->line.len);
		}
		buf_clear(&c->line);
	}
}

static void on_err(void *ctx, const char *bytes, size_t len)
{
	struct stdio_connection *c = ctx;
	cleanup(buf_fini) struct buf clean = BUF_INIT(1U << 20);
	cleanup(buf_fini) struct buf text = BUF_INIT(1U << 20);
	(void)text_add_utf8_lossy(&clean, bytes, len);
	(void)secrets_redact(c->owner.runner->secrets, buf_str(&clean), clean.len, &text);
	while (text.len > 0 && text.data[text.len - 1] == '\n') {
		text.data[--text.len] = '\0';
	}
	const char *last = strrchr(buf_str(&text), '\n');
	(void)snprintf(c->said, sizeof(c->said), "%s", last != NULL ? last + 1 : buf_str(&text));
	log_event(LOG_LEVEL_DEBUG, "mcp_stderr", LOG_STR("tool", c->owner.name),
	    LOG_STR("text", buf_str(&text)));
}

static void on_ended(void *ctx, const struct process_end *end)
{
	struct stdio_connection *c = ctx;
	char why[SAID_BYTES + 128];
	char status[32];
	(void)snprintf(status, sizeof(status), "ended with status %d", end->status);
	(void)snprintf(why, sizeof(why), "it %s%s%s",
	    end->memory_full ? "was " PROCESS_MEMORY_FULL : status, *c->said != '\0' ? ": " : "",
	    c->said);
	c->process = NULL;
	c->owner.on_down(c->owner.ctx, why);
}

static json_t *words_of(const json_t *spec)
{
	json_t *words = json_array();
	(void)json_array_append(words, json_object_get(spec, "command"));
	(void)json_array_extend(words, json_object_get(spec, "args"));
	return words;
}

static void *stdio_open(const struct mcp_owner *o, struct err *e)
{
	struct stdio_connection *c = calloc(1, sizeof(*c));
	cleanup(json_decrefp) json_t *words = words_of(o->spec);
	cleanup(json_decrefp)
	    json_t *env = runner_expand(o->runner, json_object_get(o->spec, "env"), e);
	if (c == NULL || env == NULL) {
		free(c);
		return NULL;
	}
	c->owner = *o;
	c->line = BUF_INIT(MCP_MESSAGE_MAX_BYTES);
	const struct process_options options = {
	    .words = words,
	    .environment = env,
	    .read_paths = json_object_get(o->spec, "read"),
	    .data_dir_fd = -1,
	    .input = true,
	    .on_out = on_out,
	    .on_err = on_err,
	    .done = on_ended,
	    .ctx = c,
	};
	c->process = process_start(&o->runner->loop, o->runner->walls, &options, e);
	if (c->process == NULL) {
		free(c);
		return NULL;
	}
	o->on_open(o->ctx);
	return c;
}

static int stdio_send(
    void *connection, uint64_t id, uint64_t timeout_ms, const char *text, size_t len, struct err *e)
{
	struct stdio_connection *c = connection;
	(void)id;
	(void)timeout_ms;
	cleanup(buf_fini) struct buf line = BUF_INIT(MCP_MESSAGE_MAX_BYTES + 1);
	if (buf_add(&line, text, len) < 0 || buf_add_char(&line, '\n') < 0) {
		return err_set(e, ERR_TOO_LARGE, "the message is too large");
	}
	if (c->process == NULL || process_write(c->process, line.data, line.len) < 0) {
		return err_set(e, ERR_UNAVAILABLE, "it does not read what it is sent");
	}
	return 0;
}

static void stdio_close(void *connection)
{
	struct stdio_connection *c = connection;
	process_cancel(c->process);
	buf_fini(&c->line);
	free(c);
}

const struct mcp_transport mcp_stdio = {
    .open = stdio_open, .send = stdio_send, .close = stdio_close};
