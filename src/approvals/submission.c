#include "approvals/submission.h"

#include <math.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "approvals/kept.h"
#include "base/text.h"
#include "tools/callback_url.h"

#define SECONDS_MAX 1e9

static int refuse_member(const char *where, const char *name, const char *known, struct err *e)
{
	return err_set(e, ERR_INVALID, "%s has a member '%.64s' that is not known; known are %s",
	    where, name, known);
}

/* Whether OBJECT has no member that KNOWN ("a, b, c") does not name. */
static int check_members(const char *where, const json_t *object, const char *known, struct err *e)
{
	const char *name;
	json_t *value;
	json_object_foreach((json_t *)(uintptr_t)object, name, value)
	{
		size_t len = strlen(name);
		const char *at = known;
		bool found = false;
		while (*at != '\0' && !found) {
			size_t n = strcspn(at, ",");
			found = n == len && memcmp(at, name, len) == 0;
			at += n + strspn(at + n, ", ");
		}
		if (!found) {
			return refuse_member(where, name, known, e);
		}
	}
	return 0;
}

static int check_code(const json_t *request, struct err *e)
{
	const json_t *code = json_object_get(request, "code");
	if (!json_is_string(code)) {
		return err_set(e, ERR_INVALID, "'code' is required, a string");
	}
	const char *text = json_string_value(code);
	size_t len = json_string_length(code);
	if (strlen(text) != len) {
		return err_set(e, ERR_INVALID, "'code' has a NUL character");
	}
	if (text[strspn(text, " \t\r\n\f\v")] == '\0') {
		return err_set(e, ERR_INVALID, "Code cannot be null or empty.");
	}
	if (len > APPROVALS_CODE_MAX_BYTES) {
		return err_set(e, ERR_TOO_LARGE, "'code' has %zu bytes, more than %u", len,
		    APPROVALS_CODE_MAX_BYTES);
	}
	return 0;
}

/* "after, rules", of those the pool allows. */
static void list_policies(const struct approvals_pool *p, char *out, size_t room)
{
	size_t len = 0;
	out[0] = '\0';
	for (int i = 0; i < APPROVAL_POLICY_COUNT && len < room; i++) {
		if (p->policies[i]) {
			len += (size_t)snprintf(out + len, room - len, "%s%s", len > 0 ? ", " : "",
			    approval_policy_name((enum approval_policy)i));
		}
	}
}

static int read_policy(const struct approvals_pool *p, const json_t *request,
    enum approval_policy *policy, struct err *e)
{
	const json_t *named = json_object_get(request, "policy");
	char known[64];
	*policy = p->policy;
	if (named == NULL || json_is_null(named)) {
		return 0;
	}
	*policy = approval_policy_named(json_string_value(named));
	if (*policy != APPROVAL_POLICY_COUNT && p->policies[*policy]) {
		return 0;
	}
	list_policies(p, known, sizeof(known));
	const char *text = json_string_value(named);
	return err_set(e, ERR_INVALID, "'policy' is '%.32s'; this pool allows %s",
	    text != NULL ? text : "not a string", known);
}

/* Seconds, as milliseconds to *OUT, which stays as it is when there are none. */
static int read_seconds(
    const json_t *request, const char *name, uint64_t max_ms, uint64_t *out, struct err *e)
{
	const json_t *value = json_object_get(request, name);
	if (value == NULL || json_is_null(value)) {
		return 0;
	}
	double seconds = json_number_value(value);
	if (!json_is_number(value) || !isfinite(seconds) || seconds <= 0 || seconds > SECONDS_MAX ||
	    (uint64_t)(seconds * 1000) > max_ms) {
		return err_set(e, ERR_INVALID,
		    "'%s' must be a number of seconds above 0, at most %g here", name,
		    (double)max_ms / 1000);
	}
	*out = (uint64_t)ceil(seconds * 1000);
	return 0;
}

static json_t *read_callback(const struct approvals_config *c, const json_t *request, struct err *e)
{
	const json_t *callback = json_object_get(request, "callback");
	if (callback == NULL || json_is_null(callback)) {
		return json_null();
	}
	const char *url = json_string_value(json_object_get(callback, "url"));
	if (c->runner == NULL || c->callback_prefix_count == 0) {
		(void)err_set(e, ERR_INVALID, "this server sends no callbacks");
		return NULL;
	}
	if (!json_is_object(callback) || url == NULL ||
	    strlen(url) != json_string_length(json_object_get(callback, "url"))) {
		(void)err_set(e, ERR_INVALID, "'callback' must be {\"url\": text}");
		return NULL;
	}
	if (check_members("'callback'", callback, "url", e) < 0 ||
	    callback_url_allowed(url, c->callback_prefixes, c->callback_prefix_count, e) < 0) {
		return NULL;
	}
	return json_pack("{s:s}", "url", url);
}

/* The names of artifacts: parts of plain characters, none of which leads anywhere. */
static int check_prefix(const json_t *promote, struct err *e)
{
	const json_t *value = json_object_get(promote, "prefix");
	const char *prefix = json_string_value(value);
	if (value == NULL || json_is_null(value)) {
		return 0;
	}
	if (prefix == NULL || strlen(prefix) != json_string_length(value) || strlen(prefix) > 255) {
		return err_set(
		    e, ERR_INVALID, "'promote.prefix' must be a text of at most 255 bytes");
	}
	struct err why;
	char name[300];
	/* As a part of a name it is one, with something behind it. */
	(void)snprintf(name, sizeof(name), "%sx", prefix);
	if (strpbrk(prefix, "*?") != NULL || kept_glob_check(name, &why) < 0) {
		return err_set(e, ERR_INVALID,
		    "'promote.prefix' must be the beginning of an artifact's name: parts with '/' "
		    "between, none of them empty, '.' or '..'");
	}
	return 0;
}

static int check_files(const json_t *files, struct err *e)
{
	size_t i;
	json_t *glob;
	if (!json_is_array(files) || json_array_size(files) == 0 ||
	    json_array_size(files) > KEPT_GLOBS_MAX) {
		return err_set(e, ERR_INVALID, "'promote.files' must be a list of 1 to %d texts",
		    KEPT_GLOBS_MAX);
	}
	json_array_foreach(files, i, glob)
	{
		const char *text = json_string_value(glob);
		if (text == NULL || strlen(text) != json_string_length(glob)) {
			return err_set(
			    e, ERR_INVALID, "'promote.files' must be a list of texts without NUL");
		}
		if (kept_glob_check(text, e) < 0) {
			return -1;
		}
	}
	return 0;
}

static json_t *read_promote(const struct approvals_config *c, const json_t *request, struct err *e)
{
	const json_t *promote = json_object_get(request, "promote");
	if (promote == NULL || json_is_null(promote)) {
		return json_null();
	}
	if (c->store == NULL) {
		(void)err_set(e, ERR_INVALID, "this server keeps no artifacts");
		return NULL;
	}
	if (!json_is_object(promote)) {
		(void)err_set(e, ERR_INVALID, "'promote' must be an object");
		return NULL;
	}
	json_t *files = json_object_get(promote, "files");
	if (check_members("'promote'", promote, "files, prefix", e) < 0 ||
	    check_files(files, e) < 0 || check_prefix(promote, e) < 0) {
		return NULL;
	}
	const char *prefix = json_string_value(json_object_get(promote, "prefix"));
	return json_pack("{s:O, s:s}", "files", files, "prefix", prefix != NULL ? prefix : "");
}

json_t *submission_settings(const struct approvals_config *c, uint32_t pool, const json_t *request,
    enum approval_policy *policy, struct err *e)
{
	static const char known[] =
	    "code, policy, deadline_seconds, timeout_seconds, callback, promote";
	const struct approvals_pool *p = &c->pools[pool];
	uint64_t deadline_ms = p->deadline_ms;
	uint64_t timeout_ms = 0;
	uint64_t time_ms = c->engine->pools[pool].config.execution_time_ms;
	if (!json_is_object(request)) {
		(void)err_set(e, ERR_INVALID, "a submission must be an object");
		return NULL;
	}
	if (check_members("the submission", request, known, e) < 0 || check_code(request, e) < 0 ||
	    read_policy(p, request, policy, e) < 0 ||
	    read_seconds(request, "deadline_seconds", p->deadline_max_ms, &deadline_ms, e) < 0 ||
	    read_seconds(request, "timeout_seconds", time_ms, &timeout_ms, e) < 0) {
		return NULL;
	}
	cleanup(json_decrefp) json_t *callback = read_callback(c, request, e);
	cleanup(json_decrefp) json_t *promote = callback != NULL ? read_promote(c, request, e)
								 : NULL;
	if (promote == NULL) {
		return NULL;
	}
	json_t *settings = json_pack("{s:I, s:o, s:O, s:O}", "deadline_ms", (json_int_t)deadline_ms,
	    "timeout_ms", timeout_ms != 0 ? json_integer((json_int_t)timeout_ms) : json_null(),
	    "callback", callback, "promote", promote);
	if (settings == NULL) {
		(void)err_set(e, ERR_INTERNAL, "out of memory");
	}
	return settings;
}

int submission_sha256(const char *pool, const json_t *request, char out[65], struct err *e)
{
	cleanup(json_decrefp) json_t *all = json_pack("[s, O]", pool, request);
	cleanup(text_free) char *text = json_dumps(all, JSON_COMPACT | JSON_SORT_KEYS);
	unsigned char digest[32];
	if (text == NULL || EVP_Digest(text, strlen(text), digest, NULL, EVP_sha256(), NULL) != 1) {
		return err_set(e, ERR_INTERNAL, "out of memory");
	}
	text_hex(out, digest, sizeof(digest));
	return 0;
}

int submission_key_check(const char *key, struct err *e)
{
	size_t len = strlen(key);
	bool printable = true;
	for (const char *c = key; *c != '\0'; c++) {
		printable = printable && *c > ' ' && *c < 0x7f;
	}
	return len > 0 && len <= SUBMISSION_KEY_MAX && printable
		   ? 0
		   : err_set(e, ERR_INVALID,
			 "an Idempotency-Key has 1 to %d printable ASCII characters without spaces",
			 SUBMISSION_KEY_MAX);
}
