#include "cli/store_source.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/text.h"
#include "base/yaml.h"
#include "cli/skill_source.h"
#include "cli/store_place.h"
#include "store/backend.h"
#include "store/requirement.h"

static void add_problem(json_t *problems, const char *file, const char *message)
{
	cleanup(buf_fini) struct buf shown = BUF_INIT(4096);
	(void)text_add_utf8_lossy(&shown, file, strlen(file));
	(void)json_array_append_new(
	    problems, json_pack("{s:s, s:s}", "file", buf_str(&shown), "message", message));
}

/* --- one file --- */

/* A skill of the file NAME.py. */
static json_t *read_skill(const char *name, const struct buf *text, struct err *e)
{
	cleanup(buf_fini) struct buf description = BUF_INIT(STORE_RECORD_MAX_BYTES);
	if (store_check_name(STORE_SKILLS, name, e) < 0 ||
	    skill_source_read(buf_str(text), text->len, &description, e) < 0) {
		return NULL;
	}
	return json_pack("{s:s, s:s%, s:s%}", "name", name, "description", buf_str(&description),
	    description.len, "source", buf_str(text), text->len);
}

static json_t *read_tool(const char *name, const struct buf *text, struct err *e)
{
	(void)name;
	json_t *tool = yaml_parse(buf_str(text), text->len, e);
	if (tool == NULL) {
		return NULL;
	}
	const char *given = json_string_value(json_object_get(tool, "name"));
	if (given == NULL) {
		(void)err_set(e, ERR_INVALID, "line 1: a tool must have a name");
	}
	if (given == NULL || store_check_name(STORE_TOOLS, given, e) < 0) {
		json_decref(tool);
		return NULL;
	}
	return tool;
}

/* Devices and pipes are not waited for. */
static int read_file(int dir_fd, const char *name, struct buf *text, struct err *e)
{
	cleanup(fd_close) int fd = openat(
	    dir_fd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0) {
		return err_set_os(e, errno, "it cannot be read");
	}
	if (!S_ISREG(st.st_mode)) {
		return err_set(e, ERR_INVALID, "it is not a regular file");
	}
	int r = fd_read_all(fd, text);
	if (r == -EMSGSIZE) {
		return err_set(
		    e, ERR_TOO_LARGE, "it has more than %u KiB", STORE_RECORD_MAX_BYTES >> 10);
	}
	return r < 0 ? err_set_os(e, -r, "it cannot be read") : 0;
}

static json_t *read_one(int type, int dir_fd, const char *file, size_t stem, struct err *e)
{
	cleanup(buf_fini) struct buf text = BUF_INIT(STORE_RECORD_MAX_BYTES);
	cleanup(text_free) char *name = strndup(file, stem);
	if (name == NULL) {
		(void)err_set(e, ERR_INTERNAL, "out of memory");
		return NULL;
	}
	if (read_file(dir_fd, file, &text, e) < 0) {
		return NULL;
	}
	return type == TYPE_SKILLS ? read_skill(name, &text, e) : read_tool(name, &text, e);
}

/* --- a directory --- */

static void close_dir(DIR **d)
{
	if (*d != NULL) {
		(void)closedir(*d);
	}
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

struct names {
	char **list;
	size_t count, alloc;
};

static void names_free(struct names *n)
{
	for (size_t i = 0; i < n->count; i++) {
		free(n->list[i]);
	}
	free(n->list);
}

static int names_add(struct names *n, const char *name, struct err *e)
{
	if (n->count == STORE_SOURCE_FILES_MAX) {
		return err_set(
		    e, ERR_TOO_LARGE, "there are more than %d files", STORE_SOURCE_FILES_MAX);
	}
	if (n->count == n->alloc) {
		size_t alloc = n->alloc * 2 + 64;
		char **list = realloc(n->list, alloc * sizeof(*list));
		if (list == NULL) {
			return err_set(e, ERR_INTERNAL, "out of memory");
		}
		n->list = list;
		n->alloc = alloc;
	}
	n->list[n->count] = strdup(name);
	return n->list[n->count++] != NULL ? 0 : err_set(e, ERR_INTERNAL, "out of memory");
}

/* Not those that begin with '_' or '.': they are not skills, nor tools. */
static int collect(DIR *dir, const char *suffix, struct names *out, struct err *e)
{
	for (const struct dirent *d; (d = readdir(dir)) != NULL;) {
		if (d->d_name[0] != '.' && d->d_name[0] != '_' &&
		    text_has_suffix(d->d_name, suffix) && names_add(out, d->d_name, e) < 0) {
			return -1;
		}
	}
	if (out->count > 0) {
		qsort(out->list, out->count, sizeof(*out->list), by_text);
	}
	return 0;
}

static int read_dir(int type, const char *path, json_t *records, json_t *problems, struct err *e)
{
	const char *suffix = type == TYPE_SKILLS ? ".py" : ".yaml";
	cleanup(close_dir) DIR *dir = opendir(path);
	cleanup(names_free) struct names names = {0};
	if (dir == NULL) {
		return err_set_os(e, errno, "%s cannot be read", path);
	}
	if (collect(dir, suffix, &names, e) < 0) {
		return err_prefix(e, "%s", path);
	}
	for (size_t i = 0; i < names.count; i++) {
		struct err why;
		size_t stem = strlen(names.list[i]) - strlen(suffix);
		json_t *record = read_one(type, dirfd(dir), names.list[i], stem, &why);
		if (record != NULL) {
			(void)json_array_append_new(records, record);
		} else {
			add_problem(problems, names.list[i], why.text);
		}
	}
	return 0;
}

/* --- requirements --- */

void store_source_add_requirement(
    const char *text, const char *file, unsigned line, json_t *records, json_t *problems)
{
	struct err e;
	char normal[REQUIREMENT_MAX + 1];
	size_t len = strlen(text);
	const char *comment = strstr(text, " #");
	if (comment != NULL) {
		len = (size_t)(comment - text);
	}
	while (len > 0 && strchr(" \t\r\n", *text) != NULL) {
		text++;
		len--;
	}
	while (len > 0 && strchr(" \t\r\n", text[len - 1]) != NULL) {
		len--;
	}
	if (len == 0 || *text == '#') {
		return;
	}
	cleanup(text_free) char *alone = strndup(text, len);
	if (alone != NULL && requirement_check(alone, &e) == 0) {
		(void)json_array_append_new(
		    records, json_string(requirement_normalise(alone, normal)));
		return;
	}
	if (alone == NULL) {
		(void)err_set(&e, ERR_INTERNAL, "out of memory");
	}
	if (line > 0) {
		(void)err_prefix(&e, "line %u", line);
	}
	add_problem(problems, file, e.text);
}

static int read_requirements(const char *path, json_t *records, json_t *problems, struct err *e)
{
	struct stat st;
	char inside[4096];
	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
		(void)snprintf(inside, sizeof(inside), "%s/requirements.txt", path);
		path = inside;
	}
	cleanup(buf_fini) struct buf text = BUF_INIT(STORE_RECORD_MAX_BYTES);
	if (read_file(AT_FDCWD, path, &text, e) < 0) {
		e->code = ERR_INTERNAL;
		return err_prefix(e, "%s", path);
	}
	unsigned line = 0;
	for (char *rest = text.data; rest != NULL;) {
		line++;
		store_source_add_requirement(strsep(&rest, "\n"), path, line, records, problems);
	}
	return 0;
}

/* --- files as they are --- */

static int add_file(json_t *known, const FTSENT *f, size_t root_len, struct err *e)
{
	struct err ignored;
	const char *name = f->fts_path + root_len;
	name += *name == '/';
	if (f->fts_info != FTS_F || store_check_artifact_name(name, &ignored) < 0 ||
	    json_object_get(known, name) != NULL) {
		return 0;
	}
	if (json_object_size(known) >= STORE_SOURCE_FILES_MAX) {
		return err_set(
		    e, ERR_TOO_LARGE, "there are more than %d files", STORE_SOURCE_FILES_MAX);
	}
	(void)json_object_set_new(known, name,
	    json_pack("{s:s, s:I}", "name", name, "size", (json_int_t)f->fts_statp->st_size));
	return 0;
}

static void close_walk(FTS **w)
{
	if (*w != NULL) {
		(void)fts_close(*w);
	}
}

int store_source_add_files(const char *dir, json_t *list, struct err *e)
{
	cleanup(text_free) char *root = strdup(dir);
	char *const roots[] = {root, NULL};
	cleanup(close_walk)
	    FTS *w = root != NULL ? fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL) : NULL;
	cleanup(json_decrefp) json_t *known = json_object();
	size_t i;
	json_t *record;
	if (w == NULL || known == NULL) {
		return err_set_os(e, errno, "%s cannot be read", dir);
	}
	json_array_foreach(list, i, record)
	{
		(void)json_object_set(known, store_record_name(TYPE_ARTIFACTS, record), record);
	}
	for (const FTSENT *f; (f = fts_read(w)) != NULL;) {
		if (add_file(known, f, strlen(root), e) < 0) {
			return -1;
		}
	}
	(void)json_array_clear(list);
	const char *name;
	json_object_foreach(known, name, record)
	{
		(void)json_array_append(list, record);
	}
	return 0;
}

int store_source_read(
    int type, const char *path, json_t **records, json_t **problems, struct err *e)
{
	*records = json_array();
	*problems = json_array();
	int r = type == TYPE_DEPS ? read_requirements(path, *records, *problems, e)
				  : read_dir(type, path, *records, *problems, e);
	if (r < 0) {
		json_decref(*records);
		json_decref(*problems);
		*records = *problems = NULL;
	}
	return r;
}
