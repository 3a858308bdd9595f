/*
 * fake_work: the jobs of sessions without threads. They are run when the test says so, which is
 * later than the question, as the engine promises.
 */
#ifndef TESTS_FAKE_WORK_H
#define TESTS_FAKE_WORK_H

#include <utlist.h>

#include "engine/engine.h"

struct fake_work {
	struct engine_job *waiting;
};

static inline void fake_work_add(struct fake_work *w, struct engine_job *j)
{
	j->lane = NULL;
	DL_APPEND(w->waiting, j);
}

static inline void fake_work_cancel(struct fake_work *w, struct engine_job *j)
{
	struct engine_job *at;
	DL_FOREACH(w->waiting, at)
	{
		if (at == j) {
			j->lane = w; /* not to be run */
		}
	}
}

/* Runs those that wait; false when there were none. */
static inline bool fake_work_run(struct fake_work *w)
{
	bool any = w->waiting != NULL;
	while (w->waiting != NULL) {
		struct engine_job *j = w->waiting;
		bool wanted = j->lane == NULL;
		DL_DELETE(w->waiting, j);
		if (wanted) {
			j->run(j);
		}
		j->done(j, wanted);
	}
	return any;
}

#endif
