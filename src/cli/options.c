#include "cli/options.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/text.h"
#include "cli/command.h"

#define OPTIONS_MAX 24
#define OPTIONS_FIRST_VALUE 256 /* getopt's value of row 0; past every letter */

/* All rows of one command, the shared ones last, and what getopt_long wants to know of them. */
struct table {
	struct option_entry rows[OPTIONS_MAX];
	struct option longs[OPTIONS_MAX + 1];
	char letters[2 * OPTIONS_MAX + 2];
	size_t count;
};

static void table_add(struct table *t, const struct option_entry *row)
{
	if (t->count == OPTIONS_MAX) {
		abort(); /* a command with more options than the table has rows */
	}
	t->longs[t->count] = (struct option){
	    .name = row->name,
	    .has_arg = row->text != NULL ? required_argument : no_argument,
	    .val = OPTIONS_FIRST_VALUE + (int)t->count,
	};
	t->rows[t->count++] = *row;
	if (row->letter != '\0') {
		size_t n = strlen(t->letters);
		t->letters[n] = row->letter;
		t->letters[n + 1] = row->text != NULL ? ':' : '\0';
	}
}

static void table_add_shared(struct table *t, struct options *o, const char **format)
{
	const struct option_entry shared[] = {
	    {.name = "url", .text = &o->url},
	    {.name = "token-file", .text = &o->token_file},
	    {.name = "pool", .text = &o->pool},
	    {.name = "ca-file", .text = &o->ca_file},
	    {.name = "output", .letter = 'o', .text = format},
	};
	for (size_t i = 0; i < array_len(shared); i++) {
		table_add(t, &shared[i]);
	}
}

static const struct option_entry *table_find(const struct table *t, int value)
{
	for (size_t i = 0; i < t->count; i++) {
		if (value == OPTIONS_FIRST_VALUE + (int)i ||
		    (t->rows[i].letter != '\0' && value == t->rows[i].letter)) {
			return &t->rows[i];
		}
	}
	return NULL;
}

/* Says which option getopt_long did not like. */
static int option_error(const struct table *t, int kind, char **argv, struct err *e)
{
	const char *what = kind == ':' ? "needs a value" : "is not known, or not used like this";
	const char *word = argv[optind - 1];
	const char *names[OPTIONS_MAX];
	for (size_t i = 0; i < t->count; i++) {
		names[i] = t->rows[i].name;
	}
	const char *near = kind == '?' && strncmp(word, "--", 2) == 0
			       ? command_nearest(word + 2, names, t->count)
			       : NULL;
	if (near != NULL && strcmp(near, word + 2) != 0) {
		return err_set(
		    e, ERR_INVALID, "option %s %s; did you mean --%s?", word, what, near);
	}
	if (optopt > 0 && optopt < OPTIONS_FIRST_VALUE) {
		return err_set(e, ERR_INVALID, "option -%c %s", optopt, what);
	}
	return err_set(e, ERR_INVALID, "option %s %s", word, what);
}

/* getopt_long also takes the beginning of a name. We do not: `--token SECRET` must not pass for
 * --token-file, and a script must not break when an option is added. */
static bool is_spelt_out(const struct option_entry *row, char **argv)
{
	const char *word = optarg == argv[optind - 1] ? argv[optind - 2] : argv[optind - 1];
	size_t n = strlen(row->name);
	return strncmp(word, "--", 2) == 0 && strncmp(word + 2, row->name, n) == 0 &&
	       (word[2 + n] == '\0' || word[2 + n] == '=');
}

static int parse_rows(const struct table *t, int argc, char **argv, struct err *e)
{
	opterr = 0;
	optind = 0; /* glibc: start over */
	for (;;) {
		int value = getopt_long(argc, argv, t->letters, t->longs, NULL);
		if (value == -1) {
			return optind;
		}
		const struct option_entry *row = table_find(t, value);
		if (row == NULL) {
			return option_error(t, value, argv, e);
		}
		if (value >= OPTIONS_FIRST_VALUE && !is_spelt_out(row, argv)) {
			return err_set(e, ERR_INVALID,
			    "an option's name is cut short; this is --%s", row->name);
		}
		if (row->flag != NULL) {
			*row->flag = true;
			continue;
		}
		if (optarg[0] == '\0') {
			return err_set(e, ERR_INVALID,
			    "option --%s needs a value that is not empty", row->name);
		}
		*row->text = optarg;
	}
}

int options_parse(struct options *o, int argc, char **argv, const struct option_entry *own,
    size_t own_count, struct err *e)
{
	const char *format = "text";
	const char *url = getenv("CARREL_URL");
	*o = (struct options){.url = url != NULL && url[0] != '\0' ? url : OPTIONS_DEFAULT_URL};
	struct table t = {.letters = ":"};
	for (size_t i = 0; i < own_count; i++) {
		table_add(&t, &own[i]);
	}
	table_add_shared(&t, o, &format);
	int first = parse_rows(&t, argc, argv, e);
	if (first < 0) {
		return -1;
	}
	o->json = strcmp(format, "json") == 0;
	if (!o->json && strcmp(format, "text") != 0) {
		return err_set(
		    e, ERR_INVALID, "option -o takes 'text' or 'json', not '%s'", format);
	}
	return first;
}

int options_parse_own(
    int argc, char **argv, const struct option_entry *own, size_t own_count, struct err *e)
{
	struct table t = {.letters = ":"};
	for (size_t i = 0; i < own_count; i++) {
		table_add(&t, &own[i]);
	}
	return parse_rows(&t, argc, argv, e);
}

int options_command_at(int argc, char **argv, struct err *e)
{
	struct options unused;
	const char *format;
	struct table t = {.letters = "+:"}; /* '+': stop at the first operand */
	table_add_shared(&t, &unused, &format);
	return parse_rows(&t, argc, argv, e);
}

int options_number(
    const char *name, const char *text, uint64_t min, uint64_t max, uint64_t *out, struct err *e)
{
	uint64_t value;
	if (text_to_u64(text, max, &value) < 0 || value < min) {
		return err_set(e, ERR_INVALID,
		    "option --%s takes a whole number from %" PRIu64 " to %" PRIu64 ", not '%s'",
		    name, min, max, text);
	}
	*out = value;
	return 0;
}

static void trim(struct buf *b)
{
	static const char space[] = " \t\r\n";
	size_t before = strspn(buf_str(b), space);
	buf_drop(b, before);
	while (b->len > 0 && strchr(space, b->data[b->len - 1]) != NULL) {
		b->data[--b->len] = '\0';
	}
}

static int check_token(const struct buf *token, const char *from, struct err *e)
{
	for (size_t i = 0; i < token->len; i++) {
		if (token->data[i] <= ' ' || token->data[i] > '~') {
			return err_set(e, ERR_INVALID,
			    "the token in %s holds a space, a line end or a character outside "
			    "ASCII",
			    from);
		}
	}
	return 0;
}

int options_token(const struct options *o, struct buf *token, struct err *e)
{
	buf_clear(token);
	if (o->token_file == NULL) {
		const char *text = getenv("CARREL_TOKEN");
		if (text != NULL && buf_add_str(token, text) < 0) {
			return err_set(e, ERR_INVALID, "the token in CARREL_TOKEN is too long");
		}
		return check_token(token, "CARREL_TOKEN", e);
	}
	int r = fd_read_file(AT_FDCWD, o->token_file, token);
	if (r == -EMSGSIZE) {
		return err_set(e, ERR_INVALID, "the token file %s is too long", o->token_file);
	}
	if (r < 0) {
		return err_set_os(e, -r, "cannot read the token file %s", o->token_file);
	}
	trim(token);
	if (token->len == 0) {
		return err_set(e, ERR_INVALID, "the token file %s is empty", o->token_file);
	}
	return check_token(token, o->token_file, e);
}
