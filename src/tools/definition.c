#include "tools/definition.h"

#include <errno.h>
#include <openssl/sha.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/text.h"
#include "base/yaml.h"
#include "tools/secrets.h"
#include "tools/value.h"

#define TOOL_DIR "${tool_dir}"
#define PATH_MAX_BYTES 4096

/* --- what the kinds share
 * ------------------------------------------------------------------------
 */

json_t *definition_path_text(
    const struct node *n, const struct definition_origin *from, const char *text)
{
	cleanup(buf_fini) struct buf out = BUF_INIT(PATH_MAX_BYTES);
	int r = 0;
	while (r == 0 && *text != '\0') {
		if (!text_has_prefix(text, TOOL_DIR)) {
			r = buf_add_char(&out, *text++);
			continue;
		}
		if (from->dir == NULL) {
			reading_fail(n, TOOL_DIR " is for files only");
			return json_string("");
		}
		r = buf_add_str(&out, from->dir);
		text += strlen(TOOL_DIR);
	}
	if (r < 0) {
		reading_fail(n, "the text is too long");
	}
	return json_string(buf_str(&out));
}

json_t *definition_paths(const struct node *n, const struct definition_origin *from)
{
	cleanup(json_decrefp) json_t *given = node_texts(n);
	json_t *out = json_array();
	if (json_array_size(given) > 0 && from->dir == NULL) {
		reading_fail(n, "a definition of a store may not name files of the server");
		return out;
	}
	for (size_t i = 0; i < json_array_size(given); i++) {
		json_t *path = definition_path_text(
		    n, from, json_string_value(json_array_get(given, i)));
		if (*json_string_value(path) != '/') {
			reading_fail(n, "'%s' is not an absolute path (" TOOL_DIR " is one)",
			    json_string_value(path));
		}
		(void)json_array_append_new(out, path);
	}
	return out;
}

/* Texts that may hold secrets. */
static json_t *secret_map(const struct node *n, const struct definition_origin *from)
{
	json_t *map = node_text_map(n);
	const char *key;
	json_t *value;
	json_object_foreach(map, key, value)
	{
		struct node item = node_get(n, key);
		struct err e = {0};
		int count = secrets_count(json_string_value(value), &e);
		if (count < 0) {
			reading_fail(&item, "%s", e.text);
		} else if (count > 0 && !from->secrets) {
			reading_fail(&item, "only the server's own tools may name secrets");
		}
	}
	return map;
}

static bool env_name_ok(const char *name)
{
	static const char letters[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_";
	return *name != '\0' && (*name < '0' || *name > '9') &&
	       strspn(name, letters) == strlen(name);
}

json_t *definition_env(const struct node *n, const struct definition_origin *from)
{
	json_t *map = secret_map(n, from);
	const char *key;
	json_t *value;
	json_object_foreach(map, key, value)
	{
		struct node item = node_get(n, key);
		if (!env_name_ok(key)) {
			reading_fail(&item, "'%s' is no name of a variable", key);
		}
		/* They load code into the command before its own first line. */
		if (from->dir == NULL && text_has_prefix(key, "LD_")) {
			reading_fail(&item, "a definition of a store may not set '%s'", key);
		}
		json_t *expanded = definition_path_text(&item, from, json_string_value(value));
		(void)json_object_set_new(map, key, expanded);
	}
	return map;
}

static bool header_ok(const char *name, const char *value)
{
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				      "0123456789!#$%&'*+-.^_`|~";
	return *name != '\0' && strspn(name, letters) == strlen(name) &&
	       strpbrk(value, "\r\n") == NULL;
}

json_t *definition_headers(const struct node *n, const struct definition_origin *from)
{
	json_t *map = secret_map(n, from);
	const char *key;
	json_t *value;
	json_object_foreach(map, key, value)
	{
		if (!header_ok(key, json_string_value(value))) {
			struct node item = node_get(n, key);
			reading_fail(&item, "'%s' is no header", key);
		}
	}
	return map;
}

static json_t *enumeration(const struct node *n)
{
	struct node list = node_get(n, "enum");
	if (!node_is(&list) || !node_array(&list)) {
		return NULL;
	}
	for (size_t i = 0; i < json_array_size(list.value); i++) {
		struct node item = node_item(&list, i);
		cleanup(json_decrefp) json_t *text = value_to_text(item.value);
		if (text == NULL) {
			reading_fail(&item, "each of 'enum' must be text, a number or a boolean");
		}
	}
	return json_deep_copy(list.value);
}

json_t *definition_parameter(const struct node *n, const char *name, const char *default_type)
{
	struct node type = node_get(n, "type");
	struct node given_default = node_get(n, "default");
	struct node required = node_get(n, "required");
	struct node description = node_get(n, "description");
	enum value_type parsed = VALUE_STRING;
	if (node_is(n)) {
		(void)node_object(n);
	}
	const char *type_name = node_text(&type, default_type);
	if (value_type_parse(type_name, &parsed) < 0) {
		reading_fail(&type, "there is no type '%s'", type_name);
	}
	json_t *p = json_pack("{s:s, s:s, s:b, s:s, s:n}", "name", name, "type", type_name,
	    "required", (int)node_bool(&required, false), "description",
	    node_text(&description, ""), "default");
	json_t *choices = enumeration(n);
	if (choices != NULL) {
		(void)json_object_set_new(p, "enum", choices);
	}
	if (node_is(&given_default)) {
		struct err e = {0};
		json_t *value = value_check(name, parsed, choices, given_default.value, &e);
		if (value == NULL) {
			reading_fail(&given_default, "the default of %s", e.text);
		} else {
			(void)json_object_set_new(p, "default", value);
		}
	}
	return p;
}

/* --- one tool
 * -------------------------------------------------------------------------------------
 */

static const char *approval_of(const struct node *n)
{
	struct node approval = node_get(n, "approval");
	if (json_is_boolean(approval.value)) {
		return json_is_true(approval.value) ? "required" : "none";
	}
	const char *text = node_text(&approval, "none");
	if (strcmp(text, "none") != 0 && strcmp(text, "required") != 0) {
		reading_fail(&approval, "'approval' must be required or none");
	}
	return text;
}

static json_t *spec_of(const struct node *n, const struct definition_origin *from, const char *type,
    const char *name, const char *description, json_t *callables)
{
	if (strcmp(type, "cli") == 0) {
		return definition_cli(n, from, name, description, callables);
	}
	if (strcmp(type, "mcp") == 0) {
		return definition_mcp(n, from);
	}
	if (strcmp(type, "http") == 0) {
		return definition_http(n, from, callables);
	}
	struct node at = node_get(n, "type");
	reading_fail(&at, "there is no type '%s' of tools: cli, mcp or http", type);
	return NULL;
}

static const char *checked_name(const struct node *n)
{
	struct node at = node_get(n, "name");
	const char *name = node_required_text(&at);
	if (name == NULL) {
		return "";
	}
	if (!reading_name_ok(name)) {
		reading_fail(&at,
		    "'%.64s' is no name for a tool: letters, digits, '_', '-', '.', "
		    "at most 64",
		    name);
	}
	return name;
}

/* Adds the tool at N to TOOLS unless it has failed. */
static void read_tool(const struct node *n, const struct definition_origin *from, json_t *tools)
{
	n->r->failed = false;
	if (!json_is_object(n->value)) {
		reading_fail(n, "a tool must be a mapping");
		return;
	}
	struct node type_at = node_get(n, "type");
	struct node description_at = node_get(n, "description");
	struct node tags_at = node_get(n, "tags");
	struct node timeout_at = node_either(n, "timeout", "timeout_seconds");
	const char *type = node_text(&type_at, "cli");
	const char *name = checked_name(n);
	const char *said = node_text(&description_at, NULL);
	char usual[128];
	(void)snprintf(
	    usual, sizeof(usual), strcmp(type, "cli") == 0 ? "Run %s command" : "%s", name);
	const char *description = said != NULL ? said : usual;
	uint64_t timeout_ms = node_seconds_ms(&timeout_at, DEFINITION_TIMEOUT_MAX_MS,
	    strcmp(type, "http") == 0 ? DEFINITION_HTTP_TIMEOUT_MS : DEFINITION_TIMEOUT_MS);
	cleanup(json_decrefp) json_t *tags = node_texts(&tags_at);
	cleanup(json_decrefp) json_t *callables = json_array();
	cleanup(json_decrefp) json_t *spec = spec_of(n, from, type, name, description, callables);
	const char *approval = approval_of(n);
	if (n->r->failed || spec == NULL) {
		return;
	}
	(void)json_array_append_new(
	    tools, json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:O, s:O, s:O}", "name", name,
		       "type", type, "description", description, "approval", approval, "source",
		       from->dir != NULL ? "file" : "store", "file", n->r->file, "timeout_ms",
		       (json_int_t)timeout_ms, "tags", tags, "callables", callables, "spec", spec));
}

/* --- lists
 * ---------------------------------------------------------------------------------------
 */

static void read_list(const struct node *n, const struct definition_origin *from, json_t *tools)
{
	if (!node_is(n) || !node_array(n)) {
		return;
	}
	for (size_t i = 0; i < json_array_size(n->value); i++) {
		struct node item = node_item(n, i);
		read_tool(&item, from, tools);
	}
}

/* mcp_servers: a list of servers with names, or a mapping from names to servers. */
static void read_servers(const struct node *n, const struct definition_origin *from, json_t *tools)
{
	const char *name;
	json_t *value;
	if (!node_is(n)) {
		return;
	}
	if (!json_is_object(n->value) && !json_is_array(n->value)) {
		reading_fail(n, "'mcp_servers' must be a mapping or a list");
		return;
	}
	for (size_t i = 0; i < json_array_size(n->value); i++) {
		struct node item = node_item(n, i);
		cleanup(json_decrefp) json_t *server = json_copy((json_t *)(uintptr_t)item.value);
		(void)json_object_set_new(server, "type", json_string("mcp"));
		item.value = server;
		read_tool(&item, from, tools);
	}
	json_object_foreach((json_t *)(uintptr_t)n->value, name, value)
	{
		struct node item = node_get(n, name);
		cleanup(json_decrefp) json_t *server = json_copy(value);
		(void)json_object_set_new(server, "type", json_string("mcp"));
		(void)json_object_set_new(server, "name", json_string(name));
		item.value = server;
		read_tool(&item, from, tools);
	}
}

static void read_document(
    const struct node *root, const struct definition_origin *from, json_t *tools)
{
	static const char *const known[] = {
	    "tools", "cli_tools", "mcp_servers", "python_deps", NULL};
	struct node list = node_get(root, "tools");
	struct node cli = node_get(root, "cli_tools");
	struct node servers = node_get(root, "mcp_servers");
	if (json_object_get(root->value, "name") != NULL ||
	    (!node_is(&list) && !node_is(&cli) && !node_is(&servers) &&
		json_object_get(root->value, "python_deps") == NULL)) {
		read_tool(root, from, tools);
		return;
	}
	node_only(root, known);
	read_list(&list, from, tools);
	read_list(&cli, from, tools);
	read_servers(&servers, from, tools);
}

/* yaml_parse says "line N: why". */
static void syntax_problem(struct reading *r, const struct err *e)
{
	const char *colon = strchr(e->text, ':');
	unsigned line = 0;
	if (colon == NULL || sscanf(e->text, "line %u:", &line) != 1) { /* NOLINT(cert-err34-c) */
		reading_file_problem(r, 0, e->text);
		return;
	}
	reading_file_problem(r, (int)line, colon + 1 + strspn(colon + 1, " "));
}

void definition_read_file(const char *file, const char *dir, const char *text, size_t len,
    json_t *tools, json_t *problems)
{
	struct err e = {0};
	cleanup(json_decrefp) json_t *lines = NULL;
	struct reading r = {.file = file, .problems = problems};
	cleanup(json_decrefp) json_t *document = yaml_parse_lines(text, len, &lines, &e);
	if (document == NULL) {
		syntax_problem(&r, &e);
		return;
	}
	r.lines = lines;
	const struct definition_origin from = {.dir = dir, .secrets = true};
	struct node root = node_root(&r, document);
	read_document(&root, &from, tools);
}

void definition_read_stored(const json_t *document, bool own, json_t *tools, json_t *problems)
{
	char file[128];
	const char *name = json_string_value(json_object_get(document, "name"));
	(void)snprintf(file, sizeof(file), "store:%.100s", name != NULL ? name : "?");
	struct reading r = {.file = file, .problems = problems};
	const struct definition_origin from = {.dir = NULL, .secrets = own};
	struct node root = node_root(&r, document);
	read_tool(&root, &from, tools);
}

int definition_digest(const json_t *tool, char digest[DEFINITION_DIGEST_BYTES])
{
	unsigned char bytes[SHA256_DIGEST_LENGTH];
	char *text = json_dumps(tool, JSON_COMPACT | JSON_SORT_KEYS);
	if (text == NULL) {
		return -ENOMEM;
	}
	(void)SHA256((const unsigned char *)text, strlen(text), bytes);
	free(text);
	text_hex(digest, bytes, sizeof(bytes));
	return 0;
}

json_t *definition_listing(const json_t *tool, const char *prefix)
{
	static const char *const shown[] = {
	    "name", "description", "tags", "type", "approval", "callables", "source"};
	json_t *listing = json_object();
	for (size_t i = 0; i < array_len(shown); i++) {
		(void)json_object_set(listing, shown[i], json_object_get(tool, shown[i]));
	}
	(void)json_object_set_new(
	    listing, "prefix", prefix != NULL ? json_string(prefix) : json_null());
	return listing;
}
