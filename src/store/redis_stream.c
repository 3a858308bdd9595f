/*
 * The bytes of artifacts, in and out of a Redis store, in pieces, each a command of its own: so a
 * slow reader or writer holds up nobody on the connection they share, and nothing is held whole.
 *
 * Writing goes to a key of its own, which expires by itself, and which one script in the end gives
 * the artifact's name together with its entry of the index. Reading asks, with each piece, whether
 * the artifact is still the one that was opened (the digest of its entry, which has the time it was
 * made, and its size), within the same script; if not, the reading fails rather than give a
 * mixture.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "store/redis_internal.h"

#define PIECE_BYTES (256U << 10)
#define PIECES_AHEAD 4       /* written and not yet answered */
#define UPLOAD_SECONDS "900" /* after its last piece an upload goes by itself */

static const struct err out_of_memory = {.code = ERR_INTERNAL, .text = "out of memory"};

/* What readers and writers have in common. */
struct redis_stream {
	struct redis_stream *prev, *next;
	struct redis_store *store;
	unsigned pending; /* commands; it is freed when there are none and `over` */
	bool over;        /* the one who asked is done with it */
	bool failed;
	struct err why;
	bool is_writer;

	struct redis_keys keys;
	char *name;
	char *path; /* the key of its bytes */
	struct buf bytes;
	size_t at; /* those before it are done with */
	uint64_t size;
	store_get_fn told; /* opened, or done */
	void *ctx;
};

struct writer {
	struct store_writer base;
	struct redis_stream s;
	struct buf upload; /* the key on the way */
	char *entry;
	uint64_t got; /* of the caller */
	uint64_t sent;
	bool committing;
	bool wants_room;
	bool due; /* DONE is to be called with WHY */
	void (*room)(void *ctx);
};

struct reader {
	struct store_reader base;
	struct redis_stream s;
	char digest[48]; /* of the entry */
	uint64_t fetched, given;
	bool fetching, opened;
	void (*more)(void *ctx);
};

static void stream_free(struct redis_stream *s)
{
	struct redis_store *st = s->store;
	if (s->prev != NULL) {
		s->prev->next = s->next;
	} else {
		st->streams = s->next;
	}
	if (s->next != NULL) {
		s->next->prev = s->prev;
	}
	st->stream_count--;
	buf_fini(&s->bytes);
	free(s->name);
	free(s->path);
	if (s->is_writer) {
		struct writer *w = container_of(s, struct writer, s);
		buf_fini(&w->upload);
		free(w->entry);
		free(w);
	} else {
		free(container_of(s, struct reader, s));
	}
}

static void stream_end(struct redis_stream *s)
{
	s->over = true;
	if (s->pending == 0) {
		stream_free(s);
	}
}

void redis_streams_free(struct redis_store *st)
{
	while (st->streams != NULL) {
		stream_free(st->streams);
	}
}

static int check_room(const struct redis_store *st, const struct redis_keys *keys, struct err *e)
{
	size_t of_space = 0;
	for (const struct redis_stream *s = st->streams; s != NULL; s = s->next) {
		of_space += strcmp(s->keys.second, keys->second) == 0;
	}
	return st->stream_count < REDIS_STREAMS_MAX && of_space < REDIS_STREAMS_OF_SPACE_MAX
		   ? 0
		   : err_set(e, ERR_BUSY, "too many artifacts are being read and written");
}

/* Fills in S, which is part of a reader or writer just made. -1: E says why, and S holds nothing.
 */
static int stream_begin(struct redis_stream *s, struct store *base, const struct store_space *space,
    const char *name, size_t max_bytes, struct err *e)
{
	struct redis_store *st = container_of(base, struct redis_store, base);
	cleanup(buf_fini) struct buf path = BUF_INIT(2 * REDIS_KEY_MAX_BYTES);
	if (redis_keys_of(st, space, REDIS_ARTIFACTS, &s->keys, e) < 0 ||
	    check_room(st, &s->keys, e) < 0 || redis_key_bytes(&s->keys, name, &path, e) < 0) {
		return -1;
	}
	s->name = strdup(name);
	if (s->name == NULL) {
		return err_set(e, ERR_INTERNAL, "out of memory");
	}
	s->path = steal(&path.data);
	s->store = st;
	s->bytes = BUF_INIT(max_bytes);
	s->next = st->streams;
	if (s->next != NULL) {
		s->next->prev = s;
	}
	st->streams = s;
	st->stream_count++;
	return 0;
}

/* Sends for S; FN gets CTX, and S is not freed before. */
static int send_words(struct redis_stream *s, const struct redis_arg *words, size_t n,
    redis_reply_fn fn, void *ctx, struct err *e)
{
	if (redis_conn_send(s->store->data, words, n, fn, ctx, e) < 0) {
		return -1;
	}
	s->pending++;
	return 0;
}

/* A reply came for S: false when nobody wants it any more; S may be gone then. */
static bool stream_took(struct redis_stream *s)
{
	s->pending--;
	if (s->store->closing) {
		return false; /* redis_streams_free sees to it */
	}
	if (s->over && s->pending == 0) {
		stream_free(s);
		return false;
	}
	return !s->over;
}

/* --- writing --- */

/* KEYS: upload. ARGV: its time to live, how much was sent before, the piece. 0 when that is not
 * what is there. (Room is not made in advance: measured, it takes as long, and stops the server
 * longer.) */
static const char put_script[] =
    "if redis.call('STRLEN',KEYS[1])~=tonumber(ARGV[2]) then return 0 end "
    "if #ARGV[3]>0 then redis.call('APPEND',KEYS[1],ARGV[3]) "
    "else redis.call('SET',KEYS[1],'') end "
    "redis.call('EXPIRE',KEYS[1],ARGV[1]) "
    "return 1";
/* KEYS: upload, bytes, index. ARGV: name, entry, most entries, size. 1, 0 when there is no room, -1
 * when the upload is gone. */
static const char commit_script[] =
    "if redis.call('EXISTS',KEYS[1])==0 or "
    "redis.call('STRLEN',KEYS[1])~=tonumber(ARGV[4]) then return -1 end "
    "if redis.call('HEXISTS',KEYS[3],ARGV[1])==0 and "
    "redis.call('HLEN',KEYS[3])>=tonumber(ARGV[3]) then return 0 end "
    "redis.call('RENAME',KEYS[1],KEYS[2]) "
    "redis.call('PERSIST',KEYS[2]) "
    "redis.call('HSET',KEYS[3],ARGV[1],ARGV[2]) "
    "return 1";

static void on_ignored(void *ctx, const redisReply *reply, const struct err *e)
{
	(void)ctx;
	(void)reply;
	(void)e;
}

/* What was sent so far goes, at once if it can be told to. */
static void drop_upload(struct writer *w)
{
	struct err e;
	if (w->s.size > 0 && w->sent > 0) {
		const struct redis_arg words[] = {
		    REDIS_TEXT("UNLINK"), REDIS_TEXT(buf_str(&w->upload))};
		(void)redis_conn_send(
		    w->s.store->data, words, array_len(words), on_ignored, NULL, &e);
	}
}

static void streams_soon(uv_timer_t *timer);

/* DONE is called in the loop's next turn, never from within store_writer_add. */
static void fail_writer(struct writer *w, const struct err *e)
{
	if (!w->s.failed) {
		w->s.failed = true;
		w->s.why = *e;
		w->due = true;
		drop_upload(w);
		(void)uv_timer_start(&w->s.store->soon, streams_soon, 0, 0);
	}
}

static void streams_soon(uv_timer_t *timer)
{
	struct redis_store *st = timer->data;
	for (struct redis_stream *s = st->streams; s != NULL; s = s->next) {
		struct writer *w = s->is_writer ? container_of(s, struct writer, s) : NULL;
		if (w != NULL && w->due) {
			w->due = false;
			/* Whoever is told may end other streams: begin again. */
			(void)uv_timer_start(&st->soon, streams_soon, 0, 0);
			store_get_fn told = s->told;
			void *ctx = s->ctx;
			struct err why = s->why;
			stream_end(s);
			told(ctx, NULL, &why);
			return;
		}
	}
}

static void on_committed(void *ctx, const redisReply *reply, const struct err *e)
{
	struct writer *w = ctx;
	struct err own;
	if (!stream_took(&w->s)) {
		return;
	}
	long long said = e == NULL && reply->type == REDIS_REPLY_INTEGER ? reply->integer : -1;
	if (e == NULL && said != 1) {
		e = &own;
		(void)(said == 0 ? err_set(&own, ERR_TOO_LARGE,
				       "the store holds at most %d of them", STORE_RECORDS_MAX)
				 : err_set(&own, ERR_UNAVAILABLE,
				       "the store lost what was written before its end"));
	}
	if (e != NULL) {
		fail_writer(w, e);
		return;
	}
	json_t *entry = redis_entry_parse(w->entry, strlen(w->entry));
	json_t *record = store_entry_record(entry, w->s.name, w->s.path, "bytes", w->s.size);
	store_get_fn told = w->s.told;
	void *told_ctx = w->s.ctx;
	stream_end(&w->s);
	told(told_ctx, record, NULL);
	json_decref(entry);
	json_decref(record);
}

static void pump(struct writer *w);

static void on_put(void *ctx, const redisReply *reply, const struct err *e)
{
	struct writer *w = ctx;
	struct err own;
	if (!stream_took(&w->s) || w->s.failed) {
		return;
	}
	if (e == NULL && (reply->type != REDIS_REPLY_INTEGER || reply->integer != 1)) {
		e = &own;
		(void)err_set(
		    &own, ERR_UNAVAILABLE, "the store lost what was written before its end");
	}
	if (e != NULL) {
		fail_writer(w, e);
		return;
	}
	pump(w);
	if (w->wants_room && w->s.bytes.len - w->s.at < PIECE_BYTES && w->room != NULL) {
		w->wants_room = false;
		w->room(w->s.ctx);
	}
}

static int send_piece(struct writer *w, const char *bytes, size_t len, struct err *e)
{
	char before[24];
	(void)snprintf(before, sizeof(before), "%" PRIu64, w->sent);
	const struct redis_arg words[] = {REDIS_TEXT("EVAL"), REDIS_TEXT(put_script),
	    REDIS_TEXT("1"), REDIS_TEXT(buf_str(&w->upload)), REDIS_TEXT(UPLOAD_SECONDS),
	    REDIS_TEXT(before), {bytes, len}};
	w->sent += len;
	return send_words(&w->s, words, array_len(words), on_put, w, e);
}

static int send_commit(struct writer *w, struct err *e)
{
	char size[24];
	char most[24];
	(void)snprintf(size, sizeof(size), "%" PRIu64, w->s.size);
	(void)snprintf(most, sizeof(most), "%d", STORE_RECORDS_MAX);
	const struct redis_arg words[] = {REDIS_TEXT("EVAL"), REDIS_TEXT(commit_script),
	    REDIS_TEXT("3"), REDIS_TEXT(buf_str(&w->upload)), REDIS_TEXT(w->s.path),
	    REDIS_TEXT(w->s.keys.first), REDIS_TEXT(w->s.name), REDIS_TEXT(w->entry),
	    REDIS_TEXT(most), REDIS_TEXT(size)};
	w->committing = true;
	return send_words(&w->s, words, array_len(words), on_committed, w, e);
}

/* What waits, or all but the last of it, to be moved to the front. */
static void compact(struct redis_stream *s)
{
	if (s->at == s->bytes.len) {
		buf_clear(&s->bytes);
		s->at = 0;
	} else if (s->at > s->bytes.len / 2) {
		buf_drop(&s->bytes, s->at);
		s->at = 0;
	}
}

/* Sends what may be sent now. */
static void pump(struct writer *w)
{
	struct redis_stream *s = &w->s;
	struct err e;
	bool whole = w->got == s->size;
	int r = 0;
	while (r == 0 && !s->failed && s->pending < PIECES_AHEAD) {
		size_t have = s->bytes.len - s->at;
		size_t piece = have < PIECE_BYTES ? have : PIECE_BYTES;
		if (have == 0 || (have < PIECE_BYTES && !whole)) {
			break;
		}
		r = send_piece(w, s->bytes.data + s->at, piece, &e);
		s->at += piece;
	}
	compact(s);
	if (r == 0 && !s->failed && whole && s->bytes.len == 0 && !w->committing) {
		r = s->size == 0 ? send_piece(w, "", 0, &e) : 0;
		r = r == 0 ? send_commit(w, &e) : r;
	}
	if (r < 0) {
		fail_writer(w, &e);
	}
}

bool redis_writer_add(struct store_writer *base, const char *bytes, size_t len)
{
	struct writer *w = container_of(base, struct writer, base);
	struct err e;
	if (w->s.failed || w->s.over) {
		return true; /* DONE says why */
	}
	if (len > w->s.size - w->got) {
		(void)err_set(&e, ERR_INVALID, "more bytes came than were announced");
		fail_writer(w, &e);
		return true;
	}
	if (buf_add(&w->s.bytes, bytes, len) < 0) {
		fail_writer(w, &out_of_memory);
		return true;
	}
	w->got += len;
	pump(w);
	w->wants_room = w->got < w->s.size && w->s.bytes.len - w->s.at >= PIECE_BYTES;
	return !w->wants_room;
}

void redis_writer_on_room(struct store_writer *w, void (*room)(void *ctx))
{
	container_of(w, struct writer, base)->room = room;
}

void redis_writer_abort(struct store_writer *base)
{
	struct writer *w = container_of(base, struct writer, base);
	w->due = false;
	if (!w->s.failed && !w->committing) {
		drop_upload(w);
	}
	stream_end(&w->s);
}

struct store_writer *redis_artifact_write(struct store *st, const struct store_space *space,
    const char *name, const json_t *info, uint64_t size, store_get_fn done, void *ctx)
{
	struct writer *w = calloc(1, sizeof(*w));
	json_t *entry = store_entry_new(info);
	cleanup(text_free) char *text = json_dumps(entry, JSON_COMPACT);
	struct err e;
	json_decref(entry);
	int r = w == NULL || text == NULL
		    ? err_set(&e, ERR_INTERNAL, "out of memory")
		    : stream_begin(&w->s, st, space, name, STORE_ARTIFACT_MAX_BYTES, &e);
	if (r < 0) {
		free(w);
		done(ctx, NULL, &e);
		return NULL;
	}
	w->base.ops = st->ops;
	w->s.is_writer = true;
	w->s.size = size;
	w->s.told = done;
	w->s.ctx = ctx;
	w->entry = steal(&text);
	w->upload = BUF_INIT(2 * REDIS_KEY_MAX_BYTES);
	if (redis_key_upload(&w->s.keys, &w->upload) < 0) {
		fail_writer(w, &out_of_memory);
	} else {
		pump(w);
	}
	return &w->base;
}

/* --- reading --- */

/* KEYS: bytes, index. ARGV: name, how many bytes. {digest of the entry, entry, size, bytes}, or
 * nothing. */
static const char open_script[] = "if redis.call('EXISTS',KEYS[1])==0 then return false end "
				  "local entry=redis.call('HGET',KEYS[2],ARGV[1]) or '' "
				  "return {redis.sha1hex(entry),entry,redis.call('STRLEN',KEYS[1]),"
				  "redis.call('GETRANGE',KEYS[1],0,tonumber(ARGV[2])-1)}";
/* ARGV: name, digest, size, from, to. The bytes, or nothing when it is not the same any more. */
static const char piece_script[] =
    "if redis.call('STRLEN',KEYS[1])~=tonumber(ARGV[3]) or "
    "redis.sha1hex(redis.call('HGET',KEYS[2],ARGV[1]) or '')~=ARGV[2] then return false end "
    "return redis.call('GETRANGE',KEYS[1],ARGV[4],ARGV[5])";

static void tell_more(struct reader *r)
{
	if (r->more != NULL) {
		r->more(r->s.ctx);
	}
}

static void on_piece(void *ctx, const redisReply *reply, const struct err *e)
{
	struct reader *r = ctx;
	if (!stream_took(&r->s)) {
		return;
	}
	r->fetching = false;
	compact(&r->s);
	if (e != NULL || reply->type != REDIS_REPLY_STRING || reply->len == 0 ||
	    buf_add(&r->s.bytes, reply->str, reply->len) < 0) {
		r->s.failed = true;
	} else {
		r->fetched += reply->len;
	}
	tell_more(r);
}

static void fetch(struct reader *r)
{
	char size[24];
	char from[24];
	char to[24];
	struct err e;
	if (!r->opened || r->fetching || r->s.failed || r->fetched >= r->s.size ||
	    r->s.bytes.len - r->s.at >= PIECE_BYTES) {
		return;
	}
	(void)snprintf(size, sizeof(size), "%" PRIu64, r->s.size);
	(void)snprintf(from, sizeof(from), "%" PRIu64, r->fetched);
	(void)snprintf(to, sizeof(to), "%" PRIu64, r->fetched + PIECE_BYTES - 1);
	const struct redis_arg words[] = {REDIS_TEXT("EVAL"), REDIS_TEXT(piece_script),
	    REDIS_TEXT("2"), REDIS_TEXT(r->s.path), REDIS_TEXT(r->s.keys.first),
	    REDIS_TEXT(r->s.name), REDIS_TEXT(r->digest), REDIS_TEXT(size), REDIS_TEXT(from),
	    REDIS_TEXT(to)};
	r->fetching = send_words(&r->s, words, array_len(words), on_piece, r, &e) == 0;
	r->s.failed = !r->fetching;
}

/* The reply of open_script into R. NULL when it is not what it should be. */
static json_t *open_reply(struct reader *r, const redisReply *reply)
{
	if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 4 ||
	    reply->element[0]->type != REDIS_REPLY_STRING ||
	    reply->element[0]->len >= sizeof(r->digest) ||
	    reply->element[2]->type != REDIS_REPLY_INTEGER || reply->element[2]->integer < 0 ||
	    reply->element[3]->type != REDIS_REPLY_STRING) {
		return NULL;
	}
	memcpy(r->digest, reply->element[0]->str, reply->element[0]->len + 1);
	r->s.size = (uint64_t)reply->element[2]->integer;
	if (buf_add(&r->s.bytes, reply->element[3]->str, reply->element[3]->len) < 0) {
		return NULL;
	}
	r->fetched = reply->element[3]->len;
	return redis_artifact_record(
	    r->s.name, r->s.path, reply->element[1], r->s.size, reply->element[3]);
}

static void on_opened(void *ctx, const redisReply *reply, const struct err *e)
{
	struct reader *r = ctx;
	if (!stream_took(&r->s)) {
		return;
	}
	json_t *record = e == NULL ? open_reply(r, reply) : NULL;
	r->opened = record != NULL;
	r->s.failed = record == NULL;
	fetch(r);
	r->s.told(r->s.ctx, record, e);
	json_decref(record);
}

struct store_reader *redis_artifact_read(struct store *st, const struct store_space *space,
    const char *name, store_get_fn opened, void *ctx)
{
	struct reader *r = calloc(1, sizeof(*r));
	struct err e;
	char piece[24];
	int failed = r == NULL ? err_set(&e, ERR_INTERNAL, "out of memory")
			       : stream_begin(&r->s, st, space, name, 4 * PIECE_BYTES, &e);
	if (failed < 0) {
		free(r);
		opened(ctx, NULL, &e);
		return NULL;
	}
	r->base.ops = st->ops;
	r->s.told = opened;
	r->s.ctx = ctx;
	(void)snprintf(piece, sizeof(piece), "%u", PIECE_BYTES);
	const struct redis_arg words[] = {REDIS_TEXT("EVAL"), REDIS_TEXT(open_script),
	    REDIS_TEXT("2"), REDIS_TEXT(r->s.path), REDIS_TEXT(r->s.keys.first), REDIS_TEXT(name),
	    REDIS_TEXT(piece)};
	if (send_words(&r->s, words, array_len(words), on_opened, r, &e) < 0) {
		stream_free(&r->s);
		opened(ctx, NULL, &e);
		return NULL;
	}
	return &r->base;
}

ssize_t redis_reader_read(struct store_reader *base, char *out, size_t max)
{
	struct reader *r = container_of(base, struct reader, base);
	size_t have = r->s.bytes.len - r->s.at;
	size_t n = have < max ? have : max;
	if (n > 0) {
		memcpy(out, r->s.bytes.data + r->s.at, n);
		r->s.at += n;
		r->given += n;
		fetch(r);
		return (ssize_t)n;
	}
	fetch(r);
	return r->s.failed || (r->opened && r->given == r->s.size) ? -1 : 0;
}

void redis_reader_on_more(struct store_reader *r, void (*more)(void *ctx))
{
	container_of(r, struct reader, base)->more = more;
}

void redis_reader_close(struct store_reader *r)
{
	stream_end(&container_of(r, struct reader, base)->s);
}
