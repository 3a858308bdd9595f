#include "cli/command.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"

int command_exit_of(const struct err *e)
{
	switch (e->code) {
	case ERR_INVALID:
		return CLI_EXIT_USAGE;
	case ERR_INTERNAL:
		return CLI_EXIT_USER;
	case ERR_CONFLICT:
		return CLI_EXIT_STOPPED;
	default:
		return CLI_EXIT_SERVER;
	}
}

int command_usage_error(const char *command, const struct err *e)
{
	(void)fprintf(stderr, "carrel %s: %s\ntry 'carrel help %s'\n", command, e->text, command);
	return CLI_EXIT_USAGE;
}

#define WORD_MAX 15

/* How many letters must be put in, taken out, changed, or swapped with the next, to make A of B;
 * more than WORD_MAX for longer words. */
static unsigned distance(const char *a, const char *b)
{
	size_t n = strlen(a);
	size_t m = strlen(b);
	unsigned d[WORD_MAX + 1][WORD_MAX + 1];
	if (n > WORD_MAX || m > WORD_MAX) {
		return WORD_MAX + 1;
	}
	for (size_t i = 0; i <= n; i++) {
		for (size_t k = 0; k <= m; k++) {
			if (i == 0 || k == 0) {
				d[i][k] = (unsigned)(i + k);
				continue;
			}
			unsigned best = d[i - 1][k - 1] + (a[i - 1] != b[k - 1]);
			best = d[i - 1][k] + 1 < best ? d[i - 1][k] + 1 : best;
			best = d[i][k - 1] + 1 < best ? d[i][k - 1] + 1 : best;
			bool swapped = i > 1 && k > 1 && a[i - 1] == b[k - 2] &&
				       a[i - 2] == b[k - 1];
			if (swapped && d[i - 2][k - 2] + 1 < best) {
				best = d[i - 2][k - 2] + 1;
			}
			d[i][k] = best;
		}
	}
	return d[n][m];
}

/* Also what people call it elsewhere. */
static const char *other_word(const char *word)
{
	static const char *const words[][2] = {{"list", "ls"}, {"delete", "rm"}, {"remove", "rm"},
	    {"info", "show"}, {"run", "exec"}, {"start", "serve"}, {"server", "serve"},
	    {"shell", "repl"}, {"session", "sessions"}, {"ps", "sessions"}};
	for (size_t i = 0; i < array_len(words); i++) {
		if (strcmp(word, words[i][0]) == 0) {
			return words[i][1];
		}
	}
	return word;
}

const char *command_nearest(const char *word, const char *const *names, size_t count)
{
	const char *meant = other_word(word);
	const char *nearest = NULL;
	unsigned least = strlen(meant) < 4 ? 2 : 3;
	for (size_t i = 0; i < count; i++) {
		unsigned d = distance(meant, names[i]);
		if (d < least) {
			least = d;
			nearest = names[i];
		}
	}
	return nearest;
}

int command_unknown_word(const char *word, const char *const *names, size_t count, struct err *e)
{
	const char *nearest = command_nearest(word, names, count);
	if (nearest != NULL) {
		return err_set(
		    e, ERR_INVALID, "there is no '%s'; did you mean '%s'?", word, nearest);
	}
	cleanup(buf_fini) struct buf all = BUF_INIT(512);
	for (size_t i = 0; i < count; i++) {
		(void)buf_addf(&all, "%s%s", i == 0 ? "" : ", ", names[i]);
	}
	return err_set(e, ERR_INVALID, "there is no '%s'; there is %s", word, buf_str(&all));
}
