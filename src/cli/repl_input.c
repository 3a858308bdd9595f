#include "cli/repl_input.h"

#include <string.h>

struct scan {
	const char *text;
	size_t len;
	size_t at;
	unsigned depth; /* open brackets */
	char quote;     /* of the open triple-quoted string, or 0 */
	char first;     /* first and last character of the logical line that are not white space */
	char last;
	bool block;  /* a block was opened */
	bool opens;  /* by the last logical line */
	bool joined; /* the text ends in a backslash */
	bool broken; /* no further line can mend it */
};

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v';
}

bool repl_input_is_blank(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (text[i] != '\n' && !is_space(text[i])) {
			return false;
		}
	}
	return true;
}

static bool has_at(const struct scan *s, const char *what)
{
	size_t n = strlen(what);
	return s->len - s->at >= n && memcmp(s->text + s->at, what, n) == 0;
}

/* Steps over a string that starts here. */
static void scan_string(struct scan *s)
{
	char quote = s->text[s->at];
	const char triple[] = {quote, quote, quote, '\0'};
	bool is_triple = has_at(s, triple);
	s->at += is_triple ? 3 : 1;
	while (s->at < s->len) {
		char c = s->text[s->at];
		if (c == '\\') {
			s->at += 2;
			s->joined = s->at >= s->len;
		} else if (is_triple ? has_at(s, triple) : c == quote) {
			s->at += is_triple ? 3 : 1;
			return;
		} else if (c == '\n' && !is_triple) {
			s->broken = true;
			return;
		} else {
			s->at++;
		}
	}
	s->quote = is_triple ? quote : '\0';
}

static void end_line(struct scan *s)
{
	if (s->depth > 0) {
		return;
	}
	if (s->first != '\0') {
		s->opens = s->last == ':' || s->first == '@';
		s->block |= s->opens;
	}
	s->first = '\0';
	s->last = '\0';
}

static void scan_bracket(struct scan *s, char c)
{
	if (strchr("([{", c) != NULL) {
		s->depth++;
	} else if (s->depth > 0) {
		s->depth--;
	} else {
		s->broken = true;
	}
}

static void scan_one(struct scan *s)
{
	char c = s->text[s->at];
	if (c == '#') {
		const char *end = memchr(s->text + s->at, '\n', s->len - s->at);
		s->at = end == NULL ? s->len : (size_t)(end - s->text);
		return;
	}
	if (c == '\\' && s->at + 1 < s->len && s->text[s->at + 1] == '\n') {
		s->at += 2;
		s->joined = s->at >= s->len;
		return;
	}
	if (c != '\n' && !is_space(c)) {
		s->last = c;
		s->first = s->first == '\0' ? c : s->first;
	}
	if (c == '"' || c == '\'') {
		scan_string(s);
		return;
	}
	if (c == '\n') {
		end_line(s);
	} else if (c != '\0' && strchr("()[]{}", c) != NULL) {
		scan_bracket(s, c);
	}
	s->at++;
}

/* Where the last line begins, when it has ended; else LEN. */
static size_t last_line(const char *text, size_t len)
{
	if (len == 0 || text[len - 1] != '\n') {
		return len;
	}
	const char *before = memrchr(text, '\n', len - 1);
	return before == NULL ? 0 : (size_t)(before - text) + 1;
}

static bool last_line_is_blank(const char *text, size_t len)
{
	size_t start = last_line(text, len);
	return start < len && repl_input_is_blank(text + start, len - start);
}

bool repl_input_is_whole(const char *text, size_t len, bool pasted)
{
	struct scan s = {.text = text, .len = len};
	while (s.at < len && (is_space(text[s.at]) || text[s.at] == '\n')) {
		s.at++;
	}
	if (has_at(&s, "%%")) {
		return last_line_is_blank(text, len);
	}
	if (has_at(&s, "%") || has_at(&s, "!")) {
		return true;
	}
	while (s.at < len && !s.broken) {
		scan_one(&s);
	}
	if (s.broken) {
		return true;
	}
	if (s.depth > 0 || s.quote != '\0' || s.joined) {
		return false;
	}
	end_line(&s);
	size_t start = last_line(text, len);
	bool outside = start < len && !is_space(text[start]) && !s.opens;
	return !s.block || last_line_is_blank(text, len) || (pasted && outside);
}
