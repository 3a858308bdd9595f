#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "api/aca.h"
#include "api/aca_entry.h"
#include "api/aca_session_wait.h"
#include "base/compiler.h"
#include "base/text.h"

#define PARTS_MAX 32                  /* files in one request */
#define COMING_MAX_BYTES (256U << 10) /* that wait for the thread; then the body does */

/* The beginning of a part, or bytes of it. */
struct step {
	struct step *prev, *next;
	unsigned part;
	char *filename; /* NULL: bytes */
	size_t len;
	char bytes[];
};

/* Files of one request. None is under its name before all of the request has been read. What
 * touches the session's files a thread does, step by step, while the body goes on being read; while
 * it does (WORKING) the fields below TAKEN are its own. */
struct uploading {
	struct engine_job job;
	struct call *call; /* NULL: answered, or the client has left */
	struct aca_hold hold;
	struct step *coming;
	size_t coming_bytes;
	unsigned count; /* parts that were begun */
	bool working;
	bool paused; /* the body */
	bool whole;  /* all of the body is there */
	bool old;    /* which shape is answered */

	struct step *taken;
	bool committing;
	struct files_path directory;
	struct files_upload parts[PARTS_MAX];
	int result;
	const char *target; /* of E */
	struct err e;
};

static void free_steps(struct step **list)
{
	struct step *s;
	while ((s = *list) != NULL) {
		DL_DELETE(*list, s);
		free(s->filename);
		free(s);
	}
}

/* --- on the thread -------------------------------------------------------------------------------
 */

/* A file name may be a path: relative to where the upload goes, or beneath /mnt/data, whose first
 * slash may be missing as in files/content. DIRECTORY becomes that of the file; returns the name,
 * or NULL with *E. */
static const char *split_name(const char *filename, struct files_path *directory, struct err *e)
{
	const char *slash = strrchr(filename, '/');
	const char *inside = &FILES_ROOT[1];
	if (text_has_prefix(filename, inside) && filename[strlen(inside)] == '/') {
		filename += strlen(inside) + 1;
		*directory = (struct files_path){{0}};
		if (filename > slash) {
			return filename;
		}
	}
	if (slash == NULL) {
		return filename;
	}
	cleanup(text_free) char *path = strndup(filename, (size_t)(slash - filename) + 1);
	if (path == NULL) {
		(void)err_set(e, ERR_INTERNAL, "out of memory");
		return NULL;
	}
	return files_path_add(directory, path, e) < 0 ? NULL : slash + 1;
}

static int begin_part(struct uploading *u, struct files_upload *part, const char *filename)
{
	struct files_path directory = u->directory;
	const char *name = split_name(filename, &directory, &u->e);
	return name == NULL ? -1
			    : files_upload_begin(part, u->hold.dir_fd, &directory, name,
				  ACA_FILE_MAX_BYTES, &u->e);
}

static int take_step(struct uploading *u, const struct step *s)
{
	struct files_upload *part = &u->parts[s->part];
	u->target = s->filename != NULL ? "filename" : "file";
	return s->filename != NULL ? begin_part(u, part, s->filename)
				   : files_upload_write(part, s->bytes, s->len, &u->e);
}

static void upload_run(struct engine_job *job)
{
	struct uploading *u = container_of(job, struct uploading, job);
	const struct step *s;
	DL_FOREACH(u->taken, s)
	{
		u->result = u->result < 0 ? u->result : take_step(u, s);
	}
	for (unsigned i = 0; u->committing && u->result == 0 && i < u->count; i++) {
		u->target = "file";
		u->result = files_upload_commit(&u->parts[i], &u->e);
	}
}

static void abort_run(struct engine_job *job)
{
	struct uploading *u = container_of(job, struct uploading, job);
	for (unsigned i = 0; i < PARTS_MAX; i++) {
		files_upload_abort(&u->parts[i]);
	}
}

static void abort_done(struct engine_job *job, bool ran)
{
	struct uploading *u = container_of(job, struct uploading, job);
	if (!ran) {
		abort_run(job); /* without a thread here, then */
	}
	aca_hold_release(&u->hold);
	free_steps(&u->taken);
	free_steps(&u->coming);
	free(u);
}

/* Nobody waits for it any more: what it has begun is undone, and it is freed. */
static void forget(struct uploading *u)
{
	u->call = NULL;
	if (u->working) {
		engine_work_cancel(u->hold.engine, &u->job);
		return;
	}
	u->job = (struct engine_job){.run = abort_run, .done = abort_done};
	aca_hold_work(&u->hold, &u->job);
}

static void on_gone(struct call *c)
{
	forget(c->ctx);
}

/* Gives up and answers with E; returns -1. */
static int fail_err(struct call *c, const struct err *e, const char *target)
{
	struct aca_problem p;
	struct uploading *u = c->ctx;
	(void)aca_problem_err(&p, e, target);
	c->ctx = NULL;
	c->gone = NULL;
	forget(u);
	aca_fail(c, &p);
	return -1;
}

static void reply(struct uploading *u);

static int go_on(struct uploading *u);

static void upload_done(struct engine_job *job, bool ran)
{
	struct uploading *u = container_of(job, struct uploading, job);
	struct call *c = u->call;
	u->working = false;
	free_steps(&u->taken);
	if (c == NULL) {
		forget(u);
	} else if (!ran || u->result < 0) {
		struct err e = u->e;
		if (!ran) {
			aca_hold_gone(&e);
		}
		(void)fail_err(c, &e, ran ? u->target : NULL);
	} else if (u->committing) {
		reply(u);
	} else if (go_on(u) == 0 && u->paused) {
		u->paused = false;
		call_continue(c);
	}
}

/* Hands what has come to the thread. 0, or -1 having answered. */
static int go_on(struct uploading *u)
{
	if (u->working || (u->coming == NULL && !u->whole)) {
		return 0;
	}
	/* The directory is only lent: by this session, while it lasts. */
	if (aca_hold_session(&u->hold) == NULL) {
		struct err e;
		(void)err_set(&e, ERR_GONE, "the session ended during the upload");
		return fail_err(u->call, &e, NULL);
	}
	u->committing = u->whole;
	u->taken = steal(&u->coming);
	u->coming_bytes = 0;
	u->job = (struct engine_job){.run = upload_run, .done = upload_done};
	u->working = true;
	aca_hold_work(&u->hold, &u->job);
	return 0;
}

/* One more step, of LEN bytes or with a file name. 0, or -1 having answered. */
static int add_step(struct uploading *u, const char *filename, const char *bytes, size_t len)
{
	struct step *s = malloc(sizeof(*s) + len);
	char *own = filename != NULL ? strdup(filename) : NULL;
	if (s == NULL || (filename != NULL && own == NULL)) {
		struct err e;
		free(s);
		free(own);
		(void)err_set(&e, ERR_INTERNAL, "out of memory");
		return fail_err(u->call, &e, "file");
	}
	*s = (struct step){.part = u->count - 1, .filename = own, .len = len};
	if (len > 0) {
		memcpy(s->bytes, bytes, len);
	}
	DL_APPEND(u->coming, s);
	u->coming_bytes += len;
	if (go_on(u) < 0) {
		return -1;
	}
	if (u->coming_bytes >= COMING_MAX_BYTES && !u->paused) {
		u->paused = true;
		call_pause(u->call);
	}
	return 0;
}

/* --- before the body -----------------------------------------------------------------------------
 */

static int directory_of(struct call *c, struct files_path *out, struct aca_problem *p)
{
	const char *path = call_query(c, "path");
	struct err e;
	if (path != NULL && files_path_add(out, path, &e) < 0) {
		return aca_problem_err(p, &e, "path");
	}
	return 0;
}

static void on_dir(struct call *c, const struct aca_hold *hold, bool later)
{
	struct aca_problem p;
	struct uploading *u = calloc(1, sizeof(*u));
	if (u == NULL) {
		struct aca_hold mine = *hold;
		aca_hold_release(&mine);
		(void)aca_problem(&p, ACA_INTERNAL, NULL, "out of memory");
		aca_fail(c, &p);
		return;
	}
	u->call = c;
	u->hold = *hold;
	for (unsigned i = 0; i < PARTS_MAX; i++) {
		u->parts[i] = FILES_UPLOAD_INIT;
	}
	(void)directory_of(c, &u->directory, &p); /* was checked by begin */
	c->ctx = u;
	c->gone = on_gone;
	if (later) {
		call_continue(c);
	}
}

enum call_next aca_upload_begin(struct call *c)
{
	struct aca_problem p;
	struct aca_where where;
	struct files_path directory = {{0}};
	if (aca_where(c, NULL, &where, &p) < 0 || directory_of(c, &directory, &p) < 0) {
		aca_fail(c, &p);
		return CALL_GO_ON;
	}
	return aca_with_dir(c, &where, on_dir) ? CALL_GO_ON : CALL_WAIT;
}

/* --- the parts
 * ------------------------------------------------------------------------------------ */

static int on_part(struct call *c, const char *field, const char *filename)
{
	(void)field;
	struct uploading *u = c->ctx;
	struct err e;
	if (u == NULL) {
		return -1;
	}
	if (filename == NULL) {
		(void)err_set(&e, ERR_INVALID, "the part 'file' has no filename");
		return fail_err(c, &e, "filename");
	}
	if (u->count == PARTS_MAX) {
		(void)err_set(&e, ERR_INVALID, "a request can bring at most %d files", PARTS_MAX);
		return fail_err(c, &e, "file");
	}
	u->count++;
	return add_step(u, filename, NULL, 0);
}

static int on_data(struct call *c, const char *bytes, size_t len)
{
	struct uploading *u = c->ctx;
	return u == NULL || u->count == 0 ? -1 : add_step(u, NULL, bytes, len);
}

static int on_end(struct call *c)
{
	return c->ctx == NULL ? -1 : 0;
}

const struct call_upload aca_upload = {.part = on_part, .data = on_data, .end = on_end};

/* --- all is read
 * ---------------------------------------------------------------------------------- */

static void reply(struct uploading *u)
{
	struct call *c = u->call;
	struct pool_metrics *m = &u->hold.pool->metrics;
	json_t *entries = json_array();
	unsigned id = 2;
	for (unsigned i = 0; i < u->count; i++) {
		const struct files_entry *f = &u->parts[i].entry;
		m->uploads++;
		m->upload_bytes += u->parts[i].bytes;
		(void)json_array_append_new(
		    entries, u->old ? aca_entry_old(f, &id) : aca_entry_new(f));
	}
	json_t *answer;
	if (u->old) {
		answer = aca_entries_old(entries);
	} else if (u->count == 1) {
		answer = json_incref(json_array_get(entries, 0));
		json_decref(entries);
	} else {
		answer = json_pack("{s:o}", "value", entries);
	}
	c->ctx = NULL;
	c->gone = NULL;
	forget(u);
	call_reply_json(c, 200, answer);
}

static void done(struct call *c, bool old)
{
	struct uploading *u = c->ctx;
	if (u == NULL) {
		return;
	}
	if (u->count == 0) {
		struct err e;
		(void)err_set(&e, ERR_INVALID, "the body has no part 'file' with a filename");
		(void)fail_err(c, &e, "file");
		return;
	}
	u->old = old;
	u->whole = true;
	(void)go_on(u);
}

void aca_upload_done_old(struct call *c)
{
	done(c, true);
}

/* One file is answered with itself, several with a collection. */
void aca_upload_done(struct call *c)
{
	done(c, false);
}
