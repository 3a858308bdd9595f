#include "cli/completion.h"

#include <string.h>

#include "base/text.h"
#include "cli/execution.h"

/* What is asked must not be undone by what the session has named `print` or `sorted`. */
#define EXPRESSION                                                                  \
	"(lambda b, names, head, start: b.print(__import__('json').dumps(b.sorted(" \
	"head + name for name in b.set(names) if b.isinstance(name, b.str) and "    \
	"name.startswith(start) and (start[:1] == '_' or name[:1] != '_'))[:%d])))" \
	"((__import__('builtins')), %s, '%.*s', '%s')"
#define GLOBAL_NAMES                                                             \
	"[*__import__('builtins').globals(), *__import__('builtins').__dict__, " \
	"*__import__('keyword').kwlist]"

static int build_code(struct buf *code, const char *word)
{
	const char *dot = strrchr(word, '.');
	if (dot == NULL) {
		return buf_addf(code, EXPRESSION, COMPLETION_MAX, GLOBAL_NAMES, 0, "", word);
	}
	cleanup(buf_fini) struct buf names = BUF_INIT(EXECUTION_CODE_MAX_BYTES);
	int object = (int)(dot - word);
	int r = buf_addf(&names, "__import__('builtins').dir(%.*s)", object, word);
	return r < 0 ? r
		     : buf_addf(code, EXPRESSION, COMPLETION_MAX, buf_str(&names), object + 1, word,
			   dot + 1);
}

json_t *completion_ask(struct client *c, const char *identifier, const char *word)
{
	cleanup(buf_fini) struct buf code = BUF_INIT(EXECUTION_CODE_MAX_BYTES);
	cleanup(json_decrefp) json_t *reply = NULL;
	struct err e;
	if (build_code(&code, word) < 0) {
		return NULL;
	}
	const struct execution x = {
	    .identifier = identifier,
	    .code = buf_str(&code),
	    .code_len = code.len,
	    .timeout_s = COMPLETION_TIME_S,
	};
	if (execution_ask(c, &x, COMPLETION_TIME_S * 1500, &reply, &e) < 0) {
		return NULL;
	}
	const json_t *out = json_object_get(json_object_get(reply, "result"), "stdout");
	const char *text = json_string_value(out);
	return text == NULL ? NULL : client_parse_json(text, json_string_length(out), NULL);
}
