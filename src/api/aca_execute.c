#include <stdio.h>
#include <string.h>
#include <utlist.h>

#include "api/aca.h"
#include "api/aca_json.h"
#include "api/aca_reply.h"
#include "api/aca_request.h"
#include "api/aca_stream.h"
#include "api/reply_wait.h"

/* struct execution.reply_flags: what a later GET of the execution cannot know otherwise. */
#define REPLY_JUPYTER 1U

static int add_final(struct buf *out, const struct execution *x, const void *format)
{
	return aca_json_add(out, aca_reply_execution(x, format));
}

static void answer_final(struct call *c, const struct execution *x, int err, struct buf *text)
{
	aca_reply_headers(c, x);
	aca_json_reply_text(c, 200, err, text);
}

/* Where to ask for X: beside the route that was used, in the same pool. */
static void set_location(struct call *c, const struct execution *x, const struct aca_format *f)
{
	cleanup(buf_fini) struct buf b = BUF_INIT(64U << 10);
	int r = aca_add_base(&b, c, f->shape == ACA_NEW ? 1 : 2);
	r |= buf_addf(&b, "/executions/%s", x->id);
	r |= aca_add_query(&b, c);
	r |= buf_add_str(&b, "&identifier=");
	r |= aca_add_encoded(&b, x->identifier, false);
	if (r == 0) {
		call_set_header(c, "Operation-Location", buf_str(&b));
	}
}

/* Answers when X is final, which may be now. Takes over the reference to X. */
static void reply_later(
    struct call *c, struct execution *x, const struct aca_format *f, bool abandon_when_gone)
{
	static const struct reply_form form = {add_final, answer_final};
	struct aca_problem p;
	if (!reply_when_final(c, x, &form, f, sizeof(*f), abandon_when_gone)) {
		(void)aca_problem(&p, ACA_INTERNAL, NULL, "out of memory");
		aca_fail(c, &p);
	}
}

/* --- POST ---------------------------------------------------------------------------------------
 */

/* The id a client may choose with the header operation-id; NULL when it is absent or not usable as
 * one segment of a path, and then it is ours. */
static const char *chosen_id(struct call *c)
{
	static const char allowed[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
	const char *id = call_header(c, "operation-id");
	if (id == NULL || *id == '\0' || strlen(id) > 128 || id[strspn(id, allowed)] != '\0') {
		return NULL;
	}
	return strcmp(id, ".") == 0 || strcmp(id, "..") == 0 ? NULL : id;
}

static void reply_accepted(struct call *c, const struct execution *x, const struct aca_format *f)
{
	aca_reply_headers(c, x);
	json_t *j = aca_reply_execution(x, f);
	if (f->shape == ACA_NEW && !execution_is_final(x)) {
		(void)json_object_set_new(j, "status", json_string("Running"));
	}
	aca_json_reply(c, 202, j);
}

static struct execution *start(
    struct call *c, const struct aca_where *w, const struct aca_request *r, struct aca_problem *p)
{
	struct session *s = aca_session_open(w, p);
	if (s == NULL) {
		return NULL;
	}
	struct execution_request request = {
	    .kind = r->kind,
	    .code = {buf_str(&r->code), r->code.len},
	    .standard_input = {buf_str(&r->standard_input), r->standard_input.len},
	    .empty_namespace = r->empty_namespace,
	    .asynchronous = r->asynchronous,
	    .reply_flags = r->jupyter ? REPLY_JUPYTER : 0,
	    .timeout_ms = r->timeout_ms,
	    .output_max_bytes = r->output_max_bytes,
	    .id = chosen_id(c),
	    .by = c->principal->name,
	};
	struct err e;
	struct execution *x = engine_execute(s, &request, &e);
	if (x == NULL) {
		(void)aca_problem_err(p, &e, NULL);
		if (e.code == ERR_BUSY) {
			p->fault = ACA_QUEUE_FULL;
		}
	}
	return x;
}

/* A stream is one, so who reads it reads them all. */
static int extensions_of(struct call *c, struct aca_format *f, struct aca_problem *p)
{
	int r = aca_query_bool(c, "extensions", &f->extensions, p);
	f->extensions = f->extensions || aca_stream_wanted(c);
	return r;
}

static void execute(struct call *c, enum aca_shape shape)
{
	const struct api *api = c->app;
	struct aca_problem p;
	struct aca_where where;
	cleanup(aca_request_fini) struct aca_request request = ACA_REQUEST_INIT;
	const json_t *body = aca_request_body(c, &p);
	struct aca_format format = {.shape = shape, .strings = api->results_as_strings};
	int failed = body == NULL || aca_where(c, body, &where, &p) < 0 ||
		     aca_request_read(&request, body, where.pool, &p) < 0 ||
		     extensions_of(c, &format, &p) < 0;
	struct execution *x = failed ? NULL : start(c, &where, &request, &p);
	if (x == NULL) {
		aca_fail(c, &p);
		return;
	}
	format.jupyter = request.jupyter;
	set_location(c, x, &format);
	if (aca_stream_wanted(c)) {
		aca_stream_reply(c, x, &format, !request.asynchronous);
	} else if (request.asynchronous) {
		reply_accepted(c, x, &format);
		execution_unref(x);
	} else {
		reply_later(c, x, &format, true);
	}
}

void aca_execute_code(struct call *c)
{
	execute(c, ACA_WRAPPED);
}

void aca_execute_python(struct call *c)
{
	execute(c, ACA_FLAT);
}

void aca_execute_new(struct call *c)
{
	execute(c, ACA_NEW);
}

/* --- GET and DELETE executions/{id}
 * --------------------------------------------------------------- */

/* Borrowed; NULL with *P. */
static struct execution *find(struct call *c, struct aca_problem *p)
{
	struct aca_where where;
	if (aca_where(c, NULL, &where, p) < 0) {
		return NULL;
	}
	struct session *s = aca_session_find(&where, true, p);
	if (s == NULL) {
		return NULL;
	}
	struct execution *x = engine_execution_find(s, c->params[0]);
	if (x == NULL) {
		(void)aca_problem(p, ACA_EXECUTION_NOT_FOUND, NULL,
		    "this session has no execution of that id, or it is too long ago");
	}
	return x;
}

/* Borrowed, and how it is told; NULL having answered. */
static struct execution *find_to_tell(struct call *c, struct aca_format *f)
{
	const struct api *api = c->app;
	struct aca_problem p;
	*f = (struct aca_format){.shape = ACA_NEW, .strings = api->results_as_strings};
	struct execution *x = extensions_of(c, f, &p) < 0 ? NULL : find(c, &p);
	if (x == NULL) {
		aca_fail(c, &p);
		return NULL;
	}
	f->jupyter = (x->reply_flags & REPLY_JUPYTER) != 0;
	return x;
}

void aca_execution_get(struct call *c)
{
	struct aca_format format;
	struct execution *x = find_to_tell(c, &format);
	if (x == NULL) {
		return;
	}
	if (aca_stream_wanted(c)) {
		aca_stream_reply(c, execution_ref(x), &format, false);
	} else if (execution_is_final(x)) {
		reply_later(c, execution_ref(x), &format, false);
	} else {
		aca_reply_headers(c, x);
		aca_json_reply(c, 200, aca_reply_execution(x, &format));
	}
}

static void add_entry(json_t *list, const struct execution *x)
{
	(void)json_array_append_new(
	    list, json_pack("{s:s, s:o}", "id", x->id, "status", aca_execution_status(x)));
}

/* Looking at a session does not keep it alive. */
void aca_executions_list(struct call *c)
{
	struct aca_problem p;
	struct aca_where where;
	struct session *s = NULL;
	if (aca_where(c, NULL, &where, &p) == 0) {
		s = aca_session_find(&where, false, &p);
	}
	if (s == NULL) {
		aca_fail(c, &p);
		return;
	}
	json_t *list = json_array();
	const struct execution *x;
	DL_FOREACH(s->finished, x)
	{
		add_entry(list, x);
	}
	DL_FOREACH(s->queue, x)
	{
		add_entry(list, x);
	}
	call_reply_json(c, 200, json_pack("{s:o}", "value", list));
}

/* Interrupts it, and answers once it has ended. */
void aca_execution_delete(struct call *c)
{
	struct aca_format format;
	struct execution *x = find_to_tell(c, &format);
	if (x == NULL) {
		return;
	}
	(void)execution_ref(x);
	engine_cancel(x);
	reply_later(c, x, &format, false);
}
