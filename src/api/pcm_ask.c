#include "api/pcm_ask.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_text.h"

struct asking {
	struct call *call;
	struct codemode_call *pending;
	struct buf bytes;
	char prefix[ENGINE_TENANT_MAX + 1];
	char workspace[ENGINE_WORKSPACE_MAX + 1];
	pcm_answer_fn answer;
	void *state;
	void (*drop)(void *state);
	bool starting; /* pcm_ask has not returned yet */
	bool done;
	const char *action; /* for the audit trail; NULL: nothing is changed */
	char *subject;
};

static void drop_state(void (*drop)(void *state), void *state)
{
	if (drop != NULL) {
		drop(state);
	}
}

static void asking_free(struct asking *a)
{
	buf_fini(&a->bytes);
	free(a->subject);
	free(a);
}

/* Methods that change what outlives sessions, and the argument that names what they change. */
static void note_change(struct asking *a, const char *method, const json_t *arguments)
{
	static const struct {
		const char *method;
		const char *subject;
	} changes[] = {{"deps.add", "package"}, {"deps.remove", "package"},
	    {"skills.create", "name"}, {"skills.delete", "name"}, {"artifacts.delete", "name"}};
	for (size_t i = 0; i < array_len(changes); i++) {
		const char *subject = json_string_value(
		    json_object_get(arguments, changes[i].subject));
		if (strcmp(method, changes[i].method) == 0) {
			a->action = changes[i].method;
			a->subject = subject != NULL ? strdup(subject) : NULL;
		}
	}
}

static void on_done(
    void *ctx, enum codemode_error code, const json_t *result, struct loading *bytes)
{
	struct asking *a = ctx;
	struct call *c = a->call;
	bool starting = a->starting;
	c->ctx = NULL;
	c->gone = NULL;
	a->done = true;
	if (a->action != NULL) {
		api_audit(c, a->action, a->subject != NULL ? a->subject : "", a->prefix,
		    code == CODEMODE_OK);
	}
	a->answer(c, a->state, code, result, bytes);
	if (!starting) {
		asking_free(a);
	}
}

static void on_gone(struct call *c)
{
	struct asking *a = c->ctx;
	codemode_cancel(a->pending);
	drop_state(a->drop, a->state);
	asking_free(a);
}

/* Fails with the state dropped. */
static void refuse(struct call *c, struct pcm_question *q, int status, const char *text)
{
	json_decref(q->arguments);
	buf_fini(&q->bytes);
	drop_state(q->drop, q->state);
	pcm_fail(c, status, "%s", text);
}

void pcm_ask(struct call *c, const struct store_space *space, struct pcm_question *q)
{
	const struct api *api = c->app;
	if (api->codemode == NULL) {
		refuse(c, q, 503, "Code mode is not available on this server");
		return;
	}
	struct asking *a = calloc(1, sizeof(*a));
	if (a == NULL) {
		refuse(c, q, 500, "Internal Server Error");
		return;
	}
	*a = (struct asking){.call = c,
	    .bytes = q->bytes,
	    .answer = q->answer,
	    .state = q->state,
	    .drop = q->drop,
	    .starting = true};
	/* Copies: the ids' table may change while this waits. */
	struct store_space own = {0};
	if (space->prefix != NULL) {
		(void)snprintf(a->prefix, sizeof(a->prefix), "%s", space->prefix);
		own.prefix = a->prefix;
	}
	if (space->workspace != NULL && !q->server_space) {
		(void)snprintf(a->workspace, sizeof(a->workspace), "%s", space->workspace);
		own.workspace = a->workspace;
	}
	note_change(a, q->method, q->arguments);
	c->ctx = a;
	c->gone = on_gone;
	struct codemode_call *pending = codemode_call(api->codemode, &own, q->method, q->arguments,
	    a->bytes.max > 0 ? &a->bytes : NULL, q->system, on_done, a);
	json_decref(q->arguments);
	if (a->done) {
		asking_free(a);
		return;
	}
	a->pending = pending;
	a->starting = false;
}

const char *pcm_message(const json_t *failure)
{
	const char *text = json_string_value(json_object_get(failure, "message"));
	return text != NULL ? text : "Internal Server Error";
}

void pcm_fail_code(struct call *c, enum codemode_error code, const json_t *failure)
{
	static const int statuses[] = {
	    [CODEMODE_OK] = 500,
	    [CODEMODE_INVALID] = 400,
	    [CODEMODE_NOT_FOUND] = 404,
	    [CODEMODE_DENIED] = 403,
	    [CODEMODE_UNAVAILABLE] = 503,
	    [CODEMODE_FAILED] = 500,
	};
	pcm_fail(c, statuses[code], "%s", pcm_message(failure));
}

static void on_text_unwanted(struct call *c)
{
	json_work_cancel(c->ctx);
}

static void on_text(void *ctx, int err, struct buf *text)
{
	struct call *c = ctx;
	c->ctx = NULL;
	c->gone = NULL;
	pcm_reply_written(c, err, text);
}

void pcm_answer_written(struct call *c, const json_t *result, json_add_fn add)
{
	const struct api *api = c->app;
	struct json_job *j = codemode_text(api->codemode, c->holder, result, add, on_text, c);
	if (j != NULL) {
		c->ctx = j;
		c->gone = on_text_unwanted;
	}
}

void pcm_answer_result(struct call *c, void *state, enum codemode_error code, const json_t *result,
    struct loading *bytes)
{
	(void)state;
	(void)bytes;
	if (code != CODEMODE_OK) {
		pcm_fail_code(c, code, result);
	} else {
		pcm_answer_written(c, result, json_text_add_tree);
	}
}
