/* The installer's configuration, and the commands it makes of it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"
#include "tools/installer_internal.h"

#define TIMEOUT_SECONDS 120
#define TIMEOUT_SECONDS_MAX 3600
#define REASON_LINES 12
#define UNUSED_DAYS 30
#define UNUSED_DAYS_MAX 36500
#define SIZE_MAX_BYTES (20ULL << 30)

/* --- configuration ------------------------------------------------------------------------------
 */

static int bad(struct err *e, const char *key, const char *what)
{
	return err_set(e, ERR_INVALID, "deps.%s %s", key, what);
}

static int read_text(const json_t *config, const char *key, char **out, struct err *e)
{
	const json_t *j = json_object_get(config, key);
	if (j == NULL || json_is_null(j)) {
		return 0;
	}
	const char *text = json_string_value(j);
	if (text == NULL || *text == '\0' || *text == '-') {
		return bad(e, key, "must be a text that does not begin with '-'");
	}
	*out = strdup(text);
	return *out == NULL ? err_set(e, ERR_INTERNAL, "out of memory") : 0;
}

static int read_bool(const json_t *config, const char *key, bool *out, struct err *e)
{
	const json_t *j = json_object_get(config, key);
	if (j != NULL && !json_is_boolean(j)) {
		return bad(e, key, "must be true or false");
	}
	*out = json_is_true(j);
	return 0;
}

static int read_timeout(const json_t *config, uint32_t *out_ms, struct err *e)
{
	const json_t *j = json_object_get(config, "timeout_seconds");
	double seconds = j == NULL ? TIMEOUT_SECONDS : json_number_value(j);
	if (!(seconds > 0 && seconds <= TIMEOUT_SECONDS_MAX)) {
		return bad(e, "timeout_seconds", "must be a number above 0 and up to 3600");
	}
	*out_ms = (uint32_t)(seconds * 1000);
	return 0;
}

/* A whole number from 0 to MAX. */
static int read_count(const json_t *config, const char *key, uint64_t otherwise, uint64_t max,
    uint64_t *out, struct err *e)
{
	const json_t *j = json_object_get(config, key);
	*out = j == NULL ? otherwise : (uint64_t)json_integer_value(j);
	return j == NULL || (json_is_integer(j) && json_integer_value(j) >= 0 && *out <= max)
		   ? 0
		   : bad(e, key, "must be a number that is not negative");
}

/* How long directories stay, and how many bytes of them. */
static int read_bounds(struct installer_config *c, const json_t *config, struct err *e)
{
	uint64_t days = 0;
	if (read_count(config, "unused_days", UNUSED_DAYS, UNUSED_DAYS_MAX, &days, e) < 0) {
		return -1;
	}
	c->unused_days = (uint32_t)days;
	return read_count(
	    config, "size_max_bytes", SIZE_MAX_BYTES, INT64_MAX, &c->size_max_bytes, e);
}

/* uv by its name is looked for where Debian and people put it; pip is Python's module. */
static int read_installer(const json_t *config, char **uv, struct err *e)
{
	static const char *const places[] = {"/usr/local/bin/uv", "/usr/bin/uv"};
	cleanup(text_free) char *name = NULL;
	if (read_text(config, "installer", &name, e) < 0) {
		return -1;
	}
	if (name == NULL || strcmp(name, "pip") == 0) {
		return 0;
	}
	if (*name == '/') {
		*uv = steal(&name);
	}
	for (size_t i = 0; *uv == NULL && i < array_len(places); i++) {
		if (strcmp(name, "uv") == 0 && access(places[i], X_OK) == 0) {
			*uv = strdup(places[i]);
		}
	}
	if (*uv == NULL || access(*uv, X_OK) < 0) {
		return bad(e, "installer", "must be pip, uv (and installed), or the path of uv");
	}
	return 0;
}

static int add_environment(struct installer_config *c, const char *name, const char *value)
{
	size_t n = 0;
	while (c->environment[n] != NULL) {
		n++;
	}
	if (n == INSTALLER_ENVIRONMENT_MAX) {
		return -1;
	}
	return asprintf(&c->environment[n], "%s=%s", name, value) < 0 ? -1 : 0;
}

/* Nothing of the server's own environment, and no file of settings that is not named here. */
static int read_environment(struct installer_config *c, const json_t *config, struct err *e)
{
	static const char *const always[][2] = {
	    {"PATH", "/usr/local/bin:/usr/bin:/bin"},
	    {"LANG", "C.UTF-8"},
	    {"PIP_CONFIG_FILE", "/dev/null"},
	};
	json_t *more = json_object_get(config, "environment");
	const char *name;
	json_t *value;
	int r = 0;
	for (size_t i = 0; i < array_len(always); i++) {
		r |= add_environment(c, always[i][0], always[i][1]);
	}
	if (more != NULL && !json_is_object(more)) {
		return bad(e, "environment", "must be a mapping of texts");
	}
	json_object_foreach(more, name, value)
	{
		if (!json_is_string(value) || *name == '\0' || strchr(name, '=') != NULL) {
			return bad(e, "environment", "must be a mapping of texts");
		}
		r |= add_environment(c, name, json_string_value(value));
	}
	return r < 0 ? bad(e, "environment", "has too many variables") : 0;
}

int installer_config_read(struct installer_config *c, const json_t *config, struct err *e)
{
	*c = (struct installer_config){0};
	if (config != NULL && !json_is_null(config) && !json_is_object(config)) {
		return err_set(e, ERR_INVALID, "deps must be a mapping");
	}
	if (read_installer(config, &c->uv, e) < 0 ||
	    read_text(config, "index_url", &c->index_url, e) < 0 ||
	    read_text(config, "find_links", &c->find_links, e) < 0 ||
	    read_bool(config, "offline", &c->offline, e) < 0 ||
	    read_bool(config, "allow_build", &c->allow_build, e) < 0 ||
	    read_timeout(config, &c->timeout_ms, e) < 0 || read_bounds(c, config, e) < 0 ||
	    read_environment(c, config, e) < 0) {
		return -1;
	}
	c->python = realpath(INSTALLER_PYTHON, NULL);
	return c->python == NULL ? err_set(e, ERR_UNSUPPORTED, "there is no " INSTALLER_PYTHON) : 0;
}

void installer_config_fini(struct installer_config *c)
{
	text_free(&c->uv);
	text_free(&c->index_url);
	text_free(&c->find_links);
	text_free(&c->python);
	for (size_t i = 0; i < array_len(c->environment); i++) {
		text_free(&c->environment[i]);
	}
}

/* --- commands -----------------------------------------------------------------------------------
 */

static void add(struct installer_argv *a, const char *argument)
{
	if (a->count < INSTALLER_ARGUMENTS_MAX) {
		a->list[a->count++] = argument;
		a->list[a->count] = NULL;
	}
}

static void add_all(struct installer_argv *a, const char *const *arguments, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		add(a, arguments[i]);
	}
}

void installer_argv_installer(struct installer_argv *a, const struct installer_config *c,
    const char *directory, const char *const *lines, size_t count)
{
	/* -I: nothing of the working directory or the environment is imported. */
	static const char *const pip[] = {INSTALLER_PYTHON, "-I", "-m", "pip", "install",
	    "--no-input", "--disable-pip-version-check", "--no-cache-dir", "--progress-bar=off",
	    "--no-warn-script-location", "--root-user-action=ignore", "--retries=1"};
	static const char *const uv[] = {"pip", "install", "--python", INSTALLER_PYTHON,
	    "--no-config", "--no-progress", "--no-cache", "--link-mode=copy", "--compile-bytecode"};
	*a = (struct installer_argv){0};
	if (c->uv != NULL) {
		add(a, c->uv);
		add_all(a, uv, array_len(uv));
	} else {
		add_all(a, pip, array_len(pip));
	}
	if (!c->allow_build) {
		add(a, c->uv != NULL ? "--no-build" : "--only-binary=:all:");
	}
	if (c->offline) {
		add(a, "--no-index");
	}
	if (c->index_url != NULL && !c->offline) {
		add(a, "--index-url");
		add(a, c->index_url);
	}
	if (c->find_links != NULL) {
		add(a, "--find-links");
		add(a, c->find_links);
	}
	add(a, "--target");
	add(a, directory);
	add(a, "--");
	add_all(a, lines, count);
}

void installer_argv_present(struct installer_argv *a, const char *const *lines, size_t count)
{
	/* A line with extras is not looked into: it is installed. */
	static const char script[] =
	    "import json, sys\n"
	    "from importlib import metadata\n"
	    "try:\n"
	    "    from pip._vendor.packaging.requirements import Requirement\n"
	    "except ImportError:\n"
	    "    from packaging.requirements import Requirement\n"
	    "def present(line):\n"
	    "    wanted = Requirement(line)\n"
	    "    if wanted.extras:\n"
	    "        return False\n"
	    "    version = metadata.version(wanted.name)\n"
	    "    return wanted.specifier.contains(version, prereleases=True)\n"
	    "found = []\n"
	    "for line in sys.argv[1:]:\n"
	    "    try:\n"
	    "        if present(line):\n"
	    "            found.append(line)\n"
	    "    except Exception:\n"
	    "        pass\n"
	    "print(json.dumps(found))\n";
	static const char *const python[] = {INSTALLER_PYTHON, "-I", "-c", script};
	*a = (struct installer_argv){0};
	add_all(a, python, array_len(python));
	add_all(a, lines, count);
}

void installer_argv_close(struct installer_argv *a, const char *directory)
{
	/* By descriptor: within a command's walls a mode is not changed by path. */
	static const char script[] = "import os, stat, sys\n"
				     "def close(path):\n"
				     "    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)\n"
				     "    mode = os.fstat(fd).st_mode\n"
				     "    run = stat.S_ISDIR(mode) or mode & 0o100\n"
				     "    os.fchmod(fd, 0o555 if run else 0o444)\n"
				     "    os.close(fd)\n"
				     "def fail(error):\n"
				     "    raise error\n"
				     "for top, _, files in os.walk(sys.argv[1], False, fail):\n"
				     "    for name in files:\n"
				     "        if not os.path.islink(os.path.join(top, name)):\n"
				     "            close(os.path.join(top, name))\n"
				     "    close(top)\n"
				     /* What has its name is whole, also after a loss of power. */
				     "os.sync()\n";
	static const char *const change[] = {INSTALLER_PYTHON, "-I", "-c", script};
	*a = (struct installer_argv){0};
	add_all(a, change, array_len(change));
	add(a, directory);
}

void installer_argv_remove(struct installer_argv *a, const char *directory)
{
	static const char *const remove[] = {"/bin/rm", "-rf", "--"};
	*a = (struct installer_argv){0};
	add_all(a, remove, array_len(remove));
	add(a, directory);
}

/* --- what a failure says ------------------------------------------------------------------------
 */

/* Where the last LINES lines of TEXT begin, but no more than MAX bytes before its end. */
static const char *last_lines(const char *text, size_t end, unsigned lines, size_t max)
{
	size_t at = end;
	while (at > 0 && end - at < max && (text[at - 1] != '\n' || --lines > 0)) {
		at--;
	}
	return text + at;
}

/* "user:password" of a URL, or nothing. */
static size_t credentials(const char *url, const char **out)
{
	const char *start = url == NULL ? NULL : strstr(url, "://");
	if (start == NULL) {
		return 0;
	}
	start += 3;
	size_t host = strcspn(start, "/?#");
	const char *at = memrchr(start, '@', host);
	*out = start;
	return at == NULL ? 0 : (size_t)(at - start);
}

/* Writes '*' over each place where TEXT has the credentials of URL. */
static void hide_credentials(char *text, const char *url)
{
	const char *secret = NULL;
	size_t n = credentials(url, &secret);
	size_t left = strlen(text);
	while (n > 0 && left >= n) {
		char *found = memmem(text, left, secret, n);
		if (found == NULL) {
			return;
		}
		memset(found, '*', n);
		left -= (size_t)(found + n - text);
		text = found + n;
	}
}

void installer_reason(const struct installer_config *c, int status, bool timed_out,
    const char *output, struct buf *out)
{
	cleanup(text_free) char *said = strdup(output);
	size_t end = said == NULL ? 0 : strlen(said);
	if (said != NULL) {
		hide_credentials(said, c->index_url);
		hide_credentials(said, c->find_links);
	}
	while (end > 0 && strchr(" \t\r\n", said[end - 1]) != NULL) {
		end--;
	}
	if (timed_out) {
		(void)buf_addf(out, "it took longer than %u s", c->timeout_ms / 1000);
	} else if (end == 0) {
		(void)buf_addf(out, "the installer ended with status %d", status);
	}
	if (end > 0) {
		const char *from = last_lines(
		    said, end, REASON_LINES, INSTALLER_REASON_MAX_BYTES / 4);
		(void)buf_add_str(out, timed_out ? ": " : "");
		(void)text_add_utf8_lossy(out, from, (size_t)(said + end - from));
	}
}
