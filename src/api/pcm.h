/*
 * pcm: the wire of py-code-mode's session server, in all its generations at once: what the files of
 * the dialect share with each other.
 *
 * The generations, by what they brought: P1 execute, health, info, reset; P2 install_deps,
 * uninstall_deps; P3 bearer tokens; P4 the paths beneath /api; P5 workflows for skills, ids that
 * the server gives (POST /sessions) and workspaces. Where two of them differ, docs/wire.md says who
 * gets what.
 *
 * Source of wire facts: py-code-mode's server (execution/container/server.py) and client, as
 * measured on v0.10.0. Every refusal is {"detail": …}.
 */
#ifndef API_PCM_H
#define API_PCM_H

#include <jansson.h>
#include <stdbool.h>

#include "api/api.h"
#include "api/call.h"
#include "codemode/codemode.h"
#include "engine/engine.h"

/* --- pcm_error.c --------------------------------------------------------------------------------
 */

/* Answers with {"detail": TEXT}. */
void pcm_fail(struct call *c, int status, const char *fmt, ...) printf_like(3, 4);
/* The same from a reason of the engine's. */
void pcm_fail_err(struct call *c, const struct err *e);
/* route->on_error. */
void pcm_on_error(struct call *c, int status, const struct err *e);
/* Whether PATH, which has no route or not with its method, would be one of this dialect's. */
bool pcm_owns_path(const char *path);
/* Answers with J, which stays the caller's. */
void pcm_reply(struct call *c, int status, const json_t *j);
/* Answers with J and takes over the reference; NULL: out of memory. */
void pcm_reply_new(struct call *c, int status, json_t *j);
/* Answers with BODY, JSON text, whose bytes it takes over. */
void pcm_reply_text(struct call *c, int status, struct buf *body);
/* 200 with TEXT; NULL: ERR of json_write_fn. */
void pcm_reply_written(struct call *c, int err, struct buf *text);

/* --- the handlers -------------------------------------------------------------------------------
 */

/* pcm_execute.c */
void pcm_execute(struct call *c);

/* pcm_sessions.c */
void pcm_reset(struct call *c);
void pcm_sessions_create(struct call *c);
void pcm_sessions_list(struct call *c);

/* pcm_info.c */
void pcm_info(struct call *c);

/* pcm_tools.c */
void pcm_tools_list(struct call *c);
void pcm_tools_search(struct call *c);

/* pcm_skills.c */
void pcm_skills_list(struct call *c);
void pcm_skills_search(struct call *c);
void pcm_skills_get(struct call *c);
void pcm_skills_create(struct call *c);
void pcm_skills_delete(struct call *c);
void pcm_workflows_list(struct call *c);
void pcm_workflows_search(struct call *c);
void pcm_workflows_get(struct call *c);
void pcm_workflows_create(struct call *c);

/* pcm_artifacts.c */
void pcm_artifacts_list(struct call *c);
void pcm_artifacts_get(struct call *c);
void pcm_artifacts_save(struct call *c);
void pcm_artifacts_delete(struct call *c);

/* pcm_deps.c */
void pcm_deps_list(struct call *c);
void pcm_deps_add(struct call *c);
void pcm_deps_remove(struct call *c);
void pcm_deps_sync(struct call *c);
void pcm_install(struct call *c);
void pcm_uninstall(struct call *c);

/* pcm_routes.c */
const struct route *pcm_routes(size_t *count);

#endif
