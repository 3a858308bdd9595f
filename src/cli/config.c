#include "cli/config.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "base/text.h"
#include "base/yaml.h"
#include "cli/config_tree.h"

#define CONFIG_FILE_MAX_BYTES (1U << 20)

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
	struct config_place at = {"", key};
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
			return config_bad(e, at, "must be a list of texts");
		}
		out[(*count)++] = text;
	}
	return 0;
}

static int proxies_read(struct config *c, struct err *e)
{
	static const char key[] = "trusted_proxies";
	const char *texts[PEER_PROXIES_MAX];
	uint32_t count = 0;
	if (list_read(c->tree, key, PEER_PROXIES_MAX, texts, &count, e) < 0) {
		return -1;
	}
	for (uint32_t i = 0; i < count; i++) {
		if (peer_net_parse(texts[i], &c->trusted_proxies.nets[i]) < 0) {
			return err_set(e, ERR_INVALID,
			    "configuration: %s: '%s' is no address and no network such as "
			    "10.0.0.0/8",
			    key, texts[i]);
		}
	}
	c->trusted_proxies.count = count;
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
		return config_bad(e, (struct config_place){"", "tls"}, "must be a mapping");
	}
	if (config_only_known(tls, "tls.", known, e) < 0 ||
	    config_get_text(tls, (struct config_place){"tls.", "cert"}, &cert, e) < 0 ||
	    config_get_text(tls, (struct config_place){"tls.", "key"}, &key, e) < 0) {
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

static const char *const known[] = {"listen", "data_dir", "user", "isolation", "tls", "auth",
    "preload", "read_only_paths", "log_level", "drain_seconds", "grace_seconds", "connections_max",
    "connections_per_address", "trusted_proxies", "results_as_strings", "pools", "code_mode",
    "approvals", NULL};

static int tree_read(struct config *c, struct err *e)
{
	const char *listen = NULL;
	const char *data_dir = NULL;
	const char *user = NULL;
	const char *isolation = NULL;
	const char *log_level = NULL;
	if (config_only_known(c->tree, "", known, e) < 0 ||
	    config_get_text(c->tree, (struct config_place){"", "listen"}, &listen, e) < 0 ||
	    config_get_text(c->tree, (struct config_place){"", "data_dir"}, &data_dir, e) < 0 ||
	    config_get_text(c->tree, (struct config_place){"", "user"}, &user, e) < 0 ||
	    config_get_text(c->tree, (struct config_place){"", "isolation"}, &isolation, e) < 0 ||
	    config_get_text(c->tree, (struct config_place){"", "log_level"}, &log_level, e) < 0 ||
	    config_get_seconds(c->tree, (struct config_place){"", "drain_seconds"}, 0, 3600,
		&c->drain_ms, e) < 0 ||
	    config_get_seconds(c->tree, (struct config_place){"", "grace_seconds"}, 0.05, 600,
		&c->engine.grace_ms, e) < 0 ||
	    config_get_u32(c->tree, (struct config_place){"", "connections_max"}, 1, 1000000,
		&c->connections_max, e) < 0 ||
	    config_get_u32(c->tree, (struct config_place){"", "connections_per_address"}, 1,
		1000000, &c->connections_per_address, e) < 0 ||
	    proxies_read(c, e) < 0 ||
	    list_read(c->tree, "preload", IPC_LIST_MAX, c->preload, &c->preload_count, e) < 0 ||
	    list_read(c->tree, "read_only_paths", SANDBOX_PATHS_MAX, c->read_only_paths,
		&c->read_only_path_count, e) < 0) {
		return -1;
	}
	const json_t *strings = json_object_get(c->tree, "results_as_strings");
	if (strings != NULL && !json_is_boolean(strings)) {
		return config_bad(
		    e, (struct config_place){"", "results_as_strings"}, "must be true or false");
	}
	c->results_as_strings = json_is_true(strings);
	if (set_listen(c, listen, e) < 0 || set_text(&c->data_dir, data_dir, e) < 0 ||
	    set_text(&c->user, user, e) < 0 || set_isolation(c, isolation, e) < 0 ||
	    set_log_level(log_level, e) < 0 || tls_read(c, e) < 0 || config_auth_read(c, e) < 0) {
		return -1;
	}
	if (config_pools_read(c, e) < 0 || config_code_mode_read(c, e) < 0) {
		return -1;
	}
	return config_approvals_read(c, e);
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
	    .pcm = {.timeout_ms = 30000, .timeout_max_ms = 300000},
	};
	config_approvals_defaults(c);
	memcpy(c->preload, preload, sizeof(preload));
	c->preload_count = array_len(preload);
	const char *home = getenv("HOME");
	cleanup(buf_fini) struct buf dir = BUF_INIT(4096);
	if (geteuid() == 0 || home == NULL) {
		(void)buf_add_str(&dir, "/var/lib/carrel");
	} else {
		(void)buf_addf(&dir, "%s/.local/share/carrel", home);
	}
	if (config_code_mode_defaults(c, e) < 0) {
		return -1;
	}
	return set_text(&c->host, "127.0.0.1", e) < 0 ? -1
						      : set_text(&c->data_dir, buf_str(&dir), e);
}

static const char *env(const char *name)
{
	const char *value = getenv(name);
	return value != NULL && value[strspn(value, " \t\r\n")] != '\0' ? value : NULL;
}

/* Seconds, whole or not, of an environment variable, as milliseconds; absent leaves *OUT. */
static int env_seconds(const char *name, uint32_t *out_ms, struct err *e)
{
	const char *text = env(name);
	if (text == NULL) {
		return 0;
	}
	char *end = NULL;
	double seconds = strtod(text, &end);
	if (end == text || end[strspn(end, " \t\r\n")] != '\0' || !(seconds >= 0.001) ||
	    !(seconds <= 86400)) {
		return err_set(
		    e, ERR_INVALID, "%s must be 0.001 to 86400 seconds, not '%s'", name, text);
	}
	*out_ms = (uint32_t)(seconds * 1000);
	return 0;
}

/* The reference's names for what can be set of its wire. */
static int pcm_environment_read(struct config *c, struct err *e)
{
	if (env_seconds("DEFAULT_TIMEOUT", &c->pcm.timeout_ms, e) < 0 ||
	    env_seconds("MAX_EXECUTION_TIME", &c->pcm.timeout_max_ms, e) < 0) {
		return -1;
	}
	const char *strict = env("CARREL_STRICT_SESSIONS");
	if (strict != NULL) {
		c->pcm.strict_sessions = strcasecmp(strict, "true") == 0;
	}
	if (c->pcm.timeout_ms > c->pcm.timeout_max_ms) {
		c->pcm.timeout_ms = c->pcm.timeout_max_ms;
	}
	return 0;
}

/* Who may call, and the certificate. */
static int access_environment_read(struct config *c, struct err *e)
{
	const char *token = env(CONFIG_TOKEN_VARIABLE);
	const char *token_file = env("CONTAINER_AUTH_TOKEN_FILE");
	const char *disabled = env("CONTAINER_AUTH_DISABLED");
	struct config_token t = {.name = CONFIG_TOKEN_VARIABLE, .role = ROLE_ADMIN};
	struct config_token of_file = {.name = "CONTAINER_AUTH_TOKEN_FILE", .role = ROLE_ADMIN};
	if (set_text(&c->tls_cert_file, env("CARREL_TLS_CERT"), e) < 0 ||
	    set_text(&c->tls_key_file, env("CARREL_TLS_KEY"), e) < 0 ||
	    (token != NULL && config_token_add(c, t, token, e) < 0) ||
	    (token_file != NULL && config_token_add_file(c, of_file, token_file, e) < 0)) {
		return -1;
	}
	c->auth_disabled |= disabled != NULL && strcasecmp(disabled, "true") == 0;
	return 0;
}

static int environment_read(struct config *c, struct err *e)
{
	if (set_text(&c->host, env("HOST"), e) < 0 || set_port(c, env("PORT"), e) < 0 ||
	    set_text(&c->data_dir, env("CARREL_DATA_DIR"), e) < 0 ||
	    set_text(&c->user, env("CARREL_USER"), e) < 0 ||
	    set_isolation(c, env("CARREL_ISOLATION"), e) < 0 ||
	    set_log_level(env("CARREL_LOG_LEVEL"), e) < 0 || access_environment_read(c, e) < 0 ||
	    pcm_environment_read(c, e) < 0) {
		return -1;
	}
	return config_code_mode_environment(c, e) < 0 ? -1 : config_approvals_environment(c, e);
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
		r = config_pools_read(c, e) < 0 ? -1 : config_approvals_read(c, e);
	}
	r = r < 0 ? r : environment_read(c, e);
	r = r < 0 ? r : flags_read(c, flags, e);
	r = r < 0 ? r : config_code_mode_finish(c, e);
	r = r < 0 ? r : config_approvals_finish(c, e);
	r = r < 0 ? r : config_mark(c, known, e);
	if (r < 0) {
		config_fini(c);
	}
	return r;
}

/* What may change of the file. */
static int tree_read_again(struct config *c, const char **log_level, struct err *e)
{
	if (config_only_known(c->tree, "", known, e) < 0 ||
	    config_get_text(c->tree, (struct config_place){"", "log_level"}, log_level, e) < 0 ||
	    tls_read(c, e) < 0 || config_auth_read(c, e) < 0) {
		return -1;
	}
	return config_pools_read(c, e);
}

int config_load_again(struct config *c, const struct config_flags *flags, struct err *e)
{
	const char *file = flags->config_file != NULL ? flags->config_file : env("CARREL_CONFIG");
	const char *log_level = NULL;
	int r = defaults(c, e);
	if (r == 0 && file != NULL) {
		r = file_read(c, file, e);
		r = r < 0 ? r : tree_read_again(c, &log_level, e);
	} else if (r == 0) {
		r = config_pools_read(c, e);
	}
	r = r < 0 ? r : access_environment_read(c, e);
	r = r < 0 ? r : set_text(&c->tls_cert_file, flags->tls_cert, e);
	r = r < 0 ? r : set_text(&c->tls_key_file, flags->tls_key, e);
	r = r < 0 ? r : config_mark(c, known, e);
	/* The last, since it takes effect at once. */
	r = r < 0 ? r : set_log_level(log_level, e);
	r = r < 0 ? r : set_log_level(env("CARREL_LOG_LEVEL"), e);
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
			    c->tokens[i].name != NULL ? c->tokens[i].name : "without a name", pool);
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
	char *variable = getenv(CONFIG_TOKEN_VARIABLE);
	if (variable != NULL) {
		explicit_bzero(variable, strlen(variable));
		(void)unsetenv(CONFIG_TOKEN_VARIABLE);
	}
}

void config_fini(struct config *c)
{
	config_forget_tokens(c);
	config_code_mode_fini(c);
	free(c->host);
	free(c->data_dir);
	free(c->user);
	free(c->tls_cert_file);
	free(c->tls_key_file);
	json_decref(c->tree);
	*c = (struct config){0};
}
