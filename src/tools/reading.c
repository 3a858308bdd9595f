#include "tools/reading.h"

#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "tools/value.h"

#define MESSAGE_BYTES 400
#define NAME_BYTES_MAX 64

/* The line of PATH, or of the nearest node above it that has one. */
static int line_of(const struct reading *r, const char *path)
{
	char at[READING_PATH_BYTES];
	(void)snprintf(at, sizeof(at), "%s", path);
	for (;;) {
		const json_t *line = json_object_get(r->lines, at);
		char *slash = strrchr(at, '/');
		if (line != NULL || slash == NULL) {
			return (int)json_integer_value(line);
		}
		*slash = '\0';
	}
}

void reading_file_problem(struct reading *r, int line, const char *text)
{
	if (json_array_size(r->problems) >= READING_PROBLEMS_MAX) {
		return;
	}
	(void)json_array_append_new(r->problems,
	    json_pack("{s:s, s:i, s:s}", "file", r->file, "line", line, "message", text));
}

static void printf_like(2, 0) tell(const struct node *n, const char *fmt, va_list args)
{
	char text[MESSAGE_BYTES];
	(void)vsnprintf(text, sizeof(text), fmt, args);
	reading_file_problem(n->r, line_of(n->r, n->path), text);
}

void reading_fail(const struct node *n, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	tell(n, fmt, args);
	va_end(args);
	n->r->failed = true;
}

void reading_warn(const struct node *n, const char *fmt, ...)
{
	va_list args;
	va_start(args, fmt);
	tell(n, fmt, args);
	va_end(args);
}

struct node node_root(struct reading *r, const json_t *value)
{
	return (struct node){.r = r, .value = value};
}

static struct node beneath(const struct node *parent, const json_t *value, const char *key)
{
	struct node n = {.r = parent->r, .value = json_is_null(value) ? NULL : value};
	int len = snprintf(n.path, sizeof(n.path), "%s/%s", parent->path, key);
	if (len < 0 || (size_t)len >= sizeof(n.path)) {
		memcpy(n.path, parent->path, sizeof(n.path));
	}
	return n;
}

struct node node_get(const struct node *parent, const char *key)
{
	return beneath(parent, json_object_get(parent->value, key), key);
}

struct node node_either(const struct node *parent, const char *key, const char *other)
{
	struct node n = node_get(parent, key);
	return node_is(&n) ? n : node_get(parent, other);
}

struct node node_item(const struct node *parent, size_t index)
{
	char key[24];
	(void)snprintf(key, sizeof(key), "%zu", index);
	return beneath(parent, json_array_get(parent->value, index), key);
}

bool node_is(const struct node *n)
{
	return n->value != NULL;
}

/* What a problem calls a node: its own key. */
static const char *called(const struct node *n)
{
	const char *slash = strrchr(n->path, '/');
	return slash != NULL ? slash + 1 : "the definition";
}

const char *node_text(const struct node *n, const char *fallback)
{
	if (n->value == NULL) {
		return fallback;
	}
	if (!json_is_string(n->value) ||
	    strlen(json_string_value(n->value)) != json_string_length(n->value)) {
		reading_fail(n, "'%s' must be text", called(n));
		return fallback;
	}
	return json_string_value(n->value);
}

const char *node_required_text(const struct node *n)
{
	const char *text = node_text(n, NULL);
	if (n->value == NULL || (text != NULL && *text == '\0')) {
		reading_fail(n, "'%s' is missing", called(n));
		return NULL;
	}
	return text;
}

bool node_bool(const struct node *n, bool fallback)
{
	/* YAML 1.1, which Python's reader speaks, has more words for these. */
	static const char *const words[][2] = {
	    {"True", "False"}, {"yes", "no"}, {"Yes", "No"}, {"on", "off"}};
	if (n->value == NULL) {
		return fallback;
	}
	if (json_is_boolean(n->value)) {
		return json_is_true(n->value);
	}
	const char *text = json_string_value(n->value);
	for (size_t i = 0; text != NULL && i < array_len(words); i++) {
		if (strcmp(text, words[i][0]) == 0 || strcmp(text, words[i][1]) == 0) {
			return strcmp(text, words[i][0]) == 0;
		}
	}
	reading_fail(n, "'%s' must be true or false", called(n));
	return fallback;
}

uint64_t node_seconds_ms(const struct node *n, uint64_t max_ms, uint64_t fallback_ms)
{
	if (n->value == NULL) {
		return fallback_ms;
	}
	double ms = json_number_value(n->value) * 1000.0;
	if (!json_is_number(n->value) || !isfinite(ms) || ms < 1.0 || ms > (double)max_ms) {
		reading_fail(n, "'%s' must be a number of seconds above 0, at most %llu", called(n),
		    (unsigned long long)(max_ms / 1000));
		return fallback_ms;
	}
	return (uint64_t)ms;
}

json_t *node_texts(const struct node *n)
{
	json_t *list = json_array();
	if (json_is_string(n->value)) {
		(void)json_array_append(list, (json_t *)(uintptr_t)n->value);
		return list;
	}
	if (n->value != NULL && !node_array(n)) {
		return list;
	}
	for (size_t i = 0; i < json_array_size(n->value); i++) {
		struct node item = node_item(n, i);
		json_t *text = value_to_text(item.value);
		if (text == NULL) {
			reading_fail(&item, "each of '%s' must be text", called(n));
			continue;
		}
		(void)json_array_append_new(list, text);
	}
	return list;
}

json_t *node_text_map(const struct node *n)
{
	json_t *map = json_object();
	const char *key;
	json_t *value;
	if (n->value == NULL || !node_object(n)) {
		return map;
	}
	json_object_foreach((json_t *)(uintptr_t)n->value, key, value)
	{
		struct node item = node_get(n, key);
		json_t *text = value_to_text(item.value);
		if (text == NULL) {
			reading_fail(&item, "'%s' must be text", key);
			continue;
		}
		(void)json_object_set_new(map, key, text);
	}
	return map;
}

bool node_object(const struct node *n)
{
	if (n->value != NULL && !json_is_object(n->value)) {
		reading_fail(n, "'%s' must be a mapping", called(n));
	}
	return json_is_object(n->value);
}

bool node_array(const struct node *n)
{
	if (n->value != NULL && !json_is_array(n->value)) {
		reading_fail(n, "'%s' must be a list", called(n));
	}
	return json_is_array(n->value);
}

void node_only(const struct node *n, const char *const *known)
{
	const char *key;
	json_t *value;
	json_object_foreach((json_t *)(uintptr_t)n->value, key, value)
	{
		size_t i = 0;
		while (known[i] != NULL && strcmp(known[i], key) != 0) {
			i++;
		}
		if (known[i] == NULL) {
			struct node item = node_get(n, key);
			reading_warn(&item, "the key '%s' means nothing here", key);
		}
	}
}

bool reading_name_ok(const char *name)
{
	static const char letters[] =
	    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
	size_t len = strlen(name);
	return len > 0 && len <= NAME_BYTES_MAX && strspn(name, letters) == len && *name != '-' &&
	       *name != '.';
}
