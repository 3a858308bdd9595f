/*
 * The parsing session: an ordinary sealed session, of a tenant that no token can have, that is
 * asked for the parameters and the description of skills' sources. Sources are hostile: one may
 * keep the parser busy, exhaust its memory or crash it, and then loses that session, which is made
 * anew; its neighbours in the same batch are asked again one by one.
 *
 * Prefixes take turns, whoever of them waits in how many places: one with a thousand sources that
 * take long keeps another waiting for one batch.
 *
 * What it said is checked (said.h) and kept (describe_cache.h). Whoever waits is told in a turn of
 * the loop of its own, never out of the engine.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/clock.h"
#include "base/log.h"
#include "codemode/describe_cache.h"
#include "codemode/internal.h"
#include "codemode/said.h"

#define SESSION_IDENTIFIER "skill-parser"
/* Small, since the gateway hashes and writes them as text in one turn of its loop. */
#define BATCH_SOURCES_MAX 16
#define BATCH_BYTES_MAX (32U << 10)
#define BATCH_TIME_MS 5000
#define ATTEMPTS_MAX 2
#define WAITING_MAX 1024
#define WAITING_OF_ONE_MAX (WAITING_MAX / 2) /* of one prefix */
#define ASKERS_KEPT_MAX 256

/* A prefix whose sources are asked about; kept a while when nobody waits, so that it does not come
 * back as one that was never served. */
struct asker {
	char prefix[CODEMODE_SPACE_NAME_MAX + 1];
	uint64_t served; /* its last turn; 0: none yet */
	unsigned waiting_count;
	UT_hash_handle hh; /* the one served longest ago first */
};

/* One who waits: for every source a result, json null until it is there. */
struct describing {
	struct describer *describer;
	struct asker *asker;
	json_t *sources;
	unsigned char (*hashes)[DESCRIBE_HASH_BYTES]; /* of each source */
	json_t *results;
	describe_fn fn;
	void *ctx;
	struct describing *prev, *next;
};

/* What the session is asked now. */
struct batch {
	struct execution *execution;
	struct execution_observer observer;
	json_t *sources;
	struct describing *of; /* who lacks them; NULL: gone */
	unsigned attempts;     /* how often a batch of one has been lost before */
};

struct describer {
	struct codemode *codemode;
	uv_timer_t turn;
	struct describe_cache *cache;
	struct describing *waiting; /* of one asker, the first is asked about next */
	unsigned waiting_count;
	struct asker *askers;
	uint64_t turns;
	struct batch batch;
	bool stopped;
	unsigned singly; /* so many sources are asked one by one, after a batch was lost */
};

/* --- whose turn it is ----------------------------------------------------------------------------
 */

static void forget_asker(struct describer *d, struct asker *a)
{
	HASH_DEL(d->askers, a);
	free(a);
}

/* Those for whom nobody waits, the oldest first, down to the bound. */
static void forget_askers(struct describer *d)
{
	struct asker *a;
	struct asker *next;
	HASH_ITER(hh, d->askers, a, next)
	{
		if (HASH_COUNT(d->askers) <= ASKERS_KEPT_MAX) {
			return;
		}
		if (a->waiting_count == 0) {
			forget_asker(d, a);
		}
	}
}

/* NULL when memory is out. */
static struct asker *asker_of(struct describer *d, const char *prefix)
{
	struct asker *a = NULL;
	HASH_FIND_STR(d->askers, prefix, a);
	if (a != NULL) {
		return a;
	}
	forget_askers(d);
	a = calloc(1, sizeof(*a));
	if (a != NULL) {
		(void)snprintf(a->prefix, sizeof(a->prefix), "%s", prefix);
		HASH_ADD_STR(d->askers, prefix, a);
	}
	return a;
}

/* W's asker has its turn; of its own, W is the last from here on. */
static void take_turn(struct describer *d, struct describing *w)
{
	struct asker *a = w->asker;
	a->served = ++d->turns;
	HASH_DEL(d->askers, a);
	HASH_ADD_STR(d->askers, prefix, a);
	DL_DELETE(d->waiting, w);
	DL_APPEND(d->waiting, w);
}

/* --- those who wait ------------------------------------------------------------------------------
 */

static void describing_free(struct describing *w)
{
	json_decref(w->sources);
	json_decref(w->results);
	free(w->hashes);
	free(w);
}

static void unlist(struct describing *w)
{
	struct describer *d = w->describer;
	DL_DELETE(d->waiting, w);
	d->waiting_count--;
	if (d->batch.of == w) {
		d->batch.of = NULL;
	}
	w->asker->waiting_count--;
}

static void tell(struct describing *w, const struct err *e)
{
	unlist(w);
	w->fn(w->ctx, e == NULL ? w->results : NULL, e);
	describing_free(w);
}

/* Puts in what is known; how many are missing. */
static size_t fill(struct describing *w)
{
	size_t missing = 0;
	for (size_t i = 0; i < json_array_size(w->sources); i++) {
		if (!json_is_null(json_array_get(w->results, i))) {
			continue;
		}
		json_t *known = describe_cache_get(w->describer->cache, w->hashes[i]);
		if (known != NULL) {
			(void)json_array_set(w->results, i, known);
		} else {
			missing++;
		}
	}
	return missing;
}

static struct describing *describing_new(
    struct describer *d, const char *prefix, const json_t *sources)
{
	struct asker *a = d->stopped ? NULL : asker_of(d, prefix);
	bool room = a != NULL && d->waiting_count < WAITING_MAX &&
		    a->waiting_count < WAITING_OF_ONE_MAX;
	struct describing *w = room ? calloc(1, sizeof(*w)) : NULL;
	if (w == NULL) {
		return NULL;
	}
	w->hashes = calloc(json_array_size(sources) + 1, sizeof(*w->hashes));
	if (w->hashes == NULL) {
		free(w);
		return NULL;
	}
	w->describer = d;
	w->asker = a;
	w->sources = json_incref((json_t *)(uintptr_t)sources);
	w->results = json_array();
	for (size_t i = 0; i < json_array_size(sources); i++) {
		describe_cache_hash(json_array_get(sources, i), w->hashes[i]);
		(void)json_array_append_new(w->results, json_null());
	}
	return w;
}

static void on_turn(uv_timer_t *timer);

struct describing *describe(
    struct describer *d, const char *prefix, const json_t *sources, describe_fn fn, void *ctx)
{
	static const struct err busy = {
	    .code = ERR_BUSY, .text = "Too many skills wait to be read"};
	struct describing *w = describing_new(d, prefix, sources);
	if (w == NULL) {
		fn(ctx, NULL, &busy);
		return NULL;
	}
	if (fill(w) == 0) {
		fn(ctx, w->results, NULL);
		describing_free(w);
		return NULL;
	}
	w->fn = fn;
	w->ctx = ctx;
	DL_APPEND(d->waiting, w);
	d->waiting_count++;
	w->asker->waiting_count++;
	(void)uv_timer_start(&d->turn, on_turn, 0, 0);
	return w;
}

void describe_cancel(struct describing *w)
{
	if (w != NULL) {
		unlist(w);
		describing_free(w);
	}
}

/* --- asking --------------------------------------------------------------------------------------
 */

/* What W lacks, as much as goes into one batch. */
static json_t *batch_of(struct describer *d, struct describing *w)
{
	json_t *sources = json_array();
	size_t bytes = 0;
	size_t most = d->singly > 0 ? 1 : BATCH_SOURCES_MAX;
	for (size_t i = 0; i < json_array_size(w->sources) && json_array_size(sources) < most;
	     i++) {
		json_t *source = json_array_get(w->sources, i);
		size_t len = json_string_length(source);
		if (json_is_null(json_array_get(w->results, i)) &&
		    (json_array_size(sources) == 0 || bytes + len <= BATCH_BYTES_MAX)) {
			bytes += len;
			(void)json_array_append(sources, source);
		}
	}
	return sources;
}

/* A cell that says of each source what it is. JSON's text of a text is Python's too. */
static char *cell_of(const json_t *sources)
{
	json_t *skills = json_array();
	size_t i;
	json_t *source;
	json_array_foreach((json_t *)(uintptr_t)sources, i, source)
	{
		(void)json_array_append_new(
		    skills, json_pack("{s:s, s:O}", "name", "skill", "source", source));
	}
	char *json = json_dumps(skills, JSON_COMPACT);
	json_decref(skills);
	json_t *text = json_string(json != NULL ? json : "[]");
	free(json);
	char *literal = json_dumps(text, JSON_ENCODE_ANY);
	json_decref(text);
	cleanup(buf_fini) struct buf cell = BUF_INIT(64U << 20);
	if (literal != NULL) {
		(void)buf_addf(&cell, "__import__('_carrel').describe_skills(%s)", literal);
	}
	free(literal);
	return strdup(buf_str(&cell));
}

static struct pool *python_pool(struct engine *en)
{
	for (uint32_t i = 0; i < en->pool_count; i++) {
		if (en->pools[i].config.type == POOL_PYTHON) {
			return &en->pools[i];
		}
	}
	return NULL;
}

static void on_change(void *ctx, struct execution *x)
{
	struct describer *d = ctx;
	if (execution_is_final(x)) {
		(void)uv_timer_start(&d->turn, on_turn, 0, 0);
	}
}

static int ask(struct describer *d, struct err *e)
{
	struct engine *en = d->codemode->config.engine;
	struct pool *p = python_pool(en);
	if (p == NULL) {
		return err_set(e, ERR_UNSUPPORTED, "No pool runs Python");
	}
	engine_set_now(en, clock_mono_ms());
	struct session *s = engine_session_open(p, ENGINE_TENANT_OWN, SESSION_IDENTIFIER, e);
	cleanup(text_free) char *cell = s != NULL ? cell_of(d->batch.sources) : NULL;
	if (cell == NULL) {
		return -1;
	}
	struct execution_request r = {
	    .kind = IPC_EXECUTE_PYTHON,
	    .code = {cell, strlen(cell)},
	    .empty_namespace = true,
	    .timeout_ms = BATCH_TIME_MS,
	};
	d->batch.execution = engine_execute(s, &r, e);
	if (d->batch.execution == NULL) {
		return -1;
	}
	d->batch.observer = (struct execution_observer){.notify = on_change, .ctx = d};
	execution_observe(d->batch.execution, &d->batch.observer);
	if (execution_is_final(d->batch.execution)) {
		(void)uv_timer_start(&d->turn, on_turn, 0, 0);
	}
	return 0;
}

/* --- what was said -------------------------------------------------------------------------------
 */

static json_t *results_of(const struct execution *x, size_t count)
{
	if (x->verdict != VERDICT_SUCCEEDED || x->value.kind != IPC_KIND_STR) {
		return NULL;
	}
	return said_parse(buf_str(&x->value.text), x->value.text.len, count);
}

static void keep_unreadable(struct describer *d, const char *why)
{
	json_t *result = json_pack("{s:s, s:s}", "error", "SyntaxError", "message", why);
	describe_cache_keep(d->cache, json_array_get(d->batch.sources, 0), result);
	json_decref(result);
}

/* False: the same one is to be asked again. */
static bool take_loss(struct describer *d, const struct execution *x)
{
	size_t count = json_array_size(d->batch.sources);
	log_event(LOG_LEVEL_WARNING, "skills_not_read", LOG_INT("skills", count),
	    LOG_STR("verdict", verdict_name(x->verdict)), LOG_STR("reason", x->reason));
	if (count > 1) {
		d->singly = (unsigned)count;
		return true;
	}
	if (x->verdict == VERDICT_TIME_LIMIT) {
		keep_unreadable(d, "The source takes too long to parse");
	} else if (++d->batch.attempts >= ATTEMPTS_MAX) {
		keep_unreadable(d, "The source cannot be parsed");
	} else {
		return false;
	}
	return true;
}

static void batch_end(struct describer *d)
{
	struct batch *b = &d->batch;
	if (b->execution != NULL) {
		execution_unobserve(b->execution, &b->observer);
		execution_unref(b->execution);
	}
	json_decref(b->sources);
	*b = (struct batch){0};
}

/* The batch's execution is final. */
static int take_batch(struct describer *d, struct err *e)
{
	struct batch *b = &d->batch;
	struct execution *x = b->execution;
	size_t count = json_array_size(b->sources);
	json_t *results = results_of(x, count);
	for (size_t i = 0; results != NULL && i < count; i++) {
		describe_cache_keep(
		    d->cache, json_array_get(b->sources, i), json_array_get(results, i));
	}
	bool over = results != NULL || take_loss(d, x);
	json_decref(results);
	if (over) {
		d->singly -= count == 1 && d->singly > 0;
		batch_end(d);
		return 0;
	}
	execution_unobserve(x, &b->observer);
	execution_unref(steal(&b->execution));
	return ask(d, e);
}

/* The first of those whose asker was served longest ago. */
static struct describing *longest_unserved(struct describer *d)
{
	struct describing *found = d->waiting;
	struct describing *w;
	DL_FOREACH(d->waiting, w)
	{
		if (w->asker->served < found->asker->served) {
			found = w;
		}
	}
	return found;
}

/* W's batch is over: it is told at once when that was all it lacked, not when its turn comes. */
static void tell_filled(struct describing *w)
{
	if (w != NULL && fill(w) == 0) {
		tell(w, NULL);
	}
}

/* Tells those for whom all is there, and finds the one to ask about next. */
static struct describing *next_waiting(struct describer *d)
{
	struct describing *w;
	while ((w = longest_unserved(d)) != NULL && fill(w) == 0) {
		tell(w, NULL);
	}
	return w;
}

static void on_turn(uv_timer_t *timer)
{
	struct describer *d = timer->data;
	struct err e = {0};
	if (d->batch.execution != NULL) {
		struct describing *of = d->batch.of;
		if (!execution_is_final(d->batch.execution)) {
			return;
		}
		if (take_batch(d, &e) < 0) {
			keep_unreadable(d, "The source cannot be parsed");
			batch_end(d);
		}
		if (d->batch.execution != NULL) {
			return;
		}
		tell_filled(of);
	}
	struct describing *w = next_waiting(d);
	if (w == NULL) {
		return;
	}
	take_turn(d, w);
	d->batch.of = w;
	d->batch.sources = batch_of(d, w);
	if (ask(d, &e) < 0) {
		batch_end(d);
		tell(w, &e);
		(void)uv_timer_start(&d->turn, on_turn, 0, 0);
	}
}

/* --- life ----------------------------------------------------------------------------------------
 */

struct describer *describer_new(struct codemode *m)
{
	struct describer *d = calloc(1, sizeof(*d));
	if (d == NULL) {
		return NULL;
	}
	d->codemode = m;
	d->cache = describe_cache_new(m->loop, m->config.data_dir);
	if (d->cache == NULL) {
		free(d);
		return NULL;
	}
	(void)uv_timer_init(m->loop, &d->turn);
	d->turn.data = d;
	return d;
}

void describer_stop(struct describer *d)
{
	static const struct err stopping = {
	    .code = ERR_UNAVAILABLE, .text = "The server is stopping"};
	d->stopped = true;
	(void)uv_timer_stop(&d->turn);
	batch_end(d);
	while (d->waiting != NULL) {
		tell(d->waiting, &stopping);
	}
}

static void on_closed(uv_handle_t *handle)
{
	free(handle->data);
}

void describer_free(struct describer *d)
{
	if (d == NULL) {
		return;
	}
	batch_end(d);
	while (d->waiting != NULL) {
		describe_cancel(d->waiting);
	}
	describe_cache_free(d->cache);
	while (d->askers != NULL) {
		forget_asker(d, d->askers);
	}
	uv_close((uv_handle_t *)&d->turn, on_closed);
}
