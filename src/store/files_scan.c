/* A directory of records into a snapshot. What did not change is taken from the one before. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/text.h"
#include "base/yaml.h"
#include "store/files_internal.h"
#include "store/requirement.h"

#define SIDE_HASH "source_hash"
#define FSTORE_REQUIREMENTS "requirements.txt"

static const char *suffix_of(enum fstore_part part)
{
	return part == FSTORE_SKILLS ? ".py" : ".yaml";
}

/* --- one record ---------------------------------------------------------------------------------
 */

/* FNV-1a. It only tells whether a sidecar is about this source; both are written by the same hand.
 */
static void hash_text(const char *bytes, size_t len, char out[17])
{
	uint64_t h = 0xcbf29ce484222325;
	for (size_t i = 0; i < len; i++) {
		h = (h ^ (unsigned char)bytes[i]) * 0x100000001b3;
	}
	(void)snprintf(out, 17, "%016llx", (unsigned long long)h);
}

bool fstore_side_text(const json_t *record, struct buf *out)
{
	const json_t *source = json_object_get(record, "source");
	json_t *side = json_copy((json_t *)(uintptr_t)record);
	(void)json_object_del(side, "name");
	(void)json_object_del(side, "source");
	bool some = json_object_size(side) > 0;
	char hash[17];
	hash_text(json_string_value(source), json_string_length(source), hash);
	(void)json_object_set_new(side, SIDE_HASH, json_string(hash));
	char *text = some ? json_dumps(side, JSON_INDENT(2) | JSON_SORT_KEYS) : NULL;
	json_decref(side);
	some = text != NULL && buf_add_str(out, text) == 0 && buf_add_char(out, '\n') == 0;
	free(text);
	return some;
}

/* Adds to RECORD what the sidecar of NAME says, when it is about this source. */
static void add_side(int dir_fd, const char *name, const struct buf *source, json_t *record)
{
	char file[STORE_NAME_MAX + 16];
	(void)snprintf(file, sizeof(file), ".%s.json", name);
	cleanup(buf_fini) struct buf text = BUF_INIT(2 * STORE_RECORD_MAX_BYTES);
	if (fstore_read(dir_fd, file, 0, &text) < 0) {
		return;
	}
	json_t *side = json_loadb(buf_str(&text), text.len, JSON_ALLOW_NUL, NULL);
	const char *about = json_string_value(json_object_get(side, SIDE_HASH));
	char hash[17];
	hash_text(buf_str(source), source->len, hash);
	if (about != NULL && strcmp(about, hash) == 0) {
		(void)json_object_del(side, SIDE_HASH);
		(void)json_object_update_missing(record, side);
	}
	json_decref(side);
}

static json_t *skill_of(int dir_fd, const char *name, const struct buf *source, bool side)
{
	json_t *text = json_stringn(buf_str(source), source->len);
	json_t *record = text == NULL ? NULL
				      : json_pack("{s:s, s:o}", "name", name, "source", text);
	if (record != NULL && side) {
		add_side(dir_fd, name, source, record);
	}
	return record;
}

static bool is_ours(const char *name, size_t len)
{
	char text[STORE_NAME_MAX + 1];
	struct err e;
	if (len == 0 || len >= sizeof(text)) {
		return false;
	}
	memcpy(text, name, len);
	text[len] = '\0';
	return store_check_name(STORE_SKILLS, text, &e) == 0;
}

int fstore_read_skill(int dir_fd, const char *name, json_t **out, struct err *e)
{
	char file[STORE_NAME_MAX + 16];
	(void)snprintf(file, sizeof(file), "%s.py", name);
	cleanup(buf_fini) struct buf source = BUF_INIT(STORE_RECORD_MAX_BYTES);
	int r = fstore_read(dir_fd, file, FSTORE_LINKS, &source);
	*out = NULL;
	if (r == -ENOENT || r == -EXDEV || r == -ELOOP) {
		return 0;
	}
	if (r < 0) {
		return fstore_error(e, -r, file);
	}
	*out = skill_of(dir_fd, name, &source, true);
	return *out == NULL ? err_set(e, ERR_INTERNAL, "%s is not UTF-8", file) : 0;
}

static json_t *tool_of(const struct buf *text)
{
	struct err e;
	json_t *record = yaml_parse(buf_str(text), text->len, &e);
	const char *name = json_string_value(json_object_get(record, "name"));
	if (name == NULL || store_check_name(STORE_TOOLS, name, &e) < 0) {
		json_decref(record);
		return NULL;
	}
	return record;
}

/* --- the directory ------------------------------------------------------------------------------
 */

struct names {
	char **items;
	size_t count, alloc;
};

static void names_fini(struct names *n)
{
	for (size_t i = 0; i < n->count; i++) {
		free(n->items[i]);
	}
	free(n->items);
}

static int names_add(struct names *n, const char *name)
{
	if (n->count == STORE_RECORDS_MAX * 2) {
		return -EMSGSIZE;
	}
	if (n->count == n->alloc) {
		size_t alloc = n->alloc < 64 ? 64 : n->alloc * 2;
		char **items = reallocarray(n->items, alloc, sizeof(*items));
		if (items == NULL) {
			return -ENOMEM;
		}
		n->items = items;
		n->alloc = alloc;
	}
	n->items[n->count] = strdup(name);
	return n->items[n->count++] == NULL ? -ENOMEM : 0;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

bool fstore_is_wanted(enum fstore_part part, const char *name)
{
	if (part == FSTORE_DEPS) {
		return strcmp(name, FSTORE_REQUIREMENTS) == 0;
	}
	if (!text_has_suffix(name, suffix_of(part)) || *name == '.') {
		/* Sidecars are wanted, to know which of them are there. */
		return part == FSTORE_SKILLS && *name == '.' && text_has_suffix(name, ".json");
	}
	return part != FSTORE_SKILLS || is_ours(name, strlen(name) - 3);
}

/* *PLAIN becomes false when one of them may be a link. */
static int read_names(enum fstore_part part, int dir_fd, struct names *out, bool *plain)
{
	cleanup(fd_close) int fd = fd_open_beneath(dir_fd, "", O_RDONLY | O_DIRECTORY, 0);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	if (dir == NULL) {
		return fd < 0 ? fd : -errno;
	}
	(void)fd_take(&fd);
	int r = 0;
	for (const struct dirent *d; r == 0 && (d = readdir(dir)) != NULL;) {
		if (fstore_is_wanted(part, d->d_name)) {
			*plain = *plain && d->d_type != DT_LNK && d->d_type != DT_UNKNOWN;
			r = names_add(out, d->d_name);
		}
	}
	(void)closedir(dir);
	if (r == 0 && out->count > 0) {
		qsort(out->items, out->count, sizeof(*out->items), compare_names);
	}
	return r;
}

static bool has_name(const struct names *n, const char *name)
{
	return n->count > 0 &&
	       bsearch(&name, n->items, n->count, sizeof(*n->items), compare_names) != NULL;
}

static int compare_records(const void *key, const void *item)
{
	return strcmp(key, ((const struct fstore_record *)item)->file);
}

static const struct fstore_record *find_old(const struct fstore_snapshot *old, const char *file)
{
	return old == NULL || old->count == 0
		   ? NULL
		   : bsearch(file, old->files, old->count, sizeof(*old->files), compare_records);
}

struct scan {
	enum fstore_part part;
	int dir_fd;
	int64_t now_us;
	const struct fstore_snapshot *old;
	bool partial; /* of what changed only: NAMES are not there */
	struct names names;
	struct fstore_snapshot *s;
};

/* Reads the file that F describes. */
static void read_record(const struct scan *c, struct fstore_record *f, bool side)
{
	cleanup(buf_fini) struct buf text = BUF_INIT(STORE_RECORD_MAX_BYTES);
	f->bytes = sizeof(*f) + 256;
	if (fstore_read(c->dir_fd, f->file, FSTORE_LINKS, &text) < 0) {
		return;
	}
	f->bytes += text.len;
	if (c->part == FSTORE_TOOLS) {
		f->record = tool_of(&text);
		return;
	}
	char name[STORE_NAME_MAX + 1];
	(void)snprintf(name, sizeof(name), "%.*s", (int)strlen(f->file) - 3, f->file);
	f->record = skill_of(c->dir_fd, name, &text, side);
}

enum look { LOOK_GONE, LOOK_KNOWN, LOOK_NEW };

/* Fills F for FILE; its record when it is known. */
static enum look look_at(struct scan *c, const char *file, struct fstore_record *f)
{
	struct stat st;
	if (c->partial && fstatat(c->dir_fd, file, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    S_ISLNK(st.st_mode)) {
		c->s->plain = false;
	}
	if (fstatat(c->dir_fd, file, &st, 0) < 0 || !S_ISREG(st.st_mode)) {
		return LOOK_GONE;
	}
	c->s->plain = c->s->plain && st.st_nlink == 1;
	f->source = fstore_signature_of(&st);
	f->racy = fstore_is_racy(&f->source, c->now_us);
	char side[STORE_NAME_MAX + 16];
	(void)snprintf(side, sizeof(side), ".%.*s.json", (int)strlen(file) - 3, file);
	bool has_side = c->part == FSTORE_SKILLS && (c->partial || has_name(&c->names, side)) &&
			fstatat(c->dir_fd, side, &st, AT_SYMLINK_NOFOLLOW) == 0;
	if (has_side) {
		f->side = fstore_signature_of(&st);
		f->racy = f->racy || fstore_is_racy(&f->side, c->now_us);
	}
	const struct fstore_record *o = find_old(c->old, file);
	if (o != NULL && !c->partial && !o->racy &&
	    fstore_signature_equal(&o->source, &f->source) &&
	    fstore_signature_equal(&o->side, &f->side)) {
		f->record = json_incref(o->record);
		f->bytes = o->bytes;
		return LOOK_KNOWN;
	}
	return LOOK_NEW;
}

/* FILE is taken. */
static int add_file(struct scan *c, char *file)
{
	struct fstore_record f = {.file = file};
	enum look look = look_at(c, file, &f);
	if (look == LOOK_GONE) {
		free(file);
		return 0;
	}
	if (look == LOOK_NEW) {
		read_record(c, &f, f.side.ino != 0);
		const struct fstore_record *o = find_old(c->old, file);
		bool same = o != NULL && (o->record == f.record || json_equal(o->record, f.record));
		if (same) {
			/* It stays the same object, for those who compare. */
			json_decref(f.record);
			f.record = json_incref(o->record);
		}
		c->s->same = c->s->same && same;
	}
	c->s->files[c->s->count++] = f;
	c->s->bytes += f.bytes;
	return c->s->bytes > FSTORE_LIST_MAX_BYTES ? -EMSGSIZE : 0;
}

static int scan_files(struct scan *c)
{
	int r = read_names(c->part, c->dir_fd, &c->names, &c->s->plain);
	if (r < 0) {
		return r;
	}
	c->s->files = calloc(c->names.count + 1, sizeof(*c->s->files));
	if (c->s->files == NULL) {
		return -ENOMEM;
	}
	/* The names stay as they are until all are looked at: sidecars are found among them. */
	for (size_t i = 0; r == 0 && i < c->names.count; i++) {
		if (*c->names.items[i] != '.') {
			char *file = strdup(c->names.items[i]);
			r = file == NULL ? -ENOMEM : add_file(c, file);
		}
	}
	return r;
}

/* The files that CHANGED are about, sorted, without doubles. */
static int names_of_changed(
    enum fstore_part part, const struct fstore_names *changed, struct names *out)
{
	int r = 0;
	for (size_t i = 0; r == 0 && i < changed->count; i++) {
		char file[NAME_MAX + 1];
		const char *name = changed->items[i];
		if (part == FSTORE_SKILLS && *name == '.') {
			/* A sidecar, .NAME.json */
			(void)snprintf(
			    file, sizeof(file), "%.*s.py", (int)strlen(name) - 6, name + 1);
			name = file;
		}
		r = fstore_is_wanted(part, name) ? names_add(out, name) : 0;
	}
	if (r == 0 && out->count > 0) {
		qsort(out->items, out->count, sizeof(*out->items), compare_names);
	}
	size_t kept = 0;
	for (size_t i = 0; i < out->count; i++) {
		if (kept > 0 && strcmp(out->items[kept - 1], out->items[i]) == 0) {
			free(out->items[i]);
		} else {
			out->items[kept++] = out->items[i];
		}
	}
	out->count = kept;
	return r;
}

/* The next file as it was before. */
static int keep_file(struct scan *c, const struct fstore_record *o)
{
	struct fstore_record f = *o;
	f.file = strdup(o->file);
	if (f.file == NULL) {
		return -ENOMEM;
	}
	f.record = json_incref(o->record);
	c->s->files[c->s->count++] = f;
	c->s->bytes += f.bytes;
	return 0;
}

/* All of the snapshot before but CHANGED, which are looked at. */
static int scan_changed(struct scan *c, const struct fstore_names *changed)
{
	cleanup(names_fini) struct names files = {0};
	int r = names_of_changed(c->part, changed, &files);
	if (r < 0) {
		return r;
	}
	size_t old = 0;
	size_t at = 0;
	c->s->plain = c->old->plain;
	c->s->scanned_ms = c->old->scanned_ms;
	c->s->files = calloc(c->old->count + files.count + 1, sizeof(*c->s->files));
	r = c->s->files == NULL ? -ENOMEM : 0;
	while (r == 0 && (old < c->old->count || at < files.count)) {
		const struct fstore_record *o = old < c->old->count ? &c->old->files[old] : NULL;
		int order = o == NULL           ? 1
			    : at == files.count ? -1
						: strcmp(o->file, files.items[at]);
		r = order < 0 ? keep_file(c, o) : add_file(c, steal(&files.items[at]));
		old += order <= 0 ? 1 : 0;
		at += order >= 0 ? 1 : 0;
	}
	return r;
}

static int compare_by_name(const void *a, const void *b)
{
	const json_t *x = *(json_t *const *)a;
	const json_t *y = *(json_t *const *)b;
	return strcmp(json_string_value(json_object_get(x, "name")),
	    json_string_value(json_object_get(y, "name")));
}

/* The records, sorted, the first of each name. */
static int collect(enum fstore_part part, struct fstore_snapshot *s)
{
	json_t **all = calloc(s->count + 1, sizeof(json_t *));
	size_t n = 0;
	if (all == NULL) {
		return -ENOMEM;
	}
	for (size_t i = 0; i < s->count; i++) {
		if (s->files[i].record != NULL) {
			all[n++] = s->files[i].record;
		}
	}
	/* Skills are named by their files, which are in this order: '.' comes before whatever a
	 * name may have. */
	bool sorted = part == FSTORE_SKILLS;
	if (!sorted) {
		qsort(all, n, sizeof(json_t *), compare_by_name);
	}
	for (size_t i = 0; i < n; i++) {
		if (sorted || i == 0 || compare_by_name(&all[i - 1], &all[i]) != 0) {
			(void)json_array_append(s->records, all[i]);
		}
	}
	free(all);
	return 0;
}

static int compare_lines(const void *a, const void *b)
{
	return strcmp(
	    json_string_value(*(json_t *const *)a), json_string_value(*(json_t *const *)b));
}

/* Dependencies are the lines of one file; those that are not requirements are left out. */
static int scan_requirements(struct scan *c)
{
	struct stat st;
	c->s->plain = fstatat(c->dir_fd, FSTORE_REQUIREMENTS, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		      (S_ISREG(st.st_mode) && st.st_nlink == 1);
	cleanup(buf_fini) struct buf text = BUF_INIT(STORE_RECORD_MAX_BYTES);
	int r = fstore_read(c->dir_fd, FSTORE_REQUIREMENTS, FSTORE_LINKS, &text);
	if (r == -ENOENT) {
		return 0;
	}
	json_t **lines = r < 0 ? NULL : calloc(text.len / 2 + 1, sizeof(json_t *));
	size_t n = 0;
	if (lines == NULL) {
		return r < 0 ? r : -ENOMEM;
	}
	char *rest = text.data;
	for (char *line; (line = strsep(&rest, "\r\n")) != NULL;) {
		line += strspn(line, " \t");
		size_t len = strlen(line);
		while (len > 0 && strchr(" \t", line[len - 1]) != NULL) {
			line[--len] = '\0';
		}
		if (*line != '#' && requirement_check(line, NULL) == 0) {
			lines[n++] = json_string(line);
		}
	}
	qsort(lines, n, sizeof(json_t *), compare_lines);
	for (size_t i = 0; i < n; i++) {
		(void)json_array_append_new(c->s->records, lines[i]);
	}
	free(lines);
	c->s->same = c->s->same && json_equal(c->old->records, c->s->records);
	return 0;
}

static int scan(struct scan *c, const struct fstore_names *changed)
{
	struct stat st;
	if (fstat(c->dir_fd, &st) < 0) {
		return -errno;
	}
	if (st.st_nlink == 0) {
		return -ENOENT;
	}
	c->s->dir = fstore_signature_of(&st);
	c->s->racy = fstore_is_racy(&c->s->dir, c->now_us);
	c->s->scanned_ms = clock_mono_ms();
	c->s->same = c->old != NULL;
	c->s->plain = true;
	if (c->part == FSTORE_DEPS) {
		return scan_requirements(c);
	}
	int r = c->partial ? scan_changed(c, changed) : scan_files(c);
	c->s->same = c->s->same && c->old->count == c->s->count;
	return r == 0 ? collect(c->part, c->s) : r;
}

struct fstore_snapshot *fstore_scan(enum fstore_part part, int dir_fd,
    const struct fstore_snapshot *old, const struct fstore_names *changed, struct err *e)
{
	struct scan c = {.part = part,
	    .dir_fd = dir_fd,
	    .now_us = clock_wall_us(),
	    .old = old,
	    .partial = changed != NULL,
	    .s = calloc(1, sizeof(struct fstore_snapshot))};
	if (c.s == NULL) {
		(void)err_set(e, ERR_INTERNAL, "out of memory");
		return NULL;
	}
	c.s->records = json_array();
	int r = scan(&c, changed);
	names_fini(&c.names);
	if (r < 0) {
		(void)fstore_error(e, -r, "what the store holds");
		fstore_snapshot_free(c.s);
		return NULL;
	}
	return c.s;
}

void fstore_snapshot_free(struct fstore_snapshot *s)
{
	if (s == NULL) {
		return;
	}
	for (size_t i = 0; i < s->count; i++) {
		free(s->files[i].file);
		json_decref(s->files[i].record);
	}
	free(s->files);
	json_decref(s->records);
	free(s);
}
