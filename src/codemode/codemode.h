/*
 * codemode: the four names an agent's code has, tools, skills, artifacts and deps, on the server's
 * side. One table of methods serves both who may ask: the session (host calls) and the HTTP API.
 *
 *   method              arguments                              result
 *   tools.list          {}                                     [tool] as in tools/runner_link.h
 *   tools.search        {query, limit?=10}                     [tool]
 *   tools.call          {tool, callable?, arguments}           {text} or {json}
 *   skills.list         {}                                     [skill]
 *   skills.search       {query, limit?=10}                     [skill]
 *   skills.get          {name}                                 skill with source, or null
 *   skills.create       {name, source, description?=""}        skill with source
 *   skills.delete       {name}                                 bool
 *   artifacts.list      {}                                     [artifact]
 *   artifacts.get       {name}                                 artifact or null
 *   artifacts.exists    {name}                                 bool
 *   artifacts.save      {name, type, size, description?,
 *                        metadata?} then size bytes            artifact
 *   artifacts.load      {name}                                 {type, size} then size bytes
 *   artifacts.register  {name, description?, metadata?}        artifact
 *   artifacts.delete    {name}                                 bool: it was there
 *   artifacts.path      {}                                     text
 *   deps.list           {}                                     [text]
 *   deps.add            {package}                              {installed, already_present, failed}
 *   deps.remove         {package}                              bool
 *   deps.sync           {}                                     {installed, already_present, failed}
 *
 * skill: {name, description, parameters: [{name, type, description, required, default}]}; artifact:
 * {name, path, description, metadata, created_at}. Sources of the shapes: py-code-mode's namespaces
 * and its HTTP API.
 *
 * A call of a tool that a person has to allow first waits for that person (method_tools.c).
 *
 * A failure is {"error": NAME, "message": TEXT}; NAME is ToolCallError, ToolTimeoutError,
 * ToolNotFoundError, ApprovalDenied, ArtifactNotFoundError, RuntimeDepsDisabledError, ValueError,
 * SyntaxError, TypeError, StorageError (the store cannot be reached), TooManyCalls, or
 * RuntimeError.
 *
 * Skills' sources are parsed by a session of their own, never here: the gateway holds no Python.
 */
#ifndef CODEMODE_CODEMODE_H
#define CODEMODE_CODEMODE_H

#include <jansson.h>
#include <stdbool.h>
#include <uv.h>

#include "approvals/approvals.h"
#include "base/json_work.h"
#include "engine/engine.h"
#include "engine/host_call.h"
#include "store/store.h"
#include "tools/runner_link.h"

struct codemode;

/* Borrowed for the codemode's life. RUNNER may be NULL: no tools, nothing can be installed. */
struct codemode_config {
	struct engine *engine;
	struct store *store;
	struct runner_link *runner;
	struct json_work *json_work;
	bool allow_runtime_deps;
	/* Tools of the server's own space come from the store (Redis) as well as from files; those
	 * of a token's prefix always do. */
	bool tools_from_store;
	bool rank_by_embeddings;     /* the runner has a URL for them */
	struct approvals *approvals; /* who is asked before some tools run; NULL: they never run */
	const char *data_dir; /* what was said of skills' sources is kept there; NULL: nowhere */
};

struct codemode *codemode_new(uv_loop_t *loop, const struct codemode_config *c, struct err *e);
/* Lets go of what it holds of the engine; to be called before the gateway is freed, which cancels
 * the calls of its sessions. NULL is allowed. */
void codemode_stop(struct codemode *m);
/* After the gateway; before the store and the runner. The loop must run once more. NULL is allowed.
 */
void codemode_free(struct codemode *m);

/* For gateway_set_host_calls: calls of sessions, in the space of their session. */
extern const struct host_call_handler codemode_host_calls; /* ctx: the struct codemode */

/* For runner_link_start's on_tools; CTX is the struct codemode. */
void codemode_on_tools(void *ctx, const json_t *tools, const json_t *problems);

/* Puts requirement lines (array of texts, borrowed) into the server's own list, as at the start.
 * What is wrong with one is logged. */
void codemode_add_deps(struct codemode *m, const json_t *packages);

/* Shows each of COUNT spaces (prefixes, borrowed; NULL the server's own) what an earlier server
 * installed for its list; nothing is installed. Goes on in the background. */
void codemode_find_deps(struct codemode *m, const char *const *prefixes, size_t count);

/* Reads the skills of the server's own space ahead of the first who asks, once sessions can be
 * made. */
void codemode_warm(struct codemode *m);

/* Calls EACH for every method and outcome ("ok", "invalid", "not_found", "denied", "unavailable",
 * "failed"). */
void codemode_each_count(const struct codemode *m,
    void (*each)(void *ctx, const char *method, const char *outcome, uint64_t count), void *ctx);

/* --- the same methods for the HTTP API ----------------------------------------------------------
 */

struct codemode_call;

enum codemode_error {
	CODEMODE_OK,
	CODEMODE_INVALID,     /* ValueError, TypeError, SyntaxError */
	CODEMODE_NOT_FOUND,   /* ToolNotFoundError, ArtifactNotFoundError */
	CODEMODE_DENIED,      /* RuntimeDepsDisabledError, ApprovalDenied */
	CODEMODE_UNAVAILABLE, /* StorageError, TooManyCalls */
	CODEMODE_FAILED,      /* ToolCallError, ToolTimeoutError, RuntimeError */
};

/* The bytes of an artifact, read from the store bit by bit; they outlive the call that opened
 * them, not the store. As store_reader_*. */
struct loading;
ssize_t loading_read(struct loading *l, char *out, size_t max);
void loading_on_more(struct loading *l, void (*more)(void *ctx), void *ctx);
/* NULL is allowed. */
void loading_close(struct loading *l);

/* RESULT as in the table, or the failure's object when CODE is not CODEMODE_OK; borrowed. BYTES:
 * what artifacts.load has opened, as many as the result's size, taken over; otherwise NULL. */
typedef void (*codemode_done_fn)(
    void *ctx, enum codemode_error code, const json_t *result, struct loading *bytes);

/* Runs METHOD in SPACE. ARGUMENTS (borrowed) may be NULL: {}. BYTES (borrowed until DONE) are those
 * of artifacts.save. DONE is called exactly once, perhaps before this returns, and then NULL is
 * returned. SYSTEM: asked by an operator's own route, so allow_runtime_deps does not matter. */
struct codemode_call *codemode_call(struct codemode *m, const struct store_space *space,
    const char *method, const json_t *arguments, const struct buf *bytes, bool system,
    codemode_done_fn done, void *ctx);
/* DONE will not be called. NULL is allowed. */
void codemode_cancel(struct codemode_call *c);

/* RESULT as text, as json_work_write. Never changed any more. */
struct json_job *codemode_text(struct codemode *m, const char *holder, const json_t *result,
    json_add_fn add, json_write_fn fn, void *ctx);

#endif
