/*
 * Lists, kept in memory while the server says that they still hold.
 *
 * A list is read after CLIENT CACHING YES (redis_read.c), so that the server tells the SIGNAL
 * connection when its key was changed. It may be answered from memory only after a PING over that
 * same connection, sent after the question, came back: a change that was answered to anybody before
 * the question was told before the PING's answer. Who asks while a list is being read waits for the
 * next reading, unless the first turns out to hold still. Without tracking (a server before 6.0, or
 * a user that may not) each question is a reading.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"
#include "store/discard.h"
#include "store/redis_list.h"

#define LISTS_MAX 1024
#define KEPT_MAX_BYTES (256U << 20) /* of all lists, as JSON */

struct redis_lists {
	struct redis_store *store;
	struct redis_list *lists;
	size_t count;
	size_t bytes;
	uint64_t clock, revisions;

	struct redis_conn *signal;
	char signal_id[24]; /* empty: not subscribed */
	bool tracking;
	uint64_t epoch; /* of what tracking means; another one after each loss */
};

static bool dispatch(struct redis_list *list, struct redis_request *r);

static void ignore(void *ctx, const redisReply *reply, const struct err *e)
{
	(void)ctx;
	(void)reply;
	(void)e;
}

static void queue_add(struct redis_queue *q, struct redis_request *r)
{
	r->next = NULL;
	if (q->first == NULL) {
		q->first = r;
	} else {
		q->last->next = r;
	}
	q->last = r;
}

static struct redis_request *queue_take(struct redis_queue *q)
{
	struct redis_request *r = q->first;
	if (r != NULL) {
		q->first = r->next;
	}
	return r;
}

/* --- lists that are kept --- */

static void list_free(struct redis_list *list)
{
	list->all->bytes -= list->bytes;
	redis_list_drop_reading(list);
	redis_list_forget(list);
	free(list);
}

/* The place that points to the list asked for longest ago that nobody waits for. */
static struct redis_list **oldest(struct redis_lists *l)
{
	struct redis_list **found = NULL;
	for (struct redis_list **at = &l->lists; *at != NULL; at = &(*at)->next) {
		if (!(*at)->loading && (found == NULL || (*at)->used < (*found)->used)) {
			found = at;
		}
	}
	return found;
}

static void drop_oldest(struct redis_lists *l)
{
	struct redis_list **at = oldest(l);
	if (at != NULL) {
		struct redis_list *list = *at;
		*at = list->next;
		l->count--;
		list_free(list);
	}
}

static struct redis_list *find(struct redis_lists *l, int kind, const struct redis_keys *keys)
{
	struct redis_list *at = l->lists;
	while (at != NULL && (at->kind != kind || strcmp(at->keys.first, keys->first) != 0)) {
		at = at->next;
	}
	return at;
}

static struct redis_list *find_or_make(
    struct redis_lists *l, int kind, const struct redis_keys *keys)
{
	struct redis_list *list = find(l, kind, keys);
	if (list != NULL) {
		return list;
	}
	if (l->count >= LISTS_MAX) {
		drop_oldest(l);
	}
	list = l->count < LISTS_MAX ? calloc(1, sizeof(*list)) : NULL;
	if (list != NULL) {
		list->all = l;
		list->store = l->store;
		list->kind = kind;
		list->keys = *keys;
		list->next = l->lists;
		l->lists = list;
		l->count++;
	}
	return list;
}

/* --- the end of a reading --- */

void redis_list_failed(struct redis_list *list, const struct err *e)
{
	struct redis_queue both[2] = {list->waiting, list->later};
	list->waiting = list->later = (struct redis_queue){0};
	redis_list_drop_reading(list);
	list->loading = false;
	for (size_t i = 0; i < array_len(both); i++) {
		for (struct redis_request *r; (r = queue_take(&both[i])) != NULL;) {
			redis_request_fail(r, e);
		}
	}
}

/* Takes over what was read. The revision stays when it says the same as before. */
static void keep(struct redis_list *list, json_t *records, bool same)
{
	struct redis_lists *l = list->all;
	l->bytes += list->found_bytes - list->bytes;
	list->bytes = list->found_bytes;
	discard_json(l->store->loop, list->records);
	list->records = records;
	list->revision = same ? list->revision : ++l->revisions;
	list->valid = list->tracked && !list->dirty;
	list->used = ++l->clock;
	while (l->bytes > KEPT_MAX_BYTES && oldest(l) != NULL) {
		drop_oldest(l);
	}
}

static void answer(struct redis_list *list, struct redis_request *r)
{
	json_t *records = json_incref(list->records);
	list->used = ++list->all->clock;
	redis_request_list(r, records, list->revision, NULL);
	json_decref(records);
}

void redis_list_was_read(struct redis_list *list, json_t *records, bool same)
{
	/* It stays "loading" meanwhile, so that whoever is told cannot make it go. */
	keep(list, records, same);
	for (struct redis_request *r; (r = queue_take(&list->waiting)) != NULL;) {
		answer(list, r);
	}
	struct redis_queue later = list->later;
	list->later = (struct redis_queue){0};
	list->loading = false;
	struct redis_lists *l = list->all;
	for (struct redis_request *r; (r = queue_take(&later)) != NULL;) {
		/* Another list may have taken its place meanwhile. */
		struct redis_list *now = find_or_make(l, r->kind, r->keys);
		if (now != NULL) {
			(void)dispatch(now, r);
		} else {
			struct err e;
			(void)err_set(&e, ERR_UNAVAILABLE, "too many lists are being read");
			redis_request_fail(r, &e);
		}
	}
}

/* --- answering --- */

static void on_pong(void *ctx, const redisReply *reply, const struct err *e)
{
	struct redis_request *r = ctx;
	(void)reply;
	if (r->store->closing) {
		redis_request_fail(r, e);
		return;
	}
	struct redis_list *list = find(r->store->lists, r->kind, r->keys);
	if (e == NULL && list != NULL && list->valid) {
		answer(list, r);
	} else {
		(void)redis_lists_get(r->store->lists, r->kind, r);
	}
}

/* Answers R from LIST, from a reading that was begun by somebody else, or by one of its own. True:
 * later. */
static bool dispatch(struct redis_list *list, struct redis_request *r)
{
	struct redis_lists *l = list->all;
	struct err e;
	if (list->valid && l->tracking) {
		const struct redis_arg words[] = {REDIS_TEXT("PING")};
		if (redis_conn_send(l->signal, words, 1, on_pong, r, &e) == 0) {
			return true;
		}
		list->valid = false;
	}
	if (list->loading) {
		queue_add(&list->later, r);
		return true;
	}
	list->loading = true;
	list->dirty = false;
	queue_add(&list->waiting, r);
	return redis_list_read(list, l->tracking) == 0;
}

bool redis_lists_get(struct redis_lists *l, int kind, struct redis_request *r)
{
	r->kind = kind;
	struct redis_list *list = find_or_make(l, kind, r->keys);
	if (list == NULL) {
		struct err e;
		(void)err_set(&e, ERR_UNAVAILABLE, "too many lists are being read");
		redis_request_fail(r, &e);
		return false;
	}
	return dispatch(list, r);
}

/* --- what the server tells --- */

static bool is_key(const char *key, const redisReply *changed)
{
	return changed->type == REDIS_REPLY_STRING && changed->len == strlen(key) &&
	       memcmp(key, changed->str, changed->len) == 0;
}

/* KEY was changed; NULL: any may have been. */
static void changed(struct redis_lists *l, const redisReply *key)
{
	for (struct redis_list *list = l->lists; list != NULL; list = list->next) {
		if (key == NULL || is_key(list->keys.first, key) ||
		    is_key(list->keys.second, key)) {
			list->valid = false;
			list->dirty = true;
		}
	}
}

/* ["message", "__redis__:invalidate", [KEY...] or nil when all were flushed] */
static void on_message(void *ctx, const redisReply *message)
{
	const redisReply *keys = message->elements == 3 ? message->element[2] : NULL;
	if (keys == NULL || keys->type != REDIS_REPLY_ARRAY) {
		changed(ctx, NULL);
		return;
	}
	for (size_t i = 0; i < keys->elements; i++) {
		changed(ctx, keys->element[i]);
	}
}

static void stop_tracking(struct redis_lists *l)
{
	l->tracking = false;
	l->epoch++;
	changed(l, NULL);
}

struct tracking {
	struct redis_lists *lists;
	uint64_t epoch;
};

static void on_tracking(void *ctx, const redisReply *reply, const struct err *e)
{
	struct tracking *t = ctx;
	(void)reply;
	t->lists->tracking = e == NULL && t->epoch == t->lists->epoch;
	free(t);
}

static void start_tracking(struct redis_lists *l)
{
	struct redis_conn *data = l->store->data;
	if (l->signal_id[0] == '\0' || data == NULL || !redis_conn_is_up(data)) {
		return;
	}
	struct err e;
	struct tracking *t = malloc(sizeof(*t));
	if (t == NULL) {
		return;
	}
	*t = (struct tracking){l, ++l->epoch};
	const struct redis_arg off[] = {
	    REDIS_TEXT("CLIENT"), REDIS_TEXT("TRACKING"), REDIS_TEXT("OFF")};
	const struct redis_arg on[] = {REDIS_TEXT("CLIENT"), REDIS_TEXT("TRACKING"),
	    REDIS_TEXT("ON"), REDIS_TEXT("REDIRECT"), REDIS_TEXT(l->signal_id),
	    REDIS_TEXT("OPTIN")};
	if (redis_conn_send(data, off, array_len(off), ignore, NULL, &e) < 0 ||
	    redis_conn_send(data, on, array_len(on), on_tracking, t, &e) < 0) {
		free(t);
	}
}

void redis_lists_on_up(struct redis_lists *l)
{
	start_tracking(l);
}

void redis_lists_on_down(struct redis_lists *l)
{
	stop_tracking(l);
}

static void on_id(void *ctx, const redisReply *reply, const struct err *e)
{
	struct redis_lists *l = ctx;
	if (e == NULL && reply->type == REDIS_REPLY_INTEGER) {
		(void)snprintf(l->signal_id, sizeof(l->signal_id), "%lld", reply->integer);
	}
}

static void on_subscribed(void *ctx, const redisReply *reply, const struct err *e)
{
	(void)reply;
	if (e == NULL) {
		start_tracking(ctx);
	}
}

static void on_signal_up(void *ctx)
{
	struct redis_lists *l = ctx;
	struct err e;
	const struct redis_arg id[] = {REDIS_TEXT("CLIENT"), REDIS_TEXT("ID")};
	const struct redis_arg subscribe[] = {
	    REDIS_TEXT("SUBSCRIBE"), REDIS_TEXT("__redis__:invalidate")};
	if (redis_conn_send(l->signal, id, array_len(id), on_id, l, &e) == 0) {
		(void)redis_conn_send(
		    l->signal, subscribe, array_len(subscribe), on_subscribed, l, &e);
	}
}

static void on_signal_down(void *ctx)
{
	struct redis_lists *l = ctx;
	l->signal_id[0] = '\0';
	stop_tracking(l);
}

/* --- life --- */

struct redis_lists *redis_lists_new(struct redis_store *st)
{
	static const struct redis_conn_events events = {
	    .up = on_signal_up, .down = on_signal_down, .message = on_message};
	struct redis_lists *l = calloc(1, sizeof(*l));
	if (l == NULL) {
		return NULL;
	}
	l->store = st;
	l->signal = redis_conn_new(st->loop, &st->url, st->tls, &events, l);
	if (l->signal == NULL) {
		free(l);
		return NULL;
	}
	return l;
}

void redis_lists_disconnect(struct redis_lists *l)
{
	redis_conn_free(steal(&l->signal));
}

void redis_lists_free(struct redis_lists *l)
{
	static const struct err gone = {.code = ERR_GONE, .text = "the store is closed"};
	if (l == NULL) {
		return;
	}
	while (l->lists != NULL) {
		struct redis_list *list = l->lists;
		l->lists = list->next;
		/* What a thread is at has nobody to come back to. */
		redis_list_failed(list, &gone);
		list_free(list);
	}
	free(l);
}
