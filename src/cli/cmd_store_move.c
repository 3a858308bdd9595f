/* carrel store diff, export, import: one store beside another. A directory that export writes is a
 * file store, which a server can be started on as it is. */
#include <string.h>

#include "base/text.h"
#include "cli/cmd_store.h"
#include "cli/skill_source.h"
#include "cli/store_source.h"
#include "store/requirement.h"

/* --- copying --- */

struct bar {
	struct store_command *command;
	uint64_t before; /* bytes of those that are done */
	uint64_t total;
};

static void on_progress(void *ctx, uint64_t done, uint64_t total)
{
	const struct bar *b = ctx;
	(void)total;
	progress_update(&b->command->progress, b->before + done, b->total);
}

static uint64_t size_of(const json_t *artifact)
{
	return (uint64_t)json_integer_value(json_object_get(artifact, "size"));
}

/* A skill as py-code-mode takes it: with a description, which a file may not have told. */
static void complete_skill(json_t *record)
{
	struct err ignored;
	const json_t *source = json_object_get(record, "source");
	if (json_is_string(json_object_get(record, "description"))) {
		return;
	}
	cleanup(buf_fini) struct buf description = BUF_INIT(STORE_RECORD_MAX_BYTES);
	(void)skill_source_read(
	    json_string_value(source), json_string_length(source), &description, &ignored);
	(void)json_object_set_new(record, "description", json_string(buf_str(&description)));
}

static int copy_one(struct bar *b, struct store_place *from, struct store_place *to, int type,
    json_t *record, struct err *e)
{
	const char *name = store_record_name(type, record);
	if (type == TYPE_ARTIFACTS) {
		int r = store_place_copy(from, to, name, on_progress, b, e);
		b->before += size_of(record);
		return r;
	}
	if (type == TYPE_SKILLS) {
		complete_skill(record);
	}
	return store_place_put(to, type, name, record, e);
}

long store_copy_all(struct store_command *c, struct store_place *from, struct store_place *to,
    int type, const char *word, struct err *e)
{
	cleanup(json_decrefp) json_t *listed = NULL;
	if (store_place_list(from, type, &listed, e) < 0) {
		return -1;
	}
	cleanup(json_decrefp) json_t *there = json_deep_copy(listed);
	struct bar b = {.command = c};
	size_t i;
	json_t *record;
	json_array_foreach(there, i, record)
	{
		b.total += type == TYPE_ARTIFACTS ? size_of(record) : 0;
	}
	progress_begin(&c->progress, &c->output, store_type_names[type]);
	json_array_foreach(there, i, record)
	{
		const char *name = store_record_name(type, record);
		if (copy_one(&b, from, to, type, record, e) < 0) {
			progress_end(&c->progress);
			return err_prefix(e, "%.200s", name);
		}
		if (type != TYPE_ARTIFACTS) {
			progress_update(&c->progress, i + 1, json_array_size(there));
		}
	}
	progress_end(&c->progress);
	json_array_foreach(there, i, record)
	{
		const char *name = store_record_name(type, record);
		if (word != NULL && !c->output.json) {
			(void)output_linef(&c->output, "  %s: %s", word, name);
		}
		(void)json_array_append_new(c->items,
		    json_pack("{s:s, s:s}", "name", name, "type", store_type_names[type]));
	}
	return (long)json_array_size(there);
}

/* All types, or the one asked for. */
static int move(
    struct store_command *c, struct store_place *from, struct store_place *to, struct err *e)
{
	for (int type = 0; type < TYPE_COUNT; type++) {
		if (c->type != TYPE_COUNT && c->type != type) {
			continue;
		}
		if (c->clear && store_clear(c, type, e) < 0) {
			return -1;
		}
		long count = store_copy_all(c, from, to, type, NULL, e);
		if (count < 0) {
			return -1;
		}
		if (!c->output.json) {
			(void)output_linef(&c->output, "  %s: %ld", store_type_names[type], count);
		}
	}
	return 0;
}

int store_export(struct store_command *c, struct err *e)
{
	struct store_place to = {0};
	const struct store_place_config config = {.where = c->dest, .type = TYPE_COUNT};
	if (store_place_open(&to, &c->loop, &config, e) < 0) {
		return -1;
	}
	int r = move(c, &c->store, &to, e);
	store_place_close(&to);
	if (r == 0 && !c->output.json) {
		(void)output_linef(
		    &c->output, "Exported %s to %s", store_describe(c->store.store), c->dest);
	}
	return r;
}

/* The files that a store passes over in silence are named here. */
static void note_bad_files(struct store_command *c)
{
	for (int type = 0; type < TYPE_COUNT; type++) {
		struct err ignored;
		char path[4096];
		json_t *records = NULL;
		json_t *problems = NULL;
		(void)snprintf(path, sizeof(path), "%s/%s", c->source, store_type_names[type]);
		if ((c->type == TYPE_COUNT || c->type == type) && type != TYPE_ARTIFACTS &&
		    store_source_read(type, path, &records, &problems, &ignored) == 0) {
			json_decref(records);
			store_note_problems(c, problems);
		}
	}
}

int store_import(struct store_command *c, struct err *e)
{
	struct store_place from = {0};
	const struct store_place_config config = {
	    .where = c->source, .type = TYPE_COUNT, .must_exist = true};
	if (store_place_open(&from, &c->loop, &config, e) < 0) {
		return -1;
	}
	note_bad_files(c);
	int r = move(c, &from, &c->store, e);
	store_place_close(&from);
	if (r == 0 && !c->output.json) {
		(void)output_linef(
		    &c->output, "Imported %s to %s", c->source, store_describe(c->store.store));
	}
	return r;
}

/* --- diff --- */

/* What two records of a name are compared by. Source: py-code-mode's diff, over name, description
 * and source; of tools everything counts. */
static bool same_record(int type, const json_t *a, const json_t *b)
{
	if (type == TYPE_DEPS || type == TYPE_TOOLS) {
		return json_equal(a, b);
	}
	return json_equal(json_object_get(a, "source"), json_object_get(b, "source")) &&
	       json_equal(json_object_get(a, "description"), json_object_get(b, "description"));
}

struct sides {
	struct store_place *source; /* of artifacts */
	struct store_command *command;
};

static int same(const struct sides *s, const json_t *a, const json_t *b, bool *out, struct err *e)
{
	struct store_command *c = s->command;
	if (c->type != TYPE_ARTIFACTS) {
		*out = same_record(c->type, a, b);
		return 0;
	}
	unsigned char one[STORE_PLACE_DIGEST_BYTES];
	unsigned char two[STORE_PLACE_DIGEST_BYTES];
	const char *name = store_record_name(c->type, a);
	*out = size_of(a) == size_of(b);
	if (*out) {
		if (store_place_digest(s->source, name, one, e) < 0 ||
		    store_place_digest(&c->store, name, two, e) < 0) {
			return -1;
		}
		*out = memcmp(one, two, sizeof(one)) == 0;
	}
	return 0;
}

/* The name by which two records are of the same thing; a requirement's without its versions. */
static const char *key_of(int type, const json_t *record, char out[REQUIREMENT_MAX + 1])
{
	const char *name = store_record_name(type, record);
	return type == TYPE_DEPS ? requirement_name(name, out) : name;
}

static json_t *by_key(int type, const json_t *records)
{
	json_t *all = json_object();
	char key[REQUIREMENT_MAX + 1];
	size_t i;
	json_t *record;
	json_array_foreach(records, i, record)
	{
		(void)json_object_set(all, key_of(type, record, key), record);
	}
	return all;
}

static void show_difference(
    struct store_command *c, char sign, const char *name, const char *explained)
{
	c->differs = c->differs || sign != '=';
	if (!c->output.json) {
		(void)output_linef(&c->output, "  %c %s%s", sign, name, explained);
	}
	(void)json_array_append_new(
	    c->items, json_pack("{s:s, s:s%}", "name", name, "difference", &sign, (size_t)1));
}

static int compare(const struct sides *s, const json_t *mine, const json_t *theirs, struct err *e)
{
	struct store_command *c = s->command;
	cleanup(json_decrefp) json_t *names = json_object();
	(void)json_object_update(names, (json_t *)(uintptr_t)mine);
	(void)json_object_update(names, (json_t *)(uintptr_t)theirs);
	/* jansson sorts for us only when it writes, so it is written and read. */
	cleanup(text_free) char *text = json_dumps(names, JSON_SORT_KEYS);
	cleanup(json_decrefp) json_t *sorted = text != NULL ? json_loads(text, 0, NULL) : NULL;
	const char *name;
	json_t *unused;
	json_object_foreach(sorted, name, unused)
	{
		const json_t *a = json_object_get(mine, name);
		const json_t *b = json_object_get(theirs, name);
		bool equal = false;
		if (a != NULL && b != NULL && same(s, a, b, &equal, e) < 0) {
			return -1;
		}
		if (a == NULL) {
			show_difference(c, '+', name, " (agent-created)");
		} else if (b == NULL) {
			show_difference(c, '-', name, " (removed from store)");
		} else {
			show_difference(c, equal ? '=' : '~', name, equal ? "" : " (modified)");
		}
	}
	return 0;
}

static int diff_with(struct sides *s, const json_t *source, struct err *e)
{
	struct store_command *c = s->command;
	cleanup(json_decrefp) json_t *there = NULL;
	if (store_place_list(&c->store, c->type, &there, e) < 0) {
		return -1;
	}
	cleanup(json_decrefp) json_t *mine = by_key(c->type, source);
	cleanup(json_decrefp) json_t *theirs = by_key(c->type, there);
	return compare(s, mine, theirs, e);
}

int store_diff(struct store_command *c, struct err *e)
{
	cleanup(json_decrefp) json_t *source = NULL;
	struct store_place from = {0};
	struct sides s = {.source = &from, .command = c};
	if (c->type != TYPE_ARTIFACTS) {
		json_t *problems = NULL;
		if (store_source_read(c->type, c->source, &source, &problems, e) < 0) {
			return -1;
		}
		store_note_problems(c, problems);
		return diff_with(&s, source, e);
	}
	const struct store_place_config config = {
	    .where = c->source, .type = c->type, .bare = true, .must_exist = true};
	if (store_place_open(&from, &c->loop, &config, e) < 0) {
		return -1;
	}
	int r = store_place_list(&from, c->type, &source, e);
	r = r == 0 ? diff_with(&s, source, e) : r;
	store_place_close(&from);
	return r;
}
