#include "cli/paper.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/fd.h"
#include "cli/terminal.h"

#define KEEP_BYTES ((size_t)64 << 10)
/* What is added at once: at worst each byte of a line becomes the six of \u001b. */
#define TEXT_MAX_BYTES ((size_t)512 << 20)
#define GUTTER_COLUMNS 8
#define FOLD_MIN_COLUMNS 16
#define TAB_COLUMNS 8
/* Of a line, where lines are left out too. */
#define LINE_SHOWN_BYTES 2000

/* Before the rest of a line that is wider than the terminal. */
static const char goes_on[GUTTER_COLUMNS + 1] = "      \\ ";

static bool wants_colour(const struct output *o)
{
	const char *no = getenv("NO_COLOR");
	const char *term = getenv("TERM");
	return o->terminal[STDOUT_FILENO] && (no == NULL || no[0] == '\0') &&
	       (term == NULL || strcmp(term, "dumb") != 0);
}

void paper_init(struct paper *p, const struct output *o)
{
	*p = (struct paper){.colour = wants_colour(o), .text = BUF_INIT(TEXT_MAX_BYTES)};
	struct winsize size;
	if (o->terminal[STDOUT_FILENO]) {
		bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
		p->columns = known ? size.ws_col : 80;
	}
}

void paper_fini(struct paper *p)
{
	if (p != NULL) {
		buf_fini(&p->text);
	}
}

/* --- writing --- */

static void write_out(struct paper *p)
{
	if (p->failed == 0 && p->text.len > 0) {
		p->failed = fd_write_all(STDOUT_FILENO, p->text.data, p->text.len);
	}
	buf_clear(&p->text);
}

/* R is what adding gave. */
static void added(struct paper *p, int r)
{
	if (r < 0 && p->failed == 0) {
		p->failed = r;
	}
	if (p->text.len > KEEP_BYTES) {
		write_out(p);
	}
}

int paper_flush(struct paper *p, struct err *e)
{
	write_out(p);
	return p->failed == 0 ? 0 : err_set_os(e, -p->failed, "cannot write to stdout");
}

/* --- within a line --- */

/* How many bytes of the escaped TEXT fit into WIDTH columns, at least one character of
 * it where there is one. A character beyond ASCII counts as two columns, the most that one takes,
 * so that no terminal wraps what is meant to fit. */
static size_t fitting(const char *text, size_t len, size_t width)
{
	size_t columns = 0;
	size_t i = 0;
	while (i < len) {
		size_t n = 1;
		while (i + n < len && ((unsigned char)text[i + n] & 0xc0) == 0x80) {
			n++;
		}
		columns += n == 1 ? 1 : 2;
		if (columns > width && i > 0) {
			break;
		}
		i += n;
	}
	return i;
}

/* Keeps in which column the next character will stand, N bytes of ours having been added. */
static void moved(struct paper *p, const char *text, size_t n)
{
	const char *lf = memrchr(text, '\n', n);
	p->column = lf != NULL ? (size_t)(text + n - lf) - 1 : p->column + n;
}

void paper_add(struct paper *p, const char *fmt, ...)
{
	char text[1024];
	va_list args;
	va_start(args, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	moved(p, text, strlen(text));
	added(p, buf_add_str(&p->text, text));
}

static size_t room(const struct paper *p)
{
	size_t least = GUTTER_COLUMNS + FOLD_MIN_COLUMNS;
	size_t columns = p->columns > least ? p->columns : least;
	return columns > p->column ? columns - p->column : 0;
}

void paper_quote(struct paper *p, const char *bytes, size_t len)
{
	cleanup(buf_fini) struct buf shown = BUF_INIT(TEXT_MAX_BYTES);
	added(p, terminal_escape_all(&shown, bytes, len));
	const char *at = buf_str(&shown);
	size_t left = shown.len;
	while (left > 0) {
		size_t n = p->columns == 0 ? left : fitting(at, left, room(p));
		added(p, buf_add(&p->text, at, n));
		/* A character may take two columns, but then it has as many bytes or more. */
		p->column += n;
		at += n;
		left -= n;
		if (left > 0) {
			paper_add(p, "\n%s", goes_on);
		}
	}
}

void paper_quote_text(struct paper *p, const char *text)
{
	paper_quote(p, text, strlen(text));
}

void paper_colour(struct paper *p, enum paper_colour colour)
{
	static const char *const codes[] = {
	    [PAPER_PLAIN] = "0",
	    [PAPER_BOLD] = "1",
	    [PAPER_DIM] = "2",
	    [PAPER_ADDED] = "32",
	    [PAPER_REMOVED] = "31",
	    [PAPER_WAITING] = "33",
	};
	if (p->colour) {
		added(p, buf_addf(&p->text, "\033[%sm", codes[colour]));
	}
}

void paper_plain(struct paper *p)
{
	paper_colour(p, PAPER_PLAIN);
}

/* --- lines behind a gutter --- */

/* NUMBER 0: the line before goes on. */
static void add_gutter(struct paper *p, enum paper_kind kind, size_t number)
{
	static const char marks[] = {[PAPER_CODE] = '+', [PAPER_OUTPUT] = '|', [PAPER_ERROR] = '!'};
	paper_colour(p, PAPER_DIM);
	if (number == 0) {
		paper_add(p, "%s", goes_on);
	} else if (kind == PAPER_CODE) {
		paper_add(p, "%5zu + ", number);
	} else {
		paper_add(p, "      %c ", marks[kind]);
	}
	paper_plain(p);
	if (kind != PAPER_OUTPUT) {
		paper_colour(p, kind == PAPER_CODE ? PAPER_ADDED : PAPER_REMOVED);
	}
}

static void end_line(struct paper *p)
{
	paper_plain(p);
	paper_add(p, "\n");
}

/* A line without its end: escaped, tabs as spaces. As buf_add. */
static int escape_line(struct buf *out, const char *bytes, size_t len)
{
	const char *end = bytes + len;
	while (bytes < end) {
		const char *tab = memchr(bytes, '\t', (size_t)(end - bytes));
		size_t n = (size_t)((tab != NULL ? tab : end) - bytes);
		int r = terminal_escape_all(out, bytes, n);
		if (r == 0 && tab != NULL) {
			size_t spaces = TAB_COLUMNS - out->len % TAB_COLUMNS;
			r = buf_addf(out, "%*s", (int)spaces, "");
		}
		if (r < 0) {
			return r;
		}
		bytes += n + (tab != NULL);
	}
	return 0;
}

static void add_line(
    struct paper *p, enum paper_kind kind, size_t number, const char *bytes, size_t len)
{
	cleanup(buf_fini) struct buf line = BUF_INIT(TEXT_MAX_BYTES);
	int r = escape_line(&line, bytes, len);
	if (r < 0) {
		added(p, r);
		return;
	}
	const char *at = buf_str(&line);
	size_t left = line.len;
	size_t width = p->columns > GUTTER_COLUMNS + FOLD_MIN_COLUMNS ? p->columns - GUTTER_COLUMNS
								      : FOLD_MIN_COLUMNS;
	do {
		size_t n = p->columns == 0 ? left : fitting(at, left, width);
		add_gutter(p, kind, at == buf_str(&line) ? number : 0);
		added(p, buf_add(&p->text, at, n));
		end_line(p);
		at += n;
		left -= n;
	} while (left > 0);
}

static size_t count_lines(const char *bytes, size_t len)
{
	size_t lines = 0;
	for (const char *end = bytes + len; bytes < end; lines++) {
		const char *lf = memchr(bytes, '\n', (size_t)(end - bytes));
		bytes = lf != NULL ? lf + 1 : end;
	}
	return lines;
}

/* A line of a block that is not shown whole. */
static void add_cut_line(
    struct paper *p, enum paper_kind kind, size_t number, const char *bytes, size_t len)
{
	if (len <= LINE_SHOWN_BYTES) {
		add_line(p, kind, number, bytes, len);
		return;
	}
	size_t kept = LINE_SHOWN_BYTES;
	while (kept > 0 && ((unsigned char)bytes[kept] & 0xc0) == 0x80) {
		kept--;
	}
	add_line(p, kind, number, bytes, kept);
	paper_add(p, "  ... %zu bytes of this line are not shown here\n", len - kept);
}

void paper_block(
    struct paper *p, enum paper_kind kind, const char *bytes, size_t len, size_t lines_max)
{
	size_t lines = count_lines(bytes, len);
	size_t first = lines_max == 0 || lines <= lines_max ? lines : lines_max - lines_max / 4;
	size_t last = first == lines ? 0 : lines_max - first;
	const char *end = bytes + len;
	for (size_t number = 1; bytes < end; number++) {
		const char *lf = memchr(bytes, '\n', (size_t)(end - bytes));
		size_t n = (size_t)((lf != NULL ? lf : end) - bytes);
		if (number <= first || number > lines - last) {
			(lines_max == 0 ? add_line : add_cut_line)(p, kind, number, bytes, n);
		} else if (number == first + 1) {
			paper_add(p, "  ... %zu lines are not shown here\n", lines - first - last);
		}
		bytes = lf != NULL ? lf + 1 : end;
	}
}
