#include "store/redis_url.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/text.h"

#define DB_MAX 65535

static void wipe(char **text)
{
	if (*text != NULL) {
		explicit_bzero(*text, strlen(*text));
	}
	text_free(text);
}

void redis_url_fini(struct redis_url *u)
{
	if (u == NULL) {
		return;
	}
	wipe(&u->password);
	text_free(&u->user);
	text_free(&u->host);
	text_free(&u->path);
	text_free(&u->ca_file);
	text_free(&u->description);
	*u = (struct redis_url){0};
}

static const struct scheme {
	const char *text;
	bool tls;
	bool unix_socket;
} schemes[] = {
    {"redis://", false, false},
    {"rediss://", true, false},
    {"valkey://", false, false},
    {"valkeys://", true, false},
    {"unix://", false, true},
};

static const struct scheme *find_scheme(const char *text)
{
	for (size_t i = 0; i < array_len(schemes); i++) {
		if (strncasecmp(text, schemes[i].text, strlen(schemes[i].text)) == 0) {
			return &schemes[i];
		}
	}
	return NULL;
}

bool redis_url_has_scheme(const char *text)
{
	return find_scheme(text) != NULL;
}

static int hex(char c)
{
	if (c >= '0' && c <= '9') {
		return c - '0';
	}
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The LEN bytes at TEXT with %XX decoded, as a new text. NULL with E, which names WHAT alone. */
static char *decode(const char *text, size_t len, const char *what, struct err *e)
{
	char *out = malloc(len + 1);
	size_t n = 0;
	bool good = out != NULL;
	for (size_t i = 0; good && i < len; i++) {
		int c = (unsigned char)text[i];
		if (c == '%') {
			int high = i + 2 < len ? hex(text[i + 1]) : -1;
			int low = i + 2 < len ? hex(text[i + 2]) : -1;
			c = high >= 0 && low >= 0 ? high * 16 + low : 0;
			i += 2;
		}
		good = c != 0;
		out[n++] = (char)c;
	}
	if (!good) {
		free(out);
		(void)err_set(
		    e, ERR_INVALID, "the Redis URL's %s is not well percent-encoded", what);
		return NULL;
	}
	out[n] = '\0';
	return out;
}

static int parse_bool(const char *name, const char *text, bool *out, struct err *e)
{
	static const char *const yes[] = {"true", "yes", "1", "on"};
	static const char *const no[] = {"false", "no", "0", "off"};
	for (size_t i = 0; i < array_len(yes); i++) {
		if (strcasecmp(text, yes[i]) == 0 || strcasecmp(text, no[i]) == 0) {
			*out = strcasecmp(text, yes[i]) == 0;
			return 0;
		}
	}
	return err_set(e, ERR_INVALID, "the Redis URL's %s must be true or false", name);
}

static int parse_db(const char *text, uint32_t *out, struct err *e)
{
	uint64_t db = 0;
	if (text_to_u64(text, DB_MAX, &db) < 0) {
		return err_set(e, ERR_INVALID, "the Redis URL's database must be a number");
	}
	*out = (uint32_t)db;
	return 0;
}

static int apply_option(struct redis_url *u, const char *name, char **value, struct err *e)
{
	if (strcmp(name, "ssl") == 0 || strcmp(name, "tls") == 0) {
		return parse_bool("ssl", *value, &u->tls, e);
	}
	if (strcmp(name, "db") == 0) {
		return parse_db(*value, &u->db, e);
	}
	if (strcmp(name, "ssl_check_hostname") == 0) {
		return parse_bool(name, *value, &u->verify_host, e);
	}
	if (strcmp(name, "ssl_ca_certs") == 0) {
		text_free(&u->ca_file);
		u->ca_file = steal(value);
		return 0;
	}
	if (strcmp(name, "ssl_cert_reqs") == 0) {
		u->verify = strcasecmp(*value, "none") != 0;
		if (u->verify && strcasecmp(*value, "required") != 0) {
			return err_set(e, ERR_INVALID,
			    "the Redis URL's ssl_cert_reqs must be none or required");
		}
		return 0;
	}
	/* Not the name itself: it may be the rest of a password with a '?' in it. */
	return err_set(e, ERR_INVALID,
	    "the Redis URL has an option that is not one of ssl, db, ssl_cert_reqs, ssl_ca_certs, "
	    "ssl_check_hostname (a '?', '/', '#', '@' or '%%' in a password must be "
	    "percent-encoded)");
}

static int parse_options(struct redis_url *u, const char *text, struct err *e)
{
	while (*text != '\0') {
		size_t len = strcspn(text, "&");
		size_t name_len = strcspn(text, "=&");
		size_t skip = name_len < len ? name_len + 1 : name_len;
		cleanup(text_free) char *name = decode(text, name_len, "option", e);
		cleanup(text_free) char *value = decode(text + skip, len - skip, "option", e);
		if (name == NULL || value == NULL || apply_option(u, name, &value, e) < 0) {
			return -1;
		}
		text += len + (text[len] == '&');
	}
	return 0;
}

/* What stands before the '@': user:password, :password, or user alone. */
static int parse_who(struct redis_url *u, const char *text, size_t len, struct err *e)
{
	const char *colon = memchr(text, ':', len);
	if (colon == NULL) {
		return err_set(e, ERR_INVALID,
		    "the Redis URL must have user:password, or :password, before its '@'");
	}
	size_t user_len = (size_t)(colon - text);
	if (user_len > 0 && (u->user = decode(text, user_len, "user", e)) == NULL) {
		return -1;
	}
	size_t password_len = len - user_len - 1;
	if (password_len > 0) {
		u->password = decode(colon + 1, password_len, "password", e);
		return u->password == NULL ? -1 : 0;
	}
	return user_len == 0
		   ? 0
		   : err_set(e, ERR_INVALID, "the Redis URL has a user without a password");
}

static bool is_host_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       strchr("-._", c) != NULL;
}

static bool is_ip6_char(char c)
{
	return hex(c) >= 0 || c == ':' || c == '.' || c == '%' || is_host_char(c);
}

/* host, host:port, [::1] or [::1]:port. */
static int parse_place(struct redis_url *u, const char *text, size_t len, struct err *e)
{
	bool bracket = len > 0 && *text == '[';
	const char *from = bracket ? text + 1 : text;
	const char *limit = text + len;
	const char *end = from;
	while (end < limit && *end != '\0' && (bracket ? is_ip6_char(*end) : is_host_char(*end))) {
		end++;
	}
	const char *rest = end;
	if (bracket && rest < limit && *rest == ']') {
		rest++;
	} else if (bracket) {
		return err_set(e, ERR_INVALID, "the Redis URL's address lacks its ']'");
	}
	if (end == from || (rest < limit && *rest != ':')) {
		return err_set(e, ERR_INVALID, "the Redis URL has no good host name");
	}
	u->port = REDIS_DEFAULT_PORT;
	if (rest < limit && rest + 1 < limit) {
		cleanup(text_free) char *port = strndup(rest + 1, (size_t)(limit - rest - 1));
		uint64_t number = 0;
		if (port == NULL || text_to_u64(port, UINT16_MAX, &number) < 0 || number == 0) {
			return err_set(e, ERR_INVALID, "the Redis URL's port must be 1 to 65535");
		}
		u->port = (uint16_t)number;
	}
	u->host = strndup(from, (size_t)(end - from));
	return u->host == NULL ? err_set(e, ERR_INTERNAL, "out of memory") : 0;
}

static int describe(struct redis_url *u, struct err *e)
{
	int r;
	if (u->path != NULL) {
		r = asprintf(&u->description, "unix://%s?db=%u", u->path, u->db);
	} else {
		bool ip6 = strchr(u->host, ':') != NULL;
		r = asprintf(&u->description, "%s://%s%s%s:%u/%u", u->tls ? "rediss" : "redis",
		    ip6 ? "[" : "", u->host, ip6 ? "]" : "", u->port, u->db);
	}
	if (r < 0) {
		u->description = NULL;
		return err_set(e, ERR_INTERNAL, "out of memory");
	}
	return 0;
}

/* REST: what follows the '@', up to the options: place[/db], or a socket's path. */
static int parse_rest(
    struct redis_url *u, const struct scheme *s, const char *rest, size_t len, struct err *e)
{
	if (s != NULL && s->unix_socket) {
		if (len == 0 || *rest != '/') {
			return err_set(e, ERR_INVALID, "unix:// must be followed by a path");
		}
		u->path = decode(rest, len, "path", e);
		return u->path == NULL ? -1 : 0;
	}
	const char *slash = memchr(rest, '/', len);
	size_t place_len = slash == NULL ? len : (size_t)(slash - rest);
	if (slash != NULL && place_len + 1 < len) {
		cleanup(text_free) char *db = strndup(slash + 1, len - place_len - 1);
		if (db == NULL || parse_db(db, &u->db, e) < 0) {
			return -1;
		}
	}
	return parse_place(u, rest, place_len, e);
}

static int parse(struct redis_url *u, const char *text, struct err *e)
{
	const struct scheme *s = find_scheme(text);
	if (s == NULL && strstr(text, "://") != NULL) {
		return err_set(
		    e, ERR_INVALID, "the Redis URL must begin with redis://, rediss:// or unix://");
	}
	const char *body = s == NULL ? text : text + strlen(s->text);
	u->tls = s != NULL && s->tls;
	u->verify = u->verify_host = true;
	/* The last '@': a password that was not encoded may hold one. */
	const char *at = strrchr(body, '@');
	const char *rest = at == NULL ? body : at + 1;
	size_t rest_len = strcspn(rest, "?#");
	if (at != NULL && parse_who(u, body, (size_t)(at - body), e) < 0) {
		return -1;
	}
	if (parse_rest(u, s, rest, rest_len, e) < 0) {
		return -1;
	}
	if (rest[rest_len] == '?' && parse_options(u, rest + rest_len + 1, e) < 0) {
		return -1;
	}
	return describe(u, e);
}

int redis_url_parse(const char *text, struct redis_url *u, struct err *e)
{
	struct redis_url made = {0};
	if (text == NULL || *text == '\0' || strlen(text) > REDIS_URL_MAX_BYTES) {
		return err_set(e, ERR_INVALID, "the Redis URL is empty or too long");
	}
	*u = made;
	if (parse(&made, text, e) < 0) {
		redis_url_fini(&made);
		return -1;
	}
	*u = made;
	return 0;
}
