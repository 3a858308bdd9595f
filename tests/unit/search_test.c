/* Search by words. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "store/search.h"
#include "store/search_words.h"

static struct search *s;

static int setup(void **state)
{
	(void)state;
	s = search_new();
	return s == NULL ? -1 : 0;
}

static int teardown(void **state)
{
	(void)state;
	search_free(s);
	return 0;
}

static void put(const char *name, const char *description, const char *source)
{
	struct search_document d = {.name = name, .description = description, .source = source};
	assert_int_equal(search_put(s, &d), 0);
}

/* The names of the hits with ',' between. */
static void expect(const char *query, const char *names)
{
	char text[512] = "";
	struct search_hit hits[10];
	size_t n = search_find(s, query, hits, array_len(hits));
	for (size_t i = 0; i < n; i++) {
		assert_true(hits[i].score > 0);
		size_t had = strlen(text);
		(void)snprintf(
		    text + had, sizeof(text) - had, "%s%s", i > 0 ? "," : "", hits[i].name);
	}
	assert_string_equal(text, names);
}

static void expect_first(const char *query, const char *name)
{
	struct search_hit hit;
	assert_int_equal(search_find(s, query, &hit, 1), 1);
	assert_string_equal(hit.name, name);
}

static void words(void **state)
{
	(void)state;
	static const struct {
		const char *text, *words;
	} rows[] = {
	    {"port_scan", "port scan"},
	    {"fetchHTTPPage2x", "fetch http pag 2 x"},
	    {"scan scanning scanner scanners scanned scans", "scan scan scan scan scan scan"},
	    {"scrape scraping scraper scrapes", "scrap scrap scrap scrap"},
	    {"summarize summarization summaries", "summariz summariz summary"},
	    {"extract extraction", "extract extract"},
	    {"process processes status", "process process status"},
	    {"classes boxes pages", "class box pag"},
	    {"string thing red", "string thing red"},
	    {"\xc3\xbc"
	     "ber",
		"\xc3\xbc"
		"ber"},
	    {"-- ,.", ""},
	};
	for (size_t i = 0; i < array_len(rows); i++) {
		char text[256] = "";
		char word[SEARCH_WORD_MAX_BYTES + 1];
		struct search_words w = search_words_of(rows[i].text, strlen(rows[i].text));
		while (search_words_next(&w, word)) {
			size_t had = strlen(text);
			(void)snprintf(
			    text + had, sizeof(text) - had, "%s%s", had > 0 ? " " : "", word);
		}
		assert_string_equal(text, rows[i].words);
	}
}

/* Source: py-code-mode's own tests of its search. */
static void expectations(void **state)
{
	(void)state;
	expect("network port scanning", "");
	put("port_scan", "Scan network ports to find open services", NULL);
	put("web_scraper", "Scrape web pages and extract content", NULL);
	put("notes", "Summarize notes", NULL);
	put("ads", "Analyze campaign metrics and summarize ad performance", NULL);
	put("greet", "Say hello", NULL);
	expect_first("network port scanning", "port_scan");
	expect_first("web scraping extract", "web_scraper");
	expect_first("summarize", "notes");
	expect_first("campaign metrics ad performance", "ads");
	expect("quantum chromodynamics", "");
	expect("", "");
	expect("  \n", "");
	expect("to and the", "");
}

static void fields(void **state)
{
	(void)state;
	put("in_source", "x", "def run():\n    return traceroute_host(target)\n");
	struct search_document tagged = {
	    .name = "tagged", .description = "x", .tags = "dns network", .parameters = "resolver"};
	assert_int_equal(search_put(s, &tagged), 0);
	put("whois", "looks up who owns a traceroute", NULL);
	expect("traceroute", "whois,in_source");
	expect("dns", "tagged");
	expect("resolver", "tagged");
	expect("return", ""); /* Python's words in a source say nothing */
	expect("sourc", "in_source");
	/* Part of a word is found where it stands. */
	expect("hoi", "whois");
	expect("WHOIS", "whois");
}

static void names_and_ties(void **state)
{
	(void)state;
	put("b", "same words", NULL);
	put("a", "same words", NULL);
	put("c", "same words", NULL);
	expect("words", "a,b,c");
	struct search_hit hits[2];
	assert_int_equal(search_find(s, "words", hits, 2), 2);
	assert_string_equal(hits[0].name, "a");
	assert_string_equal(hits[1].name, "b");
	assert_int_equal(search_find(s, "words", hits, 0), 0);
	put("words", "nothing else", NULL);
	expect("words", "words,a,b,c");
}

static void a_word_counts_once_in_a_query(void **state)
{
	(void)state;
	struct search_hit once, often;
	put("scanner", "ports", "");
	put("reader", "files", "");
	assert_int_equal(search_find(s, "find ports", &once, 1), 1);
	assert_int_equal(search_find(s, "find ports ports ports", &often, 1), 1);
	assert_string_equal(once.name, "scanner");
	assert_string_equal(often.name, "scanner");
	assert_true(once.score == often.score);
}

static void replace_and_remove(void **state)
{
	(void)state;
	put("a", "first", NULL);
	put("a", "second", NULL);
	expect("first", "");
	expect("second", "a");
	assert_true(search_remove(s, "a"));
	assert_false(search_remove(s, "a"));
	expect("second", "");
	/* Numbers and places are used again and again. */
	for (int i = 0; i < 1000; i++) {
		char name[16];
		char text[32];
		(void)snprintf(name, sizeof(name), "n%d", i % 10);
		(void)snprintf(text, sizeof(text), "common v%d", i);
		put(name, text, "word other");
	}
	expect("common", "n0,n1,n2,n3,n4,n5,n6,n7,n8,n9");
	expect("17", "");
	expect_first("v995", "n5");
}

/* Whatever was removed and put in between, what is found is what a new index of the same finds. */
static void changes_leave_nothing_behind(void **state)
{
	(void)state;
	static const char *const texts[] = {
	    "scan network ports", "fetch web pages", "scan pages of the web", "ports"};
	unsigned kept[50] = {0};
	uint64_t x = 42;
	for (int i = 0; i < 5000; i++) {
		char name[16];
		x = x * 6364136223846793005ULL + 1442695040888963407ULL;
		unsigned at = (unsigned)(x >> 33) % array_len(kept);
		unsigned text = (unsigned)(x >> 45) % (array_len(texts) + 1);
		(void)snprintf(name, sizeof(name), "n%u", at);
		if (text == array_len(texts)) {
			assert_int_equal(search_remove(s, name), kept[at] != 0);
		} else {
			put(name, texts[text], texts[text]);
		}
		kept[at] = text == array_len(texts) ? 0 : text + 1;
	}
	struct search *changed = s;
	s = search_new();
	for (unsigned i = 0; i < array_len(kept); i++) {
		char name[16];
		(void)snprintf(name, sizeof(name), "n%u", i);
		if (kept[i] != 0) {
			put(name, texts[kept[i] - 1], texts[kept[i] - 1]);
		}
	}
	struct search_hit hits[2][50];
	size_t n = search_find(s, "scanning web ports", hits[0], 50);
	assert_int_equal(search_find(changed, "scanning web ports", hits[1], 50), n);
	assert_in_range(n, 20, 50);
	for (size_t i = 0; i < n; i++) {
		assert_string_equal(hits[0][i].name, hits[1][i].name);
	}
	search_free(changed);
}

/* Whatever a tenant stores or asks: no crash, no end. */
static void hostile(void **state)
{
	(void)state;
	size_t len = 1 << 20;
	char *text = malloc(len + 1);
	unsigned seed = 1;
	for (size_t i = 0; i < len; i++) {
		seed = seed * 1103515245 + 12345;
		text[i] = (char)(seed >> 16) == '\0' ? ' ' : (char)(seed >> 16);
	}
	text[len] = '\0';
	put("noise", text, text);
	struct search_hit hits[3];
	(void)search_find(s, text, hits, 3);
	memset(text, 'a', len);
	put("long", text, text);
	expect_first(text, "long");
	free(text);
}

static uint64_t next_random(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

/* The figures of the header. The bounds are loose: machines are busy, builds are sanitized. */
static void figures(void **state)
{
	(void)state;
	uint64_t x = 88172645463325252ULL;
	uint64_t start_us = clock_mono_us();
	for (int i = 0; i < 10000; i++) {
		cleanup(buf_fini) struct buf source = BUF_INIT(4096);
		while (source.len < 2000) {
			(void)buf_addf(&source, "w%c%c_%c%c%c = call(x)\n",
			    'a' + (char)(next_random(&x) % 26), 'a' + (char)(next_random(&x) % 26),
			    'a' + (char)(next_random(&x) % 26), 'a' + (char)(next_random(&x) % 26),
			    'a' + (char)(next_random(&x) % 26));
		}
		char name[32];
		(void)snprintf(name, sizeof(name), "skill_%d", i);
		put(name, i % 3 == 0 ? "Scan network ports" : "Fetch web pages", buf_str(&source));
	}
	uint64_t put_us = clock_mono_us() - start_us;
	struct search_hit hits[10];
	start_us = clock_mono_us();
	for (int i = 0; i < 20; i++) {
		assert_int_equal(
		    search_find(s, "network port scanning web", hits, array_len(hits)), 10);
	}
	uint64_t query_us = (clock_mono_us() - start_us) / 20;
	print_message("# 10,000 put in %llu ms; a query: %llu us\n",
	    (unsigned long long)put_us / 1000, (unsigned long long)query_us);
	assert_true(put_us < 30000000);
	assert_true(query_us < 50000);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
	    TEST(words),
	    TEST(expectations),
	    TEST(fields),
	    TEST(names_and_ties),
	    TEST(a_word_counts_once_in_a_query),
	    TEST(replace_and_remove),
	    TEST(changes_leave_nothing_behind),
	    TEST(hostile),
	    TEST(figures),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
