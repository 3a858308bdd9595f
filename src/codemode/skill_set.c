#include "codemode/skill_set.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/clock.h"
#include "codemode/internal.h"

/* The clock is looked at after so many things that take no time to speak of. */
#define BETWEEN_LOOKS 64

struct skill {
	json_t *record;
	json_t *whole;             /* with its source; NULL: it is no skill */
	json_t *brief;             /* without */
	size_t bytes;              /* of its source */
	bool indexed;              /* it is in the index */
	struct skill *prev, *next; /* change.made, change.asked or skill_set.unindexed */
};

enum phase { PHASE_COMPARE, PHASE_ASK, PHASE_TAKE };

/* Two sorted lists, what is and what shall be, are gone through side by side: once to find what is
 * new, and once, when all of it is described, to take it over. */
struct change {
	enum phase phase;
	json_t *records;
	struct skill **skills; /* what shall be: of the set, or of MADE or ASKED */
	size_t count, old_at;
	struct skill *made, *asked;
	json_t *sources; /* of the first of ASKED */
	size_t taken;    /* of SKILLS */
	json_t *list;
	size_t bytes;
};

struct skill_set {
	struct skill **skills; /* sorted by name */
	size_t count;
	json_t *list;
	size_t bytes;
	struct search *index;    /* NULL until somebody searches */
	struct skill *unindexed; /* of SKILLS */
	struct change *change;
	json_t *garbage;
};

static const char *name_of(const json_t *record)
{
	const char *name = json_string_value(json_object_get(record, "name"));
	return name != NULL ? name : "";
}

/* --- one skill -----------------------------------------------------------------------------------
 */

bool skill_describes_itself(const json_t *record)
{
	return json_is_string(json_object_get(record, "description")) &&
	       json_is_string(json_object_get(record, "source")) &&
	       describe_parameters_are_good(json_object_get(record, "parameters"));
}

json_t *skill_of(const json_t *record, const json_t *said)
{
	const json_t *from = said != NULL ? said : record;
	json_t *own = json_object_get(record, "description");
	json_t *description = json_string_length(own) > 0 ? own
							  : json_object_get(from, "description");
	json_t *parameters = json_object_get(from, "parameters");
	if (description == NULL || parameters == NULL || json_object_get(from, "error") != NULL) {
		return NULL;
	}
	return json_pack("{s:O, s:O, s:O, s:O}", "name", json_object_get(record, "name"),
	    "description", description, "parameters", parameters, "source",
	    json_object_get(record, "source"));
}

static void skill_free(struct skill *k)
{
	json_decref(k->record);
	json_decref(k->whole);
	json_decref(k->brief);
	free(k);
}

/* WHOLE is taken; NULL: it is no skill. */
static void describe_as(struct skill *k, json_t *whole)
{
	k->whole = whole;
	k->brief = whole != NULL ? json_copy(whole) : NULL;
	k->bytes = json_string_length(json_object_get(whole, "source"));
	(void)json_object_del(k->brief, "source");
}

/* RECORD says what K's did: its texts take the place of K's, which need not be kept twice. */
static void replace_record(struct skill *k, json_t *record)
{
	json_decref(k->record);
	k->record = json_incref(record);
	if (k->whole != NULL) {
		json_t *whole = json_copy(k->whole);
		(void)json_object_set(whole, "source", json_object_get(record, "source"));
		json_decref(k->whole);
		k->whole = whole;
	}
}

/* --- life ----------------------------------------------------------------------------------------
 */

struct skill_set *skill_set_new(void)
{
	struct skill_set *s = calloc(1, sizeof(*s));
	if (s != NULL) {
		s->list = json_array();
	}
	return s;
}

void skill_set_free(struct skill_set *s)
{
	if (s == NULL) {
		return;
	}
	skill_set_give_up(s);
	for (size_t i = 0; i < s->count; i++) {
		skill_free(s->skills[i]);
	}
	free(s->skills);
	json_decref(s->list);
	json_decref(s->garbage);
	search_free(s->index);
	free(s);
}

static void free_all(struct skill **list)
{
	struct skill *k;
	struct skill *next;
	DL_FOREACH_SAFE(*list, k, next)
	{
		DL_DELETE(*list, k);
		skill_free(k);
	}
}

static void change_free(struct change *c)
{
	json_decref(c->records);
	json_decref(c->sources);
	json_decref(c->list);
	free(c->skills);
	free(c);
}

void skill_set_give_up(struct skill_set *s)
{
	/* What has begun to be taken over is brought to its end: nothing stands in its way. */
	while (s->change != NULL && s->change->phase == PHASE_TAKE) {
		(void)skill_set_step(s, UINT64_MAX);
	}
	if (s->change != NULL) {
		free_all(&s->change->made);
		free_all(&s->change->asked);
		change_free(steal(&s->change));
	}
}

int skill_set_change(struct skill_set *s, json_t *records)
{
	struct change *c = calloc(1, sizeof(*c));
	if (c == NULL) {
		return -ENOMEM;
	}
	c->records = json_incref(records);
	c->list = json_array();
	c->skills = calloc(json_array_size(records) + 1, sizeof(struct skill *));
	if (c->skills == NULL || c->list == NULL) {
		change_free(c);
		return -ENOMEM;
	}
	s->change = c;
	return 0;
}

bool skill_set_is_changing(const struct skill_set *s)
{
	return s->change != NULL;
}

/* --- what is new ---------------------------------------------------------------------------------
 */

/* Whether OLD is of RECORD, or of one that says the same. */
static bool is_of(struct skill *old, json_t *record)
{
	if (old->record == record) {
		return true;
	}
	bool same = json_equal(old->record, record);
	if (same) {
		replace_record(old, record);
	}
	return same;
}

static struct skill *make(struct change *c, json_t *record)
{
	struct skill *k = calloc(1, sizeof(*k));
	if (k == NULL) {
		return NULL;
	}
	k->record = json_incref(record);
	if (skill_describes_itself(record)) {
		describe_as(k, skill_of(record, NULL));
	} else if (json_is_string(json_object_get(record, "source"))) {
		DL_APPEND(c->asked, k);
		return k;
	}
	DL_APPEND(c->made, k);
	return k;
}

/* Passes over an old one that is no more, or finds or makes the next. *HEAVY: it took its time. 0
 * or -ENOMEM. */
static int compare_one(const struct skill_set *s, struct change *c, bool *heavy)
{
	json_t *record = json_array_get(c->records, c->count);
	struct skill *old = c->old_at < s->count ? s->skills[c->old_at] : NULL;
	int order = old == NULL             ? 1
		    : old->record == record ? 0
					    : strcmp(name_of(old->record), name_of(record));
	*heavy = order > 0 || (order == 0 && old->record != record);
	c->old_at += order <= 0 ? 1 : 0;
	if (order < 0) {
		return 0;
	}
	struct skill *k = order == 0 && is_of(old, record) ? old : make(c, record);
	c->skills[c->count] = k;
	c->count += k != NULL ? 1 : 0;
	return k != NULL ? 0 : -ENOMEM;
}

static enum skill_set_state compare(struct skill_set *s, uint64_t until_us)
{
	struct change *c = s->change;
	size_t total = json_array_size(c->records);
	bool heavy;
	for (unsigned light = 1; c->count < total; light++) {
		if (compare_one(s, c, &heavy) < 0) {
			skill_set_give_up(s);
			return SKILL_SET_FAILED;
		}
		if ((heavy || light % BETWEEN_LOOKS == 0) && clock_mono_us() >= until_us) {
			return SKILL_SET_GOES_ON;
		}
	}
	c->phase = PHASE_ASK;
	return SKILL_SET_GOES_ON;
}

/* --- what is said --------------------------------------------------------------------------------
 */

static enum skill_set_state ask(struct change *c)
{
	const struct skill *k;
	size_t bytes = 0;
	if (c->sources != NULL) {
		return SKILL_SET_ASKS;
	}
	if (c->asked == NULL) {
		c->phase = PHASE_TAKE;
		c->old_at = 0;
		return SKILL_SET_GOES_ON;
	}
	c->sources = json_array();
	DL_FOREACH(c->asked, k)
	{
		json_t *source = json_object_get(k->record, "source");
		bytes += json_string_length(source);
		if (json_array_size(c->sources) > 0 &&
		    (bytes > SKILL_SET_SOURCES_BYTES ||
			json_array_size(c->sources) == SKILL_SET_SOURCES_MAX)) {
			break;
		}
		(void)json_array_append(c->sources, source);
	}
	return SKILL_SET_ASKS;
}

const json_t *skill_set_sources(const struct skill_set *s)
{
	return s->change != NULL ? s->change->sources : NULL;
}

void skill_set_told(struct skill_set *s, const json_t *results)
{
	struct change *c = s->change;
	for (size_t i = 0; i < json_array_size(c->sources) && c->asked != NULL; i++) {
		struct skill *k = c->asked;
		DL_DELETE(c->asked, k);
		DL_APPEND(c->made, k);
		const json_t *said = json_array_get(results, i);
		describe_as(k, said != NULL ? skill_of(k->record, said) : NULL);
	}
	json_decref(c->sources);
	c->sources = NULL;
}

/* --- taking over ---------------------------------------------------------------------------------
 */

/* OLD is no more, or is another by now. */
static void retire(struct skill_set *s, struct skill *old)
{
	if (old->indexed) {
		(void)search_remove(s->index, name_of(old->record));
	} else if (old->whole != NULL) {
		DL_DELETE(s->unindexed, old);
	}
	skill_free(old);
}

static void take(struct skill_set *s, struct change *c, struct skill *k, bool is_new)
{
	if (is_new) {
		DL_DELETE(c->made, k);
	}
	if (is_new && k->whole != NULL) {
		DL_APPEND(s->unindexed, k);
	}
	if (k->whole != NULL) {
		(void)json_array_append(c->list, k->brief);
		c->bytes += k->bytes;
	}
}

/* One of either list, or of both. False: both are at their end. HEAVY: it took its time. */
static bool take_one(struct skill_set *s, struct change *c, bool *heavy)
{
	struct skill *old = c->old_at < s->count ? s->skills[c->old_at] : NULL;
	struct skill *k = c->taken < c->count ? c->skills[c->taken] : NULL;
	*heavy = false;
	if (old == NULL && k == NULL) {
		return false;
	}
	bool same = old == k;
	int order = same          ? 0
		    : old == NULL ? 1
		    : k == NULL   ? -1
				  : strcmp(name_of(old->record), name_of(k->record));
	if (order <= 0 && !same) {
		s->skills[c->old_at++] = NULL;
		*heavy = true;
		retire(s, old);
	}
	c->old_at += same ? 1 : 0;
	if (k != NULL && order >= 0) {
		take(s, c, k, !same);
		c->taken++;
	}
	return true;
}

/* An array of what is not needed any more, and takes long to free. */
static json_t *garbage_of(struct skill_set *s)
{
	json_t *garbage = json_array();
	(void)json_array_append_new(garbage, steal(&s->change->records));
	(void)json_array_append_new(garbage, steal(&s->list));
	if (s->garbage != NULL) {
		(void)json_array_append_new(garbage, s->garbage);
	}
	return garbage;
}

static enum skill_set_state take_over(struct skill_set *s, uint64_t until_us)
{
	struct change *c = s->change;
	bool heavy;
	for (unsigned light = 1; take_one(s, c, &heavy); light++) {
		if ((heavy || light % BETWEEN_LOOKS == 0) && clock_mono_us() >= until_us) {
			return SKILL_SET_GOES_ON;
		}
	}
	s->garbage = garbage_of(s);
	free(s->skills);
	s->skills = steal(&c->skills);
	s->count = c->count;
	s->list = steal(&c->list);
	s->bytes = c->bytes;
	change_free(steal(&s->change));
	return SKILL_SET_DONE;
}

enum skill_set_state skill_set_step(struct skill_set *s, uint64_t until_us)
{
	enum skill_set_state state = SKILL_SET_DONE;
	do {
		state = s->change == NULL                   ? SKILL_SET_DONE
			: s->change->phase == PHASE_COMPARE ? compare(s, until_us)
			: s->change->phase == PHASE_ASK     ? ask(s->change)
							    : take_over(s, until_us);
	} while (state == SKILL_SET_GOES_ON && clock_mono_us() < until_us);
	return state;
}

json_t *skill_set_take_garbage(struct skill_set *s)
{
	return steal(&s->garbage);
}

/* --- searching and looking -----------------------------------------------------------------------
 */

bool skill_set_index(struct skill_set *s, uint64_t until_us)
{
	s->index = s->index != NULL ? s->index : search_new();
	while (s->index != NULL && s->unindexed != NULL) {
		struct skill *k = s->unindexed;
		DL_DELETE(s->unindexed, k);
		k->indexed = true;
		find_put_skill(s->index, k->whole);
		if (s->unindexed != NULL && clock_mono_us() >= until_us) {
			return false;
		}
	}
	return true;
}

struct search *skill_set_search(struct skill_set *s)
{
	return s->index;
}

json_t *skill_set_list(const struct skill_set *s)
{
	return s->list;
}

static int compare_name(const void *name, const void *item)
{
	const struct skill *const *k = item;
	return strcmp(name, name_of((*k)->record));
}

static const struct skill *find(const struct skill_set *s, const char *name)
{
	struct skill **found = s->count == 0 ? NULL
					     : bsearch(name, s->skills, s->count,
						   sizeof(struct skill *), compare_name);
	return found != NULL ? *found : NULL;
}

json_t *skill_set_brief(const struct skill_set *s, const char *name)
{
	const struct skill *k = find(s, name);
	return k != NULL ? k->brief : NULL;
}

json_t *skill_set_skill(const struct skill_set *s, const char *name)
{
	const struct skill *k = find(s, name);
	return k != NULL ? k->whole : NULL;
}

size_t skill_set_bytes(const struct skill_set *s)
{
	return s->bytes;
}
