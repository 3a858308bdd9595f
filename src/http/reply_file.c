/* A file as an answer: conditions, one range, and the bytes as its source has them (RFC 9110, 13
 * and 14). Not by sendfile: what a session's file makes the kernel wait for is not the loop's to
 * wait. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/text.h"
#include "http/internal.h"
#include "http/range.h"

#define HTTP_DATE_BYTES 32
#define ETAG_BYTES 48

/* "Sun, 06 Nov 1994 08:49:37 GMT" */
static void http_date(int64_t wall_us, char out[HTTP_DATE_BYTES])
{
	time_t seconds = wall_us / 1000000;
	struct tm tm;
	if (gmtime_r(&seconds, &tm) == NULL ||
	    strftime(out, HTTP_DATE_BYTES, "%a, %d %b %Y %H:%M:%S GMT", &tm) == 0) {
		out[0] = '\0';
	}
}

/* Whether LIST, an If-None-Match, has TAG; weak comparison (RFC 9110, 8.8.3.2). */
static bool list_has_tag(const char *list, const char *tag)
{
	if (strcmp(list, "*") == 0) {
		return true;
	}
	/* A tag of ours has no comma or quote inside its quotes, so the text is enough. */
	const char *hit = strstr(list, tag);
	return hit != NULL;
}

/* If-Range: the range counts only when what the client has is still the same. */
static bool range_applies(struct call *c, const char *tag, const char *date)
{
	const char *if_range = call_header(c, MHD_HTTP_HEADER_IF_RANGE);
	return if_range == NULL || strcmp(if_range, tag) == 0 ||
	       (date[0] != '\0' && strcmp(if_range, date) == 0);
}

static struct MHD_Response *empty_response(void)
{
	return MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
}

static void refuse_range(struct exchange *x, uint64_t size)
{
	struct err e;
	char text[48];
	(void)snprintf(text, sizeof(text), "bytes */%" PRIu64, size);
	call_set_header(&x->call, MHD_HTTP_HEADER_CONTENT_RANGE, text);
	(void)err_set(
	    &e, ERR_INVALID, "the range is outside of the file's %" PRIu64 " bytes", size);
	exchange_error(x, MHD_HTTP_RANGE_NOT_SATISFIABLE, &e);
}

static void set_range_header(struct call *c, const struct range *range, uint64_t size)
{
	char text[80];
	(void)snprintf(text, sizeof(text), "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, range->first,
	    range->first + range->len - 1, size);
	call_set_header(c, MHD_HTTP_HEADER_CONTENT_RANGE, text);
}

void call_reply_file(struct call *c, struct call_source *s, uint64_t size_bytes,
    int64_t modified_wall_us, const char *content_type)
{
	struct exchange *x = container_of(c, struct exchange, call);
	s->call = c;
	if (x->answered || x->dead) {
		s->close(s);
		return;
	}
	char tag[ETAG_BYTES];
	char date[HTTP_DATE_BYTES];
	(void)snprintf(tag, sizeof(tag), "\"%" PRIx64 "-%" PRIx64 "\"", size_bytes,
	    (uint64_t)modified_wall_us);
	http_date(modified_wall_us, date);
	call_set_header(c, MHD_HTTP_HEADER_ETAG, tag);
	call_set_header(c, MHD_HTTP_HEADER_LAST_MODIFIED, date);
	call_set_header(c, MHD_HTTP_HEADER_ACCEPT_RANGES, "bytes");

	const char *none_match = call_header(c, MHD_HTTP_HEADER_IF_NONE_MATCH);
	if (none_match != NULL && list_has_tag(none_match, tag)) {
		s->close(s);
		reply_give(x, MHD_HTTP_NOT_MODIFIED, empty_response());
		return;
	}
	struct range range = {.first = 0, .len = size_bytes};
	enum range_kind kind = RANGE_NONE;
	if (c->method == CALL_GET && range_applies(c, tag, date)) {
		kind = range_parse(call_header(c, MHD_HTTP_HEADER_RANGE), size_bytes, &range);
	}
	if (kind == RANGE_OUTSIDE) {
		s->close(s);
		refuse_range(x, size_bytes);
		return;
	}
	if (kind == RANGE_ONE) {
		set_range_header(c, &range, size_bytes);
	}
	call_set_header(c, MHD_HTTP_HEADER_CONTENT_TYPE, content_type);
	if (range.len > 0 && c->method != CALL_HEAD) {
		s->range(s, range.first, range.len);
	}
	reply_give(x, kind == RANGE_ONE ? MHD_HTTP_PARTIAL_CONTENT : MHD_HTTP_OK,
	    range.len > 0 ? reply_from_source(x, s, range.len) : empty_response());
	if (range.len == 0) {
		s->close(s);
	}
}
