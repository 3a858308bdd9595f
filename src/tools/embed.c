/* Embeddings from a service with OpenAI's interface: {model, input} gives {data: [{index,
 * embedding}]}. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "tools/fetch.h"
#include "tools/runner.h"
#include "tools/secrets.h"

#define ANSWER_MAX_BYTES (16U << 20)
#define TIMEOUT_MS 30000
#define TEXTS_MAX 2048

struct embed_call {
	struct runner_task task;
	struct fetch *fetch;
	size_t count;
};

static void cancel(struct runner_task *t)
{
	struct embed_call *c = container_of(t, struct embed_call, task);
	fetch_cancel(c->fetch);
	free(c);
}

static bool is_vector(const json_t *value, size_t len)
{
	for (size_t i = 0; i < json_array_size(value); i++) {
		if (!json_is_number(json_array_get(value, i))) {
			return false;
		}
	}
	return json_array_size(value) > 0 && json_array_size(value) == len;
}

/* The vectors in the order of the texts (new), all of one length, or NULL when the answer is not
 * one. */
static json_t *vectors_of(const struct buf *body, size_t count)
{
	cleanup(json_decrefp) json_t *answer = json_loadb(buf_str(body), body->len, 0, NULL);
	const json_t *data = json_object_get(answer, "data");
	const json_t *first = json_object_get(json_array_get(data, 0), "embedding");
	cleanup(json_decrefp) json_t *vectors = json_array();
	for (size_t i = 0; i < count; i++) {
		(void)json_array_append_new(vectors, json_null());
	}
	if (json_array_size(data) != count) {
		return NULL;
	}
	for (size_t i = 0; i < count; i++) {
		const json_t *one = json_array_get(data, i);
		const json_t *index = json_object_get(one, "index");
		json_int_t at = index != NULL ? json_integer_value(index) : (json_int_t)i;
		json_t *vector = json_object_get(one, "embedding");
		if (!is_vector(vector, json_array_size(first)) || at < 0 ||
		    !json_is_null(json_array_get(vectors, (size_t)at)) ||
		    json_array_set(vectors, (size_t)at, vector) < 0) {
			return NULL;
		}
	}
	return steal(&vectors);
}

static void on_done(void *ctx, const struct fetch_result *result)
{
	struct embed_call *c = ctx;
	struct err e = {0};
	json_t *vectors = NULL;
	if (result->e != NULL) {
		e = *result->e;
	} else if (result->status != 200) {
		(void)err_set(&e, ERR_UNAVAILABLE, "embeddings: HTTP %ld", result->status);
	} else if ((vectors = vectors_of(result->body, c->count)) == NULL) {
		(void)err_set(&e, ERR_UNAVAILABLE, "embeddings: the answer is not one");
	}
	if (vectors != NULL) {
		runner_task_done(&c->task, vectors);
	} else {
		runner_task_failed(&c->task, &e, NULL);
	}
	free(c);
}

/* {"Authorization": …} (new). NULL with E when the secret is not there. */
static json_t *headers_of(const struct runner *r, const json_t *config, struct err *e)
{
	const char *secret = json_string_value(json_object_get(config, "secret"));
	json_t *headers = json_pack("{s:s}", "Content-Type", "application/json");
	if (secret == NULL) {
		return headers;
	}
	const char *value = json_string_value(json_object_get(r->secrets, secret));
	if (value == NULL) {
		(void)err_set(e, ERR_UNAVAILABLE, "the secret '%s' is not configured", secret);
		json_decref(headers);
		return NULL;
	}
	(void)json_object_set_new(headers, "Authorization", json_sprintf("Bearer %s", value));
	return headers;
}

static int start(struct embed_call *c, const json_t *texts, struct err *e)
{
	struct runner *r = c->task.runner;
	const json_t *config = json_object_get(r->config, "embeddings");
	const char *url = json_string_value(json_object_get(config, "url"));
	if (url == NULL) {
		return err_set(e, ERR_UNSUPPORTED, "no embeddings are configured");
	}
	if (!json_is_array(texts) || json_array_size(texts) > TEXTS_MAX) {
		return err_set(e, ERR_INVALID, "the texts must be a list of at most %d", TEXTS_MAX);
	}
	cleanup(json_decrefp) json_t *headers = headers_of(r, config, e);
	if (headers == NULL) {
		return -1;
	}
	const char *model = json_string_value(json_object_get(config, "model"));
	json_t *request = json_pack(
	    "{s:s, s:O}", "model", model != NULL ? model : "", "input", texts);
	char *text = request != NULL ? json_dumps(request, JSON_COMPACT) : NULL;
	json_decref(request);
	if (text == NULL) {
		return err_set(e, ERR_INTERNAL, "out of memory");
	}
	c->count = json_array_size(texts);
	const struct fetch_options o = {
	    .method = "POST",
	    .url = url,
	    .headers = headers,
	    .body = text,
	    .body_len = strlen(text),
	    .timeout_ms = TIMEOUT_MS,
	    .max_bytes = ANSWER_MAX_BYTES,
	    .done = on_done,
	    .ctx = c,
	};
	c->fetch = fetch_start(r->fetcher, &o, e);
	free(text);
	return c->fetch == NULL ? -1 : 0;
}

void embed_begin(struct runner *r, uint64_t ref, const json_t *request)
{
	struct err e = {0};
	struct embed_call *c = calloc(1, sizeof(*c));
	if (c == NULL || runner_task_add(r, &c->task, ref, cancel, &e) < 0) {
		free(c);
		runner_refuse(r, ref, &e);
		return;
	}
	if (start(c, request, &e) < 0) {
		runner_task_failed(&c->task, &e, NULL);
		free(c);
	}
}
