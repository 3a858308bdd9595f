/* The table of methods, and the life of a call. */
#include "codemode/internal.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/clock.h"
#include "base/log.h"

#define METHODS_MAX 32
#define ERROR_TEXT_MAX_BYTES (256U << 10)
#define WARNING_EVERY_MS 1000

const struct method *const codemode_methods[] = {
    tools_methods,
    skills_methods,
    artifacts_methods,
    deps_methods,
    NULL,
};

static const char *const outcomes[] = {
    [CODEMODE_OK] = "ok",
    [CODEMODE_INVALID] = "invalid",
    [CODEMODE_NOT_FOUND] = "not_found",
    [CODEMODE_DENIED] = "denied",
    [CODEMODE_UNAVAILABLE] = "unavailable",
    [CODEMODE_FAILED] = "failed",
};

struct codemode_counter {
	const struct method *method;
	uint64_t counts[array_len(outcomes)];
};

/* The kinds that the names of failures belong to; what is not here is CODEMODE_FAILED. */
static const struct {
	const char *error;
	enum codemode_error code;
} errors[] = {
    {"ValueError", CODEMODE_INVALID},
    {"TypeError", CODEMODE_INVALID},
    {"SyntaxError", CODEMODE_INVALID},
    {"ToolNotFoundError", CODEMODE_NOT_FOUND},
    {"ArtifactNotFoundError", CODEMODE_NOT_FOUND},
    {"RuntimeDepsDisabledError", CODEMODE_DENIED},
    {"ApprovalDenied", CODEMODE_DENIED},
    {"StorageError", CODEMODE_UNAVAILABLE},
    {"TooManyCalls", CODEMODE_UNAVAILABLE},
};

/* --- life ----------------------------------------------------------------------------------------
 */

static int make_parts(struct codemode *m)
{
	m->counters = calloc(METHODS_MAX, sizeof(*m->counters));
	m->describer = describer_new(m);
	m->tools = tool_table_new(m);
	m->skills = skill_views_new(m);
	m->deps = deps_table_new(m);
	m->ranker = m->config.rank_by_embeddings ? ranker_new(m) : NULL;
	m->upkeep = deps_upkeep_new(m);
	bool all = m->upkeep != NULL && m->counters != NULL && m->describer != NULL &&
		   m->tools != NULL && m->skills != NULL && m->deps != NULL &&
		   (m->ranker != NULL || !m->config.rank_by_embeddings);
	if (!all) {
		return -ENOMEM;
	}
	size_t n = 0;
	for (size_t i = 0; codemode_methods[i] != NULL; i++) {
		for (const struct method *x = codemode_methods[i]; x->name != NULL; x++) {
			if (n == METHODS_MAX) {
				return -EMSGSIZE;
			}
			m->counters[n++].method = x;
		}
	}
	return 0;
}

struct codemode *codemode_new(uv_loop_t *loop, const struct codemode_config *c, struct err *e)
{
	struct codemode *m = calloc(1, sizeof(*m));
	if (m == NULL) {
		(void)err_set(e, ERR_INTERNAL, "out of memory");
		return NULL;
	}
	m->loop = loop;
	m->config = *c;
	m->held = (struct quota)QUOTA_INIT(CODEMODE_HELD_MAX_BYTES);
	m->held_of_one_max_bytes = CODEMODE_HELD_OF_ONE_MAX_BYTES;
	if (make_parts(m) < 0) {
		(void)err_set(e, ERR_INTERNAL, "out of memory");
		codemode_free(m);
		return NULL;
	}
	return m;
}

void codemode_free(struct codemode *m)
{
	if (m == NULL) {
		return;
	}
	codemode_cancel(m->warming);
	while (m->calls != NULL) {
		call_give_up(m->calls);
	}
	deps_upkeep_free(m->upkeep);
	ranker_free(m->ranker);
	deps_table_free(m->deps);
	skill_views_free(m->skills);
	tool_table_free(m->tools);
	describer_free(m->describer);
	free(m->counters);
	quota_fini(&m->held);
	free(m);
}

void codemode_stop(struct codemode *m)
{
	if (m != NULL) {
		describer_stop(m->describer);
	}
}

void codemode_on_tools(void *ctx, const json_t *tools, const json_t *problems)
{
	struct codemode *m = ctx;
	size_t i;
	json_t *problem;
	json_array_foreach((json_t *)(uintptr_t)problems, i, problem)
	{
		log_event(LOG_LEVEL_WARNING, "tool_definition_bad",
		    LOG_STR("file", json_string_value(json_object_get(problem, "file"))),
		    LOG_INT("line", json_integer_value(json_object_get(problem, "line"))),
		    LOG_STR("reason", json_string_value(json_object_get(problem, "message"))));
	}
	tool_table_set(m->tools, tools);
}

static void on_warm(
    void *ctx, enum codemode_error code, const json_t *result, struct loading *bytes)
{
	struct codemode *m = ctx;
	(void)result;
	(void)bytes;
	m->warming = NULL;
	log_event(LOG_LEVEL_DEBUG, "skills_read", LOG_STR("outcome", outcomes[code]));
}

void codemode_warm(struct codemode *m)
{
	static const struct store_space own = {0};
	json_t *arguments = json_pack("{s:s, s:i}", "query", "run", "limit", 1);
	m->warming = codemode_call(m, &own, "skills.search", arguments, NULL, true, on_warm, m);
	json_decref(arguments);
}

/* --- counting ------------------------------------------------------------------------------------
 */

static void count(struct codemode *m, const struct method *method, enum codemode_error outcome)
{
	for (size_t i = 0; i < METHODS_MAX; i++) {
		if (m->counters[i].method == method) {
			m->counters[i].counts[outcome]++;
			return;
		}
	}
}

void codemode_each_count(const struct codemode *m,
    void (*each)(void *ctx, const char *method, const char *outcome, uint64_t count), void *ctx)
{
	for (size_t i = 0; i < METHODS_MAX && m->counters[i].method != NULL; i++) {
		for (size_t k = 0; k < array_len(outcomes); k++) {
			each(ctx, m->counters[i].method->name, outcomes[k],
			    m->counters[i].counts[k]);
		}
	}
}

/* --- how a call ends -----------------------------------------------------------------------------
 */

/* Frees what it waits for; its callbacks will not be called. */
static void call_let_go(struct method_call *c)
{
	store_cancel(steal(&c->request));
	runner_cancel(steal(&c->running));
	approvals_unpark(steal(&c->parked));
	if (c->paused != NULL) {
		call_unpause(c);
	}
	describe_cancel(steal(&c->describing));
	tool_table_cancel(steal(&c->tools_wait));
	view_build_free(steal(&c->build));
	ranking_cancel(steal(&c->ranking));
	if (c->writer != NULL) {
		store_writer_abort(steal(&c->writer));
	}
	loading_close(steal(&c->loading));
	if (c->mounting != NULL) {
		engine_packages_unwait(steal(&c->mounting), &c->packages_waiter);
	}
}

static void call_free(struct method_call *c)
{
	json_decref(c->arguments);
	json_decref(c->kept);
	json_decref(c->before);
	json_decref(c->result);
	free(c);
}

static void call_end(struct method_call *c)
{
	DL_DELETE(c->codemode->calls, c);
	c->codemode->call_count--;
	c->over = true;
	call_let_go(c);
	if (c->holds == 0) {
		call_free(c);
	}
}

void call_hold(struct method_call *c)
{
	c->holds++;
}

void call_settle(struct method_call *c)
{
	c->holds--;
	if (c->holds == 0 && c->over) {
		call_free(c);
	}
}

void call_give_up(struct method_call *c)
{
	call_end(c);
}

static void call_answer(struct method_call *c, enum codemode_error code, json_t *result,
    struct loading *bytes, uint64_t size)
{
	count(c->codemode, c->method, code);
	c->answer->done(c, code, result, bytes, size);
	json_decref(result);
	call_end(c);
}

json_t *call_error(const char *error, const char *text)
{
	size_t len = strnlen(text, ERROR_TEXT_MAX_BYTES);
	cleanup(buf_fini) struct buf clean = BUF_INIT(4 * ERROR_TEXT_MAX_BYTES);
	(void)text_add_utf8_lossy(&clean, text, len);
	return json_pack("{s:s, s:s}", "error", error, "message", buf_str(&clean));
}

static enum codemode_error code_of(const char *error)
{
	for (size_t i = 0; i < array_len(errors); i++) {
		if (strcmp(errors[i].error, error) == 0) {
			return errors[i].code;
		}
	}
	return CODEMODE_FAILED;
}

void call_fail(struct method_call *c, const char *error, const char *fmt, ...)
{
	cleanup(text_free) char *text = NULL;
	va_list args;
	va_start(args, fmt);
	bool made = vasprintf(&text, fmt, args) >= 0;
	va_end(args);
	if (!made) {
		text = NULL;
	}
	call_answer(c, code_of(error), call_error(error, made ? text : "out of memory"), NULL, 0);
}

void call_fail_busy(struct method_call *c, const struct err *e, const char *what)
{
	call_fail(
	    c, e->code == ERR_BUSY ? "TooManyCalls" : "RuntimeError", "%s: %s", what, e->text);
}

void call_fail_store(struct method_call *c, const struct err *e)
{
	bool user = e->code == ERR_INVALID || e->code == ERR_TOO_LARGE;
	uint64_t now_ms = clock_mono_ms();
	/* Not a line for every call of everybody while it is down. */
	if (!user && now_ms >= c->codemode->next_warning_ms) {
		c->codemode->next_warning_ms = now_ms + WARNING_EVERY_MS;
		log_event(LOG_LEVEL_WARNING, "store_failed", LOG_STR("method", c->method->name),
		    LOG_STR("reason", e->text));
	}
	call_fail(c, user ? "ValueError" : "StorageError", "%s", e->text);
}

void call_finish(struct method_call *c, json_t *result)
{
	if (result == NULL) {
		call_fail(c, "RuntimeError", "out of memory");
		return;
	}
	call_answer(c, CODEMODE_OK, result, NULL, 0);
}

void call_finish_bytes(struct method_call *c, json_t *result, uint64_t size)
{
	if (result == NULL) {
		call_fail(c, "RuntimeError", "out of memory");
		return;
	}
	call_answer(c, CODEMODE_OK, result, steal(&c->loading), size);
}

void call_on_list(void *ctx, json_t *records, uint64_t revision, const struct err *e)
{
	struct method_call *c = ctx;
	(void)revision;
	c->request = NULL;
	if (e != NULL) {
		call_fail_store(c, e);
		return;
	}
	call_finish(c, json_incref(records));
}

void call_on_changed(void *ctx, bool changed, const struct err *e)
{
	struct method_call *c = ctx;
	c->request = NULL;
	if (e != NULL) {
		call_fail_store(c, e);
		return;
	}
	call_finish(c, json_boolean(changed));
}

/* --- how a call begins ---------------------------------------------------------------------------
 */

static const struct method *find_method(const char *name)
{
	for (size_t i = 0; codemode_methods[i] != NULL; i++) {
		for (const struct method *x = codemode_methods[i]; x->name != NULL; x++) {
			if (strcmp(x->name, name) == 0) {
				return x;
			}
		}
	}
	return NULL;
}

/* Stands in for one that is not there, so that there is a call to answer. */
static const struct method no_method = {.name = "unknown"};

static void set_space(struct method_call *c, const struct store_space *space)
{
	if (space->prefix != NULL && *space->prefix != '\0') {
		(void)snprintf(c->prefix, sizeof(c->prefix), "%s", space->prefix);
		c->space.prefix = c->prefix;
	}
	if (space->workspace != NULL && *space->workspace != '\0') {
		(void)snprintf(c->workspace, sizeof(c->workspace), "%s", space->workspace);
		c->space.workspace = c->workspace;
	}
}

static bool space_fits(const struct store_space *space)
{
	return (space->prefix == NULL || strlen(space->prefix) <= CODEMODE_SPACE_NAME_MAX) &&
	       (space->workspace == NULL || strlen(space->workspace) <= CODEMODE_SPACE_NAME_MAX);
}

/* Past half of what there may be, no prefix has more than that half: another finds room. */
static bool has_room(const struct codemode *m, const struct store_space *space)
{
	const char *prefix = space->prefix != NULL ? space->prefix : "";
	if (m->call_count <= CODEMODE_CALLS_MAX / 2) {
		return true;
	}
	uint32_t of_one = 0;
	const struct method_call *c;
	DL_FOREACH(m->calls, c)
	{
		of_one += strcmp(c->prefix, prefix) == 0 ? 1 : 0;
	}
	return m->call_count <= CODEMODE_CALLS_MAX && of_one < CODEMODE_CALLS_MAX / 2;
}

static void begin(struct method_call *c, const char *method, const struct store_space *space)
{
	const char *error;
	struct err e;
	if (c->method == &no_method) {
		call_fail(c, "RuntimeError", "There is no method '%.64s'", method);
	} else if (!space_fits(space)) {
		/* Never cut: a shorter name is another's space. */
		call_fail(c, "ValueError", "The name of the workspace is too long");
	} else if (!has_room(c->codemode, space)) {
		call_fail(c, "TooManyCalls", "The server answers as many calls already as it may");
	} else if (arguments_check(c->method, c->arguments, &error, &e) < 0) {
		call_fail(c, error, "%s", e.text);
	} else {
		set_space(c, space);
		c->method->begin(c);
	}
}

struct method_call *call_begin(struct codemode *m, const struct store_space *space,
    const char *method, const json_t *arguments, bool system, struct session *session,
    const struct call_answer *answer, void *ctx)
{
	struct method_call *c = calloc(1, sizeof(*c));
	if (c == NULL) {
		return NULL;
	}
	const struct method *found = find_method(method);
	c->codemode = m;
	c->method = found != NULL ? found : &no_method;
	c->arguments = arguments != NULL ? json_incref((json_t *)(uintptr_t)arguments)
					 : json_object();
	c->system = system;
	c->session = session;
	c->data_dir_fd = session != NULL && session->worker != NULL ? session->worker->data_dir_fd
								    : -1;
	c->answer = answer;
	c->ctx = ctx;
	DL_APPEND(m->calls, c);
	m->call_count++;
	call_hold(c);
	begin(c, method, space);
	bool over = c->over;
	call_settle(c);
	return over ? NULL : c;
}
