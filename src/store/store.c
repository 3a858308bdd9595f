/* Checks what is asked of a store, and hands it to the store's backend. */
#include "store/store.h"

#include <string.h>

#include "base/json_work.h"
#include "store/backend.h"
#include "store/requirement.h"

struct store *store_new(uv_loop_t *loop, const struct store_config *c, struct err *e)
{
	if (c->redis_url != NULL) {
		return redis_backend_new(loop, c, e);
	}
	if (c->dir == NULL) {
		(void)err_set(e, ERR_INVALID, "a store needs a directory or a Redis URL");
		return NULL;
	}
	return files_backend_new(loop, c, e);
}

void store_free(struct store *st)
{
	if (st != NULL) {
		st->ops->free(st);
	}
}

const char *store_describe(const struct store *st)
{
	return st->ops->describe(st);
}

int store_artifacts_path(const struct store *st, const struct store_space *space, struct buf *out)
{
	struct err e;
	return store_check_space(space, &e) < 0 ? -EINVAL : st->ops->artifacts_path(st, space, out);
}

/* --- records ------------------------------------------------------------------------------------
 */

struct store_request *store_list(struct store *st, const struct store_space *space,
    enum store_kind kind, store_list_fn fn, void *ctx)
{
	struct err e;
	if (store_check_space(space, &e) < 0) {
		fn(ctx, NULL, 0, &e);
		return NULL;
	}
	return st->ops->list(st, space, kind, fn, ctx);
}

/* NAME as the backend wants it, in OUT when it is a dependency's. NULL with E. */
static const char *check_record_name(const struct store_space *space, enum store_kind kind,
    const char *name, char out[REQUIREMENT_MAX + 1], struct err *e)
{
	if (store_check_space(space, e) < 0) {
		return NULL;
	}
	if (kind != STORE_DEPS) {
		return store_check_name(kind, name, e) < 0 ? NULL : name;
	}
	return requirement_check(name, e) < 0 ? NULL : requirement_name(name, out);
}

struct store_request *store_get(struct store *st, const struct store_space *space,
    enum store_kind kind, const char *name, store_get_fn fn, void *ctx)
{
	struct err e;
	char base[REQUIREMENT_MAX + 1];
	const char *checked = check_record_name(space, kind, name, base, &e);
	if (checked == NULL) {
		fn(ctx, NULL, &e);
		return NULL;
	}
	return st->ops->get(st, space, kind, checked, fn, ctx);
}

static int check_record(enum store_kind kind, const json_t *record, struct err *e)
{
	if (!json_is_object(record)) {
		return err_set(e, ERR_INVALID, "a record must be an object");
	}
	if (kind == STORE_SKILLS && !json_is_string(json_object_get(record, "source"))) {
		return err_set(e, ERR_INVALID, "a skill must have a source");
	}
	size_t size = json_dumpb(record, NULL, 0, JSON_COMPACT);
	if (size == 0) {
		return err_set(e, ERR_INVALID, "the record cannot be written as JSON");
	}
	if (size > STORE_RECORD_MAX_BYTES) {
		return err_set(e, ERR_TOO_LARGE, "a %s has at most %u KiB",
		    kind == STORE_SKILLS ? "skill" : "tool", STORE_RECORD_MAX_BYTES >> 10);
	}
	return 0;
}

struct store_request *store_put(struct store *st, const struct store_space *space,
    enum store_kind kind, const char *name, const json_t *record, store_done_fn fn, void *ctx)
{
	struct err e;
	char base[REQUIREMENT_MAX + 1];
	char line[REQUIREMENT_MAX + 1];
	if (kind == STORE_DEPS) {
		const char *given = json_is_string(record) ? json_string_value(record) : name;
		json_t *normal = NULL;
		if (check_record_name(space, kind, given, base, &e) == NULL) {
			fn(ctx, false, &e);
			return NULL;
		}
		normal = json_string(requirement_normalise(given, line));
		struct store_request *r = st->ops->put(st, space, kind, base, normal, fn, ctx);
		json_decref(normal);
		return r;
	}
	if (check_record_name(space, kind, name, base, &e) == NULL ||
	    check_record(kind, record, &e) < 0) {
		fn(ctx, false, &e);
		return NULL;
	}
	return st->ops->put(st, space, kind, name, record, fn, ctx);
}

struct store_request *store_delete(struct store *st, const struct store_space *space,
    enum store_kind kind, const char *name, store_done_fn fn, void *ctx)
{
	struct err e;
	char base[REQUIREMENT_MAX + 1];
	const char *checked = check_record_name(space, kind, name, base, &e);
	if (checked == NULL) {
		fn(ctx, false, &e);
		return NULL;
	}
	return st->ops->remove(st, space, kind, checked, fn, ctx);
}

/* --- artifacts ----------------------------------------------------------------------------------
 */

static int check_artifact(const struct store_space *space, const char *name, struct err *e)
{
	return store_check_space(space, e) < 0 ? -1 : store_check_artifact_name(name, e);
}

static int check_info(const json_t *info, bool type_needed, struct err *e)
{
	const json_t *metadata = json_object_get(info, "metadata");
	const json_t *description = json_object_get(info, "description");
	const json_t *type = json_object_get(info, "type");
	if (metadata != NULL && !json_is_object(metadata) && !json_is_null(metadata)) {
		return err_set(e, ERR_INVALID, "an artifact's metadata must be an object");
	}
	if (description != NULL && !json_is_string(description) && !json_is_null(description)) {
		return err_set(e, ERR_INVALID, "an artifact's description must be text");
	}
	const char *t = json_string_value(type);
	bool good = t != NULL &&
		    (strcmp(t, "text") == 0 || strcmp(t, "json") == 0 || strcmp(t, "bytes") == 0);
	if (!good && (type_needed || type != NULL)) {
		return err_set(
		    e, ERR_INVALID, "an artifact's type must be \"text\", \"json\" or \"bytes\"");
	}
	/* The estimate of a text is at most five times the text. */
	if (info != NULL && (json_work_exceeds(info, 5UL * STORE_INFO_MAX_BYTES) ||
				json_dumpb(info, NULL, 0, JSON_COMPACT) > STORE_INFO_MAX_BYTES)) {
		return err_set(e, ERR_TOO_LARGE,
		    "an artifact's description and metadata have at most %u KiB",
		    STORE_INFO_MAX_BYTES >> 10);
	}
	return 0;
}

struct store_request *store_artifact_list(
    struct store *st, const struct store_space *space, store_list_fn fn, void *ctx)
{
	struct err e;
	if (store_check_space(space, &e) < 0) {
		fn(ctx, NULL, 0, &e);
		return NULL;
	}
	return st->ops->artifact_list(st, space, fn, ctx);
}

struct store_request *store_artifact_get(
    struct store *st, const struct store_space *space, const char *name, store_get_fn fn, void *ctx)
{
	struct err e;
	if (check_artifact(space, name, &e) < 0) {
		fn(ctx, NULL, &e);
		return NULL;
	}
	return st->ops->artifact_get(st, space, name, fn, ctx);
}

struct store_request *store_artifact_delete(struct store *st, const struct store_space *space,
    const char *name, store_done_fn fn, void *ctx)
{
	struct err e;
	if (check_artifact(space, name, &e) < 0) {
		fn(ctx, false, &e);
		return NULL;
	}
	return st->ops->artifact_delete(st, space, name, fn, ctx);
}

struct store_request *store_artifact_register(struct store *st, const struct store_space *space,
    const char *name, const json_t *info, store_get_fn fn, void *ctx)
{
	struct err e;
	if (check_artifact(space, name, &e) < 0 || check_info(info, false, &e) < 0) {
		fn(ctx, NULL, &e);
		return NULL;
	}
	return st->ops->artifact_register(st, space, name, info, fn, ctx);
}

struct store_writer *store_artifact_write(struct store *st, const struct store_space *space,
    const char *name, const json_t *info, uint64_t size, store_get_fn done, void *ctx)
{
	struct err e;
	if (check_artifact(space, name, &e) < 0 || check_info(info, true, &e) < 0) {
		done(ctx, NULL, &e);
		return NULL;
	}
	if (size > STORE_ARTIFACT_MAX_BYTES) {
		(void)err_set(&e, ERR_TOO_LARGE, "an artifact has at most %llu MiB",
		    STORE_ARTIFACT_MAX_BYTES >> 20);
		done(ctx, NULL, &e);
		return NULL;
	}
	return st->ops->artifact_write(st, space, name, info, size, done, ctx);
}

bool store_writer_add(struct store_writer *w, const char *bytes, size_t len)
{
	return w->ops->writer_add(w, bytes, len);
}

void store_writer_on_room(struct store_writer *w, void (*room)(void *ctx))
{
	w->ops->writer_on_room(w, room);
}

void store_writer_abort(struct store_writer *w)
{
	if (w != NULL) {
		w->ops->writer_abort(w);
	}
}

struct store_reader *store_artifact_read(struct store *st, const struct store_space *space,
    const char *name, store_get_fn opened, void *ctx)
{
	struct err e;
	if (check_artifact(space, name, &e) < 0) {
		opened(ctx, NULL, &e);
		return NULL;
	}
	return st->ops->artifact_read(st, space, name, opened, ctx);
}

ssize_t store_reader_read(struct store_reader *r, char *out, size_t max)
{
	return r->ops->reader_read(r, out, max);
}

void store_reader_on_more(struct store_reader *r, void (*more)(void *ctx))
{
	r->ops->reader_on_more(r, more);
}

void store_reader_close(struct store_reader *r)
{
	if (r != NULL) {
		r->ops->reader_close(r);
	}
}

void store_cancel(struct store_request *r)
{
	if (r != NULL) {
		r->ops->cancel(r);
	}
}
