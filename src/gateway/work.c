#include "gateway/work.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/compiler.h"
#include "base/quota.h"

#define STACK_BYTES (1U << 20)

struct lane_key {
	uint64_t id;
	uint64_t kind;
};

/* Exists while it has jobs. */
struct lane {
	struct lane_key key;
	UT_hash_handle hh;
	struct lane *prev, *next;   /* work.blocked */
	struct engine_job *waiting; /* oldest first */
	struct engine_job *running;
	char tenant[ENGINE_TENANT_MAX + 1];
	bool blocked; /* its tenant has no thread to spare */
};

struct work {
	uv_loop_t *loop;
	uv_async_t async;
	/* Of the loop's thread alone. */
	struct lane *lanes;
	struct lane *blocked; /* in the order they are to go on */
	struct quota running; /* jobs, by tenant */
	unsigned jobs;
	pthread_t threads[WORK_THREADS_MAX];
	unsigned thread_count;
	bool closed;
	/* Under LOCK. */
	pthread_mutex_t lock;
	pthread_cond_t wanted;
	struct engine_job *queue; /* to be run */
	unsigned queued;
	struct engine_job *done;
	unsigned idle; /* threads that sleep, or are about to wake for one of QUEUE */
	bool stopping;
};

/* --- in a thread --------------------------------------------------------------------------------
 */

static struct engine_job *take(struct work *w)
{
	while (w->queue == NULL && !w->stopping) {
		w->idle++;
		(void)pthread_cond_wait(&w->wanted, &w->lock);
		w->idle--;
	}
	struct engine_job *j = w->queue;
	if (j != NULL) {
		DL_DELETE(w->queue, j);
		w->queued--;
	}
	return j;
}

static void *run_jobs(void *arg)
{
	struct work *w = arg;
	struct engine_job *j;
	(void)pthread_mutex_lock(&w->lock);
	while ((j = take(w)) != NULL) {
		(void)pthread_mutex_unlock(&w->lock);
		j->run(j);
		(void)pthread_mutex_lock(&w->lock);
		DL_APPEND(w->done, j);
		(void)uv_async_send(&w->async);
	}
	(void)pthread_mutex_unlock(&w->lock);
	return NULL;
}

/* --- on the loop --------------------------------------------------------------------------------
 */

/* Signals are for the loop's thread, which every thread's mask comes from. */
static bool start_thread(struct work *w)
{
	pthread_attr_t attributes;
	sigset_t all;
	sigset_t before;
	if (w->thread_count == WORK_THREADS_MAX || pthread_attr_init(&attributes) != 0) {
		return false;
	}
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	(void)pthread_attr_setstacksize(&attributes, STACK_BYTES);
	bool started = pthread_create(&w->threads[w->thread_count], &attributes, run_jobs, w) == 0;
	(void)pthread_attr_destroy(&attributes);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	w->thread_count += started;
	return started;
}

/* J's lane is told that it did not run. */
static void give_back(struct work *w, struct engine_job *j)
{
	j->ran = false;
	(void)pthread_mutex_lock(&w->lock);
	DL_APPEND(w->done, j);
	(void)pthread_mutex_unlock(&w->lock);
	(void)uv_async_send(&w->async);
}

static void hand_over(struct work *w, struct engine_job *j)
{
	(void)pthread_mutex_lock(&w->lock);
	j->ran = true;
	DL_APPEND(w->queue, j);
	bool needed = ++w->queued > w->idle;
	(void)pthread_cond_signal(&w->wanted);
	(void)pthread_mutex_unlock(&w->lock);
	if (needed && !start_thread(w) && w->thread_count == 0) {
		DL_DELETE(w->queue, j);
		w->queued--;
		give_back(w, j);
	}
}

/* Starts the next job of L when it may. */
static void advance(struct work *w, struct lane *l)
{
	struct engine_job *j = l->waiting;
	if (j == NULL || l->running != NULL || l->blocked) {
		return;
	}
	if (quota_charge(&w->running, l->tenant, 1) < 0) {
		l->blocked = true;
		DL_APPEND(w->blocked, l);
		return;
	}
	DL_DELETE(l->waiting, j);
	l->running = j;
	hand_over(w, j);
}

static void unblock(struct work *w)
{
	struct lane *l;
	struct lane *next;
	DL_FOREACH_SAFE(w->blocked, l, next)
	{
		if (w->running.held == w->running.max) {
			return;
		}
		if (quota_room(&w->running, l->tenant) > 0) {
			DL_DELETE(w->blocked, l);
			l->blocked = false;
			advance(w, l);
		}
	}
}

static void drop_lane_if_empty(struct work *w, struct lane *l)
{
	if (l->running != NULL || l->waiting != NULL) {
		return;
	}
	if (l->blocked) {
		DL_DELETE(w->blocked, l);
	}
	HASH_DEL(w->lanes, l);
	free(l);
}

static void finish(struct work *w, struct engine_job *j)
{
	struct lane *l = j->lane;
	bool ran = j->ran;
	if (l != NULL && l->running == j) {
		l->running = NULL;
		quota_release(&w->running, l->tenant, 1);
		/* Others of the tenant have their turn before this lane's next. */
		unblock(w);
		advance(w, l);
		drop_lane_if_empty(w, l);
	}
	w->jobs--;
	j->done(j, ran);
}

static void on_async(uv_async_t *async)
{
	struct work *w = async->data;
	(void)pthread_mutex_lock(&w->lock);
	struct engine_job *done = w->done;
	w->done = NULL;
	(void)pthread_mutex_unlock(&w->lock);
	while (done != NULL) {
		struct engine_job *j = done;
		DL_DELETE(done, j);
		finish(w, j);
	}
}

static struct lane *find_lane(const struct work *w, uint64_t id, enum work_lane kind)
{
	struct lane_key key = {.id = id, .kind = kind};
	struct lane *l = NULL;
	HASH_FIND(hh, w->lanes, &key, sizeof(key), l);
	return l;
}

void work_add(
    struct work *w, uint64_t id, enum work_lane kind, const char *tenant, struct engine_job *j)
{
	struct lane *l = find_lane(w, id, kind);
	w->jobs++;
	if (l == NULL) {
		l = calloc(1, sizeof(*l));
		if (l == NULL) {
			j->lane = NULL;
			give_back(w, j);
			return;
		}
		l->key = (struct lane_key){.id = id, .kind = kind};
		(void)memccpy(l->tenant, tenant, '\0', sizeof(l->tenant) - 1);
		HASH_ADD(hh, w->lanes, key, sizeof(l->key), l);
	}
	j->lane = l;
	DL_APPEND(l->waiting, j);
	advance(w, l);
}

void work_cancel(struct work *w, struct engine_job *j)
{
	struct lane *l = j->lane;
	struct engine_job *waiting = l != NULL ? l->waiting : NULL;
	while (waiting != NULL && waiting != j) {
		waiting = waiting->next;
	}
	if (waiting != NULL) {
		DL_DELETE(l->waiting, j);
		j->lane = NULL;
		give_back(w, j);
		drop_lane_if_empty(w, l);
	}
}

void work_cancel_lane(struct work *w, uint64_t id, enum work_lane kind)
{
	struct lane *l = find_lane(w, id, kind);
	while (l != NULL && l->waiting != NULL) {
		struct engine_job *j = l->waiting;
		DL_DELETE(l->waiting, j);
		j->lane = NULL;
		give_back(w, j);
	}
	if (l != NULL) {
		drop_lane_if_empty(w, l);
	}
}

/* --- life ---------------------------------------------------------------------------------------
 */

struct work *work_new(uv_loop_t *loop)
{
	struct work *w = calloc(1, sizeof(*w));
	if (w == NULL || uv_async_init(loop, &w->async, on_async) < 0) {
		free(w);
		return NULL;
	}
	w->loop = loop;
	w->async.data = w;
	w->running = (struct quota)QUOTA_INIT(WORK_THREADS_MAX);
	(void)pthread_mutex_init(&w->lock, NULL);
	(void)pthread_cond_init(&w->wanted, NULL);
	return w;
}

static void on_closed(uv_handle_t *handle)
{
	((struct work *)handle->data)->closed = true;
}

void work_free(struct work *w)
{
	if (w == NULL) {
		return;
	}
	while (w->jobs > 0) {
		(void)uv_run(w->loop, UV_RUN_ONCE);
	}
	(void)pthread_mutex_lock(&w->lock);
	w->stopping = true;
	(void)pthread_cond_broadcast(&w->wanted);
	(void)pthread_mutex_unlock(&w->lock);
	for (unsigned i = 0; i < w->thread_count; i++) {
		(void)pthread_join(w->threads[i], NULL);
	}
	uv_close((uv_handle_t *)&w->async, on_closed);
	while (!w->closed) {
		(void)uv_run(w->loop, UV_RUN_ONCE);
	}
	(void)pthread_cond_destroy(&w->wanted);
	(void)pthread_mutex_destroy(&w->lock);
	quota_fini(&w->running);
	free(w);
}
