/*
 * reading: looking at a definition node by node, and telling what is wrong with it by file and
 * line.
 *
 * A node is a place in the tree, whether something stands there or not: reading one that is not
 * there gives the fallback, reading one of another type tells a problem and gives the fallback. So
 * a reader reads everything, and all problems of a file are told at once.
 */
#ifndef TOOLS_READING_H
#define TOOLS_READING_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"

#define READING_PATH_BYTES 256
#define READING_PROBLEMS_MAX 200

struct reading {
	const char *file;    /* for people */
	const json_t *lines; /* of yaml_parse_lines; NULL: not a file */
	json_t *problems;    /* array of {file, line, message} that grows */
	bool failed;         /* one of them takes the definition away */
};

struct node {
	struct reading *r;
	const json_t *value; /* NULL: nothing there */
	char path[READING_PATH_BYTES];
};

/* Tells a problem at N and gives the definition up. */
void reading_fail(const struct node *n, const char *fmt, ...) printf_like(2, 3);
/* Tells a problem at N that the definition can live with. */
void reading_warn(const struct node *n, const char *fmt, ...) printf_like(2, 3);
/* A problem of the whole file, at LINE (0: not known). */
void reading_file_problem(struct reading *r, int line, const char *text);

struct node node_root(struct reading *r, const json_t *value);
struct node node_get(const struct node *parent, const char *key);
/* The first of the two that is there: one thing by two names. */
struct node node_either(const struct node *parent, const char *key, const char *other);
struct node node_item(const struct node *parent, size_t index);

bool node_is(const struct node *n);
/* Texts are borrowed from the tree. Numbers and booleans are not texts. */
const char *node_text(const struct node *n, const char *fallback);
const char *node_required_text(const struct node *n);
bool node_bool(const struct node *n, bool fallback);
/* Seconds, which may have a fraction, as milliseconds. */
uint64_t node_seconds_ms(const struct node *n, uint64_t max_ms, uint64_t fallback_ms);
/* A copy (new) of a list of texts; empty when there is nothing. Takes a single text as a list. */
json_t *node_texts(const struct node *n);
/* A copy (new) of an object whose values are texts, numbers or booleans, all made texts. */
json_t *node_text_map(const struct node *n);
/* True when it is an object; false, and a problem if something else is there. */
bool node_object(const struct node *n);
bool node_array(const struct node *n);
/* Tells each key that is not one of KNOWN (NULL at its end). */
void node_only(const struct node *n, const char *const *known);

/* The name of a tool, a recipe, an option or a parameter: letters, digits, '_', '-' and '.', at
 * most 64, not starting with '-' or '.'. */
bool reading_name_ok(const char *name);

#endif
