#include "approvals/kept.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "approvals/records_rows.h"
#include "base/base64.h"
#include "base/buf.h"
#include "base/fd.h"
#include "base/text.h"
#include "engine/files.h"

/* --- globs ---------------------------------------------------------------------------------------
 */

static int check_segment(const char *glob, const char *at, size_t len, struct err *e)
{
	if (len == 0 || (len == 1 && at[0] == '.') || (len == 2 && memcmp(at, "..", 2) == 0)) {
		return err_set(e, ERR_INVALID,
		    "promote.files: '%.200s' has a part that is empty, '.' or '..'", glob);
	}
	return 0;
}

int kept_glob_check(const char *glob, struct err *e)
{
	size_t total = strlen(glob);
	if (total == 0 || total > KEPT_GLOB_MAX_BYTES) {
		return err_set(
		    e, ERR_INVALID, "promote.files: a name has 1 to %d bytes", KEPT_GLOB_MAX_BYTES);
	}
	if (*glob == '/') {
		return err_set(e, ERR_INVALID,
		    "promote.files: '%.200s' begins with '/'; names are relative to " FILES_ROOT,
		    glob);
	}
	for (const char *c = glob; *c != '\0'; c++) {
		if ((unsigned char)*c < ' ' || *c == 0x7f || *c == '\\' || *c == '[') {
			return err_set(e, ERR_INVALID,
			    "promote.files: a name has no control characters, '\\' or '['");
		}
	}
	const char *at = glob;
	for (;;) {
		size_t len = strcspn(at, "/");
		if (check_segment(glob, at, len, e) < 0) {
			return -1;
		}
		if (at[len] == '\0') {
			return 0;
		}
		at += len + 1;
	}
}

/* One segment. Only the last '*' is ever tried again, which is enough. */
static bool segment_matches(const char *g, size_t glob_len, const char *n, size_t name_len)
{
	size_t i = 0, k = 0;
	size_t star = SIZE_MAX, star_at = 0;
	while (k < name_len) {
		if (i < glob_len && g[i] == '*') {
			star = i++;
			star_at = k;
		} else if (i < glob_len && (g[i] == '?' || g[i] == n[k])) {
			i++;
			k++;
		} else if (star != SIZE_MAX) {
			i = star + 1;
			k = ++star_at;
		} else {
			return false;
		}
	}
	while (i < glob_len && g[i] == '*') {
		i++;
	}
	return i == glob_len;
}

bool kept_glob_matches(const char *glob, const char *name)
{
	for (;;) {
		size_t g = strcspn(glob, "/");
		size_t n = strcspn(name, "/");
		/* As a shell has it: what is hidden is named. */
		bool hidden = name[0] == '.' && glob[0] != '.';
		if (hidden || !segment_matches(glob, g, name, n) ||
		    (glob[g] == '\0') != (name[n] == '\0')) {
			return false;
		}
		if (glob[g] == '\0') {
			return true;
		}
		glob += g + 1;
		name += n + 1;
	}
}

/* --- reading -------------------------------------------------------------------------------------
 */

struct reading {
	int dir_fd;
	const json_t *globs;
	json_t *files;
	json_t *list;
	size_t bytes;
};

static bool is_wanted(const struct reading *r, const char *name)
{
	size_t i;
	json_t *glob;
	json_array_foreach(r->globs, i, glob)
	{
		if (kept_glob_matches(json_string_value(glob), name)) {
			return true;
		}
	}
	return false;
}

static int add(struct reading *r, const char *name, const struct buf *bytes, struct err *e)
{
	char sha256[RECORDS_SHA256_BYTES];
	cleanup(buf_fini) struct buf text = BUF_INIT((size_t)KEPT_MAX_BYTES * 2);
	if (base64_encode(buf_str(bytes), bytes->len, &text) < 0 ||
	    records_sha256(buf_str(bytes), bytes->len, sha256, e) < 0) {
		return err_set(e, ERR_INTERNAL, "out of memory");
	}
	json_t *file = json_pack(
	    "{s:s, s:s#}", "name", name, "base64", buf_str(&text), (int)text.len);
	json_t *listed = json_pack("{s:s, s:I, s:s}", "name", name, "size_bytes",
	    (json_int_t)bytes->len, "sha256", sha256);
	bool kept = json_array_append_new(r->files, file) == 0;
	kept = json_array_append_new(r->list, listed) == 0 && kept;
	return kept ? 0 : err_set(e, ERR_INTERNAL, "out of memory");
}

static int read_one(struct reading *r, const char *name, struct err *e)
{
	struct files_path path = {{0}};
	struct files_entry entry;
	cleanup(fd_close) int fd = -1;
	if (!text_is_utf8(name, strlen(name))) {
		return err_set(e, ERR_INVALID, "a file's name is not UTF-8");
	}
	if (files_path_add(&path, name, e) < 0 ||
	    files_open(r->dir_fd, &path, &fd, &entry, e) < 0) {
		return -1;
	}
	cleanup(buf_fini) struct buf bytes = BUF_INIT(KEPT_MAX_BYTES - r->bytes);
	int got = fd_read_all(fd, &bytes);
	if (got == -EMSGSIZE || json_array_size(r->files) >= KEPT_FILES_MAX) {
		return err_set(e, ERR_TOO_LARGE,
		    "the files to promote are more than %u MiB or %d files together",
		    KEPT_MAX_BYTES >> 20, KEPT_FILES_MAX);
	}
	if (got < 0) {
		return err_set_os(e, -got, "reading %.200s", name);
	}
	r->bytes += bytes.len;
	return add(r, name, &bytes, e);
}

static int walk(struct reading *r, struct err *e)
{
	struct files_walk w;
	struct files_path root = {{0}};
	struct files_entry entry;
	unsigned budget = KEPT_LOOKED_AT_MAX;
	if (files_walk_init(&w, r->dir_fd, &root, true, e) < 0) {
		return -1;
	}
	int result = 0;
	int more;
	while (result == 0 && (more = files_walk_next(&w, &budget, &entry)) == 1) {
		cleanup(buf_fini) struct buf name = BUF_INIT(FILES_PATH_MAX + FILES_NAME_MAX + 2);
		(void)buf_addf(&name, "%s%s%s", entry.directory,
		    *entry.directory != '\0' ? "/" : "", entry.name);
		if (!entry.is_directory && is_wanted(r, buf_str(&name))) {
			result = read_one(r, buf_str(&name), e);
		}
	}
	files_walk_fini(&w);
	if (result == 0 && more == -EAGAIN) {
		return err_set(e, ERR_TOO_LARGE, "more than %u files are in the way of a promotion",
		    KEPT_LOOKED_AT_MAX);
	}
	return result;
}

static int by_name(const void *a, const void *b)
{
	const json_t *const *x = a;
	const json_t *const *y = b;
	return strcmp(json_string_value(json_object_get(*x, "name")),
	    json_string_value(json_object_get(*y, "name")));
}

/* A new array; FROM is released. */
static json_t *sorted(json_t *from)
{
	size_t count = json_array_size(from);
	const json_t *all[KEPT_FILES_MAX + 1];
	json_t *out = json_array();
	for (size_t i = 0; i < count; i++) {
		all[i] = json_array_get(from, i);
	}
	qsort(all, count, sizeof(json_t *), by_name);
	for (size_t i = 0; i < count; i++) {
		(void)json_array_append(out, (json_t *)(uintptr_t)all[i]);
	}
	json_decref(from);
	return out;
}

int kept_read(int dir_fd, const json_t *globs, json_t **files, json_t **list, struct err *e)
{
	struct reading r = {
	    .dir_fd = dir_fd, .globs = globs, .files = json_array(), .list = json_array()};
	if (r.files == NULL || r.list == NULL || walk(&r, e) < 0) {
		json_decref(r.files);
		json_decref(r.list);
		return -1;
	}
	*files = sorted(r.files);
	*list = sorted(r.list);
	return 0;
}
