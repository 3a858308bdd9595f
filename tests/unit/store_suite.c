#include "store_suite.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

static const struct store_space own = {NULL, NULL};

static const struct store_space *or_own(const struct store_space *space)
{
	return space != NULL ? space : &own;
}

/* --- calls that wait ----------------------------------------------------------------------------
 */

static void set_error(struct store_answer *a, const struct err *e)
{
	assert_false(a->called);
	a->called = true;
	if (e != NULL) {
		assert_int_not_equal(e->code, ERR_NONE);
		a->e = *e;
	}
}

static void on_list(void *ctx, json_t *records, uint64_t revision, const struct err *e)
{
	struct store_answer *a = ctx;
	set_error(a, e);
	a->json = json_incref(records);
	a->revision = revision;
}

static void on_get(void *ctx, json_t *record, const struct err *e)
{
	struct store_answer *a = ctx;
	set_error(a, e);
	a->json = json_incref(record);
}

static void on_done(void *ctx, bool changed, const struct err *e)
{
	struct store_answer *a = ctx;
	set_error(a, e);
	a->changed = changed;
}

static void wait_for(struct store_suite *s, const struct store_answer *a)
{
	uint64_t deadline_ms = clock_mono_ms() + 30000;
	while (!a->called) {
		assert_true(clock_mono_ms() < deadline_ms);
		(void)uv_run(&s->loop, UV_RUN_ONCE);
	}
}

/* A request is handed out exactly when the answer is still to come. */
static void wait_request(
    struct store_suite *s, const struct store_request *r, const struct store_answer *a)
{
	assert_int_equal(r == NULL, a->called);
	wait_for(s, a);
}

struct store_answer suite_list(
    struct store_suite *s, struct store *st, const struct store_space *space, enum store_kind kind)
{
	struct store_answer a = {0};
	wait_request(s, store_list(st, or_own(space), kind, on_list, &a), &a);
	return a;
}

struct store_answer suite_get(struct store_suite *s, struct store *st,
    const struct store_space *space, enum store_kind kind, const char *name)
{
	struct store_answer a = {0};
	wait_request(s, store_get(st, or_own(space), kind, name, on_get, &a), &a);
	return a;
}

struct store_answer suite_put(struct store_suite *s, struct store *st,
    const struct store_space *space, enum store_kind kind, const char *name, json_t *record)
{
	struct store_answer a = {0};
	struct store_request *r = store_put(st, or_own(space), kind, name, record, on_done, &a);
	json_decref(record); /* it is borrowed for the call only */
	wait_request(s, r, &a);
	return a;
}

struct store_answer suite_delete(struct store_suite *s, struct store *st,
    const struct store_space *space, enum store_kind kind, const char *name)
{
	struct store_answer a = {0};
	wait_request(s, store_delete(st, or_own(space), kind, name, on_done, &a), &a);
	return a;
}

struct store_answer suite_artifacts(
    struct store_suite *s, struct store *st, const struct store_space *space)
{
	struct store_answer a = {0};
	wait_request(s, store_artifact_list(st, or_own(space), on_list, &a), &a);
	return a;
}

struct store_answer suite_artifact(
    struct store_suite *s, struct store *st, const struct store_space *space, const char *name)
{
	struct store_answer a = {0};
	wait_request(s, store_artifact_get(st, or_own(space), name, on_get, &a), &a);
	return a;
}

struct store_answer suite_artifact_delete(
    struct store_suite *s, struct store *st, const struct store_space *space, const char *name)
{
	struct store_answer a = {0};
	wait_request(s, store_artifact_delete(st, or_own(space), name, on_done, &a), &a);
	return a;
}

struct store_answer suite_register(struct store_suite *s, struct store *st,
    const struct store_space *space, const char *name, json_t *info)
{
	struct store_answer a = {0};
	struct store_request *r = store_artifact_register(
	    st, or_own(space), name, info, on_get, &a);
	json_decref(info);
	wait_request(s, r, &a);
	return a;
}

static char pattern_at(uint64_t i)
{
	return (char)(i * 31 + (i >> 8) + (i >> 16));
}

#define PIECE 10007 /* no power of two */

struct feed {
	struct store_answer answer; /* first: the callbacks' context */
	bool room;
};

static void on_room(void *ctx)
{
	((struct feed *)ctx)->room = true;
}

static void feed_all(
    struct store_suite *s, struct store_writer *w, struct feed *f, const char *bytes, size_t len)
{
	char piece[PIECE];
	store_writer_on_room(w, on_room);
	for (size_t at = 0; at < len && !f->answer.called;) {
		size_t n = len - at < PIECE ? len - at : PIECE;
		for (size_t i = 0; i < n; i++) {
			piece[i] = bytes != NULL ? bytes[at + i] : pattern_at(at + i);
		}
		f->room = store_writer_add(w, piece, n);
		at += n;
		while (!f->room && !f->answer.called) {
			(void)uv_run(&s->loop, UV_RUN_ONCE);
		}
	}
}

struct store_answer suite_save(struct store_suite *s, struct store *st,
    const struct store_space *space, const char *name, json_t *info, const char *bytes, size_t len)
{
	struct feed f = {0};
	struct store_writer *w = store_artifact_write(
	    st, or_own(space), name, info, len, on_get, &f);
	json_decref(info);
	assert_int_equal(w == NULL, f.answer.called);
	if (w != NULL) {
		feed_all(s, w, &f, bytes, len);
	}
	wait_for(s, &f.answer);
	return f.answer;
}

static void on_more(void *ctx)
{
	(void)ctx; /* the loop came round: that is enough */
}

struct store_answer suite_load(struct store_suite *s, struct store *st,
    const struct store_space *space, const char *name, struct buf *out)
{
	struct store_answer a = {0};
	struct store_reader *r = store_artifact_read(st, or_own(space), name, on_get, &a);
	wait_for(s, &a);
	uint64_t got = 0;
	uint64_t size = (uint64_t)json_integer_value(json_object_get(a.json, "size"));
	if (a.json != NULL) {
		store_reader_on_more(r, on_more);
	}
	while (a.json != NULL && got < size) {
		char piece[PIECE];
		ssize_t n = store_reader_read(r, piece, sizeof(piece));
		assert_true(n >= 0);
		if (n == 0) {
			(void)uv_run(&s->loop, UV_RUN_ONCE);
		} else if (out != NULL) {
			assert_int_equal(buf_add(out, piece, (size_t)n), 0);
		}
		for (ssize_t i = 0; out == NULL && i < n; i++) {
			assert_int_equal(piece[i], pattern_at(got + (uint64_t)i));
		}
		got += (uint64_t)n;
	}
	if (a.json != NULL) {
		char beyond;
		assert_int_equal(store_reader_read(r, &beyond, 1), -1);
	}
	store_reader_close(r);
	return a;
}

json_t *suite_info(const char *type, const char *description)
{
	return json_pack("{s:s, s:s, s:{}}", "type", type, "description", description, "metadata");
}

void suite_drop(struct store_answer answer)
{
	assert_string_equal(answer.e.text, "");
	json_decref(answer.json);
}

void suite_save_text(struct store_suite *s, struct store *st, const struct store_space *space,
    const char *name, const char *text)
{
	suite_drop(suite_save(s, st, space, name, suite_info("text", ""), text, strlen(text)));
}

void suite_expect_text(struct store_suite *s, struct store *st, const struct store_space *space,
    const char *name, const char *text)
{
	cleanup(buf_fini) struct buf b = BUF_INIT(1 << 20);
	struct store_answer a = suite_load(s, st, space, name, &b);
	assert_non_null(a.json);
	assert_string_equal(buf_str(&b), text);
	suite_drop(a);
}

void suite_put_skill(struct store_suite *s, struct store *st, const struct store_space *space,
    const char *name, const char *source)
{
	suite_drop(
	    suite_put(s, st, space, STORE_SKILLS, name, json_pack("{s:s}", "source", source)));
}

const char *suite_names(const json_t *array)
{
	static char text[4096];
	size_t i;
	json_t *record;
	text[0] = '\0';
	json_array_foreach(array, i, record)
	{
		const char *name = json_is_string(record)
				       ? json_string_value(record)
				       : json_string_value(json_object_get(record, "name"));
		size_t had = strlen(text);
		(void)snprintf(text + had, sizeof(text) - had, "%s%s", i > 0 ? "," : "", name);
	}
	return text;
}

static void expect_member(const json_t *record, const char *key, const char *text)
{
	assert_string_equal(json_string_value(json_object_get(record, key)), text);
}

static void expect_names(struct store_answer a, const char *names)
{
	assert_int_equal(a.e.code, ERR_NONE);
	assert_string_equal(suite_names(a.json), names);
	suite_drop(a);
}

static void expect_error(struct store_answer a, enum err_code code)
{
	assert_int_equal(a.e.code, code);
	assert_null(a.json);
	assert_false(a.changed);
}

/* --- records ------------------------------------------------------------------------------------
 */

void suite_skills(void **state)
{
	struct store_suite *s = *state;
	expect_names(suite_list(s, s->a, NULL, STORE_SKILLS), "");
	json_t *record = json_pack("{s:s, s:s, s:[{s:s, s:s}]}", "source",
	    "def run(x):\n    return x\n", "description", "Says x \xe2\x82\xac", "parameters",
	    "name", "x", "type", "string");
	struct store_answer put = suite_put(s, s->a, NULL, STORE_SKILLS, "echo", record);
	assert_true(put.changed);
	suite_put_skill(s, s->a, NULL, "Zeta", "def run(): pass");
	suite_put_skill(s, s->a, NULL, "alpha2", "");

	struct store_answer got = suite_get(s, s->a, NULL, STORE_SKILLS, "echo");
	expect_member(got.json, "name", "echo");
	expect_member(got.json, "source", "def run(x):\n    return x\n");
	expect_member(got.json, "description", "Says x \xe2\x82\xac");
	assert_int_equal(json_array_size(json_object_get(got.json, "parameters")), 1);
	suite_drop(got);

	struct store_answer all = suite_list(s, s->a, NULL, STORE_SKILLS);
	assert_string_equal(suite_names(all.json), "Zeta,alpha2,echo");
	expect_member(json_array_get(all.json, 2), "description", "Says x \xe2\x82\xac");
	suite_drop(all);

	/* The same name again: the old description goes with the old source. */
	suite_put_skill(s, s->a, NULL, "echo", "def run(): return 2");
	got = suite_get(s, s->a, NULL, STORE_SKILLS, "echo");
	expect_member(got.json, "source", "def run(): return 2");
	assert_null(json_string_value(json_object_get(got.json, "description")));
	suite_drop(got);

	struct store_answer gone = suite_delete(s, s->a, NULL, STORE_SKILLS, "echo");
	assert_true(gone.changed);
	gone = suite_delete(s, s->a, NULL, STORE_SKILLS, "echo");
	assert_int_equal(gone.e.code, ERR_NONE);
	assert_false(gone.changed);
	got = suite_get(s, s->a, NULL, STORE_SKILLS, "echo");
	assert_int_equal(got.e.code, ERR_NONE);
	assert_null(got.json);
	expect_names(suite_list(s, s->a, NULL, STORE_SKILLS), "Zeta,alpha2");
}

void suite_tools(void **state)
{
	struct store_suite *s = *state;
	json_t *record = json_pack("{s:s, s:s, s:i, s:{s:{s:b}}}", "command", "echo", "description",
	    "yes", "timeout", 7, "recipes", "say", "loud", 1);
	json_t *expected = json_copy(record);
	json_object_set_new(expected, "name", json_string("my tool"));
	suite_drop(suite_put(s, s->a, NULL, STORE_TOOLS, "my tool", record));
	suite_drop(
	    suite_put(s, s->a, NULL, STORE_TOOLS, "b", json_pack("{s:s}", "command", "true")));
	struct store_answer got = suite_get(s, s->b, NULL, STORE_TOOLS, "my tool");
	assert_true(json_equal(got.json, expected));
	suite_drop(got);
	json_decref(expected);
	expect_names(suite_list(s, s->b, NULL, STORE_TOOLS), "b,my tool");
	assert_true(suite_delete(s, s->a, NULL, STORE_TOOLS, "my tool").changed);
	assert_false(suite_delete(s, s->a, NULL, STORE_TOOLS, "my tool").changed);
	expect_names(suite_list(s, s->b, NULL, STORE_TOOLS), "b");
}

static struct store_answer add_dep(struct store_suite *s, struct store *st, const char *line)
{
	return suite_put(s, st, NULL, STORE_DEPS, line, json_string(line));
}

void suite_deps(void **state)
{
	struct store_suite *s = *state;
	expect_names(suite_list(s, s->a, NULL, STORE_DEPS), "");
	suite_drop(add_dep(s, s->a, "Requests>=2.0"));
	suite_drop(add_dep(s, s->a, "My_Package[a,b]==1"));
	suite_drop(add_dep(s, s->b, "numpy"));
	expect_names(
	    suite_list(s, s->a, NULL, STORE_DEPS), "my-package[a,b]==1,numpy,requests>=2.0");
	/* One of the same base name is replaced, and found by any spelling of it. */
	suite_drop(add_dep(s, s->b, "requests<3"));
	expect_names(suite_list(s, s->a, NULL, STORE_DEPS), "my-package[a,b]==1,numpy,requests<3");
	struct store_answer got = suite_get(s, s->a, NULL, STORE_DEPS, "my_package");
	assert_string_equal(json_string_value(got.json), "my-package[a,b]==1");
	suite_drop(got);
	assert_true(suite_delete(s, s->a, NULL, STORE_DEPS, "My-Package>=9").changed);
	assert_false(suite_delete(s, s->a, NULL, STORE_DEPS, "my-package").changed);
	expect_names(suite_list(s, s->b, NULL, STORE_DEPS), "numpy,requests<3");
	struct store_answer bad = add_dep(s, s->a, "x; rm");
	assert_string_equal(bad.e.text, "Invalid package: contains blocked character ';'");
	expect_error(bad, ERR_INVALID);
}

void suite_names_checked(void **state)
{
	struct store_suite *s = *state;
	static const char *const skills[] = {"", "../x", "a/b", "a.b", "1a", "_hidden", "list",
	    "search", "delete", "a b", "\xc3\xa9t\xc3\xa9", "a\n", "\xff"};
	for (size_t i = 0; i < array_len(skills); i++) {
		expect_error(suite_put(s, s->a, NULL, STORE_SKILLS, skills[i],
				 json_pack("{s:s}", "source", "x")),
		    ERR_INVALID);
		expect_error(suite_get(s, s->a, NULL, STORE_SKILLS, skills[i]), ERR_INVALID);
		expect_error(suite_delete(s, s->a, NULL, STORE_SKILLS, skills[i]), ERR_INVALID);
	}
	static const char *const tools[] = {"", ".", "..", "../x", "a/b", ".hidden", "a\n", "\xff"};
	for (size_t i = 0; i < array_len(tools); i++) {
		expect_error(
		    suite_put(s, s->a, NULL, STORE_TOOLS, tools[i], json_object()), ERR_INVALID);
	}
	char longest[1200];
	memset(longest, 'a', sizeof(longest));
	longest[1000] = '\0';
	expect_error(
	    suite_put(s, s->a, NULL, STORE_SKILLS, longest, json_pack("{s:s}", "source", "x")),
	    ERR_INVALID);
	expect_error(suite_put(s, s->a, NULL, STORE_TOOLS, longest, json_object()), ERR_INVALID);
	longest[240] = '\0';
	suite_put_skill(s, s->a, NULL, longest, "x = 1");
	assert_true(suite_delete(s, s->a, NULL, STORE_SKILLS, longest).changed);
	/* What is no record. */
	expect_error(suite_put(s, s->a, NULL, STORE_SKILLS, "a", json_object()), ERR_INVALID);
	expect_error(suite_put(s, s->a, NULL, STORE_SKILLS, "a", json_array()), ERR_INVALID);
}

void suite_revisions(void **state)
{
	struct store_suite *s = *state;
	suite_put_skill(s, s->a, NULL, "one", "1");
	struct store_answer first = suite_list(s, s->a, NULL, STORE_SKILLS);
	for (int i = 0; i < 5; i++) {
		struct store_answer again = suite_list(s, s->a, NULL, STORE_SKILLS);
		assert_int_equal(again.revision, first.revision);
		suite_drop(again);
	}
	suite_put_skill(s, s->b, NULL, "one", "2");
	struct store_answer changed = suite_list(s, s->a, NULL, STORE_SKILLS);
	assert_int_not_equal(changed.revision, first.revision);
	expect_member(json_array_get(changed.json, 0), "source", "2");
	/* What was handed out before did not change. */
	expect_member(json_array_get(first.json, 0), "source", "1");
	(void)suite_delete(s, s->b, NULL, STORE_SKILLS, "one");
	struct store_answer none = suite_list(s, s->a, NULL, STORE_SKILLS);
	assert_int_not_equal(none.revision, changed.revision);
	assert_int_equal(json_array_size(none.json), 0);
	suite_drop(first);
	suite_drop(changed);
	suite_drop(none);
}

/* --- artifacts ----------------------------------------------------------------------------------
 */

void suite_artifact_types(void **state)
{
	struct store_suite *s = *state;
	static const char nan_text[] = "{\"x\": NaN, \"y\": \"\\ud800\"}";
	static const char raw[] = "\xff\x00\x80 bytes";
	json_t *info = json_pack("{s:s, s:s, s:{s:i, s:[s]}}", "type", "json", "description",
	    "two numbers", "metadata", "run", 7, "tags", "t");
	struct store_answer saved = suite_save(
	    s, s->a, NULL, "scans/r", info, nan_text, sizeof(nan_text) - 1);
	expect_member(saved.json, "name", "scans/r");
	expect_member(saved.json, "description", "two numbers");
	expect_member(saved.json, "type", "json");
	assert_non_null(strstr(json_string_value(json_object_get(saved.json, "path")), "scans/r"));
	const char *created = json_string_value(json_object_get(saved.json, "created_at"));
	assert_int_equal(strlen(created), strlen("2026-01-02T03:04:05.123456+00:00"));
	assert_non_null(strstr(created, "+00:00"));
	const json_t *metadata = json_object_get(saved.json, "metadata");
	assert_int_equal(json_integer_value(json_object_get(metadata, "run")), 7);
	assert_int_equal(json_object_size(metadata), 2);
	suite_drop(suite_save(s, s->a, NULL, "raw", suite_info("bytes", ""), raw, sizeof(raw) - 1));
	suite_drop(suite_save(s, s->a, NULL, "empty", suite_info("text", ""), "", 0));

	struct store_answer got = suite_artifact(s, s->b, NULL, "scans/r");
	assert_true(json_equal(got.json, saved.json));
	suite_drop(got);
	suite_drop(saved);
	suite_expect_text(s, s->b, NULL, "scans/r", nan_text);
	cleanup(buf_fini) struct buf b = BUF_INIT(100);
	got = suite_load(s, s->b, NULL, "raw", &b);
	expect_member(got.json, "type", "bytes");
	assert_int_equal(b.len, sizeof(raw) - 1);
	assert_memory_equal(b.data, raw, b.len);
	suite_drop(got);
	suite_expect_text(s, s->b, NULL, "empty", "");
	struct store_answer all = suite_artifacts(s, s->b, NULL);
	assert_string_equal(suite_names(all.json), "empty,raw,scans/r");
	assert_int_equal(
	    json_integer_value(json_object_get(json_array_get(all.json, 1), "size")), b.len);
	suite_drop(all);
}

void suite_artifact_names(void **state)
{
	struct store_suite *s = *state;
	static const char *const bad[] = {"", "../x", "a/../../x", "..", ".", "a/./b",
	    "/etc/passwd", "a//b", "a/", "a\nb", "\xff", ".artifacts.json",
	    ".artifacts.json.damaged-1", ".carrel-lock", ".carrel-0123", "__index__"};
	for (size_t i = 0; i < array_len(bad); i++) {
		expect_error(
		    suite_save(s, s->a, NULL, bad[i], suite_info("text", ""), "x", 1), ERR_INVALID);
		expect_error(suite_artifact(s, s->a, NULL, bad[i]), ERR_INVALID);
		expect_error(suite_load(s, s->a, NULL, bad[i], NULL), ERR_INVALID);
		expect_error(suite_artifact_delete(s, s->a, NULL, bad[i]), ERR_INVALID);
		expect_error(suite_register(s, s->a, NULL, bad[i], json_object()), ERR_INVALID);
	}
	struct store_answer up = suite_artifact(s, s->a, NULL, "../x");
	assert_string_equal(up.e.text, "Path traversal attempt detected: '../x'");
	char longest[1200];
	memset(longest, 'a', sizeof(longest));
	longest[1024] = '\0';
	expect_error(
	    suite_save(s, s->a, NULL, longest, suite_info("text", ""), "x", 1), ERR_INVALID);
	for (size_t i = 200; i < 1000; i += 200) {
		longest[i] = '/';
	}
	longest[1000] = '\0';
	suite_save_text(s, s->a, NULL, longest, "deep");
	suite_expect_text(s, s->a, NULL, longest, "deep");
	suite_save_text(s, s->a, NULL, "...", "dots");
	suite_save_text(s, s->a, NULL, "a b/\xe2\x82\xac \"'$(x).txt", "odd");
	suite_expect_text(s, s->b, NULL, "a b/\xe2\x82\xac \"'$(x).txt", "odd");
}

void suite_artifact_replace(void **state)
{
	struct store_suite *s = *state;
	suite_save_text(s, s->a, NULL, "r.txt", "a long first text");
	suite_drop(suite_save(s, s->b, NULL, "r.txt", suite_info("bytes", "second"), "2", 1));
	suite_expect_text(s, s->a, NULL, "r.txt", "2");
	struct store_answer got = suite_artifact(s, s->a, NULL, "r.txt");
	expect_member(got.json, "description", "second");
	expect_member(got.json, "type", "bytes");
	suite_drop(got);
	assert_true(suite_artifact_delete(s, s->a, NULL, "r.txt").changed);
	struct store_answer gone = suite_artifact_delete(s, s->a, NULL, "r.txt");
	assert_false(gone.changed);
	assert_int_equal(gone.e.code, ERR_NONE);
	got = suite_artifact(s, s->b, NULL, "r.txt");
	assert_null(got.json);
	assert_int_equal(got.e.code, ERR_NONE);
	got = suite_load(s, s->b, NULL, "r.txt", NULL);
	assert_null(got.json);
	assert_int_equal(got.e.code, ERR_NONE);
	expect_names(suite_artifacts(s, s->b, NULL), "");
}

void suite_artifact_register(void **state)
{
	struct store_suite *s = *state;
	expect_error(suite_register(s, s->a, NULL, "none", suite_info("text", "")), ERR_NOT_FOUND);
	suite_save_text(s, s->a, NULL, "there", "x");
	struct store_answer got = suite_register(s, s->b, NULL, "there",
	    json_pack("{s:s, s:{s:s}}", "description", "by hand", "metadata", "k", "v"));
	expect_member(got.json, "description", "by hand");
	suite_drop(got);
	got = suite_artifact(s, s->a, NULL, "there");
	expect_member(got.json, "description", "by hand");
	expect_member(json_object_get(got.json, "metadata"), "k", "v");
	expect_member(got.json, "type", "text");
	suite_drop(got);
}

#define BIG (20U << 20)

void suite_big_artifact(void **state)
{
	struct store_suite *s = *state;
	suite_drop(suite_save(s, s->a, NULL, "big", suite_info("bytes", ""), NULL, BIG));
	struct store_answer got = suite_load(s, s->b, NULL, "big", NULL);
	assert_int_equal(json_integer_value(json_object_get(got.json, "size")), BIG);
	suite_drop(got);
	struct store_answer e = suite_save(
	    s, s->a, NULL, "huge", suite_info("bytes", ""), NULL, STORE_ARTIFACT_MAX_BYTES + 1);
	expect_error(e, ERR_TOO_LARGE);
}

static void never(void *ctx, json_t *record, const struct err *e)
{
	(void)ctx;
	(void)record;
	(void)e;
	fail_msg("%s", "called after it was given up");
}

void suite_abort(void **state)
{
	struct store_suite *s = *state;
	suite_save_text(s, s->a, NULL, "kept", "before");
	static char piece[300000];
	json_t *info = suite_info("bytes", "");
	for (size_t times = 0; times < 3; times++) {
		struct store_writer *w = store_artifact_write(
		    s->a, &own, "kept", info, 1000000, never, NULL);
		assert_non_null(w);
		for (size_t i = 0; i < times; i++) {
			(void)store_writer_add(w, piece, sizeof(piece));
		}
		store_writer_abort(w);
		suite_expect_text(s, s->a, NULL, "kept", "before");
	}
	/* More than was announced is refused, and nothing is written. */
	struct feed f = {0};
	struct store_writer *w = store_artifact_write(s->a, &own, "kept", info, 10, on_get, &f);
	(void)store_writer_add(w, piece, 11);
	wait_for(s, &f.answer);
	expect_error(f.answer, ERR_INVALID);
	json_decref(info);
	suite_expect_text(s, s->b, NULL, "kept", "before");
	expect_names(suite_artifacts(s, s->b, NULL), "kept");
}

/* --- spaces -------------------------------------------------------------------------------------
 */

void suite_spaces(void **state)
{
	struct store_suite *s = *state;
	static const struct store_space spaces[] = {{NULL, NULL}, {"tenant-1", NULL},
	    {"tenant-2", NULL}, {NULL, "w1"}, {NULL, "w2"}, {"tenant-1", "w1"}, {"tenant-2", "w1"},
	    {"w1", NULL}, {"a:b.c", NULL}};
	char text[16];
	for (size_t i = 0; i < array_len(spaces); i++) {
		expect_names(suite_list(s, s->b, &spaces[i], STORE_SKILLS), "");
		expect_names(suite_artifacts(s, s->b, &spaces[i]), "");
		struct store_answer none = suite_artifact(s, s->b, &spaces[i], "same");
		assert_null(none.json);
		(void)snprintf(text, sizeof(text), "%zu", i);
		suite_put_skill(s, s->a, &spaces[i], "same", text);
		suite_save_text(s, s->a, &spaces[i], "same", text);
	}
	for (size_t i = 0; i < array_len(spaces); i++) {
		(void)snprintf(text, sizeof(text), "%zu", i);
		struct store_answer got = suite_get(s, s->b, &spaces[i], STORE_SKILLS, "same");
		expect_member(got.json, "source", text);
		suite_drop(got);
		suite_expect_text(s, s->b, &spaces[i], "same", text);
		expect_names(suite_artifacts(s, s->b, &spaces[i]), "same");
	}
	/* Tools and dependencies are of the space without its workspace. */
	suite_drop(suite_put(s, s->a, &spaces[5], STORE_DEPS, "numpy", json_string("numpy")));
	expect_names(suite_list(s, s->b, &spaces[1], STORE_DEPS), "numpy");
	expect_names(suite_list(s, s->b, &spaces[0], STORE_DEPS), "");
	expect_names(suite_list(s, s->b, &spaces[6], STORE_DEPS), "");

	static const struct store_space bad[] = {{"", NULL}, {"..", NULL}, {"a/b", NULL},
	    {".x", NULL}, {"a..b", NULL}, {"skills", NULL}, {"workspaces", NULL}, {"ws", NULL},
	    {"packages", NULL}, {"a:artifacts", NULL}, {"a:ws:b", NULL}, {"deps:a", NULL},
	    {"artifacts", NULL}, {NULL, ""}, {NULL, ".."}, {NULL, "a/b"}, {NULL, "a:b"},
	    {NULL, "a\nb"}};
	for (size_t i = 0; i < array_len(bad); i++) {
		expect_error(suite_list(s, s->a, &bad[i], STORE_SKILLS), ERR_INVALID);
		expect_error(suite_artifacts(s, s->a, &bad[i]), ERR_INVALID);
		expect_error(suite_put(s, s->a, &bad[i], STORE_SKILLS, "x",
				 json_pack("{s:s}", "source", "x")),
		    ERR_INVALID);
		expect_error(
		    suite_save(s, s->a, &bad[i], "x", suite_info("text", ""), "x", 1), ERR_INVALID);
	}
	/* Names of 128 characters, and not of 129. */
	char longest[130];
	memset(longest, 'a', sizeof(longest) - 1);
	longest[129] = '\0';
	expect_error(
	    suite_artifacts(s, s->a, &(struct store_space){.workspace = longest}), ERR_INVALID);
	expect_error(
	    suite_artifacts(s, s->a, &(struct store_space){.prefix = longest}), ERR_INVALID);
	longest[128] = '\0';
	struct store_space whole = {.prefix = longest, .workspace = longest};
	suite_save_text(s, s->a, &whole, "same", "long");
	suite_expect_text(s, s->b, &whole, "same", "long");
	/* A name cannot lead from one space into another. */
	cleanup(buf_fini) struct buf path = BUF_INIT(4096);
	assert_int_equal(store_artifacts_path(s->a, &spaces[5], &path), 0);
	assert_non_null(strstr(buf_str(&path), "tenant-1"));
	assert_int_equal(store_artifacts_path(s->a, &bad[1], &path), -EINVAL);
}

/* --- several at once ----------------------------------------------------------------------------
 */

void suite_two_servers(void **state)
{
	struct store_suite *s = *state;
	char name[32];
	/* Each write is seen by the other at once, also where nothing has time to get old. */
	for (int i = 0; i < 30; i++) {
		(void)snprintf(name, sizeof(name), "n%02d", i);
		struct store *writer = i % 2 == 0 ? s->a : s->b;
		struct store *reader = i % 2 == 0 ? s->b : s->a;
		suite_put_skill(s, writer, NULL, name, name);
		struct store_answer all = suite_list(s, reader, NULL, STORE_SKILLS);
		assert_int_equal(json_array_size(all.json), i + 1);
		suite_drop(all);
		suite_save_text(s, writer, NULL, name, name);
		all = suite_artifacts(s, reader, NULL);
		assert_int_equal(json_array_size(all.json), i + 1);
		suite_drop(all);
		suite_expect_text(s, reader, NULL, name, name);
	}
}

#define MANY 40

void suite_many_at_once(void **state)
{
	struct store_suite *s = *state;
	struct feed feeds[MANY] = {0};
	struct store_answer skills[MANY] = {0};
	json_t *info = suite_info("text", "");
	for (int i = 0; i < MANY; i++) {
		char name[32];
		struct store *st = i % 2 == 0 ? s->a : s->b;
		(void)snprintf(name, sizeof(name), "n%02d", i);
		struct store_writer *w = store_artifact_write(
		    st, &own, name, info, 3, on_get, &feeds[i]);
		assert_true(store_writer_add(w, name, 3));
		json_t *record = json_pack("{s:s, s:s}", "source", name, "description", name);
		(void)store_put(st, &own, STORE_SKILLS, name, record, on_done, &skills[i]);
		json_decref(record);
	}
	json_decref(info);
	for (int i = 0; i < MANY; i++) {
		wait_for(s, &feeds[i].answer);
		wait_for(s, &skills[i]);
		suite_drop(feeds[i].answer);
		suite_drop(skills[i]);
	}
	struct store_answer all = suite_artifacts(s, s->a, NULL);
	assert_int_equal(json_array_size(all.json), MANY);
	suite_drop(all);
	all = suite_list(s, s->b, NULL, STORE_SKILLS);
	assert_int_equal(json_array_size(all.json), MANY);
	expect_member(json_array_get(all.json, 7), "description", "n07");
	suite_drop(all);
}

static void never_list(void *ctx, json_t *records, uint64_t revision, const struct err *e)
{
	(void)revision;
	never(ctx, records, e);
}

void suite_cancel(void **state)
{
	struct store_suite *s = *state;
	suite_put_skill(s, s->a, NULL, "one", "1");
	struct store_request *r = store_list(s->a, &own, STORE_SKILLS, never_list, NULL);
	assert_non_null(r); /* what was just written is not known yet */
	store_cancel(r);
	r = store_delete(s->a, &own, STORE_SKILLS, "other", NULL, NULL);
	store_cancel(r);
	store_cancel(NULL);
	expect_names(suite_list(s, s->a, NULL, STORE_SKILLS), "one");
	/* A reader may be closed before it is open, and while it reads. */
	suite_drop(suite_save(s, s->a, NULL, "big", suite_info("bytes", ""), NULL, 1000000));
	struct store_answer a = {0};
	struct store_reader *reader = store_artifact_read(s->b, &own, "big", on_get, &a);
	wait_for(s, &a);
	char piece[100];
	(void)store_reader_read(reader, piece, sizeof(piece));
	store_reader_close(reader);
	suite_drop(a);
	struct store_answer early = {0};
	store_reader_close(store_artifact_read(s->b, &own, "big", on_get, &early));
	json_decref(early.json);
	/* What is pending when the store ends is told nothing. */
	suite_put_skill(s, s->b, NULL, "two", "2");
	r = store_list(s->a, &own, STORE_SKILLS, never_list, NULL);
	assert_non_null(r);
	json_t *info = suite_info("text", "");
	struct store_writer *w = store_artifact_write(s->a, &own, "late", info, 1, never, NULL);
	(void)store_writer_add(w, "x", 1);
	json_decref(info);
	store_free(steal(&s->a));
}

void suite_limits(void **state)
{
	struct store_suite *s = *state;
	char *source = malloc(STORE_RECORD_MAX_BYTES + 2);
	memset(source, 'x', STORE_RECORD_MAX_BYTES + 1);
	source[STORE_RECORD_MAX_BYTES + 1] = '\0';
	expect_error(
	    suite_put(s, s->a, NULL, STORE_SKILLS, "big", json_pack("{s:s}", "source", source)),
	    ERR_TOO_LARGE);
	source[STORE_RECORD_MAX_BYTES - 100] = '\0';
	suite_put_skill(s, s->a, NULL, "big", source);
	expect_error(
	    suite_save(s, s->a, NULL, "x", suite_info("text", source), "x", 1), ERR_TOO_LARGE);
	free(source);
	expect_error(
	    suite_save(s, s->a, NULL, "x", suite_info("picture", ""), "x", 1), ERR_INVALID);
	expect_error(suite_save(s, s->a, NULL, "x", json_object(), "x", 1), ERR_INVALID);
	expect_error(suite_save(s, s->a, NULL, "x",
			 json_pack("{s:s, s:i}", "type", "text", "metadata", 1), "x", 1),
	    ERR_INVALID);
	expect_names(suite_artifacts(s, s->a, NULL), "");
}
