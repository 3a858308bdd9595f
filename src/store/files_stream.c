/* The bytes of artifacts, in and out, in bounded pieces; disks are waited for on other threads. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "store/files_internal.h"

#define PENDING_BYTES (256U << 10) /* past it a writer wants no more for now */
#define PIECE_BYTES (256U << 10)   /* read ahead */
#define AT_ONCE_BYTES (64U << 10)  /* a file that is no larger is read on the loop */

static const struct err out_of_memory = {.code = ERR_INTERNAL, .text = "out of memory"};

/* --- writing ------------------------------------------------------------------------------------
 */

struct writer {
	struct store_writer base;
	struct fstore_job job;
	struct fstore_space *space;
	int dir_fd, fd;
	char temp[FSTORE_TEMP_BYTES];
	char name[STORE_ARTIFACT_NAME_MAX + 1];
	json_t *entry;
	uint64_t size, got;
	struct buf pending; /* to be written next */
	struct buf writing; /* the job's while BUSY */
	bool last;          /* WRITING ends the artifact */
	bool busy, wants_room;
	bool committed; /* the rest is the queue's */
	bool aborted;
	int failed; /* -errno of the job; -EOVERFLOW: more bytes than announced */
	void (*room)(void *ctx);
	store_get_fn done;
	void *ctx;
};

static void writer_free(struct writer *w)
{
	if (w->temp[0] != '\0' && !w->committed) {
		(void)unlinkat(w->dir_fd, w->temp, 0);
	}
	struct fstore_space *sp = w->space;
	fd_close(&w->fd);
	fd_close(&w->dir_fd);
	buf_fini(&w->pending);
	buf_fini(&w->writing);
	json_decref(w->entry);
	free(w);
	fstore_space_release(sp);
}

static void run_writer(struct fstore_job *base)
{
	struct writer *w = container_of(base, struct writer, job);
	if (w->failed < 0) {
		return;
	}
	if (w->fd < 0) {
		w->fd = fstore_temp_open(w->dir_fd, w->temp);
		if (w->fd < 0) {
			w->failed = w->fd;
			w->temp[0] = '\0';
			return;
		}
	}
	w->failed = fd_write_all(w->fd, buf_str(&w->writing), w->writing.len);
	if (w->failed == 0 && w->last) {
		w->failed = fsync(w->fd) < 0 ? -errno : 0;
		fd_close(&w->fd);
	}
	buf_fini(&w->writing);
}

/* The queue's answer. */
static void on_committed(void *ctx, json_t *record, const struct err *e)
{
	struct writer *w = ctx;
	if (!w->aborted && !w->space->store->closed) {
		w->done(w->ctx, record, e);
	}
	writer_free(w);
}

static void commit(struct writer *w)
{
	struct fstore_request *r = fstore_request_new(w->space->store, w);
	if (r == NULL) {
		on_committed(w, NULL, &out_of_memory);
		return;
	}
	r->get = on_committed;
	r->internal = true;
	w->committed = true;
	(void)fstore_artifact_commit(w->space, w->name, steal(&w->entry), w->temp, r);
}

static void end_writer(struct fstore_job *base);

static void start_writer(struct writer *w)
{
	w->writing = w->pending;
	w->pending = BUF_INIT(STORE_ARTIFACT_MAX_BYTES);
	w->last = w->got == w->size;
	w->busy = true;
	fstore_job_start(&w->job, w->space->store, run_writer, end_writer);
}

static void fail_writer(struct writer *w)
{
	struct err e;
	if (w->failed == -EOVERFLOW) {
		(void)err_set(&e, ERR_INVALID, "more bytes came than were announced");
	} else {
		(void)fstore_error(&e, -w->failed, w->name);
	}
	on_committed(w, NULL, &e);
}

static void end_writer(struct fstore_job *base)
{
	struct writer *w = container_of(base, struct writer, job);
	w->busy = false;
	if (w->aborted || w->space->store->closed) {
		writer_free(w);
	} else if (w->failed < 0) {
		fail_writer(w);
	} else if (w->last) {
		commit(w);
	} else {
		if (w->pending.len > 0) {
			start_writer(w);
		}
		/* W may be aborted by ROOM; nothing is touched after it. */
		if (w->wants_room && w->room != NULL) {
			w->wants_room = false;
			w->room(w->ctx);
		}
	}
}

struct store_writer *fstore_artifact_write(struct store *st, const struct store_space *space,
    const char *name, const json_t *info, uint64_t size, store_get_fn done, void *ctx)
{
	struct fstore_space *sp = fstore_space_find(
	    (struct fstore *)(void *)st, space, FSTORE_ARTIFACTS);
	struct writer *w = sp == NULL ? NULL : calloc(1, sizeof(*w));
	json_t *entry = store_entry_new(info);
	if (w == NULL || entry == NULL) {
		free(w);
		json_decref(entry);
		done(ctx, NULL, &out_of_memory);
		return NULL;
	}
	int dir_fd = fstore_space_dup(sp, FSTORE_ARTIFACTS, true);
	if (dir_fd < 0) {
		struct err e;
		(void)fstore_error(&e, -dir_fd, "the artifacts directory");
		free(w);
		json_decref(entry);
		done(ctx, NULL, &e);
		return NULL;
	}
	*w = (struct writer){.base = {.ops = st->ops},
	    .space = sp,
	    .dir_fd = dir_fd,
	    .fd = -1,
	    .entry = entry,
	    .size = size,
	    .pending = BUF_INIT(STORE_ARTIFACT_MAX_BYTES),
	    .done = done,
	    .ctx = ctx};
	memcpy(w->name, name, strlen(name) + 1);
	fstore_space_hold(sp);
	if (size == 0) {
		start_writer(w);
	}
	return &w->base;
}

bool fstore_writer_add(struct store_writer *base, const char *bytes, size_t len)
{
	struct writer *w = (struct writer *)(void *)base;
	if (w->failed < 0 || w->committed || len > w->size - w->got) {
		if (!w->busy && !w->committed && w->failed == 0) {
			w->failed = -EOVERFLOW;
			start_writer(w);
		}
		return true; /* DONE says why */
	}
	if (buf_add(&w->pending, bytes, len) < 0) {
		w->failed = w->busy ? w->failed : -ENOMEM;
	}
	w->got += len;
	if (!w->busy && (w->got == w->size || w->pending.len >= PENDING_BYTES / 2)) {
		start_writer(w);
	}
	w->wants_room = w->busy && w->got < w->size && w->pending.len >= PENDING_BYTES;
	return !w->wants_room;
}

void fstore_writer_on_room(struct store_writer *w, void (*room)(void *ctx))
{
	((struct writer *)(void *)w)->room = room;
}

void fstore_writer_abort(struct store_writer *base)
{
	struct writer *w = (struct writer *)(void *)base;
	w->aborted = true;
	if (!w->busy && !w->committed) {
		writer_free(w);
	}
}

/* --- reading ------------------------------------------------------------------------------------
 */

struct reader {
	struct store_reader base;
	struct fstore_job job;
	struct fstore_space *space;
	int fd;
	uint64_t at, left; /* of the file, beyond READY */
	struct buf ready;  /* the job's while BUSY */
	size_t taken;      /* of READY */
	bool busy, failed, closed;
	bool opening; /* OPENED was not called yet */
	void (*more)(void *ctx);
	store_get_fn opened;
	void *ctx;
	char name[STORE_ARTIFACT_NAME_MAX + 1];
};

static void reader_free(struct reader *r)
{
	struct fstore_space *sp = r->space;
	fd_close(&r->fd);
	buf_fini(&r->ready);
	free(r);
	fstore_space_release(sp);
}

/* Opens what RECORD describes, and makes its size the one of what was opened. */
static int open_bytes(struct reader *r, json_t *record, struct err *e)
{
	struct stat st;
	int dir = fstore_space_dir(r->space, FSTORE_ARTIFACTS, false);
	r->fd = dir < 0 ? dir : fstore_artifact_open(dir, r->name, &st);
	if (r->fd < 0) {
		int failed = -r->fd;
		r->fd = -1;
		return failed == ENOENT ? err_set(e, ERR_NOT_FOUND, "%s was deleted", r->name)
					: fstore_error(e, failed, r->name);
	}
	r->left = (uint64_t)st.st_size;
	(void)json_object_set_new(record, "size", json_integer((json_int_t)r->left));
	return 0;
}

static void on_record(void *ctx, json_t *record, const struct err *e)
{
	struct reader *r = ctx;
	struct err own;
	r->opening = false;
	if (r->closed) {
		reader_free(r);
		return;
	}
	if (record != NULL && open_bytes(r, record, &own) < 0) {
		e = own.code == ERR_NOT_FOUND ? NULL : &own;
		record = NULL;
	}
	r->failed = record == NULL;
	if (!r->space->store->closed) {
		r->opened(r->ctx, record, e);
	}
}

struct store_reader *fstore_artifact_read(struct store *st, const struct store_space *space,
    const char *name, store_get_fn opened, void *ctx)
{
	struct fstore_space *sp = fstore_space_find(
	    (struct fstore *)(void *)st, space, FSTORE_ARTIFACTS);
	struct reader *r = sp == NULL ? NULL : calloc(1, sizeof(*r));
	if (r == NULL) {
		opened(ctx, NULL, &out_of_memory);
		return NULL;
	}
	*r = (struct reader){.base = {.ops = st->ops},
	    .space = sp,
	    .fd = -1,
	    .ready = BUF_INIT(PIECE_BYTES),
	    .opening = true,
	    .opened = opened,
	    .ctx = ctx};
	memcpy(r->name, name, strlen(name) + 1);
	fstore_space_hold(sp);
	struct store_request *request = fstore_artifact_get(st, space, name, on_record, r);
	if (!r->opening && r->failed) {
		reader_free(r);
		return NULL;
	}
	if (r->opening) {
		/* R hears of it in any case, to be freed. */
		((struct fstore_request *)(void *)request)->internal = true;
	}
	return &r->base;
}

static void run_reader(struct fstore_job *base)
{
	struct reader *r = container_of(base, struct reader, job);
	size_t want = r->left < PIECE_BYTES ? (size_t)r->left : PIECE_BYTES;
	char *to = buf_reserve(&r->ready, want);
	ssize_t n = to == NULL ? -1 : pread(r->fd, to, want, (off_t)r->at);
	if (n <= 0) {
		r->failed = true; /* an error, or somebody cut it meanwhile */
		return;
	}
	buf_grew(&r->ready, (size_t)n);
	r->at += (uint64_t)n;
	r->left -= (uint64_t)n;
}

static void end_reader(struct fstore_job *base)
{
	struct reader *r = container_of(base, struct reader, job);
	r->busy = false;
	if (r->closed) {
		reader_free(r);
	} else if (r->more != NULL && !r->space->store->closed) {
		r->more(r->ctx);
	}
}

static ssize_t take_ready(struct reader *r, char *out, size_t max)
{
	size_t n = r->ready.len - r->taken;
	n = n > max ? max : n;
	memcpy(out, r->ready.data + r->taken, n);
	r->taken += n;
	return (ssize_t)n;
}

ssize_t fstore_reader_read(struct store_reader *base, char *out, size_t max)
{
	struct reader *r = (struct reader *)(void *)base;
	if (r->busy || r->opening || max == 0) {
		return 0;
	}
	if (r->taken < r->ready.len) {
		return take_ready(r, out, max);
	}
	if (r->failed || r->left == 0) {
		return -1;
	}
	buf_clear(&r->ready);
	r->taken = 0;
	if (r->at + r->left <= AT_ONCE_BYTES) {
		run_reader(&r->job);
		return r->failed ? -1 : take_ready(r, out, max);
	}
	r->busy = true;
	fstore_job_start(&r->job, r->space->store, run_reader, end_reader);
	return 0;
}

void fstore_reader_on_more(struct store_reader *r, void (*more)(void *ctx))
{
	((struct reader *)(void *)r)->more = more;
}

void fstore_reader_close(struct store_reader *base)
{
	struct reader *r = (struct reader *)(void *)base;
	r->closed = true;
	if (!r->busy && !r->opening) {
		reader_free(r);
	}
}
