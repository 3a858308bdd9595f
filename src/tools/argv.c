#include "tools/argv.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "tools/value.h"

/* --- splitting
 * -----------------------------------------------------------------------------------
 */

struct splitter {
	const char *at;
	struct buf word;
	bool has_word; /* an empty pair of quotes is a word */
};

static void splitter_fini(struct splitter *s)
{
	buf_fini(&s->word);
}

/* As shlex in POSIX mode: within "", a backslash escapes '"' and itself; within '', nothing. */
static int take_quoted(struct splitter *s, char quote, struct err *e)
{
	s->has_word = true;
	for (s->at++; *s->at != quote; s->at++) {
		if (*s->at == '\0') {
			return err_set(e, ERR_INVALID, "No closing quotation");
		}
		if (quote == '"' && *s->at == '\\' && (s->at[1] == '"' || s->at[1] == '\\')) {
			s->at++;
		}
		if (buf_add_char(&s->word, *s->at) < 0) {
			return err_set(e, ERR_INVALID, "a word is too long");
		}
	}
	s->at++;
	return 0;
}

static int take_plain(struct splitter *s, struct err *e)
{
	if (*s->at == '\\') {
		s->at++;
		if (*s->at == '\0') {
			return err_set(e, ERR_INVALID, "No escaped character");
		}
	}
	s->has_word = true;
	if (buf_add_char(&s->word, *s->at++) < 0) {
		return err_set(e, ERR_INVALID, "a word is too long");
	}
	return 0;
}

static int add_word(json_t *words, const char *text, size_t len, struct err *e)
{
	if (json_array_size(words) >= ARGV_WORDS_MAX) {
		return err_set(e, ERR_INVALID, "more than %d words", ARGV_WORDS_MAX);
	}
	if (len > ARGV_WORD_MAX_BYTES) {
		return err_set(e, ERR_INVALID, "a word of more than %u bytes", ARGV_WORD_MAX_BYTES);
	}
	if (memchr(text, '\0', len) != NULL) {
		return err_set(e, ERR_INVALID, "a word with a NUL in it");
	}
	if (json_array_append_new(words, json_stringn(text, len)) < 0) {
		return err_set(e, ERR_INVALID, "a word that is not UTF-8");
	}
	return 0;
}

static int end_word(struct splitter *s, json_t *words, struct err *e)
{
	if (!s->has_word) {
		return 0;
	}
	int r = add_word(words, buf_str(&s->word), s->word.len, e);
	buf_clear(&s->word);
	s->has_word = false;
	return r;
}

int argv_split(const char *text, json_t *words, struct err *e)
{
	cleanup(splitter_fini) struct splitter s = {
	    .at = text, .word = BUF_INIT(ARGV_TOTAL_MAX_BYTES)};
	int r = 0;
	while (r == 0 && *s.at != '\0') {
		if (strchr(" \t\r\n", *s.at) != NULL) {
			s.at++;
			r = end_word(&s, words, e);
		} else if (*s.at == '\'' || *s.at == '"') {
			r = take_quoted(&s, *s.at, e);
		} else {
			r = take_plain(&s, e);
		}
	}
	return r < 0 ? r : end_word(&s, words, e);
}

/* --- templates
 * -----------------------------------------------------------------------------------
 */

/* Goes through TEMPLATE: adds its text to OUT and, for each placeholder, calls FN. */
typedef int (*placeholder_fn)(
    void *ctx, const char *name, size_t len, struct buf *out, struct err *e);

static int go_through(
    const char *template, struct buf *out, placeholder_fn fn, void *ctx, struct err *e)
{
	int r = 0;
	for (const char *at = template; r == 0 && *at != '\0';) {
		if ((*at == '{' || *at == '}') && at[1] == *at) {
			r = buf_add_char(out, *at);
			at += 2;
		} else if (*at == '{') {
			size_t len = strcspn(at + 1, "{}");
			if (at[1 + len] != '}') {
				return err_set(e, ERR_INVALID, "a '{' without its '}'");
			}
			if (fn(ctx, at + 1, len, out, e) < 0) {
				return -1;
			}
			at += len + 2;
		} else if (*at == '}') {
			return err_set(e, ERR_INVALID, "a '}' without its '{'");
		} else {
			r = buf_add_char(out, *at++);
		}
	}
	return r < 0 ? err_set(e, ERR_INVALID, "the command line is too long") : 0;
}

static int collect(void *ctx, const char *name, size_t len, struct buf *out, struct err *e)
{
	static const char letters[] =
	    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_";
	json_t *names = ctx;
	(void)out;
	if (len == 0 || strspn(name, letters) < len || (*name >= '0' && *name <= '9')) {
		return err_set(
		    e, ERR_INVALID, "'{%.*s}' is no placeholder: a name is", (int)len, name);
	}
	for (size_t i = 0; i < json_array_size(names); i++) {
		const json_t *one = json_array_get(names, i);
		if (json_string_length(one) == len &&
		    memcmp(json_string_value(one), name, len) == 0) {
			return 0;
		}
	}
	return json_array_append_new(names, json_stringn(name, len));
}

json_t *argv_placeholders(const char *template, struct err *e)
{
	cleanup(json_decrefp) json_t *names = json_array();
	cleanup(buf_fini) struct buf nowhere = BUF_INIT(ARGV_TOTAL_MAX_BYTES);
	return go_through(template, &nowhere, collect, names, e) < 0 ? NULL : steal(&names);
}

static int fill_in(void *ctx, const char *name, size_t len, struct buf *out, struct err *e)
{
	const json_t *value = json_object_getn(ctx, name, len);
	if (value == NULL) {
		return err_set(e, ERR_INVALID, "Missing required argument: '%.*s'", (int)len, name);
	}
	const char *text = json_string_value(value);
	if (strlen(text) != json_string_length(value)) {
		return err_set(e, ERR_INVALID, "'%.*s' has a NUL in it", (int)len, name);
	}
	return buf_add_str(out, text) < 0 ? err_set(e, ERR_INVALID, "the command line is too long")
					  : 0;
}

/* Text as Python's format makes it of a value. */
static int add_text_argument(
    json_t *out, const json_t *parameter, const json_t *given, struct err *e)
{
	const char *name = json_string_value(json_object_get(parameter, "name"));
	const json_t *value = given != NULL && !json_is_null(given)
				  ? given
				  : json_object_get(parameter, "default");
	if (value == NULL || json_is_null(value)) {
		return 0;
	}
	json_t *text = value_to_text(value);
	if (text == NULL) {
		return err_set(e, ERR_INVALID, "'%s' must be text", name);
	}
	return json_object_set_new(out, name, text);
}

static int build_template(const json_t *spec, const json_t *arguments, json_t *words, struct err *e)
{
	const json_t *parameters = json_object_get(spec, "parameters");
	cleanup(json_decrefp) json_t *texts = json_object();
	cleanup(buf_fini) struct buf line = BUF_INIT(ARGV_TOTAL_MAX_BYTES);
	if (value_check_known(arguments, parameters, e) < 0) {
		return -1;
	}
	for (size_t i = 0; i < json_array_size(parameters); i++) {
		const json_t *p = json_array_get(parameters, i);
		const char *name = json_string_value(json_object_get(p, "name"));
		if (add_text_argument(texts, p, json_object_get(arguments, name), e) < 0) {
			return -1;
		}
	}
	const char *template = json_string_value(json_object_get(spec, "template"));
	if (go_through(template, &line, fill_in, texts, e) < 0) {
		return -1;
	}
	return argv_split(buf_str(&line), words, e);
}

/* --- neither template nor schema
 * -----------------------------------------------------------------
 */

static int add_value(json_t *words, const char *name, const json_t *value, struct err *e)
{
	cleanup(json_decrefp) json_t *text = value_to_text(value);
	if (text == NULL) {
		return err_set(e, ERR_INVALID, "'%s' must be text", name);
	}
	return add_word(words, json_string_value(text), json_string_length(text), e);
}

static int add_plain_option(json_t *words, const char *name, const json_t *value, struct err *e)
{
	cleanup(buf_fini) struct buf word = BUF_INIT(ARGV_TOTAL_MAX_BYTES);
	cleanup(json_decrefp) json_t *text = value_to_text(value);
	static const char letters[] =
	    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
	if (text == NULL || *name == '-' || strspn(name, letters) != strlen(name)) {
		return err_set(e, ERR_INVALID, "'%.64s' cannot be an option", name);
	}
	int r = buf_addf(&word, "--%s", name);
	if (r == 0 && !json_is_true(value)) {
		r = buf_add_char(&word, '=');
		r = r < 0 ? r : buf_add(&word, json_string_value(text), json_string_length(text));
	}
	return r < 0 ? err_set(e, ERR_INVALID, "'%s' is too long", name)
		     : add_word(words, buf_str(&word), word.len, e);
}

static int build_plain(const json_t *arguments, json_t *words, struct err *e)
{
	const char *name;
	json_t *value;
	if (!json_is_object(arguments)) {
		return err_set(e, ERR_INVALID, "the arguments must be an object");
	}
	json_object_foreach((json_t *)(uintptr_t)arguments, name, value)
	{
		if (json_is_null(value) || json_is_false(value)) {
			continue;
		}
		if (!json_is_array(value)) {
			if (add_plain_option(words, name, value, e) < 0) {
				return -1;
			}
			continue;
		}
		for (size_t i = 0; i < json_array_size(value); i++) {
			if (add_value(words, name, json_array_get(value, i), e) < 0) {
				return -1;
			}
		}
	}
	return 0;
}

/* --- schema and recipes
 * --------------------------------------------------------------------------
 */

static const json_t *find_parameter(const json_t *parameters, const char *name)
{
	for (size_t i = 0; i < json_array_size(parameters); i++) {
		const json_t *p = json_array_get(parameters, i);
		if (strcmp(json_string_value(json_object_get(p, "name")), name) == 0) {
			return p;
		}
	}
	return NULL;
}

/* What the caller gives, else the recipe's preset, else its default, else the schema's. */
static const json_t *chosen(const json_t *arguments, const json_t *recipe, const json_t *parameter,
    const json_t *in_recipe, const char *name)
{
	const json_t *from[] = {
	    json_object_get(arguments, name),
	    json_object_get(json_object_get(recipe, "preset"), name),
	    json_object_get(in_recipe, "default"),
	    json_object_get(parameter, "default"),
	};
	for (size_t i = 0; i < array_len(from); i++) {
		if (from[i] != NULL && !json_is_null(from[i])) {
			return from[i];
		}
	}
	return NULL;
}

/* The value to use (new), NULL for none; *R is -1 when it is not one that may be. */
static json_t *value_of(
    const json_t *arguments, const json_t *recipe, const json_t *parameter, int *r, struct err *e)
{
	const char *name = json_string_value(json_object_get(parameter, "name"));
	const json_t *in_recipe = find_parameter(json_object_get(recipe, "parameters"), name);
	const json_t *value = chosen(arguments, recipe, parameter, in_recipe, name);
	const json_t *rule = in_recipe != NULL ? in_recipe : parameter;
	enum value_type type = VALUE_STRING;
	*r = 0;
	if (value == NULL) {
		if (json_is_true(json_object_get(rule, "required"))) {
			*r = err_set(e, ERR_INVALID, "Required parameter '%s' is missing", name);
		}
		return NULL;
	}
	(void)value_type_parse(json_string_value(json_object_get(rule, "type")), &type);
	json_t *taken = value_check(name, type, json_object_get(rule, "enum"), value, e);
	*r = taken == NULL ? -1 : 0;
	return taken;
}

static int add_option(json_t *words, const json_t *parameter, const json_t *value, struct err *e)
{
	const char *name = json_string_value(json_object_get(parameter, "name"));
	const char *flag = json_string_value(json_object_get(parameter, "flag"));
	size_t len = strlen(flag);
	if (json_is_boolean(value)) {
		return json_is_true(value) ? add_word(words, flag, len, e) : 0;
	}
	size_t count = json_is_array(value) ? json_array_size(value) : 1;
	for (size_t i = 0; i < count; i++) {
		const json_t *one = json_is_array(value) ? json_array_get(value, i) : value;
		if (add_word(words, flag, len, e) < 0 || add_value(words, name, one, e) < 0) {
			return -1;
		}
	}
	return 0;
}

static int add_positional(
    json_t *words, const json_t *parameter, const json_t *value, bool after_end, struct err *e)
{
	const char *name = json_string_value(json_object_get(parameter, "name"));
	if (add_value(words, name, value, e) < 0) {
		return -1;
	}
	/* Of the word, not of the value: a negative number looks like an option too. */
	const char *word = json_string_value(json_array_get(words, json_array_size(words) - 1));
	bool dash = word[0] == '-' && word[1] != '\0';
	if (dash && !after_end && !json_is_true(json_object_get(parameter, "allow_dash"))) {
		return err_set(e, ERR_INVALID,
		    "'%s' begins with '-': the command would read it as an option", name);
	}
	return 0;
}

static int add_positionals(
    json_t *words, const json_t *parameter, const json_t *value, bool after_end, struct err *e)
{
	if (!json_is_array(value)) {
		return add_positional(words, parameter, value, after_end, e);
	}
	for (size_t i = 0; i < json_array_size(value); i++) {
		if (add_positional(words, parameter, json_array_get(value, i), after_end, e) < 0) {
			return -1;
		}
	}
	return 0;
}

/* One round for the options, one for the positionals. */
static int add_parameters(json_t *words, const json_t *spec, const json_t *recipe,
    const json_t *arguments, bool positionals, struct err *e)
{
	const json_t *parameters = json_object_get(spec, "parameters");
	bool end = json_is_true(json_object_get(spec, "end_of_options"));
	bool ended = false;
	for (size_t i = 0; i < json_array_size(parameters); i++) {
		const json_t *p = json_array_get(parameters, i);
		if ((*json_string_value(json_object_get(p, "kind")) == 'p') != positionals) {
			continue;
		}
		int r;
		cleanup(json_decrefp) json_t *value = value_of(arguments, recipe, p, &r, e);
		if (value == NULL && r == 0) {
			continue;
		}
		if (r == 0 && positionals && end && !ended) {
			r = add_word(words, "--", 2, e);
			ended = true;
		}
		if (r == 0) {
			r = positionals ? add_positionals(words, p, value, end, e)
					: add_option(words, p, value, e);
		}
		if (r < 0) {
			return -1;
		}
	}
	return 0;
}

static int build_schema(
    const json_t *spec, const json_t *recipe, const json_t *arguments, json_t *words, struct err *e)
{
	if (value_check_known(arguments, json_object_get(spec, "parameters"), e) < 0 ||
	    add_parameters(words, spec, recipe, arguments, false, e) < 0) {
		return -1;
	}
	return add_parameters(words, spec, recipe, arguments, true, e);
}

/* --- all of it
 * -----------------------------------------------------------------------------------
 */

/* The recipe of that name; of none, one with the tool's own name, if there is one. */
static int find_recipe(
    const json_t *tool, const char *callable, const json_t **recipe, struct err *e)
{
	const char *own = json_string_value(json_object_get(tool, "name"));
	const json_t *recipes = json_object_get(json_object_get(tool, "spec"), "recipes");
	*recipe = json_object_get(recipes, callable != NULL ? callable : own);
	if (*recipe != NULL || callable == NULL || strcmp(callable, own) == 0) {
		return 0;
	}
	return err_set(e, ERR_NOT_FOUND, "Unknown callable: %s.%.64s", own, callable);
}

static int check_total(const json_t *words, struct err *e)
{
	size_t total = 0;
	for (size_t i = 0; i < json_array_size(words); i++) {
		total += json_string_length(json_array_get(words, i)) + 1;
	}
	return total > ARGV_TOTAL_MAX_BYTES
		   ? err_set(e, ERR_INVALID, "the command line is too long")
		   : 0;
}

json_t *argv_build(const json_t *tool, const char *callable, const json_t *arguments, struct err *e)
{
	const json_t *spec = json_object_get(tool, "spec");
	const char *form = json_string_value(json_object_get(spec, "form"));
	const char *command = json_string_value(json_object_get(spec, "command"));
	const json_t *recipe = NULL;
	cleanup(json_decrefp) json_t *words = json_array();
	if (find_recipe(tool, callable, &recipe, e) < 0) {
		return NULL;
	}
	int r;
	if (strcmp(form, "schema") == 0) {
		r = add_word(words, command, strlen(command), e);
		r = r < 0 ? r : build_schema(spec, recipe, arguments, words, e);
	} else {
		r = argv_split(command, words, e);
		r = r < 0
			? r
			: (strcmp(form, "template") == 0 ? build_template(spec, arguments, words, e)
							 : build_plain(arguments, words, e));
	}
	return r < 0 || check_total(words, e) < 0 ? NULL : steal(&words);
}
