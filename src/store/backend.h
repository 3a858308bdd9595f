/*
 * backend: what a store is made of: a table of functions, filled by the files backend
 * (files_backend.c) and by the Redis backend (redis_backend.c), and what both share.
 *
 * store.c checks first, and a backend is only called with what passed: good names and prefixes, a
 * record that is an object and not too large; for dependencies NAME is the base name and RECORD the
 * normalised requirement line; for artifacts an INFO whose type is one of the three (register: or
 * none) and whose metadata is an object, null or missing.
 * An ops function may call FN before it returns, and then returns NULL, as store.h says; it reports
 * failures with struct err only, never both ways.
 *
 * A backend's own structs begin with these (`struct files_store { struct store base; … }`); store.c
 * reads `ops` and nothing else.
 */
#ifndef STORE_BACKEND_H
#define STORE_BACKEND_H

#include "store/store.h"

/* On an entry of the artifacts index, beside the user's metadata. Source: py-code-mode. */
#define STORE_TYPE_KEY "_data_type"
#define STORE_INFO_MAX_BYTES (64U << 10) /* of an artifact's INFO as JSON; checked by store.c */

struct store_backend {
	void (*free)(struct store *st);
	const char *(*describe)(const struct store *st);
	int (*artifacts_path)(
	    const struct store *st, const struct store_space *space, struct buf *out);

	struct store_request *(*list)(struct store *st, const struct store_space *space,
	    enum store_kind kind, store_list_fn fn, void *ctx);
	struct store_request *(*get)(struct store *st, const struct store_space *space,
	    enum store_kind kind, const char *name, store_get_fn fn, void *ctx);
	struct store_request *(*put)(struct store *st, const struct store_space *space,
	    enum store_kind kind, const char *name, const json_t *record, store_done_fn fn,
	    void *ctx);
	struct store_request *(*remove)(struct store *st, const struct store_space *space,
	    enum store_kind kind, const char *name, store_done_fn fn, void *ctx);

	struct store_request *(*artifact_list)(
	    struct store *st, const struct store_space *space, store_list_fn fn, void *ctx);
	struct store_request *(*artifact_get)(struct store *st, const struct store_space *space,
	    const char *name, store_get_fn fn, void *ctx);
	struct store_request *(*artifact_delete)(struct store *st, const struct store_space *space,
	    const char *name, store_done_fn fn, void *ctx);
	struct store_request *(*artifact_register)(struct store *st,
	    const struct store_space *space, const char *name, const json_t *info, store_get_fn fn,
	    void *ctx);

	struct store_writer *(*artifact_write)(struct store *st, const struct store_space *space,
	    const char *name, const json_t *info, uint64_t size, store_get_fn done, void *ctx);
	bool (*writer_add)(struct store_writer *w, const char *bytes, size_t len);
	void (*writer_on_room)(struct store_writer *w, void (*room)(void *ctx));
	void (*writer_abort)(struct store_writer *w);

	struct store_reader *(*artifact_read)(struct store *st, const struct store_space *space,
	    const char *name, store_get_fn opened, void *ctx);
	ssize_t (*reader_read)(struct store_reader *r, char *out, size_t max);
	void (*reader_on_more)(struct store_reader *r, void (*more)(void *ctx));
	void (*reader_close)(struct store_reader *r);

	void (*cancel)(struct store_request *r);
};

struct store {
	const struct store_backend *ops;
};
struct store_request {
	const struct store_backend *ops;
};
struct store_writer {
	const struct store_backend *ops;
};
struct store_reader {
	const struct store_backend *ops;
};

/* Each opens one backend; C is borrowed. NULL with E. */
struct store *files_backend_new(uv_loop_t *loop, const struct store_config *c, struct err *e);
struct store *redis_backend_new(uv_loop_t *loop, const struct store_config *c, struct err *e);

/* --- names (names.c) ----------------------------------------------------------------------------
 * 0, or -1 with ERR_INVALID and a text for the user.
 */

/* Prefix: store_check_prefix. Workspace: 1 to 128 of [A-Za-z0-9_-]. NULL is good for both. */
int store_check_space(const struct store_space *space, struct err *e);
/* A skill's name is an ASCII identifier without '_' at its start that is not one of the functions
 * of `skills`; a tool's is at most STORE_NAME_MAX bytes of UTF-8 without '/', controls, or '.' at
 * its start. Not for dependencies: store/requirement.h. */
int store_check_name(enum store_kind kind, const char *name, struct err *e);
/* Segments between '/', none empty, "." or ".." ("Path traversal attempt detected: '../x'", source:
 * py-code-mode), each at most 255 bytes; UTF-8 without controls; not a file of the store's own. */
int store_check_artifact_name(const char *name, struct err *e);

/* --- entries of the artifacts index (artifact_entry.c) ------------------------------------------
 * One is {description, created_at, metadata: {…, "_data_type"}}; both backends keep them.
 */

/* A new entry of INFO, made now; a new reference, NULL when memory is out. */
json_t *store_entry_new(const json_t *info);
/* The record for people: {name, path, description, created_at, metadata, type, size}. ENTRY may be
 * NULL (a file nobody described) or lack members. TYPE: what it is when ENTRY does not say. A new
 * reference; NULL when memory is out. */
json_t *store_entry_record(
    const json_t *entry, const char *name, const char *path, const char *type, uint64_t size);
/* What bytes nobody described are: "json" by the suffix, "text" when HEAD is UTF-8 as far as it
 * goes, else "bytes". HEAD: their first LEN bytes; all of them when they are fewer than
 * STORE_HEAD_BYTES. Source: py-code-mode's load. */
#define STORE_HEAD_BYTES 65536
const char *store_type_guess(const char *name, const char *head, size_t len);

#endif
