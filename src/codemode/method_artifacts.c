/* artifacts.*: bytes that outlive the session, streamed between it and the store. */
#include <stdlib.h>
#include <string.h>

#include "codemode/internal.h"

static void artifacts_list(struct method_call *c)
{
	call_wait(
	    c, request, store_artifact_list(c->codemode->config.store, &c->space, call_on_list, c));
}

static void on_get(void *ctx, json_t *record, const struct err *e)
{
	struct method_call *c = ctx;
	c->request = NULL;
	if (e != NULL) {
		call_fail_store(c, e);
		return;
	}
	call_finish(c, record != NULL ? json_incref(record) : json_null());
}

static void artifacts_get(struct method_call *c)
{
	call_wait(c, request,
	    store_artifact_get(
		c->codemode->config.store, &c->space, argument_text(c, "name"), on_get, c));
}

static void on_exists(void *ctx, json_t *record, const struct err *e)
{
	struct method_call *c = ctx;
	c->request = NULL;
	if (e != NULL) {
		call_fail_store(c, e);
		return;
	}
	call_finish(c, json_boolean(record != NULL));
}

static void artifacts_exists(struct method_call *c)
{
	call_wait(c, request,
	    store_artifact_get(
		c->codemode->config.store, &c->space, argument_text(c, "name"), on_exists, c));
}

/* {description, metadata, type}. */
static json_t *info_of(struct method_call *c)
{
	const char *description = argument_text(c, "description");
	const json_t *metadata = argument_object(c, "metadata");
	json_t *info = json_pack("{s:s}", "description", description != NULL ? description : "");
	if (info != NULL) {
		(void)json_object_set_new(
		    info, "metadata", metadata != NULL ? json_deep_copy(metadata) : json_object());
		if (argument_text(c, "type") != NULL) {
			(void)json_object_set_new(
			    info, "type", json_string(argument_text(c, "type")));
		}
	}
	return info;
}

/* --- save ----------------------------------------------------------------------------------------
 */

static void on_saved(void *ctx, json_t *record, const struct err *e)
{
	struct method_call *c = ctx;
	c->writer = NULL;
	if (e != NULL) {
		call_fail_store(c, e);
		return;
	}
	call_finish(c, json_incref(record));
}

static void on_room(void *ctx)
{
	struct method_call *c = ctx;
	c->answer->room(c);
}

bool call_put(struct method_call *c, const char *bytes, size_t len)
{
	/* The last bytes may end the call. */
	call_hold(c);
	bool more = c->writer == NULL || store_writer_add(c->writer, bytes, len);
	call_settle(c);
	return more;
}

static void artifacts_save(struct method_call *c)
{
	static const char *const types[] = {"text", "json", "bytes"};
	const char *type = argument_text(c, "type");
	json_int_t size = json_integer_value(json_object_get(c->arguments, "size"));
	bool known = false;
	for (size_t i = 0; i < array_len(types); i++) {
		known = known || strcmp(types[i], type) == 0;
	}
	if (!known) {
		call_fail(c, "ValueError", "The type of an artifact is text, json or bytes");
		return;
	}
	if ((uint64_t)size > STORE_ARTIFACT_MAX_BYTES) {
		call_fail(c, "ValueError", "An artifact has at most %llu bytes",
		    (unsigned long long)STORE_ARTIFACT_MAX_BYTES);
		return;
	}
	json_t *info = info_of(c);
	call_hold(c);
	struct store_writer *w = store_artifact_write(c->codemode->config.store, &c->space,
	    argument_text(c, "name"), info, (uint64_t)size, on_saved, c);
	json_decref(info);
	if (w != NULL && !c->over) {
		c->writer = w;
		store_writer_on_room(w, on_room);
	}
	call_settle(c);
}

/* --- load ----------------------------------------------------------------------------------------
 */

/* The artifact is open, and there is a reader. */
static void finish_load(struct method_call *c)
{
	const json_t *record = c->loading->record;
	json_int_t size = json_integer_value(json_object_get(record, "size"));
	c->loading->call = NULL;
	call_finish_bytes(c,
	    json_pack("{s:O, s:I}", "type", json_object_get(record, "type"), "size", size),
	    (uint64_t)size);
}

static void on_opened(void *ctx, json_t *record, const struct err *e)
{
	struct loading *l = ctx;
	struct method_call *c = l->call;
	if (e != NULL) {
		call_fail_store(c, e);
	} else if (record == NULL) {
		call_fail(c, "ArtifactNotFoundError", "Artifact '%.255s' not found",
		    argument_text(c, "name"));
	} else {
		l->record = json_incref(record);
		/* Before store_artifact_read has returned there is no reader yet. */
		if (l->reader != NULL) {
			finish_load(c);
		}
	}
}

static void artifacts_load(struct method_call *c)
{
	struct loading *l = calloc(1, sizeof(*l));
	if (l == NULL) {
		call_fail(c, "RuntimeError", "out of memory");
		return;
	}
	l->call = c;
	call_hold(c);
	struct store_reader *r = store_artifact_read(
	    c->codemode->config.store, &c->space, argument_text(c, "name"), on_opened, l);
	l->reader = r;
	if (c->over) {
		loading_close(l);
	} else {
		c->loading = l;
		if (l->record != NULL && r != NULL) {
			finish_load(c);
		} else if (l->record != NULL) {
			call_fail(c, "RuntimeError", "out of memory");
		}
	}
	call_settle(c);
}

/* --- the rest ------------------------------------------------------------------------------------
 */

static void artifacts_register(struct method_call *c)
{
	json_t *info = info_of(c);
	call_wait(c, request,
	    store_artifact_register(
		c->codemode->config.store, &c->space, argument_text(c, "name"), info, on_get, c));
	json_decref(info);
}

static void artifacts_delete(struct method_call *c)
{
	call_wait(c, request,
	    store_artifact_delete(c->codemode->config.store, &c->space, argument_text(c, "name"),
		call_on_changed, c));
}

static void artifacts_path(struct method_call *c)
{
	cleanup(buf_fini) struct buf path = BUF_INIT(8192);
	if (store_artifacts_path(c->codemode->config.store, &c->space, &path) < 0) {
		call_fail(c, "RuntimeError", "The path is too long");
		return;
	}
	call_finish(c, json_string(buf_str(&path)));
}

const struct method artifacts_methods[] = {
    {"artifacts.list", {{0}}, artifacts_list},
    {"artifacts.get", {{"name", ARGUMENT_TEXT, false}}, artifacts_get},
    {"artifacts.exists", {{"name", ARGUMENT_TEXT, false}}, artifacts_exists},
    {"artifacts.save",
	{{"name", ARGUMENT_TEXT, false}, {"type", ARGUMENT_TEXT, false},
	    {"size", ARGUMENT_COUNT, false}, {"description", ARGUMENT_TEXT, true},
	    {"metadata", ARGUMENT_OBJECT, true}},
	artifacts_save},
    {"artifacts.load", {{"name", ARGUMENT_TEXT, false}}, artifacts_load},
    {"artifacts.register",
	{{"name", ARGUMENT_TEXT, false}, {"description", ARGUMENT_TEXT, true},
	    {"metadata", ARGUMENT_OBJECT, true}},
	artifacts_register},
    {"artifacts.delete", {{"name", ARGUMENT_TEXT, false}}, artifacts_delete},
    {"artifacts.path", {{0}}, artifacts_path},
    {0},
};
