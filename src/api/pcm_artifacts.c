/* /api/artifacts: what sessions keep, by name. A name may hold '/', as it is or as %2F. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "api/pcm_ask.h"
#include "api/pcm_form.h"
#include "base/base64.h"
#include "base/compiler.h"
#include "base/json_text.h"

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

static void answer_delete(struct call *c, void *state, enum codemode_error code,
    const json_t *result, struct loading *bytes)
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

/* DATA as bytes; the type they are kept as, or NULL having answered. */
static const char *plain_bytes_of(struct call *c, const json_t *data, struct buf *out)
{
	bool json = json_is_object(data) || json_is_array(data);
	int r = json ? json_text_add_tree(out, data)
		: json_is_string(data)
		    ? buf_add(out, json_string_value(data), json_string_length(data))
		    : add_str(out, data);
	if (r < 0) {
		pcm_fail(c, 500, "Internal Server Error");
		return NULL;
	}
	return json ? "json" : "text";
}

/* What POST says of an artifact; borrowed from its form. */
struct saving {
	const char *name;
	const json_t *data;
	const char *description;
	json_t *metadata;
	const char *encoding; /* NULL or "base64": of DATA */
	const char *type;     /* of what is encoded */
};

static bool one_of(const char *word, const char *const *words)
{
	while (*words != NULL && strcmp(word, *words) != 0) {
		words++;
	}
	return *words != NULL;
}

/* An addition to the reference's wire: bytes, and JSON or text that strict JSON cannot carry (NaN,
 * lone surrogates), as base64. The type they are kept as, or NULL having answered. */
static const char *encoded_bytes_of(struct call *c, const struct saving *s, struct buf *out)
{
	static const char *const types[] = {"bytes", "json", "text", NULL};
	const char *text = json_string_value(s->data);
	if (strcmp(s->encoding, "base64") != 0) {
		pcm_fail(c, 400, "encoding: only base64 is known");
	} else if (!one_of(s->type, types)) {
		pcm_fail(c, 400, "type: bytes, json or text");
	} else if (text == NULL || base64_decode(text, json_string_length(s->data), out) < 0) {
		pcm_fail(c, 400, "data: not base64");
	} else {
		return s->type;
	}
	return NULL;
}

static void save(struct call *c, const struct saving *s)
{
	struct pcm_where w;
	if (!pcm_where(c, &w, false)) {
		return;
	}
	struct pcm_question q = {.method = "artifacts.save",
	    .bytes = BUF_INIT(JSON_TEXT_MAX_BYTES),
	    .answer = pcm_answer_result};
	const char *type = s->encoding != NULL ? encoded_bytes_of(c, s, &q.bytes)
					       : plain_bytes_of(c, s->data, &q.bytes);
	if (type == NULL) {
		buf_fini(&q.bytes);
		return;
	}
	q.arguments = json_pack("{s:s, s:s, s:I, s:s}", "name", s->name, "type", type, "size",
	    (json_int_t)q.bytes.len, "description", s->description);
	if (s->metadata != NULL) {
		(void)json_object_set(q.arguments, "metadata", s->metadata);
	}
	pcm_ask(c, &w.space, &q);
}

void pcm_artifacts_save(struct call *c)
{
	struct pcm_form f;
	if (pcm_form_open(&f, c, PCM_BODY)) {
		struct saving s = {
		    .name = pcm_form_text(&f, "name", NULL),
		    .data = pcm_form_any(&f, "data", true),
		    .description = pcm_form_text(&f, "description", ""),
		    .metadata = pcm_form_object(&f, "metadata"),
		    .encoding = pcm_form_optional_text(&f, "encoding"),
		    .type = pcm_form_text(&f, "type", "bytes"),
		};
		if (pcm_form_close(&f)) {
			save(c, &s);
		}
	}
	pcm_form_fini(&f);
}
