/* Commands: the old form with a template, the form with a schema and recipes, and one with neither.
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "tools/argv.h"
#include "tools/definition.h"
#include "tools/value.h"

static const char *const known_keys[] = {"name", "type", "description", "tags", "timeout",
    "timeout_seconds", "approval", "command", "args", "args_template", "defaults", "env", "data",
    "read", "working_dir", "end_of_options", "schema", "recipes", NULL};

/* --- the template
 * --------------------------------------------------------------------------------
 */

static json_t *template_parameter(const json_t *name, const json_t *defaults)
{
	json_t *given = json_object_get(defaults, json_string_value(name));
	return json_pack("{s:O, s:s, s:b, s:o, s:s}", "name", name, "type", "string", "required",
	    given == NULL, "default", given != NULL ? json_incref(given) : json_null(),
	    "description", "");
}

static void read_template(const struct node *n, const struct node *at, const char *template,
    const char *name, const char *description, json_t *spec, json_t *callables)
{
	struct err e = {0};
	struct node defaults_at = node_get(n, "defaults");
	cleanup(json_decrefp) json_t *placeholders = argv_placeholders(template, &e);
	if (placeholders == NULL) {
		reading_fail(at, "%s", e.text);
		return;
	}
	cleanup(json_decrefp) json_t *defaults = node_text_map(&defaults_at);
	json_t *parameters = json_array();
	for (size_t i = 0; i < json_array_size(placeholders); i++) {
		(void)json_array_append_new(
		    parameters, template_parameter(json_array_get(placeholders, i), defaults));
	}
	if (json_object_size(defaults) > 0 && value_check_known(defaults, parameters, &e) < 0) {
		reading_fail(&defaults_at, "%s", e.text);
	}
	(void)json_object_set_new(spec, "form", json_string("template"));
	(void)json_object_set_new(spec, "template", json_string(template));
	(void)json_object_set(spec, "parameters", parameters);
	(void)json_array_append_new(
	    callables, json_pack("{s:s, s:s, s:o}", "name", name, "description", description,
			   "parameters", parameters));
}

/* --- the schema
 * ----------------------------------------------------------------------------------
 */

/* The words that put an option on the command line. */
static json_t *flag_of(const struct node *n, const char *name)
{
	struct node flag = node_get(n, "flag");
	struct node letter = node_get(n, "short");
	const char *given = node_text(&flag, NULL);
	const char *text = node_text(&letter, NULL);
	if (given != NULL) {
		return json_string(given);
	}
	return text != NULL ? json_sprintf("-%s", text + (*text == '-'))
			    : json_sprintf("--%s", name);
}

static void add_parameter(
    json_t *parameters, const struct node *n, const char *name, const char *kind, const char *flag)
{
	struct node dash = node_get(n, "allow_dash");
	if (!reading_name_ok(name)) {
		reading_fail(n, "'%.64s' is no name for a parameter", name);
		return;
	}
	json_t *p = definition_parameter(n, name, "str");
	(void)json_object_set_new(p, "kind", json_string(kind));
	(void)json_object_set_new(p, "allow_dash", json_boolean(node_bool(&dash, false)));
	if (flag != NULL) {
		(void)json_object_set_new(p, "flag", json_string(flag));
	}
	(void)json_array_append_new(parameters, p);
}

static void read_options(const struct node *schema, json_t *parameters)
{
	static const char *const known[] = {
	    "type", "short", "flag", "description", "enum", "default", "required", "items", NULL};
	struct node options = node_get(schema, "options");
	const char *name;
	json_t *value;
	if (!node_is(&options) || !node_object(&options)) {
		return;
	}
	json_object_foreach((json_t *)(uintptr_t)options.value, name, value)
	{
		struct node option = node_get(&options, name);
		cleanup(json_decrefp) json_t *flag = flag_of(&option, name);
		node_only(&option, known);
		add_parameter(parameters, &option, name, "option", json_string_value(flag));
	}
}

static void read_positionals(const struct node *schema, json_t *parameters)
{
	static const char *const known[] = {"name", "type", "required", "description", "default",
	    "enum", "allow_dash", "items", NULL};
	struct node list = node_get(schema, "positional");
	if (!node_is(&list) || !node_array(&list)) {
		return;
	}
	for (size_t i = 0; i < json_array_size(list.value); i++) {
		struct node item = node_item(&list, i);
		struct node name_at = node_get(&item, "name");
		const char *name = node_object(&item) ? node_required_text(&name_at) : NULL;
		if (name != NULL) {
			node_only(&item, known);
			add_parameter(parameters, &item, name, "positional", NULL);
		}
	}
}

static const json_t *parameter_named(const json_t *parameters, const char *name)
{
	for (size_t i = 0; i < json_array_size(parameters); i++) {
		const json_t *p = json_array_get(parameters, i);
		if (strcmp(json_string_value(json_object_get(p, "name")), name) == 0) {
			return p;
		}
	}
	return NULL;
}

/* P as it is shown, without what only the command line needs. */
static json_t *shown(const json_t *p)
{
	json_t *copy = json_copy((json_t *)(uintptr_t)p);
	(void)json_object_del(copy, "kind");
	(void)json_object_del(copy, "flag");
	(void)json_object_del(copy, "allow_dash");
	return copy;
}

/* Positionals first, as they are needed more often. */
static json_t *all_shown(const json_t *parameters, const json_t *preset)
{
	json_t *list = json_array();
	for (int round = 0; round < 2; round++) {
		for (size_t i = 0; i < json_array_size(parameters); i++) {
			const json_t *p = json_array_get(parameters, i);
			const char *name = json_string_value(json_object_get(p, "name"));
			bool first = *json_string_value(json_object_get(p, "kind")) == 'p';
			if (first != (round == 0) || json_object_get(preset, name) != NULL) {
				continue;
			}
			(void)json_array_append_new(list, shown(p));
		}
	}
	return list;
}

/* What a recipe says of one parameter, over what the schema says of it. */
static json_t *recipe_parameter(const struct node *n, const char *name, const json_t *in_schema)
{
	static const char *const known[] = {
	    "type", "required", "description", "default", "enum", NULL};
	static const char *const kept[] = {"type", "required", "description", "enum", "default"};
	json_t *p = definition_parameter(
	    n, name, json_string_value(json_object_get(in_schema, "type")));
	node_only(n, known);
	for (size_t i = 0; i < array_len(kept); i++) {
		struct node given = node_get(n, kept[i]);
		json_t *usual = json_object_get(in_schema, kept[i]);
		if (!node_is(&given) && usual != NULL) {
			(void)json_object_set(p, kept[i], usual);
		}
	}
	struct node required = node_get(n, "required");
	if (!node_is(&required) && !json_is_null(json_object_get(p, "default"))) {
		(void)json_object_set_new(p, "required", json_false());
	}
	return p;
}

static json_t *recipe_parameters(const struct node *recipe, const json_t *schema)
{
	struct node params = node_get(recipe, "params");
	json_t *list = json_array();
	const char *name;
	json_t *value;
	if (!node_object(&params)) {
		return list;
	}
	json_object_foreach((json_t *)(uintptr_t)params.value, name, value)
	{
		struct node at = node_get(&params, name);
		const json_t *in_schema = parameter_named(schema, name);
		if (in_schema == NULL) {
			reading_fail(&at, "the schema has no '%s'", name);
			continue;
		}
		(void)json_array_append_new(list, recipe_parameter(&at, name, in_schema));
	}
	return list;
}

/* Checks each preset as a caller's argument would be. */
static json_t *preset_of(const struct node *recipe, const json_t *schema)
{
	struct node preset = node_get(recipe, "preset");
	json_t *out = json_object();
	const char *name;
	json_t *value;
	if (!node_is(&preset) || !node_object(&preset)) {
		return out;
	}
	json_object_foreach((json_t *)(uintptr_t)preset.value, name, value)
	{
		struct node at = node_get(&preset, name);
		struct err e = {0};
		enum value_type type = VALUE_STRING;
		const json_t *p = parameter_named(schema, name);
		if (p == NULL) {
			reading_fail(&at, "the schema has no '%s'", name);
			continue;
		}
		(void)value_type_parse(json_string_value(json_object_get(p, "type")), &type);
		json_t *taken = value_check(name, type, json_object_get(p, "enum"), value, &e);
		if (taken == NULL) {
			reading_fail(&at, "%s", e.text);
			continue;
		}
		(void)json_object_set_new(out, name, taken);
	}
	return out;
}

static void read_recipe(const struct node *at, const char *name, const json_t *schema,
    json_t *recipes, json_t *callables)
{
	static const char *const known[] = {"description", "preset", "params", NULL};
	struct node description = node_get(at, "description");
	struct node params = node_get(at, "params");
	if (!reading_name_ok(name) || (node_is(at) && !node_object(at))) {
		reading_fail(at, "'%.64s' is no recipe", name);
		return;
	}
	node_only(at, known);
	cleanup(json_decrefp) json_t *preset = preset_of(at, schema);
	cleanup(json_decrefp) json_t *parameters = node_is(&params) ? recipe_parameters(at, schema)
								    : all_shown(schema, preset);
	(void)json_array_append_new(
	    callables, json_pack("{s:s, s:s, s:O}", "name", name, "description",
			   node_text(&description, ""), "parameters", parameters));
	(void)json_object_set_new(
	    recipes, name, json_pack("{s:O, s:O}", "preset", preset, "parameters", parameters));
}

static void read_schema(const struct node *n, const char *name, const char *description,
    json_t *spec, json_t *callables)
{
	static const char *const known[] = {"options", "positional", NULL};
	struct node schema = node_get(n, "schema");
	struct node recipes_at = node_get(n, "recipes");
	json_t *parameters = json_array();
	json_t *recipes = json_object();
	const char *recipe;
	json_t *value;
	(void)json_object_set_new(spec, "form", json_string("schema"));
	(void)json_object_set_new(spec, "parameters", parameters);
	(void)json_object_set_new(spec, "recipes", recipes);
	if (node_is(&schema) && node_object(&schema)) {
		node_only(&schema, known);
		read_options(&schema, parameters);
		read_positionals(&schema, parameters);
	}
	if (node_is(&recipes_at) && node_object(&recipes_at)) {
		json_object_foreach((json_t *)(uintptr_t)recipes_at.value, recipe, value)
		{
			struct node at = node_get(&recipes_at, recipe);
			read_recipe(&at, recipe, parameters, recipes, callables);
		}
	}
	if (json_object_size(recipes) == 0) {
		(void)json_array_append_new(
		    callables, json_pack("{s:s, s:s, s:o}", "name", name, "description",
				   description, "parameters", all_shown(parameters, NULL)));
	}
}

/* --- all of it
 * -----------------------------------------------------------------------------------
 */

static void read_place(const struct node *n, const struct definition_origin *from, json_t *spec)
{
	struct node env = node_get(n, "env");
	struct node read = node_get(n, "read");
	struct node directory = node_get(n, "working_dir");
	struct node data = node_get(n, "data");
	const char *data_text = node_text(&data, "none");
	if (strcmp(data_text, "none") != 0 && strcmp(data_text, "read_only") != 0) {
		reading_fail(&data, "'data' must be read_only or none");
	}
	(void)json_object_set_new(spec, "env", definition_env(&env, from));
	(void)json_object_set_new(spec, "read", definition_paths(&read, from));
	(void)json_object_set_new(spec, "data", json_boolean(strcmp(data_text, "read_only") == 0));
	if (node_is(&directory)) {
		json_t *paths = definition_paths(&directory, from);
		(void)json_object_set(spec, "working_dir", json_array_get(paths, 0));
		json_decref(paths);
	}
}

json_t *definition_cli(const struct node *n, const struct definition_origin *from, const char *name,
    const char *description, json_t *callables)
{
	struct node command_at = node_get(n, "command");
	struct node end = node_get(n, "end_of_options");
	struct node template_at = node_either(n, "args", "args_template");
	const char *template = node_text(&template_at, NULL);
	const char *command = node_text(&command_at, name);
	bool schema = json_object_get(n->value, "schema") != NULL ||
		      json_object_get(n->value, "recipes") != NULL;
	json_t *spec = json_object();
	node_only(n, known_keys);
	if (*command == '\0') {
		reading_fail(&command_at, "'command' is empty");
	}
	if (schema && template != NULL) {
		reading_fail(&template_at, "'args' and 'schema' do not go together");
	}
	(void)json_object_set_new(
	    spec, "command", definition_path_text(&command_at, from, command));
	(void)json_object_set_new(spec, "end_of_options", json_boolean(node_bool(&end, false)));
	read_place(n, from, spec);
	if (schema) {
		read_schema(n, name, description, spec, callables);
	} else if (template != NULL) {
		read_template(n, &template_at, template, name, description, spec, callables);
	} else {
		(void)json_object_set_new(spec, "form", json_string("plain"));
		(void)json_array_append_new(
		    callables, json_pack("{s:s, s:s, s:[]}", "name", name, "description",
				   description, "parameters"));
	}
	return spec;
}
