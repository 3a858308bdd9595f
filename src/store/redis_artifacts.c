/*
 * Artifacts of a Redis store, one at a time. An artifact is its bytes in a string, and an entry in
 * the hash that is the index; bytes without an entry are an artifact too, an entry without bytes is
 * none.
 */
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "store/redis_internal.h"

#define HEAD_BYTES "4096" /* enough to tell text from bytes */

/* KEYS: bytes, index. ARGV: name, how many of the first bytes. {entry, size, bytes}, or nothing. */
static const char get_script[] =
    "if redis.call('EXISTS',KEYS[1])==0 then return false end "
    "return {redis.call('HGET',KEYS[2],ARGV[1]) or '',redis.call('STRLEN',KEYS[1]),"
    "redis.call('GETRANGE',KEYS[1],0,tonumber(ARGV[2])-1)}";
/* The same, ARGV: name, how many, entry, most entries. 0 when there is no room. */
static const char register_script[] =
    "if redis.call('EXISTS',KEYS[1])==0 then return false end "
    "if redis.call('HEXISTS',KEYS[2],ARGV[1])==0 and "
    "redis.call('HLEN',KEYS[2])>=tonumber(ARGV[4]) then return 0 end "
    "redis.call('HSET',KEYS[2],ARGV[1],ARGV[3]) "
    "return {ARGV[3],redis.call('STRLEN',KEYS[1]),"
    "redis.call('GETRANGE',KEYS[1],0,tonumber(ARGV[2])-1)}";
/* ARGV: name. Whether there was one. */
static const char delete_script[] =
    "return redis.call('UNLINK',KEYS[1])+redis.call('HDEL',KEYS[2],ARGV[1])";

json_t *redis_entry_parse(const char *bytes, size_t len)
{
	json_t *entry = json_loadb(bytes, len, 0, NULL);
	if (!json_is_object(entry)) {
		json_decref(entry);
		return NULL;
	}
	return entry;
}

json_t *redis_artifact_record(const char *name, const char *path, const redisReply *entry,
    uint64_t size, const redisReply *head)
{
	json_t *parsed = redis_entry_parse(entry->str, entry->len);
	json_t *record = store_entry_record(
	    parsed, name, path, store_type_guess(name, head->str, head->len), size);
	json_decref(parsed);
	return record;
}

/* A request for artifact NAME; the key of its bytes is its path. NULL when it has failed already.
 */
static struct redis_request *begin(struct store *base, const struct store_space *space,
    const char *name, const struct redis_request *callbacks, struct redis_keys *keys)
{
	struct redis_store *st = container_of(base, struct redis_store, base);
	struct err e;
	cleanup(buf_fini) struct buf path = BUF_INIT(2 * REDIS_KEY_MAX_BYTES);
	struct redis_request *r = NULL;
	if (redis_keys_of(st, space, REDIS_ARTIFACTS, keys, &e) == 0 &&
	    redis_key_bytes(keys, name, &path, &e) == 0) {
		r = redis_request_new(st, callbacks->ctx, name, buf_str(&path));
		if (r == NULL) {
			(void)err_set(&e, ERR_INTERNAL, "out of memory");
		}
	}
	if (r == NULL && callbacks->get != NULL) {
		callbacks->get(callbacks->ctx, NULL, &e);
	} else if (r == NULL) {
		callbacks->done(callbacks->ctx, false, &e);
	} else {
		r->get = callbacks->get;
		r->done = callbacks->done;
	}
	return r;
}

static void on_got(void *ctx, const redisReply *reply, const struct err *e)
{
	struct redis_request *r = ctx;
	struct err full;
	json_t *record = NULL;
	if (e == NULL && reply->type == REDIS_REPLY_INTEGER) {
		e = &full;
		(void)err_set(
		    &full, ERR_TOO_LARGE, "the store holds at most %d of them", STORE_RECORDS_MAX);
	}
	if (e == NULL && reply->type == REDIS_REPLY_ARRAY && reply->elements == 3) {
		record = redis_artifact_record(r->name, r->path, reply->element[0],
		    (uint64_t)reply->element[1]->integer, reply->element[2]);
	}
	redis_request_got(r, record, e);
	json_decref(record);
}

struct store_request *redis_artifact_get(
    struct store *st, const struct store_space *space, const char *name, store_get_fn fn, void *ctx)
{
	struct redis_keys keys;
	struct redis_request *r = begin(
	    st, space, name, &(struct redis_request){.get = fn, .ctx = ctx}, &keys);
	if (r == NULL) {
		return NULL;
	}
	const struct redis_arg words[] = {REDIS_TEXT("EVAL"), REDIS_TEXT(get_script),
	    REDIS_TEXT("2"), REDIS_TEXT(r->path), REDIS_TEXT(keys.first), REDIS_TEXT(name),
	    REDIS_TEXT(HEAD_BYTES)};
	return redis_request_send(r, words, array_len(words), on_got);
}

static void on_deleted(void *ctx, const redisReply *reply, const struct err *e)
{
	redis_request_done(
	    ctx, e == NULL && reply->type == REDIS_REPLY_INTEGER && reply->integer > 0, e);
}

struct store_request *redis_artifact_delete(struct store *st, const struct store_space *space,
    const char *name, store_done_fn fn, void *ctx)
{
	struct redis_keys keys;
	struct redis_request *r = begin(
	    st, space, name, &(struct redis_request){.done = fn, .ctx = ctx}, &keys);
	if (r == NULL) {
		return NULL;
	}
	const struct redis_arg words[] = {REDIS_TEXT("EVAL"), REDIS_TEXT(delete_script),
	    REDIS_TEXT("2"), REDIS_TEXT(r->path), REDIS_TEXT(keys.first), REDIS_TEXT(name)};
	return redis_request_send(r, words, array_len(words), on_deleted);
}

#define TEXT_OF(number) TEXT_OF_(number)
#define TEXT_OF_(number) #number

static void on_registered(void *ctx, const redisReply *reply, const struct err *e)
{
	struct redis_request *r = ctx;
	struct err missing;
	if (e == NULL && reply->type == REDIS_REPLY_NIL) {
		e = &missing;
		(void)err_set(&missing, ERR_NOT_FOUND, "there are no bytes at '%.200s'", r->path);
	}
	on_got(r, reply, e);
}

struct store_request *redis_artifact_register(struct store *st, const struct store_space *space,
    const char *name, const json_t *info, store_get_fn fn, void *ctx)
{
	struct redis_keys keys;
	struct redis_request *r = begin(
	    st, space, name, &(struct redis_request){.get = fn, .ctx = ctx}, &keys);
	if (r == NULL) {
		return NULL;
	}
	json_t *entry = store_entry_new(info);
	cleanup(text_free) char *text = json_dumps(entry, JSON_COMPACT);
	json_decref(entry);
	if (text == NULL) {
		struct err e;
		(void)err_set(&e, ERR_INTERNAL, "out of memory");
		redis_request_fail(r, &e);
		return NULL;
	}
	const struct redis_arg words[] = {REDIS_TEXT("EVAL"), REDIS_TEXT(register_script),
	    REDIS_TEXT("2"), REDIS_TEXT(r->path), REDIS_TEXT(keys.first), REDIS_TEXT(name),
	    REDIS_TEXT(HEAD_BYTES), REDIS_TEXT(text), REDIS_TEXT(TEXT_OF(STORE_RECORDS_MAX))};
	return redis_request_send(r, words, array_len(words), on_registered);
}
