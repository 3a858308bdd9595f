/*
 * Artifacts without their bytes. One queue of changes a space: what waits when a change can be made
 * is made in one go, with one new index.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "store/files_internal.h"

#define INDEX_ON_LOOP_BYTES 32768 /* one that is no larger is read on the loop */
#define CHANGES_AT_ONCE 256

/* X takes the place of the index before. */
static void take_index(struct fstore_artifacts *a, struct fstore_index *x)
{
	x->holders++;
	fstore_index_release(a->index);
	a->index = x;
}

/* --- reading ------------------------------------------------------------------------------------
 */

/* What `path` begins with in the space's records. */
static void add_path(const struct fstore_space *sp, struct buf *out)
{
	struct store_space space = {.prefix = sp->prefix, .workspace = sp->workspace};
	(void)fstore_artifacts_path(&sp->store->base, &space, out);
}

/* The index, when it is current or may be read at once; else NULL. */
static const struct fstore_index *index_now(struct fstore_space *sp, int dir_fd)
{
	struct fstore_artifacts *a = &sp->artifacts;
	if (a->index != NULL && fstore_index_is_current(a->index, dir_fd)) {
		return a->index;
	}
	struct stat st;
	if (fstatat(dir_fd, FSTORE_INDEX_NAME, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    st.st_size > INDEX_ON_LOOP_BYTES) {
		return NULL;
	}
	struct err e;
	struct fstore_index *x = fstore_index_load(dir_fd, false, &e);
	if (x == NULL || x->damaged) {
		fstore_index_free(x);
		return NULL;
	}
	take_index(a, x);
	return x;
}

/* Fills R's record. */
static void look_up(const struct fstore_space *sp, const struct fstore_index *x, int dir_fd,
    const char *name, struct fstore_request *r)
{
	struct stat st;
	cleanup(fd_close) int fd = fstore_artifact_open(dir_fd, name, &st);
	if (fd == -ENOENT) {
		return;
	}
	if (fd < 0) {
		r->failed = fstore_error(&r->e, -fd, name) < 0;
		return;
	}
	cleanup(buf_fini) struct buf path = BUF_INIT(8192);
	add_path(sp, &path);
	r->record = fstore_artifact_record(x, buf_str(&path), name, fd, &st);
}

struct read_job {
	struct fstore_job job;
	struct fstore_space *space;
	int dir_fd;
	struct fstore_index *index;  /* the one before, held */
	struct fstore_index *loaded; /* by this job */
	bool list;                   /* somebody wants RECORDS */
	bool failed;
	struct buf path;
	json_t *records;
	struct err e;
};

static void run_read(struct fstore_job *base)
{
	struct read_job *j = container_of(base, struct read_job, job);
	const struct fstore_index *x = j->index;
	if (x == NULL || x->damaged || !fstore_index_is_current(x, j->dir_fd)) {
		j->loaded = fstore_index_load(j->dir_fd, true, &j->e);
		x = j->loaded;
	}
	if (x != NULL && j->list) {
		j->records = fstore_artifact_records(x, buf_str(&j->path), j->dir_fd, &j->e);
	}
	j->failed = x == NULL || (j->list && j->records == NULL);
}

static void answer_all(
    struct fstore_request *r, const struct read_job *j, const struct fstore_artifacts *a)
{
	while (r != NULL) {
		struct fstore_request *next = r->next;
		r->failed = j->failed;
		r->e = j->e;
		if (!r->failed && r->get != NULL) {
			look_up(j->space, a->index, j->dir_fd, (char *)(r + 1), r);
		}
		fstore_request_answer(r, a->records, a->revision);
		r = next;
	}
}

static bool start_read(struct fstore_space *sp);

static void take_records(struct fstore_artifacts *a, const struct read_job *j)
{
	struct fstore_index *used = j->loaded != NULL ? j->loaded : j->index;
	if (j->loaded != NULL) {
		take_index(a, j->loaded);
	}
	if (j->failed || !j->list) {
		return;
	}
	if (a->records == NULL || !json_equal(a->records, j->records)) {
		a->revision = ++j->space->store->revisions;
		json_decref(a->records);
		a->records = json_incref(j->records);
	}
	used->holders++;
	fstore_index_release(a->records_of);
	a->records_of = used;
	a->records_ms = clock_mono_ms();
}

static void end_read(struct fstore_job *base)
{
	struct read_job *j = container_of(base, struct read_job, job);
	struct fstore_space *sp = j->space;
	struct fstore_artifacts *a = &sp->artifacts;
	take_records(a, j);
	answer_all(steal(&a->scanned), j, a);
	fstore_index_release(j->index);
	json_decref(j->records);
	buf_fini(&j->path);
	fd_close(&j->dir_fd);
	a->scanning = false;
	if (a->waiting != NULL && !sp->store->closed) {
		(void)start_read(sp);
	}
	fstore_space_release(sp);
	free(j);
}

/* Reads for those that wait. False: it cannot be, and they were told. */
static bool start_read(struct fstore_space *sp)
{
	struct fstore_artifacts *a = &sp->artifacts;
	struct read_job *j = calloc(1, sizeof(*j));
	int fd = j == NULL ? -ENOMEM : fstore_space_dup(sp, FSTORE_ARTIFACTS, false);
	if (fd < 0) {
		struct read_job failed = {.space = sp, .failed = true};
		(void)fstore_error(&failed.e, -fd, "the artifacts directory");
		free(j);
		answer_all(steal(&a->waiting), &failed, a);
		return false;
	}
	*j = (struct read_job){.space = sp, .dir_fd = fd, .path = BUF_INIT(8192)};
	add_path(sp, &j->path);
	j->index = a->index;
	if (j->index != NULL) {
		j->index->holders++;
	}
	a->scanning = true;
	a->scanned = steal(&a->waiting);
	for (const struct fstore_request *r = a->scanned; r != NULL; r = r->next) {
		j->list = j->list || r->list != NULL;
	}
	fstore_space_hold(sp);
	fstore_job_start(&j->job, sp->store, run_read, end_read);
	return true;
}

static struct store_request *wait_for_read(struct fstore_space *sp, struct fstore_request *r)
{
	struct fstore_artifacts *a = &sp->artifacts;
	r->next = a->waiting;
	a->waiting = r;
	return a->scanning || start_read(sp) ? &r->base : NULL;
}

/* A request with NAME behind it. */
static struct fstore_request *request_new(struct store *base, const struct store_space *space,
    const char *name, void *ctx, struct fstore_space **sp)
{
	struct fstore *st = (struct fstore *)(void *)base;
	*sp = fstore_space_find(st, space, FSTORE_ARTIFACTS);
	size_t len = strlen(name) + 1;
	struct fstore_request *r = *sp == NULL ? NULL : calloc(1, sizeof(*r) + len);
	if (r != NULL) {
		r->base.ops = st->base.ops;
		r->store = st;
		r->ctx = ctx;
		memcpy(r + 1, name, len);
	}
	return r;
}

static const struct err out_of_memory = {.code = ERR_INTERNAL, .text = "out of memory"};

struct store_request *fstore_artifact_list(
    struct store *st, const struct store_space *space, store_list_fn fn, void *ctx)
{
	struct fstore_space *sp;
	struct fstore_request *r = request_new(st, space, "", ctx, &sp);
	if (r == NULL) {
		fn(ctx, NULL, 0, &out_of_memory);
		return NULL;
	}
	r->list = fn;
	const struct fstore_artifacts *a = &sp->artifacts;
	int fd = fstore_space_dir(sp, FSTORE_ARTIFACTS, false);
	if (fd == -ENOENT) {
		json_t *none = json_array();
		fstore_request_answer(r, none, 0);
		json_decref(none);
		return NULL;
	}
	if (fd >= 0 && a->records != NULL && a->records_of == a->index && !a->index->damaged &&
	    clock_mono_ms() - a->records_ms < FSTORE_RESCAN_MS &&
	    fstore_index_is_current(a->index, fd)) {
		fstore_request_answer(r, a->records, a->revision);
		return NULL;
	}
	return wait_for_read(sp, r);
}

struct store_request *fstore_artifact_get(
    struct store *st, const struct store_space *space, const char *name, store_get_fn fn, void *ctx)
{
	struct fstore_space *sp;
	struct fstore_request *r = request_new(st, space, name, ctx, &sp);
	if (r == NULL) {
		fn(ctx, NULL, &out_of_memory);
		return NULL;
	}
	r->get = fn;
	int fd = fstore_space_dir(sp, FSTORE_ARTIFACTS, false);
	const struct fstore_index *x = fd >= 0 ? index_now(sp, fd) : NULL;
	if (fd == -ENOENT || x != NULL) {
		if (x != NULL) {
			look_up(sp, x, fd, name, r);
		}
		fstore_request_answer(r, NULL, 0);
		return NULL;
	}
	return wait_for_read(sp, r);
}

/* --- changing -----------------------------------------------------------------------------------
 */

struct fstore_change {
	struct fstore_change *next;
	struct fstore_request *r;     /* get: answered with the record; done: a removal */
	json_t *entry;                /* NULL: removes */
	json_t *before;               /* what the index said; NULL: nothing */
	char temp[FSTORE_TEMP_BYTES]; /* of the bytes; empty: register what is there */
	char name[STORE_ARTIFACT_NAME_MAX + 1];
};

struct write_job {
	struct fstore_job job;
	struct fstore_space *space;
	int dir_fd;
	struct fstore_change *changes;
	struct fstore_index *index; /* the one before, held */
	struct fstore_index *written;
	struct buf path;
};

/* Opens the directory that holds NAME, and says what NAME is in it. */
static int parent_of(int dir_fd, const char *name, bool make, const char **base)
{
	bool made = false;
	unsigned levels = 1;
	const char *slash = strrchr(name, '/');
	size_t len = slash == NULL ? 0 : (size_t)(slash - name);
	*base = slash == NULL ? name : slash + 1;
	for (size_t i = 0; i < len; i++) {
		levels += name[i] == '/';
	}
	if (make) {
		int dir = fstore_make_directories(dir_fd, name, len, &made);
		int r = dir >= 0 && made ? fstore_flush_above(dir, levels) : dir;
		if (dir >= 0 && r < 0) {
			(void)close(dir);
		}
		return r < 0 ? r : dir;
	}
	char path[STORE_ARTIFACT_NAME_MAX + 1];
	memcpy(path, name, len);
	path[len] = '\0';
	return fd_open_beneath(dir_fd, path, O_RDONLY | O_DIRECTORY, 0);
}

static int place_bytes(int dir_fd, struct fstore_change *c)
{
	const char *base;
	cleanup(fd_close) int parent = parent_of(dir_fd, c->name, true, &base);
	if (parent < 0) {
		return parent;
	}
	if (renameat(dir_fd, c->temp, parent, base) < 0) {
		return errno == ENOENT ? -EIO : -errno;
	}
	c->temp[0] = '\0';
	return fsync(parent) < 0 ? -errno : 0;
}

static int remove_bytes(int dir_fd, struct fstore_change *c)
{
	const char *base;
	cleanup(fd_close) int parent = parent_of(dir_fd, c->name, false, &base);
	if (parent >= 0 && unlinkat(parent, base, 0) == 0) {
		c->r->changed = true;
		return fsync(parent) < 0 ? -errno : 0;
	}
	int r = parent < 0 ? parent : -errno;
	return r == -ENOENT || r == -ENOTDIR || r == -EISDIR || r == -ELOOP ? 0 : r;
}

/* What ENTRIES will be after C. True when they change. */
static bool plan(const struct write_job *j, struct fstore_change *c, json_t *entries)
{
	struct fstore_request *r = c->r;
	struct stat st;
	c->before = json_incref(json_object_get(entries, c->name));
	if (c->entry == NULL) {
		r->changed = c->before != NULL;
		(void)json_object_del(entries, c->name);
		return c->before != NULL;
	}
	if (c->before == NULL && json_object_size(entries) >= STORE_RECORDS_MAX) {
		r->failed = err_set(&r->e, ERR_TOO_LARGE, "the store holds %d artifacts already",
				STORE_RECORDS_MAX) < 0;
		return false;
	}
	if (c->temp[0] == '\0') {
		cleanup(fd_close) int fd = fstore_artifact_open(j->dir_fd, c->name, &st);
		if (fd < 0) {
			r->failed = (fd == -ENOENT ? err_set(&r->e, ERR_NOT_FOUND,
							 "File not found: %s", c->name)
						   : fstore_error(&r->e, -fd, c->name)) < 0;
			return false;
		}
	}
	(void)json_object_set(entries, c->name, c->entry);
	return true;
}

/* The change of files. False when it failed, and what was planned for ENTRIES is taken back. */
static bool apply(const struct write_job *j, struct fstore_change *c, json_t *entries)
{
	int failed = 0;
	if (c->entry == NULL) {
		failed = remove_bytes(j->dir_fd, c);
	} else if (c->temp[0] != '\0') {
		failed = place_bytes(j->dir_fd, c);
	}
	if (failed == 0) {
		return true;
	}
	c->r->failed = fstore_error(&c->r->e, -failed, c->name) < 0;
	if (c->before != NULL) {
		(void)json_object_set(entries, c->name, c->before);
	} else {
		(void)json_object_del(entries, c->name);
	}
	return false;
}

/* The entries as they are on disk now, a copy for this job to change. NULL with E. */
static json_t *current_entries(struct write_job *j, struct err *e)
{
	if (j->index != NULL && !j->index->damaged && !j->index->racy &&
	    fstore_index_is_current(j->index, j->dir_fd)) {
		return json_copy(j->index->entries);
	}
	struct fstore_index *x = fstore_index_load(j->dir_fd, true, e);
	json_t *entries = x == NULL    ? NULL
			  : x->damaged ? fstore_index_rescue(j->dir_fd, e)
				       : json_incref(x->entries);
	fstore_index_free(x);
	return entries;
}

static void fail_rest(struct fstore_change *c, const struct err *e)
{
	for (; c != NULL; c = c->next) {
		if (!c->r->failed) {
			c->r->failed = true;
			c->r->e = *e;
		}
	}
}

static void make_records(struct write_job *j)
{
	for (struct fstore_change *c = j->changes; c != NULL; c = c->next) {
		struct stat st;
		if (c->r->failed || c->entry == NULL) {
			continue;
		}
		cleanup(fd_close) int fd = fstore_artifact_open(j->dir_fd, c->name, &st);
		if (fd >= 0) {
			c->r->record = fstore_artifact_record(
			    j->written, buf_str(&j->path), c->name, fd, &st);
		}
	}
}

/* The new index is written before any file is touched, so that a full disk changes nothing, and
 * takes its name after them. 0 or -1 with E. */
static int make_changes(struct write_job *j, json_t *entries, struct err *e)
{
	char temp[FSTORE_TEMP_BYTES];
	bool dirty = false;
	for (struct fstore_change *c = j->changes; c != NULL; c = c->next) {
		dirty = plan(j, c, entries) || dirty;
	}
	if (dirty && fstore_index_prepare(j->dir_fd, entries, temp, e) < 0) {
		return -1;
	}
	bool as_planned = true;
	for (struct fstore_change *c = j->changes; c != NULL; c = c->next) {
		as_planned = (c->r->failed || apply(j, c, entries)) && as_planned;
	}
	if (dirty && !as_planned) {
		(void)unlinkat(j->dir_fd, temp, 0);
		if (fstore_index_prepare(j->dir_fd, entries, temp, e) < 0) {
			return -1;
		}
	}
	if (dirty) {
		j->written = fstore_index_publish(j->dir_fd, temp, entries, e);
	}
	return dirty && j->written == NULL ? -1 : 0;
}

/* The index has its new name, and the directory its own. */
static int flush(const struct write_job *j)
{
	int r = fstore_space_flush(j->space, FSTORE_ARTIFACTS, j->dir_fd);
	if (r < 0) {
		errno = -r;
		return -1;
	}
	return j->written != NULL ? fsync(j->dir_fd) : 0;
}

static void run_write(struct fstore_job *base)
{
	struct write_job *j = container_of(base, struct write_job, job);
	struct err e = {0};
	cleanup(fd_close) int lock = fstore_lock(j->dir_fd);
	json_t *entries = NULL;
	if (lock < 0) {
		(void)fstore_error(&e, -lock, "the artifacts directory");
	} else {
		entries = current_entries(j, &e);
	}
	if (entries == NULL || make_changes(j, entries, &e) < 0) {
		fail_rest(j->changes, &e);
	} else if (flush(j) < 0) {
		(void)fstore_error(&e, errno, "the artifacts directory");
		fail_rest(j->changes, &e);
	} else if (j->written != NULL) {
		make_records(j);
	}
	json_decref(entries);
}

static bool start_write(struct fstore_space *sp);

static void end_change(struct write_job *j, struct fstore_change *c)
{
	if (c->temp[0] != '\0') {
		(void)unlinkat(j->dir_fd, c->temp, 0);
	}
	fstore_request_answer(c->r, NULL, 0);
	json_decref(c->entry);
	json_decref(c->before);
	free(c);
}

static void end_write(struct fstore_job *base)
{
	struct write_job *j = container_of(base, struct write_job, job);
	struct fstore_space *sp = j->space;
	sp->artifacts.changing = false;
	if (j->written != NULL) {
		take_index(&sp->artifacts, j->written);
	}
	while (j->changes != NULL) {
		struct fstore_change *c = j->changes;
		j->changes = c->next;
		end_change(j, c);
	}
	if (sp->artifacts.changes != NULL && !sp->artifacts.changing) {
		(void)start_write(sp);
	}
	fstore_index_release(j->index);
	buf_fini(&j->path);
	fd_close(&j->dir_fd);
	fstore_space_release(sp);
	free(j);
}

/* Takes up to CHANGES_AT_ONCE changes off the queue. */
static struct fstore_change *take_changes(struct fstore_artifacts *a)
{
	struct fstore_change *first = a->changes;
	struct fstore_change **end = &a->changes;
	for (int i = 0; i < CHANGES_AT_ONCE && *end != NULL; i++) {
		end = &(*end)->next;
	}
	struct fstore_change *rest = *end;
	*end = NULL;
	a->changes = rest;
	if (rest == NULL) {
		a->changes_end = &a->changes;
	}
	return first;
}

static bool start_write(struct fstore_space *sp)
{
	struct fstore_artifacts *a = &sp->artifacts;
	struct write_job *j = calloc(1, sizeof(*j));
	int fd = j == NULL ? -ENOMEM : fstore_space_dup(sp, FSTORE_ARTIFACTS, true);
	struct fstore_change *changes = take_changes(a);
	if (fd < 0) {
		struct err e;
		struct write_job failed = {.dir_fd = -1};
		(void)fstore_error(&e, -fd, "the artifacts directory");
		free(j);
		fail_rest(changes, &e);
		while (changes != NULL) {
			struct fstore_change *next = changes->next;
			end_change(&failed, changes);
			changes = next;
		}
		return false;
	}
	*j = (struct write_job){
	    .space = sp, .dir_fd = fd, .changes = changes, .path = BUF_INIT(8192)};
	add_path(sp, &j->path);
	j->index = a->index;
	if (j->index != NULL) {
		j->index->holders++;
	}
	a->changing = true;
	fstore_space_hold(sp);
	fstore_job_start(&j->job, sp->store, run_write, end_write);
	return true;
}

bool fstore_artifact_commit(struct fstore_space *sp, const char *name, json_t *entry,
    const char *temp, struct fstore_request *r)
{
	struct fstore_change *c = calloc(1, sizeof(*c));
	if (c == NULL) {
		json_decref(entry);
		r->failed = true;
		r->e = out_of_memory;
		fstore_request_answer(r, NULL, 0);
		return false;
	}
	c->r = r;
	c->entry = entry;
	memcpy(c->name, name, strlen(name) + 1);
	memcpy(c->temp, temp, strlen(temp) + 1);
	struct fstore_artifacts *a = &sp->artifacts;
	*a->changes_end = c;
	a->changes_end = &c->next;
	return a->changing || start_write(sp);
}

struct store_request *fstore_artifact_delete(struct store *st, const struct store_space *space,
    const char *name, store_done_fn fn, void *ctx)
{
	struct fstore_space *sp;
	struct fstore_request *r = request_new(st, space, name, ctx, &sp);
	if (r == NULL) {
		fn(ctx, false, &out_of_memory);
		return NULL;
	}
	r->done = fn;
	if (fstore_space_dir(sp, FSTORE_ARTIFACTS, false) == -ENOENT) {
		fstore_request_answer(r, NULL, 0);
		return NULL;
	}
	return fstore_artifact_commit(sp, name, NULL, "", r) ? &r->base : NULL;
}

struct store_request *fstore_artifact_register(struct store *st, const struct store_space *space,
    const char *name, const json_t *info, store_get_fn fn, void *ctx)
{
	struct fstore_space *sp;
	struct fstore_request *r = request_new(st, space, name, ctx, &sp);
	json_t *entry = store_entry_new(info);
	if (r == NULL || entry == NULL) {
		json_decref(entry);
		free(r);
		fn(ctx, NULL, &out_of_memory);
		return NULL;
	}
	r->get = fn;
	return fstore_artifact_commit(sp, name, entry, "", r) ? &r->base : NULL;
}
