#include "store/redis_conn.h"

#include <hiredis/read.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

#define RETRY_FIRST_MS 50
#define RETRY_MAX_MS 2000
/* However slowly bytes trickle. */
#define ANSWER_MAX_MS 60000
/* A connection that served this long is worth a new one at once. */
#define STEADY_MS 1000

enum state {
	WAITING, /* for the next attempt */
	OPENING, /* connecting, then the greeting */
	UP,
};

struct pending {
	struct pending *next;
	redis_reply_fn fn;
	void *ctx;
	uint64_t since_ms;
};

struct queue {
	struct pending *first, *last;
	size_t count;
};

struct redis_conn {
	uv_loop_t *loop;
	const struct redis_url *url;
	struct redis_tls *tls;
	const struct redis_conn_events *events;
	void *ctx;

	enum state state;
	bool down;   /* the last attempt failed: commands are refused */
	bool broken; /* to be dropped as soon as nobody is inside */
	bool freeing;
	bool late;      /* the time is up; what the socket holds is looked at once more */
	struct err why; /* of DOWN and BROKEN */
	uint64_t up_since_ms;
	uint32_t retry_ms;
	uv_timer_t timer;

	struct redis_link *link;
	redisReader *reader;
	size_t unanswered_bytes; /* came since the last whole reply */
	struct queue sent;       /* in the order of their replies */
	struct queue held;       /* until the greeting is over, with the bytes in BACKLOG */
	struct buf backlog;
};

static void on_timer(uv_timer_t *timer);

/* --- pending commands --- */

static void queue_add(struct queue *q, struct pending *p)
{
	p->next = NULL;
	if (q->first == NULL) {
		q->first = p;
	} else {
		q->last->next = p;
	}
	q->last = p;
	q->count++;
}

static struct pending *queue_take(struct queue *q)
{
	struct pending *p = q->first;
	if (p != NULL) {
		q->first = p->next;
		q->count--;
	}
	return p;
}

static void answer(struct pending *p, const redisReply *reply, const struct err *e)
{
	p->fn(p->ctx, reply, e);
	free(p);
}

static void fail_all(struct queue *from, const struct err *e)
{
	struct queue q = *from;
	*from = (struct queue){0};
	for (struct pending *p; (p = queue_take(&q)) != NULL;) {
		answer(p, NULL, e);
	}
}

static void say_unreachable(const struct redis_conn *c, struct err *e)
{
	(void)err_set(e, ERR_UNAVAILABLE, "the store cannot be reached: %.400s", c->why.text);
}

/* --- up and down --- */

static void wake_in(struct redis_conn *c, uint64_t ms)
{
	(void)uv_timer_start(&c->timer, on_timer, ms, 0);
}

static void drop(struct redis_conn *c)
{
	bool was_up = c->state == UP;
	bool steady = was_up && uv_now(c->loop) - c->up_since_ms >= STEADY_MS;
	redis_link_free(steal(&c->link));
	if (c->reader != NULL) {
		redisReaderFree(steal(&c->reader));
	}
	buf_fini(&c->backlog);
	c->state = WAITING;
	c->broken = c->late = false;
	c->down = !steady;
	if (steady) {
		c->retry_ms = RETRY_FIRST_MS;
		wake_in(c, 0);
	} else {
		wake_in(c, c->retry_ms);
		c->retry_ms = c->retry_ms * 2 < RETRY_MAX_MS ? c->retry_ms * 2 : RETRY_MAX_MS;
	}
	struct err e, lost;
	say_unreachable(c, &e);
	(void)err_set(&lost, ERR_UNAVAILABLE,
	    "the store was lost before it answered: a change may have been made, or not: %.400s",
	    c->why.text);
	struct queue held = c->held;
	c->held = (struct queue){0};
	if (was_up && c->events->down != NULL) {
		c->events->down(c->ctx);
	}
	fail_all(&c->sent, &lost);
	fail_all(&held, &e);
}

/* Lets go of the connection in the loop's next turn, or when the reading that goes on is over. */
static void break_off(struct redis_conn *c, const char *why)
{
	if (!c->broken) {
		c->broken = true;
		(void)err_set(&c->why, ERR_UNAVAILABLE, "%.400s", why);
		wake_in(c, 0);
	}
}

static void up(struct redis_conn *c)
{
	c->state = UP;
	c->down = false;
	c->up_since_ms = uv_now(c->loop);
	c->retry_ms = RETRY_FIRST_MS;
	wake_in(c, REDIS_TIMEOUT_MS);
	if (c->events->up != NULL) {
		c->events->up(c->ctx);
	}
	/* What waited comes after what the event sent. */
	struct err e;
	if (c->backlog.len > 0 &&
	    redis_link_put(c->link, c->backlog.data, c->backlog.len, &e) < 0) {
		break_off(c, e.text);
	}
	buf_fini(&c->backlog);
	for (struct pending *p; (p = queue_take(&c->held)) != NULL;) {
		queue_add(&c->sent, p);
	}
}

/* --- sending --- */

/* The command's bytes, from hiredis, to be freed; NULL when memory is out. */
static char *format(const struct redis_arg *args, size_t n, size_t *len)
{
	const char *words[REDIS_ARGS_MAX];
	size_t lens[REDIS_ARGS_MAX];
	for (size_t i = 0; i < n; i++) {
		words[i] = args[i].bytes;
		lens[i] = args[i].len;
	}
	char *out = NULL;
	long long made = redisFormatCommandArgv(&out, (int)n, words, lens);
	*len = made < 0 ? 0 : (size_t)made;
	return made < 0 ? NULL : out;
}

static int put(struct redis_conn *c, const char *bytes, size_t len, bool now, struct err *e)
{
	if (now) {
		if (redis_link_put(c->link, bytes, len, e) < 0) {
			break_off(c, e->text);
			say_unreachable(c, e);
			return -1;
		}
		return 0;
	}
	if (buf_add(&c->backlog, bytes, len) < 0) {
		return err_set(e, ERR_UNAVAILABLE, "too much waits for the store");
	}
	return 0;
}

/* NOW: on the link as it is, even in the greeting. */
static int send_command(struct redis_conn *c, const struct redis_arg *args, size_t n, bool now,
    redis_reply_fn fn, void *ctx, struct err *e)
{
	if (c->sent.count + c->held.count >= REDIS_PENDING_MAX) {
		return err_set(e, ERR_UNAVAILABLE, "too many requests wait for the store");
	}
	size_t len = 0;
	char *bytes = n > 0 && n <= REDIS_ARGS_MAX ? format(args, n, &len) : NULL;
	struct pending *p = calloc(1, sizeof(*p));
	if (bytes == NULL || p == NULL || put(c, bytes, len, now, e) < 0) {
		bool memory = bytes == NULL || p == NULL;
		free(bytes);
		free(p);
		return memory ? err_set(e, ERR_UNAVAILABLE, "out of memory") : -1;
	}
	/* hiredis has its own name for free, which is free. */
	free(bytes);
	*p = (struct pending){.fn = fn, .ctx = ctx, .since_ms = uv_now(c->loop)};
	queue_add(now ? &c->sent : &c->held, p);
	if (c->state == UP && c->sent.count == 1) {
		wake_in(c, REDIS_TIMEOUT_MS);
	}
	return 0;
}

int redis_conn_send(struct redis_conn *c, const struct redis_arg *args, size_t n, redis_reply_fn fn,
    void *ctx, struct err *e)
{
	if (c->freeing) {
		return err_set(e, ERR_GONE, "the store is closed");
	}
	if (c->down || c->broken) {
		say_unreachable(c, e);
		return -1;
	}
	return send_command(c, args, n, c->state == UP, fn, ctx, e);
}

/* --- the greeting --- */

static void on_told(void *ctx, const redisReply *reply, const struct err *e)
{
	struct redis_conn *c = ctx;
	(void)reply;
	if (e != NULL && !c->freeing) {
		break_off(c, e->text);
	}
}

static void on_ignored(void *ctx, const redisReply *reply, const struct err *e)
{
	(void)ctx;
	(void)reply;
	(void)e;
}

/* The last of the greeting: it serves. */
static void on_greeted(void *ctx, const redisReply *reply, const struct err *e)
{
	struct redis_conn *c = ctx;
	on_told(ctx, reply, e);
	if (e == NULL && !c->broken) {
		up(c);
	}
}

static int greet_word(
    struct redis_conn *c, redis_reply_fn fn, const char *const *words, struct err *e)
{
	struct redis_arg args[4];
	size_t n = 0;
	for (; n < array_len(args) && words[n] != NULL; n++) {
		args[n] = REDIS_TEXT(words[n]);
	}
	return send_command(c, args, n, true, fn, c, e);
}

#define GREET(c, fn, e, ...) greet_word((c), (fn), (const char *const[]){__VA_ARGS__, NULL}, (e))

static int greet(struct redis_conn *c, struct err *e)
{
	const struct redis_url *u = c->url;
	char db[16];
	(void)snprintf(db, sizeof(db), "%u", u->db);
	int r = 0;
	if (u->user != NULL) {
		r = GREET(c, on_told, e, "AUTH", u->user, u->password);
	} else if (u->password != NULL) {
		r = GREET(c, on_told, e, "AUTH", u->password);
	}
	if (r == 0 && u->db != 0) {
		r = GREET(c, on_told, e, "SELECT", db);
	}
	r = r == 0 ? GREET(c, on_ignored, e, "CLIENT", "SETNAME", "carrel") : r;
	return r == 0 ? GREET(c, on_greeted, e, "PING") : r;
}

/* --- receiving --- */

/* What an error means to the one who asked, and whether another connection may find it otherwise:
 * after a failover the old one leads to a replica. Source: the prefixes of Redis's errors. */
static const struct refusal {
	const char *prefix;
	bool reconnect;
} refusals[] = {
    {"LOADING ", true},
    {"MASTERDOWN ", true},
    {"READONLY ", true},
    {"NOAUTH ", true},
    {"WRONGPASS ", false},
    {"NOPERM ", false},
    {"OOM ", false},
    {"MISCONF ", false},
    {"BUSY ", false},
    {"NOREPLICAS ", false},
    {"CLUSTERDOWN ", false},
    {"MOVED ", false},
};

static void on_error(struct redis_conn *c, struct pending *p, const char *text)
{
	struct err e;
	for (size_t i = 0; i < array_len(refusals); i++) {
		if (text_has_prefix(text, refusals[i].prefix)) {
			(void)err_set(
			    &e, ERR_UNAVAILABLE, "the store does not serve: %.200s", text);
			if (refusals[i].reconnect) {
				break_off(c, text);
			}
			answer(p, NULL, &e);
			return;
		}
	}
	(void)err_set(&e, ERR_INTERNAL, "the store refuses: %.200s", text);
	answer(p, NULL, &e);
}

static bool is_message(const redisReply *r)
{
	return r->type == REDIS_REPLY_ARRAY && r->elements > 0 &&
	       r->element[0]->type == REDIS_REPLY_STRING &&
	       strcmp(r->element[0]->str, "message") == 0;
}

static void on_reply(struct redis_conn *c, const redisReply *r)
{
	if (c->events->message != NULL && is_message(r)) {
		c->events->message(c->ctx, r);
		return;
	}
	struct pending *p = queue_take(&c->sent);
	if (p == NULL) {
		break_off(c, r->type == REDIS_REPLY_ERROR ? r->str : "an answer nobody asked for");
	} else if (r->type == REDIS_REPLY_ERROR) {
		on_error(c, p, r->str);
	} else {
		answer(p, r, NULL);
	}
}

static void on_bytes(void *ctx, const char *bytes, size_t len)
{
	struct redis_conn *c = ctx;
	c->late = false;
	c->unanswered_bytes += len;
	if (redisReaderFeed(c->reader, bytes, len) != REDIS_OK) {
		break_off(c, "its answer cannot be held");
	}
	while (!c->broken && !c->freeing) {
		void *reply = NULL;
		if (redisReaderGetReply(c->reader, &reply) != REDIS_OK) {
			break_off(c, "it does not speak Redis's protocol");
			break;
		}
		if (reply == NULL) {
			break;
		}
		c->unanswered_bytes = c->reader->len - c->reader->pos;
		on_reply(c, reply);
		freeReplyObject(reply);
	}
	if (!c->broken && c->unanswered_bytes > REDIS_REPLY_MAX_BYTES) {
		break_off(c, "its answer is too large");
	}
}

/* hiredis's own, but for arrays it would take any number of elements. */
#if HIREDIS_MAJOR >= 1
typedef size_t element_count;
#else
typedef int element_count;
#endif

static redisReplyObjectFunctions functions;
static void *(*make_array)(const redisReadTask *, element_count);

static void *make_bounded_array(const redisReadTask *task, element_count elements)
{
	return elements > REDIS_ELEMENTS_MAX ? NULL : make_array(task, elements);
}

static redisReader *reader_new(void)
{
	redisReader *r = redisReaderCreate();
	if (r != NULL) {
		functions = *r->fn;
		make_array = functions.createArray;
		functions.createArray = make_bounded_array;
		r->fn = &functions;
	}
	return r;
}

/* --- the link --- */

static void on_open(void *ctx)
{
	struct redis_conn *c = ctx;
	struct err e;
	c->reader = reader_new();
	c->unanswered_bytes = 0;
	if (c->reader == NULL) {
		break_off(c, "out of memory");
	} else if (greet(c, &e) < 0) {
		break_off(c, e.text);
	}
}

static void on_lost(void *ctx, const struct err *e)
{
	struct redis_conn *c = ctx;
	if (!c->broken) {
		c->why = *e;
	}
	drop(c);
}

static void dial(struct redis_conn *c)
{
	static const struct redis_link_events events = {on_open, on_bytes, on_lost};
	c->state = OPENING;
	c->link = redis_link_new(c->loop, c->url, c->tls, &events, c);
	if (c->link == NULL) {
		(void)err_set(&c->why, ERR_UNAVAILABLE, "out of memory");
		drop(c);
		return;
	}
	wake_in(c, REDIS_TIMEOUT_MS);
}

/* --- time --- */

/* The attempt takes too long. A lookup cannot be stopped, and is waited for rather than begun again
 * beside itself. */
static void give_up_attempt(struct redis_conn *c)
{
	(void)err_set(
	    &c->why, ERR_UNAVAILABLE, "no connection within %d s", REDIS_TIMEOUT_MS / 1000);
	if (!redis_link_is_resolving(c->link)) {
		drop(c);
		return;
	}
	struct err e;
	c->down = true;
	buf_fini(&c->backlog);
	say_unreachable(c, &e);
	wake_in(c, REDIS_TIMEOUT_MS);
	fail_all(&c->held, &e);
}

static void look_after(struct redis_conn *c)
{
	uint64_t now = uv_now(c->loop);
	uint64_t moved = redis_link_moved_ms(c->link);
	const struct pending *oldest = c->sent.first;
	if (oldest == NULL) {
		struct err e;
		uint64_t idle = now - moved;
		if (idle < REDIS_IDLE_PING_MS) {
			wake_in(c, REDIS_IDLE_PING_MS - idle);
		} else if (GREET(c, on_ignored, &e, "PING") < 0) {
			break_off(c, e.text);
		}
		return;
	}
	uint64_t since = oldest->since_ms > moved ? oldest->since_ms : moved;
	if (now - since < REDIS_TIMEOUT_MS && now - oldest->since_ms < ANSWER_MAX_MS) {
		wake_in(c, REDIS_TIMEOUT_MS - (now - since));
		return;
	}
	/* If it was this process that stood still, the answer is there and was not read yet. */
	if (!c->late) {
		c->late = true;
		wake_in(c, 1);
		return;
	}
	(void)err_set(&c->why, ERR_UNAVAILABLE, "no answer within %d s", REDIS_TIMEOUT_MS / 1000);
	drop(c);
}

static void on_timer(uv_timer_t *timer)
{
	struct redis_conn *c = timer->data;
	if (c->broken && c->state != WAITING) {
		drop(c);
	} else if (c->state == WAITING) {
		dial(c);
	} else if (c->state == OPENING) {
		give_up_attempt(c);
	} else {
		look_after(c);
	}
}

/* --- life --- */

struct redis_conn *redis_conn_new(uv_loop_t *loop, const struct redis_url *url,
    struct redis_tls *tls, const struct redis_conn_events *events, void *ctx)
{
	struct redis_conn *c = calloc(1, sizeof(*c));
	if (c == NULL) {
		return NULL;
	}
	c->loop = loop;
	c->url = url;
	c->tls = tls;
	c->events = events;
	c->ctx = ctx;
	c->retry_ms = RETRY_FIRST_MS;
	c->backlog = BUF_INIT(REDIS_SEND_MAX_BYTES);
	(void)uv_timer_init(loop, &c->timer);
	c->timer.data = c;
	wake_in(c, 0);
	return c;
}

static void on_closed(uv_handle_t *handle)
{
	free(handle->data);
}

void redis_conn_free(struct redis_conn *c)
{
	if (c == NULL) {
		return;
	}
	struct err e;
	(void)err_set(&e, ERR_GONE, "the store is closed");
	c->freeing = true;
	redis_link_free(steal(&c->link));
	if (c->reader != NULL) {
		redisReaderFree(steal(&c->reader));
	}
	fail_all(&c->sent, &e);
	fail_all(&c->held, &e);
	buf_fini(&c->backlog);
	uv_close((uv_handle_t *)&c->timer, on_closed);
}

bool redis_conn_is_up(const struct redis_conn *c)
{
	return c->state == UP && !c->broken;
}
