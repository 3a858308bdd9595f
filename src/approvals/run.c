/*
 * run: an approval's code in a session of its own, from the claim to what came of it.
 *
 * The session is reserved (engine.h), is of the approval's tenant, and is deleted as soon as its
 * result and the files to keep have been read.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "approvals/internal.h"
#include "approvals/kept.h"
#include "approvals/result.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"

#define FULL_PAUSE_US 1000000ULL
#define FULL_PAUSE_MAX_US 30000000ULL

struct run {
	struct approvals *approvals;
	char id[APPROVALS_ID_BYTES];
	int64_t fence;
	char key[APPROVALS_ID_BYTES + 24];        /* ID ":" ATTEMPT, stable */
	char identifier[APPROVALS_ID_BYTES + 40]; /* of the session */
	char tenant[ENGINE_TENANT_MAX + 1];
	struct pool *pool;
	json_t *globs;       /* what is to be kept; NULL: nothing */
	struct execution *x; /* a reference, until its result has been read */
	struct execution_observer observer;
	bool ended;        /* x is final, and nobody has looked yet */
	struct kept *kept; /* files are being read */
	json_t *result;
	struct approval_request *look; /* whether it was cancelled */
	bool look_again;
	struct run *prev, *next;
};

/* Beside the loop. It outlives its run when the server stops. */
struct kept {
	uv_work_t work;
	struct run *run; /* NULL: nobody wants it any more */
	int dir_fd;
	json_t *globs;
	json_t *files;
	json_t *list;
	struct err e;
	int result;
};

/* --- the end -------------------------------------------------------------------------------------
 */

static void stop_looking(struct run *r)
{
	approval_store_cancel(steal(&r->look));
}

static void drop(struct run *r)
{
	DL_DELETE(r->approvals->runs, r);
	stop_looking(r);
	if (r->kept != NULL) {
		r->kept->run = NULL;
	}
	if (r->x != NULL) {
		if (!r->ended) {
			execution_unobserve(r->x, &r->observer);
		}
		execution_unref(r->x);
	}
	json_decref(r->globs);
	json_decref(r->result);
	free(r);
}

static void end_session(const struct run *r)
{
	engine_set_now(r->approvals->config.engine, clock_mono_ms());
	struct session *s = r->pool == NULL
				? NULL
				: engine_session_find_reserved(r->pool, r->tenant, r->identifier);
	if (s != NULL) {
		engine_session_delete(s);
	}
}

static void over(struct run *r)
{
	struct approvals *a = r->approvals;
	drop(r);
	lane_done(a, LANE_RUN);
}

static void fail(struct run *r, const char *reason);

static void on_finished(void *ctx, const json_t *answer, const struct err *e)
{
	struct run *r = ctx;
	(void)answer;
	if (e == NULL || e->code == ERR_CONFLICT || e->code == ERR_NOT_FOUND) {
		/* Cancelled meanwhile, or somebody else's by now: what came of it is nobody's. */
		log_event(LOG_LEVEL_INFO, "approval_run_ended", LOG_STR("run", r->key),
		    LOG_STR("kept", e == NULL ? "yes" : "no"));
		over(r);
		return;
	}
	log_event(LOG_LEVEL_ERROR, "approval_run_lost", LOG_STR("run", r->key),
	    LOG_STR("reason", e->text));
	if (r->result == NULL) {
		over(r);
		return;
	}
	json_decref(steal(&r->result));
	fail(r, "its result could not be stored");
}

/* How it ended, whatever the outcome of what it ran. */
static void finish(struct run *r, json_t *files)
{
	end_session(r);
	stop_looking(r);
	json_t *in = json_pack("{s:s, s:I, s:I, s:b, s:O, s:o*}", "id", r->id, "fence",
	    (json_int_t)r->fence, "now_us", (json_int_t)approvals_now_us(r->approvals), "ok", 1,
	    "result", r->result, "files", files);
	sure_write(r->approvals, records_finish_run, in, on_finished, r);
}

static void fail(struct run *r, const char *reason)
{
	end_session(r);
	stop_looking(r);
	json_t *in = json_pack("{s:s, s:I, s:I, s:b, s:s, s:n}", "id", r->id, "fence",
	    (json_int_t)r->fence, "now_us", (json_int_t)approvals_now_us(r->approvals), "ok", 0,
	    "reason", reason, "result");
	sure_write(r->approvals, records_finish_run, in, on_finished, r);
}

static void on_put_back(void *ctx, const json_t *answer, const struct err *e)
{
	struct run *r = ctx;
	(void)answer;
	(void)e;
	over(r);
}

static json_t *back(const struct run *r, int64_t in_us, const char *reason)
{
	int64_t now_us = approvals_now_us(r->approvals);
	json_int_t retry_us = now_us + in_us;
	return json_pack("{s:s, s:I, s:I, s:I, s:s}", "id", r->id, "fence", (json_int_t)r->fence,
	    "now_us", (json_int_t)now_us, "retry_us", retry_us, "reason", reason);
}

static struct pool_pause *pause_of(const struct run *r)
{
	return &r->approvals->pauses[r->pool - r->approvals->config.engine->pools];
}

/* There was no room for it in its pool, which has none of its own begun for a while; each time
 * longer, until one has. Other pools' go on. */
static void put_back(struct run *r, const char *reason)
{
	struct approvals *a = r->approvals;
	struct pool_pause *p = pause_of(r);
	int64_t now_us = approvals_now_us(a);
	if (now_us >= p->until_us) { /* else one of the same claim has had it pause */
		p->pause_us = p->pause_us == 0 ? FULL_PAUSE_US : p->pause_us * 2;
		p->pause_us = p->pause_us < FULL_PAUSE_MAX_US ? p->pause_us : FULL_PAUSE_MAX_US;
		p->until_us = now_us + (int64_t)p->pause_us;
	}
	int64_t pause_us = p->until_us - now_us;
	end_session(r);
	stop_looking(r);
	sure_write(a, records_put_back, back(r, pause_us, reason), on_put_back, r);
}

/* --- files to keep -------------------------------------------------------------------------------
 */

static void read_kept(uv_work_t *work)
{
	struct kept *k = work->data;
	k->result = kept_read(k->dir_fd, k->globs, &k->files, &k->list, &k->e);
}

static void on_kept(uv_work_t *work, int status)
{
	struct kept *k = work->data;
	struct run *r = k->run;
	if (r != NULL) {
		r->kept = NULL;
		if (status < 0 || k->result < 0) {
			(void)json_object_set_new(r->result, "files_problem",
			    json_string(status < 0 ? "they were not read" : k->e.text));
			finish(r, NULL);
		} else {
			(void)json_object_set(r->result, "files", k->list);
			finish(r, json_incref(k->files));
		}
	}
	json_decref(k->files);
	json_decref(k->list);
	json_decref(k->globs);
	fd_close(&k->dir_fd);
	free(k);
}

static int begin_keeping(struct run *r, struct err *e)
{
	const struct session *s = engine_session_find_reserved(r->pool, r->tenant, r->identifier);
	if (s == NULL || s->worker == NULL || s->worker->data_dir_fd < 0) {
		return err_set(e, ERR_GONE, "the session ended, and its files with it");
	}
	struct kept *k = calloc(1, sizeof(*k));
	if (k == NULL) {
		return err_set(e, ERR_INTERNAL, "out of memory");
	}
	k->dir_fd = fcntl(s->worker->data_dir_fd, F_DUPFD_CLOEXEC, 3);
	k->globs = json_deep_copy(r->globs); /* its own: a thread reads it */
	k->run = r;
	k->work.data = k;
	r->kept = k;
	if (k->dir_fd < 0 || k->globs == NULL ||
	    uv_queue_work(r->approvals->loop, &k->work, read_kept, on_kept) < 0) {
		r->kept = NULL;
		json_decref(k->globs);
		fd_close(&k->dir_fd);
		free(k);
		return err_set(e, ERR_INTERNAL, "no more descriptors or memory");
	}
	return 0;
}

/* --- while it runs -------------------------------------------------------------------------------
 */

static void conclude(struct run *r)
{
	struct err e = {0};
	struct execution *x = r->x;
	r->ended = false;
	r->x = NULL;
	bool begun = x->started_us != 0;
	r->result = begun ? result_of(x, r->key) : NULL;
	execution_unref(x);
	if (begun) {
		*pause_of(r) = (struct pool_pause){0};
	}
	if (!begun) {
		put_back(r, "no session could be made for it");
	} else if (r->result == NULL) {
		fail(r, "its result could not be read");
	} else if (r->globs == NULL) {
		finish(r, NULL);
	} else if (begin_keeping(r, &e) < 0) {
		(void)json_object_set_new(r->result, "files_problem", json_string(e.text));
		finish(r, NULL);
	}
}

void runs_conclude(struct approvals *a)
{
	struct run *r, *next;
	DL_FOREACH_SAFE(a->runs, r, next)
	{
		if (r->ended) {
			conclude(r);
		}
	}
}

/* The engine is in the middle of something: what follows is done afterwards. */
static void on_change(void *ctx, struct execution *x)
{
	struct run *r = ctx;
	if (execution_is_final(x) && !r->ended) {
		execution_unobserve(x, &r->observer);
		r->ended = true;
		workflow_later(r->approvals);
	}
}

static void look(struct run *r);

static void on_looked(void *ctx, const json_t *answer, const struct err *e)
{
	struct run *r = ctx;
	r->look = NULL;
	if (e == NULL && json_is_true(json_object_get(answer, "final")) && r->x != NULL) {
		engine_set_now(r->approvals->config.engine, clock_mono_ms());
		engine_cancel(r->x);
	} else if (r->look_again) {
		look(r);
	}
}

static void look(struct run *r)
{
	r->look_again = r->look != NULL;
	if (r->look != NULL) {
		return;
	}
	json_t *in = json_pack("{s:s, s:n, s:I, s:i}", "id", r->id, "tenant", "after",
	    (json_int_t)INT64_MAX, "limit", 1);
	r->look = in != NULL
		      ? approval_store_read(r->approvals->store, records_events, in, on_looked, r)
		      : NULL;
}

void runs_changed(struct approvals *a, const char *id)
{
	struct run *r;
	DL_FOREACH(a->runs, r)
	{
		if (r->x != NULL && !r->ended && (*id == '\0' || strcmp(r->id, id) == 0)) {
			look(r);
		}
	}
}

const char *run_of_session(const struct approvals *a, const struct session *s)
{
	const struct run *r;
	DL_FOREACH(a->runs, r)
	{
		if (r->pool == s->pool && strcmp(r->identifier, s->identifier) == 0 &&
		    strcmp(r->tenant, s->tenant) == 0) {
			return r->id;
		}
	}
	return NULL;
}

/* --- the beginning -------------------------------------------------------------------------------
 */

static int execute(struct run *r, const json_t *approval, struct err *e)
{
	const json_t *code = json_object_get(approval, "code");
	const json_t *settings = json_object_get(approval, "settings");
	struct session *s = engine_session_reserve(r->pool, r->tenant, r->identifier, e);
	if (s == NULL) {
		return -1;
	}
	const struct execution_request request = {
	    .kind = r->pool->config.type == POOL_SHELL ? IPC_EXECUTE_SHELL : IPC_EXECUTE_PYTHON,
	    .code = {json_string_value(code), (uint32_t)json_string_length(code)},
	    .values = true,
	    .asynchronous = true,
	    .timeout_ms = (uint32_t)json_integer_value(json_object_get(settings, "timeout_ms")),
	    .by = json_string_value(json_object_get(approval, "submitter")),
	};
	r->x = engine_execute(s, &request, e);
	if (r->x == NULL) {
		engine_session_delete(s);
		return -1;
	}
	r->observer = (struct execution_observer){.notify = on_change, .ctx = r};
	if (execution_is_final(r->x)) {
		r->ended = true;
		workflow_later(r->approvals);
	} else {
		execution_observe(r->x, &r->observer);
	}
	return 0;
}

static struct run *run_new(struct approvals *a, const struct task *t)
{
	char guid[TEXT_GUID_BYTES];
	const json_t *settings = json_object_get(t->approval, "settings");
	json_t *promote = json_object_get(settings, "promote");
	const char *tenant = json_string_value(json_object_get(t->approval, "tenant"));
	struct run *r = calloc(1, sizeof(*r));
	if (r == NULL) {
		return NULL;
	}
	r->approvals = a;
	r->fence = t->fence;
	memcpy(r->id, t->id, sizeof(r->id));
	(void)snprintf(r->key, sizeof(r->key), "%s:%" PRId64, t->id, t->attempt);
	/* The rest cannot be guessed, so nobody can have a session there before it is made. */
	(void)snprintf(r->identifier, sizeof(r->identifier), "approval-%s-%" PRId64 "-%.8s", t->id,
	    t->attempt, text_guid(guid));
	(void)snprintf(r->tenant, sizeof(r->tenant), "%s", tenant != NULL ? tenant : "");
	r->globs = json_incref(json_object_get(promote, "files"));
	DL_APPEND(a->runs, r);
	return r;
}

void run_begin(struct approvals *a, const struct task *t)
{
	struct err e = {0};
	const char *pool = json_string_value(json_object_get(t->approval, "pool"));
	const char *tenant = json_string_value(json_object_get(t->approval, "tenant"));
	struct run *r = run_new(a, t);
	if (r == NULL) {
		lane_done(a, LANE_RUN);
		return;
	}
	if (tenant != NULL && strlen(tenant) > ENGINE_TENANT_MAX) {
		fail(r, "its tenant's name is too long"); /* never cut: that is another's */
		return;
	}
	r->pool = pool != NULL ? engine_pool(a->config.engine, pool) : NULL;
	if (r->pool == NULL) {
		fail(r, "the server has no session pool of that name any more");
		return;
	}
	engine_set_now(a->config.engine, clock_mono_ms());
	a->counts.runs++;
	/* Those before it were interrupted: one that was put back does not count. */
	a->counts.runs_interrupted += t->attempt > 1;
	if (execute(r, t->approval, &e) == 0) {
		log_event(LOG_LEVEL_INFO, "approval_run", LOG_STR("run", r->key));
	} else if (e.code == ERR_BUSY || e.code == ERR_UNAVAILABLE || e.code == ERR_CONFLICT) {
		put_back(r, e.text);
	} else {
		fail(r, e.text);
	}
}

json_t *runs_held(const struct approvals *a)
{
	json_t *ids = json_array();
	const struct run *one;
	DL_FOREACH(a->runs, one)
	{
		(void)json_array_append_new(ids, json_string(one->id));
	}
	return ids;
}

/* Whoever starts next goes on at once. */
void runs_stop(struct approvals *a)
{
	struct run *r, *next;
	DL_FOREACH_SAFE(a->runs, r, next)
	{
		sure_forget(a, r);
		if (r->x != NULL || r->kept != NULL) {
			sure_write(
			    a, records_put_back, back(r, 0, "the server stopped"), NULL, NULL);
		}
		drop(r);
	}
}
