#include "tools/secrets.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/text.h"

#define OPENING "${secret:"
#define NAME_MAX_BYTES 128
#define REDACTED_MIN_BYTES 6 /* shorter ones are in every text */

/* The name after OPENING at TEXT; its length, or 0. */
static size_t name_length(const char *text)
{
	size_t len = strcspn(text, "}");
	return text[len] == '}' && len <= NAME_MAX_BYTES ? len : 0;
}

int secrets_count(const char *text, struct err *e)
{
	int count = 0;
	for (const char *at = strstr(text, OPENING); at != NULL; at = strstr(at, OPENING)) {
		at += strlen(OPENING);
		if (name_length(at) == 0) {
			return err_set(e, ERR_INVALID, OPENING " without a name and a '}'");
		}
		count++;
	}
	return count;
}

int secrets_expand(const json_t *secrets, const char *text, struct buf *out, struct err *e)
{
	int r = 0;
	while (r == 0) {
		const char *at = strstr(text, OPENING);
		if (at == NULL) {
			r = buf_add_str(out, text);
			break;
		}
		const char *name = at + strlen(OPENING);
		size_t len = name_length(name);
		const json_t *value = json_object_getn(secrets, name, len);
		if (!json_is_string(value)) {
			return err_set(e, ERR_UNAVAILABLE, "the secret '%.*s' is not configured",
			    (int)len, name);
		}
		r = buf_add(out, text, (size_t)(at - text));
		r = r < 0 ? r : buf_add(out, json_string_value(value), json_string_length(value));
		text = name + len + (name[len] == '}');
	}
	return r < 0 ? err_set(e, ERR_INTERNAL, "a text with secrets is too long") : 0;
}

/* The secret that TEXT starts with; the longest one. */
static size_t secret_at(const json_t *secrets, const char *text, size_t len)
{
	const char *key;
	json_t *value;
	size_t longest = 0;
	json_object_foreach((json_t *)(uintptr_t)secrets, key, value)
	{
		size_t n = json_string_length(value);
		if (n >= REDACTED_MIN_BYTES && n <= len && n > longest &&
		    memcmp(text, json_string_value(value), n) == 0) {
			longest = n;
		}
	}
	return longest;
}

static bool has_any(const json_t *secrets, const char *text, size_t len)
{
	const char *key;
	json_t *value;
	json_object_foreach((json_t *)(uintptr_t)secrets, key, value)
	{
		size_t n = json_string_length(value);
		if (n >= REDACTED_MIN_BYTES &&
		    memmem(text, len, json_string_value(value), n) != NULL) {
			return true;
		}
	}
	return false;
}

/* The end of what must not be told at START: of a secret, and of those that begin within it. */
static size_t redacted_until(const json_t *secrets, const char *text, size_t len, size_t start)
{
	size_t end = start + secret_at(secrets, text + start, len - start);
	for (size_t i = start + 1; i < end; i++) {
		size_t other = i + secret_at(secrets, text + i, len - i);
		end = other > end ? other : end;
	}
	return end;
}

int secrets_redact(const json_t *secrets, const char *text, size_t len, struct buf *out)
{
	if (!has_any(secrets, text, len)) {
		return buf_add(out, text, len);
	}
	int r = 0;
	for (size_t i = 0; i < len && r == 0;) {
		size_t end = redacted_until(secrets, text, len, i);
		r = end > i ? buf_add_str(out, "***") : buf_add(out, text + i, 1);
		i = end > i ? end : i + 1;
	}
	return r;
}
