#include "api/aca_value.h"

#include <errno.h>
#include <string.h>

#include "api/aca.h"
#include "base/base64.h"
#include "base/unicode.h"

#define NUMBER_MAX_BYTES 8192 /* of JSON text; longer integers travel as text */

/* --- repr of a string ---------------------------------------------------------------------------
 */

static int add_escaped(struct buf *out, uint32_t cp)
{
	if (cp < 0x100) {
		return buf_addf(out, "\\x%02x", cp);
	}
	return cp < 0x10000 ? buf_addf(out, "\\u%04x", cp) : buf_addf(out, "\\U%08x", cp);
}

static int add_quoted(struct buf *out, const char *bytes, size_t len, uint32_t cp, char quote)
{
	switch (cp) {
	case '\n':
		return buf_add_str(out, "\\n");
	case '\r':
		return buf_add_str(out, "\\r");
	case '\t':
		return buf_add_str(out, "\\t");
	case '\\':
		return buf_add_str(out, "\\\\");
	default:
		break;
	}
	if (cp == (uint32_t)quote) {
		int r = buf_add_char(out, '\\');
		return r < 0 ? r : buf_add_char(out, quote);
	}
	return unicode_is_printable(cp) ? buf_add(out, bytes, len) : add_escaped(out, cp);
}

int aca_value_add_repr(struct buf *out, const char *text, size_t len)
{
	bool single = memchr(text, '\'', len) != NULL;
	char quote = single && memchr(text, '"', len) == NULL ? '"' : '\'';
	int r = buf_add_char(out, quote);
	for (size_t i = 0; r == 0 && i < len;) {
		uint32_t cp = 0xfffd;
		size_t n = unicode_decode(text + i, len - i, &cp);
		r = n > 0 ? add_quoted(out, text + i, n, cp, quote)
			  : buf_add_str(out, "\xef\xbf\xbd");
		i += n > 0 ? n : 1;
	}
	return r < 0 ? r : buf_add_char(out, quote);
}

static json_t *repr_json(const struct buf *text)
{
	/* The longest growth is four bytes for one, \x00. */
	cleanup(buf_fini) struct buf b = BUF_INIT(text->len * 4 + 16);
	if (aca_value_add_repr(&b, buf_str(text), text->len) < 0) {
		return aca_string(buf_str(text), text->len);
	}
	return aca_string(buf_str(&b), b.len);
}

/* --- the value ----------------------------------------------------------------------------------
 */

/* The session's JSON text, when it is what KIND says; else NULL. */
static json_t *primitive(const struct execution_value *v)
{
	if (v->json.len == 0 || v->json.len > NUMBER_MAX_BYTES) {
		return NULL;
	}
	json_t *j = json_loadb(buf_str(&v->json), v->json.len, JSON_DECODE_ANY, NULL);
	bool fits = (v->kind == IPC_KIND_BOOL && json_is_boolean(j)) ||
		    (v->kind == IPC_KIND_INT && json_is_integer(j)) ||
		    (v->kind == IPC_KIND_FLOAT && json_is_number(j));
	if (!fits) {
		json_decref(j);
		return NULL;
	}
	return j;
}

/* nan, inf, -inf: what JSON has no number for. */
static bool is_not_finite(const struct buf *text)
{
	const char *t = buf_str(text);
	return strcmp(t, "nan") == 0 || strcmp(t, "inf") == 0 || strcmp(t, "-inf") == 0;
}

static json_t *number_json(const struct execution_value *v)
{
	json_t *j = primitive(v);
	if (j != NULL) {
		return j;
	}
	if (v->kind == IPC_KIND_FLOAT && is_not_finite(&v->text)) {
		return json_null();
	}
	/* Integers that JSON parsers cannot hold, and whatever a session made up. */
	const struct buf *text = v->text.len > 0 ? &v->text : &v->json;
	return aca_string(buf_str(text), text->len);
}

static json_t *number_text(const struct execution_value *v)
{
	const struct buf *text = v->text.len > 0 ? &v->text : &v->json;
	return aca_string(buf_str(text), text->len);
}

json_t *aca_value_json(const struct execution_value *v, bool jupyter)
{
	switch (v->kind) {
	case IPC_KIND_NONE:
		return json_string("");
	case IPC_KIND_NULL:
		return jupyter ? json_null() : json_string("");
	case IPC_KIND_BOOL:
	case IPC_KIND_INT:
	case IPC_KIND_FLOAT:
		return jupyter ? number_text(v) : number_json(v);
	case IPC_KIND_STR:
		return jupyter ? repr_json(&v->text) : aca_string(buf_str(&v->text), v->text.len);
	case IPC_KIND_OTHER:
		break;
	}
	return aca_string(buf_str(&v->text), v->text.len);
}

/* --- images -------------------------------------------------------------------------------------
 */

static const char *image_format(const char *mime)
{
	return strcmp(mime, "image/png") == 0    ? "png"
	       : strcmp(mime, "image/jpeg") == 0 ? "jpeg"
						 : NULL;
}

bool aca_value_image(const struct execution *x, size_t *display, uint32_t *item)
{
	for (size_t i = x->display_count; i-- > 0;) {
		for (uint32_t k = 0; k < x->displays[i]->count; k++) {
			if (image_format(x->displays[i]->items[k].mime) != NULL) {
				*display = i;
				*item = k;
				return true;
			}
		}
	}
	return false;
}

json_t *aca_value_base64(const char *bytes, size_t len)
{
	cleanup(buf_fini) struct buf b = BUF_INIT(len / 3 * 4 + 4);
	if (base64_encode(bytes, len, &b) < 0) {
		return json_string("");
	}
	return json_stringn_nocheck(buf_str(&b), b.len);
}

json_t *aca_value_image_json(const struct display *d, uint32_t item)
{
	return json_pack("{s:s, s:s, s:o}", "type", "image", "format",
	    image_format(d->items[item].mime), "base64_data",
	    aca_value_base64(d->items[item].data, d->items[item].len));
}
