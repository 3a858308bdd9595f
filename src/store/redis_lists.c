/*
 * Lists, kept in memory while the server says that they still hold.
 *
 * A list is read in pages (HSCAN), after CLIENT CACHING YES, so that the server tells the SIGNAL
 * connection when its key was changed. It may be answered from memory only after a PING over that
 * same connection, sent after the question, came back: a change that was answered to anybody before
 * the question was told before the PING's answer. Who asks while a list is being read waits for the
 * next reading, unless the first turns out to hold still. Without tracking (a server before 6.0, or
 * a user that may not) each question is a reading.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "store/redis_internal.h"
#include "store/requirement.h"

#define LISTS_MAX 1024
#define KEPT_MAX_BYTES (256U << 20) /* of all lists, as JSON */
#define LIST_MAX_BYTES (64U << 20)  /* of one */
#define PAGE_BYTES (256U << 10)     /* what a page aims at */
#define PAGE_FIRST 100              /* records */
#define PAGE_MAX 2000

struct queue {
	struct redis_request *first, *last;
};

struct list {
	struct list *next;
	struct redis_lists *all;
	struct redis_keys keys;
	int kind;

	json_t *records; /* NULL: never read */
	uint64_t revision;
	size_t bytes;
	uint64_t used; /* of `clock` */
	bool valid;    /* RECORDS hold, as far as was told */

	bool loading; /* what follows is of the reading that goes on */
	bool tracked; /* from its beginning */
	bool dirty;   /* changed since it began */
	bool second;  /* it is at the second key */
	char cursor[24];
	json_t *found; /* by name */
	json_t *page;  /* of artifacts, whose sizes are being asked for: names to entries */
	size_t found_bytes;
	struct queue waiting; /* asked before it began */
	struct queue later;   /* asked since */
};

struct redis_lists {
	struct redis_store *store;
	struct list *lists;
	size_t count;
	size_t bytes;
	uint64_t clock, revisions;

	struct redis_conn *signal;
	char signal_id[24]; /* empty: not subscribed */
	bool tracking;
	uint64_t epoch; /* of what tracking means; another one after each loss */
};

static bool dispatch(struct list *list, struct redis_request *r);

static void queue_add(struct queue *q, struct redis_request *r)
{
	r->next = NULL;
	if (q->first == NULL) {
		q->first = r;
	} else {
		q->last->next = r;
	}
	q->last = r;
}

static struct redis_request *queue_take(struct queue *q)
{
	struct redis_request *r = q->first;
	if (r != NULL) {
		q->first = r->next;
	}
	return r;
}

/* --- lists that are kept --- */

static void forget(struct list *list)
{
	list->all->bytes -= list->bytes;
	list->bytes = 0;
	list->valid = false;
	json_decref(list->records);
	list->records = NULL;
}

static void list_free(struct list *list)
{
	forget(list);
	json_decref(list->found);
	json_decref(list->page);
	free(list);
}

/* The place that points to the list asked for longest ago that nobody waits for. */
static struct list **oldest(struct redis_lists *l)
{
	struct list **found = NULL;
	for (struct list **at = &l->lists; *at != NULL; at = &(*at)->next) {
		if (!(*at)->loading && (found == NULL || (*at)->used < (*found)->used)) {
			found = at;
		}
	}
	return found;
}

static void drop_oldest(struct redis_lists *l)
{
	struct list **at = oldest(l);
	if (at != NULL) {
		struct list *list = *at;
		*at = list->next;
		l->count--;
		list_free(list);
	}
}

static struct list *find(struct redis_lists *l, int kind, const struct redis_keys *keys)
{
	struct list *at = l->lists;
	while (at != NULL && (at->kind != kind || strcmp(at->keys.first, keys->first) != 0)) {
		at = at->next;
	}
	return at;
}

static struct list *find_or_make(struct redis_lists *l, int kind, const struct redis_keys *keys)
{
	struct list *list = find(l, kind, keys);
	if (list != NULL) {
		return list;
	}
	if (l->count >= LISTS_MAX) {
		drop_oldest(l);
	}
	list = l->count < LISTS_MAX ? calloc(1, sizeof(*list)) : NULL;
	if (list != NULL) {
		list->all = l;
		list->kind = kind;
		list->keys = *keys;
		list->next = l->lists;
		l->lists = list;
		l->count++;
	}
	return list;
}

/* --- the end of a reading --- */

static void load_failed(struct list *list, const struct err *e)
{
	struct queue both[2] = {list->waiting, list->later};
	list->waiting = list->later = (struct queue){0};
	json_decref(list->found);
	json_decref(list->page);
	list->found = list->page = NULL;
	list->loading = false;
	for (size_t i = 0; i < array_len(both); i++) {
		for (struct redis_request *r; (r = queue_take(&both[i])) != NULL;) {
			redis_request_fail(r, e);
		}
	}
}

static void load_failed_text(struct list *list, enum err_code code, const char *text)
{
	struct err e;
	(void)err_set(&e, code, "%s", text);
	load_failed(list, &e);
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* What FOUND holds, sorted by name. NULL when memory is out. */
static json_t *sorted(json_t *found)
{
	size_t count = json_object_size(found);
	const char **names = calloc(count + 1, sizeof(*names));
	json_t *records = json_array();
	if (names == NULL || records == NULL) {
		free(names);
		json_decref(records);
		return NULL;
	}
	size_t n = 0;
	const char *name;
	json_t *record;
	json_object_foreach(found, name, record)
	{
		names[n++] = name;
	}
	qsort(names, n, sizeof(*names), by_text);
	for (size_t i = 0; i < n; i++) {
		(void)json_array_append(records, json_object_get(found, names[i]));
	}
	free(names);
	return records;
}

/* Takes over what was read. The revision stays when it says the same as before. */
static void keep(struct list *list, json_t *records)
{
	struct redis_lists *l = list->all;
	l->bytes += list->found_bytes - list->bytes;
	list->bytes = list->found_bytes;
	if (list->records != NULL && json_equal(list->records, records)) {
		json_decref(records);
	} else {
		json_decref(list->records);
		list->records = records;
		list->revision = ++l->revisions;
	}
	list->valid = list->tracked && !list->dirty;
	list->used = ++l->clock;
	while (l->bytes > KEPT_MAX_BYTES && oldest(l) != NULL) {
		drop_oldest(l);
	}
}

static void answer(struct list *list, struct redis_request *r)
{
	json_t *records = json_incref(list->records);
	list->used = ++list->all->clock;
	redis_request_list(r, records, list->revision, NULL);
	json_decref(records);
}

static void load_done(struct list *list)
{
	json_t *records = sorted(list->found);
	json_decref(list->found);
	list->found = NULL;
	if (records == NULL) {
		load_failed_text(list, ERR_INTERNAL, "out of memory");
		return;
	}
	/* It stays "loading" meanwhile, so that whoever is told cannot make it go. */
	keep(list, records);
	for (struct redis_request *r; (r = queue_take(&list->waiting)) != NULL;) {
		answer(list, r);
	}
	struct queue later = list->later;
	list->later = (struct queue){0};
	list->loading = false;
	struct redis_lists *l = list->all;
	for (struct redis_request *r; (r = queue_take(&later)) != NULL;) {
		/* Another list may have taken its place meanwhile. */
		struct list *now = find_or_make(l, r->kind, r->keys);
		if (now != NULL) {
			(void)dispatch(now, r);
		} else {
			struct err e;
			(void)err_set(&e, ERR_UNAVAILABLE, "too many lists are being read");
			redis_request_fail(r, &e);
		}
	}
}

/* --- reading --- */

static void next_page(struct list *list);
static void on_page(void *ctx, const redisReply *reply, const struct err *e);

static void ignore(void *ctx, const redisReply *reply, const struct err *e)
{
	(void)ctx;
	(void)reply;
	(void)e;
}

static size_t page_count(const struct list *list)
{
	size_t have = json_object_size(list->found);
	if (have == 0) {
		return PAGE_FIRST;
	}
	size_t n = PAGE_BYTES / (list->found_bytes / have + 1) + 1;
	return n < PAGE_MAX ? n : PAGE_MAX;
}

static int send_page(struct list *list, struct err *e)
{
	struct redis_conn *data = list->all->store->data;
	const char *key = list->second ? list->keys.second : list->keys.first;
	char count[24];
	if (list->tracked && strcmp(list->cursor, "0") == 0) {
		const struct redis_arg words[] = {
		    REDIS_TEXT("CLIENT"), REDIS_TEXT("CACHING"), REDIS_TEXT("YES")};
		if (redis_conn_send(data, words, array_len(words), ignore, NULL, e) < 0) {
			return -1;
		}
	}
	if (list->kind == STORE_DEPS) {
		const struct redis_arg words[] = {REDIS_TEXT("SMEMBERS"), REDIS_TEXT(key)};
		return redis_conn_send(data, words, array_len(words), on_page, list, e);
	}
	(void)snprintf(count, sizeof(count), "%zu", page_count(list));
	const struct redis_arg words[] = {REDIS_TEXT("HSCAN"), REDIS_TEXT(key),
	    REDIS_TEXT(list->cursor), REDIS_TEXT("COUNT"), REDIS_TEXT(count)};
	return redis_conn_send(data, words, array_len(words), on_page, list, e);
}

/* 0, or -1: it failed, and all who waited were told. */
static int request_page(struct list *list)
{
	struct err e;
	if (send_page(list, &e) < 0) {
		load_failed(list, &e);
		return -1;
	}
	return 0;
}

static int load_begin(struct list *list, struct redis_request *r)
{
	list->loading = true;
	list->tracked = list->all->tracking;
	list->dirty = false;
	list->second = false;
	list->found = json_object();
	list->found_bytes = 0;
	(void)snprintf(list->cursor, sizeof(list->cursor), "0");
	queue_add(&list->waiting, r);
	return request_page(list);
}

/* Bytes that may be a name: they can be keys of a JSON object. */
static bool is_name(int kind, const redisReply *field)
{
	struct err e;
	if (field->type != REDIS_REPLY_STRING || field->len == 0 ||
	    memchr(field->str, '\0', field->len) != NULL || !text_is_utf8(field->str, field->len)) {
		return false;
	}
	return kind == STORE_DEPS ? requirement_check(field->str, &e) == 0
	       : kind == REDIS_ARTIFACTS
		   ? store_check_artifact_name(field->str, &e) == 0
		   : store_check_name((enum store_kind)kind, field->str, &e) == 0;
}

/* A record that somebody wrote; what is none is passed over. */
static void add_record(struct list *list, const redisReply *field, const redisReply *value)
{
	if (!is_name(list->kind, field) || value->type != REDIS_REPLY_STRING) {
		return;
	}
	if (list->kind == STORE_DEPS) {
		(void)json_object_set_new(list->found, field->str, json_string(field->str));
		return;
	}
	if (list->kind == REDIS_ARTIFACTS) {
		json_t *entry = redis_entry_parse(value->str, value->len);
		(void)json_object_set_new(
		    list->page, field->str, entry != NULL ? entry : json_null());
		return;
	}
	json_t *record = json_loadb(value->str, value->len, 0, NULL);
	bool good = json_is_object(record) &&
		    (list->kind != STORE_SKILLS ||
			json_is_string(json_object_get(record, "source")));
	if (good) {
		(void)json_object_set_new(record, "name", json_string(field->str));
		(void)json_object_set(list->found, field->str, record);
	}
	json_decref(record);
}

/* The artifacts of PAGE with the sizes that came, -1 for those whose bytes are gone. */
static void on_sizes(void *ctx, const redisReply *reply, const struct err *e)
{
	struct list *list = ctx;
	if (e != NULL) {
		load_failed(list, e);
		return;
	}
	const char *name;
	json_t *entry;
	size_t i = 0;
	cleanup(buf_fini) struct buf path = BUF_INIT(2 * REDIS_KEY_MAX_BYTES);
	json_object_foreach(list->page, name, entry)
	{
		const redisReply *size = reply->type == REDIS_REPLY_ARRAY && i < reply->elements
					     ? reply->element[i]
					     : NULL;
		i++;
		if (size == NULL || size->type != REDIS_REPLY_INTEGER || size->integer < 0) {
			continue;
		}
		buf_clear(&path);
		(void)buf_addf(&path, "%s:%s", list->keys.second, name);
		(void)json_object_set_new(list->found, name,
		    store_entry_record(json_is_object(entry) ? entry : NULL, name, buf_str(&path),
			store_type_guess(name, "", 0), (uint64_t)size->integer));
	}
	json_decref(list->page);
	list->page = NULL;
	next_page(list);
}

/* ARGV: what stands before a name, the names as JSON. Their sizes, or -1. */
static const char sizes_script[] =
    "local out={} "
    "for i,n in ipairs(cjson.decode(ARGV[2])) do "
    "local k=ARGV[1]..':'..n "
    "local size=-1 "
    "if redis.call('EXISTS',k)==1 then size=redis.pcall('STRLEN',k) end "
    "if type(size)~='number' then size=-1 end "
    "out[i]=size end "
    "return out";

static void request_sizes(struct list *list)
{
	struct err e;
	const char *name;
	json_t *entry;
	json_t *names = json_array();
	json_object_foreach(list->page, name, entry)
	{
		(void)json_array_append_new(names, json_string(name));
	}
	cleanup(text_free) char *text = json_dumps(names, JSON_COMPACT);
	json_decref(names);
	if (text == NULL) {
		load_failed_text(list, ERR_INTERNAL, "out of memory");
		return;
	}
	const struct redis_arg words[] = {REDIS_TEXT("EVAL"), REDIS_TEXT(sizes_script),
	    REDIS_TEXT("0"), REDIS_TEXT(list->keys.second), REDIS_TEXT(text)};
	if (redis_conn_send(list->all->store->data, words, array_len(words), on_sizes, list, &e) <
	    0) {
		load_failed(list, &e);
	}
}

/* The fields and values of a page, or the members of a set. NULL when it is neither. */
static const redisReply *page_of(struct list *list, const redisReply *reply)
{
	if (list->kind == STORE_DEPS) {
		(void)snprintf(list->cursor, sizeof(list->cursor), "0");
		return reply->type == REDIS_REPLY_ARRAY ? reply : NULL;
	}
	if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 ||
	    reply->element[0]->type != REDIS_REPLY_STRING ||
	    reply->element[0]->len >= sizeof(list->cursor) ||
	    reply->element[1]->type != REDIS_REPLY_ARRAY) {
		return NULL;
	}
	memcpy(list->cursor, reply->element[0]->str, reply->element[0]->len + 1);
	return reply->element[1];
}

/* Of what both sets name, the newer one's versions hold. */
static void drop_older(struct list *list, const redisReply *page)
{
	char name[REQUIREMENT_MAX + 1];
	json_t *names = json_object();
	const char *line;
	void *next;
	json_t *value;
	for (size_t i = 0; i < page->elements; i++) {
		if (is_name(list->kind, page->element[i])) {
			(void)json_object_set_new(
			    names, requirement_name(page->element[i]->str, name), json_true());
		}
	}
	json_object_foreach_safe(list->found, next, line, value)
	{
		if (json_object_get(names, requirement_name(line, name)) != NULL) {
			(void)json_object_del(list->found, line);
		}
	}
	json_decref(names);
}

static void on_page(void *ctx, const redisReply *reply, const struct err *e)
{
	struct list *list = ctx;
	if (e != NULL && e->code == ERR_INTERNAL && list->second && list->kind == STORE_DEPS) {
		load_done(list); /* the newer key is another's */
		return;
	}
	if (e != NULL) {
		load_failed(list, e);
		return;
	}
	const redisReply *page = page_of(list, reply);
	if (page == NULL) {
		load_failed_text(list, ERR_INTERNAL, "the store's answer is not a list");
		return;
	}
	list->page = list->kind == REDIS_ARTIFACTS ? json_object() : NULL;
	size_t step = list->kind == STORE_DEPS ? 1 : 2;
	if (list->second && list->kind == STORE_DEPS) {
		drop_older(list, page);
	}
	for (size_t i = 0; i + step <= page->elements; i += step) {
		const redisReply *value = page->element[i + step - 1];
		list->found_bytes += page->element[i]->len + value->len;
		add_record(list, page->element[i], value);
	}
	if (list->found_bytes > LIST_MAX_BYTES ||
	    json_object_size(list->found) > STORE_RECORDS_MAX) {
		load_failed_text(list, ERR_TOO_LARGE, "the store holds too much to be listed");
	} else if (list->page != NULL && json_object_size(list->page) > 0) {
		request_sizes(list);
	} else {
		json_decref(list->page);
		list->page = NULL;
		next_page(list);
	}
}

static void next_page(struct list *list)
{
	if (strcmp(list->cursor, "0") != 0) {
		(void)request_page(list);
	} else if (!list->second && list->kind != REDIS_ARTIFACTS && list->keys.second[0] != '\0') {
		list->second = true;
		(void)request_page(list);
	} else {
		load_done(list);
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
	struct list *list = find(r->store->lists, r->kind, r->keys);
	if (e == NULL && list != NULL && list->valid) {
		answer(list, r);
	} else {
		(void)redis_lists_get(r->store->lists, r->kind, r);
	}
}

/* Answers R from LIST, from a reading that was begun by somebody else, or by one of its own. True:
 * later. */
static bool dispatch(struct list *list, struct redis_request *r)
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
	return load_begin(list, r) == 0;
}

bool redis_lists_get(struct redis_lists *l, int kind, struct redis_request *r)
{
	r->kind = kind;
	struct list *list = find_or_make(l, kind, r->keys);
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
	for (struct list *list = l->lists; list != NULL; list = list->next) {
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
	if (l == NULL) {
		return;
	}
	while (l->lists != NULL) {
		struct list *list = l->lists;
		l->lists = list->next;
		list_free(list);
	}
	free(l);
}
