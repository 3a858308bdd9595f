#include "approvals/result.h"

#include <string.h>

#include "base/json_text.h"
#include "base/json_weight.h"
#include "base/text.h"
#include "base/unicode.h"
#include "engine/outcome.h"

/* How much of the whole each part may take, as JSON text. */
#define STDOUT_MAX_BYTES (2U << 20)
#define STDERR_MAX_BYTES (1U << 20)
#define VALUE_MAX_BYTES (1U << 20)
#define VALUE_TEXT_MAX_BYTES (512U << 10)
#define ERROR_MAX_BYTES (256U << 10) /* of name, value and traceback each */
#define REST_BYTES (64U << 10)       /* names of members, numbers, the sentence */
#define DISPLAYS_MAX_BYTES                                                          \
	(RESULT_MAX_BYTES - STDOUT_MAX_BYTES - STDERR_MAX_BYTES - VALUE_MAX_BYTES - \
	    VALUE_TEXT_MAX_BYTES - 3 * ERROR_MAX_BYTES - REST_BYTES)
#define VALUE_WEIGHT_MAX (16U << 20)

/* --- texts ---------------------------------------------------------------------------------------
 */

/* How many of LEN bytes are a JSON string of at most MAX bytes. */
static size_t fitting(const char *bytes, size_t len, size_t max)
{
	size_t taken = 0;
	size_t i = 0;
	for (; i < len; i++) {
		unsigned char c = (unsigned char)bytes[i];
		size_t n = c < ' ' || c == 0x7f ? 6 : c == '"' || c == '\\' ? 2 : 1;
		if (taken + n > max) {
			break;
		}
		taken += n;
	}
	return i == len ? len : unicode_whole(bytes, i);
}

/* As a string of at most MAX bytes of JSON. CUT grows by what does not fit. */
static json_t *text_of(const struct buf *from, size_t max, uint64_t *cut)
{
	size_t len = from->len;
	cleanup(buf_fini) struct buf clean = BUF_INIT(len * 3 + 1);
	if (text_add_utf8_lossy(&clean, buf_str(from), len) < 0) {
		return NULL;
	}
	size_t kept = fitting(buf_str(&clean), clean.len, max);
	*cut += clean.len - kept;
	return json_stringn(buf_str(&clean), kept);
}

/* --- the value -----------------------------------------------------------------------------------
 */

/* The session's JSON, mended; NULL when it is none, is too much, or holds an integer that no reader
 * of JSON does. */
static json_t *json_of(const struct execution_value *v)
{
	cleanup(buf_fini) struct buf text = BUF_INIT(VALUE_MAX_BYTES);
	if (json_text_add_checked(&text, buf_str(&v->json), v->json.len) < 0 ||
	    json_weight(buf_str(&text), text.len) > VALUE_WEIGHT_MAX) {
		return NULL;
	}
	return json_loadb(buf_str(&text), text.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
}

static json_t *value_of(const struct execution_value *v, uint64_t *cut)
{
	if (v->kind == IPC_KIND_NONE || v->kind == IPC_KIND_NULL) {
		return json_null();
	}
	json_t *value = json_of(v);
	if (value != NULL) {
		return value;
	}
	return text_of(v->text.len > 0 ? &v->text : &v->json, VALUE_MAX_BYTES, cut);
}

static json_t *error_of(const struct execution_value *v, uint64_t *cut)
{
	if (v->error_name.len == 0 && v->traceback.len == 0) {
		return json_null();
	}
	return json_pack("{s:o, s:o, s:o}", "name", text_of(&v->error_name, ERROR_MAX_BYTES, cut),
	    "value", text_of(&v->error_value, ERROR_MAX_BYTES, cut), "traceback",
	    text_of(&v->traceback, ERROR_MAX_BYTES, cut));
}

/* --- displays ------------------------------------------------------------------------------------
 */

/* Those that fit, whole, in order; the others' types remain. */
static json_t *displays_of(const struct execution *x, uint64_t *cut)
{
	size_t room = DISPLAYS_MAX_BYTES;
	json_t *list = json_array();
	for (size_t i = 0; i < x->display_count; i++) {
		json_t *one = outcome_display(x->displays[i]);
		size_t needs = json_dumpb(one, NULL, 0, JSON_COMPACT) + 1;
		if (needs > room) {
			++*cut;
			json_decref(one);
			continue;
		}
		room -= needs;
		(void)json_array_append_new(list, one);
	}
	return list;
}

/* --- all of it -----------------------------------------------------------------------------------
 */

static void add_cut(json_t *truncated, const char *name, uint64_t cut)
{
	if (cut > 0) {
		(void)json_object_set_new(truncated, name, json_integer((json_int_t)cut));
	}
}

json_t *result_of(const struct execution *x, const char *run)
{
	uint64_t out_cut = x->out_cut_bytes;
	uint64_t err_cut = x->err_cut_bytes;
	uint64_t displays_cut = x->displays_cut;
	uint64_t value_cut = 0;
	uint64_t error_cut = 0;
	json_t *result = json_pack("{s:s, s:s, s:s?, s:o, s:o, s:o, s:o, s:o, s:I, s:o, s:I, s:s}",
	    "status", execution_state_name(x->state), "verdict", verdict_name(x->verdict), "why",
	    outcome_sentence(x), "stdout", text_of(&x->out, STDOUT_MAX_BYTES, &out_cut), "stderr",
	    text_of(&x->err, STDERR_MAX_BYTES, &err_cut), "value", value_of(&x->value, &value_cut),
	    "value_text", text_of(&x->value.text, VALUE_TEXT_MAX_BYTES, &value_cut), "error",
	    error_of(&x->value, &error_cut), "exit_code", (json_int_t)outcome_exit_code(x),
	    "displays", displays_of(x, &displays_cut), "duration_ms",
	    (json_int_t)((x->duration_us + 500) / 1000), "run", run);
	json_t *truncated = json_object();
	add_cut(truncated, "stdout", out_cut);
	add_cut(truncated, "stderr", err_cut);
	add_cut(truncated, "displays", displays_cut);
	add_cut(truncated, "value", value_cut);
	add_cut(truncated, "error", error_cut);
	if (result != NULL) {
		(void)json_object_set(result, "truncated", truncated);
	}
	json_decref(truncated);
	return result;
}
