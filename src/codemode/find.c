/* Finding tools and skills by words (store/search.h). */
#include <stdlib.h>
#include <string.h>

#include "codemode/internal.h"
#include "store/search.h"

#define WORDS_MAX_BYTES (256U << 10) /* of parameters, or of tags */

static const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));
	return text != NULL ? text : "";
}

/* --- skills --------------------------------------------------------------------------------------
 */

/* The words of a list of {name, description}. */
static void add_parameters(struct buf *out, const json_t *parameters)
{
	for (size_t i = 0; i < json_array_size(parameters); i++) {
		const json_t *p = json_array_get(parameters, i);
		(void)buf_addf(out, "%s %s ", text_of(p, "name"), text_of(p, "description"));
	}
}

void find_put_skill(struct search *s, const json_t *skill)
{
	cleanup(buf_fini) struct buf parameters = BUF_INIT(WORDS_MAX_BYTES);
	add_parameters(&parameters, json_object_get(skill, "parameters"));
	const struct search_document d = {
	    .name = text_of(skill, "name"),
	    .description = text_of(skill, "description"),
	    .parameters = buf_str(&parameters),
	    .source = text_of(skill, "source"),
	};
	(void)search_put(s, &d);
}

json_t *find_skills(struct skill_set *set, const char *query, size_t limit)
{
	json_t *found = json_array();
	struct search_hit *hits = calloc(limit + 1, sizeof(*hits));
	size_t n = hits != NULL ? search_find(skill_set_search(set), query, hits, limit) : 0;
	for (size_t i = 0; i < n; i++) {
		(void)json_array_append(found, skill_set_brief(set, hits[i].name));
	}
	free(hits);
	return found;
}

/* --- tools ---------------------------------------------------------------------------------------
 */

/* What stands as a whole in the name or in the description comes first, by these scores. Source:
 * py-code-mode's search. */
static int substring_score(const json_t *tool, const char *query)
{
	const char *name = text_of(tool, "name");
	int score = strcasecmp(name, query) == 0 ? 100 : strcasestr(name, query) != NULL ? 50 : 0;
	return score + (strcasestr(text_of(tool, "description"), query) != NULL ? 25 : 0);
}

static void put_tool(struct search *s, const json_t *tool)
{
	cleanup(buf_fini) struct buf words = BUF_INIT(WORDS_MAX_BYTES);
	cleanup(buf_fini) struct buf tags = BUF_INIT(WORDS_MAX_BYTES);
	const json_t *callables = json_object_get(tool, "callables");
	for (size_t i = 0; i < json_array_size(callables); i++) {
		const json_t *callable = json_array_get(callables, i);
		(void)buf_addf(
		    &words, "%s %s ", text_of(callable, "name"), text_of(callable, "description"));
		add_parameters(&words, json_object_get(callable, "parameters"));
	}
	const json_t *list = json_object_get(tool, "tags");
	for (size_t i = 0; i < json_array_size(list); i++) {
		const char *tag = json_string_value(json_array_get(list, i));
		(void)buf_addf(&tags, "%s ", tag != NULL ? tag : "");
	}
	const struct search_document d = {
	    .name = text_of(tool, "name"),
	    .description = text_of(tool, "description"),
	    .parameters = buf_str(&words),
	    .tags = buf_str(&tags),
	};
	(void)search_put(s, &d);
}

struct found {
	const json_t *tool;
	int substring;
	double words;
};

static int by_score(const void *a, const void *b)
{
	const struct found *x = a;
	const struct found *y = b;
	if (x->substring != y->substring) {
		return x->substring > y->substring ? -1 : 1;
	}
	if (x->words != y->words) {
		return x->words > y->words ? -1 : 1;
	}
	return strcmp(text_of(x->tool, "name"), text_of(y->tool, "name"));
}

/* Tools are few, and change under a running server: no index of them is kept. */
static void score_words(
    struct found *found, size_t count, const char *query, struct search_hit *hits)
{
	struct search *s = search_new();
	for (size_t i = 0; s != NULL && i < count; i++) {
		put_tool(s, found[i].tool);
	}
	size_t n = s != NULL ? search_find(s, query, hits, count) : 0;
	for (size_t k = 0; k < n; k++) {
		for (size_t i = 0; i < count; i++) {
			if (strcmp(text_of(found[i].tool, "name"), hits[k].name) == 0) {
				found[i].words = hits[k].score;
			}
		}
	}
	search_free(s);
}

json_t *find_tools(const json_t *tools, const char *query, size_t limit)
{
	json_t *result = json_array();
	size_t count = json_array_size(tools);
	struct found *found = calloc(count + 1, sizeof(*found));
	struct search_hit *hits = calloc(count + 1, sizeof(*hits));
	bool can = found != NULL && hits != NULL;
	for (size_t i = 0; can && i < count; i++) {
		found[i].tool = json_array_get(tools, i);
		found[i].substring = substring_score(found[i].tool, query);
	}
	if (can) {
		score_words(found, count, query, hits);
		qsort(found, count, sizeof(*found), by_score);
	}
	for (size_t i = 0; can && i < count && i < limit; i++) {
		if (found[i].substring > 0 || found[i].words > 0) {
			(void)json_array_append(result, (json_t *)(uintptr_t)found[i].tool);
		}
	}
	free(found);
	free(hits);
	return result;
}
