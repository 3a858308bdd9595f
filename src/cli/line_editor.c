#include "cli/line_editor.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <locale.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/text.h"
#include "cli/repl_input.h"
#include "cli/terminal.h"

#define PASTE_BEGIN "\033[200~"
#define PASTE_END "\033[201~"
/* A paste whose end does not come is over when the terminal is silent for so long. */
#define PASTE_SILENCE_MS 1000
#define COMPLETIONS_SHOWN 100
#define COMPLETION_MAX_BYTES 256

/* Makes every directory on the way to the file PATH. What fails shows when the file is opened. */
static void make_parents(const char *path)
{
	char dir[PATH_MAX];
	(void)snprintf(dir, sizeof(dir), "%s", path);
	for (char *slash = strchr(dir + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		(void)mkdir(dir, 0700);
		*slash = '/';
	}
}

static void find_history(struct line_editor *l)
{
	const char *state = getenv("XDG_STATE_HOME");
	const char *home = getenv("HOME");
	int r = -1;
	if (state != NULL && state[0] == '/') {
		r = buf_addf(&l->history_path, "%s/carrel/history", state);
	} else if (home != NULL && home[0] == '/') {
		r = buf_addf(&l->history_path, "%s/.local/state/carrel/history", home);
	}
	if (r < 0) {
		buf_clear(&l->history_path);
	}
}

static void load_history(struct line_editor *l)
{
	HistEvent event;
	(void)history(l->history, &event, H_SETSIZE, LINE_EDITOR_HISTORY);
	(void)history(l->history, &event, H_SETUNIQUE, 1);
	find_history(l);
	if (l->history_path.len > 0) {
		(void)history(l->history, &event, H_LOAD, l->history_path.data);
	}
}

static void save_history(struct line_editor *l)
{
	if (l->history == NULL || l->history_path.len == 0) {
		return;
	}
	HistEvent event;
	make_parents(l->history_path.data);
	cleanup(fd_close) int fd = open(
	    l->history_path.data, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || fchmod(fd, 0600) < 0) {
		return; /* a prompt that cannot keep its history still works */
	}
	FILE *file = fdopen(fd, "w");
	if (file != NULL) {
		(void)fd_take(&fd);
		(void)history(l->history, &event, H_SAVE_FP, file);
		(void)fclose(file);
	}
}

static struct line_editor *editor_of(EditLine *edit)
{
	struct line_editor *l = NULL;
	(void)el_get(edit, EL_CLIENTDATA, &l);
	return l;
}

static const char *give_prompt(EditLine *edit)
{
	return editor_of(edit)->prompt;
}

/* The Ctrl-C key: leaves the line, whatever it holds. */
static unsigned char clear_line(EditLine *edit, int key)
{
	(void)key;
	editor_of(edit)->cleared = true;
	return CC_NEWLINE;
}

/* --- what is typed, a character at a time --- */

/* Waits for a key; what is due meanwhile is done. False when a paste has gone silent. */
static bool wait_for_key(struct line_editor *l)
{
	for (;;) {
		uint64_t now_ms = clock_mono_ms();
		int wait_ms = l->in_paste ? PASTE_SILENCE_MS : -1;
		if (!l->in_paste && l->hooks->idle_ms != 0) {
			wait_ms = l->idle_at_ms > now_ms ? (int)(l->idle_at_ms - now_ms) : 0;
		}
		struct pollfd key = {.fd = STDIN_FILENO, .events = POLLIN};
		int r = poll(&key, 1, wait_ms);
		if (r > 0) {
			return true;
		}
		if (r < 0) {
			(void)el_set(l->edit, EL_REFRESH); /* the window has another size */
		} else if (l->in_paste) {
			return false;
		} else {
			if (l->hooks->idle(l->hooks->arg)) {
				(void)el_set(l->edit, EL_REFRESH);
			}
			l->idle_at_ms = clock_mono_ms() + l->hooks->idle_ms;
		}
	}
}

/* As el_rfunc_t: 1 for a character, 0 at the end, -1 for a failure. */
static int read_key(EditLine *edit, wchar_t *out)
{
	struct line_editor *l = editor_of(edit);
	for (;;) {
		char byte;
		if (!wait_for_key(l)) {
			return 0;
		}
		ssize_t n = read(STDIN_FILENO, &byte, 1);
		if (n < 0 && (errno == EINTR || errno == EAGAIN)) {
			continue;
		}
		if (n <= 0) {
			return (int)n;
		}
		size_t r = mbrtowc(out, &byte, 1, &l->cut);
		if (r <= 1) {
			return 1;
		}
		if (r == (size_t)-1) {
			l->cut = (mbstate_t){0}; /* no character at all: dropped */
		}
	}
}

/* --- what is pasted --- */

static int add_wide(struct buf *text, wchar_t c)
{
	char bytes[MB_LEN_MAX];
	mbstate_t fresh = {0};
	size_t n = wcrtomb(bytes, c, &fresh);
	return n == (size_t)-1 ? 0 : buf_add(text, bytes, n);
}

/* Everything up to the end of the paste. Only what can stand in code: no control character but LF,
 * as which each end of a line is given, and TAB. False when it is too large. */
static bool read_paste(struct line_editor *l, struct buf *text)
{
	cleanup(buf_fini) struct buf all = BUF_INIT(LINE_EDITOR_MAX_BYTES);
	const size_t mark = strlen(PASTE_END);
	bool fits = true;
	wchar_t c;
	l->in_paste = true;
	while (el_wgetc(l->edit, &c) == 1) {
		if (fits && add_wide(&all, c) < 0) {
			fits = false;
		}
		if (!fits) {
			buf_clear(&all); /* the end is still looked for */
			(void)add_wide(&all, c);
		}
		if (c == L'~' && all.len >= mark &&
		    memcmp(all.data + all.len - mark, PASTE_END, mark) == 0) {
			all.len -= mark;
			break;
		}
	}
	l->in_paste = false;
	for (size_t i = 0; i < all.len && fits; i++) {
		char b = all.data[i];
		bool joined = b == '\n' && i > 0 && all.data[i - 1] == '\r';
		b = b == '\r' ? '\n' : b;
		if (!joined && ((unsigned char)b >= ' ' || b == '\n' || b == '\t') && b != 0x7f) {
			fits = buf_add_char(text, b) == 0;
		}
	}
	return fits;
}

/* What stands in the line from FROM to TO, as bytes. */
static int add_line(struct buf *text, const wchar_t *from, const wchar_t *to)
{
	int r = 0;
	for (; from < to && r == 0; from++) {
		r = add_wide(text, *from);
	}
	return r;
}

static int insert(EditLine *edit, const char *text, size_t len)
{
	int r = 0;
	mbstate_t state = {0};
	while (len > 0 && r == 0) {
		wchar_t c[2] = L"";
		size_t n = mbrtowc(c, text, len, &state);
		if (n == 0 || n > len) {
			break;
		}
		r = el_winsertstr(edit, c);
		text += n;
		len -= n;
	}
	return r;
}

/* The key that begins a paste. Lines that are whole are handed over; a single one is typed. */
static unsigned char take_paste(EditLine *edit, int key)
{
	(void)key;
	struct line_editor *l = editor_of(edit);
	const LineInfoW *line = el_wline(edit);
	buf_clear(&l->line);
	buf_clear(&l->rest);
	if (add_line(&l->line, line->buffer, line->cursor) < 0) {
		return CC_ERROR;
	}
	size_t typed = l->line.len;
	if (!read_paste(l, &l->line)) {
		buf_clear(&l->line);
		return CC_ERROR;
	}
	const char *text = buf_str(&l->line);
	const char *last = memrchr(text, '\n', l->line.len);
	if (last == NULL) {
		int r = insert(edit, text + typed, l->line.len - typed);
		buf_clear(&l->line);
		return r < 0 ? CC_ERROR : CC_REFRESH;
	}
	size_t whole = (size_t)(last - text) + 1;
	if (buf_add(&l->rest, text + whole, l->line.len - whole) < 0 ||
	    add_line(&l->rest, line->cursor, line->lastchar) < 0) {
		buf_clear(&l->line);
		return CC_ERROR;
	}
	l->line.len = whole;
	l->line.data[whole] = '\0';
	return CC_NEWLINE;
}

/* Shows the pasted lines as if they had been typed. */
static void show_paste(const struct line_editor *l)
{
	const char *prompt = l->prompt;
	(void)fputs("\r\033[K", stdout);
	for (const char *at = buf_str(&l->line); *at != '\0';) {
		const char *end = strchr(at, '\n');
		cleanup(buf_fini) struct buf shown = BUF_INIT(6 * LINE_EDITOR_MAX_BYTES);
		(void)terminal_escape(&shown, at, (size_t)(end - at));
		(void)fprintf(stdout, "%s%s\n", prompt, buf_str(&shown));
		prompt = LINE_EDITOR_MORE;
		at = end + 1;
	}
	(void)fflush(stdout);
}

/* --- what could be typed --- */

static bool is_name_byte(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '_' || (unsigned char)c >= 0x80;
}

/* NAME came from a session: only what is a longer WORD, made of characters a name may have and a
 * terminal can be shown, is taken. */
static bool may_complete(const char *word, const char *name)
{
	size_t n = strlen(word);
	if (name == NULL || strncmp(name, word, n) != 0) {
		return false;
	}
	size_t len = strlen(name);
	if (len > COMPLETION_MAX_BYTES) {
		return false;
	}
	for (size_t i = n; i < len; i++) {
		if (!is_name_byte(name[i])) {
			return false;
		}
	}
	cleanup(buf_fini) struct buf shown = BUF_INIT(6 * len + 1);
	return text_is_utf8(name, len) && terminal_escape_all(&shown, name, len) == 0 &&
	       strcmp(buf_str(&shown), name) == 0;
}

/* The names alone, without what stands before their last dot. */
static void show_names(const json_t *names)
{
	size_t i;
	const json_t *name;
	(void)fputc('\n', stdout);
	json_array_foreach(names, i, name)
	{
		const char *text = json_string_value(name);
		const char *dot = strrchr(text, '.');
		if (i == COMPLETIONS_SHOWN) {
			(void)fprintf(stdout, "... %zu more", json_array_size(names) - i);
			break;
		}
		(void)fprintf(stdout, "%s  ", dot != NULL ? dot + 1 : text);
	}
	(void)fputc('\n', stdout);
	(void)fflush(stdout);
}

/* How much of the names is the same. */
static size_t common_len(const json_t *names)
{
	const char *first = json_string_value(json_array_get(names, 0));
	size_t len = strlen(first);
	size_t i;
	const json_t *name;
	json_array_foreach(names, i, name)
	{
		const char *text = json_string_value(name);
		size_t same = 0;
		while (same < len && text[same] == first[same]) {
			same++;
		}
		len = same;
	}
	while (len > 0 && ((unsigned char)first[len] & 0xc0) == 0x80) {
		len--; /* never within a character */
	}
	return len;
}

static json_t *find_names(struct line_editor *l, const char *word)
{
	cleanup(json_decrefp) json_t *told = l->hooks->complete(l->hooks->arg, word);
	json_t *names = json_array();
	size_t i;
	json_t *name;
	json_array_foreach(told, i, name)
	{
		if (may_complete(word, json_string_value(name))) {
			(void)json_array_append(names, name);
		}
	}
	return names;
}

/* The Tab key: indents at the beginning of a line, else completes the name before the cursor. */
static unsigned char complete(EditLine *edit, int key)
{
	(void)key;
	struct line_editor *l = editor_of(edit);
	const LineInfoW *line = el_wline(edit);
	cleanup(buf_fini) struct buf before = BUF_INIT(LINE_EDITOR_MAX_BYTES);
	if (add_line(&before, line->buffer, line->cursor) < 0) {
		return CC_ERROR;
	}
	const char *text = buf_str(&before);
	if (repl_input_is_blank(text, before.len)) {
		return insert(edit, "    ", 4) < 0 ? CC_ERROR : CC_REFRESH;
	}
	const char *word = text + before.len;
	while (word > text && (is_name_byte(word[-1]) || word[-1] == '.')) {
		word--;
	}
	if (*word == '\0' || *word == '.') {
		return CC_ERROR;
	}
	cleanup(json_decrefp) json_t *names = find_names(l, word);
	if (json_array_size(names) == 0) {
		return CC_ERROR;
	}
	const char *first = json_string_value(json_array_get(names, 0));
	size_t have = strlen(word);
	size_t common = common_len(names);
	if (common > have) {
		return insert(edit, first + have, common - have) < 0 ? CC_ERROR : CC_REFRESH;
	}
	if (json_array_size(names) == 1) {
		return CC_NORM; /* it is there already */
	}
	show_names(names);
	return CC_REDISPLAY;
}

/* Only the character set; C itself cannot edit anything beyond ASCII. */
static void choose_locale(void)
{
	if (setlocale(LC_CTYPE, "") == NULL || MB_CUR_MAX == 1) {
		(void)setlocale(LC_CTYPE, "C.UTF-8");
	}
}

static void set_up(struct line_editor *l)
{
	EditLine *edit = l->edit;
	(void)el_set(edit, EL_CLIENTDATA, l);
	(void)el_set(edit, EL_PROMPT, give_prompt);
	(void)el_set(edit, EL_SIGNAL, 1);
	(void)el_set(edit, EL_EDITOR, "emacs");
	(void)el_set(edit, EL_HIST, history, l->history);
	(void)el_source(edit, NULL); /* ~/.editrc, as every libedit program reads */
	/* While a line is edited, and only then, Ctrl-C arrives as a character (so do ^Z and ^\).
	 */
	(void)el_set(edit, EL_SETTY, "-d", "-isig", NULL);
	/* libedit never frees its copies of these two texts (136 bytes): not our leak. */
	(void)el_set(edit, EL_ADDFN, "carrel-clear-line", "Leave this line", clear_line);
	(void)el_set(edit, EL_BIND, "^C", "carrel-clear-line", NULL);
	(void)el_set(edit, EL_BIND, "^R", "em-inc-search-prev", NULL);
	(void)el_set(edit, EL_ADDFN, "carrel-complete", "Complete a name", complete);
	(void)el_set(edit, EL_BIND, "^I", "carrel-complete", NULL);
	(void)el_set(edit, EL_ADDFN, "carrel-paste", "Take what is pasted", take_paste);
	(void)el_set(edit, EL_BIND, PASTE_BEGIN, "carrel-paste", NULL);
	(void)el_set(edit, EL_GETCFN, read_key);
}

int line_editor_init(struct line_editor *l, const struct line_hooks *hooks, struct err *e)
{
	const char *terminal = getenv("TERM");
	*l = (struct line_editor){
	    .hooks = hooks,
	    .pastes = terminal != NULL && strcmp(terminal, "dumb") != 0,
	    .history_path = BUF_INIT(PATH_MAX - 1),
	    .line = BUF_INIT(LINE_EDITOR_MAX_BYTES),
	    .rest = BUF_INIT(2 * LINE_EDITOR_MAX_BYTES),
	    .typed = isatty(STDIN_FILENO) == 1 && isatty(STDOUT_FILENO) == 1,
	};
	if (!l->typed) {
		return 0;
	}
	choose_locale();
	l->history = history_init();
	l->edit = el_init("carrel", stdin, stdout, stderr);
	if (l->history == NULL || l->edit == NULL) {
		return err_set(e, ERR_INTERNAL, "libedit cannot start");
	}
	load_history(l);
	set_up(l);
	return 0;
}

void line_editor_fini(struct line_editor *l)
{
	if (l == NULL) {
		return;
	}
	save_history(l);
	if (l->edit != NULL) {
		el_end(l->edit);
	}
	if (l->history != NULL) {
		history_end(l->history);
	}
	buf_fini(&l->history_path);
	buf_fini(&l->line);
	buf_fini(&l->rest);
	*l = (struct line_editor){0};
}

void line_editor_remember(struct line_editor *l, const char *cell)
{
	HistEvent event;
	if (l->history != NULL) {
		(void)history(l->history, &event, H_ENTER, cell);
	}
}

/* Asks the terminal to tell what is pasted, or to stop it: programs after this one do not know. */
static void tell_pastes(const struct line_editor *l, bool on)
{
	if (l->pastes) {
		(void)fputs(on ? "\033[?2004h" : "\033[?2004l", stdout);
		(void)fflush(stdout);
	}
}

static enum line_outcome read_typed(struct line_editor *l, const char **line, size_t *len)
{
	int count = 0;
	l->cleared = false;
	l->idle_at_ms = clock_mono_ms() + l->hooks->idle_ms;
	/* libedit shows the prompt first and takes the terminal over after, too late for a key
	 * typed between the two: a Ctrl-D would be lost. */
	(void)el_set(l->edit, EL_PREP_TERM, 1);
	tell_pastes(l, true);
	if (l->rest.len > 0) {
		/* As keys, among which a TAB would be a question. */
		for (char *tab = l->rest.data; (tab = strchr(tab, '\t')) != NULL;) {
			*tab = ' ';
		}
		el_push(l->edit, buf_str(&l->rest));
	}
	buf_clear(&l->line);
	buf_clear(&l->rest);
	const char *text = el_gets(l->edit, &count);
	tell_pastes(l, false);
	if (l->line.len > 0) {
		show_paste(l);
		*line = l->line.data;
		*len = l->line.len;
		return LINE_PASTED;
	}
	bool ended = text == NULL || count <= 0;
	if (l->cleared || ended) {
		(void)fputs("\n", stdout);
		(void)fflush(stdout);
		return l->cleared ? LINE_CLEARED : LINE_END;
	}
	*line = text;
	*len = (size_t)count;
	return LINE_READ;
}

/* Up to the LF or the end of the file, which counts as one. A line past the bound is cut into
 * several; its cell will be dropped for its size. */
static enum line_outcome read_plain(struct line_editor *l, const char **line, size_t *len)
{
	buf_clear(&l->line);
	int c;
	while ((c = getc(stdin)) != EOF) {
		if (buf_add_char(&l->line, (char)c) < 0 || c == '\n') {
			break;
		}
	}
	if (l->line.len == 0) {
		return LINE_END;
	}
	if (c == EOF) {
		(void)buf_add_char(&l->line, '\n');
	}
	*line = l->line.data;
	*len = l->line.len;
	return LINE_READ;
}

enum line_outcome line_editor_read(
    struct line_editor *l, const char *prompt, const char **line, size_t *len)
{
	l->prompt = prompt;
	return l->typed ? read_typed(l, line, len) : read_plain(l, line, len);
}
