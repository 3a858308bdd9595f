/* The work loop: finds what is due, claims it, keeps its leases. */
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "approvals/internal.h"
#include "base/clock.h"
#include "base/log.h"

#define POLL_MS 1000 /* another server may have added something, and the database need not tell */
#define SOON_MS 50
#define LEAST_MS 20
#define LAPSE_MAX 200
#define CLAIM_MAX 16
#define FORGET_MAX 500
#define COUNT_PAUSE_US 5000000LL
#define FORGET_PAUSE_US 60000000LL
#define FORGET_MORE_US 200000LL
#define RETRY_MAX_US 3600000000LL

static const char *const lane_names[LANE_COUNT] = {
    [LANE_RUN] = "run", [LANE_CALLBACK] = "callback", [LANE_PROMOTE] = "promote"};

int64_t workflow_retry_us(int64_t at_us, int64_t attempt)
{
	int64_t pause_us = 1000000;
	uint32_t chance = 0;
	for (int64_t i = 1; i < attempt && pause_us < RETRY_MAX_US; i++) {
		pause_us *= 2;
	}
	pause_us = pause_us < RETRY_MAX_US ? pause_us : RETRY_MAX_US;
	if (getrandom(&chance, sizeof(chance), GRND_NONBLOCK) != sizeof(chance)) {
		chance = 0;
	}
	return at_us + pause_us + pause_us / 4 * (chance % 1024) / 1024;
}

/* --- claims --------------------------------------------------------------------------------------
 */

static void claim(struct lane *l);

static void begin(struct lane *l, const json_t *one)
{
	struct approvals *a = l->approvals;
	const json_t *approval = json_object_get(one, "approval");
	const char *id = json_string_value(json_object_get(approval, "id"));
	struct task t = {
	    .fence = json_integer_value(json_object_get(one, "fence")),
	    .attempt = json_integer_value(json_object_get(one, "attempt")),
	    .approval = approval,
	};
	if (id == NULL || strlen(id) >= sizeof(t.id)) {
		return;
	}
	memcpy(t.id, id, strlen(id));
	l->active++;
	switch (l->kind) {
	case LANE_RUN:
		run_begin(a, &t);
		break;
	case LANE_CALLBACK:
		callback_begin(a, &t);
		break;
	case LANE_PROMOTE:
		promotion_begin(a, &t);
		break;
	case LANE_COUNT:
		break;
	}
}

static void on_claimed(void *ctx, const json_t *answer, const struct err *e)
{
	struct lane *l = ctx;
	size_t i;
	json_t *one;
	l->claim = NULL;
	l->unsure = e == NULL ? false : l->unsure || e->code == ERR_UNSURE;
	if (e != NULL) {
		log_event(LOG_LEVEL_WARNING, "approvals_claim_failed", LOG_STR("reason", e->text));
		return; /* the timer asks again */
	}
	json_t *tasks = json_object_get(answer, "tasks");
	json_decref(l->turns);
	l->turns = json_incref(json_object_get(answer, "turns"));
	json_array_foreach(tasks, i, one)
	{
		begin(l, one);
	}
	if (l->again || json_array_size(tasks) > 0) {
		claim(l);
	}
}

static bool may_claim(const struct lane *l)
{
	const struct approvals *a = l->approvals;
	return a->started && !a->stopped && !(l->kind == LANE_RUN && a->draining) &&
	       !(l->kind == LANE_CALLBACK && a->config.runner == NULL) &&
	       !(l->kind == LANE_PROMOTE && a->config.store == NULL) && l->active < l->max;
}

/* What is this server's own, so that a claim can let go of what it has never heard of. */
static json_t *held(const struct lane *l)
{
	static json_t *(*const of[LANE_COUNT])(const struct approvals *) = {[LANE_RUN] = runs_held,
	    [LANE_CALLBACK] = callbacks_held,
	    [LANE_PROMOTE] = promotions_held};
	return of[l->kind](l->approvals);
}

/* How many runs P may begin. */
static uint32_t places_of(const struct approvals *a, uint32_t pool)
{
	const struct pool *p = &a->config.engine->pools[pool];
	uint32_t used = p->session_count - p->own_count;
	return used >= p->config.max_sessions || approvals_now_us(a) < a->pauses[pool].until_us
		   ? 0
		   : p->config.max_sessions - used;
}

/* {pool: places}; *SUM of all. */
static json_t *all_places(const struct approvals *a, uint32_t *sum)
{
	const struct engine *en = a->config.engine;
	json_t *all = json_object();
	for (uint32_t i = 0; i < en->pool_count; i++) {
		uint32_t places = places_of(a, i);
		*sum += places;
		(void)json_object_set_new(
		    all, en->pools[i].config.name, json_integer((json_int_t)places));
	}
	return all;
}

static json_t *claim_of(const struct lane *l, uint32_t room, const json_t *places)
{
	const struct approvals *a = l->approvals;
	int64_t now_us = approvals_now_us(a);
	return json_pack("{s:s, s:I, s:I, s:i, s:s, s:i, s:O*, s:O*, s:o*}", "owner", a->owner,
	    "now_us", (json_int_t)now_us, "lease_us",
	    (json_int_t)(now_us + a->config.lease_ms * 1000LL), "limit",
	    (int)(room < CLAIM_MAX ? room : CLAIM_MAX), "kind", lane_names[l->kind], "share",
	    (int)((l->max + 1) / 2), "places", places, "turns", l->turns, "held",
	    l->unsure ? held(l) : NULL);
}

static void claim(struct lane *l)
{
	struct approvals *a = l->approvals;
	if (l->claim != NULL) {
		l->again = true;
		return;
	}
	if (!may_claim(l)) {
		return;
	}
	l->again = false;
	uint32_t sum = 0;
	cleanup(json_decrefp) json_t *places = l->kind == LANE_RUN ? all_places(a, &sum) : NULL;
	uint32_t room = l->max - l->active;
	room = places != NULL && sum < room ? sum : room;
	if (room == 0) {
		return; /* the timer asks again */
	}
	json_t *in = claim_of(l, room, places);
	l->claim = in != NULL ? approval_store_write(a->store, records_claim, in, on_claimed, l)
			      : NULL;
}

void lane_done(struct approvals *a, enum lane_kind kind)
{
	struct lane *l = &a->lanes[kind];
	l->active--;
	claim(l);
}

/* --- deadlines, and what is forgotten ------------------------------------------------------------
 */

static void on_due(uv_timer_t *timer);

static void wake_in(struct approvals *a, uint64_t ms)
{
	if (a->started && !a->stopped) {
		(void)uv_timer_start(&a->due, on_due, ms, 0);
	}
}

/* Nearer than what the timer waits for, or that. */
static void wake_within(struct approvals *a, uint64_t ms)
{
	bool waits = uv_is_active((uv_handle_t *)&a->due) != 0;
	if (!waits || uv_timer_get_due_in(&a->due) > ms) {
		wake_in(a, ms);
	}
}

static uint64_t pause_until(const struct approvals *a, const json_t *due)
{
	if (!json_is_integer(due)) {
		return POLL_MS;
	}
	int64_t ms = (json_integer_value(due) - approvals_now_us(a)) / 1000 + 1;
	/* What is due and was not taken waits for a place, whose end asks again. */
	return ms <= 0         ? POLL_MS / 4
	       : ms < LEAST_MS ? LEAST_MS
	       : ms < POLL_MS  ? (uint64_t)ms
			       : POLL_MS;
}

static void on_lapsed(void *ctx, const json_t *answer, const struct err *e)
{
	struct approvals *a = ctx;
	a->lapse = NULL;
	if (e != NULL) {
		log_event(LOG_LEVEL_WARNING, "approvals_lapse_failed", LOG_STR("reason", e->text));
		wake_in(a, POLL_MS);
		return;
	}
	wake_within(a, pause_until(a, json_object_get(answer, "next_due_us")));
}

static void lapse(struct approvals *a)
{
	if (a->lapse != NULL) {
		return;
	}
	json_t *in = json_pack(
	    "{s:I, s:i}", "now_us", (json_int_t)approvals_now_us(a), "limit", LAPSE_MAX);
	a->lapse = in != NULL ? approval_store_write(a->store, records_lapse, in, on_lapsed, a)
			      : NULL;
	if (a->lapse == NULL) {
		wake_in(a, POLL_MS);
	}
}

static void on_forgotten(void *ctx, const json_t *answer, const struct err *e)
{
	struct approvals *a = ctx;
	a->forget = NULL;
	bool more = e == NULL &&
		    json_integer_value(json_object_get(answer, "removed")) >= FORGET_MAX;
	a->forget_us = approvals_now_us(a) + (more ? FORGET_MORE_US : FORGET_PAUSE_US);
}

static void forget(struct approvals *a)
{
	int64_t now_us = approvals_now_us(a);
	if (a->config.keep_ms == 0 || a->forget != NULL || now_us < a->forget_us) {
		return;
	}
	json_t *in = json_pack("{s:I, s:I, s:i}", "before_us",
	    (json_int_t)(now_us - (int64_t)a->config.keep_ms * 1000), "now_us", (json_int_t)now_us,
	    "limit", FORGET_MAX);
	a->forget = in != NULL ? approval_store_write(a->store, records_forget, in, on_forgotten, a)
			       : NULL;
}

static uint64_t number_of(const json_t *open, enum approval_state state)
{
	return (uint64_t)json_integer_value(json_object_get(open, approval_state_name(state)));
}

static void on_counted(void *ctx, const json_t *answer, const struct err *e)
{
	struct approvals *a = ctx;
	const json_t *open = json_object_get(answer, "open");
	a->count = NULL;
	if (e == NULL) {
		a->counts.open_queued = number_of(open, APPROVAL_QUEUED);
		a->counts.open_running = number_of(open, APPROVAL_RUNNING);
		a->counts.open_waiting = number_of(open, APPROVAL_WAITING);
	}
}

static void count(struct approvals *a)
{
	int64_t now_us = approvals_now_us(a);
	if (a->count != NULL || now_us < a->count_us) {
		return;
	}
	a->count_us = now_us + COUNT_PAUSE_US;
	json_t *in = json_object();
	a->count = in != NULL ? approval_store_read(a->store, records_count, in, on_counted, a)
			      : NULL;
}

static void on_due(uv_timer_t *timer)
{
	struct approvals *a = timer->data;
	for (int i = 0; i < LANE_COUNT; i++) {
		claim(&a->lanes[i]);
	}
	lapse(a);
	forget(a);
	count(a);
	parked_beat(a);
}

void workflow_poke(struct approvals *a)
{
	for (int i = 0; i < LANE_COUNT; i++) {
		claim(&a->lanes[i]);
	}
	wake_within(a, SOON_MS);
}

/* --- leases --------------------------------------------------------------------------------------
 */

static void on_renewed(void *ctx, const json_t *answer, const struct err *e)
{
	struct approvals *a = ctx;
	(void)answer;
	a->renewal = NULL;
	if (e != NULL) {
		log_event(LOG_LEVEL_WARNING, "approvals_renew_failed", LOG_STR("reason", e->text));
	}
}

static bool owns_something(const struct approvals *a)
{
	bool owns = a->parked != NULL || a->sure != NULL;
	for (int i = 0; i < LANE_COUNT; i++) {
		owns = owns || a->lanes[i].active > 0;
	}
	return owns;
}

static void on_renew(uv_timer_t *timer)
{
	struct approvals *a = timer->data;
	if (a->renewal != NULL || !owns_something(a)) {
		return;
	}
	json_t *in = json_pack("{s:s, s:I}", "owner", a->owner, "lease_us",
	    (json_int_t)(approvals_now_us(a) + a->config.lease_ms * 1000LL));
	a->renewal = in != NULL ? approval_store_write(a->store, records_renew, in, on_renewed, a)
				: NULL;
}

static void on_later(uv_timer_t *timer)
{
	runs_conclude(timer->data);
}

/* --- beginning and end ---------------------------------------------------------------------------
 */

void workflow_init(struct approvals *a)
{
	uv_timer_t *const timers[] = {&a->due, &a->renew, &a->retry, &a->later};
	for (size_t i = 0; i < array_len(timers); i++) {
		(void)uv_timer_init(a->loop, timers[i]);
		timers[i]->data = a;
	}
	a->handles = array_len(timers);
	const uint32_t most[LANE_COUNT] = {
	    [LANE_RUN] = a->config.runs_max,
	    [LANE_CALLBACK] = APPROVALS_CALLBACKS_MAX,
	    [LANE_PROMOTE] = APPROVALS_PROMOTIONS_MAX,
	};
	for (int i = 0; i < LANE_COUNT; i++) {
		a->lanes[i] = (struct lane){
		    .approvals = a, .kind = (enum lane_kind)i, .max = most[i]};
	}
}

void workflow_start(struct approvals *a)
{
	uint64_t renew_ms = a->config.lease_ms / 3;
	(void)uv_timer_start(&a->renew, on_renew, renew_ms, renew_ms);
	wake_in(a, 0);
}

void workflow_later(struct approvals *a)
{
	(void)uv_timer_start(&a->later, on_later, 0, 0);
}

void workflow_stop(struct approvals *a)
{
	(void)uv_timer_stop(&a->due);
	(void)uv_timer_stop(&a->renew);
	(void)uv_timer_stop(&a->retry);
	(void)uv_timer_stop(&a->later);
	approval_store_cancel(steal(&a->lapse));
	approval_store_cancel(steal(&a->renewal));
	approval_store_cancel(steal(&a->forget));
	approval_store_cancel(steal(&a->count));
	for (int i = 0; i < LANE_COUNT; i++) {
		/* What it may have claimed is somebody else's when the lease has ended. */
		approval_store_cancel(steal(&a->lanes[i].claim));
		json_decref(steal(&a->lanes[i].turns));
	}
}
