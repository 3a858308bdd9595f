#include <stdio.h>
#include <string.h>

#include "api/aca.h"

#define SESSIONS_PAGE 100

/* {"identifier","createdAt","lastAccessedAt","expireAt","etag"}; the etag is what changes when the
 * identifier gets another session (on Azure the container's id). A tenant's also has "tenant". */
static json_t *session_json(const struct session *s)
{
	json_t *j = json_pack("{s:o, s:o, s:o, s:o, s:s}", "identifier", aca_text(s->identifier),
	    "createdAt", aca_time(s->created_wall_us), "lastAccessedAt",
	    aca_time(s->accessed_wall_us), "expireAt", aca_time(engine_session_expires_wall_us(s)),
	    "etag", s->guid);
	if (*s->tenant != '\0') {
		(void)json_object_set_new(j, "tenant", json_string(s->tenant));
	}
	return j;
}

/* Borrowed; NULL having answered. */
static struct session *find(struct call *c)
{
	struct aca_problem p;
	struct aca_where where;
	struct session *s = NULL;
	if (aca_where(c, NULL, &where, &p) == 0) {
		s = aca_session_find(&where, false, &p);
	}
	if (s == NULL) {
		aca_fail(c, &p);
	}
	return s;
}

/* Looking at a session does not keep it alive. */
void aca_session_get(struct call *c)
{
	struct session *s = find(c);
	if (s != NULL) {
		call_reply_json(c, 200, session_json(s));
	}
}

static void delete (struct call *c, struct session *s)
{
	api_audit(c, "session.delete", s->identifier, s->tenant, true);
	engine_session_delete(s);
}

void aca_session_delete(struct call *c)
{
	struct session *s = find(c);
	if (s != NULL) {
		delete (c, s);
		struct buf none = BUF_INIT(0);
		call_reply(c, 204, NULL, &none);
	}
}

/* stopSession is answered with 200 and nothing. */
void aca_session_stop(struct call *c)
{
	struct session *s = find(c);
	if (s != NULL) {
		delete (c, s);
		struct buf none = BUF_INIT(0);
		call_reply(c, 200, NULL, &none);
	}
}

/* S, or the first after it that the caller may see: those of TENANT, NULL for every one. */
static const struct session *first_shown(const struct session *s, const char *tenant)
{
	while (s != NULL &&
	       (engine_session_is_own(s) || (tenant != NULL && strcmp(s->tenant, tenant) != 0))) {
		s = s->by_key.next;
	}
	return s;
}

/* Sessions come in the order they were made, which a hash of uthash keeps. */
void aca_sessions_list(struct call *c)
{
	struct aca_problem p;
	uint64_t skip = 0;
	const char *tenant = NULL;
	const struct pool *pool = aca_pool(c, &p);
	if (pool == NULL || aca_tenant(c, &tenant, &p) < 0 || aca_query_skip(c, &skip, &p) < 0) {
		aca_fail(c, &p);
		return;
	}
	if (tenant == NULL && (c->principal == NULL || c->principal->role < ROLE_ADMIN)) {
		tenant = ""; /* the server's own */
	}
	json_t *list = json_array();
	const struct session *s = first_shown(pool->sessions, tenant);
	for (uint64_t i = 0; s != NULL && i < skip + SESSIONS_PAGE; i++) {
		if (i >= skip) {
			(void)json_array_append_new(list, session_json(s));
		}
		s = first_shown(s->by_key.next, tenant);
	}
	json_t *reply = json_pack("{s:o}", "sessions", list);
	if (s != NULL) {
		char extra[32];
		(void)snprintf(
		    extra, sizeof(extra), "&skip=%llu", (unsigned long long)(skip + SESSIONS_PAGE));
		(void)json_object_set_new(reply, "nextLink", aca_link(c, NULL, extra));
	}
	call_reply_json(c, 200, reply);
}

void aca_metadata(struct call *c)
{
	const struct api *api = c->app;
	struct aca_problem p;
	if (aca_pool(c, &p) == NULL) {
		aca_fail(c, &p);
		return;
	}
	json_t *packages = json_array();
	for (size_t i = 0; i < api->package_count; i++) {
		(void)json_array_append_new(
		    packages, json_pack("{s:o, s:o}", "name", aca_text(api->packages[i].name),
				  "version", aca_text(api->packages[i].version)));
	}
	call_reply_json(c, 200,
	    json_pack("{s:[{s:s, s:o}], s:o, s:o, s:o, s:{s:s, s:o, s:s, s:s}}", "runtimes", "name",
		"Python", "version", aca_text(api->python_version), "preInstalledPackages",
		packages, "createdAt", aca_time(api->started_wall_us), "lastUpdatedAt",
		aca_time(api->started_wall_us), "jupyterKernel", "name", "carrel", "version",
		aca_text(CARREL_VERSION), "projectUrl", "", "description",
		"Python in Carrel's own sessions, which take a notebook's cells"));
}
