/* The store over Redis: the suite, in the clear and over TLS with a password, and what only a
 * server can do to it: be killed, be slow, hold what others wrote. */
#include "base/text.h"
#include "store_suite.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "redis_server.h"
#include "store/redis_conn.h"

#define PASSWORD "Se-cret0123"

static struct redis_server server;

static struct store *open_store(uv_loop_t *loop, const char *url)
{
	char ca[96];
	struct err e = {0};
	(void)snprintf(ca, sizeof(ca), "%s/cert.pem", server.dir);
	struct store *st = store_new(loop,
	    &(struct store_config){
		.redis_url = url, .redis_ca_file = server.tls ? ca : NULL, .prefix = "t"},
	    &e);
	assert_string_equal(e.text, "");
	return st;
}

static int setup_with(void **state, bool tls, const char *password)
{
	struct store_suite *s = calloc(1, sizeof(*s));
	if (server.pid == 0 || server.tls != tls) {
		redis_server_end(&server);
		redis_server_begin(&server, tls, password);
	}
	TELL(&server, "FLUSHALL");
	assert_int_equal(uv_loop_init(&s->loop), 0);
	s->a = open_store(&s->loop, server.url);
	s->b = open_store(&s->loop, server.url);
	*state = s;
	return 0;
}

static int setup(void **state)
{
	return setup_with(state, false, NULL);
}

static int setup_tls(void **state)
{
	return setup_with(state, true, PASSWORD);
}

static int teardown(void **state)
{
	struct store_suite *s = *state;
	store_free(s->a);
	store_free(s->b);
	(void)uv_run(&s->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&s->loop), 0);
	free(s);
	return 0;
}

static int finish(void **state)
{
	(void)state;
	if (server.pid != 0) {
		redis_server_end(&server);
	}
	return 0;
}

static const struct store_space own;

static const char *member(const json_t *record, const char *key)
{
	const char *text = json_string_value(json_object_get(record, key));
	return text != NULL ? text : "";
}

static void expect_list(struct store_suite *s, enum store_kind kind, const char *names)
{
	struct store_answer all = suite_list(s, s->a, NULL, kind);
	assert_string_equal(all.e.text, "");
	assert_string_equal(suite_names(all.json), names);
	suite_drop(all);
}

/* --- what others wrote --- */

static void what_others_wrote_is_read(void **state)
{
	struct store_suite *s = *state;
	static const char scan[] =
	    "{\"name\": \"scan\", \"description\": \"Scan\", \"source\": \"def run(): pass\", "
	    "\"parameters\": [], \"of a later version\": {\"x\": [1.5, null]}}";
	static const char entry[] =
	    "{\"description\": \"d\", \"created_at\": \"2026-01-02T03:04:05+00:00\", "
	    "\"metadata\": {\"_data_type\": \"json\", \"k\": 1}}";
	TELL(&server, "HSET", "t:skills:__skills__", "scan", scan);
	TELL(&server, "HSET", "t:tools:__tools__", "nmap",
	    "{\"name\": \"nmap\", \"type\": \"cli\", \"recipes\": {}}");
	TELL(&server, "SADD", "t:deps:deps", "numpy>=1.2", "requests");
	TELL(&server, "SET", "t:artifacts:r.json", "{\"a\": 1}");
	TELL(&server, "HSET", "t:artifacts:__index__", "r.json", entry);
	expect_list(s, STORE_SKILLS, "scan");
	expect_list(s, STORE_TOOLS, "nmap");
	struct store_answer got = suite_get(s, s->a, NULL, STORE_SKILLS, "scan");
	assert_string_equal(member(got.json, "source"), "def run(): pass");
	suite_drop(got);
	got = suite_list(s, s->a, NULL, STORE_DEPS);
	assert_string_equal(json_string_value(json_array_get(got.json, 0)), "numpy>=1.2");
	suite_drop(got);
	got = suite_artifact(s, s->a, NULL, "r.json");
	assert_string_equal(member(got.json, "created_at"), "2026-01-02T03:04:05+00:00");
	assert_string_equal(member(got.json, "path"), "t:artifacts:r.json");
	assert_null(json_object_get(json_object_get(got.json, "metadata"), "_data_type"));
	suite_drop(got);
	suite_expect_text(s, s->a, NULL, "r.json", "{\"a\": 1}");
}

static void expect_deps(struct store_suite *s, const char *json)
{
	struct store_answer all = suite_list(s, s->a, NULL, STORE_DEPS);
	cleanup(text_free) char *text = json_dumps(all.json, JSON_COMPACT);
	assert_string_equal(text, json);
	suite_drop(all);
}

/* The fourth generation keeps t:deps:deps, the fifth t:deps: either is read, both are kept up. */
static void dependencies_of_either_generation_are_read(void **state)
{
	struct store_suite *s = *state;
	TELL(&server, "SADD", "t:deps:deps", "numpy>=1", "requests");
	expect_deps(s, "[\"numpy>=1\",\"requests\"]");
	TELL(&server, "SADD", "t:deps", "numpy>=2", "Pandas");
	/* Somebody else's cache is told of it. */
	expect_deps(s, "[\"Pandas\",\"numpy>=2\",\"requests\"]");
	struct store_answer got = suite_get(s, s->a, NULL, STORE_DEPS, "numpy");
	assert_string_equal(json_string_value(got.json), "numpy>=2");
	suite_drop(got);
	suite_drop(suite_put(s, s->a, NULL, STORE_DEPS, "numpy", json_string("numpy==3")));
	expect_deps(s, "[\"Pandas\",\"numpy==3\",\"requests\"]");
	static const char *const keys[] = {"t:deps", "t:deps:deps"};
	for (size_t i = 0; i < array_len(keys); i++) {
		cleanup(text_free) char *there = ASK(&server, "SISMEMBER", keys[i], "numpy==3");
		assert_string_equal(there, "1");
	}
	suite_drop(suite_delete(s, s->a, NULL, STORE_DEPS, "numpy"));
	expect_deps(s, "[\"Pandas\",\"requests\"]");
	/* A store of the fifth generation alone. */
	TELL(&server, "DEL", "t:deps:deps");
	expect_deps(s, "[\"Pandas\"]");
	/* The newer key may be another's. */
	TELL(&server, "DEL", "t:deps");
	TELL(&server, "SET", "t:deps", "no set");
	suite_drop(suite_put(s, s->a, NULL, STORE_DEPS, "numpy", json_string("numpy")));
	expect_deps(s, "[\"numpy\"]");
}

static void what_is_no_record_breaks_no_list(void **state)
{
	struct store_suite *s = *state;
	suite_put_skill(s, s->a, NULL, "good", "def run(): pass");
	static const char *const bad[][2] = {{"a", "not json"}, {"b", "[1]"}, {"c", "{}"},
	    {"d", "{\"source\": 1}"}, {"e", ""}, {"../up", "{\"source\": \"x\"}"},
	    {"list", "{\"source\": \"x\"}"}, {"\xff", "{\"source\": \"x\"}"}, {"", "{}"},
	    {"f", "{\"source\": \"\\ud800\"}"}};
	for (size_t i = 0; i < array_len(bad); i++) {
		TELL(&server, "HSET", "t:skills:__skills__", bad[i][0], bad[i][1]);
		TELL(&server, "HSET", "t:tools:__tools__", bad[i][0], bad[i][1]);
		TELL(&server, "HSET", "t:artifacts:__index__", bad[i][0], bad[i][1]);
		TELL(&server, "SADD", "t:deps:deps", bad[i][1]);
	}
	expect_list(s, STORE_SKILLS, "good");
	struct store_answer got = suite_get(s, s->a, NULL, STORE_SKILLS, "a");
	assert_null(got.json);
	assert_int_equal(got.e.code, ERR_NONE);
	/* Entries without bytes are no artifacts; bytes with a bad entry are one. */
	TELL(&server, "SET", "t:artifacts:a", "text");
	TELL(&server, "RPUSH", "t:artifacts:b", "a list");
	got = suite_artifacts(s, s->a, NULL);
	assert_string_equal(suite_names(got.json), "a");
	suite_drop(got);
	suite_expect_text(s, s->a, NULL, "a", "text");
	suite_drop(suite_list(s, s->a, NULL, STORE_DEPS));
}

static void workflows_are_skills_too(void **state)
{
	struct store_suite *s = *state;
	suite_put_skill(s, s->a, NULL, "ours", "1");
	/* Nobody uses the newer hash: it is not made. */
	char *there = ASK(&server, "EXISTS", "t:workflows:__workflows__");
	assert_string_equal(there, "0");
	free(there);
	TELL(&server, "HSET", "t:workflows:__workflows__", "theirs",
	    "{\"name\": \"theirs\", \"description\": \"\", \"source\": \"2\"}");
	expect_list(s, STORE_SKILLS, "ours,theirs");
	struct store_answer got = suite_get(s, s->a, NULL, STORE_SKILLS, "theirs");
	assert_string_equal(member(got.json, "source"), "2");
	suite_drop(got);
	/* From now on what is written is found by both. */
	suite_put_skill(s, s->a, NULL, "both", "3");
	there = ASK(&server, "HEXISTS", "t:workflows:__workflows__", "both");
	assert_string_equal(there, "1");
	free(there);
	assert_true(suite_delete(s, s->a, NULL, STORE_SKILLS, "both").changed);
	assert_true(suite_delete(s, s->a, NULL, STORE_SKILLS, "theirs").changed);
	expect_list(s, STORE_SKILLS, "ours");
}

/* --- tenants --- */

static void a_prefix_cannot_name_anothers_keys(void **state)
{
	struct store_suite *s = *state;
	static const char *const bad[] = {"a:artifacts", "a:ws:w", "a:skills", "t:artifacts:x"};
	for (size_t i = 0; i < array_len(bad); i++) {
		struct store_space space = {.prefix = bad[i]};
		struct store_answer a = suite_list(s, s->a, &space, STORE_SKILLS);
		assert_int_equal(a.e.code, ERR_INVALID);
	}
	/* Nor can a name: the index and the uploads of the space are the store's own. */
	struct store_space space = {.prefix = "a"};
	struct store_answer a = suite_save(
	    s, s->a, &space, "__upload__:x", suite_info("text", ""), "x", 1);
	assert_int_equal(a.e.code, ERR_INVALID);
	a = suite_artifact_delete(s, s->a, &space, "__index__");
	assert_int_equal(a.e.code, ERR_INVALID);
	suite_save_text(s, s->a, &space, "skills:__skills__", "x");
	a = suite_list(s, s->a, &space, STORE_SKILLS);
	assert_int_equal(json_array_size(a.json), 0);
	suite_drop(a);
}

#define READERS 128 /* of one space, as redis_internal.h has it */

static void on_opened(void *ctx, json_t *record, const struct err *e)
{
	*(enum err_code *)ctx = e != NULL ? e->code : ERR_NONE;
	(void)record;
}

/* Who opens without end what it never reads keeps nobody out but itself. */
static void one_tenants_readers_leave_room_for_others(void **state)
{
	struct store_suite *s = *state;
	struct store_space greedy = {.prefix = "greedy"};
	struct store_space other = {.prefix = "other"};
	struct store_reader *readers[READERS];
	enum err_code code = ERR_NONE;
	suite_save_text(s, s->a, &greedy, "x", "1");
	suite_save_text(s, s->a, &other, "x", "2");
	for (size_t i = 0; i < READERS; i++) {
		readers[i] = store_artifact_read(s->a, &greedy, "x", on_opened, &code);
		assert_non_null(readers[i]);
	}
	assert_null(store_artifact_read(s->a, &greedy, "x", on_opened, &code));
	assert_int_equal(code, ERR_BUSY);
	suite_expect_text(s, s->a, &other, "x", "2");
	for (size_t i = 0; i < READERS; i++) {
		store_reader_close(readers[i]);
	}
	suite_expect_text(s, s->a, &other, "x", "2");
	suite_expect_text(s, s->a, &greedy, "x", "1");
}

/* --- the lists that are kept --- */

static void a_change_by_anybody_is_seen(void **state)
{
	struct store_suite *s = *state;
	suite_put_skill(s, s->a, NULL, "one", "1");
	for (int i = 0; i < 3; i++) {
		expect_list(s, STORE_SKILLS, "one");
	}
	TELL(&server, "HSET", "t:skills:__skills__", "two", "{\"source\": \"2\"}");
	expect_list(s, STORE_SKILLS, "one,two");
	TELL(&server, "DEL", "t:skills:__skills__");
	expect_list(s, STORE_SKILLS, "");
	suite_put_skill(s, s->b, NULL, "three", "3");
	expect_list(s, STORE_SKILLS, "three");
	TELL(&server, "FLUSHALL");
	expect_list(s, STORE_SKILLS, "");
	/* Also after the server has thrown out the connections. */
	suite_put_skill(s, s->b, NULL, "four", "4");
	expect_list(s, STORE_SKILLS, "four");
	TELL(&server, "CLIENT", "KILL", "TYPE", "pubsub");
	TELL(&server, "HSET", "t:skills:__skills__", "five", "{\"source\": \"5\"}");
	expect_list(s, STORE_SKILLS, "five,four");
}

static void a_long_list_is_answered_from_memory(void **state)
{
	struct store_suite *s = *state;
	char script[] =
	    "for i=1,10000 do redis.call('HSET',KEYS[1],'s'..i,cjson.encode({name='s'..i,"
	    "description='d',source=string.rep('x',2000)})) end";
	TELL(&server, "EVAL", script, "1", "t:skills:__skills__");
	struct store_answer all = suite_list(s, s->a, NULL, STORE_SKILLS);
	assert_int_equal(json_array_size(all.json), 10000);
	suite_drop(all);
	uint64_t best = UINT64_MAX;
	for (int i = 0; i < 50; i++) {
		uint64_t before = clock_mono_us();
		all = suite_list(s, s->a, NULL, STORE_SKILLS);
		uint64_t took = clock_mono_us() - before;
		best = took < best ? took : best;
		assert_int_equal(json_array_size(all.json), 10000);
		suite_drop(all);
	}
	print_message("list of 10,000 from memory: %u us\n", (unsigned)best);
	assert_true(best < 2000);
}

/* --- a server that fails --- */

static struct store_answer try_until(struct store_suite *s, enum err_code code)
{
	struct store_answer a = {0};
	for (uint64_t end = clock_mono_ms() + 20000; clock_mono_ms() < end;) {
		a = suite_get(s, s->a, NULL, STORE_SKILLS, "one");
		if (a.e.code == code) {
			return a;
		}
		json_decref(a.json);
		(void)uv_run(&s->loop, UV_RUN_NOWAIT);
	}
	return a;
}

static void a_killed_server_is_an_error_and_comes_back(void **state)
{
	struct store_suite *s = *state;
	suite_put_skill(s, s->a, NULL, "one", "1");
	expect_list(s, STORE_SKILLS, "one");
	redis_server_kill(&server);
	struct store_answer a = try_until(s, ERR_UNAVAILABLE);
	assert_int_equal(a.e.code, ERR_UNAVAILABLE);
	/* Each is refused at once from now on, whatever it is. */
	uint64_t before = clock_mono_ms();
	for (int i = 0; i < 100; i++) {
		a = suite_get(s, s->a, NULL, STORE_SKILLS, "one");
		assert_int_equal(a.e.code, ERR_UNAVAILABLE);
		assert_non_null(strstr(a.e.text, "the store cannot be reached"));
	}
	a = suite_list(s, s->a, NULL, STORE_SKILLS);
	assert_int_equal(a.e.code, ERR_UNAVAILABLE);
	a = suite_artifacts(s, s->a, NULL);
	assert_int_equal(a.e.code, ERR_UNAVAILABLE);
	a = suite_save(s, s->a, NULL, "x", suite_info("text", ""), "x", 1);
	assert_int_equal(a.e.code, ERR_UNAVAILABLE);
	a = suite_load(s, s->a, NULL, "x", NULL);
	assert_int_equal(a.e.code, ERR_UNAVAILABLE);
	assert_true(clock_mono_ms() - before < 3000);
	redis_server_start(&server);
	a = try_until(s, ERR_NONE);
	assert_int_equal(a.e.code, ERR_NONE);
	assert_null(a.json); /* it kept nothing */
	expect_list(s, STORE_SKILLS, "");
	suite_put_skill(s, s->a, NULL, "two", "2");
	expect_list(s, STORE_SKILLS, "two");
}

/* After a failover the address may lead to the new main server, the old connection never does. */
static void a_server_that_became_a_replica_is_connected_again(void **state)
{
	struct store_suite *s = *state;
	suite_put_skill(s, s->a, NULL, "one", "1");
	TELL(&server, "REPLICAOF", "127.0.0.1", "1");
	char *before = ASK(&server, "CLIENT", "LIST", "TYPE", "normal");
	struct store_answer a = suite_put(
	    s, s->a, NULL, STORE_SKILLS, "two", json_pack("{s:s}", "source", "2"));
	assert_int_equal(a.e.code, ERR_UNAVAILABLE);
	assert_non_null(strstr(a.e.text, "READONLY"));
	TELL(&server, "REPLICAOF", "NO", "ONE");
	a = try_until(s, ERR_NONE);
	suite_drop(a);
	suite_put_skill(s, s->a, NULL, "two", "2");
	char *after = ASK(&server, "CLIENT", "LIST", "TYPE", "normal");
	/* Each line begins with "id=N addr=...". */
	bool gone = false;
	for (char *rest = before, *line; (line = strtok_r(rest, "\n", &rest)) != NULL;) {
		if (strstr(line, " name=carrel ") != NULL) {
			line[strcspn(line, " ") + 1] = '\0';
			gone = gone || strstr(after, line) == NULL;
		}
	}
	assert_true(gone);
	free(before);
	free(after);
}

static void a_server_that_hangs_is_not_waited_for(void **state)
{
	struct store_suite *s = *state;
	suite_put_skill(s, s->a, NULL, "one", "1");
	redis_server_freeze(&server, true);
	uint64_t before = clock_mono_ms();
	struct store_answer a = suite_get(s, s->a, NULL, STORE_SKILLS, "one");
	uint64_t took = clock_mono_ms() - before;
	assert_int_equal(a.e.code, ERR_UNAVAILABLE);
	assert_non_null(strstr(a.e.text, "no answer within 5 s"));
	assert_non_null(strstr(a.e.text, "may have been made, or not"));
	assert_in_range(took, REDIS_TIMEOUT_MS - 500, REDIS_TIMEOUT_MS + 5000);
	redis_server_freeze(&server, false);
	a = try_until(s, ERR_NONE);
	assert_string_equal(member(a.json, "source"), "1");
	suite_drop(a);
}

struct upload {
	bool done;
	struct err e;
};

static void on_uploaded(void *ctx, json_t *record, const struct err *e)
{
	struct upload *u = ctx;
	(void)record;
	u->done = true;
	if (e != NULL) {
		u->e = *e;
	}
}

static void an_upload_that_is_cut_leaves_nothing(void **state)
{
	struct store_suite *s = *state;
	static char piece[400000];
	suite_save_text(s, s->a, NULL, "kept", "before");
	struct upload u = {0};
	json_t *info = suite_info("bytes", "");
	struct store_writer *w = store_artifact_write(
	    s->a, &own, "kept", info, 10 * sizeof(piece), on_uploaded, &u);
	json_decref(info);
	(void)store_writer_add(w, piece, sizeof(piece));
	for (int i = 0; i < 100; i++) {
		(void)uv_run(&s->loop, UV_RUN_NOWAIT);
	}
	/* Not under its name, and what is there goes by itself. */
	suite_expect_text(s, s->b, NULL, "kept", "before");
	TELL(&server, "CLIENT", "KILL", "TYPE", "normal");
	while (!u.done) {
		(void)store_writer_add(w, piece, sizeof(piece));
		(void)uv_run(&s->loop, UV_RUN_ONCE);
	}
	assert_int_equal(u.e.code, ERR_UNAVAILABLE);
	struct store_answer back = try_until(s, ERR_NONE);
	assert_int_equal(back.e.code, ERR_NONE);
	suite_expect_text(s, s->a, NULL, "kept", "before");
	char *ttl = ASK(&server, "EVAL",
	    "local k=redis.call('KEYS','*__upload__*') if #k==0 then return 'none' end "
	    "return redis.call('TTL',k[1])",
	    "0");
	assert_true(strcmp(ttl, "none") == 0 || (strtod(ttl, NULL) > 0 && strtod(ttl, NULL) < 901));
	free(ttl);
}

static void on_reader(void *ctx, json_t *record, const struct err *e)
{
	*(bool *)ctx = true;
	assert_non_null(record);
	assert_null(e);
}

/* An artifact that is written over while it is read is not a mixture of both. */
static void a_reading_never_mixes(void **state)
{
	struct store_suite *s = *state;
	static char piece[65536];
	bool opened = false;
	suite_drop(suite_save(s, s->a, NULL, "big", suite_info("bytes", ""), NULL, 4U << 20));
	struct store_reader *r = store_artifact_read(s->a, &own, "big", on_reader, &opened);
	while (!opened) {
		(void)uv_run(&s->loop, UV_RUN_ONCE);
	}
	assert_true(store_reader_read(r, piece, 10) == 10);
	suite_drop(suite_save(s, s->b, NULL, "big", suite_info("bytes", ""), NULL, 4U << 20));
	uint64_t got = 10;
	ssize_t n;
	while ((n = store_reader_read(r, piece, sizeof(piece))) >= 0) {
		got += (uint64_t)n;
		(void)uv_run(&s->loop, UV_RUN_NOWAIT);
	}
	assert_true(got < 4U << 20);
	store_reader_close(r);
}

/* --- who may --- */

static void expect_refusal(struct store_suite *s, const char *url, const char *why)
{
	struct store *st = open_store(&s->loop, url);
	struct store_answer a = suite_get(s, st, NULL, STORE_SKILLS, "one");
	assert_int_equal(a.e.code, ERR_UNAVAILABLE);
	if (strstr(a.e.text, why) == NULL) {
		fail_msg("'%s' is not in '%s'", why, a.e.text);
	}
	assert_null(strstr(a.e.text, PASSWORD));
	assert_null(strstr(store_describe(st), "ecret"));
	store_free(st);
	(void)uv_run(&s->loop, UV_RUN_NOWAIT);
}

static void a_wrong_password_is_said_and_not_shown(void **state)
{
	struct store_suite *s = *state;
	char url[128];
	(void)snprintf(url, sizeof(url), "rediss://:wrong%s@localhost:%u", PASSWORD, server.port);
	expect_refusal(s, url, "WRONGPASS");
	(void)snprintf(url, sizeof(url), "rediss://localhost:%u", server.port);
	expect_refusal(s, url, "NOAUTH");
	/* Both forms of a URL lead in. */
	(void)snprintf(
	    url, sizeof(url), "default:%s@localhost:%u/0?ssl=true", PASSWORD, server.port);
	struct store *st = open_store(&s->loop, url);
	struct store_answer a = suite_get(s, st, NULL, STORE_SKILLS, "one");
	assert_int_equal(a.e.code, ERR_NONE);
	store_free(st);
}

static void a_certificate_of_another_host_is_refused(void **state)
{
	struct store_suite *s = *state;
	char url[128];
	(void)snprintf(url, sizeof(url), "rediss://:%s@127.0.0.1:%u", PASSWORD, server.port);
	expect_refusal(s, url, "certificate");
	/* Nor is one trusted that the system does not know. */
	struct err e = {0};
	struct store *st = store_new(&s->loop, &(struct store_config){.redis_url = server.url}, &e);
	struct store_answer a = suite_get(s, st, NULL, STORE_SKILLS, "one");
	assert_int_equal(a.e.code, ERR_UNAVAILABLE);
	assert_non_null(strstr(a.e.text, "certificate"));
	store_free(st);
	/* In the clear it is no TLS server, and TLS is no clear one. */
	(void)snprintf(url, sizeof(url), "redis://:%s@localhost:%u", PASSWORD, server.port);
	expect_refusal(s, url, "the store cannot be reached");
}

static void a_unix_socket_and_another_database(void **state)
{
	struct store_suite *s = *state;
	char url[160];
	suite_put_skill(s, s->a, NULL, "one", "1");
	(void)snprintf(url, sizeof(url), "unix://%s?db=3", server.socket);
	struct store *st = open_store(&s->loop, url);
	struct store_answer a = suite_get(s, st, NULL, STORE_SKILLS, "one");
	assert_int_equal(a.e.code, ERR_NONE);
	assert_null(a.json);
	store_free(st);
	expect_refusal(s, "redis://no-such-host.invalid:6379", "no-such-host.invalid");
	expect_refusal(s, "redis://127.0.0.1:1", "connection refused");
}

#define FILL(command, ...)                                                                     \
	"for i = 2, tonumber(ARGV[1]) do redis.call('" command "', KEYS[1], " __VA_ARGS__ ") " \
	"end return 1"

/* The last that there is room for, one more, and a new one for one that is there. */
static void so_many_records_and_no_more(void **state)
{
	struct store_suite *s = *state;
	static const struct {
		enum store_kind kind;
		const char *key, *fill;
	} kinds[] = {
	    {STORE_TOOLS, "t:tools:__tools__", FILL("HSET", "'n' .. i, '{}'")},
	    {STORE_SKILLS, "t:skills:__skills__", FILL("HSET", "'n' .. i, '{}'")},
	    {STORE_DEPS, "t:deps:deps", FILL("SADD", "'n' .. i")},
	};
	char most[16];
	(void)snprintf(most, sizeof(most), "%d", STORE_RECORDS_MAX);
	for (size_t i = 0; i < array_len(kinds); i++) {
		bool deps = kinds[i].kind == STORE_DEPS;
		TELL(&server, "EVAL", kinds[i].fill, "1", kinds[i].key, most);
		for (int round = 0; round < 3; round++) {
			const char *name = round == 1 ? "more" : "last";
			json_t *record = deps ? json_string(name)
					      : json_pack("{s:s}", "source", "def run(): pass");
			struct store_answer a = suite_put(
			    s, s->a, NULL, kinds[i].kind, name, record);
			assert_int_equal(a.e.code, round == 1 ? ERR_TOO_LARGE : ERR_NONE);
		}
	}
}

int main(void)
{
	(void)sigaction(SIGPIPE, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
	const struct CMUnitTest tests[] = {
	    STORE_SUITE(setup, teardown),
	    SUITE_TEST(what_others_wrote_is_read, setup, teardown),
	    SUITE_TEST(dependencies_of_either_generation_are_read, setup, teardown),
	    SUITE_TEST(what_is_no_record_breaks_no_list, setup, teardown),
	    SUITE_TEST(workflows_are_skills_too, setup, teardown),
	    SUITE_TEST(a_prefix_cannot_name_anothers_keys, setup, teardown),
	    SUITE_TEST(one_tenants_readers_leave_room_for_others, setup, teardown),
	    SUITE_TEST(a_change_by_anybody_is_seen, setup, teardown),
	    SUITE_TEST(a_long_list_is_answered_from_memory, setup, teardown),
	    SUITE_TEST(a_killed_server_is_an_error_and_comes_back, setup, teardown),
	    SUITE_TEST(a_server_that_became_a_replica_is_connected_again, setup, teardown),
	    SUITE_TEST(a_server_that_hangs_is_not_waited_for, setup, teardown),
	    SUITE_TEST(an_upload_that_is_cut_leaves_nothing, setup, teardown),
	    SUITE_TEST(a_reading_never_mixes, setup, teardown),
	    SUITE_TEST(a_unix_socket_and_another_database, setup, teardown),
	    SUITE_TEST(so_many_records_and_no_more, setup, teardown),
	    STORE_SUITE(setup_tls, teardown),
	    SUITE_TEST(a_killed_server_is_an_error_and_comes_back, setup_tls, teardown),
	    SUITE_TEST(a_wrong_password_is_said_and_not_shown, setup_tls, teardown),
	    SUITE_TEST(a_certificate_of_another_host_is_refused, setup_tls, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, finish);
}
