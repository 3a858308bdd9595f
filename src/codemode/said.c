#include "codemode/said.h"

#include <string.h>

#include "codemode/internal.h"

static bool parameter_is_good(const json_t *p)
{
	return json_is_string(json_object_get(p, "name")) &&
	       json_is_string(json_object_get(p, "type")) &&
	       json_is_string(json_object_get(p, "description")) &&
	       json_is_boolean(json_object_get(p, "required")) &&
	       json_object_get(p, "default") != NULL && json_object_size(p) == 5;
}

bool describe_parameters_are_good(const json_t *parameters)
{
	if (!json_is_array(parameters)) {
		return false;
	}
	for (size_t i = 0; i < json_array_size(parameters); i++) {
		if (!parameter_is_good(json_array_get(parameters, i))) {
			return false;
		}
	}
	return true;
}

bool said_is_good(const json_t *result)
{
	const char *error = json_string_value(json_object_get(result, "error"));
	if (error != NULL) {
		return json_is_string(json_object_get(result, "message")) &&
		       (strcmp(error, "SyntaxError") == 0 || strcmp(error, "ValueError") == 0);
	}
	return json_is_string(json_object_get(result, "description")) &&
	       describe_parameters_are_good(json_object_get(result, "parameters"));
}

json_t *said_parse(const char *text, size_t len, size_t count)
{
	json_error_t at;
	json_t *results = json_loadb(text, len, JSON_REJECT_DUPLICATES, &at);
	if (results == NULL && json_error_code(&at) == json_error_numeric_overflow) {
		/* A default of a skill that is larger than JSON's integers here. */
		results = json_loadb(
		    text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, &at);
	}
	bool good = json_is_array(results) && json_array_size(results) == count;
	for (size_t i = 0; good && i < count; i++) {
		good = said_is_good(json_array_get(results, i));
	}
	if (!good) {
		json_decref(results);
		return NULL;
	}
	return results;
}
