/* One call of an endpoint of an HTTP service. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/text.h"
#include "tools/fetch.h"
#include "tools/runner.h"
#include "tools/secrets.h"
#include "tools/value.h"

#define URL_MAX_BYTES 65536
#define ERROR_TEXT_MAX_BYTES 65536

struct http_call {
	struct runner_task task;
	struct fetch *fetch;
	double timeout_seconds;
};

/* --- the request
 * ---------------------------------------------------------------------------------
 */

static int add_escaped(struct buf *out, const json_t *value, const char *name, struct err *e)
{
	cleanup(json_decrefp)
	    json_t *text = json_is_boolean(value)
			       ? json_string(json_is_true(value) ? "true" : "false")
			       : value_to_text(value);
	if (text == NULL) {
		return err_set(e, ERR_INVALID, "'%s' cannot be in a URL", name);
	}
	return fetch_escape(json_string_value(text), json_string_length(text), out) < 0
		   ? err_set(e, ERR_INVALID, "the URL is too long")
		   : 0;
}

/* A path segment that is empty or only dots would be another endpoint. */
static int add_segment(struct buf *out, const json_t *arguments, const char *name, struct err *e)
{
	const json_t *value = json_object_get(arguments, name);
	size_t before = out->len;
	if (value == NULL) {
		return err_set(e, ERR_INVALID, "Required parameter '%s' is missing", name);
	}
	if (add_escaped(out, value, name, e) < 0) {
		return -1;
	}
	const char *segment = buf_str(out) + before;
	if (*segment == '\0' || strcmp(segment, ".") == 0 || strcmp(segment, "..") == 0) {
		return err_set(e, ERR_INVALID, "'%s' cannot be '%s'", name, segment);
	}
	return 0;
}

static int add_path(struct buf *url, const char *path, const json_t *arguments, struct err *e)
{
	while (*path != '\0') {
		size_t plain = strcspn(path, "{");
		char name[80] = "";
		if (buf_add(url, path, plain) < 0) {
			return err_set(e, ERR_INVALID, "the URL is too long");
		}
		path += plain;
		if (*path == '\0') {
			break;
		}
		size_t len = strcspn(path + 1, "}");
		memcpy(name, path + 1, len < sizeof(name) ? len : sizeof(name) - 1);
		if (add_segment(url, arguments, name, e) < 0) {
			return -1;
		}
		path += len + 2;
	}
	return 0;
}

static int add_query_one(struct buf *url, const char *name, const json_t *value, struct err *e)
{
	bool first = strchr(buf_str(url), '?') == NULL;
	if (buf_add_char(url, first ? '?' : '&') < 0 || fetch_escape(name, strlen(name), url) < 0 ||
	    buf_add_char(url, '=') < 0) {
		return err_set(e, ERR_INVALID, "the URL is too long");
	}
	return add_escaped(url, value, name, e);
}

static int add_query(struct buf *url, const char *name, const json_t *value, struct err *e)
{
	if (!json_is_array(value)) {
		return add_query_one(url, name, value, e);
	}
	for (size_t i = 0; i < json_array_size(value); i++) {
		if (add_query_one(url, name, json_array_get(value, i), e) < 0) {
			return -1;
		}
	}
	return 0;
}

/* Puts each argument where its parameter says; BODY gets those of the body. */
static int place_arguments(
    const json_t *endpoint, const json_t *arguments, struct buf *url, json_t *body, struct err *e)
{
	const json_t *parameters = json_object_get(endpoint, "parameters");
	for (size_t i = 0; i < json_array_size(parameters); i++) {
		const json_t *p = json_array_get(parameters, i);
		const char *name = json_string_value(json_object_get(p, "name"));
		const char *place = json_string_value(json_object_get(p, "in"));
		json_t *value = json_object_get(arguments, name);
		if (value == NULL) {
			continue;
		}
		if (strcmp(place, "body") == 0) {
			(void)json_object_set(body, name, value);
		} else if (strcmp(place, "query") == 0 && add_query(url, name, value, e) < 0) {
			return -1;
		}
	}
	return 0;
}

/* --- the answer
 * ----------------------------------------------------------------------------------
 */

static void cancel(struct runner_task *t)
{
	struct http_call *c = container_of(t, struct http_call, task);
	fetch_cancel(c->fetch);
	free(c);
}

static void fail_with_answer(struct http_call *c, const struct fetch_result *result)
{
	cleanup(buf_fini) struct buf text = BUF_INIT(ERROR_TEXT_MAX_BYTES * 4);
	struct err e = {.code = ERR_INTERNAL};
	size_t len = result->body->len;
	(void)buf_addf(&text, "HTTP %ld: ", result->status);
	(void)text_add_utf8_lossy(
	    &text, buf_str(result->body), len < ERROR_TEXT_MAX_BYTES ? len : ERROR_TEXT_MAX_BYTES);
	runner_task_failed(&c->task, &e, buf_str(&text));
}

static void answer(struct http_call *c, const struct fetch_result *result)
{
	struct runner *r = c->task.runner;
	if (strstr(result->content_type, "json") != NULL) {
		cleanup(buf_fini) struct buf text = BUF_INIT(RUNNER_TEXT_MAX_BYTES * 2);
		(void)secrets_redact(r->secrets, buf_str(result->body), result->body->len, &text);
		json_t *value = json_loadb(
		    buf_str(&text), text.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
		if (value != NULL) {
			runner_task_done(&c->task, json_pack("{s:o}", "json", value));
			return;
		}
	}
	runner_task_done(
	    &c->task, runner_text_result(r, buf_str(result->body), result->body->len, false));
}

static void on_done(void *ctx, const struct fetch_result *result)
{
	struct http_call *c = ctx;
	struct err e;
	if (result->e != NULL && result->e->code == ERR_TIMEOUT) {
		(void)err_set(&e, ERR_TIMEOUT, "timed out after %gs", c->timeout_seconds);
		runner_task_failed(&c->task, &e, NULL);
	} else if (result->e != NULL) {
		e = *result->e;
		e.code = ERR_INTERNAL;
		runner_task_failed(&c->task, &e, NULL);
	} else if (result->status >= 300 && result->status < 400) {
		(void)err_set(
		    &e, ERR_INTERNAL, "HTTP %ld: redirects are not followed", result->status);
		runner_task_failed(&c->task, &e, NULL);
	} else if (result->status >= 400) {
		fail_with_answer(c, result);
	} else {
		answer(c, result);
	}
	free(c);
}

/* --- all of it
 * -----------------------------------------------------------------------------------
 */

static const json_t *find_endpoint(const json_t *tool, const char *callable, struct err *e)
{
	const char *own = json_string_value(json_object_get(tool, "name"));
	const json_t *endpoints = json_object_get(json_object_get(tool, "spec"), "endpoints");
	const json_t *endpoint = json_object_get(endpoints, callable != NULL ? callable : own);
	if (endpoint == NULL) {
		(void)err_set(e, ERR_NOT_FOUND, "Unknown callable: %s.%.64s", own,
		    callable != NULL ? callable : own);
	}
	return endpoint;
}

/* The headers with their secrets; JSON's type with a body that has none of its own. */
static json_t *headers_of(const struct runner *r, const json_t *spec, bool body, struct err *e)
{
	const char *name;
	json_t *value;
	json_t *headers = runner_expand(r, json_object_get(spec, "headers"), e);
	json_object_foreach(headers, name, value)
	{
		body = body && strcasecmp(name, "content-type") != 0;
	}
	if (headers != NULL && body) {
		(void)json_object_set_new(headers, "Content-Type", json_string("application/json"));
	}
	return headers;
}

static int start(struct http_call *c, const json_t *tool, const json_t *endpoint,
    const json_t *given, struct err *e)
{
	struct runner *r = c->task.runner;
	const json_t *spec = json_object_get(tool, "spec");
	cleanup(buf_fini) struct buf url = BUF_INIT(URL_MAX_BYTES);
	cleanup(json_decrefp)
	    json_t *arguments = value_arguments(given, json_object_get(endpoint, "parameters"), e);
	cleanup(json_decrefp) json_t *body = json_object();
	(void)buf_add_str(&url, json_string_value(json_object_get(spec, "base_url")));
	if (arguments == NULL ||
	    add_path(&url, json_string_value(json_object_get(endpoint, "path")), arguments, e) <
		0 ||
	    place_arguments(endpoint, arguments, &url, body, e) < 0) {
		return -1;
	}
	const char *method = json_string_value(json_object_get(endpoint, "method"));
	bool has_body = json_object_size(body) > 0 || *method == 'P';
	cleanup(json_decrefp) json_t *headers = headers_of(r, spec, has_body, e);
	if (headers == NULL) {
		return -1;
	}
	char *text = has_body ? json_dumps(body, JSON_COMPACT) : NULL;
	uint64_t timeout_ms = (uint64_t)json_integer_value(json_object_get(tool, "timeout_ms"));
	c->timeout_seconds = (double)timeout_ms / 1000.0;
	const struct fetch_options o = {
	    .method = method,
	    .url = buf_str(&url),
	    .headers = headers,
	    .body = text,
	    .body_len = text != NULL ? strlen(text) : 0,
	    .timeout_ms = timeout_ms,
	    .max_bytes = RUNNER_TEXT_MAX_BYTES,
	    .done = on_done,
	    .ctx = c,
	};
	c->fetch = fetch_start(r->fetcher, &o, e);
	free(text);
	return c->fetch == NULL ? -1 : 0;
}

void http_begin(struct runner *r, uint64_t ref, const json_t *tool, const char *callable,
    const json_t *arguments)
{
	struct err e = {0};
	const json_t *endpoint = find_endpoint(tool, callable, &e);
	struct http_call *c = endpoint != NULL ? calloc(1, sizeof(*c)) : NULL;
	if (c == NULL || runner_task_add(r, &c->task, ref, cancel, &e) < 0) {
		free(c);
		runner_refuse(r, ref, &e);
		return;
	}
	if (start(c, tool, endpoint, arguments, &e) < 0) {
		runner_task_failed(&c->task, &e, NULL);
		free(c);
	}
}
