/* Tools, skills and dependencies in files: lists from snapshots, changes by jobs. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "store/files_internal.h"
#include "store/requirement.h"

static struct fstore *store_of(struct store *st)
{
	return (struct fstore *)(void *)st;
}

/* Answers R as failed and returns what the caller returns. */
static struct store_request *refuse(struct fstore_request *r)
{
	r->failed = true;
	fstore_request_answer(r, NULL, 0);
	return NULL;
}

/* --- reading ------------------------------------------------------------------------------------
 */

/* Whether nothing can have changed since the snapshot, as far as can be known. */
static bool is_current(struct fstore *st, const struct fstore_records *rs, int dir_fd)
{
	const struct fstore_snapshot *s = rs->snapshot;
	struct stat now;
	if (s == NULL || rs->stale || fstat(dir_fd, &now) < 0 || now.st_nlink == 0) {
		return false;
	}
	struct fstore_signature dir = fstore_signature_of(&now);
	if (s->watched && s->plain) {
		fstore_watches_read(st);
		return rs->watch.wd >= 0 && !rs->watch.all && rs->watch.changed.count == 0 &&
		       dir.dev == s->dir.dev && dir.ino == s->dir.ino;
	}
	return !s->racy && clock_mono_ms() - s->scanned_ms < FSTORE_RESCAN_MS &&
	       fstore_signature_equal(&dir, &s->dir);
}

static const char *name_of(
    enum fstore_part part, const json_t *record, char base[REQUIREMENT_MAX + 1])
{
	if (part == FSTORE_DEPS) {
		return requirement_name(json_string_value(record), base);
	}
	return json_string_value(json_object_get(record, "name"));
}

static json_t *find_record(enum fstore_part part, const json_t *records, const char *name)
{
	size_t i;
	json_t *record;
	char base[REQUIREMENT_MAX + 1];
	json_array_foreach(records, i, record)
	{
		if (strcmp(name_of(part, record, base), name) == 0) {
			return record;
		}
	}
	return NULL;
}

static void answer(struct fstore_request *r, enum fstore_part part, const struct fstore_snapshot *s)
{
	if (r->get != NULL && s != NULL) {
		r->record = json_incref(find_record(part, s->records, r->name));
	}
	fstore_request_answer(r, s != NULL ? s->records : NULL, s != NULL ? s->revision : 0);
}

struct scan_job {
	struct fstore_job job;
	struct fstore_space *space;
	enum fstore_part part;
	int dir_fd;
	bool watched;
	struct fstore_names *changed; /* nothing else did; NULL: anything may have */
	struct fstore_snapshot *old, *found;
	struct err e;
};

static void run_scan(struct fstore_job *base)
{
	struct scan_job *j = container_of(base, struct scan_job, job);
	j->found = fstore_scan(j->part, j->dir_fd, j->old, j->changed, &j->e);
}

static bool start_scan(struct fstore_space *sp, enum fstore_part part);

/* The new snapshot takes the place of the one before. */
static void take_snapshot(struct fstore_records *rs, struct scan_job *j)
{
	struct fstore_snapshot *s = j->found;
	if (s == NULL) {
		rs->watch.all = true;
		return;
	}
	s->holders = 1;
	s->watched = j->watched;
	s->revision = s->same && j->old != NULL ? j->old->revision : ++j->job.store->revisions;
	fstore_snapshot_release(j->job.store, rs->snapshot);
	rs->snapshot = s;
	rs->stale = false;
}

/* Answers all of the list R; E when S is NULL. */
static void answer_all(struct fstore_request *r, enum fstore_part part,
    const struct fstore_snapshot *s, const struct err *e)
{
	while (r != NULL) {
		struct fstore_request *next = r->next;
		r->failed = s == NULL;
		if (s == NULL) {
			r->e = *e;
		}
		answer(r, part, s);
		r = next;
	}
}

static void free_scan(struct scan_job *j)
{
	if (j->changed != NULL) {
		fstore_names_clear(j->changed);
		free(j->changed);
	}
	fd_close(&j->dir_fd);
	free(j);
}

static void end_scan(struct fstore_job *base)
{
	struct scan_job *j = container_of(base, struct scan_job, job);
	struct fstore_space *sp = j->space;
	struct fstore_records *rs = &sp->records[j->part];
	take_snapshot(rs, j);
	struct fstore_snapshot *s = j->found;
	if (s != NULL) {
		s->holders++;
	}
	answer_all(steal(&rs->scanned), j->part, s, &j->e);
	rs->scanning = false;
	if (rs->waiting != NULL && s != NULL && s->watched &&
	    is_current(sp->store, rs, j->dir_fd)) {
		/* Nothing has changed since it was begun: they need no other. */
		answer_all(steal(&rs->waiting), j->part, s, NULL);
	} else if (rs->waiting != NULL && !sp->store->closed) {
		(void)start_scan(sp, j->part);
	}
	fstore_snapshot_release(sp->store, s);
	fstore_snapshot_release(sp->store, j->old);
	fstore_space_release(sp);
	free_scan(j);
}

/* What is known to have changed goes to the scan, which begins after this. */
static void take_changes(struct fstore_space *sp, struct scan_job *j)
{
	struct fstore_records *rs = &sp->records[j->part];
	struct fstore_watch *w = &rs->watch;
	bool before = w->wd >= 0;
	j->watched = fstore_watch_begin(sp->store, w, j->part, j->dir_fd);
	fstore_watches_read(sp->store);
	bool some = before && j->watched && !w->all && w->changed.count > 0 && j->old != NULL &&
		    j->old->watched && j->old->plain && j->part != FSTORE_DEPS;
	j->changed = some ? malloc(sizeof(*j->changed)) : NULL;
	if (j->changed != NULL) {
		*j->changed = w->changed;
		w->changed.count = 0;
	}
	fstore_names_clear(&w->changed);
	w->all = !j->watched;
}

/* Scans for those that wait. One at a time: who comes later waits for the next, because what was
 * changed before he asked may have escaped this one. False: it cannot be, and they were told. */
static bool start_scan(struct fstore_space *sp, enum fstore_part part)
{
	struct fstore_records *rs = &sp->records[part];
	struct scan_job *j = calloc(1, sizeof(*j));
	int fd = j == NULL ? -ENOMEM : fstore_space_dup(sp, part, false);
	if (fd < 0) {
		struct err e;
		(void)fstore_error(&e, -fd, "the store");
		free(j);
		answer_all(steal(&rs->waiting), part, NULL, &e);
		return false;
	}
	j->space = sp;
	j->part = part;
	j->dir_fd = fd;
	j->old = rs->snapshot;
	if (j->old != NULL) {
		j->old->holders++;
	}
	take_changes(sp, j);
	rs->stale = rs->waiting != NULL;
	rs->scanning = true;
	rs->scanned = steal(&rs->waiting);
	fstore_space_hold(sp);
	fstore_job_start(&j->job, sp->store, run_scan, end_scan);
	return true;
}

/* What was told of is taken for all there is, for a while; then all is looked at, without anybody
 * waiting for it. */
static void recheck(struct fstore_space *sp, enum fstore_part part)
{
	const struct fstore_records *rs = &sp->records[part];
	if (rs->snapshot->watched && !rs->scanning &&
	    clock_mono_ms() - rs->snapshot->scanned_ms >= FSTORE_RECHECK_MS) {
		(void)start_scan(sp, part);
	}
}

/* Answers R (list, or get with its name) from the snapshot when it is current, else after a scan.
 */
static struct store_request *read_records(
    struct fstore_space *sp, enum fstore_part part, struct fstore_request *r)
{
	struct fstore_records *rs = &sp->records[part];
	int fd = fstore_space_dir(sp, part, false);
	if (fd == -ENOENT) {
		/* Nothing was ever put into this space. */
		json_t *none = json_array();
		fstore_request_answer(r, none, 0);
		json_decref(none);
		return NULL;
	}
	if (fd < 0) {
		(void)fstore_error(&r->e, -fd, "the store");
		return refuse(r);
	}
	if (is_current(sp->store, rs, fd)) {
		recheck(sp, part);
		answer(r, part, rs->snapshot);
		return NULL;
	}
	r->next = rs->waiting;
	rs->waiting = r;
	return rs->scanning || start_scan(sp, part) ? &r->base : NULL;
}

/* A request of a space that is there; NULL when memory is out, and then FN cannot be told why. */
static struct fstore_request *new_request(struct fstore *st, const struct store_space *space,
    enum fstore_part part, void *ctx, struct fstore_space **sp)
{
	struct fstore_request *r = fstore_request_new(st, ctx);
	*sp = fstore_space_find(st, space, part);
	if (r == NULL || *sp == NULL) {
		free(r);
		return NULL;
	}
	return r;
}

struct store_request *fstore_list(struct store *st, const struct store_space *space,
    enum store_kind kind, store_list_fn fn, void *ctx)
{
	struct fstore_space *sp;
	struct fstore_request *r = new_request(
	    store_of(st), space, (enum fstore_part)kind, ctx, &sp);
	if (r == NULL) {
		fn(ctx, NULL, 0, &(struct err){.code = ERR_INTERNAL, .text = "out of memory"});
		return NULL;
	}
	r->list = fn;
	return read_records(sp, (enum fstore_part)kind, r);
}

struct store_request *fstore_get(struct store *st, const struct store_space *space,
    enum store_kind kind, const char *name, store_get_fn fn, void *ctx)
{
	struct fstore_space *sp;
	enum fstore_part part = (enum fstore_part)kind;
	struct fstore_request *r = new_request(store_of(st), space, part, ctx, &sp);
	if (r == NULL) {
		fn(ctx, NULL, &(struct err){.code = ERR_INTERNAL, .text = "out of memory"});
		return NULL;
	}
	r->get = fn;
	(void)snprintf(r->name, sizeof(r->name), "%s", name);
	if (part != FSTORE_SKILLS) {
		return read_records(sp, part, r);
	}
	/* One small file: nothing else needs to be looked at. */
	int fd = fstore_space_dir(sp, part, false);
	if (fd >= 0) {
		r->failed = fstore_read_skill(fd, name, &r->record, &r->e) < 0;
	} else if (fd != -ENOENT) {
		r->failed = fstore_error(&r->e, -fd, "the store") < 0;
	}
	fstore_request_answer(r, NULL, 0);
	return NULL;
}

/* --- changing -----------------------------------------------------------------------------------
 */

struct change_job {
	struct fstore_job job;
	struct fstore_space *space;
	enum fstore_part part;
	int dir_fd;
	bool removal;
	char name[STORE_NAME_MAX + 1];
	struct buf text, side; /* what to write; SIDE: empty for none */
	struct fstore_request *r;
};

/* Writes TEXT under NAME, whole. 0 or -errno. */
static int write_whole(int dir_fd, const char *name, const struct buf *text)
{
	char temp[FSTORE_TEMP_BYTES];
	int r = fstore_temp_write(dir_fd, buf_str(text), text->len, temp);
	if (r == 0 && renameat(dir_fd, temp, dir_fd, name) < 0) {
		r = -errno;
		(void)unlinkat(dir_fd, temp, 0);
	}
	return r;
}

static int remove_file(int dir_fd, const char *name, bool *changed)
{
	if (unlinkat(dir_fd, name, 0) == 0) {
		*changed = true;
		return 0;
	}
	return errno == ENOENT ? 0 : -errno;
}

static int change_skill(struct change_job *j)
{
	char file[STORE_NAME_MAX + 16];
	char side[STORE_NAME_MAX + 16];
	bool dropped;
	(void)snprintf(file, sizeof(file), "%s.py", j->name);
	(void)snprintf(side, sizeof(side), ".%s.json", j->name);
	if (j->removal) {
		int r = remove_file(j->dir_fd, file, &j->r->changed);
		return r < 0 ? r : remove_file(j->dir_fd, side, &dropped);
	}
	/* Should this end between the two, the sidecar is about another source, and not read. */
	int r = write_whole(j->dir_fd, file, &j->text);
	if (r < 0) {
		return r;
	}
	return j->side.len > 0 ? write_whole(j->dir_fd, side, &j->side)
			       : remove_file(j->dir_fd, side, &dropped);
}

/* A tool's file may have another name than the tool. */
static int change_tool(struct change_job *j)
{
	char file[STORE_NAME_MAX + 16];
	(void)snprintf(file, sizeof(file), "%s.yaml", j->name);
	struct fstore_snapshot *s = fstore_scan(FSTORE_TOOLS, j->dir_fd, NULL, NULL, &j->r->e);
	if (s == NULL) {
		return -EIO;
	}
	int r = 0;
	bool written = false;
	for (size_t i = 0; r == 0 && i < s->count; i++) {
		const char *name = json_string_value(json_object_get(s->files[i].record, "name"));
		if (name == NULL || strcmp(name, j->name) != 0) {
			continue;
		}
		if (j->removal) {
			r = remove_file(j->dir_fd, s->files[i].file, &j->r->changed);
		} else if (!written) {
			r = write_whole(j->dir_fd, s->files[i].file, &j->text);
			written = true;
		}
	}
	fstore_snapshot_free(s);
	return r == 0 && !j->removal && !written ? write_whole(j->dir_fd, file, &j->text) : r;
}

/* All lines but those of J's package, with its line at its place. */
static int join_lines(struct change_job *j, const json_t *records, struct buf *out)
{
	size_t i;
	json_t *record;
	char base[REQUIREMENT_MAX + 1];
	const char *add = j->removal ? NULL : buf_str(&j->text);
	int r = 0;
	json_array_foreach(records, i, record)
	{
		const char *line = json_string_value(record);
		if (strcmp(requirement_name(line, base), j->name) == 0) {
			j->r->changed = true;
			continue;
		}
		if (add != NULL && strcmp(add, line) < 0) {
			r = r < 0 ? r : buf_addf(out, "%s\n", add);
			add = NULL;
		}
		r = r < 0 ? r : buf_addf(out, "%s\n", line);
	}
	return r < 0 || add == NULL ? r : buf_addf(out, "%s\n", add);
}

static int change_requirement(struct change_job *j)
{
	struct fstore_snapshot *s = fstore_scan(FSTORE_DEPS, j->dir_fd, NULL, NULL, &j->r->e);
	if (s == NULL) {
		return -EIO;
	}
	cleanup(buf_fini) struct buf text = BUF_INIT(STORE_RECORD_MAX_BYTES);
	int r = join_lines(j, s->records, &text);
	fstore_snapshot_free(s);
	if (r < 0 || (j->removal && !j->r->changed)) {
		return r;
	}
	return write_whole(j->dir_fd, "requirements.txt", &text);
}

static void run_change(struct fstore_job *base)
{
	struct change_job *j = container_of(base, struct change_job, job);
	cleanup(fd_close) int lock = fstore_lock(j->dir_fd);
	int r = lock;
	if (r >= 0) {
		r = j->part == FSTORE_SKILLS  ? change_skill(j)
		    : j->part == FSTORE_TOOLS ? change_tool(j)
					      : change_requirement(j);
	}
	if (r >= 0 && fsync(j->dir_fd) < 0) {
		r = -errno;
	}
	r = r < 0 ? r : fstore_space_flush(j->space, j->part, j->dir_fd);
	j->r->failed = r < 0;
	if (r < 0 && j->r->e.code == ERR_NONE) {
		(void)fstore_error(&j->r->e, -r, j->name);
	}
	if (r >= 0 && !j->removal) {
		j->r->changed = true;
	}
}

static void free_change(struct change_job *j)
{
	fd_close(&j->dir_fd);
	buf_fini(&j->text);
	buf_fini(&j->side);
	free(j);
}

static void end_change(struct fstore_job *base)
{
	struct change_job *j = container_of(base, struct change_job, job);
	fstore_watches_read(base->store); /* before they are too many for the kernel to keep */
	fstore_request_answer(j->r, NULL, 0);
	fstore_space_release(j->space);
	free_change(j);
}

/* What is written for RECORD. 0 or -errno. */
static int render(struct change_job *j, const json_t *record)
{
	if (j->part == FSTORE_DEPS) {
		return buf_add_str(&j->text, json_string_value(record));
	}
	if (j->part == FSTORE_SKILLS) {
		const json_t *source = json_object_get(record, "source");
		(void)fstore_side_text(record, &j->side);
		return buf_add(&j->text, json_string_value(source), json_string_length(source));
	}
	/* JSON is YAML, and keeps what YAML would guess about. */
	json_t *named = json_copy((json_t *)(uintptr_t)record);
	(void)json_object_set_new(named, "name", json_string(j->name));
	char *text = json_dumps(named, JSON_INDENT(2));
	json_decref(named);
	int r = text == NULL ? -ENOMEM : buf_addf(&j->text, "%s\n", text);
	free(text);
	return r;
}

static int check_count(
    const struct fstore_space *sp, enum fstore_part part, const char *name, struct err *e)
{
	const struct fstore_snapshot *s = sp->records[part].snapshot;
	if (s != NULL && json_array_size(s->records) >= STORE_RECORDS_MAX &&
	    find_record(part, s->records, name) == NULL) {
		return err_set(
		    e, ERR_TOO_LARGE, "the store holds %d of these already", STORE_RECORDS_MAX);
	}
	if (s != NULL && s->bytes >= FSTORE_LIST_MAX_BYTES - STORE_RECORD_MAX_BYTES) {
		return err_set(e, ERR_TOO_LARGE, "the store holds %u MiB of these already",
		    FSTORE_LIST_MAX_BYTES >> 20);
	}
	return 0;
}

/* RECORD NULL: removes. */
static struct store_request *change(struct store *base, const struct store_space *space,
    enum store_kind kind, const char *name, const json_t *record, store_done_fn fn, void *ctx)
{
	struct fstore *st = store_of(base);
	enum fstore_part part = (enum fstore_part)kind;
	struct fstore_space *sp;
	struct fstore_request *r = new_request(st, space, part, ctx, &sp);
	struct change_job *j = calloc(1, sizeof(*j));
	if (r == NULL || j == NULL) {
		free(r);
		free(j);
		fn(ctx, false, &(struct err){.code = ERR_INTERNAL, .text = "out of memory"});
		return NULL;
	}
	r->done = fn;
	*j = (struct change_job){.space = sp,
	    .part = part,
	    .removal = record == NULL,
	    .text = BUF_INIT(2 * STORE_RECORD_MAX_BYTES),
	    .side = BUF_INIT(2 * STORE_RECORD_MAX_BYTES),
	    .r = r};
	(void)snprintf(j->name, sizeof(j->name), "%s", name);
	j->dir_fd = fstore_space_dup(sp, part, record != NULL);
	int failed = j->dir_fd < 0 ? j->dir_fd : record != NULL ? render(j, record) : 0;
	if (failed == -ENOENT && record == NULL) {
		free_change(j);
		fstore_request_answer(r, NULL, 0); /* there is nothing in this space */
		return NULL;
	}
	if (failed < 0 || (record != NULL && check_count(sp, part, name, &r->e) < 0)) {
		if (failed < 0) {
			(void)fstore_error(&r->e, -failed, name);
		}
		free_change(j);
		return refuse(r);
	}
	fstore_space_hold(sp);
	fstore_job_start(&j->job, st, run_change, end_change);
	return &r->base;
}

struct store_request *fstore_put(struct store *st, const struct store_space *space,
    enum store_kind kind, const char *name, const json_t *record, store_done_fn fn, void *ctx)
{
	return change(st, space, kind, name, record, fn, ctx);
}

struct store_request *fstore_remove(struct store *st, const struct store_space *space,
    enum store_kind kind, const char *name, store_done_fn fn, void *ctx)
{
	return change(st, space, kind, name, NULL, fn, ctx);
}
