/*
 * The skills of a space as they were at one revision of the store: described, listed and indexed,
 * so that a list or a search reads nothing again while nothing changed. When something did, only
 * what changed is described and indexed anew; indexing goes in slices, a few milliseconds in a turn
 * of the loop, so that a space with many skills keeps nobody waiting but itself.
 *
 * A source that is no skill is not listed; it takes nothing else with it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/clock.h"
#include "codemode/internal.h"
#include "store/search.h"

#define VIEWS_MAX 256
#define SLICE_US 4000
#define VIEWS_BYTES_MAX (512U << 20) /* of sources, together; the last one used stays */

struct kept_view {
	char key[2 * CODEMODE_SPACE_NAME_MAX + 2];
	uint64_t revision;
	struct skill_view view;
	json_t *said; /* name -> what was said of the source; absent where it describes itself */
	json_t *unindexed; /* array of skills */
	size_t indexed;    /* so many of these are in the index by now */
	size_t bytes;
	UT_hash_handle hh; /* least lately used first */
};

struct skill_views {
	uv_timer_t turn;
	struct kept_view *views;
	size_t bytes;
	struct view_build *indexing; /* those that wait for their index */
};

/* A view being made for one call. */
struct view_build {
	struct method_call *call;
	skill_view_fn fn;
	bool indexed; /* is wanted */
	bool in_list; /* skill_views.indexing */
	struct view_build *prev, *next;
	json_t *records;
	uint64_t revision;
	json_t *said;    /* of each record; null where it describes itself */
	json_t *sources; /* that are asked about */
	size_t *places;  /* their records */
};

/* --- keeping -------------------------------------------------------------------------------------
 */

struct skill_views *skill_views_new(struct codemode *m)
{
	struct skill_views *v = calloc(1, sizeof(*v));
	if (v != NULL) {
		(void)uv_timer_init(m->loop, &v->turn);
		v->turn.data = v;
	}
	return v;
}

static void on_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static void forget(struct skill_views *v, struct kept_view *k)
{
	HASH_DEL(v->views, k);
	v->bytes -= k->bytes;
	json_decref(k->view.list);
	json_decref(k->view.skills);
	json_decref(k->said);
	json_decref(k->unindexed);
	search_free(k->view.index);
	free(k);
}

void skill_views_free(struct skill_views *v)
{
	if (v == NULL) {
		return;
	}
	while (v->views != NULL) {
		forget(v, v->views);
	}
	uv_close((uv_handle_t *)&v->turn, on_closed);
}

/* Neither part of a space's name has a '/'. */
static void key_of(const struct method_call *c, char key[sizeof(((struct kept_view *)NULL)->key)])
{
	(void)snprintf(
	    key, sizeof(((struct kept_view *)NULL)->key), "%s/%s", c->prefix, c->workspace);
}

static struct kept_view *find(struct skill_views *v, const struct method_call *c)
{
	char key[sizeof(((struct kept_view *)NULL)->key)];
	struct kept_view *k = NULL;
	key_of(c, key);
	HASH_FIND_STR(v->views, key, k);
	return k;
}

static void keep(struct skill_views *v, struct kept_view *k)
{
	v->bytes += k->bytes;
	HASH_ADD_STR(v->views, key, k);
	while (v->views != k && (HASH_COUNT(v->views) > VIEWS_MAX || v->bytes > VIEWS_BYTES_MAX)) {
		forget(v, v->views);
	}
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

/* --- making --------------------------------------------------------------------------------------
 */

void view_build_free(struct view_build *b)
{
	if (b == NULL) {
		return;
	}
	if (b->in_list) {
		DL_DELETE(b->call->codemode->skills->indexing, b);
	}
	json_decref(b->records);
	json_decref(b->said);
	json_decref(b->sources);
	free(b->places);
	free(b);
}

static void add_to_view(struct kept_view *k, json_t *skill)
{
	const char *name = json_string_value(json_object_get(skill, "name"));
	json_t *brief = json_copy(skill);
	if (brief == NULL) {
		return;
	}
	(void)json_object_del(brief, "source");
	(void)json_array_append_new(k->view.list, brief);
	(void)json_object_set(k->view.skills, name, skill);
	k->bytes += json_string_length(json_object_get(skill, "source"));
}

static struct kept_view *make_view(const struct view_build *b)
{
	struct kept_view *k = calloc(1, sizeof(*k));
	if (k == NULL) {
		return NULL;
	}
	key_of(b->call, k->key);
	k->revision = b->revision;
	k->view.list = json_array();
	k->view.skills = json_object();
	k->said = json_object();
	for (size_t i = 0; i < json_array_size(b->records); i++) {
		const json_t *record = json_array_get(b->records, i);
		json_t *said = json_array_get(b->said, i);
		json_t *skill = skill_of(record, json_is_null(said) ? NULL : said);
		if (skill != NULL) {
			add_to_view(k, skill);
		}
		if (skill != NULL && !json_is_null(said)) {
			(void)json_object_set(
			    k->said, json_string_value(json_object_get(record, "name")), said);
		}
		json_decref(skill);
	}
	return k;
}

/* What of K is not in the index it takes over from OLD, which may be NULL. */
static void take_index(struct kept_view *k, struct kept_view *old)
{
	json_t *pending = json_object();
	const char *name;
	json_t *skill;
	k->unindexed = json_array();
	k->view.index = old != NULL ? steal(&old->view.index) : search_new();
	for (size_t i = old != NULL ? old->indexed : 0;
	     old != NULL && i < json_array_size(old->unindexed); i++) {
		const json_t *one = json_array_get(old->unindexed, i);
		(void)json_object_set_new(
		    pending, json_string_value(json_object_get(one, "name")), json_true());
	}
	json_object_foreach(k->view.skills, name, skill)
	{
		const json_t *before = old != NULL ? json_object_get(old->view.skills, name) : NULL;
		if (before == NULL || json_object_get(pending, name) != NULL ||
		    !json_equal(before, skill)) {
			(void)json_array_append(k->unindexed, skill);
		}
	}
	json_object_foreach(old != NULL ? old->view.skills : NULL, name, skill)
	{
		if (json_object_get(k->view.skills, name) == NULL && k->view.index != NULL) {
			(void)search_remove(k->view.index, name);
		}
	}
	json_decref(pending);
}

/* Until UNTIL_US. False: there is more to do. */
static bool index_some(struct kept_view *k, uint64_t until_us)
{
	while (k->indexed < json_array_size(k->unindexed)) {
		if (clock_mono_us() >= until_us) {
			return false;
		}
		find_put_skill(k->view.index, json_array_get(k->unindexed, k->indexed++));
	}
	json_array_clear(k->unindexed);
	k->indexed = 0;
	return true;
}

static void on_turn(uv_timer_t *timer);

/* Tells the one who waits for K, now or when its index is complete. */
static void deliver(struct view_build *b, struct kept_view *k)
{
	struct method_call *c = b->call;
	struct skill_views *v = c->codemode->skills;
	static const struct err no_memory = {.code = ERR_INTERNAL, .text = "out of memory"};
	if (b->indexed && k->view.index == NULL) {
		b->fn(c, NULL, &no_memory);
		return;
	}
	if (b->indexed && !index_some(k, clock_mono_us() + SLICE_US)) {
		if (!b->in_list) {
			b->in_list = true;
			DL_APPEND(v->indexing, b);
		}
		(void)uv_timer_start(&v->turn, on_turn, 0, 0);
		return;
	}
	skill_view_fn fn = b->fn;
	view_build_free(steal(&c->build));
	fn(c, &k->view, NULL);
}

/* One of those who wait, and then the next: a slice each. */
static void on_turn(uv_timer_t *timer)
{
	struct skill_views *v = timer->data;
	struct view_build *b = v->indexing;
	if (b == NULL) {
		return;
	}
	DL_DELETE(v->indexing, b);
	DL_APPEND(v->indexing, b);
	struct kept_view *k = find(v, b->call);
	if (k != NULL) {
		deliver(b, k);
	} else {
		call_fail(b->call, "RuntimeError", "The skills of too many spaces are searched");
	}
	if (v->indexing != NULL) {
		(void)uv_timer_start(timer, on_turn, 0, 0);
	}
}

static void finish(struct view_build *b)
{
	struct method_call *c = b->call;
	struct skill_views *v = c->codemode->skills;
	static const struct err no_memory = {.code = ERR_INTERNAL, .text = "out of memory"};
	struct kept_view *k = make_view(b);
	struct kept_view *old = find(v, c);
	if (k == NULL) {
		b->fn(c, NULL, &no_memory);
		return;
	}
	take_index(k, old);
	if (old != NULL) {
		forget(v, old);
	}
	keep(v, k);
	deliver(b, k);
}

static void on_described(void *ctx, const json_t *results, const struct err *e)
{
	struct method_call *c = ctx;
	struct view_build *b = c->build;
	c->describing = NULL;
	if (e != NULL) {
		call_fail(c, e->code == ERR_BUSY ? "TooManyCalls" : "RuntimeError",
		    "The skills cannot be read: %s", e->text);
		return;
	}
	for (size_t i = 0; i < json_array_size(b->sources); i++) {
		json_t *said = json_array_get(results, i);
		(void)json_array_set(b->said, b->places[i], said);
	}
	finish(b);
}

/* What is known of record I without asking: said of the same source before, or by itself. */
static json_t *known_of(const struct kept_view *old, const json_t *record)
{
	if (skill_describes_itself(record)) {
		return json_null();
	}
	const char *name = json_string_value(json_object_get(record, "name"));
	json_t *before = old != NULL && name != NULL ? json_object_get(old->view.skills, name)
						     : NULL;
	bool same = before != NULL && json_equal(json_object_get(before, "source"),
					  json_object_get(record, "source"));
	return same ? json_incref(json_object_get(old->said, name)) : NULL;
}

static void collect(struct view_build *b)
{
	const struct kept_view *old = find(b->call->codemode->skills, b->call);
	for (size_t i = 0; i < json_array_size(b->records); i++) {
		const json_t *record = json_array_get(b->records, i);
		json_t *source = json_object_get(record, "source");
		json_t *known = known_of(old, record);
		if (known == NULL && json_is_string(source)) {
			b->places[json_array_size(b->sources)] = i;
			(void)json_array_append(b->sources, source);
		}
		(void)json_array_append_new(b->said, known != NULL ? known : json_object());
	}
}

static void on_records(void *ctx, json_t *records, uint64_t revision, const struct err *e)
{
	struct method_call *c = ctx;
	struct view_build *b = c->build;
	struct skill_views *v = c->codemode->skills;
	c->request = NULL;
	if (e != NULL) {
		b->fn(c, NULL, e);
		return;
	}
	struct kept_view *k = find(v, c);
	if (k != NULL && k->revision == revision) {
		/* Lately used ones go to the end. */
		HASH_DEL(v->views, k);
		HASH_ADD_STR(v->views, key, k);
		deliver(b, k);
		return;
	}
	b->records = json_incref(records);
	b->revision = revision;
	b->said = json_array();
	b->sources = json_array();
	b->places = calloc(json_array_size(records) + 1, sizeof(*b->places));
	if (b->places == NULL) {
		call_fail(c, "RuntimeError", "out of memory");
		return;
	}
	collect(b);
	if (json_array_size(b->sources) == 0) {
		finish(b);
		return;
	}
	call_wait(c, describing,
	    describe(c->codemode->describer, c->prefix, b->sources, on_described, c));
}

void skill_view_get(struct method_call *c, bool indexed, skill_view_fn fn)
{
	c->build = calloc(1, sizeof(*c->build));
	if (c->build == NULL) {
		call_fail(c, "RuntimeError", "out of memory");
		return;
	}
	c->build->call = c;
	c->build->fn = fn;
	c->build->indexed = indexed;
	call_wait(c, request,
	    store_list(c->codemode->config.store, &c->space, STORE_SKILLS, on_records, c));
}
