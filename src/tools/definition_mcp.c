/* Servers of tools: where they are, or how they are started. What they offer they tell themselves.
 */
#include <string.h>

#include "base/text.h"
#include "tools/definition.h"

static const char *const known_keys[] = {"name", "type", "description", "tags", "timeout",
    "timeout_seconds", "approval", "transport", "command", "args", "env", "read", "data",
    "working_dir", "url", "headers", NULL};

/* "stdio", "sse" or "http", by all the names the last one goes by. */
static const char *transport_of(const struct node *n)
{
	struct node at = node_get(n, "transport");
	struct node url = node_get(n, "url");
	const char *text = node_text(&at, node_is(&url) ? "http" : "stdio");
	if (strcmp(text, "streamable-http") == 0 || strcmp(text, "streamable_http") == 0) {
		return "http";
	}
	if (strcmp(text, "stdio") != 0 && strcmp(text, "sse") != 0 && strcmp(text, "http") != 0) {
		reading_fail(&at, "there is no transport '%s': stdio, sse or http", text);
	}
	return text;
}

static void read_stdio(const struct node *n, const struct definition_origin *from, json_t *spec)
{
	struct node command_at = node_get(n, "command");
	struct node args_at = node_get(n, "args");
	struct node env = node_get(n, "env");
	struct node read = node_get(n, "read");
	const char *command = node_required_text(&command_at);
	cleanup(json_decrefp) json_t *args = node_texts(&args_at);
	json_t *words = json_array();
	for (size_t i = 0; i < json_array_size(args); i++) {
		const char *text = json_string_value(json_array_get(args, i));
		(void)json_array_append_new(words, definition_path_text(&args_at, from, text));
	}
	(void)json_object_set_new(spec, "command",
	    definition_path_text(&command_at, from, command != NULL ? command : ""));
	(void)json_object_set_new(spec, "args", words);
	(void)json_object_set_new(spec, "env", definition_env(&env, from));
	(void)json_object_set_new(spec, "read", definition_paths(&read, from));
}

static void read_url(const struct node *n, const struct definition_origin *from, json_t *spec)
{
	struct node url_at = node_get(n, "url");
	struct node headers = node_get(n, "headers");
	const char *url = node_required_text(&url_at);
	if (url != NULL && !text_has_prefix(url, "http://") && !text_has_prefix(url, "https://")) {
		reading_fail(&url_at, "'url' must be http:// or https://");
	}
	(void)json_object_set_new(spec, "url", json_string(url != NULL ? url : ""));
	(void)json_object_set_new(spec, "headers", definition_headers(&headers, from));
}

json_t *definition_mcp(const struct node *n, const struct definition_origin *from)
{
	json_t *spec = json_object();
	const char *transport = transport_of(n);
	node_only(n, known_keys);
	(void)json_object_set_new(spec, "transport", json_string(transport));
	if (strcmp(transport, "stdio") == 0) {
		read_stdio(n, from, spec);
	} else {
		read_url(n, from, spec);
	}
	return spec;
}
