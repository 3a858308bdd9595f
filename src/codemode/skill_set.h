/*
 * skill_set: the skills of one space, described, listed and indexed: made from the store's records,
 * and changed, when these do, in steps of a given length.
 *
 * A change is begun with all records, and takes up only what changed: a record that is the same
 * object as before costs a comparison of pointers, one that says the same as before (read anew by
 * the store) one of contents. Sources that do not describe themselves are asked about in pieces.
 * Until the last step the set is what it was; then it is all of the new, at once for whoever looks
 * between steps. The index follows when somebody wants to search.
 *
 * A record that is no skill is not listed; it takes nothing else with it.
 *
 * No I/O, no loop; the clock is only looked at to end a step.
 */
#ifndef CODEMODE_SKILL_SET_H
#define CODEMODE_SKILL_SET_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/search.h"

#define SKILL_SET_SOURCES_MAX 16            /* asked about at once */
#define SKILL_SET_SOURCES_BYTES (32U << 10) /* and so many of their bytes, or one source */

struct skill_set;

/* NULL when memory is out. */
struct skill_set *skill_set_new(void);
/* On any thread. NULL is allowed. */
void skill_set_free(struct skill_set *s);

/* Begins a change to RECORDS: an array of objects with "name", sorted by it and without doubles; a
 * reference is taken. 0 or -ENOMEM. Not while a change is going on. */
int skill_set_change(struct skill_set *s, json_t *records);
/* Whether a change is going on. */
bool skill_set_is_changing(const struct skill_set *s);

enum skill_set_state {
	SKILL_SET_DONE,
	SKILL_SET_GOES_ON, /* another step, please */
	SKILL_SET_ASKS,    /* skill_set_sources are to be described, and then skill_set_told */
	SKILL_SET_FAILED,  /* memory is out; the change is given up */
};

/* Goes on with the change until the monotonic clock says UNTIL_US, but always a little. */
enum skill_set_state skill_set_step(struct skill_set *s, uint64_t until_us);
/* What is asked: an array of texts, the same until skill_set_told. Borrowed. */
const json_t *skill_set_sources(const struct skill_set *s);
/* RESULTS: what was said of each of them (describe_fn's). */
void skill_set_told(struct skill_set *s, const json_t *results);
/* Gives the change up: the set stays what it was. */
void skill_set_give_up(struct skill_set *s);
/* What the last change put out of use, for the caller to release where it has time: a new
 * reference, or NULL. */
json_t *skill_set_take_garbage(struct skill_set *s);

/* Puts into the index what is not there yet, until UNTIL_US, but at least one skill. True: it is
 * complete. Not while a change is going on. */
bool skill_set_index(struct skill_set *s, uint64_t until_us);
/* NULL when memory was out. Complete when skill_set_index said so. Borrowed. */
struct search *skill_set_search(struct skill_set *s);

/* [{name, description, parameters}], sorted by name. Borrowed; never changed. */
json_t *skill_set_list(const struct skill_set *s);
/* One of these, and the same with "source". Borrowed; NULL when there is none. */
json_t *skill_set_brief(const struct skill_set *s, const char *name);
json_t *skill_set_skill(const struct skill_set *s, const char *name);
/* Of sources, about. */
size_t skill_set_bytes(const struct skill_set *s);

#endif
