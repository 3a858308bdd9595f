/* Results as text, the long ones on a thread. */
#include <stdlib.h>

#include "codemode/internal.h"

#define SHORT_MAX 200 /* of an array */
#define TEXT_MAX_BYTES (512U << 20)

struct codemode_text {
	uv_work_t work;
	json_t *result;
	codemode_write_fn write;
	codemode_text_fn fn; /* NULL: given up */
	void *ctx;
	struct buf text;
	int failed;
};

static void run(uv_work_t *work)
{
	struct codemode_text *t = container_of(work, struct codemode_text, work);
	t->failed = t->write(&t->text, t->result);
	json_decref(t->result);
}

static void end(uv_work_t *work, int status)
{
	(void)status;
	struct codemode_text *t = container_of(work, struct codemode_text, work);
	if (t->fn != NULL) {
		t->fn(t->ctx, t->failed < 0 ? NULL : &t->text);
	}
	buf_fini(&t->text);
	free(t);
}

struct codemode_text *codemode_text(struct codemode *m, const json_t *result,
    codemode_write_fn write, codemode_text_fn fn, void *ctx)
{
	struct codemode_text *t = json_array_size(result) > SHORT_MAX ? calloc(1, sizeof(*t))
								      : NULL;
	if (t == NULL) {
		cleanup(buf_fini) struct buf text = BUF_INIT(TEXT_MAX_BYTES);
		int r = write(&text, result);
		fn(ctx, r < 0 ? NULL : &text);
		return NULL;
	}
	t->result = json_incref((json_t *)(uintptr_t)result);
	t->write = write;
	t->fn = fn;
	t->ctx = ctx;
	t->text = BUF_INIT(TEXT_MAX_BYTES);
	(void)uv_queue_work(m->loop, &t->work, run, end);
	return t;
}

void codemode_text_cancel(struct codemode_text *t)
{
	if (t != NULL) {
		t->fn = NULL;
	}
}
