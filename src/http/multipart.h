/*
 * multipart: multipart/form-data (RFC 7578, RFC 2046 5.1), pushed in as it comes and handed on as
 * it comes: nothing of a part's data is kept but what may be the start of a boundary. Pure: no
 * sockets.
 *
 * Written here although libmicrohttpd has a post processor, because that one does not say where a
 * part ends (two files of one name run together), cuts file names at a quoted quote and knows no
 * filename*, takes a truncated body for a whole one in places, and hands out pieces of its small
 * buffer only. Its ways are not what Azure's clients test against either.
 *
 * - A line that begins with the boundary but goes on otherwise is data, as RFC 2046 and Go have it.
 * - A file name is taken as the bytes sent (UTF-8 with every client of today); "%22" and a
 * backslash before a quote or a backslash are undone (WHATWG and curl), filename* (RFC 5987, UTF-8)
 * wins.
 * - Preamble and epilogue are skipped; where the body's first line has to tell the boundary there
 * is no preamble. A Content-Transfer-Encoding that changes bytes is refused.
 */
#ifndef HTTP_MULTIPART_H
#define HTTP_MULTIPART_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

#define MULTIPART_BOUNDARY_MAX_BYTES 70 /* RFC 2046, 5.1.1 */
#define MULTIPART_HEAD_MAX_BYTES 8192   /* the headers of one part */
#define MULTIPART_PARTS_MAX 1000
#define MULTIPART_PADDING_MAX_BYTES 64 /* blanks behind a boundary */

/* Where the parts go. Each returns 0, or anything else to stop. All of part, data..., end come for
 * each part, in order; data comes with at least one byte. */
struct multipart_sink {
	/* NAME and FILENAME may be NULL. */
	int (*part)(void *ctx, const char *name, const char *filename);
	int (*data)(void *ctx, const char *bytes, size_t len);
	int (*end)(void *ctx);
};

enum multipart_state {
	MULTIPART_OPENING, /* the first line, which has the boundary that the header does not */
	MULTIPART_DATA,    /* of a part, or the preamble */
	MULTIPART_PADDING, /* behind a boundary */
	MULTIPART_HEAD,    /* a part's headers */
	MULTIPART_EPILOGUE,
};

struct multipart {
	const struct multipart_sink *sink;
	void *ctx;
	enum multipart_state state;
	char delimiter[4 + MULTIPART_BOUNDARY_MAX_BYTES + 1]; /* CR LF - - boundary */
	size_t delimiter_len;
	char held[4 + MULTIPART_BOUNDARY_MAX_BYTES]; /* the end of the data so far, if it may be the
							start of a delimiter; shorter than it */
	size_t held_len;
	size_t phantom_len; /* of these, leading ones that were no data: the line break before */
	char padding[MULTIPART_PADDING_MAX_BYTES];
	size_t padding_len;
	struct buf head;
	bool in_part; /* false: preamble */
	unsigned parts;
};

/* Reads the boundary from a Content-Type header (NULL: there was none), or, when that names none,
 * has it taken from the body's first line: Semantic Kernel sends its uploads as application/json.
 * -1 with *E when it names one that is not usable. SINK and CTX are borrowed. */
int multipart_init(struct multipart *m, const char *content_type, const struct multipart_sink *sink,
    void *ctx, struct err *e);
void multipart_fini(struct multipart *m);

/* 0; -1 with *E when it is malformed; 1 when the sink stopped. After -1 and 1 feed no more. */
int multipart_feed(struct multipart *m, const char *bytes, size_t len, struct err *e);

/* The body is over. 0, or -1 with *E when the closing boundary was not there. */
int multipart_finish(const struct multipart *m, struct err *e);

#endif
