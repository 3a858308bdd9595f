/* carrel store: what a store holds, and how it is filled from files. The words it prints are those
 * of py-code-mode's store command. */
#include "cli/cmd_store.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/download.h"
#include "cli/store_source.h"
#include "store/requirement.h"

#define SHOWN_DESCRIPTION 50 /* characters, more or less */

void store_note_problems(struct store_command *c, json_t *problems)
{
	size_t i;
	const json_t *p;
	json_array_foreach(problems, i, p)
	{
		output_note(&c->output, "%s: %s; skipped",
		    json_string_value(json_object_get(p, "file")),
		    json_string_value(json_object_get(p, "message")));
	}
	(void)json_array_extend(c->problems, problems);
	json_decref(problems);
}

const char *store_shown_prefix(const struct store_command *c)
{
	if (c->prefix != NULL) {
		return c->prefix;
	}
	return c->type == TYPE_COUNT ? "py_code_mode" : store_type_names[c->type];
}

/* "2 skills in redis://host:6379/0 (prefix: skills)", or in a directory. */
static void say_where(struct store_command *c, const char *did, const char *in, long count)
{
	const char *where = store_describe(c->store.store);
	bool is_url = strstr(where, "://") != NULL;
	if (!c->output.json) {
		(void)output_linef(&c->output, "%s%ld %s %s %s%s%s%s", did, count,
		    store_type_names[c->type], in, where, is_url ? " (prefix: " : "",
		    is_url ? store_shown_prefix(c) : "", is_url ? ")" : "");
	}
}

static void add_item(struct store_command *c, const char *word, const char *name)
{
	if (word != NULL && !c->output.json) {
		(void)output_linef(&c->output, "  %s: %s", word, name);
	}
	(void)json_array_append_new(
	    c->items, word != NULL ? json_pack("{s:s, s:s}", "name", name, "change", word)
				   : json_pack("{s:s}", "name", name));
}

/* --- bootstrap --- */

int store_clear(struct store_command *c, int type, struct err *e)
{
	cleanup(json_decrefp) json_t *there = NULL;
	if (store_place_list(&c->store, type, &there, e) < 0) {
		return -1;
	}
	size_t i;
	const json_t *record;
	json_array_foreach(there, i, record)
	{
		const char *name = store_record_name(type, record);
		if (store_place_delete(&c->store, type, name, e) < 0) {
			return -1;
		}
		add_item(c, "Removed", name);
	}
	return 0;
}

static int put_all(struct store_command *c, const json_t *records, struct err *e)
{
	size_t i;
	const json_t *record;
	progress_begin(&c->progress, &c->output, store_type_names[c->type]);
	json_array_foreach(records, i, record)
	{
		const char *name = store_record_name(c->type, record);
		if (store_place_put(&c->store, c->type, name, record, e) < 0) {
			progress_end(&c->progress);
			return err_prefix(e, "%.200s", name);
		}
		progress_update(&c->progress, i + 1, json_array_size(records));
	}
	progress_end(&c->progress);
	json_array_foreach(records, i, record)
	{
		add_item(c, "Added", store_record_name(c->type, record));
	}
	return 0;
}

/* What is to be in the store: of --source, and for dependencies of --deps. */
static int read_source(struct store_command *c, json_t **records, struct err *e)
{
	json_t *problems = NULL;
	if (c->source == NULL) {
		*records = json_array();
		problems = json_array();
	} else if (store_source_read(c->type, c->source, records, &problems, e) < 0) {
		return -1;
	}
	if (c->first_dep != NULL) {
		store_source_add_requirement(c->first_dep, "--deps", 0, *records, problems);
		for (int i = 0; i < c->count; i++) {
			store_source_add_requirement(
			    c->operands[i], "--deps", 0, *records, problems);
		}
	}
	store_note_problems(c, problems);
	return 0;
}

static int bootstrap_artifacts(struct store_command *c, long *count, struct err *e)
{
	struct store_place from = {0};
	const struct store_place_config config = {
	    .where = c->source, .type = c->type, .bare = true, .must_exist = true};
	if (store_place_open(&from, &c->loop, &config, e) < 0) {
		return -1;
	}
	*count = store_copy_all(c, &from, &c->store, c->type, "Added", e);
	store_place_close(&from);
	return *count < 0 ? -1 : 0;
}

int store_bootstrap(struct store_command *c, struct err *e)
{
	cleanup(json_decrefp) json_t *records = NULL;
	long count = 0;
	/* The source first: if it cannot be read, nothing is cleared. */
	if (c->type != TYPE_ARTIFACTS && read_source(c, &records, e) < 0) {
		return -1;
	}
	if (c->clear && store_clear(c, c->type, e) < 0) {
		return -1;
	}
	if (c->type == TYPE_ARTIFACTS) {
		if (bootstrap_artifacts(c, &count, e) < 0) {
			return -1;
		}
	} else {
		count = (long)json_array_size(records);
		if (put_all(c, records, e) < 0) {
			return -1;
		}
	}
	say_where(c, "Bootstrapped ", "to", count);
	return 0;
}

/* --- list --- */

int store_show(struct store_command *c, struct err *e)
{
	cleanup(json_decrefp) json_t *there = NULL;
	if (store_place_list(&c->store, c->type, &there, e) < 0) {
		return -1;
	}
	size_t i;
	json_t *record;
	json_array_foreach(there, i, record)
	{
		const char *about = json_string_value(json_object_get(record, "description"));
		if (c->output.json) {
			(void)json_array_append(c->items, record);
		} else if (c->type == TYPE_DEPS) {
			(void)output_linef(&c->output, "  %s", json_string_value(record));
		} else {
			size_t len = about != NULL ? strnlen(about, SHOWN_DESCRIPTION) : 0;
			while (len > 0 && ((unsigned char)about[len] & 0xc0) == 0x80) {
				len--; /* within a character */
			}
			(void)output_linef(&c->output, "  %s: %.*s",
			    store_record_name(c->type, record), (int)len,
			    about != NULL ? about : "");
		}
	}
	say_where(c, "", "in", (long)json_array_size(there));
	return 0;
}

/* --- pull --- */

/* What is written to the file of RECORD, and the file's name. */
static int render(int type, const json_t *record, struct buf *name, struct buf *text)
{
	const char *given = store_record_name(type, record);
	if (type == TYPE_SKILLS) {
		const json_t *source = json_object_get(record, "source");
		return buf_addf(name, "%s.py", given) < 0 ||
			       buf_add(
				   text, json_string_value(source), json_string_length(source)) < 0
			   ? -1
			   : 0;
	}
	/* JSON is YAML. */
	cleanup(text_free) char *json = json_dumps(record, JSON_INDENT(2));
	return json == NULL || buf_addf(name, "%s.yaml", given) < 0 ||
		       buf_addf(text, "%s\n", json) < 0
		   ? -1
		   : 0;
}

/* The whole of it under its name, or nothing. */
static int write_file(const char *path, const struct buf *text, struct err *e)
{
	struct download d = DOWNLOAD_NONE;
	int r = download_open(&d, path, e);
	if (r == 0) {
		int written = fd_write_all(d.fd, buf_str(text), text->len);
		r = written < 0 ? err_set_os(e, -written, "cannot write %s", path)
				: download_commit(&d, e);
	}
	download_fini(&d);
	return r;
}

static int pull_one(struct store_command *c, const json_t *record, struct err *e)
{
	cleanup(buf_fini) struct buf name = BUF_INIT(1024);
	cleanup(buf_fini) struct buf text = BUF_INIT(8 * STORE_RECORD_MAX_BYTES);
	cleanup(buf_fini) struct buf path = BUF_INIT(8192);
	if (render(c->type, record, &name, &text) < 0 ||
	    buf_addf(&path, "%s/%s", c->dest, buf_str(&name)) < 0) {
		return err_set(e, ERR_INTERNAL, "out of memory");
	}
	if (write_file(buf_str(&path), &text, e) < 0) {
		return -1;
	}
	const char *shown = store_record_name(c->type, record);
	if (!c->output.json) {
		(void)output_linef(&c->output, "  %s -> %s", shown, buf_str(&path));
	}
	(void)json_array_append_new(
	    c->items, json_pack("{s:s, s:s}", "name", shown, "path", buf_str(&path)));
	return 0;
}

static int pull_deps(struct store_command *c, const json_t *there, struct err *e)
{
	cleanup(buf_fini) struct buf text = BUF_INIT(64U << 20);
	cleanup(buf_fini) struct buf path = BUF_INIT(8192);
	size_t i;
	const json_t *line;
	json_array_foreach(there, i, line)
	{
		(void)buf_addf(&text, "%s\n", json_string_value(line));
		add_item(c, NULL, json_string_value(line));
	}
	(void)buf_addf(&path, "%s/requirements.txt", c->dest);
	return write_file(buf_str(&path), &text, e);
}

static long pull_artifacts(struct store_command *c, struct err *e)
{
	struct store_place to = {0};
	const struct store_place_config config = {.where = c->dest, .type = c->type, .bare = true};
	if (store_place_open(&to, &c->loop, &config, e) < 0) {
		return -1;
	}
	long count = store_copy_all(c, &c->store, &to, c->type, "Pulled", e);
	store_place_close(&to);
	return count;
}

static long pull_records(struct store_command *c, struct err *e)
{
	cleanup(json_decrefp) json_t *there = NULL;
	if (store_place_list(&c->store, c->type, &there, e) < 0) {
		return -1;
	}
	if (c->type == TYPE_DEPS) {
		return pull_deps(c, there, e) < 0 ? -1 : (long)json_array_size(there);
	}
	size_t i;
	const json_t *record;
	json_array_foreach(there, i, record)
	{
		if (pull_one(c, record, e) < 0) {
			return -1;
		}
	}
	return (long)json_array_size(there);
}

int store_pull(struct store_command *c, struct err *e)
{
	if (mkdir(c->dest, 0777) < 0 && errno != EEXIST) {
		return err_set_os(e, errno, "%s cannot be made", c->dest);
	}
	long count = c->type == TYPE_ARTIFACTS ? pull_artifacts(c, e) : pull_records(c, e);
	if (count >= 0 && !c->output.json) {
		(void)output_linef(
		    &c->output, "Pulled %ld %s to %s", count, store_type_names[c->type], c->dest);
	}
	return count < 0 ? -1 : 0;
}

/* --- the command line --- */

static const struct verb {
	const char *name;
	int (*run)(struct store_command *c, struct err *e);
	bool source, dest, clear, all; /* options it takes; all: it may be about every type */
} verbs[] = {
    {"bootstrap", store_bootstrap, true, false, true, false},
    {"list", store_show, false, false, false, false},
    {"pull", store_pull, false, true, false, false},
    {"diff", store_diff, true, false, false, false},
    {"export", store_export, false, true, false, true},
    {"import", store_import, true, false, true, true},
};

static const struct verb *find_verb(const char *name)
{
	for (size_t i = 0; i < array_len(verbs); i++) {
		if (strcmp(verbs[i].name, name) == 0) {
			return &verbs[i];
		}
	}
	return NULL;
}

static int set_type(struct store_command *c, const struct verb *v, struct err *e)
{
	c->type = v->all ? TYPE_COUNT : TYPE_SKILLS;
	if (c->type_name == NULL) {
		return 0;
	}
	for (int i = 0; i < TYPE_COUNT; i++) {
		if (strcmp(c->type_name, store_type_names[i]) == 0) {
			c->type = i;
			return 0;
		}
	}
	if (strcmp(c->type_name, "workflows") == 0) {
		c->type = TYPE_SKILLS;
		return 0;
	}
	return err_set(
	    e, ERR_INVALID, "--type is skills, tools, deps or artifacts, not '%s'", c->type_name);
}

static int check(struct store_command *c, const struct verb *v, struct err *e)
{
	if (set_type(c, v, e) < 0) {
		return -1;
	}
	bool deps = strcmp(v->name, "bootstrap") == 0 && c->type == TYPE_DEPS;
	if (c->target == NULL) {
		c->target = getenv("REDIS_URL");
	}
	if (c->target == NULL || *c->target == '\0') {
		return err_set(e, ERR_INVALID, "%s needs --target (or REDIS_URL)", v->name);
	}
	if (c->first_dep != NULL && !deps) {
		return err_set(e, ERR_INVALID, "--deps is for bootstrap --type deps");
	}
	if (c->count > 0 && c->first_dep == NULL) {
		return err_set(e, ERR_INVALID, "%s takes no '%s'", v->name, c->operands[0]);
	}
	if (v->source != (c->source != NULL) && !(c->source == NULL && c->first_dep != NULL)) {
		return err_set(e, ERR_INVALID,
		    v->source ? "%s needs --source" : "%s has no --source", v->name);
	}
	if (v->dest != (c->dest != NULL)) {
		return err_set(
		    e, ERR_INVALID, v->dest ? "%s needs --dest" : "%s has no --dest", v->name);
	}
	if (c->clear && !v->clear) {
		return err_set(e, ERR_INVALID, "%s has no --clear", v->name);
	}
	return 0;
}

static int run_verb(struct store_command *c, const struct verb *v, struct err *e)
{
	const struct store_place_config config = {.where = c->target,
	    .ca_file = c->shared.ca_file,
	    .prefix = c->prefix,
	    .type = c->type,
	    .must_exist = !v->source};
	if (store_place_open(&c->store, &c->loop, &config, e) < 0 || v->run(c, e) < 0) {
		return -1;
	}
	if (!c->output.json) {
		return 0;
	}
	cleanup(json_decrefp) json_t *document = json_pack("{s:s, s:s, s:O, s:O}", "target",
	    store_describe(c->store.store), "prefix", store_shown_prefix(c), "items", c->items,
	    "problems", c->problems);
	return output_json(&c->output, document, e);
}

static int run(struct store_command *c, const struct verb *v)
{
	struct err e;
	(void)sigaction(SIGPIPE, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
	output_init(&c->output, c->shared.json);
	c->problems = json_array();
	c->items = json_array();
	(void)uv_loop_init(&c->loop);
	int r = run_verb(c, v, &e);
	bool failed = json_array_size(c->problems) > 0 || c->differs;
	store_place_close(&c->store);
	(void)uv_run(&c->loop, UV_RUN_DEFAULT);
	(void)uv_loop_close(&c->loop);
	json_decref(c->problems);
	json_decref(c->items);
	if (r < 0) {
		return output_failure(&c->output, NULL, &e);
	}
	return failed ? CLI_EXIT_USER : CLI_EXIT_OK;
}

int cmd_store(int argc, char **argv)
{
	struct store_command c = {0};
	struct err e;
	const struct option_entry own[] = {
	    {"source", 0, &c.source, NULL},
	    {"target", 0, &c.target, NULL},
	    {"prefix", 0, &c.prefix, NULL},
	    {"type", 0, &c.type_name, NULL},
	    {"dest", 0, &c.dest, NULL},
	    {"deps", 0, &c.first_dep, NULL},
	    {"clear", 0, NULL, &c.clear},
	};
	int first = options_parse(&c.shared, argc, argv, own, array_len(own), &e);
	if (first < 0) {
		return command_usage_error("store", &e);
	}
	const struct verb *v = first < argc ? find_verb(argv[first]) : NULL;
	if (v == NULL) {
		(void)err_set(&e, ERR_INVALID,
		    "say what to do: bootstrap, list, pull, diff, export or import");
		return command_usage_error("store", &e);
	}
	c.operands = argv + first + 1;
	c.count = argc - first - 1;
	if (check(&c, v, &e) < 0) {
		return command_usage_error("store", &e);
	}
	return run(&c, v);
}
