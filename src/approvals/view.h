/*
 * view: approvals as those who ask for them see them.
 *
 * As records.h has them, but: times are RFC 3339 (created, changed, deadline, at) instead of
 * microseconds; settings are {deadline_seconds, timeout_seconds, callback, promote}; the tenant is
 * told only to who sees all tenants.
 */
#ifndef APPROVALS_VIEW_H
#define APPROVALS_VIEW_H

#include <jansson.h>
#include <stdbool.h>

/* A new object of an answer of records': "approval", "approvals" and "events" as above, "changed"
 * left out, the rest as it is. NULL when out of memory. */
json_t *view_answer(const json_t *answer, bool every_tenant);

/* One approval of records.h; a new object, or NULL. */
json_t *view_approval(const json_t *approval, bool every_tenant);

#endif
