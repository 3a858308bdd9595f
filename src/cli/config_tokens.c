/* Who may call: the tokens of the configuration. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/fd.h"
#include "cli/config_tree.h"
#include "store/store.h"

#define TOKEN_FILE_MAX_BYTES 4096

int config_token_add(struct config *c, struct config_token t, const char *text, struct err *e)
{
	if (c->token_count == CONFIG_TOKENS_MAX) {
		return err_set(e, ERR_INVALID, "at most %d tokens are taken", CONFIG_TOKENS_MAX);
	}
	size_t start = strspn(text, " \t\r\n");
	size_t len = strlen(text + start);
	while (len > 0 && strchr(" \t\r\n", text[start + len - 1]) != NULL) {
		len--;
	}
	if (len == 0) {
		return err_set(e, ERR_INVALID, "the token '%s' is empty",
		    t.name != NULL ? t.name : "without a name");
	}
	t.token = strndup(text + start, len);
	if (t.token == NULL) {
		return err_set(e, ERR_INTERNAL, "out of memory");
	}
	c->tokens[c->token_count++] = t;
	return 0;
}

int config_token_add_file(struct config *c, struct config_token t, const char *path, struct err *e)
{
	cleanup(buf_fini) struct buf text = BUF_INIT(TOKEN_FILE_MAX_BYTES);
	int r = fd_read_file(AT_FDCWD, path, &text);
	if (r < 0) {
		return err_set_os(e, -r, "the token file %s", path);
	}
	r = config_token_add(c, t, buf_str(&text), e);
	explicit_bzero(text.data, text.len);
	return r;
}

static int token_role(const char *text, struct config_place at, enum role *out, struct err *e)
{
	static const struct {
		const char *name;
		enum role role;
	} roles[] = {{"metrics", ROLE_METRICS}, {"review", ROLE_REVIEW}, {"execute", ROLE_EXECUTE},
	    {"admin", ROLE_ADMIN}};
	for (size_t i = 0; i < array_len(roles); i++) {
		if (strcmp(text, roles[i].name) == 0) {
			*out = roles[i].role;
			return 0;
		}
	}
	return config_bad(e, at, "must be metrics, review, execute or admin");
}

static int token_expiry(const char *text, struct config_place at, int64_t *out, struct err *e)
{
	struct tm tm = {0};
	const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
	if (rest == NULL) {
		tm = (struct tm){0};
		rest = strptime(text, "%Y-%m-%d", &tm);
	}
	if (rest == NULL || (*rest != '\0' && strcmp(rest, "Z") != 0)) {
		return config_bad(e, at, "must be a time such as 2027-01-31T00:00:00Z");
	}
	*out = (int64_t)timegm(&tm) * 1000000;
	return 0;
}

static int token_prefix(const char *text, struct config_place at, struct err *e)
{
	if (text == NULL) {
		return 0;
	}
	if (!engine_tenant_is_valid(text)) {
		return config_bad(e, at,
		    "must be 1 to 64 letters, digits, '_', '-' and '.', and begin with a letter or "
		    "a digit");
	}
	struct err why;
	return store_check_prefix(text, &why) < 0 ? config_bad(e, at, why.text) : 0;
}

static int token_read(struct config *c, const json_t *map, const char *prefix, struct err *e)
{
	static const char *const known[] = {"name", "token", "token_file", "role", "pool", "prefix",
	    "expires", "own_approvals", NULL};
	struct config_token t = {.role = ROLE_EXECUTE};
	const char *text = NULL;
	const char *file = NULL;
	const char *role = "execute";
	const char *expires = NULL;
	if (!json_is_object(map)) {
		return config_bad(e, (struct config_place){prefix, ""}, "must be a mapping");
	}
	if (config_only_known(map, prefix, known, e) < 0 ||
	    config_get_text(map, (struct config_place){prefix, "name"}, &t.name, e) < 0 ||
	    config_get_text(map, (struct config_place){prefix, "token"}, &text, e) < 0 ||
	    config_get_text(map, (struct config_place){prefix, "token_file"}, &file, e) < 0 ||
	    config_get_text(map, (struct config_place){prefix, "role"}, &role, e) < 0 ||
	    config_get_text(map, (struct config_place){prefix, "pool"}, &t.pool, e) < 0 ||
	    config_get_text(map, (struct config_place){prefix, "prefix"}, &t.prefix, e) < 0 ||
	    token_prefix(t.prefix, (struct config_place){prefix, "prefix"}, e) < 0 ||
	    config_get_text(map, (struct config_place){prefix, "expires"}, &expires, e) < 0 ||
	    token_role(role, (struct config_place){prefix, "role"}, &t.role, e) < 0 ||
	    (expires != NULL && token_expiry(expires, (struct config_place){prefix, "expires"},
				    &t.expires_wall_us, e) < 0)) {
		return -1;
	}
	const json_t *own = json_object_get(map, "own_approvals");
	if (own != NULL && !json_is_boolean(own)) {
		return config_bad(
		    e, (struct config_place){prefix, "own_approvals"}, "must be true or false");
	}
	t.others_only = json_is_false(own);
	if (t.name != NULL && strlen(t.name) > EXECUTION_BY_MAX) {
		return config_bad(
		    e, (struct config_place){prefix, "name"}, "must be at most 127 bytes");
	}
	if (t.name != NULL && strcmp(t.name, CONFIG_TOKEN_VARIABLE) == 0) {
		return config_bad(e, (struct config_place){prefix, "name"},
		    "is the name of the environment's token");
	}
	if (t.name != NULL && (strcmp(t.name, "server") == 0 || strcmp(t.name, "session") == 0)) {
		return config_bad(e, (struct config_place){prefix, "name"},
		    "is what the server calls itself, or a session, in the audit trail");
	}
	if ((text == NULL) == (file == NULL)) {
		return config_bad(
		    e, (struct config_place){prefix, "token"}, "give either token or token_file");
	}
	return text != NULL ? config_token_add(c, t, text, e)
			    : config_token_add_file(c, t, file, e);
}

int config_auth_read(struct config *c, struct err *e)
{
	static const char *const known[] = {"disabled", "token_file", "tokens", NULL};
	json_t *auth = json_object_get(c->tree, "auth");
	const char *file = NULL;
	if (auth == NULL) {
		return 0;
	}
	if (!json_is_object(auth)) {
		return config_bad(e, (struct config_place){"", "auth"}, "must be a mapping");
	}
	json_t *disabled = json_object_get(auth, "disabled");
	if (disabled != NULL && !json_is_boolean(disabled)) {
		return config_bad(
		    e, (struct config_place){"auth.", "disabled"}, "must be true or false");
	}
	c->auth_disabled = json_is_true(disabled);
	if (config_only_known(auth, "auth.", known, e) < 0 ||
	    config_get_text(auth, (struct config_place){"auth.", "token_file"}, &file, e) < 0) {
		return -1;
	}
	if (file != NULL) {
		struct config_token t = {.name = "token_file", .role = ROLE_ADMIN};
		if (config_token_add_file(c, t, file, e) < 0) {
			return -1;
		}
	}
	json_t *list = json_object_get(auth, "tokens");
	if (list != NULL && !json_is_array(list)) {
		return config_bad(e, (struct config_place){"auth.", "tokens"}, "must be a list");
	}
	for (size_t i = 0; i < json_array_size(list); i++) {
		cleanup(buf_fini) struct buf prefix = BUF_INIT(64);
		(void)buf_addf(&prefix, "auth.tokens[%zu].", i);
		if (token_read(c, json_array_get(list, i), buf_str(&prefix), e) < 0) {
			return -1;
		}
	}
	return 0;
}
