#include "api/appr.h"

#define BODY_MAX_BYTES (8U << 20)
#define SMALL_BODY_MAX_BYTES (64U << 10)

/* Texts with a NUL are refused. */
static size_t json(struct call *c)
{
	(void)c;
	return JSON_REJECT_DUPLICATES;
}

#define ROUTE(verb, route_pattern, least_role, max_bytes, fn)                                      \
	{                                                                                          \
		.method = (verb), .pattern = (route_pattern), .flags = ROUTE_BUFFERED,             \
		.role = (least_role), .max_body_bytes = (max_bytes), .handle = (fn), .json = json, \
		.on_error = appr_on_error,                                                         \
	}
#define REVIEW(verb, pattern, fn) ROUTE(verb, pattern, ROLE_REVIEW, SMALL_BODY_MAX_BYTES, fn)

/* POST /code/execute is Azure's too; see routes.c. */
static const struct route routes[] = {
    {
	.method = CALL_POST,
	.pattern = "code/review",
	.flags = ROUTE_BUFFERED | ROUTE_ANY_CASE,
	.role = ROLE_REVIEW,
	.max_body_bytes = SMALL_BODY_MAX_BYTES,
	.handle = appr_code_review,
	.on_error = appr_on_error,
    },
    ROUTE(CALL_POST, "approvals", ROLE_EXECUTE, BODY_MAX_BYTES, appr_submit),
    REVIEW(CALL_GET, "approvals", appr_list),
    REVIEW(CALL_GET, "approvals/{id}", appr_get),
    REVIEW(CALL_DELETE, "approvals/{id}", appr_cancel),
    REVIEW(CALL_GET, "approvals/{id}/events", appr_events),
    REVIEW(CALL_POST, "approvals/{id}/decision", appr_decide),
};

const struct route *appr_routes(size_t *count)
{
	*count = array_len(routes);
	return routes;
}
