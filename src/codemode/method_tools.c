/* tools.*: what there is, finding it, and calling it. */
#include <string.h>

#include "codemode/internal.h"

#define NAMED_MAX 5 /* tools named when the one asked for is not there */
#define FOUND_OTHERWISE 10

static void fail_listing(struct method_call *c, const struct err *e)
{
	if (e->code == ERR_UNAVAILABLE || e->code == ERR_TIMEOUT) {
		call_fail(c, "StorageError", "%s", e->text);
	} else {
		call_fail(c, "RuntimeError", "The tools cannot be listed: %s", e->text);
	}
}

/* --- tools.list ----------------------------------------------------------------------------------
 */

static void on_list(void *ctx, const json_t *tools, const struct err *e)
{
	struct method_call *c = ctx;
	c->tools_wait = NULL;
	if (e != NULL) {
		fail_listing(c, e);
		return;
	}
	call_finish(c, json_incref((json_t *)(uintptr_t)tools));
}

static void tools_list(struct method_call *c)
{
	call_wait(c, tools_wait, tool_table_get(c->codemode->tools, &c->space, true, on_list, c));
}

/* --- tools.search --------------------------------------------------------------------------------
 */

static void on_search(void *ctx, const json_t *tools, const struct err *e)
{
	struct method_call *c = ctx;
	c->tools_wait = NULL;
	if (e != NULL) {
		fail_listing(c, e);
		return;
	}
	size_t limit = argument_count(c, "limit", FOUND_OTHERWISE);
	call_finish(c, find_tools(tools, argument_text(c, "query"), limit));
}

static void tools_search(struct method_call *c)
{
	call_wait(c, tools_wait, tool_table_get(c->codemode->tools, &c->space, true, on_search, c));
}

/* --- tools.call ----------------------------------------------------------------------------------
 */

static const json_t *find_tool(const json_t *tools, const char *name)
{
	for (size_t i = 0; i < json_array_size(tools); i++) {
		const json_t *tool = json_array_get(tools, i);
		const char *other = json_string_value(json_object_get(tool, "name"));
		if (other != NULL && strcmp(other, name) == 0) {
			return tool;
		}
	}
	return NULL;
}

static void fail_not_found(struct method_call *c)
{
	cleanup(buf_fini) struct buf names = BUF_INIT(2048);
	for (size_t i = 0; i < json_array_size(c->kept) && i < NAMED_MAX; i++) {
		const json_t *tool = json_array_get(c->kept, i);
		(void)buf_addf(&names, "%s%.255s", i > 0 ? ", " : "",
		    json_string_value(json_object_get(tool, "name")));
	}
	call_fail(c, "ToolNotFoundError", "Tool '%.255s' not found. Available: %.600s",
	    argument_text(c, "tool"), names.len > 0 ? buf_str(&names) : "(none)");
}

/* CAUSE: all that the tool said, which may be more than an err holds. The runner's text of a
 * timeout says how long: "timed out after 1s". */
static void fail_tool(struct method_call *c, enum err_code code, const char *cause)
{
	const char *tool = argument_text(c, "tool");
	switch (code) {
	case ERR_TIMEOUT:
		call_fail(c, "ToolTimeoutError", "Tool '%.255s' %s", tool, cause);
		return;
	case ERR_NOT_FOUND:
		if (find_tool(c->kept, tool) == NULL) {
			fail_not_found(c);
			return;
		}
		break;
	case ERR_BUSY:
		call_fail(c, "TooManyCalls", "Tool '%.255s' failed: %s", tool, cause);
		return;
	default:
		break;
	}
	call_fail(c, "ToolCallError", "Tool '%.255s' failed: %s", tool, cause);
}

static void on_result(void *ctx, const json_t *result, const struct err *e)
{
	struct method_call *c = ctx;
	c->running = NULL;
	if (e != NULL) {
		const char *whole = json_string_value(json_object_get(result, "message"));
		fail_tool(c, e->code, whole != NULL ? whole : e->text);
		return;
	}
	call_finish(c, json_incref((json_t *)(uintptr_t)result));
}

static void on_tools_to_call(void *ctx, const json_t *tools, const struct err *e)
{
	struct method_call *c = ctx;
	c->tools_wait = NULL;
	if (e != NULL) {
		fail_listing(c, e);
		return;
	}
	c->kept = json_incref((json_t *)(uintptr_t)tools);
	struct runner_link *runner = c->codemode->config.runner;
	if (runner == NULL) {
		fail_not_found(c);
		return;
	}
	call_wait(c, running,
	    runner_tool(runner, c->space.prefix, argument_text(c, "tool"),
		argument_text(c, "callable"), argument_object(c, "arguments"), c->data_dir_fd,
		on_result, c));
}

static void tools_call(struct method_call *c)
{
	call_wait(c, tools_wait,
	    tool_table_get(c->codemode->tools, &c->space, false, on_tools_to_call, c));
}

const struct method tools_methods[] = {
    {"tools.list", {{0}}, tools_list},
    {"tools.search", {{"query", ARGUMENT_TEXT, false}, {"limit", ARGUMENT_COUNT, true}},
	tools_search},
    {"tools.call",
	{{"tool", ARGUMENT_TEXT, false}, {"callable", ARGUMENT_TEXT, true},
	    {"arguments", ARGUMENT_OBJECT, false}},
	tools_call},
    {0},
};
