/*
 * The skills of each space that somebody looked at lately, and those who wait to look.
 *
 * Work on a space (taking up what changed, indexing it, searching it) is done in slices of a
 * millisecond, one in a turn of the loop, so that a space with many skills keeps nobody waiting but
 * itself; and prefixes take turns, in how many spaces whoever of them waits.
 *
 * Who asks is served from records that are at least as new as those the store had when he asked. A
 * space changes to one set of records at a time; who comes meanwhile with newer ones waits for the
 * next change. Nothing is done for a space that nobody waits for.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/clock.h"
#include "codemode/internal.h"
#include "store/discard.h"

#define SPACES_MAX 256
#define SPACES_BYTES_MAX (512U << 20) /* of sources, together; the last one used stays */
#define SLICE_US 1000

/* Those of one prefix. */
struct owner {
	char prefix[CODEMODE_SPACE_NAME_MAX + 1];
	unsigned spaces, busy;
	size_t bytes;
	uint64_t served; /* its last turn */
	UT_hash_handle hh;
};

struct space {
	struct skill_views *views;
	struct owner *owner;
	char key[2 * CODEMODE_SPACE_NAME_MAX + 2];
	struct skill_set *set;
	size_t bytes; /* counted for it */
	/* Each set of records that the store gave has a number. */
	json_t *records; /* the newest; NULL: none yet */
	uint64_t revision;
	uint64_t newest, taking, taken; /* the numbers of RECORDS, of the change, of the set */
	struct describing *describing;
	struct view_build *waiting; /* those who came first have the smallest numbers */
	struct space *prev, *next;  /* skill_views.busy */
	bool in_busy;
	UT_hash_handle hh; /* least lately used first */
};

/* One who waits. */
struct view_build {
	struct method_call *call;
	skill_view_fn fn;
	bool indexed; /* is wanted */
	struct space *space;
	uint64_t number; /* of the records it must see */
	struct view_build *prev, *next;
};

struct skill_views {
	struct codemode *codemode;
	uv_loop_t *loop;
	uv_idle_t turn; /* a timer that sets itself again would not let the loop go round */
	struct space *spaces;
	struct owner *owners;
	struct space *busy; /* there is something to do */
	struct space *at_work;
	size_t bytes;
	uint64_t turns;
	uint64_t spent_at_ms, spent_us; /* in the turn of the loop that began then */
};

static const struct err no_memory = {.code = ERR_INTERNAL, .text = "out of memory"};

/* --- keeping -------------------------------------------------------------------------------------
 */

struct skill_views *skill_views_new(struct codemode *m)
{
	struct skill_views *v = calloc(1, sizeof(*v));
	if (v != NULL) {
		v->codemode = m;
		v->loop = m->loop;
		(void)uv_idle_init(m->loop, &v->turn);
		v->turn.data = v;
	}
	return v;
}

static void on_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static void set_free(void *set)
{
	skill_set_free(set);
}

static void leave_owner(struct skill_views *v, struct owner *o)
{
	if (--o->spaces == 0) {
		HASH_DEL(v->owners, o);
		free(o);
	}
}

/* Nobody waits for SP. */
static void forget(struct space *sp, bool now)
{
	struct skill_views *v = sp->views;
	describe_cancel(steal(&sp->describing));
	HASH_DEL(v->spaces, sp);
	v->bytes -= sp->bytes;
	sp->owner->bytes -= sp->bytes;
	leave_owner(v, sp->owner);
	if (now) {
		skill_set_free(sp->set);
		json_decref(sp->records);
	} else {
		discard(v->loop, set_free, sp->set);
		discard_json(v->loop, sp->records);
	}
	free(sp);
}

void skill_views_free(struct skill_views *v)
{
	if (v == NULL) {
		return;
	}
	while (v->spaces != NULL) {
		forget(v->spaces, true);
	}
	uv_close((uv_handle_t *)&v->turn, on_closed);
}

static bool is_idle(const struct space *sp)
{
	return sp->waiting == NULL && sp != sp->views->at_work;
}

/* The idle space used longest ago, of the prefix that has most: whoever fills the table loses his
 * own first. NULL when none is idle. */
static struct space *to_forget(const struct skill_views *v, bool by_bytes, const struct space *keep)
{
	struct space *found = NULL;
	size_t most = 0;
	for (struct space *sp = v->spaces; sp != NULL; sp = sp->hh.next) {
		size_t has = by_bytes ? sp->owner->bytes : sp->owner->spaces;
		if (is_idle(sp) && sp != keep && (found == NULL || has > most)) {
			found = sp;
			most = has;
		}
	}
	return found;
}

static void forget_bytes(struct skill_views *v, const struct space *keep)
{
	struct space *sp;
	while (v->bytes > SPACES_BYTES_MAX && (sp = to_forget(v, true, keep)) != NULL) {
		forget(sp, false);
	}
}

/* --- finding -------------------------------------------------------------------------------------
 */

/* NULL when memory is out. */
static struct owner *owner_of(struct skill_views *v, const char *prefix)
{
	struct owner *o = NULL;
	HASH_FIND_STR(v->owners, prefix, o);
	if (o == NULL && (o = calloc(1, sizeof(*o))) != NULL) {
		(void)snprintf(o->prefix, sizeof(o->prefix), "%s", prefix);
		HASH_ADD_STR(v->owners, prefix, o);
	}
	return o;
}

/* NULL when memory is out. */
static struct space *space_new(struct skill_views *v, const char *key, const char *prefix)
{
	struct space *sp = calloc(1, sizeof(*sp));
	struct skill_set *set = sp != NULL ? skill_set_new() : NULL;
	struct owner *o = set != NULL ? owner_of(v, prefix) : NULL;
	if (o == NULL) {
		skill_set_free(set);
		free(sp);
		return NULL;
	}
	sp->views = v;
	sp->owner = o;
	sp->set = set;
	o->spaces++;
	(void)snprintf(sp->key, sizeof(sp->key), "%s", key);
	HASH_ADD_STR(v->spaces, key, sp);
	return sp;
}

/* Past half of the table, no prefix has more than that half of those somebody waits for. */
static bool has_room(struct skill_views *v, const struct owner *o)
{
	unsigned busy = 0;
	for (const struct space *sp = v->spaces; sp != NULL; sp = sp->hh.next) {
		busy += is_idle(sp) ? 0 : 1;
	}
	return busy < SPACES_MAX / 2 || o == NULL || o->busy < SPACES_MAX / 2;
}

/* The space of C, as the one used last. NULL with E. */
static struct space *space_of(struct skill_views *v, const struct method_call *c, struct err *e)
{
	char key[sizeof(((struct space *)NULL)->key)];
	struct space *sp = NULL;
	/* Neither part of a space's name has a '/'. */
	(void)snprintf(key, sizeof(key), "%s/%s", c->prefix, c->workspace);
	HASH_FIND_STR(v->spaces, key, sp);
	if (sp != NULL) {
		HASH_DEL(v->spaces, sp);
		HASH_ADD_STR(v->spaces, key, sp);
		return sp;
	}
	struct owner *o = NULL;
	HASH_FIND_STR(v->owners, c->prefix, o);
	struct space *oldest = NULL;
	if (!has_room(v, o) ||
	    (HASH_COUNT(v->spaces) >= SPACES_MAX && (oldest = to_forget(v, false, NULL)) == NULL)) {
		(void)err_set(e, ERR_BUSY, "those of too many spaces are looked at");
		return NULL;
	}
	if (oldest != NULL) {
		forget(oldest, false);
	}
	sp = space_new(v, key, c->prefix);
	if (sp == NULL) {
		*e = no_memory;
	}
	return sp;
}

/* --- those who wait ------------------------------------------------------------------------------
 */

static void leave_busy(struct space *sp)
{
	if (sp->in_busy) {
		sp->in_busy = false;
		DL_DELETE(sp->views->busy, sp);
	}
}

static void on_turn(uv_idle_t *idle);

static void wake(struct space *sp)
{
	struct skill_views *v = sp->views;
	if (!sp->in_busy) {
		sp->in_busy = true;
		DL_APPEND(v->busy, sp);
	}
	(void)uv_idle_start(&v->turn, on_turn);
}

static void unlist(struct view_build *b)
{
	struct space *sp = b->space;
	b->space = NULL;
	DL_DELETE(sp->waiting, b);
	if (sp->waiting == NULL) {
		sp->owner->busy--;
		leave_busy(sp);
	}
}

static void enlist(struct view_build *b, struct space *sp)
{
	sp->owner->busy += sp->waiting == NULL ? 1 : 0;
	b->space = sp;
	DL_APPEND(sp->waiting, b);
}

void view_build_free(struct view_build *b)
{
	if (b != NULL) {
		if (b->space != NULL) {
			unlist(b);
		}
		free(b);
	}
}

/* Shows the set to B's call. */
static void show(struct view_build *b)
{
	struct method_call *c = b->call;
	struct skill_set *set = b->space->set;
	skill_view_fn fn = b->fn;
	view_build_free(steal(&c->build));
	fn(c, set, NULL);
}

static void fail_one(struct method_call *c, const struct err *e)
{
	call_fail_busy(c, e, "The skills cannot be read");
}

/* The change is given up, and those who wait for it are told. Who came later will begin another. */
static void fail(struct space *sp, const struct err *e)
{
	uint64_t number = sp->taking;
	skill_set_give_up(sp->set);
	while (sp->waiting != NULL && sp->waiting->number <= number) {
		fail_one(sp->waiting->call, e);
	}
}

/* --- work ----------------------------------------------------------------------------------------
 */

static void on_described(void *ctx, const json_t *results, const struct err *e)
{
	struct space *sp = ctx;
	struct space *before = sp->views->at_work;
	sp->describing = NULL;
	sp->views->at_work = sp; /* it stays, whatever those who are told do */
	if (e == NULL) {
		skill_set_told(sp->set, results);
	} else {
		fail(sp, e);
	}
	sp->views->at_work = before;
	if (sp->waiting != NULL) {
		wake(sp);
	}
}

/* False: it waits for the answer. */
static bool ask(struct space *sp)
{
	sp->describing = describe(sp->views->codemode->describer, sp->owner->prefix,
	    skill_set_sources(sp->set), on_described, sp);
	return sp->describing == NULL;
}

static void account(struct space *sp)
{
	struct skill_views *v = sp->views;
	size_t bytes = skill_set_bytes(sp->set);
	v->bytes += bytes - sp->bytes;
	sp->owner->bytes += bytes - sp->bytes;
	sp->bytes = bytes;
	forget_bytes(v, sp);
}

/* A step towards the newest records. False: it can go no further now. */
static bool take_up(struct space *sp, uint64_t until_us)
{
	if (!skill_set_is_changing(sp->set)) {
		sp->taking = sp->newest;
		if (skill_set_change(sp->set, sp->records) < 0) {
			fail(sp, &no_memory);
			return true;
		}
	}
	switch (skill_set_step(sp->set, until_us)) {
	case SKILL_SET_DONE:
		sp->taken = sp->taking;
		discard_json(sp->views->loop, skill_set_take_garbage(sp->set));
		account(sp);
		return true;
	case SKILL_SET_ASKS:
		return ask(sp);
	case SKILL_SET_FAILED:
		fail(sp, &no_memory);
		return true;
	case SKILL_SET_GOES_ON:
	default:
		return true;
	}
}

/* For the one who waits longest. False: it can go no further now. */
static bool serve(struct space *sp, uint64_t until_us)
{
	struct view_build *b = sp->waiting;
	if (b->number > sp->taken || skill_set_is_changing(sp->set)) {
		return take_up(sp, until_us);
	}
	if (b->indexed && !skill_set_index(sp->set, until_us)) {
		return true;
	}
	if (b->indexed && skill_set_search(sp->set) == NULL) {
		fail_one(b->call, &no_memory);
	} else {
		show(b);
	}
	return true;
}

/* A slice of work on SP. */
static void work(struct space *sp)
{
	struct skill_views *v = sp->views;
	uint64_t begin_us = clock_mono_us();
	v->at_work = sp;
	sp->owner->served = ++v->turns;
	bool goes_on = true;
	do {
		goes_on = serve(sp, begin_us + SLICE_US);
	} while (goes_on && sp->waiting != NULL && clock_mono_us() < begin_us + SLICE_US);
	v->at_work = NULL;
	leave_busy(sp);
	if (goes_on && sp->waiting != NULL) {
		wake(sp);
	}
	v->spent_us += clock_mono_us() - begin_us;
}

/* Of the prefix that was served longest ago, the first. */
static struct space *next_of(const struct skill_views *v)
{
	struct space *found = v->busy;
	struct space *sp;
	DL_FOREACH(v->busy, sp)
	{
		if (sp->owner->served < found->owner->served) {
			found = sp;
		}
	}
	return found;
}

/* Whether this turn of the loop has time left for the skills of anybody. */
static bool has_time(struct skill_views *v)
{
	uint64_t now_ms = uv_now(v->loop);
	if (v->spent_at_ms != now_ms) {
		v->spent_at_ms = now_ms;
		v->spent_us = 0;
	}
	return v->spent_us < SLICE_US;
}

static void on_turn(uv_idle_t *idle)
{
	struct skill_views *v = idle->data;
	(void)has_time(v);
	if (v->busy != NULL) {
		work(next_of(v));
	}
	if (v->busy == NULL) {
		(void)uv_idle_stop(idle);
	}
}

/* --- asking --------------------------------------------------------------------------------------
 */

static void on_records(void *ctx, json_t *records, uint64_t revision, const struct err *e)
{
	struct method_call *c = ctx;
	struct view_build *b = c->build;
	struct skill_views *v = c->codemode->skills;
	struct err why;
	c->request = NULL;
	if (e != NULL) {
		skill_view_fn fn = b->fn;
		view_build_free(steal(&c->build));
		fn(c, NULL, e);
		return;
	}
	struct space *sp = space_of(v, c, &why);
	if (sp == NULL) {
		fail_one(c, &why);
		return;
	}
	if (sp->newest == 0 || sp->revision != revision) {
		discard_json(v->loop, sp->records);
		sp->records = json_incref(records);
		sp->revision = revision;
		sp->newest++;
	}
	b->number = sp->newest;
	enlist(b, sp);
	if (v->busy == NULL && v->at_work == NULL && sp->describing == NULL && has_time(v)) {
		work(sp);
	} else if (sp->describing == NULL) {
		wake(sp);
	}
}

void skill_view_get(struct method_call *c, bool indexed, skill_view_fn fn)
{
	c->build = calloc(1, sizeof(*c->build));
	if (c->build == NULL) {
		call_fail(c, "RuntimeError", "out of memory");
		return;
	}
	c->build->call = c;
	c->build->fn = fn;
	c->build->indexed = indexed;
	call_wait(c, request,
	    store_list(c->codemode->config.store, &c->space, STORE_SKILLS, on_records, c));
}
