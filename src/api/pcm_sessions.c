/* Sessions by themselves: reset, and ids that the server gives. */
#include <string.h>

#include "api/pcm_form.h"
#include "api/pcm_session.h"

/* Ends the session. A client's own id may be used again at once, for a fresh one; an id that the
 * server gave ends with it, as P5 has it. */
void pcm_reset(struct call *c)
{
	struct pcm_where w;
	if (!pcm_where(c, &w, true)) {
		return;
	}
	if (w.id[0] == '\0' && pcm_config(c)->strict_sessions) {
		pcm_fail(c, 400, "Invalid session ID");
		return;
	}
	struct session *s = w.id[0] != '\0' ? pcm_session_find(c, &w) : NULL;
	if (s != NULL) {
		api_audit(c, "session.delete", s->identifier, s->tenant, true);
		engine_session_delete(s);
	}
	pcm_forget(c, &w);
	json_t *id = json_string(w.id);
	pcm_reply_new(c, 200,
	    json_pack(
		"{s:s, s:o}", "status", "reset", "session_id", id != NULL ? id : json_string("")));
}

static bool is_workspace(const char *id)
{
	static const char allowed[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
	size_t len = strlen(id);
	return len > 0 && len <= ENGINE_WORKSPACE_MAX && id[strspn(id, allowed)] == '\0';
}

/* Gives an id; its session is made by its first execution. */
static void create(struct call *c, const char *workspace)
{
	struct pcm_where w;
	if (workspace != NULL && !is_workspace(workspace)) {
		pcm_fail(c, 400,
		    "workspace_id must be 1-128 characters using only ASCII letters, digits, "
		    "underscores, or hyphens");
		return;
	}
	if (!pcm_where(c, &w, false)) {
		return;
	}
	if (w.pool->engine->draining) {
		pcm_fail(c, 503, "The server is stopping");
	} else if (pcm_give_id(c, &w, workspace)) {
		pcm_reply_new(c, 200, json_pack("{s:s}", "session_id", w.own_id));
	}
}

void pcm_sessions_create(struct call *c)
{
	struct pcm_form f;
	if (pcm_form_open(&f, c, PCM_OPTIONAL_BODY)) {
		const char *workspace = pcm_form_optional_text(&f, "workspace_id");
		if (pcm_form_close(&f)) {
			create(c, workspace);
		}
	}
	pcm_form_fini(&f);
}

/* P1 listed every session here. An id is all that keeps the clients of a token apart, so it stays
 * gone: P3 and P4 answer 404, P5, which has POST, 405. */
void pcm_sessions_list(struct call *c)
{
	if (pcm_config(c)->strict_sessions) {
		call_set_header(c, "Allow", "POST");
		pcm_fail(c, 405, "Method Not Allowed");
	} else {
		pcm_fail(c, 404, "Not Found");
	}
}
