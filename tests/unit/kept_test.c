/* Files that a run is to keep: which a glob means, and a directory that works against it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "approvals/kept.h"
#include "base/clock.h"
#include "base/compiler.h"
#include "base/fd.h"

static char base[64];
static int dir = -1;

static int setup(void **state)
{
	(void)state;
	(void)snprintf(base, sizeof(base), "/tmp/carrel-kept-XXXXXX");
	assert_non_null(mkdtemp(base));
	dir = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dir < 0;
}

static void empty(int at)
{
	static const char *const names[] = {"a.txt", "b.txt", ".hidden", "link", "pipe", "big",
	    "sub/c.txt", "sub/deep/d.csv", "sub/deep", "sub", "lead/x", "lead", "\xff.txt"};
	for (size_t i = 0; i < array_len(names); i++) {
		if (unlinkat(at, names[i], 0) < 0) {
			(void)unlinkat(at, names[i], AT_REMOVEDIR);
		}
	}
}

static int teardown(void **state)
{
	(void)state;
	empty(dir);
	fd_close(&dir);
	return rmdir(base);
}

static void put(const char *path, const char *text)
{
	cleanup(fd_close) int fd = openat(dir, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
}

static void globs_match_names(void **state)
{
	static const struct {
		const char *glob, *name;
		bool match;
	} rows[] = {
	    {"a.txt", "a.txt", true},
	    {"a.txt", "a.txtx", false},
	    {"*.txt", "a.txt", true},
	    {"*.txt", ".txt", false}, /* hidden */
	    {".*", ".hidden", true},
	    {"*.txt", "sub/a.txt", false},
	    {"sub/*", "sub/a.txt", true},
	    {"sub/*", "sub/deep/a", false},
	    {"*/*.csv", "sub/a.csv", true},
	    {"a?c", "abc", true},
	    {"a?c", "a/c", false},
	    {"*", "", false},
	    {"a*b*c", "aXbYc", true},
	    {"a*b*c", "aXbY", false},
	    {"**", "a", true},
	    {"**", "a/b", false},
	};
	(void)state;
	for (size_t i = 0; i < array_len(rows); i++) {
		if (rows[i].name[0] == '\0') {
			continue;
		}
		if (kept_glob_matches(rows[i].glob, rows[i].name) != rows[i].match) {
			fail_msg("%s %s", rows[i].glob, rows[i].name);
		}
	}
}

/* What backtracks at every '*' would take longer than the universe has. */
static void a_glob_of_many_stars_takes_no_time(void **state)
{
	char glob[KEPT_GLOB_MAX_BYTES + 1];
	char name[256];
	(void)state;
	memset(name, 'a', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	for (size_t i = 0; i + 1 < sizeof(glob); i += 2) {
		glob[i] = '*';
		glob[i + 1] = 'a';
	}
	glob[sizeof(glob) - 1] = '\0';
	glob[201] = 'b';
	uint64_t since_ms = clock_mono_ms();
	assert_false(kept_glob_matches(glob, name));
	assert_true(clock_mono_ms() - since_ms < 1000);
}

static void globs_are_checked(void **state)
{
	static const char *const bad[] = {"", "/etc/passwd", "../x", "a/../b", "./a", "a//b", "a/",
	    "a\nb", "a\\b", "[ab]", "a/..", "."};
	struct err e;
	(void)state;
	for (size_t i = 0; i < array_len(bad); i++) {
		if (kept_glob_check(bad[i], &e) == 0) {
			fail_msg("%s", bad[i]);
		}
	}
	assert_int_equal(kept_glob_check("sub/*.c?v", &e), 0);
	assert_int_equal(kept_glob_check("..a/b..", &e), 0);
}

static int read_all(const char *glob, json_t **list, struct err *e)
{
	cleanup(json_decrefp) json_t *globs = json_pack("[s]", glob);
	json_t *files = NULL;
	int r = kept_read(dir, globs, &files, list, e);
	json_decref(files);
	return r;
}

static const char *name_at(const json_t *list, size_t i)
{
	return json_string_value(json_object_get(json_array_get(list, i), "name"));
}

static void files_are_read_beneath_the_directory(void **state)
{
	json_t *list = NULL;
	json_t *files = NULL;
	struct err e = {0};
	(void)state;
	assert_int_equal(mkdirat(dir, "sub", 0700), 0);
	assert_int_equal(mkdirat(dir, "sub/deep", 0700), 0);
	put("b.txt", "beta");
	put("a.txt", "");
	put("sub/c.txt", "c");
	put("sub/deep/d.csv", "d");
	cleanup(json_decrefp) json_t *globs = json_pack("[s, s]", "*.txt", "*/*/*.csv");
	assert_int_equal(kept_read(dir, globs, &files, &list, &e), 0);
	assert_int_equal(json_array_size(list), 3);
	assert_string_equal(name_at(list, 0), "a.txt");
	assert_string_equal(name_at(list, 1), "b.txt");
	assert_string_equal(name_at(list, 2), "sub/deep/d.csv");
	assert_string_equal(
	    json_string_value(json_object_get(json_array_get(files, 1), "base64")), "YmV0YQ==");
	assert_string_equal(json_string_value(json_object_get(json_array_get(list, 1), "sha256")),
	    "f44e64e75f3948e9f73f8dfa94721c4ce8cbb4f265c4790c702b2d41cfbf2753");
	json_decref(files);
	json_decref(list);
}

/* The session owns the directory: links, pipes and odd names are its to make. */
static void what_is_no_file_is_not_followed(void **state)
{
	json_t *list = NULL;
	struct err e = {0};
	(void)state;
	assert_int_equal(symlinkat("/etc/passwd", dir, "link"), 0);
	assert_int_equal(symlinkat("/etc", dir, "lead"), 0);
	assert_int_equal(mkfifoat(dir, "pipe", 0600), 0);
	assert_int_equal(read_all("*", &list, &e), 0);
	assert_int_equal(json_array_size(list), 0);
	json_decref(list);
	assert_int_equal(read_all("lead/passwd", &list, &e), 0);
	assert_int_equal(json_array_size(list), 0);
	json_decref(list);
	put("\xff.txt", "x");
	assert_int_equal(read_all("*.txt", &list, &e), -1);
	assert_int_equal(e.code, ERR_INVALID);
	/* The list is out of reach, the rest goes on. */
	assert_int_equal(read_all("*.csv", &list, &e), 0);
	json_decref(list);
}

static void what_does_not_fit_is_a_clear_failure(void **state)
{
	json_t *list = NULL;
	struct err e = {0};
	(void)state;
	put("big", "");
	cleanup(fd_close) int fd = openat(dir, "big", O_WRONLY | O_CLOEXEC);
	assert_int_equal(ftruncate(fd, KEPT_MAX_BYTES), 0);
	assert_int_equal(read_all("big", &list, &e), 0);
	json_decref(list);
	put("a.txt", "x");
	list = NULL;
	assert_int_equal(read_all("*", &list, &e), -1);
	assert_int_equal(e.code, ERR_TOO_LARGE);
	assert_null(list);
}

#define WITH_DIR(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(globs_match_names),
	    cmocka_unit_test(a_glob_of_many_stars_takes_no_time),
	    cmocka_unit_test(globs_are_checked),
	    WITH_DIR(files_are_read_beneath_the_directory),
	    WITH_DIR(what_is_no_file_is_not_followed),
	    WITH_DIR(what_does_not_fit_is_a_clear_failure),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
