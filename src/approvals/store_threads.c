#include "approvals/store_threads.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/compiler.h"
#include "base/log.h"

#define PAUSE_MIN_MS 50
#define PAUSE_MAX_MS 2000
#define QUEUE_MAX_BYTES (256U << 20)
#define READ_BATCH_MAX 64
#define LISTEN_MS 10000
#define ALONE_TRIES 3 /* when another transaction is in the way */

/* --- a lane's queue --- */

int store_lane_add(struct store_lane *l, struct approval_request *r)
{
	(void)pthread_mutex_lock(&l->lock);
	bool full = l->waiting.count >= APPROVAL_STORE_QUEUE_MAX ||
		    l->waiting.bytes + r->bytes > QUEUE_MAX_BYTES;
	if (!full) {
		request_queue_add(&l->waiting, r);
		(void)pthread_cond_signal(&l->more);
	}
	(void)pthread_mutex_unlock(&l->lock);
	return full ? -EBUSY : 0;
}

void store_lane_expire(struct store_lane *l, uint64_t before_ms, struct request_queue *out)
{
	(void)pthread_mutex_lock(&l->lock);
	while (l->waiting.first != NULL && l->waiting.first->since_ms < before_ms) {
		request_queue_add(out, request_queue_take(&l->waiting));
	}
	(void)pthread_mutex_unlock(&l->lock);
}

uint32_t store_lane_waiting(struct store_lane *l)
{
	(void)pthread_mutex_lock(&l->lock);
	uint32_t count = l->waiting.count;
	(void)pthread_mutex_unlock(&l->lock);
	return count;
}

/* Waits until there is something. False: nothing is left, and nothing more comes. */
static bool lane_take(struct store_lane *l, uint32_t max, struct request_queue *out)
{
	(void)pthread_mutex_lock(&l->lock);
	while (l->waiting.first == NULL && !l->stop) {
		(void)pthread_cond_wait(&l->more, &l->lock);
	}
	while (l->waiting.first != NULL && out->count < max) {
		request_queue_add(out, request_queue_take(&l->waiting));
	}
	(void)pthread_mutex_unlock(&l->lock);
	return out->first != NULL;
}

/* They came before all that wait now. */
static void lane_put_back(struct store_lane *l, struct request_queue *q)
{
	(void)pthread_mutex_lock(&l->lock);
	request_queue_move(q, &l->waiting);
	request_queue_move(&l->waiting, q);
	(void)pthread_mutex_unlock(&l->lock);
}

/* --- a lost database --- */

/* Longer each time, until something is done again. False: the lane is to stop. */
static bool lane_pause(struct store_lane *l)
{
	struct timespec until;
	l->pause_ms = l->pause_ms == 0 ? PAUSE_MIN_MS : l->pause_ms * 2;
	l->pause_ms = l->pause_ms > PAUSE_MAX_MS ? PAUSE_MAX_MS : l->pause_ms;
	(void)clock_gettime(CLOCK_MONOTONIC, &until);
	uint64_t ns = (uint64_t)until.tv_nsec + l->pause_ms * 1000000ULL;
	until.tv_sec += (time_t)(ns / 1000000000U);
	until.tv_nsec = (long)(ns % 1000000000U);
	(void)pthread_mutex_lock(&l->lock);
	while (
	    !l->stop && pthread_cond_clockwait(&l->more, &l->lock, CLOCK_MONOTONIC, &until) == 0) {
	}
	bool go_on = !l->stop;
	(void)pthread_mutex_unlock(&l->lock);
	return go_on;
}

static void lane_lose(struct store_lane *l)
{
	db_close(l->db);
	l->db = NULL;
}

static bool lane_open(struct store_lane *l)
{
	struct db *d = NULL;
	struct err e;
	if (l->db != NULL) {
		return true;
	}
	if (db_open(&d, l->store->url, &e) < 0) {
		if (!l->away) {
			log_event(LOG_LEVEL_WARNING, "approvals_database_away",
			    LOG_STR("thread", l->name), LOG_STR("reason", e.text));
		}
		l->away = true;
		return false;
	}
	l->db = d;
	if (l->away) {
		log_event(LOG_LEVEL_INFO, "approvals_database_back", LOG_STR("thread", l->name));
	}
	l->away = false;
	if (l->writes) {
		atomic_store(&l->store->writer_session, db_session(d));
	}
	return true;
}

/* Whether the database is there; else what waits has to wait on, or nobody is waited for any more.
 */
static bool lane_has_database(struct store_lane *l, struct request_queue *batch)
{
	while (!lane_open(l)) {
		lane_put_back(l, batch);
		if (!lane_pause(l)) {
			return false;
		}
		if (!lane_take(l, 1, batch)) {
			return false;
		}
	}
	return true;
}

/* --- writing --- */

enum outcome {
	DONE,
	AGAIN,  /* each alone */
	LOST,   /* nothing was done; the database has to be opened again */
	UNSURE, /* the commit may have been made or not */
};

/* Tells other servers. */
static int tell(struct db *d, const json_t *out, struct err *e)
{
	size_t i;
	const json_t *id;
	json_array_foreach(json_object_get(out, "changed"), i, id)
	{
		if (json_is_string(id) && db_notify(d, json_string_value(id), e) < 0) {
			return -1;
		}
	}
	return 0;
}

/* Within a transaction; what it came to is in DRAFT, which was empty. DONE also when it failed
 * without having done anything. */
static enum outcome run_op(
    struct db *d, const struct approval_request *r, struct approval_outcome *draft)
{
	uint64_t before = db_changes(d);
	bool fine = r->op(d, r->in, &draft->out, &draft->e) == 0 &&
		    tell(d, draft->out, &draft->e) == 0;
	if (fine && db_is_broken(d)) {
		fine = err_set(&draft->e, ERR_INTERNAL, "the database: a statement had failed") ==
		       0;
	}
	if (fine) {
		return DONE;
	}
	json_decref(steal(&draft->out));
	return draft->e.code == ERR_UNAVAILABLE             ? LOST
	       : db_is_broken(d) || db_changes(d) != before ? AGAIN
							    : DONE;
}

static enum outcome commit(struct store_lane *l, uint32_t count, struct err *e)
{
	uint64_t changes = 0;
	for (uint32_t i = 0; i < count; i++) {
		changes += l->drafts[i].out != NULL ? 1 : 0;
	}
	if (db_commit(l->db, e) < 0) {
		return e->code == ERR_UNSURE ? UNSURE : e->code == ERR_UNAVAILABLE ? LOST : AGAIN;
	}
	(void)atomic_fetch_add(&l->store->commits, 1);
	(void)atomic_fetch_add(&l->store->changes, changes);
	return DONE;
}

/* Runs all of BATCH; DONE: it is committed, and what the drafts say is true. */
static enum outcome transact(struct store_lane *l, const struct request_queue *batch, struct err *e)
{
	uint64_t before = db_changes(l->db);
	uint32_t i = 0;
	enum outcome o = db_begin(l->db, e) == 0 ? DONE : LOST;
	for (const struct approval_request *r = batch->first; o == DONE && r != NULL; r = r->next) {
		o = run_op(l->db, r, &l->drafts[i]);
		*e = l->drafts[i++].e;
	}
	if (o == DONE && db_changes(l->db) != before) {
		o = commit(l, i, e);
	} else if (o == DONE) {
		db_rollback(l->db); /* nothing was changed */
	}
	if (o != DONE) {
		(void)atomic_fetch_add(&l->store->failures, 1);
		db_rollback(l->db);
	}
	return o;
}

/* All of BATCH in one transaction. DONE: each has its answer; else none has. */
static enum outcome write_together(struct store_lane *l, struct request_queue *batch, struct err *e)
{
	uint32_t i = 0;
	enum outcome o = transact(l, batch, e);
	for (struct approval_request *r = batch->first; r != NULL; r = r->next, i++) {
		if (o == DONE) {
			request_answer(r, &l->drafts[i]);
		} else {
			approval_outcome_clear(&l->drafts[i]);
		}
	}
	return o;
}

/* One that failed in its transaction: as long as others are in the way it is tried again. */
static enum outcome write_alone(struct store_lane *l, struct approval_request *r, struct err *e)
{
	enum outcome o = AGAIN;
	for (int i = 0; o == AGAIN && i < ALONE_TRIES; i++) {
		struct request_queue one;
		request_queue_init(&one);
		request_queue_add(&one, r);
		*e = (struct err){0};
		o = write_together(l, &one, e);
		if (o == AGAIN && e->code != ERR_BUSY) {
			break;
		}
	}
	if (o == AGAIN) {
		request_refuse(r, e);
		return DONE;
	}
	return o;
}

/* Moves what is done from BATCH to DONE_Q; what is not stays. */
static enum outcome write_each(
    struct store_lane *l, struct request_queue *batch, struct request_queue *done_q, struct err *e)
{
	struct request_queue left;
	enum outcome o = DONE;
	request_queue_init(&left);
	while (o == DONE && batch->first != NULL) {
		struct approval_request *r = request_queue_take(batch);
		o = write_alone(l, r, e);
		request_queue_add(o == DONE ? done_q : &left, r);
	}
	request_queue_move(&left, batch);
	request_queue_move(batch, &left);
	return o;
}

/* Nobody can know whether the first of BATCH (all of them when WHOLE) was done. */
static void answer_unsure(struct request_queue *batch, struct request_queue *done_q, bool whole)
{
	struct err e = {0};
	(void)err_set(&e, ERR_UNSURE,
	    "the database was lost while this was committed: it may have been done, or not");
	do {
		struct approval_request *r = request_queue_take(batch);
		request_refuse(r, &e);
		request_queue_add(done_q, r);
	} while (whole && batch->first != NULL);
}

static void write_batch(struct store_lane *l, struct request_queue *batch)
{
	struct err e = {0};
	struct request_queue done_q;
	request_queue_init(&done_q);
	enum outcome o = write_together(l, batch, &e);
	bool whole = o != AGAIN;
	if (o == DONE) {
		request_queue_move(&done_q, batch);
	} else if (o == AGAIN) {
		o = write_each(l, batch, &done_q, &e);
	}
	if (o == UNSURE) {
		answer_unsure(batch, &done_q, whole);
	}
	store_finish(l->store, &done_q);
	if (o == DONE) {
		l->pause_ms = 0;
		return;
	}
	lane_lose(l);
	lane_put_back(l, batch);
}

/* --- reading --- */

/* Answers go out one by one. */
static void read_batch(struct store_lane *l, struct request_queue *batch)
{
	struct err e = {0};
	enum outcome o = DONE;
	while (o != LOST && batch->first != NULL) {
		o = db_snapshot(l->db, &e) == 0 ? DONE : LOST;
		while (o == DONE && batch->first != NULL) {
			o = run_op(l->db, batch->first, &l->drafts[0]);
			if (o == LOST) {
				approval_outcome_clear(&l->drafts[0]);
				break;
			}
			struct request_queue one;
			struct approval_request *r = request_queue_take(batch);
			request_answer(r, &l->drafts[0]);
			request_queue_init(&one);
			request_queue_add(&one, r);
			store_finish(l->store, &one);
		}
		db_rollback(l->db);
	}
	if (o == LOST) {
		lane_lose(l);
		lane_put_back(l, batch);
		return;
	}
	l->pause_ms = 0;
}

/* --- threads --- */

static void *lane_main(void *arg)
{
	struct store_lane *l = arg;
	struct request_queue batch;
	uint32_t max = l->writes ? APPROVAL_STORE_BATCH_MAX : READ_BATCH_MAX;
	request_queue_init(&batch);
	while (lane_take(l, max, &batch)) {
		if (!lane_has_database(l, &batch)) {
			break;
		}
		if (l->writes) {
			write_batch(l, &batch);
		} else {
			read_batch(l, &batch);
		}
		if (l->db == NULL && !lane_pause(l)) {
			break;
		}
	}
	request_queue_fini(&batch);
	lane_lose(l);
	return NULL;
}

/* Signals are the loop's. */
static int start_thread(pthread_t *out, const char *name, void *(*fn)(void *), void *arg)
{
	sigset_t all, before;
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before);
	int r = pthread_create(out, NULL, fn, arg);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r == 0) {
		(void)pthread_setname_np(*out, name);
	}
	return -r;
}

int store_lane_start(
    struct store_lane *l, struct approval_store *s, const char *name, bool writes, struct db *db)
{
	*l = (struct store_lane){.store = s, .name = name, .writes = writes, .db = db};
	l->drafts = calloc(APPROVAL_STORE_BATCH_MAX, sizeof(*l->drafts));
	if (l->drafts == NULL) {
		return -ENOMEM;
	}
	request_queue_init(&l->waiting);
	(void)pthread_mutex_init(&l->lock, NULL);
	(void)pthread_cond_init(&l->more, NULL);
	if (writes) {
		atomic_store(&s->writer_session, db_session(db));
	}
	int r = start_thread(&l->thread, name, lane_main, l);
	l->started = r == 0;
	if (r < 0) {
		free(steal(&l->drafts));
	}
	return r;
}

void store_lane_stop(struct store_lane *l)
{
	if (!l->started) {
		return;
	}
	(void)pthread_mutex_lock(&l->lock);
	l->stop = true;
	(void)pthread_cond_signal(&l->more);
	(void)pthread_mutex_unlock(&l->lock);
	(void)pthread_join(l->thread, NULL);
	request_queue_fini(&l->waiting);
	(void)pthread_mutex_destroy(&l->lock);
	(void)pthread_cond_destroy(&l->more);
	free(steal(&l->drafts));
	l->started = false;
}

/* --- listening --- */

/* ID "": anything may have changed. */
static void hear(struct approval_store *s, const char *id)
{
	(void)pthread_mutex_lock(&s->done_lock);
	if (id[0] == '\0' || s->heard_count == HEARD_MAX || strlen(id) >= HEARD_ID_BYTES) {
		s->heard_all = true;
	} else {
		memcpy(s->heard[s->heard_count++], id, strlen(id) + 1);
	}
	(void)pthread_mutex_unlock(&s->done_lock);
	(void)uv_async_send(&s->told);
}

static void on_told(void *ctx, const char *id, int64_t from)
{
	struct approval_store *s = ctx;
	if (from != atomic_load(&s->writer_session)) {
		hear(s, id);
	}
}

static void listener_pause(const struct approval_store *s, uint32_t *pause_ms)
{
	*pause_ms = *pause_ms == 0 ? PAUSE_MIN_MS : *pause_ms * 2;
	*pause_ms = *pause_ms > PAUSE_MAX_MS ? PAUSE_MAX_MS : *pause_ms;
	struct pollfd fd = {.fd = s->wake_fd, .events = POLLIN};
	(void)poll(&fd, 1, (int)*pause_ms);
}

static bool listener_open(struct approval_store *s)
{
	struct db *d = NULL;
	if (db_open(&d, s->url, NULL) < 0 || db_listen(d, NULL) < 0) {
		db_close(d);
		return false;
	}
	s->listener_db = d;
	return true;
}

/* Listening again asks the server whether it still answers. */
static bool listener_turn(struct approval_store *s, uint64_t *asked_ms)
{
	if (db_wait(s->listener_db, s->wake_fd, LISTEN_MS, on_told, s, NULL) < 0) {
		return false;
	}
	if (clock_mono_ms() - *asked_ms < LISTEN_MS) {
		return true;
	}
	*asked_ms = clock_mono_ms();
	return db_listen(s->listener_db, NULL) == 0;
}

static void *listener_main(void *arg)
{
	struct approval_store *s = arg;
	uint32_t pause_ms = 0;
	uint64_t asked_ms = clock_mono_ms();
	while (!atomic_load(&s->stop_listening)) {
		if (s->listener_db == NULL && !listener_open(s)) {
			listener_pause(s, &pause_ms);
			continue;
		}
		if (pause_ms > 0) {
			hear(s, "");
			pause_ms = 0;
		}
		if (!listener_turn(s, &asked_ms)) {
			db_close(s->listener_db);
			s->listener_db = NULL;
			listener_pause(s, &pause_ms);
		}
	}
	db_close(s->listener_db);
	s->listener_db = NULL;
	return NULL;
}

int store_listener_start(struct approval_store *s, struct db *db)
{
	s->listener_db = db;
	int r = start_thread(&s->listener, "approvals-hear", listener_main, s);
	s->listens = r == 0;
	return r;
}

void store_listener_stop(struct approval_store *s)
{
	if (s->listens) {
		atomic_store(&s->stop_listening, true);
		(void)eventfd_write(s->wake_fd, 1);
		(void)pthread_join(s->listener, NULL);
		s->listens = false;
	}
}

/* --- to the loop --- */

void store_finish(struct approval_store *s, struct request_queue *q)
{
	if (q->first == NULL) {
		return;
	}
	(void)pthread_mutex_lock(&s->done_lock);
	request_queue_move(&s->done, q);
	(void)pthread_mutex_unlock(&s->done_lock);
	(void)uv_async_send(&s->told);
}
