#include "api/pcm_form.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "api/pcm.h"
#include "base/json_work.h"
#include "base/text.h"

#define INPUT_MAX_BYTES 1024 /* of what was wrong, told back */
/* Past this estimate it is not measured: a list of 500 numbers is estimated at eight times its
 * text. */
#define INPUT_ESTIMATE_MAX_BYTES (8U * INPUT_MAX_BYTES)

/* --- what is wrong ------------------------------------------------------------------------------
 */

/* INPUT (borrowed) as it is told back: left out when it is long. */
static json_t *input_json(json_t *input)
{
	size_t flags = JSON_COMPACT | JSON_ENCODE_ANY;
	bool is_short = input != NULL && !json_work_exceeds(input, INPUT_ESTIMATE_MAX_BYTES) &&
			json_dumpb(input, NULL, 0, flags) <= INPUT_MAX_BYTES;
	return is_short ? json_incref(input) : json_null();
}

/* Takes over LOC. INPUT is borrowed, or NULL. */
static void wrong(struct pcm_form *f, json_t *loc, const char *type, const char *msg, json_t *input)
{
	(void)json_array_append_new(
	    f->problems, json_pack("{s:s, s:o, s:s, s:o}", "type", type, "loc", loc, "msg", msg,
			     "input", input_json(input)));
}

static void wrong_member(
    struct pcm_form *f, const char *name, const char *type, const char *msg, json_t *input)
{
	wrong(f, json_pack("[s, s]", "body", name), type, msg, input);
}

static void wrong_query(
    struct pcm_form *f, const char *name, const char *type, const char *msg, const char *value)
{
	json_t *input = value == NULL ? NULL : json_string(value);
	wrong(f, json_pack("[s, s]", "query", name), type, msg, input);
	json_decref(input);
}

/* --- opening and closing ------------------------------------------------------------------------
 */

/* No Content-Type at all counts as JSON, as with the reference; but not from a web page, which
 * could send that to a server without tokens and need not ask it first, as it must for JSON. */
static bool says_json(struct call *c)
{
	const char *type = call_header(c, "Content-Type");
	if (type == NULL || *type == '\0') {
		return call_header(c, "Origin") == NULL;
	}
	size_t len = strcspn(type, "; \t");
	bool plain = len == 16 && strncasecmp(type, "application/json", len) == 0;
	bool suffix = len > 17 && strncasecmp(type, "application/", 12) == 0 &&
		      strncasecmp(type + len - 5, "+json", 5) == 0;
	return plain || suffix;
}

static void take_body(struct pcm_form *f)
{
	const json_error_t *error = &f->call->json.error;
	json_t *j = f->call->json.value;
	if (f->call->json.heavy) {
		wrong(f, json_pack("[s]", "body"), "too_long",
		    "the body holds more values than it may", NULL);
		return;
	}
	if (j == NULL) {
		json_t *nothing = json_object();
		wrong(f, json_pack("[s, i]", "body", error->position), "json_invalid",
		    "JSON decode error", nothing);
		json_decref(nothing);
		json_t *problem = json_array_get(f->problems, 0);
		json_t *why = json_string(error->text);
		(void)json_object_set_new(problem, "ctx",
		    json_pack("{s:o}", "error", why != NULL ? why : json_string("not JSON")));
		return;
	}
	if (!json_is_object(j)) {
		wrong(f, json_pack("[s]", "body"), "model_attributes_type",
		    "Input should be a valid dictionary or object to extract fields from", j);
		return;
	}
	f->body = json_incref(j);
}

bool pcm_form_open(struct pcm_form *f, struct call *c, enum pcm_form_kind kind)
{
	*f = (struct pcm_form){.call = c, .problems = json_array()};
	if (kind == PCM_QUERY) {
		return true;
	}
	if (c->body.len == 0 && kind == PCM_OPTIONAL_BODY) {
		f->body = json_object();
	} else if (c->body.len == 0) {
		wrong(f, json_pack("[s]", "body"), "missing", "Field required", NULL);
	} else if (!says_json(c)) {
		wrong(f, json_pack("[s]", "body"), "model_attributes_type",
		    "Input should be a valid dictionary or object to extract fields from; send it "
		    "with Content-Type: application/json",
		    NULL);
	} else {
		take_body(f);
	}
	return pcm_form_close(f);
}

bool pcm_form_close(struct pcm_form *f)
{
	if (json_array_size(f->problems) == 0) {
		return true;
	}
	pcm_reply_new(f->call, 422, json_pack("{s:O}", "detail", f->problems));
	return false;
}

void pcm_form_fini(struct pcm_form *f)
{
	json_decref(f->body);
	json_decref(f->problems);
	*f = (struct pcm_form){0};
}

/* --- members of the body ------------------------------------------------------------------------
 */

json_t *pcm_form_any(struct pcm_form *f, const char *name, bool required)
{
	json_t *j = json_object_get(f->body, name);
	if (j == NULL && required) {
		wrong_member(f, name, "missing", "Field required", f->body);
	}
	return j;
}

/* NULL for absent and null alike. */
static json_t *present(struct pcm_form *f, const char *name)
{
	json_t *j = pcm_form_any(f, name, false);
	return json_is_null(j) ? NULL : j;
}

static const char *text_of(struct pcm_form *f, const char *name, json_t *j)
{
	if (!json_is_string(j)) {
		wrong_member(f, name, "string_type", "Input should be a valid string", j);
		return NULL;
	}
	if (strlen(json_string_value(j)) != json_string_length(j)) {
		wrong_member(
		    f, name, "value_error", "Value error, must not hold a NUL character", j);
		return NULL;
	}
	return json_string_value(j);
}

const char *pcm_form_text(struct pcm_form *f, const char *name, const char *default_text)
{
	json_t *j = default_text == NULL ? pcm_form_any(f, name, true) : present(f, name);
	return j != NULL ? text_of(f, name, j) : default_text;
}

const char *pcm_form_optional_text(struct pcm_form *f, const char *name)
{
	json_t *j = present(f, name);
	return j != NULL ? text_of(f, name, j) : NULL;
}

double pcm_form_seconds(struct pcm_form *f, const char *name)
{
	json_t *j = present(f, name);
	if (j == NULL) {
		return 0;
	}
	double value = json_number_value(j);
	if (!json_is_number(j)) {
		wrong_member(f, name, "float_type", "Input should be a valid number", j);
	} else if (!(value >= 0)) {
		wrong_member(
		    f, name, "greater_than_equal", "Input should be greater than or equal to 0", j);
	}
	return value;
}

json_t *pcm_form_object(struct pcm_form *f, const char *name)
{
	json_t *j = present(f, name);
	if (j != NULL && !json_is_object(j)) {
		wrong_member(f, name, "dict_type", "Input should be a valid dictionary", j);
		return NULL;
	}
	return j;
}

json_t *pcm_form_texts(struct pcm_form *f, const char *name, size_t max)
{
	json_t *list = pcm_form_any(f, name, true);
	if (list == NULL) {
		return NULL;
	}
	if (!json_is_array(list)) {
		wrong_member(f, name, "list_type", "Input should be a valid list", list);
		return NULL;
	}
	if (json_array_size(list) > max) {
		wrong_member(f, name, "too_long", "List should have fewer items", NULL);
		return NULL;
	}
	size_t i;
	json_t *item;
	json_array_foreach(list, i, item)
	{
		bool whole = json_is_string(item) &&
			     strlen(json_string_value(item)) == json_string_length(item);
		if (!whole) {
			wrong(f, json_pack("[s, s, i]", "body", name, (int)i), "string_type",
			    "Input should be a valid string", item);
		}
	}
	return list;
}

/* --- the query ----------------------------------------------------------------------------------
 */

const char *pcm_form_query(struct pcm_form *f, const char *name)
{
	const char *value = call_query(f->call, name);
	if (value == NULL) {
		wrong_query(f, name, "missing", "Field required", NULL);
	} else if (!text_is_utf8(value, strlen(value))) {
		wrong_query(f, name, "string_unicode", "Input should be UTF-8", NULL);
		return NULL;
	}
	return value;
}

uint64_t pcm_form_query_number(
    struct pcm_form *f, const char *name, uint64_t max, uint64_t fallback)
{
	const char *value = call_query(f->call, name);
	uint64_t number = fallback;
	if (value != NULL && text_to_u64(value, max, &number) < 0) {
		char msg[96];
		(void)snprintf(msg, sizeof(msg), "Input should be a whole number from 0 to %llu",
		    (unsigned long long)max);
		wrong_query(f, name, "int_parsing", msg, value);
	}
	return number;
}
