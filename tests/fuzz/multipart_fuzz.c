/* Any body, cut anywhere, gives the same parts and data as when it comes in one piece. The first
 * bytes choose the cuts. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "http/multipart.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CUTS 8

struct record {
	uint64_t hash;
	unsigned parts, ends;
};

static void mix(struct record *r, const char *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		r->hash = (r->hash ^ (unsigned char)bytes[i]) * 1099511628211U;
	}
}

static int on_part(void *ctx, const char *name, const char *filename)
{
	struct record *r = ctx;
	if (r->parts++ != r->ends) {
		abort(); /* a part begins before the last one ended */
	}
	mix(r, name != NULL ? name : "-", name != NULL ? strlen(name) + 1 : 1);
	mix(r, filename != NULL ? filename : "-", filename != NULL ? strlen(filename) + 1 : 1);
	return 0;
}

static int on_data(void *ctx, const char *bytes, size_t len)
{
	struct record *r = ctx;
	if (len == 0 || r->parts != r->ends + 1) {
		abort();
	}
	mix(r, bytes, len);
	return 0;
}

static int on_end(void *ctx)
{
	struct record *r = ctx;
	r->ends++;
	mix(r, ";", 1);
	return 0;
}

static const struct multipart_sink sink = {on_part, on_data, on_end};

static int feed(struct multipart *m, const uint8_t *data, size_t size)
{
	char *piece = malloc(size);
	if (piece == NULL) {
		abort();
	}
	memcpy(piece, data, size);
	struct err e;
	int r = multipart_feed(m, piece, size, &e);
	free(piece);
	return r;
}

static int read_all(const uint8_t *cuts, const uint8_t *data, size_t size, struct record *out)
{
	struct err e;
	struct multipart m;
	if (multipart_init(&m, "multipart/form-data; boundary=B", &sink, out, &e) < 0) {
		abort();
	}
	int r = 0;
	for (size_t i = 0; r == 0 && cuts != NULL && i < CUTS && size > 0; i++) {
		size_t n = cuts[i] % 16U + 1;
		n = n < size ? n : size;
		r = feed(&m, data, n);
		data += n;
		size -= n;
	}
	if (r == 0 && size > 0) {
		r = feed(&m, data, size);
	}
	if (r == 0) {
		r = multipart_finish(&m, &e);
	}
	multipart_fini(&m);
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < CUTS) {
		return 0;
	}
	struct record whole = {0};
	struct record cut = {0};
	int a = read_all(NULL, data + CUTS, size - CUTS, &whole);
	int b = read_all(data, data + CUTS, size - CUTS, &cut);
	if (a != b || (a == 0 && (whole.hash != cut.hash || whole.ends != cut.ends))) {
		abort();
	}
	return 0;
}
