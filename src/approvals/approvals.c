#include "approvals/approvals.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "approvals/audit.h"
#include "approvals/internal.h"
#include "base/clock.h"
#include "base/log.h"

int64_t approvals_now_us(const struct approvals *a)
{
	return a->config.wall_us != NULL ? a->config.wall_us() : clock_wall_us();
}

/* --- who is told of changes ----------------------------------------------------------------------
 */

static unsigned bucket_of(const char *id)
{
	uint32_t hash = 2166136261U; /* FNV-1a */
	for (; *id != '\0'; id++) {
		hash = (hash ^ (unsigned char)*id) * 16777619U;
	}
	return hash % APPROVALS_WATCH_BUCKETS;
}

void approvals_watch(struct approvals *a, struct approvals_watch *w)
{
	DL_APPEND(a->watches[bucket_of(w->id)], w);
}

void approvals_unwatch(struct approvals *a, struct approvals_watch *w)
{
	if (a->next_watch == w) {
		a->next_watch = w->next;
	}
	DL_DELETE(a->watches[bucket_of(w->id)], w);
}

/* ID "": all of the bucket's. Whoever is told may take any watch away. */
static void tell(struct approvals *a, unsigned bucket, const char *id)
{
	struct approvals_watch *w = a->watches[bucket];
	while (w != NULL) {
		a->next_watch = w->next;
		if (*id == '\0' || strcmp(w->id, id) == 0) {
			w->changed(w->ctx);
		}
		w = a->next_watch;
	}
	a->next_watch = NULL;
}

/* ID "": the database was away, and anything may have changed. */
static void on_changed(void *ctx, const char *id)
{
	struct approvals *a = ctx;
	if (a->stopped) {
		return;
	}
	if (*id == '\0') {
		for (unsigned i = 0; i < APPROVALS_WATCH_BUCKETS; i++) {
			tell(a, i, id);
		}
	} else {
		tell(a, bucket_of(id), id);
	}
	runs_changed(a, id);
	workflow_poke(a);
}

/* --- beginning and end ---------------------------------------------------------------------------
 */

static void name_owner(struct approvals *a)
{
	char guid[TEXT_GUID_BYTES];
	/* Each start is another owner: what the one before had begun is not this one's to renew. */
	(void)snprintf(a->owner, sizeof(a->owner), "%.80s%s%s",
	    a->config.server != NULL ? a->config.server : "", a->config.server != NULL ? "-" : "",
	    text_guid(guid));
}

struct approvals *approvals_new(uv_loop_t *loop, const struct approvals_config *c, struct err *e)
{
	struct approvals *a = calloc(1, sizeof(*a));
	if (a == NULL) {
		(void)err_set(e, ERR_INTERNAL, "out of memory");
		return NULL;
	}
	a->loop = loop;
	a->config = *c;
	a->audits = (struct quota)QUOTA_INIT(APPROVALS_AUDITS_MAX);
	name_owner(a);
	a->store = approval_store_new(loop, c->url, on_changed, a, e);
	if (a->store == NULL) {
		free(a);
		return NULL;
	}
	workflow_init(a);
	return a;
}

void approvals_start(struct approvals *a)
{
	if (!a->started && !a->stopped) {
		a->started = true;
		workflow_start(a);
	}
}

void approvals_drain(struct approvals *a)
{
	a->draining = true;
}

uint32_t approvals_running(const struct approvals *a)
{
	return a->lanes[LANE_RUN].active;
}

void approvals_stop(struct approvals *a)
{
	if (a == NULL || a->stopped) {
		return;
	}
	a->stopped = true;
	calls_stop(a);
	workflow_stop(a);
	runs_stop(a);
	callbacks_stop(a);
	promotions_stop(a);
	parked_stop(a);
	sure_stop(a);
}

static void on_closed(uv_handle_t *handle)
{
	struct approvals *a = handle->data;
	if (--a->handles == 0) {
		free(a);
	}
}

void approvals_free(struct approvals *a)
{
	if (a == NULL) {
		return;
	}
	approvals_stop(a);
	parked_free(a);
	approval_store_free(a->store);
	sure_free(a);
	uv_close((uv_handle_t *)&a->due, on_closed);
	uv_close((uv_handle_t *)&a->renew, on_closed);
	uv_close((uv_handle_t *)&a->retry, on_closed);
	uv_close((uv_handle_t *)&a->later, on_closed);
}

/* --- what others ask -----------------------------------------------------------------------------
 */

static void on_audited(void *ctx, const json_t *answer, const struct err *e)
{
	(void)ctx;
	(void)answer;
	if (e != NULL) {
		log_event(LOG_LEVEL_ERROR, "audit_failed", LOG_STR("reason", e->text));
	}
}

void approvals_audit(struct approvals *a, const char *actor, const char *action,
    const char *subject, const char *outcome, const json_t *detail)
{
	json_t *in = json_pack("{s:I, s:s, s:s, s:s, s:s, s:O?}", "at_us",
	    (json_int_t)approvals_now_us(a), "actor", actor, "action", action, "subject", subject,
	    "outcome", outcome, "detail", detail);
	if (in == NULL) {
		log_event(LOG_LEVEL_ERROR, "audit_failed", LOG_STR("action", action),
		    LOG_STR("reason", "a text that is not UTF-8"));
	} else if (sure_write_for(a, actor, audit_append, in, on_audited) < 0) {
		log_event(LOG_LEVEL_ERROR, "audit_failed", LOG_STR("action", action),
		    LOG_STR("reason", "too many records wait for the database"));
	}
}

void approvals_counts(const struct approvals *a, struct approvals_counts *out)
{
	struct approval_store_counts s;
	*out = a->counts;
	out->running = a->lanes[LANE_RUN].active;
	approval_store_counts(a->store, &s);
	out->commits = s.commits;
	out->changes = s.changes;
}

bool approvals_rule(const struct approvals *a, uint32_t pool, const char *tool)
{
	const struct approvals_pool *p = &a->config.pools[pool];
	for (uint32_t i = 0; i < p->tool_count; i++) {
		if (strcmp(p->tools[i], tool) == 0) {
			return true;
		}
	}
	return false;
}
