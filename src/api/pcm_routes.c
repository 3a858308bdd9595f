#include "api/pcm.h"

#define BODY_MAX_BYTES (8U << 20)
#define ARTIFACT_MAX_BYTES (16U << 20)
#define SMALL_BODY_MAX_BYTES (64U << 10)

static size_t json(struct call *c)
{
	(void)c;
	return JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY;
}

#define ROUTE(verb, route_pattern, least_role, max_bytes, fn)                       \
	{                                                                           \
		.method = (verb), .pattern = (route_pattern),                       \
		.flags = ROUTE_BUFFERED | ROUTE_EXACT_BEARER, .role = (least_role), \
		.max_body_bytes = (max_bytes), .json = json, .handle = (fn),        \
		.on_error = pcm_on_error,                                           \
	}
#define GET(pattern, fn) ROUTE(CALL_GET, pattern, ROLE_EXECUTE, SMALL_BODY_MAX_BYTES, fn)
#define DELETE(pattern, fn) ROUTE(CALL_DELETE, pattern, ROLE_EXECUTE, SMALL_BODY_MAX_BYTES, fn)
#define POST(pattern, max_bytes, fn) ROUTE(CALL_POST, pattern, ROLE_EXECUTE, max_bytes, fn)

/* GET /health is everybody's; see routes.c. */
static const struct route routes[] = {
    POST("execute", BODY_MAX_BYTES, pcm_execute),
    GET("info", pcm_info),
    POST("reset", SMALL_BODY_MAX_BYTES, pcm_reset),
    POST("sessions", SMALL_BODY_MAX_BYTES, pcm_sessions_create),
    ROUTE(CALL_GET, "sessions", ROLE_NONE, SMALL_BODY_MAX_BYTES, pcm_sessions_list),
    POST("install_deps", SMALL_BODY_MAX_BYTES, pcm_install),
    POST("uninstall_deps", SMALL_BODY_MAX_BYTES, pcm_uninstall),
    GET("api/tools", pcm_tools_list),
    GET("api/tools/search", pcm_tools_search),
    GET("api/skills", pcm_skills_list),
    GET("api/skills/search", pcm_skills_search),
    GET("api/skills/{name}", pcm_skills_get),
    POST("api/skills", BODY_MAX_BYTES, pcm_skills_create),
    DELETE("api/skills/{name}", pcm_skills_delete),
    GET("api/workflows", pcm_workflows_list),
    GET("api/workflows/search", pcm_workflows_search),
    GET("api/workflows/{name}", pcm_workflows_get),
    POST("api/workflows", BODY_MAX_BYTES, pcm_workflows_create),
    DELETE("api/workflows/{name}", pcm_skills_delete),
    GET("api/artifacts", pcm_artifacts_list),
    GET("api/artifacts/{name...}", pcm_artifacts_get),
    POST("api/artifacts", ARTIFACT_MAX_BYTES, pcm_artifacts_save),
    DELETE("api/artifacts/{name...}", pcm_artifacts_delete),
    GET("api/deps", pcm_deps_list),
    POST("api/deps/add", SMALL_BODY_MAX_BYTES, pcm_deps_add),
    POST("api/deps/remove", SMALL_BODY_MAX_BYTES, pcm_deps_remove),
    POST("api/deps/sync", SMALL_BODY_MAX_BYTES, pcm_deps_sync),
};

const struct route *pcm_routes(size_t *count)
{
	*count = array_len(routes);
	return routes;
}
