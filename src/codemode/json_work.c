#include "codemode/json_work.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/compiler.h"
#include "base/json_weight.h"

/* What a value takes as text beside its own bytes. */
#define VALUE_BYTES 8
#define TEXT_MAX_BYTES (512U << 20)

struct json_work {
	uv_loop_t *loop;
	struct json_job *waiting; /* by turn */
	unsigned waiting_count;
	struct json_job *running;
	unsigned running_count;
	uint64_t turn; /* of the last that was started */
	bool freed;
};

struct json_job {
	uv_work_t work;
	struct json_work *owner;
	struct json_job *prev, *next; /* waiting, or running */
	const void *who;
	uint64_t turn;
	bool started, cancelled;
	json_t *value;
	struct buf text;
	/* Reading. */
	json_read_fn on_read;
	size_t weight, weight_max;
	json_error_t failure;
	/* Writing. */
	json_add_fn add;
	json_write_fn on_written;
	int failed;
	void *ctx;
};

struct json_work *json_work_new(uv_loop_t *loop)
{
	struct json_work *w = calloc(1, sizeof(*w));
	if (w != NULL) {
		w->loop = loop;
	}
	return w;
}

static void job_free(struct json_job *j)
{
	json_decref(j->value);
	buf_fini(&j->text);
	free(j);
}

void json_work_free(struct json_work *w)
{
	if (w == NULL) {
		return;
	}
	while (w->waiting != NULL) {
		struct json_job *j = w->waiting;
		DL_DELETE(w->waiting, j);
		job_free(j);
	}
	w->freed = true;
	if (w->running_count == 0) {
		free(w);
	}
}

/* --- in a thread --------------------------------------------------------------------------------
 */

static void read_text(struct json_job *j)
{
	j->weight = json_weight(buf_str(&j->text), j->text.len);
	if (j->weight > j->weight_max) {
		(void)snprintf(j->failure.text, sizeof(j->failure.text),
		    "they hold more values than a call may");
		return;
	}
	j->value = json_loadb(buf_str(&j->text), j->text.len, JSON_REJECT_DUPLICATES, &j->failure);
}

/* The value goes here, too: with many it takes its time, when nobody else has them any more. */
static void write_value(struct json_job *j)
{
	j->failed = j->add(&j->text, j->value);
	json_decref(steal(&j->value));
}

static void work(uv_work_t *base)
{
	struct json_job *j = container_of(base, struct json_job, work);
	if (j->on_read != NULL) {
		read_text(j);
	} else {
		write_value(j);
	}
}

/* --- on the loop --------------------------------------------------------------------------------
 */

static void start_next(struct json_work *w);

static void tell(struct json_job *j)
{
	if (j->on_read != NULL) {
		j->on_read(j->ctx, steal(&j->value), j->weight, j->failure.text);
	} else {
		j->on_written(j->ctx, j->failed < 0 ? NULL : &j->text);
	}
}

static void after(uv_work_t *base, int status)
{
	struct json_job *j = container_of(base, struct json_job, work);
	struct json_work *w = j->owner;
	(void)status;
	DL_DELETE(w->running, j);
	w->running_count--;
	if (w->freed) {
		job_free(j);
		if (w->running_count == 0) {
			free(w);
		}
		return;
	}
	start_next(w);
	if (!j->cancelled) {
		tell(j);
	}
	job_free(j);
}

static bool is_running(const struct json_work *w, const void *who)
{
	const struct json_job *j;
	DL_SEARCH_SCALAR(w->running, j, who, who);
	return j != NULL;
}

static void start(struct json_work *w, struct json_job *j)
{
	DL_DELETE(w->waiting, j);
	w->waiting_count--;
	DL_APPEND(w->running, j);
	w->running_count++;
	j->started = true;
	w->turn = j->turn;
	/* Fails only without a function to call. */
	(void)uv_queue_work(w->loop, &j->work, work, after);
}

static void start_next(struct json_work *w)
{
	struct json_job *j;
	struct json_job *next;
	DL_FOREACH_SAFE(w->waiting, j, next)
	{
		if (w->running_count < JSON_WORK_AT_ONCE && !is_running(w, j->who)) {
			start(w, j);
		}
	}
}

/* Never 0, so that the new one comes behind those of the same turn. */
static int by_turn(const struct json_job *there, const struct json_job *added)
{
	return there->turn <= added->turn ? -1 : 1;
}

/* The second of one asker has its turn after the first of every other. */
static void enqueue(struct json_work *w, struct json_job *j, const void *who)
{
	const struct json_job *other;
	j->owner = w;
	j->who = who;
	j->turn = w->turn;
	DL_FOREACH(w->waiting, other)
	{
		if (other->who == who && other->turn >= j->turn) {
			j->turn = other->turn + 1;
		}
	}
	DL_INSERT_INORDER(w->waiting, j, by_turn);
	w->waiting_count++;
	start_next(w);
}

struct json_job *json_work_read(struct json_work *w, const void *who, const char *text, size_t len,
    size_t weight_max, json_read_fn fn, void *ctx)
{
	struct json_job *j = calloc(1, sizeof(*j));
	if (j == NULL) {
		return NULL;
	}
	j->text = BUF_INIT(TEXT_MAX_BYTES);
	if (buf_add(&j->text, text, len) < 0) {
		job_free(j);
		return NULL;
	}
	j->weight_max = weight_max;
	j->on_read = fn;
	j->ctx = ctx;
	enqueue(w, j, who);
	return j;
}

struct json_job *json_work_write(struct json_work *w, const void *who, const json_t *value,
    json_add_fn add, json_write_fn fn, void *ctx)
{
	struct json_job *j = w->waiting_count < JSON_WORK_WAITING_MAX ? calloc(1, sizeof(*j))
								      : NULL;
	if (j == NULL) {
		return NULL;
	}
	/* Of a list a copy: whoever has it may go on with it, not with what is in it. */
	json_t *tree = (json_t *)(uintptr_t)value;
	j->value = json_is_array(value) ? json_copy(tree) : json_incref(tree);
	if (j->value == NULL) {
		free(j);
		return NULL;
	}
	j->text = BUF_INIT(TEXT_MAX_BYTES);
	j->add = add;
	j->on_written = fn;
	j->ctx = ctx;
	enqueue(w, j, who);
	return j;
}

void json_work_cancel(struct json_job *j)
{
	if (j == NULL) {
		return;
	}
	if (j->started) {
		j->cancelled = true;
		return;
	}
	DL_DELETE(j->owner->waiting, j);
	j->owner->waiting_count--;
	job_free(j);
}

/* What is left of BUDGET after VALUE; 0 when it is too little. */
static size_t spend(const json_t *value, size_t budget)
{
	json_t *tree = (json_t *)(uintptr_t)value; /* jansson's iterators want it so */
	size_t own = VALUE_BYTES + (json_is_string(value) ? json_string_length(value) : 0);
	const char *key;
	size_t i;
	json_t *child;
	if (own >= budget) {
		return 0;
	}
	budget -= own;
	json_array_foreach(tree, i, child)
	{
		budget = spend(child, budget);
		if (budget == 0) {
			return 0;
		}
	}
	json_object_foreach(tree, key, child)
	{
		size_t name = strlen(key) + 3;
		budget = name < budget ? spend(child, budget - name) : 0;
		if (budget == 0) {
			return 0;
		}
	}
	return budget;
}

bool json_work_is_large(const json_t *value)
{
	return spend(value, JSON_WORK_SMALL_BYTES) == 0;
}

struct json_job *json_work_text(struct json_work *w, const void *who, const json_t *value,
    json_add_fn add, json_write_fn fn, void *ctx)
{
	struct json_job *j = json_work_is_large(value)
				 ? json_work_write(w, who, value, add, fn, ctx)
				 : NULL;
	if (j == NULL) {
		cleanup(buf_fini) struct buf text = BUF_INIT(TEXT_MAX_BYTES);
		int r = add(&text, value);
		fn(ctx, r < 0 ? NULL : &text);
	}
	return j;
}
