#include "codemode/said.h"

#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>

#include "codemode/internal.h"

#define CACHED_MAX 32768
#define CACHED_BYTES_MAX (64U << 20)

/* What was said of one source. */
struct said {
	unsigned char hash[SAID_HASH_BYTES];
	json_t *result;
	size_t bytes;
	UT_hash_handle hh; /* oldest first */
};

/* --- the cache -----------------------------------------------------------------------------------
 */

void said_hash(const json_t *source, unsigned char hash[SAID_HASH_BYTES])
{
	(void)SHA256(
	    (const unsigned char *)json_string_value(source), json_string_length(source), hash);
}

json_t *said_find(const struct said_cache *c, const unsigned char hash[SAID_HASH_BYTES])
{
	struct said *s = NULL;
	HASH_FIND(hh, c->said, hash, SAID_HASH_BYTES, s);
	return s != NULL ? s->result : NULL;
}

static void forget(struct said_cache *c, struct said *s)
{
	HASH_DEL(c->said, s);
	c->bytes -= s->bytes;
	json_decref(s->result);
	free(s);
}

void said_keep(struct said_cache *c, const json_t *source, json_t *result)
{
	struct said *s = calloc(1, sizeof(*s));
	if (s == NULL) {
		return;
	}
	said_hash(source, s->hash);
	if (said_find(c, s->hash) != NULL) {
		free(s);
		return;
	}
	s->result = json_incref(result);
	/* The tree takes several times its text. */
	s->bytes = sizeof(*s) + 4 * json_dumpb(result, NULL, 0, JSON_COMPACT);
	c->bytes += s->bytes;
	HASH_ADD(hh, c->said, hash, sizeof(s->hash), s);
	while (HASH_COUNT(c->said) > CACHED_MAX ||
	       (c->bytes > CACHED_BYTES_MAX && HASH_COUNT(c->said) > 1)) {
		forget(c, c->said);
	}
}

void said_clear(struct said_cache *c)
{
	while (c->said != NULL) {
		forget(c, c->said);
	}
}

/* --- its shape -----------------------------------------------------------------------------------
 */

static bool parameter_is_good(const json_t *p)
{
	return json_is_string(json_object_get(p, "name")) &&
	       json_is_string(json_object_get(p, "type")) &&
	       json_is_string(json_object_get(p, "description")) &&
	       json_is_boolean(json_object_get(p, "required")) &&
	       json_object_get(p, "default") != NULL && json_object_size(p) == 5;
}

bool describe_parameters_are_good(const json_t *parameters)
{
	if (!json_is_array(parameters)) {
		return false;
	}
	for (size_t i = 0; i < json_array_size(parameters); i++) {
		if (!parameter_is_good(json_array_get(parameters, i))) {
			return false;
		}
	}
	return true;
}

/* The session ran hostile text: its word has the shape it must have, or counts for nothing. */
static bool is_good(const json_t *result)
{
	const char *error = json_string_value(json_object_get(result, "error"));
	if (error != NULL) {
		return json_is_string(json_object_get(result, "message")) &&
		       (strcmp(error, "SyntaxError") == 0 || strcmp(error, "ValueError") == 0);
	}
	return json_is_string(json_object_get(result, "description")) &&
	       describe_parameters_are_good(json_object_get(result, "parameters"));
}

json_t *said_parse(const char *text, size_t len, size_t count)
{
	json_error_t at;
	json_t *results = json_loadb(text, len, JSON_REJECT_DUPLICATES, &at);
	if (results == NULL && json_error_code(&at) == json_error_numeric_overflow) {
		/* A default of a skill that is larger than JSON's integers here. */
		results = json_loadb(
		    text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, &at);
	}
	bool good = json_is_array(results) && json_array_size(results) == count;
	for (size_t i = 0; good && i < count; i++) {
		good = is_good(json_array_get(results, i));
	}
	if (!good) {
		json_decref(results);
		return NULL;
	}
	return results;
}
