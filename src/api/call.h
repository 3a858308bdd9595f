/*
 * call: one HTTP exchange as a dialect sees it. No HTTP library shows through, so a dialect can be
 * driven by a test or a fuzzer; src/http/ implements this over libmicrohttpd.
 *
 * Life of a call:
 *   1. the router finds the route, authenticates, and calls route->begin when there is one, before
 *      any body is read. begin may answer at once, or return CALL_WAIT and later call_continue().
 *   2. the body: buffered into call->body (ROUTE_BUFFERED), or handed on part by part to
 *      route->upload (ROUTE_MULTIPART).
 *      A route with json has it read as JSON into call->json, on a thread when it is large.
 *   3. route->handle is called with the whole body there. It answers now or later, exactly once.
 *   4. if the client leaves before the call is answered, call->gone(call) is called once. After it,
 *      and after giving the answer, a dialect must not touch the call; a source's call is good for
 *      call_wake until its close. A dialect that waits for something, or holds something from begin
 *      on, sets call->gone and call->ctx.
 *   5. route->on_error may come between begin and handle too (body too large, malformed multipart):
 *      it answers, so it also frees what ctx holds; gone is not called after it.
 *
 * All functions are for the thread of the event loop.
 */
#ifndef API_CALL_H
#define API_CALL_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/json_read.h"

/* CALL_OTHER: any other method. No route has it; only an on_error sees it. */
enum call_method { CALL_GET, CALL_HEAD, CALL_POST, CALL_PUT, CALL_PATCH, CALL_DELETE, CALL_OTHER };

/* What a token allows. Ordered: each includes those before it. */
/* REVIEW sees approvals and decides them, and runs nothing. */
enum role { ROLE_NONE, ROLE_METRICS, ROLE_REVIEW, ROLE_EXECUTE, ROLE_ADMIN };

/* Who is calling. With authentication switched off, name is "anonymous" and role ROLE_ADMIN. */
struct principal {
	const char *name;
	enum role role;
	const char *pool; /* the only pool it may use, or NULL */
	/* Its tenant: it sees the sessions and the store of that one only. NULL: the server's own,
	 * and with ROLE_ADMIN also those of every tenant. */
	const char *prefix;
	bool others_only; /* it may not decide about what it submitted itself */
};

struct call;
struct route;

enum call_next { CALL_GO_ON, CALL_WAIT };

#define CALL_PARAMS_MAX 4

struct call {
	enum call_method method;
	const char *path;            /* percent-decoded, as the client sent it */
	const char *pool;            /* from /sessionPools/{name}/, or NULL */
	const char *path_identifier; /* from /identifier/{id}/, or NULL */
	const char
	    *params[CALL_PARAMS_MAX]; /* the route's {placeholders}, percent-decoded, in order */
	const struct route *route;
	const struct principal *principal;
	/* Whose share (base/quota.h) what the call holds is counted against: the principal's name,
	 * or the client's address where nobody has a name. */
	const char *holder;
	struct buf body; /* ROUTE_BUFFERED: all of it */
	/* Of a route with json; its value is good until handle returns, and for whoever has taken a
	 * reference. */
	struct json_read json;
	void *app; /* what the routes were registered with (struct api *) */

	/* The dialect's: */
	void *ctx;
	void (*gone)(struct call *c);
};

/* The value of a query parameter (name without case; percent-decoded, "+" is a blank; the first one
 * counts), "" when given without one, NULL when absent. Borrowed until the call ends. */
const char *call_query(struct call *c, const char *name);
/* A request header, without case; NULL when absent. */
const char *call_header(struct call *c, const char *name);

/* Headers of the answer, before it is given. NAME and VALUE are copied. A value with control
 * characters is dropped. */
void call_set_header(struct call *c, const char *name, const char *value);

/* The answer: exactly one of these, once. */

/* BODY's bytes are taken over and BODY left empty. CONTENT_TYPE NULL: no body type (204). */
void call_reply(struct call *c, int status, const char *content_type, struct buf *body);
/* Takes over the reference to J. Compact JSON, "application/json; charset=utf-8". */
void call_reply_json(struct call *c, int status, json_t *j);
#define CALL_SOURCE_BROKEN (-2)

/* An answer that comes bit by bit: the writer asks when the socket can take more. */
struct call_source {
	/* Writes up to MAX bytes to OUT: how many, 0 when there is nothing now (call_wake later),
	 * -1 at the end, or CALL_SOURCE_BROKEN when the end cannot be had: the connection is closed
	 * so that the client sees a cut answer. */
	ssize_t (*read)(struct call_source *s, char *out, size_t max);
	/* Of a file: which of its bytes are to be read; before the first of them, and not called
	 * when none are. */
	void (*range)(struct call_source *s, uint64_t first, uint64_t len);
	/* Called once, when all is sent or the client is gone. Frees what S holds. */
	void (*close)(struct call_source *s);
	struct call *call; /* set by call_reply_source; for call_wake until close */
};
void call_reply_source(struct call *c, int status, const char *content_type, struct call_source *s);
/* A file's bytes, of SIZE_BYTES in all. Range requests (single range), HEAD, If-None-Match on the
 * ETag, Accept-Ranges and Last-Modified are answered here. */
void call_reply_file(struct call *c, struct call_source *s, uint64_t size_bytes,
    int64_t modified_wall_us, const char *content_type);
/* There is something to read again. */
void call_wake(struct call *c);

/* After CALL_WAIT from begin, and after call_pause: go on reading the body (unless answered). */
void call_continue(struct call *c);
/* In an upload's part, data or end: no more of the body is read for now. A little may come still.
 */
void call_pause(struct call *c);

/* Multipart uploads, part by part. Only parts with a filename, or named "file", come here. */
struct call_upload {
	/* A part begins. FILENAME may be NULL. 0, or -1 after having answered with an error. */
	int (*part)(struct call *c, const char *field, const char *filename);
	/* Bytes of the part. 0, or -1 after having answered with an error. */
	int (*data)(struct call *c, const char *bytes, size_t len);
	/* The part is complete. 0, or -1 after having answered with an error. */
	int (*end)(struct call *c);
};

/* A route with neither of the first two, and any GET, takes no body: one that is sent is refused.
 */
#define ROUTE_BUFFERED 1U  /* read a body up to max_body_bytes into call->body */
#define ROUTE_MULTIPART 2U /* hand a multipart body to upload */
/* The token is behind "Bearer" spelt so and one space; else the scheme is taken without case. */
#define ROUTE_EXACT_BEARER 4U
#define ROUTE_ANY_CASE 8U /* the pattern's letters may be of either case in the path */

struct route {
	enum call_method method;
	/* Segments without a leading slash; {name} is one segment, {name...} at the end is the
	 * rest. */
	const char *pattern;
	unsigned flags;
	enum role role; /* what the caller needs; ROLE_NONE: no token */
	/* The body, also an empty one, is read as JSON with these flags of jansson; NULL: it is
	 * not.
	 */
	size_t (*json)(struct call *c);
	uint64_t max_body_bytes;                 /* past it: 413 through on_error */
	enum call_next (*begin)(struct call *c); /* may be NULL */
	void (*handle)(struct call *c);
	const struct call_upload *upload;
	/* Answers with E in the dialect's shape; used by the HTTP layer for what it finds itself
	 * (no token: 401, role: 403, body too large: 413, malformed multipart: 400). */
	void (*on_error)(struct call *c, int status, const struct err *e);
};

#endif
