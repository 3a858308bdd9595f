/*
 * json_text: JSON as text, for answers that hold what a session said or a store kept.
 *
 * Bytes of a session are hostile: a string becomes well-formed UTF-8, and what claims to be JSON is
 * read to its end before it is believed. What is JSON is then copied as it stands, so that an
 * integer of a thousand digits keeps all of them and a large value is not built up as a tree.
 *
 * All json_text_add functions return 0, -EMSGSIZE or -ENOMEM as buf_add; on failure OUT is as it
 * was.
 */
#ifndef BASE_JSON_TEXT_H
#define BASE_JSON_TEXT_H

#include <jansson.h>

#include "base/buf.h"
#include "base/json_stream.h"

#define JSON_TEXT_DEPTH_MAX JSON_STREAM_DEPTH_MAX /* of lists and objects within each other */
/* Above any reply that the engine's own bounds on an execution allow. */
#define JSON_TEXT_MAX_BYTES (512U << 20)

/* A string with its quotes. Ill-formed sequences become U+FFFD. */
int json_text_add_string(struct buf *out, const char *bytes, size_t len);

/* The same without the quotes. */
int json_text_add_inside(struct buf *out, const char *bytes, size_t len);

/* A finite number as Python prints a float: 5.0, 0.1. */
int json_text_add_real(struct buf *out, double value);

/* A JSON text, mended as json_stream.h says. -EINVAL when it is not one JSON text in UTF-8, or
 * deeper than JSON_TEXT_DEPTH_MAX. */
int json_text_add_checked(struct buf *out, const char *bytes, size_t len);

/* A tree, compact, each real with as few digits as read back as the same number. -EMSGSIZE, too,
 * when it cannot be printed. */
int json_text_add_tree(struct buf *out, const json_t *j);

/* A JSON string of bytes that need not be UTF-8, as a tree: ill-formed sequences become U+FFFD. */
json_t *json_text_string(const char *bytes, size_t len);

#endif
