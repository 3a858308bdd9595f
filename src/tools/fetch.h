/*
 * fetch: HTTP requests on the event loop, with libcurl.
 *
 * http and https only; redirects are not followed; no proxy, no cookies, no credentials but the
 * headers that are given; certificates are checked.
 *
 * Invariant: DONE is called exactly once, unless fetch_cancel was called before, and never before
 * fetch_start returns.
 */
#ifndef TOOLS_FETCH_H
#define TOOLS_FETCH_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/buf.h"
#include "base/err.h"

#define FETCHES_MAX 1024

struct fetcher;
struct fetch;

struct fetcher *fetcher_new(uv_loop_t *loop);

struct fetch_result {
	const struct err *e;      /* it did not come to an answer, or not to its end; else NULL */
	long status;              /* 0: there was no answer */
	const char *content_type; /* "" when there is none */
	const struct buf *body;   /* what was kept */
};

/* All borrowed for the call. */
struct fetch_options {
	const char *method;
	const char *url;
	const json_t *headers; /* {name: text} or NULL */
	const char *body;      /* NULL: none */
	size_t body_len;
	uint64_t timeout_ms; /* of the whole; 0: none, only of connecting */
	size_t max_bytes;    /* of the answer's body; past it, ERR_TOO_LARGE */
	/* Called with what has come since; then nothing is kept. False ends it: ERR_TOO_LARGE. */
	bool (*on_bytes)(void *ctx, const char *bytes, size_t len);
	/* Called once the head of the answer is there. */
	void (*on_head)(void *ctx, long status, const char *content_type);
	void (*done)(void *ctx, const struct fetch_result *result);
	void *ctx;
};

/* NULL with E. */
struct fetch *fetch_start(struct fetcher *f, const struct fetch_options *o, struct err *e);
/* NULL is allowed. */
void fetch_cancel(struct fetch *f);
/* A header of the answer, in on_head or in done; borrowed until then is over; NULL. */
const char *fetch_header(const struct fetch *f, const char *name);

/* Adds TEXT to OUT with all but the unreserved characters (RFC 3986) as %XX. As buf_add. */
int fetch_escape(const char *text, size_t len, struct buf *out);

#endif
