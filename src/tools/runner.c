#include "tools/runner.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/log.h"
#include "base/text.h"
#include "tools/definition.h"
#include "tools/mcp.h"
#include "tools/protocol.h"
#include "tools/secrets.h"

/* --- answers
 * -------------------------------------------------------------------------------------
 */

static void send_message(struct runner *r, uint32_t type, uint64_t ref, const struct buf *body)
{
	int sent = ipc_outbox_send(&r->outbox, r->fd, type, ref, buf_str(body), body->len);
	if (sent < 0) {
		log_event(LOG_LEVEL_ERROR, "answer_lost", LOG_INT("errno", -sent));
	}
	runner_watch(r);
}

static void send_done(struct runner *r, uint64_t ref, bool ok, json_t *value)
{
	cleanup(buf_fini) struct buf body = BUF_INIT(RUNNER_MESSAGE_MAX_BYTES);
	int encoded = value == NULL ? -1 : protocol_done_encode(ok, value, &body);
	json_decref(value);
	if (encoded < 0) {
		struct err e;
		(void)err_set(&e, ERR_TOO_LARGE, "the result is too large");
		buf_clear(&body);
		json_t *error = protocol_error(&e, NULL);
		(void)protocol_done_encode(false, error, &body);
		json_decref(error);
	}
	send_message(r, IPC_RUNNER_DONE, ref, &body);
}

void runner_answer(struct runner *r, uint64_t ref, json_t *result)
{
	send_done(r, ref, true, result);
}

static void refuse(struct runner *r, uint64_t ref, const struct err *e, const char *message)
{
	cleanup(buf_fini) struct buf text = BUF_INIT(RUNNER_TEXT_MAX_BYTES * 4);
	const char *said = message != NULL ? message : e->text;
	(void)secrets_redact(r->secrets, said, strlen(said), &text);
	send_done(r, ref, false, protocol_error(e, buf_str(&text)));
}

void runner_refuse(struct runner *r, uint64_t ref, const struct err *e)
{
	refuse(r, ref, e, NULL);
}

void runner_refuse_unapproved(struct runner *r, uint64_t ref, const char *definition)
{
	struct err e;
	(void)err_set(&e, ERR_DENIED, "a person has to allow this call");
	json_t *error = protocol_error(&e, NULL);
	(void)json_object_set_new(error, "definition", json_string(definition));
	send_done(r, ref, false, error);
}

int runner_task_add(struct runner *r, struct runner_task *t, uint64_t ref,
    void (*cancel)(struct runner_task *t), struct err *e)
{
	struct runner_task *other;
	HASH_FIND(hh, r->tasks, &ref, sizeof(ref), other);
	if (other != NULL || HASH_COUNT(r->tasks) >= RUNNER_TASKS_MAX) {
		return err_set(e, ERR_BUSY, "too many calls at once");
	}
	t->runner = r;
	t->ref = ref;
	t->cancel = cancel;
	HASH_ADD(hh, r->tasks, ref, sizeof(t->ref), t);
	return 0;
}

void runner_task_done(struct runner_task *t, json_t *result)
{
	HASH_DELETE(hh, t->runner->tasks, t);
	runner_answer(t->runner, t->ref, result);
}

void runner_task_failed(struct runner_task *t, const struct err *e, const char *message)
{
	HASH_DELETE(hh, t->runner->tasks, t);
	refuse(t->runner, t->ref, e, message);
}

json_t *runner_text_result(const struct runner *r, const char *text, size_t len, bool cut)
{
	cleanup(buf_fini) struct buf clean = BUF_INIT(RUNNER_TEXT_MAX_BYTES * 4);
	cleanup(buf_fini) struct buf out = BUF_INIT(RUNNER_TEXT_MAX_BYTES * 4);
	if (text_add_utf8_lossy(&clean, text, len) < 0 ||
	    secrets_redact(r->secrets, buf_str(&clean), clean.len, &out) < 0) {
		return NULL;
	}
	if (cut) {
		(void)buf_addf(&out, "\n[output cut after %zu bytes]\n", len);
	}
	return json_pack("{s:o}", "text", json_stringn(buf_str(&out), out.len));
}

json_t *runner_expand(const struct runner *r, const json_t *texts, struct err *e)
{
	json_t *out = json_object();
	const char *name;
	json_t *value;
	json_object_foreach((json_t *)(uintptr_t)texts, name, value)
	{
		cleanup(buf_fini) struct buf text = BUF_INIT(256U << 10);
		if (secrets_expand(r->secrets, json_string_value(value), &text, e) < 0) {
			json_decref(out);
			return NULL;
		}
		(void)json_object_set_new(out, name, json_stringn(buf_str(&text), text.len));
	}
	return out;
}

/* --- what there is
 * -------------------------------------------------------------------------------
 */

struct listing {
	struct runner *r;
	json_t *tools;
};

static void add_listing(void *ctx, const char *prefix, const json_t *tool)
{
	struct listing *l = ctx;
	json_t *listing = definition_listing(tool, prefix);
	if (strcmp(json_string_value(json_object_get(tool, "type")), "mcp") == 0) {
		json_t *callables = mcp_callables(l->r->mcp, prefix, tool);
		if (callables == NULL) {
			json_decref(listing); /* it has not told yet what it has */
			return;
		}
		(void)json_object_set(listing, "callables", callables);
	}
	(void)json_array_append_new(l->tools, listing);
}

static int by_name(const void *a, const void *b)
{
	const json_t *const *x = a;
	const json_t *const *y = b;
	return strcmp(json_string_value(json_object_get(*x, "name")),
	    json_string_value(json_object_get(*y, "name")));
}

static json_t *sorted(json_t *tools)
{
	size_t count = json_array_size(tools);
	json_t **list = calloc(count + 1, sizeof(json_t *));
	json_t *out = json_array();
	for (size_t i = 0; list != NULL && i < count; i++) {
		list[i] = json_array_get(tools, i);
	}
	if (list != NULL) {
		qsort(list, count, sizeof(json_t *), by_name);
	}
	for (size_t i = 0; list != NULL && i < count; i++) {
		(void)json_array_append(out, list[i]);
	}
	free(list);
	json_decref(tools);
	return out;
}

void runner_tools_changed(struct runner *r)
{
	struct listing l = {.r = r, .tools = json_array()};
	catalog_each(r->catalog, add_listing, &l);
	json_t *problems = catalog_problems(r->catalog);
	mcp_problems(r->mcp, problems);
	json_t *all = json_pack("{s:o, s:o}", "tools", sorted(l.tools), "problems", problems);
	cleanup(buf_fini) struct buf body = BUF_INIT(RUNNER_MESSAGE_MAX_BYTES);
	int encoded = protocol_json_encode(all, &body);
	json_decref(all);
	if (encoded < 0) {
		log_event(LOG_LEVEL_ERROR, "tools_too_many", LOG_INT("errno", -encoded));
		return;
	}
	send_message(r, IPC_TOOLS_CHANGED, 0, &body);
}
