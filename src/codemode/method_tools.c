/* tools.*: what there is, finding it, and calling it. */
#include <string.h>
#include <utlist.h>

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

static void on_result(void *ctx, const json_t *result, const struct err *e);

/* APPROVED as in runner_tool. */
static void run(struct method_call *c, const char *approved)
{
	call_wait(c, running,
	    runner_tool(c->codemode->config.runner, c->space.prefix, argument_text(c, "tool"),
		argument_text(c, "callable"), argument_object(c, "arguments"), c->data_dir_fd,
		approved, on_result, c));
}

/* --- calls that wait for a person ----------------------------------------------------------------
 *
 * The runner says which they are, because it alone knows what a tool's file says at the moment it
 * would run; the pool's rules name others. What the person allows is run with the same arguments,
 * which are the call's own, and with the definition that was there when it was asked. */

#define REVIEWED_MAX_BYTES (64U << 10) /* nobody reads more before saying yes */
#define PARKED_OF_ONE_MAX 16U          /* of one session */

/* Whether the rules of its session's pool have C wait, and the runner will not say so itself. */
static bool is_ruled(const struct method_call *c)
{
	const struct approvals *a = c->codemode->config.approvals;
	const char *name = argument_text(c, "tool");
	const json_t *tool = find_tool(c->kept, name);
	const char *approval = json_string_value(json_object_get(tool, "approval"));
	return a != NULL && c->session != NULL &&
	       approvals_rule(a, c->session->pool->index, name) &&
	       (approval == NULL || strcmp(approval, "required") != 0);
}

static unsigned parked_of(const struct codemode *m, const struct session *s)
{
	unsigned n = 0;
	const struct method_call *c;
	DL_FOREACH(m->calls, c)
	{
		n += c->session == s && c->paused != NULL;
	}
	return n;
}

void call_unpause(struct method_call *c)
{
	engine_resume(c->paused);
	execution_unref(steal(&c->paused));
}

static void on_decided(void *ctx, bool allowed, const char *reason)
{
	struct method_call *c = ctx;
	call_unpause(c);
	if (!allowed) {
		c->parked = NULL; /* it is over for the approval too */
		call_fail(c, "ApprovalDenied", "Tool '%.255s' was not run: %s",
		    argument_text(c, "tool"), reason);
		return;
	}
	run(c, json_string_value(c->result));
}

/* 0, or -1 having failed C, when C cannot wait for a person. */
static int may_wait(struct method_call *c)
{
	const struct codemode *m = c->codemode;
	const char *tool = argument_text(c, "tool");
	size_t len = json_dumpb(argument_object(c, "arguments"), NULL, 0, JSON_COMPACT);
	if (m->config.approvals == NULL) {
		call_fail(c, "ApprovalDenied",
		    "Tool '%.255s' was not run: a person has to allow it, and this server keeps no "
		    "approvals",
		    tool);
	} else if (c->session == NULL || engine_session_running(c->session) == NULL) {
		call_fail(c, "ApprovalDenied",
		    "Tool '%.255s' was not run: a person has to allow it, which only running code "
		    "can wait for",
		    tool);
	} else if (len > REVIEWED_MAX_BYTES) {
		call_fail(c, "ApprovalDenied",
		    "Tool '%.255s' was not run: a person has to allow it, and its arguments are "
		    "larger than %u bytes",
		    tool, REVIEWED_MAX_BYTES);
	} else if (parked_of(m, c->session) >= PARKED_OF_ONE_MAX) {
		call_fail(c, "TooManyCalls", "%u calls of this session wait for a person already",
		    PARKED_OF_ONE_MAX);
	} else {
		return 0;
	}
	return -1;
}

/* Has C wait until a person has decided. DEFINITION: what would be run; NULL when the runner has
 * not been asked. */
static void ask(struct method_call *c, const char *definition)
{
	if (may_wait(c) < 0) {
		return;
	}
	c->result = definition != NULL ? json_string(definition) : NULL;
	c->paused = execution_ref(engine_session_running(c->session));
	engine_pause(c->paused);
	c->parked = approvals_park(c->codemode->config.approvals, c->session,
	    argument_text(c, "tool"), argument_text(c, "callable"), argument_object(c, "arguments"),
	    on_decided, c);
	if (c->parked == NULL) {
		call_unpause(c);
		call_fail(c, "RuntimeError", "out of memory");
	}
}

static void on_result(void *ctx, const json_t *result, const struct err *e)
{
	struct method_call *c = ctx;
	c->running = NULL;
	const char *whole = json_string_value(json_object_get(result, "message"));
	const char *definition = json_string_value(json_object_get(result, "definition"));
	if (e != NULL && definition != NULL && c->parked == NULL) {
		ask(c, definition);
		return;
	}
	const char *text = e == NULL ? NULL : whole != NULL ? whole : e->text;
	if (definition != NULL) {
		text = "its definition was changed since its call was allowed";
	}
	if (c->parked != NULL) {
		approvals_parked_done(steal(&c->parked), e == NULL, text);
	}
	if (definition != NULL) {
		call_fail(c, "ApprovalDenied", "Tool '%.255s' was not run: %s",
		    argument_text(c, "tool"), text);
		return;
	}
	if (e != NULL) {
		fail_tool(c, e->code, text);
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
	if (c->codemode->config.runner == NULL) {
		fail_not_found(c);
	} else if (is_ruled(c)) {
		ask(c, NULL);
	} else {
		run(c, NULL);
	}
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
