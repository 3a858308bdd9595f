/* Directories and spaces of the files backend: opened, found, forgotten. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/text.h"
#include "store/discard.h"
#include "store/files_internal.h"

static const char *const part_names[FSTORE_PARTS] = {"tools", "skills", "deps", "artifacts"};

/* --- requests and jobs --------------------------------------------------------------------------
 */

static void store_release(struct fstore *st);

struct fstore_request *fstore_request_new(struct fstore *st, void *ctx)
{
	struct fstore_request *r = calloc(1, sizeof(*r));
	if (r != NULL) {
		r->base.ops = st->base.ops;
		r->store = st;
		r->ctx = ctx;
	}
	return r;
}

void fstore_request_answer(struct fstore_request *r, json_t *records, uint64_t revision)
{
	const struct err *e = r->failed ? &r->e : NULL;
	if (!r->internal && (r->cancelled || r->store->closed)) {
		/* Nobody waits any more. */
	} else if (r->list != NULL) {
		r->list(r->ctx, r->failed ? NULL : records, revision, e);
	} else if (r->get != NULL) {
		r->get(r->ctx, r->failed ? NULL : r->record, e);
	} else {
		r->done(r->ctx, !r->failed && r->changed, e);
	}
	json_decref(r->record);
	free(r);
}

static void cancel(struct store_request *base)
{
	((struct fstore_request *)(void *)base)->cancelled = true;
}

static void run_job(uv_work_t *work)
{
	struct fstore_job *j = container_of(work, struct fstore_job, work);
	j->run(j);
}

static void end_job(uv_work_t *work, int status)
{
	(void)status; /* jobs are never cancelled: what was begun is brought to its end */
	struct fstore_job *j = container_of(work, struct fstore_job, work);
	struct fstore *st = j->store;
	j->done(j);
	store_release(st);
}

void fstore_job_start(struct fstore_job *j, struct fstore *st, void (*run)(struct fstore_job *j),
    void (*done)(struct fstore_job *j))
{
	j->store = st;
	j->run = run;
	j->done = done;
	st->holders++;
	(void)uv_queue_work(st->loop, &j->work, run_job, end_job);
}

/* --- spaces -------------------------------------------------------------------------------------
 */

static bool same_text(const char *a, const char *b)
{
	return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static void free_snapshot(void *snapshot)
{
	fstore_snapshot_free(snapshot);
}

void fstore_snapshot_release(struct fstore *st, struct fstore_snapshot *s)
{
	if (s != NULL && --s->holders == 0) {
		discard(st->loop, free_snapshot, s);
	}
}

static void space_free(struct fstore_space *sp)
{
	struct fstore *st = sp->store;
	if (sp->prev != NULL) {
		sp->prev->next = sp->next;
	} else {
		st->spaces = sp->next;
	}
	if (sp->next != NULL) {
		sp->next->prev = sp->prev;
	}
	st->space_count--;
	for (int i = 0; i < FSTORE_PARTS; i++) {
		fd_close(&sp->fds[i]);
	}
	for (int i = 0; i < FSTORE_ARTIFACTS; i++) {
		fstore_watch_end(st, &sp->records[i].watch);
		fstore_snapshot_release(st, sp->records[i].snapshot);
	}
	json_decref(sp->artifacts.records);
	fstore_index_release(sp->artifacts.index);
	fstore_index_release(sp->artifacts.records_of);
	free(sp->prefix);
	free(sp->workspace);
	free(sp);
}

/* Forgets the space unused longest when there are too many; one in use is not forgotten, so there
 * may be more for a while. */
static void make_room(struct fstore *st)
{
	if (st->space_count < FSTORE_SPACES_MAX) {
		return;
	}
	struct fstore_space *oldest = NULL;
	for (struct fstore_space *sp = st->spaces; sp != NULL; sp = sp->next) {
		if (sp->holders == 0 && (oldest == NULL || sp->used < oldest->used)) {
			oldest = sp;
		}
	}
	if (oldest != NULL) {
		space_free(oldest);
	}
}

static struct fstore_space *space_new(struct fstore *st, const char *prefix, const char *workspace)
{
	make_room(st);
	struct fstore_space *sp = calloc(1, sizeof(*sp));
	if (sp == NULL) {
		return NULL;
	}
	sp->store = st;
	sp->prefix = prefix != NULL ? strdup(prefix) : NULL;
	sp->workspace = workspace != NULL ? strdup(workspace) : NULL;
	for (int i = 0; i < FSTORE_PARTS; i++) {
		sp->fds[i] = -1;
	}
	for (int i = 0; i < FSTORE_ARTIFACTS; i++) {
		sp->records[i].watch.wd = -1;
	}
	sp->artifacts.changes_end = &sp->artifacts.changes;
	sp->next = st->spaces;
	if (sp->next != NULL) {
		sp->next->prev = sp;
	}
	st->spaces = sp;
	st->space_count++;
	return sp;
}

struct fstore_space *fstore_space_find(
    struct fstore *st, const struct store_space *space, enum fstore_part part)
{
	bool shared = part == FSTORE_TOOLS || part == FSTORE_DEPS;
	const char *workspace = shared ? NULL : space->workspace;
	struct fstore_space *sp = st->spaces;
	while (sp != NULL &&
	       (!same_text(sp->prefix, space->prefix) || !same_text(sp->workspace, workspace))) {
		sp = sp->next;
	}
	sp = sp != NULL ? sp : space_new(st, space->prefix, workspace);
	if (sp != NULL) {
		sp->used = ++st->uses;
	}
	return sp;
}

void fstore_space_hold(struct fstore_space *sp)
{
	sp->holders++;
	sp->store->holders++;
}

void fstore_space_release(struct fstore_space *sp)
{
	struct fstore *st = sp->store;
	sp->holders--;
	store_release(st);
}

/* --- directories --------------------------------------------------------------------------------
 */

/* Where the part of a space lies: beneath which descriptor, and by which path. */
static int place_of(const struct fstore_space *sp, enum fstore_part part, char *path, size_t max)
{
	const struct fstore *st = sp->store;
	const char *name = part_names[part];
	if (sp->prefix == NULL && sp->workspace == NULL) {
		path[0] = '\0';
		return st->part_fds[part];
	}
	if (sp->prefix == NULL) {
		(void)snprintf(path, max, "%s/%s", sp->workspace, name);
		return st->workspaces_fd;
	}
	if (sp->workspace == NULL) {
		(void)snprintf(path, max, "%s/%s", sp->prefix, name);
	} else {
		(void)snprintf(path, max, "%s/workspaces/%s/%s", sp->prefix, sp->workspace, name);
	}
	return st->dir_fd;
}

int fstore_space_dir(struct fstore_space *sp, enum fstore_part part, bool make)
{
	struct stat st;
	char path[512];
	int at = place_of(sp, part, path, sizeof(path));
	if (path[0] == '\0') {
		return at;
	}
	if (sp->fds[part] >= 0 && fstat(sp->fds[part], &st) == 0 && st.st_nlink > 0) {
		return sp->fds[part];
	}
	fd_close(&sp->fds[part]);
	bool made = false;
	sp->fds[part] = make ? fstore_make_directories(at, path, strlen(path), &made)
			     : fd_open_beneath(at, path, O_RDONLY | O_DIRECTORY, 0);
	int fd = sp->fds[part];
	if (made) {
		atomic_store(&sp->made[part], true);
	}
	sp->fds[part] = fd < 0 ? -1 : fd;
	return fd;
}

int fstore_space_flush(struct fstore_space *sp, enum fstore_part part, int dir_fd)
{
	char path[512];
	unsigned levels = 1;
	if (!atomic_exchange(&sp->made[part], false)) {
		return 0;
	}
	(void)place_of(sp, part, path, sizeof(path));
	for (const char *at = path; *at != '\0'; at++) {
		levels += *at == '/';
	}
	int r = fstore_flush_above(dir_fd, levels);
	if (r < 0) {
		atomic_store(&sp->made[part], true);
	}
	return r;
}

int fstore_space_dup(struct fstore_space *sp, enum fstore_part part, bool make)
{
	int fd = fstore_space_dir(sp, part, make);
	int copy = fd < 0 ? fd : fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return copy < 0 && fd >= 0 ? -errno : copy;
}

/* Beneath the store, wherever that lies: whose session or client this goes to has no business with
 * the server's own paths. */
int fstore_artifacts_path(
    const struct store *base, const struct store_space *space, struct buf *out)
{
	(void)base;
	int r = space->prefix != NULL ? buf_addf(out, "%s/", space->prefix) : 0;
	if (r == 0 && space->workspace != NULL) {
		r = buf_addf(out, "workspaces/%s/", space->workspace);
	}
	return r < 0 ? r : buf_add_str(out, "artifacts");
}

/* --- the store ----------------------------------------------------------------------------------
 */

static void store_release(struct fstore *st)
{
	if (--st->holders > 0) {
		return;
	}
	while (st->spaces != NULL) {
		space_free(st->spaces);
	}
	for (int i = 0; i < FSTORE_PARTS; i++) {
		fd_close(&st->part_fds[i]);
		free(st->paths[i]);
	}
	fd_close(&st->dir_fd);
	fd_close(&st->workspaces_fd);
	fd_close(&st->watches_fd);
	free(st->workspaces);
	free(st->dir);
	free(st);
}

static void free_store(struct store *base)
{
	struct fstore *st = (struct fstore *)(void *)base;
	st->closed = true;
	store_release(st);
}

static const char *describe(const struct store *base)
{
	return ((const struct fstore *)(const void *)base)->dir;
}

static const struct store_backend files_ops = {
    .free = free_store,
    .describe = describe,
    .artifacts_path = fstore_artifacts_path,
    .list = fstore_list,
    .get = fstore_get,
    .put = fstore_put,
    .remove = fstore_remove,
    .artifact_list = fstore_artifact_list,
    .artifact_get = fstore_artifact_get,
    .artifact_delete = fstore_artifact_delete,
    .artifact_register = fstore_artifact_register,
    .artifact_write = fstore_artifact_write,
    .writer_add = fstore_writer_add,
    .writer_on_room = fstore_writer_on_room,
    .writer_abort = fstore_writer_abort,
    .artifact_read = fstore_artifact_read,
    .reader_read = fstore_reader_read,
    .reader_on_more = fstore_reader_on_more,
    .reader_close = fstore_reader_close,
    .cancel = cancel,
};

/* Opens the operator's PATH, making it and what leads to it; links in it are the operator's. *REAL
 * is it without links, the caller's. A descriptor, or -1 with E. */
static int open_configured(const char *path, char **real, struct err *e)
{
	cleanup(text_free) char *copy = strdup(path);
	for (char *at = copy; copy != NULL && (at = strchr(at + 1, '/')) != NULL; *at = '/') {
		*at = '\0';
		(void)mkdir(copy, 0777);
	}
	if (mkdir(path, 0777) < 0 && errno != EEXIST) {
		return err_set_os(e, errno, "the store's directory %s cannot be made", path);
	}
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0) {
		return err_set_os(e, errno, "the store's directory %s cannot be opened", path);
	}
	*real = realpath(path, NULL);
	if (*real == NULL) {
		(void)close(fd);
		return err_set_os(e, errno, "the store's directory %s", path);
	}
	return fd;
}

static bool is_within(const char *path, const char *dir)
{
	size_t n = strlen(dir);
	return strncmp(path, dir, n) == 0 &&
	       (path[n] == '\0' || path[n] == '/' || strcmp(dir, "/") == 0);
}

/* Artifacts have names with '/', so what lies beneath their directory could be read and written by
 * the server's own space. */
static int check_artifacts_apart(const struct fstore *st, struct err *e)
{
	const char *others[] = {st->dir, st->workspaces, st->paths[FSTORE_TOOLS],
	    st->paths[FSTORE_SKILLS], st->paths[FSTORE_DEPS]};
	for (size_t i = 0; i < array_len(others); i++) {
		if (is_within(others[i], st->paths[FSTORE_ARTIFACTS])) {
			return err_set(e, ERR_INVALID,
			    "the artifacts directory %s must not hold the store's directory %s",
			    st->paths[FSTORE_ARTIFACTS], others[i]);
		}
	}
	return 0;
}

/* GIVEN, or NAME beneath the store's directory. */
static int open_part(
    const struct fstore *st, const char *given, const char *name, char **real, struct err *e)
{
	if (given != NULL) {
		return open_configured(given, real, e);
	}
	cleanup(buf_fini) struct buf path = BUF_INIT(8192);
	if (buf_addf(&path, "%s/%s", st->dir, name) < 0) {
		return err_set(e, ERR_INVALID, "the store's directory has too long a name");
	}
	return open_configured(buf_str(&path), real, e);
}

static int open_all(struct fstore *st, const struct store_config *c, struct err *e)
{
	const char *given[FSTORE_PARTS] = {
	    c->tools_dir, c->skills_dir, c->deps_dir, c->artifacts_dir};
	st->dir_fd = open_configured(c->dir, &st->dir, e);
	if (st->dir_fd < 0) {
		return -1;
	}
	for (int i = 0; i < FSTORE_PARTS; i++) {
		st->part_fds[i] = open_part(st, given[i], part_names[i], &st->paths[i], e);
		if (st->part_fds[i] < 0) {
			return -1;
		}
	}
	st->workspaces_fd = open_part(st, c->workspaces_dir, "workspaces", &st->workspaces, e);
	return st->workspaces_fd < 0 ? -1 : check_artifacts_apart(st, e);
}

struct store *files_backend_new(uv_loop_t *loop, const struct store_config *c, struct err *e)
{
	struct fstore *st = calloc(1, sizeof(*st));
	if (st == NULL) {
		(void)err_set(e, ERR_INTERNAL, "out of memory");
		return NULL;
	}
	st->base.ops = &files_ops;
	st->loop = loop;
	st->holders = 1;
	st->dir_fd = -1;
	st->workspaces_fd = -1;
	st->watches_fd = fstore_watches_open();
	for (int i = 0; i < FSTORE_PARTS; i++) {
		st->part_fds[i] = -1;
	}
	if (open_all(st, c, e) < 0) {
		store_release(st);
		return NULL;
	}
	for (int i = 0; i < FSTORE_PARTS; i++) {
		fstore_temp_sweep(st->part_fds[i]);
	}
	return &st->base;
}
