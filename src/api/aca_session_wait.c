#include "api/aca_session_wait.h"

#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"
#include "base/fd.h"

struct dir_wait {
	struct call *call;
	struct session *session; /* valid while waiting: its end tells the waiter */
	struct session_waiter waiter;
	aca_dir_run run;
	bool done;
	bool starting; /* aca_with_dir has not returned yet */
};

struct session *aca_hold_session(const struct aca_hold *h)
{
	struct session *s = h->pool == NULL
				? NULL
				: engine_session_find(h->pool, h->tenant, h->identifier);
	bool same = s != NULL && strcmp(s->guid, h->guid) == 0;
	return same && s->state == SESSION_ACTIVE && s->worker != NULL ? s : NULL;
}

void aca_hold_release(struct aca_hold *h)
{
	if (h->pool != NULL) {
		engine_session_unhold(h->pool, h->guid, h->tenant, h->identifier);
		h->pool = NULL;
	}
}

void aca_hold_work(const struct aca_hold *h, struct engine_job *j)
{
	engine_work(h->engine, h->worker_id, h->tenant, j);
}

void aca_hold_gone(struct err *e)
{
	(void)err_set(e, ERR_GONE, "the session has ended");
}

struct closing {
	struct engine_job job;
	int fd;
};

static void close_run(struct engine_job *job)
{
	fd_close(&container_of(job, struct closing, job)->fd);
}

static void close_done(struct engine_job *job, bool ran)
{
	(void)ran;
	close_run(job); /* without a thread here, then */
	free(container_of(job, struct closing, job));
}

void aca_hold_close(const struct aca_hold *h, int *fd)
{
	struct closing *c = *fd >= 0 ? calloc(1, sizeof(*c)) : NULL;
	if (c == NULL) {
		fd_close(fd);
		return;
	}
	c->job = (struct engine_job){.run = close_run, .done = close_done};
	c->fd = fd_take(fd);
	aca_hold_work(h, &c->job);
}

static void on_ready(void *ctx, struct session *s, const struct err *e)
{
	struct dir_wait *w = ctx;
	struct call *c = w->call;
	c->ctx = NULL;
	c->gone = NULL;
	w->done = true;
	bool starting = w->starting;
	aca_dir_run run = w->run;
	if (!starting) {
		free(w);
	}
	if (s == NULL) {
		struct aca_problem p;
		(void)aca_problem_err(&p, e, NULL);
		aca_fail(c, &p);
		return;
	}
	struct aca_hold hold = {.pool = s->pool,
	    .engine = s->pool->engine,
	    .worker_id = s->worker->id,
	    .dir_fd = s->worker->data_dir_fd};
	memcpy(hold.guid, s->guid, sizeof(hold.guid));
	memcpy(hold.tenant, s->tenant, sizeof(hold.tenant));
	memcpy(hold.identifier, s->identifier, sizeof(hold.identifier));
	engine_session_hold(s);
	run(c, &hold, !starting);
}

static void on_gone(struct call *c)
{
	struct dir_wait *w = c->ctx;
	engine_session_unwait(w->session, &w->waiter);
	free(w);
}

bool aca_with_dir(struct call *c, const struct aca_where *where, aca_dir_run run)
{
	struct aca_problem p;
	struct session *s = aca_session_open(where, &p);
	if (s == NULL) {
		aca_fail(c, &p);
		return true;
	}
	struct dir_wait *w = calloc(1, sizeof(*w));
	if (w == NULL) {
		(void)aca_problem(&p, ACA_INTERNAL, NULL, "out of memory");
		aca_fail(c, &p);
		return true;
	}
	*w = (struct dir_wait){.call = c, .session = s, .run = run, .starting = true};
	w->waiter = (struct session_waiter){.ready = on_ready, .ctx = w};
	c->ctx = w;
	c->gone = on_gone;
	engine_session_wait(s, &w->waiter);
	w->starting = false;
	if (w->done) {
		free(w);
		return true;
	}
	return false;
}
