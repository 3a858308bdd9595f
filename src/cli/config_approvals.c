/*
 * Approvals: where they are kept, whom they call back, what each pool allows. From the mapping
 * "approvals", the key of the same name of each pool, and the environment variable
 * CARREL_DATABASE_URL, which goes over the file.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "base/text.h"
#include "cli/config_tree.h"
#include "tools/callback_url.h"

#define URL_MAX_BYTES 8192
#define URL_VARIABLE "CARREL_DATABASE_URL"
#define DAY_MS 86400000ULL
#define YEAR_S (366.0 * 86400)

static int bad(struct err *e, const char *prefix, const char *key, const char *what)
{
	return config_bad(e, (struct config_place){prefix, key}, what);
}

static int read_flag(
    const json_t *map, const char *prefix, const char *key, bool *out, struct err *e)
{
	const json_t *value = json_object_get(map, key);
	if (value == NULL || json_is_null(value)) {
		return 0;
	}
	if (!json_is_boolean(value)) {
		return bad(e, prefix, key, "must be true or false");
	}
	*out = json_is_true(value);
	return 0;
}

/* MIN to MAX of UNIT_MS each, whole or not; a uint32_t of milliseconds would end after 49 days. */
static int read_span(const json_t *map, struct config_place p, double min, double max,
    double unit_ms, uint64_t *out_ms, struct err *e)
{
	const json_t *j = json_object_get(map, p.key);
	double v = json_number_value(j);
	if (j == NULL || json_is_null(j)) {
		return 0;
	}
	if (!json_is_number(j) || !(v >= min) || !(v <= max)) {
		cleanup(buf_fini) struct buf what = BUF_INIT(100);
		(void)buf_addf(&what, "must be %g to %g", min, max);
		return config_bad(e, p, buf_str(&what));
	}
	*out_ms = (uint64_t)(v * unit_ms);
	return 0;
}

/* A list of at most MAX texts that are not empty. Borrowed from MAP. */
static int read_texts(const json_t *map, struct config_place p, uint32_t max, const char **out,
    uint32_t *count, struct err *e)
{
	const json_t *list = json_object_get(map, p.key);
	if (list == NULL || json_is_null(list)) {
		return 0;
	}
	if (!json_is_array(list) || json_array_size(list) > max) {
		cleanup(buf_fini) struct buf what = BUF_INIT(100);
		(void)buf_addf(&what, "must be a list of at most %u texts", max);
		return config_bad(e, p, buf_str(&what));
	}
	*count = 0;
	for (size_t i = 0; i < json_array_size(list); i++) {
		const char *text = json_string_value(json_array_get(list, i));
		if (text == NULL || *text == '\0') {
			return config_bad(e, p, "must be a list of texts that are not empty");
		}
		out[(*count)++] = text;
	}
	return 0;
}

/* --- what a pool allows -------------------------------------------------------------------------
 */

static void pool_defaults(struct approvals_pool *p)
{
	*p = (struct approvals_pool){
	    .policies = {true, true, true, true},
	    .policy = APPROVAL_AFTER,
	    .deadline_ms = DAY_MS,
	    .deadline_max_ms = 7 * DAY_MS,
	};
}

static int read_policies(
    const json_t *map, const char *prefix, struct approvals_pool *p, struct err *e)
{
	const char *names[APPROVAL_POLICY_COUNT];
	const char *policy = NULL;
	uint32_t count = 0;
	if (read_texts(map, (struct config_place){prefix, "policies"}, APPROVAL_POLICY_COUNT, names,
		&count, e) < 0 ||
	    config_get_text(map, (struct config_place){prefix, "policy"}, &policy, e) < 0) {
		return -1;
	}
	static const char words[] = "must be after, before, both or rules";
	if (count > 0) {
		memset(p->policies, 0, sizeof(p->policies));
		p->policy = approval_policy_named(names[0]);
	} else if (json_is_array(json_object_get(map, "policies"))) {
		return bad(e, prefix, "policies", "must have one policy at least");
	}
	for (uint32_t i = 0; i < count; i++) {
		enum approval_policy one = approval_policy_named(names[i]);
		if (one == APPROVAL_POLICY_COUNT) {
			return bad(e, prefix, "policies", words);
		}
		p->policies[one] = true;
	}
	if (policy == NULL) {
		return 0;
	}
	p->policy = approval_policy_named(policy);
	if (p->policy == APPROVAL_POLICY_COUNT) {
		return bad(e, prefix, "policy", words);
	}
	return p->policies[p->policy] ? 0 : bad(e, prefix, "policy", "is not one of 'policies'");
}

static int read_pool(const json_t *map, const char *prefix, struct approvals_pool *p, struct err *e)
{
	static const char *const known[] = {"policies", "policy", "tools", "rules",
	    "deadline_seconds", "deadline_max_seconds", NULL};
	if (!json_is_object(map)) {
		return bad(e, prefix, "", "must be a mapping");
	}
	if (config_only_known(map, prefix, known, e) < 0) {
		return -1;
	}
	if (json_object_get(map, "rules") != NULL) {
		return bad(e, prefix, "rules",
		    "rules about egress are not offered: sessions have no way to the network yet; "
		    "tools whose calls wait for a person are named under 'tools'");
	}
	if (read_policies(map, prefix, p, e) < 0 ||
	    read_texts(map, (struct config_place){prefix, "tools"}, APPROVALS_RULES_MAX, p->tools,
		&p->tool_count, e) < 0 ||
	    read_span(map, (struct config_place){prefix, "deadline_max_seconds"}, 1, YEAR_S, 1000,
		&p->deadline_max_ms, e) < 0) {
		return -1;
	}
	if (p->deadline_ms > p->deadline_max_ms) {
		p->deadline_ms = p->deadline_max_ms;
	}
	if (read_span(map, (struct config_place){prefix, "deadline_seconds"}, 1, YEAR_S, 1000,
		&p->deadline_ms, e) < 0) {
		return -1;
	}
	return p->deadline_ms <= p->deadline_max_ms
		   ? 0
		   : bad(e, prefix, "deadline_seconds", "is more than 'deadline_max_seconds'");
}

static int read_pools(struct config *c, struct err *e)
{
	const json_t *pools = json_object_get(c->tree, "pools");
	for (uint32_t i = 0; i < c->engine.pool_count; i++) {
		const json_t *map = json_object_get(json_array_get(pools, i), "approvals");
		pool_defaults(&c->approvals.pools[i]);
		cleanup(buf_fini) struct buf prefix = BUF_INIT(64);
		(void)buf_addf(&prefix, "pools[%u].approvals.", i);
		if (map != NULL && !json_is_null(map) &&
		    read_pool(map, buf_str(&prefix), &c->approvals.pools[i], e) < 0) {
			return -1;
		}
	}
	return 0;
}

/* --- callbacks ----------------------------------------------------------------------------------
 */

/* scheme://host[:port][/path], as the one who compares with it will read it, and spelt plainly. */
static bool is_url_prefix(const char *text)
{
	static const char plain[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~:/[]";
	return strspn(text, plain) == strlen(text) && callback_url_check(text, NULL) == 0;
}

static int read_callbacks(struct config *c, const json_t *map, struct err *e)
{
	static const char prefix[] = "approvals.callbacks.";
	static const char *const known[] = {"allow", "secret", "attempts", NULL};
	struct config_approvals *a = &c->approvals;
	if (!json_is_object(map)) {
		return bad(e, "approvals.", "callbacks", "must be a mapping");
	}
	if (config_only_known(map, prefix, known, e) < 0 ||
	    read_texts(map, (struct config_place){prefix, "allow"}, CONFIG_CALLBACKS_MAX,
		a->callback_prefixes, &a->callback_prefix_count, e) < 0 ||
	    config_get_text(map, (struct config_place){prefix, "secret"}, &a->callback_secret, e) <
		0 ||
	    config_get_u32(map, (struct config_place){prefix, "attempts"}, 1, 1000,
		&a->callback_attempts, e) < 0) {
		return -1;
	}
	for (uint32_t i = 0; i < a->callback_prefix_count; i++) {
		if (!is_url_prefix(a->callback_prefixes[i])) {
			return bad(e, prefix, "allow",
			    "must be URLs such as https://hooks.example.org/carrel, without user, "
			    "query and percent-encoding");
		}
	}
	if (a->callback_prefix_count > 0 && a->callback_secret == NULL) {
		return bad(e, prefix, "secret",
		    "is needed where callbacks are allowed: they are signed with it");
	}
	if (a->callback_secret != NULL &&
	    json_object_get(c->code_mode.secrets, a->callback_secret) == NULL) {
		return bad(e, prefix, "secret", "is not one of code_mode.tools.secrets");
	}
	return 0;
}

/* --- the database -------------------------------------------------------------------------------
 */

static void set_url(struct config_approvals *a, const char *text)
{
	if (a->url != NULL) {
		explicit_bzero(a->url, strlen(a->url));
		free(a->url);
	}
	a->url = text != NULL ? strdup(text) : NULL;
}

/* NAME of where the URL stands, for messages, which never have the URL itself in them. */
static int check_url(const char *url, const char *name, struct err *e)
{
	bool known = (text_has_prefix(url, "sqlite:") && url[strlen("sqlite:")] != '\0') ||
		     text_has_prefix(url, "postgresql://") || text_has_prefix(url, "postgres://");
	if (!known || strlen(url) > URL_MAX_BYTES) {
		return err_set(e, ERR_INVALID,
		    "%s: must be sqlite:PATH or postgresql://USER:PASSWORD@HOST/DATABASE", name);
	}
	return 0;
}

static int read_url_file(struct config_approvals *a, const char *path, struct err *e)
{
	cleanup(buf_fini) struct buf text = BUF_INIT(URL_MAX_BYTES);
	int r = fd_read_file(AT_FDCWD, path, &text);
	if (r < 0) {
		return err_set_os(e, -r, "approvals.database_file %s", path);
	}
	if (text.data == NULL) {
		return err_set(e, ERR_INVALID, "approvals.database_file %s is empty", path);
	}
	text.data[strcspn(text.data, "\r\n")] = '\0';
	set_url(a, text.data);
	explicit_bzero(text.data, text.len);
	return check_url(a->url != NULL ? a->url : "", "what is in approvals.database_file", e);
}

static int read_database(struct config *c, const json_t *map, struct err *e)
{
	const char *url = NULL;
	const char *file = NULL;
	if (config_get_text(map, (struct config_place){"approvals.", "database"}, &url, e) < 0 ||
	    config_get_text(map, (struct config_place){"approvals.", "database_file"}, &file, e) <
		0) {
		return -1;
	}
	if (url != NULL && file != NULL) {
		return bad(e, "approvals.", "database", "give either database or database_file");
	}
	if (file != NULL) {
		return read_url_file(&c->approvals, file, e);
	}
	if (url != NULL) {
		set_url(&c->approvals, url);
		return check_url(url, "configuration: approvals.database", e);
	}
	return 0;
}

/* --- the whole ----------------------------------------------------------------------------------
 */

static int read_server(const json_t *map, const char **out, struct err *e)
{
	static const char plain[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._";
	if (config_get_text(map, (struct config_place){"approvals.", "server"}, out, e) < 0) {
		return -1;
	}
	size_t len = *out != NULL ? strlen(*out) : 1;
	if (len == 0 || len > 64 || (*out != NULL && strspn(*out, plain) != len)) {
		return bad(
		    e, "approvals.", "server", "must be 1 to 64 letters, digits, '-', '.' and '_'");
	}
	return 0;
}

static int read_numbers(struct config_approvals *a, const json_t *map, struct err *e)
{
	static const char prefix[] = "approvals.";
	if (config_get_u32(
		map, (struct config_place){prefix, "runs_max"}, 1, 100000, &a->runs_max, e) < 0 ||
	    config_get_u32(
		map, (struct config_place){prefix, "open_max"}, 1, 10000000, &a->open_max, e) < 0 ||
	    read_span(map, (struct config_place){prefix, "keep_days"}, 0.001, 36500, (double)DAY_MS,
		&a->keep_ms, e) < 0 ||
	    config_get_seconds(map, (struct config_place){prefix, "lease_seconds"}, 1, 3600,
		&a->lease_ms, e) < 0) {
		return -1;
	}
	return read_flag(map, prefix, "audit_code", &a->audit_code, e);
}

int config_approvals_read(struct config *c, struct err *e)
{
	static const char *const known[] = {"enabled", "database", "database_file", "server",
	    "callbacks", "runs_max", "open_max", "keep_days", "lease_seconds", "audit_code", NULL};
	struct config_approvals *a = &c->approvals;
	const json_t *map = json_object_get(c->tree, "approvals");
	if (read_pools(c, e) < 0) {
		return -1;
	}
	if (map == NULL || json_is_null(map)) {
		return 0;
	}
	if (!json_is_object(map)) {
		return bad(e, "", "approvals", "must be a mapping");
	}
	if (config_only_known(map, "approvals.", known, e) < 0 ||
	    read_flag(map, "approvals.", "enabled", &a->enabled, e) < 0 ||
	    read_database(c, map, e) < 0 || read_server(map, &a->server, e) < 0 ||
	    read_numbers(a, map, e) < 0) {
		return -1;
	}
	const json_t *callbacks = json_object_get(map, "callbacks");
	return callbacks != NULL && !json_is_null(callbacks) ? read_callbacks(c, callbacks, e) : 0;
}

void config_approvals_defaults(struct config *c)
{
	c->approvals = (struct config_approvals){
	    .enabled = true,
	    .callback_attempts = 15,
	    .open_max = 100000,
	    .keep_ms = 30 * DAY_MS,
	    .lease_ms = 10000,
	};
}

int config_approvals_environment(struct config *c, struct err *e)
{
	const char *url = getenv(URL_VARIABLE);
	if (url == NULL || url[strspn(url, " \t\r\n")] == '\0') {
		return 0;
	}
	set_url(&c->approvals, url);
	return check_url(url, URL_VARIABLE, e);
}

int config_approvals_finish(struct config *c, struct err *e)
{
	struct config_approvals *a = &c->approvals;
	if (a->url == NULL) {
		cleanup(buf_fini) struct buf url = BUF_INIT(URL_MAX_BYTES);
		if (buf_addf(&url, "sqlite:%s/approvals.db", c->data_dir) < 0) {
			return err_set(e, ERR_INVALID, "the data directory's path is too long");
		}
		set_url(a, buf_str(&url));
	}
	if (a->runs_max == 0) {
		uint32_t half = c->engine.pools[0].max_sessions / 2;
		a->runs_max = half > 0 ? half : 1;
	}
	return a->url != NULL ? 0 : err_set(e, ERR_INTERNAL, "out of memory");
}

void config_approvals_forget(struct config *c)
{
	set_url(&c->approvals, NULL);
	/* In place too: /proc/PID/environ shows the bytes. */
	char *variable = getenv(URL_VARIABLE);
	if (variable != NULL) {
		explicit_bzero(variable, strlen(variable));
		(void)unsetenv(URL_VARIABLE);
	}
	const json_t *text = json_object_get(json_object_get(c->tree, "approvals"), "database");
	if (json_is_string(text)) {
		explicit_bzero(
		    (void *)(uintptr_t)json_string_value(text), json_string_length(text));
	}
}
