/* Any bytes, cut anywhere, give the same events as when they come in one piece, and never more than
 * fits. The first byte chooses the length of the pieces. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/event_stream.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX_BYTES 64

struct record {
	uint64_t hash;
	unsigned events;
	int result;
};

static void mix(struct record *r, const char *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		r->hash = (r->hash ^ (unsigned char)bytes[i]) * 1099511628211U;
	}
}

static int on_event(void *arg, const char *name, const char *data, size_t len)
{
	struct record *r = arg;
	if (data[len] != '\0' || len > MAX_BYTES || *name == '\0' ||
	    strlen(name) >= EVENT_STREAM_NAME_BYTES) {
		abort();
	}
	mix(r, name, strlen(name) + 1);
	mix(r, data, len + 1);
	return ++r->events == 100 ? 1 : 0;
}

static struct record feed(const uint8_t *data, size_t size, size_t piece)
{
	struct record r = {0};
	struct event_stream s;
	event_stream_init(&s, MAX_BYTES);
	for (size_t at = 0; at < size && r.result == 0; at += piece) {
		size_t n = size - at < piece ? size - at : piece;
		char *bytes = malloc(n); /* of its own, so that a read past it is seen */
		if (bytes == NULL) {
			abort();
		}
		memcpy(bytes, data + at, n);
		r.result = event_stream_feed(&s, bytes, n, on_event, &r);
		free(bytes);
	}
	event_stream_fini(&s);
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2) {
		return 0;
	}
	struct record whole = feed(data + 1, size - 1, size - 1);
	struct record cut = feed(data + 1, size - 1, 1 + (size_t)data[0] % 16);
	if (whole.hash != cut.hash || whole.events != cut.events || whole.result != cut.result) {
		abort();
	}
	return 0;
}
