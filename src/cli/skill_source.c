#include "cli/skill_source.h"

#include <stdbool.h>
#include <string.h>

#include "base/text.h"

#define DEPTH_MAX 200

struct scanner {
	const char *text;
	size_t len, at;
	unsigned line;
	size_t depth;
	char closing[DEPTH_MAX];
	unsigned opened[DEPTH_MAX]; /* on which line */
	struct buf *description;
	bool first;  /* no statement has begun yet */
	bool in_run; /* the next statement is the first of run's body */
	bool has_run;
};

static bool is_word(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '_' || (unsigned char)c >= 0x80;
}

static bool follows(const struct scanner *s, size_t at, const char *what)
{
	size_t n = strlen(what);
	return s->len - at >= n && memcmp(s->text + at, what, n) == 0;
}

/* Where the string that may begin at AT, prefix and all, has its quote, counted from 1; 0: there is
 * none. OTHER: it is bytes or a format, which are no docstring. */
static size_t string_prefix(const struct scanner *s, size_t at, bool *other)
{
	size_t n = 0;
	*other = false;
	while (at + n < s->len && n < 2 && strchr("rRbBuUfF", s->text[at + n]) != NULL) {
		*other = *other || strchr("bBfF", s->text[at + n]) != NULL;
		n++;
	}
	bool quoted = at + n < s->len && (s->text[at + n] == '"' || s->text[at + n] == '\'');
	return quoted ? n + 1 : 0;
}

/* Moves past the string whose quote is at `at`; its contents to *FROM and *LEN. */
static int skip_string(struct scanner *s, const char **from, size_t *len, struct err *e)
{
	char quote = s->text[s->at];
	unsigned line = s->line;
	const char three[] = {quote, quote, quote, '\0'};
	bool triple = follows(s, s->at, three);
	size_t ends = triple ? 3 : 1;
	s->at += ends;
	*from = s->text + s->at;
	while (s->at < s->len) {
		char c = s->text[s->at];
		if (c == quote && (!triple || follows(s, s->at, three))) {
			*len = (size_t)(s->text + s->at - *from);
			s->at += ends;
			return 0;
		}
		if (c == '\n' && !triple) {
			break;
		}
		if (c == '\\' && s->at + 1 < s->len) {
			s->at++;
			c = s->text[s->at];
		}
		s->line += c == '\n';
		s->at++;
	}
	return err_set(e, ERR_INVALID, "line %u: a string is not closed", line);
}

static bool is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\n' || c == '\f';
}

/* The first line of a docstring that says something. */
static void describe(struct scanner *s, const char *text, size_t len)
{
	while (len > 0 && is_blank(*text)) {
		text++;
		len--;
	}
	const char *end = memchr(text, '\n', len);
	size_t n = end != NULL ? (size_t)(end - text) : len;
	while (n > 0 && is_blank(text[n - 1])) {
		n--;
	}
	buf_clear(s->description);
	(void)buf_add(s->description, text, n);
}

static int open_bracket(struct scanner *s, char closing, struct err *e)
{
	if (s->depth == DEPTH_MAX) {
		return err_set(e, ERR_INVALID, "line %u: too many brackets", s->line);
	}
	s->closing[s->depth] = closing;
	s->opened[s->depth++] = s->line;
	return 0;
}

static int bracket(struct scanner *s, char c, struct err *e)
{
	static const char opening[] = "([{";
	static const char closing[] = ")]}";
	const char *o = strchr(opening, c);
	if (o != NULL) {
		return open_bracket(s, closing[o - opening], e);
	}
	if (s->depth == 0 || s->closing[s->depth - 1] != c) {
		return err_set(e, ERR_INVALID, "line %u: a '%c' that nothing opened", s->line, c);
	}
	s->depth--;
	return 0;
}

/* How many bytes "def run" or "async def run", with its '(' to come, has at AT; 0: it is not. */
static size_t run_head(const struct scanner *s, size_t at)
{
	static const char *const words[] = {"async", "def", "run"};
	size_t from = at;
	for (size_t i = follows(s, at, "async") ? 0 : 1; i < array_len(words); i++) {
		size_t n = strlen(words[i]);
		if (!follows(s, at, words[i]) || (at + n < s->len && is_word(s->text[at + n]))) {
			return 0;
		}
		at += n;
		while (at < s->len && (s->text[at] == ' ' || s->text[at] == '\t')) {
			at++;
		}
	}
	return at < s->len && s->text[at] == '(' ? at - from : 0;
}

/* A statement begins; COLUMN is 0 at the left edge. */
static int begin_statement(struct scanner *s, size_t column, struct err *e)
{
	bool other;
	size_t quote = string_prefix(s, s->at, &other);
	bool module = s->first;
	bool body = s->in_run && column > 0;
	s->first = s->in_run = false;
	if (quote > 0) {
		const char *from = NULL;
		size_t len = 0;
		s->at += quote - 1;
		if (skip_string(s, &from, &len, e) < 0) {
			return -1;
		}
		if (!other && (module || (body && s->description->len == 0))) {
			describe(s, from, len);
		}
		return 0;
	}
	size_t head = column == 0 ? run_head(s, s->at) : 0;
	if (head > 0) {
		s->at += head;
		s->has_run = s->in_run = true;
	}
	return 0;
}

/* Moves past what stands at `at` within a statement. */
static int step(struct scanner *s, struct err *e)
{
	bool other;
	char c = s->text[s->at];
	size_t quote = string_prefix(s, s->at, &other);
	if (quote > 0) {
		const char *from;
		size_t len;
		s->at += quote - 1;
		return skip_string(s, &from, &len, e);
	}
	if (is_word(c)) {
		while (s->at < s->len && is_word(s->text[s->at])) {
			s->at++;
		}
		return 0;
	}
	if (c == '#') {
		const char *end = memchr(s->text + s->at, '\n', s->len - s->at);
		s->at = end != NULL ? (size_t)(end - s->text) : s->len;
		return 0;
	}
	s->at++;
	if (c == '\\' && s->at < s->len && s->text[s->at] == '\n') {
		s->at++;
		s->line++;
	}
	return strchr("()[]{}", c) != NULL && c != '\0' ? bracket(s, c, e) : 0;
}

static int scan(struct scanner *s, struct err *e)
{
	size_t column = 0;
	bool fresh = true; /* a statement may begin here */
	while (s->at < s->len) {
		char c = s->text[s->at];
		if (c == '\n') {
			s->line++;
			s->at++;
			if (s->depth == 0) {
				fresh = true;
				column = 0;
			}
		} else if (is_blank(c)) {
			s->at++;
			column++;
		} else if (fresh && c != '#') {
			fresh = false;
			if (begin_statement(s, column, e) < 0) {
				return -1;
			}
			column = 1;
		} else {
			/* `def run(x): "..."` has its body on the same line. */
			fresh = c == ':' && s->in_run && s->depth == 0;
			if (step(s, e) < 0) {
				return -1;
			}
		}
		if (s->at > s->len) {
			s->at = s->len;
		}
	}
	return 0;
}

static int check_utf8(const char *text, size_t len, struct err *e)
{
	if (text_is_utf8(text, len) && memchr(text, '\0', len) == NULL) {
		return 0;
	}
	unsigned line = 1;
	while (len > 0) {
		const char *end = memchr(text, '\n', len);
		size_t n = end != NULL ? (size_t)(end - text) + 1 : len;
		if (!text_is_utf8(text, n) || memchr(text, '\0', n) != NULL) {
			break;
		}
		text += n;
		len -= n;
		line++;
	}
	return err_set(e, ERR_INVALID, "line %u: it is not UTF-8 text", line);
}

int skill_source_read(const char *text, size_t len, struct buf *description, struct err *e)
{
	struct scanner s = {
	    .text = text, .len = len, .line = 1, .description = description, .first = true};
	if (check_utf8(text, len, e) < 0 || scan(&s, e) < 0) {
		return -1;
	}
	if (s.depth > 0) {
		return err_set(
		    e, ERR_INVALID, "line %u: a bracket is not closed", s.opened[s.depth - 1]);
	}
	if (!s.has_run) {
		return err_set(e, ERR_INVALID, "line %u: it defines no function run()", s.line);
	}
	return 0;
}
