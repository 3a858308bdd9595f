#include "store/requirement.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

static const char operators[] = "<>=!~";

static bool is_alphanumeric(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* How many bytes at AT are letters, digits or of OTHERS. */
static size_t span(const char *at, const char *others)
{
	size_t n = 0;
	while (at[n] != '\0' && (is_alphanumeric(at[n]) || strchr(others, at[n]) != NULL)) {
		n++;
	}
	return n;
}

static bool is_well_formed(const char *line)
{
	if (!is_alphanumeric(*line)) {
		return false;
	}
	line += span(line, "._-");
	if (*line == '[') {
		size_t n = span(line + 1, ",._-");
		if (n == 0 || line[n + 1] != ']') {
			return false;
		}
		line += n + 2;
	}
	if (*line == '\0') {
		return true;
	}
	if (strchr(operators, *line) == NULL || line[1] == '\0') {
		return false;
	}
	line++;
	return line[span(line, ".*,<>=!~ ")] == '\0';
}

int requirement_check(const char *line, struct err *e)
{
	if (line[strspn(line, " \t\r\n\v\f")] == '\0') {
		return err_set(e, ERR_INVALID, "Invalid package: empty or whitespace-only");
	}
	for (const char *c = line; *c != '\0'; c++) {
		if ((unsigned char)*c < 0x20 || *c == 0x7f) {
			return err_set(
			    e, ERR_INVALID, "Invalid package: contains control characters");
		}
	}
	size_t len = strlen(line);
	if (len > REQUIREMENT_MAX) {
		return err_set(e, ERR_INVALID, "Invalid package: name too long (max %d characters)",
		    REQUIREMENT_MAX);
	}
	const char *blocked = strpbrk(line, "@;()");
	if (blocked != NULL) {
		return err_set(
		    e, ERR_INVALID, "Invalid package: contains blocked character '%c'", *blocked);
	}
	const char *shown = text_is_utf8(line, len) ? line : "not UTF-8";
	if (strpbrk(line, "|&`$") != NULL) {
		return err_set(e, ERR_INVALID,
		    "Invalid package name: contains shell metacharacters: %s", shown);
	}
	if (!is_well_formed(line)) {
		return err_set(e, ERR_INVALID, "Invalid package name: %s", shown);
	}
	return 0;
}

static size_t name_len(const char *line)
{
	return strcspn(line, "[<>=!~");
}

char *requirement_normalise(const char *line, char out[REQUIREMENT_MAX + 1])
{
	(void)snprintf(out, REQUIREMENT_MAX + 1, "%s", line);
	size_t len = name_len(out);
	for (size_t i = 0; i < len; i++) {
		out[i] = out[i] == '_' ? '-' : (char)tolower((unsigned char)out[i]);
	}
	return out;
}

char *requirement_name(const char *line, char out[REQUIREMENT_MAX + 1])
{
	(void)requirement_normalise(line, out);
	size_t len = name_len(out);
	while (len > 0 && out[len - 1] == ' ') {
		len--;
	}
	out[len] = '\0';
	return out;
}
