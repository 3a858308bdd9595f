#include "tools/value.h"

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/compiler.h"

#define LIST_TEXT_MAX_BYTES 300

static const struct {
	const char *name;
	enum value_type type;
} types[] = {
    {"string", VALUE_STRING},
    {"str", VALUE_STRING},
    {"text", VALUE_STRING},
    {"integer", VALUE_INTEGER},
    {"int", VALUE_INTEGER},
    {"number", VALUE_NUMBER},
    {"float", VALUE_NUMBER},
    {"boolean", VALUE_BOOLEAN},
    {"bool", VALUE_BOOLEAN},
    {"array", VALUE_ARRAY},
    {"list", VALUE_ARRAY},
    {"object", VALUE_OBJECT},
    {"dict", VALUE_OBJECT},
    {"any", VALUE_ANY},
};

static const char *const wanted[] = {
    [VALUE_STRING] = "text",
    [VALUE_INTEGER] = "a whole number",
    [VALUE_NUMBER] = "a number",
    [VALUE_BOOLEAN] = "true or false",
    [VALUE_ARRAY] = "a list",
    [VALUE_OBJECT] = "an object",
    [VALUE_ANY] = "anything",
};

int value_type_parse(const char *name, enum value_type *out)
{
	for (size_t i = 0; i < array_len(types); i++) {
		if (strcmp(name, types[i].name) == 0) {
			*out = types[i].type;
			return 0;
		}
	}
	return -EINVAL;
}

/* The shortest text that reads back as the same number, and has a point or an exponent. */
static json_t *real_to_text(double value)
{
	char text[40];
	for (int digits = 15; digits <= 17; digits++) {
		(void)snprintf(text, sizeof(text), "%.*g", digits, value);
		if (strtod(text, NULL) == value) {
			break;
		}
	}
	if (isfinite(value) && strpbrk(text, ".e") == NULL) {
		size_t len = strlen(text);
		(void)snprintf(text + len, sizeof(text) - len, ".0");
	}
	return json_string(text);
}

json_t *value_to_text(const json_t *value)
{
	if (value == NULL) {
		return NULL;
	}
	switch (json_typeof(value)) {
	case JSON_STRING:
		return json_incref((json_t *)(uintptr_t)value);
	case JSON_INTEGER:
		return json_sprintf("%" JSON_INTEGER_FORMAT, json_integer_value(value));
	case JSON_REAL:
		return real_to_text(json_real_value(value));
	case JSON_TRUE:
		return json_string("True");
	case JSON_FALSE:
		return json_string("False");
	default:
		return NULL;
	}
}

static json_t *integer_of(const json_t *value)
{
	const char *text = json_string_value(value);
	if (text == NULL || *text == '\0' || strlen(text) != json_string_length(value) ||
	    strspn(text + (*text == '-'), "0123456789") != strlen(text) - (*text == '-')) {
		return NULL;
	}
	char *end;
	errno = 0;
	long long number = strtoll(text, &end, 10);
	return errno != 0 || *end != '\0' || end == text ? NULL : json_integer(number);
}

static json_t *number_of(const json_t *value)
{
	json_t *whole = integer_of(value);
	const char *text = json_string_value(value);
	if (whole != NULL || text == NULL || *text == '\0' ||
	    strspn(text, "+-.0123456789eE") != json_string_length(value)) {
		return whole;
	}
	char *end;
	double number = strtod(text, &end);
	return *end != '\0' || end == text || !isfinite(number) ? NULL : json_real(number);
}

static json_t *array_of(const json_t *value)
{
	if (json_is_array(value)) {
		return json_incref((json_t *)(uintptr_t)value);
	}
	return json_is_string(value) ? json_pack("[O]", value) : NULL;
}

static json_t *converted(enum value_type type, const json_t *value)
{
	json_t *same = (json_t *)(uintptr_t)value;
	switch (type) {
	case VALUE_STRING:
		return json_is_boolean(value) ? NULL : value_to_text(value);
	case VALUE_INTEGER:
		return json_is_integer(value) ? json_incref(same) : integer_of(value);
	case VALUE_NUMBER:
		return json_is_number(value) ? json_incref(same) : number_of(value);
	case VALUE_BOOLEAN:
		return json_is_boolean(value) ? json_incref(same) : NULL;
	case VALUE_ARRAY:
		return array_of(value);
	case VALUE_OBJECT:
		return json_is_object(value) ? json_incref(same) : NULL;
	case VALUE_ANY:
		return json_incref(same);
	}
	return NULL;
}

static bool in_enumeration(const json_t *enumeration, const json_t *value)
{
	for (size_t i = 0; i < json_array_size(enumeration); i++) {
		const json_t *one = json_array_get(enumeration, i);
		cleanup(json_decrefp) json_t *text = value_to_text(one);
		cleanup(json_decrefp) json_t *given = value_to_text(value);
		if (json_equal(one, value) ||
		    (text != NULL && given != NULL && json_equal(text, given))) {
			return true;
		}
	}
	return false;
}

static void add_listed(struct buf *out, const json_t *text)
{
	if (out->len < LIST_TEXT_MAX_BYTES && json_is_string(text)) {
		(void)buf_addf(out, "%s%.64s", out->len > 0 ? ", " : "", json_string_value(text));
	}
}

static int check_enumeration(
    const char *name, const json_t *enumeration, const json_t *value, struct err *e)
{
	if (json_is_array(value)) {
		for (size_t i = 0; i < json_array_size(value); i++) {
			if (check_enumeration(name, enumeration, json_array_get(value, i), e) < 0) {
				return -1;
			}
		}
		return 0;
	}
	if (in_enumeration(enumeration, value)) {
		return 0;
	}
	cleanup(buf_fini) struct buf list = BUF_INIT(LIST_TEXT_MAX_BYTES + 128);
	for (size_t i = 0; i < json_array_size(enumeration); i++) {
		cleanup(json_decrefp) json_t *text = value_to_text(json_array_get(enumeration, i));
		add_listed(&list, text);
	}
	return err_set(e, ERR_INVALID, "'%s' must be one of: %s", name, buf_str(&list));
}

json_t *value_check(const char *name, enum value_type type, const json_t *enumeration,
    const json_t *value, struct err *e)
{
	cleanup(json_decrefp) json_t *taken = converted(type, value);
	if (taken == NULL) {
		(void)err_set(e, ERR_INVALID, "'%s' must be %s", name, wanted[type]);
		return NULL;
	}
	if (json_array_size(enumeration) > 0 &&
	    check_enumeration(name, enumeration, taken, e) < 0) {
		return NULL;
	}
	return steal(&taken);
}

static const json_t *find_parameter(const json_t *parameters, const char *name)
{
	for (size_t i = 0; i < json_array_size(parameters); i++) {
		const json_t *p = json_array_get(parameters, i);
		if (strcmp(json_string_value(json_object_get(p, "name")), name) == 0) {
			return p;
		}
	}
	return NULL;
}

int value_check_known(const json_t *arguments, const json_t *known, struct err *e)
{
	const char *key;
	json_t *value;
	if (!json_is_object(arguments)) {
		return err_set(e, ERR_INVALID, "the arguments must be an object");
	}
	json_object_foreach((json_t *)(uintptr_t)arguments, key, value)
	{
		if (find_parameter(known, key) != NULL) {
			continue;
		}
		cleanup(buf_fini) struct buf list = BUF_INIT(LIST_TEXT_MAX_BYTES + 128);
		for (size_t i = 0; i < json_array_size(known); i++) {
			add_listed(&list, json_object_get(json_array_get(known, i), "name"));
		}
		return err_set(e, ERR_INVALID, "Unknown argument: '%.64s'. Known: %s", key,
		    list.len > 0 ? buf_str(&list) : "none");
	}
	return 0;
}

static int add_argument(
    json_t *out, const json_t *arguments, const json_t *parameter, struct err *e)
{
	const char *name = json_string_value(json_object_get(parameter, "name"));
	const json_t *value = json_object_get(arguments, name);
	enum value_type type = VALUE_STRING;
	(void)value_type_parse(json_string_value(json_object_get(parameter, "type")), &type);
	if (value == NULL || json_is_null(value)) {
		value = json_object_get(parameter, "default");
	}
	if (value == NULL || json_is_null(value)) {
		return json_is_true(json_object_get(parameter, "required"))
			   ? err_set(e, ERR_INVALID, "Required parameter '%s' is missing", name)
			   : 0;
	}
	json_t *taken = value_check(name, type, json_object_get(parameter, "enum"), value, e);
	return taken == NULL ? -1 : json_object_set_new(out, name, taken);
}

json_t *value_arguments(const json_t *arguments, const json_t *parameters, struct err *e)
{
	cleanup(json_decrefp) json_t *out = json_object();
	if (value_check_known(arguments, parameters, e) < 0) {
		return NULL;
	}
	for (size_t i = 0; i < json_array_size(parameters); i++) {
		if (add_argument(out, arguments, json_array_get(parameters, i), e) < 0) {
			return NULL;
		}
	}
	return steal(&out);
}
