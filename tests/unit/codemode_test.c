/* The methods behind the four names: over a real store on files, a fake runner, and an engine whose
 * one session answers what the test lets it. */
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/compiler.h"
#include "base/json_weight.h"
#include "base/text.h"
#include "codemode/codemode.h"
#include "codemode/describe_cache.h"
#include "codemode/internal.h"
#include "codemode/said.h"
#include "engine/packages.h"
#include "fake_parking.h"
#include "fake_runner.h"

#define TURNS_MAX 20000
#define DIRECTORY "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

struct world {
	uv_loop_t loop;
	char dir[64];
	struct engine *engine;
	struct store *store;
	struct runner_link runner;
	struct json_work *json_work;
	struct codemode *codemode;

	/* The parsing session. */
	struct worker *executing;
	uint64_t seq;
	char *code;
	int batches;
	int crashes; /* of workers */

	/* The last answer. */
	int answers, called;
	struct loading *loading; /* that is read */
	enum codemode_error code_of_answer;
	json_t *result;
	struct buf bytes;
};

/* --- the engine's world: a session that reads sources --------------------------------------------
 */

static void op_spawn(void *ctx, struct worker *w)
{
	(void)ctx;
	engine_on_worker_ready(w, -1);
}

static void op_kill(void *ctx, struct worker *w)
{
	(void)ctx;
	struct worker_end end = {.wait_status = 9};
	engine_on_worker_ended(w, &end);
}

static void op_interrupt(void *ctx, struct worker *w)
{
	(void)ctx;
	(void)w;
}

static int op_execute(void *ctx, struct worker *w, struct execution *x)
{
	struct world *world = ctx;
	world->executing = w;
	world->seq = x->seq;
	free(world->code);
	world->code = strndup(buf_str(&x->code), x->code.len);
	world->batches++;
	return 0;
}

static void op_mount(void *ctx, struct worker *w, const char *name)
{
	(void)ctx;
	engine_on_mounted(w, name, NULL);
}

static void op_usage(void *ctx, struct worker *w)
{
	(void)ctx;
	engine_on_usage(w, 0, 0);
}

static void op_release(void *ctx, struct worker *w)
{
	(void)ctx;
	(void)w;
}

static const struct engine_ops ops = {
    .spawn = op_spawn,
    .kill = op_kill,
    .interrupt = op_interrupt,
    .execute = op_execute,
    .mount = op_mount,
    .usage = op_usage,
    .release = op_release,
};

/* What the real one says, from marks in the source. */
static json_t *say(const char *source)
{
	if (strstr(source, "broken") != NULL) {
		return json_pack(
		    "{s:s, s:s}", "error", "SyntaxError", "message", "invalid syntax (line 1)");
	}
	if (strstr(source, "def run") == NULL) {
		return json_pack("{s:s, s:s}", "error", "ValueError", "message",
		    "Skill must define a run() function");
	}
	return json_pack("{s:s, s:[{s:s, s:s, s:s, s:b, s:n}]}", "description", "said of it",
	    "parameters", "name", "target", "type", "string", "description", "", "required", 1,
	    "default");
}

static json_t *skills_in(const char *code)
{
	static const char start[] = "__import__('_carrel').describe_skills(";
	size_t len = strlen(code);
	assert_memory_equal(code, start, sizeof(start) - 1);
	assert_int_equal(code[len - 1], ')');
	json_t *text = json_loadb(
	    code + sizeof(start) - 1, len - sizeof(start), JSON_DECODE_ANY, NULL);
	json_t *skills = json_loads(json_string_value(text), 0, NULL);
	json_decref(text);
	assert_true(json_is_array(skills));
	return skills;
}

/* Answers what the parsing session was asked, or loses it. */
static void parse(struct world *world)
{
	struct worker *w = steal(&world->executing);
	json_t *skills = skills_in(world->code);
	json_t *results = json_array();
	bool crash = false;
	size_t i;
	json_t *skill;
	json_array_foreach(skills, i, skill)
	{
		const char *source = json_string_value(json_object_get(skill, "source"));
		crash = crash || strstr(source, "crash") != NULL;
		(void)json_array_append_new(results, say(source));
	}
	char *text = json_dumps(results, JSON_COMPACT);
	json_decref(skills);
	json_decref(results);
	if (crash) {
		world->crashes++;
		struct worker_end end = {.wait_status = 11};
		engine_on_worker_ended(w, &end);
	} else {
		struct ipc_result r = {
		    .status = IPC_STATUS_OK, .kind = IPC_KIND_STR, .text = {text, strlen(text)}};
		assert_int_equal(engine_on_result(w, world->seq, &r), 0);
	}
	free(text);
}

/* --- asking --------------------------------------------------------------------------------------
 */

/* Reads what there is of the artifact; the answer is there when all of it is. */
static void read_on(void *ctx)
{
	struct world *world = ctx;
	json_int_t size = json_integer_value(json_object_get(world->result, "size"));
	char piece[4096];
	ssize_t n = 1;
	while (world->bytes.len < (size_t)size && n > 0) {
		n = loading_read(world->loading, piece, sizeof(piece));
		assert_true(n >= 0);
		assert_int_equal(buf_add(&world->bytes, piece, (size_t)n), 0);
	}
	if (world->bytes.len == (size_t)size) {
		loading_close(steal(&world->loading));
		world->answers++;
	}
}

static void on_done(
    void *ctx, enum codemode_error code, const json_t *result, struct loading *bytes)
{
	struct world *world = ctx;
	world->called++;
	world->code_of_answer = code;
	json_decref(world->result);
	world->result = json_deep_copy(result);
	buf_clear(&world->bytes);
	world->loading = bytes;
	if (bytes != NULL) {
		loading_on_more(bytes, read_on, world);
		read_on(world);
	} else {
		world->answers++;
	}
}

static void turn(struct world *world)
{
	(void)uv_run(&world->loop, UV_RUN_NOWAIT);
	if (world->executing != NULL) {
		parse(world);
	}
}

/* Until something was answered, or the runner was asked. */
static void run(struct world *world)
{
	int before = world->answers;
	int begun = world->runner.begun;
	for (int i = 0; i < TURNS_MAX && world->answers == before && world->runner.begun == begun;
	     i++) {
		turn(world);
		uv_sleep(world->answers == before && i > 100 ? 1 : 0);
	}
}

static struct codemode_call *begin(struct world *world, const struct store_space *space,
    const char *method, json_t *arguments, const struct buf *bytes, bool system)
{
	int before = world->called;
	struct codemode_call *c = codemode_call(
	    world->codemode, space, method, arguments, bytes, system, on_done, world);
	json_decref(arguments);
	assert_true((c == NULL) == (world->called == before + 1));
	return c;
}

static const struct store_space own = {0};

static enum codemode_error ask(struct world *world, const char *method, json_t *arguments)
{
	int begun = world->runner.begun;
	if ((begin(world, &own, method, arguments, NULL, false) != NULL ||
		world->loading != NULL) &&
	    world->runner.begun == begun) {
		run(world);
	}
	return world->code_of_answer;
}

static const char *message(const struct world *world)
{
	const char *text = json_string_value(json_object_get(world->result, "message"));
	return text != NULL ? text : "(none)";
}

static const char *error(const struct world *world)
{
	const char *text = json_string_value(json_object_get(world->result, "error"));
	return text != NULL ? text : "(none)";
}

static void assert_result(const struct world *world, const char *expected)
{
	json_t *want = json_loads(expected, JSON_DECODE_ANY, NULL);
	assert_non_null(want);
	char *got = json_dumps(world->result, JSON_DECODE_ANY | JSON_ENCODE_ANY);
	if (!json_equal(world->result, want)) {
		fail_msg("got %s, not %s", got, expected);
	}
	free(got);
	json_decref(want);
}

/* --- life ----------------------------------------------------------------------------------------
 */

static const char kept_source[] = "def run(): return 'kept'";

/* A file in which FORMAT's reader said something of KEPT_SOURCE. */
static void write_said(const char *dir, const char *format)
{
	char path[96];
	char name[2 * DESCRIBE_HASH_BYTES + 1];
	unsigned char hash[DESCRIBE_HASH_BYTES];
	json_t *source = json_string(kept_source);
	describe_cache_hash(source, hash);
	text_hex(name, hash, sizeof(hash));
	json_t *all = json_pack("{s:s, s:{s:{s:s, s:[]}}}", "format", format, "said", name,
	    "description", "from the file", "parameters");
	(void)snprintf(path, sizeof(path), "%s/skills.said.json", dir);
	assert_int_equal(json_dump_file(all, path, JSON_COMPACT), 0);
	json_decref(all);
	json_decref(source);
}

/* FORMAT: of what was said before and is kept; NULL: nothing. */
static int setup_with(void **state, const char *format)
{
	struct world *world = calloc(1, sizeof(*world));
	static struct engine_config c;
	struct err e;
	(void)snprintf(world->dir, sizeof(world->dir), "/tmp/codemode-test-XXXXXX");
	assert_non_null(mkdtemp(world->dir));
	(void)uv_loop_init(&world->loop);
	c = (struct engine_config){.pool_count = 1, .grace_ms = 1000, .finished_keep_ms = 3600000};
	c.pools[0] = (struct pool_config){
	    .name = "default",
	    .max_sessions = 1,
	    .ready_sessions = 1,
	    .cooldown_ms = 1000000,
	    .execution_time_ms = 60000,
	    .output_max_bytes = 1024,
	};
	world->engine = engine_new(&c, &ops, world);
	fake_runner_init(&world->runner);
	if (format != NULL) {
		write_said(world->dir, format);
	}
	world->bytes = BUF_INIT(64U << 20);
	struct store_config stored = {.dir = world->dir};
	world->store = store_new(&world->loop, &stored, &e);
	world->json_work = json_work_new(&world->loop);
	struct codemode_config config = {.engine = world->engine,
	    .json_work = world->json_work,
	    .store = world->store,
	    .runner = &world->runner,
	    .approvals = fake_parking_init(),
	    .data_dir = format != NULL ? world->dir : NULL,
	    .allow_runtime_deps = true};
	world->codemode = codemode_new(&world->loop, &config, &e);
	*state = world;
	return world->store == NULL || world->codemode == NULL;
}

static int setup(void **state)
{
	return setup_with(state, NULL);
}

static int setup_same_format(void **state)
{
	return setup_with(state, said_format);
}

static int setup_other_format(void **state)
{
	return setup_with(state, "another");
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *where)
{
	(void)st;
	(void)type;
	(void)where;
	return remove(path);
}

static int teardown(void **state)
{
	struct world *world = *state;
	codemode_stop(world->codemode);
	engine_free(world->engine);
	codemode_free(world->codemode);
	json_work_free(world->json_work);
	store_free(world->store);
	(void)uv_run(&world->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&world->loop), 0);
	fake_runner_fini(&world->runner);
	json_decref(world->result);
	buf_fini(&world->bytes);
	free(world->code);
	(void)nftw(world->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	free(world);
	return 0;
}

static void give_tools(struct world *world, const char *json)
{
	json_t *tools = json_loads(json, 0, NULL);
	json_t *problems = json_array();
	assert_non_null(tools);
	codemode_on_tools(world->codemode, tools, problems);
	json_decref(tools);
	json_decref(problems);
}

/* --- arguments -----------------------------------------------------------------------------------
 */

static void arguments_are_checked_as_python_words_it(void **state)
{
	struct world *world = *state;
	static const struct {
		const char *method;
		const char *arguments;
		const char *error;
		const char *message;
	} cases[] = {
	    {"skills.get", "{}", "TypeError", "skills.get() missing 1 required argument: 'name'"},
	    {"skills.get", "{\"name\": 1}", "TypeError",
		"skills.get() argument 'name' must be str, not int"},
	    {"skills.get", "{\"name\": null}", "TypeError",
		"skills.get() argument 'name' must be str, not None"},
	    {"skills.list", "{\"x\": 1}", "TypeError",
		"skills.list() got an unexpected keyword argument 'x'"},
	    {"tools.search", "{\"query\": \"a\", \"limit\": -1}", "ValueError",
		"tools.search() argument 'limit' must not be negative"},
	    {"tools.search", "{\"query\": \"a\", \"limit\": 1.5}", "TypeError",
		"tools.search() argument 'limit' must be int, not float"},
	    {"tools.call", "{\"tool\": \"a\", \"arguments\": []}", "TypeError",
		"tools.call() argument 'arguments' must be dict, not list"},
	    {"artifacts.save", "{\"name\": \"a\", \"type\": \"x\", \"size\": 0}", "ValueError",
		"The type of an artifact is text, json or bytes"},
	    {"skills.nothing", "{}", "RuntimeError", "There is no method 'skills.nothing'"},
	};
	for (size_t i = 0; i < array_len(cases); i++) {
		json_t *arguments = json_loads(cases[i].arguments, 0, NULL);
		assert_int_not_equal(ask(world, cases[i].method, arguments), CODEMODE_OK);
		assert_string_equal(error(world), cases[i].error);
		assert_string_equal(message(world), cases[i].message);
	}
	/* An optional one may be null as well as absent. */
	assert_int_equal(ask(world, "tools.search", json_pack("{s:s, s:n}", "query", "a", "limit")),
	    CODEMODE_OK);
	assert_result(world, "[]");
}

/* --- skills --------------------------------------------------------------------------------------
 */

static enum codemode_error create(struct world *world, const char *name, const char *source)
{
	return ask(world, "skills.create", json_pack("{s:s, s:s}", "name", name, "source", source));
}

static void a_skill_lives(void **state)
{
	struct world *world = *state;
	static const char scan[] =
	    "{\"name\": \"scan\", \"description\": \"said of it\", \"parameters\": [{\"name\": "
	    "\"target\", \"type\": \"string\", \"description\": \"\", \"required\": true, "
	    "\"default\": null}]}";
	char whole[512];
	(void)snprintf(whole, sizeof(whole), "%.*s, \"source\": \"def run(target): pass\"}",
	    (int)sizeof(scan) - 2, scan);
	char list[512];
	(void)snprintf(list, sizeof(list), "[%s]", scan);

	assert_int_equal(ask(world, "skills.list", NULL), CODEMODE_OK);
	assert_result(world, "[]");
	assert_int_equal(create(world, "scan", "def run(target): pass"), CODEMODE_OK);
	assert_result(world, whole);
	assert_int_equal(ask(world, "skills.list", NULL), CODEMODE_OK);
	assert_result(world, list);
	int batches = world->batches;
	assert_int_equal(ask(world, "skills.get", json_pack("{s:s}", "name", "scan")), CODEMODE_OK);
	assert_result(world, whole);
	assert_int_equal(ask(world, "skills.list", NULL), CODEMODE_OK);
	assert_result(world, list);
	/* What was read once is not read again. */
	assert_int_equal(world->batches, batches);
	assert_int_equal(
	    ask(world, "skills.search", json_pack("{s:s}", "query", "scan")), CODEMODE_OK);
	assert_result(world, list);
	assert_int_equal(
	    ask(world, "skills.delete", json_pack("{s:s}", "name", "scan")), CODEMODE_OK);
	assert_result(world, "true");
	assert_int_equal(
	    ask(world, "skills.delete", json_pack("{s:s}", "name", "scan")), CODEMODE_OK);
	assert_result(world, "false");
	assert_int_equal(ask(world, "skills.get", json_pack("{s:s}", "name", "scan")), CODEMODE_OK);
	assert_result(world, "null");
}

static void what_is_no_skill_is_refused(void **state)
{
	struct world *world = *state;
	assert_int_equal(create(world, "a", "broken ("), CODEMODE_INVALID);
	assert_string_equal(error(world), "SyntaxError");
	assert_string_equal(message(world), "invalid syntax (line 1)");
	assert_int_equal(create(world, "a", "x = 1"), CODEMODE_INVALID);
	assert_string_equal(error(world), "ValueError");
	assert_int_equal(create(world, "list", "def run(): pass"), CODEMODE_INVALID);
	assert_string_equal(error(world), "ValueError");
	assert_int_equal(create(world, "../x", "def run(): pass"), CODEMODE_INVALID);
	assert_int_equal(ask(world, "skills.list", NULL), CODEMODE_OK);
	assert_result(world, "[]");
}

static void a_source_that_kills_the_parser_harms_nobody(void **state)
{
	struct world *world = *state;
	assert_int_equal(create(world, "good", "def run(target): pass"), CODEMODE_OK);
	assert_int_equal(create(world, "bad", "def run(): crash"), CODEMODE_INVALID);
	assert_string_equal(error(world), "SyntaxError");
	assert_int_equal(world->crashes, 2);
	/* It is known from now on. */
	assert_int_equal(create(world, "bad", "def run(): crash"), CODEMODE_INVALID);
	assert_int_equal(world->crashes, 2);

	/* Put there by hand among others, it is left out. */
	char path[128];
	for (int i = 0; i < 5; i++) {
		(void)snprintf(path, sizeof(path), "%s/skills/s%d.py", world->dir, i);
		FILE *f = fopen(path, "we");
		assert_non_null(f);
		(void)fprintf(f, i == 2 ? "def run(): crash %d" : "def run(a): %d", i);
		(void)fclose(f);
	}
	assert_int_equal(ask(world, "skills.list", NULL), CODEMODE_OK);
	assert_int_equal(json_array_size(world->result), 5);
}

static void a_client_cannot_keep_the_parser_out(void **state)
{
	struct world *world = *state;
	struct err e;
	/* The pool's only place is taken. */
	assert_non_null(engine_session_open(&world->engine->pools[0], NULL, "client", &e));
	assert_int_equal(create(world, "good", "def run(target): pass"), CODEMODE_OK);
	assert_null(engine_session_open(&world->engine->pools[0], NULL, "another", &e));
}

/* --- many who look at once -----------------------------------------------------------------------
 */

static void write_skill(const struct world *world, const char *dir, const char *name)
{
	char path[256];
	(void)snprintf(path, sizeof(path), "%s/%s/%s.py", world->dir, dir, name);
	FILE *f = fopen(path, "we");
	assert_non_null(f);
	(void)fprintf(f, "def run(%s): pass\n", name);
	(void)fclose(f);
}

static void run_until(struct world *world, int answers)
{
	for (int i = 0; i < TURNS_MAX && world->answers < answers; i++) {
		turn(world);
		uv_sleep(i > 100 ? 1 : 0);
	}
	assert_int_equal(world->answers, answers);
}

/* One waits for a description while the skills go on changing; each sees what there was when he
 * asked, and who gives up takes nothing from the others. */
static void those_who_come_later_see_what_is_new(void **state)
{
	struct world *world = *state;
	json_t *query = json_pack("{s:s, s:i}", "query", "run said", "limit", 100);
	for (int round = 0; round < 5; round++) {
		char name[32];
		int before = world->answers;
		(void)snprintf(name, sizeof(name), "one%d", round);
		write_skill(world, "skills", name);
		struct codemode_call *first = begin(
		    world, &own, "skills.search", json_incref(query), NULL, false);
		assert_non_null(first);
		for (int i = 0; i < 50 && world->executing == NULL; i++) {
			(void)uv_run(&world->loop, UV_RUN_NOWAIT);
			uv_sleep(1);
		}
		assert_non_null(world->executing);
		/* It is being described now. */
		(void)snprintf(name, sizeof(name), "two%d", round);
		write_skill(world, "skills", name);
		struct codemode_call *second = begin(
		    world, &own, "skills.search", json_incref(query), NULL, false);
		assert_non_null(begin(world, &own, "skills.list", NULL, NULL, false));
		if (round % 2 == 1) {
			codemode_cancel(round == 1 ? first : second);
		}
		run_until(world, before + (round % 2 == 1 ? 2 : 3));
		assert_int_equal(json_array_size(world->result), 2 * (round + 1));
	}
	json_decref(query);
}

static void more_spaces_than_are_kept(void **state)
{
	struct world *world = *state;
	char name[32];
	char dir[64];
	char path[256];
	for (int pass = 0; pass < 2; pass++) {
		for (int i = 0; i < 300; i++) {
			(void)snprintf(name, sizeof(name), "w%d", i);
			(void)snprintf(dir, sizeof(dir), "workspaces/%s/skills", name);
			(void)snprintf(path, sizeof(path), "%s/workspaces/%s", world->dir, name);
			(void)mkdir(path, 0700);
			(void)snprintf(path, sizeof(path), "%s/%s", world->dir, dir);
			(void)mkdir(path, 0700);
			write_skill(world, dir, name);
			const struct store_space space = {.workspace = name};
			if (begin(world, &space, "skills.search", json_pack("{s:s}", "query", name),
				NULL, false) != NULL) {
				run(world);
			}
			assert_int_equal(json_array_size(world->result), 1);
			assert_string_equal(json_string_value(json_object_get(
						json_array_get(world->result, 0), "name")),
			    name);
		}
	}
}

/* All at once, from two prefixes: who has less to look at is not kept for last. */
static void prefixes_take_turns(void **state)
{
	struct world *world = *state;
	static const struct store_space small = {.prefix = "small"};
	char dir[256];
	int before = world->answers;
	static const char *const prefixes[] = {"large", "small"};
	for (size_t i = 0; i < 2; i++) {
		(void)snprintf(dir, sizeof(dir), "%s/%s", world->dir, prefixes[i]);
		(void)mkdir(dir, 0700);
		(void)snprintf(dir, sizeof(dir), "%s/%s/skills", world->dir, prefixes[i]);
		(void)mkdir(dir, 0700);
	}
	write_skill(world, "small/skills", "only");
	for (int i = 0; i < 1000; i++) {
		char name[32];
		(void)snprintf(name, sizeof(name), "s%d", i);
		write_skill(world, "large/skills", name);
	}
	const struct store_space large = {.prefix = "large"};
	for (int i = 0; i < 10; i++) {
		assert_non_null(begin(world, &large, "skills.search",
		    json_pack("{s:s}", "query", "run"), NULL, false));
	}
	assert_non_null(begin(
	    world, &small, "skills.search", json_pack("{s:s}", "query", "only"), NULL, false));
	run_until(world, before + 1);
	assert_string_equal(
	    json_string_value(json_object_get(json_array_get(world->result, 0), "name")), "only");
	run_until(world, before + 11);
}

/* --- artifacts -----------------------------------------------------------------------------------
 */

static enum codemode_error save(
    struct world *world, const struct store_space *space, const char *name, struct buf *bytes)
{
	if (begin(world, space, "artifacts.save",
		json_pack("{s:s, s:s, s:i}", "name", name, "type", "bytes", "size", 0), bytes,
		false) != NULL) {
		run(world);
	}
	return world->code_of_answer;
}

static void artifacts_are_streamed_and_found(void **state)
{
	struct world *world = *state;
	cleanup(buf_fini) struct buf bytes = BUF_INIT(8U << 20);
	for (uint32_t i = 0; i < 700000; i++) {
		assert_int_equal(buf_add(&bytes, &i, sizeof(i)), 0);
	}
	assert_int_equal(save(world, &own, "deep/er/blob", &bytes), CODEMODE_OK);
	assert_string_equal(
	    json_string_value(json_object_get(world->result, "name")), "deep/er/blob");
	assert_int_equal(
	    ask(world, "artifacts.load", json_pack("{s:s}", "name", "deep/er/blob")), CODEMODE_OK);
	assert_int_equal(world->bytes.len, bytes.len);
	assert_memory_equal(world->bytes.data, bytes.data, bytes.len);
	assert_result(world, "{\"type\": \"bytes\", \"size\": 2800000}");
	assert_int_equal(ask(world, "artifacts.exists", json_pack("{s:s}", "name", "deep/er/blob")),
	    CODEMODE_OK);
	assert_result(world, "true");
	assert_int_equal(ask(world, "artifacts.list", NULL), CODEMODE_OK);
	assert_int_equal(json_array_size(world->result), 1);

	buf_clear(&bytes);
	assert_int_equal(save(world, &own, "empty", &bytes), CODEMODE_OK);
	assert_int_equal(
	    ask(world, "artifacts.load", json_pack("{s:s}", "name", "empty")), CODEMODE_OK);
	assert_int_equal(world->bytes.len, 0);

	assert_int_equal(
	    ask(world, "artifacts.delete", json_pack("{s:s}", "name", "empty")), CODEMODE_OK);
	assert_int_equal(
	    ask(world, "artifacts.load", json_pack("{s:s}", "name", "empty")), CODEMODE_NOT_FOUND);
	assert_string_equal(error(world), "ArtifactNotFoundError");
	assert_string_equal(message(world), "Artifact 'empty' not found");
	assert_int_equal(
	    ask(world, "artifacts.load", json_pack("{s:s}", "name", "../x")), CODEMODE_INVALID);
	assert_string_equal(message(world), "Path traversal attempt detected: '../x'");
	assert_int_equal(save(world, &own, "../x", &bytes), CODEMODE_INVALID);
}

static void spaces_do_not_see_each_other(void **state)
{
	struct world *world = *state;
	static const struct store_space spaces[] = {
	    {0}, {.prefix = "tenant-a"}, {.prefix = "tenant-b"}, {.workspace = "w"}};
	cleanup(buf_fini) struct buf bytes = BUF_INIT(16);
	assert_int_equal(buf_add_str(&bytes, "x"), 0);
	for (size_t i = 0; i < array_len(spaces); i++) {
		if (begin(world, &spaces[i], "artifacts.exists", json_pack("{s:s}", "name", "a"),
			NULL, false) != NULL) {
			run(world);
		}
		assert_result(world, "false");
		assert_int_equal(save(world, &spaces[i], "a", &bytes), CODEMODE_OK);
	}
	char longer[200];
	memset(longer, 'a', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	const struct store_space too_long = {.workspace = longer};
	assert_null(begin(world, &too_long, "artifacts.list", NULL, NULL, false));
	assert_int_equal(world->code_of_answer, CODEMODE_INVALID);
}

/* --- tools ---------------------------------------------------------------------------------------
 */

static const char tools_json[] =
    "[{\"name\": \"curl\", \"description\": \"Fetch a URL\", \"tags\": [\"web\"], \"callables\": "
    "[], \"source\": \"file\"},"
    " {\"name\": \"nmap\", \"description\": \"Scan network ports to find open services\", "
    "\"tags\": [], \"callables\": [], \"source\": \"file\"},"
    " {\"name\": \"other\", \"description\": \"Of another tenant\", \"tags\": [], "
    "\"callables\": [], \"source\": \"store\", \"prefix\": \"tenant-b\"}]";

static void call_tool(struct world *world, const char *tool)
{
	assert_non_null(begin(world, &own, "tools.call",
	    json_pack(
		"{s:s, s:s, s:{s:s}}", "tool", tool, "callable", "get", "arguments", "url", "x"),
	    NULL, false));
}

static void tools_are_called_and_fail_by_name(void **state)
{
	struct world *world = *state;
	give_tools(world, tools_json);
	call_tool(world, "curl");
	struct runner_call *c = fake_runner_last(&world->runner);
	assert_string_equal(c->tool, "curl");
	assert_string_equal(c->callable, "get");
	assert_string_equal(json_string_value(json_object_get(c->arguments, "url")), "x");
	fake_runner_answer(&world->runner, json_pack("{s:s}", "text", "hello"));
	assert_result(world, "{\"text\": \"hello\"}");

	static const struct {
		enum err_code code;
		const char *tool;
		const char *text;
		const char *error;
		const char *message;
	} cases[] = {
	    {ERR_INTERNAL, "curl", "Command failed: no", "ToolCallError",
		"Tool 'curl' failed: Command failed: no"},
	    {ERR_TIMEOUT, "curl", "timed out after 1s", "ToolTimeoutError",
		"Tool 'curl' timed out after 1s"},
	    {ERR_NOT_FOUND, "wget", "no such tool", "ToolNotFoundError",
		"Tool 'wget' not found. Available: curl, nmap"},
	    {ERR_NOT_FOUND, "curl", "it has no 'get'", "ToolCallError",
		"Tool 'curl' failed: it has no 'get'"},
	    {ERR_BUSY, "curl", "too many", "TooManyCalls", "Tool 'curl' failed: too many"},
	};
	for (size_t i = 0; i < array_len(cases); i++) {
		call_tool(world, cases[i].tool);
		fake_runner_fail(&world->runner, cases[i].code, cases[i].text);
		assert_string_equal(error(world), cases[i].error);
		assert_string_equal(message(world), cases[i].message);
	}
}

static void tools_are_found(void **state)
{
	struct world *world = *state;
	give_tools(world, tools_json);
	assert_int_equal(ask(world, "tools.list", NULL), CODEMODE_OK);
	assert_int_equal(json_array_size(world->result), 2);
	static const struct {
		const char *query;
		const char *first;
	} cases[] = {
	    {"nmap", "nmap"}, {"network port scanning", "nmap"}, {"web", "curl"}, {"url", "curl"}};
	for (size_t i = 0; i < array_len(cases); i++) {
		assert_int_equal(
		    ask(world, "tools.search", json_pack("{s:s}", "query", cases[i].query)),
		    CODEMODE_OK);
		const json_t *first = json_array_get(world->result, 0);
		assert_string_equal(
		    json_string_value(json_object_get(first, "name")), cases[i].first);
	}
	assert_int_equal(
	    ask(world, "tools.search", json_pack("{s:s}", "query", "tenant")), CODEMODE_OK);
	assert_result(world, "[]");
}

/* --- dependencies --------------------------------------------------------------------------------
 */

static void add_dep(struct world *world, const char *package, bool system)
{
	int begun = world->runner.begun;
	if (begin(world, &own, "deps.add", json_pack("{s:s}", "package", package), NULL, system) !=
		NULL &&
	    world->runner.begun == begun) {
		run(world);
	}
}

static void dependencies_are_kept_and_installed(void **state)
{
	struct world *world = *state;
	add_dep(world, "Tiny_One==1.0", false);
	struct runner_call *c = fake_runner_last(&world->runner);
	assert_non_null(c);
	assert_string_equal(c->what, "install");
	json_t *said = json_pack(
	    "{s:[s], s:[], s:s}", "installed", "tiny-one==1.0", "failed", "directory", DIRECTORY);
	fake_runner_answer(&world->runner, json_incref(said));
	assert_result(world, "{\"installed\": [\"tiny-one==1.0\"], \"already_present\": [], "
			     "\"failed\": [], \"reasons\": {}, \"directory\": \"" DIRECTORY "\"}");
	add_dep(world, "Tiny_One==1.0", false);
	fake_runner_answer(&world->runner, said);
	assert_result(world, "{\"installed\": [], \"already_present\": [\"tiny-one==1.0\"], "
			     "\"failed\": [], \"reasons\": {}, \"directory\": \"" DIRECTORY "\"}");
	add_dep(world, "nowhere", false);
	fake_runner_answer(&world->runner,
	    json_pack("{s:[], s:[{s:s, s:s}], s:s}", "installed", "failed", "package", "nowhere",
		"reason", "not found", "directory", DIRECTORY));
	run(world);
	assert_result(world, "{\"installed\": [], \"already_present\": [], \"failed\": "
			     "[\"nowhere\"], \"reasons\": {\"nowhere\": \"not found\"}, "
			     "\"directory\": \"" DIRECTORY "\"}");
	/* It is in the list no longer; nor does a version that is not there replace one that is. */
	assert_int_equal(ask(world, "deps.list", NULL), CODEMODE_OK);
	assert_result(world, "[\"tiny-one==1.0\"]");
	add_dep(world, "tiny-one==9", false);
	fake_runner_answer(
	    &world->runner, json_pack("{s:[], s:[{s:s, s:s}], s:n}", "installed", "failed",
				"package", "tiny-one==9", "reason", "not found", "directory"));
	run(world);
	assert_int_equal(ask(world, "deps.list", NULL), CODEMODE_OK);
	assert_result(world, "[\"tiny-one==1.0\"]");
	assert_int_equal(
	    ask(world, "deps.add", json_pack("{s:s}", "package", "x; rm -rf /")), CODEMODE_INVALID);
	assert_string_equal(message(world), "Invalid package: contains blocked character ';'");
}

static void dependencies_may_be_fixed(void **state)
{
	struct world *world = *state;
	codemode_stop(world->codemode);
	codemode_free(world->codemode);
	struct codemode_config config = {.engine = world->engine,
	    .store = world->store,
	    .runner = &world->runner,
	    .json_work = world->json_work};
	struct err e;
	world->codemode = codemode_new(&world->loop, &config, &e);
	assert_int_equal(
	    ask(world, "deps.add", json_pack("{s:s}", "package", "x")), CODEMODE_DENIED);
	assert_string_equal(message(world),
	    "Runtime dependency installation is disabled. Dependencies must be pre-configured "
	    "before session start.");
	assert_int_equal(
	    ask(world, "deps.remove", json_pack("{s:s}", "package", "x")), CODEMODE_DENIED);
	assert_string_equal(message(world),
	    "Runtime dependency modification is disabled. Dependencies must be pre-configured "
	    "before session start.");
	assert_int_equal(ask(world, "deps.list", NULL), CODEMODE_OK);
	assert_int_equal(ask(world, "deps.sync", NULL), CODEMODE_OK);
	/* An operator's own route may. */
	add_dep(world, "x", true);
	assert_non_null(fake_runner_last(&world->runner));
	fake_runner_fail(&world->runner, ERR_UNAVAILABLE, "it is gone");
	assert_int_equal(world->code_of_answer, CODEMODE_FAILED);
}

/* --- giving up -----------------------------------------------------------------------------------
 */

static void what_is_cancelled_is_not_answered(void **state)
{
	struct world *world = *state;
	give_tools(world, tools_json);
	int before = world->answers;
	struct codemode_call *c = begin(world, &own, "tools.call",
	    json_pack("{s:s, s:{}}", "tool", "curl", "arguments"), NULL, false);
	struct runner_call *asked = fake_runner_last(&world->runner);
	codemode_cancel(c);
	assert_true(asked->cancelled);
	c = begin(world, &own, "skills.create",
	    json_pack("{s:s, s:s}", "name", "a", "source", "def run(): cancelled"), NULL, false);
	(void)uv_run(&world->loop, UV_RUN_NOWAIT);
	codemode_cancel(c);
	for (int i = 0; i < 10; i++) {
		turn(world);
	}
	assert_int_equal(world->answers, before);
	/* And the parsing session goes on with others. */
	assert_int_equal(create(world, "b", "def run(): pass"), CODEMODE_OK);
}

/* --- calls of sessions ---------------------------------------------------------------------------
 */

static char replied[512];
static int replies;
static bool replied_ok;

/* In the place of the gateway's. */
void host_call_reply(
    struct host_call *c, bool ok, const char *json, size_t len, struct host_source *source)
{
	(void)c;
	replies++;
	replied_ok = ok;
	(void)snprintf(replied, sizeof(replied), "%.*s", (int)len, json);
	if (source != NULL) {
		source->close(source);
	}
}

void host_call_resume(struct host_call *c)
{
	(void)c;
}

static struct host_call host_call(struct worker *w, const char *method, const char *arguments)
{
	struct host_call c = {
	    .worker = w, .arguments = arguments, .arguments_len = strlen(arguments)};
	(void)snprintf(c.method, sizeof(c.method), "%s", method);
	return c;
}

static void run_until_replied(struct world *world, int before)
{
	for (int i = 0; i < TURNS_MAX && replies == before; i++) {
		turn(world);
		uv_sleep(i > 100 ? 1 : 0);
	}
	assert_int_equal(replies, before + 1);
}

static void sessions_call_in_their_own_space(void **state)
{
	struct world *world = *state;
	struct err e;
	struct session *s = engine_session_open(&world->engine->pools[0], "tenant-a", "client", &e);
	assert_non_null(s->worker);
	int before = replies;
	struct host_call c = host_call(
	    s->worker, "artifacts.save", "{\"name\": \"a\", \"type\": \"text\", \"size\": 5}");
	codemode_host_calls.begin(world->codemode, &c);
	assert_int_equal(c.put_left, 5);
	assert_true(codemode_host_calls.put(world->codemode, &c, "hel", 3));
	(void)codemode_host_calls.put(world->codemode, &c, "lo", 2);
	run_until_replied(world, before);
	assert_true(replied_ok);

	before = replies;
	c = host_call(s->worker, "artifacts.exists", "{\"name\": \"a\"}");
	codemode_host_calls.begin(world->codemode, &c);
	if (replies == before) {
		run_until_replied(world, before);
	}
	assert_string_equal(replied, "true");
	assert_int_equal(
	    ask(world, "artifacts.exists", json_pack("{s:s}", "name", "a")), CODEMODE_OK);
	assert_result(world, "false");

	before = replies;
	static const char *const bad[] = {"", "[1", "[]", "{\"name\": \"\\ud800\"}",
	    "{\"name\": 1, \"name\": 2}", "{\"size\": 99999999999999999999}"};
	for (size_t i = 0; i < array_len(bad); i++) {
		c = host_call(s->worker, "artifacts.exists", bad[i]);
		codemode_host_calls.begin(world->codemode, &c);
		assert_int_equal(replies, ++before);
		assert_false(replied_ok);
	}

	/* Given up half way: nothing is answered, nothing is kept. */
	c = host_call(
	    s->worker, "artifacts.save", "{\"name\": \"b\", \"type\": \"text\", \"size\": 5}");
	codemode_host_calls.begin(world->codemode, &c);
	(void)codemode_host_calls.put(world->codemode, &c, "hel", 3);
	codemode_host_calls.cancel(world->codemode, &c);
	assert_int_equal(replies, before);
}

static void the_parsing_session_may_ask_for_nothing(void **state)
{
	struct world *world = *state;
	struct err e;
	struct session *s = engine_session_open(
	    &world->engine->pools[0], ENGINE_TENANT_OWN, "skill-parser", &e);
	int before = replies;
	struct host_call c = host_call(s->worker, "skills.list", "{}");
	codemode_host_calls.begin(world->codemode, &c);
	assert_int_equal(replies, before + 1);
	assert_false(replied_ok);
}

/* --- bounds --------------------------------------------------------------------------------------
 */

static struct codemode_call *ask_pending(struct world *world, const char *prefix)
{
	const struct store_space space = {.prefix = prefix};
	return begin(world, &space, "tools.call",
	    json_pack("{s:s, s:s, s:{}}", "tool", "curl", "callable", "get", "arguments"), NULL,
	    false);
}

/* A tenant may have half of all calls, exactly; others find room until all are taken; and what has
 * ended does not count. */
static void calls_of_one_tenant_are_bounded(void **state)
{
	struct world *world = *state;
	static struct codemode_call *calls[CODEMODE_CALLS_MAX];
	give_tools(world, tools_json);
	for (int round = 0; round < 2; round++) {
		size_t n = 0;
		while (n < CODEMODE_CALLS_MAX / 2) {
			calls[n] = ask_pending(world, "tenant-a");
			assert_non_null(calls[n++]);
		}
		assert_null(ask_pending(world, "tenant-a"));
		assert_string_equal(error(world), "TooManyCalls");
		while (n < CODEMODE_CALLS_MAX) {
			calls[n] = ask_pending(world, "tenant-b");
			assert_non_null(calls[n++]);
		}
		assert_null(ask_pending(world, "tenant-c"));
		assert_string_equal(error(world), "TooManyCalls");
		while (n > 0) {
			codemode_cancel(calls[--n]);
		}
		assert_int_equal(world->codemode->call_count, 0);
	}
}

#define LARGE_BYTES (300U << 10)

static enum codemode_error search_for(struct world *world, size_t len)
{
	char *name = malloc(len + 1);
	assert_non_null(name);
	memset(name, 'n', len);
	name[len] = '\0';
	enum codemode_error code = ask(world, "tools.search", json_pack("{s:s}", "query", name));
	free(name);
	return code;
}

static void texts_and_results_are_bounded(void **state)
{
	struct world *world = *state;
	assert_int_equal(search_for(world, 64U << 10), CODEMODE_OK);
	assert_int_equal(search_for(world, (64U << 10) + 1), CODEMODE_INVALID);
	assert_string_equal(message(world), "tools.search() argument 'query' has at most 64 KiB");

	json_t *tools = json_array();
	for (int i = 0; i < CODEMODE_RESULTS_MAX + 1; i++) {
		char name[16];
		(void)snprintf(name, sizeof(name), "t%d", i);
		(void)json_array_append_new(
		    tools, json_pack("{s:s, s:s, s:[], s:[], s:s}", "name", name, "description",
			       "curl", "tags", "callables", "source", "file"));
	}
	char *text = json_dumps(tools, JSON_COMPACT);
	give_tools(world, text);
	free(text);
	json_decref(tools);
	for (int limit = CODEMODE_RESULTS_MAX; limit < CODEMODE_RESULTS_MAX + 2; limit++) {
		json_t *arguments = json_pack("{s:s, s:i}", "query", "curl", "limit", limit);
		assert_int_equal(ask(world, "tools.search", arguments), CODEMODE_OK);
		assert_int_equal(json_array_size(world->result), CODEMODE_RESULTS_MAX);
	}
}

/* Though the others are liker to it by their words. */
static void a_tool_of_that_very_name_comes_first(void **state)
{
	struct world *world = *state;
	give_tools(world,
	    "[{\"name\": \"scan-all\", \"description\": \"a scan to scan all\", \"tags\": "
	    "[\"scan\"], \"callables\": [], \"source\": \"file\"},"
	    " {\"name\": \"scan\", \"description\": \"Look for open services\", \"tags\": [], "
	    "\"callables\": [], \"source\": \"file\"}]");
	assert_int_equal(
	    ask(world, "tools.search", json_pack("{s:s}", "query", "scan")), CODEMODE_OK);
	const json_t *first = json_array_get(world->result, 0);
	assert_string_equal(json_string_value(json_object_get(first, "name")), "scan");
}

static void check_description(struct world *world, const char *description)
{
	assert_int_equal(create(world, "kept", kept_source), CODEMODE_OK);
	assert_int_equal(ask(world, "skills.get", json_pack("{s:s}", "name", "kept")), CODEMODE_OK);
	assert_string_equal(
	    json_string_value(json_object_get(world->result, "description")), description);
}

static void what_was_said_before_is_believed(void **state)
{
	check_description(*state, "from the file");
	assert_int_equal(((struct world *)*state)->batches, 0);
}

static void what_another_reader_said_is_not(void **state)
{
	check_description(*state, "said of it");
}

/* A call of a tool with arguments of LARGE_BYTES and some more. */
static char *large_arguments(void)
{
	char *padding = malloc(LARGE_BYTES + 1);
	assert_non_null(padding);
	memset(padding, 'x', LARGE_BYTES);
	padding[LARGE_BYTES] = '\0';
	json_t *all = json_pack(
	    "{s:s, s:s, s:{s:s}}", "tool", "curl", "callable", "get", "arguments", "url", padding);
	char *text = json_dumps(all, JSON_COMPACT);
	json_decref(all);
	free(padding);
	return text;
}

/* Begins the call. True: the tool was asked; false: it was refused at once or when it was read. */
static bool call_large(struct world *world, struct host_call *c)
{
	int before = replies;
	int begun = world->runner.begun;
	codemode_host_calls.begin(world->codemode, c);
	for (int i = 0; i < TURNS_MAX && replies == before && world->runner.begun == begun; i++) {
		turn(world);
		uv_sleep(i > 100 ? 1 : 0);
	}
	assert_true(replies > before || world->runner.begun > begun);
	return replies == before;
}

static void answer_tool(struct world *world)
{
	int before = replies;
	fake_runner_answer(&world->runner, json_pack("{s:s}", "text", "done"));
	assert_int_equal(replies, before + 1);
}

/* Two of them are what a session may have, exactly; another session of the tenant has its own; and
 * all is given back, however often. */
static void large_calls_of_a_session_are_bounded(void **state)
{
	struct world *world = *state;
	struct err e;
	struct pool *p = &world->engine->pools[0];
	p->config.max_sessions = 2;
	struct session *one = engine_session_open(p, "tenant-a", "client-1", &e);
	struct session *other = engine_session_open(p, "tenant-a", "client-2", &e);
	char *text = large_arguments();
	struct host_call calls[4];
	give_tools(world, tools_json);
	world->codemode->held_of_one_max_bytes = 2 * json_weight(text, strlen(text));
	for (int round = 0; round < 5; round++) {
		for (int i = 0; i < 4; i++) {
			calls[i] = host_call(
			    i == 3 ? other->worker : one->worker, "tools.call", text);
		}
		assert_true(call_large(world, &calls[0]));
		assert_true(call_large(world, &calls[1]));
		assert_false(call_large(world, &calls[2]));
		assert_non_null(strstr(replied, "TooManyCalls"));
		assert_true(call_large(world, &calls[3]));
		answer_tool(world);
		answer_tool(world);
		answer_tool(world);
		assert_int_equal(world->codemode->held.held, 0);
	}
	free(text);
}

/* The bound of all is gone through several times, by calls that are answered, refused, and given
 * up. */
static void large_calls_are_counted_back(void **state)
{
	struct world *world = *state;
	struct err e;
	struct session *s = engine_session_open(&world->engine->pools[0], "tenant-a", "client", &e);
	char *text = large_arguments();
	size_t weight = json_weight(text, strlen(text));
	give_tools(world, tools_json);
	world->codemode->held.max = 2 * weight; /* a tenant alone has half */
	for (int round = 0; round < 6; round++) {
		struct host_call first = host_call(s->worker, "tools.call", text);
		struct host_call second = host_call(s->worker, "tools.call", text);
		assert_true(call_large(world, &first));
		assert_int_equal(world->codemode->held.held, weight);
		assert_false(call_large(world, &second));
		if (round % 2 == 0) {
			answer_tool(world);
		} else {
			codemode_host_calls.cancel(world->codemode, &first);
		}
		assert_int_equal(world->codemode->held.held, 0);
	}
	free(text);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
	    TEST(arguments_are_checked_as_python_words_it),
	    TEST(a_skill_lives),
	    TEST(what_is_no_skill_is_refused),
	    TEST(a_source_that_kills_the_parser_harms_nobody),
	    TEST(a_client_cannot_keep_the_parser_out),
	    TEST(those_who_come_later_see_what_is_new),
	    TEST(more_spaces_than_are_kept),
	    TEST(prefixes_take_turns),
	    TEST(artifacts_are_streamed_and_found),
	    TEST(spaces_do_not_see_each_other),
	    TEST(tools_are_called_and_fail_by_name),
	    TEST(tools_are_found),
	    TEST(dependencies_are_kept_and_installed),
	    TEST(dependencies_may_be_fixed),
	    TEST(what_is_cancelled_is_not_answered),
	    TEST(sessions_call_in_their_own_space),
	    TEST(the_parsing_session_may_ask_for_nothing),
	    TEST(calls_of_one_tenant_are_bounded),
	    TEST(texts_and_results_are_bounded),
	    cmocka_unit_test_setup_teardown(
		what_was_said_before_is_believed, setup_same_format, teardown),
	    cmocka_unit_test_setup_teardown(
		what_another_reader_said_is_not, setup_other_format, teardown),
	    TEST(a_tool_of_that_very_name_comes_first),
	    TEST(large_calls_of_a_session_are_bounded),
	    TEST(large_calls_are_counted_back),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
