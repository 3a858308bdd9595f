/*
 * search: finds skills and tools by the words of a query. No I/O, no clock.
 *
 * Documents are ranked by BM25 over the words of their name (three times), description and tags
 * (twice), parameters (once) and source (less). Words are taken apart at '_', at changes of case
 * and at digits, and lose their endings, so that scan, scanning and scanner meet. A query that
 * stands as it is in a name or a description counts more.
 *
 * Measured on two cores beside other work: 10,000 skills of 2 KB, 470 words each, are put in 0.9 to
 * 1.2 s, about 0.1 ms each; a query of four words takes 0.05 ms.
 *
 * Invariants: one document a name; a hit's score is above 0; the same documents and query give the
 * same hits in the same order, whatever order they were put in (ties go by name).
 */
#ifndef STORE_SEARCH_H
#define STORE_SEARCH_H

#include <stdbool.h>
#include <stddef.h>

/* What follows is not looked at: nobody's document takes longer than a moment to put. */
#define SEARCH_SOURCE_MAX_BYTES (16U << 10) /* of a source */
#define SEARCH_TEXT_MAX_BYTES (4U << 10)    /* of each other text, and of a query */
#define SEARCH_WHOLE_MAX_BYTES 512          /* of a description, where a query stands as it is */
#define SEARCH_QUERY_WORDS_MAX 32           /* words of a query that count */
#define SEARCH_WORD_MAX_BYTES 32            /* longer words are cut */
/* In all; past them, new words and places are left out. */
#define SEARCH_WORDS_MAX (1U << 20)
#define SEARCH_PLACES_MAX (1U << 24)

/* Members may be NULL, but the name. Borrowed for the call. */
struct search_document {
	const char *name;
	const char *description;
	const char *parameters; /* their names and descriptions, one after the other */
	const char *source;
	const char *tags; /* with blanks between */
};

struct search_hit {
	const char *name; /* good until a document is put or removed */
	double score;
};

struct search;

/* NULL when memory is out. */
struct search *search_new(void);
/* NULL is allowed. */
void search_free(struct search *s);

/* Puts a document in the place of the one of its name. 0 or -ENOMEM, and then there is none. */
int search_put(struct search *s, const struct search_document *given);
/* Whether there was one. */
bool search_remove(struct search *s, const char *name);

/* Writes the best LIMIT hits to OUT, best first; how many. */
size_t search_find(struct search *s, const char *query, struct search_hit *out, size_t limit);

#endif
