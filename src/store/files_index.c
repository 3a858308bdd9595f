/*
 * The artifacts index: one JSON file about all artifacts of a directory. Others write it too, in
 * place and without a lock, so it may be found half written.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/text.h"
#include "store/files_internal.h"

#define PATIENCE 5
#define PATIENCE_NS 30000000
#define DEPTH_MAX 64

bool fstore_index_is_current(const struct fstore_index *x, int dir_fd)
{
	struct stat st;
	if (fstatat(dir_fd, FSTORE_INDEX_NAME, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		return x->fd < 0 && errno == ENOENT;
	}
	struct fstore_signature now = fstore_signature_of(&st);
	if (x->fd < 0 || !fstore_signature_equal(&now, &x->signature)) {
		return false;
	}
	/* Written in place and fresh when it was read: it may have changed without a trace. */
	return !x->racy || clock_mono_ms() - x->loaded_ms < FSTORE_RACY_MS;
}

void fstore_index_free(struct fstore_index *x)
{
	if (x != NULL) {
		json_decref(x->entries);
		fd_close(&x->fd);
		free(x);
	}
}

void fstore_index_release(struct fstore_index *x)
{
	if (x != NULL && --x->holders == 0) {
		fstore_index_free(x);
	}
}

/* --- reading ------------------------------------------------------------------------------------
 */

static bool is_half(const char *at, const char *end, char low, char high)
{
	/* Digits are the same with 0x20, which is set in them. */
	return end - at >= 6 && at[0] == '\\' && at[1] == 'u' && (at[2] | 0x20) == 'd' &&
	       (at[3] | 0x20) >= low && (at[3] | 0x20) <= high;
}

/* At a backslash within a string: adds what it stands for, and says how many bytes it has. */
static size_t mend_escape(const char *at, const char *end, struct buf *out)
{
	bool first = is_half(at, end, '8', '9') || is_half(at, end, 'a', 'b');
	size_t n = end - at < 2 ? 1 : 2;
	if (first && is_half(at + 6, end, 'c', 'f')) {
		n = 12;
	} else if (first || is_half(at, end, 'c', 'f')) {
		(void)buf_add_str(out, "\\ufffd");
		return 6;
	}
	(void)buf_add(out, at, n);
	return n;
}

/* Outside of strings: as mend_escape, over one byte or a word. */
static size_t mend_word(const char *at, const char *end, struct buf *out)
{
	static const char *const words[] = {"-Infinity", "Infinity", "NaN"};
	for (size_t i = 0; i < array_len(words); i++) {
		size_t n = strlen(words[i]);
		if ((size_t)(end - at) >= n && memcmp(at, words[i], n) == 0) {
			(void)buf_add_str(out, "null");
			return n;
		}
	}
	(void)buf_add_char(out, *at);
	return 1;
}

/* Python writes NaN, Infinity and lone halves of surrogate pairs, which are not JSON: they become
 * null and U+FFFD, so that one of them does not cost the whole index. Where OUT has no room for
 * all, it is no JSON either. */
static void mend(const struct buf *text, struct buf *out)
{
	const char *at = buf_str(text);
	const char *end = at + text->len;
	bool quoted = false;
	while (at < end) {
		if (quoted && *at == '\\') {
			at += mend_escape(at, end, out);
			continue;
		}
		quoted = *at == '"' ? !quoted : quoted;
		if (quoted || *at == '"') {
			(void)buf_add_char(out, *at++);
		} else {
			at += mend_word(at, end, out);
		}
	}
}

static json_t *parse(const struct buf *text)
{
	json_t *entries = json_loadb(buf_str(text), text->len, JSON_ALLOW_NUL, NULL);
	if (entries == NULL && text->len > 0) {
		cleanup(buf_fini) struct buf mended = BUF_INIT(FSTORE_INDEX_MAX_BYTES);
		mend(text, &mended);
		entries = json_loadb(buf_str(&mended), mended.len, JSON_ALLOW_NUL, NULL);
	}
	if (!json_is_object(entries)) {
		json_decref(entries);
		return NULL;
	}
	return entries;
}

/* 0 with X filled, or -errno. */
static int load_once(int dir_fd, struct fstore_index *x)
{
	int64_t now_us = clock_wall_us();
	x->loaded_ms = clock_mono_ms();
	fd_close(&x->fd);
	json_decref(x->entries);
	x->entries = json_object();
	x->damaged = false;
	cleanup(fd_close) int fd = fd_open_beneath(
	    dir_fd, FSTORE_INDEX_NAME, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
	if (fd == -ENOENT) {
		return 0;
	}
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0) {
		return fd < 0 ? fd : -errno;
	}
	cleanup(buf_fini) struct buf text = BUF_INIT(FSTORE_INDEX_MAX_BYTES);
	int r = S_ISREG(st.st_mode) ? fd_read_all(fd, &text) : -EINVAL;
	if (r < 0) {
		return r;
	}
	json_t *entries = parse(&text);
	x->damaged = entries == NULL;
	if (entries != NULL) {
		json_decref(x->entries);
		x->entries = entries;
	}
	x->signature = fstore_signature_of(&st);
	x->racy = fstore_is_racy(&x->signature, now_us);
	x->fd = fd_take(&fd);
	return 0;
}

static struct fstore_index *index_new(void)
{
	struct fstore_index *x = calloc(1, sizeof(*x));
	if (x != NULL) {
		x->fd = -1;
		x->entries = json_object();
	}
	return x;
}

struct fstore_index *fstore_index_load(int dir_fd, bool patient, struct err *e)
{
	struct fstore_index *x = index_new();
	struct stat st;
	int r = x == NULL                ? -ENOMEM
		: fstat(dir_fd, &st) < 0 ? -errno
		: st.st_nlink == 0       ? -ENOENT
					 : 0;
	for (int tries = 0; r == 0; tries++) {
		r = load_once(dir_fd, x);
		if (r < 0 || !x->damaged || !patient || tries == PATIENCE) {
			break;
		}
		(void)nanosleep(&(struct timespec){.tv_nsec = PATIENCE_NS}, NULL);
	}
	if (r < 0) {
		(void)fstore_error(e, -r, "the artifacts index");
		fstore_index_free(x);
		return NULL;
	}
	return x;
}

/* --- writing ------------------------------------------------------------------------------------
 */

int fstore_index_prepare(
    int dir_fd, const json_t *entries, char temp[FSTORE_TEMP_BYTES], struct err *e)
{
	char *text = json_dumps(entries, JSON_INDENT(2));
	size_t len = text != NULL ? strlen(text) : 0;
	int r = -ENOMEM;
	if (text != NULL) {
		r = len > FSTORE_INDEX_MAX_BYTES ? -EMSGSIZE
						 : fstore_temp_write(dir_fd, text, len, temp);
	}
	free(text);
	return r < 0 ? fstore_error(e, -r, "the artifacts index") : 0;
}

struct fstore_index *fstore_index_publish(
    int dir_fd, const char *temp, json_t *entries, struct err *e)
{
	struct fstore_index *x = index_new();
	struct stat st;
	int r = x == NULL ? -ENOMEM : fd_open_beneath(dir_fd, temp, O_RDONLY, 0);
	if (r >= 0) {
		x->fd = r;
		r = renameat(dir_fd, temp, dir_fd, FSTORE_INDEX_NAME) < 0 || fstat(x->fd, &st) < 0
			? -errno
			: 0;
	}
	if (r < 0) {
		(void)unlinkat(dir_fd, temp, 0);
		(void)fstore_error(e, -r, "the artifacts index");
		fstore_index_free(x);
		return NULL;
	}
	json_decref(x->entries);
	x->entries = json_incref(entries);
	x->loaded_ms = clock_mono_ms();
	x->signature = fstore_signature_of(&st);
	return x;
}

/* --- what is on disk ----------------------------------------------------------------------------
 */

int fstore_artifact_open(int dir_fd, const char *name, struct stat *st)
{
	cleanup(fd_close) int fd = fd_open_beneath(
	    dir_fd, name, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
	if (fd < 0) {
		bool absent = fd == -ENOTDIR || fd == -ELOOP || fd == -EXDEV || fd == -ENXIO ||
			      fd == -ENAMETOOLONG;
		return absent ? -ENOENT : fd;
	}
	if (fstat(fd, st) < 0) {
		return -errno;
	}
	return S_ISREG(st->st_mode) ? fd_take(&fd) : -ENOENT;
}

struct walk {
	json_t *entries;
	char path[STORE_ARTIFACT_NAME_MAX + 1];
	unsigned depth;
};

static void add_found(struct walk *w, const struct stat *st)
{
	char at[CLOCK_RFC3339_BYTES + 8];
	int64_t us = (int64_t)st->st_mtim.tv_sec * 1000000 + st->st_mtim.tv_nsec / 1000;
	(void)clock_rfc3339(us, 6, at);
	char *z = strchr(at, 'Z');
	if (z != NULL) {
		memcpy(z, "+00:00", sizeof("+00:00"));
	}
	(void)json_object_set_new(w->entries, w->path,
	    json_pack("{s:s, s:s, s:{}}", "description", "", "created_at", at, "metadata"));
}

static int walk(struct walk *w, int dir_fd);

/* One entry of the directory, whose path w->path is. */
static int walk_one(struct walk *w, int dir_fd, const char *name)
{
	struct stat st;
	struct err e;
	size_t had = strlen(w->path);
	if (had + strlen(name) + 2 > sizeof(w->path) ||
	    fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
		return 0;
	}
	(void)snprintf(w->path + had, sizeof(w->path) - had, "%s%s", had > 0 ? "/" : "", name);
	int r = 0;
	if (store_check_artifact_name(w->path, &e) < 0) {
		r = 0;
	} else if (S_ISREG(st.st_mode)) {
		add_found(w, &st);
		r = json_object_size(w->entries) > STORE_RECORDS_MAX ? -EMSGSIZE : 0;
	} else if (S_ISDIR(st.st_mode) && w->depth < DEPTH_MAX) {
		cleanup(fd_close) int fd = fd_open_beneath(dir_fd, name, O_RDONLY | O_DIRECTORY, 0);
		w->depth++;
		r = fd < 0 ? 0 : walk(w, fd);
		w->depth--;
	}
	w->path[had] = '\0';
	return r;
}

/* Bounded by DEPTH_MAX levels and STORE_RECORDS_MAX entries. */
static int walk(struct walk *w, int dir_fd)
{
	cleanup(fd_close) int fd = fd_open_beneath(dir_fd, "", O_RDONLY | O_DIRECTORY, 0);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	if (dir == NULL) {
		return fd < 0 ? fd : -errno;
	}
	(void)fd_take(&fd);
	int r = 0;
	for (const struct dirent *d; r == 0 && (d = readdir(dir)) != NULL;) {
		bool dots = strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0;
		r = dots ? 0 : walk_one(w, dirfd(dir), d->d_name);
	}
	(void)closedir(dir);
	return r;
}

/* Entries for all files that are there; NULL with E. */
static json_t *entries_on_disk(int dir_fd, struct err *e)
{
	struct walk w = {.entries = json_object()};
	int r = walk(&w, dir_fd);
	if (r < 0) {
		(void)fstore_error(e, -r, "the artifacts directory");
		json_decref(w.entries);
		return NULL;
	}
	return w.entries;
}

json_t *fstore_index_rescue(int dir_fd, struct err *e)
{
	char aside[64];
	(void)snprintf(
	    aside, sizeof(aside), FSTORE_INDEX_NAME ".damaged-%lld", (long long)clock_wall_us());
	if (renameat(dir_fd, FSTORE_INDEX_NAME, dir_fd, aside) < 0 && errno != ENOENT) {
		(void)fstore_error(e, errno, "the damaged artifacts index");
		return NULL;
	}
	return entries_on_disk(dir_fd, e);
}

/* --- records ------------------------------------------------------------------------------------
 */

json_t *fstore_artifact_record(const struct fstore_index *x, const char *path_prefix,
    const char *name, int fd, const struct stat *st)
{
	const json_t *entry = json_object_get(x->entries, name);
	const char *type = "bytes";
	if (!json_is_string(json_object_get(json_object_get(entry, "metadata"), STORE_TYPE_KEY))) {
		char head[STORE_HEAD_BYTES];
		ssize_t n = text_has_suffix(name, ".json") ? 0 : pread(fd, head, sizeof(head), 0);
		type = store_type_guess(name, head, n > 0 ? (size_t)n : 0);
	}
	char path[8192];
	(void)snprintf(path, sizeof(path), "%s/%s", path_prefix, name);
	return store_entry_record(entry, name, path, type, (uint64_t)st->st_size);
}

static int compare_texts(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The good names of ENTRIES, sorted; for free. NULL when memory is out. */
static const char **sorted_names(json_t *entries, size_t *count)
{
	const char **names = calloc(json_object_size(entries) + 1, sizeof(*names));
	const char *name;
	json_t *entry;
	struct err e;
	*count = 0;
	if (names == NULL) {
		return NULL;
	}
	json_object_foreach(entries, name, entry)
	{
		if (*count < STORE_RECORDS_MAX && store_check_artifact_name(name, &e) == 0) {
			names[(*count)++] = name;
		}
	}
	qsort(names, *count, sizeof(*names), compare_texts);
	return names;
}

json_t *fstore_artifact_records(
    const struct fstore_index *x, const char *path_prefix, int dir_fd, struct err *e)
{
	json_t *entries = x->damaged ? entries_on_disk(dir_fd, e) : json_incref(x->entries);
	if (entries == NULL) {
		return NULL;
	}
	struct fstore_index shown = {.entries = entries};
	size_t count;
	const char **names = sorted_names(entries, &count);
	json_t *records = json_array();
	for (size_t i = 0; names != NULL && i < count; i++) {
		struct stat st;
		cleanup(fd_close) int fd = fstore_artifact_open(dir_fd, names[i], &st);
		if (fd >= 0) {
			(void)json_array_append_new(records,
			    fstore_artifact_record(&shown, path_prefix, names[i], fd, &st));
		}
	}
	free(names);
	json_decref(entries);
	return records;
}
