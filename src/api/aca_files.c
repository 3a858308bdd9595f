#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/aca.h"
#include "api/aca_entry.h"
#include "api/aca_list.h"
#include "api/aca_session_wait.h"
#include "base/fd.h"
#include "base/mime.h"
#include "base/text.h"

#define DOWNLOAD_PIECE_BYTES (64U << 10) /* read at once, and held for each client */

/*
 * The paths files and files/{name} are the same in the old dialect and the new one; what is
 * answered follows the api-version (aca_is_old_version). Paths of their own (files/upload,
 * files/content/…) answer in their own dialect whatever the version.
 */

/* --- which file ----------------------------------------------------------------------------------
 */

/* NAME beneath the query's path. */
static int path_of(struct call *c, const char *name, struct files_path *out, struct aca_problem *p)
{
	const char *directory = call_query(c, "path");
	struct err e;
	if (directory != NULL && files_path_add(out, directory, &e) < 0) {
		return aca_problem_err(p, &e, "path");
	}
	return files_path_add(out, name, &e) < 0 ? aca_problem_err(p, &e, "filename") : 0;
}

/* files/content//mnt/data/x reaches the route with its slashes merged. */
static const char *rest_name(const char *rest)
{
	static const char root[] = "mnt/data/";
	return text_has_prefix(rest, root) ? rest + strlen(root) : rest;
}

/* The file the request names; the route's placeholder is its name, or the rest of its path. */
static int file_of(struct call *c, struct files_path *out, struct aca_problem *p)
{
	bool rest = text_has_suffix(c->route->pattern, "...}");
	return path_of(c, rest ? rest_name(c->params[0]) : c->params[0], out, p);
}

/* Checks the request, then calls RUN when the session is there. */
static void with_file(struct call *c, aca_dir_run run)
{
	struct aca_problem p;
	struct aca_where where;
	struct files_path path = {{0}};
	if (aca_where(c, NULL, &where, &p) < 0 || file_of(c, &path, &p) < 0) {
		aca_fail(c, &p);
		return;
	}
	(void)aca_with_dir(c, &where, run);
}

static void fail_err(struct call *c, const struct err *e)
{
	struct aca_problem p;
	(void)aca_problem_err(&p, e, "filename");
	aca_fail(c, &p);
}

/* --- operations ----------------------------------------------------------------------------------
 */

/* One operation on a file, on a thread, and the answer to it. */
struct file_op {
	struct engine_job job;
	struct call *call; /* NULL: the client has left */
	struct aca_hold hold;
	struct files_path path;
	int (*operate)(struct file_op *op); /* on the thread: 0, or -1 with e */
	void (*reply)(struct file_op *op);  /* it went well */
	int result;
	struct files_entry entry;
	int fd; /* opened */
	struct err e;
};

static void op_run(struct engine_job *job)
{
	struct file_op *op = container_of(job, struct file_op, job);
	op->result = op->operate(op);
}

static void op_done(struct engine_job *job, bool ran)
{
	struct file_op *op = container_of(job, struct file_op, job);
	struct call *c = op->call;
	if (!ran) {
		op->result = -1;
		aca_hold_gone(&op->e);
	}
	if (c != NULL) {
		c->ctx = NULL;
		c->gone = NULL;
	}
	if (c != NULL && op->result == 0) {
		op->reply(op);
	} else if (c != NULL) {
		fail_err(c, &op->e);
	}
	aca_hold_close(&op->hold, &op->fd);
	aca_hold_release(&op->hold);
	free(op);
}

static void op_gone(struct call *c)
{
	struct file_op *op = c->ctx;
	op->call = NULL;
	engine_work_cancel(op->hold.engine, &op->job);
}

static void begin_op(struct call *c, const struct aca_hold *hold,
    int (*operate)(struct file_op *op), void (*reply)(struct file_op *op))
{
	struct aca_problem p;
	struct aca_hold mine = *hold;
	struct file_op *op = calloc(1, sizeof(*op));
	if (op == NULL) {
		aca_hold_release(&mine);
		(void)aca_problem(&p, ACA_INTERNAL, NULL, "out of memory");
		aca_fail(c, &p);
		return;
	}
	*op = (struct file_op){.job = {.run = op_run, .done = op_done},
	    .call = c,
	    .hold = mine,
	    .operate = operate,
	    .reply = reply,
	    .fd = -1};
	(void)file_of(c, &op->path, &p); /* was checked before */
	c->ctx = op;
	c->gone = op_gone;
	aca_hold_work(&op->hold, &op->job);
}

/* --- GET files -----------------------------------------------------------------------------------
 */

static int list_of(struct call *c, struct aca_list_request *r, struct aca_problem *p)
{
	r->old = aca_is_old_version(c);
	if (path_of(c, "", &r->path, p) < 0 ||
	    aca_query_bool(c, "recursive", &r->recursive, p) < 0) {
		return -1;
	}
	/* The old dialect has no directories: a file in one is listed by its path. */
	r->recursive = r->recursive || (r->old && call_query(c, "recursive") == NULL);
	return aca_query_skip(c, &r->skip, p);
}

static void list_run(struct call *c, const struct aca_hold *hold, bool later)
{
	(void)later;
	struct aca_problem p;
	struct aca_list_request r = {0};
	(void)list_of(c, &r, &p); /* was checked before */
	r.hold = *hold;
	aca_list_reply(c, &r);
}

void aca_files_list(struct call *c)
{
	struct aca_problem p;
	struct aca_where where;
	struct aca_list_request r = {0};
	if (aca_where(c, NULL, &where, &p) < 0 || list_of(c, &r, &p) < 0) {
		aca_fail(c, &p);
		return;
	}
	(void)aca_with_dir(c, &where, list_run);
}

/* --- GET files/{name} ----------------------------------------------------------------------------
 */

static int op_stat(struct file_op *op)
{
	return files_stat(op->hold.dir_fd, &op->path, &op->entry, &op->e);
}

static void show_reply(struct file_op *op)
{
	struct call *c = op->call;
	unsigned id = 2;
	call_reply_json(c, 200,
	    aca_is_old_version(c)
		? aca_entries_old(json_pack("[o]", aca_entry_old(&op->entry, &id)))
		: aca_entry_new(&op->entry));
}

static void show_run(struct call *c, const struct aca_hold *hold, bool later)
{
	(void)later;
	begin_op(c, hold, op_stat, show_reply);
}

void aca_file_show(struct call *c)
{
	with_file(c, show_run);
}

/* --- GET files/{name}/content, GET files/content/{name...}
 * ---------------------------------------- */

/* A file on its way to a client: a thread reads the next piece when the last has gone out. */
struct download {
	struct call_source source;
	struct engine_job job;
	struct aca_hold hold;
	int fd;
	uint64_t at;      /* of the file, read so far */
	uint64_t left;    /* to be read */
	uint64_t offered; /* to the client */
	char *piece;
	size_t piece_len, piece_at; /* and how much of it has gone out */
	bool reading;
	bool broken; /* the file is shorter than was promised, or the session ended */
	bool closed;
};

static void download_free(struct download *d)
{
	struct pool_metrics *m = &d->hold.pool->metrics;
	m->downloads++;
	m->download_bytes += d->offered;
	aca_hold_close(&d->hold, &d->fd);
	aca_hold_release(&d->hold);
	free(d->piece);
	free(d);
}

static void download_run(struct engine_job *job)
{
	struct download *d = container_of(job, struct download, job);
	size_t want = d->left < DOWNLOAD_PIECE_BYTES ? (size_t)d->left : DOWNLOAD_PIECE_BYTES;
	ssize_t n = pread(d->fd, d->piece, want, (off_t)d->at);
	d->piece_len = n > 0 ? (size_t)n : 0;
}

static void download_done(struct engine_job *job, bool ran)
{
	struct download *d = container_of(job, struct download, job);
	d->reading = false;
	d->broken = !ran || d->piece_len == 0;
	d->piece_len = ran ? d->piece_len : 0;
	d->at += d->piece_len;
	d->left -= d->piece_len;
	if (d->closed) {
		download_free(d);
	} else {
		call_wake(d->source.call);
	}
}

static ssize_t download_read(struct call_source *source, char *out, size_t max)
{
	struct download *d = container_of(source, struct download, source);
	size_t have = d->reading ? 0 : d->piece_len - d->piece_at;
	if (have > 0) {
		size_t n = have < max ? have : max;
		memcpy(out, d->piece + d->piece_at, n);
		d->piece_at += n;
		return (ssize_t)n;
	}
	if (d->broken) {
		return CALL_SOURCE_BROKEN;
	}
	if (d->left == 0) {
		return -1;
	}
	if (d->piece == NULL) {
		d->piece = malloc(DOWNLOAD_PIECE_BYTES);
	}
	if (d->piece == NULL) {
		return CALL_SOURCE_BROKEN;
	}
	if (!d->reading) {
		d->reading = true;
		d->piece_at = 0;
		aca_hold_work(&d->hold, &d->job);
	}
	return 0;
}

static void download_range(struct call_source *source, uint64_t first, uint64_t len)
{
	struct download *d = container_of(source, struct download, source);
	d->at = first;
	d->left = d->offered = len;
}

static void download_close(struct call_source *source)
{
	struct download *d = container_of(source, struct download, source);
	d->closed = true;
	if (d->reading) {
		engine_work_cancel(d->hold.engine, &d->job);
	} else {
		download_free(d);
	}
}

static int op_open(struct file_op *op)
{
	return files_open(op->hold.dir_fd, &op->path, &op->fd, &op->entry, &op->e);
}

static void content_reply(struct file_op *op)
{
	struct call *c = op->call;
	struct download *d = calloc(1, sizeof(*d));
	if (d == NULL) {
		(void)err_set(&op->e, ERR_INTERNAL, "out of memory");
		fail_err(c, &op->e);
		return;
	}
	*d = (struct download){
	    .source = {.read = download_read, .range = download_range, .close = download_close},
	    .job = {.run = download_run, .done = download_done},
	    .hold = op->hold,
	    .fd = fd_take(&op->fd)};
	op->hold.pool = NULL; /* it has the hold now */
	/* A page or a drawing that a session made must not act as one of ours in a browser. */
	call_set_header(c, "Content-Security-Policy", "sandbox");
	call_reply_file(c, &d->source, op->entry.size_bytes, op->entry.modified_wall_us,
	    mime_of_name(op->entry.name));
}

static void content_run(struct call *c, const struct aca_hold *hold, bool later)
{
	(void)later;
	begin_op(c, hold, op_open, content_reply);
}

void aca_file_content(struct call *c)
{
	with_file(c, content_run);
}

/* --- DELETE files/{name} -------------------------------------------------------------------------
 */

static int op_remove(struct file_op *op)
{
	return files_remove(op->hold.dir_fd, &op->path, &op->e);
}

static void delete_reply(struct file_op *op)
{
	struct call *c = op->call;
	if (aca_is_old_version(c)) {
		call_reply_json(c, 200, json_pack("{s:s}", "message", "file deleted successfully"));
	} else {
		struct buf none = BUF_INIT(0);
		call_reply(c, 204, NULL, &none);
	}
}

static void delete_run(struct call *c, const struct aca_hold *hold, bool later)
{
	(void)later;
	begin_op(c, hold, op_remove, delete_reply);
}

void aca_file_delete(struct call *c)
{
	with_file(c, delete_run);
}
