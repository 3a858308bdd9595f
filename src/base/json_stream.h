/*
 * json_stream: a text that claims to be JSON, read as it comes, and a string of JSON written so.
 *
 * What is JSON goes out as it stands, so that an integer of a thousand digits keeps all of them.
 * What Python writes and other readers refuse is mended: NaN and the infinities become null, a
 * surrogate without its other half becomes U+FFFD. Held between two pieces are twelve bytes at
 * most, and one bit for each level of lists and objects within each other.
 *
 * The bytes are hostile. Functions return 0, or -EINVAL when it is not one JSON text in UTF-8 or
 * deeper than JSON_STREAM_DEPTH_MAX, or what buf_add has; after a failure the stream is not to be
 * used.
 */
#ifndef BASE_JSON_STREAM_H
#define BASE_JSON_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define JSON_STREAM_DEPTH_MAX 1024
#define JSON_STREAM_HELD_MAX 12 /* two halves of a character, "\ud83d\ude00" */

struct json_stream {
	unsigned state; /* enum state of json_stream.c */
	bool in_name;   /* the string is a member's name */
	/* Of a character of several bytes: how many are to come, and between which the next is. */
	unsigned char bytes_due, least, most;
	char held[JSON_STREAM_HELD_MAX]; /* read, and not decided yet */
	size_t held_len;
	uint64_t objects[JSON_STREAM_DEPTH_MAX / 64]; /* of each level: an object, not a list */
	unsigned depth;
};

void json_stream_init(struct json_stream *s);
/* Reads the next bytes. What is decided is added to OUT; NULL: it is only checked. */
int json_stream_add(struct json_stream *s, const char *bytes, size_t len, struct buf *out);
/* There are no more. */
int json_stream_end(struct json_stream *s, struct buf *out);

/* Bytes as the inside of a JSON string, without its quotes, piece by piece: ill-formed UTF-8
 * becomes U+FFFD. Zeroed at the start. */
struct json_quoting {
	char cut[4]; /* the beginning of a character */
	size_t cut_len;
};

/* 0, -EMSGSIZE or -ENOMEM. LAST: a character that is not whole will not become so. */
int json_quoting_add(
    struct json_quoting *q, const char *bytes, size_t len, bool last, struct buf *out);

#endif
