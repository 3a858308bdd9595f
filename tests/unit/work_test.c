/* The threads for what sessions can make slow: who waits for whom, and who does not. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>
#include <uv.h>

#include "base/compiler.h"
#include "gateway/work.h"

#define JOBS_MAX (2 * WORK_THREADS_MAX)

/* A job that stays in its thread until the door opens. */
struct slow {
	struct engine_job job;
	struct world *world;
	bool ran;
};

struct world {
	uv_loop_t loop;
	struct work *work;
	struct slow jobs[JOBS_MAX];
	unsigned added;
	unsigned done;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool open;       /* the door */
	unsigned inside; /* threads that wait at it */
	unsigned most;   /* so many at once */
};

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	assert_non_null(w);
	assert_int_equal(uv_loop_init(&w->loop), 0);
	(void)pthread_mutex_init(&w->lock, NULL);
	(void)pthread_cond_init(&w->changed, NULL);
	w->work = work_new(&w->loop);
	*state = w;
	return w->work == NULL;
}

static int teardown(void **state)
{
	struct world *w = *state;
	work_free(w->work);
	(void)uv_run(&w->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&w->loop), 0);
	free(w);
	return 0;
}

static void run(struct engine_job *job)
{
	struct world *w = container_of(job, struct slow, job)->world;
	(void)pthread_mutex_lock(&w->lock);
	w->inside++;
	w->most = w->inside > w->most ? w->inside : w->most;
	(void)pthread_cond_broadcast(&w->changed);
	while (!w->open) {
		(void)pthread_cond_wait(&w->changed, &w->lock);
	}
	w->inside--;
	(void)pthread_mutex_unlock(&w->lock);
}

static void done(struct engine_job *job, bool ran)
{
	struct slow *s = container_of(job, struct slow, job);
	s->ran = ran;
	s->world->done++;
}

static struct engine_job *add(struct world *w, uint64_t lane, const char *tenant)
{
	assert_true(w->added < JOBS_MAX);
	struct slow *s = &w->jobs[w->added++];
	*s = (struct slow){.job = {.run = run, .done = done}, .world = w};
	work_add(w->work, lane, WORK_FILES, tenant, &s->job);
	return &s->job;
}

static void set_door(struct world *w, bool open)
{
	(void)pthread_mutex_lock(&w->lock);
	w->open = open;
	(void)pthread_cond_broadcast(&w->changed);
	(void)pthread_mutex_unlock(&w->lock);
}

/* Until COUNT threads are at the door. */
static void until_inside(struct world *w, unsigned count)
{
	(void)pthread_mutex_lock(&w->lock);
	while (w->inside < count) {
		(void)pthread_cond_wait(&w->changed, &w->lock);
	}
	(void)pthread_mutex_unlock(&w->lock);
}

static void finish_all(struct world *w)
{
	set_door(w, true);
	while (w->done < w->added) {
		(void)uv_run(&w->loop, UV_RUN_ONCE);
	}
}

static void jobs_of_a_lane_run_one_after_the_other(void **state)
{
	struct world *w = *state;
	for (int i = 0; i < 4; i++) {
		(void)add(w, 1, "tenant");
	}
	until_inside(w, 1);
	finish_all(w);
	assert_int_equal(w->most, 1);
}

/* A tenant whose jobs are all stuck has half of the threads, the next one half of the rest; and
 * when they have ended, as much as before. */
static void a_tenant_leaves_threads_to_others(void **state)
{
	struct world *w = *state;
	for (int round = 0; round < 3; round++) {
		w->added = w->done = w->most = 0;
		set_door(w, false);
		for (uint64_t lane = 0; lane < WORK_THREADS_MAX; lane++) {
			(void)add(w, lane, "greedy");
		}
		(void)add(w, 1000, "other");
		until_inside(w, WORK_THREADS_MAX / 2 + 1);
		finish_all(w);
		assert_true(w->most <= WORK_THREADS_MAX / 2 + 1);
		for (unsigned i = 0; i < w->added; i++) {
			assert_true(w->jobs[i].ran);
		}
	}
}

static void what_is_cancelled_before_it_began_does_not_run(void **state)
{
	struct world *w = *state;
	(void)add(w, 1, "tenant");
	struct engine_job *second = add(w, 1, "tenant");
	(void)add(w, 1, "tenant");
	until_inside(w, 1);
	work_cancel(w->work, second);
	finish_all(w);
	assert_true(w->jobs[0].ran);
	assert_false(w->jobs[1].ran);
	assert_true(w->jobs[2].ran);
	set_door(w, false);
	(void)add(w, 1, "tenant");
	(void)add(w, 1, "tenant");
	until_inside(w, 1);
	work_cancel_lane(w->work, 1, WORK_FILES);
	finish_all(w);
	assert_true(w->jobs[3].ran);
	assert_false(w->jobs[4].ran);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	(void)alarm(60); /* a job that is never begun would be waited for without an end */
	const struct CMUnitTest tests[] = {
	    TEST(jobs_of_a_lane_run_one_after_the_other),
	    TEST(a_tenant_leaves_threads_to_others),
	    TEST(what_is_cancelled_before_it_began_does_not_run),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
