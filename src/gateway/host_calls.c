/* Host calls of one link: engine/host_call.h says what they are and what bounds them. */
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/clock.h"
#include "base/log.h"
#include "gateway/internal.h"

#define LOW_BYTES (256U << 10) /* an outbox that is longer takes no more bytes of a source */
#define TURN_BYTES (1U << 20)  /* moved in one turn of the loop, so that others have theirs */
#define CALL_SLACK_BYTES 256   /* of a HOST_CALL: the method, and lengths */

static const char nobody[] = "{\"error\": \"RuntimeError\", \"message\": \"this server offers no "
			     "tools, skills, artifacts or dependencies\"}";
static const char too_many[] = "{\"error\": \"TooManyCalls\", \"message\": \"64 calls of this "
			       "session are waiting already\"}";
static const char too_large[] = "{\"error\": \"RuntimeError\", \"message\": \"the answer is larger "
				"than 8 MiB\"}";
static const char no_room[] = "{\"error\": \"TooManyCalls\", \"message\": \"the server holds as "
			      "many answers as it may; take some first\"}";
static const char cut[] = "{\"error\": \"StorageError\", \"message\": \"the bytes could not be "
			  "read to the end\"}";
/* What the signal raises, which may come after this answer. */
static const char interrupted[] = "{\"error\": \"KeyboardInterrupt\", \"message\": \"\"}";

enum step {
	STEP_ASKED,    /* the handler has it */
	STEP_REPLYING, /* its answer waits in REPLY */
	STEP_SENDING,  /* bytes follow, from SOURCE */
};

struct pending {
	struct host_call call; /* first: the handler's pointer is to it */
	struct link *link;
	enum step step;
	bool ok;
	bool full; /* no more HOST_PUT until it is resumed */
	bool dry;  /* SOURCE had nothing; until it is resumed */
	struct buf reply;
	struct host_source *source;
	uint64_t begun_us;
};

struct host_calls {
	struct host_call *list;
	unsigned count;
	unsigned full_count;
	size_t reply_bytes; /* its part of gateway.replies */
	/* The last calls that were refused while bytes for them may be on their way. */
	uint64_t refused[HOST_CALLS_MAX];
	unsigned refused_count;
};

static struct pending *pending_of(struct host_call *c)
{
	return container_of(c, struct pending, call);
}

static struct pending *find(const struct link *l, uint64_t id)
{
	struct host_call *c = NULL;
	if (l->calls != NULL) {
		DL_SEARCH_SCALAR(l->calls->list, c, id, id);
	}
	return c == NULL ? NULL : pending_of(c);
}

static void remember_refused(struct host_calls *h, uint64_t id)
{
	h->refused[h->refused_count++ % HOST_CALLS_MAX] = id;
}

static bool was_refused(const struct host_calls *h, uint64_t id)
{
	unsigned count = h->refused_count < HOST_CALLS_MAX ? h->refused_count : HOST_CALLS_MAX;
	for (unsigned i = 0; i < count; i++) {
		if (h->refused[i] == id) {
			return true;
		}
	}
	return false;
}

static void count(const struct pending *p, enum host_outcome outcome)
{
	const struct host_call *c = &p->call;
	uint64_t us = clock_mono_us() - p->begun_us;
	metrics_host_call(&c->worker->pool->metrics, c->method, outcome, us);
	log_event(LOG_LEVEL_DEBUG, "host_call", LOG_STR("method", c->method),
	    LOG_STR("outcome", host_outcome_name(outcome)), LOG_INT("us", us),
	    LOG_INT("worker", c->worker->id));
}

static void set_full(struct pending *p, bool full)
{
	if (p->full != full) {
		p->full = full;
		p->link->calls->full_count += full ? 1U : -1U;
	}
}

static void drop_reply(struct pending *p)
{
	p->link->calls->reply_bytes -= p->reply.len;
	quota_release(&p->link->gateway->replies, p->call.worker->tenant, p->reply.len);
	buf_fini(&p->reply);
}

static void pending_free(struct pending *p)
{
	struct host_calls *h = p->link->calls;
	set_full(p, false);
	drop_reply(p);
	if (p->source != NULL) {
		p->source->close(p->source);
	}
	DL_DELETE(h->list, &p->call);
	h->count--;
	free(p);
}

/* --- answers -------------------------------------------------------------------------------------
 */

/* Whatever fails here is found by on_control: this may be deep inside the handler. */
static void put_out(struct link *l, uint32_t type, uint64_t id, const char *body, size_t len)
{
	if (ipc_outbox_send(&l->outbox, l->control, type, id, body, len) < 0) {
		l->send_failed = true;
	}
}

static void send_reply(struct link *l, uint64_t id, bool ok, const char *json, size_t len)
{
	struct ipc_host_reply x = {.ok = ok, .json = {json, len}};
	cleanup(buf_fini) struct buf body = BUF_INIT(HOST_CALL_MAX_BYTES + CALL_SLACK_BYTES);
	if (ipc_host_reply_encode(&x, &body) < 0) {
		l->send_failed = true;
		return;
	}
	put_out(l, IPC_HOST_REPLY, id, body.data, body.len);
}

/* The answer has gone out: its bytes follow, or it is done. */
static void reply_sent(struct pending *p)
{
	if (p->source != NULL && p->source->left > 0) {
		p->step = STEP_SENDING;
	} else {
		pending_free(p);
	}
}

/* Keeps a copy of an answer that cannot be sent now. */
static bool keep_reply(struct pending *p, const char *json, size_t len)
{
	struct gateway *g = p->link->gateway;
	struct host_calls *h = p->link->calls;
	const char *tenant = p->call.worker->tenant;
	if (h->reply_bytes + len > GATEWAY_REPLIES_MAX_BYTES ||
	    quota_charge(&g->replies, tenant, len) < 0) {
		return false;
	}
	p->reply = BUF_INIT(len);
	if (buf_add(&p->reply, json, len) < 0) {
		buf_fini(&p->reply);
		quota_release(&g->replies, tenant, len);
		return false;
	}
	h->reply_bytes += len;
	return true;
}

static void answer(
    struct pending *p, bool ok, const char *json, size_t len, struct host_source *source)
{
	struct link *l = p->link;
	set_full(p, false);
	count(p, ok ? HOST_OUTCOME_OK : HOST_OUTCOME_ERROR);
	if (!ok || p->call.put_left > 0) {
		remember_refused(l->calls, p->call.id);
	}
	p->ok = ok;
	p->source = source;
	if (!ok && source != NULL) {
		source->close(source);
		p->source = NULL;
	}
	p->step = STEP_REPLYING;
	if (l->outbox.bytes.len >= LOW_BYTES && keep_reply(p, json, len)) {
		return;
	}
	if (l->outbox.bytes.len >= LOW_BYTES) {
		/* A few bytes have room still, whatever else waits. */
		if (p->source != NULL) {
			p->source->close(p->source);
			p->source = NULL;
		}
		p->ok = false;
		json = no_room;
		len = sizeof(no_room) - 1;
	}
	send_reply(l, p->call.id, p->ok, json, len);
	reply_sent(p);
}

void host_call_reply(
    struct host_call *c, bool ok, const char *json, size_t len, struct host_source *source)
{
	struct pending *p = pending_of(c);
	struct link *l = p->link;
	if (len > HOST_CALL_MAX_BYTES || memchr(json, '\0', len) != NULL) {
		if (source != NULL) {
			source->close(source);
		}
		answer(p, false, too_large, sizeof(too_large) - 1, NULL);
	} else {
		answer(p, ok, json, len, source);
	}
	link_watch(l);
}

void host_call_resume(struct host_call *c)
{
	struct pending *p = pending_of(c);
	p->dry = false;
	set_full(p, false);
	link_watch(p->link);
}

/* --- sending, as the socket takes it -------------------------------------------------------------
 */

/* Sends the next piece of P's bytes: how many, 0 when there is none now. P may be gone after it. */
static size_t send_piece(struct pending *p)
{
	static char bytes[IPC_PIECE_BYTES]; /* one loop, one thread */
	struct host_source *s = p->source;
	size_t max = s->left < sizeof(bytes) ? (size_t)s->left : sizeof(bytes);
	ssize_t n = s->read(s, bytes, max);
	if (n == 0) {
		p->dry = true;
		return 0;
	}
	if (n < 0 || (size_t)n > max) {
		send_reply(p->link, p->call.id, false, cut, sizeof(cut) - 1);
		pending_free(p);
		return sizeof(cut);
	}
	put_out(p->link, IPC_HOST_BYTES, p->call.id, bytes, (size_t)n);
	s->left -= (uint64_t)n;
	if (s->left == 0) {
		pending_free(p);
	}
	return (size_t)n;
}

static size_t send_next(struct pending *p)
{
	if (p->step == STEP_REPLYING) {
		size_t len = p->reply.len;
		send_reply(p->link, p->call.id, p->ok, buf_str(&p->reply), len);
		drop_reply(p);
		reply_sent(p);
		return len + 1;
	}
	return p->step == STEP_SENDING && !p->dry ? send_piece(p) : 0;
}

void host_calls_pump(struct link *l)
{
	struct host_calls *h = l->calls;
	size_t moved = 0;
	for (unsigned idle = 0; h != NULL && idle < h->count;) {
		if (l->outbox.bytes.len >= LOW_BYTES || l->send_failed || moved >= TURN_BYTES) {
			return;
		}
		/* Each in turn: the first goes to the end. */
		struct host_call *c = h->list;
		DL_DELETE(h->list, c);
		DL_APPEND(h->list, c);
		size_t n = send_next(pending_of(c));
		moved += n;
		idle = n > 0 ? 0 : idle + 1;
	}
}

bool host_calls_have_more(const struct link *l)
{
	struct host_call *c;
	if (l->calls == NULL) {
		return false;
	}
	DL_FOREACH(l->calls->list, c)
	{
		const struct pending *p = pending_of(c);
		if (p->step == STEP_REPLYING || (p->step == STEP_SENDING && !p->dry)) {
			return true;
		}
	}
	return false;
}

bool host_calls_are_full(const struct link *l)
{
	return l->calls != NULL && l->calls->full_count > 0;
}

/* --- what the session sends ----------------------------------------------------------------------
 */

static struct host_calls *calls_of(struct link *l)
{
	if (l->calls == NULL) {
		l->calls = calloc(1, sizeof(*l->calls));
	}
	return l->calls;
}

/* A method is a word of the table in codemode/codemode.h; what is none of its shape is no call. */
static bool method_is_sane(const char *method)
{
	size_t len = strlen(method);
	return len > 0 && len <= HOST_METHOD_MAX &&
	       strspn(method, "abcdefghijklmnopqrstuvwxyz_.") == len;
}

static void refuse(struct link *l, const struct ipc_host_call *x, uint64_t id, const char *why)
{
	remember_refused(l->calls, id);
	metrics_host_call(&l->worker->pool->metrics, x->method, HOST_OUTCOME_REFUSED, 0);
	send_reply(l, id, false, why, strlen(why));
	link_watch(l);
}

/* Nothing more is read from the session until P is resumed or answered. */
static void stop_reading(struct pending *p)
{
	struct link *l = p->link;
	set_full(p, true);
	if (l->worker->session->queue->stopping != VERDICT_NONE) {
		host_calls_interrupt(l);
	}
	link_watch(l);
}

static void begin(struct link *l, const struct ipc_host_call *x, uint64_t id)
{
	struct gateway *g = l->gateway;
	struct pending *p = calloc(1, sizeof(*p));
	if (p == NULL) {
		refuse(l, x, id, no_room);
		return;
	}
	p->link = l;
	p->begun_us = clock_mono_us();
	p->call.id = id;
	p->call.worker = l->worker;
	(void)memccpy(p->call.method, x->method, '\0', sizeof(p->call.method) - 1);
	p->call.arguments = x->json.data;
	p->call.arguments_len = x->json.len;
	DL_APPEND(l->calls->list, &p->call);
	l->calls->count++;
	g->host_calls->begin(g->host_calls_ctx, &p->call);
	/* It may have been answered, and be gone. */
	p = find(l, id);
	if (p != NULL) {
		p->call.arguments = NULL;
		p->call.arguments_len = 0;
	}
	if (p != NULL && p->call.waits && p->step == STEP_ASKED) {
		stop_reading(p);
	}
}

static void on_call(struct link *l, const struct ipc_message *m)
{
	struct ipc_host_call x;
	if (ipc_host_call_decode(&m->body, &x) < 0 || !method_is_sane(x.method) ||
	    x.json.len > HOST_CALL_MAX_BYTES || find(l, m->ref) != NULL) {
		link_broken(l, "malformed host call");
		return;
	}
	struct host_calls *h = calls_of(l);
	if (h == NULL) {
		link_broken(l, "out of memory");
	} else if (l->gateway->host_calls == NULL) {
		refuse(l, &x, m->ref, nobody);
	} else if (h->count >= HOST_CALLS_MAX) {
		refuse(l, &x, m->ref, too_many);
	} else {
		begin(l, &x, m->ref);
	}
}

static void on_put(struct link *l, const struct ipc_message *m)
{
	struct gateway *g = l->gateway;
	struct pending *p = find(l, m->ref);
	bool asked = p != NULL && p->step == STEP_ASKED;
	if (!asked && l->calls != NULL && was_refused(l->calls, m->ref)) {
		return; /* sent before it could know */
	}
	if (!asked || m->body.len == 0 || m->body.len > p->call.put_left) {
		link_broken(l, "bytes that nobody asked for");
		return;
	}
	p->call.put_left -= m->body.len;
	bool more = g->host_calls->put(g->host_calls_ctx, &p->call, m->body.data, m->body.len);
	p = find(l, m->ref);
	if (!more && p != NULL && link_is_executing(l) && p->step == STEP_ASKED &&
	    p->call.put_left > 0) {
		stop_reading(p);
	}
}

/* Tells the one who has it, counts it, and forgets it. */
static void cancel(struct pending *p)
{
	struct gateway *g = p->link->gateway;
	if (p->step == STEP_ASKED) {
		count(p, HOST_OUTCOME_CANCELED);
		g->host_calls->cancel(g->host_calls_ctx, &p->call);
	}
	pending_free(p);
}

static void on_cancel(struct link *l, const struct ipc_message *m)
{
	struct pending *p = find(l, m->ref);
	if (m->body.len != 0) {
		link_broken(l, "malformed host call");
	} else if (p != NULL) {
		/* Bytes for it were sent before, if at all: a number is cancelled for good. */
		cancel(p);
	}
}

void host_calls_on_message(struct link *l, const struct ipc_message *m)
{
	if (!link_is_executing(l)) {
		link_broken(l, "a host call while nothing runs");
	} else if (m->type == IPC_HOST_CALL) {
		on_call(l, m);
	} else if (m->type == IPC_HOST_PUT) {
		on_put(l, m);
	} else {
		on_cancel(l, m);
	}
}

bool host_calls_is_too_long(const struct ipc_message *m)
{
	if (m->type == IPC_HOST_CALL) {
		return m->body.len > HOST_CALL_MAX_BYTES + CALL_SLACK_BYTES;
	}
	/* One packet each, so that the gateway never holds more than that of any. */
	return m->type == IPC_HOST_PUT || m->type == IPC_HOST_CANCEL;
}

void host_calls_interrupt(struct link *l)
{
	struct gateway *g = l->gateway;
	while (host_calls_are_full(l)) {
		struct host_call *c = l->calls->list;
		while (!pending_of(c)->full) {
			c = c->next;
		}
		g->host_calls->cancel(g->host_calls_ctx, c);
		answer(pending_of(c), false, interrupted, sizeof(interrupted) - 1, NULL);
	}
	if (l->calls != NULL) {
		link_watch(l);
	}
}

void host_calls_end(struct link *l)
{
	if (l->calls == NULL) {
		return;
	}
	bool were_full = host_calls_are_full(l);
	while (l->calls->list != NULL) {
		cancel(pending_of(l->calls->list));
	}
	free(steal(&l->calls));
	if (were_full) {
		link_watch(l);
	}
}
