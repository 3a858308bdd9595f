#include "cli/url.h"

#include <curl/curl.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>

static void url_free(CURLU **u)
{
	curl_url_cleanup(*u);
}

static void part_free(char **p)
{
	curl_free(*p);
}

static int add_encoded(struct buf *out, const char *text)
{
	cleanup(part_free) char *encoded = curl_easy_escape(NULL, text, 0);
	return encoded == NULL ? -1 : buf_add_str(out, encoded);
}

static int add_segment(struct buf *out, const char *segment, struct err *e)
{
	if (segment[0] == '\0' || strcmp(segment, ".") == 0 || strcmp(segment, "..") == 0) {
		return err_set(e, ERR_INVALID, "'%s' is not a name", segment);
	}
	if (buf_add_char(out, '/') < 0 || add_encoded(out, segment) < 0) {
		return err_set(e, ERR_INVALID, "the name is too long");
	}
	return 0;
}

static bool has_part(CURLU *u, CURLUPart what)
{
	cleanup(part_free) char *part = NULL;
	return curl_url_get(u, what, &part, 0) == CURLUE_OK;
}

static int check_server(CURLU *u, const char *server, struct err *e)
{
	cleanup(part_free) char *scheme = NULL;
	CURLUcode r = curl_url_set(u, CURLUPART_URL, server, 0);
	if (r != CURLUE_OK) {
		return err_set(
		    e, ERR_INVALID, "the server's URL '%s': %s", server, curl_url_strerror(r));
	}
	if (curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK ||
	    (strcmp(scheme, "http") != 0 && strcmp(scheme, "https") != 0)) {
		return err_set(e, ERR_INVALID, "the server's URL must be http or https");
	}
	if (has_part(u, CURLUPART_USER) || has_part(u, CURLUPART_PASSWORD)) {
		return err_set(e, ERR_INVALID,
		    "the server's URL holds a user or password; use --token-file or CARREL_TOKEN");
	}
	if (has_part(u, CURLUPART_QUERY) || has_part(u, CURLUPART_FRAGMENT)) {
		return err_set(e, ERR_INVALID, "the server's URL may not hold a '?' or a '#'");
	}
	return 0;
}

int url_base(struct buf *out, const char *server, const char *pool, struct err *e)
{
	cleanup(url_free) CURLU *u = curl_url();
	cleanup(part_free) char *whole = NULL;
	if (u == NULL) {
		return err_set(e, ERR_INTERNAL, "out of memory");
	}
	/* As browsers do; what is no name of a host is told below. */
	cleanup(buf_fini) struct buf full = BUF_INIT(URL_MAX_BYTES);
	if (strstr(server, "://") == NULL) {
		if (buf_addf(&full, "http://%s", server) < 0) {
			return err_set(e, ERR_INVALID, "the server's URL is too long");
		}
		server = full.data;
	}
	if (check_server(u, server, e) < 0) {
		return -1;
	}
	buf_clear(out);
	if (curl_url_get(u, CURLUPART_URL, &whole, 0) != CURLUE_OK || buf_add_str(out, whole) < 0) {
		return err_set(e, ERR_INVALID, "the server's URL is too long");
	}
	while (out->len > 0 && out->data[out->len - 1] == '/') {
		out->data[--out->len] = '\0';
	}
	if (pool == NULL) {
		return 0;
	}
	if (add_segment(out, "sessionPools", e) < 0 || add_segment(out, pool, e) < 0) {
		return err_prefix(e, "the pool");
	}
	return 0;
}

int url_build(struct buf *out, const char *base, const char *const *segments,
    const struct url_query *query, struct err *e)
{
	buf_clear(out);
	int bad = buf_add_str(out, base);
	for (; *segments != NULL; segments++) {
		if (add_segment(out, *segments, e) < 0) {
			return -1;
		}
	}
	bad |= buf_add_str(out, "?api-version=" URL_API_VERSION);
	for (; query != NULL && query->key != NULL; query++) {
		if (query->value != NULL) {
			bad |= buf_addf(out, "&%s=", query->key);
			bad |= add_encoded(out, query->value);
		}
	}
	return bad != 0 ? err_set(e, ERR_INVALID, "the request's address is too long") : 0;
}

static bool same_part(CURLU *a, CURLU *b, CURLUPart what)
{
	cleanup(part_free) char *x = NULL;
	cleanup(part_free) char *y = NULL;
	return curl_url_get(a, what, &x, CURLU_DEFAULT_PORT) == CURLUE_OK &&
	       curl_url_get(b, what, &y, CURLU_DEFAULT_PORT) == CURLUE_OK && strcasecmp(x, y) == 0;
}

int url_follow(struct buf *out, const char *current, const char *link, struct err *e)
{
	cleanup(url_free) CURLU *from = curl_url();
	cleanup(url_free) CURLU *to = curl_url();
	cleanup(part_free) char *whole = NULL;
	if (from == NULL || to == NULL) {
		return err_set(e, ERR_INTERNAL, "out of memory");
	}
	if (curl_url_set(from, CURLUPART_URL, current, 0) != CURLUE_OK ||
	    curl_url_set(to, CURLUPART_URL, current, 0) != CURLUE_OK ||
	    curl_url_set(to, CURLUPART_URL, link, 0) != CURLUE_OK) {
		return err_set(e, ERR_DENIED, "the server's nextLink is not a URL");
	}
	if (!same_part(from, to, CURLUPART_SCHEME) || !same_part(from, to, CURLUPART_HOST) ||
	    !same_part(from, to, CURLUPART_PORT) || has_part(to, CURLUPART_USER) ||
	    has_part(to, CURLUPART_PASSWORD)) {
		return err_set(e, ERR_DENIED, "the server's nextLink leads to another server");
	}
	buf_clear(out);
	if (curl_url_get(to, CURLUPART_URL, &whole, 0) != CURLUE_OK ||
	    buf_add_str(out, whole) < 0) {
		return err_set(e, ERR_DENIED, "the server's nextLink is too long");
	}
	return 0;
}
