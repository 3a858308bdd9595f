/* The entries of the artifacts index, and the records that people see. */
#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "store/backend.h"

static json_t *now_text(void)
{
	/* As Python's datetime.isoformat() of a time in UTC. */
	char text[CLOCK_RFC3339_BYTES + 8];
	(void)clock_rfc3339(clock_wall_us(), 6, text);
	char *z = strchr(text, 'Z');
	if (z != NULL) {
		memcpy(z, "+00:00", sizeof("+00:00"));
	}
	return json_string(text);
}

static const char *text_member(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));
	return text != NULL ? text : "";
}

json_t *store_entry_new(const json_t *info)
{
	const json_t *given = json_object_get(info, "metadata");
	json_t *metadata = json_is_object(given) ? json_deep_copy(given) : json_object();
	const json_t *type = json_object_get(info, "type");
	if (metadata != NULL && json_is_string(type)) {
		(void)json_object_set_new(metadata, STORE_TYPE_KEY, json_deep_copy(type));
	}
	json_t *description = json_deep_copy(json_object_get(info, "description"));
	if (!json_is_string(description)) {
		json_decref(description);
		description = json_string("");
	}
	return json_pack("{s:o, s:o, s:o}", "description", description, "created_at", now_text(),
	    "metadata", metadata);
}

static bool is_type(const char *text)
{
	return strcmp(text, "text") == 0 || strcmp(text, "json") == 0 || strcmp(text, "bytes") == 0;
}

json_t *store_entry_record(
    const json_t *entry, const char *name, const char *path, const char *type, uint64_t size)
{
	const json_t *given = json_object_get(entry, "metadata");
	const char *kept = text_member(given, STORE_TYPE_KEY);
	json_t *metadata = json_is_object(given) ? json_deep_copy(given) : json_object();
	(void)json_object_del(metadata, STORE_TYPE_KEY);
	return json_pack("{s:s, s:s, s:s, s:s, s:o, s:s, s:I}", "name", name, "path", path,
	    "description", text_member(entry, "description"), "created_at",
	    text_member(entry, "created_at"), "metadata", metadata, "type",
	    is_type(kept) ? kept : type, "size", (json_int_t)size);
}

const char *store_type_guess(const char *name, const char *head, size_t len)
{
	if (text_has_suffix(name, ".json")) {
		return "json";
	}
	/* A head that is not all may end within a character. */
	size_t most = len < STORE_HEAD_BYTES ? 0 : 3;
	for (size_t cut = 0; cut <= most; cut++) {
		if (text_is_utf8(head, len - cut)) {
			return "text";
		}
	}
	return "bytes";
}
