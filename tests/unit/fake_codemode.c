#include "fake_codemode.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct codemode_call {
	struct codemode *codemode;
	unsigned answer;
	codemode_done_fn done;
	void *ctx;
};

void fake_codemode_answer(struct codemode *m, const char *method, enum codemode_error code,
    const char *result, const char *bytes, size_t len)
{
	unsigned i = 0;
	while (i < m->answer_count && strcmp(m->answers[i].method, method) != 0) {
		i++;
	}
	assert(i < FAKE_ANSWERS_MAX);
	if (i == m->answer_count) {
		m->answer_count++;
	} else {
		json_decref(m->answers[i].result);
	}
	m->answers[i].method = method;
	m->answers[i].code = code;
	m->answers[i].result = json_loads(result, JSON_DECODE_ANY, NULL);
	m->answers[i].bytes = bytes;
	m->answers[i].len = len;
	assert(m->answers[i].result != NULL);
}

const struct fake_asked *fake_codemode_last(const struct codemode *m)
{
	assert(m->asked_count > 0);
	return &m->asked[m->asked_count - 1];
}

static void note(struct codemode *m, const struct store_space *space, const char *method,
    const json_t *arguments, const struct buf *bytes, bool system)
{
	assert(m->asked_count < FAKE_ASKED_MAX);
	struct fake_asked *a = &m->asked[m->asked_count++];
	(void)snprintf(a->method, sizeof(a->method), "%s", method);
	a->arguments = arguments == NULL ? strdup("{}")
					 : json_dumps(arguments, JSON_COMPACT | JSON_SORT_KEYS);
	a->len = bytes == NULL ? 0 : bytes->len;
	a->bytes = malloc(a->len + 1);
	assert(a->arguments != NULL && a->bytes != NULL);
	memcpy(a->bytes, bytes == NULL ? "" : buf_str(bytes), a->len);
	a->bytes[a->len] = '\0';
	(void)snprintf(
	    a->prefix, sizeof(a->prefix), "%s", space->prefix == NULL ? "" : space->prefix);
	(void)snprintf(a->workspace, sizeof(a->workspace), "%s",
	    space->workspace == NULL ? "" : space->workspace);
	a->system = system;
}

/* --- an artifact's bytes ---
 */

struct loading {
	struct codemode *codemode;
	const char *bytes;
	size_t len, at;
	bool dry; /* this time there is nothing */
	void (*more)(void *ctx);
	void *ctx;
};

ssize_t loading_read(struct loading *l, char *out, size_t max)
{
	struct codemode *m = l->codemode;
	size_t n = l->len - l->at < max ? l->len - l->at : max;
	if (m->piece_bytes > 0 && l->dry) {
		m->dry = l;
		return 0;
	}
	if (m->broken_at > 0 && l->at + n >= m->broken_at) {
		return -1;
	}
	if (m->piece_bytes > 0) {
		n = n < m->piece_bytes ? n : m->piece_bytes;
		l->dry = true;
	}
	memcpy(out, l->bytes + l->at, n);
	l->at += n;
	m->read_bytes += n;
	return n > 0 ? (ssize_t)n : -1;
}

void loading_on_more(struct loading *l, void (*more)(void *ctx), void *ctx)
{
	l->more = more;
	l->ctx = ctx;
}

void loading_close(struct loading *l)
{
	if (l != NULL) {
		l->codemode->dry = l->codemode->dry == l ? NULL : l->codemode->dry;
		l->codemode->open_count--;
		free(l);
	}
}

static struct loading *loading_new(struct codemode *m, unsigned i)
{
	struct loading *l = calloc(1, sizeof(*l));
	assert(l != NULL);
	*l = (struct loading){
	    .codemode = m, .bytes = m->answers[i].bytes, .len = m->answers[i].len};
	m->open_count++;
	return l;
}

static void answer(struct codemode *m, unsigned i, codemode_done_fn done, void *ctx)
{
	bool opened = m->answers[i].code == CODEMODE_OK && m->answers[i].bytes != NULL;
	done(ctx, m->answers[i].code, m->answers[i].result, opened ? loading_new(m, i) : NULL);
}

bool fake_codemode_more(struct codemode *m)
{
	struct loading *l = m->dry;
	if (l == NULL) {
		return false;
	}
	m->dry = NULL;
	l->dry = false;
	l->more(l->ctx);
	return true;
}

struct codemode_call *codemode_call(struct codemode *m, const struct store_space *space,
    const char *method, const json_t *arguments, const struct buf *bytes, bool system,
    codemode_done_fn done, void *ctx)
{
	assert((bytes != NULL) == (strcmp(method, "artifacts.save") == 0));
	note(m, space, method, arguments, bytes, system);
	unsigned i = 0;
	while (i < m->answer_count && strcmp(m->answers[i].method, method) != 0) {
		i++;
	}
	assert(i < m->answer_count);
	if (!m->later) {
		answer(m, i, done, ctx);
		return NULL;
	}
	assert(m->pending == NULL);
	m->pending = calloc(1, sizeof(*m->pending));
	assert(m->pending != NULL);
	*m->pending = (struct codemode_call){m, i, done, ctx};
	return m->pending;
}

void codemode_cancel(struct codemode_call *c)
{
	if (c != NULL) {
		assert(c->codemode->pending == c);
		c->codemode->pending = NULL;
		c->codemode->cancelled++;
		free(c);
	}
}

struct json_job *codemode_text(struct codemode *m, const char *holder, const json_t *result,
    json_add_fn add, json_write_fn fn, void *ctx)
{
	cleanup(buf_fini) struct buf text = BUF_INIT(1U << 20);
	(void)m;
	(void)holder;
	int err = add(&text, result);
	fn(ctx, err, err < 0 ? NULL : &text);
	return NULL;
}

void fake_codemode_release(struct codemode *m)
{
	struct codemode_call *c;
	while ((c = m->pending) != NULL) {
		m->pending = NULL;
		answer(m, c->answer, c->done, c->ctx);
		free(c);
	}
}

void fake_codemode_fini(struct codemode *m)
{
	for (unsigned i = 0; i < m->answer_count; i++) {
		json_decref(m->answers[i].result);
	}
	for (unsigned i = 0; i < m->asked_count; i++) {
		free(m->asked[i].arguments);
		free(m->asked[i].bytes);
	}
	free(m->pending);
	assert(m->open_count == 0);
	memset(m, 0, sizeof(*m));
}
