/* Opening and closing a Redis store; its records, one at a time. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "store/redis_internal.h"

/* --- requests --- */

static void request_free(struct redis_request *r)
{
	free(r->name);
	free(r->path);
	free(r->keys);
	free(r);
}

struct redis_request *redis_request_new(
    struct redis_store *st, void *ctx, const char *name, const char *path)
{
	struct redis_request *r = calloc(1, sizeof(*r));
	if (r == NULL) {
		return NULL;
	}
	r->base.ops = st->base.ops;
	r->store = st;
	r->ctx = ctx;
	r->name = name != NULL ? strdup(name) : NULL;
	r->path = path != NULL ? strdup(path) : NULL;
	if ((name != NULL && r->name == NULL) || (path != NULL && r->path == NULL)) {
		request_free(r);
		return NULL;
	}
	return r;
}

static bool is_heard(const struct redis_request *r)
{
	return !r->cancelled && !r->store->closing;
}

void redis_request_list(
    struct redis_request *r, json_t *records, uint64_t revision, const struct err *e)
{
	if (is_heard(r)) {
		r->list(r->ctx, records, revision, e);
	}
	request_free(r);
}

void redis_request_got(struct redis_request *r, json_t *record, const struct err *e)
{
	if (is_heard(r)) {
		r->get(r->ctx, record, e);
	}
	request_free(r);
}

void redis_request_done(struct redis_request *r, bool changed, const struct err *e)
{
	if (is_heard(r)) {
		r->done(r->ctx, changed, e);
	}
	request_free(r);
}

void redis_request_fail(struct redis_request *r, const struct err *e)
{
	if (r->list != NULL) {
		redis_request_list(r, NULL, 0, e);
	} else if (r->get != NULL) {
		redis_request_got(r, NULL, e);
	} else {
		redis_request_done(r, false, e);
	}
}

struct store_request *redis_request_send(
    struct redis_request *r, const struct redis_arg *args, size_t n, redis_reply_fn fn)
{
	struct err e;
	if (redis_conn_send(r->store->data, args, n, fn, r, &e) < 0) {
		redis_request_fail(r, &e);
		return NULL;
	}
	return &r->base;
}

static void cancel(struct store_request *base)
{
	container_of(base, struct redis_request, base)->cancelled = true;
}

static struct redis_store *of(struct store *st)
{
	return container_of(st, struct redis_store, base);
}

/* --- records --- */

/* Each script: what it takes, and what it returns. KEYS[2] is there for skills and dependencies. */

/* ARGV: name, record, most records. 1, or 0 when there is no room. The newer hash gets it too where
 * somebody uses that one. */
static const char put_script[] = "if redis.call('HEXISTS',KEYS[1],ARGV[1])==0 and "
				 "redis.call('HLEN',KEYS[1])>=tonumber(ARGV[3]) then return 0 end "
				 "redis.call('HSET',KEYS[1],ARGV[1],ARGV[2]) "
				 "if KEYS[2] and redis.call('EXISTS',KEYS[2])==1 then "
				 "redis.call('HSET',KEYS[2],ARGV[1],ARGV[2]) end "
				 "return 1";
/* ARGV: name. How many there were. */
static const char delete_script[] = "local n=redis.call('HDEL',KEYS[1],ARGV[1]) "
				    "if KEYS[2] then n=n+redis.call('HDEL',KEYS[2],ARGV[1]) end "
				    "return n";
/* ARGV: name. The record, from the newer hash first. */
static const char get_script[] = "local v=redis.call('HGET',KEYS[2],ARGV[1]) "
				 "if v then return v end "
				 "return redis.call('HGET',KEYS[1],ARGV[1])";

/* The name of a requirement, as requirement_name has it. */
#define BASE_NAME                 \
	"local function base(s) " \
	"return (string.lower(string.match(s,'^[^%[<>=!~]*')):gsub('_','-'):gsub('%s+$','')) end "

/* And the sets that there are. The newer one is somebody else's key as well, perhaps of no set. */
#define DEPS_SETS                                                             \
	BASE_NAME "local sets={KEYS[1]} "                                     \
		  "if KEYS[2] and redis.call('TYPE',KEYS[2]).ok=='set' then " \
		  "sets[2]=KEYS[2] end "                                      \
		  "local function each(fn) for i=#sets,1,-1 do "              \
		  "for _,m in ipairs(redis.call('SMEMBERS',sets[i])) do "     \
		  "if base(m)==ARGV[1] then local v=fn(sets[i],m) "           \
		  "if v then return v end end end end end "

/* ARGV: name, line, most. As put_script. */
static const char deps_put_script[] = DEPS_SETS
    "local old=0 "
    "each(function(s,m) if s==KEYS[1] then old=old+1 end end) "
    "if redis.call('SCARD',KEYS[1])-old>=tonumber(ARGV[3]) then return 0 end "
    "each(function(s,m) redis.call('SREM',s,m) end) "
    "for _,s in ipairs(sets) do redis.call('SADD',s,ARGV[2]) end "
    "return 1";
/* How many there were. */
static const char deps_delete_script[] = DEPS_SETS
    "local n=0 "
    "each(function(s,m) n=n+redis.call('SREM',s,m) end) "
    "return n";
/* From the newer set first. */
static const char deps_get_script[] = DEPS_SETS "return each(function(s,m) return m end) or false";

/* EVAL SCRIPT over the keys of a record with up to two more arguments after its name. */
static struct store_request *eval(struct redis_request *r, const char *script,
    const struct redis_keys *keys, const char *second, const char *third, redis_reply_fn fn)
{
	bool both = keys->second[0] != '\0';
	struct redis_arg args[8] = {
	    REDIS_TEXT("EVAL"),
	    REDIS_TEXT(script),
	    REDIS_TEXT(both ? "2" : "1"),
	    REDIS_TEXT(keys->first),
	};
	size_t n = 4;
	if (both) {
		args[n++] = REDIS_TEXT(keys->second);
	}
	args[n++] = REDIS_TEXT(r->name);
	if (second != NULL) {
		args[n++] = REDIS_TEXT(second);
		args[n++] = REDIS_TEXT(third);
	}
	return redis_request_send(r, args, n, fn);
}

/* A request for the record NAME, and its keys. NULL when it has failed already. */
static struct redis_request *begin(struct store *st, const struct store_space *space,
    enum store_kind kind, const char *name, const struct redis_request *callbacks,
    struct redis_keys *keys)
{
	struct err e;
	struct redis_request *r = redis_request_new(of(st), callbacks->ctx, name, NULL);
	bool good = r != NULL || err_set(&e, ERR_INTERNAL, "out of memory") == 0;
	if (good) {
		r->kind = (int)kind;
		r->get = callbacks->get;
		r->done = callbacks->done;
		good = redis_keys_of(of(st), space, (int)kind, keys, &e) == 0;
	}
	if (good) {
		return r;
	}
	if (r != NULL) {
		redis_request_fail(r, &e);
	} else if (callbacks->get != NULL) {
		callbacks->get(callbacks->ctx, NULL, &e);
	} else {
		callbacks->done(callbacks->ctx, false, &e);
	}
	return NULL;
}

/* A record as somebody wrote it, or NULL for what is none. */
static json_t *parse_record(int kind, const char *name, const redisReply *reply)
{
	if (kind == STORE_DEPS) {
		return json_stringn(reply->str, reply->len);
	}
	json_t *record = json_loadb(reply->str, reply->len, 0, NULL);
	if (!json_is_object(record) ||
	    (kind == STORE_SKILLS && !json_is_string(json_object_get(record, "source")))) {
		json_decref(record);
		return NULL;
	}
	(void)json_object_set_new(record, "name", json_string(name));
	return record;
}

static void on_record(void *ctx, const redisReply *reply, const struct err *e)
{
	struct redis_request *r = ctx;
	json_t *record = NULL;
	if (e == NULL && reply->type == REDIS_REPLY_STRING) {
		record = parse_record(r->kind, r->name, reply);
	}
	redis_request_got(r, record, e);
	json_decref(record);
}

static struct store_request *get(struct store *st, const struct store_space *space,
    enum store_kind kind, const char *name, store_get_fn fn, void *ctx)
{
	struct redis_keys keys;
	struct redis_request *r = begin(
	    st, space, kind, name, &(struct redis_request){.get = fn, .ctx = ctx}, &keys);
	if (r == NULL) {
		return NULL;
	}
	if (kind == STORE_DEPS) {
		return eval(r, deps_get_script, &keys, NULL, NULL, on_record);
	}
	if (keys.second[0] != '\0') {
		return eval(r, get_script, &keys, NULL, NULL, on_record);
	}
	const struct redis_arg args[] = {
	    REDIS_TEXT("HGET"), REDIS_TEXT(keys.first), REDIS_TEXT(name)};
	return redis_request_send(r, args, array_len(args), on_record);
}

static void on_put(void *ctx, const redisReply *reply, const struct err *e)
{
	struct err full;
	if (e == NULL && reply->type == REDIS_REPLY_INTEGER && reply->integer == 0) {
		(void)err_set(
		    &full, ERR_TOO_LARGE, "the store holds at most %d of them", STORE_RECORDS_MAX);
		e = &full;
	}
	redis_request_done(ctx, e == NULL, e);
}

#define TEXT_OF(number) TEXT_OF_(number)
#define TEXT_OF_(number) #number

static struct store_request *put(struct store *st, const struct store_space *space,
    enum store_kind kind, const char *name, const json_t *record, store_done_fn fn, void *ctx)
{
	struct redis_keys keys;
	struct redis_request *r = begin(
	    st, space, kind, name, &(struct redis_request){.done = fn, .ctx = ctx}, &keys);
	if (r == NULL) {
		return NULL;
	}
	if (kind == STORE_DEPS) {
		return eval(r, deps_put_script, &keys, json_string_value(record),
		    TEXT_OF(STORE_RECORDS_MAX), on_put);
	}
	cleanup(text_free) char *text = NULL;
	json_t *named = json_copy((json_t *)(uintptr_t)record);
	if (named != NULL && json_object_set_new(named, "name", json_string(name)) == 0) {
		text = json_dumps(named, JSON_COMPACT);
	}
	json_decref(named);
	if (text == NULL) {
		struct err e;
		(void)err_set(&e, ERR_INTERNAL, "out of memory");
		redis_request_fail(r, &e);
		return NULL;
	}
	return eval(r, put_script, &keys, text, TEXT_OF(STORE_RECORDS_MAX), on_put);
}

static void on_deleted(void *ctx, const redisReply *reply, const struct err *e)
{
	redis_request_done(
	    ctx, e == NULL && reply->type == REDIS_REPLY_INTEGER && reply->integer > 0, e);
}

static struct store_request *remove_record(struct store *st, const struct store_space *space,
    enum store_kind kind, const char *name, store_done_fn fn, void *ctx)
{
	struct redis_keys keys;
	struct redis_request *r = begin(
	    st, space, kind, name, &(struct redis_request){.done = fn, .ctx = ctx}, &keys);
	if (r == NULL) {
		return NULL;
	}
	return eval(r, kind == STORE_DEPS ? deps_delete_script : delete_script, &keys, NULL, NULL,
	    on_deleted);
}

static struct store_request *list_of(
    struct store *st, const struct store_space *space, int kind, store_list_fn fn, void *ctx)
{
	struct err e;
	struct redis_request *r = redis_request_new(of(st), ctx, NULL, NULL);
	if (r == NULL) {
		(void)err_set(&e, ERR_INTERNAL, "out of memory");
		fn(ctx, NULL, 0, &e);
		return NULL;
	}
	r->list = fn;
	r->keys = malloc(sizeof(*r->keys));
	if (r->keys == NULL || redis_keys_of(of(st), space, kind, r->keys, &e) < 0) {
		if (r->keys == NULL) {
			(void)err_set(&e, ERR_INTERNAL, "out of memory");
		}
		redis_request_fail(r, &e);
		return NULL;
	}
	return redis_lists_get(of(st)->lists, kind, r) ? &r->base : NULL;
}

static struct store_request *list(struct store *st, const struct store_space *space,
    enum store_kind kind, store_list_fn fn, void *ctx)
{
	return list_of(st, space, (int)kind, fn, ctx);
}

static struct store_request *artifact_list(
    struct store *st, const struct store_space *space, store_list_fn fn, void *ctx)
{
	return list_of(st, space, REDIS_ARTIFACTS, fn, ctx);
}

static int artifacts_path(const struct store *st, const struct store_space *space, struct buf *out)
{
	struct redis_keys keys;
	struct err e;
	const struct redis_store *own = (const struct redis_store *)(const void *)st;
	if (redis_keys_of(own, space, REDIS_ARTIFACTS, &keys, &e) < 0) {
		return -EINVAL;
	}
	return buf_add_str(out, keys.second);
}

/* --- life --- */

static const char *describe(const struct store *st)
{
	return ((const struct redis_store *)(const void *)st)->url.description;
}

static void on_up(void *ctx)
{
	redis_lists_on_up(((struct redis_store *)ctx)->lists);
}

static void on_down(void *ctx)
{
	redis_lists_on_down(((struct redis_store *)ctx)->lists);
}

static void release(struct redis_store *st)
{
	redis_lists_free(st->lists);
	redis_tls_free(st->tls);
	redis_url_fini(&st->url);
	free(st->tools_prefix);
	free(st->skills_prefix);
	free(st->artifacts_prefix);
	free(st->deps_prefix);
	free(st->workspaces_prefix);
	free(st);
}

static void on_closed(uv_handle_t *handle)
{
	release(handle->data);
}

static void store_end(struct store *base)
{
	struct redis_store *st = of(base);
	st->closing = true;
	redis_conn_free(st->data);
	if (st->lists != NULL) {
		redis_lists_disconnect(st->lists);
	}
	redis_streams_free(st);
	uv_close((uv_handle_t *)&st->soon, on_closed);
}

static const struct store_backend backend = {
    .free = store_end,
    .describe = describe,
    .artifacts_path = artifacts_path,
    .list = list,
    .get = get,
    .put = put,
    .remove = remove_record,
    .artifact_list = artifact_list,
    .artifact_get = redis_artifact_get,
    .artifact_delete = redis_artifact_delete,
    .artifact_register = redis_artifact_register,
    .artifact_write = redis_artifact_write,
    .writer_add = redis_writer_add,
    .writer_on_room = redis_writer_on_room,
    .writer_abort = redis_writer_abort,
    .artifact_read = redis_artifact_read,
    .reader_read = redis_reader_read,
    .reader_on_more = redis_reader_on_more,
    .reader_close = redis_reader_close,
    .cancel = cancel,
};

/* GIVEN, or PREFIX:PART. */
static int set_prefix(
    char **out, const char *given, const char *prefix, const char *part, struct err *e)
{
	cleanup(buf_fini) struct buf b = BUF_INIT(REDIS_KEY_MAX_BYTES / 4);
	int r = given != NULL  ? buf_add_str(&b, given)
		: part != NULL ? buf_addf(&b, "%s:%s", prefix, part)
			       : buf_add_str(&b, prefix);
	if (r == 0 && b.len > 0 && text_is_utf8(b.data, b.len)) {
		*out = steal(&b.data);
		return 0;
	}
	return err_set(e, ERR_INVALID, "a Redis prefix is empty or too long");
}

static int set_prefixes(struct redis_store *st, const struct store_config *c, struct err *e)
{
	const char *prefix = c->prefix != NULL ? c->prefix : REDIS_PREFIX;
	if (set_prefix(&st->tools_prefix, c->tools_prefix, prefix, "tools", e) < 0 ||
	    set_prefix(&st->skills_prefix, c->skills_prefix, prefix, "skills", e) < 0 ||
	    set_prefix(&st->artifacts_prefix, c->artifacts_prefix, prefix, "artifacts", e) < 0 ||
	    set_prefix(&st->deps_prefix, c->deps_prefix, prefix, "deps", e) < 0) {
		return -1;
	}
	return set_prefix(&st->workspaces_prefix, c->workspaces_prefix, prefix, NULL, e);
}

struct store *redis_backend_new(uv_loop_t *loop, const struct store_config *c, struct err *e)
{
	static const struct redis_conn_events events = {.up = on_up, .down = on_down};
	struct redis_store *st = calloc(1, sizeof(*st));
	if (st == NULL) {
		(void)err_set(e, ERR_INTERNAL, "out of memory");
		return NULL;
	}
	st->base.ops = &backend;
	st->loop = loop;
	if (redis_url_parse(c->redis_url, &st->url, e) < 0 || set_prefixes(st, c, e) < 0) {
		release(st);
		return NULL;
	}
	if (st->url.tls) {
		st->tls = redis_tls_new(&st->url, c->redis_ca_file, e);
		if (st->tls == NULL) {
			release(st);
			return NULL;
		}
	}
	st->lists = redis_lists_new(st);
	st->data = redis_conn_new(loop, &st->url, st->tls, &events, st);
	(void)uv_timer_init(loop, &st->soon);
	st->soon.data = st;
	if (st->lists == NULL || st->data == NULL) {
		(void)err_set(e, ERR_INTERNAL, "out of memory");
		store_end(&st->base);
		return NULL;
	}
	return &st->base;
}
