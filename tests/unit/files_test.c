/* Files beneath a directory that is full of traps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "engine/files.h"

static char outside[64]; /* beside the root: nothing of it may be reached */
static int root = -1;

static int setup(void **state)
{
	(void)state;
	(void)snprintf(outside, sizeof(outside), "/tmp/carrel-files-XXXXXX");
	assert_non_null(mkdtemp(outside));
	char path[128];
	(void)snprintf(path, sizeof(path), "%s/root", outside);
	assert_int_equal(mkdir(path, 0700), 0);
	root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	(void)snprintf(path, sizeof(path), "%s/secret", outside);
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(write(fd, "secret", 6), 6);
	(void)close(fd);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fd_close(&root);
	pid_t child = fork();
	if (child == 0) {
		(void)execl("/bin/rm", "rm", "-rf", outside, (char *)NULL);
		_exit(127);
	}
	(void)waitpid(child, NULL, 0);
	return 0;
}

static struct files_path path(const char *text)
{
	struct files_path p = {{0}};
	struct err e;
	assert_int_equal(files_path_add(&p, text, &e), 0);
	return p;
}

static void make(const char *name, const char *text)
{
	int fd = openat(root, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
	(void)close(fd);
}

static void expect_text(const char *name, const char *text)
{
	cleanup(buf_fini) struct buf b = BUF_INIT(1 << 20);
	assert_int_equal(fd_read_file(root, name, &b), 0);
	assert_string_equal(buf_str(&b), text);
}

static bool exists(const char *name)
{
	return faccessat(root, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* --- paths and names
 * ------------------------------------------------------------------------------ */

static void test_paths(void **state)
{
	(void)state;
	static const char *const good[][2] = {{"", ""}, {"a", "a"}, {"a/b", "a/b"},
	    {"a//b/", "a/b"}, {"/mnt/data", ""}, {"/mnt/data/", ""}, {"/mnt/data/a b", "a b"},
	    {"//mnt/data/a", "a"}, {".hidden", ".hidden"}, {"...", "..."}, {"a..b", "a..b"},
	    {"mnt/data/x", "mnt/data/x"}, {"\xff\x01", "\xff\x01"}};
	for (size_t i = 0; i < array_len(good); i++) {
		struct files_path p = {{0}};
		struct err e;
		assert_int_equal(files_path_add(&p, good[i][0], &e), 0);
		assert_string_equal(p.text, good[i][1]);
	}
	static const char *const bad[] = {".", "..", "a/..", "../a", "a/../b", "./a", "a/.",
	    "a/./b", "/", "/etc/passwd", "/mnt", "/mnt/database", "/mnt/data/..", "/mnt/data/../x",
	    "//etc", "/mnt//data/x", "a//../b", "//a"};
	for (size_t i = 0; i < array_len(bad); i++) {
		struct files_path p = path("before");
		struct err e;
		assert_int_equal(files_path_add(&p, bad[i], &e), -1);
		assert_int_equal(e.code, ERR_INVALID);
		assert_string_equal(p.text, "before");
	}
}

static void test_path_bounds(void **state)
{
	(void)state;
	struct files_path p = {{0}};
	struct err e;
	char name[300];
	memset(name, 'n', sizeof(name));
	name[255] = '\0';
	assert_int_equal(files_path_add(&p, name, &e), 0);
	name[255] = 'n';
	name[256] = '\0';
	assert_int_equal(files_path_add(&p, name, &e), -1);
	p = path("a");
	for (int i = 1; i < FILES_DEPTH_MAX; i++) {
		assert_int_equal(files_path_add(&p, "a", &e), 0);
	}
	assert_int_equal(files_path_add(&p, "a", &e), -1);
	p = path("");
	name[200] = '\0';
	int added = 0;
	while (files_path_add(&p, name, &e) == 0) {
		added++;
	}
	assert_int_equal(added, FILES_PATH_MAX / 201);
	/* An absolute path starts anew, the last word as with any join of paths. */
	p = path("sub");
	assert_int_equal(files_path_add(&p, "/mnt/data/x", &e), 0);
	assert_string_equal(p.text, "x");
}

static void test_names(void **state)
{
	(void)state;
	static const char *const good[] = {"a", "A-9_ .@$&=;,#%^().txt", "'+[]~!{}:`|<>*?\"\\",
	    ".hidden", "r\xc3\xa9sum\xc3\xa9", "e\xcc\x81", "\xe6\x97\xa5\xe6\x9c\xac.csv",
	    "\xe0\xa4\x95\xe0\xa4\xbf", "...", "a..b"};
	for (size_t i = 0; i < array_len(good); i++) {
		struct err e;
		assert_int_equal(files_name_check(good[i], &e), 0);
	}
	static const char *const bad[] = {"", ".", "..", "a/b", "/", "a\nb", "a\x7f", "\xff",
	    "a\xc3", "\xc2\x80",
	    "a\xe2\x80\xae"
	    "b",
	    "\xe2\x80\xa8", FILES_UPLOAD_PREFIX "x"};
	for (size_t i = 0; i < array_len(bad); i++) {
		struct err e;
		assert_int_equal(files_name_check(bad[i], &e), -1);
		assert_int_equal(e.code, ERR_INVALID);
	}
	struct err e;
	char name[258];
	memset(name, 'n', sizeof(name));
	name[256] = '\0';
	assert_int_equal(files_name_check(name, &e), -1);
	name[255] = '\0';
	assert_int_equal(files_name_check(name, &e), 0);
}

/* --- reading
 * --------------------------------------------------------------------------------------- */

static void expect_open(const char *name, enum err_code code)
{
	struct files_path p = path(name);
	struct files_entry f;
	struct err e = {0};
	int fd = -1;
	int r = files_open(root, &p, &fd, &f, &e);
	if (code == ERR_NONE) {
		assert_int_equal(r, 0);
		assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
		(void)close(fd);
	} else {
		assert_int_equal(r, -1);
		assert_int_equal(fd, -1);
		assert_int_equal(e.code, code);
	}
}

static void test_open(void **state)
{
	(void)state;
	make("a.txt", "hello");
	assert_int_equal(mkdirat(root, "sub", 0700), 0);
	make("sub/b", "");
	expect_open("a.txt", ERR_NONE);
	expect_open("sub/b", ERR_NONE);
	expect_open("/mnt/data/sub/b", ERR_NONE);
	expect_open("none", ERR_NOT_FOUND);
	expect_open("none/b", ERR_NOT_FOUND);
	expect_open("a.txt/b", ERR_NOT_FOUND);
	expect_open("sub", ERR_INVALID);
	expect_open("", ERR_INVALID);
	struct files_path p = path("sub/b");
	struct files_entry f;
	assert_int_equal(files_stat(root, &p, &f, NULL), 0);
	assert_string_equal(f.name, "b");
	assert_string_equal(f.directory, "sub");
	assert_false(f.is_directory);
	p = path("sub");
	assert_int_equal(files_stat(root, &p, &f, NULL), 0);
	assert_true(f.is_directory);
	assert_string_equal(f.directory, "");
}

static void test_traps(void **state)
{
	(void)state;
	assert_int_equal(symlinkat("/etc/passwd", root, "abs"), 0);
	assert_int_equal(symlinkat("../secret", root, "rel"), 0);
	assert_int_equal(symlinkat("/etc", root, "etc"), 0);
	assert_int_equal(symlinkat("..", root, "up"), 0);
	assert_int_equal(symlinkat("/proc/self/fd/0", root, "magic"), 0);
	make("own", "own");
	assert_int_equal(symlinkat("own", root, "inner"), 0);
	assert_int_equal(symlinkat(".", root, "here"), 0); /* does not even lead out */
	assert_int_equal(mkfifoat(root, "fifo", 0600), 0);
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/root/sock", outside);
	cleanup(fd_close) int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(s, (struct sockaddr *)&address, sizeof(address)), 0);
	static const char *const links[] = {
	    "abs", "rel", "etc/passwd", "up/secret", "up/root/own", "inner", "here/own"};
	for (size_t i = 0; i < array_len(links); i++) {
		expect_open(links[i], ERR_NOT_FOUND);
		struct files_path p = path(links[i]);
		struct files_entry f;
		struct err e;
		assert_int_equal(files_stat(root, &p, &f, &e), -1);
		assert_int_equal(e.code, ERR_NOT_FOUND);
	}
	expect_open("magic", ERR_NOT_FOUND);
	expect_open("fifo", ERR_INVALID); /* and does not wait for a writer */
	expect_open("sock", ERR_INVALID);
	struct files_path p = path("up/secret");
	struct err e;
	assert_int_equal(files_remove(root, &p, &e), -1);
	/* None of them is listed. */
	struct files_walk w;
	struct files_entry f;
	unsigned budget = 100;
	p = path("");
	assert_int_equal(files_walk_init(&w, root, &p, true, &e), 0);
	assert_int_equal(files_walk_next(&w, &budget, &f), 1);
	assert_string_equal(f.name, "own");
	assert_int_equal(files_walk_next(&w, &budget, &f), 0);
	files_walk_fini(&w);
	p = path("etc");
	assert_int_equal(files_walk_init(&w, root, &p, true, &e), -1);
}

static void test_sparse(void **state)
{
	(void)state;
	make("big", "");
	/* 1 TB, or as far as the file system of the temporary directory goes. */
	cleanup(fd_close) int fd = openat(root, "big", O_WRONLY | O_CLOEXEC);
	off_t size = (off_t)1 << 40;
	while (ftruncate(fd, size) < 0) {
		size /= 2;
	}
	struct files_path p = path("big");
	struct files_entry f;
	assert_int_equal(files_stat(root, &p, &f, NULL), 0);
	assert_true(f.size_bytes == (uint64_t)size && size >= 1 << 30);
}

static void test_remove(void **state)
{
	(void)state;
	struct err e;
	make("a", "");
	assert_int_equal(mkdirat(root, "full", 0700), 0);
	assert_int_equal(mkdirat(root, "empty", 0700), 0);
	make("full/x", "");
	assert_int_equal(symlinkat("full", root, "link"), 0);
	struct files_path p = path("a");
	assert_int_equal(files_remove(root, &p, &e), 0);
	assert_false(exists("a"));
	assert_int_equal(files_remove(root, &p, &e), -1);
	assert_int_equal(e.code, ERR_NOT_FOUND);
	p = path("empty");
	assert_int_equal(files_remove(root, &p, &e), 0);
	p = path("full");
	assert_int_equal(files_remove(root, &p, &e), -1);
	assert_int_equal(e.code, ERR_CONFLICT);
	p = path("link/x");
	assert_int_equal(files_remove(root, &p, &e), -1);
	assert_true(exists("full/x"));
	p = path("link"); /* the link itself, not what it points to */
	assert_int_equal(files_remove(root, &p, &e), 0);
	assert_true(exists("full"));
	p = path("");
	assert_int_equal(files_remove(root, &p, &e), -1);
}

/* --- uploads
 * ---------------------------------------------------------------------------------------- */

static int put(const char *directory, const char *name, const char *text, struct err *e)
{
	struct files_upload u = FILES_UPLOAD_INIT;
	struct files_path p = path(directory);
	if (files_upload_begin(&u, root, &p, name, 1 << 20, e) < 0) {
		return -1;
	}
	if (files_upload_write(&u, text, strlen(text), e) < 0) {
		files_upload_abort(&u);
		return -1;
	}
	return files_upload_commit(&u, e);
}

static int count_entries(void)
{
	struct files_walk w;
	struct files_path p = path("");
	struct files_entry f;
	unsigned budget = 1000;
	int count = 0;
	assert_int_equal(files_walk_init(&w, root, &p, true, NULL), 0);
	while (files_walk_next(&w, &budget, &f) == 1) {
		count++;
	}
	files_walk_fini(&w);
	return count;
}

/* Unfinished uploads that were left behind. */
static int count_temporary(void)
{
	int fd = openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fdopendir(fd);
	int count = 0;
	for (struct dirent *at; (at = readdir(d)) != NULL;) {
		count += strncmp(at->d_name, FILES_UPLOAD_PREFIX, strlen(FILES_UPLOAD_PREFIX)) == 0;
	}
	(void)closedir(d);
	return count;
}

static void test_upload(void **state)
{
	(void)state;
	struct err e;
	struct stat st;
	mode_t old = umask(077);
	assert_int_equal(put("", "a.txt", "one", &e), 0);
	assert_int_equal(put("", "a.txt", "two", &e), 0);
	assert_int_equal(put("x/y", "b.txt", "three", &e), 0);
	assert_int_equal(put("/mnt/data/x", "c", "", &e), 0);
	(void)umask(old);
	expect_text("a.txt", "two");
	expect_text("x/y/b.txt", "three");
	expect_text("x/c", "");
	/* The session must be able to write them, whatever our umask. */
	assert_int_equal(fstatat(root, "a.txt", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0666);
	assert_int_equal(fstatat(root, "x/y", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0777);
	assert_int_equal(count_entries(), 5);
	assert_int_equal(count_temporary(), 0);
}

static void test_upload_is_all_or_nothing(void **state)
{
	(void)state;
	struct err e;
	struct files_upload u;
	struct files_path p = path("");
	make("a", "old");
	assert_int_equal(files_upload_begin(&u, root, &p, "a", 10, &e), 0);
	assert_int_equal(files_upload_write(&u, "new", 3, &e), 0);
	expect_text("a", "old");
	assert_int_equal(count_entries(), 1);
	assert_int_equal(count_temporary(), 1);
	assert_int_equal(files_upload_write(&u, "12345678", 8, &e), -1);
	assert_int_equal(e.code, ERR_TOO_LARGE);
	assert_int_equal(files_upload_write(&u, "1234567", 7, &e), 0);
	files_upload_abort(&u);
	files_upload_abort(&u);
	assert_int_equal(count_temporary(), 0);
	expect_text("a", "old");
}

static void test_upload_traps(void **state)
{
	(void)state;
	struct err e;
	char name[256];
	assert_int_equal(symlinkat("..", root, "up"), 0);
	assert_int_equal(symlinkat("../secret", root, "link"), 0);
	assert_int_equal(mkdirat(root, "dir", 0700), 0);
	make("file", "");
	assert_int_equal(put("up", "x", "evil", &e), -1);
	assert_int_equal(put("up/new", "x", "evil", &e), -1);
	assert_int_equal(put("file", "x", "evil", &e), -1);
	assert_int_equal(e.code, ERR_CONFLICT);
	assert_int_equal(put("", "dir", "x", &e), -1);
	assert_int_equal(e.code, ERR_CONFLICT);
	/* A link of that name is replaced, what it points to is not written. */
	assert_int_equal(put("", "link", "mine", &e), 0);
	expect_text("link", "mine");
	expect_text("../secret", "secret");
	memset(name, 'n', 255);
	name[255] = '\0';
	assert_int_equal(put("", name, "x", &e), 0);
	expect_text(name, "x");
	assert_int_equal(count_temporary(), 0);
}

static void test_upload_meets_the_session(void **state)
{
	(void)state;
	struct err e;
	struct files_upload u;
	struct files_path p = path("sub");
	char temporary[256];
	/* A directory takes the name meanwhile. */
	assert_int_equal(files_upload_begin(&u, root, &p, "a", 10, &e), 0);
	assert_int_equal(mkdirat(root, "sub/a", 0700), 0);
	assert_int_equal(files_upload_commit(&u, &e), -1);
	assert_int_equal(e.code, ERR_CONFLICT);
	assert_int_equal(u.dir_fd, -1);
	/* The temporary file is removed meanwhile. */
	assert_int_equal(files_upload_begin(&u, root, &p, "b", 10, &e), 0);
	(void)snprintf(temporary, sizeof(temporary), "sub/%s", u.temporary);
	assert_int_equal(unlinkat(root, temporary, 0), 0);
	assert_int_equal(files_upload_commit(&u, &e), -1);
	assert_int_equal(e.code, ERR_CONFLICT);
	/* The directory is moved and a link put in its place. */
	assert_int_equal(files_upload_begin(&u, root, &p, "c", 10, &e), 0);
	assert_int_equal(renameat(root, "sub", root, "moved"), 0);
	assert_int_equal(symlinkat("..", root, "sub"), 0);
	assert_int_equal(files_upload_commit(&u, &e), 0);
	assert_true(exists("moved/c"));
	assert_false(exists("../c"));
}

/* --- listings
 * --------------------------------------------------------------------------------------- */

static void test_walk(void **state)
{
	(void)state;
	struct files_walk w;
	struct files_entry f;
	struct files_path p = path("top");
	assert_int_equal(mkdirat(root, "top", 0700), 0);
	assert_int_equal(mkdirat(root, "top/in", 0700), 0);
	make("top/a", "12345");
	make("top/in/b", "");
	make("top/in/bad\xff\x01name", "");
	unsigned budget = 100;
	int seen = 0;
	assert_int_equal(files_walk_init(&w, root, &p, true, NULL), 0);
	while (files_walk_next(&w, &budget, &f) == 1) {
		seen += strcmp(f.name, "a") == 0 && strcmp(f.directory, "") == 0 &&
				f.size_bytes == 5
			    ? 1
			    : 0;
		seen += strcmp(f.name, "in") == 0 && f.is_directory && strcmp(f.directory, "") == 0
			    ? 10
			    : 0;
		seen += strcmp(f.name, "b") == 0 && strcmp(f.directory, "in") == 0 ? 100 : 0;
		seen += strcmp(f.name, "bad\xff\x01name") == 0 && strcmp(f.directory, "in") == 0
			    ? 1000
			    : 0;
	}
	files_walk_fini(&w);
	assert_int_equal(seen, 1111);
	seen = 0;
	assert_int_equal(files_walk_init(&w, root, &p, false, NULL), 0);
	while (files_walk_next(&w, &budget, &f) == 1) {
		seen++;
	}
	assert_int_equal(seen, 2);
	p = path("top/a");
	assert_int_equal(files_walk_init(&w, root, &p, false, NULL), -1);
}

static void test_walk_budget(void **state)
{
	(void)state;
	char name[16];
	for (int i = 0; i < 50; i++) {
		(void)snprintf(name, sizeof(name), "f%d", i & 255);
		make(name, "");
	}
	struct files_walk w;
	struct files_entry f;
	struct files_path p = path("");
	int seen = 0;
	int again = 0;
	int r;
	assert_int_equal(files_walk_init(&w, root, &p, false, NULL), 0);
	do {
		unsigned budget = 7;
		while ((r = files_walk_next(&w, &budget, &f)) == 1) {
			seen++;
		}
		again += r == -EAGAIN;
	} while (r == -EAGAIN);
	assert_int_equal(r, 0);
	assert_int_equal(seen, 50);
	assert_true(again >= 7);
	/* Given up in the middle. */
	unsigned budget = 3;
	assert_int_equal(files_walk_init(&w, root, &p, false, NULL), 0);
	(void)files_walk_next(&w, &budget, &f);
	files_walk_fini(&w);
}

/* Deeper than is followed: what is above is listed, nothing breaks. */
static void test_walk_deep(void **state)
{
	(void)state;
	cleanup(fd_close) int at = openat(root, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (int i = 0; i < 200; i++) {
		assert_int_equal(mkdirat(at, "d", 0700), 0);
		int next = openat(at, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		(void)close(at);
		at = next;
	}
	assert_int_equal(count_entries(), FILES_DEPTH_MAX);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_paths),
	    cmocka_unit_test(test_path_bounds),
	    cmocka_unit_test(test_names),
	    TEST(test_open),
	    TEST(test_traps),
	    TEST(test_sparse),
	    TEST(test_remove),
	    TEST(test_upload),
	    TEST(test_upload_is_all_or_nothing),
	    TEST(test_upload_traps),
	    TEST(test_upload_meets_the_session),
	    TEST(test_walk),
	    TEST(test_walk_budget),
	    TEST(test_walk_deep),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
