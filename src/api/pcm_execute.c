/* POST /execute: a cell, and its outcome when it has ended. */
#include <math.h>
#include <string.h>

#include "api/pcm_form.h"
#include "api/pcm_reply.h"
#include "api/pcm_session.h"
#include "api/reply_wait.h"

#define CODE_MAX_BYTES (4U << 20)

/* What the answer needs of its request: WITH_EXTENSIONS or WITHOUT, and the session's id. */
#define WITH_EXTENSIONS '+'
#define WITHOUT '-'

static int add_final(struct buf *out, const struct execution *x, const void *asked)
{
	const char *text = asked;
	return pcm_reply_execution(out, x, text + 1, *text == WITH_EXTENSIONS);
}

static void answer_final(struct call *c, const struct execution *x, int err, struct buf *text)
{
	(void)x;
	pcm_reply_written(c, err, text);
}

/* ID as the client knows it. Takes over the reference to X. */
static void reply_later(struct call *c, struct execution *x, const char *id)
{
	static const struct reply_form form = {add_final, answer_final};
	cleanup(buf_fini) struct buf asked = BUF_INIT(64U << 10);
	const char *extensions = call_query(c, "extensions");
	bool wanted = extensions != NULL && strcmp(extensions, "true") == 0;
	int r = buf_add_char(&asked, wanted ? WITH_EXTENSIONS : WITHOUT);
	r = r < 0 ? r : buf_add(&asked, id, strlen(id) + 1);
	if (r < 0) {
		engine_cancel(x);
		execution_unref(x);
	}
	if (r < 0 || !reply_when_final(c, x, &form, asked.data, asked.len, true)) {
		pcm_fail(c, 500, "Internal Server Error");
	}
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
		reply_later(c, x, where.id);
	}
}
