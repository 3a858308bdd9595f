#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "api/aca.h"
#include "api/aca_entry.h"
#include "api/aca_session_wait.h"
#include "base/fd.h"
#include "base/text.h"

#define PARTS_MAX 32 /* files in one request */

/* Files of one request. None is under its name before all of the request has been read. */
struct uploading {
	struct aca_hold hold;
	int dir_fd;
	struct files_path directory;
	struct files_upload parts[PARTS_MAX];
	unsigned count;
};

static void uploading_free(struct uploading *u)
{
	for (unsigned i = 0; i < u->count; i++) {
		files_upload_abort(&u->parts[i]);
	}
	fd_close(&u->dir_fd);
	aca_hold_release(&u->hold);
	free(u);
}

static void on_gone(struct call *c)
{
	uploading_free(c->ctx);
}

/* Gives up and answers with P; returns -1. */
static int fail(struct call *c, const struct aca_problem *p)
{
	struct uploading *u = c->ctx;
	c->ctx = NULL;
	c->gone = NULL;
	uploading_free(u);
	aca_fail(c, p);
	return -1;
}

static int fail_err(struct call *c, const struct err *e, const char *target)
{
	struct aca_problem p;
	(void)aca_problem_err(&p, e, target);
	return fail(c, &p);
}

/* True when the session is still the one the upload began in; else the call has been answered. */
static bool still_there(struct call *c)
{
	const struct uploading *u = c->ctx;
	if (aca_hold_session(&u->hold) != NULL) {
		return true;
	}
	struct err e;
	(void)err_set(&e, ERR_GONE, "the session ended during the upload");
	(void)fail_err(c, &e, NULL);
	return false;
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

static void on_dir(struct call *c, int dir_fd, const struct aca_hold *hold, bool later)
{
	struct aca_problem p;
	struct uploading *u = calloc(1, sizeof(*u));
	int fd = u == NULL ? -1 : fcntl(dir_fd, F_DUPFD_CLOEXEC, 3);
	if (fd < 0) {
		struct aca_hold mine = *hold;
		free(u);
		aca_hold_release(&mine);
		(void)aca_problem(&p, ACA_INTERNAL, NULL, "out of memory or descriptors");
		aca_fail(c, &p);
		return;
	}
	u->hold = *hold;
	u->dir_fd = fd;
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

/* A file name may be a path: relative to where the upload goes, or beneath /mnt/data, whose first
 * slash may be missing as in files/content. DIRECTORY becomes that of the file; returns the name,
 * or NULL with *E. */
static const char *split_name(const char *filename, struct files_path *directory, struct err *e)
{
	const char *slash = strrchr(filename, '/');
	const char *inside = FILES_ROOT + 1;
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

static int on_part(struct call *c, const char *field, const char *filename)
{
	(void)field;
	struct uploading *u = c->ctx;
	if (u == NULL || !still_there(c)) {
		return -1;
	}
	struct err e;
	if (filename == NULL) {
		(void)err_set(&e, ERR_INVALID, "the part 'file' has no filename");
		return fail_err(c, &e, "filename");
	}
	if (u->count == PARTS_MAX) {
		(void)err_set(&e, ERR_INVALID, "a request can bring at most %d files", PARTS_MAX);
		return fail_err(c, &e, "file");
	}
	struct files_path directory = u->directory;
	const char *name = split_name(filename, &directory, &e);
	if (name == NULL || files_upload_begin(&u->parts[u->count], u->dir_fd, &directory, name,
				ACA_FILE_MAX_BYTES, &e) < 0) {
		return fail_err(c, &e, "filename");
	}
	u->count++;
	return 0;
}

static int on_data(struct call *c, const char *bytes, size_t len)
{
	struct uploading *u = c->ctx;
	if (u == NULL || u->count == 0 || !still_there(c)) {
		return -1;
	}
	struct err e;
	if (files_upload_write(&u->parts[u->count - 1], bytes, len, &e) < 0) {
		return fail_err(c, &e, "file");
	}
	return 0;
}

static int on_end(struct call *c)
{
	return c->ctx == NULL ? -1 : 0;
}

const struct call_upload aca_upload = {.part = on_part, .data = on_data, .end = on_end};

/* --- all is read
 * ---------------------------------------------------------------------------------- */

/* Puts every file under its name. 0, or -1 having answered. */
static int commit(struct call *c)
{
	struct uploading *u = c->ctx;
	struct err e;
	if (u->count == 0) {
		(void)err_set(&e, ERR_INVALID, "the body has no part 'file' with a filename");
		return fail_err(c, &e, "file");
	}
	if (!still_there(c)) {
		return -1;
	}
	struct pool_metrics *m = &u->hold.pool->metrics;
	for (unsigned i = 0; i < u->count; i++) {
		if (files_upload_commit(&u->parts[i], &e) < 0) {
			return fail_err(c, &e, "file");
		}
		m->uploads++;
		m->upload_bytes += u->parts[i].bytes;
	}
	return 0;
}

static void done(struct call *c, bool old)
{
	struct uploading *u = c->ctx;
	if (u == NULL || commit(c) < 0) {
		return;
	}
	json_t *entries = json_array();
	unsigned id = 2;
	for (unsigned i = 0; i < u->count; i++) {
		const struct files_entry *f = &u->parts[i].entry;
		(void)json_array_append_new(
		    entries, old ? aca_entry_old(f, &id) : aca_entry_new(f));
	}
	json_t *reply;
	if (old) {
		reply = aca_entries_old(entries);
	} else if (u->count == 1) {
		reply = json_incref(json_array_get(entries, 0));
		json_decref(entries);
	} else {
		reply = json_pack("{s:o}", "value", entries);
	}
	c->ctx = NULL;
	c->gone = NULL;
	uploading_free(u);
	call_reply_json(c, 200, reply);
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
