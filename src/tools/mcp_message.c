#include "tools/mcp_message.h"

#include <stdint.h>
#include <string.h>

#include "base/compiler.h"
#include "tools/reading.h"
#include "tools/value.h"

#define RPC_METHOD_NOT_FOUND (-32601)
#define PARAMETERS_MAX 200

json_t *mcp_request(uint64_t id, const char *method, json_t *params)
{
	return json_pack("{s:s, s:I, s:s, s:o}", "jsonrpc", "2.0", "id", (json_int_t)id, "method",
	    method, "params", params);
}

json_t *mcp_notification(const char *method, json_t *params)
{
	return json_pack("{s:s, s:s, s:o*}", "jsonrpc", "2.0", "method", method, "params", params);
}

json_t *mcp_cancelled(uint64_t id, const char *reason)
{
	return mcp_notification("notifications/cancelled",
	    json_pack("{s:I, s:s}", "requestId", (json_int_t)id, "reason", reason));
}

json_t *mcp_reply(const json_t *id)
{
	return json_pack("{s:s, s:O, s:{}}", "jsonrpc", "2.0", "id", id, "result");
}

json_t *mcp_not_found(const json_t *id)
{
	return json_pack("{s:s, s:O, s:{s:i, s:s}}", "jsonrpc", "2.0", "id", id, "error", "code",
	    RPC_METHOD_NOT_FOUND, "message", "Method not found");
}

/* --- what a server has
 * ---------------------------------------------------------------------------
 */

/* The type of a JSON schema, verbatim; of several, or of none, any. */
static const char *type_of(const json_t *schema)
{
	enum value_type parsed;
	const char *type = json_string_value(json_object_get(schema, "type"));
	return type != NULL && value_type_parse(type, &parsed) == 0 ? type : "any";
}

static bool is_required(const json_t *schema, const char *name)
{
	const json_t *required = json_object_get(schema, "required");
	for (size_t i = 0; i < json_array_size(required); i++) {
		const char *one = json_string_value(json_array_get(required, i));
		if (one != NULL && strcmp(one, name) == 0) {
			return true;
		}
	}
	return false;
}

static json_t *parameter_of(const json_t *schema, const char *name, const json_t *property)
{
	const json_t *choices = json_object_get(property, "enum");
	const char *description = json_string_value(json_object_get(property, "description"));
	json_t *usual = json_object_get(property, "default");
	json_t *p = json_pack("{s:s, s:s, s:b, s:O?, s:s}", "name", name, "type", type_of(property),
	    "required", (int)is_required(schema, name), "default", usual, "description",
	    description != NULL ? description : "");
	if (json_is_array(choices)) {
		(void)json_object_set(p, "enum", (json_t *)(uintptr_t)choices);
	}
	return p;
}

json_t *mcp_callable(const json_t *tool)
{
	const char *name = json_string_value(json_object_get(tool, "name"));
	const char *description = json_string_value(json_object_get(tool, "description"));
	const json_t *schema = json_object_get(tool, "inputSchema");
	const json_t *more = json_object_get(schema, "additionalProperties");
	const char *key;
	json_t *property;
	if (name == NULL || *name == '\0' || strlen(name) > 128) {
		return NULL;
	}
	json_t *parameters = json_array();
	json_object_foreach(json_object_get(schema, "properties"), key, property)
	{
		if (json_array_size(parameters) < PARAMETERS_MAX) {
			(void)json_array_append_new(
			    parameters, parameter_of(schema, key, property));
		}
	}
	json_t *callable = json_pack("{s:s, s:s, s:o}", "name", name, "description",
	    description != NULL ? description : "", "parameters", parameters);
	if (json_is_true(more) || json_is_object(more) || json_array_size(parameters) == 0) {
		(void)json_object_set_new(callable, "open", json_true());
	}
	return callable;
}

/* Defaults are the server's to fill in. */
json_t *mcp_arguments(const json_t *callable, const json_t *arguments, struct err *e)
{
	const json_t *parameters = json_object_get(callable, "parameters");
	cleanup(json_decrefp) json_t *out = json_object();
	if (json_is_true(json_object_get(callable, "open"))) {
		if (!json_is_object(arguments)) {
			(void)err_set(e, ERR_INVALID, "the arguments must be an object");
			return NULL;
		}
		(void)json_object_update(out, (json_t *)(uintptr_t)arguments);
	} else if (value_check_known(arguments, parameters, e) < 0) {
		return NULL;
	}
	for (size_t i = 0; i < json_array_size(parameters); i++) {
		const json_t *p = json_array_get(parameters, i);
		const char *name = json_string_value(json_object_get(p, "name"));
		const json_t *value = json_object_get(arguments, name);
		enum value_type type = VALUE_ANY;
		if (value == NULL && json_is_true(json_object_get(p, "required"))) {
			(void)err_set(e, ERR_INVALID, "Required parameter '%s' is missing", name);
			return NULL;
		}
		if (value == NULL || json_is_null(value)) {
			if (value != NULL && json_is_true(json_object_get(p, "required"))) {
				(void)json_object_set_new(out, name, json_null());
			}
			continue;
		}
		(void)value_type_parse(json_string_value(json_object_get(p, "type")), &type);
		json_t *taken = value_check(name, type, json_object_get(p, "enum"), value, e);
		if (taken == NULL) {
			return NULL;
		}
		(void)json_object_set_new(out, name, taken);
	}
	return steal(&out);
}

/* --- what a call came to
 * -------------------------------------------------------------------------
 */

static int add_texts(const json_t *content, struct buf *out)
{
	int r = 0;
	bool first = true;
	for (size_t i = 0; i < json_array_size(content) && r == 0; i++) {
		const json_t *part = json_array_get(content, i);
		const json_t *text = json_object_get(part, "text");
		if (!json_is_string(text)) {
			text = json_object_get(json_object_get(part, "resource"), "text");
		}
		if (!json_is_string(text)) {
			continue;
		}
		r = first ? 0 : buf_add_char(out, '\n');
		r = r < 0 ? r : buf_add(out, json_string_value(text), json_string_length(text));
		first = false;
	}
	return r;
}

json_t *mcp_call_result(
    const struct runner *r, const json_t *result, struct buf *message, struct err *e)
{
	const json_t *content = json_object_get(result, "content");
	json_t *structured = json_object_get(result, "structuredContent");
	if (!json_is_object(result) || add_texts(content, message) < 0) {
		(void)err_set(e, ERR_INTERNAL, "the server's answer is not one");
		(void)buf_add_str(message, e->text);
		return NULL;
	}
	if (json_is_true(json_object_get(result, "isError"))) {
		(void)err_set(e, ERR_INTERNAL, "the tool failed");
		if (message->len == 0) {
			(void)buf_add_str(message, e->text);
		}
		return NULL;
	}
	if (json_array_size(content) == 0 && structured != NULL) {
		return json_pack("{s:O}", "json", structured);
	}
	bool cut = message->len > RUNNER_TEXT_MAX_BYTES;
	size_t len = cut ? RUNNER_TEXT_MAX_BYTES : message->len;
	return runner_text_result(r, buf_str(message), len, cut);
}

void mcp_error(const json_t *error, struct err *e)
{
	const char *text = json_string_value(json_object_get(error, "message"));
	text = text != NULL ? text : "the server gave no reason";
	bool unknown = strcasestr(text, "unknown tool") != NULL ||
		       (strcasestr(text, "tool") != NULL && strcasestr(text, "not found") != NULL);
	(void)err_set(e, unknown ? ERR_NOT_FOUND : ERR_INTERNAL, "%s", text);
}
