#include "store/discard.h"

#include <stdlib.h>

#include "base/compiler.h"

#define SMALL_MAX 200

struct discarded {
	uv_work_t work;
	void (*fn)(void *what);
	void *what;
};

static void run(uv_work_t *work)
{
	struct discarded *d = container_of(work, struct discarded, work);
	d->fn(d->what);
}

static void end(uv_work_t *work, int status)
{
	(void)status;
	free(container_of(work, struct discarded, work));
}

void discard(uv_loop_t *loop, void (*fn)(void *what), void *what)
{
	if (what == NULL) {
		return;
	}
	struct discarded *d = calloc(1, sizeof(*d));
	if (d == NULL) {
		fn(what);
		return;
	}
	d->fn = fn;
	d->what = what;
	if (uv_queue_work(loop, &d->work, run, end) < 0) {
		free(d);
		fn(what);
	}
}

static void free_json(void *what)
{
	json_decref(what);
}

void discard_json(uv_loop_t *loop, json_t *json)
{
	size_t size = json_is_array(json) ? json_array_size(json) : json_object_size(json);
	if (size <= SMALL_MAX) {
		json_decref(json);
	} else {
		discard(loop, free_json, json);
	}
}
