#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "api/aca.h"
#include "api/aca_entry.h"
#include "api/aca_list.h"
#include "api/aca_session_wait.h"
#include "base/fd.h"
#include "base/mime.h"
#include "base/text.h"

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

/* Checks the request, then calls RUN with the session's directory. */
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

/* For operations that are over when they return. */
static void release(const struct aca_hold *hold)
{
	struct aca_hold mine = *hold;
	aca_hold_release(&mine);
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

static void list_run(struct call *c, int dir_fd, const struct aca_hold *hold, bool later)
{
	(void)later;
	struct aca_problem p;
	struct aca_list_request r = {0};
	(void)list_of(c, &r, &p); /* was checked before */
	r.hold = *hold;
	aca_list_reply(c, dir_fd, &r);
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

static void show_run(struct call *c, int dir_fd, const struct aca_hold *hold, bool later)
{
	(void)later;
	struct aca_problem p;
	struct err e;
	struct files_path path = {{0}};
	struct files_entry entry;
	(void)file_of(c, &path, &p);
	int r = files_stat(dir_fd, &path, &entry, &e);
	release(hold);
	if (r < 0) {
		fail_err(c, &e);
		return;
	}
	unsigned id = 2;
	call_reply_json(c, 200,
	    aca_is_old_version(c) ? aca_entries_old(json_pack("[o]", aca_entry_old(&entry, &id)))
				  : aca_entry_new(&entry));
}

void aca_file_show(struct call *c)
{
	with_file(c, show_run);
}

/* --- GET files/{name}/content, GET files/content/{name...}
 * ---------------------------------------- */

static void content_done(void *ctx, uint64_t bytes)
{
	struct aca_hold *hold = ctx;
	hold->pool->metrics.downloads++;
	hold->pool->metrics.download_bytes += bytes;
	aca_hold_release(hold);
	free(hold);
}

static void content_run(struct call *c, int dir_fd, const struct aca_hold *hold, bool later)
{
	(void)later;
	struct aca_problem p;
	struct err e;
	struct files_path path = {{0}};
	struct files_entry entry;
	int fd = -1;
	(void)file_of(c, &path, &p);
	struct aca_hold *mine = malloc(sizeof(*mine));
	if (mine == NULL || files_open(dir_fd, &path, &fd, &entry, &e) < 0) {
		if (mine == NULL) {
			(void)err_set(&e, ERR_INTERNAL, "out of memory");
		}
		free(mine);
		release(hold);
		fail_err(c, &e);
		return;
	}
	*mine = *hold;
	/* A page or a drawing that a session made must not act as one of ours in a browser. */
	call_set_header(c, "Content-Security-Policy", "sandbox");
	call_reply_file(c, fd, entry.size_bytes, entry.modified_wall_us, mime_of_name(entry.name),
	    content_done, mine);
}

void aca_file_content(struct call *c)
{
	with_file(c, content_run);
}

/* --- DELETE files/{name} -------------------------------------------------------------------------
 */

static void delete_run(struct call *c, int dir_fd, const struct aca_hold *hold, bool later)
{
	(void)later;
	struct aca_problem p;
	struct err e;
	struct files_path path = {{0}};
	(void)file_of(c, &path, &p);
	int r = files_remove(dir_fd, &path, &e);
	release(hold);
	if (r < 0) {
		fail_err(c, &e);
	} else if (aca_is_old_version(c)) {
		call_reply_json(c, 200, json_pack("{s:s}", "message", "file deleted successfully"));
	} else {
		struct buf none = BUF_INIT(0);
		call_reply(c, 204, NULL, &none);
	}
}

void aca_file_delete(struct call *c)
{
	with_file(c, delete_run);
}
