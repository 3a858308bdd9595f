/*
 * store: where tools, skills, artifacts and dependencies outlive sessions: one interface over two
 * backends, files and Redis (or Valkey).
 *
 * A store has spaces, which do not see each other: the server's own, one for each prefix of a
 * token, and one for each workspace of these. Tools and dependencies are of the space without its
 * workspace; skills and artifacts of the space with it.
 *
 *   records     small JSON objects by name: tools {name, …the YAML file as JSON}; skills {name,
 *               description, source, parameters}; deps: a list of normalised requirement lines
 *   artifacts   bytes by name, streamed, beside {name, path, description, created_at, metadata,
 *               type}; type is "text", "json" or "bytes"
 *
 * Sources of the formats: py-code-mode's FileStorage and RedisStorage (files beneath
 * skills/, artifacts/ with .artifacts.json, tools/NAME.yaml, deps/requirements.txt; keys
 * PREFIX:tools:__tools__, PREFIX:skills:__skills__, PREFIX:artifacts:NAME and :__index__,
 * PREFIX:deps), so that either side reads what the other wrote.
 *
 * Invariants: a write is whole or not at all, whoever writes beside it (another server, another
 * process): no writer's entry is lost. A name cannot lead out of its space. Reads see every write
 * that was answered before, by any server on the same store.
 *
 * Asynchronous: every function takes a callback, called exactly once on the loop's thread, perhaps
 * before the function returns; with E not NULL when it failed (ERR_INVALID name, ERR_NOT_FOUND,
 * ERR_TOO_LARGE, ERR_UNAVAILABLE when Redis is down, ERR_INTERNAL). Each returns a request that can
 * be given up with store_cancel until its callback is called; NULL when it has been already.
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/buf.h"
#include "base/err.h"

#define STORE_NAME_MAX 255           /* bytes of a skill's or a tool's name */
#define STORE_ARTIFACT_NAME_MAX 1023 /* may hold '/' */
#define STORE_RECORD_MAX_BYTES (1U << 20)
#define STORE_RECORDS_MAX 100000 /* in a space, of a kind */
#define STORE_ARTIFACT_MAX_BYTES (128ULL << 20)

struct store;
struct store_request;

enum store_kind { STORE_TOOLS, STORE_SKILLS, STORE_DEPS };

/* Which part of the store. Borrowed for the call. */
struct store_space {
	const char *prefix;    /* of the token; NULL: the server's own */
	const char *workspace; /* NULL: none. Tools and deps ignore it. */
};

/* NULL members stand for the defaults of DIR or PREFIX. Borrowed until store_new returns. */
struct store_config {
	const char
	    *dir; /* files: the base; also what tokens' prefixes and workspaces lie beneath */
	const char *tools_dir;      /* DIR/tools */
	const char *skills_dir;     /* DIR/skills */
	const char *artifacts_dir;  /* DIR/artifacts */
	const char *deps_dir;       /* DIR/deps */
	const char *workspaces_dir; /* DIR/workspaces */

	const char *redis_url; /* NULL: files. redis://[user:pass@]host[:port][/db], rediss://, and
				  host:port?ssl=true */
	const char *redis_ca_file; /* NULL: the system's */
	const char *prefix;        /* "py_code_mode"; keys and, for tokens, PREFIX of their own */
	const char *tools_prefix;  /* PREFIX:tools */
	const char *skills_prefix; /* PREFIX:skills */
	const char *artifacts_prefix;  /* PREFIX:artifacts */
	const char *deps_prefix;       /* PREFIX:deps; the key is DEPS_PREFIX:deps */
	const char *workspaces_prefix; /* PREFIX; keys PREFIX:ws:WORKSPACE:… */
};

/* Whether PREFIX may be a space's: 1 to 128 of [A-Za-z0-9_.:-], not beginning with '.', no "..",
 * and none of its parts between ':' a name that the store uses itself, as a directory or in its
 * keys. 0, or -1 with ERR_INVALID. */
int store_check_prefix(const char *prefix, struct err *e);
/* Whether the keys of the space of PREFIX would be keys of the server's own space in the Redis of
 * C; true to files, where nothing can. 0, or -1 with ERR_INVALID and the key prefix. */
int store_check_tenant(const struct store_config *c, const char *prefix, struct err *e);

/* NULL with E when the configuration is wrong or a directory cannot be made. A Redis that is down
 * is no failure: it is tried again and again. Opens its directories now, before the seal. */
struct store *store_new(uv_loop_t *loop, const struct store_config *c, struct err *e);
/* Ends what is pending without telling anybody. The loop must be run once more after it. NULL is
 * allowed. */
void store_free(struct store *st);

/* The store as people may see it: a directory, or a URL without its password. Borrowed. */
const char *store_describe(const struct store *st);
/* What `artifacts.path` is in a space, and what records' `path` begins with: a path beneath the
 * store, or a key prefix. 0 or -EMSGSIZE. */
int store_artifacts_path(const struct store *st, const struct store_space *space, struct buf *out);

/* --- records ------------------------------------------------------------------------------------
 */

/* RECORDS: an array sorted by name, without doubles, good for the call (take a reference to keep
 * it; do not change it). REVISION differs from an earlier one exactly when the records may: what
 * was computed from them can be kept. A record that did not change is, as a rule, the same object
 * as in the list before: who keeps that needs to look only at the others. */
typedef void (*store_list_fn)(void *ctx, json_t *records, uint64_t revision, const struct err *e);
/* RECORD: borrowed for the call; NULL when there is none of that name. */
typedef void (*store_get_fn)(void *ctx, json_t *record, const struct err *e);
/* CHANGED: for delete, whether it was there. */
typedef void (*store_done_fn)(void *ctx, bool changed, const struct err *e);

struct store_request *store_list(struct store *st, const struct store_space *space,
    enum store_kind kind, store_list_fn fn, void *ctx);
struct store_request *store_get(struct store *st, const struct store_space *space,
    enum store_kind kind, const char *name, store_get_fn fn, void *ctx);
/* Writes over a record of that name. RECORD (an object; for deps a string, the requirement) is
 * borrowed. A dependency replaces the one with the same base name. */
struct store_request *store_put(struct store *st, const struct store_space *space,
    enum store_kind kind, const char *name, const json_t *record, store_done_fn fn, void *ctx);
struct store_request *store_delete(struct store *st, const struct store_space *space,
    enum store_kind kind, const char *name, store_done_fn fn, void *ctx);

/* --- artifacts ----------------------------------------------------------------------------------
 */

/* Like store_list and store_get, over {name, path, description, created_at, metadata, type, size}.
 */
struct store_request *store_artifact_list(
    struct store *st, const struct store_space *space, store_list_fn fn, void *ctx);
struct store_request *store_artifact_get(struct store *st, const struct store_space *space,
    const char *name, store_get_fn fn, void *ctx);
struct store_request *store_artifact_delete(struct store *st, const struct store_space *space,
    const char *name, store_done_fn fn, void *ctx);
/* Describes bytes that are there already, put there by somebody else. INFO as for write. */
struct store_request *store_artifact_register(struct store *st, const struct store_space *space,
    const char *name, const json_t *info, store_get_fn fn, void *ctx);

/* Writing, bit by bit. INFO: {description, metadata, type}, borrowed. The artifact is there, whole,
 * when DONE is called without E; DONE's record is the new artifact. */
struct store_writer;
struct store_writer *store_artifact_write(struct store *st, const struct store_space *space,
    const char *name, const json_t *info, uint64_t size, store_get_fn done, void *ctx);
/* BYTES are taken as a whole. False: wait for ROOM before the next. After the last of SIZE bytes
 * DONE follows. */
bool store_writer_add(struct store_writer *w, const char *bytes, size_t len);
void store_writer_on_room(struct store_writer *w, void (*room)(void *ctx));
/* Gives up before DONE: nothing is written (unless the last byte was given already), DONE is not
 * called. After DONE the writer is gone. */
void store_writer_abort(struct store_writer *w);

/* Reading, bit by bit. OPENED is called once: with the record (its size is what will be read), or
 * with NULL when there is none, or with E. */
struct store_reader;
struct store_reader *store_artifact_read(struct store *st, const struct store_space *space,
    const char *name, store_get_fn opened, void *ctx);
/* Up to MAX bytes: how many; 0: none now, MORE will be called; -1: failed, or at the end. */
ssize_t store_reader_read(struct store_reader *r, char *out, size_t max);
void store_reader_on_more(struct store_reader *r, void (*more)(void *ctx));
/* At any time, once; also when OPENED was told of no artifact after store_artifact_read had
 * returned. */
void store_reader_close(struct store_reader *r);

/* Its callback will not be called. NULL is allowed. What was begun may still happen. */
void store_cancel(struct store_request *r);

#endif
