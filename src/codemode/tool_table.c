/*
 * The tools as the runner last told them, and the definitions it was given from the store.
 *
 * The operator's files make tools for everybody. A definition in the store is of its space alone,
 * and the runner marks what it made of it with "prefix".
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <utlist.h>

#include "codemode/internal.h"

#define SPACES_MAX 4096
#define LISTED_WAIT_MS 1000

/* Definitions that the runner has of a space. */
struct defined {
	char prefix[CODEMODE_SPACE_NAME_MAX + 1];
	uint64_t revision;
	UT_hash_handle hh; /* oldest first */
};

struct tools_wait {
	struct tool_table *table;
	char prefix[CODEMODE_SPACE_NAME_MAX + 1];
	bool listed;
	tools_fn fn;
	void *ctx;
	struct store_request *request;
	bool in_list;
	uint64_t until_ms;
	struct tools_wait *prev, *next; /* table.waiting, of those the runner is waited for */
};

struct tool_table {
	struct codemode *codemode;
	uv_timer_t timer;
	json_t *tools;
	struct defined *spaces;
	struct tools_wait *waiting;
	struct tools_wait *starting; /* inside tool_table_get, until it is told */
};

/* --- what a space sees ---------------------------------------------------------------------------
 */

static bool is_seen(const json_t *tool, const char *prefix)
{
	const char *source = json_string_value(json_object_get(tool, "source"));
	const char *of = json_string_value(json_object_get(tool, "prefix"));
	return source == NULL || strcmp(source, "store") != 0 ||
	       strcmp(of != NULL ? of : "", prefix) == 0;
}

static json_t *seen_by(const struct tool_table *t, const char *prefix)
{
	json_t *seen = json_array();
	for (size_t i = 0; i < json_array_size(t->tools); i++) {
		json_t *tool = json_array_get(t->tools, i);
		if (is_seen(tool, prefix)) {
			(void)json_array_append(seen, tool);
		}
	}
	return seen;
}

static void leave_list(struct tools_wait *w)
{
	if (w->in_list) {
		DL_DELETE(w->table->waiting, w);
		w->in_list = false;
	}
}

/* Tells what W's space sees, or E. */
static void tell(struct tools_wait *w, const struct err *e)
{
	json_t *tools = e == NULL ? seen_by(w->table, w->prefix) : NULL;
	leave_list(w);
	if (w->table->starting == w) {
		w->table->starting = NULL;
	}
	w->fn(w->ctx, tools, e);
	json_decref(tools);
	free(w);
}

/* --- definitions of the store --------------------------------------------------------------------
 */

/* Whether the runner has not been given this revision yet. */
static bool is_new(struct tool_table *t, const char *prefix, uint64_t revision)
{
	struct defined *d = NULL;
	HASH_FIND_STR(t->spaces, prefix, d);
	if (d != NULL && d->revision == revision) {
		return false;
	}
	if (d == NULL) {
		if (HASH_COUNT(t->spaces) >= SPACES_MAX) {
			struct defined *oldest = t->spaces;
			HASH_DEL(t->spaces, oldest);
			free(oldest);
		}
		d = calloc(1, sizeof(*d));
		if (d == NULL) {
			return true;
		}
		(void)memccpy(d->prefix, prefix, '\0', sizeof(d->prefix) - 1);
		HASH_ADD_STR(t->spaces, prefix, d);
	}
	d->revision = revision;
	return true;
}

static void on_timer(uv_timer_t *timer)
{
	struct tool_table *t = timer->data;
	while (t->waiting != NULL && t->waiting->until_ms <= uv_now(t->codemode->loop)) {
		tell(t->waiting, NULL);
	}
	if (t->waiting != NULL) {
		(void)uv_timer_start(
		    timer, on_timer, t->waiting->until_ms - uv_now(t->codemode->loop), 0);
	}
}

static void wait_for_runner(struct tools_wait *w)
{
	struct tool_table *t = w->table;
	w->until_ms = uv_now(t->codemode->loop) + LISTED_WAIT_MS;
	w->in_list = true;
	DL_APPEND(t->waiting, w);
	if (w == t->waiting) {
		(void)uv_timer_start(&t->timer, on_timer, LISTED_WAIT_MS, 0);
	}
}

static void on_definitions(void *ctx, json_t *records, uint64_t revision, const struct err *e)
{
	struct tools_wait *w = ctx;
	w->request = NULL;
	if (e != NULL) {
		tell(w, e);
		return;
	}
	if (is_new(w->table, w->prefix, revision)) {
		bool any = json_array_size(records) > 0;
		runner_define(w->table->codemode->config.runner,
		    *w->prefix != '\0' ? w->prefix : NULL, records);
		if (any && w->listed) {
			wait_for_runner(w);
			return;
		}
	}
	tell(w, NULL);
}

struct tools_wait *tool_table_get(
    struct tool_table *t, const struct store_space *space, bool listed, tools_fn fn, void *ctx)
{
	static const struct err no_memory = {.code = ERR_INTERNAL, .text = "out of memory"};
	const struct codemode_config *config = &t->codemode->config;
	struct tools_wait *w = calloc(1, sizeof(*w));
	if (w == NULL) {
		fn(ctx, NULL, &no_memory);
		return NULL;
	}
	w->table = t;
	w->fn = fn;
	w->ctx = ctx;
	w->listed = listed;
	if (space->prefix != NULL) {
		(void)memccpy(w->prefix, space->prefix, '\0', sizeof(w->prefix) - 1);
	}
	bool from_store = config->tools_from_store || space->prefix != NULL;
	if (config->runner == NULL || !from_store) {
		tell(w, NULL);
		return NULL;
	}
	t->starting = w;
	struct store_request *r = store_list(config->store, space, STORE_TOOLS, on_definitions, w);
	/* When it has been told, it is gone. */
	w = steal(&t->starting);
	if (w != NULL && r != NULL) {
		w->request = r;
	}
	return w;
}

void tool_table_cancel(struct tools_wait *w)
{
	if (w != NULL) {
		store_cancel(w->request);
		leave_list(w);
		free(w);
	}
}

void tool_table_set(struct tool_table *t, const json_t *tools)
{
	json_decref(t->tools);
	t->tools = json_incref((json_t *)(uintptr_t)tools);
	/* Who comes to wait meanwhile waits for the next. */
	struct tools_wait *last = t->waiting != NULL ? t->waiting->prev : NULL;
	while (t->waiting != NULL) {
		bool end = t->waiting == last;
		tell(t->waiting, NULL);
		if (end) {
			return;
		}
	}
}

/* --- life ----------------------------------------------------------------------------------------
 */

struct tool_table *tool_table_new(struct codemode *m)
{
	struct tool_table *t = calloc(1, sizeof(*t));
	if (t != NULL) {
		t->codemode = m;
		t->tools = json_array();
		(void)uv_timer_init(m->loop, &t->timer);
		t->timer.data = t;
	}
	return t;
}

static void on_closed(uv_handle_t *handle)
{
	free(handle->data);
}

void tool_table_free(struct tool_table *t)
{
	if (t == NULL) {
		return;
	}
	struct defined *d;
	struct defined *next;
	HASH_ITER(hh, t->spaces, d, next)
	{
		HASH_DEL(t->spaces, d);
		free(d);
	}
	json_decref(t->tools);
	t->tools = NULL;
	uv_close((uv_handle_t *)&t->timer, on_closed);
}
