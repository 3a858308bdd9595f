/*
 * A store on the command line, for store_layout_test.py:
 *
 *     store_tool_test DIR list tools|skills|deps|artifacts
 *     store_tool_test DIR put NAME JSON      a skill
 *     store_tool_test DIR require LINE
 *     store_tool_test DIR save NAME INFO     bytes from standard input
 *     store_tool_test DIR load NAME          bytes to standard output
 *     store_tool_test DIR delete NAME        an artifact
 *
 * Prints JSON; exit status 1 with the message on standard error.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "store/store.h"

static const struct store_space own = {NULL, NULL};
static bool called;

static void end(json_t *shown, const struct err *e)
{
	called = true;
	if (e != NULL) {
		(void)fprintf(stderr, "%s\n", e->text);
		exit(1);
	}
	if (shown != NULL) {
		(void)json_dumpf(shown, stdout, JSON_COMPACT | JSON_ENCODE_ANY);
	}
}

static void on_list(void *ctx, json_t *records, uint64_t revision, const struct err *e)
{
	(void)ctx;
	(void)revision;
	end(records, e);
}

static void on_get(void *ctx, json_t *record, const struct err *e)
{
	if (ctx == NULL) {
		end(record, e);
		return;
	}
	/* Load: the record is kept, the bytes follow. */
	*(json_t **)ctx = json_incref(record);
	end(NULL, e);
}

static void on_done(void *ctx, bool changed, const struct err *e)
{
	(void)ctx;
	end(json_boolean(changed), e);
}

static void save(struct store *st, const char *name, const char *info_text)
{
	cleanup(buf_fini) struct buf b = BUF_INIT(STORE_ARTIFACT_MAX_BYTES);
	json_t *info = json_loads(info_text, 0, NULL);
	if (info == NULL || fd_read_all(0, &b) < 0) {
		exit(2);
	}
	struct store_writer *w = store_artifact_write(st, &own, name, info, b.len, on_get, NULL);
	if (w != NULL && b.len > 0) {
		(void)store_writer_add(w, b.data, b.len);
	}
	json_decref(info);
}

static void load(uv_loop_t *loop, struct store *st, const char *name)
{
	json_t *record = NULL;
	struct store_reader *r = store_artifact_read(st, &own, name, on_get, &record);
	while (!called) {
		(void)uv_run(loop, UV_RUN_ONCE);
	}
	json_int_t left = json_integer_value(json_object_get(record, "size"));
	while (left > 0) {
		char piece[4096];
		ssize_t n = store_reader_read(r, piece, sizeof(piece));
		if (n < 0 || fwrite(piece, 1, (size_t)n, stdout) != (size_t)n) {
			exit(3);
		}
		left -= n;
		(void)uv_run(loop, n == 0 ? UV_RUN_ONCE : UV_RUN_NOWAIT);
	}
	json_decref(record);
	store_reader_close(r);
}

static int list(struct store *st, const char *what)
{
	static const char *const kinds[] = {"tools", "skills", "deps"};
	for (int i = 0; i < 3; i++) {
		if (strcmp(what, kinds[i]) == 0) {
			(void)store_list(st, &own, (enum store_kind)i, on_list, NULL);
			return 0;
		}
	}
	(void)store_artifact_list(st, &own, on_list, NULL);
	return 0;
}

static void run(uv_loop_t *loop, struct store *st, int argc, char **argv)
{
	const char *command = argv[2];
	const char *name = argv[3];
	if (strcmp(command, "list") == 0) {
		(void)list(st, name);
	} else if (strcmp(command, "put") == 0 && argc > 4) {
		json_t *record = json_loads(argv[4], 0, NULL);
		(void)store_put(st, &own, STORE_SKILLS, name, record, on_done, NULL);
		json_decref(record);
	} else if (strcmp(command, "require") == 0) {
		json_t *line = json_string(name);
		(void)store_put(st, &own, STORE_DEPS, name, line, on_done, NULL);
		json_decref(line);
	} else if (strcmp(command, "save") == 0 && argc > 4) {
		save(st, name, argv[4]);
	} else if (strcmp(command, "load") == 0) {
		load(loop, st, name);
	} else if (strcmp(command, "remove") == 0) {
		(void)store_delete(st, &own, STORE_SKILLS, name, on_done, NULL);
	} else if (strcmp(command, "delete") == 0) {
		(void)store_artifact_delete(st, &own, name, on_done, NULL);
	} else {
		exit(2);
	}
}

int main(int argc, char **argv)
{
	uv_loop_t loop;
	struct err e = {0};
	if (argc < 4 || uv_loop_init(&loop) < 0) {
		return 2;
	}
	struct store *st = store_new(&loop, &(struct store_config){.dir = argv[1]}, &e);
	if (st == NULL) {
		(void)fprintf(stderr, "%s\n", e.text);
		return 1;
	}
	run(&loop, st, argc, argv);
	(void)uv_run(&loop, UV_RUN_DEFAULT);
	store_free(st);
	(void)uv_run(&loop, UV_RUN_DEFAULT);
	(void)uv_loop_close(&loop);
	return called ? 0 : 3;
}
