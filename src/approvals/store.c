/* The loop's side of store.h: requests go to the lanes' threads, answers come from them. */
#include "approvals/store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "approvals/store_threads.h"
#include "base/clock.h"
#include "base/compiler.h"
#include "base/fd.h"

#define SWEEP_MS 250

/* --- answers --- */

static void tell_changed(struct approval_store *s, const json_t *out)
{
	size_t i;
	const json_t *id;
	json_array_foreach(json_object_get(out, "changed"), i, id)
	{
		if (json_is_string(id) && s->on_changed != NULL) {
			s->on_changed(s->ctx, json_string_value(id));
		}
	}
}

static void answer(struct approval_store *s, struct approval_request *r)
{
	const struct approval_outcome *a = &r->answer;
	if (r->fn != NULL) {
		r->fn(r->ctx, a->out, a->out != NULL ? NULL : &a->e);
	}
	tell_changed(s, a->out);
	approval_request_free(r);
	if (--s->pending == 0) {
		(void)uv_timer_stop(&s->sweep);
	}
}

static void tell_heard(struct approval_store *s)
{
	char(*heard)[HEARD_ID_BYTES] = NULL;
	(void)pthread_mutex_lock(&s->done_lock);
	uint32_t count = s->heard_count;
	bool all = s->heard_all;
	if (count > 0 && !all) {
		heard = malloc(count * sizeof(*heard));
		if (heard != NULL) {
			memcpy(heard, s->heard, count * sizeof(*heard));
		}
	}
	s->heard_count = 0;
	s->heard_all = false;
	(void)pthread_mutex_unlock(&s->done_lock);
	if (s->on_changed != NULL) {
		for (uint32_t i = 0; heard != NULL && i < count; i++) {
			s->on_changed(s->ctx, heard[i]);
		}
		if (count + all > 0 && heard == NULL) {
			s->on_changed(s->ctx, "");
		}
	}
	free(heard);
}

static void on_told(uv_async_t *h)
{
	struct approval_store *s = h->data;
	struct request_queue done;
	struct approval_request *r;
	request_queue_init(&done);
	(void)pthread_mutex_lock(&s->done_lock);
	request_queue_move(&done, &s->done);
	(void)pthread_mutex_unlock(&s->done_lock);
	while ((r = request_queue_take(&done)) != NULL) {
		answer(s, r);
	}
	tell_heard(s);
}

/* What has waited too long will not be done. */
static void on_sweep(uv_timer_t *h)
{
	struct approval_store *s = h->data;
	struct request_queue late;
	request_queue_init(&late);
	uint64_t now_ms = clock_mono_ms();
	uint64_t before_ms = now_ms < APPROVAL_STORE_WAIT_MS ? 0 : now_ms - APPROVAL_STORE_WAIT_MS;
	store_lane_expire(&s->writer, before_ms, &late);
	store_lane_expire(&s->reader, before_ms, &late);
	struct err e = {0};
	(void)err_set(&e, ERR_UNAVAILABLE, "the database of approvals does not answer");
	for (struct approval_request *r = late.first; r != NULL; r = r->next) {
		request_refuse(r, &e);
	}
	store_finish(s, &late);
}

/* --- questions --- */

/* Of all texts in it, about. */
static size_t texts_of(const json_t *j)
{
	size_t n = 0;
	size_t i;
	const char *key;
	json_t *member;
	if (json_is_object(j)) {
		/* jansson's iterators want a json_t that may be written. */
		json_t *object = (json_t *)(uintptr_t)j;
		json_object_foreach(object, key, member)
		{
			n += strlen(key) + texts_of(member);
		}
	} else if (json_is_array(j)) {
		json_array_foreach(j, i, member)
		{
			n += texts_of(member);
		}
	} else {
		n = json_string_length(j);
	}
	return n;
}

static struct approval_request *ask(struct approval_store *s, struct store_lane *l, records_fn op,
    json_t *in, approval_store_fn fn, void *ctx)
{
	struct approval_request *r = in != NULL ? calloc(1, sizeof(*r)) : NULL;
	if (r == NULL) {
		json_decref(in);
		return NULL;
	}
	r->op = op;
	r->in = in;
	r->bytes = texts_of(in);
	r->since_ms = clock_mono_ms();
	r->fn = fn;
	r->ctx = ctx;
	if (s->pending++ == 0) {
		(void)uv_timer_start(&s->sweep, on_sweep, SWEEP_MS, SWEEP_MS);
	}
	if (store_lane_add(l, r) == 0) {
		return r;
	}
	struct request_queue refused;
	request_queue_init(&refused);
	request_queue_add(&refused, r);
	struct err e = {0};
	(void)err_set(&e, ERR_BUSY, "too many requests wait for the database of approvals");
	request_refuse(r, &e);
	store_finish(s, &refused);
	return r;
}

struct approval_request *approval_store_write(
    struct approval_store *s, records_fn op, json_t *in, approval_store_fn fn, void *ctx)
{
	return ask(s, &s->writer, op, in, fn, ctx);
}

struct approval_request *approval_store_read(
    struct approval_store *s, records_fn op, json_t *in, approval_store_fn fn, void *ctx)
{
	return ask(s, &s->reader, op, in, fn, ctx);
}

void approval_store_cancel(struct approval_request *r)
{
	if (r != NULL) {
		r->fn = NULL;
	}
}

/* --- life --- */

static void store_release(struct approval_store *s)
{
	request_queue_fini(&s->done);
	(void)pthread_mutex_destroy(&s->done_lock);
	fd_close(&s->wake_fd);
	free(s->heard);
	free(s->url);
	free(s);
}

static void on_closed(uv_handle_t *h)
{
	struct approval_store *s = h->data;
	if (--s->open_handles == 0) {
		store_release(s);
	}
}

static struct approval_store *store_alloc(
    uv_loop_t *loop, const char *url, approval_changed_fn on_changed, void *ctx)
{
	struct approval_store *s = calloc(1, sizeof(*s));
	if (s == NULL) {
		return NULL;
	}
	*s = (struct approval_store){.loop = loop,
	    .url = strdup(url),
	    .on_changed = on_changed,
	    .ctx = ctx,
	    .heard = calloc(HEARD_MAX, sizeof(*s->heard)),
	    .wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
	request_queue_init(&s->done);
	(void)pthread_mutex_init(&s->done_lock, NULL);
	if (s->url == NULL || s->heard == NULL || s->wake_fd < 0) {
		store_release(s);
		return NULL;
	}
	return s;
}

/* On success each database belongs to a thread. */
static int start_threads(struct approval_store *s, struct db **writer, struct db **reader,
    struct db **listener, struct err *e)
{
	int r = store_lane_start(&s->writer, s, "approvals-write", true, *writer);
	if (r == 0) {
		*writer = NULL;
		r = store_lane_start(&s->reader, s, "approvals-read", false, *reader);
	}
	if (r == 0) {
		*reader = NULL;
		r = *listener != NULL ? store_listener_start(s, *listener) : 0;
	}
	if (r < 0) {
		return err_set_os(e, -r, "starting a thread");
	}
	*listener = NULL;
	return 0;
}

static void close_db(struct db **d)
{
	db_close(*d);
}

static int open_all(struct approval_store *s, struct err *e)
{
	cleanup(close_db) struct db *writer = NULL;
	cleanup(close_db) struct db *reader = NULL;
	cleanup(close_db) struct db *listener = NULL;
	if (db_open(&writer, s->url, e) < 0 || records_migrate(writer, e) < 0 ||
	    db_open(&reader, s->url, e) < 0) {
		return -1;
	}
	if (db_tells(writer) && (db_open(&listener, s->url, e) < 0 || db_listen(listener, e) < 0)) {
		return -1;
	}
	return start_threads(s, &writer, &reader, &listener, e);
}

struct approval_store *approval_store_new(
    uv_loop_t *loop, const char *url, approval_changed_fn on_changed, void *ctx, struct err *e)
{
	struct approval_store *s = store_alloc(loop, url, on_changed, ctx);
	if (s == NULL) {
		(void)err_set(e, ERR_INTERNAL, "out of memory");
		return NULL;
	}
	int r = uv_async_init(loop, &s->told, on_told);
	if (r < 0) {
		(void)err_set_os(e, -r, "the database of approvals");
		store_release(s);
		return NULL;
	}
	(void)uv_timer_init(loop, &s->sweep);
	s->told.data = s->sweep.data = s;
	s->open_handles = 2;
	if (open_all(s, e) < 0) {
		approval_store_free(s);
		return NULL;
	}
	return s;
}

void approval_store_free(struct approval_store *s)
{
	if (s == NULL) {
		return;
	}
	store_listener_stop(s);
	store_lane_stop(&s->writer);
	store_lane_stop(&s->reader);
	uv_close((uv_handle_t *)&s->told, on_closed);
	uv_close((uv_handle_t *)&s->sweep, on_closed);
}

void approval_store_counts(const struct approval_store *s, struct approval_store_counts *out)
{
	struct approval_store *shared = (struct approval_store *)(uintptr_t)s;
	*out = (struct approval_store_counts){
	    .commits = atomic_load(&s->commits),
	    .changes = atomic_load(&s->changes),
	    .failures = atomic_load(&s->failures),
	    .waiting = store_lane_waiting(&shared->writer) + store_lane_waiting(&shared->reader),
	};
}
