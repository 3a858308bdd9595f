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

/* What POST says of an artifact; borrowed from BODY. */
struct saving {
	struct call *call; /* until its bytes are there, or it is gone */
	struct json_job *job;
	json_t *body; /* a reference */
	const char *name;
	const json_t *data;
	const char *description;
	json_t *metadata;
	const char *encoding; /* NULL or "base64": of DATA */
	const char *type;     /* what it is kept as */
};

static void saving_free(void *saving)
{
	struct saving *s = saving;
	json_decref(s->body);
	free(s);
}

static bool is_tree(const json_t *data)
{
	return json_is_object(data) || json_is_array(data);
}

/* DATA as the bytes that are kept; -EINVAL: it is not base64. On any thread. */
static int add_data(struct buf *out, const void *saving)
{
	const struct saving *s = saving;
	const char *text = json_string_value(s->data);
	size_t len = json_string_length(s->data);
	if (s->encoding != NULL) {
		return text != NULL && base64_decode(text, len, out) == 0 ? 0 : -EINVAL;
	}
	if (text != NULL) {
		return buf_add(out, text, len);
	}
	return is_tree(s->data) ? json_text_add_tree(out, s->data) : add_str(out, s->data);
}

static void on_data(void *saving, int err, struct buf *bytes)
{
	struct saving *s = saving;
	struct call *c = s->call;
	struct pcm_where w;
	c->ctx = NULL;
	c->gone = NULL;
	if (err == -EINVAL) {
		pcm_fail(c, 400, "data: not base64");
	} else if (bytes == NULL) {
		pcm_reply_written(c, err, NULL);
	} else if (pcm_where(c, &w, false)) {
		struct pcm_question q = {
		    .method = "artifacts.save", .bytes = *bytes, .answer = pcm_answer_result};
		*bytes = BUF_INIT(0);
		q.arguments = json_pack("{s:s, s:s, s:I, s:s}", "name", s->name, "type", s->type,
		    "size", (json_int_t)q.bytes.len, "description", s->description);
		if (s->metadata != NULL) {
			(void)json_object_set(q.arguments, "metadata", s->metadata);
		}
		pcm_ask(c, &w.space, &q);
	}
}

static void on_unwanted(struct call *c)
{
	struct saving *s = c->ctx;
	json_work_cancel(s->job);
}

/* Takes S over. What is large becomes bytes on a thread. */
static void save(struct saving *s)
{
	struct call *c = s->call;
	const struct api *api = c->app;
	if (c->body.len > JSON_WORK_SMALL_BYTES) {
		const struct json_subject subject = {s, add_data, saving_free, steal(&s->body)};
		c->ctx = s;
		c->gone = on_unwanted;
		struct json_job *job = json_work_make(
		    api->json_work, c->holder, &subject, on_data, s);
		if (job != NULL) {
			s->job = job;
		}
		return;
	}
	cleanup(buf_fini) struct buf bytes = BUF_INIT(JSON_TEXT_MAX_BYTES);
	int err = add_data(&bytes, s);
	on_data(s, err, err < 0 ? NULL : &bytes);
	saving_free(s);
}

static bool one_of(const char *word, const char *const *words)
{
	while (*words != NULL && strcmp(word, *words) != 0) {
		words++;
	}
	return *words != NULL;
}

/* An addition to the reference's wire: bytes, and JSON or text that strict JSON cannot carry (NaN,
 * lone surrogates), as base64. False having answered. */
static bool choose_type(struct call *c, struct saving *s)
{
	static const char *const types[] = {"bytes", "json", "text", NULL};
	if (s->encoding == NULL) {
		s->type = is_tree(s->data) ? "json" : "text";
	} else if (strcmp(s->encoding, "base64") != 0) {
		pcm_fail(c, 400, "encoding: only base64 is known");
		return false;
	} else if (!one_of(s->type, types)) {
		pcm_fail(c, 400, "type: bytes, json or text");
		return false;
	}
	return true;
}

void pcm_artifacts_save(struct call *c)
{
	struct pcm_form f;
	struct pcm_where w;
	struct saving *s = calloc(1, sizeof(*s));
	if (s == NULL) {
		pcm_fail(c, 500, "Internal Server Error");
		return;
	}
	bool good = pcm_form_open(&f, c, PCM_BODY);
	if (good) {
		*s = (struct saving){
		    .call = c,
		    .body = json_incref(f.body),
		    .name = pcm_form_text(&f, "name", NULL),
		    .data = pcm_form_any(&f, "data", true),
		    .description = pcm_form_text(&f, "description", ""),
		    .metadata = pcm_form_object(&f, "metadata"),
		    .encoding = pcm_form_optional_text(&f, "encoding"),
		    .type = pcm_form_text(&f, "type", "bytes"),
		};
		good = pcm_form_close(&f) && pcm_where(c, &w, false) && choose_type(c, s);
	}
	pcm_form_fini(&f);
	if (good) {
		save(s);
	} else {
		saving_free(s);
	}
}
