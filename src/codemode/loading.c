/* The bytes of an artifact on their way from the store to whoever asked. */
#include <stdlib.h>

#include "codemode/internal.h"

ssize_t loading_read(struct loading *l, char *out, size_t max)
{
	return store_reader_read(l->reader, out, max);
}

static void on_more(void *ctx)
{
	struct loading *l = ctx;
	l->more(l->more_ctx);
}

void loading_on_more(struct loading *l, void (*more)(void *ctx), void *ctx)
{
	l->more = more;
	l->more_ctx = ctx;
	store_reader_on_more(l->reader, on_more);
}

void loading_close(struct loading *l)
{
	if (l == NULL) {
		return;
	}
	if (l->reader != NULL) {
		store_reader_close(l->reader);
	}
	json_decref(l->record);
	free(l);
}
