/*
 * Reading a list, in pages, after CLIENT CACHING YES, so that the server tells when its key
 * changes.
 *
 * A digest of every value is kept with what was made of it: who reads the list again takes apart
 * only what he does not know. (Scripts in the server could tell digests instead of values, but take
 * ten times as long for it as it takes to send them, and keep all of the server's clients waiting.)
 */
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"
#include "base/text.h"
#include "store/discard.h"
#include "store/redis_list.h"
#include "store/requirement.h"

/* What a page aims at: when it is all new, and when most of it is known. */
#define PAGE_NEW_BYTES (32U << 10)
#define PAGE_KNOWN_BYTES (64U << 10)
#define PAGE_FIRST 16 /* records */
#define PAGE_MAX 1000

/* Putting what was found in order, and comparing it, on a thread. */
struct redis_ordering {
	uv_work_t work;
	struct redis_list *list; /* NULL: it is gone */
	json_t *found[2];        /* by name; what is in the second goes over the first */
	json_t *before;
	json_t *records; /* NULL: memory is out */
	bool same;
};

static void next_page(struct redis_list *list);
static void on_page(void *ctx, const redisReply *reply, const struct err *e);

static void ignore(void *ctx, const redisReply *reply, const struct err *e)
{
	(void)ctx;
	(void)reply;
	(void)e;
}

static void failed_text(struct redis_list *list, enum err_code code, const char *text)
{
	struct err e;
	(void)err_set(&e, code, "%s", text);
	redis_list_failed(list, &e);
}

static void drop_part(struct redis_list *list, struct redis_part *part)
{
	discard_json(list->store->loop, part->records);
	discard_json(list->store->loop, part->digests);
	*part = (struct redis_part){0};
}

static void drop_page(struct redis_list *list)
{
	json_decref(steal(&list->page));
}

void redis_list_drop_reading(struct redis_list *list)
{
	drop_part(list, &list->found[0]);
	drop_part(list, &list->found[1]);
	drop_page(list);
	if (list->ordering != NULL) {
		list->ordering->list = NULL;
		list->ordering = NULL;
	}
}

void redis_list_forget(struct redis_list *list)
{
	drop_part(list, &list->known[0]);
	drop_part(list, &list->known[1]);
	discard_json(list->store->loop, steal(&list->records));
	list->valid = false;
}

/* --- the end of a reading --- */

static int by_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static json_t *found_as(const struct redis_ordering *o, const char *name)
{
	json_t *record = json_object_get(o->found[1], name);
	return record != NULL ? record : json_object_get(o->found[0], name);
}

/* What was found, sorted by name. NULL when memory is out. */
static json_t *sorted(const struct redis_ordering *o)
{
	size_t count = json_object_size(o->found[0]) + json_object_size(o->found[1]);
	const char **names = calloc(count + 1, sizeof(*names));
	json_t *records = json_array();
	size_t n = 0;
	for (size_t part = 0; names != NULL && part < 2; part++) {
		const char *name;
		json_t *record;
		json_object_foreach(o->found[part], name, record)
		{
			if (part == 1 || json_object_get(o->found[1], name) == NULL) {
				names[n++] = name;
			}
		}
	}
	if (names == NULL || records == NULL) {
		free(names);
		json_decref(records);
		return NULL;
	}
	qsort(names, n, sizeof(*names), by_text);
	for (size_t i = 0; i < n; i++) {
		(void)json_array_append(records, found_as(o, names[i]));
	}
	free(names);
	return records;
}

static void run_ordering(uv_work_t *work)
{
	struct redis_ordering *o = container_of(work, struct redis_ordering, work);
	o->records = sorted(o);
	size_t count = json_array_size(o->records);
	o->same = o->before != NULL && o->records != NULL && json_array_size(o->before) == count;
	for (size_t i = 0; o->same && i < count; i++) {
		o->same = json_array_get(o->records, i) == json_array_get(o->before, i);
	}
	json_decref(o->found[0]);
	json_decref(o->found[1]);
}

static void end_ordering(uv_work_t *work, int status)
{
	(void)status;
	struct redis_ordering *o = container_of(work, struct redis_ordering, work);
	struct redis_list *list = o->list;
	json_t *spare = o->same ? o->records : o->before;
	json_t *records = o->same ? o->before : o->records;
	if (list == NULL) {
		json_decref(spare);
		json_decref(records);
	} else if (records == NULL) {
		json_decref(spare);
		list->ordering = NULL;
		failed_text(list, ERR_INTERNAL, "out of memory");
	} else {
		discard_json(list->store->loop, spare);
		list->ordering = NULL;
		for (size_t i = 0; i < 2; i++) {
			drop_part(list, &list->known[i]);
			list->known[i] = list->found[i];
			list->found[i] = (struct redis_part){0};
		}
		redis_list_was_read(list, records, o->same);
	}
	free(o);
}

static void order(struct redis_list *list)
{
	struct redis_ordering *o = calloc(1, sizeof(*o));
	if (o == NULL) {
		failed_text(list, ERR_INTERNAL, "out of memory");
		return;
	}
	o->list = list;
	o->before = json_incref(list->records);
	o->found[0] = json_incref(list->found[0].records);
	o->found[1] = json_incref(list->found[1].records);
	list->ordering = o;
	(void)uv_queue_work(list->store->loop, &o->work, run_ordering, end_ordering);
}

/* --- pages --- */

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

static const char *key_of(const struct redis_list *list)
{
	return list->second ? list->keys.second : list->keys.first;
}

static size_t found_count(const struct redis_list *list)
{
	return json_object_size(list->found[0].records) + json_object_size(list->found[1].records);
}

static size_t page_count(const struct redis_list *list)
{
	size_t have = found_count(list);
	if (have == 0) {
		return PAGE_FIRST;
	}
	bool known = json_object_size(list->known[list->second].digests) > 0;
	size_t bytes = known ? PAGE_KNOWN_BYTES : PAGE_NEW_BYTES;
	size_t n = bytes / (list->found_bytes / have + 1) + 1;
	return n < PAGE_MAX ? n : PAGE_MAX;
}

static int send_words(struct redis_list *list, const struct redis_arg *words, size_t n,
    redis_reply_fn fn, struct err *e)
{
	return redis_conn_send(list->store->data, words, n, fn, list, e);
}

static int send_page(struct redis_list *list, struct err *e)
{
	const char *key = key_of(list);
	char count[24];
	if (list->tracked && strcmp(list->cursor, "0") == 0) {
		const struct redis_arg words[] = {
		    REDIS_TEXT("CLIENT"), REDIS_TEXT("CACHING"), REDIS_TEXT("YES")};
		if (send_words(list, words, array_len(words), ignore, e) < 0) {
			return -1;
		}
	}
	if (list->kind == STORE_DEPS) {
		const struct redis_arg words[] = {REDIS_TEXT("SMEMBERS"), REDIS_TEXT(key)};
		return send_words(list, words, array_len(words), on_page, e);
	}
	(void)snprintf(count, sizeof(count), "%zu", page_count(list));
	const struct redis_arg words[] = {REDIS_TEXT("HSCAN"), REDIS_TEXT(key),
	    REDIS_TEXT(list->cursor), REDIS_TEXT("COUNT"), REDIS_TEXT(count)};
	return send_words(list, words, array_len(words), on_page, e);
}

/* 0, or -1: it failed, and all who waited were told. */
static int request_page(struct redis_list *list)
{
	struct err e;
	if (send_page(list, &e) < 0) {
		redis_list_failed(list, &e);
		return -1;
	}
	return 0;
}

int redis_list_read(struct redis_list *list, bool tracked)
{
	list->tracked = tracked;
	list->second = false;
	list->found_bytes = 0;
	for (size_t i = 0; i < 2; i++) {
		list->found[i] = (struct redis_part){json_object(), json_object()};
	}
	(void)snprintf(list->cursor, sizeof(list->cursor), "0");
	return request_page(list);
}

/* Whether there is not too much of it by now; if there is, it has failed. */
static bool is_within(struct redis_list *list)
{
	if (list->found_bytes <= REDIS_LIST_MAX_BYTES && found_count(list) <= STORE_RECORDS_MAX) {
		return true;
	}
	failed_text(list, ERR_TOO_LARGE, "the store holds too much to be listed");
	return false;
}

/* --- records --- */

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

/* RECORD (taken) was found; the one there was when it says the same. */
static void put_found(struct redis_list *list, const char *name, json_t *record)
{
	json_t *before = json_object_get(list->known[list->second].records, name);
	bool same = before != NULL && json_equal(before, record);
	(void)json_object_set(list->found[list->second].records, name, same ? before : record);
	json_decref(record);
}

static void hex_of(const unsigned char *bytes, size_t n, char *out)
{
	static const char digits[] = "0123456789abcdef";
	for (size_t i = 0; i < n; i++) {
		*out++ = digits[bytes[i] >> 4];
		*out++ = digits[bytes[i] & 15];
	}
	*out = '\0';
}

/* Whether the value of NAME is the one that is known. Its digest is kept. */
static bool is_known(struct redis_list *list, const char *name, const redisReply *value)
{
	unsigned char digest[SHA256_DIGEST_LENGTH];
	char text[2 * sizeof(digest) + 1];
	const json_t *before = json_object_get(list->known[list->second].digests, name);
	json_t *digests = list->found[list->second].digests;
	(void)SHA256((const unsigned char *)value->str, value->len, digest);
	hex_of(digest, sizeof(digest), text);
	if (before != NULL && strcmp(json_string_value(before), text) == 0) {
		(void)json_object_set(digests, name, (json_t *)(uintptr_t)before);
		return true;
	}
	(void)json_object_set_new(digests, name, json_string(text));
	return false;
}

/* A record that somebody wrote; what is none is passed over. */
static void add_record(struct redis_list *list, const char *name, const redisReply *value)
{
	if (is_known(list, name, value)) {
		json_t *before = json_object_get(list->known[list->second].records, name);
		if (before != NULL) {
			(void)json_object_set(list->found[list->second].records, name, before);
		}
		return;
	}
	json_t *record = json_loadb(value->str, value->len, 0, NULL);
	bool good = json_is_object(record) &&
		    (list->kind != STORE_SKILLS ||
			json_is_string(json_object_get(record, "source")));
	if (good) {
		(void)json_object_set_new(record, "name", json_string(name));
		put_found(list, name, record);
	} else {
		json_decref(record);
	}
}

static void add(struct redis_list *list, const redisReply *field, const redisReply *value)
{
	if (!is_name(list->kind, field) || value->type != REDIS_REPLY_STRING) {
		return;
	}
	if (list->kind == STORE_DEPS) {
		put_found(list, field->str, json_string(field->str));
	} else if (list->kind == REDIS_ARTIFACTS) {
		json_t *entry = redis_entry_parse(value->str, value->len);
		(void)json_object_set_new(
		    list->page, field->str, entry != NULL ? entry : json_null());
	} else {
		add_record(list, field->str, value);
	}
}

/* --- replies --- */

/* The elements of a page, with the next cursor taken. NULL when it is none. */
static const redisReply *page_of(struct redis_list *list, const redisReply *reply)
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

/* The artifacts of PAGE with the sizes that came, -1 for those whose bytes are gone. */
static void on_sizes(void *ctx, const redisReply *reply, const struct err *e)
{
	struct redis_list *list = ctx;
	if (e != NULL) {
		redis_list_failed(list, e);
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
		put_found(list, name,
		    store_entry_record(json_is_object(entry) ? entry : NULL, name, buf_str(&path),
			store_type_guess(name, "", 0), (uint64_t)size->integer));
	}
	drop_page(list);
	next_page(list);
}

static void request_sizes(struct redis_list *list)
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
		failed_text(list, ERR_INTERNAL, "out of memory");
		return;
	}
	const struct redis_arg words[] = {REDIS_TEXT("EVAL"), REDIS_TEXT(sizes_script),
	    REDIS_TEXT("0"), REDIS_TEXT(list->keys.second), REDIS_TEXT(text)};
	if (send_words(list, words, array_len(words), on_sizes, &e) < 0) {
		redis_list_failed(list, &e);
	}
}

/* Of what both sets name, the newer one's versions hold. */
static void drop_older(struct redis_list *list, const redisReply *page)
{
	char name[REQUIREMENT_MAX + 1];
	json_t *names = json_object();
	json_t *older = list->found[0].records;
	const char *line;
	void *next;
	json_t *value;
	for (size_t i = 0; i < page->elements; i++) {
		if (is_name(list->kind, page->element[i])) {
			(void)json_object_set_new(
			    names, requirement_name(page->element[i]->str, name), json_true());
		}
	}
	json_object_foreach_safe(older, next, line, value)
	{
		if (json_object_get(names, requirement_name(line, name)) != NULL) {
			(void)json_object_del(older, line);
		}
	}
	json_decref(names);
}

static void on_page(void *ctx, const redisReply *reply, const struct err *e)
{
	struct redis_list *list = ctx;
	if (e != NULL && e->code == ERR_INTERNAL && list->second && list->kind == STORE_DEPS) {
		order(list); /* the newer key is another's */
		return;
	}
	if (e != NULL) {
		redis_list_failed(list, e);
		return;
	}
	const redisReply *page = page_of(list, reply);
	if (page == NULL) {
		failed_text(list, ERR_INTERNAL, "the store's answer is not a list");
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
		add(list, page->element[i], value);
	}
	if (!is_within(list)) {
		return;
	}
	if (json_object_size(list->page) > 0) {
		request_sizes(list);
	} else {
		drop_page(list);
		next_page(list);
	}
}

static void next_page(struct redis_list *list)
{
	if (strcmp(list->cursor, "0") != 0) {
		(void)request_page(list);
	} else if (!list->second && list->kind != REDIS_ARTIFACTS && list->keys.second[0] != '\0') {
		list->second = true;
		(void)request_page(list);
	} else {
		order(list);
	}
}
