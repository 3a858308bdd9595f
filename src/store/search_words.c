#include "store/search_words.h"

#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"
#include "base/text.h"

#define STEM_MIN 3

enum kind { OTHER, LOWER, UPPER, DIGIT };

/* Bytes beyond ASCII are letters without case. */
static enum kind kind_of(char c)
{
	if ((c >= 'a' && c <= 'z') || (unsigned char)c >= 0x80) {
		return LOWER;
	}
	if (c >= 'A' && c <= 'Z') {
		return UPPER;
	}
	return c >= '0' && c <= '9' ? DIGIT : OTHER;
}

struct search_words search_words_of(const char *text, size_t len)
{
	return (struct search_words){.at = text, .end = text + len};
}

/* Where the word that begins at AT ends: before '_', digits after letters, "aB", and "B" of "ABc".
 */
static const char *word_end(const char *at, const char *end)
{
	const char *p = at + 1;
	enum kind before = kind_of(*at);
	for (; p < end; p++) {
		enum kind kind = kind_of(*p);
		bool digits = (kind == DIGIT) != (before == DIGIT);
		bool raised = before == LOWER && kind == UPPER;
		bool lowered = before == UPPER && kind == UPPER && p + 1 < end &&
			       kind_of(p[1]) == LOWER;
		if (kind == OTHER || digits || raised || lowered) {
			return p;
		}
		before = kind;
	}
	return p;
}

/* --- stems --------------------------------------------------------------------------------------
 */

static bool has_vowel(const char *word, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (strchr("aeiouy", word[i]) != NULL) {
			return true;
		}
	}
	return false;
}

static bool drop(char *word, size_t *len, const char *ending)
{
	size_t n = strlen(ending);
	if (*len < n + STEM_MIN || word[*len - 1] != ending[n - 1] ||
	    memcmp(word + *len - n, ending, n) != 0 || !has_vowel(word, *len - n)) {
		return false;
	}
	*len -= n;
	word[*len] = '\0';
	return true;
}

static bool ends_in(const char *word, size_t len, const char *ending)
{
	size_t n = strlen(ending);
	return len >= n && memcmp(word + len - n, ending, n) == 0;
}

static void drop_plural(char *word, size_t *len)
{
	if (drop(word, len, "ies")) {
		word[(*len)++] = 'y';
		word[*len] = '\0';
		return;
	}
	static const char *const whole[] = {"sses", "xes", "ches", "shes", "zes"};
	for (size_t i = 0; i < array_len(whole); i++) {
		if (ends_in(word, *len, whole[i])) {
			(void)drop(word, len, "es");
			return;
		}
	}
	if (!ends_in(word, *len, "ss") && !ends_in(word, *len, "us") &&
	    !ends_in(word, *len, "is")) {
		(void)drop(word, len, "s");
	}
}

/* scann, of scanning and scanner, is scan. */
static void drop_double(char *word, size_t *len)
{
	char last = word[*len - 1];
	if (*len > STEM_MIN && last == word[*len - 2] && strchr("aeiouylsz", last) == NULL) {
		word[--*len] = '\0';
	}
}

static void stem(char *word)
{
	static const char *const endings[] = {
	    "ization", "ation", "ing", "ers", "er", "ors", "or", "ed", "ion"};
	size_t len = strlen(word);
	/* The last letters of all endings: most words need no closer look. */
	if (kind_of(word[0]) != LOWER || len <= STEM_MIN ||
	    strchr("sgrdne", word[len - 1]) == NULL) {
		return;
	}
	drop_plural(word, &len);
	for (size_t i = 0; i < array_len(endings); i++) {
		if (drop(word, &len, endings[i])) {
			if (i == 0) {
				word[len++] = 'i';
				word[len++] = 'z';
				word[len] = '\0';
			}
			drop_double(word, &len);
			break;
		}
	}
	(void)drop(word, &len, "e");
}

bool search_words_next(struct search_words *w, char out[SEARCH_WORD_MAX_BYTES + 1])
{
	while (w->at < w->end && kind_of(*w->at) == OTHER) {
		w->at++;
	}
	if (w->at == w->end) {
		return false;
	}
	const char *end = word_end(w->at, w->end);
	size_t len = (size_t)(end - w->at);
	len = len > SEARCH_WORD_MAX_BYTES ? SEARCH_WORD_MAX_BYTES : len;
	for (size_t i = 0; i < len; i++) {
		char c = w->at[i];
		out[i] = kind_of(c) == UPPER ? (char)(c | 0x20) : c;
	}
	out[len] = '\0';
	stem(out);
	w->at = end;
	return true;
}

/* --- words that say nothing ---------------------------------------------------------------------
 */

/* As they are after stemming; both sorted. */
static const char *const english[] = {"a", "all", "an", "and", "any", "are", "as", "at", "be", "by",
    "can", "do", "does", "for", "from", "given", "how", "i", "in", "into", "is", "it", "its", "me",
    "my", "of", "on", "or", "that", "the", "this", "to", "what", "which", "with", "you"};
static const char *const python[] = {"and", "arg", "as", "assert", "async", "await", "bool",
    "break", "class", "continu", "def", "dict", "elif", "els", "except", "fals", "final", "float",
    "for", "from", "if", "import", "in", "int", "is", "kwarg", "lambda", "len", "list", "non",
    "not", "or", "pass", "print", "rais", "return", "run", "self", "str", "tru", "try", "typ",
    "whil", "with", "yield"};

static int compare(const void *key, const void *item)
{
	return strcmp(key, *(const char *const *)item);
}

bool search_is_stop_word(const char *word, bool source)
{
	return bsearch(word, english, array_len(english), sizeof(*english), compare) != NULL ||
	       (source &&
		   bsearch(word, python, array_len(python), sizeof(*python), compare) != NULL);
}
