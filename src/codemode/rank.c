/*
 * What a search found by words, put in the order of meaning: 0.7 of the description's likeness to
 * the query and 0.3 of the source's, by the embeddings that the runner gets from its URL. (Source
 * of the weights and of the query's prefix: py-code-mode.) When there are none, whatever the
 * reason, the order stays that of the words; nobody waits for them longer than WAIT_MS. What comes
 * later is kept for the next search; and for a while after a failure nothing is asked.
 *
 * Vectors are kept by the hash of their text, within a bound.
 */
#include <math.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/clock.h"
#include "base/log.h"
#include "codemode/internal.h"

#define VECTORS_BYTES_MAX (64U << 20)
#define DIMENSIONS_MAX 8192
#define TEXT_BYTES_MAX 8000 /* of a source; what models take is of this order */
#define DESCRIPTION_WEIGHT 0.7
#define SOURCE_WEIGHT 0.3
#define WAIT_MS 3000
#define PAUSE_MS 2000 /* after a failure */
#define LATE_MAX 8    /* answers that nobody waits for any more, and that may still come */

static const char query_prefix[] = "Represent this sentence for searching relevant passages: ";

struct vector {
	unsigned char hash[SHA256_DIGEST_LENGTH];
	size_t dimensions;
	float *values;     /* of length 1 */
	UT_hash_handle hh; /* oldest first */
};

struct ranker {
	struct codemode *codemode;
	struct vector *vectors;
	size_t bytes;
	struct ranking *asking; /* the one that has waited longest first */
	unsigned late_count;
	uint64_t paused_until_ms;
	uv_timer_t timer;
};

struct ranking {
	struct ranker *ranker;
	json_t *texts; /* the query's, then each description and source */
	json_t *asked; /* those of them that have no vector yet */
	rank_fn fn;
	void *ctx;
	struct runner_call *running;
	uint64_t until_ms;
	bool late;                   /* its FN was called */
	struct ranking *prev, *next; /* ranker.asking */
};

struct scored {
	size_t place;
	double score;
};

/* --- vectors -------------------------------------------------------------------------------------
 */

static struct vector *find(struct ranker *r, const json_t *text)
{
	unsigned char hash[SHA256_DIGEST_LENGTH];
	struct vector *v = NULL;
	(void)SHA256(
	    (const unsigned char *)json_string_value(text), json_string_length(text), hash);
	HASH_FIND(hh, r->vectors, hash, sizeof(hash), v);
	return v;
}

static void forget(struct ranker *r, struct vector *v)
{
	HASH_DEL(r->vectors, v);
	r->bytes -= sizeof(*v) + v->dimensions * sizeof(*v->values);
	free(v->values);
	free(v);
}

/* Of length 1, so that likeness is the product alone. */
static void normalise(struct vector *v)
{
	double sum = 0;
	for (size_t i = 0; i < v->dimensions; i++) {
		sum += (double)v->values[i] * (double)v->values[i];
	}
	double length = sqrt(sum);
	for (size_t i = 0; length > 0 && i < v->dimensions; i++) {
		v->values[i] = (float)((double)v->values[i] / length);
	}
}

static void keep(struct ranker *r, const json_t *text, const json_t *numbers)
{
	size_t n = json_array_size(numbers);
	if (n == 0 || n > DIMENSIONS_MAX || find(r, text) != NULL) {
		return;
	}
	struct vector *v = calloc(1, sizeof(*v));
	float *values = calloc(n, sizeof(*values));
	if (v == NULL || values == NULL) {
		free(v);
		free(values);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		values[i] = (float)json_number_value(json_array_get(numbers, i));
	}
	(void)SHA256(
	    (const unsigned char *)json_string_value(text), json_string_length(text), v->hash);
	v->dimensions = n;
	v->values = values;
	normalise(v);
	HASH_ADD(hh, r->vectors, hash, sizeof(v->hash), v);
	r->bytes += sizeof(*v) + n * sizeof(*values);
	while (r->bytes > VECTORS_BYTES_MAX && r->vectors != v) {
		forget(r, r->vectors);
	}
}

static double likeness(const struct vector *a, const struct vector *b)
{
	double sum = 0;
	if (a == NULL || b == NULL) {
		return 0; /* of an empty text */
	}
	for (size_t i = 0; i < a->dimensions; i++) {
		sum += (double)a->values[i] * (double)b->values[i];
	}
	return sum;
}

/* --- ranking -------------------------------------------------------------------------------------
 */

static int by_score(const void *a, const void *b)
{
	const struct scored *x = a;
	const struct scored *y = b;
	if (x->score != y->score) {
		return x->score > y->score ? -1 : 1;
	}
	return x->place < y->place ? -1 : x->place > y->place;
}

static void ranking_free(struct ranking *g)
{
	json_decref(g->texts);
	json_decref(g->asked);
	free(g);
}

/* Whether each text has a vector as long as the query's. Others, of another model, say, are
 * forgotten, so that they are asked for again. */
static bool all_fit(struct ranker *r, const json_t *texts)
{
	const struct vector *query = find(r, json_array_get(texts, 0));
	size_t others = 0;
	bool all = query != NULL;
	for (size_t i = 1; query != NULL && i < json_array_size(texts); i++) {
		const json_t *text = json_array_get(texts, i);
		struct vector *v = find(r, text);
		if (v != NULL && v->dimensions != query->dimensions) {
			forget(r, v);
			others++;
			v = NULL;
		}
		all &= v != NULL || json_string_length(text) == 0;
	}
	if (others > 0) {
		log_event(LOG_LEVEL_WARNING, "embeddings_failed",
		    LOG_STR("reason", "they are not of one length"), LOG_INT("others", others));
	}
	return all;
}

static void tell(struct ranking *g)
{
	struct ranker *r = g->ranker;
	size_t count = (json_array_size(g->texts) - 1) / 2;
	struct scored *scored = calloc(count + 1, sizeof(*scored));
	size_t *order = calloc(count + 1, sizeof(*order));
	bool can = scored != NULL && order != NULL && all_fit(r, g->texts);
	const struct vector *query = find(r, json_array_get(g->texts, 0));
	for (size_t i = 0; can && i < count; i++) {
		scored[i].place = i;
		scored[i].score =
		    DESCRIPTION_WEIGHT *
			likeness(query, find(r, json_array_get(g->texts, 1 + 2 * i))) +
		    SOURCE_WEIGHT * likeness(query, find(r, json_array_get(g->texts, 2 + 2 * i)));
	}
	if (can) {
		qsort(scored, count, sizeof(*scored), by_score);
	}
	for (size_t i = 0; can && i < count; i++) {
		order[i] = scored[i].place;
	}
	g->fn(g->ctx, can ? order : NULL, count);
	free(scored);
	free(order);
	ranking_free(g);
}

static void failed(struct ranker *r, const char *reason)
{
	r->paused_until_ms = clock_mono_ms() + PAUSE_MS;
	log_event(LOG_LEVEL_WARNING, "embeddings_failed", LOG_STR("reason", reason));
}

/* Out of those that wait for the runner. */
static void leave(struct ranking *g)
{
	struct ranker *r = g->ranker;
	DL_DELETE(r->asking, g);
	r->late_count -= g->late ? 1 : 0;
}

static void on_embedded(void *ctx, const json_t *result, const struct err *e)
{
	struct ranking *g = ctx;
	g->running = NULL;
	bool good = e == NULL && json_array_size(result) == json_array_size(g->asked);
	if (!good) {
		failed(g->ranker, e != NULL ? e->text : "not one for each text");
	}
	for (size_t i = 0; good && i < json_array_size(g->asked); i++) {
		keep(g->ranker, json_array_get(g->asked, i), json_array_get(result, i));
	}
	leave(g);
	if (g->late) {
		ranking_free(g);
	} else {
		tell(g);
	}
}

static void watch(struct ranker *r);

/* The words' order, and what comes later is kept, unless too much is out already. */
static void give_up_waiting(struct ranking *g)
{
	struct ranker *r = g->ranker;
	rank_fn fn = g->fn;
	void *ctx = g->ctx;
	failed(r, "they took too long");
	if (r->late_count == LATE_MAX) {
		leave(g);
		runner_cancel(g->running);
		ranking_free(g);
	} else {
		g->late = true;
		r->late_count++;
	}
	fn(ctx, NULL, 0);
}

static struct ranking *longest_waiting(const struct ranker *r)
{
	struct ranking *g = r->asking;
	while (g != NULL && g->late) {
		g = g->next;
	}
	return g;
}

static void on_timer(uv_timer_t *timer)
{
	struct ranker *r = timer->data;
	struct ranking *g = longest_waiting(r);
	if (g != NULL && clock_mono_ms() >= g->until_ms) {
		give_up_waiting(g);
	}
	watch(r);
}

static void watch(struct ranker *r)
{
	const struct ranking *g = longest_waiting(r);
	uint64_t now_ms = clock_mono_ms();
	if (g != NULL) {
		(void)uv_timer_start(
		    &r->timer, on_timer, g->until_ms > now_ms ? g->until_ms - now_ms : 0, 0);
	}
}

/* At most TEXT_BYTES_MAX of TEXT, whole characters. */
static json_t *bounded(const json_t *text)
{
	size_t len = json_string_length(text);
	const char *bytes = json_string_value(text);
	if (len > TEXT_BYTES_MAX) {
		len = TEXT_BYTES_MAX;
		while (len > 0 && ((unsigned char)bytes[len] & 0xc0) == 0x80) {
			len--;
		}
	}
	return json_stringn(bytes != NULL ? bytes : "", len);
}

static json_t *all_texts(const char *query, const json_t *texts)
{
	json_t *all = json_array();
	cleanup(buf_fini) struct buf asked = BUF_INIT(TEXT_BYTES_MAX);
	(void)buf_addf(&asked, "%s%.4000s", query_prefix, query);
	cleanup(buf_fini) struct buf clean = BUF_INIT(2 * TEXT_BYTES_MAX);
	(void)text_add_utf8_lossy(&clean, buf_str(&asked), asked.len);
	(void)json_array_append_new(all, json_string(buf_str(&clean)));
	for (size_t i = 0; i < json_array_size(texts); i++) {
		const json_t *pair = json_array_get(texts, i);
		(void)json_array_append_new(all, bounded(json_array_get(pair, 0)));
		(void)json_array_append_new(all, bounded(json_array_get(pair, 1)));
	}
	return all;
}

static bool has_text(const json_t *list, const json_t *text)
{
	size_t i = 0;
	while (i < json_array_size(list) && !json_equal(json_array_get(list, i), text)) {
		i++;
	}
	return i < json_array_size(list);
}

struct ranking *rank(
    struct ranker *r, const char *query, const json_t *texts, rank_fn fn, void *ctx)
{
	struct ranking *g = calloc(1, sizeof(*g));
	if (g == NULL) {
		fn(ctx, NULL, 0);
		return NULL;
	}
	g->ranker = r;
	g->fn = fn;
	g->ctx = ctx;
	g->texts = all_texts(query, texts);
	g->asked = json_array();
	for (size_t i = 0; i < json_array_size(g->texts); i++) {
		json_t *text = json_array_get(g->texts, i);
		if (find(r, text) == NULL && json_string_length(text) > 0 &&
		    !has_text(g->asked, text)) {
			(void)json_array_append(g->asked, text);
		}
	}
	uint64_t now_ms = clock_mono_ms();
	if (json_array_size(g->asked) == 0 || now_ms < r->paused_until_ms) {
		tell(g);
		return NULL;
	}
	g->until_ms = now_ms + WAIT_MS;
	DL_APPEND(r->asking, g);
	struct runner_call *running = runner_embed(
	    r->codemode->config.runner, g->asked, on_embedded, g);
	if (running == NULL) {
		return NULL;
	}
	g->running = running;
	watch(r);
	return g;
}

void ranking_cancel(struct ranking *g)
{
	if (g != NULL) {
		leave(g);
		runner_cancel(g->running);
		ranking_free(g);
	}
}

/* --- life ----------------------------------------------------------------------------------------
 */

struct ranker *ranker_new(struct codemode *m)
{
	struct ranker *r = calloc(1, sizeof(*r));
	if (r != NULL) {
		r->codemode = m;
		r->timer.data = r;
		(void)uv_timer_init(m->loop, &r->timer);
	}
	return r;
}

static void on_closed(uv_handle_t *handle)
{
	free(handle->data);
}

void ranker_free(struct ranker *r)
{
	if (r == NULL) {
		return;
	}
	while (r->vectors != NULL) {
		forget(r, r->vectors);
	}
	while (r->asking != NULL) {
		ranking_cancel(r->asking);
	}
	uv_close((uv_handle_t *)&r->timer, on_closed);
}
