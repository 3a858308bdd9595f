/* Finding tools and skills by words. */
#include <stdlib.h>
#include <string.h>

#include "codemode/internal.h"

static const char *text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));
	return text != NULL ? text : "";
}

/* The whole query in the name or in the description. Source: py-code-mode's scores. */
static int substring_score(const json_t *item, const char *query)
{
	const char *name = text_of(item, "name");
	int score = strcasecmp(name, query) == 0 ? 100 : strcasestr(name, query) != NULL ? 50 : 0;
	return score + (strcasestr(text_of(item, "description"), query) != NULL ? 25 : 0);
}

struct found {
	size_t place;
	int score;
};

static int by_score(const void *a, const void *b)
{
	const struct found *x = a;
	const struct found *y = b;
	if (x->score != y->score) {
		return x->score > y->score ? -1 : 1;
	}
	return x->place < y->place ? -1 : x->place > y->place;
}

json_t *tool_table_search(const json_t *tools, const char *query, size_t limit)
{
	json_t *result = json_array();
	size_t count = json_array_size(tools);
	struct found *found = calloc(count + 1, sizeof(*found));
	for (size_t i = 0; found != NULL && i < count; i++) {
		found[i] = (struct found){i, substring_score(json_array_get(tools, i), query)};
	}
	if (found != NULL) {
		qsort(found, count, sizeof(*found), by_score);
	}
	for (size_t i = 0; found != NULL && i < count && i < limit && found[i].score > 0; i++) {
		(void)json_array_append(result, json_array_get(tools, found[i].place));
	}
	free(found);
	return result;
}

json_t *skill_view_search(const struct skill_view *view, const char *query, size_t limit)
{
	return tool_table_search(view->list, query, limit);
}
