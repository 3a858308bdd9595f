/*
 * store_suite: what every store must do, written once and run over each backend, and calls that
 * wait for their answer.
 *
 * A test program's setup makes a struct store_suite with two stores, A and B, over the same place,
 * as two servers would have it, and lists STORE_SUITE(setup, teardown) among its tests.
 */
#ifndef STORE_SUITE_H
#define STORE_SUITE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "store/store.h"

struct store_suite {
	uv_loop_t loop;
	struct store *a, *b;
};

/* What came: the record or list is the caller's to release (NULL when none or failed). */
struct store_answer {
	bool called, changed;
	json_t *json;
	uint64_t revision;
	struct err e; /* code ERR_NONE: no error */
};

/* All run S's loop until their answer is there. SPACE NULL: the server's own. */
struct store_answer suite_list(
    struct store_suite *s, struct store *st, const struct store_space *space, enum store_kind kind);
struct store_answer suite_get(struct store_suite *s, struct store *st,
    const struct store_space *space, enum store_kind kind, const char *name);
/* RECORD is taken. */
struct store_answer suite_put(struct store_suite *s, struct store *st,
    const struct store_space *space, enum store_kind kind, const char *name, json_t *record);
struct store_answer suite_delete(struct store_suite *s, struct store *st,
    const struct store_space *space, enum store_kind kind, const char *name);
struct store_answer suite_artifacts(
    struct store_suite *s, struct store *st, const struct store_space *space);
struct store_answer suite_artifact(
    struct store_suite *s, struct store *st, const struct store_space *space, const char *name);
struct store_answer suite_artifact_delete(
    struct store_suite *s, struct store *st, const struct store_space *space, const char *name);
/* INFO is taken. */
struct store_answer suite_register(struct store_suite *s, struct store *st,
    const struct store_space *space, const char *name, json_t *info);
/* INFO is taken. BYTES NULL: LEN bytes of a pattern that suite_load checks. */
struct store_answer suite_save(struct store_suite *s, struct store *st,
    const struct store_space *space, const char *name, json_t *info, const char *bytes, size_t len);
/* The bytes go to OUT; OUT NULL: they are compared with the pattern. */
struct store_answer suite_load(struct store_suite *s, struct store *st,
    const struct store_space *space, const char *name, struct buf *out);

/* {type, description, metadata: {}} */
json_t *suite_info(const char *type, const char *description);
/* Saves TEXT as "text", and loads NAME and compares. */
void suite_save_text(struct store_suite *s, struct store *st, const struct store_space *space,
    const char *name, const char *text);
void suite_expect_text(struct store_suite *s, struct store *st, const struct store_space *space,
    const char *name, const char *text);
/* The skill NAME with SOURCE is put. */
void suite_put_skill(struct store_suite *s, struct store *st, const struct store_space *space,
    const char *name, const char *source);
/* The names of the array A's records with ',' between; borrowed until the next call. */
const char *suite_names(const json_t *a);
void suite_drop(struct store_answer answer);

void suite_skills(void **state);
void suite_tools(void **state);
void suite_deps(void **state);
void suite_names_checked(void **state);
void suite_revisions(void **state);
void suite_artifact_types(void **state);
void suite_artifact_names(void **state);
void suite_artifact_replace(void **state);
void suite_artifact_register(void **state);
void suite_big_artifact(void **state);
void suite_abort(void **state);
void suite_spaces(void **state);
void suite_two_servers(void **state);
void suite_many_at_once(void **state);
void suite_cancel(void **state);
void suite_limits(void **state);

#define SUITE_TEST(f, setup, teardown) cmocka_unit_test_setup_teardown(f, setup, teardown)
#define STORE_SUITE(setup, teardown)                                                             \
	SUITE_TEST(suite_skills, setup, teardown), SUITE_TEST(suite_tools, setup, teardown),     \
	    SUITE_TEST(suite_deps, setup, teardown),                                             \
	    SUITE_TEST(suite_names_checked, setup, teardown),                                    \
	    SUITE_TEST(suite_revisions, setup, teardown),                                        \
	    SUITE_TEST(suite_artifact_types, setup, teardown),                                   \
	    SUITE_TEST(suite_artifact_names, setup, teardown),                                   \
	    SUITE_TEST(suite_artifact_replace, setup, teardown),                                 \
	    SUITE_TEST(suite_artifact_register, setup, teardown),                                \
	    SUITE_TEST(suite_big_artifact, setup, teardown),                                     \
	    SUITE_TEST(suite_abort, setup, teardown), SUITE_TEST(suite_spaces, setup, teardown), \
	    SUITE_TEST(suite_two_servers, setup, teardown),                                      \
	    SUITE_TEST(suite_many_at_once, setup, teardown),                                     \
	    SUITE_TEST(suite_cancel, setup, teardown), SUITE_TEST(suite_limits, setup, teardown)

#endif
