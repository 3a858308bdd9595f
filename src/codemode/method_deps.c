/*
 * deps.*: the packages a space's sessions may import. The list is the store's; the runner installs
 * it into a directory named by its content, which is remembered here for the space.
 */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "codemode/internal.h"
#include "store/requirement.h"

#define SPACES_MAX 4096

/* What a space has installed. */
struct installed {
	char prefix[CODEMODE_SPACE_NAME_MAX + 1];
	json_t *packages;  /* the list that was installed */
	json_t *directory; /* text; its name beneath the runner's packages */
	UT_hash_handle hh; /* oldest first */
};

struct deps_table {
	struct codemode *codemode;
	struct installed *spaces;
};

struct deps_table *deps_table_new(struct codemode *m)
{
	struct deps_table *t = calloc(1, sizeof(*t));
	if (t != NULL) {
		t->codemode = m;
	}
	return t;
}

static void forget(struct deps_table *t, struct installed *i)
{
	HASH_DEL(t->spaces, i);
	json_decref(i->packages);
	json_decref(i->directory);
	free(i);
}

void deps_table_free(struct deps_table *t)
{
	if (t == NULL) {
		return;
	}
	while (t->spaces != NULL) {
		forget(t, t->spaces);
	}
	free(t);
}

static struct installed *find(struct deps_table *t, const char *prefix)
{
	struct installed *i = NULL;
	HASH_FIND_STR(t->spaces, prefix, i);
	return i;
}

bool deps_table_has(struct deps_table *t, const char *prefix)
{
	return find(t, prefix) != NULL;
}

void deps_table_remember(
    struct deps_table *t, const char *prefix, const json_t *packages, json_t *directory)
{
	struct installed *i = find(t, prefix);
	if (i != NULL) {
		forget(t, i);
	}
	if (HASH_COUNT(t->spaces) >= SPACES_MAX) {
		forget(t, t->spaces);
	}
	i = calloc(1, sizeof(*i));
	if (i == NULL) {
		return;
	}
	(void)memccpy(i->prefix, prefix, '\0', sizeof(i->prefix) - 1);
	i->packages = json_incref((json_t *)(uintptr_t)packages);
	i->directory = json_incref(directory);
	HASH_ADD_STR(t->spaces, prefix, i);
}

static bool has_text(const json_t *list, const char *text)
{
	for (size_t i = 0; i < json_array_size(list); i++) {
		const char *one = json_string_value(json_array_get(list, i));
		if (one != NULL && strcmp(one, text) == 0) {
			return true;
		}
	}
	return false;
}

/* --- installing ----------------------------------------------------------------------------------
 * c->kept is the list; the argument "package", when there is one, is what is reported on.
 */

static const json_t *failure_of(const json_t *failed, const char *package)
{
	for (size_t i = 0; i < json_array_size(failed); i++) {
		const json_t *one = json_array_get(failed, i);
		const char *name = json_string_value(json_object_get(one, "package"));
		if (name != NULL && strcmp(name, package) == 0) {
			return one;
		}
	}
	return NULL;
}

/* Puts PACKAGE where it belongs among the three lists of RESULT. */
static void sort_in(
    json_t *result, const char *package, const json_t *said, const struct installed *before)
{
	const json_t *failure = failure_of(json_object_get(said, "failed"), package);
	const char *list = "already_present";
	if (failure != NULL) {
		list = "failed";
		(void)json_object_set(json_object_get(result, "reasons"), package,
		    json_object_get(failure, "reason"));
	} else if (has_text(json_object_get(said, "installed"), package) &&
		   (before == NULL || !has_text(before->packages, package))) {
		list = "installed";
	}
	(void)json_array_append_new(json_object_get(result, list), json_string(package));
}

static json_t *empty_result(void)
{
	return json_pack(
	    "{s:[], s:[], s:[], s:{}}", "installed", "already_present", "failed", "reasons");
}

static json_t *result_of(struct method_call *c, const json_t *said)
{
	const char *asked = argument_text(c, "package");
	const struct installed *before = find(c->codemode->deps, c->prefix);
	json_t *result = empty_result();
	if (asked != NULL) {
		char package[REQUIREMENT_MAX + 1];
		sort_in(result, requirement_normalise(asked, package), said, before);
	} else {
		for (size_t i = 0; i < json_array_size(c->kept); i++) {
			sort_in(
			    result, json_string_value(json_array_get(c->kept, i)), said, before);
		}
	}
	json_t *directory = json_object_get(said, "directory");
	if (json_is_string(directory)) {
		(void)json_object_set(result, "directory", directory);
	}
	return result;
}

/* What was installed of the list. */
static json_t *without_failed(const json_t *list, const json_t *failed)
{
	json_t *good = json_array();
	for (size_t i = 0; i < json_array_size(list); i++) {
		json_t *one = json_array_get(list, i);
		if (failure_of(failed, json_string_value(one)) == NULL) {
			(void)json_array_append(good, one);
		}
	}
	return good;
}

static void finish_installed(struct method_call *c)
{
	call_finish(c, steal(&c->result));
}

static void on_mounted(void *ctx, const struct err *e)
{
	struct method_call *c = ctx;
	c->mounting = NULL;
	if (e != NULL) {
		call_fail(c, "RuntimeError", "The packages are installed, but not to be seen: %s",
		    e->text);
		return;
	}
	finish_installed(c);
}

/* From now on every session of the space has DIRECTORY, before its next cell; the one that asks has
 * it before it is answered. */
static void show(struct method_call *c, const char *directory)
{
	struct engine *en = c->codemode->config.engine;
	struct worker *w = c->session != NULL ? c->session->worker : NULL;
	struct err e;
	if (engine_packages_set(en, c->space.prefix, &directory, 1, &e) < 0) {
		call_fail(c, "RuntimeError", "The packages cannot be shown: %s", e.text);
		return;
	}
	if (w == NULL) {
		finish_installed(c);
		return;
	}
	c->packages_waiter = (struct packages_waiter){.ready = on_mounted, .ctx = c};
	call_hold(c);
	c->mounting = w;
	engine_packages_wait(w, &c->packages_waiter);
	call_settle(c);
}

/* Shows what is installed, where that has changed, and ends C. */
static void show_installed(struct method_call *c)
{
	const char *directory = json_string_value(json_object_get(c->result, "directory"));
	if (directory != NULL) {
		show(c, directory);
	} else {
		finish_installed(c);
	}
}

static void on_undone(void *ctx, bool changed, const struct err *e)
{
	struct method_call *c = ctx;
	c->request = NULL;
	(void)changed;
	if (e != NULL) {
		log_event(LOG_LEVEL_WARNING, "dependency_not_taken_back",
		    LOG_STR("prefix", c->prefix), LOG_STR("reason", e->text));
	}
	show_installed(c);
}

/* What could not be added leaves the list as it was, so that it fails once and not with each
 * later one. */
static void take_back(struct method_call *c, const char *package)
{
	struct codemode *m = c->codemode;
	char name[REQUIREMENT_MAX + 1];
	(void)requirement_name(package, name);
	call_wait(c, request,
	    c->before != NULL
		? store_put(m->config.store, &c->space, STORE_DEPS, name, c->before, on_undone, c)
		: store_delete(m->config.store, &c->space, STORE_DEPS, name, on_undone, c));
}

static void on_installed(void *ctx, const json_t *said, const struct err *e)
{
	struct method_call *c = ctx;
	c->running = NULL;
	if (e != NULL) {
		call_fail_busy(c, e, "The packages could not be installed");
		return;
	}
	const json_t *failed = json_object_get(said, "failed");
	c->result = result_of(c, said);
	json_t *good = without_failed(c->kept, failed);
	deps_table_remember(c->codemode->deps, c->prefix, good, json_object_get(said, "directory"));
	log_event(LOG_LEVEL_INFO, "deps_installed", LOG_STR("prefix", c->prefix),
	    LOG_INT("packages", json_array_size(good)), LOG_INT("failed", json_array_size(failed)),
	    LOG_STR("directory", json_string_value(json_object_get(said, "directory"))));
	json_decref(good);
	const char *added = argument_text(c, "package");
	if (added != NULL && json_array_size(json_object_get(c->result, "failed")) > 0) {
		take_back(c, added);
	} else {
		show_installed(c);
	}
}

static void install(struct method_call *c, json_t *packages)
{
	struct codemode *m = c->codemode;
	c->kept = json_incref(packages);
	if (json_array_size(packages) == 0) {
		call_finish(c, empty_result());
	} else if (m->config.runner == NULL) {
		call_fail(c, "RuntimeError", "Packages cannot be installed: there is no runner");
	} else {
		call_wait(c, running, runner_install(m->config.runner, packages, on_installed, c));
	}
}

static void on_list_to_install(void *ctx, json_t *records, uint64_t revision, const struct err *e)
{
	struct method_call *c = ctx;
	(void)revision;
	c->request = NULL;
	if (e != NULL) {
		call_fail_store(c, e);
		return;
	}
	install(c, records);
}

static void list_and_install(struct method_call *c)
{
	call_wait(c, request,
	    store_list(c->codemode->config.store, &c->space, STORE_DEPS, on_list_to_install, c));
}

/* --- the methods ---------------------------------------------------------------------------------
 */

static bool may_change(struct method_call *c, const char *what)
{
	if (c->system || c->codemode->config.allow_runtime_deps) {
		return true;
	}
	call_fail(c, "RuntimeDepsDisabledError",
	    "Runtime dependency %s is disabled. Dependencies must be pre-configured before "
	    "session start.",
	    what);
	return false;
}

static void on_added(void *ctx, bool changed, const struct err *e)
{
	struct method_call *c = ctx;
	(void)changed;
	c->request = NULL;
	if (e != NULL) {
		call_fail_store(c, e);
		return;
	}
	list_and_install(c);
}

static struct store_request *put(struct codemode *m, const struct store_space *space,
    const char *package, store_done_fn fn, void *ctx)
{
	char line[REQUIREMENT_MAX + 1];
	char name[REQUIREMENT_MAX + 1];
	json_t *record = json_string(requirement_normalise(package, line));
	struct store_request *r = store_put(
	    m->config.store, space, STORE_DEPS, requirement_name(package, name), record, fn, ctx);
	json_decref(record);
	return r;
}

static void on_list_before(void *ctx, json_t *records, uint64_t revision, const struct err *e)
{
	struct method_call *c = ctx;
	const char *package = argument_text(c, "package");
	char name[REQUIREMENT_MAX + 1];
	(void)revision;
	c->request = NULL;
	if (e != NULL) {
		call_fail_store(c, e);
		return;
	}
	(void)requirement_name(package, name);
	for (size_t i = 0; i < json_array_size(records); i++) {
		char other[REQUIREMENT_MAX + 1];
		json_t *record = json_array_get(records, i);
		if (strcmp(requirement_name(json_string_value(record), other), name) == 0) {
			c->before = json_incref(record);
		}
	}
	call_wait(c, request, put(c->codemode, &c->space, package, on_added, c));
}

static void deps_add(struct method_call *c)
{
	const char *package = argument_text(c, "package");
	struct err e;
	if (!may_change(c, "installation")) {
		return;
	}
	if (requirement_check(package, &e) < 0) {
		call_fail(c, "ValueError", "%s", e.text);
		return;
	}
	call_wait(c, request,
	    store_list(c->codemode->config.store, &c->space, STORE_DEPS, on_list_before, c));
}

static void deps_remove(struct method_call *c)
{
	const char *package = argument_text(c, "package");
	char name[REQUIREMENT_MAX + 1];
	struct err e;
	if (!may_change(c, "modification")) {
		return;
	}
	if (requirement_check(package, &e) < 0) {
		call_fail(c, "ValueError", "%s", e.text);
		return;
	}
	call_wait(c, request,
	    store_delete(c->codemode->config.store, &c->space, STORE_DEPS,
		requirement_name(package, name), call_on_changed, c));
}

static void deps_list(struct method_call *c)
{
	call_wait(c, request,
	    store_list(c->codemode->config.store, &c->space, STORE_DEPS, call_on_list, c));
}

static void on_configured(void *ctx, bool changed, const struct err *e)
{
	(void)ctx;
	(void)changed;
	if (e != NULL) {
		log_event(LOG_LEVEL_WARNING, "dependency_not_kept", LOG_STR("reason", e->text));
	}
}

void codemode_add_deps(struct codemode *m, const json_t *packages)
{
	static const struct store_space own = {0};
	for (size_t i = 0; i < json_array_size(packages); i++) {
		const char *package = json_string_value(json_array_get(packages, i));
		struct err e;
		if (requirement_check(package, &e) < 0) {
			on_configured(NULL, false, &e);
		} else {
			(void)put(m, &own, package, on_configured, NULL);
		}
	}
}

const struct method deps_methods[] = {
    {"deps.list", {{0}}, deps_list},
    {"deps.add", {{"package", ARGUMENT_TEXT, false}}, deps_add},
    {"deps.remove", {{"package", ARGUMENT_TEXT, false}}, deps_remove},
    {"deps.sync", {{0}}, list_and_install},
    {0},
};
