#include "api/aca.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/json_text.h"
#include "base/text.h"

/* --- the api-version -------------------------------------------------------------------------- */

/* YYYY-MM-DD, and a suffix such as -preview. */
static bool is_version(const char *text)
{
	static const char shape[] = "dddd-dd-dd";
	size_t i = 0;
	for (; shape[i] != '\0'; i++) {
		bool fits = shape[i] == 'd' ? text[i] >= '0' && text[i] <= '9'
					    : text[i] == shape[i];
		if (!fits) {
			return false;
		}
	}
	static const char more[] =
	    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.";
	return strlen(text) <= 64 && text[i + strspn(text + i, more)] == '\0';
}

/* Routes that are older than the parameter: their clients do not send it. */
static bool is_without_version(const struct call *c)
{
	const char *pattern = c->route != NULL ? c->route->pattern : "";
	return text_has_prefix(pattern, "python/") || strcmp(pattern, "upload") == 0;
}

/* The live service offers its routes on every advertised api-version, so none is singled out. */
static int check_version(struct call *c, struct aca_problem *p)
{
	const char *version = call_query(c, "api-version");
	if ((version == NULL || *version == '\0') && is_without_version(c)) {
		return 0;
	}
	if (version == NULL || *version == '\0') {
		return aca_problem(p, ACA_VALIDATION, "api-version",
		    "the query parameter 'api-version' is required, e.g. 2025-10-02-preview");
	}
	if (!is_version(version)) {
		return aca_problem(p, ACA_VALIDATION, "api-version",
		    "the query parameter 'api-version' must look like 2025-10-02-preview");
	}
	return 0;
}

bool aca_is_old_version(struct call *c)
{
	const char *version = call_query(c, "api-version");
	return version != NULL && strncmp(version, "2024-10-02", 10) < 0;
}

/* --- pool and session ------------------------------------------------------------------------- */

struct pool *aca_pool(struct call *c, struct aca_problem *p)
{
	const struct api *api = c->app;
	if (check_version(c, p) < 0) {
		return NULL;
	}
	struct pool *pool = engine_pool(api->engine, c->pool);
	if (pool == NULL) {
		(void)aca_problem(
		    p, ACA_POOL_NOT_FOUND, NULL, "there is no session pool of that name");
		return NULL;
	}
	/* The HTTP layer has checked this too; a second look costs nothing. */
	const struct principal *who = c->principal;
	if (who != NULL && who->pool != NULL && strcmp(who->pool, pool->config.name) != 0) {
		(void)aca_problem(p, ACA_FORBIDDEN, NULL, "this token is for another session pool");
		return NULL;
	}
	return pool;
}

int aca_tenant(struct call *c, const char **out, struct aca_problem *p)
{
	const struct principal *who = c->principal;
	const char *named = call_query(c, "tenant");
	*out = who != NULL ? who->prefix : NULL;
	if (named == NULL || *named == '\0' || (*out != NULL && strcmp(named, *out) == 0)) {
		return 0;
	}
	if (who == NULL || who->role < ROLE_ADMIN || who->prefix != NULL) {
		return aca_problem(p, ACA_FORBIDDEN, "tenant", "this token is for another tenant");
	}
	if (!engine_tenant_is_valid(named)) {
		return aca_problem(p, ACA_VALIDATION, "tenant",
		    "the query parameter 'tenant' is not the name of a tenant");
	}
	*out = named;
	return 0;
}

static const char *identifier_in(const json_t *body)
{
	const char *id = json_string_value(
	    json_object_get(json_object_get(body, "properties"), "identifier"));
	return id != NULL ? id : json_string_value(json_object_get(body, "identifier"));
}

int aca_where(struct call *c, const json_t *body, struct aca_where *w, struct aca_problem *p)
{
	w->pool = aca_pool(c, p);
	if (w->pool == NULL || aca_tenant(c, &w->tenant, p) < 0) {
		return -1;
	}
	const char *id = call_query(c, "identifier");
	if (id == NULL) {
		id = c->path_identifier;
	}
	if (id == NULL) {
		id = identifier_in(body);
	}
	if (id == NULL) {
		return aca_problem(p, ACA_VALIDATION, "identifier",
		    "the query parameter 'identifier' is required");
	}
	struct err e;
	if (engine_identifier_check(id, &e) < 0) {
		size_t len = strlen(id);
		bool length = len < ENGINE_IDENTIFIER_MIN || len > ENGINE_IDENTIFIER_MAX;
		return aca_problem(
		    p, length ? ACA_IDENTIFIER_LENGTH : ACA_VALIDATION, "identifier", "%s", e.text);
	}
	(void)snprintf(w->identifier, sizeof(w->identifier), "%s", id);
	return 0;
}

struct session *aca_session_open(const struct aca_where *w, struct aca_problem *p)
{
	struct err e;
	struct session *s = engine_session_open(w->pool, w->tenant, w->identifier, &e);
	if (s == NULL) {
		(void)aca_problem_err(p, &e, "identifier");
	}
	return s;
}

struct session *aca_session_find(const struct aca_where *w, bool touch, struct aca_problem *p)
{
	struct session *s = engine_session_find(w->pool, w->tenant, w->identifier);
	if (s == NULL) {
		(void)aca_problem(p, ACA_SESSION_NOT_FOUND, "identifier",
		    "there is no session with that identifier in this pool");
		return NULL;
	}
	return touch ? aca_session_open(w, p) : s;
}

/* --- query parameters and links --------------------------------------------------------------- */

int aca_query_bool(struct call *c, const char *name, bool *out, struct aca_problem *p)
{
	const char *value = call_query(c, name);
	if (value == NULL) {
		*out = false;
		return 0;
	}
	bool yes = *value == '\0' || strcmp(value, "1") == 0 || strcasecmp(value, "true") == 0;
	if (!yes && strcmp(value, "0") != 0 && strcasecmp(value, "false") != 0) {
		return aca_problem(p, ACA_VALIDATION, name,
		    "the query parameter '%s' must be true or false", name);
	}
	*out = yes;
	return 0;
}

int aca_query_skip(struct call *c, uint64_t *out, struct aca_problem *p)
{
	const char *value = call_query(c, "skip");
	*out = 0;
	if (value != NULL && text_to_u64(value, INT32_MAX, out) < 0) {
		return aca_problem(p, ACA_VALIDATION, "skip",
		    "the query parameter 'skip' must be a whole number from 0 to %d", INT32_MAX);
	}
	return 0;
}

int aca_add_encoded(struct buf *b, const char *text, bool is_path)
{
	static const char plain[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
	for (; *text != '\0'; text++) {
		bool keep = strchr(plain, *text) != NULL || (is_path && *text == '/');
		int r = keep ? buf_add_char(b, *text)
			     : buf_addf(b, "%%%02X", (unsigned)(unsigned char)*text);
		if (r < 0) {
			return r;
		}
	}
	return 0;
}

int aca_add_base(struct buf *b, struct call *c, unsigned segments)
{
	cleanup(text_free) char *path = strdup(c->path);
	if (path == NULL) {
		return -1;
	}
	for (size_t len = strlen(path); len > 0 && path[len - 1] == '/'; len--) {
		path[len - 1] = '\0';
	}
	for (; segments > 0; segments--) {
		char *slash = strrchr(path, '/');
		if (slash == NULL) {
			break;
		}
		*slash = '\0';
	}
	return aca_add_encoded(b, path, true);
}

int aca_add_query(struct buf *b, struct call *c)
{
	const char *tenant = call_query(c, "tenant");
	const char *version = call_query(c, "api-version");
	bool none = version == NULL || *version == '\0';
	int r = buf_add_str(b, "?api-version=");
	r |= aca_add_encoded(b, none ? "2024-02-02-preview" : version, false);
	if (tenant != NULL && *tenant != '\0') {
		r |= buf_add_str(b, "&tenant=");
		r |= aca_add_encoded(b, tenant, false);
	}
	return r;
}

json_t *aca_link(struct call *c, const char *identifier, const char *extra)
{
	cleanup(buf_fini) struct buf b = BUF_INIT(64U << 10);
	int r = aca_add_base(&b, c, 0);
	r |= aca_add_query(&b, c);
	if (identifier != NULL) {
		r |= buf_add_str(&b, "&identifier=");
		r |= aca_add_encoded(&b, identifier, false);
	}
	r |= buf_add_str(&b, extra);
	return r < 0 ? json_null() : json_string(buf_str(&b));
}

/* --- JSON ------------------------------------------------------------------------------------- */

json_t *aca_string(const char *bytes, size_t len)
{
	return json_text_string(bytes, len);
}

json_t *aca_text(const char *text)
{
	return aca_string(text, strlen(text));
}

json_t *aca_time(int64_t wall_us)
{
	char text[CLOCK_RFC3339_BYTES];
	return json_string(clock_rfc3339(wall_us, 7, text));
}
