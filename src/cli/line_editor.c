#include "cli/line_editor.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "cli/repl_input.h"

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
}

int line_editor_init(struct line_editor *l, struct err *e)
{
	*l = (struct line_editor){
	    .history_path = BUF_INIT(PATH_MAX - 1),
	    .line = BUF_INIT(LINE_EDITOR_MAX_BYTES),
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
	*l = (struct line_editor){0};
}

static enum line_outcome read_typed(struct line_editor *l, const char **line, size_t *len)
{
	int count = 0;
	l->cleared = false;
	/* libedit shows the prompt first and takes the terminal over after, too late for a key
	 * typed between the two: a Ctrl-D would be lost. */
	(void)el_set(l->edit, EL_PREP_TERM, 1);
	const char *text = el_gets(l->edit, &count);
	if (l->cleared) {
		(void)fputs("\n", stdout);
		(void)fflush(stdout);
		return LINE_CLEARED;
	}
	if (text == NULL || count <= 0) {
		(void)fputs("\n", stdout);
		(void)fflush(stdout);
		return LINE_END;
	}
	if (!repl_input_is_blank(text, (size_t)count)) {
		HistEvent event;
		(void)history(l->history, &event, H_ENTER, text);
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
