/* The store over files: the suite, and what only files can do to it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "gateway/seal.h"
#include "store_suite.h"

static char base[64];
static int outside = -1; /* the directory around the store's */

static void remove_all(const char *path)
{
	pid_t child = fork();
	if (child == 0) {
		(void)execl("/bin/rm", "rm", "-rf", path, (char *)NULL);
		_exit(127);
	}
	(void)waitpid(child, NULL, 0);
}

/* True in a child, where a failed assertion ends the process instead of going on as the test. */
static bool fork_child(pid_t *child)
{
	*child = fork();
	return *child == 0 && setenv("CMOCKA_TEST_ABORT", "1", 1) == 0;
}

static struct store *open_store(uv_loop_t *loop)
{
	char dir[128];
	struct err e = {0};
	(void)snprintf(dir, sizeof(dir), "%s/store", base);
	struct store *st = store_new(loop, &(struct store_config){.dir = dir}, &e);
	assert_string_equal(e.text, "");
	return st;
}

static int setup(void **state)
{
	struct store_suite *s = calloc(1, sizeof(*s));
	(void)snprintf(base, sizeof(base), "/tmp/carrel-store-XXXXXX");
	assert_non_null(mkdtemp(base));
	outside = open(base, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_int_equal(uv_loop_init(&s->loop), 0);
	s->a = open_store(&s->loop);
	s->b = open_store(&s->loop);
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
	fd_close(&outside);
	remove_all(base);
	return 0;
}

/* PATH is beneath `outside`; the store's is store/. */
static void write_file(const char *path, const char *text)
{
	cleanup(fd_close) int fd = openat(
	    outside, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
}

static void expect_file(const char *path, const char *text)
{
	cleanup(buf_fini) struct buf b = BUF_INIT(1 << 20);
	assert_int_equal(fd_read_file(outside, path, &b), 0);
	assert_string_equal(buf_str(&b), text);
}

static bool file_exists(const char *path)
{
	return faccessat(outside, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static json_t *read_index(void)
{
	cleanup(buf_fini) struct buf b = BUF_INIT(1 << 22);
	assert_int_equal(fd_read_file(outside, "store/artifacts/.artifacts.json", &b), 0);
	json_t *index = json_loadb(b.data, b.len, JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(index);
	return index;
}

static const char *member(const json_t *record, const char *key)
{
	return json_string_value(json_object_get(record, key));
}

/* --- what is flushed ----------------------------------------------------------------------------
 */

/* In place of the library's: remembers what was flushed since SYNCED was emptied, and fails for one
 * of them if it is told to. Threads call it. */
static struct {
	pthread_mutex_t lock;
	struct stat files[64];
	size_t count;
	ino_t bad;
} synced = {.lock = PTHREAD_MUTEX_INITIALIZER};

int fsync(int fd)
{
	struct stat st;
	int r = (int)syscall(SYS_fsync, fd);
	if (r == 0 && fstat(fd, &st) == 0) {
		(void)pthread_mutex_lock(&synced.lock);
		synced.files[synced.count++ % array_len(synced.files)] = st;
		r = st.st_ino == synced.bad ? -1 : 0;
		(void)pthread_mutex_unlock(&synced.lock);
		errno = EIO;
	}
	return r;
}

static bool was_flushed(const char *path)
{
	struct stat st;
	assert_int_equal(fstatat(outside, path, &st, 0), 0);
	(void)pthread_mutex_lock(&synced.lock);
	bool found = false;
	for (size_t i = 0; i < synced.count && i < array_len(synced.files); i++) {
		found = found || (synced.files[i].st_ino == st.st_ino &&
				     synced.files[i].st_dev == st.st_dev);
	}
	(void)pthread_mutex_unlock(&synced.lock);
	return found;
}

static void expect_flushed(const char *const *paths)
{
	for (; *paths != NULL; paths++) {
		if (!was_flushed(*paths)) {
			fail_msg("not flushed: %s (of %zu)", *paths, synced.count);
		}
	}
	synced.count = 0;
}

/* Bytes, the names that lead to them, and the index, each before the answer. */
static void what_is_answered_is_flushed(void **state)
{
	struct store_suite *s = *state;
	struct stat st;
	suite_drop(suite_save(s, s->a, &(struct store_space){.prefix = "t"}, "d/e/f",
	    suite_info("text", ""), "x", 1));
	expect_flushed((const char *const[]){"store", "store/t", "store/t/artifacts",
	    "store/t/artifacts/d", "store/t/artifacts/d/e", "store/t/artifacts/d/e/f",
	    "store/t/artifacts/.artifacts.json", NULL});
	suite_drop(suite_artifact_delete(s, s->a, &(struct store_space){.prefix = "t"}, "d/e/f"));
	expect_flushed((const char *const[]){"store/t/artifacts/d/e", "store/t/artifacts",
	    "store/t/artifacts/.artifacts.json", NULL});
	suite_drop(suite_put(s, s->a, NULL, STORE_SKILLS, "echo",
	    json_pack("{s:s, s:s}", "source", "def run(): pass\n", "description", "d")));
	expect_flushed((const char *const[]){"store/skills/echo.py", "store/skills", NULL});
	suite_drop(suite_put(s, s->a, NULL, STORE_DEPS, "a", json_string("a")));
	expect_flushed((const char *const[]){"store/deps/requirements.txt", "store/deps", NULL});
	suite_drop(suite_put(
	    s, s->a, &(struct store_space){.prefix = "u"}, STORE_DEPS, "a", json_string("a")));
	expect_flushed((const char *const[]){
	    "store/u/deps/requirements.txt", "store/u/deps", "store/u", "store", NULL});
	/* A disk that does not take it is no success. */
	assert_int_equal(fstatat(outside, "store/t/artifacts", &st, 0), 0);
	synced.bad = st.st_ino;
	struct store_answer a = suite_save(
	    s, s->a, &(struct store_space){.prefix = "t"}, "d/g", suite_info("text", ""), "x", 1);
	synced.bad = 0;
	assert_int_equal(a.e.code, ERR_INTERNAL);
}

/* --- the layout ---------------------------------------------------------------------------------
 */

static void layout(void **state)
{
	struct store_suite *s = *state;
	suite_drop(suite_put(s, s->a, NULL, STORE_SKILLS, "echo",
	    json_pack("{s:s, s:s}", "source", "def run(): pass\n", "description", "d")));
	expect_file("store/skills/echo.py", "def run(): pass\n");
	suite_drop(suite_put(s, s->a, NULL, STORE_DEPS, "b", json_string("B>1")));
	suite_drop(suite_put(s, s->a, NULL, STORE_DEPS, "a", json_string("a")));
	expect_file("store/deps/requirements.txt", "a\nb>1\n");
	suite_drop(suite_save(s, s->a, &(struct store_space){.prefix = "t", .workspace = "w"},
	    "d/f", suite_info("text", ""), "x", 1));
	expect_file("store/t/workspaces/w/artifacts/d/f", "x");
	suite_save_text(s, s->a, &(struct store_space){.workspace = "w"}, "f", "y");
	expect_file("store/workspaces/w/artifacts/f", "y");
	suite_save_text(s, s->a, NULL, "f.txt", "z");
	expect_file("store/artifacts/f.txt", "z");
	json_t *index = read_index();
	const json_t *entry = json_object_get(index, "f.txt");
	assert_string_equal(member(json_object_get(entry, "metadata"), "_data_type"), "text");
	assert_non_null(member(entry, "created_at"));
	assert_string_equal(member(entry, "description"), "");
	assert_int_equal(json_object_size(entry), 3);
	json_decref(index);
}

static void by_hand(void **state)
{
	struct store_suite *s = *state;
	write_file("store/skills/zwei.py", "2");
	write_file("store/skills/_private.py", "no");
	write_file("store/skills/not-one.py", "no");
	write_file("store/skills/notes.txt", "no");
	write_file("store/skills/latin.py", "\xe9");
	struct store_answer a = suite_list(s, s->a, NULL, STORE_SKILLS);
	assert_string_equal(suite_names(a.json), "zwei");
	suite_drop(a);
	write_file("store/tools/x.yaml", "name: curl\ntags: [web]\nargs: \"{flags}\"\n");
	write_file("store/tools/y.yml", "name: ignored\n");
	write_file("store/tools/bad.yaml", "name: [\n");
	write_file("store/tools/nameless.yaml", "command: x\n");
	a = suite_list(s, s->a, NULL, STORE_TOOLS);
	assert_string_equal(suite_names(a.json), "curl");
	suite_drop(a);
	/* A tool is written over in its own file. */
	suite_drop(
	    suite_put(s, s->a, NULL, STORE_TOOLS, "curl", json_pack("{s:s}", "command", "c")));
	assert_false(file_exists("store/tools/curl.yaml"));
	a = suite_get(s, s->b, NULL, STORE_TOOLS, "curl");
	assert_string_equal(member(a.json, "command"), "c");
	suite_drop(a);
	write_file(
	    "store/deps/requirements.txt", "# comment\n\n  numpy>=1 \r\nevil @ http://x\nb\n");
	a = suite_list(s, s->a, NULL, STORE_DEPS);
	assert_string_equal(suite_names(a.json), "b,numpy>=1");
	suite_drop(a);
}

/* An edit in place changes no directory, and is seen within the time the header promises. */
static void edited_in_place(void **state)
{
	struct store_suite *s = *state;
	suite_drop(suite_put(s, s->a, NULL, STORE_SKILLS, "e",
	    json_pack("{s:s, s:s}", "source", "first", "description", "of first")));
	suite_drop(suite_list(s, s->b, NULL, STORE_SKILLS));
	write_file("store/skills/e.py", "other");
	struct store_answer got = suite_get(s, s->b, NULL, STORE_SKILLS, "e");
	assert_string_equal(member(got.json, "source"), "other");
	assert_null(member(got.json, "description"));
	suite_drop(got);
	uint64_t until_ms = clock_mono_ms() + 3000;
	for (bool seen = false; !seen;) {
		struct store_answer a = suite_list(s, s->b, NULL, STORE_SKILLS);
		seen = strcmp(member(json_array_get(a.json, 0), "source"), "other") == 0;
		suite_drop(a);
		assert_true(seen || clock_mono_ms() < until_ms);
	}
}

static void unindexed_files(void **state)
{
	struct store_suite *s = *state;
	suite_save_text(s, s->a, NULL, "listed", "x");
	write_file("store/artifacts/hand.txt", "text");
	write_file("store/artifacts/hand.bin", "\xff\xfe");
	write_file("store/artifacts/hand.json", "{}");
	static const char *const types[][2] = {
	    {"hand.txt", "text"}, {"hand.bin", "bytes"}, {"hand.json", "json"}};
	for (size_t i = 0; i < array_len(types); i++) {
		struct store_answer got = suite_artifact(s, s->a, NULL, types[i][0]);
		assert_string_equal(member(got.json, "type"), types[i][1]);
		suite_drop(got);
	}
	suite_expect_text(s, s->a, NULL, "hand.txt", "text");
	struct store_answer all = suite_artifacts(s, s->a, NULL);
	assert_string_equal(suite_names(all.json), "listed");
	suite_drop(all);
	struct store_answer got = suite_register(
	    s, s->a, NULL, "hand.txt", json_pack("{s:s}", "description", "now known"));
	assert_string_equal(member(got.json, "type"), "text");
	suite_drop(got);
	all = suite_artifacts(s, s->b, NULL);
	assert_string_equal(suite_names(all.json), "hand.txt,listed");
	suite_drop(all);
	/* An entry whose file is gone is nothing. */
	assert_int_equal(unlinkat(outside, "store/artifacts/listed", 0), 0);
	got = suite_artifact(s, s->a, NULL, "listed");
	assert_null(got.json);
}

/* --- hostile ------------------------------------------------------------------------------------
 */

static void links(void **state)
{
	struct store_suite *s = *state;
	write_file("secret", "secret");
	write_file("secret.py", "secret");
	assert_int_equal(symlinkat("../../secret", outside, "store/artifacts/out"), 0);
	assert_int_equal(symlinkat("/etc", outside, "store/artifacts/etc"), 0);
	assert_int_equal(symlinkat("..", outside, "store/artifacts/up"), 0);
	assert_int_equal(symlinkat("../../secret.py", outside, "store/skills/out.py"), 0);
	static const char *const names[] = {"out", "etc/passwd", "up/artifacts/x", "etc"};
	for (size_t i = 0; i < array_len(names); i++) {
		struct store_answer got = suite_artifact(s, s->a, NULL, names[i]);
		assert_null(got.json);
		got = suite_load(s, s->a, NULL, names[i], NULL);
		assert_null(got.json);
		got = suite_register(s, s->a, NULL, names[i], json_object());
		assert_null(got.json);
		assert_int_not_equal(got.e.code, ERR_NONE);
	}
	/* Writing to a link puts a file in its place, or fails; what it leads to stays. */
	suite_save_text(s, s->a, NULL, "out", "mine");
	expect_file("secret", "secret");
	struct store_answer through = suite_save(
	    s, s->a, NULL, "up/evil", suite_info("text", ""), "x", 1);
	assert_int_equal(through.e.code, ERR_INVALID);
	assert_false(file_exists("store/evil"));
	(void)suite_artifact_delete(s, s->a, NULL, "etc/hostname");
	assert_int_equal(access("/etc/passwd", F_OK), 0);
	struct store_answer got = suite_get(s, s->a, NULL, STORE_SKILLS, "out");
	assert_null(got.json);
	struct store_answer all = suite_list(s, s->a, NULL, STORE_SKILLS);
	assert_int_equal(json_array_size(all.json), 0);
	suite_drop(all);
	suite_put_skill(s, s->a, NULL, "out", "mine");
	expect_file("secret.py", "secret");
	/* Links that stay inside are how orchestrators mount volumes. */
	assert_int_equal(mkdirat(outside, "store/skills/..v1", 0755), 0);
	write_file("store/skills/..v1/vol.py", "volume");
	assert_int_equal(symlinkat("..v1", outside, "store/skills/..data"), 0);
	assert_int_equal(symlinkat("..data/vol.py", outside, "store/skills/vol.py"), 0);
	all = suite_list(s, s->a, NULL, STORE_SKILLS);
	assert_string_equal(suite_names(all.json), "out,vol");
	suite_drop(all);
	/* A tenant's directory that is a link leads nowhere. */
	assert_int_equal(mkdirat(outside, "elsewhere", 0755), 0);
	assert_int_equal(symlinkat("../elsewhere", outside, "store/evil"), 0);
	struct store_space evil = {.prefix = "evil"};
	got = suite_save(s, s->a, &evil, "x", suite_info("text", ""), "x", 1);
	assert_int_not_equal(got.e.code, ERR_NONE);
	assert_false(file_exists("elsewhere/artifacts"));
}

/* Neither waits for ever nor reads what is no file. */
static void no_files(void **state)
{
	struct store_suite *s = *state;
	assert_int_equal(mkfifoat(outside, "store/artifacts/fifo", 0644), 0);
	assert_int_equal(mkfifoat(outside, "store/skills/fifo.py", 0644), 0);
	assert_int_equal(mkdirat(outside, "store/skills/dir.py", 0755), 0);
	struct store_answer got = suite_artifact(s, s->a, NULL, "fifo");
	assert_null(got.json);
	got = suite_get(s, s->a, NULL, STORE_SKILLS, "fifo");
	assert_null(got.json);
	struct store_answer all = suite_list(s, s->a, NULL, STORE_SKILLS);
	assert_int_equal(json_array_size(all.json), 0);
	suite_drop(all);
	suite_save_text(s, s->a, NULL, "d/e", "x");
	got = suite_save(s, s->a, NULL, "d", suite_info("text", ""), "x", 1);
	assert_int_equal(got.e.code, ERR_INVALID);
	got = suite_save(s, s->a, NULL, "d/e/f", suite_info("text", ""), "x", 1);
	assert_int_equal(got.e.code, ERR_INVALID);
	all = suite_artifacts(s, s->a, NULL);
	assert_string_equal(suite_names(all.json), "d/e");
	suite_drop(all);
	(void)suite_artifact_delete(s, s->a, NULL, "d");
	suite_expect_text(s, s->a, NULL, "d/e", "x");
}

static void never(void *ctx, json_t *record, const struct err *e)
{
	(void)ctx;
	(void)record;
	(void)e;
	fail_msg("%s", "called after it was closed");
}

/* One that is too large to be read while everybody waits. */
static void large_index(void **state)
{
	struct store_suite *s = *state;
	cleanup(buf_fini) struct buf text = BUF_INIT(1 << 20);
	(void)buf_add_str(&text, "{\"there\": {\"description\": \"d\"}");
	for (int i = 0; i < 2000; i++) {
		(void)buf_addf(&text, ", \"n%d\": {\"description\": \"of nothing\"}", i);
	}
	(void)buf_add_str(&text, "}");
	write_file("store/artifacts/there", "x");
	write_file("store/artifacts/.artifacts.json", buf_str(&text));
	struct store_reader *r = store_artifact_read(
	    s->a, &(struct store_space){0}, "there", never, NULL);
	assert_non_null(r);
	store_reader_close(r);
	struct store_answer got = suite_artifact(s, s->b, NULL, "there");
	assert_string_equal(member(got.json, "description"), "d");
	suite_drop(got);
	suite_expect_text(s, s->a, NULL, "there", "x");
	suite_save_text(s, s->a, NULL, "more", "y");
	json_t *index = read_index();
	assert_int_equal(json_object_size(index), 2002);
	json_decref(index);
	struct store_answer all = suite_artifacts(s, s->b, NULL);
	assert_string_equal(suite_names(all.json), "more,there");
	suite_drop(all);
}

static void damaged_index(void **state)
{
	struct store_suite *s = *state;
	suite_save_text(s, s->a, NULL, "one", "1");
	suite_save_text(s, s->a, NULL, "d/two", "2");
	write_file("store/artifacts/.artifacts.json", "{\"one\": {\"descr");
	struct store_answer all = suite_artifacts(s, s->b, NULL);
	assert_string_equal(suite_names(all.json), "d/two,one");
	suite_drop(all);
	suite_expect_text(s, s->b, NULL, "one", "1");
	suite_save_text(s, s->a, NULL, "three", "3");
	all = suite_artifacts(s, s->b, NULL);
	assert_string_equal(suite_names(all.json), "d/two,one,three");
	suite_drop(all);
	json_t *index = read_index();
	assert_int_equal(json_object_size(index), 3);
	json_decref(index);
	/* The damaged file is kept. */
	pid_t child = fork();
	if (child == 0) {
		if (fchdir(outside) < 0) {
			_exit(126);
		}
		(void)execl("/bin/sh", "sh", "-c",
		    "grep -q descr store/artifacts/.artifacts.json.damaged-*", (char *)NULL);
		_exit(127);
	}
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

/* Names that lead out, wrong types, and what Python writes that is not JSON. */
static void hostile_index(void **state)
{
	struct store_suite *s = *state;
	write_file("secret", "secret");
	write_file("store/artifacts/ok", "x");
	write_file("store/artifacts/odd", "y");
	write_file("store/artifacts/.artifacts.json",
	    "{\"../../secret\": {}, \"/etc/passwd\": {}, \".artifacts.json\": {}, \"odd\": 5,"
	    "\"ok\": {\"description\": \"half \\ud800, whole \\ud83d\\ude00\", \"created_at\": 7,"
	    "\"metadata\": {\"x\": NaN, \"y\": [-Infinity, \"NaN\"], \"_data_type\": \"evil\"}}}");
	struct store_answer all = suite_artifacts(s, s->a, NULL);
	assert_string_equal(suite_names(all.json), "odd,ok");
	const json_t *ok = json_array_get(all.json, 1);
	assert_string_equal(member(ok, "description"), "half \xef\xbf\xbd, whole \xf0\x9f\x98\x80");
	assert_string_equal(member(ok, "type"), "bytes");
	assert_string_equal(member(ok, "created_at"), "");
	const json_t *y = json_object_get(json_object_get(ok, "metadata"), "y");
	assert_true(json_is_null(json_array_get(y, 0)));
	assert_string_equal(json_string_value(json_array_get(y, 1)), "NaN");
	suite_drop(all);
	/* Others' entries, odd as they are, survive a change. */
	suite_save_text(s, s->a, NULL, "new", "z");
	json_t *index = read_index();
	assert_int_equal(json_object_size(index), 6);
	json_decref(index);
}

static void vanished(void **state)
{
	struct store_suite *s = *state;
	suite_put_skill(s, s->a, NULL, "one", "1");
	struct store_space tenant = {.prefix = "t"};
	suite_put_skill(s, s->a, &tenant, "one", "1");
	char dir[128];
	(void)snprintf(dir, sizeof(dir), "%s/store", base);
	remove_all(dir);
	struct store_answer got = suite_list(s, s->a, NULL, STORE_SKILLS);
	assert_int_equal(got.e.code, ERR_UNAVAILABLE);
	got = suite_put(s, s->a, NULL, STORE_SKILLS, "two", json_pack("{s:s}", "source", "2"));
	assert_int_equal(got.e.code, ERR_UNAVAILABLE);
	got = suite_put(s, s->a, &tenant, STORE_SKILLS, "two", json_pack("{s:s}", "source", "2"));
	assert_int_equal(got.e.code, ERR_UNAVAILABLE);
	got = suite_save(s, s->a, NULL, "x", suite_info("text", ""), "x", 1);
	assert_int_equal(got.e.code, ERR_UNAVAILABLE);
	got = suite_artifacts(s, s->a, NULL);
	assert_int_equal(got.e.code, ERR_UNAVAILABLE);
	/* It is not made anew: it may be a volume that comes back. */
	assert_int_equal(access(dir, F_OK), -1);
}

/* Runs BODY with a store on a file system of 256 KiB. -1: there can be none here. */
static int with_small_disk(void (*body)(struct store_suite *s))
{
	pid_t child;
	if (fork_child(&child)) {
		if ((geteuid() != 0 && unshare(CLONE_NEWUSER) < 0) || unshare(CLONE_NEWNS) < 0 ||
		    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
		    mount("carrel", base, "tmpfs", 0, "size=256k") < 0) {
			_exit(77);
		}
		struct store_suite s = {0};
		(void)uv_loop_init(&s.loop);
		s.a = open_store(&s.loop);
		body(&s);
		_exit(0);
	}
	int status;
	(void)waitpid(child, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static void fill_disk(struct store_suite *s)
{
	suite_save_text(s, s->a, NULL, "kept", "before");
	suite_put_skill(s, s->a, NULL, "kept", "before");
	struct store_answer got = suite_save(
	    s, s->a, NULL, "kept", suite_info("bytes", ""), NULL, 1U << 20);
	if (got.e.code != ERR_TOO_LARGE || got.e.os_errno != ENOSPC) {
		_exit(2);
	}
	char *source = calloc(1, 300001);
	memset(source, 'x', 300000);
	got = suite_put(s, s->a, NULL, STORE_SKILLS, "kept", json_pack("{s:s}", "source", source));
	free(source);
	if (got.e.code != ERR_TOO_LARGE) {
		_exit(3);
	}
	suite_expect_text(s, s->a, NULL, "kept", "before");
	got = suite_get(s, s->a, NULL, STORE_SKILLS, "kept");
	if (strcmp(member(got.json, "source"), "before") != 0) {
		_exit(4);
	}
	/* Nothing is left over: what fits still fits. */
	suite_drop(suite_save(s, s->a, NULL, "fits", suite_info("bytes", ""), NULL, 100000));
}

static void full_disk(void **state)
{
	(void)state;
	int r = with_small_disk(fill_disk);
	if (r == 77) {
		skip();
	}
	assert_int_equal(r, 0);
}

/* All of it within the gateway's system call filter, threads too. */
static void work_sealed(void)
{
	struct store_suite s = {0};
	struct err e = {0};
	(void)uv_loop_init(&s.loop);
	s.a = open_store(&s.loop);
	s.b = s.a;
	if (seal_system_calls(false, &e) < 0) {
		_exit(2);
	}
	void *state = &s;
	suite_two_servers(&state);
	suite_drop(suite_put(&s, s.a, NULL, STORE_DEPS, "numpy", json_string("numpy")));
	suite_drop(suite_put(&s, s.a, NULL, STORE_TOOLS, "t", json_object()));
	struct store_space tenant = {.prefix = "t", .workspace = "w"};
	suite_drop(suite_save(&s, s.a, &tenant, "big", suite_info("bytes", ""), NULL, 3000000));
	suite_drop(suite_load(&s, s.a, &tenant, "big", NULL));
	if (!suite_artifact_delete(&s, s.a, &tenant, "big").changed) {
		_exit(3);
	}
	cleanup(fd_close) int fd = openat(
	    outside, "store/artifacts/.artifacts.json", O_WRONLY | O_TRUNC | O_CLOEXEC);
	(void)fd_write_all(fd, "{", 1);
	suite_save_text(&s, s.a, NULL, "after", "x");
	_exit(0);
}

static void sealed(void **state)
{
	(void)state;
	pid_t child;
	if (fork_child(&child)) {
		work_sealed();
	}
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

static void configuration(void **state)
{
	struct store_suite *s = *state;
	struct err e = {0};
	char artifacts[128];
	(void)snprintf(artifacts, sizeof(artifacts), "%s/all", base);
	char dir[160];
	(void)snprintf(dir, sizeof(dir), "%s/all/store", base);
	/* Tenants beneath the artifacts could be read by those who have no tenant. */
	assert_null(store_new(
	    &s->loop, &(struct store_config){.dir = dir, .artifacts_dir = artifacts}, &e));
	assert_int_equal(e.code, ERR_INVALID);
	assert_null(store_new(&s->loop, &(struct store_config){.dir = "/proc/nothing"}, &e));
	assert_non_null(strstr(e.text, "/proc/nothing"));
	assert_null(store_new(&s->loop, &(struct store_config){0}, &e));
	(void)snprintf(dir, sizeof(dir), "%s/store", base);
	assert_string_equal(store_describe(s->a), dir);
}

/* --- several processes --------------------------------------------------------------------------
 */

#define WRITERS 20
#define EACH 50

static void write_many(int number)
{
	struct store_suite s = {0};
	(void)uv_loop_init(&s.loop);
	s.a = open_store(&s.loop);
	for (int i = 0; i < EACH; i++) {
		char name[32];
		(void)snprintf(name, sizeof(name), "w%d_%d", number, i);
		suite_save_text(&s, s.a, NULL, name, name);
		if (i % 5 == 0) {
			suite_put_skill(&s, s.a, NULL, name, name);
			(void)snprintf(name, sizeof(name), "p%d-%d", number, i);
			suite_drop(suite_put(&s, s.a, NULL, STORE_DEPS, name, json_string(name)));
		}
	}
	_exit(0);
}

static void many_processes(void **state)
{
	struct store_suite *s = *state;
	pid_t children[WRITERS];
	for (int i = 0; i < WRITERS; i++) {
		if (fork_child(&children[i])) {
			write_many(i);
		}
	}
	for (int i = 0; i < WRITERS; i++) {
		int status;
		assert_int_equal(waitpid(children[i], &status, 0), children[i]);
		assert_int_equal(status, 0);
	}
	struct store_answer all = suite_artifacts(s, s->a, NULL);
	assert_int_equal(json_array_size(all.json), WRITERS * EACH);
	suite_drop(all);
	all = suite_list(s, s->b, NULL, STORE_SKILLS);
	assert_int_equal(json_array_size(all.json), WRITERS * EACH / 5);
	suite_drop(all);
	all = suite_list(s, s->b, NULL, STORE_DEPS);
	assert_int_equal(json_array_size(all.json), WRITERS * EACH / 5);
	suite_drop(all);
	json_t *index = read_index();
	assert_int_equal(json_object_size(index), WRITERS * EACH);
	json_decref(index);
}

/* A read is far below what a caller would notice. The bound is loose: machines are busy. */
static void reading_is_quick(void **state)
{
	struct store_suite *s = *state;
	for (int i = 0; i < 20; i++) {
		char name[32];
		(void)snprintf(name, sizeof(name), "n%d", i);
		suite_save_text(s, s->a, NULL, name, name);
		suite_put_skill(s, s->a, NULL, name, name);
	}
	uint64_t best_us = UINT64_MAX;
	for (int i = 0; i < 2000; i++) {
		uint64_t start_us = clock_mono_us();
		suite_drop(suite_artifact(s, s->a, NULL, "n7"));
		uint64_t took_us = clock_mono_us() - start_us;
		best_us = took_us < best_us ? took_us : best_us;
	}
	print_message("# store_artifact_get: best of 2000: %llu us\n", (unsigned long long)best_us);
	assert_true(best_us < 50);
}

static void a_tenants_keys_are_not_those_of_the_server(void **state)
{
	(void)state;
	static const char url[] = "redis://127.0.0.1";
	static const struct {
		struct store_config config;
		const char *prefix;
		bool fits;
	} cases[] = {
	    {{.redis_url = url}, "acme", true}, {{.redis_url = url}, "py_code_mode", false},
	    {{.redis_url = url, .prefix = "acme"}, "acme", false},
	    {{.redis_url = url, .prefix = "acme"}, "py_code_mode", true},
	    {{.redis_url = url, .prefix = "acme"}, "acme-2", true},
	    {{.redis_url = url, .prefix = "acme:prod"}, "acme", true},
	    {{.redis_url = url, .skills_prefix = "acme:skills"}, "acme", false},
	    {{.redis_url = url, .skills_prefix = "acme:workflows"}, "acme", false},
	    {{.redis_url = url, .artifacts_prefix = "acme"}, "acme", false},
	    {{.redis_url = url, .artifacts_prefix = "acme:artifacts:deep"}, "acme", false},
	    {{.redis_url = url, .workspaces_prefix = "acme"}, "acme", false},
	    {{.redis_url = url, .tools_prefix = "tools"}, "acme", true},
	    {{.prefix = "acme"}, "acme", true}, /* files */
	};
	for (size_t i = 0; i < array_len(cases); i++) {
		struct err e = {0};
		int r = store_check_tenant(&cases[i].config, cases[i].prefix, &e);
		assert_int_equal(r, cases[i].fits ? 0 : -1);
		assert_true(cases[i].fits || e.code == ERR_INVALID);
	}
}

int main(void)
{
	struct err e = {0};
	if (seal_refuse_io_uring(&e) < 0) { /* before any loop, as the server does */
		(void)fprintf(stderr, "%s\n", e.text);
		return 1;
	}
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_tenants_keys_are_not_those_of_the_server),
	    STORE_SUITE(setup, teardown),
	    SUITE_TEST(layout, setup, teardown),
	    SUITE_TEST(what_is_answered_is_flushed, setup, teardown),
	    SUITE_TEST(by_hand, setup, teardown),
	    SUITE_TEST(edited_in_place, setup, teardown),
	    SUITE_TEST(unindexed_files, setup, teardown),
	    SUITE_TEST(links, setup, teardown),
	    SUITE_TEST(no_files, setup, teardown),
	    SUITE_TEST(large_index, setup, teardown),
	    SUITE_TEST(damaged_index, setup, teardown),
	    SUITE_TEST(hostile_index, setup, teardown),
	    SUITE_TEST(vanished, setup, teardown),
	    SUITE_TEST(full_disk, setup, teardown),
	    SUITE_TEST(sealed, setup, teardown),
	    SUITE_TEST(configuration, setup, teardown),
	    SUITE_TEST(many_processes, setup, teardown),
	    SUITE_TEST(reading_is_quick, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
