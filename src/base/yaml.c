#include "base/yaml.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/buf.h"
#include "base/compiler.h"

#define YAML_DEPTH_MAX 32
#define YAML_PATH_MAX_BYTES 65536

struct reader {
	yaml_parser_t parser;
	yaml_event_t event;
	bool has_event;
	struct err *e;
	json_t *lines;   /* NULL: nobody asks */
	struct buf path; /* of the node being read */
};

static void reader_fini(struct reader *r)
{
	buf_fini(&r->path);
	if (r->has_event) {
		yaml_event_delete(&r->event);
	}
	yaml_parser_delete(&r->parser);
}

static json_t *refuse(struct reader *r, const char *why)
{
	(void)err_set(r->e, ERR_INVALID, "line %zu: %s", r->event.start_mark.line + 1, why);
	return NULL;
}

static int next(struct reader *r)
{
	if (r->has_event) {
		yaml_event_delete(&r->event);
		r->has_event = false;
	}
	if (!yaml_parser_parse(&r->parser, &r->event)) {
		return err_set(r->e, ERR_INVALID, "line %zu: %s", r->parser.problem_mark.line + 1,
		    r->parser.problem != NULL ? r->parser.problem : "not YAML");
	}
	r->has_event = true;
	return 0;
}

static json_t *plain_scalar(const char *text, size_t len)
{
	if (len == 0 || strcmp(text, "null") == 0 || strcmp(text, "~") == 0) {
		return json_null();
	}
	if (strcmp(text, "true") == 0 || strcmp(text, "false") == 0) {
		return json_boolean(*text == 't');
	}
	if (strspn(text, "+-.0123456789eE") == len && strpbrk(text, "0123456789") != NULL) {
		char *end;
		errno = 0;
		long long whole = strtoll(text, &end, 10);
		if (errno == 0 && *end == '\0') {
			return json_integer(whole);
		}
		errno = 0;
		double real = strtod(text, &end);
		if (errno == 0 && *end == '\0') {
			return json_real(real);
		}
	}
	return json_stringn(text, len);
}

static json_t *scalar(struct reader *r)
{
	const char *text = (const char *)r->event.data.scalar.value;
	size_t len = r->event.data.scalar.length;
	bool plain = r->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
	if (r->event.data.scalar.tag != NULL) {
		return refuse(r, "tags are not taken");
	}
	json_t *j = plain ? plain_scalar(text, len) : json_stringn(text, len);
	return j != NULL ? j : refuse(r, "text that is not UTF-8");
}

static json_t *node(struct reader *r, int depth);

/* The node beneath the current one by the name of KEY. Its line is LINE, or its own where 0. */
static json_t *node_at(struct reader *r, const char *key, size_t line, int depth)
{
	if (r->lines == NULL) {
		return node(r, depth);
	}
	size_t before = r->path.len;
	if (buf_addf(&r->path, "/%s", key) < 0) {
		return refuse(r, "nested too deeply");
	}
	line = line > 0 ? line : r->event.start_mark.line + 1;
	(void)json_object_set_new(r->lines, buf_str(&r->path), json_integer((json_int_t)line));
	json_t *value = node(r, depth);
	r->path.len = before;
	r->path.data[before] = '\0';
	return value;
}

static json_t *sequence(struct reader *r, int depth)
{
	json_t *list = json_array();
	for (size_t i = 0;; i++) {
		char number[24];
		(void)snprintf(number, sizeof(number), "%zu", i);
		if (next(r) < 0) {
			json_decref(list);
			return NULL;
		}
		if (r->event.type == YAML_SEQUENCE_END_EVENT) {
			return list;
		}
		json_t *item = node_at(r, number, 0, depth + 1);
		if (item == NULL || json_array_append_new(list, item) < 0) {
			json_decref(list);
			return NULL;
		}
	}
}

/* Reads the value of KEY, which is the current event, into MAP. */
static int member(struct reader *r, json_t *map, int depth)
{
	if (r->event.type != YAML_SCALAR_EVENT) {
		(void)refuse(r, "a key must be text");
		return -1;
	}
	const char *text = (const char *)r->event.data.scalar.value;
	if (json_object_get(map, text) != NULL) {
		return err_set(r->e, ERR_INVALID, "line %zu: the key '%s' stands twice",
		    r->event.start_mark.line + 1, text);
	}
	size_t line = r->event.start_mark.line + 1;
	char *key = strdup(text);
	json_t *value = key != NULL && next(r) == 0 ? node_at(r, key, line, depth + 1) : NULL;
	int result = value == NULL ? -1 : json_object_set_new(map, key, value);
	free(key);
	return result;
}

static json_t *mapping(struct reader *r, int depth)
{
	json_t *map = json_object();
	for (;;) {
		if (next(r) < 0) {
			json_decref(map);
			return NULL;
		}
		if (r->event.type == YAML_MAPPING_END_EVENT) {
			return map;
		}
		if (member(r, map, depth) < 0) {
			json_decref(map);
			return NULL;
		}
	}
}

static json_t *node(struct reader *r, int depth)
{
	if (depth > YAML_DEPTH_MAX) {
		return refuse(r, "nested too deeply");
	}
	switch (r->event.type) {
	case YAML_SCALAR_EVENT:
		return scalar(r);
	case YAML_SEQUENCE_START_EVENT:
		return sequence(r, depth);
	case YAML_MAPPING_START_EVENT:
		return mapping(r, depth);
	case YAML_ALIAS_EVENT:
		return refuse(r, "aliases are not taken");
	case YAML_NO_EVENT:
	case YAML_STREAM_START_EVENT:
	case YAML_STREAM_END_EVENT:
	case YAML_DOCUMENT_START_EVENT:
	case YAML_DOCUMENT_END_EVENT:
	case YAML_SEQUENCE_END_EVENT:
	case YAML_MAPPING_END_EVENT:
		break;
	}
	return refuse(r, "something else was expected here");
}

/* The one document: stream start, document start, node, document end, stream end. */
static json_t *document(struct reader *r)
{
	if (next(r) < 0 || next(r) < 0) {
		return NULL;
	}
	if (r->event.type == YAML_STREAM_END_EVENT) {
		return json_object();
	}
	if (next(r) < 0) {
		return NULL;
	}
	json_t *tree = node(r, 0);
	if (tree != NULL && (next(r) < 0 || next(r) < 0)) {
		json_decref(tree);
		return NULL;
	}
	if (tree != NULL && r->event.type != YAML_STREAM_END_EVENT) {
		json_decref(tree);
		return refuse(r, "more than one document");
	}
	return tree;
}

static json_t *parse(const char *text, size_t len, json_t *lines, struct err *e)
{
	cleanup(reader_fini) struct reader r = {
	    .e = e, .lines = lines, .path = BUF_INIT(YAML_PATH_MAX_BYTES)};
	if (!yaml_parser_initialize(&r.parser)) {
		(void)err_set(e, ERR_INTERNAL, "out of memory");
		return NULL;
	}
	yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, len);
	return document(&r);
}

json_t *yaml_parse(const char *text, size_t len, struct err *e)
{
	return parse(text, len, NULL, e);
}

json_t *yaml_parse_lines(const char *text, size_t len, json_t **lines, struct err *e)
{
	*lines = json_pack("{s:i}", "", 1);
	json_t *tree = parse(text, len, *lines, e);
	if (tree == NULL) {
		json_decref(steal(lines));
	}
	return tree;
}
