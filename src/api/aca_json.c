#include "api/aca_json.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "api/aca.h"

/* 15 digits survive text to double to text; 17 survive double to text to double. */
#define DIGITS_LEAST 15
#define DIGITS_MOST 17

static unsigned digits_of(double value)
{
	for (int digits = DIGITS_LEAST; digits < DIGITS_MOST; digits++) {
		char text[40];
		(void)snprintf(text, sizeof(text), "%.*g", digits, value);
		if (strtod(text, NULL) == value) {
			return (unsigned)digits;
		}
	}
	return DIGITS_MOST;
}

/* The most that a real in J needs, since a tree is printed with one precision. Our replies nest a
 * few levels. */
static unsigned digits_in(json_t *j)
{
	unsigned most = json_is_real(j) ? digits_of(json_real_value(j)) : DIGITS_LEAST;
	const char *key;
	size_t i;
	json_t *child;
	json_object_foreach(j, key, child)
	{
		unsigned digits = digits_in(child);
		most = digits > most ? digits : most;
	}
	json_array_foreach(j, i, child)
	{
		unsigned digits = digits_in(child);
		most = digits > most ? digits : most;
	}
	return most;
}

static int add_bytes(const char *bytes, size_t len, void *out)
{
	return buf_add(out, bytes, len);
}

int aca_json_add(struct buf *out, json_t *j)
{
	size_t flags = JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(digits_in(j));
	size_t before = out->len;
	int r = json_dump_callback(j, add_bytes, out, flags);
	if (r < 0) {
		out->len = before;
		return -EMSGSIZE;
	}
	return 0;
}

void aca_json_reply(struct call *c, int status, json_t *j)
{
	struct buf body = BUF_INIT(ACA_JSON_MAX_BYTES);
	int r = j == NULL ? -ENOMEM : aca_json_add(&body, j);
	json_decref(j);
	if (r < 0) {
		struct aca_problem p;
		(void)aca_problem(&p, ACA_INTERNAL, NULL, "the answer could not be put together");
		aca_fail(c, &p);
	} else {
		call_reply(c, status, "application/json; charset=utf-8", &body);
	}
	buf_fini(&body);
}
