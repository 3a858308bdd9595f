/*
 * store_place: a store as the commands use it: opened from what stands behind --target or --source,
 * and asked one question after the other, each waited for.
 *
 * A place is a Redis URL (see store/redis_url.h) or a directory, which is the base of a file store.
 * What it is shown as never has a password in it.
 */
#ifndef CLI_STORE_PLACE_H
#define CLI_STORE_PLACE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/err.h"
#include "store/store.h"

/* What a command is about; the first three are enum store_kind. */
enum store_type {
	TYPE_TOOLS = STORE_TOOLS,
	TYPE_SKILLS = STORE_SKILLS,
	TYPE_DEPS = STORE_DEPS,
	TYPE_ARTIFACTS,
	TYPE_COUNT,
};

extern const char *const store_type_names[TYPE_COUNT];

struct store_place {
	uv_loop_t *loop;
	struct store *store;
	char *bare_dir;   /* the single directory it is of; NULL: a whole store */
	char scratch[40]; /* of a bare directory: what the rest of a store would be in */
};

struct store_place_config {
	const char *where;   /* URL or directory */
	const char *ca_file; /* NULL: the system's */
	/* Redis: of TYPE when there is one (default: the type's name), else of all types, each with
	 * its name behind (default: py_code_mode). */
	const char *prefix;
	int type; /* an enum store_type, or TYPE_COUNT: all */
	/* The directory holds TYPE's files itself, not a store of which they are a part. */
	bool bare;
	bool must_exist; /* the directory is not made */
};

/* 0, or -1 with E. */
int store_place_open(
    struct store_place *p, uv_loop_t *loop, const struct store_place_config *c, struct err *e);
/* All zero is allowed. The loop must be run once more. */
void store_place_close(struct store_place *p);

/* All of these wait, and return 0, or -1 with E. *OUT is the caller's. */
/* Of a bare directory of artifacts: also files that its index does not know. */
int store_place_list(struct store_place *p, int type, json_t **out, struct err *e);
int store_place_put(
    struct store_place *p, int type, const char *name, const json_t *record, struct err *e);
int store_place_delete(struct store_place *p, int type, const char *name, struct err *e);

/* Told of bytes that moved; TOTAL of the whole. */
typedef void (*store_place_progress)(void *ctx, uint64_t done, uint64_t total);

/* Copies artifact NAME with its description and metadata, bit by bit. ERR_NOT_FOUND when there is
 * none. PROGRESS may be NULL. */
int store_place_copy(struct store_place *from, struct store_place *to, const char *name,
    store_place_progress progress, void *ctx, struct err *e);

#define STORE_PLACE_DIGEST_BYTES 32

/* SHA-256 of an artifact's bytes. */
int store_place_digest(struct store_place *p, const char *name,
    unsigned char out[STORE_PLACE_DIGEST_BYTES], struct err *e);

/* The name of a record of TYPE as stores hold it; borrowed. */
const char *store_record_name(int type, const json_t *record);

#endif
