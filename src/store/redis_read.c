/*
 * Reading a list, in pages, after CLIENT CACHING YES, so that the server tells when its key changes.
 *
 * The first time the values come with HSCAN. Afterwards a script goes over them in the server and
 * tells a digest and the length of each, and only those that are not known by their digest are
 * fetched.
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

#define PAGE_BYTES (32U << 10) /* what a page aims at */
#define PAGE_FIRST 16          /* records */
#define PAGE_MAX 1000
#define PAGE_DIGESTS 200
#define DIGEST_HEX (2 * SHA_DIGEST_LENGTH)

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
static void on_digests(void *ctx, const redisReply *reply, const struct err *e);

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
	json_decref(list->page);
	json_decref(list->missing);
	json_decref(list->sizes);
	list->page = list->missing = list->sizes = NULL;
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

/* ARGV: cursor, how many. {next cursor, {name, digest and length of each}}. */
static const char digests_script[] =
    "local page=redis.call('HSCAN',KEYS[1],ARGV[1],'COUNT',ARGV[2]) "
    "local out={} "
    "for i=1,#page[2],2 do "
    "out[#out+1]=page[2][i] "
    "out[#out+1]=redis.sha1hex(page[2][i+1]) "
    "out[#out+1]=#page[2][i+1] "
    "end "
    "return {page[1],out}";

/* ARGV: names as JSON. Their values. */
static const char values_script[] =
    "return redis.call('HMGET',KEYS[1],unpack(cjson.decode(ARGV[1])))";

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
	size_t n = PAGE_BYTES / (list->found_bytes / have + 1) + 1;
	return n < PAGE_MAX ? n : PAGE_MAX;
}

static int send_words(struct redis_list *list, const struct redis_arg *words, size_t n, redis_reply_fn fn,
    struct err *e)
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
	if (json_object_size(list->known[list->second].digests) > 0) {
		(void)snprintf(count, sizeof(count), "%d", PAGE_DIGESTS);
		const struct redis_arg words[] = {REDIS_TEXT("EVAL"), REDIS_TEXT(digests_script),
		    REDIS_TEXT("1"), REDIS_TEXT(key), REDIS_TEXT(list->cursor), REDIS_TEXT(count)};
		return send_words(list, words, array_len(words), on_digests, e);
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
	(void)json_object_set(
	    list->found[list->second].records, name, same ? before : record);
	json_decref(record);
}

static void put_digest(struct redis_list *list, const char *name, const redisReply *value)
{
	unsigned char digest[SHA_DIGEST_LENGTH];
	char hex[DIGEST_HEX + 1];
	(void)SHA1((const unsigned char *)value->str, value->len, digest);
	for (size_t i = 0; i < sizeof(digest); i++) {
		(void)snprintf(hex + 2 * i, 3, "%02x", digest[i]);
	}
	(void)json_object_set_new(
	    list->found[list->second].digests, name, json_string(hex));
}

/* A record that somebody wrote; what is none is passed over. */
static void add_record(struct redis_list *list, const char *name, const redisReply *value)
{
	json_t *record = json_loadb(value->str, value->len, 0, NULL);
	bool good = json_is_object(record) &&
		    (list->kind != STORE_SKILLS ||
			json_is_string(json_object_get(record, "source")));
	put_digest(list, name, value);
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

/* --- what is not known --- */

static void request_values(struct redis_list *list);

static void on_values(void *ctx, const redisReply *reply, const struct err *e)
{
	struct redis_list *list = ctx;
	if (e != NULL) {
		redis_list_failed(list, e);
		return;
	}
	size_t n = reply->type == REDIS_REPLY_ARRAY ? reply->elements : 0;
	for (size_t i = 0; i < n && i < list->fetched; i++) {
		/* The last ones that were asked for. */
		const char *name = json_string_value(
		    json_array_get(list->missing, list->fetched - n + i));
		if (name != NULL && reply->element[i]->type == REDIS_REPLY_STRING) {
			list->found_bytes += reply->element[i]->len;
			add_record(list, name, reply->element[i]);
		}
	}
	if (is_within(list)) {
		request_values(list);
	}
}

/* Of those that are missing, as many as a page may have; then the next page. */
static void request_values(struct redis_list *list)
{
	json_t *names = json_array();
	json_int_t bytes = 0;
	struct err e;
	for (; list->fetched < json_array_size(list->missing); list->fetched++) {
		bytes += json_integer_value(json_array_get(list->sizes, list->fetched));
		if (json_array_size(names) > 0 && bytes > (json_int_t)PAGE_BYTES) {
			break;
		}
		(void)json_array_append(names, json_array_get(list->missing, list->fetched));
	}
	if (json_array_size(names) == 0) {
		json_decref(names);
		drop_page(list);
		next_page(list);
		return;
	}
	cleanup(text_free) char *text = json_dumps(names, JSON_COMPACT);
	json_decref(names);
	if (text == NULL) {
		failed_text(list, ERR_INTERNAL, "out of memory");
		return;
	}
	const struct redis_arg words[] = {REDIS_TEXT("EVAL"), REDIS_TEXT(values_script),
	    REDIS_TEXT("1"), REDIS_TEXT(key_of(list)), REDIS_TEXT(text)};
	if (send_words(list, words, array_len(words), on_values, &e) < 0) {
		redis_list_failed(list, &e);
	}
}

/* What has this digest is known, or has to be fetched. */
static void look_up(
    struct redis_list *list, const redisReply *field, const redisReply *digest, long long bytes)
{
	const struct redis_part *known = &list->known[list->second];
	struct redis_part *found = &list->found[list->second];
	json_t *before = json_object_get(known->digests, field->str);
	json_t *record = json_object_get(known->records, field->str);
	list->found_bytes += field->len;
	if (before == NULL || strcmp(json_string_value(before), digest->str) != 0) {
		(void)json_array_append_new(list->missing, json_string(field->str));
		(void)json_array_append_new(list->sizes, json_integer(bytes));
		return;
	}
	list->found_bytes += (size_t)bytes;
	(void)json_object_set(found->digests, field->str, before);
	if (record != NULL) {
		(void)json_object_set(found->records, field->str, record);
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

static void on_digests(void *ctx, const redisReply *reply, const struct err *e)
{
	struct redis_list *list = ctx;
	if (e != NULL && e->code == ERR_INTERNAL) {
		/* The server has an error of its own for it: a user who may read, but run no script.
		 * The values themselves, then. */
		json_decref(steal(&list->known[list->second].digests));
		(void)request_page(list);
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
	list->missing = json_array();
	list->sizes = json_array();
	list->fetched = 0;
	for (size_t i = 0; i + 3 <= page->elements; i += 3) {
		const redisReply *digest = page->element[i + 1];
		const redisReply *bytes = page->element[i + 2];
		if (is_name(list->kind, page->element[i]) && digest->type == REDIS_REPLY_STRING &&
		    bytes->type == REDIS_REPLY_INTEGER && bytes->integer >= 0) {
			look_up(list, page->element[i], digest, bytes->integer);
		}
	}
	if (is_within(list)) {
		request_values(list);
	}
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

static void on_page(void *ctx, const redisReply *reply, const struct err *e)
{
	struct redis_list *list = ctx;
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
	} else if (!list->second && list->kind == STORE_SKILLS && list->keys.second[0] != '\0') {
		list->second = true;
		(void)request_page(list);
	} else {
		order(list);
	}
}
