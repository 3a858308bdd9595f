/* What a person reads before deciding: nothing of others stands where our own words do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/compiler.h"
#include "cli/approval_view.h"
#include "cli/paper.h"

/* Not at a terminal: no colours, no folds. */
static struct paper plain_paper(void)
{
	struct paper p;
	struct output o = {0};
	paper_init(&p, &o);
	return p;
}

static void assert_text(struct paper *p, const char *expected)
{
	assert_int_equal(p->failed, 0);
	assert_string_equal(buf_str(&p->text), expected);
}

static void a_block_stands_behind_its_gutter(void **state)
{
	(void)state;
	cleanup(paper_fini) struct paper p = plain_paper();
	paper_block(&p, PAPER_CODE, "a = 1\n\nb\n", 9, 0);
	paper_block(&p, PAPER_OUTPUT, "x\x1b[2J\ny", 7, 0);
	paper_block(&p, PAPER_ERROR, "e\r\n", 3, 0);
	paper_block(&p, PAPER_OUTPUT, "", 0, 0);
	assert_text(&p, "    1 + a = 1\n"
			"    2 + \n"
			"    3 + b\n"
			"      | x\\u001b[2J\n"
			"      | y\n"
			"      ! e\\u000d\n");
}

static void tabs_are_spaces(void **state)
{
	(void)state;
	cleanup(paper_fini) struct paper p = plain_paper();
	paper_block(&p, PAPER_OUTPUT, "\ta\tb", 4, 0);
	assert_text(&p, "      |         a       b\n");
}

/* A line wider than the terminal, padded so that its rest would begin in the first column. */
static void a_wide_line_is_folded_behind_the_gutter(void **state)
{
	(void)state;
	cleanup(paper_fini) struct paper p = plain_paper();
	p.columns = 30;
	paper_block(&p, PAPER_OUTPUT, "0123456789012345678901approve? [y/n]", 36, 0);
	assert_text(&p, "      | 0123456789012345678901\n"
			"      \\ approve? [y/n]\n");
}

static void a_character_beyond_ascii_takes_two_columns(void **state)
{
	(void)state;
	cleanup(paper_fini) struct paper p = plain_paper();
	p.columns = 26;
	static const char wide[] = "\xe4\xb8\xad\xe4\xb8\xad\xe4\xb8\xad\xe4\xb8\xad\xe4\xb8\xad"
				   "\xe4\xb8\xad\xe4\xb8\xad\xe4\xb8\xad\xe4\xb8\xad\xe4\xb8\xad";
	paper_block(&p, PAPER_OUTPUT, wide, strlen(wide), 0);
	cleanup(buf_fini) struct buf expected = BUF_INIT(256);
	assert_int_equal(buf_addf(&expected, "      | %.27s\n      \\ %s\n", wide, wide + 27), 0);
	assert_text(&p, buf_str(&expected));
}

static void a_quoted_word_is_folded_too(void **state)
{
	(void)state;
	cleanup(paper_fini) struct paper p = plain_paper();
	p.columns = 30;
	paper_add(&p, "head\n  by        ");
	paper_quote_text(&p, "\nmallory                           state approved");
	paper_add(&p, "\n");
	assert_text(&p, "head\n"
			"  by        \\u000amallory     \n"
			"      \\                       \n"
			"      \\ state approved\n");
}

static void what_is_left_out_is_said(void **state)
{
	(void)state;
	cleanup(paper_fini) struct paper p = plain_paper();
	paper_block(&p, PAPER_OUTPUT, "1\n2\n3\n4\n5\n6\n7\n8\n", 16, 4);
	assert_text(&p, "      | 1\n      | 2\n      | 3\n"
			"  ... 4 lines are not shown here\n"
			"      | 8\n");
	buf_clear(&p.text);
	paper_block(&p, PAPER_OUTPUT, "1\n2\n", 4, 2);
	assert_text(&p, "      | 1\n      | 2\n");
	buf_clear(&p.text);
	char wide[3000];
	memset(wide, 'a', sizeof(wide));
	paper_block(&p, PAPER_OUTPUT, wide, sizeof(wide), 4);
	assert_non_null(strstr(buf_str(&p.text), "  ... 1000 bytes of this line are not shown"));
}

static void times_are_said_as_how_far_away(void **state)
{
	(void)state;
	/* 2026-11-21T08:00:00Z */
	const int64_t now_us = INT64_C(1795248000) * 1000000;
	static const struct {
		const char *time, *expected;
	} rows[] = {
	    {"2026-11-21T08:00:00Z", "now"},
	    {"2026-11-21T08:01:30.5Z", "in 90 s"},
	    {"2026-11-21T07:30:00Z", "30 min ago"},
	    {"2026-11-21T10:59:59Z", "in 3 h"},
	    {"2026-11-22T07:59:59.999Z", "in 24 h"},
	    {"2026-11-24T08:00:00Z", "in 3 d"},
	    {"soon", ""},
	    {"", ""},
	};
	for (size_t i = 0; i < array_len(rows); i++) {
		char when[APPROVAL_WHEN_BYTES];
		assert_string_equal(
		    approval_view_when(rows[i].time, now_us, when), rows[i].expected);
	}
}

/* Members of types that no server of ours gives are left out, not read. */
static void an_approval_of_wrong_types_is_shown_without_them(void **state)
{
	(void)state;
	cleanup(paper_fini) struct paper p = plain_paper();
	cleanup(json_decrefp) json_t *odd = json_loads(
	    "{\"id\": 1, \"state\": [], \"call\": {\"arguments\": \"x\"}, \"code\": {}, "
	    "\"result\": {\"stdout\": 3, \"displays\": [1, {\"image/png\": 5}], \"error\": {}, "
	    "\"truncated\": 1}, \"history\": [1, {\"body\": []}], \"settings\": 0}",
	    0, NULL);
	assert_non_null(odd);
	approval_view(&p, odd, 10);
	approval_view_row(&p, odd);
	approval_view_question(&p, odd);
	assert_int_equal(p.failed, 0);
	assert_non_null(strstr(buf_str(&p.text), "    1 + \"x\"\n"));
	assert_non_null(strstr(buf_str(&p.text), "image/png 1 B"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_block_stands_behind_its_gutter),
	    cmocka_unit_test(tabs_are_spaces),
	    cmocka_unit_test(a_wide_line_is_folded_behind_the_gutter),
	    cmocka_unit_test(a_character_beyond_ascii_takes_two_columns),
	    cmocka_unit_test(a_quoted_word_is_folded_too),
	    cmocka_unit_test(what_is_left_out_is_said),
	    cmocka_unit_test(times_are_said_as_how_far_away),
	    cmocka_unit_test(an_approval_of_wrong_types_is_shown_without_them),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
