#include <string.h>
#include <strings.h>

#include "api/aca.h"
#include "api/aca_request.h"
#include "api/appr.h"
#include "api/pcm.h"

#define BODY_MAX_BYTES (8U << 20)
#define SMALL_BODY_MAX_BYTES (64U << 10) /* where a body is allowed and not looked at */
#define UPLOAD_MAX_BYTES \
	(ACA_FILE_MAX_BYTES + (1U << 20)) /* the parts' own lines beside the file */

#define EXECUTE(route_pattern, fn)                                                        \
	{                                                                                 \
		.method = CALL_POST, .pattern = (route_pattern), .flags = ROUTE_BUFFERED, \
		.role = ROLE_EXECUTE, .max_body_bytes = BODY_MAX_BYTES, .handle = (fn),   \
		.json = aca_request_json, .on_error = aca_on_error,                       \
	}
#define UPLOAD(route_pattern, fn)                                                          \
	{                                                                                  \
		.method = CALL_POST, .pattern = (route_pattern), .flags = ROUTE_MULTIPART, \
		.role = ROLE_EXECUTE, .max_body_bytes = UPLOAD_MAX_BYTES,                  \
		.begin = aca_upload_begin, .handle = (fn), .upload = &aca_upload,          \
		.on_error = aca_on_error,                                                  \
	}
#define SIMPLE(verb, route_pattern, least_role, fn)                                           \
	{                                                                                     \
		.method = (verb), .pattern = (route_pattern), .flags = ROUTE_BUFFERED,        \
		.role = (least_role), .max_body_bytes = SMALL_BODY_MAX_BYTES, .handle = (fn), \
		.on_error = aca_on_error,                                                     \
	}

/* Two dialects have this path: see appr_is_sample. */
static void code_execute(struct call *c)
{
	if (appr_is_sample(c)) {
		appr_code_execute(c);
	} else {
		aca_execute_code(c);
	}
}

static size_t code_execute_json(struct call *c)
{
	return (appr_is_sample(c) ? appr_sample_json : aca_request_json)(c);
}

/* What is found before the body is there: its clients name a session or a version. */
static void code_execute_error(struct call *c, int status, const struct err *e)
{
	bool azure = call_query(c, "identifier") != NULL || c->path_identifier != NULL ||
		     call_query(c, "api-version") != NULL;
	(azure ? aca_on_error : appr_on_error_plain)(c, status, e);
}

/* Azure's, and the server's own. A literal segment is tried before a placeholder: files/upload is
 * not files/{name}. */
static const struct route aca_routes[] = {
    /* the old dialects */
    {
	.method = CALL_POST,
	.pattern = "code/execute",
	.flags = ROUTE_BUFFERED | ROUTE_ANY_CASE,
	.role = ROLE_EXECUTE,
	.max_body_bytes = BODY_MAX_BYTES,
	.json = code_execute_json,
	.handle = code_execute,
	.on_error = code_execute_error,
    },
    EXECUTE("python/execute", aca_execute_python),
    UPLOAD("files/upload", aca_upload_done_old),
    UPLOAD("python/uploadFile", aca_upload_done_old),
    UPLOAD("upload", aca_upload_done_old),
    SIMPLE(CALL_GET, "files/content/{name...}", ROLE_EXECUTE, aca_file_content),
    /* the new dialect */
    EXECUTE("executions", aca_execute_new),
    SIMPLE(CALL_GET, "executions", ROLE_EXECUTE, aca_executions_list),
    SIMPLE(CALL_GET, "executions/{id}", ROLE_EXECUTE, aca_execution_get),
    SIMPLE(CALL_DELETE, "executions/{id}", ROLE_EXECUTE, aca_execution_delete),
    UPLOAD("files", aca_upload_done),
    SIMPLE(CALL_GET, "files/{name}/content", ROLE_EXECUTE, aca_file_content),
    SIMPLE(CALL_GET, "session", ROLE_EXECUTE, aca_session_get),
    SIMPLE(CALL_DELETE, "session", ROLE_EXECUTE, aca_session_delete),
    SIMPLE(CALL_GET, "listSessions", ROLE_EXECUTE, aca_sessions_list),
    SIMPLE(CALL_GET, "metadata", ROLE_EXECUTE, aca_metadata),
    SIMPLE(CALL_POST, ".management/getSession", ROLE_EXECUTE, aca_session_get),
    SIMPLE(CALL_POST, ".management/listSessions", ROLE_EXECUTE, aca_sessions_list),
    SIMPLE(CALL_POST, ".management/stopSession", ROLE_EXECUTE, aca_session_stop),
    /* of both, by api-version */
    SIMPLE(CALL_GET, "files", ROLE_EXECUTE, aca_files_list),
    SIMPLE(CALL_GET, "files/{name}", ROLE_EXECUTE, aca_file_show),
    SIMPLE(CALL_DELETE, "files/{name}", ROLE_EXECUTE, aca_file_delete),
    /* of the server itself */
    SIMPLE(CALL_GET, "health", ROLE_NONE, ops_health),
    SIMPLE(CALL_GET, "ready", ROLE_NONE, ops_ready),
    SIMPLE(CALL_GET, "metrics", ROLE_METRICS, ops_metrics),
};

const struct route *api_routes(size_t i, size_t *count)
{
	switch (i) {
	case 0:
		*count = array_len(aca_routes);
		return aca_routes;
	case 1:
		return pcm_routes(count);
	case 2:
		return appr_routes(count);
	default:
		*count = 0;
		return NULL;
	}
}

const char *api_behind_pool(const char *path)
{
	static const char word[] = "sessionPools/";
	path += strspn(path, "/");
	const char *behind = path;
	for (const char *at = path; at != NULL; at = strchr(at, '/')) {
		at += *at == '/';
		const char *name = at + sizeof(word) - 1;
		if (strncasecmp(at, word, sizeof(word) - 1) == 0 && strchr(name, '/') != NULL) {
			behind = strchr(name, '/') + 1;
		}
	}
	return behind;
}

void api_audit(struct call *c, const char *action, const char *subject, const char *tenant, bool ok)
{
	const struct api *api = c->app;
	if (api->approvals == NULL) {
		return;
	}
	json_t *detail = tenant != NULL && *tenant != '\0' ? json_pack("{s:s}", "tenant", tenant)
							   : NULL;
	approvals_audit(
	    api->approvals, c->principal->name, action, subject, ok ? "ok" : "failed", detail);
	json_decref(detail);
}

void api_on_error(struct call *c, int status, const struct err *e)
{
	if (c->path != NULL && pcm_owns_path(c->path)) {
		pcm_on_error(c, status, e);
	} else if (c->path != NULL && appr_owns_path(c->path)) {
		appr_on_error(c, status, e);
	} else {
		aca_on_error(c, status, e);
	}
}
