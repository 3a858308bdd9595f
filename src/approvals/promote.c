/* Promotion: the files that a run was to keep become artifacts, once a person has approved it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "approvals/internal.h"
#include "approvals/kept.h"
#include "approvals/records_rows.h"
#include "base/base64.h"
#include "base/log.h"

#define ATTEMPTS_MAX 20

struct promotion {
	struct approvals *approvals;
	char id[APPROVALS_ID_BYTES];
	int64_t fence;
	int64_t attempt;
	char tenant[ENGINE_TENANT_MAX + 1]; /* as its run had it, which checked its length */
	char *prefix;
	struct approval_request *request;
	json_t *files;
	size_t at;        /* which of FILES is being written */
	struct buf bytes; /* of it */
	size_t given;
	struct store_writer *writer;
	json_t *names;
	struct promotion *prev, *next;
};

static void drop(struct promotion *p)
{
	DL_DELETE(p->approvals->promotions, p);
	approval_store_cancel(p->request);
	if (p->writer != NULL) {
		store_writer_abort(p->writer);
	}
	json_decref(p->files);
	json_decref(p->names);
	buf_fini(&p->bytes);
	free(p->prefix);
	free(p);
}

static void on_finished(void *ctx, const json_t *answer, const struct err *e)
{
	struct promotion *p = ctx;
	struct approvals *a = p->approvals;
	(void)answer;
	(void)e;
	drop(p);
	lane_done(a, LANE_PROMOTE);
}

/* BODY is taken. RETRY_US 0: it is over. */
static void finish(struct promotion *p, const char *kind, json_t *body, int64_t retry_us)
{
	json_t *in = json_pack("{s:s, s:I, s:s, s:{s:s, s:o}, s:o, s:I}", "id", p->id, "fence",
	    (json_int_t)p->fence, "kind", "promote", "event", "kind", kind, "body", body,
	    "retry_us", retry_us != 0 ? json_integer(retry_us) : json_null(), "now_us",
	    (json_int_t)approvals_now_us(p->approvals));
	sure_write(p->approvals, records_finish_task, in, on_finished, p);
}

/* What the store will never take is not tried again. */
static void failed(struct promotion *p, const struct err *e)
{
	bool last = e->code == ERR_INVALID || e->code == ERR_TOO_LARGE ||
		    p->attempt >= ATTEMPTS_MAX;
	json_t *reason = json_string(e->text);
	log_event(LOG_LEVEL_WARNING, "promotion_failed", LOG_STR("approval", p->id),
	    LOG_STR("reason", e->text));
	finish(p, "promote_failed",
	    json_pack("{s:o, s:I, s:b, s:O}", "reason",
		reason != NULL ? reason : json_string("a text that is not UTF-8"), "attempt",
		(json_int_t)p->attempt, "given_up", (int)last, "promoted", p->names),
	    last ? 0 : workflow_retry_us(approvals_now_us(p->approvals), p->attempt));
}

/* --- one file after the other --------------------------------------------------------------------
 */

static void write_next(struct promotion *p);

static void on_written(void *ctx, json_t *record, const struct err *e)
{
	struct promotion *p = ctx;
	p->writer = NULL;
	if (e != NULL) {
		failed(p, e);
		return;
	}
	(void)json_array_append(p->names, json_object_get(record, "name"));
	p->at++;
	write_next(p);
}

static void on_room(void *ctx)
{
	struct promotion *p = ctx;
	bool room = true;
	while (room && p->writer != NULL && p->given < p->bytes.len) {
		size_t len = p->bytes.len - p->given;
		const char *from = buf_str(&p->bytes) + p->given;
		len = len < 65536 ? len : 65536;
		p->given += len;
		/* The last bytes may end it, and then all of this is another file's. */
		bool last = p->given == p->bytes.len;
		room = store_writer_add(p->writer, from, len);
		if (last) {
			return;
		}
	}
}

static bool is_text(const struct buf *b)
{
	return text_is_utf8(buf_str(b), b->len) && memchr(buf_str(b), '\0', b->len) == NULL;
}

static void write_file(struct promotion *p, const char *file)
{
	cleanup(buf_fini) struct buf name = BUF_INIT(STORE_ARTIFACT_NAME_MAX);
	struct err e = {0};
	if (buf_addf(&name, "%s%s", p->prefix, file) < 0) {
		(void)err_set(&e, ERR_INVALID, "the artifact's name is too long");
		failed(p, &e);
		return;
	}
	const struct store_space space = {.prefix = *p->tenant != '\0' ? p->tenant : NULL};
	cleanup(json_decrefp) json_t *info = json_pack("{s:s+, s:{s:s, s:s}, s:s}", "description",
	    "promoted from approval ", p->id, "metadata", "approval", p->id, "file", file, "type",
	    is_text(&p->bytes) ? "text" : "bytes");
	p->given = 0;
	struct store_writer *w = store_artifact_write(
	    p->approvals->config.store, &space, buf_str(&name), info, p->bytes.len, on_written, p);
	if (w == NULL) {
		return; /* on_written was called: P may be gone */
	}
	p->writer = w;
	store_writer_on_room(w, on_room);
	on_room(p);
}

/* Whether it is what people saw when they decided, and not what somebody put there since. */
static bool is_as_shown(const json_t *file, const struct buf *bytes, struct err *e)
{
	char sha256[RECORDS_SHA256_BYTES];
	const char *shown = json_string_value(json_object_get(file, "sha256"));
	if (records_sha256(bytes->data, bytes->len, sha256, e) < 0) {
		return false;
	}
	if (shown == NULL || strcmp(shown, sha256) != 0) {
		(void)err_set(e, ERR_INVALID,
		    "what was kept of '%.200s' is not what the result shows",
		    json_string_value(json_object_get(file, "name")));
		return false;
	}
	return true;
}

static void write_next(struct promotion *p)
{
	struct err e = {0};
	const json_t *file = json_array_get(p->files, p->at);
	const json_t *base64 = json_object_get(file, "base64");
	const char *name = json_string_value(json_object_get(file, "name"));
	if (p->at >= json_array_size(p->files)) {
		finish(p, "promoted", json_pack("{s:O}", "names", p->names), 0);
		return;
	}
	buf_clear(&p->bytes);
	if (name == NULL || !json_is_string(base64) ||
	    base64_decode(json_string_value(base64), json_string_length(base64), &p->bytes) < 0) {
		(void)err_set(&e, ERR_INVALID, "what was kept of a file cannot be read");
		failed(p, &e);
		return;
	}
	if (!is_as_shown(file, &p->bytes, &e)) {
		failed(p, &e);
		return;
	}
	write_file(p, name);
}

/* --- the whole -----------------------------------------------------------------------------------
 */

static void on_files(void *ctx, const json_t *answer, const struct err *e)
{
	struct promotion *p = ctx;
	p->request = NULL;
	p->files = json_incref(json_object_get(answer, "files"));
	if (e != NULL) {
		failed(p, e);
	} else {
		write_next(p);
	}
}

void promotion_begin(struct approvals *a, const struct task *t)
{
	const json_t *promote = json_object_get(
	    json_object_get(t->approval, "settings"), "promote");
	const char *prefix = json_string_value(json_object_get(promote, "prefix"));
	const char *tenant = json_string_value(json_object_get(t->approval, "tenant"));
	struct promotion *p = calloc(1, sizeof(*p));
	if (p == NULL) {
		lane_done(a, LANE_PROMOTE);
		return;
	}
	p->approvals = a;
	p->fence = t->fence;
	p->attempt = t->attempt;
	p->bytes = BUF_INIT(KEPT_MAX_BYTES);
	p->names = json_array();
	p->prefix = strdup(prefix != NULL ? prefix : "");
	memcpy(p->id, t->id, sizeof(p->id));
	(void)snprintf(p->tenant, sizeof(p->tenant), "%s", tenant != NULL ? tenant : "");
	DL_APPEND(a->promotions, p);
	json_t *in = json_pack("{s:s}", "id", p->id);
	p->request = in != NULL && p->prefix != NULL
			 ? approval_store_read(a->store, records_files, in, on_files, p)
			 : NULL;
	if (p->request == NULL) {
		drop(p);
		lane_done(a, LANE_PROMOTE);
	}
}

/* Whoever starts next begins it anew, at once. */
static void give_back(const struct promotion *p)
{
	struct approvals *a = p->approvals;
	json_int_t now_us = (json_int_t)approvals_now_us(a);
	json_t *in = json_pack("{s:s, s:I, s:s, s:n, s:I, s:I}", "id", p->id, "fence",
	    (json_int_t)p->fence, "kind", "promote", "event", "retry_us", now_us, "now_us", now_us);
	sure_write(a, records_finish_task, in, NULL, NULL);
}

json_t *promotions_held(const struct approvals *a)
{
	json_t *ids = json_array();
	const struct promotion *one;
	DL_FOREACH(a->promotions, one)
	{
		(void)json_array_append_new(ids, json_string(one->id));
	}
	return ids;
}

void promotions_stop(struct approvals *a)
{
	struct promotion *p, *next;
	DL_FOREACH_SAFE(a->promotions, p, next)
	{
		sure_forget(a, p);
		give_back(p);
		drop(p);
	}
}
