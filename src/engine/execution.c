#include "engine/execution.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/clock.h"
#include "engine/internal.h"

#define VALUE_MAX_BYTES (16U << 20)

/* States, their names on the wire, and which may follow. */
static const struct {
	const char *name;
	unsigned successors; /* bit mask of states */
} states[EXECUTION_STATE_COUNT] = {
    [EXECUTION_QUEUED] = {"NotStarted",
	1U << EXECUTION_RUNNING | 1U << EXECUTION_FAILED | 1U << EXECUTION_CANCELED},
    [EXECUTION_RUNNING] = {"Running",
	1U << EXECUTION_SUCCEEDED | 1U << EXECUTION_FAILED | 1U << EXECUTION_CANCELED},
    [EXECUTION_SUCCEEDED] = {"Succeeded", 0},
    [EXECUTION_FAILED] = {"Failed", 0},
    [EXECUTION_CANCELED] = {"Canceled", 0},
};

const char *execution_state_name(enum execution_state s)
{
	return states[s].name;
}

bool execution_state_may_follow(enum execution_state from, enum execution_state to)
{
	return (states[from].successors & 1U << to) != 0;
}

bool execution_is_final(const struct execution *x)
{
	return states[x->state].successors == 0;
}

void execution_move(struct execution *x, enum execution_state to)
{
	assert(execution_state_may_follow(x->state, to));
	x->state = to;
	assert(execution_is_final(x) == (x->verdict != VERDICT_NONE));
}

static void init_buffers(struct execution *x)
{
	x->out = BUF_INIT(x->output_max_bytes);
	x->err = BUF_INIT(x->output_max_bytes);
	struct buf empty = BUF_INIT(VALUE_MAX_BYTES);
	x->value.json = empty;
	x->value.text = empty;
	x->value.error_name = empty;
	x->value.error_value = empty;
	x->value.traceback = empty;
}

/* The smaller of what was asked for and what the pool allows; 0 asks for nothing in particular. */
static uint32_t within(uint32_t asked, uint32_t allowed)
{
	return asked == 0 || asked > allowed ? allowed : asked;
}

/* Counts LEN more bytes; false when that is more than the tenant's share. */
static bool hold(struct execution *x, size_t len)
{
	if (quota_charge(x->held, x->tenant, len) < 0) {
		return false;
	}
	x->held_bytes += len;
	return true;
}

static void let_go(struct execution *x, size_t len)
{
	quota_release(x->held, x->tenant, len);
	x->held_bytes -= len;
}

struct execution *execution_new(const struct execution_request *r, const struct pool_config *pool,
    uint64_t seq, uint64_t now_us, struct quota *held, const char *tenant)
{
	struct execution *x = calloc(1, sizeof(*x));
	if (x == NULL) {
		return NULL;
	}
	x->refs = 1;
	x->seq = seq;
	x->held = held;
	(void)memccpy(x->tenant, tenant, '\0', sizeof(x->tenant) - 1);
	x->kind = r->kind;
	x->asynchronous = r->asynchronous;
	x->detached = r->asynchronous;
	if (r->by != NULL) {
		(void)memccpy(x->by, r->by, '\0', sizeof(x->by) - 1);
	}
	x->reply_flags = r->reply_flags;
	x->empty_namespace = r->empty_namespace;
	x->values = r->values;
	x->timeout_ms = within(r->timeout_ms, pool->execution_time_ms);
	x->output_max_bytes = within(r->output_max_bytes, pool->output_max_bytes);
	x->created_wall_us = clock_wall_us();
	x->queued_us = now_us;
	init_buffers(x);
	x->code = BUF_INIT(r->code.len);
	x->standard_input = BUF_INIT(r->standard_input.len);
	if (!hold(x, r->code.len + r->standard_input.len) ||
	    buf_add(&x->code, r->code.data, r->code.len) < 0 ||
	    buf_add(&x->standard_input, r->standard_input.data, r->standard_input.len) < 0) {
		execution_unref(x);
		return NULL;
	}
	if (r->id != NULL) {
		(void)memccpy(x->id, r->id, '\0', sizeof(x->id) - 1);
	} else {
		(void)text_guid(x->id);
	}
	return x;
}

void execution_drop_code(struct execution *x)
{
	let_go(x, x->code.len + x->standard_input.len);
	buf_fini(&x->code);
	buf_fini(&x->standard_input);
}

void display_free(struct display *d)
{
	if (d == NULL) {
		return;
	}
	for (uint32_t i = 0; i < d->count; i++) {
		free(d->items[i].mime);
		free(d->items[i].data);
	}
	free(d);
}

struct execution *execution_ref(struct execution *x)
{
	x->refs++;
	return x;
}

void execution_unref(struct execution *x)
{
	if (x == NULL || --x->refs > 0) {
		return;
	}
	let_go(x, x->held_bytes);
	buf_fini(&x->code);
	buf_fini(&x->standard_input);
	buf_fini(&x->out);
	buf_fini(&x->err);
	buf_fini(&x->value.json);
	buf_fini(&x->value.text);
	buf_fini(&x->value.error_name);
	buf_fini(&x->value.error_value);
	buf_fini(&x->value.traceback);
	for (size_t i = 0; i < x->display_count; i++) {
		display_free(x->displays[i]);
	}
	free(x->displays);
	free(x->runs);
	free(x);
}

void execution_observe(struct execution *x, struct execution_observer *o)
{
	DL_APPEND(x->observers, o);
}

void execution_unobserve(struct execution *x, struct execution_observer *o)
{
	DL_DELETE(x->observers, o);
}

void execution_tell(struct execution *x)
{
	struct execution_observer *o;
	struct execution_observer *next;
	(void)execution_ref(x);
	DL_FOREACH_SAFE(x->observers, o, next)
	{
		o->notify(o->ctx, x);
	}
	execution_unref(x);
}

/* Extends the last run when it is of the same stream, else adds one. The number of runs is bounded
 * by the number of bytes and displays kept. */
static int add_run(struct execution *x, enum output_kind kind, size_t start, size_t len)
{
	struct output_run *last = x->run_count > 0 ? &x->runs[x->run_count - 1] : NULL;
	if (last != NULL && last->kind == kind && kind != OUTPUT_DISPLAY) {
		last->len += len;
		return 0;
	}
	if ((x->run_count & (x->run_count - 1)) == 0) {
		size_t room = x->run_count == 0 ? 1 : x->run_count * 2;
		struct output_run *runs = reallocarray(x->runs, room, sizeof(*runs));
		if (runs == NULL) {
			return -1;
		}
		x->runs = runs;
	}
	x->runs[x->run_count++] = (struct output_run){kind, start, len};
	return 0;
}

void execution_add_output(struct execution *x, enum output_kind kind, const char *bytes, size_t len)
{
	struct buf *b = kind == OUTPUT_STDOUT ? &x->out : &x->err;
	uint64_t *cut = kind == OUTPUT_STDOUT ? &x->out_cut_bytes : &x->err_cut_bytes;
	size_t room = b->max - b->len;
	size_t kept = len < room ? len : room;
	size_t start = b->len;
	if (kept > 0 && !hold(x, kept)) {
		kept = 0;
	}
	if (kept > 0 && (buf_add(b, bytes, kept) < 0 || add_run(x, kind, start, kept) < 0)) {
		b->len = start;
		let_go(x, kept);
		kept = 0;
	}
	*cut += len - kept;
	if (kept > 0) {
		execution_tell(x);
	}
}

void execution_add_display(struct execution *x, struct display *d)
{
	size_t bytes = 0;
	for (uint32_t i = 0; i < d->count; i++) {
		bytes += d->items[i].len;
	}
	bool fits = x->display_count < ENGINE_DISPLAYS_MAX &&
		    bytes <= ENGINE_DISPLAY_BYTES_MAX - x->display_bytes;
	if (x->displays == NULL) {
		x->displays = calloc(ENGINE_DISPLAYS_MAX, sizeof(struct display *));
	}
	if (!fits || x->displays == NULL || !hold(x, bytes) ||
	    add_run(x, OUTPUT_DISPLAY, x->display_count, 0) < 0) {
		x->displays_cut++;
		display_free(d);
		return;
	}
	x->displays[x->display_count++] = d;
	x->display_bytes += bytes;
	execution_tell(x);
}

static void set_bytes(struct buf *b, struct ipc_bytes from)
{
	buf_clear(b);
	(void)buf_add(b, from.data, from.len < b->max ? from.len : b->max);
}

void execution_set_value(struct execution *x, const struct ipc_result *r)
{
	size_t bytes = r->json.len + r->text.len + r->error_name.len + r->error_value.len +
		       r->traceback.len;
	x->value.exit_code = r->exit_code;
	x->duration_us = r->duration_us;
	if (!hold(x, bytes)) {
		x->out_cut_bytes += bytes;
		return;
	}
	x->value.kind = r->kind;
	set_bytes(&x->value.json, r->json);
	set_bytes(&x->value.text, r->text);
	set_bytes(&x->value.error_name, r->error_name);
	set_bytes(&x->value.error_value, r->error_value);
	set_bytes(&x->value.traceback, r->traceback);
}

size_t execution_kept_bytes(const struct execution *x)
{
	return x->out.len + x->err.len + x->display_bytes + x->value.text.len +
	       x->value.traceback.len;
}
