/*
 * A store of approvals on the command line, for approval_postgres_test.py:
 *
 *     approval_store_tool_test URL open            opens it
 *     approval_store_tool_test URL write N         writes the lines 1 to N, many at once, each as
 *                                                  often as it takes; prints the number of each
 *                                                  that it was told is written
 *     approval_store_tool_test URL watch           prints what has changed ("*" for all) until its
 *                                                  standard input ends
 *
 * Prints "ready" when it is open; exit status 1 with the message on standard error.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "approval_lines.h"
#include "approvals/store.h"
#include "base/text.h"

#define AT_ONCE 64

struct tool {
	uv_loop_t loop;
	struct approval_store *store;
	uint64_t next, last;
	uint32_t waiting;
};

struct write {
	struct tool *tool;
	uint64_t number;
	uv_timer_t again;
};

static void say(const char *text)
{
	(void)printf("%s\n", text);
	(void)fflush(stdout);
}

static void on_changed(void *ctx, const char *id)
{
	if (*(const bool *)ctx) {
		say(id[0] != '\0' ? id : "*");
	}
}

static void on_written(void *ctx, const json_t *answer, const struct err *e);

static void write_line(struct write *w)
{
	char text[32];
	(void)snprintf(text, sizeof(text), "line-%" PRIu64, w->number);
	json_t *in = json_pack("{s:I, s:s}", "number", (json_int_t)w->number, "text", text);
	if (approval_store_write(w->tool->store, lines_add_once, in, on_written, w) == NULL) {
		exit(3);
	}
}

static void write_next(struct write *w)
{
	if (w->tool->next <= w->tool->last) {
		w->number = w->tool->next++;
		write_line(w);
		return;
	}
	w->tool->waiting--;
	uv_close((uv_handle_t *)&w->again, NULL);
}

static void on_again(uv_timer_t *timer)
{
	write_line(timer->data);
}

static void on_written(void *ctx, const json_t *answer, const struct err *e)
{
	struct write *w = ctx;
	if (e != NULL && e->code != ERR_UNAVAILABLE && e->code != ERR_BUSY &&
	    e->code != ERR_UNSURE) {
		(void)fprintf(stderr, "%s\n", e->text);
		exit(1);
	}
	if (e != NULL) {
		(void)uv_timer_start(&w->again, on_again, 20, 0);
		return;
	}
	(void)printf(
	    "%" JSON_INTEGER_FORMAT "\n", json_integer_value(json_object_get(answer, "number")));
	(void)fflush(stdout);
	write_next(w);
}

static void write_all(struct tool *t)
{
	static struct write writes[AT_ONCE];
	t->next = 1;
	for (size_t i = 0; i < AT_ONCE; i++) {
		writes[i].tool = t;
		(void)uv_timer_init(&t->loop, &writes[i].again);
		writes[i].again.data = &writes[i];
		t->waiting++;
		write_next(&writes[i]);
	}
	while (t->waiting > 0) {
		(void)uv_run(&t->loop, UV_RUN_ONCE);
	}
}

static void on_input(uv_poll_t *h, int status, int events)
{
	(void)status;
	(void)events;
	uv_stop(h->loop);
}

static void watch(struct tool *t)
{
	uv_poll_t input;
	(void)uv_poll_init(&t->loop, &input, 0);
	(void)uv_poll_start(&input, UV_READABLE | UV_DISCONNECT, on_input);
	(void)uv_run(&t->loop, UV_RUN_DEFAULT);
	uv_close((uv_handle_t *)&input, NULL);
	(void)uv_run(&t->loop, UV_RUN_NOWAIT);
}

int main(int argc, char **argv)
{
	static struct tool t;
	struct err e = {0};
	bool tells = argc == 3 && strcmp(argv[2], "watch") == 0;
	if (argc < 3 || (argc == 4 && text_to_u64(argv[3], 1000000, &t.last) < 0)) {
		return 2;
	}
	(void)uv_loop_init(&t.loop);
	t.store = approval_store_new(&t.loop, argv[1], on_changed, &tells, &e);
	if (t.store == NULL) {
		(void)fprintf(stderr, "%s\n", e.text);
		return 1;
	}
	say("ready");
	if (tells) {
		watch(&t);
	} else {
		write_all(&t);
	}
	approval_store_free(t.store);
	(void)uv_run(&t.loop, UV_RUN_DEFAULT);
	return uv_loop_close(&t.loop) == 0 ? 0 : 4;
}
