/* POST /execute: a cell, and its outcome when it has ended. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "api/pcm_form.h"
#include "api/pcm_reply.h"
#include "api/pcm_session.h"
#include "base/json_text.h"

#define CODE_MAX_BYTES (4U << 20)

/* A call that waits for its execution to end. */
struct waiting {
	struct call *call;
	struct execution *x;
	struct execution_observer observer;
	char own_id[TEXT_GUID_BYTES]; /* when the request named no session */
};

/* The id as the client knows it. */
static const char *id_of(struct call *c, const char *own_id)
{
	return own_id[0] != '\0' ? own_id : call_header(c, "X-Session-ID");
}

static void reply_now(struct call *c, const struct execution *x, const char *own_id)
{
	struct buf body = BUF_INIT(JSON_TEXT_MAX_BYTES);
	if (pcm_reply_execution(&body, x, id_of(c, own_id)) < 0) {
		pcm_fail(c, 500, "The answer could not be put together");
	} else {
		pcm_reply_text(c, 200, &body);
	}
	buf_fini(&body);
}

static void waiting_free(struct waiting *w)
{
	execution_unobserve(w->x, &w->observer);
	execution_unref(w->x);
	free(w);
}

static void on_change(void *ctx, struct execution *x)
{
	struct waiting *w = ctx;
	if (!execution_is_final(x)) {
		return;
	}
	struct call *c = w->call;
	c->gone = NULL;
	c->ctx = NULL;
	reply_now(c, x, w->own_id);
	waiting_free(w);
}

/* Nobody waits for it any more: a stuck execution must not block its session. */
static void on_gone(struct call *c)
{
	struct waiting *w = c->ctx;
	struct execution *x = execution_ref(w->x);
	waiting_free(w);
	engine_abandon(x);
	execution_unref(x);
}

/* Takes over the reference to X. */
static void reply_when_final(struct call *c, struct execution *x, const char *own_id)
{
	if (execution_is_final(x)) {
		reply_now(c, x, own_id);
		execution_unref(x);
		return;
	}
	struct waiting *w = calloc(1, sizeof(*w));
	if (w == NULL) {
		engine_cancel(x);
		execution_unref(x);
		pcm_fail(c, 500, "Internal Server Error");
		return;
	}
	*w = (struct waiting){.call = c, .x = x};
	memcpy(w->own_id, own_id, sizeof(w->own_id));
	w->observer = (struct execution_observer){.notify = on_change, .ctx = w};
	execution_observe(x, &w->observer);
	c->ctx = w;
	c->gone = on_gone;
}

/* 0 stands for the default, as with the reference. */
static uint32_t timeout_of(const struct call *c, double seconds)
{
	const struct pcm_config *config = pcm_config(c);
	double ms = ceil(seconds * 1000);
	if (!(ms > 0)) {
		return config->timeout_ms;
	}
	return ms < config->timeout_max_ms ? (uint32_t)ms : config->timeout_max_ms;
}

/* A new reference; NULL having answered. The code is borrowed for the call. */
static struct execution *start(
    struct call *c, struct pcm_where *w, const char *code, double timeout_s)
{
	if (w->id[0] == '\0' && !pcm_give_id(c, w, NULL)) {
		return NULL;
	}
	struct session *s = pcm_session_open(c, w);
	if (s == NULL) {
		return NULL;
	}
	struct execution_request request = {
	    .kind = IPC_EXECUTE_PYTHON,
	    .code = {code, strlen(code)},
	    .values = true,
	    .timeout_ms = timeout_of(c, timeout_s),
	    .by = c->principal->name,
	};
	struct err e;
	struct execution *x = engine_execute(s, &request, &e);
	if (x == NULL) {
		pcm_fail_err(c, &e);
	}
	return x;
}

void pcm_execute(struct call *c)
{
	struct pcm_form f;
	struct pcm_where where;
	struct execution *x = NULL;
	if (pcm_form_open(&f, c, PCM_BODY)) {
		const char *code = pcm_form_text(&f, "code", NULL);
		double timeout_s = pcm_form_seconds(&f, "timeout");
		if (!pcm_form_close(&f)) {
			code = NULL;
		} else if (strlen(code) > CODE_MAX_BYTES) {
			pcm_fail(c, 413, "The code is larger than %u bytes", CODE_MAX_BYTES);
			code = NULL;
		}
		if (code != NULL && pcm_where(c, &where, true)) {
			x = start(c, &where, code, timeout_s);
		}
	}
	pcm_form_fini(&f);
	if (x != NULL) {
		reply_when_final(c, x, where.own_id);
	}
}
