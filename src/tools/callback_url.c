#include "tools/callback_url.h"

#include <stddef.h>
#include <string.h>
#include <strings.h>

#include "base/compiler.h"

/* Parts of a URL, borrowed from its text. */
struct url {
	bool tls;
	const char *host; /* as it stands, a literal's brackets too */
	size_t host_len;
	unsigned port;
	const char *path; /* "" or beginning with '/' */
	size_t path_len;
	bool has_query;
};

static int refuse(struct err *e, const char *why)
{
	return err_set(e, ERR_INVALID, "the callback's URL %s", why);
}

static bool is_unreserved(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (c != '\0' && strchr("-._~", c) != NULL);
}

static bool is_hex(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* --- host and port -------------------------------------------------------------------------------
 */

static int read_host(struct url *u, const char **at, struct err *e)
{
	u->host = *at;
	if (**at == '[') {
		size_t len = strspn(*at + 1, "0123456789abcdefABCDEF:.");
		if (len == 0 || (*at)[len + 1] != ']') {
			return refuse(e, "has a host that is no address");
		}
		u->host_len = len + 2;
	} else {
		while (is_unreserved((*at)[u->host_len])) {
			u->host_len++;
		}
	}
	*at += u->host_len;
	if (u->host_len == 0) {
		return refuse(e, "names no host");
	}
	return 0;
}

static int read_port(struct url *u, const char **at, struct err *e)
{
	u->port = u->tls ? 443 : 80;
	if (**at != ':') {
		return 0;
	}
	unsigned port = 0;
	size_t digits = 0;
	for (++*at; **at >= '0' && **at <= '9' && digits < 6; digits++, ++*at) {
		port = port * 10 + (unsigned)(**at - '0');
	}
	if (digits == 0 || digits > 5 || port == 0 || port > 65535) {
		return refuse(e, "has a port that is none");
	}
	u->port = port;
	return 0;
}

/* --- path and query ------------------------------------------------------------------------------
 */

/* A slash or a dot that is hidden from a reader who compares texts. */
static bool hides_something(const char *percent)
{
	return (percent[1] == '2' && strchr("eEfF", percent[2]) != NULL) ||
	       (percent[1] == '5' && (percent[2] == 'c' || percent[2] == 'C')) ||
	       (percent[1] == '2' && percent[2] == '5') || percent[1] == '0' || percent[1] == '1';
}

static int check_character(const char *at, bool query, struct err *e)
{
	if (*at == '%') {
		if (!is_hex(at[1]) || !is_hex(at[2])) {
			return refuse(e, "has a '%' without its two digits");
		}
		return !query && hides_something(at)
			   ? refuse(
				 e, "hides '/', '.', '\\', '%' or a control character in its path")
			   : 0;
	}
	bool allowed = is_unreserved(*at) || strchr("!$&'()*+,;=:@/", *at) != NULL ||
		       (query && *at == '?');
	return allowed ? 0 : refuse(e, "has a character that must be written as '%XX'");
}

static int check_segments(const struct url *u, struct err *e)
{
	for (size_t i = 0; i < u->path_len;) {
		size_t len = 0;
		i++; /* the slash */
		while (i + len < u->path_len && u->path[i + len] != '/') {
			len++;
		}
		const char *s = u->path + i;
		if ((len == 1 && s[0] == '.') || (len == 2 && s[0] == '.' && s[1] == '.')) {
			return refuse(e, "has a '.' or '..' in its path");
		}
		if (len == 0 && i < u->path_len) {
			return refuse(e, "has an empty part in its path");
		}
		i += len;
	}
	return 0;
}

static int read_path(struct url *u, const char *at, struct err *e)
{
	if (*at != '\0' && *at != '/' && *at != '?') {
		return refuse(e, *at == '@' || strchr(at, '@') != NULL
				     ? "may not hold a user name"
				     : "has a host with characters that no host has");
	}
	u->path = at;
	for (; *at != '\0' && *at != '?'; at++) {
		if (check_character(at, false, e) < 0) {
			return -1;
		}
	}
	u->path_len = (size_t)(at - u->path);
	u->has_query = *at == '?';
	for (at += u->has_query; *at != '\0'; at++) {
		if (check_character(at, true, e) < 0) {
			return -1;
		}
	}
	return check_segments(u, e);
}

static int parse(struct url *u, const char *url, struct err *e)
{
	*u = (struct url){0};
	if (strlen(url) > CALLBACK_URL_MAX_BYTES) {
		return refuse(e, "is too long");
	}
	u->tls = strncasecmp(url, "https://", 8) == 0;
	if (!u->tls && strncasecmp(url, "http://", 7) != 0) {
		return refuse(e, "must begin with https:// or http://");
	}
	const char *at = url + (u->tls ? 8 : 7);
	return read_host(u, &at, e) < 0 || read_port(u, &at, e) < 0 ? -1 : read_path(u, at, e);
}

/* --- what is asked -------------------------------------------------------------------------------
 */

int callback_url_check(const char *url, struct err *e)
{
	struct url u;
	return parse(&u, url, e);
}

/* Segment by segment: /hooks has /hooks and /hooks/a beneath it, and not /hooks-of-another. */
static bool is_beneath(const struct url *u, const struct url *prefix)
{
	size_t len = prefix->path_len;
	if (len > 0 && prefix->path[len - 1] == '/') {
		len--;
	}
	return u->tls == prefix->tls && u->port == prefix->port &&
	       u->host_len == prefix->host_len &&
	       strncasecmp(u->host, prefix->host, u->host_len) == 0 && u->path_len >= len &&
	       memcmp(u->path, prefix->path, len) == 0 &&
	       (u->path_len == len || u->path[len] == '/');
}

int callback_url_allowed(
    const char *url, const char *const *prefixes, uint32_t count, struct err *e)
{
	struct url u;
	if (parse(&u, url, e) < 0) {
		return -1;
	}
	for (uint32_t i = 0; i < count; i++) {
		struct url prefix;
		struct err ignored;
		if (parse(&prefix, prefixes[i], &ignored) == 0 && !prefix.has_query &&
		    is_beneath(&u, &prefix)) {
			return 0;
		}
	}
	return refuse(e, "is not one that this server may call");
}
