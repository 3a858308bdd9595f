/* /api/artifacts: what sessions keep, by name. A name may hold '/', as it is or as %2F. */
#include <errno.h>
#include <string.h>

#include "api/json_text.h"
#include "api/pcm_ask.h"
#include "api/pcm_form.h"

void pcm_artifacts_list(struct call *c)
{
	struct pcm_where w;
	if (pcm_where(c, &w, false)) {
		struct pcm_question q = {.method = "artifacts.list", .answer = pcm_answer_result};
		pcm_ask(c, &w.space, &q);
	}
}

/* --- one, by its name in the path ---------------------------------------------------------------
 */

static void by_name(struct call *c, const char *method, pcm_answer_fn answer)
{
	struct pcm_where w;
	json_t *name = json_string(c->params[0]);
	if (name == NULL) {
		pcm_fail(c, 400, "The name is not UTF-8");
	} else if (pcm_where(c, &w, false)) {
		struct pcm_question q = {.method = method,
		    .arguments = json_pack("{s:O}", "name", name),
		    .answer = answer};
		pcm_ask(c, &w.space, &q);
	}
	json_decref(name);
}

static void not_found(struct call *c)
{
	pcm_fail(c, 404, "Artifact '%s' not found", c->params[0]);
}

/* What was kept as JSON is JSON again; what was kept as text, or says wrongly that it is JSON, a
 * string. */
static void reply_data(struct call *c, const char *type, const struct buf *bytes)
{
	struct buf body = BUF_INIT(JSON_TEXT_MAX_BYTES * 2UL);
	int r = -EINVAL;
	if (type != NULL && strcmp(type, "bytes") == 0) {
		r = buf_add(&body, buf_str(bytes), bytes->len);
		if (r == 0) {
			call_reply(c, 200, "application/octet-stream", &body);
			return;
		}
	} else if (type != NULL && strcmp(type, "json") == 0) {
		r = json_text_add_checked(&body, buf_str(bytes), bytes->len);
	}
	if (r == -EINVAL) {
		r = json_text_add_string(&body, buf_str(bytes), bytes->len);
	}
	if (r < 0) {
		pcm_fail(c, 500, "The answer could not be put together");
	} else {
		pcm_reply_text(c, 200, &body);
	}
	buf_fini(&body);
}

static void answer_load(struct call *c, void *state, enum codemode_error code, const json_t *result,
    const struct buf *bytes)
{
	(void)state;
	if (code == CODEMODE_NOT_FOUND) {
		not_found(c);
	} else if (code != CODEMODE_OK) {
		pcm_fail_code(c, code, result);
	} else {
		reply_data(c, json_string_value(json_object_get(result, "type")), bytes);
	}
}

void pcm_artifacts_get(struct call *c)
{
	by_name(c, "artifacts.load", answer_load);
}

static void answer_delete(struct call *c, void *state, enum codemode_error code,
    const json_t *result, const struct buf *bytes)
{
	(void)state;
	(void)bytes;
	if (code == CODEMODE_NOT_FOUND || (code == CODEMODE_OK && json_is_false(result))) {
		not_found(c);
	} else if (code != CODEMODE_OK) {
		pcm_fail_code(c, code, result);
	} else {
		pcm_reply(c, 200, json_null());
	}
}

void pcm_artifacts_delete(struct call *c)
{
	by_name(c, "artifacts.delete", answer_delete);
}

/* --- saving -------------------------------------------------------------------------------------
 */

/* What Python's str() makes of what is neither text nor a list nor a mapping. */
static int add_str(struct buf *out, const json_t *data)
{
	switch (json_typeof(data)) {
	case JSON_TRUE:
		return buf_add_str(out, "True");
	case JSON_FALSE:
		return buf_add_str(out, "False");
	case JSON_NULL:
		return buf_add_str(out, "None");
	case JSON_REAL:
		return json_text_add_real(out, json_real_value(data));
	default:
		return json_text_add_tree(out, data);
	}
}

/* DATA as bytes; the type they are kept as, or NULL when they do not fit. */
static const char *bytes_of(const json_t *data, struct buf *out)
{
	bool json = json_is_object(data) || json_is_array(data);
	int r = json ? json_text_add_tree(out, data)
		: json_is_string(data)
		    ? buf_add(out, json_string_value(data), json_string_length(data))
		    : add_str(out, data);
	return r < 0 ? NULL : json ? "json" : "text";
}

static void save(
    struct call *c, const char *name, const json_t *data, const char *description, json_t *metadata)
{
	struct pcm_where w;
	if (!pcm_where(c, &w, false)) {
		return;
	}
	struct pcm_question q = {.method = "artifacts.save",
	    .bytes = BUF_INIT(JSON_TEXT_MAX_BYTES),
	    .answer = pcm_answer_result};
	const char *type = bytes_of(data, &q.bytes);
	if (type == NULL) {
		buf_fini(&q.bytes);
		pcm_fail(c, 500, "Internal Server Error");
		return;
	}
	q.arguments = json_pack("{s:s, s:s, s:I, s:s}", "name", name, "type", type, "size",
	    (json_int_t)q.bytes.len, "description", description);
	if (metadata != NULL) {
		(void)json_object_set(q.arguments, "metadata", metadata);
	}
	pcm_ask(c, &w.space, &q);
}

void pcm_artifacts_save(struct call *c)
{
	struct pcm_form f;
	if (pcm_form_open(&f, c, PCM_BODY)) {
		const char *name = pcm_form_text(&f, "name", NULL);
		const json_t *data = pcm_form_any(&f, "data", true);
		const char *description = pcm_form_text(&f, "description", "");
		json_t *metadata = pcm_form_object(&f, "metadata");
		if (pcm_form_close(&f)) {
			save(c, name, data, description, metadata);
		}
	}
	pcm_form_fini(&f);
}
