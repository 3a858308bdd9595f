/* GET /info: tools, skills and where artifacts are, in the session's workspace. */
#include <stdlib.h>
#include <string.h>

#include "api/pcm_ask.h"

/* What is asked for, one after the other. */
static const char *const methods[] = {"tools.list", "skills.list", "artifacts.path"};

struct info {
	struct store_space space;
	char workspace[ENGINE_WORKSPACE_MAX + 1];
	size_t next;
	json_t *result;
};

static void info_free(void *state)
{
	struct info *i = state;
	json_decref(i->result);
	free(i);
}

/* [{name, description}] */
static json_t *names_of(const json_t *list)
{
	json_t *out = json_array();
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *item = json_array_get(list, i);
		json_t *entry = json_object();
		(void)json_object_set(entry, "name", json_object_get(item, "name"));
		(void)json_object_set(entry, "description", json_object_get(item, "description"));
		(void)json_array_append_new(out, entry);
	}
	return out;
}

static void info_step(struct call *c, struct info *i);

static void answer_info(struct call *c, void *state, enum codemode_error code, const json_t *result,
    struct loading *bytes)
{
	(void)bytes;
	struct info *i = state;
	if (code != CODEMODE_OK) {
		pcm_fail_code(c, code, result);
		info_free(i);
		return;
	}
	const char *method = methods[i->next++];
	if (strcmp(method, "tools.list") == 0) {
		(void)json_object_set_new(i->result, "tools", names_of(result));
	} else if (strcmp(method, "skills.list") == 0) {
		json_t *names = names_of(result);
		(void)json_object_set(i->result, "skills", names);
		(void)json_object_set_new(i->result, "workflows", names);
	} else {
		(void)json_object_set_new(
		    i->result, "artifacts_path", json_copy((json_t *)(uintptr_t)result));
	}
	info_step(c, i);
}

static void info_step(struct call *c, struct info *i)
{
	if (i->next == array_len(methods)) {
		pcm_reply(c, 200, i->result);
		info_free(i);
		return;
	}
	struct pcm_question q = {
	    .method = methods[i->next], .answer = answer_info, .state = i, .drop = info_free};
	pcm_ask(c, &i->space, &q);
}

void pcm_info(struct call *c)
{
	struct pcm_where w;
	if (!pcm_where(c, &w, true)) {
		return;
	}
	struct info *i = calloc(1, sizeof(*i));
	if (i == NULL) {
		pcm_fail(c, 500, "Internal Server Error");
		return;
	}
	i->space = w.space;
	if (w.space.workspace != NULL) {
		(void)memccpy(i->workspace, w.space.workspace, '\0', sizeof(i->workspace));
		i->space.workspace = i->workspace;
	}
	i->result = json_object();
	info_step(c, i);
}
