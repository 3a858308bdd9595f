/* HTTP services: a base URL, headers, and endpoints. */
#include <ctype.h>
#include <stdint.h>
#include <string.h>

#include "base/text.h"
#include "tools/definition.h"

static const char *const known_keys[] = {"name", "type", "description", "tags", "timeout",
    "timeout_seconds", "approval", "base_url", "headers", "endpoints", NULL};
static const char *const known_endpoint_keys[] = {
    "name", "method", "path", "description", "parameters", NULL};
static const char *const known_parameter_keys[] = {
    "name", "type", "required", "description", "default", "enum", "in", NULL};
static const char *const methods[] = {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"};

static bool in_path(const char *path, const char *name)
{
	size_t len = strlen(name);
	for (const char *at = strchr(path, '{'); at != NULL; at = strchr(at + 1, '{')) {
		if (strncmp(at + 1, name, len) == 0 && at[1 + len] == '}') {
			return true;
		}
	}
	return false;
}

/* Where the value goes: into the path where that names it, else into the body of a method that has
 * one, else into the query. */
static const char *place_of(
    const struct node *n, const char *path, const char *name, const char *method)
{
	struct node at = node_get(n, "in");
	if (in_path(path, name)) {
		return "path";
	}
	bool body = *method == 'P';
	const char *text = node_text(&at, body ? "body" : "query");
	if (strcmp(text, "query") != 0 && strcmp(text, "body") != 0) {
		reading_fail(&at, "'in' must be query or body; what the path names is in the path");
	}
	return text;
}

static void add_parameter(const struct node *n, const char *name, const char *path,
    const char *method, json_t *parameters)
{
	if (!reading_name_ok(name)) {
		reading_fail(n, "'%.64s' is no name for a parameter", name);
		return;
	}
	if (node_object(n)) {
		node_only(n, known_parameter_keys);
	}
	json_t *p = definition_parameter(n, name, "string");
	const char *place = place_of(n, path, name, method);
	(void)json_object_set_new(p, "in", json_string(place));
	if (strcmp(place, "path") == 0) {
		(void)json_object_set_new(
		    p, "required", json_boolean(json_is_null(json_object_get(p, "default"))));
	}
	(void)json_array_append_new(parameters, p);
}

static void read_parameters(
    const struct node *n, const char *path, const char *method, json_t *parameters)
{
	const char *name;
	json_t *value;
	if (node_is(n) && !json_is_object(n->value) && !json_is_array(n->value)) {
		reading_fail(n, "'parameters' must be a mapping or a list");
		return;
	}
	for (size_t i = 0; i < json_array_size(n->value); i++) {
		struct node item = node_item(n, i);
		struct node name_at = node_get(&item, "name");
		const char *given = node_required_text(&name_at);
		if (given != NULL) {
			add_parameter(&item, given, path, method, parameters);
		}
	}
	json_object_foreach((json_t *)(uintptr_t)n->value, name, value)
	{
		struct node item = node_get(n, name);
		add_parameter(&item, name, path, method, parameters);
	}
}

/* What the path names must be a parameter; one that is not told of is text. */
static void add_path_parameters(const struct node *at, const char *path, json_t *parameters)
{
	for (const char *open = strchr(path, '{'); open != NULL; open = strchr(open + 1, '{')) {
		size_t len = strcspn(open + 1, "}");
		char name[80];
		if (open[1 + len] != '}' || len >= sizeof(name)) {
			reading_fail(at, "a '{' without a name and a '}'");
			return;
		}
		memcpy(name, open + 1, len);
		name[len] = '\0';
		bool known = false;
		for (size_t i = 0; i < json_array_size(parameters); i++) {
			const json_t *p = json_array_get(parameters, i);
			known = known ||
				strcmp(json_string_value(json_object_get(p, "name")), name) == 0;
		}
		if (!known) {
			struct node nothing = {.r = at->r};
			add_parameter(&nothing, name, path, "GET", parameters);
		}
	}
}

static const char *method_of(const struct node *n)
{
	struct node at = node_get(n, "method");
	const char *text = node_text(&at, "GET");
	for (size_t i = 0; i < array_len(methods); i++) {
		if (strcasecmp(text, methods[i]) == 0) {
			return methods[i];
		}
	}
	reading_fail(&at, "there is no method '%s'", text);
	return "GET";
}

static json_t *without_place(const json_t *parameters)
{
	json_t *shown = json_deep_copy(parameters);
	for (size_t i = 0; i < json_array_size(shown); i++) {
		(void)json_object_del(json_array_get(shown, i), "in");
	}
	return shown;
}

static void read_endpoint(const struct node *n, json_t *endpoints, json_t *callables)
{
	struct node name_at = node_get(n, "name");
	struct node path_at = node_get(n, "path");
	struct node description = node_get(n, "description");
	struct node parameters_at = node_get(n, "parameters");
	if (!node_object(n)) {
		reading_fail(n, "an endpoint must be a mapping");
		return;
	}
	node_only(n, known_endpoint_keys);
	const char *name = node_required_text(&name_at);
	const char *path = node_text(&path_at, "");
	const char *method = method_of(n);
	if (name == NULL || !reading_name_ok(name)) {
		reading_fail(&name_at, "an endpoint needs a name");
		return;
	}
	if (json_object_get(endpoints, name) != NULL) {
		reading_fail(&name_at, "the endpoint '%s' stands twice", name);
		return;
	}
	if (*path != '\0' && *path != '/') {
		reading_fail(&path_at, "'path' must begin with '/'");
	}
	cleanup(json_decrefp) json_t *parameters = json_array();
	read_parameters(&parameters_at, path, method, parameters);
	add_path_parameters(&path_at, path, parameters);
	(void)json_array_append_new(
	    callables, json_pack("{s:s, s:s, s:o}", "name", name, "description",
			   node_text(&description, ""), "parameters", without_place(parameters)));
	(void)json_object_set_new(endpoints, name,
	    json_pack("{s:s, s:s, s:O}", "method", method, "path", path, "parameters", parameters));
}

json_t *definition_http(
    const struct node *n, const struct definition_origin *from, json_t *callables)
{
	struct node url_at = node_get(n, "base_url");
	struct node headers = node_get(n, "headers");
	struct node list = node_get(n, "endpoints");
	node_only(n, known_keys);
	const char *url = node_required_text(&url_at);
	if (url != NULL && !text_has_prefix(url, "http://") && !text_has_prefix(url, "https://")) {
		reading_fail(&url_at, "'base_url' must be http:// or https://");
	}
	json_t *endpoints = json_object();
	if (!node_is(&list)) {
		reading_fail(&list, "'endpoints' is missing");
	} else if (node_array(&list)) {
		for (size_t i = 0; i < json_array_size(list.value); i++) {
			struct node item = node_item(&list, i);
			read_endpoint(&item, endpoints, callables);
		}
	}
	size_t len = url != NULL ? strlen(url) : 0;
	while (len > 0 && url[len - 1] == '/') {
		len--;
	}
	return json_pack("{s:s#, s:o, s:o}", "base_url", url != NULL ? url : "", (int)len,
	    "headers", definition_headers(&headers, from), "endpoints", endpoints);
}
