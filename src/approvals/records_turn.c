#include "approvals/records_turn.h"

#include <string.h>

#include "approvals/records_rows.h"

#define BATCH 32

void record_turns_fini(struct record_turns *t)
{
	for (size_t i = 0; i < t->count; i++) {
		json_decref(t->pools[i].queues);
	}
	json_decref(t->held);
	json_decref(t->said);
}

/* What comes right after TEXT: both databases compare bytes, and no text holds a NUL. */
static json_t *after(const char *text)
{
	return json_sprintf("%s\x01", text);
}

/* --- who waits --- */

static int on_any(void *ctx, const struct db_row *r)
{
	(void)r;
	*(bool *)ctx = true;
	return 1;
}

static int is_any_due(struct record_turns *t, bool *any, struct err *e)
{
	return db_run(t->d, "SELECT 1 FROM approval_task WHERE kind = $1 AND wake_us <= $2 LIMIT 1",
	    (const struct db_value[]){DB_TEXT(t->kind), DB_INT(t->now_us)}, 2, on_any, any, NULL,
	    e);
}

static int on_count(void *ctx, const struct db_row *r)
{
	*(int64_t *)ctx = db_int(r, 0);
	return 1;
}

/* *HELD: how many TENANT holds, asked for once. */
static int find_held(struct record_turns *t, const char *tenant, int64_t *held, struct err *e)
{
	const json_t *known = json_object_get(t->held, tenant);
	if (known != NULL || t->share == 0) {
		*held = json_integer_value(known);
		return 0;
	}
	if (db_run(t->d,
		"SELECT count(*) FROM approval_task WHERE owner = $1 AND kind = $2 AND tenant = $3",
		(const struct db_value[]){DB_TEXT(t->owner), DB_TEXT(t->kind), DB_TEXT(tenant)}, 3,
		on_count, held, NULL, e) < 0) {
		return -1;
	}
	return json_object_set_new(t->held, tenant, json_integer(*held)) == 0
		   ? 0
		   : records_no_memory(e);
}

static bool has_share(const struct record_turns *t, int64_t held)
{
	return t->share > 0 && held >= t->share;
}

static int add_queue(struct record_turns *t, struct turn_pool *p, const char *tenant, struct err *e)
{
	int64_t held = 0;
	if (find_held(t, tenant, &held, e) < 0) {
		return -1;
	}
	p->waiting += !has_share(t, held);
	json_t *queue = json_pack("{s:s, s:n}", "tenant", tenant, "tasks");
	return json_array_append_new(p->queues, queue) == 0 ? 0 : records_no_memory(e);
}

static int on_tenant(void *ctx, const struct db_row *r)
{
	json_t *one = json_pack(
	    "{s:o, s:I}", "tenant", records_column_text(r, 0), "wake_us", (json_int_t)db_int(r, 1));
	return json_array_append_new(ctx, one) == 0 ? 0 : 1;
}

/* BATCH tenants from START on, and when the first task of each is due. From one to the next by
 * the index, past however many tasks the one has; ORDER BY and LIMIT, because PostgreSQL reads
 * them all for a min() while it knows little of the table. */
static int find_tenants(
    struct record_turns *t, const char *pool, const json_t *start, json_t *out, struct err *e)
{
	return db_run(t->d,
	    "WITH RECURSIVE turn (tenant, looks) AS ("
	    "SELECT (SELECT tenant FROM approval_task "
	    "WHERE kind = $1 AND pool = $2 AND tenant >= $3 ORDER BY tenant LIMIT 1), 1 "
	    "UNION ALL SELECT (SELECT x.tenant FROM approval_task x "
	    "WHERE x.kind = $1 AND x.pool = $2 AND x.tenant > turn.tenant "
	    "ORDER BY x.tenant LIMIT 1), turn.looks + 1 "
	    "FROM turn WHERE turn.tenant IS NOT NULL AND turn.looks < $4) "
	    "SELECT turn.tenant, (SELECT x.wake_us FROM approval_task x "
	    "WHERE x.kind = $1 AND x.pool = $2 AND x.tenant = turn.tenant "
	    "ORDER BY x.wake_us LIMIT 1) "
	    "FROM turn WHERE turn.tenant IS NOT NULL",
	    (const struct db_value[]){
		DB_TEXT(t->kind), DB_TEXT(pool), DB_TEXT(json_string_value(start)), DB_INT(BATCH)},
	    4, on_tenant, out, NULL, e);
}

/* 1: no more of the pool are to be looked at. */
static int look_at(struct record_turns *t, struct turn_pool *p, const json_t *found, struct err *e)
{
	const char *tenant = records_text(found, "tenant");
	int64_t places = p->places < t->limit ? p->places : t->limit;
	if (p->waiting >= places) {
		return 1;
	}
	if (p->looks == TURN_LOOKS_MAX) {
		t->unseen = true;
		return 1;
	}
	if (++p->looks == TURN_LOOKS_MAX && json_object_set(json_object_get(t->said, "tenants"),
						p->name, json_object_get(found, "tenant")) < 0) {
		return records_no_memory(e);
	}
	return records_number(found, "wake_us") <= t->now_us ? add_queue(t, p, tenant, e) : 0;
}

/* The tenants from START on, past UNTIL (NULL: none) not. 1 as above. */
static int look_at_all(struct record_turns *t, struct turn_pool *p, const char *start,
    const char *until, struct err *e)
{
	cleanup(json_decrefp) json_t *from = json_string(start);
	size_t i, count;
	const json_t *found;
	do {
		cleanup(json_decrefp) json_t *batch = json_array();
		if (find_tenants(t, p->name, from, batch, e) < 0) {
			return -1;
		}
		count = json_array_size(batch);
		json_array_foreach(batch, i, found)
		{
			const char *tenant = records_text(found, "tenant");
			int r = until != NULL && strcmp(tenant, until) > 0
				    ? 1
				    : look_at(t, p, found, e);
			if (r != 0) {
				return r;
			}
		}
		if (count > 0) {
			json_decref(from);
			from = after(records_text(json_array_get(batch, count - 1), "tenant"));
		}
	} while (count == BATCH);
	return 0;
}

static int find_waiting(
    struct record_turns *t, struct turn_pool *p, const char *last, struct err *e)
{
	if (last == NULL) {
		return look_at_all(t, p, "", NULL, e) < 0 ? -1 : 0;
	}
	cleanup(json_decrefp) json_t *next = after(last);
	int r = look_at_all(t, p, json_string_value(next), NULL, e);
	return r == 0 && look_at_all(t, p, "", last, e) < 0 ? -1 : r < 0 ? -1 : 0;
}

/* --- the pools --- */

static int on_pool(void *ctx, const struct db_row *r)
{
	*(json_t **)ctx = records_column_text(r, 0);
	return 1;
}

static int find_pool(struct record_turns *t, const json_t *start, json_t **pool, struct err *e)
{
	return db_run(t->d,
	    "SELECT pool FROM approval_task WHERE kind = $1 AND pool >= $2 ORDER BY pool LIMIT 1",
	    (const struct db_value[]){DB_TEXT(t->kind), DB_TEXT(json_string_value(start))}, 2,
	    on_pool, pool, NULL, e);
}

/* Also what is remembered of its turns; what has no tasks any more is forgotten. */
static int add_pool(struct record_turns *t, const json_t *in, const char *name, struct err *e)
{
	const json_t *places = json_object_get(json_object_get(in, "places"), name);
	const json_t *turns = json_object_get(json_object_get(in, "turns"), "tenants");
	json_t *last = json_object_get(turns, name);
	json_t *tenants = json_object_get(t->said, "tenants");
	if (json_object_set_new(tenants, name, last != NULL ? json_incref(last) : json_null()) <
	    0) {
		return records_no_memory(e);
	}
	struct turn_pool *p = &t->pools[t->count++];
	p->places = places != NULL ? json_integer_value(places) : INT64_MAX;
	p->queues = json_array();
	p->name = json_object_iter_key(json_object_iter_at(tenants, name));
	return p->places > 0 ? find_waiting(t, p, json_string_value(last), e) : 0;
}

/* The pools from START on, past UNTIL not. */
static int add_pools(
    struct record_turns *t, const json_t *in, const char *start, const char *until, struct err *e)
{
	cleanup(json_decrefp) json_t *from = json_string(start);
	while (t->count < TURN_POOLS_MAX) {
		cleanup(json_decrefp) json_t *pool = NULL;
		if (find_pool(t, from, &pool, e) < 0) {
			return -1;
		}
		const char *name = json_string_value(pool);
		if (name == NULL || (until != NULL && strcmp(name, until) > 0)) {
			return 0;
		}
		if (add_pool(t, in, name, e) < 0) {
			return -1;
		}
		json_decref(from);
		from = after(name);
	}
	t->unseen = true;
	return json_object_set_new(t->said, "pool", json_string(t->pools[t->count - 1].name)) == 0
		   ? 0
		   : records_no_memory(e);
}

int record_turns_find(
    struct record_turns *t, struct db *d, const json_t *in, int64_t limit, struct err *e)
{
	json_t *turns = json_object_get(in, "turns");
	const char *last = json_string_value(json_object_get(turns, "pool"));
	bool any = false;
	t->d = d;
	t->kind = records_text(in, "kind");
	t->owner = records_text(in, "owner");
	t->now_us = records_number(in, "now_us");
	t->share = records_number(in, "share");
	t->limit = limit;
	if (is_any_due(t, &any, e) < 0) {
		return -1;
	}
	if (!any || limit <= 0) {
		t->said = json_is_object(turns) ? json_incref(turns) : json_object();
		return 0;
	}
	t->held = json_object();
	t->said = json_pack("{s:s*, s:{}}", "pool", last, "tenants");
	if (last == NULL) {
		return add_pools(t, in, "", NULL, e);
	}
	cleanup(json_decrefp) json_t *next = after(last);
	return add_pools(t, in, json_string_value(next), NULL, e) < 0
		   ? -1
		   : add_pools(t, in, "", last, e);
}

/* --- whose turn it is --- */

static int on_task(void *ctx, const struct db_row *r)
{
	json_t *one = json_pack("{s:o, s:I, s:I, s:o}", "id", records_column_text(r, 0), "fence",
	    (json_int_t)db_int(r, 1), "attempt", (json_int_t)db_int(r, 2), "owner",
	    records_column_text(r, 3));
	return json_array_append_new(ctx, one) == 0 ? 0 : 1;
}

#define DUE                                                                                       \
	"SELECT approval, fence, attempt, owner FROM approval_task "                              \
	"WHERE kind = $1 AND pool = $2 AND tenant = $3 AND wake_us <= $4 ORDER BY wake_us LIMIT " \
	"$5"

/* The queue's tasks, as many as may be wanted; read when the first of them is. */
static int read_queue(
    struct record_turns *t, const struct turn_pool *p, json_t *queue, struct err *e)
{
	const char *sql = *db_skip_locked(t->d) != '\0' ? DUE " FOR UPDATE SKIP LOCKED" : DUE;
	json_t *tasks = json_array();
	if (json_object_set_new(queue, "tasks", tasks) < 0) {
		return records_no_memory(e);
	}
	return db_run(t->d, sql,
	    (const struct db_value[]){DB_TEXT(t->kind), DB_TEXT(p->name),
		DB_TEXT(records_text(queue, "tenant")), DB_INT(t->now_us),
		DB_INT(p->places < t->limit ? p->places : t->limit)},
	    5, on_task, tasks, NULL, e);
}

/* Takes the first of the queue, if its tenant may have it. */
static int take(
    struct record_turns *t, struct turn_pool *p, json_t *queue, json_t **task, struct err *e)
{
	const char *tenant = records_text(queue, "tenant");
	int64_t held = 0;
	if (find_held(t, tenant, &held, e) < 0) {
		return -1;
	}
	if (has_share(t, held) && !t->rest) {
		return 0;
	}
	if (!json_is_array(json_object_get(queue, "tasks")) && read_queue(t, p, queue, e) < 0) {
		return -1;
	}
	json_t *tasks = json_object_get(queue, "tasks");
	if (json_array_size(tasks) == 0) {
		return 0;
	}
	*task = json_incref(json_array_get(tasks, 0));
	if (json_array_remove(tasks, 0) < 0 ||
	    json_object_set_new(t->held, tenant, json_integer(held + 1)) < 0 ||
	    json_object_set_new(t->said, "pool", json_string(p->name)) < 0 ||
	    json_object_set(json_object_get(t->said, "tenants"), p->name,
		json_object_get(queue, "tenant")) < 0) {
		return records_no_memory(e);
	}
	return 0;
}

static int next_of_pool(struct record_turns *t, struct turn_pool *p, json_t **task, struct err *e)
{
	size_t count = json_array_size(p->queues);
	for (size_t k = 0; k < count && p->places > 0; k++) {
		size_t at = (p->next + k) % count;
		if (take(t, p, json_array_get(p->queues, at), task, e) < 0) {
			return -1;
		}
		if (*task != NULL) {
			p->next = at + 1;
			p->places--;
			return 0;
		}
	}
	return 0;
}

static int next_of_all(struct record_turns *t, json_t **task, struct err *e)
{
	for (size_t k = 0; k < t->count; k++) {
		size_t at = (t->next + k) % t->count;
		if (next_of_pool(t, &t->pools[at], task, e) < 0) {
			return -1;
		}
		if (*task != NULL) {
			t->next = at + 1;
			return 0;
		}
	}
	return 0;
}

int record_turns_next(struct record_turns *t, json_t **task, struct err *e)
{
	*task = NULL;
	if (next_of_all(t, task, e) < 0) {
		json_decref(steal(task));
		return -1;
	}
	if (*task != NULL || t->rest || t->unseen || t->share == 0) {
		return 0;
	}
	t->rest = true;
	return next_of_all(t, task, e);
}
