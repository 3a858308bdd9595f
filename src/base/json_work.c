#include "base/json_work.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/compiler.h"
#include "base/quota.h"

/* What a value takes as text beside its own bytes. */
#define VALUE_BYTES 8
#define TEXT_MAX_BYTES (512U << 20)

struct json_work {
	uv_loop_t *loop;
	struct json_job *waiting; /* by turn */
	struct json_job *running;
	unsigned running_count;
	uint64_t turn;        /* of the last that was started */
	struct quota writing; /* jobs that write, by holder */
	bool freed;
};

struct json_job {
	uv_work_t work;
	struct json_work *owner;
	struct json_job *prev, *next; /* waiting, or running */
	uint64_t turn;
	bool started, cancelled;
	struct buf text;
	/* Reading. */
	json_read_fn on_read;
	struct json_read read;
	size_t flags, weight_max;
	/* Writing. */
	json_write_fn on_written;
	json_add_fn add;
	json_t *value;
	struct json_subject subject; /* in the place of VALUE */
	int err;
	void *ctx;
	char holder[];
};

struct json_work *json_work_new(uv_loop_t *loop)
{
	struct json_work *w = calloc(1, sizeof(*w));
	if (w != NULL) {
		w->loop = loop;
		w->writing = (struct quota)QUOTA_INIT(JSON_WORK_WRITING_MAX);
	}
	return w;
}

static struct json_job *job_new(const char *holder, void *ctx)
{
	size_t len = strlen(holder);
	struct json_job *j = calloc(1, sizeof(*j) + len + 1);
	if (j != NULL) {
		memcpy(j->holder, holder, len + 1);
		j->text = BUF_INIT(TEXT_MAX_BYTES);
		j->ctx = ctx;
	}
	return j;
}

static void job_free(struct json_job *j)
{
	if (j->owner != NULL && j->on_written != NULL) {
		quota_release(&j->owner->writing, j->holder, 1);
	}
	if (j->subject.drop != NULL) {
		j->subject.drop(j->subject.subject);
	}
	json_decref(j->read.value);
	json_decref(j->value);
	buf_fini(&j->text);
	free(j);
}

static void free_if_idle(struct json_work *w)
{
	if (w->freed && w->running_count == 0) {
		quota_fini(&w->writing);
		free(w);
	}
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
	free_if_idle(w);
}

/* --- in a thread --------------------------------------------------------------------------------
 */

static void work(uv_work_t *base)
{
	struct json_job *j = container_of(base, struct json_job, work);
	if (j->on_read != NULL) {
		json_read(&j->read, &j->text, j->flags, j->weight_max);
	} else if (j->subject.add != NULL) {
		j->err = j->subject.add(&j->text, j->subject.subject);
	} else {
		j->err = j->add(&j->text, j->value);
	}
}

/* A value with many others in it takes its time to go, too, when nobody else has it any more. */
static void let_go(uv_work_t *base)
{
	struct json_job *j = container_of(base, struct json_job, work);
	json_decref(steal(&j->read.value));
	json_decref(steal(&j->value));
	buf_fini(&j->text);
}

/* --- on the loop --------------------------------------------------------------------------------
 */

static void start_next(struct json_work *w);

static void tell(struct json_job *j)
{
	if (j->on_read != NULL) {
		j->on_read(j->ctx, &j->read, &j->text);
	} else {
		j->on_written(j->ctx, j->err, j->err < 0 ? NULL : &j->text);
	}
}

static void after_all(uv_work_t *base, int status)
{
	struct json_job *j = container_of(base, struct json_job, work);
	struct json_work *w = j->owner;
	(void)status;
	DL_DELETE(w->running, j);
	w->running_count--;
	job_free(j);
	if (w->freed) {
		free_if_idle(w);
	} else {
		start_next(w);
	}
}

/* Its place is taken until the value is gone, so that values do not pile up. */
static void after_work(uv_work_t *base, int status)
{
	struct json_job *j = container_of(base, struct json_job, work);
	(void)status;
	if (!j->cancelled && !j->owner->freed) {
		tell(j);
	}
	/* Fails only without a function to call. */
	(void)uv_queue_work(j->owner->loop, &j->work, let_go, after_all);
}

static bool is_running(const struct json_work *w, const char *holder)
{
	const struct json_job *j;
	DL_FOREACH(w->running, j)
	{
		if (strcmp(j->holder, holder) == 0) {
			return true;
		}
	}
	return false;
}

static void start(struct json_work *w, struct json_job *j)
{
	DL_DELETE(w->waiting, j);
	DL_APPEND(w->running, j);
	w->running_count++;
	j->started = true;
	w->turn = j->turn;
	/* Fails only without a function to call. */
	(void)uv_queue_work(
	    w->loop, &j->work, j->cancelled ? let_go : work, j->cancelled ? after_all : after_work);
}

static void start_next(struct json_work *w)
{
	struct json_job *j;
	struct json_job *next;
	DL_FOREACH_SAFE(w->waiting, j, next)
	{
		if (w->running_count < JSON_WORK_AT_ONCE && !is_running(w, j->holder)) {
			start(w, j);
		}
	}
}

/* Never 0, so that the new one comes behind those of the same turn. */
static int by_turn(const struct json_job *there, const struct json_job *added)
{
	return there->turn <= added->turn ? -1 : 1;
}

/* The second of one holder has its turn after the first of every other. */
static void enqueue(struct json_work *w, struct json_job *j)
{
	const struct json_job *other;
	j->owner = w;
	j->turn = w->turn;
	DL_FOREACH(w->waiting, other)
	{
		if (other->turn >= j->turn && strcmp(other->holder, j->holder) == 0) {
			j->turn = other->turn + 1;
		}
	}
	DL_INSERT_INORDER(w->waiting, j, by_turn);
	start_next(w);
}

struct json_job *json_work_read(struct json_work *w, const char *holder, struct buf *text,
    size_t flags, size_t weight_max, json_read_fn fn, void *ctx)
{
	struct json_job *j = job_new(holder, ctx);
	if (j == NULL) {
		return NULL;
	}
	j->text = *text;
	*text = BUF_INIT(text->max);
	j->flags = flags;
	j->weight_max = weight_max;
	j->on_read = fn;
	enqueue(w, j);
	return j;
}

/* A job that writes; NULL with -EDQUOT or -ENOMEM. */
static struct json_job *job_new_writing(
    struct json_work *w, const char *holder, json_write_fn fn, void *ctx, int *err)
{
	*err = quota_charge(&w->writing, holder, 1);
	struct json_job *j = *err == 0 ? job_new(holder, ctx) : NULL;
	if (j != NULL) {
		j->on_written = fn;
		return j;
	}
	if (*err == 0) {
		quota_release(&w->writing, holder, 1);
		*err = -ENOMEM;
	}
	return NULL;
}

static struct json_job *write_later(struct json_work *w, const char *holder, const json_t *value,
    json_add_fn add, json_write_fn fn, void *ctx)
{
	/* Of a list a copy: whoever has it may go on with it, not with what is in it. */
	json_t *tree = (json_t *)(uintptr_t)value;
	json_t *own = json_is_array(tree) ? json_copy(tree) : json_incref(tree);
	int err = -ENOMEM;
	struct json_job *j = own != NULL ? job_new_writing(w, holder, fn, ctx, &err) : NULL;
	if (j == NULL) {
		json_decref(own);
		fn(ctx, err, NULL);
		return NULL;
	}
	j->value = own;
	j->add = add;
	enqueue(w, j);
	return j;
}

struct json_job *json_work_make(struct json_work *w, const char *holder,
    const struct json_subject *subject, json_write_fn fn, void *ctx)
{
	int err;
	struct json_job *j = job_new_writing(w, holder, fn, ctx, &err);
	if (j == NULL) {
		fn(ctx, err, NULL);
		json_decref(subject->value);
		subject->drop(subject->subject);
		return NULL;
	}
	j->subject = *subject;
	j->value = subject->value;
	enqueue(w, j);
	return j;
}

static bool reads_a_subject(const struct json_work *w)
{
	const struct json_job *j;
	DL_FOREACH(w->running, j)
	{
		if (j->subject.drop != NULL) {
			return true;
		}
	}
	return false;
}

void json_work_settle(struct json_work *w)
{
	while (w != NULL && reads_a_subject(w)) {
		(void)uv_run(w->loop, UV_RUN_ONCE);
	}
}

void json_work_cancel(struct json_job *j)
{
	if (j == NULL) {
		return;
	}
	j->cancelled = true;
	/* A value waits for a thread that lets go of it. */
	if (!j->started && j->value == NULL) {
		DL_DELETE(j->owner->waiting, j);
		job_free(j);
	}
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

bool json_work_exceeds(const json_t *value, size_t bytes)
{
	return spend(value, bytes) == 0;
}

struct json_job *json_work_write(struct json_work *w, const char *holder, const json_t *value,
    json_add_fn add, json_write_fn fn, void *ctx)
{
	if (json_work_exceeds(value, JSON_WORK_SMALL_BYTES)) {
		return write_later(w, holder, value, add, fn, ctx);
	}
	cleanup(buf_fini) struct buf text = BUF_INIT(TEXT_MAX_BYTES);
	int err = add(&text, value);
	fn(ctx, err, err < 0 ? NULL : &text);
	return NULL;
}
