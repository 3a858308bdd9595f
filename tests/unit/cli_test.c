/* The parts of the command line that need no server. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/text.h"
#include "cli/command.h"
#include "cli/download.h"
#include "cli/images.h"
#include "cli/options.h"
#include "cli/repl_input.h"
#include "cli/terminal.h"
#include "cli/url.h"

/* --- terminal --- */

static void assert_shown(const char *bytes, size_t len, const char *expected)
{
	cleanup(buf_fini) struct buf whole = BUF_INIT(1024);
	assert_int_equal(terminal_escape(&whole, bytes, len), 0);
	assert_string_equal(buf_str(&whole), expected);
	cleanup(buf_fini) struct buf pieces = BUF_INIT(1024);
	struct terminal_filter f = {0};
	for (size_t i = 0; i < len; i++) {
		assert_int_equal(terminal_filter_add(&f, &pieces, bytes + i, 1), 0);
	}
	assert_int_equal(terminal_filter_end(&f, &pieces), 0);
	assert_string_equal(buf_str(&pieces), expected);
}

static void terminal_shows_control_characters_as_escapes(void **state)
{
	(void)state;
	assert_shown("plain\ttext\n", 11, "plain\ttext\n");
	assert_shown("\x1b]0;title\x07", 10, "\\u001b]0;title\\u0007");
	assert_shown("a\rb\bc\0d\x7f", 8, "a\\u000db\\u0008c\\u0000d\\u007f");
	assert_shown("\xc2\x9b"
		     "31m",
	    5, "\\u009b31m");
	assert_shown("\x9b"
		     "31m",
	    4, "\\x9b31m");
	assert_shown("\xe2\x80\xae"
		     "cod\xe2\x81\xa9",
	    9, "\\u202ecod\\u2069");
}

static void terminal_leaves_other_text_alone(void **state)
{
	(void)state;
	static const char text[] = "\xc3\xa9 \xe2\x82\xac \xf0\x9f\x90\x8d \xd7\xa9";
	assert_shown(text, strlen(text), text);
}

static void terminal_shows_bytes_that_are_not_text(void **state)
{
	(void)state;
	assert_shown("\xff\xc3(\xe2\x82", 5, "\\xff\\xc3(\\xe2\\x82");
	assert_shown("\xed\xa0\x80", 3, "\\xed\\xa0\\x80");
	assert_shown("\xf0\x9f\x1b", 3, "\\xf0\\x9f\\u001b");
}

static void terminal_shows_what_hides_where_all_is_asked_for(void **state)
{
	(void)state;
	static const struct {
		const char *bytes, *expected;
	} rows[] = {
	    {"a\tb\nc", "a\\u0009b\\u000ac"},
	    {"ad\xe2\x80\x8bmin\xc2\xad", "ad\\u200bmin\\u00ad"},
	    {"\xef\xbb\xbf\xe2\x80\xa8\xe3\x85\xa4", "\\ufeff\\u2028\\u3164"},
	    {"\xf3\xa0\x81\x81\xef\xb8\x8f", "\\U000e0041\\ufe0f"},
	    {"\xe2\x80\x8f\xd8\x9c", "\\u200f\\u061c"},
	    {"\xc3\xa9 \xf0\x9f\x90\x8d \xd7\xa9", "\xc3\xa9 \xf0\x9f\x90\x8d \xd7\xa9"},
	};
	for (size_t i = 0; i < array_len(rows); i++) {
		cleanup(buf_fini) struct buf shown = BUF_INIT(1024);
		assert_int_equal(
		    terminal_escape_all(&shown, rows[i].bytes, strlen(rows[i].bytes)), 0);
		assert_string_equal(buf_str(&shown), rows[i].expected);
	}
}

/* --- is it a whole cell? --- */

static void repl_input_knows_a_whole_cell(void **state)
{
	(void)state;
	static const char *const whole[] = {
	    "1 + 1\n",
	    "x = [1,\n 2]\n",
	    "s = '''a\n\nb'''\n",
	    "x = 1 + \\\n 2\n",
	    "def f():\n  return 1\n\n",
	    "def f():\n  return '''\n\n'''\n  \t\n",
	    "@wraps\ndef f():\n  pass\n\n",
	    "d = {1: 2}\n",
	    "a[1:]\n",
	    "x = ':' # [ :\n",
	    "# if x:\n",
	    "'it\\'s (' + \"[\"\n",
	    "f''\n",
	    "!echo \"it's (\n",
	    "%time [1\n",
	    "%%bash\necho (\n\n",
	    "lambda: 0\n",
	};
	for (size_t i = 0; i < array_len(whole); i++) {
		if (!repl_input_is_whole(whole[i], strlen(whole[i]), false)) {
			fail_msg("taken for a part: %s", whole[i]);
		}
	}
}

static void repl_input_waits_for_the_rest(void **state)
{
	(void)state;
	static const char *const parts[] = {
	    "x = [1,\n",
	    "x = [1,\n\n",
	    "f(a, # )\n",
	    "s = '''a\n",
	    "s = '''a''\n\n",
	    "s = \"\"\"it's\n",
	    "x = 1 + \\\n",
	    "def f():\n",
	    "def f():  # note\n",
	    "def f():\n  return 1\n",
	    "if x[1:\n  2]:\n",
	    "@wraps\n",
	    "%%bash\necho\n",
	    "'abc\\\n",
	};
	for (size_t i = 0; i < array_len(parts); i++) {
		if (repl_input_is_whole(parts[i], strlen(parts[i]), false)) {
			fail_msg("taken for whole: %s", parts[i]);
		}
	}
}

/* What was pasted ends with a line outside of all blocks; blank lines within are part of it. */
static void repl_input_ends_a_paste(void **state)
{
	(void)state;
	static const char function[] = "def f():\n  a = 1\n\n  return a\n";
	static const char *const whole[] = {"\nf()\n", "f()\n", "\nx = 1  # note\n", "\n\n"};
	static const char *const parts[] = {
	    "\nf(\n", "\nif x:\n", "@wraps\n", "\n  f()\n", "\"\"\"\n"};
	for (size_t i = 0; i < array_len(whole); i++) {
		cleanup(buf_fini) struct buf cell = BUF_INIT(256);
		assert_int_equal(buf_addf(&cell, "%s%s", function, whole[i]), 0);
		assert_true(repl_input_is_whole(cell.data, cell.len, true));
	}
	for (size_t i = 0; i < array_len(parts); i++) {
		cleanup(buf_fini) struct buf cell = BUF_INIT(256);
		assert_int_equal(buf_addf(&cell, "%s%s", function, parts[i]), 0);
		assert_false(repl_input_is_whole(cell.data, cell.len, true));
	}
	/* Typed, only a blank line ends a block. */
	assert_false(repl_input_is_whole("if x:\n  y\nz\n", 12, false));
}

static void repl_input_lets_the_session_judge_mistakes(void **state)
{
	(void)state;
	static const char *const broken[] = {"x = 'abc\n", "f(1))\n", "if ']:\n"};
	for (size_t i = 0; i < array_len(broken); i++) {
		assert_true(repl_input_is_whole(broken[i], strlen(broken[i]), false));
	}
}

/* --- addresses --- */

static void assert_base(const char *server, const char *pool, const char *expected)
{
	cleanup(buf_fini) struct buf base = BUF_INIT(URL_MAX_BYTES);
	struct err e = {0};
	int r = url_base(&base, server, pool, &e);
	if (expected == NULL) {
		assert_int_equal(r, -1);
		assert_int_equal(e.code, ERR_INVALID);
		return;
	}
	assert_int_equal(r, 0);
	assert_string_equal(buf_str(&base), expected);
}

static void url_base_takes_servers_and_pools(void **state)
{
	(void)state;
	assert_base("http://127.0.0.1:8080", NULL, "http://127.0.0.1:8080");
	assert_base("https://h.example/a/b//", NULL, "https://h.example/a/b");
	assert_base(
	    "http://[::1]:1", "py one/\xc3\xa9", "http://[::1]:1/sessionPools/py%20one%2F%C3%A9");
}

static void url_base_refuses_what_could_leak_or_mislead(void **state)
{
	(void)state;
	static const char *const bad[] = {"ftp://h", "file:///etc/passwd", "http://u:p@h",
	    "http://:p@h", "http://h?x=1", "http://h/#f", "h:8080/x y", "", "http://h\r\nX: y"};
	for (size_t i = 0; i < array_len(bad); i++) {
		assert_base(bad[i], NULL, NULL);
	}
	assert_base("http://h", "..", NULL);
	assert_base("http://h", "", NULL);
}

static void url_build_encodes_everything(void **state)
{
	(void)state;
	cleanup(buf_fini) struct buf url = BUF_INIT(URL_MAX_BYTES);
	struct err e;
	const char *const segments[] = {"files", "a b/?#%.txt", "content", NULL};
	const struct url_query query[] = {
	    {"identifier", "x&y=1+\n"}, {"path", NULL}, {"r", "1"}, {NULL, NULL}};
	assert_int_equal(url_build(&url, "http://h", segments, query, &e), 0);
	assert_string_equal(buf_str(&url), "http://h/files/a%20b%2F%3F%23%25.txt/content"
					   "?api-version=2025-10-02-preview"
					   "&identifier=x%26y%3D1%2B%0A&r=1");
	const char *const up[] = {"files", "..", "content", NULL};
	assert_int_equal(url_build(&url, "http://h", up, NULL, &e), -1);
}

static void url_follow_stays_on_the_server(void **state)
{
	(void)state;
	static const char current[] = "http://h.example:80/sessionPools/p/files?api-version=1";
	static const char *const good[][2] = {
	    {"/next?skip=2", "http://h.example:80/next?skip=2"},
	    {"?skip=2", "http://h.example:80/sessionPools/p/files?skip=2"},
	    {"http://H.example/next", "http://H.example/next"},
	};
	static const char *const bad[] = {"http://other/next", "https://h.example/next",
	    "http://h.example:81/", "//other/next", "http://h.example@other/",
	    "http://u@h.example/", "file:///etc/passwd"};
	cleanup(buf_fini) struct buf out = BUF_INIT(URL_MAX_BYTES);
	for (size_t i = 0; i < array_len(good); i++) {
		assert_int_equal(url_follow(&out, current, good[i][0], NULL), 0);
		/* The port of the current address may be written or left out: the same place. */
		assert_non_null(
		    strstr(buf_str(&out), strrchr(good[i][1], '?') ? "skip=2" : "/next"));
	}
	for (size_t i = 0; i < array_len(bad); i++) {
		struct err e = {0};
		assert_int_equal(url_follow(&out, current, bad[i], &e), -1);
		assert_int_equal(e.code, ERR_DENIED);
	}
}

/* --- options --- */

/* Splits WORDS at spaces. *ARGV is good until the next call; returns their number. */
static int split(const char *words, char ***argv)
{
	static char copy[256];
	static char *list[16];
	int argc = 0;
	(void)snprintf(copy, sizeof(copy), "%s", words);
	char *rest = copy;
	for (char *word; (word = strsep(&rest, " ")) != NULL;) {
		list[argc++] = word;
	}
	list[argc] = NULL;
	*argv = list;
	return argc;
}

static int parse(
    struct options *o, const char **session, bool *flag, const char *words, struct err *e)
{
	const struct option_entry own[] = {
	    {.name = "session", .letter = 's', .text = session},
	    {.name = "recursive", .letter = 'r', .flag = flag},
	};
	char **argv;
	int argc = split(words, &argv);
	return options_parse(o, argc, argv, own, array_len(own), e);
}

static void options_are_read_wherever_they_stand(void **state)
{
	(void)state;
	struct options o;
	const char *session = NULL;
	bool flag = false;
	assert_int_equal(unsetenv("CARREL_URL"), 0);
	assert_int_equal(parse(&o, &session, &flag, "exec code -s a -r --pool=p -o json", NULL), 7);
	assert_string_equal(session, "a");
	assert_true(flag);
	assert_true(o.json);
	assert_string_equal(o.pool, "p");
	assert_string_equal(o.url, OPTIONS_DEFAULT_URL);
	assert_null(o.token_file);
	assert_int_equal(parse(&o, &session, &flag, "exec -- -s", NULL), 2);
	assert_false(o.json);
}

static void options_url_prefers_the_command_line(void **state)
{
	(void)state;
	struct options o;
	const char *session;
	bool flag;
	assert_int_equal(setenv("CARREL_URL", "http://env", 1), 0);
	assert_int_equal(parse(&o, &session, &flag, "exec", NULL), 1);
	assert_string_equal(o.url, "http://env");
	assert_int_equal(parse(&o, &session, &flag, "exec --url http://flag", NULL), 3);
	assert_string_equal(o.url, "http://flag");
}

static void options_say_what_is_wrong(void **state)
{
	(void)state;
	static const char *const wrong[][2] = {
	    {"exec --nope", "--nope"},
	    {"exec -x", "-x"},
	    {"exec --session", "--session needs a value"},
	    {"exec -s", "-s needs a value"},
	    {"exec --session=", "not empty"},
	    {"exec -o yaml", "not 'yaml'"},
	    {"exec --recursive=1", "--recursive=1"},
	    {"exec --token secret", "--token-file"},
	    {"exec --rec", "--recursive"},
	};
	for (size_t i = 0; i < array_len(wrong); i++) {
		struct options o;
		const char *session;
		bool flag;
		struct err e = {0};
		assert_int_equal(parse(&o, &session, &flag, wrong[i][0], &e), -1);
		assert_int_equal(e.code, ERR_INVALID);
		assert_non_null(strstr(e.text, wrong[i][1]));
		assert_null(strstr(e.text, "secret"));
	}
}

static void options_find_the_command_past_shared_options(void **state)
{
	(void)state;
	static const struct {
		const char *words;
		int at;
	} cases[] = {
	    {"carrel exec --url x", 1},
	    {"carrel --url http://h -ojson exec --url x", 4},
	    {"carrel --pool p", 3},
	    {"carrel --session p exec", -1},
	};
	for (size_t i = 0; i < array_len(cases); i++) {
		char **argv;
		int argc = split(cases[i].words, &argv);
		assert_int_equal(options_command_at(argc, argv, NULL), cases[i].at);
	}
}

static void options_numbers_have_bounds(void **state)
{
	(void)state;
	uint64_t n = 0;
	assert_int_equal(options_number("timeout", "220", 1, 1000, &n, NULL), 0);
	assert_int_equal(n, 220);
	static const char *const bad[] = {
	    "0", "1001", "-1", "1.5", "", "99999999999999999999", " 1"};
	for (size_t i = 0; i < array_len(bad); i++) {
		assert_int_equal(options_number("timeout", bad[i], 1, 1000, &n, NULL), -1);
	}
	assert_int_equal(n, 220);
}

/* A directory of its own, made the current one; removed with what is in it. */
static int enter_folder(void **state)
{
	static char path[32];
	(void)snprintf(path, sizeof(path), "/tmp/carrel-test-XXXXXX");
	*state = path;
	return mkdtemp(path) != NULL && chdir(path) == 0 ? 0 : -1;
}

static int leave_folder(void **state)
{
	static const char *const names[] = {"token", "carrel-ab12cd34-1.png",
	    "carrel-ab12cd34-2.png", "carrel-ab12cd34-3.png", "carrel-ab12cd34-4.svg",
	    "carrel-ab12cd34-5.jpg", "file", "link"};
	for (size_t i = 0; i < array_len(names); i++) {
		(void)unlink(names[i]);
	}
	/* Fails when a test left something else behind. */
	return chdir("/") == 0 && rmdir(*state) == 0 ? 0 : -1;
}

static void write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "we");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static void assert_file(const char *path, const char *text)
{
	cleanup(buf_fini) struct buf b = BUF_INIT(4096);
	assert_int_equal(fd_read_file(AT_FDCWD, path, &b), 0);
	assert_string_equal(buf_str(&b), text);
}

static void options_token_comes_from_its_file_or_the_environment(void **state)
{
	(void)state;
	cleanup(buf_fini) struct buf token = BUF_INIT(OPTIONS_TOKEN_MAX_BYTES);
	struct options o = {0};
	assert_int_equal(unsetenv("CARREL_TOKEN"), 0);
	assert_int_equal(options_token(&o, &token, NULL), 0);
	assert_string_equal(buf_str(&token), "");
	assert_int_equal(setenv("CARREL_TOKEN", "from-env", 1), 0);
	assert_int_equal(options_token(&o, &token, NULL), 0);
	assert_string_equal(buf_str(&token), "from-env");
	o.token_file = "token";
	write_file("token", "  from-file\r\n");
	assert_int_equal(options_token(&o, &token, NULL), 0);
	assert_string_equal(buf_str(&token), "from-file");
}

static void options_token_must_fit_in_a_header(void **state)
{
	(void)state;
	cleanup(buf_fini) struct buf token = BUF_INIT(OPTIONS_TOKEN_MAX_BYTES);
	struct options o = {.token_file = "token"};
	static const char *const bad[] = {"", " \n", "a b", "a\nX-Evil: 1", "t\xc3\xa9"};
	for (size_t i = 0; i < array_len(bad); i++) {
		struct err e = {0};
		write_file("token", bad[i]);
		assert_int_equal(options_token(&o, &token, &e), -1);
		assert_int_equal(e.code, ERR_INVALID);
	}
	o.token_file = "absent";
	struct err e = {0};
	assert_int_equal(options_token(&o, &token, &e), -1);
	assert_int_equal(command_exit_of(&e), CLI_EXIT_USER);
}

/* --- images --- */

static int save(struct images *im, const char *type, const char *data, char name[IMAGES_NAME_BYTES])
{
	json_t *text = json_string(data);
	int r = images_save(im, type, text, name, NULL);
	json_decref(text);
	return r;
}

static void images_never_replace_a_file(void **state)
{
	(void)state;
	struct images im;
	char name[IMAGES_NAME_BYTES] = "";
	write_file("carrel-ab12cd34-1.png", "mine");
	assert_int_equal(symlink("carrel-ab12cd34-4.svg", "carrel-ab12cd34-2.png"), 0);
	images_init(&im, "../ab12-cd34-ef56");
	assert_int_equal(save(&im, "image/png", "Zm9v", name), 0);
	assert_string_equal(name, "carrel-ab12cd34-3.png");
	assert_file("carrel-ab12cd34-3.png", "foo");
	assert_file("carrel-ab12cd34-1.png", "mine");
	assert_int_equal(access("carrel-ab12cd34-4.svg", F_OK), -1);
	assert_int_equal(save(&im, "image/png", "Zm9v\n", name), 1);
	assert_int_equal(save(&im, "image/svg+xml", "<svg/>", name), 0);
	assert_file("carrel-ab12cd34-4.svg", "<svg/>");
	assert_int_equal(save(&im, "image/png", "not base64!", name), -1);
	assert_int_equal(save(&im, "image/jpeg", "Zm9v\nYmFy\n", name), 0);
	assert_string_equal(name, "carrel-ab12cd34-5.jpg");
	assert_file(name, "foobar");
}

static void images_have_a_bound_for_one_cell(void **state)
{
	(void)state;
	struct images im;
	char name[IMAGES_NAME_BYTES];
	images_init(&im, "");
	assert_string_equal(im.id, "cell");
	im.count = IMAGES_MAX;
	assert_int_equal(save(&im, "image/png", "Zm9v", name), -1);
}

static void images_are_found_in_a_bundle(void **state)
{
	(void)state;
	json_t *with = json_pack("{s:s, s:s}", "text/plain", "<Figure>", "image/png", "Zm9v");
	json_t *without = json_pack("{s:s, s:i}", "text/plain", "x", "image/png", 1);
	assert_string_equal(images_find(with), "image/png");
	assert_null(images_find(without));
	json_decref(with);
	json_decref(without);
}

/* --- downloads --- */

static void download_keeps_the_old_file_until_the_new_is_whole(void **state)
{
	(void)state;
	write_file("file", "old");
	struct download d = DOWNLOAD_NONE;
	assert_int_equal(download_open(&d, "file", NULL), 0);
	assert_int_equal(fd_write_all(d.fd, "half", 4), 0);
	assert_file("file", "old");
	download_fini(&d);
	assert_file("file", "old"); /* and leave_folder sees that nothing else is left */
	assert_int_equal(download_open(&d, "file", NULL), 0);
	assert_int_equal(fd_write_all(d.fd, "new", 3), 0);
	assert_int_equal(download_commit(&d, NULL), 0);
	download_fini(&d);
	assert_file("file", "new");
}

static void download_writes_where_a_link_points(void **state)
{
	(void)state;
	write_file("file", "old");
	assert_int_equal(symlink("file", "link"), 0);
	struct download d = DOWNLOAD_NONE;
	assert_int_equal(download_open(&d, "link", NULL), 0);
	assert_int_equal(fd_write_all(d.fd, "new", 3), 0);
	assert_int_equal(download_commit(&d, NULL), 0);
	download_fini(&d);
	struct stat st;
	assert_int_equal(lstat("link", &st), 0);
	assert_true(S_ISLNK(st.st_mode));
	assert_file("file", "new");
}

static void download_does_not_replace_devices_or_directories(void **state)
{
	(void)state;
	struct download d = DOWNLOAD_NONE;
	assert_int_equal(download_open(&d, "/dev/null", NULL), 0);
	assert_string_equal(d.part, "");
	assert_int_equal(download_commit(&d, NULL), 0);
	download_fini(&d);
	struct stat st;
	assert_int_equal(stat("/dev/null", &st), 0);
	assert_true(S_ISCHR(st.st_mode));
	struct err e = {0};
	assert_int_equal(download_open(&d, "/tmp", &e), -1);
	assert_int_equal(e.code, ERR_INVALID);
	download_fini(&d);
}

#define test_in_folder(f) cmocka_unit_test_setup_teardown(f, enter_folder, leave_folder)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(terminal_shows_control_characters_as_escapes),
	    cmocka_unit_test(terminal_leaves_other_text_alone),
	    cmocka_unit_test(terminal_shows_bytes_that_are_not_text),
	    cmocka_unit_test(terminal_shows_what_hides_where_all_is_asked_for),
	    cmocka_unit_test(repl_input_knows_a_whole_cell),
	    cmocka_unit_test(repl_input_waits_for_the_rest),
	    cmocka_unit_test(repl_input_ends_a_paste),
	    cmocka_unit_test(repl_input_lets_the_session_judge_mistakes),
	    cmocka_unit_test(url_base_takes_servers_and_pools),
	    cmocka_unit_test(url_base_refuses_what_could_leak_or_mislead),
	    cmocka_unit_test(url_build_encodes_everything),
	    cmocka_unit_test(url_follow_stays_on_the_server),
	    cmocka_unit_test(options_are_read_wherever_they_stand),
	    cmocka_unit_test(options_url_prefers_the_command_line),
	    cmocka_unit_test(options_say_what_is_wrong),
	    cmocka_unit_test(options_find_the_command_past_shared_options),
	    cmocka_unit_test(options_numbers_have_bounds),
	    test_in_folder(options_token_comes_from_its_file_or_the_environment),
	    test_in_folder(options_token_must_fit_in_a_header),
	    test_in_folder(images_never_replace_a_file),
	    test_in_folder(images_have_a_bound_for_one_cell),
	    cmocka_unit_test(images_are_found_in_a_bundle),
	    test_in_folder(download_keeps_the_old_file_until_the_new_is_whole),
	    test_in_folder(download_writes_where_a_link_points),
	    test_in_folder(download_does_not_replace_devices_or_directories),
	};
	return cmocka_run_group_tests_name("cli", tests, NULL, NULL);
}
