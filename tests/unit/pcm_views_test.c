/* py-code-mode's /info and /api: what each asks of code mode, in which space, and how it answers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "pcm_fixture.h"

#define SKILL                                                                                     \
	"{\"name\":\"scan\",\"description\":\"Scan ports\",\"parameters\":[{\"name\":\"target\"," \
	"\"type\":\"string\",\"description\":\"\",\"required\":true,\"default\":null},{\"name\":" \
	"\"deep\",\"type\":\"boolean\",\"description\":\"How deep\",\"required\":false,"          \
	"\"default\":false}]}"
#define WORKFLOW                                                                    \
	"{\"name\":\"scan\",\"description\":\"Scan ports\",\"params\":{\"target\":" \
	"\"string\",\"deep\":\"How deep\"}}"
#define SYNCED "{\"installed\":[\"a\"],\"already_present\":[],\"failed\":[]}"

static void answers(const char *method, const char *result)
{
	fake_codemode_answer(&mode, method, CODEMODE_OK, result, NULL, 0);
}

static void fails(const char *method, enum codemode_error code, const char *message)
{
	char text[200];
	(void)snprintf(text, sizeof(text), "{\"error\":\"Some\",\"message\":\"%s\"}", message);
	fake_codemode_answer(&mode, method, code, text, NULL, 0);
}

/* The last question. */
static void expect_asked(const char *method, const char *arguments)
{
	const struct fake_asked *a = fake_codemode_last(&mode);
	assert_string_equal(a->method, method);
	assert_string_equal(a->arguments, arguments);
}

/* --- tools and skills ---------------------------------------------------------------------------
 */

static void tools_are_passed_on(void **state)
{
	(void)state;
	answers("tools.list", "[{\"name\":\"nmap\",\"tags\":[\"net\"],\"callables\":[]}]");
	answers("tools.search", "[]");
	pcm_expect_json("GET", "/api/tools", "agent-1", NULL, 200,
	    "[{\"name\":\"nmap\",\"tags\":[\"net\"],\"callables\":[]}]");
	expect_asked("tools.list", "{}");
	pcm_expect_json("GET", "/api/tools/search?query=scan%20network", NULL, NULL, 200, "[]");
	expect_asked("tools.search", "{\"limit\":10,\"query\":\"scan network\"}");
	pcm_expect_json("GET", "/api/tools/search?query=&limit=3", NULL, NULL, 200, "[]");
	expect_asked("tools.search", "{\"limit\":3,\"query\":\"\"}");
	unsigned before = mode.asked_count;
	pcm_expect_json("GET", "/api/tools/search?query=x&limit=0", NULL, NULL, 200, "[]");
	assert_int_equal(mode.asked_count, before);
}

static void a_query_is_checked(void **state)
{
	(void)state;
	static const struct {
		const char *target;
		const char *type;
		const char *field;
	} cases[] = {
	    {"/api/tools/search", "missing", "query"},
	    {"/api/skills/search?limit=3", "missing", "query"},
	    {"/api/workflows/search", "missing", "query"},
	    {"/api/tools/search?query=x&limit=ten", "int_parsing", "limit"},
	    {"/api/skills/search?query=x&limit=-1", "int_parsing", "limit"},
	    {"/api/skills/search?query=x&limit=1001", "int_parsing", "limit"},
	    {"/api/skills/search?query=%ff", "string_unicode", "query"},
	};
	for (size_t i = 0; i < array_len(cases); i++) {
		struct fake_call f;
		pcm_send(&f, "GET", cases[i].target, NULL, NULL, 422);
		assert_string_equal(fake_text(&f, "detail.0.type"), cases[i].type);
		assert_string_equal(fake_text(&f, "detail.0.loc.0"), "query");
		assert_string_equal(fake_text(&f, "detail.0.loc.1"), cases[i].field);
		fake_call_fini(&f);
	}
	assert_int_equal(mode.asked_count, 0);
}

static void skills_and_workflows_are_two_views(void **state)
{
	(void)state;
	answers("skills.list", "[" SKILL "]");
	answers("skills.search", "[" SKILL "]");
	pcm_expect_json("GET", "/api/skills", NULL, NULL, 200, "[" SKILL "]");
	pcm_expect_json("GET", "/api/workflows", NULL, NULL, 200, "[" WORKFLOW "]");
	pcm_expect_json("GET", "/api/skills/search?query=scan", NULL, NULL, 200, "[" SKILL "]");
	expect_asked("skills.search", "{\"limit\":5,\"query\":\"scan\"}");
	pcm_expect_json(
	    "GET", "/api/workflows/search?query=scan&limit=2", NULL, NULL, 200, "[" WORKFLOW "]");
	expect_asked("skills.search", "{\"limit\":2,\"query\":\"scan\"}");
}

static void a_skill_is_had_by_name(void **state)
{
	(void)state;
	answers("skills.get",
	    "{\"name\":\"a\",\"description\":\"\",\"parameters\":[],\"source\":\"def run(): 1\"}");
	pcm_expect_json("GET", "/api/skills/a%20b", NULL, NULL, 200,
	    "{\"name\":\"a\",\"description\":\"\",\"parameters\":[],\"source\":\"def run(): 1\"}");
	expect_asked("skills.get", "{\"name\":\"a b\"}");
	pcm_expect_json("GET", "/api/workflows/a", NULL, NULL, 200,
	    "{\"name\":\"a\",\"description\":\"\",\"params\":{},\"source\":\"def run(): 1\"}");
	/* One that is not there is null, and no error. */
	answers("skills.get", "null");
	pcm_expect_json("GET", "/api/skills/none", NULL, NULL, 200, "null");
	pcm_expect_json("GET", "/api/workflows/none", NULL, NULL, 200, "null");
	answers("skills.delete", "true");
	pcm_expect_json("DELETE", "/api/skills/a", NULL, NULL, 200, "true");
	expect_asked("skills.delete", "{\"name\":\"a\"}");
	answers("skills.delete", "false");
	pcm_expect_json("DELETE", "/api/workflows/a", NULL, NULL, 200, "false");
	/* The reference: 500. */
	fails("skills.delete", CODEMODE_INVALID, "Invalid skill name: '../x'");
	pcm_expect("DELETE", "/api/skills/..%2fx", NULL, NULL, 400, "Invalid skill name: '../x'");
	pcm_expect("GET", "/api/skills/%ff", NULL, NULL, 400, "The name is not UTF-8");
}

static void a_skill_is_made(void **state)
{
	(void)state;
	static const char body[] =
	    "{\"name\":\"scan\",\"source\":\"def run(): pass\",\"description\":\"\"}";
	answers("skills.create", SKILL);
	pcm_expect_json("POST", "/api/skills", NULL, body, 200, SKILL);
	expect_asked("skills.create",
	    "{\"description\":\"\",\"name\":\"scan\",\"source\":\"def run(): pass\"}");
	pcm_expect_json("POST", "/api/workflows", NULL, body, 200, WORKFLOW);
	fails("skills.create", CODEMODE_INVALID, "Skill must define a run() function");
	pcm_expect("POST", "/api/skills", NULL, body, 400, "Skill must define a run() function");
	struct fake_call f;
	unsigned before = mode.asked_count;
	pcm_send(&f, "POST", "/api/skills", NULL, "{}", 422);
	assert_int_equal(json_array_size(fake_at(&f, "detail")), 3);
	assert_int_equal(mode.asked_count, before);
	fake_call_fini(&f);
}

/* --- artifacts ----------------------------------------------------------------------------------
 */

static void artifact(const char *type, const char *bytes, size_t len)
{
	char info[100];
	(void)snprintf(info, sizeof(info), "{\"type\":\"%s\",\"size\":%zu}", type, len);
	fake_codemode_answer(&mode, "artifacts.load", CODEMODE_OK, info, bytes, len);
}

static void an_artifact_comes_back_as_what_it_is(void **state)
{
	(void)state;
	static const struct {
		const char *type;
		const char *bytes;
		const char *json;
	} cases[] = {
	    {"text", "some \"text\"\n", "\"some \\\"text\\\"\\n\""},
	    {"text", "{}", "\"{}\""},
	    {"text", "caf\xe9", "\"caf\\ufffd\""},
	    {"json", "{\"a\": [1, 2.5]}", "{\"a\":[1,2.5]}"},
	    {"json", "[NaN, Infinity]", "[null,null]"},
	    {"json", "\"\\ud800\"", "\"\\ufffd\""},
	    {"json", "{\"a\":1},\"b\":2", "\"{\\\"a\\\":1},\\\"b\\\":2\""},
	    {"json", "", "\"\""},
	};
	for (size_t i = 0; i < array_len(cases); i++) {
		artifact(cases[i].type, cases[i].bytes, strlen(cases[i].bytes));
		pcm_expect_json("GET", "/api/artifacts/r", NULL, NULL, 200, cases[i].json);
	}
	/* Bytes, for which the reference has no answer but 500. */
	struct fake_call f;
	artifact("bytes", "\x00\xff\x01", 3);
	pcm_send(&f, "GET", "/api/artifacts/r", NULL, NULL, 200);
	assert_null(f.json);
	assert_int_equal(f.body.len, 3);
	assert_memory_equal(f.body.data, "\x00\xff\x01", 3);
	fake_call_fini(&f);
}

static void who_accepts_bytes_gets_them_as_they_are_kept(void **state)
{
	(void)state;
	static const struct {
		const char *accept;
		const char *type;
		const char *media;
		const char *bytes;
	} cases[] = {
	    {"application/octet-stream", "json", "application/octet-stream; type=json", "[NaN]"},
	    {"Application/octet-stream, */*", "text", "application/octet-stream; type=text",
		"caf\xe9"},
	    {"application/octet-stream", "bytes", "application/octet-stream", "\xff"},
	    {"*/*", "json", "application/json", "[null]"},
	    {"application/json, application/octet-stream", "json", "application/json", "[null]"},
	};
	for (size_t i = 0; i < array_len(cases); i++) {
		const char *kept = strcmp(cases[i].media, "application/json") == 0 ? "[NaN]"
										   : cases[i].bytes;
		struct fake_call f;
		artifact(cases[i].type, kept, strlen(kept));
		fake_start(
		    &f, &world, "GET", "/api/artifacts/r", "Accept", cases[i].accept, NULL, 0);
		fake_pump(&world);
		assert_int_equal(f.status, 200);
		assert_string_equal(fake_header(&f, "Content-Type"), cases[i].media);
		assert_string_equal(buf_str(&f.body), cases[i].bytes);
		fake_call_fini(&f);
	}
}

/* What the source gives; each time it has nothing there is more a moment later. */
static void pull(struct fake_call *f, size_t step)
{
	fake_pump(&world);
	while (f->answers == 0) {
		assert_true(fake_codemode_more(&mode));
	}
	while (!fake_pull(f, step)) {
		f->woken = false;
		assert_true(fake_codemode_more(&mode));
		assert_true(f->woken);
	}
}

/* 3 MiB of BYTE between BEFORE and AFTER. To be freed. */
static char *large_text(const char *before, char byte, const char *after, size_t *len)
{
	enum { LARGE = 3 << 20 };
	struct buf b = BUF_INIT(LARGE + 100);
	assert_int_equal(buf_add_str(&b, before), 0);
	char *middle = buf_reserve(&b, LARGE);
	assert_non_null(middle);
	memset(middle, byte, LARGE);
	buf_grew(&b, LARGE);
	assert_int_equal(buf_add_str(&b, after), 0);
	*len = b.len;
	return b.data;
}

static void begin_large(struct fake_call *f, const char *accept, const char *type,
    const char *bytes, size_t len, size_t piece)
{
	artifact(type, bytes, len);
	mode.piece_bytes = piece;
	mode.read_bytes = 0;
	fake_start(f, &world, "GET", "/api/artifacts/r", accept == NULL ? NULL : "Accept", accept,
	    NULL, 0);
}

static void a_large_artifact_goes_out_as_it_is_read(void **state)
{
	(void)state;
	static const struct {
		const char *type, *accept, *before, *after; /* as it is kept */
		const char *head, *tail;                    /* as it is answered */
		const char *media;
	} cases[] = {
	    {"text", NULL, "\"\xe2\x82\xac", "\n\xe2", "\"\\\"\xe2\x82\xac", "\\n\xef\xbf\xbd\"",
		"application/json"},
	    {"json", NULL, "[NaN,\"\\ud800", "\"]", "[null,\"\\ufffd", "\"]", "application/json"},
	    {"json", NULL, "\"", "", "\"\\\"", "\"", "application/json"},
	    {"json", "application/octet-stream", "[NaN,\"", "\"]", "[NaN,\"", "\"]",
		"application/octet-stream; type=json"},
	    {"bytes", NULL, "\xff", "", "\xff", "", "application/octet-stream"},
	};
	for (size_t i = 0; i < array_len(cases); i++) {
		size_t len;
		char *kept = large_text(cases[i].before, 'x', cases[i].after, &len);
		size_t answer_len;
		char *answer = large_text(cases[i].head, 'x', cases[i].tail, &answer_len);
		struct fake_call f;
		begin_large(&f, cases[i].accept, cases[i].type, kept, len, 100003);
		pull(&f, 4096);
		assert_int_equal(f.status, 200);
		assert_false(f.broken);
		assert_string_equal(fake_header(&f, "Content-Type"), cases[i].media);
		assert_int_equal(f.body.len, answer_len);
		assert_memory_equal(f.body.data, answer, answer_len);
		fake_call_fini(&f);
		free(kept);
		free(answer);
		assert_int_equal(mode.open_count, 0);
	}
}

static void no_more_of_a_large_artifact_is_read_than_the_client_takes(void **state)
{
	(void)state;
	size_t len;
	char *kept = large_text("", '\1', "", &len);
	struct fake_call f;
	begin_large(&f, NULL, "text", kept, len, 0);
	char out[100];
	assert_int_equal(f.source->read(f.source, out, sizeof(out)), sizeof(out));
	assert_true(mode.read_bytes <= 64U << 10);
	fake_leave(&f);
	fake_call_fini(&f);
	assert_int_equal(mode.open_count, 0);
	free(kept);
}

static void who_leaves_while_json_is_checked_leaves_nothing(void **state)
{
	(void)state;
	size_t len;
	char *kept = large_text("[\"", 'x', "\"]", &len);
	struct fake_call f;
	begin_large(&f, NULL, "json", kept, len, 1000);
	assert_true(fake_codemode_more(&mode));
	assert_int_equal(f.answers, 0);
	fake_leave(&f);
	fake_call_fini(&f);
	assert_int_equal(mode.open_count, 0);
	free(kept);
}

static void an_artifact_that_cannot_be_read_to_its_end(void **state)
{
	(void)state;
	size_t len;
	char *kept = large_text("", 'x', "", &len);
	struct fake_call f;
	mode.broken_at = len - 10;
	begin_large(&f, NULL, "text", kept, len, 0);
	pull(&f, 4096);
	assert_int_equal(f.status, 200);
	assert_true(f.broken);
	fake_call_fini(&f);
	/* Where nothing was sent yet, the answer says so. */
	artifact("text", kept, 1000);
	mode.broken_at = 10;
	pcm_expect("GET", "/api/artifacts/r", NULL, NULL, 503,
	    "The artifact could not be read to its end");
	artifact("json", kept, len);
	pcm_expect("GET", "/api/artifacts/r", NULL, NULL, 503,
	    "The artifact could not be read to its end");
	mode.broken_at = 0;
	free(kept);
}

static void one_tenant_has_half_of_what_is_sent_at_once(void **state)
{
	(void)state;
	size_t len;
	char *kept = large_text("", 'x', "", &len);
	static struct fake_call f[128];
	for (size_t i = 0; i < array_len(f); i++) {
		begin_large(&f[i], NULL, "text", kept, len, 0);
		assert_int_equal(f[i].status, 200);
		mode.asked_count--;
		free(mode.asked[mode.asked_count].arguments);
		free(mode.asked[mode.asked_count].bytes);
	}
	pcm_expect("GET", "/api/artifacts/r", NULL, NULL, 503,
	    "The server sends as many artifacts of yours as it may");
	world.prefix = "other";
	struct fake_call other;
	begin_large(&other, NULL, "text", kept, len, 0);
	assert_int_equal(other.status, 200);
	fake_leave(&other);
	fake_call_fini(&other);
	for (size_t i = 0; i < array_len(f); i++) {
		fake_leave(&f[i]);
		fake_call_fini(&f[i]);
	}
	assert_int_equal(mode.open_count, 0);
	free(kept);
}

static void an_artifacts_name_may_hold_slashes(void **state)
{
	(void)state;
	static const struct {
		const char *path;
		const char *arguments;
	} cases[] = {
	    {"r.json", "{\"name\":\"r.json\"}"},
	    {"runs/1/r.json", "{\"name\":\"runs/1/r.json\"}"},
	    {"runs%2F1%2fr.json", "{\"name\":\"runs/1/r.json\"}"},
	    {"a%20b", "{\"name\":\"a b\"}"},
	    {"..%2f..%2fetc%2fpasswd",
		"{\"name\":\"../../etc/passwd\"}"}, /* the store's to refuse */
	    {"sessionPools%2fx%2fhealth", "{\"name\":\"sessionPools/x/health\"}"},
	};
	artifact("text", "x", 1);
	answers("artifacts.delete", "true");
	for (size_t i = 0; i < array_len(cases); i++) {
		char target[200];
		(void)snprintf(target, sizeof(target), "/api/artifacts/%s", cases[i].path);
		pcm_expect_json("GET", target, NULL, NULL, 200, "\"x\"");
		expect_asked("artifacts.load", cases[i].arguments);
		pcm_expect_json("DELETE", target, NULL, NULL, 200, "null");
		expect_asked("artifacts.delete", cases[i].arguments);
	}
}

static void an_artifact_that_is_not_there_is_404(void **state)
{
	(void)state;
	fails("artifacts.load", CODEMODE_NOT_FOUND, "no");
	pcm_expect("GET", "/api/artifacts/a/b", NULL, NULL, 404, "Artifact 'a/b' not found");
	answers("artifacts.delete", "false");
	pcm_expect("DELETE", "/api/artifacts/zz", NULL, NULL, 404, "Artifact 'zz' not found");
	fails("artifacts.load", CODEMODE_INVALID, "Path traversal attempt detected: '../x'");
	pcm_expect("GET", "/api/artifacts/..%2fx", NULL, NULL, 400,
	    "Path traversal attempt detected: '../x'");
}

static void saving_keeps_the_type_of_the_data(void **state)
{
	(void)state;
	static const struct {
		const char *data;
		const char *type;
		const char *bytes;
	} cases[] = {
	    {"\"text\"", "text", "text"},
	    {"\"\"", "text", ""},
	    {"{\"a\":[1,0.1,null]}", "json", "{\"a\":[1,0.1,null]}"},
	    {"[]", "json", "[]"},
	    {"42", "text", "42"},
	    {"1.5", "text", "1.5"},
	    {"3.0", "text", "3.0"},
	    {"true", "text", "True"},
	    {"false", "text", "False"},
	    {"null", "text", "None"},
	};
	answers("artifacts.save", "{\"name\":\"r\"}");
	for (size_t i = 0; i < array_len(cases); i++) {
		char body[200];
		char asked[200];
		(void)snprintf(body, sizeof(body), "{\"name\":\"a/r\",\"data\":%s}", cases[i].data);
		(void)snprintf(asked, sizeof(asked),
		    "{\"description\":\"\",\"name\":\"a/r\",\"size\":%zu,\"type\":\"%s\"}",
		    strlen(cases[i].bytes), cases[i].type);
		pcm_expect_json("POST", "/api/artifacts", NULL, body, 200, "{\"name\":\"r\"}");
		expect_asked("artifacts.save", asked);
		assert_string_equal(fake_codemode_last(&mode)->bytes, cases[i].bytes);
	}
	pcm_expect_json("POST", "/api/artifacts", NULL,
	    "{\"name\":\"r\",\"data\":\"a\\u0000b\",\"description\":\"d\",\"metadata\":{\"k\":[1]}"
	    "}",
	    200, "{\"name\":\"r\"}");
	expect_asked("artifacts.save",
	    "{\"description\":\"d\",\"metadata\":{\"k\":[1]},\"name\":\"r\",\"size\":3,"
	    "\"type\":\"text\"}");
	assert_memory_equal(fake_codemode_last(&mode)->bytes, "a\0b", 3);
}

/* A large one becomes bytes on a thread; whoever leaves meanwhile saves nothing. */
static void a_large_artifact_is_saved(void **state)
{
	(void)state;
	struct fake_call f;
	cleanup(buf_fini) struct buf body = BUF_INIT(1U << 20);
	(void)buf_add_str(&body, "{\"name\":\"r\",\"data\":[1");
	for (int i = 0; i < 50000; i++) {
		(void)buf_add_str(&body, ",1");
	}
	(void)buf_add_str(&body, "]}");
	answers("artifacts.save", "{\"name\":\"r\"}");
	pcm_expect_json("POST", "/api/artifacts", NULL, buf_str(&body), 200, "{\"name\":\"r\"}");
	expect_asked("artifacts.save",
	    "{\"description\":\"\",\"name\":\"r\",\"size\":100003,\"type\":\"json\"}");
	unsigned asked = mode.asked_count;
	fake_start(&f, &world, "POST", "/api/artifacts", "Content-Type", "application/json",
	    buf_str(&body), body.len);
	assert_int_equal(f.answers, 0);
	fake_leave(&f);
	fake_pump(&world);
	assert_int_equal(mode.asked_count, asked);
	fake_call_fini(&f);
}

static void saving_is_checked(void **state)
{
	(void)state;
	static const struct {
		const char *body;
		const char *field;
	} cases[] = {
	    {"{\"data\":1}", "name"},
	    {"{\"name\":\"r\"}", "data"},
	    {"{\"name\":1,\"data\":1}", "name"},
	    {"{\"name\":\"r\",\"data\":1,\"description\":2}", "description"},
	    {"{\"name\":\"r\",\"data\":1,\"metadata\":[]}", "metadata"},
	};
	for (size_t i = 0; i < array_len(cases); i++) {
		struct fake_call f;
		pcm_send(&f, "POST", "/api/artifacts", NULL, cases[i].body, 422);
		assert_string_equal(fake_text(&f, "detail.0.loc.1"), cases[i].field);
		fake_call_fini(&f);
	}
	assert_int_equal(mode.asked_count, 0);
	/* The reference: 500. */
	fails("artifacts.save", CODEMODE_INVALID, "Path traversal attempt detected: '../x'");
	pcm_expect("POST", "/api/artifacts", NULL, "{\"name\":\"../x\",\"data\":1}", 400,
	    "Path traversal attempt detected: '../x'");
}

/* What JSON cannot carry: an addition to the reference's wire. */
static void saving_takes_base64(void **state)
{
	(void)state;
	static const struct {
		const char *members;
		const char *type;
		const char *bytes;
		size_t len;
	} cases[] = {
	    {"\"data\":\"AP8B\",\"encoding\":\"base64\"", "bytes", "\x00\xff\x01", 3},
	    {"\"data\":\"\",\"encoding\":\"base64\"", "bytes", "", 0},
	    {"\"data\":\"W05hTl0=\",\"encoding\":\"base64\",\"type\":\"json\"", "json", "[NaN]", 5},
	    {"\"data\":\"AP8B\",\"encoding\":null", "text", "AP8B", 4},
	};
	answers("artifacts.save", "{\"name\":\"r\"}");
	for (size_t i = 0; i < array_len(cases); i++) {
		char body[200];
		char asked[200];
		(void)snprintf(body, sizeof(body), "{\"name\":\"r\",%s}", cases[i].members);
		(void)snprintf(asked, sizeof(asked),
		    "{\"description\":\"\",\"name\":\"r\",\"size\":%zu,\"type\":\"%s\"}",
		    cases[i].len, cases[i].type);
		pcm_expect_json("POST", "/api/artifacts", NULL, body, 200, "{\"name\":\"r\"}");
		expect_asked("artifacts.save", asked);
		assert_memory_equal(fake_codemode_last(&mode)->bytes, cases[i].bytes, cases[i].len);
	}
	uint32_t asked_count = (uint32_t)mode.asked_count;
	static const char *const bad[][2] = {
	    {"\"data\":\"AP8\",\"encoding\":\"base64\"", "data: not base64"},
	    {"\"data\":[1],\"encoding\":\"base64\"", "data: not base64"},
	    {"\"data\":\"\",\"encoding\":\"gzip\"", "encoding: only base64 is known"},
	    {"\"data\":\"\",\"encoding\":\"base64\",\"type\":\"x\"", "type: bytes, json or text"},
	};
	for (size_t i = 0; i < array_len(bad); i++) {
		char body[200];
		(void)snprintf(body, sizeof(body), "{\"name\":\"r\",%s}", bad[i][0]);
		pcm_expect("POST", "/api/artifacts", NULL, body, 400, bad[i][1]);
	}
	assert_int_equal(mode.asked_count, asked_count);
}

/* --- dependencies -------------------------------------------------------------------------------
 */

static void dependencies_of_agents(void **state)
{
	(void)state;
	answers("deps.list", "[\"a\",\"b>=1\"]");
	answers("deps.sync", SYNCED);
	answers("deps.add", "{\"installed\":[\"a\"],\"already_present\":[],\"failed\":[],"
			    "\"directory\":\"0f\"}");
	pcm_expect_json("GET", "/api/deps", NULL, NULL, 200, "[\"a\",\"b>=1\"]");
	pcm_expect_json("POST", "/api/deps/sync", NULL, NULL, 200, SYNCED);
	pcm_expect_json("POST", "/api/deps/add", NULL, "{\"package\":\"a\"}", 200, SYNCED);
	expect_asked("deps.add", "{\"package\":\"a\"}");
	assert_false(fake_codemode_last(&mode)->system);
	fails("deps.add", CODEMODE_DENIED, "RuntimeDepsDisabledError");
	pcm_expect("POST", "/api/deps/add", NULL, "{\"package\":\"a\"}", 403,
	    "Runtime dependency installation is disabled");
	fails("deps.remove", CODEMODE_DENIED, "RuntimeDepsDisabledError");
	pcm_expect("POST", "/api/deps/remove", NULL, "{\"package\":\"a\"}", 403,
	    "Runtime dependency modification is disabled");
	fails("deps.add", CODEMODE_INVALID, "Invalid package: contains blocked character ';'");
	pcm_expect("POST", "/api/deps/add", NULL, "{\"package\":\"a;b\"}", 400,
	    "Invalid package: contains blocked character ';'");
	struct fake_call f;
	pcm_send(&f, "POST", "/api/deps/add", NULL, "{}", 422);
	fake_call_fini(&f);
}

static void a_removal_is_told_as_each_generation_reads_it(void **state)
{
	(void)state;
	static const char body[] = "{\"package\":\"a\"}";
	char id[TEXT_GUID_BYTES];
	pcm_new_id(id, NULL);
	answers("deps.remove", "true");
	pcm_expect_json("POST", "/api/deps/remove", "0b1b3b7e-5b0e-4c3e-9f5e-0d9a4f3c2b1a", body,
	    200, "{\"removed\":true,\"removed_from_config\":true}");
	pcm_expect_json("POST", "/api/deps/remove", id, body, 200,
	    "{\"removed\":[\"a\"],\"not_found\":[],\"failed\":[],\"removed_from_config\":true}");
	pcm_expect_json("POST", "/api/deps/remove", NULL, body, 200,
	    "{\"removed\":[\"a\"],\"not_found\":[],\"failed\":[],\"removed_from_config\":true}");
	answers("deps.remove", "false");
	pcm_expect_json("POST", "/api/deps/remove", "agent-1", body, 200,
	    "{\"removed\":false,\"removed_from_config\":false}");
	pcm_expect_json("POST", "/api/deps/remove", id, body, 200,
	    "{\"removed\":[],\"not_found\":[\"a\"],\"failed\":[],\"removed_from_config\":false}");
}

static void packages_are_installed_one_by_one(void **state)
{
	(void)state;
	answers("deps.add", SYNCED);
	pcm_expect_json("POST", "/install_deps", NULL,
	    "{\"packages\":[\"a\",\"-r/etc/passwd\",\"b\"]}", 200,
	    "{\"installed\":[\"a\",\"a\"],\"already_present\":[],\"removed\":[],\"not_found\":[],"
	    "\"failed\":[\"-r/etc/passwd\"]}");
	assert_int_equal(mode.asked_count, 2);
	assert_string_equal(mode.asked[0].arguments, "{\"package\":\"a\"}");
	assert_string_equal(mode.asked[1].arguments, "{\"package\":\"b\"}");
	assert_true(mode.asked[0].system);
	/* One that fails is told as failed: the reference says installed. */
	fails("deps.add", CODEMODE_FAILED, "no such package");
	pcm_expect_json("POST", "/install_deps", NULL, "{\"packages\":[\"a\"]}", 200,
	    "{\"installed\":[],\"already_present\":[],\"removed\":[],\"not_found\":[],"
	    "\"failed\":[\"a\"]}");
	fails("deps.add", CODEMODE_UNAVAILABLE, "the store is down");
	pcm_expect(
	    "POST", "/install_deps", NULL, "{\"packages\":[\"a\"]}", 503, "the store is down");
	pcm_expect_json("POST", "/install_deps", NULL, "{\"packages\":[]}", 200,
	    "{\"installed\":[],\"already_present\":[],\"removed\":[],\"not_found\":[],"
	    "\"failed\":[]}");
	answers("deps.remove", "true");
	pcm_expect_json("POST", "/uninstall_deps", NULL, "{\"packages\":[\"a\",\"-y\"]}", 200,
	    "{\"installed\":[],\"already_present\":[],\"removed\":[\"a\"],\"not_found\":[],"
	    "\"failed\":[\"-y\"]}");
	answers("deps.remove", "false");
	pcm_expect_json("POST", "/uninstall_deps", NULL, "{\"packages\":[\"a\"]}", 200,
	    "{\"installed\":[],\"already_present\":[],\"removed\":[],\"not_found\":[\"a\"],"
	    "\"failed\":[]}");
}

static void lists_of_packages_are_checked(void **state)
{
	(void)state;
	static const char *const bad[] = {"{}", "{\"packages\":\"a\"}", "{\"packages\":[1]}",
	    "{\"packages\":null}", "{\"packages\":[\"a\\u0000b\"]}"};
	struct fake_call f;
	for (size_t i = 0; i < array_len(bad); i++) {
		pcm_send(&f, "POST", "/install_deps", NULL, bad[i], 422);
		fake_call_fini(&f);
	}
	json_t *many = json_pack("{s:[]}", "packages");
	for (int i = 0; i < 101; i++) {
		(void)json_array_append_new(json_object_get(many, "packages"), json_string("a"));
	}
	char *text = json_dumps(many, 0);
	pcm_send(&f, "POST", "/install_deps", NULL, text, 422);
	assert_string_equal(fake_text(&f, "detail.0.type"), "too_long");
	fake_call_fini(&f);
	free(text);
	/* As many as may be, answered at once, each within the one before. */
	(void)json_array_remove(json_object_get(many, "packages"), 100);
	text = json_dumps(many, 0);
	answers("deps.add", SYNCED);
	pcm_send(&f, "POST", "/install_deps", NULL, text, 200);
	assert_int_equal(json_array_size(fake_at(&f, "installed")), 100);
	fake_call_fini(&f);
	free(text);
	json_decref(many);
}

/* --- info, spaces, and code mode that is not there ----------------------------------------------
 */

static void info_tells_both_words(void **state)
{
	(void)state;
	answers("tools.list", "[{\"name\":\"nmap\",\"description\":\"Scan\",\"tags\":[]}]");
	answers("skills.list", "[" SKILL "]");
	answers("artifacts.path", "\"/workspace/artifacts\"");
	pcm_expect_json("GET", "/info", "agent-1", NULL, 200,
	    "{\"tools\":[{\"name\":\"nmap\",\"description\":\"Scan\"}],\"skills\":[{\"name\":"
	    "\"scan\",\"description\":\"Scan ports\"}],\"workflows\":[{\"name\":\"scan\","
	    "\"description\":\"Scan ports\"}],\"artifacts_path\":\"/workspace/artifacts\"}");
	assert_int_equal(mode.asked_count, 3);
	/* The same when answers take their time. */
	struct fake_call f;
	mode.later = true;
	fake_start(&f, &world, "GET", "/info", NULL, NULL, NULL, 0);
	assert_int_equal(f.answers, 0);
	fake_codemode_release(&mode);
	assert_int_equal(f.status, 200);
	assert_string_equal(fake_text(&f, "artifacts_path"), "/workspace/artifacts");
	fake_call_fini(&f);
	fails("skills.list", CODEMODE_UNAVAILABLE, "the store is down");
	fake_start(&f, &world, "GET", "/info", NULL, NULL, NULL, 0);
	fake_codemode_release(&mode);
	assert_int_equal(f.status, 503);
	assert_string_equal(fake_text(&f, "detail"), "the store is down");
	fake_call_fini(&f);
}

/* Who asks decides what is seen: the token its tenant, the session its workspace. */
static void spaces_are_those_of_token_and_session(void **state)
{
	(void)state;
	char id[TEXT_GUID_BYTES];
	struct fake_call f;
	answers("skills.list", "[]");
	answers("tools.list", "[]");
	answers("artifacts.path", "\"p\"");
	answers("artifacts.list", "[]");
	answers("deps.list", "[]");
	world.prefix = "tenant-a";
	pcm_new_id(id, "team");
	static const struct {
		const char *target;
		const char *workspace;
	} cases[] = {{"/api/workflows", "team"}, {"/api/skills", "team"},
	    {"/api/artifacts", "team"}, {"/info", "team"}, {"/api/deps", ""}};
	for (size_t i = 0; i < array_len(cases); i++) {
		pcm_send(&f, "GET", cases[i].target, id, NULL, 200);
		fake_call_fini(&f);
		assert_string_equal(fake_codemode_last(&mode)->prefix, "tenant-a");
		assert_string_equal(fake_codemode_last(&mode)->workspace, cases[i].workspace);
		pcm_send(&f, "GET", cases[i].target, "agent-1", NULL, 200);
		fake_call_fini(&f);
		assert_string_equal(fake_codemode_last(&mode)->workspace, "");
	}
	/* Another tenant does not come into the workspace by its id. */
	world.prefix = "tenant-b";
	pcm_expect("GET", "/api/workflows", id, NULL, 400, "Invalid session ID");
	pcm_send(&f, "GET", "/api/skills", id, NULL, 200);
	fake_call_fini(&f);
	assert_string_equal(fake_codemode_last(&mode)->prefix, "tenant-b");
	assert_string_equal(fake_codemode_last(&mode)->workspace, "");
	world.prefix = NULL;
	pcm_send(&f, "GET", "/api/skills", NULL, NULL, 200);
	fake_call_fini(&f);
	assert_string_equal(fake_codemode_last(&mode)->prefix, "");
}

static void a_client_that_leaves_cancels(void **state)
{
	(void)state;
	struct fake_call f;
	answers("skills.list", "[]");
	answers("tools.list", "[]");
	answers("deps.add", SYNCED);
	mode.later = true;
	static const struct {
		const char *method;
		const char *target;
		const char *body;
	} cases[] = {{"GET", "/api/skills", NULL}, {"GET", "/info", NULL},
	    {"POST", "/install_deps", "{\"packages\":[\"a\",\"b\"]}"}};
	for (size_t i = 0; i < array_len(cases); i++) {
		fake_start(&f, &world, cases[i].method, cases[i].target, NULL, NULL, cases[i].body,
		    cases[i].body == NULL ? 0 : strlen(cases[i].body));
		assert_int_equal(f.answers, 0);
		fake_leave(&f);
		assert_int_equal(mode.cancelled, i + 1);
		assert_null(mode.pending);
		fake_call_fini(&f);
	}
}

static void failures_have_their_status(void **state)
{
	(void)state;
	static const struct {
		enum codemode_error code;
		int status;
	} cases[] = {{CODEMODE_INVALID, 400}, {CODEMODE_NOT_FOUND, 404}, {CODEMODE_DENIED, 403},
	    {CODEMODE_UNAVAILABLE, 503}, {CODEMODE_FAILED, 500}};
	for (size_t i = 0; i < array_len(cases); i++) {
		fails("skills.list", cases[i].code, "why");
		pcm_expect("GET", "/api/skills", NULL, NULL, cases[i].status, "why");
		pcm_expect("GET", "/api/workflows", NULL, NULL, cases[i].status, "why");
	}
}

static void without_code_mode_it_says_so(void **state)
{
	(void)state;
	static const struct {
		const char *method;
		const char *target;
		const char *body;
	} cases[] = {{"GET", "/info", NULL}, {"GET", "/api/tools", NULL},
	    {"GET", "/api/tools/search?query=x", NULL}, {"GET", "/api/skills", NULL},
	    {"GET", "/api/workflows/a", NULL}, {"DELETE", "/api/skills/a", NULL},
	    {"POST", "/api/skills", "{\"name\":\"a\",\"source\":\"\",\"description\":\"\"}"},
	    {"GET", "/api/artifacts/a", NULL},
	    {"POST", "/api/artifacts", "{\"name\":\"a\",\"data\":{}}"}, {"GET", "/api/deps", NULL},
	    {"POST", "/api/deps/add", "{\"package\":\"a\"}"},
	    {"POST", "/install_deps", "{\"packages\":[\"a\"]}"}};
	world.api.codemode = NULL;
	for (size_t i = 0; i < array_len(cases); i++) {
		pcm_expect(cases[i].method, cases[i].target, NULL, cases[i].body, 503,
		    "Code mode is not available on this server");
	}
	/* Running code needs none of it. */
	struct fake_call f;
	pcm_send(&f, "POST", "/execute", "agent-1", "{\"code\":\"1\"}", 200);
	fake_call_fini(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    PCM_TEST(tools_are_passed_on),
	    PCM_TEST(a_query_is_checked),
	    PCM_TEST(skills_and_workflows_are_two_views),
	    PCM_TEST(a_skill_is_had_by_name),
	    PCM_TEST(a_skill_is_made),
	    PCM_TEST(an_artifact_comes_back_as_what_it_is),
	    PCM_TEST(a_large_artifact_is_saved),
	    PCM_TEST(who_accepts_bytes_gets_them_as_they_are_kept),
	    PCM_TEST(a_large_artifact_goes_out_as_it_is_read),
	    PCM_TEST(no_more_of_a_large_artifact_is_read_than_the_client_takes),
	    PCM_TEST(who_leaves_while_json_is_checked_leaves_nothing),
	    PCM_TEST(an_artifact_that_cannot_be_read_to_its_end),
	    PCM_TEST(one_tenant_has_half_of_what_is_sent_at_once),
	    PCM_TEST(an_artifacts_name_may_hold_slashes),
	    PCM_TEST(an_artifact_that_is_not_there_is_404),
	    PCM_TEST(saving_keeps_the_type_of_the_data),
	    PCM_TEST(saving_is_checked),
	    PCM_TEST(saving_takes_base64),
	    PCM_TEST(dependencies_of_agents),
	    PCM_TEST(a_removal_is_told_as_each_generation_reads_it),
	    PCM_TEST(packages_are_installed_one_by_one),
	    PCM_TEST(lists_of_packages_are_checked),
	    PCM_TEST(info_tells_both_words),
	    PCM_TEST(spaces_are_those_of_token_and_session),
	    PCM_TEST(a_client_that_leaves_cancels),
	    PCM_TEST(failures_have_their_status),
	    PCM_TEST(without_code_mode_it_says_so),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
