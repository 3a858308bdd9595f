/* /api/skills and /api/workflows: two views of one store. P5 took the second word, and tells of
 * parameters as {name: what it is} where P4 has a list. */
#include "api/pcm_ask.h"
#include "api/pcm_form.h"
#include "base/json_text.h"

#define LIMIT_DEFAULT 5
#define LIMIT_MAX 1000

/* --- P5's view ----------------------------------------------------------------------------------
 */

/* {name: description, or where there is none its type}. */
static json_t *params_of(const json_t *skill)
{
	json_t *params = json_object();
	const json_t *list = json_object_get(skill, "parameters");
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *parameter = json_array_get(list, i);
		const char *name = json_string_value(json_object_get(parameter, "name"));
		json_t *text = json_object_get(parameter, "description");
		if (json_string_length(text) == 0) {
			text = json_object_get(parameter, "type");
		}
		if (name != NULL) {
			(void)json_object_set(params, name, text);
		}
	}
	return params;
}

static json_t *workflow_of(const json_t *skill)
{
	if (!json_is_object(skill)) {
		return json_null();
	}
	json_t *out = json_object();
	(void)json_object_set(out, "name", json_object_get(skill, "name"));
	(void)json_object_set(out, "description", json_object_get(skill, "description"));
	(void)json_object_set_new(out, "params", params_of(skill));
	json_t *source = json_object_get(skill, "source");
	if (source != NULL) {
		(void)json_object_set(out, "source", source);
	}
	return out;
}

static void answer_workflow(struct call *c, void *state, enum codemode_error code,
    const json_t *result, struct loading *bytes)
{
	if (code != CODEMODE_OK) {
		pcm_answer_result(c, state, code, result, bytes);
	} else {
		pcm_reply_new(c, 200, workflow_of(result));
	}
}

static int write_workflows(struct buf *out, const json_t *skills)
{
	json_t *list = json_array();
	for (size_t i = 0; i < json_array_size(skills); i++) {
		(void)json_array_append_new(list, workflow_of(json_array_get(skills, i)));
	}
	int r = json_text_add_tree(out, list);
	json_decref(list);
	return r;
}

static void answer_workflows(struct call *c, void *state, enum codemode_error code,
    const json_t *result, struct loading *bytes)
{
	if (code != CODEMODE_OK) {
		pcm_answer_result(c, state, code, result, bytes);
	} else {
		pcm_answer_written(c, result, write_workflows);
	}
}

/* --- the requests of both -----------------------------------------------------------------------
 */

/* P4 never looked at the session here, so its ids are all good; P5's are looked at. */
static bool where(struct call *c, struct pcm_where *w)
{
	return pcm_where(c, w, text_has_prefix(c->route->pattern, "api/workflows"));
}

static void list(struct call *c, pcm_answer_fn answer)
{
	struct pcm_where w;
	if (where(c, &w)) {
		struct pcm_question q = {.method = "skills.list", .answer = answer};
		pcm_ask(c, &w.space, &q);
	}
}

static void search(struct call *c, pcm_answer_fn answer)
{
	struct pcm_form f;
	struct pcm_where w;
	(void)pcm_form_open(&f, c, PCM_QUERY);
	const char *query = pcm_form_query(&f, "query");
	uint64_t limit = pcm_form_query_number(&f, "limit", LIMIT_MAX, LIMIT_DEFAULT);
	if (pcm_form_close(&f) && where(c, &w)) {
		if (limit == 0) {
			pcm_reply_new(c, 200, json_array());
		} else {
			struct pcm_question q = {.method = "skills.search",
			    .arguments = json_pack(
				"{s:s, s:I}", "query", query, "limit", (json_int_t)limit),
			    .answer = answer};
			pcm_ask(c, &w.space, &q);
		}
	}
	pcm_form_fini(&f);
}

/* METHOD of the skill that the path names. */
static void by_name(struct call *c, const char *method, pcm_answer_fn answer)
{
	struct pcm_where w;
	json_t *name = json_string(c->params[0]);
	if (name == NULL) {
		pcm_fail(c, 400, "The name is not UTF-8");
	} else if (where(c, &w)) {
		struct pcm_question q = {.method = method,
		    .arguments = json_pack("{s:O}", "name", name),
		    .answer = answer};
		pcm_ask(c, &w.space, &q);
	}
	json_decref(name);
}

static void create(struct call *c, pcm_answer_fn answer)
{
	struct pcm_form f;
	struct pcm_where w;
	if (pcm_form_open(&f, c, PCM_BODY)) {
		const char *name = pcm_form_text(&f, "name", NULL);
		const char *source = pcm_form_text(&f, "source", NULL);
		const char *description = pcm_form_text(&f, "description", NULL);
		if (pcm_form_close(&f) && where(c, &w)) {
			struct pcm_question q = {.method = "skills.create",
			    .arguments = json_pack("{s:s, s:s, s:s}", "name", name, "source",
				source, "description", description),
			    .answer = answer};
			pcm_ask(c, &w.space, &q);
		}
	}
	pcm_form_fini(&f);
}

void pcm_skills_list(struct call *c)
{
	list(c, pcm_answer_result);
}

void pcm_skills_search(struct call *c)
{
	search(c, pcm_answer_result);
}

void pcm_skills_get(struct call *c)
{
	by_name(c, "skills.get", pcm_answer_result);
}

void pcm_skills_create(struct call *c)
{
	create(c, pcm_answer_result);
}

void pcm_skills_delete(struct call *c)
{
	by_name(c, "skills.delete", pcm_answer_result);
}

void pcm_workflows_list(struct call *c)
{
	list(c, answer_workflows);
}

void pcm_workflows_search(struct call *c)
{
	search(c, answer_workflows);
}

void pcm_workflows_get(struct call *c)
{
	by_name(c, "skills.get", answer_workflow);
}

void pcm_workflows_create(struct call *c)
{
	create(c, answer_workflow);
}
