/*
 * aca_value: what the result slot of an answer holds (`result`, `executionResult`).
 *
 *     last expression     default                     notebook format
 *     none                ""                          ""
 *     None                ""                          null
 *     int, float, bool    JSON number, boolean        its repr
 *     nan, inf            null                        its repr
 *     str                 the text                    its repr
 *     anything else       its text/plain              its text/plain
 *     an image was shown  {"type":"image","format":"png","base64_data":"…"}, the last one's
 *
 * ("No value" is "" and never null: clients put it behind the output as text.)
 */
#ifndef API_ACA_VALUE_H
#define API_ACA_VALUE_H

#include <jansson.h>
#include <stdbool.h>

#include "engine/execution.h"

/* The value of the last expression alone. A new reference. */
json_t *aca_value_json(const struct execution_value *v, bool jupyter);

/* Where the last image is: true with its display and item. */
bool aca_value_image(const struct execution *x, size_t *display, uint32_t *item);

/* The image object of that item. A new reference. */
json_t *aca_value_image_json(const struct display *d, uint32_t item);

/* BYTES in base64. A new reference. */
json_t *aca_value_base64(const char *bytes, size_t len);

/* Adds the repr of a Python string. As buf_add. */
int aca_value_add_repr(struct buf *out, const char *text, size_t len);

#endif
