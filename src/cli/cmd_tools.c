/* carrel tools: what tools a server has; and tools' files, as a server would see them. Nothing is
 * run. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/command.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/served.h"
#include "tools/catalog.h"
#include "tools/definition.h"

/* The directory or the file of the command line, else what the server would be given. */
static struct catalog *read_catalog(const char *path, struct err *e)
{
	struct stat st;
	const char *dir = path == NULL ? getenv("TOOLS_PATH") : path;
	const char *file = path == NULL ? getenv("TOOLS_CONFIG") : NULL;
	if (dir == NULL && file == NULL) {
		(void)err_set(e, ERR_INVALID, "name a directory or a file of tools");
		return NULL;
	}
	if (path != NULL && stat(path, &st) == 0 && !S_ISDIR(st.st_mode)) {
		dir = NULL;
		file = path;
	}
	struct catalog *c = catalog_new(dir, file);
	if (c == NULL) {
		(void)err_set(e, ERR_INTERNAL, "out of memory");
		return NULL;
	}
	(void)catalog_reload(c);
	return c;
}

static int print_problems(struct output *o, const json_t *problems)
{
	for (size_t i = 0; i < json_array_size(problems); i++) {
		const json_t *p = json_array_get(problems, i);
		const char *file = json_string_value(json_object_get(p, "file"));
		const char *message = json_string_value(json_object_get(p, "message"));
		json_int_t line = json_integer_value(json_object_get(p, "line"));
		int r = line > 0 ? output_linef(o, "%s:%lld: %s", file, (long long)line, message)
				 : output_linef(o, "%s: %s", file, message);
		if (r < 0) {
			return -1;
		}
	}
	return 0;
}

static void add_tool(void *ctx, const char *prefix, const json_t *tool)
{
	(void)json_array_append_new(ctx, definition_listing(tool, prefix));
}

static int print_tool(struct output *o, const json_t *tool)
{
	const json_t *callables = json_object_get(tool, "callables");
	const char *name = json_string_value(json_object_get(tool, "name"));
	int r = output_linef(o, "%-20s %-5s %s", name,
	    json_string_value(json_object_get(tool, "type")),
	    json_string_value(json_object_get(tool, "description")));
	for (size_t i = 0; i < json_array_size(callables) && r == 0; i++) {
		const json_t *one = json_array_get(callables, i);
		const char *called = json_string_value(json_object_get(one, "name"));
		if (strcmp(called, name) != 0) {
			r = output_linef(o, "  .%-17s       %s", called,
			    json_string_value(json_object_get(one, "description")));
		}
	}
	return r;
}

static int check(struct output *o, const struct catalog *c, struct err *e)
{
	cleanup(json_decrefp) json_t *problems = catalog_problems(c);
	cleanup(json_decrefp) json_t *tools = json_array();
	catalog_each(c, add_tool, tools);
	size_t count = json_array_size(problems);
	int r;
	if (o->json) {
		cleanup(json_decrefp) json_t *document = json_pack(
		    "{s:i, s:O}", "tools", (int)json_array_size(tools), "problems", problems);
		r = output_json(o, document, e);
	} else {
		r = print_problems(o, problems);
		r = r < 0
			? r
			: output_linef(o, "%zu tools, %zu problems", json_array_size(tools), count);
	}
	return r < 0 || count > 0 ? CLI_EXIT_USER : CLI_EXIT_OK;
}

static int list(struct output *o, const struct catalog *c, struct err *e)
{
	cleanup(json_decrefp) json_t *tools = json_array();
	catalog_each(c, add_tool, tools);
	int r = 0;
	if (o->json) {
		r = output_json(o, tools, e);
	}
	for (size_t i = 0; i < json_array_size(tools) && r == 0 && !o->json; i++) {
		r = print_tool(o, json_array_get(tools, i));
	}
	return r < 0 ? CLI_EXIT_USER : CLI_EXIT_OK;
}

int cmd_tools(int argc, char **argv)
{
	struct options shared;
	struct err e = {0};
	int first = options_parse(&shared, argc, argv, NULL, 0, &e);
	if (first < 0) {
		return command_usage_error("tools", &e);
	}
	const char *verb = first < argc ? argv[first] : "";
	if (strcmp(verb, "ls") == 0) {
		return served_tools(argc, argv);
	}
	bool checks = strcmp(verb, "check") == 0;
	if ((!checks && strcmp(verb, "list") != 0) || argc - first > 2) {
		(void)err_set(
		    &e, ERR_INVALID, "use: ls; or check or list, and a directory or a file");
		return command_usage_error("tools", &e);
	}
	struct output o;
	output_init(&o, shared.json);
	struct catalog *c = read_catalog(first + 1 < argc ? argv[first + 1] : NULL, &e);
	if (c == NULL) {
		return output_failure(&o, NULL, &e);
	}
	int status = checks ? check(&o, c, &e) : list(&o, c, &e);
	catalog_free(c);
	return status;
}
