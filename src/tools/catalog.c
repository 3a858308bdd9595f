#include "tools/catalog.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/text.h"
#include "tools/definition.h"

#define PATH_BYTES 4096

/* What is known of one file: {stamp, tools, problems}, by its path. */
struct catalog {
	char *dir;
	char *file;
	json_t *seen;     /* object: path to the above */
	json_t *tools;    /* object: name to tool, of files */
	json_t *problems; /* of files, and of names that stand twice */
	json_t *spaces;   /* object: prefix ("" for the server's own) to {tools, problems} */
};

struct catalog *catalog_new(const char *tools_dir, const char *tools_file)
{
	struct catalog *c = calloc(1, sizeof(*c));
	if (c == NULL) {
		return NULL;
	}
	c->dir = tools_dir != NULL ? strdup(tools_dir) : NULL;
	c->file = tools_file != NULL ? strdup(tools_file) : NULL;
	c->seen = json_object();
	c->tools = json_object();
	c->problems = json_array();
	c->spaces = json_object();
	if ((c->dir == NULL) != (tools_dir == NULL) || (c->file == NULL) != (tools_file == NULL) ||
	    c->seen == NULL || c->tools == NULL || c->problems == NULL || c->spaces == NULL) {
		catalog_free(c);
		return NULL;
	}
	return c;
}

void catalog_free(struct catalog *c)
{
	if (c == NULL) {
		return;
	}
	free(c->dir);
	free(c->file);
	json_decref(c->seen);
	json_decref(c->tools);
	json_decref(c->problems);
	json_decref(c->spaces);
	free(c);
}

/* --- files
 * ---------------------------------------------------------------------------------------
 */

static void add_problem(json_t *problems, const char *file, const char *text)
{
	struct reading r = {.file = file, .problems = problems};
	reading_file_problem(&r, 0, text);
}

static void read_one(const char *path, json_t *tools, json_t *problems)
{
	cleanup(buf_fini) struct buf text = BUF_INIT(DEFINITION_FILE_MAX_BYTES);
	/* A named pipe would wait for a writer for ever. */
	cleanup(fd_close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	int r = fd < 0 || fstat(fd, &st) < 0 ? -errno : 0;
	if (r == 0 && !S_ISREG(st.st_mode)) {
		add_problem(problems, path, "not a file");
		return;
	}
	r = r < 0 ? r : fd_read_all(fd, &text);
	if (r < 0) {
		add_problem(
		    problems, path, r == -EMSGSIZE ? "larger than 1 MiB" : strerrordesc_np(-r));
		return;
	}
	char dir[PATH_BYTES];
	char *real = realpath(path, NULL);
	(void)snprintf(dir, sizeof(dir), "%s", real != NULL ? real : path);
	free(real);
	char *slash = strrchr(dir, '/');
	if (slash != NULL) {
		*slash = '\0';
	}
	definition_read_file(path, dir, buf_str(&text), text.len, tools, problems);
}

/* What changes when a file does. */
static json_t *stamp_of(const char *path)
{
	struct stat st;
	if (stat(path, &st) < 0) {
		return json_pack("[i]", errno);
	}
	return json_pack("[I, I, I, I, I]", (json_int_t)st.st_ino, (json_int_t)st.st_size,
	    (json_int_t)st.st_mtim.tv_sec, (json_int_t)st.st_mtim.tv_nsec,
	    (json_int_t)st.st_ctim.tv_nsec);
}

/* The file's entry in SEEN, read again when it is not what it was. True when it was. */
static bool refresh(struct catalog *c, const char *path, json_t *now)
{
	json_t *stamp = stamp_of(path);
	json_t *known = json_object_get(c->seen, path);
	if (known != NULL && json_equal(json_object_get(known, "stamp"), stamp)) {
		json_decref(stamp);
		(void)json_object_set(now, path, known);
		return false;
	}
	json_t *tools = json_array();
	json_t *problems = json_array();
	read_one(path, tools, problems);
	(void)json_object_set_new(now, path,
	    json_pack("{s:o, s:o, s:o}", "stamp", stamp, "tools", tools, "problems", problems));
	return true;
}

static int is_definition(const struct dirent *entry)
{
	return entry->d_name[0] != '.' && text_has_suffix(entry->d_name, ".yaml");
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

/* Paths in their order, as the keys of an object keep it. */
static bool refresh_dir(struct catalog *c, json_t *now, json_t *problems)
{
	struct dirent **entries = NULL;
	int count = scandir(c->dir, &entries, is_definition, by_bytes);
	bool changed = false;
	if (count < 0) {
		add_problem(problems, c->dir, strerrordesc_np(errno));
		return false;
	}
	for (int i = 0; i < count; i++) {
		char path[PATH_BYTES];
		(void)snprintf(path, sizeof(path), "%s/%s", c->dir, entries[i]->d_name);
		if (i < CATALOG_FILES_MAX) {
			changed = refresh(c, path, now) || changed;
		}
		free(entries[i]);
	}
	free(entries);
	if (count > CATALOG_FILES_MAX) {
		add_problem(problems, c->dir, "too many files: the last ones are left out");
	}
	return changed;
}

/* Puts LIST into TOOLS by name. */
static void add_tools(json_t *tools, const json_t *list, json_t *problems)
{
	for (size_t i = 0; i < json_array_size(list); i++) {
		json_t *tool = json_array_get(list, i);
		const char *name = json_string_value(json_object_get(tool, "name"));
		const char *file = json_string_value(json_object_get(tool, "file"));
		const json_t *other = json_object_get(tools, name);
		char text[400];
		if (other != NULL) {
			(void)snprintf(text, sizeof(text), "the name '%s' is taken by %.200s", name,
			    json_string_value(json_object_get(other, "file")));
			add_problem(problems, file, text);
		} else if (json_object_size(tools) >= CATALOG_TOOLS_MAX) {
			add_problem(problems, file, "too many tools");
		} else {
			(void)json_object_set(tools, name, tool);
		}
	}
}

static void replace(json_t **at, json_t *with)
{
	json_decref(*at);
	*at = with;
}

bool catalog_reload(struct catalog *c)
{
	json_t *now = json_object();
	json_t *problems = json_array();
	json_t *tools = json_object();
	bool changed = c->dir != NULL && refresh_dir(c, now, problems);
	if (c->file != NULL && json_object_get(now, c->file) == NULL) {
		changed = refresh(c, c->file, now) || changed;
	}
	changed = changed || json_object_size(now) != json_object_size(c->seen);
	const char *path;
	json_t *entry;
	json_object_foreach(now, path, entry)
	{
		(void)json_array_extend(problems, json_object_get(entry, "problems"));
		add_tools(tools, json_object_get(entry, "tools"), problems);
	}
	replace(&c->seen, now);
	/* A file that was only touched changes nothing for anybody. */
	if (!changed && json_equal(problems, c->problems)) {
		json_decref(problems);
		json_decref(tools);
		return false;
	}
	bool different = !json_equal(tools, c->tools) || !json_equal(problems, c->problems);
	replace(&c->tools, tools);
	replace(&c->problems, problems);
	return different;
}

/* --- stores and looking up
 * -----------------------------------------------------------------------
 */

static const char *space_key(const char *prefix)
{
	return prefix != NULL ? prefix : "";
}

bool catalog_define(struct catalog *c, const char *prefix, const json_t *definitions)
{
	json_t *list = json_array();
	json_t *tools = json_object();
	json_t *problems = json_array();
	for (size_t i = 0; i < json_array_size(definitions); i++) {
		definition_read_stored(
		    json_array_get(definitions, i), prefix == NULL, list, problems);
	}
	add_tools(tools, list, problems);
	json_decref(list);
	json_t *space = json_pack("{s:o, s:o}", "tools", tools, "problems", problems);
	bool changed = !json_equal(space, json_object_get(c->spaces, space_key(prefix)));
	(void)json_object_set_new(c->spaces, space_key(prefix), space);
	return changed;
}

const json_t *catalog_find(const struct catalog *c, const char *prefix, const char *name)
{
	const json_t *tool = json_object_get(c->tools, name);
	if (tool != NULL) {
		return tool;
	}
	const json_t *space = json_object_get(c->spaces, space_key(prefix));
	return json_object_get(json_object_get(space, "tools"), name);
}

void catalog_each(const struct catalog *c, catalog_fn fn, void *ctx)
{
	const char *name;
	const char *prefix;
	json_t *tool;
	json_t *space;
	json_object_foreach(c->tools, name, tool)
	{
		fn(ctx, NULL, tool);
	}
	json_object_foreach(c->spaces, prefix, space)
	{
		json_object_foreach(json_object_get(space, "tools"), name, tool)
		{
			if (json_object_get(c->tools, name) == NULL) {
				fn(ctx, *prefix != '\0' ? prefix : NULL, tool);
			}
		}
	}
}

json_t *catalog_problems(const struct catalog *c)
{
	json_t *all = json_copy(c->problems);
	const char *prefix;
	json_t *space;
	json_object_foreach(c->spaces, prefix, space)
	{
		(void)json_array_extend(all, json_object_get(space, "problems"));
	}
	return all;
}
