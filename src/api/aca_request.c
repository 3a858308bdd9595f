#include "api/aca_request.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <strings.h>

#include "base/base64.h"
#include "base/text.h"

void aca_request_fini(struct aca_request *r)
{
	buf_fini(&r->code);
	buf_fini(&r->standard_input);
}

/* NULs in strings are let through here, to be refused where they matter and by name. */
size_t aca_request_json(struct call *c)
{
	(void)c;
	return JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL;
}

json_t *aca_request_body(const struct call *c, struct aca_problem *p)
{
	const json_error_t *e = &c->json.error;
	if (c->json.heavy) {
		(void)aca_problem(
		    p, ACA_TOO_LARGE, "body", "the body holds more values than it may");
	} else if (c->json.value == NULL) {
		(void)aca_problem(p, ACA_VALIDATION, "body",
		    "the body is not JSON: line %d, column %d: %s", e->line, e->column, e->text);
	} else if (!json_is_object(c->json.value)) {
		(void)aca_problem(p, ACA_VALIDATION, "body", "the body must be a JSON object");
	} else {
		return c->json.value;
	}
	return NULL;
}

/* A member, from "properties" first; NULL when it is absent or null. */
static const json_t *member(const json_t *body, const char *name)
{
	const json_t *j = json_object_get(json_object_get(body, "properties"), name);
	if (j == NULL || json_is_null(j)) {
		j = json_object_get(body, name);
	}
	return json_is_null(j) ? NULL : j;
}

/* --- members by type: each leaves *OUT alone when the member is absent -------------------------
 */

static int read_bool(const json_t *body, const char *name, bool *out, struct aca_problem *p)
{
	const json_t *j = member(body, name);
	if (j == NULL) {
		return 0;
	}
	if (!json_is_boolean(j)) {
		return aca_problem(p, ACA_VALIDATION, name, "'%s' must be true or false", name);
	}
	*out = json_is_true(j);
	return 0;
}

/* One of two words without case; *OUT tells whether it is SECOND. */
static int read_word(const json_t *body, const char *name, const char *first, const char *second,
    bool *out, struct aca_problem *p)
{
	const json_t *j = member(body, name);
	if (j == NULL) {
		return 0;
	}
	const char *text = json_is_string(j) ? json_string_value(j) : "";
	bool is_second = strcasecmp(text, second) == 0;
	if (!is_second && strcasecmp(text, first) != 0) {
		return aca_problem(
		    p, ACA_VALIDATION, name, "'%s' must be \"%s\" or \"%s\"", name, first, second);
	}
	*out = is_second;
	return 0;
}

/* Without NULs: neither source nor arguments can hold one. */
static int add_text(struct buf *out, const json_t *j, const char *name, struct aca_problem *p)
{
	if (!json_is_string(j)) {
		return aca_problem(p, ACA_VALIDATION, name, "'%s' must be a string", name);
	}
	if (strlen(json_string_value(j)) != json_string_length(j)) {
		return aca_problem(
		    p, ACA_VALIDATION, name, "'%s' must not hold a NUL character", name);
	}
	if (buf_add(out, json_string_value(j), json_string_length(j)) < 0) {
		return aca_problem(p, ACA_TOO_LARGE, name, "'%s' is larger than %u bytes", name,
		    ACA_CODE_MAX_BYTES);
	}
	return 0;
}

static int read_timeout(
    struct aca_request *r, const json_t *body, uint32_t pool_ms, struct aca_problem *p)
{
	static const char name[] = "timeoutInSeconds";
	const json_t *j = member(body, name);
	if (j == NULL) {
		return 0;
	}
	double seconds = json_number_value(j);
	if (!json_is_number(j) || !(seconds > 0)) {
		return aca_problem(p, ACA_VALIDATION, name, "'%s' must be a number above 0", name);
	}
	/* Above the pool's limit it is the pool's: clients send 600 without asking first. */
	double ms = ceil(seconds * 1000);
	r->timeout_ms = ms < pool_ms ? (uint32_t)ms : pool_ms;
	return 0;
}

static int read_output_max(
    struct aca_request *r, const json_t *body, uint32_t pool_bytes, struct aca_problem *p)
{
	static const char name[] = "outputStreamsMaxLength";
	const json_t *j = member(body, name);
	if (j == NULL) {
		return 0;
	}
	json_int_t bytes = json_integer_value(j);
	if (!json_is_integer(j) || bytes < 1) {
		return aca_problem(
		    p, ACA_VALIDATION, name, "'%s' must be a whole number above 0", name);
	}
	r->output_max_bytes = bytes < (json_int_t)pool_bytes ? (uint32_t)bytes : pool_bytes;
	return 0;
}

/* --- Python pools -------------------------------------------------------------------------------
 */

/* Inline and InlineText are the source itself; nothing else may be in front of the first. */
static int read_input_type(const json_t *body, bool *base64, struct aca_problem *p)
{
	static const char name[] = "codeInputType";
	const json_t *j = member(body, name);
	const char *text = j == NULL ? "inline" : json_is_string(j) ? json_string_value(j) : "";
	*base64 = strcasecmp(text, "inlinebase64") == 0;
	if (!*base64 && strcasecmp(text, "inline") != 0 && strcasecmp(text, "inlinetext") != 0) {
		return aca_problem(p, ACA_VALIDATION, name,
		    "'%s' must be \"Inline\", \"InlineText\" or \"InlineBase64\"", name);
	}
	return 0;
}

static int decode_code(struct buf *code, const char *name, struct aca_problem *p)
{
	cleanup(buf_fini) struct buf plain = BUF_INIT(ACA_CODE_MAX_BYTES);
	if (base64_decode(buf_str(code), code->len, &plain) < 0) {
		return aca_problem(p, ACA_VALIDATION, name, "'%s' is not base64", name);
	}
	if (strlen(buf_str(&plain)) != plain.len || !text_is_utf8(buf_str(&plain), plain.len)) {
		return aca_problem(p, ACA_VALIDATION, name,
		    "'%s' must be UTF-8 text without a NUL character", name);
	}
	struct buf swap = *code;
	*code = plain;
	plain = swap;
	return 0;
}

static int read_python(struct aca_request *r, const json_t *body, struct aca_problem *p)
{
	const char *name = member(body, "code") != NULL ? "code" : "pythonCode";
	const json_t *code = member(body, name);
	if (code == NULL) {
		return aca_problem(p, ACA_PROPERTIES_MISSING, "code",
		    "the body has no 'code', neither itself nor in 'properties'");
	}
	bool base64 = false;
	r->kind = IPC_EXECUTE_PYTHON;
	if (read_input_type(body, &base64, p) < 0 || add_text(&r->code, code, name, p) < 0) {
		return -1;
	}
	return base64 ? decode_code(&r->code, name, p) : 0;
}

/* --- shell pools
 * ---------------------------------------------------------------------------------- */

static int read_arguments(struct aca_request *r, const json_t *list, struct aca_problem *p)
{
	static const char name[] = "execCommandAndArgs";
	if (!json_is_array(list) || json_array_size(list) == 0) {
		return aca_problem(p, ACA_VALIDATION, name,
		    "'%s' must be a list of strings, the command first", name);
	}
	r->kind = IPC_EXECUTE_ARGV;
	size_t i;
	json_t *argument;
	json_array_foreach(list, i, argument)
	{
		if (i == 0 && json_is_string(argument) && json_string_length(argument) == 0) {
			return aca_problem(
			    p, ACA_VALIDATION, name, "the command must not be empty");
		}
		if (add_text(&r->code, argument, name, p) < 0) {
			return -1;
		}
		if (buf_add_char(&r->code, '\0') < 0) {
			return aca_problem(p, ACA_TOO_LARGE, name, "'%s' is too large", name);
		}
	}
	return 0;
}

static int read_stdin(struct aca_request *r, const json_t *body, struct aca_problem *p)
{
	const json_t *j = member(body, "stdin");
	if (j == NULL) {
		return 0;
	}
	if (!json_is_string(j)) {
		return aca_problem(p, ACA_VALIDATION, "stdin", "'stdin' must be a string");
	}
	if (buf_add(&r->standard_input, json_string_value(j), json_string_length(j)) < 0) {
		return aca_problem(p, ACA_TOO_LARGE, "stdin", "'stdin' is larger than %u bytes",
		    ACA_CODE_MAX_BYTES);
	}
	return 0;
}

static int read_shell(struct aca_request *r, const json_t *body, struct aca_problem *p)
{
	const json_t *line = member(body, "shellCommand");
	const json_t *list = member(body, "execCommandAndArgs");
	if (line == NULL && list == NULL) {
		return aca_problem(p, ACA_PROPERTIES_MISSING, "shellCommand",
		    "this is a shell pool: the body needs 'shellCommand' or 'execCommandAndArgs'");
	}
	if (line != NULL && list != NULL) {
		return aca_problem(p, ACA_VALIDATION, "shellCommand",
		    "'shellCommand' and 'execCommandAndArgs' exclude each other");
	}
	if (read_stdin(r, body, p) < 0) {
		return -1;
	}
	if (list != NULL) {
		return read_arguments(r, list, p);
	}
	r->kind = IPC_EXECUTE_SHELL;
	return add_text(&r->code, line, "shellCommand", p);
}

int aca_request_read(
    struct aca_request *r, const json_t *body, const struct pool *pool, struct aca_problem *p)
{
	const json_t *properties = json_object_get(body, "properties");
	if (properties != NULL && !json_is_null(properties) && !json_is_object(properties)) {
		return aca_problem(
		    p, ACA_VALIDATION, "properties", "'properties' must be an object");
	}
	/* What to run first: its absence is the reason a client retries with the other shape upon.
	 */
	int failed = pool->config.type == POOL_SHELL ? read_shell(r, body, p)
						     : read_python(r, body, p);
	if (failed < 0 || read_timeout(r, body, pool->config.execution_time_ms, p) < 0 ||
	    read_output_max(r, body, pool->config.output_max_bytes, p) < 0 ||
	    read_word(body, "executionType", "Synchronous", "Asynchronous", &r->asynchronous, p) <
		0 ||
	    read_bool(body, "useEmptyKernel", &r->empty_namespace, p) < 0 ||
	    read_bool(body, "returnJupyterFormat", &r->jupyter, p) < 0) {
		return -1;
	}
	return read_bool(body, "returnJupyterFormatExecutionResult", &r->jupyter, p);
}
