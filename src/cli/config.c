#include "cli/config.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/text.h"
#include "base/yaml.h"

#define CONFIG_FILE_MAX_BYTES (1U << 20)
#define TOKEN_FILE_MAX_BYTES 4096
#define SESSIONS_DEFAULT 1000
/* Half of the machine for idle sessions, at what one costs with everything around it. */
#define SESSION_COST_BYTES (8ULL << 20)

/* --- one value of the tree
 * ------------------------------------------------------------------------ */

/* Where in the tree a value stands, for messages: "pools[1].memory". */
struct place {
	const char *prefix;
	const char *key;
};

static int bad(struct err *e, struct place p, const char *what)
{
	return err_set(e, ERR_INVALID, "configuration: %s%s: %s", p.prefix, p.key, what);
}

static int get_text(const json_t *map, struct place p, const char **out, struct err *e)
{
	const json_t *j = json_object_get(map, p.key);
	if (j == NULL || json_is_null(j)) {
		return 0;
	}
	if (!json_is_string(j)) {
		return bad(e, p, "must be text");
	}
	*out = json_string_value(j);
	return 0;
}

static int get_u32(
    const json_t *map, struct place p, uint32_t min, uint32_t max, uint32_t *out, struct err *e)
{
	const json_t *j = json_object_get(map, p.key);
	if (j == NULL || json_is_null(j)) {
		return 0;
	}
	json_int_t v = json_integer_value(j);
	if (!json_is_integer(j) || v < min || v > max) {
		return err_set(e, ERR_INVALID,
		    "configuration: %s%s: must be a whole number from %u to %u", p.prefix, p.key,
		    min, max);
	}
	*out = (uint32_t)v;
	return 0;
}

/* Seconds, whole or not, as milliseconds. */
static int get_seconds(
    const json_t *map, struct place p, double min, double max, uint32_t *out_ms, struct err *e)
{
	const json_t *j = json_object_get(map, p.key);
	if (j == NULL || json_is_null(j)) {
		return 0;
	}
	double v = json_number_value(j);
	if (!json_is_number(j) || !(v >= min) || !(v <= max)) {
		return err_set(e, ERR_INVALID, "configuration: %s%s: must be %g to %g seconds",
		    p.prefix, p.key, min, max);
	}
	*out_ms = (uint32_t)(v * 1000);
	return 0;
}

static int get_bytes(const json_t *map, struct place p, uint64_t min, uint64_t *out, struct err *e)
{
	const json_t *j = json_object_get(map, p.key);
	uint64_t v = 0;
	if (j == NULL || json_is_null(j)) {
		return 0;
	}
	bool ok = false;
	if (json_is_integer(j) && json_integer_value(j) >= 0) {
		v = (uint64_t)json_integer_value(j);
		ok = true;
	} else if (json_is_string(j)) {
		ok = text_to_bytes(json_string_value(j), &v) == 0;
	}
	if (!ok || v < min) {
		return err_set(e, ERR_INVALID,
		    "configuration: %s%s: must be a size such as 512m or 2g, at least %llu bytes",
		    p.prefix, p.key, (unsigned long long)min);
	}
	*out = v;
	return 0;
}

/* Fails on the first member of MAP that is not one of the NULL-ended NAMES. */
static int only_known(
    const json_t *map, const char *prefix, const char *const *names, struct err *e)
{
	const char *key;
	json_t *value;
	json_object_foreach((json_t *)(uintptr_t)map, key, value)
	{
		const char *const *n = names;
		while (*n != NULL && strcmp(*n, key) != 0) {
			n++;
		}
		if (*n == NULL) {
			cleanup(buf_fini) struct buf known = BUF_INIT(1024);
			for (n = names; *n != NULL; n++) {
				(void)buf_addf(&known, "%s%s", n == names ? "" : ", ", *n);
			}
			return err_set(e, ERR_INVALID,
			    "configuration: %s%s is not known; known are: %s", prefix, key,
			    buf_str(&known));
		}
	}
	return 0;
}

/* --- pools
 * ---------------------------------------------------------------------------------------- */

static uint32_t default_sessions(void)
{
	struct sysinfo s;
	if (sysinfo(&s) < 0) {
		return SESSIONS_DEFAULT;
	}
	uint64_t fit = (uint64_t)s.totalram * s.mem_unit / 2 / SESSION_COST_BYTES;
	return fit < SESSIONS_DEFAULT ? (uint32_t)(fit > 1 ? fit : 1) : SESSIONS_DEFAULT;
}

static void pool_defaults(struct pool_config *p)
{
	*p = (struct pool_config){
	    .name = "default",
	    .type = POOL_PYTHON,
	    .max_sessions = default_sessions(),
	    .ready_sessions = 16,
	    .cooldown_ms = 300 * 1000,
	    .execution_time_ms = 220 * 1000,
	    .output_max_bytes = 1U << 20,
	    .limits =
		{
		    .memory_bytes = 1ULL << 30,
		    .file_space_bytes = 512ULL << 20,
		    .cpu_millis = 1000,
		    .pids = 128,
		    .open_files = 512,
		},
	};
}

static int pool_name(const json_t *map, const char *prefix, struct pool_config *p, struct err *e)
{
	const char *name = NULL;
	struct place at = {prefix, "name"};
	if (get_text(map, at, &name, e) < 0) {
		return -1;
	}
	if (name == NULL) {
		return 0;
	}
	size_t len = strlen(name);
	if (len < 3 || len > ENGINE_POOL_NAME_MAX || name[0] < 'a' || name[0] > 'z' ||
	    strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-") != len) {
		return bad(e, at,
		    "must be 3 to 63 lower-case letters, digits and hyphens, a letter first");
	}
	(void)memccpy(p->name, name, '\0', sizeof(p->name));
	return 0;
}

static int pool_type(const json_t *map, const char *prefix, struct pool_config *p, struct err *e)
{
	const char *type = "PythonLTS";
	struct place at = {prefix, "container_type"};
	if (get_text(map, at, &type, e) < 0) {
		return -1;
	}
	if (strcasecmp(type, "PythonLTS") == 0) {
		p->type = POOL_PYTHON;
	} else if (strcasecmp(type, "Shell") == 0) {
		p->type = POOL_SHELL;
	} else {
		return bad(e, at,
		    "PythonLTS and Shell are offered; CustomContainer, NodeLTS, GpuBase and "
		    "CsharpLTS "
		    "are not");
	}
	return 0;
}

static int pool_egress(const json_t *map, const char *prefix, struct err *e)
{
	const char *egress = "EgressDisabled";
	struct place at = {prefix, "egress"};
	if (get_text(map, at, &egress, e) < 0) {
		return -1;
	}
	if (strcasecmp(egress, "EgressDisabled") != 0) {
		return bad(e, at,
		    "only EgressDisabled is offered: sessions have no way to the network yet");
	}
	return 0;
}

static int pool_cpu(const json_t *map, const char *prefix, uint32_t *cpu_millis, struct err *e)
{
	const json_t *j = json_object_get(map, "cpu");
	if (j == NULL || json_is_null(j)) {
		return 0;
	}
	double v = json_number_value(j);
	if (!json_is_number(j) || !(v >= 0.01) || !(v <= 1024)) {
		return bad(e, (struct place){prefix, "cpu"}, "must be 0.01 to 1024 cores");
	}
	*cpu_millis = (uint32_t)(v * 1000);
	return 0;
}

static int pool_read(const json_t *map, const char *prefix, struct pool_config *p, struct err *e)
{
	static const char *const known[] = {"name", "container_type", "max_concurrent_sessions",
	    "ready_sessions", "cooldown_seconds", "max_lifetime_seconds", "egress", "memory", "cpu",
	    "processes", "open_files", "file_space", "execution_seconds", "output", NULL};
	if (!json_is_object(map)) {
		return bad(e, (struct place){prefix, ""}, "must be a mapping");
	}
	struct ipc_pool_limits *l = &p->limits;
	uint64_t output = p->output_max_bytes;
	uint32_t lifetime_ms = 0;
	if (only_known(map, prefix, known, e) < 0 || pool_name(map, prefix, p, e) < 0 ||
	    pool_type(map, prefix, p, e) < 0 || pool_egress(map, prefix, e) < 0 ||
	    get_u32(map, (struct place){prefix, "max_concurrent_sessions"}, 1, 100000,
		&p->max_sessions, e) < 0 ||
	    get_u32(map, (struct place){prefix, "ready_sessions"}, 0, 10000, &p->ready_sessions,
		e) < 0 ||
	    get_seconds(map, (struct place){prefix, "cooldown_seconds"}, 1, 604800, &p->cooldown_ms,
		e) < 0 ||
	    get_seconds(map, (struct place){prefix, "max_lifetime_seconds"}, 1, 2592000,
		&lifetime_ms, e) < 0 ||
	    get_seconds(map, (struct place){prefix, "execution_seconds"}, 0.1, 86400,
		&p->execution_time_ms, e) < 0 ||
	    get_bytes(map, (struct place){prefix, "memory"}, 16U << 20, &l->memory_bytes, e) < 0 ||
	    get_bytes(
		map, (struct place){prefix, "file_space"}, 1U << 20, &l->file_space_bytes, e) < 0 ||
	    get_bytes(map, (struct place){prefix, "output"}, 1024, &output, e) < 0 ||
	    pool_cpu(map, prefix, &l->cpu_millis, e) < 0 ||
	    get_u32(map, (struct place){prefix, "processes"}, 1, 100000, &l->pids, e) < 0 ||
	    get_u32(map, (struct place){prefix, "open_files"}, 64, 1000, &l->open_files, e) < 0) {
		return -1;
	}
	if (output > (256U << 20)) {
		return bad(e, (struct place){prefix, "output"}, "must be at most 256m");
	}
	p->output_max_bytes = (uint32_t)output;
	p->max_lifetime_ms = lifetime_ms;
	return 0;
}

static int pools_read(struct config *c, struct err *e)
{
	json_t *list = json_object_get(c->tree, "pools");
	struct engine_config *en = &c->engine;
	if (list == NULL) {
		pool_defaults(&en->pools[0]);
		en->pool_count = 1;
		return 0;
	}
	struct place at = {"", "pools"};
	if (!json_is_array(list) || json_array_size(list) == 0 ||
	    json_array_size(list) > IPC_POOLS_MAX) {
		return bad(e, at, "must be a list of 1 to 64 pools");
	}
	for (size_t i = 0; i < json_array_size(list); i++) {
		char prefix[32];
		cleanup(buf_fini) struct buf text = BUF_INIT(sizeof(prefix));
		(void)buf_addf(&text, "pools[%zu].", i);
		struct pool_config *p = &en->pools[i];
		pool_defaults(p);
		if (pool_read(json_array_get(list, i), buf_str(&text), p, e) < 0) {
			return -1;
		}
		for (size_t k = 0; k < i; k++) {
			if (strcmp(en->pools[k].name, p->name) == 0) {
				return bad(e, (struct place){buf_str(&text), "name"},
				    "is another pool's too");
			}
		}
		en->pool_count++;
	}
	return 0;
}

/* --- tokens
 * --------------------------------------------------------------------------------------- */

static int token_add(struct config *c, struct config_token t, const char *text, struct err *e)
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
		return err_set(e, ERR_INVALID, "the token '%s' is empty", t.name);
	}
	t.token = strndup(text + start, len);
	if (t.token == NULL) {
		return err_set(e, ERR_INTERNAL, "out of memory");
	}
	c->tokens[c->token_count++] = t;
	return 0;
}

static int token_add_file(struct config *c, struct config_token t, const char *path, struct err *e)
{
	cleanup(buf_fini) struct buf text = BUF_INIT(TOKEN_FILE_MAX_BYTES);
	int r = fd_read_file(AT_FDCWD, path, &text);
	if (r < 0) {
		return err_set_os(e, -r, "the token file %s", path);
	}
	r = token_add(c, t, buf_str(&text), e);
	explicit_bzero(text.data, text.len);
	return r;
}

static int token_role(const char *text, struct place at, enum role *out, struct err *e)
{
	static const struct {
		const char *name;
		enum role role;
	} roles[] = {{"metrics", ROLE_METRICS}, {"execute", ROLE_EXECUTE}, {"admin", ROLE_ADMIN}};
	for (size_t i = 0; i < array_len(roles); i++) {
		if (strcmp(text, roles[i].name) == 0) {
			*out = roles[i].role;
			return 0;
		}
	}
	return bad(e, at, "must be metrics, execute or admin");
}

static int token_expiry(const char *text, struct place at, int64_t *out, struct err *e)
{
	struct tm tm = {0};
	const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
	if (rest == NULL) {
		tm = (struct tm){0};
		rest = strptime(text, "%Y-%m-%d", &tm);
	}
	if (rest == NULL || (*rest != '\0' && strcmp(rest, "Z") != 0)) {
		return bad(e, at, "must be a time such as 2027-01-31T00:00:00Z");
	}
	*out = (int64_t)timegm(&tm) * 1000000;
	return 0;
}

static int token_read(struct config *c, const json_t *map, const char *prefix, struct err *e)
{
	static const char *const known[] = {
	    "name", "token", "token_file", "role", "pool", "expires", NULL};
	struct config_token t = {.name = "token", .role = ROLE_EXECUTE};
	const char *text = NULL;
	const char *file = NULL;
	const char *role = "execute";
	const char *expires = NULL;
	if (!json_is_object(map)) {
		return bad(e, (struct place){prefix, ""}, "must be a mapping");
	}
	if (only_known(map, prefix, known, e) < 0 ||
	    get_text(map, (struct place){prefix, "name"}, &t.name, e) < 0 ||
	    get_text(map, (struct place){prefix, "token"}, &text, e) < 0 ||
	    get_text(map, (struct place){prefix, "token_file"}, &file, e) < 0 ||
	    get_text(map, (struct place){prefix, "role"}, &role, e) < 0 ||
	    get_text(map, (struct place){prefix, "pool"}, &t.pool, e) < 0 ||
	    get_text(map, (struct place){prefix, "expires"}, &expires, e) < 0 ||
	    token_role(role, (struct place){prefix, "role"}, &t.role, e) < 0 ||
	    (expires != NULL && token_expiry(expires, (struct place){prefix, "expires"},
				    &t.expires_wall_us, e) < 0)) {
		return -1;
	}
	if ((text == NULL) == (file == NULL)) {
		return bad(e, (struct place){prefix, "token"}, "give either token or token_file");
	}
	return text != NULL ? token_add(c, t, text, e) : token_add_file(c, t, file, e);
}

static int auth_read(struct config *c, struct err *e)
{
	static const char *const known[] = {"disabled", "token_file", "tokens", NULL};
	json_t *auth = json_object_get(c->tree, "auth");
	const char *file = NULL;
	if (auth == NULL) {
		return 0;
	}
	if (!json_is_object(auth)) {
		return bad(e, (struct place){"", "auth"}, "must be a mapping");
	}
	json_t *disabled = json_object_get(auth, "disabled");
	if (disabled != NULL && !json_is_boolean(disabled)) {
		return bad(e, (struct place){"auth.", "disabled"}, "must be true or false");
	}
	c->auth_disabled = json_is_true(disabled);
	if (only_known(auth, "auth.", known, e) < 0 ||
	    get_text(auth, (struct place){"auth.", "token_file"}, &file, e) < 0) {
		return -1;
	}
	if (file != NULL) {
		struct config_token t = {.name = "token_file", .role = ROLE_ADMIN};
		if (token_add_file(c, t, file, e) < 0) {
			return -1;
		}
	}
	json_t *list = json_object_get(auth, "tokens");
	if (list != NULL && !json_is_array(list)) {
		return bad(e, (struct place){"auth.", "tokens"}, "must be a list");
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

/* --- the rest of the file
 * -------------------------------------------------------------------------- */

static int set_text(char **out, const char *text, struct err *e)
{
	if (text == NULL) {
		return 0;
	}
	char *copy = strdup(text);
	if (copy == NULL) {
		return err_set(e, ERR_INTERNAL, "out of memory");
	}
	free(*out);
	*out = copy;
	return 0;
}

static int list_read(const json_t *tree, const char *key, uint32_t max, const char **out,
    uint32_t *count, struct err *e)
{
	json_t *list = json_object_get(tree, key);
	struct place at = {"", key};
	if (list == NULL) {
		return 0;
	}
	if (!json_is_array(list) || json_array_size(list) > max) {
		return err_set(e, ERR_INVALID,
		    "configuration: %s: must be a list of at most %u texts", key, max);
	}
	*count = 0;
	for (size_t i = 0; i < json_array_size(list); i++) {
		const char *text = json_string_value(json_array_get(list, i));
		if (text == NULL) {
			return bad(e, at, "must be a list of texts");
		}
		out[(*count)++] = text;
	}
	return 0;
}

static int set_isolation(struct config *c, const char *text, struct err *e)
{
	if (text == NULL) {
		return 0;
	}
	if (strcmp(text, "namespaces") == 0) {
		c->isolation = SANDBOX_NAMESPACES;
	} else if (strcmp(text, "landlock") == 0) {
		c->isolation = SANDBOX_LANDLOCK;
	} else {
		return err_set(
		    e, ERR_INVALID, "isolation must be namespaces or landlock, not '%s'", text);
	}
	return 0;
}

static int set_port(struct config *c, const char *text, struct err *e)
{
	uint64_t port;
	if (text == NULL) {
		return 0;
	}
	if (text_to_u64(text, UINT16_MAX, &port) < 0) {
		return err_set(e, ERR_INVALID, "the port must be 0 to 65535, not '%s'", text);
	}
	c->port = (uint16_t)port;
	return 0;
}

/* ADDR:PORT, [ADDR]:PORT, :PORT or ADDR. */
static int set_listen(struct config *c, const char *text, struct err *e)
{
	if (text == NULL) {
		return 0;
	}
	const char *colon = strrchr(text, ':');
	const char *bracket = strrchr(text, ']');
	if (colon != NULL && bracket != NULL && colon < bracket) {
		colon = NULL;
	}
	if (colon != NULL && set_port(c, colon + 1, e) < 0) {
		return -1;
	}
	size_t len = colon != NULL ? (size_t)(colon - text) : strlen(text);
	if (len >= 2 && text[0] == '[' && text[len - 1] == ']') {
		text++;
		len -= 2;
	}
	if (len == 0) {
		return 0;
	}
	cleanup(text_free) char *host = strndup(text, len);
	return set_text(&c->host, host, e);
}

static int set_log_level(const char *text, struct err *e)
{
	enum log_level level;
	if (text == NULL) {
		return 0;
	}
	if (log_level_parse(text, &level) < 0) {
		return err_set(e, ERR_INVALID,
		    "the log level must be error, warning, info or debug, not '%s'", text);
	}
	log_set_level(level);
	return 0;
}

static int tls_read(struct config *c, struct err *e)
{
	static const char *const known[] = {"cert", "key", NULL};
	json_t *tls = json_object_get(c->tree, "tls");
	const char *cert = NULL;
	const char *key = NULL;
	if (tls == NULL) {
		return 0;
	}
	if (!json_is_object(tls)) {
		return bad(e, (struct place){"", "tls"}, "must be a mapping");
	}
	if (only_known(tls, "tls.", known, e) < 0 ||
	    get_text(tls, (struct place){"tls.", "cert"}, &cert, e) < 0 ||
	    get_text(tls, (struct place){"tls.", "key"}, &key, e) < 0) {
		return -1;
	}
	return set_text(&c->tls_cert_file, cert, e) < 0 ? -1 : set_text(&c->tls_key_file, key, e);
}

static int file_read(struct config *c, const char *path, struct err *e)
{
	cleanup(buf_fini) struct buf text = BUF_INIT(CONFIG_FILE_MAX_BYTES);
	int r = fd_read_file(AT_FDCWD, path, &text);
	if (r < 0) {
		return err_set_os(e, -r, "the configuration file %s", path);
	}
	c->tree = yaml_parse(buf_str(&text), text.len, e);
	if (text.data != NULL) {
		explicit_bzero(text.data, text.len);
	}
	if (c->tree == NULL) {
		return err_prefix(e, "%s", path);
	}
	if (!json_is_object(c->tree)) {
		return err_set(e, ERR_INVALID, "%s: must be a mapping", path);
	}
	return 0;
}

static int tree_read(struct config *c, struct err *e)
{
	static const char *const known[] = {"listen", "data_dir", "user", "isolation", "tls",
	    "auth", "preload", "read_only_paths", "log_level", "drain_seconds", "grace_seconds",
	    "connections_max", "results_as_strings", "pools", NULL};
	const char *listen = NULL;
	const char *data_dir = NULL;
	const char *user = NULL;
	const char *isolation = NULL;
	const char *log_level = NULL;
	if (only_known(c->tree, "", known, e) < 0 ||
	    get_text(c->tree, (struct place){"", "listen"}, &listen, e) < 0 ||
	    get_text(c->tree, (struct place){"", "data_dir"}, &data_dir, e) < 0 ||
	    get_text(c->tree, (struct place){"", "user"}, &user, e) < 0 ||
	    get_text(c->tree, (struct place){"", "isolation"}, &isolation, e) < 0 ||
	    get_text(c->tree, (struct place){"", "log_level"}, &log_level, e) < 0 ||
	    get_seconds(c->tree, (struct place){"", "drain_seconds"}, 0, 3600, &c->drain_ms, e) <
		0 ||
	    get_seconds(c->tree, (struct place){"", "grace_seconds"}, 0.05, 600,
		&c->engine.grace_ms, e) < 0 ||
	    get_u32(c->tree, (struct place){"", "connections_max"}, 1, 1000000, &c->connections_max,
		e) < 0 ||
	    list_read(c->tree, "preload", IPC_LIST_MAX, c->preload, &c->preload_count, e) < 0 ||
	    list_read(c->tree, "read_only_paths", SANDBOX_PATHS_MAX, c->read_only_paths,
		&c->read_only_path_count, e) < 0) {
		return -1;
	}
	const json_t *strings = json_object_get(c->tree, "results_as_strings");
	if (strings != NULL && !json_is_boolean(strings)) {
		return bad(e, (struct place){"", "results_as_strings"}, "must be true or false");
	}
	c->results_as_strings = json_is_true(strings);
	if (set_listen(c, listen, e) < 0 || set_text(&c->data_dir, data_dir, e) < 0 ||
	    set_text(&c->user, user, e) < 0 || set_isolation(c, isolation, e) < 0 ||
	    set_log_level(log_level, e) < 0 || tls_read(c, e) < 0 || auth_read(c, e) < 0) {
		return -1;
	}
	return pools_read(c, e);
}

/* --- the other sources
 * ----------------------------------------------------------------------------- */

static int defaults(struct config *c, struct err *e)
{
	static const char *const preload[] = {
	    "numpy", "pandas", "matplotlib", "scipy", "sklearn", "IPython"};
	*c = (struct config){
	    .port = 8080,
	    .isolation = SANDBOX_NAMESPACES,
	    .drain_ms = 10000,
	    .connections_max = 4096,
	    .engine = {.grace_ms = 2000, .finished_keep_ms = 3600 * 1000},
	};
	memcpy(c->preload, preload, sizeof(preload));
	c->preload_count = array_len(preload);
	const char *home = getenv("HOME");
	cleanup(buf_fini) struct buf dir = BUF_INIT(4096);
	if (geteuid() == 0 || home == NULL) {
		(void)buf_add_str(&dir, "/var/lib/carrel");
	} else {
		(void)buf_addf(&dir, "%s/.local/share/carrel", home);
	}
	return set_text(&c->host, "127.0.0.1", e) < 0 ? -1
						      : set_text(&c->data_dir, buf_str(&dir), e);
}

static const char *env(const char *name)
{
	const char *value = getenv(name);
	return value != NULL && value[strspn(value, " \t\r\n")] != '\0' ? value : NULL;
}

static int environment_read(struct config *c, struct err *e)
{
	const char *token = env("CONTAINER_AUTH_TOKEN");
	const char *token_file = env("CONTAINER_AUTH_TOKEN_FILE");
	const char *disabled = env("CONTAINER_AUTH_DISABLED");
	struct config_token t = {.name = "CONTAINER_AUTH_TOKEN", .role = ROLE_ADMIN};
	if (set_text(&c->host, env("HOST"), e) < 0 || set_port(c, env("PORT"), e) < 0 ||
	    set_text(&c->data_dir, env("CARREL_DATA_DIR"), e) < 0 ||
	    set_text(&c->user, env("CARREL_USER"), e) < 0 ||
	    set_isolation(c, env("CARREL_ISOLATION"), e) < 0 ||
	    set_text(&c->tls_cert_file, env("CARREL_TLS_CERT"), e) < 0 ||
	    set_text(&c->tls_key_file, env("CARREL_TLS_KEY"), e) < 0 ||
	    set_log_level(env("CARREL_LOG_LEVEL"), e) < 0 ||
	    (token != NULL && token_add(c, t, token, e) < 0) ||
	    (token_file != NULL && token_add_file(c, t, token_file, e) < 0)) {
		return -1;
	}
	if (disabled != NULL && strcasecmp(disabled, "true") == 0) {
		c->auth_disabled = true;
	}
	return 0;
}

static int flags_read(struct config *c, const struct config_flags *f, struct err *e)
{
	if (set_listen(c, f->listen, e) < 0 || set_text(&c->data_dir, f->data_dir, e) < 0 ||
	    set_isolation(c, f->isolation, e) < 0 ||
	    set_text(&c->tls_cert_file, f->tls_cert, e) < 0 ||
	    set_text(&c->tls_key_file, f->tls_key, e) < 0) {
		return -1;
	}
	return 0;
}

int config_load(struct config *c, const struct config_flags *flags, struct err *e)
{
	const char *file = flags->config_file != NULL ? flags->config_file : env("CARREL_CONFIG");
	int r = defaults(c, e);
	if (r == 0 && file != NULL) {
		r = file_read(c, file, e);
	}
	if (r == 0 && c->tree != NULL) {
		r = tree_read(c, e);
	} else if (r == 0) {
		r = pools_read(c, e);
	}
	r = r < 0 ? r : environment_read(c, e);
	r = r < 0 ? r : flags_read(c, flags, e);
	if (r < 0) {
		config_fini(c);
	}
	return r;
}

static bool has_pool(const struct config *c, const char *name)
{
	for (uint32_t i = 0; i < c->engine.pool_count; i++) {
		if (strcmp(c->engine.pools[i].name, name) == 0) {
			return true;
		}
	}
	return false;
}

int config_check_serve(const struct config *c, struct err *e)
{
	if (c->token_count == 0 && !c->auth_disabled) {
		return err_set(e, ERR_DENIED,
		    "no token: set CONTAINER_AUTH_TOKEN or CONTAINER_AUTH_TOKEN_FILE, or put "
		    "tokens "
		    "under 'auth' in the configuration; only CONTAINER_AUTH_DISABLED=true starts "
		    "the "
		    "server open to everybody");
	}
	for (uint32_t i = 0; i < c->token_count; i++) {
		const char *pool = c->tokens[i].pool;
		if (pool != NULL && !has_pool(c, pool)) {
			return err_set(e, ERR_INVALID,
			    "the token '%s' names the pool '%s', which is not there",
			    c->tokens[i].name, pool);
		}
	}
	if ((c->tls_cert_file == NULL) != (c->tls_key_file == NULL)) {
		return err_set(e, ERR_INVALID, "TLS takes both a certificate and a key");
	}
	return 0;
}

void config_forget_tokens(struct config *c)
{
	for (uint32_t i = 0; i < c->token_count; i++) {
		if (c->tokens[i].token != NULL) {
			explicit_bzero(c->tokens[i].token, strlen(c->tokens[i].token));
			free(c->tokens[i].token);
			c->tokens[i].token = NULL;
		}
	}
	/* In place too: /proc/PID/environ shows the bytes whether the variable is set or not. */
	char *variable = getenv("CONTAINER_AUTH_TOKEN");
	if (variable != NULL) {
		explicit_bzero(variable, strlen(variable));
		(void)unsetenv("CONTAINER_AUTH_TOKEN");
	}
}

void config_fini(struct config *c)
{
	config_forget_tokens(c);
	free(c->host);
	free(c->data_dir);
	free(c->user);
	free(c->tls_cert_file);
	free(c->tls_key_file);
	json_decref(c->tree);
	*c = (struct config){0};
}
