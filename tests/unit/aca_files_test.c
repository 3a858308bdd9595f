/* The file routes of both dialects, driven through struct call against the real engine, with a
 * temporary directory as the session's. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "aca_fixture.h"
#include "api/aca_list.h"
#include "base/fd.h"
#include "base/text.h"

#define OLD_V "api-version=2024-02-02-preview"
#define OLD "?" OLD_V "&" ID

static void upload(
    struct fake_call *f, const char *target, const char *name, const char *text, int status)
{
	fake_upload(f, &world, target, name, text, strlen(text));
	assert_int_equal(f->answers, 1);
	if (f->status != status) {
		print_error("%s: %s\n", target, fake_text(f, "error.message"));
	}
	assert_int_equal(f->status, status);
}

static void put(const char *target, const char *name, const char *text)
{
	struct fake_call f;
	upload(&f, target, name, text, 200);
	fake_call_fini(&f);
}

static struct session *session(void)
{
	return engine_session_find(&world.engine->pools[0], NULL, "user-0001");
}

static int data_dir(void)
{
	return session()->worker->data_dir_fd;
}

/* What the session itself makes. */
static void make(const char *name)
{
	int fd = openat(data_dir(), name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	(void)close(fd);
}

static void get(struct fake_call *f, const char *target)
{
	fake_send(f, &world, "GET", target, NULL);
	assert_int_equal(f->answers, 1);
	assert_int_equal(f->status, 200);
	bool is_file = fake_header(f, "Size") != NULL;
	if (f->source != NULL && !f->closed) {
		assert_true(fake_pull(f, 50000));
	}
	if (f->source != NULL && !is_file) {
		f->json = json_loadb(buf_str(&f->body), f->body.len, JSON_REJECT_DUPLICATES, NULL);
		assert_non_null(f->json);
	}
}

static void expect_holds(unsigned holds)
{
	fake_pump(&world);
	assert_int_equal(session()->holds, holds);
}

/* --- uploads
 * ---------------------------------------------------------------------------------------- */

static void test_upload_old(void **state)
{
	(void)state;
	static const char *const routes[] = {
	    "/files/upload" OLD, "/python/uploadFile" OLD, "/upload" OLD, "/files/upload" Q};
	for (size_t i = 0; i < array_len(routes); i++) {
		struct fake_call f;
		upload(&f, routes[i], "/mnt/data/a.txt", "hello world\n", 200);
		assert_string_equal(fake_text(&f, "$id"), "1");
		assert_string_equal(fake_text(&f, "value.0.$id"), "2");
		assert_string_equal(fake_text(&f, "value.0.properties.$id"), "3");
		assert_string_equal(fake_text(&f, "value.0.properties.filename"), "a.txt");
		assert_int_equal(json_integer_value(fake_at(&f, "value.0.properties.size")), 12);
		assert_int_equal(strlen(fake_text(&f, "value.0.properties.lastModifiedTime")), 28);
		fake_call_fini(&f);
		expect_holds(0);
	}
	assert_int_equal(world.engine->pools[0].metrics.uploads, 4);
	assert_int_equal(world.engine->pools[0].metrics.upload_bytes, 48);
}

static void test_upload_new(void **state)
{
	(void)state;
	struct fake_call f;
	upload(&f, "/files" Q "&path=%2Fmnt%2Fdata%2Fsub%2Fdir", "r\xc3\xa9sum\xc3\xa9.csv", "a,b",
	    200);
	assert_string_equal(fake_text(&f, "name"), "r\xc3\xa9sum\xc3\xa9.csv");
	assert_string_equal(fake_text(&f, "type"), "file");
	assert_string_equal(fake_text(&f, "contentType"), "text/csv; charset=utf-8");
	assert_string_equal(fake_text(&f, "directory"), "sub/dir");
	assert_int_equal(json_integer_value(fake_at(&f, "sizeInBytes")), 3);
	assert_int_equal(strlen(fake_text(&f, "lastModifiedAt")), 28);
	fake_call_fini(&f);
}

static void test_upload_refused(void **state)
{
	(void)state;
	static const struct {
		const char *target;
		const char *name;
		int status;
		const char *code;
	} cases[] = {
	    {"/files" Q, NULL, 400, "SessionRequestValidationFailed"},
	    {"/files" Q, "", 400, "SessionRequestValidationFailed"},
	    {"/files" Q, "a/..", 400, "SessionRequestValidationFailed"},
	    {"/files" Q, "a\nb", 400, "SessionRequestValidationFailed"},
	    {"/files" Q "&path=..", "a", 400, "SessionRequestValidationFailed"},
	    {"/files" Q "&path=%2Fetc", "a", 400, "SessionRequestValidationFailed"},
	    {"/files?" ID, "a", 400, "SessionRequestValidationFailed"},
	    {"/files?" V "&identifier=x", "a", 400, "InvalidLengthOfSessionIdentifier"},
	    {"/sessionPools/none/files" Q, "a", 404, "SessionPoolNotFound"},
	    {"/files" Q, "dir", 409, "SessionRequestConflict"},
	};
	put("/files" Q "&path=dir", "x", "");
	for (size_t i = 0; i < array_len(cases); i++) {
		struct fake_call f;
		upload(&f, cases[i].target, cases[i].name, "text", cases[i].status);
		assert_string_equal(fake_text(&f, "error.code"), cases[i].code);
		fake_call_fini(&f);
		expect_holds(0);
	}
}

static void test_upload_too_large(void **state)
{
	(void)state;
	struct fake_call f;
	size_t size = (128U << 20) + 1;
	char *bytes = calloc(size, 1);
	assert_non_null(bytes);
	fake_upload(&f, &world, "/files" Q, "big", bytes, size);
	assert_int_equal(f.status, 413);
	assert_string_equal(fake_text(&f, "error.code"), "SessionRequestTooLarge");
	fake_call_fini(&f);
	free(bytes);
	get(&f, "/files" Q);
	assert_int_equal(json_array_size(fake_at(&f, "value")), 0);
	fake_call_fini(&f);
	expect_holds(0);
}

/* A request is carried on when its session is there, or answered when there will be none. */
static void test_upload_waits(void **state)
{
	(void)state;
	struct fake_call f;
	put("/files" Q, "ready-at-once", "");
	fake_upload(&f, &world, "/files?" V "&identifier=another", "a", "b", 1);
	assert_true(f.waits && f.continued);
	assert_int_equal(f.status, 200);
	fake_call_fini(&f);
	world.no_workers = true;
	fake_send(&f, &world, "GET", "/files?" V "&identifier=third", NULL);
	assert_int_equal(f.answers, 0);
	engine_session_delete(engine_session_find(&world.engine->pools[0], NULL, "third"));
	assert_int_equal(f.answers, 1);
	assert_int_equal(f.status, 410);
	assert_string_equal(fake_text(&f, "error.code"), "SessionGone");
	fake_call_fini(&f);
	/* And when the client leaves first. */
	fake_send(&f, &world, "GET", "/files?" V "&identifier=third", NULL);
	fake_leave(&f);
	world.no_workers = false;
	fake_pump(&world);
	fake_call_fini(&f);
}

/* Begins an upload by hand: part and data, no end. */
static void begin_upload(struct fake_call *f)
{
	const struct route *r;
	fake_upload(f, &world, "/files" Q, NULL, "", 0); /* answers 400: no file */
	fake_call_fini(f);
	fake_start(f, &world, "GET", "/health", NULL, NULL, NULL, 0);
	size_t count;
	r = api_routes(0, &count);
	while (r->method != CALL_POST || strcmp(r->pattern, "files") != 0) {
		r++;
	}
	json_decref(f->json);
	f->json = NULL;
	f->answers = 0;
	f->call.route = r;
	f->value_count = 2;
	memcpy(f->values[0],
	    "api-version\0"
	    "2025-10-02-preview",
	    31);
	memcpy(f->values[1],
	    "identifier\0"
	    "user-0001",
	    21);
	assert_int_equal(r->begin(&f->call), CALL_GO_ON);
	assert_int_equal(f->answers, 0);
	assert_int_equal(r->upload->part(&f->call, "file", "half.txt"), 0);
	assert_int_equal(r->upload->data(&f->call, "ab", 2), 0);
	fake_pump(&world);
}

static int count_names(void)
{
	int fd = openat(data_dir(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fdopendir(fd);
	int count = -2;
	while (readdir(d) != NULL) {
		count++;
	}
	(void)closedir(d);
	return count;
}

static void test_upload_left(void **state)
{
	(void)state;
	struct fake_call f;
	begin_upload(&f);
	expect_holds(1);
	assert_int_equal(count_names(), 1);
	fake_leave(&f);
	expect_holds(0);
	assert_int_equal(count_names(), 0);
	fake_call_fini(&f);
	/* The HTTP layer gives up in the middle: everything is let go of. */
	begin_upload(&f);
	struct err e;
	(void)err_set(&e, ERR_INVALID, "the body ends too early");
	f.call.route->on_error(&f.call, 400, &e);
	assert_int_equal(f.status, 400);
	fake_pump(&world);
	assert_int_equal(count_names(), 0);
	expect_holds(0);
	fake_call_fini(&f);
}

/* What the thread has not written yet is bounded: the body waits for it. */
static void test_upload_waits_for_the_file(void **state)
{
	(void)state;
	static char bytes[64U << 10];
	struct fake_call f;
	begin_upload(&f);
	const struct call_upload *u = f.call.route->upload;
	unsigned taken = 0;
	while (f.paused == 0 && taken < 100) {
		assert_int_equal(u->data(&f.call, bytes, sizeof(bytes)), 0);
		taken++;
	}
	assert_in_range(taken, 2, 6);
	assert_false(f.continued);
	fake_pump(&world);
	assert_true(f.continued);
	assert_int_equal(u->end(&f.call), 0);
	f.call.route->handle(&f.call);
	assert_int_equal(f.answers, 0); /* never before the question has returned */
	fake_pump(&world);
	assert_int_equal(f.status, 200);
	assert_int_equal(json_integer_value(fake_at(&f, "sizeInBytes")), 2 + taken * sizeof(bytes));
	fake_call_fini(&f);
}

static void test_session_ends_during_upload(void **state)
{
	(void)state;
	struct fake_call f;
	begin_upload(&f);
	engine_session_delete(session());
	assert_int_equal(f.call.route->upload->data(&f.call, "cd", 2), -1);
	assert_int_equal(f.status, 410);
	assert_int_equal(f.call.route->upload->end(&f.call), -1);
	fake_call_fini(&f);
	/* Another session of the same identifier is not the one that was written to. */
	begin_upload(&f);
	engine_session_delete(session());
	assert_non_null(engine_session_open(&world.engine->pools[0], NULL, "user-0001", NULL));
	fake_pump(&world);
	f.call.route->handle(&f.call);
	assert_int_equal(f.status, 410);
	assert_int_equal(count_names(), 0);
	fake_call_fini(&f);
}

static void test_several_files(void **state)
{
	(void)state;
	struct fake_call f;
	begin_upload(&f);
	const struct call_upload *u = f.call.route->upload;
	assert_int_equal(u->end(&f.call), 0);
	assert_int_equal(u->part(&f.call, "file", "second.txt"), 0);
	assert_int_equal(u->end(&f.call), 0);
	f.call.route->handle(&f.call);
	fake_pump(&world);
	assert_int_equal(f.status, 200);
	assert_string_equal(fake_text(&f, "value.0.name"), "half.txt");
	assert_string_equal(fake_text(&f, "value.1.name"), "second.txt");
	fake_call_fini(&f);
	assert_int_equal(count_names(), 2);
	begin_upload(&f);
	int r = 0;
	for (int i = 1; r == 0; i++) {
		char name[32];
		(void)snprintf(name, sizeof(name), "file-%d", i);
		assert_true(i <= 32);
		r = u->part(&f.call, "file", name);
	}
	assert_int_equal(f.status, 400);
	fake_call_fini(&f);
	assert_int_equal(count_names(), 2);
}

/* --- listings
 * --------------------------------------------------------------------------------------- */

static void test_list(void **state)
{
	(void)state;
	struct fake_call f;
	/* An unknown identifier gets a session and an empty list. */
	get(&f, "/files" Q);
	assert_int_equal(json_array_size(fake_at(&f, "value")), 0);
	assert_true(json_is_array(fake_at(&f, "value")));
	fake_call_fini(&f);
	assert_non_null(session());
	put("/files" Q, "b.txt", "1234");
	put("/files" Q "&path=sub/deep", "c", "");
	make("bad\xff");
	assert_int_equal(symlinkat("/etc", data_dir(), "link"), 0);
	get(&f, "/files" Q);
	assert_int_equal(json_array_size(fake_at(&f, "value")), 3);
	assert_string_equal(fake_text(&f, "value.0.name"), "b.txt");
	assert_string_equal(fake_text(&f, "value.0.type"), "file");
	assert_string_equal(fake_text(&f, "value.0.contentType"), "text/plain; charset=utf-8");
	assert_int_equal(json_integer_value(fake_at(&f, "value.0.sizeInBytes")), 4);
	assert_string_equal(fake_text(&f, "value.0.directory"), "");
	assert_string_equal(fake_text(&f, "value.1.name"), "bad\xef\xbf\xbd");
	assert_string_equal(fake_text(&f, "value.2.name"), "sub");
	assert_string_equal(fake_text(&f, "value.2.type"), "directory");
	assert_string_equal(fake_text(&f, "value.2.contentType"), "application/octet-stream");
	assert_int_equal(json_integer_value(fake_at(&f, "value.2.sizeInBytes")), 4096);
	fake_call_fini(&f);
	get(&f, "/files" Q "&recursive=True");
	assert_int_equal(json_array_size(fake_at(&f, "value")), 5);
	assert_string_equal(fake_text(&f, "value.4.name"), "c");
	assert_string_equal(fake_text(&f, "value.4.directory"), "sub/deep");
	fake_call_fini(&f);
	get(&f, "/files" Q "&path=/mnt/data/sub&recursive=true&skip=1");
	assert_int_equal(json_array_size(fake_at(&f, "value")), 1);
	assert_string_equal(fake_text(&f, "value.0.directory"), "deep");
	fake_call_fini(&f);
	expect_error("GET", "/files" Q "&path=none", NULL, 404, "SessionFileNotFound", "");
	expect_error("GET", "/files" Q "&path=link", NULL, 404, "SessionFileNotFound", "");
	expect_error(
	    "GET", "/files" Q "&path=../x", NULL, 400, "SessionRequestValidationFailed", "path");
	expect_holds(0);
}

static void test_list_old(void **state)
{
	(void)state;
	struct fake_call f;
	put("/files" Q, "b.txt", "1234");
	put("/files" Q, "a.txt", "1");
	put("/files" Q "&path=sub", "c", "");
	get(&f, "/files?api-version=2024-08-02-preview&recursive=false&" ID);
	assert_int_equal(json_array_size(fake_at(&f, "value")), 2);
	fake_call_fini(&f);
	/* It knows no directories, so what is in one has its path for a name. */
	get(&f, "/files" OLD);
	assert_string_equal(fake_text(&f, "$id"), "1");
	assert_int_equal(json_array_size(fake_at(&f, "value")), 3);
	assert_string_equal(fake_text(&f, "value.0.properties.filename"), "a.txt");
	assert_string_equal(fake_text(&f, "value.1.properties.filename"), "b.txt");
	assert_int_equal(json_integer_value(fake_at(&f, "value.1.properties.size")), 4);
	assert_string_equal(fake_text(&f, "value.2.properties.filename"), "sub/c");
	fake_call_fini(&f);
	get(&f, "/files?api-version=2024-10-02-preview&" ID);
	assert_string_equal(fake_text(&f, "value.0.name"), "a.txt");
	fake_call_fini(&f);
}

/* More than a step, more than a page: streamed, nothing lost, nothing twice. */
static void test_list_large(void **state)
{
	(void)state;
	struct fake_call f;
	enum { FILES = ACA_LIST_PAGE + 1234 };
	put("/files" Q, "first", "");
	char name[32];
	for (int i = 1; i < FILES; i++) {
		(void)snprintf(name, sizeof(name), "f%05d", i);
		make(name);
	}
	static unsigned char seen[FILES];
	memset(seen, 0, sizeof(seen));
	char next[512] = "/x/sessionPools/default/files" Q;
	int pages = 0;
	for (; next[0] != '\0'; pages++) {
		get(&f, next);
		size_t i;
		json_t *entry;
		json_array_foreach(fake_at(&f, "value"), i, entry)
		{
			const char *found = json_string_value(json_object_get(entry, "name"));
			uint64_t number = 0;
			if (found[0] == 'f' && found[1] != 'i') {
				assert_int_equal(text_to_u64(found + 1,
						     sizeof(seen) / sizeof(seen[0]) - 1, &number),
				    0);
			}
			seen[number]++;
		}
		assert_true(json_array_size(fake_at(&f, "value")) <= ACA_LIST_PAGE);
		(void)snprintf(next, sizeof(next), "%s", fake_text(&f, "nextLink"));
		expect_holds(0);
		fake_call_fini(&f);
	}
	assert_int_equal(pages, 2);
	for (int i = 0; i < FILES; i++) {
		assert_int_equal(seen[i], 1);
	}
	/* The client leaves in the middle. */
	fake_send(&f, &world, "GET", "/files" Q, NULL);
	char bytes[100];
	assert_true(f.source->read(f.source, bytes, sizeof(bytes)) > 0);
	expect_holds(1);
	fake_leave(&f);
	expect_holds(0);
	fake_call_fini(&f);
}

/* --- one file
 * ----------------------------------------------------------------------------------------- */

static void expect_content(const char *target, const char *text, const char *type)
{
	struct fake_call f;
	get(&f, target);
	assert_string_equal(buf_str(&f.body), text);
	assert_string_equal(fake_header(&f, "Content-Type"), type);
	fake_call_fini(&f);
	expect_holds(0);
}

static void test_content(void **state)
{
	(void)state;
	put("/files" Q, "a b.json", "{}");
	put("/files" Q "&path=sub", "t", "text");
	static const char octets[] = "application/octet-stream";
	expect_content("/files/a%20b.json/content" Q, "{}", "application/json");
	expect_content("/files/content/a%20b.json" OLD, "{}", "application/json");
	expect_content("/files/content/sub/t" OLD, "text", octets);
	expect_content("/files/content//mnt/data/sub/t" OLD, "text", octets);
	expect_content("/files/t/content" Q "&path=sub", "text", octets);
	expect_content("/files/sub%2Ft/content" Q, "text", octets);
	expect_content("/files/%2Fmnt%2Fdata%2Fsub%2Ft/content" Q, "text", octets);
	assert_int_equal(world.engine->pools[0].metrics.downloads, 7);
	assert_int_equal(world.engine->pools[0].metrics.download_bytes, 24);
	static const char missing[] = "SessionFileNotFound";
	static const char bad[] = "SessionRequestValidationFailed";
	expect_error("GET", "/files/none/content" Q, NULL, 404, missing, "");
	expect_error("GET", "/files/content/none" OLD, NULL, 404, missing, "");
	expect_error("GET", "/files/sub/content" Q, NULL, 400, bad, "filename");
	expect_error("GET", "/files/..%2F..%2Fetc%2Fpasswd/content" Q, NULL, 400, bad, "filename");
	expect_error("GET", "/files/content/../../etc/passwd" OLD, NULL, 400, bad, "filename");
	expect_error("GET", "/files/%2Fetc%2Fpasswd/content" Q, NULL, 400, bad, "filename");
	assert_int_equal(mkfifoat(data_dir(), "fifo", 0600), 0);
	expect_error("GET", "/files/fifo/content" Q, NULL, 400, bad, "filename");
	/* A download of an identifier that is new: a session, without that file. */
	expect_error("GET", "/files/x/content?" V "&identifier=another", NULL, 404, missing, "");
	expect_holds(0);
}

static void test_show_and_delete(void **state)
{
	(void)state;
	struct fake_call f;
	put("/files" Q, "a.txt", "12");
	put("/files" Q, "b.txt", "12");
	put("/files" Q "&path=d", "x", "12");
	get(&f, "/files/a.txt" Q);
	assert_string_equal(fake_text(&f, "name"), "a.txt");
	fake_call_fini(&f);
	get(&f, "/files/a.txt" OLD);
	assert_string_equal(fake_text(&f, "value.0.properties.filename"), "a.txt");
	fake_call_fini(&f);
	get(&f, "/files/d" Q);
	assert_string_equal(fake_text(&f, "type"), "directory");
	fake_call_fini(&f);
	fake_send(&f, &world, "DELETE", "/files/a.txt" Q, NULL);
	assert_int_equal(f.status, 204);
	fake_call_fini(&f);
	fake_send(&f, &world, "DELETE", "/files/b.txt" OLD, NULL);
	assert_int_equal(f.status, 200);
	assert_string_equal(fake_text(&f, "message"), "file deleted successfully");
	fake_call_fini(&f);
	expect_error("DELETE", "/files/a.txt" Q, NULL, 404, "SessionFileNotFound", "");
	expect_error("DELETE", "/files/d" Q, NULL, 409, "SessionRequestConflict", "");
	fake_send(&f, &world, "DELETE", "/files/x" Q "&path=d", NULL);
	assert_int_equal(f.status, 204);
	fake_call_fini(&f);
	assert_int_equal(count_names(), 1);
	expect_holds(0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    ACA_TEST(test_upload_old),
	    ACA_TEST(test_upload_new),
	    ACA_TEST(test_upload_refused),
	    ACA_TEST(test_upload_too_large),
	    ACA_TEST(test_upload_waits),
	    ACA_TEST(test_upload_left),
	    ACA_TEST(test_upload_waits_for_the_file),
	    ACA_TEST(test_session_ends_during_upload),
	    ACA_TEST(test_several_files),
	    ACA_TEST(test_list),
	    ACA_TEST(test_list_old),
	    ACA_TEST(test_list_large),
	    ACA_TEST(test_content),
	    ACA_TEST(test_show_and_delete),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
