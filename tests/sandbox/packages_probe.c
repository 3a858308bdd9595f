/*
 * A gateway with a keeper and no HTTP, for what only the server's own parts ask of the engine:
 * directories of packages in sessions.
 *
 *     packages_probe KEEPER namespaces|landlock DIRECTORY UID
 *
 * DIRECTORY has the directories "data" and "packages". Each line of standard input is a JSON object
 * and is answered with one:
 *
 *     {"set": TENANT, "names": [...]}               {} or {"error"}
 *     {"run": IDENTIFIER, "tenant", "code"}         {"verdict", "text", "out", "traceback"}
 *     {"start": IDENTIFIER, "tenant", "code"}       {}; "finish" waits for it
 *     {"finish": IDENTIFIER, "tenant"}              as run
 *     {"wait": IDENTIFIER, "tenant"}                {} or {"error"}: it has its packages
 *     {"delete": IDENTIFIER, "tenant"}              {}
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "base/text.h"
#include "engine/packages.h"
#include "gateway/gateway.h"

static uv_loop_t loop;
static struct gateway *gateway;
static struct execution *started;

static _Noreturn void die(const char *why)
{
	(void)fprintf(stderr, "packages_probe: %s\n", why);
	exit(2);
}

static void on_keeper(void *ctx, const struct ipc_keeper_ready *ready, const struct err *e)
{
	(void)ready;
	if (e != NULL) {
		die(e->text);
	}
	*(bool *)ctx = true;
}

static void start(char **argv)
{
	static struct gateway_config c;
	static char data[4096];
	static char packages[4096];
	uint64_t uid;
	if (text_to_u64(argv[4], UINT32_MAX, &uid) < 0) {
		die("UID is no number");
	}
	(void)snprintf(data, sizeof(data), "%s/data", argv[3]);
	(void)snprintf(packages, sizeof(packages), "%s/packages", argv[3]);
	c.keeper_path = argv[1];
	c.engine = (struct engine_config){
	    .pool_count = 1, .grace_ms = 2000, .finished_keep_ms = 60000};
	c.engine.pools[0] = (struct pool_config){
	    .name = "default",
	    .max_sessions = 32,
	    .ready_sessions = 2,
	    .cooldown_ms = 60000,
	    .execution_time_ms = 30000,
	    .output_max_bytes = 1U << 20,
	    .limits = {.memory_bytes = 512U << 20,
		.file_space_bytes = 64U << 20,
		.cpu_millis = 1000,
		.pids = 64,
		.open_files = 256},
	};
	c.keeper = (struct ipc_keeper_config){
	    .isolation = strcmp(argv[2], "landlock") == 0,
	    .uid = (uint32_t)uid,
	    .gid = (uint32_t)uid,
	    .work_dir = data,
	    .packages_dir = packages,
	    .pools = {c.engine.pools[0].limits},
	    .pool_count = 1,
	};
	struct err e;
	bool ready = false;
	(void)uv_loop_init(&loop);
	gateway = gateway_new(&loop, &c, on_keeper, &ready, &e);
	if (gateway == NULL) {
		die(e.text);
	}
	while (!ready) {
		(void)uv_run(&loop, UV_RUN_ONCE);
	}
}

static const char *text_of(const json_t *j, const char *key)
{
	const char *text = json_string_value(json_object_get(j, key));
	return text != NULL ? text : "";
}

static struct session *session_of(const json_t *j, const char *verb)
{
	struct err e;
	struct engine *en = gateway_engine(gateway);
	struct session *s = engine_session_open(
	    engine_pool(en, NULL), text_of(j, "tenant"), text_of(j, verb), &e);
	if (s == NULL) {
		die(e.text);
	}
	return s;
}

static struct execution *execute(const json_t *j, const char *verb)
{
	const char *code = text_of(j, "code");
	struct execution_request r = {.code = {code, strlen(code)}};
	struct err e;
	struct execution *x = engine_execute(session_of(j, verb), &r, &e);
	if (x == NULL) {
		die(e.text);
	}
	return x;
}

/* Takes over X. */
static json_t *outcome(struct execution *x)
{
	while (!execution_is_final(x)) {
		(void)uv_run(&loop, UV_RUN_ONCE);
	}
	json_t *j = json_pack("{s:s, s:s#, s:s#, s:s#}", "verdict", verdict_name(x->verdict),
	    "text", buf_str(&x->value.text), (int)x->value.text.len, "out", buf_str(&x->out),
	    (int)x->out.len, "traceback", buf_str(&x->value.traceback),
	    (int)x->value.traceback.len);
	execution_unref(x);
	return j;
}

struct waiting {
	struct packages_waiter waiter;
	bool done;
	struct err e;
};

static void on_packages(void *ctx, const struct err *e)
{
	struct waiting *w = ctx;
	w->done = true;
	if (e != NULL) {
		w->e = *e;
	}
}

static json_t *error_of(const struct err *e)
{
	return e->code == ERR_NONE ? json_object() : json_pack("{s:s}", "error", e->text);
}

static json_t *wait_for(const json_t *j)
{
	struct session *s = session_of(j, "wait");
	struct waiting w = {.waiter = {.ready = on_packages}};
	w.waiter.ctx = &w;
	if (s->worker == NULL) {
		die("the session has no worker yet");
	}
	engine_packages_wait(s->worker, &w.waiter);
	while (!w.done) {
		(void)uv_run(&loop, UV_RUN_ONCE);
	}
	return error_of(&w.e);
}

static json_t *set(const json_t *j)
{
	const char *names[64];
	const json_t *list = json_object_get(j, "names");
	unsigned count = 0;
	for (size_t i = 0; i < json_array_size(list) && i < array_len(names); i++) {
		names[count++] = json_string_value(json_array_get(list, i));
	}
	struct err e = {0};
	(void)engine_packages_set(gateway_engine(gateway), text_of(j, "set"), names, count, &e);
	return error_of(&e);
}

static json_t *answer(const json_t *j)
{
	if (json_object_get(j, "set") != NULL) {
		return set(j);
	}
	if (json_object_get(j, "run") != NULL) {
		return outcome(execute(j, "run"));
	}
	if (json_object_get(j, "start") != NULL) {
		started = execute(j, "start");
		while (started->state == EXECUTION_QUEUED) {
			(void)uv_run(&loop, UV_RUN_ONCE);
		}
		return json_object();
	}
	if (json_object_get(j, "finish") != NULL) {
		return outcome(started);
	}
	if (json_object_get(j, "wait") != NULL) {
		return wait_for(j);
	}
	engine_session_delete(session_of(j, "delete"));
	return json_object();
}

int main(int argc, char **argv)
{
	static char line[1 << 20];
	if (argc != 5) {
		die("four arguments are wanted");
	}
	start(argv);
	(void)printf("{}\n");
	(void)fflush(stdout);
	while (fgets(line, sizeof(line), stdin) != NULL) {
		json_t *j = json_loads(line, 0, NULL);
		json_t *reply = j == NULL ? NULL : answer(j);
		char *text = reply == NULL ? NULL : json_dumps(reply, JSON_COMPACT);
		if (text == NULL) {
			die("no JSON");
		}
		(void)puts(text);
		(void)fflush(stdout);
		free(text);
		json_decref(reply);
		json_decref(j);
	}
	gateway_free(gateway);
	(void)uv_loop_close(&loop);
	return 0;
}
