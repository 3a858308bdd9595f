/*
 * redis_internal: the inside of the Redis backend: its store, its keys, and a request.
 *
 *   redis_backend.c  opening and closing; records, one at a time
 *   redis_keys.c     which key holds what
 *   redis_lists.c    lists, kept in memory while the server says that they still hold
 *   redis_read.c     how one is read (redis_list.h)
 *   redis_artifacts.c  artifacts, one at a time
 *   redis_stream.c   their bytes, in and out
 *
 * Two connections: DATA carries every command, SIGNAL is told when a list's key was changed
 * (https://redis.io/docs/reference/client-side-caching, two connections mode).
 *
 * What must be whole is one Lua script, which Redis runs without anything between; so no writer's
 * entry is lost, and no command waits for a transaction of another. The scripts and all they send
 * are in the files that use them.
 */
#ifndef STORE_REDIS_INTERNAL_H
#define STORE_REDIS_INTERNAL_H

#include "store/backend.h"
#include "store/redis_conn.h"

#define REDIS_PREFIX "py_code_mode" /* of all keys, unless another is configured */
#define REDIS_KEY_MAX_BYTES 4096
#define REDIS_REQUESTS_MAX 16384
#define REDIS_STREAMS_MAX 1024         /* readers and writers at once; each holds up to 1 MiB */
#define REDIS_STREAMS_OF_SPACE_MAX 128 /* so that one tenant's do not keep out another's */

struct redis_lists;
struct redis_stream;

struct redis_store {
	struct store base;
	uv_loop_t *loop;
	struct redis_url url;
	struct redis_tls *tls;
	struct redis_conn *data;
	struct redis_lists *lists;
	struct redis_stream *streams;
	size_t stream_count;
	uv_timer_t soon; /* see redis_stream.c */
	bool closing;    /* nobody is told anything any more */

	/* Without a ':' at the end. */
	char *tools_prefix, *skills_prefix, *artifacts_prefix, *deps_prefix, *workspaces_prefix;
};

/* One thing asked of the store, until its callback was called. */
struct redis_request {
	struct store_request base;
	struct redis_store *store;
	struct redis_request *next; /* of a list's waiters */
	bool cancelled;
	int kind;           /* as of redis_keys_of */
	store_list_fn list; /* exactly one of the three */
	store_get_fn get;
	store_done_fn done;
	void *ctx;
	char *name;              /* of an artifact or a record; NULL for lists */
	char *path;              /* of an artifact, as people see it */
	struct redis_keys *keys; /* of a list */
};

/* NULL when memory is out. NAME, PATH may be NULL. */
struct redis_request *redis_request_new(
    struct redis_store *st, void *ctx, const char *name, const char *path);
/* Tells the one who asked, unless nobody listens any more, and frees R. */
void redis_request_list(
    struct redis_request *r, json_t *records, uint64_t revision, const struct err *e);
void redis_request_got(struct redis_request *r, json_t *record, const struct err *e);
void redis_request_done(struct redis_request *r, bool changed, const struct err *e);
/* The three by which it was asked. */
void redis_request_fail(struct redis_request *r, const struct err *e);

/* Sends a command of N words for R; FN gets R as its CTX. When it cannot be sent R has failed, and
 * is free. What the functions of the backend return: R, or NULL. */
struct store_request *redis_request_send(
    struct redis_request *r, const struct redis_arg *args, size_t n, redis_reply_fn fn);

/* --- keys (redis_keys.c) ------------------------------------------------------------------------
 */

/* The keys of one part of a space. SECOND: the same records as a newer py-code-mode keeps them
 * (workflows, or the dependencies beneath another key), empty where there is none; FIRST of
 * artifacts is their index, SECOND the prefix of their bytes. */
struct redis_keys {
	char first[REDIS_KEY_MAX_BYTES];
	char second[REDIS_KEY_MAX_BYTES];
};

/* What KEYS are of: the three kinds of records, or artifacts. */
#define REDIS_ARTIFACTS (-1)

/* 0, or -1 with ERR_INVALID for a token's prefix that could name another's keys. */
int redis_keys_of(const struct redis_store *st, const struct store_space *space, int kind,
    struct redis_keys *out, struct err *e);
/* Key of the bytes of artifact NAME to OUT. 0, or -1 with ERR_INVALID for a name that is a key of
 * the store's own. */
int redis_key_bytes(
    const struct redis_keys *keys, const char *name, struct buf *out, struct err *e);
/* A new key for bytes on their way. */
int redis_key_upload(const struct redis_keys *keys, struct buf *out);

/* --- lists (redis_lists.c) ----------------------------------------------------------------------
 */

struct redis_lists *redis_lists_new(struct redis_store *st);
/* The connections must be freed first. NULL is allowed. */
void redis_lists_free(struct redis_lists *l);
/* Frees the connection that is told of changes. */
void redis_lists_disconnect(struct redis_lists *l);
/* The data connection serves, or does not any more. */
void redis_lists_on_up(struct redis_lists *l);
void redis_lists_on_down(struct redis_lists *l);

/* KIND: as of redis_keys_of. Answers R, now or later. True: later. */
bool redis_lists_get(struct redis_lists *l, int kind, struct redis_request *r);

/* --- artifacts ----------------------------------------------------------------------------------
 */

/* An entry of the index, or NULL for what is none. A new reference. */
json_t *redis_entry_parse(const char *bytes, size_t len);
/* The record of the artifact that R asks for: ENTRY's bytes (may be empty), SIZE, and HEAD, the
 * artifact's first bytes. A new reference. */
json_t *redis_artifact_record(const char *name, const char *path, const redisReply *entry,
    uint64_t size, const redisReply *head);

struct store_request *redis_artifact_get(struct store *st, const struct store_space *space,
    const char *name, store_get_fn fn, void *ctx);
struct store_request *redis_artifact_delete(struct store *st, const struct store_space *space,
    const char *name, store_done_fn fn, void *ctx);
struct store_request *redis_artifact_register(struct store *st, const struct store_space *space,
    const char *name, const json_t *info, store_get_fn fn, void *ctx);

struct store_writer *redis_artifact_write(struct store *st, const struct store_space *space,
    const char *name, const json_t *info, uint64_t size, store_get_fn done, void *ctx);
bool redis_writer_add(struct store_writer *base, const char *bytes, size_t len);
void redis_writer_on_room(struct store_writer *w, void (*room)(void *ctx));
void redis_writer_abort(struct store_writer *base);
struct store_reader *redis_artifact_read(struct store *st, const struct store_space *space,
    const char *name, store_get_fn opened, void *ctx);
ssize_t redis_reader_read(struct store_reader *base, char *out, size_t max);
void redis_reader_on_more(struct store_reader *r, void (*more)(void *ctx));
void redis_reader_close(struct store_reader *r);
/* Frees what is open, for redis_store's end. */
void redis_streams_free(struct redis_store *st);

#endif
