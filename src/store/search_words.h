/* search_words: takes text apart into words without their endings. For search.c and its test. */
#ifndef STORE_SEARCH_WORDS_H
#define STORE_SEARCH_WORDS_H

#include <stdbool.h>
#include <stddef.h>

#include "store/search.h"

struct search_words {
	const char *at, *end;
};

/* TEXT is borrowed, LEN bytes of it. */
struct search_words search_words_of(const char *text, size_t len);

/* The next word, in lower case, stemmed, with a NUL. False at the end. */
bool search_words_next(struct search_words *w, char out[SEARCH_WORD_MAX_BYTES + 1]);

/* Words that say nothing: of English, and, for a SOURCE, of Python. */
bool search_is_stop_word(const char *word, bool source);

#endif
