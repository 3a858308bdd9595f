#include "tools/protocol.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/compiler.h"
#include "base/unicode.h"
#include "ipc/codec.h"

static int add_chunk(const char *bytes, size_t len, void *out)
{
	return buf_add(out, bytes, len);
}

int protocol_json_encode(const json_t *value, struct buf *out)
{
	/* As ipc_text_encode: a length with the NUL, the text, the NUL. */
	uint32_t len = 0;
	size_t start = out->len;
	int r = buf_add(out, &len, sizeof(len));
	if (r == 0 &&
	    json_dump_callback(value, add_chunk, out, JSON_COMPACT | JSON_ENCODE_ANY) < 0) {
		r = -EMSGSIZE;
	}
	r = r < 0 ? r : buf_add(out, "", 1);
	if (r < 0) {
		out->len = start;
		return r;
	}
	len = (uint32_t)(out->len - start - sizeof(len));
	memcpy(out->data + start, &len, sizeof(len));
	return 0;
}

json_t *protocol_json_decode(const struct buf *body)
{
	const char *text;
	if (ipc_text_decode(body, &text) < 0) {
		return NULL;
	}
	return json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
}

int protocol_done_encode(bool ok, const json_t *value, struct buf *out)
{
	int r = buf_add_char(out, ok ? 1 : 0);
	return r < 0 ? r : protocol_json_encode(value, out);
}

json_t *protocol_done_decode(const struct buf *body, bool *ok)
{
	if (body->len < 1 || (body->data[0] != 0 && body->data[0] != 1)) {
		return NULL;
	}
	const struct buf rest = {
	    .data = body->data + 1, .len = body->len - 1, .alloc = 0, .max = body->max};
	*ok = body->data[0] == 1;
	return protocol_json_decode(&rest);
}

json_t *protocol_error(const struct err *e, const char *message)
{
	const char *text = message != NULL ? message : e->text;
	json_t *value = json_pack("{s:i, s:s}", "code", (int)e->code, "message", text);
	/* A message from a program may be cut in the middle of a character. */
	return value != NULL ? value
			     : json_pack("{s:i, s:s}", "code", (int)e->code, "message",
				   "(a message that is not UTF-8)");
}

void protocol_error_read(const json_t *value, struct err *e)
{
	json_int_t code = json_integer_value(json_object_get(value, "code"));
	const char *text = json_string_value(json_object_get(value, "message"));
	if (code <= ERR_NONE || code > ERR_INTERNAL) {
		code = ERR_INTERNAL;
	}
	(void)err_set(e, (enum err_code)code, "%s", text != NULL ? text : "it failed");
	/* Where the text was cut, not in the middle of a character. */
	e->text[unicode_whole(e->text, strlen(e->text))] = '\0';
}
