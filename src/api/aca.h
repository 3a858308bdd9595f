/*
 * aca: the data plane of Azure Container Apps dynamic sessions, in its three dialects: what the
 * files of the dialect share with each other.
 *
 * Sources of wire facts: the TypeSpec and examples of Azure/azure-rest-api-specs under
 * specification/app/data-plane/DynamicSessions, Microsoft's documentation and its sample dumps, and
 * the clients' own sources.
 *
 * A function that can refuse a request takes a `struct aca_problem *` last and returns
 * aca_problem(...), which is -1; the handler then answers with aca_fail.
 */
#ifndef API_ACA_H
#define API_ACA_H

#include <jansson.h>
#include <stdbool.h>

#include "api/api.h"
#include "api/call.h"
#include "base/err.h"
#include "engine/engine.h"
#include "engine/files.h"

/* How an answer is wrapped. It follows from the route, and where a route is the same in two
 * dialects, from aca_is_old_version. */
enum aca_shape {
	ACA_WRAPPED, /* code/execute: {"$id","properties":{…}} */
	ACA_FLAT,    /* python/execute, the oldest */
	ACA_NEW,     /* executions */
};

/* --- aca_error.c: what can be wrong
 * --------------------------------------------------------------- */

enum aca_fault {
	ACA_VALIDATION,
	ACA_PROPERTIES_MISSING,
	ACA_NOT_SUPPORTED,
	ACA_IDENTIFIER_LENGTH,
	ACA_SESSION_NOT_FOUND,
	ACA_UNAUTHORIZED,
	ACA_FORBIDDEN,
	ACA_NOT_FOUND,
	ACA_POOL_NOT_FOUND,
	ACA_FILE_NOT_FOUND,
	ACA_EXECUTION_NOT_FOUND,
	ACA_METHOD_NOT_ALLOWED,
	ACA_CONFLICT,
	ACA_GONE,
	ACA_TOO_LARGE,
	ACA_POOL_FULL,
	ACA_QUEUE_FULL,
	ACA_STORAGE_FULL,
	ACA_UNAVAILABLE,
	ACA_INTERNAL,
	ACA_FAULT_COUNT,
};

struct aca_problem {
	enum aca_fault fault;
	const char *target; /* what of the request is wrong; static, or NULL */
	char text[512];
};

/* Sets *P and returns -1. */
int aca_problem(struct aca_problem *p, enum aca_fault fault, const char *target, const char *fmt,
    ...) printf_like(4, 5);
/* The same from a reason of the engine's or of the files'. */
int aca_problem_err(struct aca_problem *p, const struct err *e, const char *target);
/* Answers with P. */
void aca_fail(struct call *c, const struct aca_problem *p);
/* route->on_error: lets go of what the call holds, then answers. */
void aca_on_error(struct call *c, int status, const struct err *e);

/* --- aca.c: what every request carries ---------------------------------------------------------
 */

/* The oldest dialects' api-versions are dated before 2024-10-02; from then on the answers are flat
 * (routes.tsp: 2024-10-02-preview is the first version with executions). */
bool aca_is_old_version(struct call *c);

struct pool *aca_pool(struct call *c, struct aca_problem *p);

/* Whose sessions the call is about: the token's prefix; else, for an admin, what the query names
 * with `tenant`, else NULL, the server's own. Borrowed for the call. -1 when another tenant's is
 * named by one who may not. */
int aca_tenant(struct call *c, const char **out, struct aca_problem *p);

struct aca_where {
	struct pool *pool;
	const char *tenant; /* as aca_tenant */
	char identifier[ENGINE_IDENTIFIER_MAX + 1];
};

/* api-version, pool and identifier. The identifier comes from the query, else from the path
 * (/identifier/{id}/…), else from BODY (its properties or itself; NULL: no body). */
int aca_where(struct call *c, const json_t *body, struct aca_where *w, struct aca_problem *p);

/* Finds or makes the session. Borrowed, as from engine_session_open; NULL with *P. */
struct session *aca_session_open(const struct aca_where *w, struct aca_problem *p);
/* Finds it, and counts an access when TOUCH; NULL with *P (SessionWithIdentifierNotFound). */
struct session *aca_session_find(const struct aca_where *w, bool touch, struct aca_problem *p);

/* An optional query parameter: true, false, 1, 0, without case; "" is true. */
int aca_query_bool(struct call *c, const char *name, bool *out, struct aca_problem *p);
/* `skip`, at most INT32_MAX as the wire has it; 0 when absent. */
int aca_query_skip(struct call *c, uint64_t *out, struct aca_problem *p);

/* Adds TEXT percent-encoded; '/' stays when it is a path. As buf_add. */
int aca_add_encoded(struct buf *b, const char *text, bool is_path);
/* Adds the request's path, percent-encoded, without the last SEGMENTS of it. As buf_add. */
int aca_add_base(struct buf *b, struct call *c, unsigned segments);
/* Adds "?api-version=…" of the request, and its tenant when it names one. As buf_add. */
int aca_add_query(struct buf *b, struct call *c);
/* A link to the request's own path with api-version, identifier (NULL: none) and EXTRA ("&a=b"). */
json_t *aca_link(struct call *c, const char *identifier, const char *extra);

/* A JSON string of bytes that need not be UTF-8: ill-formed sequences become U+FFFD. */
json_t *aca_string(const char *bytes, size_t len);
json_t *aca_text(const char *text);
/* RFC 3339 with seven digits, as the wire shows. */
json_t *aca_time(int64_t wall_us);

/* --- the handlers ------------------------------------------------------------------------------
 */

#define ACA_FILE_MAX_BYTES (128ULL << 20) /* the documented limit of an upload */

/* aca_execute.c */
void aca_execute_code(struct call *c);
void aca_execute_python(struct call *c);
void aca_execute_new(struct call *c);
void aca_execution_get(struct call *c);
/* Those that can be had by their id, in the order they came. */
void aca_executions_list(struct call *c);
void aca_execution_delete(struct call *c);

/* aca_upload.c */
extern const struct call_upload aca_upload;
enum call_next aca_upload_begin(struct call *c);
void aca_upload_done_old(struct call *c);
void aca_upload_done(struct call *c);

/* aca_files.c */
void aca_files_list(struct call *c);
void aca_file_show(struct call *c);
void aca_file_content(struct call *c);
void aca_file_delete(struct call *c);

/* aca_sessions.c */
void aca_session_get(struct call *c);
void aca_session_delete(struct call *c);
void aca_session_stop(struct call *c);
void aca_sessions_list(struct call *c);
void aca_metadata(struct call *c);

/* ops.c */
void ops_health(struct call *c);
void ops_ready(struct call *c);
void ops_metrics(struct call *c);

#endif
