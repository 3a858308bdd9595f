/* POST /execute: a cell, and its outcome when it has ended. */
#include <math.h>
#include <string.h>

#include "api/pcm_form.h"
#include "api/pcm_reply.h"
#include "api/pcm_session.h"
#include "api/reply_wait.h"
#include "base/json_text.h"

#define CODE_MAX_BYTES (4U << 20)

/* The id as the client knows it. */
static const char *id_of(struct call *c, const char *own_id)
{
	return own_id[0] != '\0' ? own_id : call_header(c, "X-Session-ID");
}

/* OWN_ID: the one that was given when the request named no session, or "". */
static void reply_now(struct call *c, struct execution *x, const void *own_id)
{
	struct buf body = BUF_INIT(JSON_TEXT_MAX_BYTES);
	const char *extensions = call_query(c, "extensions");
	bool wanted = extensions != NULL && strcmp(extensions, "true") == 0;
	if (pcm_reply_execution(&body, x, id_of(c, own_id), wanted) < 0) {
		pcm_fail(c, 500, "The answer could not be put together");
	} else {
		pcm_reply_text(c, 200, &body);
	}
	buf_fini(&body);
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
	if (x != NULL &&
	    !reply_when_final(c, x, reply_now, where.own_id, sizeof(where.own_id), true)) {
		pcm_fail(c, 500, "Internal Server Error");
	}
}
