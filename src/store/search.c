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
	uint32_t living; /* of them in documents that were not removed */
	bool stop, stop_in_source;
	char text[];
};

struct document {
	UT_hash_handle hh; /* by name, while it lives */
	char *name;        /* NULL: removed */
	char *low_name;    /* in lower case */
	char *low_description;
	float length; /* sum of the weights of its words */
	struct word **words;
	uint32_t word_count, word_alloc;
};

struct search {
	struct word *words;
	struct document *by_name;
	struct document **documents;
	uint32_t count, alloc; /* removed ones included */
	uint32_t removed;
	uint64_t place_count;
	double length;  /* of all that live */
	double *scores; /* one a document, 0 between queries */
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

static void clear(struct search *s)
{
	struct word *w, *next;
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
	free(s->scores);
	*s = (struct search){0};
}

void search_free(struct search *s)
{
	if (s != NULL) {
		clear(s);
		free(s);
	}
}

size_t search_count(const struct search *s)
{
	return s->count - s->removed;
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
		/* One letter or a number in a source is no name of anything. */
		w->stop_in_source = search_is_stop_word(text, true) || len == 1 ||
				    isdigit((unsigned char)*text);
		HASH_ADD(hh, s->words, text, len, w);
	}
	return w;
}

/* 0 or -ENOMEM. */
static int add_word(struct search *s, struct document *d, const char *text, float weight)
{
	struct word *w = word_of(s, text);
	if (w == NULL) {
		return HASH_COUNT(s->words) >= SEARCH_WORDS_MAX ? 0 : -ENOMEM;
	}
	if (weight < 1 ? w->stop_in_source : w->stop) {
		return 0;
	}
	d->length += weight;
	if (w->count > 0 && w->places[w->count - 1].document == s->count) {
		w->places[w->count - 1].weight += weight;
		return 0;
	}
	if (s->place_count >= SEARCH_PLACES_MAX) {
		return 0;
	}
	if (!grow(&w->places, w->count, &w->alloc, sizeof(*w->places)) ||
	    !grow(&d->words, d->word_count, &d->word_alloc, sizeof(struct word *))) {
		return -ENOMEM;
	}
	w->places[w->count++] = (struct place){.document = s->count, .weight = weight};
	w->living++;
	s->place_count++;
	d->words[d->word_count++] = w;
	return 0;
}

static int add_text(struct search *s, struct document *d, const char *text, float weight)
{
	char word[SEARCH_WORD_MAX_BYTES + 1];
	bool source = weight < 1;
	size_t len = text == NULL ? 0
		     : source     ? strnlen(text, SEARCH_SOURCE_MAX_BYTES)
				  : strlen(text);
	struct search_words words = search_words_of(text, len);
	int r = 0;
	while (r == 0 && search_words_next(&words, word)) {
		r = add_word(s, d, word, weight);
	}
	return r;
}

static char *lower(const char *text)
{
	char *copy = strdup(text == NULL ? "" : text);
	for (char *c = copy; c != NULL && *c != '\0'; c++) {
		*c = (char)tolower((unsigned char)*c);
	}
	return copy;
}

/* Takes D out; its places stay until there are more dead than living documents. */
static void bury(struct search *s, struct document *d)
{
	for (uint32_t i = 0; i < d->word_count; i++) {
		d->words[i]->living--;
	}
	s->length -= (double)d->length;
	free(steal(&d->name));
	s->removed++;
}

/* Forgets what removed documents left behind. Documents keep their order, so places do. */
static void compact(struct search *s)
{
	uint32_t *moved = calloc(s->count + 1, sizeof(*moved));
	if (moved == NULL) {
		return; /* it works with them too */
	}
	uint32_t kept = 0;
	for (uint32_t i = 0; i < s->count; i++) {
		struct document *d = s->documents[i];
		moved[i] = d->name == NULL ? UINT32_MAX : kept;
		if (d->name == NULL) {
			document_free(d);
		} else {
			s->documents[kept++] = d;
		}
	}
	struct word *w, *next;
	HASH_ITER(hh, s->words, w, next)
	{
		uint32_t n = 0;
		for (uint32_t i = 0; i < w->count; i++) {
			uint32_t to = moved[w->places[i].document];
			if (to != UINT32_MAX) {
				w->places[n] = w->places[i];
				w->places[n++].document = to;
			}
		}
		s->place_count -= w->count - n;
		w->count = n;
		if (n == 0 && !w->stop_in_source) {
			HASH_DEL(s->words, w);
			free(w->places);
			free(w);
		}
	}
	s->count = kept;
	s->removed = 0;
	free(moved);
}

bool search_remove(struct search *s, const char *name)
{
	struct document *d;
	HASH_FIND_STR(s->by_name, name, d);
	if (d == NULL) {
		return false;
	}
	HASH_DEL(s->by_name, d);
	bury(s, d);
	if (s->removed > 64 && s->removed > s->count / 2) {
		compact(s);
	}
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

int search_put(struct search *s, const struct search_document *given)
{
	(void)search_remove(s, given->name);
	uint32_t alloc = s->alloc;
	if (!grow(&s->documents, s->count, &alloc, sizeof(struct document *))) {
		return -ENOMEM;
	}
	double *scores = alloc == s->alloc ? s->scores
					   : reallocarray(s->scores, alloc, sizeof(*scores));
	struct document *d = scores == NULL ? NULL : calloc(1, sizeof(*d));
	if (d == NULL) {
		return -ENOMEM;
	}
	s->scores = scores;
	s->alloc = alloc;
	d->name = strdup(given->name);
	d->low_name = lower(given->name);
	d->low_description = lower(given->description);
	int r = d->name == NULL || d->low_name == NULL || d->low_description == NULL
		    ? -ENOMEM
		    : index_document(s, d, given);
	s->scores[s->count] = 0;
	s->documents[s->count++] = d;
	s->length += (double)d->length;
	if (r < 0) {
		bury(s, d);
		return r;
	}
	HASH_ADD_KEYPTR(hh, s->by_name, d->name, strlen(d->name), d);
	return 0;
}

/* --- finding ------------------------------------------------------------------------------------
 */

static void score_word(struct search *s, const struct word *w)
{
	double n = (double)search_count(s);
	double mean = s->length / n;
	double rare = log(1 + (n - w->living + 0.5) / (w->living + 0.5));
	for (uint32_t i = 0; i < w->count; i++) {
		const struct document *d = s->documents[w->places[i].document];
		if (d->name != NULL) {
			double f = (double)w->places[i].weight;
			double norm = K1 * (1 - B + B * (double)d->length / mean);
			s->scores[w->places[i].document] += rare * f * (K1 + 1) / (f + norm);
		}
	}
}

/* Each different word of QUERY counts once. */
static void score_words(struct search *s, const char *query)
{
	char seen[SEARCH_QUERY_WORDS_MAX][SEARCH_WORD_MAX_BYTES + 1];
	char word[SEARCH_WORD_MAX_BYTES + 1];
	size_t count = 0;
	struct search_words words = search_words_of(query, strlen(query));
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
		if (w != NULL && w->living > 0) {
			score_word(s, w);
		}
	}
}

/* QUERY without blanks around it, in lower case. */
static char *trimmed(const char *query)
{
	query += strspn(query, " \t\r\n");
	char *low = lower(query);
	for (size_t n = low == NULL ? 0 : strlen(low);
	     n > 0 && isspace((unsigned char)low[n - 1]);) {
		low[--n] = '\0';
	}
	return low;
}

static void score_substrings(struct search *s, const char *query)
{
	char *low = trimmed(query);
	size_t len = low == NULL ? 0 : strlen(low);
	for (uint32_t i = 0; len > 0 && i < s->count; i++) {
		const struct document *d = s->documents[i];
		if (d->name == NULL) {
			continue;
		}
		if (strstr(d->low_name, low) != NULL) {
			s->scores[i] += strcmp(d->low_name, low) == 0 ? BONUS_SAME : BONUS_NAME;
		} else if (len >= BONUS_DESCRIPTION_BYTES &&
			   strstr(d->low_description, low) != NULL) {
			s->scores[i] += BONUS_DESCRIPTION;
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

/* The best N documents of a score of LEAST or more. */
static size_t pick(const struct search *s, double least, struct search_hit *out, size_t n)
{
	size_t count = 0;
	for (uint32_t i = 0; n > 0 && i < s->count; i++) {
		struct search_hit hit = {.name = s->documents[i]->name, .score = s->scores[i]};
		if (hit.name == NULL || hit.score < least) {
			continue;
		}
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

static size_t find(
    struct search *s, const char *query, double least, struct search_hit *out, size_t n)
{
	if (search_count(s) == 0) {
		return 0;
	}
	score_words(s, query);
	score_substrings(s, query);
	size_t count = pick(s, least, out, n);
	memset(s->scores, 0, s->count * sizeof(*s->scores));
	return count;
}

size_t search_find(struct search *s, const char *query, struct search_hit *out, size_t limit)
{
	return find(s, query, 1e-12, out, limit);
}

size_t search_candidates(struct search *s, const char *query, struct search_hit *out, size_t n)
{
	return find(s, query, 0, out, n);
}
