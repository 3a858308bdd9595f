/*
 * runner_link: the gateway's side of the runner, the process that touches the world for sessions:
 * it starts the commands of tools, speaks to MCP servers and to HTTP services, installs packages,
 * asks for embeddings, and sends callbacks. It alone holds the secrets that tools name. The
 * gateway, which opens no socket and starts no program, asks it over one socket (messages 64 to 82
 * of ipc/messages.def); tools/protocol.h has the JSON of each.
 *
 * Invariants: each call is answered exactly once, unless it was cancelled; at most
 * RUNNER_CALLS_MAX are open, past it a call fails with ERR_BUSY; when the runner dies, open calls
 * fail with ERR_UNAVAILABLE, it is not started again (the server reports it and tools stay away)
 * and nothing else is touched.
 *
 * All functions are for the thread of the event loop.
 */
#ifndef TOOLS_RUNNER_LINK_H
#define TOOLS_RUNNER_LINK_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/err.h"

#define RUNNER_CALLS_MAX 1024

struct runner_link;
struct runner_call;

/* Borrowed until runner_link_start returns. */
struct runner_config {
	const char *path;       /* the executable */
	const char *tools_dir;  /* *.yaml, watched; NULL: none */
	const char *tools_file; /* tools.yaml with a list; NULL: none */
	const char *work_dir;   /* where tools get their working directories and packages are put */
	uint64_t memory_bytes;  /* of all commands together; 0: no limit */
	const json_t *secrets;  /* {name: text}; NULL: none */
	const json_t *deps;     /* as installer_new has it */
	const char *embeddings_url; /* OpenAI-shaped; NULL: none */
	const char *embeddings_model;
	const char *embeddings_secret; /* name of the secret that is its key */
	const char *const
	    *callback_prefixes; /* tools/callback_url.h; what callbacks may be sent to */
	uint32_t callback_prefix_count;
	const char *callback_secret; /* name of the secret that signs them; NULL: none are sent */
};

/* Told whenever the tools are not what they were, and once after the start. TOOLS: array of
 * {name, description, tags: [text], type, approval: text, callables: [{name, description,
 * parameters: [{name, type, required, default, description, enum?}]}], source: "file"|"store",
 * prefix: text or null}, sorted by name. A file's tool is seen in every space, a store's in the
 * space of its prefix. PROBLEMS: array of {file, line, message}. Both borrowed for the call. */
typedef void (*runner_tools_fn)(void *ctx, const json_t *tools, const json_t *problems);

/* Starts the process with the privileges the caller has now; as root it becomes the owner of
 * work_dir, who may not be root. Blocks until it is ready or has failed. NULL with E. */
struct runner_link *runner_link_start(uv_loop_t *loop, const struct runner_config *c,
    runner_tools_fn on_tools, void *ctx, struct err *e);
/* Kills the process and all it started. The loop must run once more. NULL is allowed. */
void runner_link_stop(struct runner_link *r);

/* Definitions that come from a store (Redis) rather than from files: an array of the YAML files as
 * JSON. They take the place of those given before; a file's tool of the same name wins. PREFIX
 * names the space they are for, NULL the server's own. */
void runner_define(struct runner_link *r, const char *prefix, const json_t *definitions);

/* RESULT, borrowed: for a tool {"text": …} or {"json": …}; for deps {"installed": [], "failed":
 * [{"package", "reason"}], "directory": name or null}; for embeddings an array of arrays of
 * numbers. With E instead: ERR_NOT_FOUND, ERR_INVALID (arguments), ERR_TIMEOUT when its time was
 * up, ERR_BUSY, ERR_UNAVAILABLE, ERR_INTERNAL (the tool failed); E->text is what the caller may
 * read, and RESULT is then {code, message} with all of it, or NULL where that is no longer. */
typedef void (*runner_done_fn)(void *ctx, const json_t *result, const struct err *e);

/* Runs TOOL's CALLABLE (NULL: the tool itself) with ARGUMENTS (object, borrowed). DATA_DIR_FD: the
 * session's /mnt/data for tools that want it, borrowed, or -1. APPROVED: a definition, as below,
 * whose call a person has allowed; or NULL. NULL when DONE was called.
 *
 * A tool marked "approval: required" runs only with its present definition as APPROVED; else
 * ERR_DENIED, and RESULT has a member "definition": what a person is asked about, so that nothing
 * else is run in its place. */
struct runner_call *runner_tool(struct runner_link *r, const char *prefix, const char *tool,
    const char *callable, const json_t *arguments, int data_dir_fd, const char *approved,
    runner_done_fn done, void *ctx);
/* Installs PACKAGES (array of checked requirement lines) into a directory named by their content
 * beneath work_dir/packages; one that is there already is not made again. */
struct runner_call *runner_install(
    struct runner_link *r, const json_t *packages, runner_done_fn done, void *ctx);
/* Looks for the directory that runner_install made of PACKAGES earlier, perhaps in another life of
 * the server; installs nothing. RESULT as its. */
struct runner_call *runner_find_packages(
    struct runner_link *r, const json_t *packages, runner_done_fn done, void *ctx);
/* Removes directories of packages that were not used for long, or are too many bytes; none of
 * IN_USE (array of names). RESULT: {"removed": number, "bytes": what is left}. */
struct runner_call *runner_clean_packages(
    struct runner_link *r, const json_t *in_use, runner_done_fn done, void *ctx);
struct runner_call *runner_embed(
    struct runner_link *r, const json_t *texts, runner_done_fn done, void *ctx);
/* POSTs BODY, JSON text, to URL with the headers Carrel-Delivery: ID and Carrel-Signature:
 * t=SECONDS,v1=HEX, the HMAC-SHA256 of "SECONDS.BODY" (as Stripe signs its own). RESULT:
 * {"status": of the answer}, whatever it is; redirects are not followed. E: ERR_INVALID when URL is
 * not allowed, ERR_BUSY and ERR_UNAVAILABLE when nothing was sent, any other when no answer came.
 */
struct runner_call *runner_callback(struct runner_link *r, const char *url, const char *id,
    const char *body, runner_done_fn done, void *ctx);
/* DONE will not be called; what runs for it is killed. NULL is allowed. */
void runner_cancel(struct runner_call *c);

#endif
