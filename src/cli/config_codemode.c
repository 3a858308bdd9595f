/*
 * Code mode: where tools, skills, artifacts and dependencies are kept, what tools may know, and
 * what may be installed. From the mapping "code_mode" and from the environment variables of
 * py-code-mode's container, which go over it.
 */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/sysinfo.h>

#include "base/fd.h"
#include "base/text.h"
#include "cli/config_tree.h"

#define TEXT_MAX 8192
#define SECRET_MAX_BYTES (64U << 10)
#define REQUIREMENTS_MAX_BYTES (1U << 20)
#define COMMANDS_MEMORY_MIN_BYTES (16U << 20)

/* A text that C owns from now on; NULL without memory. */
static const char *keep(struct config *c, const char *fmt, ...) printf_like(2, 3);

static const char *keep(struct config *c, const char *fmt, ...)
{
	char text[TEXT_MAX];
	va_list args;
	va_start(args, fmt);
	int n = vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	if (n < 0 || (size_t)n >= sizeof(text)) {
		return NULL;
	}
	json_t *kept = json_string(text);
	explicit_bzero(text, sizeof(text));
	if (c->code_mode.texts == NULL) {
		c->code_mode.texts = json_array();
	}
	return json_array_append_new(c->code_mode.texts, kept) == 0 ? json_string_value(kept)
								    : NULL;
}

static const char *env(const char *name)
{
	const char *value = getenv(name);
	return value != NULL && value[strspn(value, " \t\r\n")] != '\0' ? value : NULL;
}

/* --- the mapping ---------------------------------------------------------------------------------
 */

/* Several texts of MAP, where they are given; at most MAX keys known in all. */
struct text_key {
	const char *name;
	const char **out;
};

static int read_map(const json_t *map, const char *prefix, const struct text_key *texts,
    const char *const *others, struct err *e)
{
	const char *known[24] = {0};
	size_t n = 0;
	if (!json_is_object(map)) {
		return config_bad(e, (struct config_place){prefix, ""}, "must be a mapping");
	}
	for (const struct text_key *t = texts; t->name != NULL; t++) {
		known[n++] = t->name;
	}
	for (; others != NULL && *others != NULL; others++) {
		known[n++] = *others;
	}
	if (config_only_known(map, prefix, known, e) < 0) {
		return -1;
	}
	for (const struct text_key *t = texts; t->name != NULL; t++) {
		if (config_get_text(map, (struct config_place){prefix, t->name}, t->out, e) < 0) {
			return -1;
		}
	}
	return 0;
}

static int read_flag(const json_t *map, struct config_place p, bool *out, struct err *e)
{
	const json_t *value = json_object_get(map, p.key);
	if (value == NULL || json_is_null(value)) {
		return 0;
	}
	if (!json_is_boolean(value)) {
		return config_bad(e, p, "must be true or false");
	}
	*out = json_is_true(value);
	return 0;
}

/* The text in the file at PATH, without the white space around it. */
static const char *read_secret_file(struct config *c, const char *path, struct err *e)
{
	cleanup(buf_fini) struct buf text = BUF_INIT(SECRET_MAX_BYTES);
	int r = fd_read_file(AT_FDCWD, path, &text);
	if (r < 0) {
		(void)err_set_os(e, -r, "the secret file %s", path);
		return NULL;
	}
	const char *start = buf_str(&text) + strspn(buf_str(&text), " \t\r\n");
	size_t len = strlen(start);
	while (len > 0 && strchr(" \t\r\n", start[len - 1]) != NULL) {
		len--;
	}
	const char *kept = keep(c, "%.*s", (int)len, start);
	if (text.data != NULL) {
		explicit_bzero(text.data, text.len);
	}
	if (kept == NULL || *kept == '\0') {
		(void)err_set(e, ERR_INVALID, "the secret file %s is empty or too long", path);
		return NULL;
	}
	return kept;
}

static int read_redis(struct config *c, const json_t *map, struct err *e)
{
	struct store_config *s = &c->code_mode.store;
	const char *url_file = NULL;
	const struct text_key texts[] = {
	    {"url", &s->redis_url},
	    {"url_file", &url_file},
	    {"ca_file", &s->redis_ca_file},
	    {"prefix", &s->prefix},
	    {"tools_prefix", &s->tools_prefix},
	    {"skills_prefix", &s->skills_prefix},
	    {"artifacts_prefix", &s->artifacts_prefix},
	    {"deps_prefix", &s->deps_prefix},
	    {"workspaces_prefix", &s->workspaces_prefix},
	    {NULL, NULL},
	};
	if (read_map(map, "code_mode.storage.redis.", texts, NULL, e) < 0) {
		return -1;
	}
	if ((s->redis_url == NULL) == (url_file == NULL)) {
		return config_bad(e, (struct config_place){"code_mode.storage.redis.", "url"},
		    "give either url or url_file");
	}
	if (url_file != NULL) {
		s->redis_url = read_secret_file(c, url_file, e);
	}
	return s->redis_url != NULL ? 0 : -1;
}

static int read_storage(struct config *c, const json_t *map, struct err *e)
{
	static const char *const others[] = {"redis", NULL};
	struct store_config *s = &c->code_mode.store;
	const struct text_key texts[] = {
	    {"dir", &s->dir},
	    {"tools_dir", &s->tools_dir},
	    {"skills_dir", &s->skills_dir},
	    {"artifacts_dir", &s->artifacts_dir},
	    {"deps_dir", &s->deps_dir},
	    {"workspaces_dir", &s->workspaces_dir},
	    {NULL, NULL},
	};
	if (read_map(map, "code_mode.storage.", texts, others, e) < 0) {
		return -1;
	}
	const json_t *redis = json_object_get(map, "redis");
	return redis != NULL ? read_redis(c, redis, e) : 0;
}

static int read_secret(struct config *c, const char *name, const json_t *map, struct err *e)
{
	const char *file = NULL;
	const char *variable = NULL;
	const struct text_key texts[] = {{"file", &file}, {"env", &variable}, {NULL, NULL}};
	cleanup(buf_fini) struct buf prefix = BUF_INIT(512);
	(void)buf_addf(&prefix, "code_mode.tools.secrets.%.200s.", name);
	if (read_map(map, buf_str(&prefix), texts, NULL, e) < 0) {
		return -1;
	}
	if ((file == NULL) == (variable == NULL)) {
		return config_bad(
		    e, (struct config_place){buf_str(&prefix), "file"}, "give either file or env");
	}
	const char *text = file != NULL ? read_secret_file(c, file, e)
					: keep(c, "%s", env(variable) ?: "");
	if (text == NULL) {
		return -1;
	}
	if (*text == '\0') {
		return err_set(e, ERR_INVALID,
		    "the secret '%.200s': the environment variable %s is not set", name, variable);
	}
	if (variable != NULL) {
		(void)json_array_append_new(c->code_mode.wiped_variables, json_string(variable));
	}
	return json_object_set_new(c->code_mode.secrets, name, json_string(text)) == 0
		   ? 0
		   : err_set(e, ERR_INVALID, "the secret '%.200s' is not UTF-8", name);
}

static int read_commands_memory(struct config *c, const json_t *map, struct err *e)
{
	const struct config_place at = {"code_mode.tools.", "memory"};
	uint64_t *bytes = &c->code_mode.commands_memory_bytes;
	if (config_get_bytes(map, at, 0, bytes, e) < 0) {
		return -1;
	}
	if (*bytes != 0 && (*bytes < COMMANDS_MEMORY_MIN_BYTES || *bytes > INT64_MAX)) {
		return config_bad(e, at, "must be from 16m on, or 0 for no limit");
	}
	return 0;
}

static int read_tools(struct config *c, const json_t *map, struct err *e)
{
	static const char *const others[] = {"secrets", "memory", NULL};
	const struct text_key texts[] = {
	    {"dir", &c->code_mode.tools_dir}, {"file", &c->code_mode.tools_file}, {NULL, NULL}};
	if (read_map(map, "code_mode.tools.", texts, others, e) < 0 ||
	    read_commands_memory(c, map, e) < 0) {
		return -1;
	}
	json_t *secrets = json_object_get(map, "secrets");
	if (secrets != NULL && !json_is_object(secrets)) {
		return config_bad(
		    e, (struct config_place){"code_mode.tools.", "secrets"}, "must be a mapping");
	}
	const char *name;
	json_t *secret;
	json_object_foreach(secrets, name, secret)
	{
		if (read_secret(c, name, secret, e) < 0) {
			return -1;
		}
	}
	return 0;
}

/* --- dependencies --------------------------------------------------------------------------------
 */

/* LEN bytes of a list, without the white space around them; nothing of a comment. */
static void add_package(struct config *c, const char *text, size_t len)
{
	while (len > 0 && strchr(" \t\r", *text) != NULL) {
		text++;
		len--;
	}
	while (len > 0 && strchr(" \t\r", text[len - 1]) != NULL) {
		len--;
	}
	if (len > 0 && *text != '#') {
		(void)json_array_append_new(c->code_mode.packages, json_stringn(text, len));
	}
}

/* Where the requirement at TEXT ends. A comma within brackets, or before another comparison, is of
 * the requirement itself: "a[x,y]>=1,<2, b". */
static const char *requirement_end(const char *text)
{
	bool extras = false;
	for (; *text != '\0'; text++) {
		extras = *text == '[' || (extras && *text != ']');
		const char *next = text + 1 + strspn(text + 1, " \t");
		if (*text == ',' && !extras && (*next == '\0' || strchr("<>=!~", *next) == NULL)) {
			break;
		}
	}
	return text;
}

static void add_packages(
    struct config *c, const char *text, const char *(*end_of)(const char *text))
{
	while (*text != '\0') {
		const char *end = end_of(text);
		add_package(c, text, (size_t)(end - text));
		text = *end != '\0' ? end + 1 : end;
	}
}

static const char *line_end(const char *text)
{
	return strchrnul(text, '\n');
}

static int read_requirements(struct config *c, const char *path, struct err *e)
{
	cleanup(buf_fini) struct buf text = BUF_INIT(REQUIREMENTS_MAX_BYTES);
	int r = fd_read_file(AT_FDCWD, path, &text);
	if (r < 0) {
		return err_set_os(e, -r, "the requirements file %s", path);
	}
	add_packages(c, buf_str(&text), line_end);
	return 0;
}

static int read_packages(struct config *c, const json_t *map, struct err *e)
{
	const json_t *list = json_object_get(map, "packages");
	const struct config_place at = {"code_mode.deps.", "packages"};
	if (list != NULL && !json_is_array(list)) {
		return config_bad(e, at, "must be a list of texts");
	}
	for (size_t i = 0; i < json_array_size(list); i++) {
		const char *one = json_string_value(json_array_get(list, i));
		if (one == NULL) {
			return config_bad(e, at, "must be a list of texts");
		}
		add_package(c, one, strlen(one));
	}
	return 0;
}

/* How long what is installed stays, and how much of it. */
static int read_keeping(struct config *c, const json_t *map, struct err *e)
{
	uint32_t days = 30;
	uint64_t bytes = 20ULL << 30;
	if (config_get_u32(map, (struct config_place){"code_mode.deps.", "keep_days"}, 0, 36500,
		&days, e) < 0 ||
	    config_get_bytes(
		map, (struct config_place){"code_mode.deps.", "keep_size"}, 0, &bytes, e) < 0) {
		return -1;
	}
	if (bytes > INT64_MAX) {
		return config_bad(
		    e, (struct config_place){"code_mode.deps.", "keep_size"}, "is too large");
	}
	(void)json_object_set_new(c->code_mode.installer, "unused_days", json_integer(days));
	(void)json_object_set_new(
	    c->code_mode.installer, "size_max_bytes", json_integer((json_int_t)bytes));
	return 0;
}

/* What the runner is told of installing; see tools/runner_link.h. */
static int read_installer(struct config *c, const json_t *map, struct err *e)
{
	static const char *const names[] = {"installer", "index_url", "find_links"};
	for (size_t i = 0; i < array_len(names); i++) {
		const char *text = NULL;
		if (config_get_text(
			map, (struct config_place){"code_mode.deps.", names[i]}, &text, e) < 0) {
			return -1;
		}
		if (text != NULL) {
			(void)json_object_set_new(
			    c->code_mode.installer, names[i], json_string(text));
		}
	}
	const char *installer = json_string_value(
	    json_object_get(c->code_mode.installer, "installer"));
	if (installer != NULL && strcmp(installer, "pip") != 0 && strcmp(installer, "uv") != 0) {
		return config_bad(
		    e, (struct config_place){"code_mode.deps.", "installer"}, "must be pip or uv");
	}
	bool build = false;
	bool offline = false;
	uint32_t timeout_ms = 120000;
	if (read_flag(map, (struct config_place){"code_mode.deps.", "allow_build"}, &build, e) <
		0 ||
	    read_flag(map, (struct config_place){"code_mode.deps.", "offline"}, &offline, e) < 0 ||
	    config_get_seconds(map, (struct config_place){"code_mode.deps.", "timeout_seconds"}, 1,
		3600, &timeout_ms, e) < 0) {
		return -1;
	}
	if (read_keeping(c, map, e) < 0) {
		return -1;
	}
	(void)json_object_set_new(c->code_mode.installer, "allow_build", json_boolean(build));
	(void)json_object_set_new(c->code_mode.installer, "offline", json_boolean(offline));
	(void)json_object_set_new(
	    c->code_mode.installer, "timeout_seconds", json_integer(timeout_ms / 1000));
	return 0;
}

static int read_deps(struct config *c, const json_t *map, struct err *e)
{
	static const char *const known[] = {"allow_runtime", "packages", "requirements_file",
	    "installer", "index_url", "find_links", "timeout_seconds", "allow_build", "offline",
	    "keep_days", "keep_size", NULL};
	const char *file = NULL;
	if (!json_is_object(map)) {
		return config_bad(
		    e, (struct config_place){"code_mode.", "deps"}, "must be a mapping");
	}
	if (config_only_known(map, "code_mode.deps.", known, e) < 0 ||
	    read_flag(map, (struct config_place){"code_mode.deps.", "allow_runtime"},
		&c->code_mode.allow_runtime_deps, e) < 0 ||
	    config_get_text(
		map, (struct config_place){"code_mode.deps.", "requirements_file"}, &file, e) < 0 ||
	    read_packages(c, map, e) < 0 || read_installer(c, map, e) < 0) {
		return -1;
	}
	return file != NULL ? read_requirements(c, file, e) : 0;
}

/* --- the whole -----------------------------------------------------------------------------------
 */

static int read_embeddings(struct config *c, const json_t *map, struct err *e)
{
	struct config_code_mode *m = &c->code_mode;
	const struct text_key texts[] = {{"url", &m->embeddings_url},
	    {"model", &m->embeddings_model}, {"secret", &m->embeddings_secret}, {NULL, NULL}};
	if (read_map(map, "code_mode.embeddings.", texts, NULL, e) < 0) {
		return -1;
	}
	const char *secret = m->embeddings_secret;
	if (secret != NULL && json_object_get(m->secrets, secret) == NULL) {
		return config_bad(e, (struct config_place){"code_mode.embeddings.", "secret"},
		    "is not one of code_mode.tools.secrets");
	}
	return 0;
}

int config_code_mode_read(struct config *c, struct err *e)
{
	static const char *const known[] = {
	    "storage", "tools", "deps", "embeddings", "strict_sessions", NULL};
	static const struct {
		const char *name;
		int (*read)(struct config *c, const json_t *map, struct err *e);
	} parts[] = {{"storage", read_storage}, {"tools", read_tools}, {"deps", read_deps},
	    {"embeddings", read_embeddings}};
	const json_t *map = json_object_get(c->tree, "code_mode");
	if (map == NULL || json_is_null(map)) {
		return 0;
	}
	if (!json_is_object(map)) {
		return config_bad(e, (struct config_place){"", "code_mode"}, "must be a mapping");
	}
	if (config_only_known(map, "code_mode.", known, e) < 0 ||
	    read_flag(map, (struct config_place){"code_mode.", "strict_sessions"},
		&c->pcm.strict_sessions, e) < 0) {
		return -1;
	}
	for (size_t i = 0; i < array_len(parts); i++) {
		const json_t *part = json_object_get(map, parts[i].name);
		if (part != NULL && !json_is_null(part) && parts[i].read(c, part, e) < 0) {
			return -1;
		}
	}
	return 0;
}

/* Half of the machine's memory. */
static uint64_t default_commands_memory(void)
{
	struct sysinfo s;
	uint64_t half = sysinfo(&s) < 0 ? 0 : (uint64_t)s.totalram * s.mem_unit / 2;
	return half > COMMANDS_MEMORY_MIN_BYTES ? half : COMMANDS_MEMORY_MIN_BYTES;
}

int config_code_mode_defaults(struct config *c, struct err *e)
{
	struct config_code_mode *m = &c->code_mode;
	m->commands_memory_bytes = default_commands_memory();
	m->allow_runtime_deps = true;
	m->secrets = json_object();
	m->installer = json_object();
	m->packages = json_array();
	m->wiped_variables = json_array();
	m->texts = json_array();
	bool all = m->secrets != NULL && m->installer != NULL && m->packages != NULL &&
		   m->wiped_variables != NULL && m->texts != NULL;
	return all ? 0 : err_set(e, ERR_INTERNAL, "out of memory");
}

/* --- the environment -----------------------------------------------------------------------------
 */

static void over(const char **out, const char *name)
{
	const char *value = env(name);
	if (value != NULL) {
		*out = value;
	}
}

/* PATH without its last part, "." when it has one part. */
static const char *parent_of(struct config *c, const char *path, const char *then)
{
	size_t len = strlen(path);
	while (len > 1 && path[len - 1] == '/') {
		len--;
	}
	while (len > 0 && path[len - 1] != '/') {
		len--;
	}
	while (len > 1 && path[len - 1] == '/') {
		len--;
	}
	return keep(c, "%.*s/%s", len > 0 ? (int)len : 1, len > 0 ? path : ".", then);
}

/* Redis's defaults are those of the container, not of RedisStorage: keys beneath "tools", "skills",
 * "artifacts". Source: py-code-mode's SessionConfig.from_env. */
static void redis_environment(struct config *c)
{
	struct store_config *s = &c->code_mode.store;
	bool plain = env("REDIS_URL") != NULL && s->prefix == NULL;
	over(&s->redis_url, "REDIS_URL");
	if (env("REDIS_URL") != NULL) {
		(void)json_array_append_new(c->code_mode.wiped_variables, json_string("REDIS_URL"));
		s->redis_url = keep(c, "%s", s->redis_url);
	}
	if (plain) {
		s->tools_prefix = s->tools_prefix ?: "tools";
		s->skills_prefix = s->skills_prefix ?: "skills";
		s->artifacts_prefix = s->artifacts_prefix ?: "artifacts";
	}
	over(&s->tools_prefix, "REDIS_TOOLS_PREFIX");
	over(&s->skills_prefix, "REDIS_WORKFLOWS_PREFIX");
	over(&s->skills_prefix, "REDIS_SKILLS_PREFIX");
	over(&s->artifacts_prefix, "REDIS_ARTIFACTS_PREFIX");
	if ((plain || env("REDIS_TOOLS_PREFIX") != NULL) && s->deps_prefix == NULL) {
		const char *colon = strrchr(s->tools_prefix, ':');
		size_t len = colon != NULL ? (size_t)(colon - s->tools_prefix)
					   : strlen(s->tools_prefix);
		s->deps_prefix = keep(c, "%.*s:deps", (int)len, s->tools_prefix);
	}
	over(&s->deps_prefix, "REDIS_DEPS_PREFIX");
	over(&s->workspaces_prefix, "STORAGE_PREFIX");
}

static void file_environment(struct config *c)
{
	struct store_config *s = &c->code_mode.store;
	over(&s->skills_dir, "SKILLS_DIR");
	over(&s->skills_dir, "WORKFLOWS_PATH");
	over(&s->skills_dir, "SKILLS_PATH");
	over(&s->artifacts_dir, "ARTIFACTS_PATH");
	const char *deps = env("DEPS_PATH");
	const char *artifacts = env("ARTIFACTS_PATH");
	if (deps != NULL) {
		s->deps_dir = parent_of(c, deps, "deps");
	} else if (artifacts != NULL && s->deps_dir == NULL) {
		s->deps_dir = parent_of(c, artifacts, "deps");
	}
	over(&s->dir, "STORAGE_BASE_PATH");
	over(&c->code_mode.tools_dir, "TOOLS_PATH");
	over(&c->code_mode.tools_file, "TOOLS_CONFIG");
}

int config_code_mode_environment(struct config *c, struct err *e)
{
	struct config_code_mode *m = &c->code_mode;
	const char *allow = env("ALLOW_RUNTIME_DEPS");
	if (allow != NULL) {
		m->allow_runtime_deps = strcasecmp(allow, "true") == 0 || strcmp(allow, "1") == 0 ||
					strcasecmp(allow, "yes") == 0;
	}
	const char *packages = env("CONTAINER_DEPS");
	if (packages != NULL) {
		add_packages(c, packages, requirement_end);
	}
	file_environment(c);
	redis_environment(c);
	const char *backend = env("ARTIFACT_BACKEND");
	if (backend != NULL && strcmp(backend, "file") != 0 && strcmp(backend, "redis") != 0) {
		return err_set(
		    e, ERR_INVALID, "ARTIFACT_BACKEND must be file or redis, not '%s'", backend);
	}
	return 0;
}

int config_code_mode_finish(struct config *c, struct err *e)
{
	struct config_code_mode *m = &c->code_mode;
	m->store.dir = m->store.dir ?: keep(c, "%s/store", c->data_dir);
	m->tools_dir = m->tools_dir ?: m->store.tools_dir;
	m->runner_needed = m->tools_dir != NULL || m->tools_file != NULL ||
			   m->embeddings_url != NULL || m->store.redis_url != NULL;
	m->tools_dir = m->tools_dir ?: keep(c, "%s/tools", m->store.dir);
	m->work_dir = keep(c, "%s", c->data_dir);
	if (m->store.dir == NULL || m->tools_dir == NULL || m->work_dir == NULL) {
		return err_set(e, ERR_INVALID, "a path of code mode is too long");
	}
	for (uint32_t i = 0; i < c->token_count; i++) {
		const char *prefix = c->tokens[i].prefix;
		struct err why;
		if (prefix != NULL && store_check_tenant(&m->store, prefix, &why) < 0) {
			return err_set(e, ERR_INVALID, "auth.tokens: the prefix '%.64s': %s",
			    prefix, why.text);
		}
	}
	return 0;
}

/* --- forgetting ----------------------------------------------------------------------------------
 */

static void wipe_text(const json_t *text)
{
	const char *value = json_string_value(text);
	if (value != NULL) {
		explicit_bzero((void *)(uintptr_t)value, json_string_length(text));
	}
}

void config_forget_secrets(struct config *c)
{
	struct config_code_mode *m = &c->code_mode;
	const char *name;
	json_t *text;
	size_t i;
	json_object_foreach(m->secrets, name, text)
	{
		wipe_text(text);
	}
	json_array_foreach(m->wiped_variables, i, text)
	{
		/* In place too: /proc/PID/environ shows the bytes. */
		char *variable = getenv(json_string_value(text));
		if (variable != NULL) {
			explicit_bzero(variable, strlen(variable));
			(void)unsetenv(json_string_value(text));
		}
	}
	config_approvals_forget(c);
	json_t *storage = json_object_get(json_object_get(c->tree, "code_mode"), "storage");
	wipe_text(json_object_get(json_object_get(storage, "redis"), "url"));
	json_array_foreach(m->texts, i, text)
	{
		wipe_text(text);
	}
	m->store = (struct store_config){0};
	m->tools_dir = m->tools_file = m->work_dir = NULL;
}

void config_code_mode_fini(struct config *c)
{
	struct config_code_mode *m = &c->code_mode;
	config_forget_secrets(c);
	json_decref(m->secrets);
	json_decref(m->installer);
	json_decref(m->packages);
	json_decref(m->wiped_variables);
	json_decref(m->texts);
	*m = (struct config_code_mode){0};
}
