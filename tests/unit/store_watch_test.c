/* The store over files on a file system whose changes the kernel tells: what anybody writes is seen
 * by whoever asks next, and what did not change is not looked at again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "gateway/seal.h"
#include "store_suite.h"

#define REST_MS 1300 /* longer than an unwatched list is taken for current */

static char base[64];
static int skills = -1; /* the directory of the server's own space */

static void remove_all(const char *path)
{
	pid_t child = fork();
	if (child == 0) {
		(void)execl("/bin/rm", "rm", "-rf", path, (char *)NULL);
		_exit(127);
	}
	(void)waitpid(child, NULL, 0);
}

static struct store *open_store(uv_loop_t *loop, const char *tools_dir)
{
	struct err e = {0};
	struct store *st = store_new(
	    loop, &(struct store_config){.dir = base, .tools_dir = tools_dir}, &e);
	assert_string_equal(e.text, "");
	return st;
}

static int setup(void **state)
{
	struct store_suite *s = calloc(1, sizeof(*s));
	/* tmpfs, wherever this runs. */
	(void)snprintf(base, sizeof(base), "/dev/shm/carrel-watch-XXXXXX");
	assert_non_null(mkdtemp(base));
	assert_int_equal(uv_loop_init(&s->loop), 0);
	s->a = open_store(&s->loop, NULL);
	s->b = open_store(&s->loop, NULL);
	char path[80];
	(void)snprintf(path, sizeof(path), "%s/skills", base);
	skills = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(skills >= 0);
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	struct store_suite *s = *state;
	store_free(s->a);
	store_free(s->b);
	(void)uv_run(&s->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&s->loop), 0);
	free(s);
	fd_close(&skills);
	remove_all(base);
	return 0;
}

static void write_file(const char *name, const char *text)
{
	cleanup(fd_close) int fd = openat(
	    skills, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
}

static const char *source_of(const json_t *records, size_t i)
{
	return json_string_value(json_object_get(json_array_get(records, i), "source"));
}

static void expect_source(struct store_suite *s, const char *source)
{
	struct store_answer a = suite_list(s, s->a, NULL, STORE_SKILLS);
	assert_int_equal(json_array_size(a.json), 1);
	assert_string_equal(source_of(a.json, 0), source);
	suite_drop(a);
}

static void expect_count(struct store_suite *s, size_t count)
{
	struct store_answer a = suite_list(s, s->a, NULL, STORE_SKILLS);
	assert_int_equal(json_array_size(a.json), count);
	suite_drop(a);
}

static void on_list(void *ctx, json_t *records, uint64_t revision, const struct err *e)
{
	(void)records;
	(void)revision;
	assert_null(e);
	*(bool *)ctx = true;
}

/* Whether A answers without looking. */
static bool is_known(struct store_suite *s)
{
	static const struct store_space own = {0};
	bool called = false;
	bool at_once = store_list(s->a, &own, STORE_SKILLS, on_list, &called) == NULL;
	assert_int_equal(at_once, called);
	while (!called) {
		(void)uv_run(&s->loop, UV_RUN_ONCE);
	}
	return at_once;
}

static void edits_in_place_are_seen_at_once(void **state)
{
	struct store_suite *s = *state;
	write_file("e.py", "first");
	expect_source(s, "first");
	for (int i = 0; i < 50; i++) {
		/* As long as before, and with the time stamp of before. */
		struct stat st;
		char text[16];
		(void)snprintf(text, sizeof(text), "r%04d", i);
		assert_int_equal(fstatat(skills, "e.py", &st, 0), 0);
		cleanup(fd_close) int fd = openat(skills, "e.py", O_WRONLY | O_CLOEXEC);
		assert_int_equal(pwrite(fd, text, 5, 0), 5);
		assert_int_equal(futimens(fd, (struct timespec[]){st.st_atim, st.st_mtim}), 0);
		expect_source(s, text);
	}
}

static void a_list_is_current_however_long_nobody_asked(void **state)
{
	struct store_suite *s = *state;
	write_file("e.py", "first");
	expect_source(s, "first");
	uv_sleep(REST_MS);
	assert_true(is_known(s));
	/* What is no skill changes none. */
	write_file("notes.txt", "x");
	write_file(".carrel-lock", "x");
	assert_true(is_known(s));
	write_file("e.py", "second");
	assert_false(is_known(s));
	assert_true(is_known(s));
}

static void what_did_not_change_stays_the_same_object(void **state)
{
	struct store_suite *s = *state;
	suite_put_skill(s, s->a, NULL, "a", "1");
	suite_put_skill(s, s->a, NULL, "b", "2");
	suite_put_skill(s, s->a, NULL, "d", "4");
	struct store_answer before = suite_list(s, s->a, NULL, STORE_SKILLS);
	suite_drop(suite_put(s, s->b, NULL, STORE_SKILLS, "c",
	    json_pack("{s:s, s:s}", "source", "3", "description", "of c")));
	suite_drop(suite_delete(s, s->b, NULL, STORE_SKILLS, "a"));
	write_file("d.py", "5");
	struct store_answer after = suite_list(s, s->a, NULL, STORE_SKILLS);
	assert_int_equal(json_array_size(after.json), 3);
	assert_ptr_equal(json_array_get(after.json, 0), json_array_get(before.json, 1));
	assert_string_equal(source_of(after.json, 1), "3");
	assert_non_null(json_object_get(json_array_get(after.json, 1), "description"));
	assert_string_equal(source_of(after.json, 2), "5");
	assert_true(after.revision != before.revision);
	/* Written again as it is, nothing has changed. */
	write_file("d.py", "5");
	struct store_answer again = suite_list(s, s->a, NULL, STORE_SKILLS);
	assert_int_equal(again.revision, after.revision);
	assert_ptr_equal(json_array_get(again.json, 2), json_array_get(after.json, 2));
	/* A sidecar alone, too, is a change. */
	assert_int_equal(unlinkat(skills, ".c.json", 0), 0);
	struct store_answer bare = suite_list(s, s->a, NULL, STORE_SKILLS);
	assert_null(json_object_get(json_array_get(bare.json, 1), "description"));
	suite_drop(before);
	suite_drop(after);
	suite_drop(again);
	suite_drop(bare);
}

static void very_many_changes_at_once(void **state)
{
	struct store_suite *s = *state;
	expect_count(s, 0);
	for (int i = 0; i < 600; i++) {
		char name[16];
		(void)snprintf(name, sizeof(name), "m%d.py", i);
		write_file(name, "x");
	}
	expect_count(s, 600);
	assert_int_equal(unlinkat(skills, "m599.py", 0), 0);
	expect_count(s, 599);
	/* More than the kernel keeps. */
	cleanup(fd_close) int one = openat(skills, "m0.py", O_WRONLY | O_CLOEXEC);
	cleanup(fd_close) int two = openat(skills, "m1.py", O_WRONLY | O_CLOEXEC);
	for (int i = 0; i < 20000; i++) {
		assert_int_equal(pwrite(i % 2 == 0 ? one : two, "y", 1, 0), 1);
	}
	assert_int_equal(unlinkat(skills, "m598.py", 0), 0);
	expect_count(s, 598);
	struct store_answer a = suite_list(s, s->a, NULL, STORE_SKILLS);
	assert_string_equal(source_of(a.json, 0), "y");
	suite_drop(a);
	expect_count(s, 598);
}

static void a_directory_is_removed_and_made_again(void **state)
{
	struct store_suite *s = *state;
	static const struct store_space tenant = {.prefix = "tenant"};
	for (int i = 0; i < 3; i++) {
		suite_put_skill(s, s->b, &tenant, "a", "1");
		struct store_answer a = suite_list(s, s->a, &tenant, STORE_SKILLS);
		assert_string_equal(suite_names(a.json), "a");
		suite_drop(a);
		char path[80];
		(void)snprintf(path, sizeof(path), "%s/tenant", base);
		remove_all(path);
		a = suite_list(s, s->a, &tenant, STORE_SKILLS);
		assert_string_equal(suite_names(a.json), "");
		suite_drop(a);
		suite_put_skill(s, s->b, &tenant, "b", "1");
		a = suite_list(s, s->a, &tenant, STORE_SKILLS);
		assert_string_equal(suite_names(a.json), "b");
		suite_drop(a);
		remove_all(path);
	}
}

/* A file with another name changes without the directory's knowing: it is looked at. */
static void expect_seen_later(struct store_suite *s, const char *source)
{
	uint64_t until_ms = clock_mono_ms() + 5000;
	bool seen = false;
	while (!seen) {
		struct store_answer a = suite_list(s, s->a, NULL, STORE_SKILLS);
		seen = strcmp(source_of(a.json, 0), source) == 0;
		suite_drop(a);
		assert_true(seen || clock_mono_ms() < until_ms);
		uv_sleep(seen ? 0 : 20);
	}
}

static void links_are_not_trusted(void **state)
{
	struct store_suite *s = *state;
	assert_int_equal(mkdirat(skills, "beneath", 0755), 0);
	write_file("beneath/target", "first");
	assert_int_equal(symlinkat("beneath/target", skills, "l.py"), 0);
	expect_source(s, "first");
	write_file("beneath/target", "second");
	expect_seen_later(s, "second");

	/* In the place of one that was plain, among others. */
	assert_int_equal(unlinkat(skills, "l.py", 0), 0);
	write_file("l.py", "plain");
	expect_source(s, "plain");
	uv_sleep(REST_MS);
	assert_true(is_known(s));
	assert_int_equal(linkat(skills, "beneath/target", skills, "new", 0), 0);
	assert_int_equal(renameat(skills, "new", skills, "l.py"), 0);
	expect_source(s, "second");
	write_file("beneath/target", "third");
	expect_seen_later(s, "third");
}

/* The kernel has one watch for a directory: who comes second does without. */
static void one_directory_for_two_kinds(void **state)
{
	struct store_suite *s = *state;
	char path[80];
	(void)snprintf(path, sizeof(path), "%s/skills", base);
	store_free(s->a);
	s->a = open_store(&s->loop, path);
	for (int i = 0; i < 5; i++) {
		char name[24];
		(void)snprintf(name, sizeof(name), "s%d.py", i);
		write_file(name, "x");
		(void)snprintf(name, sizeof(name), "t%d.yaml", i);
		char text[32];
		(void)snprintf(text, sizeof(text), "name: t%d\n", i);
		write_file(name, text);
		struct store_answer tools = suite_list(s, s->a, NULL, STORE_TOOLS);
		assert_int_equal(json_array_size(tools.json), i + 1);
		suite_drop(tools);
		expect_count(s, (size_t)i + 1);
	}
}

static void work_sealed(void)
{
	struct store_suite s = {0};
	struct err e = {0};
	(void)uv_loop_init(&s.loop);
	s.a = open_store(&s.loop, NULL);
	assert_int_equal(seal_system_calls(false, &e), 0);
	write_file("e.py", "first");
	expect_source(&s, "first");
	uv_sleep(REST_MS);
	assert_true(is_known(&s));
	write_file("e.py", "second");
	expect_source(&s, "second");
	/* A tenant's directory is made, and watched, after the seal. */
	static const struct store_space tenant = {.prefix = "tenant"};
	suite_put_skill(&s, s.a, &tenant, "a", "1");
	suite_drop(suite_list(&s, s.a, &tenant, STORE_SKILLS));
	store_free(s.a);
	(void)uv_run(&s.loop, UV_RUN_DEFAULT);
	_exit(0);
}

static void the_seal_lets_it_watch(void **state)
{
	(void)state;
	pid_t child = fork();
	if (child == 0) {
		(void)setenv("CMOCKA_TEST_ABORT", "1", 1);
		work_sealed();
	}
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

int main(void)
{
	struct err e = {0};
	if (seal_refuse_io_uring(&e) < 0) { /* before any loop, as the server does */
		(void)fprintf(stderr, "%s\n", e.text);
		return 1;
	}
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
	    TEST(edits_in_place_are_seen_at_once),
	    TEST(a_list_is_current_however_long_nobody_asked),
	    TEST(what_did_not_change_stays_the_same_object),
	    TEST(very_many_changes_at_once),
	    TEST(a_directory_is_removed_and_made_again),
	    TEST(links_are_not_trusted),
	    TEST(one_directory_for_two_kinds),
	    TEST(the_seal_lets_it_watch),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
