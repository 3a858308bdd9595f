/* A request's head: which route it is for, how long its body is, and who may send it. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/text.h"
#include "http/internal.h"

struct head_facts {
	unsigned encodings;
	const char *length, *encoding;
	bool differing; /* two Content-Length that are not the same */
};

static enum MHD_Result on_head_field(
    void *facts, enum MHD_ValueKind kind, const char *name, const char *value)
{
	(void)kind;
	struct head_facts *f = facts;
	if (strcasecmp(name, MHD_HTTP_HEADER_CONTENT_LENGTH) == 0) {
		f->differing |= f->length != NULL && strcmp(f->length, value) != 0;
		f->length = value;
	} else if (strcasecmp(name, MHD_HTTP_HEADER_TRANSFER_ENCODING) == 0) {
		f->encoding = value;
		f->encodings++;
	}
	return MHD_YES;
}

/* How long the body is. NULL, or what is wrong: what two servers in a row could read differently is
 * refused (RFC 9112, 6.3), since a proxy before this one may have read it the other way. */
static const char *read_framing(struct exchange *x)
{
	struct head_facts f = {0};
	(void)MHD_get_connection_values(x->mhd, MHD_HEADER_KIND, on_head_field, &f);
	if (f.encodings > 0) {
		x->body_expected = BODY_UNKNOWN;
		if (f.length == NULL && f.encodings == 1 &&
		    strcasecmp(f.encoding, "chunked") == 0) {
			return NULL;
		}
		return "the only Transfer-Encoding is chunked, once, and without a Content-Length";
	}
	if (f.differing ||
	    (f.length != NULL && text_to_u64(f.length, UINT64_MAX - 1, &x->body_expected) < 0)) {
		return "the Content-Length is not valid";
	}
	return NULL;
}

/* The Allow header of a 405. */
static void add_allow(struct exchange *x)
{
	char list[64] = "";
	size_t len = 0;
	unsigned allowed = x->match.allowed;
	if ((allowed & (1U << CALL_GET)) != 0) {
		allowed |= 1U << CALL_HEAD;
	}
	for (unsigned m = 0; m < CALL_OTHER; m++) {
		if ((allowed & (1U << m)) != 0) {
			int n = snprintf(list + len, sizeof(list) - len, "%s%s",
			    len > 0 ? ", " : "", method_name((enum call_method)m));
			len += (size_t)n;
		}
	}
	call_set_header(&x->call, MHD_HTTP_HEADER_ALLOW, list);
}

/* The path of an absolute-form target (RFC 9112, 3.2.2), else URL itself. */
static const char *path_of(const char *url)
{
	if (strncasecmp(url, "http://", 7) != 0 && strncasecmp(url, "https://", 8) != 0) {
		return url;
	}
	const char *path = strchr(strchr(url, ':') + 3, '/');
	return path != NULL ? path : "/";
}

/* BAD: what is wrong with the head in any case, or NULL. */
static int find_route(struct exchange *x, const char *bad)
{
	struct call *c = &x->call;
	int err = router_find(x->http->router, c->method, path_of(x->target), &x->match);
	c->path = x->match.path != NULL ? x->match.path : "";
	c->pool = x->match.pool;
	c->path_identifier = x->match.path_identifier;
	c->route = x->match.route;
	c->app = x->match.app;
	memcpy(c->params, x->match.params, sizeof(c->params));
	bool bad_query = x->query != NULL && strstr(x->query, "%00") != NULL;
	if (bad != NULL) {
		exchange_refuse(x, MHD_HTTP_BAD_REQUEST, ERR_INVALID, "%s", bad);
	} else if (err == -EINVAL || bad_query) {
		exchange_refuse(x, MHD_HTTP_BAD_REQUEST, ERR_INVALID,
		    "the request's path or query has a bad percent-encoding");
	} else if (err == -ENOENT) {
		exchange_refuse(
		    x, MHD_HTTP_NOT_FOUND, ERR_NOT_FOUND, "there is nothing at this path");
	} else if (err == -ENOTSUP) {
		add_allow(x);
		exchange_refuse(x, MHD_HTTP_METHOD_NOT_ALLOWED, ERR_UNSUPPORTED,
		    "this path does not take this method");
	} else if (err < 0) {
		exchange_refuse(x, MHD_HTTP_INTERNAL_SERVER_ERROR, ERR_INTERNAL, "out of memory");
	}
	return x->answered ? -1 : 0;
}

/* Whether a good token stands where the route wants it. */
static bool is_spelt_as_wanted(const struct exchange *x, const char *header)
{
	bool exact = (x->call.route->flags & ROUTE_EXACT_BEARER) != 0;
	return !exact || auth_is_disabled(x->http->auth) ||
	       (strncmp(header, "Bearer ", 7) == 0 && header[7] != ' ' && header[7] != '\t');
}

static int authenticate(struct exchange *x)
{
	struct call *c = &x->call;
	if (c->route->role == ROLE_NONE) {
		return 0;
	}
	const char *header = call_header(c, MHD_HTTP_HEADER_AUTHORIZATION);
	enum auth_result r = x->http->auth != NULL
				 ? auth_check(x->http->auth, header, clock_wall_us(), &c->principal)
				 : AUTH_UNKNOWN;
	if (r == AUTH_OK && !is_spelt_as_wanted(x, header)) {
		r = AUTH_MALFORMED;
	}
	if (r != AUTH_OK) {
		call_set_header(c, MHD_HTTP_HEADER_WWW_AUTHENTICATE, "Bearer");
		exchange_refuse(x, MHD_HTTP_UNAUTHORIZED, ERR_DENIED, "%s", auth_result_text(r));
		return -1;
	}
	const char *pool = c->pool != NULL ? c->pool : x->http->default_pool;
	if (c->principal->role < c->route->role) {
		exchange_refuse(
		    x, MHD_HTTP_FORBIDDEN, ERR_DENIED, "the token's role does not allow this");
		return -1;
	}
	if (c->principal->pool != NULL && strcmp(c->principal->pool, pool) != 0) {
		exchange_refuse(x, MHD_HTTP_FORBIDDEN, ERR_DENIED, "the token is for another pool");
		return -1;
	}
	return 0;
}

/* The last line counts: a proxy that adds one of its own leaves the client's in front of it. */
static enum MHD_Result on_forwarded(
    void *last, enum MHD_ValueKind kind, const char *name, const char *value)
{
	(void)kind;
	if (strcasecmp(name, "X-Forwarded-For") == 0) {
		*(const char **)last = value;
	}
	return MHD_YES;
}

/* Whose share the call's is: with a token the token's, with none the address's. */
static void find_holder(struct exchange *x)
{
	struct http *h = x->http;
	struct call *c = &x->call;
	if (c->principal != &auth_nobody && !auth_is_disabled(h->auth)) {
		c->holder = c->principal->name;
		return;
	}
	const char *forwarded = NULL;
	(void)MHD_get_connection_values(x->mhd, MHD_HEADER_KIND, on_forwarded, &forwarded);
	struct peer p = peer_forwarded(&h->proxies, x->conn->peer, forwarded);
	peer_name(&p, x->address);
	c->holder = x->address;
}

/* Of the open calls. What needs no token is answered at once and holds nothing. */
static int take_place(struct exchange *x)
{
	if (x->call.route->role == ROLE_NONE) {
		return 0;
	}
	int err = quota_charge(&x->http->admitted, x->call.holder, 1);
	if (err == -EDQUOT) {
		exchange_refuse(x, MHD_HTTP_TOO_MANY_REQUESTS, ERR_BUSY,
		    "the server has as many open requests of yours as it may");
		return -1;
	}
	if (err < 0) {
		exchange_refuse(x, MHD_HTTP_INTERNAL_SERVER_ERROR, ERR_INTERNAL, "out of memory");
		return -1;
	}
	x->admitted = true;
	conn_admit(x->conn);
	return 0;
}

int admit(struct exchange *x, const char *bad)
{
	const char *framing = read_framing(x);
	bad = bad != NULL ? bad : framing;
	x->must_close = bad != NULL;
	if (find_route(x, bad) < 0 || authenticate(x) < 0) {
		return -1;
	}
	find_holder(x);
	return take_place(x);
}
