/* Arguments of methods, held against what each takes; the words are Python's for a call that does
 * not fit its function. */
#include <string.h>

#include "codemode/internal.h"

#define TEXT_MAX_BYTES (64U << 10)

static const struct argument *find(const struct method *method, const char *name)
{
	for (const struct argument *a = method->arguments; a->name != NULL; a++) {
		if (strcmp(a->name, name) == 0) {
			return a;
		}
	}
	return NULL;
}

static const char *python_type(const json_t *value)
{
	switch (json_typeof(value)) {
	case JSON_OBJECT:
		return "dict";
	case JSON_ARRAY:
		return "list";
	case JSON_STRING:
		return "str";
	case JSON_INTEGER:
		return "int";
	case JSON_REAL:
		return "float";
	case JSON_TRUE:
	case JSON_FALSE:
		return "bool";
	case JSON_NULL:
		break;
	}
	return "None";
}

static bool type_fits(const struct argument *a, const json_t *value)
{
	switch (a->type) {
	case ARGUMENT_TEXT:
		return json_is_string(value);
	case ARGUMENT_COUNT:
		return json_is_integer(value);
	case ARGUMENT_OBJECT:
		return json_is_object(value);
	}
	return false;
}

static const char *type_name(const struct argument *a)
{
	static const char *const names[] = {
	    [ARGUMENT_TEXT] = "str", [ARGUMENT_COUNT] = "int", [ARGUMENT_OBJECT] = "dict"};
	return names[a->type];
}

static int check_known(const struct method *method, const json_t *arguments, struct err *e)
{
	const char *key;
	json_t *value;
	json_object_foreach((json_t *)(uintptr_t)arguments, key, value)
	{
		if (find(method, key) == NULL) {
			return err_set(e, ERR_INVALID,
			    "%s() got an unexpected keyword argument '%.100s'", method->name, key);
		}
	}
	return 0;
}

/* A name, a query or a package is short; a call is kept while a store is waited for. */
static size_t text_max_bytes(const struct argument *a)
{
	bool is_long = strcmp(a->name, "source") == 0 || strcmp(a->name, "description") == 0;
	return is_long ? STORE_RECORD_MAX_BYTES : TEXT_MAX_BYTES;
}

static int check_one(const struct method *method, const struct argument *a, const json_t *value,
    const char **error, struct err *e)
{
	bool absent = value == NULL || json_is_null(value);
	if (absent && a->optional) {
		return 0;
	}
	if (value == NULL) {
		return err_set(e, ERR_INVALID, "%s() missing 1 required argument: '%s'",
		    method->name, a->name);
	}
	if (!type_fits(a, value)) {
		return err_set(e, ERR_INVALID, "%s() argument '%s' must be %s, not %s",
		    method->name, a->name, type_name(a), python_type(value));
	}
	if (a->type == ARGUMENT_TEXT && json_string_length(value) > text_max_bytes(a)) {
		*error = "ValueError";
		return err_set(e, ERR_INVALID, "%s() argument '%s' has at most %zu KiB",
		    method->name, a->name, text_max_bytes(a) >> 10);
	}
	if (a->type == ARGUMENT_COUNT && json_integer_value(value) < 0) {
		*error = "ValueError";
		return err_set(e, ERR_INVALID, "%s() argument '%s' must not be negative",
		    method->name, a->name);
	}
	return 0;
}

int arguments_check(
    const struct method *method, const json_t *arguments, const char **error, struct err *e)
{
	*error = "TypeError";
	if (!json_is_object(arguments)) {
		return err_set(e, ERR_INVALID, "%s() takes keyword arguments", method->name);
	}
	if (check_known(method, arguments, e) < 0) {
		return -1;
	}
	for (const struct argument *a = method->arguments; a->name != NULL; a++) {
		if (check_one(method, a, json_object_get(arguments, a->name), error, e) < 0) {
			return -1;
		}
	}
	return 0;
}

const char *argument_text(const struct method_call *c, const char *name)
{
	return json_string_value(json_object_get(c->arguments, name));
}

size_t argument_count(const struct method_call *c, const char *name, size_t otherwise)
{
	const json_t *value = json_object_get(c->arguments, name);
	if (!json_is_integer(value)) {
		return otherwise;
	}
	json_int_t n = json_integer_value(value);
	return n < CODEMODE_RESULTS_MAX ? (size_t)n : CODEMODE_RESULTS_MAX;
}

json_t *argument_object(const struct method_call *c, const char *name)
{
	json_t *value = json_object_get(c->arguments, name);
	return json_is_object(value) ? value : NULL;
}
