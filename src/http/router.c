#include "http/router.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/compiler.h"

enum piece_kind {
	PIECE_REST,
	PIECE_PARAM,
	PIECE_LITERAL
}; /* ordered: the better match is greater */

/* One segment of a pattern. */
struct piece {
	enum piece_kind kind;
	const char *text; /* literal; borrowed from the pattern */
	size_t len;
};

struct entry {
	const struct route *route;
	void *app;
	struct piece pieces[ROUTER_PATTERN_SEGMENTS_MAX];
	size_t count;
	uint32_t rank; /* two bits a segment, the first one highest */
};

struct router {
	struct entry entries[ROUTER_ROUTES_MAX];
	size_t count;
};

/* A request's path, cut up. Each segment is decoded and ends in a NUL. */
struct path {
	char *segments[ROUTER_SEGMENTS_MAX];
	size_t count;
};

static const char *const method_names[] = {
    [CALL_GET] = "GET",
    [CALL_HEAD] = "HEAD",
    [CALL_POST] = "POST",
    [CALL_PUT] = "PUT",
    [CALL_PATCH] = "PATCH",
    [CALL_DELETE] = "DELETE",
    [CALL_OTHER] = "OTHER",
};

const char *method_name(enum call_method method)
{
	return method_names[method];
}

enum call_method method_of(const char *name)
{
	for (size_t i = 0; i < CALL_OTHER; i++) {
		if (strcmp(name, method_names[i]) == 0) {
			return (enum call_method)i;
		}
	}
	return CALL_OTHER;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9') {
		return c - '0';
	}
	if (c >= 'a' && c <= 'f') {
		return c - 'a' + 10;
	}
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

ssize_t percent_decode(const char *text, size_t len, char *out)
{
	size_t n = 0;
	for (size_t i = 0; i < len; i++) {
		char c = text[i];
		if (c == '%') {
			int high = len - i > 2 ? hex_digit(text[i + 1]) : -1;
			int low = len - i > 2 ? hex_digit(text[i + 2]) : -1;
			if (high < 0 || low < 0) {
				return -EINVAL;
			}
			c = (char)(high * 16 + low);
			i += 2;
		}
		if (c == '\0') {
			return -EINVAL;
		}
		out[n++] = c;
	}
	out[n] = '\0';
	return (ssize_t)n;
}

struct router *router_new(void)
{
	return calloc(1, sizeof(struct router));
}

void router_free(struct router *r)
{
	free(r);
}

/* Reads one segment of a pattern. 0, or -EINVAL. */
static int piece_parse(const char *text, size_t len, struct piece *out)
{
	*out = (struct piece){.kind = PIECE_LITERAL, .text = text, .len = len};
	if (len == 0) {
		return -EINVAL;
	}
	if (text[0] != '{') {
		return memchr(text, '{', len) == NULL && memchr(text, '}', len) == NULL ? 0
											: -EINVAL;
	}
	if (len < 3 || text[len - 1] != '}') {
		return -EINVAL;
	}
	bool rest = len >= 5 && memcmp(text + len - 4, "...}", 4) == 0;
	if (rest && len == 5) {
		return -EINVAL; /* without a name */
	}
	out->kind = rest ? PIECE_REST : PIECE_PARAM;
	return 0;
}

static int entry_init(struct entry *e, const struct route *route, void *app)
{
	*e = (struct entry){.route = route, .app = app};
	size_t params = 0;
	const char *at = route->pattern;
	while (*at != '\0') {
		size_t len = strcspn(at, "/");
		bool rest_before = e->count > 0 && e->pieces[e->count - 1].kind == PIECE_REST;
		if (e->count == ROUTER_PATTERN_SEGMENTS_MAX || rest_before) {
			return -EINVAL;
		}
		struct piece *p = &e->pieces[e->count];
		if (piece_parse(at, len, p) < 0) {
			return -EINVAL;
		}
		params += p->kind != PIECE_LITERAL;
		e->rank |= (uint32_t)p->kind << (30 - 2 * e->count);
		e->count++;
		at += len;
		if (*at == '/' && *++at == '\0') {
			return -EINVAL;
		}
	}
	return params <= CALL_PARAMS_MAX && route->handle != NULL ? 0 : -EINVAL;
}

int router_add(struct router *r, const struct route *routes, size_t count, void *app)
{
	if (count > ROUTER_ROUTES_MAX - r->count) {
		return -ENOSPC;
	}
	for (size_t i = 0; i < count; i++) {
		int err = entry_init(&r->entries[r->count + i], &routes[i], app);
		if (err < 0) {
			return err;
		}
	}
	r->count += count;
	return 0;
}

/* Cuts RAW up into segments written to OUT, which has room for strlen(raw) + 1 bytes a copy.
 * Returns 0, -EINVAL, or -ENOENT for more segments than any path of ours has. */
static int path_split(const char *raw, char *out, struct path *p)
{
	p->count = 0;
	while (*raw != '\0') {
		size_t len = strcspn(raw, "/");
		if (len > 0) {
			ssize_t n = percent_decode(raw, len, out);
			if (n < 0) {
				return -EINVAL;
			}
			if (p->count == ROUTER_SEGMENTS_MAX) {
				return -ENOENT;
			}
			p->segments[p->count++] = out;
			out += n + 1;
		}
		raw += len;
		raw += *raw == '/';
	}
	return 0;
}

static bool entry_matches(const struct entry *e, char *const *segments, size_t count)
{
	bool rest = e->count > 0 && e->pieces[e->count - 1].kind == PIECE_REST;
	if (rest ? count < e->count : count != e->count) {
		return false;
	}
	bool any_case = (e->route->flags & ROUTE_ANY_CASE) != 0;
	int (*compare)(const char *, const char *, size_t) = any_case ? strncasecmp : strncmp;
	for (size_t i = 0; i < e->count; i++) {
		const struct piece *p = &e->pieces[i];
		if (p->kind == PIECE_LITERAL &&
		    (compare(p->text, segments[i], p->len) != 0 || segments[i][p->len] != '\0')) {
			return false;
		}
	}
	return true;
}

/* How well a route's method suits: 0 not at all, 1 GET for HEAD, 2 the same. */
static int method_suits(enum call_method offered, enum call_method wanted)
{
	if (offered == wanted) {
		return 2;
	}
	return wanted == CALL_HEAD && offered == CALL_GET ? 1 : 0;
}

/* The best entry for the segments, or NULL with the methods there are in *ALLOWED. */
static const struct entry *find_entry(const struct router *r, enum call_method method,
    char *const *segments, size_t count, unsigned *allowed)
{
	const struct entry *best = NULL;
	int best_suits = 0;
	for (size_t i = 0; i < r->count; i++) {
		const struct entry *e = &r->entries[i];
		if (!entry_matches(e, segments, count)) {
			continue;
		}
		*allowed |= 1U << e->route->method;
		int suits = method_suits(e->route->method, method);
		bool better = best == NULL || e->rank > best->rank ||
			      (e->rank == best->rank && suits > best_suits);
		if (suits > 0 && better) {
			best = e;
			best_suits = suits;
		}
	}
	return best;
}

/* Writes the segments from FIRST on to OUT with a slash between them. */
static void join(char *const *segments, size_t count, char *out)
{
	for (size_t i = 0; i < count; i++) {
		size_t len = strlen(segments[i]);
		memcpy(out, segments[i], len);
		out += len;
		*out++ = i + 1 < count ? '/' : '\0';
	}
}

static void fill_params(const struct entry *e, char *const *segments, size_t count, char *joined,
    struct route_match *out)
{
	size_t n = 0;
	for (size_t i = 0; i < e->count; i++) {
		if (e->pieces[i].kind == PIECE_PARAM) {
			out->params[n++] = segments[i];
		} else if (e->pieces[i].kind == PIECE_REST) {
			join(segments + i, count - i, joined);
			out->params[n++] = joined;
		}
	}
}

/* Tries the routes behind START segments; with and without "identifier/{id}" in front. */
static int try_from(const struct router *r, enum call_method method, const struct path *p,
    size_t start, char *joined, struct route_match *out)
{
	char *const *segments = p->segments + start;
	size_t count = p->count - start;
	bool has_id = count >= 2 && strcmp(segments[0], "identifier") == 0;
	for (size_t skip = has_id ? 2 : 0;; skip = 0) {
		unsigned allowed = 0;
		const struct entry *e = find_entry(
		    r, method, segments + skip, count - skip, &allowed);
		if (allowed != 0) {
			out->path_identifier = skip > 0 ? segments[1] : NULL;
			out->allowed = allowed;
			if (e == NULL) {
				return -ENOTSUP;
			}
			out->route = e->route;
			out->app = e->app;
			fill_params(e, segments + skip, count - skip, joined, out);
			return 0;
		}
		if (skip == 0) {
			return -ENOENT;
		}
	}
}

static int find_split(const struct router *r, enum call_method method, const struct path *p,
    char *joined, struct route_match *out)
{
	for (size_t start = p->count; start-- > 0;) {
		/* Resource names of Azure are compared without case. */
		if (start + 1 >= p->count || strcasecmp(p->segments[start], "sessionPools") != 0) {
			continue;
		}
		int err = try_from(r, method, p, start + 2, joined, out);
		if (err != -ENOENT) {
			out->pool = p->segments[start + 1];
			return err;
		}
	}
	return try_from(r, method, p, 0, joined, out);
}

int router_find(
    const struct router *r, enum call_method method, const char *path, struct route_match *out)
{
	*out = (struct route_match){0};
	if (path[0] != '/') {
		return -EINVAL;
	}
	/* Three texts of at most the path's length: all of it decoded, cut up, and {rest...}
	 * joined. */
	size_t room = strlen(path) + 1;
	char *text = malloc(3 * room);
	if (text == NULL) {
		return -ENOMEM;
	}
	struct path p;
	int err = percent_decode(path, room - 1, text) < 0 ? -EINVAL
							   : path_split(path, text + room, &p);
	if (err == -EINVAL) {
		free(text);
		return err;
	}
	if (err == 0) {
		err = find_split(r, method, &p, text + 2 * room, out);
	}
	out->text = text;
	out->path = text;
	return err;
}

void route_match_fini(struct route_match *m)
{
	if (m != NULL) {
		free(m->text);
		*m = (struct route_match){0};
	}
}
