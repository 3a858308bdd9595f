/* The skills of a space: what changed is taken up, and nothing else, in steps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"
#include "codemode/skill_set.h"

#define MANY 3000

static struct skill_set *set;
static int asked; /* sources that had to be described */
static int steps;

static int setup(void **state)
{
	(void)state;
	asked = 0;
	set = skill_set_new();
	return set == NULL ? -1 : 0;
}

static int teardown(void **state)
{
	(void)state;
	skill_set_free(set);
	return 0;
}

/* One that describes itself. */
static json_t *record(const char *name, const char *description, const char *source)
{
	return json_pack("{s:s, s:s, s:s, s:[]}", "name", name, "description", description,
	    "source", source, "parameters");
}

static json_t *numbered(int i, const char *description)
{
	char name[16];
	(void)snprintf(name, sizeof(name), "s%05d", i);
	return record(name, description, "def run(): pass");
}

static json_t *many(int count)
{
	json_t *records = json_array();
	for (int i = 0; i < count; i++) {
		(void)json_array_append_new(records, numbered(i, "common words"));
	}
	return records;
}

/* What the parsing session would say. */
static void describe(void)
{
	const json_t *sources = skill_set_sources(set);
	json_t *results = json_array();
	assert_in_range(json_array_size(sources), 1, SKILL_SET_SOURCES_MAX);
	for (size_t i = 0; i < json_array_size(sources); i++) {
		const char *source = json_string_value(json_array_get(sources, i));
		asked++;
		(void)json_array_append_new(results,
		    strstr(source, "broken") != NULL
			? json_pack("{s:s, s:s}", "error", "SyntaxError", "message", "no")
			: json_pack("{s:s, s:[]}", "description", "said of it", "parameters"));
	}
	skill_set_told(set, results);
	json_decref(results);
}

/* In the shortest steps there are. RECORDS are taken. */
static void change_to(json_t *records)
{
	assert_int_equal(skill_set_change(set, records), 0);
	json_decref(records);
	enum skill_set_state state;
	for (steps = 0; (state = skill_set_step(set, 0)) != SKILL_SET_DONE; steps++) {
		assert_true(state == SKILL_SET_GOES_ON || state == SKILL_SET_ASKS);
		assert_true(skill_set_is_changing(set));
		if (state == SKILL_SET_ASKS) {
			describe();
		}
	}
	assert_false(skill_set_is_changing(set));
	json_decref(skill_set_take_garbage(set));
}

/* How many had to be put into the index. */
static int index_all(void)
{
	int puts = 1;
	while (!skill_set_index(set, 0)) {
		puts++;
	}
	return puts;
}

static size_t found(const char *query)
{
	static struct search_hit hits[MANY + 1];
	(void)index_all();
	return search_find(skill_set_search(set), query, hits, array_len(hits));
}

static void expect_names(const char *names)
{
	char text[256] = "";
	for (size_t i = 0; i < json_array_size(skill_set_list(set)); i++) {
		const json_t *brief = json_array_get(skill_set_list(set), i);
		const char *name = json_string_value(json_object_get(brief, "name"));
		size_t had = strlen(text);
		(void)snprintf(text + had, sizeof(text) - had, "%s%s", i > 0 ? "," : "", name);
		assert_ptr_equal(skill_set_brief(set, name), brief);
		assert_null(json_object_get(brief, "source"));
		assert_non_null(json_object_get(skill_set_skill(set, name), "source"));
	}
	assert_string_equal(text, names);
}

static void skills_are_added_changed_and_removed(void **state)
{
	(void)state;
	json_t *a = record("a", "first", "def run(): pass");
	json_t *c = record("c", "third", "def run(): pass");
	expect_names("");
	change_to(json_pack("[O, O]", a, c));
	expect_names("a,c");
	assert_int_equal(found("first"), 1);
	assert_int_equal(asked, 0);

	change_to(json_pack("[O, o, O]", a, record("b", "second", "def run(): pass"), c));
	expect_names("a,b,c");
	assert_int_equal(found("second"), 1);

	change_to(json_pack("[o, O]", record("a", "another", "def run(): pass"), c));
	expect_names("a,c");
	assert_int_equal(found("first"), 0);
	assert_int_equal(found("second"), 0);
	assert_int_equal(found("another"), 1);
	assert_int_equal(found("third"), 1);
	assert_null(skill_set_skill(set, "b"));
	assert_int_equal(skill_set_bytes(set), 2 * strlen("def run(): pass"));

	change_to(json_array());
	expect_names("");
	assert_int_equal(found("third"), 0);
	assert_int_equal(skill_set_bytes(set), 0);
	json_decref(a);
	json_decref(c);
}

static void only_what_changed_is_taken_up(void **state)
{
	(void)state;
	json_t *records = many(MANY);
	change_to(json_incref(records));
	assert_int_equal(index_all(), MANY);
	json_t *kept = skill_set_skill(set, "s00001");

	/* The same objects in another array. */
	json_t *next = json_copy(records);
	(void)json_array_insert_new(next, 1500, record("s01499x", "zygomorphic", "x"));
	change_to(next);
	assert_int_equal(index_all(), 1);
	assert_int_equal(found("zygomorphic"), 1);
	assert_ptr_equal(skill_set_skill(set, "s00001"), kept);
	/* Neither a step a skill, nor all in one. */
	assert_in_range(steps, 20, MANY / 10);

	/* Other objects that say the same. */
	next = json_deep_copy(records);
	change_to(next);
	assert_int_equal(index_all(), 1);
	assert_int_equal(found("zygomorphic"), 0);
	assert_ptr_equal(skill_set_brief(set, "s00001"), json_array_get(skill_set_list(set), 1));
	json_decref(records);
}

static void a_thousand_change_at_once(void **state)
{
	(void)state;
	json_t *records = many(MANY);
	change_to(json_incref(records));
	assert_int_equal(found("common"), MANY);
	json_t *next = json_array();
	for (int i = 0; i < MANY + 1000; i++) {
		if (i % 3 == 0 || i >= MANY) {
			(void)json_array_append_new(next, numbered(i, "rare words"));
		} else if (i % 3 == 1) {
			(void)json_array_append(next, json_array_get(records, (size_t)i));
		}
	}
	change_to(next);
	assert_int_equal(json_array_size(skill_set_list(set)), 1000 + 1000 + 1000);
	assert_int_equal(index_all(), 2000);
	assert_int_equal(found("rare"), 2000);
	assert_int_equal(found("common"), 1000);
	json_decref(records);
}

static void sources_are_asked_about_in_pieces_and_once(void **state)
{
	(void)state;
	json_t *records = json_array();
	for (int i = 0; i < 100; i++) {
		char name[16];
		(void)snprintf(name, sizeof(name), "s%03d", i);
		(void)json_array_append_new(records,
		    json_pack("{s:s, s:s}", "name", name, "source", i == 7 ? "broken" : "x"));
	}
	/* What has no source is no skill, and nobody is asked. */
	(void)json_array_append_new(records, json_pack("{s:s, s:i}", "name", "s999", "source", 1));
	change_to(json_incref(records));
	assert_int_equal(asked, 100);
	assert_int_equal(json_array_size(skill_set_list(set)), 99);
	assert_null(skill_set_skill(set, "s007"));
	assert_int_equal(found("said"), 99);
	change_to(json_incref(records));
	assert_int_equal(asked, 100);
	assert_int_equal(json_array_size(skill_set_list(set)), 99);

	/* One that was none becomes one. */
	json_t *next = json_copy(records);
	(void)json_array_set_new(
	    next, 7, json_pack("{s:s, s:s}", "name", "s007", "source", "good"));
	change_to(next);
	assert_int_equal(asked, 101);
	assert_non_null(skill_set_skill(set, "s007"));
	/* And none again. */
	change_to(records);
	assert_null(skill_set_skill(set, "s007"));
	assert_int_equal(found("said"), 99);
}

static void what_is_given_up_leaves_the_set_as_it_was(void **state)
{
	(void)state;
	json_t *records = many(200);
	change_to(json_incref(records));
	assert_int_equal(found("common"), 200);
	json_t *next = json_array();
	(void)json_array_append(next, json_array_get(records, 0));
	(void)json_array_append_new(
	    next, json_pack("{s:s, s:s}", "name", "undescribed", "source", "x"));
	assert_int_equal(skill_set_change(set, next), 0);
	json_decref(next);
	enum skill_set_state at;
	while ((at = skill_set_step(set, 0)) == SKILL_SET_GOES_ON) {
	}
	assert_int_equal(at, SKILL_SET_ASKS);
	/* Until it is told, all is as before. */
	assert_int_equal(skill_set_step(set, 0), SKILL_SET_ASKS);
	assert_int_equal(json_array_size(skill_set_list(set)), 200);
	skill_set_give_up(set);
	assert_false(skill_set_is_changing(set));
	assert_int_equal(json_array_size(skill_set_list(set)), 200);
	assert_int_equal(found("common"), 200);
	change_to(records);
	assert_int_equal(json_array_size(skill_set_list(set)), 200);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
	    TEST(skills_are_added_changed_and_removed),
	    TEST(only_what_changed_is_taken_up),
	    TEST(a_thousand_change_at_once),
	    TEST(sources_are_asked_about_in_pieces_and_once),
	    TEST(what_is_given_up_leaves_the_set_as_it_was),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
