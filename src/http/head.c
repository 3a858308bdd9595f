/*
 * A request's head, as far as it may be read in two ways.
 *
 * A proxy in front of this server and the server must agree on where a request ends and what it
 * says; where RFC 9112 leaves a reader freedom (bare LF, folded lines, NULs, blanks), attackers
 * have used the difference. libmicrohttpd from 1.0 on refuses these by itself when told to. The
 * versions before it do not, but parse a head in place: each piece of it that they hand over stays
 * where the bytes came in. So whatever is between two pieces and is not what RFC 9112 has there
 * shows in their distance, and head_layout() has no need to see it.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/text.h"
#include "http/internal.h"

#define CRLF_BYTES 2

/* ---- the query ---- */

/* The value of the first parameter NAME, raw, with its length; NULL when absent. */
static const char *query_find(const char *query, const char *name, size_t *len)
{
	size_t name_len = strlen(name);
	while (query != NULL) {
		size_t pair = strcspn(query, "&");
		size_t key = strcspn(query, "=&");
		if (key == name_len && strncasecmp(query, name, key) == 0) {
			size_t skip = key < pair ? key + 1 : key;
			*len = pair - skip;
			return query + skip;
		}
		query = query[pair] == '&' ? query + pair + 1 : NULL;
	}
	return NULL;
}

const char *call_query(struct call *c, const char *name)
{
	struct exchange *x = container_of(c, struct exchange, call);
	size_t len = 0;
	const char *value = query_find(x->query, name, &len);
	if (value == NULL) {
		return NULL;
	}
	struct text_node *node = malloc(sizeof(*node) + len + 1);
	cleanup(text_free) char *raw = strndup(value, len);
	if (node == NULL || raw == NULL) {
		free(node);
		return NULL;
	}
	for (char *at = raw; (at = strchr(at, '+')) != NULL;) {
		*at = ' ';
	}
	if (percent_decode(raw, len, node->text) < 0) {
		memcpy(node->text, raw, len + 1); /* clients that do not encode send a bare '%' */
	}
	node->next = x->texts;
	x->texts = node;
	return node->text;
}

/* ---- fields ---- */

struct fields {
	const char *bad;
	unsigned hosts;
	const char *host;
	bool exact;     /* compare the distances */
	const char *at; /* where the next field line must begin */
};

/* RFC 9110, 5.6.2. */
static bool is_token(const char *text)
{
	static const char allowed[] = "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
				      "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
	return *text != '\0' && text[strspn(text, allowed)] == '\0';
}

static bool has_control(const char *text)
{
	for (const char *c = text; *c != '\0'; c++) {
		if (((unsigned char)*c < ' ' && *c != '\t') || *c == 0x7f) {
			return true;
		}
	}
	return false;
}

static enum MHD_Result on_field(
    void *fields, enum MHD_ValueKind kind, const char *name, const char *value)
{
	(void)kind;
	struct fields *f = fields;
	value = value != NULL ? value : "";
	if (f->exact && (name != f->at || value <= name + strlen(name))) {
		f->bad = "the head has a NUL, a folded line or a line that does not end in CRLF";
		return MHD_NO;
	}
	f->at = value + strlen(value) + CRLF_BYTES;
	if (!is_token(name)) {
		f->bad = "a header's name is not a token";
	} else if (has_control(value)) {
		f->bad = "a header's value has a control character";
	} else if (strcasecmp(name, MHD_HTTP_HEADER_HOST) == 0) {
		f->hosts++;
		f->host = value;
	}
	return f->bad == NULL ? MHD_YES : MHD_NO;
}

/* Whether the request line has nothing between its three parts but a blank each. */
static bool line_is_plain(const struct exchange *x, const char *method, const char *version)
{
	return x->target_at == method + strlen(method) + 1 &&
	       version == x->target_at + x->target_len + 1;
}

static bool ends_after(struct exchange *x, const char *method, const char *last)
{
	const union MHD_ConnectionInfo *info = MHD_get_connection_info(
	    x->mhd, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
	if (info == NULL) {
		return false;
	}
	x->body_at = method + info->header_size;
	return last + CRLF_BYTES == x->body_at;
}

/* ---- the target and Host ---- */

static bool is_target(const char *text)
{
	for (const char *c = text; *c != '\0'; c++) {
		if ((unsigned char)*c <= ' ' || *c == 0x7f) {
			return false;
		}
	}
	return true;
}

/* Cuts the port off that the scheme has anyway. */
static size_t without_port(const char *host, size_t len, const char *port)
{
	size_t tail = strlen(port);
	return len > tail && memcmp(host + len - tail, port, tail) == 0 ? len - tail : len;
}

/* Whether an absolute-form target (RFC 9112, 3.2.2) names HOST; one of another form does. */
static bool names_host(const char *target, const char *host)
{
	bool secure = strncasecmp(target, "https://", 8) == 0;
	if (!secure && strncasecmp(target, "http://", 7) != 0) {
		return true;
	}
	const char *port = secure ? ":443" : ":80";
	const char *authority = target + (secure ? 8 : 7);
	size_t len = without_port(authority, strcspn(authority, "/"), port);
	size_t host_len = without_port(host, strlen(host), port);
	return len == host_len && strncasecmp(host, authority, len) == 0;
}

static const char *check_host(const struct exchange *x, const struct fields *f, const char *version)
{
	bool required = strcmp(version, MHD_HTTP_VERSION_1_0) != 0;
	if (f->hosts > 1 || (required && f->hosts == 0)) {
		return "a request has one Host header, no more and no less";
	}
	if (f->host != NULL && strpbrk(f->host, " \t,/?#@\\") != NULL) {
		return "the Host header is no host";
	}
	if (f->host != NULL && !names_host(x->target, f->host)) {
		return "the request line and the Host header name different hosts";
	}
	return NULL;
}

/* ---- all of it ---- */

const char *head_check(struct exchange *x, const char *method, const char *version)
{
	struct fields f = {
	    .exact = x->http->libmicrohttpd_0, .at = version + strlen(version) + CRLF_BYTES};
	(void)MHD_get_connection_values(x->mhd, MHD_HEADER_KIND, on_field, &f);
	if (f.bad != NULL) {
		return f.bad;
	}
	if (f.exact && (!line_is_plain(x, method, version) || !ends_after(x, method, f.at))) {
		return "the head has a NUL, a blank too many or a line that does not end in CRLF";
	}
	if (!is_target(x->target) || (x->query != NULL && !is_target(x->query))) {
		return "the request's target has a blank or a control character";
	}
	return check_host(x, &f, version);
}

/* A piece that does not begin where the body's bytes do follows a line with a chunk's size, which
 * is still in front of it. A line that came without any byte of its chunk is gone by then: those
 * libmicrohttpd before 1.0 lets pass. */
bool head_chunk_is_sound(const struct exchange *x, const char *data)
{
	if (x->body_at == NULL || data < x->body_at + CRLF_BYTES) {
		return true;
	}
	return data[-1] != '\n' || data[-2] == '\r';
}
