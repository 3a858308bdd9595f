/*
 * Directories of packages beyond one life of the server: at the start each space gets back what was
 * installed for its list, and what nobody uses goes in time.
 */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "codemode/internal.h"

#define EVERY_MS (3600ULL * 1000) /* and once after the start */

struct deps_upkeep {
	struct codemode *codemode;
	uv_timer_t timer;
	struct runner_call *cleaning;
	/* Spaces that get back what they had, one after the other. */
	json_t *prefixes; /* texts; "": the server's own */
	size_t at;
	struct store_request *listing;
	struct runner_call *finding;
	json_t *packages;
	uv_timer_t turn; /* to the next space */
	unsigned open;   /* timers */
};

static void on_timer(uv_timer_t *timer);

struct deps_upkeep *deps_upkeep_new(struct codemode *m)
{
	struct deps_upkeep *u = calloc(1, sizeof(*u));
	if (u == NULL) {
		return NULL;
	}
	u->codemode = m;
	u->prefixes = json_array();
	uv_timer_t *const timers[] = {&u->timer, &u->turn};
	for (size_t i = 0; i < array_len(timers); i++) {
		(void)uv_timer_init(m->loop, timers[i]);
		timers[i]->data = u;
		u->open++;
	}
	if (m->config.runner != NULL) {
		(void)uv_timer_start(&u->timer, on_timer, EVERY_MS, EVERY_MS);
	}
	return u;
}

static void on_closed(uv_handle_t *handle)
{
	struct deps_upkeep *u = handle->data;
	if (--u->open == 0) {
		free(u);
	}
}

void deps_upkeep_free(struct deps_upkeep *u)
{
	if (u == NULL) {
		return;
	}
	runner_cancel(u->cleaning);
	runner_cancel(u->finding);
	store_cancel(u->listing);
	json_decref(u->packages);
	json_decref(u->prefixes);
	uv_close((uv_handle_t *)&u->timer, on_closed);
	uv_close((uv_handle_t *)&u->turn, on_closed);
}

/* --- what nobody uses ----------------------------------------------------------------------------
 */

static void add_name(void *ctx, const char *name)
{
	(void)json_object_set_new(ctx, name, json_true());
}

static void on_cleaned(void *ctx, const json_t *result, const struct err *e)
{
	struct deps_upkeep *u = ctx;
	u->cleaning = NULL;
	if (e != NULL) {
		log_event(LOG_LEVEL_WARNING, "packages_not_cleaned", LOG_STR("reason", e->text));
	} else if (json_integer_value(json_object_get(result, "removed")) > 0) {
		log_event(LOG_LEVEL_INFO, "packages_removed",
		    LOG_INT("directories", json_integer_value(json_object_get(result, "removed"))),
		    LOG_INT("bytes_left", json_integer_value(json_object_get(result, "bytes"))));
	}
}

static void clean(struct deps_upkeep *u)
{
	const struct codemode *m = u->codemode;
	/* Not while a space may still find its own. */
	if (u->cleaning != NULL || u->at < json_array_size(u->prefixes)) {
		return;
	}
	json_t *set = json_object();
	json_t *names = json_array();
	const char *name;
	json_t *value;
	engine_packages_each(m->config.engine, add_name, set);
	json_object_foreach(set, name, value)
	{
		(void)json_array_append_new(names, json_string(name));
	}
	u->cleaning = runner_clean_packages(m->config.runner, names, on_cleaned, u);
	json_decref(set);
	json_decref(names);
}

static void on_timer(uv_timer_t *timer)
{
	clean(timer->data);
}

/* --- what a space had ----------------------------------------------------------------------------
 */

static void on_turn(uv_timer_t *timer);

static void space_done(struct deps_upkeep *u)
{
	json_decref(steal(&u->packages));
	u->at++;
	(void)uv_timer_start(&u->turn, on_turn, 0, 0);
}

static const char *prefix_of(const struct deps_upkeep *u)
{
	return json_string_value(json_array_get(u->prefixes, u->at));
}

static void on_found(void *ctx, const json_t *said, const struct err *e)
{
	struct deps_upkeep *u = ctx;
	struct codemode *m = u->codemode;
	const char *prefix = prefix_of(u);
	json_t *name = json_object_get(said, "directory");
	const char *directory = json_string_value(name);
	struct err own;
	u->finding = NULL;
	/* Whoever was faster has newer ones. */
	if (e == NULL && directory != NULL && !deps_table_has(m->deps, prefix) &&
	    engine_packages_set(m->config.engine, prefix, &directory, 1, &own) == 0) {
		deps_table_remember(m->deps, prefix, u->packages, name);
		log_event(LOG_LEVEL_INFO, "deps_found", LOG_STR("prefix", prefix),
		    LOG_INT("packages", json_array_size(u->packages)),
		    LOG_STR("directory", directory));
	}
	space_done(u);
}

static void on_list(void *ctx, json_t *records, uint64_t revision, const struct err *e)
{
	struct deps_upkeep *u = ctx;
	(void)revision;
	u->listing = NULL;
	if (e != NULL || json_array_size(records) == 0) {
		space_done(u);
		return;
	}
	u->packages = json_incref(records);
	u->finding = runner_find_packages(u->codemode->config.runner, records, on_found, u);
}

static void on_turn(uv_timer_t *timer)
{
	struct deps_upkeep *u = timer->data;
	const char *prefix = prefix_of(u);
	if (prefix != NULL) {
		const struct store_space space = {.prefix = *prefix != '\0' ? prefix : NULL};
		u->listing = store_list(u->codemode->config.store, &space, STORE_DEPS, on_list, u);
	} else {
		clean(u);
	}
}

void codemode_find_deps(struct codemode *m, const char *const *prefixes, size_t count)
{
	struct deps_upkeep *u = m->upkeep;
	if (m->config.runner == NULL) {
		return;
	}
	for (size_t i = 0; i < count; i++) {
		(void)json_array_append_new(
		    u->prefixes, json_string(prefixes[i] != NULL ? prefixes[i] : ""));
	}
	(void)uv_timer_start(&u->turn, on_turn, 0, 0);
}
