#include "engine/packages.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/log.h"
#include "engine/internal.h"

#define MOUNTS_MAX 64 /* into one worker over its life; the keeper has the same bound */

enum mount_state { MOUNT_ASKED, MOUNT_THERE, MOUNT_FAILED };

struct package_mount {
	char name[ENGINE_PACKAGES_NAME_BYTES];
	enum mount_state state;
	struct package_mount *next;
};

struct package_set {
	char tenant[ENGINE_TENANT_MAX + 1];
	char names[ENGINE_PACKAGES_MAX][ENGINE_PACKAGES_NAME_BYTES];
	unsigned count;
	UT_hash_handle hh;
};

/* --- what a tenant has --------------------------------------------------------------------------
 */

static struct package_set *set_of(const struct engine *en, const char *tenant)
{
	struct package_set *set = NULL;
	if (en->packages != NULL) {
		HASH_FIND_STR(en->packages, tenant, set);
	}
	return set;
}

static struct package_set *set_new(struct engine *en, const char *tenant, struct err *e)
{
	if (HASH_COUNT(en->packages) >= ENGINE_PACKAGES_TENANTS_MAX) {
		(void)err_set(e, ERR_TOO_LARGE, "too many tenants have packages");
		return NULL;
	}
	struct package_set *set = calloc(1, sizeof(*set));
	if (set == NULL) {
		(void)err_set(e, ERR_INTERNAL, "out of memory");
		return NULL;
	}
	(void)memccpy(set->tenant, tenant, '\0', sizeof(set->tenant) - 1);
	HASH_ADD_STR(en->packages, tenant, set);
	return set;
}

int engine_packages_set(
    struct engine *en, const char *tenant, const char *const *names, unsigned count, struct err *e)
{
	const char *whose = tenant == NULL ? "" : tenant;
	if (count > ENGINE_PACKAGES_MAX) {
		return err_set(e, ERR_TOO_LARGE, "a tenant has at most %d directories of packages",
		    ENGINE_PACKAGES_MAX);
	}
	for (unsigned i = 0; i < count; i++) {
		if (!text_is_hex(names[i], ENGINE_PACKAGES_NAME_BYTES - 1)) {
			return err_set(e, ERR_INVALID, "that is no directory of packages");
		}
	}
	if (*whose != '\0' && !engine_tenant_is_valid(whose)) {
		return err_set(e, ERR_INVALID, "the tenant's name is not valid");
	}
	struct package_set *set = set_of(en, whose);
	if (set == NULL) {
		set = set_new(en, whose, e);
	}
	if (set == NULL) {
		return -1;
	}
	for (unsigned i = 0; i < count; i++) {
		memcpy(set->names[i], names[i], sizeof(set->names[i]));
	}
	set->count = count;
	return 0;
}

void engine_packages_each(
    const struct engine *en, void (*each)(void *ctx, const char *name), void *ctx)
{
	for (const struct package_set *set = en->packages; set != NULL; set = set->hh.next) {
		for (unsigned i = 0; i < set->count; i++) {
			each(ctx, set->names[i]);
		}
	}
	for (const struct worker *w = en->workers; w != NULL; w = w->by_id.next) {
		const struct package_mount *m;
		LL_FOREACH(w->mounts, m)
		{
			each(ctx, m->name);
		}
	}
}

void packages_forget(struct engine *en)
{
	struct package_set *set;
	struct package_set *next;
	HASH_ITER(hh, en->packages, set, next)
	{
		HASH_DEL(en->packages, set);
		free(set);
	}
}

/* --- what a worker has --------------------------------------------------------------------------
 */

static struct package_mount *find(const struct worker *w, const char *name)
{
	struct package_mount *m;
	LL_FOREACH(w->mounts, m)
	{
		if (strcmp(m->name, name) == 0) {
			return m;
		}
	}
	return NULL;
}

/* Asks for NAME. The list keeps what failed as well, so that it is asked for once. */
static void ask(struct worker *w, const char *name)
{
	struct engine *en = w->pool->engine;
	struct package_mount *m = w->mount_count < MOUNTS_MAX ? calloc(1, sizeof(*m)) : NULL;
	if (m == NULL) {
		return; /* it is missing for good, and a waiter is told */
	}
	memcpy(m->name, name, sizeof(m->name));
	LL_APPEND(w->mounts, m);
	w->mount_count++;
	w->mounts_pending++;
	en->ops->mount(en->ops_ctx, w, name);
}

bool packages_ready(struct worker *w)
{
	struct engine *en = w->pool->engine;
	const struct package_set *set = en->packages == NULL ? NULL
							     : set_of(en, w->session->tenant);
	for (unsigned i = 0; set != NULL && i < set->count; i++) {
		if (find(w, set->names[i]) == NULL) {
			ask(w, set->names[i]);
		}
	}
	return w->mounts_pending == 0;
}

int engine_packages_add_names(const struct worker *w, struct buf *out)
{
	const struct package_set *set = w->session == NULL
					    ? NULL
					    : set_of(w->pool->engine, w->session->tenant);
	int r = 0;
	for (unsigned i = 0; set != NULL && i < set->count && r == 0; i++) {
		const struct package_mount *m = find(w, set->names[i]);
		if (m != NULL && m->state == MOUNT_THERE) {
			r = buf_addf(out, "%s\n", m->name);
		}
	}
	return r;
}

/* --- waiting ------------------------------------------------------------------------------------
 */

/* 0, or -1 when one of the directories is not there. */
static int check(const struct worker *w, struct err *e)
{
	const struct package_set *set = set_of(w->pool->engine, w->session->tenant);
	for (unsigned i = 0; set != NULL && i < set->count; i++) {
		const struct package_mount *m = find(w, set->names[i]);
		if (m == NULL || m->state != MOUNT_THERE) {
			return err_set(e, ERR_INTERNAL,
			    "the packages are installed, but cannot be shown to this session; a "
			    "new session may have them");
		}
	}
	return 0;
}

static void tell(struct worker *w, const struct err *gone)
{
	struct err e;
	const struct err *why = gone;
	if (gone == NULL && check(w, &e) < 0) {
		why = &e;
	}
	/* What they do may add others, for whom more has been asked. */
	struct packages_waiter *pw;
	while ((pw = w->packages_waiters) != NULL && (gone != NULL || w->mounts_pending == 0)) {
		DL_DELETE(w->packages_waiters, pw);
		pw->ready(pw->ctx, why);
	}
}

void engine_packages_wait(struct worker *w, struct packages_waiter *pw)
{
	struct err e;
	if (w->session == NULL || w->state != WORKER_ATTACHED) {
		(void)err_set(&e, ERR_GONE, "the session has ended");
		pw->ready(pw->ctx, &e);
	} else if (packages_ready(w)) {
		pw->ready(pw->ctx, check(w, &e) < 0 ? &e : NULL);
	} else {
		DL_APPEND(w->packages_waiters, pw);
	}
}

void engine_packages_unwait(struct worker *w, struct packages_waiter *pw)
{
	DL_DELETE(w->packages_waiters, pw);
}

void engine_on_mounted(struct worker *w, const char *name, const char *reason)
{
	struct package_mount *m = find(w, name);
	if (m == NULL || m->state != MOUNT_ASKED) {
		return;
	}
	m->state = reason == NULL ? MOUNT_THERE : MOUNT_FAILED;
	if (reason != NULL) {
		log_event(LOG_LEVEL_WARNING, "packages_not_mounted", LOG_INT("worker", w->id),
		    LOG_STR("directory", name), LOG_STR("reason", reason));
	}
	if (--w->mounts_pending > 0 || w->session == NULL) {
		return;
	}
	tell(w, NULL);
	if (w->session != NULL) {
		session_pump(w->session);
	}
}

void packages_tell_gone(struct worker *w)
{
	struct err e;
	(void)err_set(&e, ERR_GONE, "the session has ended");
	tell(w, &e);
}

void packages_release(struct worker *w)
{
	while (w->mounts != NULL) {
		struct package_mount *m = w->mounts;
		LL_DELETE(w->mounts, m);
		free(m);
	}
}
