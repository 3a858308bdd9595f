/*
 * definition: what a tool's file says, read and checked once, so that whoever runs it need not ask
 * again.
 *
 * A tool is an object:
 *
 *   name, type ("cli", "mcp", "http"), description, tags, approval ("none", "required")
 *   source   "file" or "store"; file: where it stands, for people
 *   timeout_ms
 *   callables  as the session sees them: [{name, description, parameters: [{name, type, required,
 *              default, description, enum?}]}]; empty for mcp, whose server tells
 *   spec     what it takes to run it, by its type:
 *     cli    command, form ("template", "plain", "schema"), env, data, read, working_dir and
 *            template, placeholders, defaults          (template)
 *            parameters, recipes, end_of_options       (schema)
 *     mcp    transport ("stdio", "sse", "http"); command, args, env, read, or url, headers
 *     http   base_url, headers, endpoints by name: {method, path, parameters}
 *
 * Sources of the formats: py-code-mode's tool files, in both of their forms, and its tools.yaml.
 * `${tool_dir}` in paths and commands of a file is the directory the file is in. `${secret:NAME}`
 * in env and headers stays as it is until it is used.
 *
 * Invariant: a definition that comes from a store may not name files of the host (read,
 * working_dir, tool_dir), and one of a space other than the server's own may name no secrets: those
 * are the operator's, and whoever writes there may not be.
 */
#ifndef TOOLS_DEFINITION_H
#define TOOLS_DEFINITION_H

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"
#include "tools/reading.h"

#define DEFINITION_FILE_MAX_BYTES (1U << 20)
#define DEFINITION_TIMEOUT_MS 60000
#define DEFINITION_HTTP_TIMEOUT_MS 30000
#define DEFINITION_TIMEOUT_MAX_MS (24ULL * 3600 * 1000)

/* Reads the text of one file into TOOLS (an array that grows): one tool, or the tools of a list
 * (`tools`, `cli_tools`, `mcp_servers`). DIR is the file's directory. What is wrong goes to
 * PROBLEMS. */
void definition_read_file(const char *file, const char *dir, const char *text, size_t len,
    json_t *tools, json_t *problems);

/* Reads one definition of a store. OWN: of the server's own space. */
void definition_read_stored(const json_t *document, bool own, json_t *tools, json_t *problems);

#define DEFINITION_DIGEST_BYTES 65
/* Names what TOOL's definition says now: the SHA-256 of it, in hex. -ENOMEM. */
int definition_digest(const json_t *tool, char digest[DEFINITION_DIGEST_BYTES]);

/* A tool as clients may see it, without its spec (new). PREFIX may be NULL. */
json_t *definition_listing(const json_t *tool, const char *prefix);

/* --- between the files of the kinds
 * ----------------------------------------------------------------
 */

/* Where a definition comes from. */
struct definition_origin {
	const char *dir; /* NULL: from a store */
	bool secrets;    /* it may name secrets */
};

/* Each gives the spec (new) and fills CALLABLES; problems are told through N's reading. NAME is the
 * tool's. */
json_t *definition_cli(const struct node *n, const struct definition_origin *from, const char *name,
    const char *description, json_t *callables);
json_t *definition_mcp(const struct node *n, const struct definition_origin *from);
json_t *definition_http(
    const struct node *n, const struct definition_origin *from, json_t *callables);

/* What several of them have: env and headers with their secrets, paths with `${tool_dir}`. New. */
json_t *definition_env(const struct node *n, const struct definition_origin *from);
json_t *definition_headers(const struct node *n, const struct definition_origin *from);
json_t *definition_paths(const struct node *n, const struct definition_origin *from);
json_t *definition_path_text(
    const struct node *n, const struct definition_origin *from, const char *text);

/* One parameter of a listing (new) from its node: type, required, default, description, enum. */
json_t *definition_parameter(const struct node *n, const char *name, const char *default_type);

#endif
