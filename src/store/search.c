#include "store/search.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* Seeded, so that nobody can choose words that fall into one bucket. */
static uint64_t hash_seed;

static uint64_t hash_bytes(const void *key, size_t len)
{
	const char *bytes = key;
	uint64_t h = hash_seed ^ len;
	for (size_t i = 0; i < len; i += 8) {
		uint64_t part = 0;
		memcpy(&part, bytes + i, len - i < 8 ? len - i : 8);
		h = (h ^ part) * 0x9e3779b97f4a7c15ULL;
		h ^= h >> 29;
	}
	return h;
}

#define HASH_FUNCTION(key, len, hash) ((hash) = (unsigned)(hash_bytes((key), (len)) >> 7))
#include <uthash.h>

#include "base/compiler.h"
#include "store/search_words.h"

#define K1 1.2
#define B 0.5 /* a long source says little about what a skill is for */

#define BONUS_SAME 20.0
#define BONUS_NAME 6.0
#define BONUS_DESCRIPTION 3.0
#define BONUS_DESCRIPTION_BYTES 3 /* a shorter query stands in too many */

static const float weight_name = 3;
static const float weight_description = 2;
static const float weight_parameters = 1;
static const float weight_source = 0.3F;

struct place {
	uint32_t document;
	float weight;
};

struct word {
	UT_hash_handle hh;
	struct place *places; /* by document, ascending */
	uint32_t count, alloc;
	uint32_t last; /* the place that was written last */
	bool stop, stop_in_source;
	char text[];
};

struct document {
	UT_hash_handle hh; /* by name */
	uint32_t id;       /* its place in search.documents */
	char *name;
	char *low_name;        /* in lower case */
	char *low_description; /* and so the beginning of it */
	struct word **words;
	uint32_t word_count, word_alloc;
};

/* Which pairs of bytes a text has, by their hash: what lacks one of a query's does not hold it. */
struct pairs {
	uint64_t bits[4];
};

/* Documents have small numbers, which are used again; the arrays go by them. */
struct search {
	struct word *words;
	struct document *by_name;
	struct document **documents; /* NULL: the number is free */
	float *lengths;              /* sum of the weights of a document's words */
	struct pairs *pairs; /* of a document's name and of what is kept of its description */
	double *scores;      /* 0 between queries */
	uint32_t *free;      /* numbers that are free, free_count of them */
	uint32_t count, alloc, free_count;
	uint64_t place_count;
	double length; /* of all documents */
};

struct search *search_new(void)
{
	if (hash_seed == 0 && getrandom(&hash_seed, sizeof(hash_seed), 0) < 0) {
		return NULL;
	}
	return calloc(1, sizeof(struct search));
}

static void document_free(struct document *d)
{
	if (d != NULL) {
		free(d->name);
		free(d->low_name);
		free(d->low_description);
		free(d->words);
		free(d);
	}
}

void search_free(struct search *s)
{
	struct word *w, *next;
	if (s == NULL) {
		return;
	}
	HASH_CLEAR(hh, s->by_name);
	HASH_ITER(hh, s->words, w, next)
	{
		HASH_DEL(s->words, w);
		free(w->places);
		free(w);
	}
	for (uint32_t i = 0; i < s->count; i++) {
		document_free(s->documents[i]);
	}
	free(s->documents);
	free(s->lengths);
	free(s->pairs);
	free(s->scores);
	free(s->free);
	free(s);
}

/* --- putting ------------------------------------------------------------------------------------
 */

/* Room for one more of SIZE bytes in *ITEMS. */
static bool grow(void *items, uint32_t count, uint32_t *alloc, size_t size)
{
	if (count < *alloc) {
		return true;
	}
	uint32_t more = *alloc < 4 ? 4 : *alloc * 2;
	void *old;
	memcpy(&old, items, sizeof(old));
	void *new = reallocarray(old, more, size);
	if (new == NULL) {
		return false;
	}
	memcpy(items, &new, sizeof(new));
	*alloc = more;
	return true;
}

/* The word TEXT, made when it is new; NULL when there is no room for it. */
static struct word *word_of(struct search *s, const char *text)
{
	struct word *w;
	size_t len = strlen(text);
	HASH_FIND(hh, s->words, text, len, w);
	if (w != NULL || HASH_COUNT(s->words) >= SEARCH_WORDS_MAX) {
		return w;
	}
	w = calloc(1, sizeof(*w) + len + 1);
	if (w != NULL) {
		memcpy(w->text, text, len + 1);
		w->stop = search_is_stop_word(text, false);
		w->stop_in_source = search_is_stop_word(text, true);
		HASH_ADD(hh, s->words, text, len, w);
	}
	return w;
}

/* Where document ID is among W's places, or would be. */
static uint32_t place_of(const struct word *w, uint32_t id)
{
	uint32_t low = 0;
	uint32_t high = w->count;
	if (high > 0 && w->places[high - 1].document < id) {
		return high;
	}
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (w->places[middle].document < id) {
			low = middle + 1;
		} else {
			high = middle;
		}
	}
	return low;
}

static bool is_at(const struct word *w, uint32_t at, uint32_t id)
{
	return at < w->count && w->places[at].document == id;
}

/* W stands in D for the first time, at AT. 0 or -ENOMEM. */
static int insert_place(
    struct search *s, struct word *w, uint32_t at, struct document *d, float weight)
{
	if (s->place_count >= SEARCH_PLACES_MAX) {
		return 0;
	}
	if (!grow(&w->places, w->count, &w->alloc, sizeof(*w->places)) ||
	    !grow(&d->words, d->word_count, &d->word_alloc, sizeof(struct word *))) {
		return -ENOMEM;
	}
	memmove(&w->places[at + 1], &w->places[at], (w->count - at) * sizeof(*w->places));
	w->places[at] = (struct place){.document = d->id, .weight = weight};
	w->last = at;
	w->count++;
	s->place_count++;
	d->words[d->word_count++] = w;
	return 0;
}

static void forget_word(struct search *s, struct word *w)
{
	HASH_DEL(s->words, w);
	free(w->places);
	free(w);
}

/* 0 or -ENOMEM. */
static int add_word(struct search *s, struct document *d, const char *text, float weight)
{
	/* One letter or a number in a source is no name of anything. */
	if (weight < 1 && (text[1] == '\0' || isdigit((unsigned char)*text))) {
		return 0;
	}
	struct word *w = word_of(s, text);
	if (w == NULL) {
		return HASH_COUNT(s->words) >= SEARCH_WORDS_MAX ? 0 : -ENOMEM;
	}
	if (weight < 1 ? w->stop_in_source : w->stop) {
		return 0;
	}
	s->lengths[d->id] += weight;
	uint32_t at = is_at(w, w->last, d->id) ? w->last : place_of(w, d->id);
	if (is_at(w, at, d->id)) {
		w->places[at].weight += weight;
		w->last = at;
		return 0;
	}
	int r = insert_place(s, w, at, d, weight);
	if (w->count == 0) {
		forget_word(s, w);
	}
	return r;
}

static size_t text_length(const char *text, size_t max)
{
	return text == NULL ? 0 : strnlen(text, max);
}

static int add_text(struct search *s, struct document *d, const char *text, float weight)
{
	char word[SEARCH_WORD_MAX_BYTES + 1];
	size_t len = text_length(
	    text, weight < 1 ? SEARCH_SOURCE_MAX_BYTES : SEARCH_TEXT_MAX_BYTES);
	struct search_words words = search_words_of(text, len);
	int r = 0;
	while (r == 0 && search_words_next(&words, word)) {
		r = add_word(s, d, word, weight);
	}
	return r;
}

/* The first MAX bytes. */
static char *lower(const char *text, size_t max)
{
	size_t len = text_length(text, max);
	char *copy = len > 0 ? strndup(text, len) : strdup("");
	for (char *c = copy; c != NULL && *c != '\0'; c++) {
		*c = (char)tolower((unsigned char)*c);
	}
	return copy;
}

static void add_pairs(struct pairs *p, const char *text)
{
	for (const unsigned char *c = (const unsigned char *)text; c[0] != '\0' && c[1] != '\0';
	     c++) {
		uint32_t hash = (c[0] * 31U + c[1]) * 2654435761U >> 24;
		p->bits[hash >> 6] |= 1ULL << (hash & 63);
	}
}

static bool has_pairs(const struct pairs *p, const struct pairs *of)
{
	return (of->bits[0] & ~p->bits[0]) == 0 && (of->bits[1] & ~p->bits[1]) == 0 &&
	       (of->bits[2] & ~p->bits[2]) == 0 && (of->bits[3] & ~p->bits[3]) == 0;
}

/* Takes D's places out, and frees it. Its number can be used again. */
static void drop(struct search *s, struct document *d)
{
	for (uint32_t i = 0; i < d->word_count; i++) {
		struct word *w = d->words[i];
		uint32_t at = place_of(w, d->id);
		w->count--;
		s->place_count--;
		memmove(&w->places[at], &w->places[at + 1], (w->count - at) * sizeof(*w->places));
		if (w->count == 0) {
			forget_word(s, w);
		}
	}
	/* Differences leave crumbs: they end with the last document. */
	s->length = HASH_COUNT(s->by_name) == 0 ? 0 : s->length - (double)s->lengths[d->id];
	s->lengths[d->id] = 0;
	s->documents[d->id] = NULL;
	s->free[s->free_count++] = d->id;
	document_free(d);
}

bool search_remove(struct search *s, const char *name)
{
	struct document *d;
	HASH_FIND_STR(s->by_name, name, d);
	if (d == NULL) {
		return false;
	}
	HASH_DEL(s->by_name, d);
	drop(s, d);
	return true;
}

/* Room in *ITEMS for COUNT of SIZE bytes. */
static bool resize(void *items, uint32_t count, size_t size)
{
	void *old;
	memcpy(&old, items, sizeof(old));
	void *new = reallocarray(old, count, size);
	if (new != NULL) {
		memcpy(items, &new, sizeof(new));
	}
	return new != NULL;
}

static bool make_room(struct search *s)
{
	if (s->free_count > 0 || s->count < s->alloc) {
		return true;
	}
	uint32_t more = s->alloc < 16 ? 16 : s->alloc * 2;
	if (!resize(&s->documents, more, sizeof(struct document *)) ||
	    !resize(&s->lengths, more, sizeof(*s->lengths)) ||
	    !resize(&s->pairs, more, sizeof(*s->pairs)) ||
	    !resize(&s->scores, more, sizeof(*s->scores)) ||
	    !resize(&s->free, more, sizeof(*s->free))) {
		return false;
	}
	s->alloc = more;
	return true;
}

static int index_document(struct search *s, struct document *d, const struct search_document *given)
{
	int r = add_text(s, d, given->name, weight_name);
	r = r < 0 ? r : add_text(s, d, given->description, weight_description);
	r = r < 0 ? r : add_text(s, d, given->tags, weight_description);
	r = r < 0 ? r : add_text(s, d, given->parameters, weight_parameters);
	return r < 0 ? r : add_text(s, d, given->source, weight_source);
}

static struct document *document_new(const struct search_document *given)
{
	struct document *d = calloc(1, sizeof(*d));
	if (d == NULL) {
		return NULL;
	}
	d->name = strdup(given->name);
	d->low_name = lower(given->name, SIZE_MAX);
	d->low_description = lower(given->description, SEARCH_WHOLE_MAX_BYTES);
	if (d->name == NULL || d->low_name == NULL || d->low_description == NULL) {
		document_free(d);
		return NULL;
	}
	return d;
}

int search_put(struct search *s, const struct search_document *given)
{
	(void)search_remove(s, given->name);
	struct document *d = make_room(s) ? document_new(given) : NULL;
	if (d == NULL) {
		return -ENOMEM;
	}
	d->id = s->free_count > 0 ? s->free[--s->free_count] : s->count++;
	s->documents[d->id] = d;
	s->lengths[d->id] = 0;
	s->scores[d->id] = 0;
	s->pairs[d->id] = (struct pairs){0};
	add_pairs(&s->pairs[d->id], d->low_name);
	add_pairs(&s->pairs[d->id], d->low_description);
	int r = index_document(s, d, given);
	s->length += (double)s->lengths[d->id];
	if (r < 0) {
		drop(s, d);
		return r;
	}
	HASH_ADD_KEYPTR(hh, s->by_name, d->name, strlen(d->name), d);
	return 0;
}

/* --- finding ------------------------------------------------------------------------------------
 */

static void score_word(struct search *s, const struct word *w)
{
	double n = (double)HASH_COUNT(s->by_name);
	double rare = log(1 + (n - w->count + 0.5) / (w->count + 0.5));
	float most = (float)(rare * (K1 + 1));
	float least = (float)(K1 * (1 - B));
	float of_length = (float)(K1 * B * n / s->length);
	for (uint32_t i = 0; i < w->count; i++) {
		const struct place *p = &w->places[i];
		float norm = least + of_length * s->lengths[p->document];
		s->scores[p->document] += (double)(most * p->weight / (p->weight + norm));
	}
}

/* Each different word of QUERY counts once. */
static void score_words(struct search *s, const char *query)
{
	char seen[SEARCH_QUERY_WORDS_MAX][SEARCH_WORD_MAX_BYTES + 1];
	char word[SEARCH_WORD_MAX_BYTES + 1];
	size_t count = 0;
	struct search_words words = search_words_of(
	    query, text_length(query, SEARCH_TEXT_MAX_BYTES));
	while (count < SEARCH_QUERY_WORDS_MAX && search_words_next(&words, word)) {
		bool again = false;
		for (size_t i = 0; i < count; i++) {
			again = again || strcmp(seen[i], word) == 0;
		}
		struct word *w = NULL;
		if (!again) {
			memcpy(seen[count++], word, sizeof(word));
			HASH_FIND(hh, s->words, word, strlen(word), w);
		}
		if (w != NULL && w->count > 0) {
			score_word(s, w);
		}
	}
}

/* QUERY without blanks around it, in lower case; "" when it is longer than what it may stand in. */
static char *trimmed(const char *query)
{
	query += strspn(query, " \t\r\n");
	char *low = lower(query, SEARCH_TEXT_MAX_BYTES);
	size_t n = low == NULL ? 0 : strlen(low);
	while (n > 0 && isspace((unsigned char)low[n - 1])) {
		low[--n] = '\0';
	}
	if (n > SEARCH_WHOLE_MAX_BYTES) {
		low[0] = '\0';
	}
	return low;
}

static double bonus_of(const struct document *d, const char *low, size_t len)
{
	if (strstr(d->low_name, low) != NULL) {
		return strcmp(d->low_name, low) == 0 ? BONUS_SAME : BONUS_NAME;
	}
	bool described = len >= BONUS_DESCRIPTION_BYTES && strstr(d->low_description, low) != NULL;
	return described ? BONUS_DESCRIPTION : 0;
}

static void score_substrings(struct search *s, const char *query)
{
	char *low = trimmed(query);
	size_t len = low == NULL ? 0 : strlen(low);
	struct pairs pairs = {0};
	add_pairs(&pairs, len > 0 ? low : "");
	for (uint32_t i = 0; len > 0 && i < s->count; i++) {
		if (has_pairs(&s->pairs[i], &pairs) && s->documents[i] != NULL) {
			s->scores[i] += bonus_of(s->documents[i], low, len);
		}
	}
	free(low);
}

/* Whether A goes before B. */
static bool is_better(const struct search_hit *a, const struct search_hit *b)
{
	return a->score != b->score ? a->score > b->score : strcmp(a->name, b->name) < 0;
}

/* OUT is a heap whose first is the worst; what sinks to its place keeps it one. */
static void sink(struct search_hit *out, size_t count, size_t at)
{
	for (;;) {
		size_t worst = at;
		for (size_t child = 2 * at + 1; child <= 2 * at + 2 && child < count; child++) {
			worst = is_better(&out[worst], &out[child]) ? child : worst;
		}
		if (worst == at) {
			return;
		}
		struct search_hit moved = out[at];
		out[at] = out[worst];
		out[worst] = moved;
		at = worst;
	}
}

static int compare_hits(const void *a, const void *b)
{
	return is_better(a, b) ? -1 : is_better(b, a);
}

/* The best N documents that have a score. */
static size_t pick(const struct search *s, struct search_hit *out, size_t n)
{
	size_t count = 0;
	for (uint32_t i = 0; n > 0 && i < s->count; i++) {
		if (s->scores[i] <= 0 || (count == n && s->scores[i] < out[0].score)) {
			continue;
		}
		struct search_hit hit = {.name = s->documents[i]->name, .score = s->scores[i]};
		if (count < n) {
			out[count++] = hit;
			for (size_t at = count / 2; count == n && at-- > 0;) {
				sink(out, count, at);
			}
		} else if (is_better(&hit, &out[0])) {
			out[0] = hit;
			sink(out, count, 0);
		}
	}
	if (count > 0) {
		qsort(out, count, sizeof(*out), compare_hits);
	}
	return count;
}

size_t search_find(struct search *s, const char *query, struct search_hit *out, size_t limit)
{
	if (HASH_COUNT(s->by_name) == 0) {
		return 0;
	}
	score_words(s, query);
	score_substrings(s, query);
	size_t count = pick(s, out, limit);
	memset(s->scores, 0, s->count * sizeof(*s->scores));
	return count;
}
