#include "api/aca_reply.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/aca_value.h"
#include "base/json_text.h"
#include "base/text.h"
#include "base/unicode.h"
#include "engine/outcome.h"

/* Why it ended, as Azure says it where it is known to. */
static const char *sentence_of(const struct execution *x)
{
	if (x->verdict == VERDICT_TIME_LIMIT) {
		return "Request timed out waiting for code execution to complete";
	}
	/* Caught in the session it is a MemoryError with a traceback; else it was killed. */
	bool killed = x->verdict == VERDICT_MEMORY_LIMIT && x->oom_kills == 0 &&
		      x->value.traceback.len == 0;
	return killed ? "Execution aborted" : outcome_sentence(x);
}

/* --- stdout and stderr --------------------------------------------------------------------------
 */

/* Clients of Azure's wire look at stdout and at the result slot, and nowhere else. */
static json_t *stdout_json(const struct execution *x, const struct aca_format *f)
{
	if (x->out_cut_bytes == 0 && x->display_count == 0) {
		return aca_string(buf_str(&x->out), x->out.len);
	}
	cleanup(buf_fini) struct buf b = BUF_INIT(outcome_stdout_max(x));
	outcome_add_stdout(&b, x, !f->extensions);
	return aca_string(buf_str(&b), b.len);
}

static json_t *stderr_json(const struct execution *x)
{
	size_t bytes = (x->err.len + x->value.traceback.len) * 3;
	cleanup(buf_fini) struct buf b = BUF_INIT(bytes + OUTCOME_NOTES_MAX_BYTES);
	outcome_add_stream(&b, &x->err, x->err_cut_bytes);
	outcome_add_why(&b, x, sentence_of(x));
	return aca_string(buf_str(&b), b.len);
}

/* --- displays -----------------------------------------------------------------------------------
 */

/* True when the result slot, holding item SLOT_ITEM of the only display, tells all of it. A
 * figure's text/plain ("<Figure size 640x480>") is no loss. */
static bool slot_tells_all(const struct execution *x, uint32_t slot_item)
{
	const struct display *d = x->displays[0];
	for (uint32_t i = 0; i < d->count; i++) {
		if (i != slot_item && strcmp(d->items[i].mime, "text/plain") != 0) {
			return false;
		}
	}
	return x->display_count == 1;
}

static void add_displays(json_t *to, const struct execution *x, bool has_image, uint32_t slot_item)
{
	if (x->display_count == 0 || (has_image && slot_tells_all(x, slot_item))) {
		return;
	}
	json_t *list = json_array();
	for (size_t i = 0; i < x->display_count; i++) {
		(void)json_array_append_new(list, outcome_display(x->displays[i]));
	}
	(void)json_object_set_new(to, "displays", list);
}

/* --- what the wire has no member for ------------------------------------------------------------
 */

static void add_truncated(json_t *to, const struct execution *x)
{
	json_t *cut = json_object();
	if (x->out_cut_bytes > 0) {
		(void)json_object_set_new(
		    cut, "stdout", json_integer((json_int_t)x->out_cut_bytes));
	}
	if (x->err_cut_bytes > 0) {
		(void)json_object_set_new(
		    cut, "stderr", json_integer((json_int_t)x->err_cut_bytes));
	}
	if (x->displays_cut > 0) {
		(void)json_object_set_new(cut, "displays", json_integer(x->displays_cut));
	}
	if (json_object_size(cut) > 0) {
		(void)json_object_set(to, "truncated", cut);
	}
	json_decref(cut);
}

/* displays, and the value that an image has taken the slot from. */
static void add_shown(json_t *to, const struct execution *x, const struct aca_format *f)
{
	size_t display = 0;
	uint32_t item = 0;
	bool has_image = aca_value_image(x, &display, &item);
	add_displays(to, x, has_image, item);
	if (has_image && x->value.kind != IPC_KIND_NONE && x->value.kind != IPC_KIND_NULL) {
		(void)json_object_set_new(to, "value", aca_value_json(&x->value, f->jupyter));
	}
}

/* What is told beyond Azure's members: of what it shows nothing unless it was asked for, and in the
 * old dialects nothing at all. */
static void add_extras(json_t *to, const struct execution *x, const struct aca_format *f)
{
	if (f->extensions) {
		add_shown(to, x, f);
	} else if (f->shape != ACA_NEW) {
		return;
	}
	(void)json_object_set_new(to, "verdict", json_string(verdict_name(x->verdict)));
	if (x->kind != IPC_EXECUTE_PYTHON && f->shape != ACA_NEW) {
		/* The new shape has it as its status. */
		(void)json_object_set_new(to, "exitCode", json_integer(outcome_exit_code(x)));
	}
	add_truncated(to, x);
	if (x->new_session) {
		(void)json_object_set_new(to, "newSession", json_true());
	}
}

/* --- the reply
 * ------------------------------------------------------------------------------------ */

/* JSON text in a string, for anything but strings. */
static json_t *as_string(json_t *j)
{
	if (json_is_string(j)) {
		return j;
	}
	cleanup(buf_fini) struct buf text = BUF_INIT(JSON_TEXT_MAX_BYTES);
	(void)json_text_add_tree(&text, j);
	json_t *s = aca_string(buf_str(&text), text.len);
	json_decref(j);
	return s;
}

static json_t *slot_json(const struct execution *x, const struct aca_format *f)
{
	size_t display;
	uint32_t item;
	json_t *j = aca_value_image(x, &display, &item)
			? aca_value_image_json(x->displays[display], item)
			: aca_value_json(&x->value, f->jupyter);
	return f->strings ? as_string(j) : j;
}

static json_t *duration_json(const struct execution *x)
{
	return json_integer((json_int_t)((x->duration_us + 500) / 1000));
}

/* The members of the old dialects. Microsoft's own dumps name the slot sometimes result and
 * sometimes executionResult; a pool of Python has the first. */
static void add_old(json_t *to, const struct execution *x, const struct aca_format *f)
{
	if (!execution_is_final(x)) {
		(void)json_object_set_new(to, "status", json_string("Running"));
		(void)json_object_set_new(to, "id", json_string(x->id));
		return;
	}
	bool succeeded = x->state == EXECUTION_SUCCEEDED;
	(void)json_object_set_new(to, "status", json_string(succeeded ? "Success" : "Failure"));
	(void)json_object_set_new(to, "stdout", stdout_json(x, f));
	(void)json_object_set_new(to, "stderr", stderr_json(x));
	(void)json_object_set_new(to, "result", slot_json(x, f));
	(void)json_object_set_new(to, "executionTimeInMilliseconds", duration_json(x));
	add_extras(to, x, f);
}

/* A shell pool's status is the exit status as a string. */
static json_t *status_json(const struct execution *x)
{
	if (x->kind == IPC_EXECUTE_PYTHON || !execution_is_final(x)) {
		return json_string(execution_state_name(x->state));
	}
	char text[16];
	(void)snprintf(text, sizeof(text), "%" PRIu32, outcome_exit_code(x));
	return json_string(text);
}

/* {"error":{"code","message"}}: the exception's name and value, else the verdict in words. A
 * command that ran and said "not zero" is no error of ours to tell. */
static void add_error(json_t *to, const struct execution *x)
{
	const struct execution_value *v = &x->value;
	const char *sentence = sentence_of(x);
	json_t *code;
	json_t *message;
	if (v->error_name.len > 0) {
		code = aca_string(buf_str(&v->error_name), v->error_name.len);
		message = aca_string(buf_str(&v->error_value), v->error_value.len);
	} else if (x->kind != IPC_EXECUTE_PYTHON && x->verdict == VERDICT_EXCEPTION) {
		return;
	} else {
		code = json_string(verdict_name(x->verdict));
		message = json_string(sentence != NULL ? sentence : "The code did not succeed");
	}
	(void)json_object_set_new(
	    to, "error", json_pack("{s:{s:o, s:o}}", "error", "code", code, "message", message));
}

static json_t *new_json(const struct execution *x, const struct aca_format *f)
{
	json_t *j = json_pack("{s:s, s:o, s:s, s:s, s:o}", "id", x->id, "identifier",
	    aca_text(x->identifier), "sessionId", x->session_guid, "executionType",
	    x->asynchronous ? "Asynchronous" : "Synchronous", "status", status_json(x));
	if (!execution_is_final(x)) {
		return j;
	}
	(void)json_object_set_new(j, "result",
	    json_pack("{s:o, s:o, s:o, s:o}", "stdout", stdout_json(x, f), "stderr", stderr_json(x),
		"executionResult", slot_json(x, f), "executionTimeInMilliseconds",
		duration_json(x)));
	if (x->state == EXECUTION_FAILED) {
		add_error(j, x);
	}
	add_extras(j, x, f);
	return j;
}

json_t *aca_reply_execution(const struct execution *x, const struct aca_format *f)
{
	if (f->shape == ACA_NEW) {
		return new_json(x, f);
	}
	bool wrapped = f->shape == ACA_WRAPPED;
	json_t *members = json_pack("{s:s}", "$id", wrapped ? "2" : "1");
	add_old(members, x, f);
	return wrapped ? json_pack("{s:s, s:o}", "$id", "1", "properties", members) : members;
}

static void set_milliseconds(struct call *c, const char *name, uint64_t us)
{
	char text[24];
	(void)snprintf(text, sizeof(text), "%" PRIu64, us / 1000);
	call_set_header(c, name, text);
}

void aca_reply_headers(struct call *c, const struct execution *x)
{
	call_set_header(c, "Operation-Id", x->id);
	call_set_header(c, "X-Ms-Session-Guid", x->session_guid);
	if (execution_is_final(x)) {
		/* From the session's start of it, and from the request. */
		uint64_t since = x->started_us != 0 ? x->started_us : x->ended_us;
		set_milliseconds(c, "X-Ms-Execution-Request-Time", x->ended_us - since);
		set_milliseconds(c, "X-Ms-Overall-Execution-Time", x->ended_us - x->queued_us);
	}
}
