/* skills.*: Python that agents keep for each other. Sources are parsed by the parsing session. */
#include <string.h>

#include "base/log.h"
#include "codemode/internal.h"

#define FOUND_OTHERWISE 10
#define RANKED_MAX 50 /* of the words' best, put in the order of their embeddings */

static void fail_description(struct method_call *c, const json_t *said)
{
	call_fail(c, json_string_value(json_object_get(said, "error")), "%s",
	    json_string_value(json_object_get(said, "message")));
}

/* --- list, search --------------------------------------------------------------------------------
 */

static void on_list(struct method_call *c, struct skill_set *set, const struct err *e)
{
	if (e != NULL) {
		call_fail_store(c, e);
		return;
	}
	call_finish(c, json_incref(skill_set_list(set)));
}

static void skills_list(struct method_call *c)
{
	skill_view_get(c, false, on_list);
}

static void finish_found(struct method_call *c, const size_t *order, size_t count)
{
	json_t *found = json_array();
	for (size_t i = 0; i < count && i < c->count; i++) {
		(void)json_array_append(
		    found, json_array_get(c->kept, order != NULL ? order[i] : i));
	}
	call_finish(c, found);
}

static void on_ranked(void *ctx, const size_t *order, size_t count)
{
	struct method_call *c = ctx;
	c->ranking = NULL;
	finish_found(c, order, order != NULL ? count : json_array_size(c->kept));
}

/* What the embeddings are made of. */
static json_t *texts_of(const struct skill_set *set, const json_t *skills)
{
	json_t *texts = json_array();
	for (size_t i = 0; i < json_array_size(skills); i++) {
		const json_t *brief = json_array_get(skills, i);
		const json_t *skill = skill_set_skill(
		    set, json_string_value(json_object_get(brief, "name")));
		(void)json_array_append_new(
		    texts, json_pack("[O, O]", json_object_get(skill, "description"),
			       json_object_get(skill, "source")));
	}
	return texts;
}

static void on_view_to_search(struct method_call *c, struct skill_set *set, const struct err *e)
{
	struct ranker *ranker = c->codemode->ranker;
	if (e != NULL) {
		call_fail_store(c, e);
		return;
	}
	c->count = argument_count(c, "limit", FOUND_OTHERWISE);
	size_t most = ranker != NULL && c->count < RANKED_MAX ? RANKED_MAX : c->count;
	c->kept = find_skills(set, argument_text(c, "query"), most);
	size_t found = json_array_size(c->kept);
	if (ranker == NULL || found < 2 || found > RANKED_MAX) {
		finish_found(c, NULL, found);
		return;
	}
	json_t *texts = texts_of(set, c->kept);
	call_wait(c, ranking, rank(ranker, argument_text(c, "query"), texts, on_ranked, c));
	json_decref(texts);
}

static void skills_search(struct method_call *c)
{
	skill_view_get(c, true, on_view_to_search);
}

/* --- get -----------------------------------------------------------------------------------------
 */

static void on_described(void *ctx, const json_t *results, const struct err *e)
{
	struct method_call *c = ctx;
	c->describing = NULL;
	if (e != NULL) {
		call_fail_busy(c, e, "The skill cannot be read");
		return;
	}
	const json_t *said = json_array_get(results, 0);
	if (json_object_get(said, "error") != NULL) {
		fail_description(c, said);
		return;
	}
	call_finish(c, skill_of(c->kept, said));
}

static void describe_one(struct method_call *c, const char *source, describe_fn fn)
{
	json_t *sources = json_pack("[s]", source);
	call_wait(c, describing, describe(c->codemode->describer, c->prefix, sources, fn, c));
	json_decref(sources);
}

static void on_got(void *ctx, json_t *record, const struct err *e)
{
	struct method_call *c = ctx;
	c->request = NULL;
	const char *source = json_string_value(json_object_get(record, "source"));
	if (e != NULL) {
		call_fail_store(c, e);
	} else if (source == NULL) {
		call_finish(c, json_null());
	} else if (skill_describes_itself(record)) {
		call_finish(c, skill_of(record, NULL));
	} else {
		c->kept = json_incref(record);
		describe_one(c, source, on_described);
	}
}

static void skills_get(struct method_call *c)
{
	call_wait(c, request,
	    store_get(c->codemode->config.store, &c->space, STORE_SKILLS, argument_text(c, "name"),
		on_got, c));
}

/* --- create, delete ------------------------------------------------------------------------------
 */

static void log_change(const struct method_call *c, const char *event)
{
	log_event(LOG_LEVEL_INFO, event, LOG_STR("name", argument_text(c, "name")),
	    LOG_STR("prefix", c->prefix), LOG_STR("workspace", c->workspace));
}

static void on_created(void *ctx, bool changed, const struct err *e)
{
	struct method_call *c = ctx;
	(void)changed;
	c->request = NULL;
	if (e != NULL) {
		call_fail_store(c, e);
		return;
	}
	log_change(c, "skill_created");
	call_finish(c, json_incref(c->kept));
}

static void on_described_to_create(void *ctx, const json_t *results, const struct err *e)
{
	struct method_call *c = ctx;
	c->describing = NULL;
	if (e != NULL) {
		call_fail_busy(c, e, "The skill cannot be checked");
		return;
	}
	const json_t *said = json_array_get(results, 0);
	if (json_object_get(said, "error") != NULL) {
		fail_description(c, said);
		return;
	}
	c->kept = skill_of(c->arguments, said);
	call_wait(c, request,
	    store_put(c->codemode->config.store, &c->space, STORE_SKILLS, argument_text(c, "name"),
		c->kept, on_created, c));
}

static void skills_create(struct method_call *c)
{
	const char *source = argument_text(c, "source");
	if (strlen(source) > STORE_RECORD_MAX_BYTES) {
		call_fail(c, "ValueError", "A skill has at most %u KiB of source",
		    STORE_RECORD_MAX_BYTES >> 10);
		return;
	}
	describe_one(c, source, on_described_to_create);
}

static void on_deleted(void *ctx, bool changed, const struct err *e)
{
	struct method_call *c = ctx;
	c->request = NULL;
	if (e != NULL) {
		call_fail_store(c, e);
		return;
	}
	if (changed) {
		log_change(c, "skill_deleted");
	}
	call_finish(c, json_boolean(changed));
}

static void skills_delete(struct method_call *c)
{
	call_wait(c, request,
	    store_delete(c->codemode->config.store, &c->space, STORE_SKILLS,
		argument_text(c, "name"), on_deleted, c));
}

const struct method skills_methods[] = {
    {"skills.list", {{0}}, skills_list},
    {"skills.search", {{"query", ARGUMENT_TEXT, false}, {"limit", ARGUMENT_COUNT, true}},
	skills_search},
    {"skills.get", {{"name", ARGUMENT_TEXT, false}}, skills_get},
    {"skills.create",
	{{"name", ARGUMENT_TEXT, false}, {"source", ARGUMENT_TEXT, false},
	    {"description", ARGUMENT_TEXT, true}},
	skills_create},
    {"skills.delete", {{"name", ARGUMENT_TEXT, false}}, skills_delete},
    {0},
};
