#include <ctype.h>
#include <dirent.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "base/fd.h"
#include "base/text.h"
#include "tools/installer_internal.h"

/* --- names --------------------------------------------------------------------------------------
 */

/* LINE without blanks and in lower case: as equal as Python's packaging takes two lines to be. */
static const char *canonical(const char *line, char out[INSTALLER_LINE_MAX + 1])
{
	size_t n = 0;
	for (; *line != '\0' && n < INSTALLER_LINE_MAX; line++) {
		if (*line != ' ') {
			out[n++] = *line == '_' ? '-' : (char)tolower((unsigned char)*line);
		}
	}
	out[n] = '\0';
	return out;
}

static int compare(const void *a, const void *b)
{
	char one[INSTALLER_LINE_MAX + 1];
	char other[INSTALLER_LINE_MAX + 1];
	return strcmp(
	    canonical(*(const char *const *)a, one), canonical(*(const char *const *)b, other));
}

static void digest_text(EVP_MD_CTX *ctx, const char *text)
{
	/* With its NUL, so that two texts in a row are not another one. */
	(void)EVP_DigestUpdate(ctx, text == NULL ? "" : text, text == NULL ? 1 : strlen(text) + 1);
}

char *installer_name(const struct installer *in, const char *const *lines, size_t count,
    char out[INSTALLER_NAME_BYTES])
{
	const char *sorted[INSTALLER_PACKAGES_MAX];
	unsigned char digest[EVP_MAX_MD_SIZE] = {0};
	unsigned len = 0;
	memcpy(sorted, lines, count * sizeof(sorted[0]));
	qsort(sorted, count, sizeof(sorted[0]), compare);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	if (ctx != NULL && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) == 1) {
		const struct installer_config *c = &in->config;
		digest_text(ctx, c->python);
		digest_text(ctx, c->uv);
		digest_text(ctx, c->offline ? "" : c->index_url);
		digest_text(ctx, c->find_links);
		digest_text(ctx, c->offline ? "offline" : "");
		digest_text(ctx, c->allow_build ? "builds" : "");
		for (size_t i = 0; i < count; i++) {
			char text[INSTALLER_LINE_MAX + 1];
			digest_text(ctx, canonical(sorted[i], text));
		}
		(void)EVP_DigestFinal_ex(ctx, digest, &len);
	}
	EVP_MD_CTX_free(ctx);
	text_hex(out, digest, 32);
	return out;
}

/* --- life ---------------------------------------------------------------------------------------
 */

void installer_job_free(struct installer_job *j)
{
	struct installer *in = j->install;
	DL_DELETE(in->jobs, j);
	in->job_count--;
	for (size_t i = 0; i < j->count; i++) {
		text_free(&j->lines[i].text);
		text_free(&j->lines[i].reason);
	}
	free(j->lines);
	free(j);
}

static bool is_line(const char *line)
{
	static const char allowed[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-[],<>=!~* ";
	return line != NULL && isalnum((unsigned char)*line) != 0 &&
	       strlen(line) <= INSTALLER_LINE_MAX && line[strspn(line, allowed)] == '\0';
}

static int check_lines(const json_t *packages, struct err *e)
{
	size_t count = json_array_size(packages);
	if (count == 0 || count > INSTALLER_PACKAGES_MAX) {
		return err_set(e, ERR_INVALID, "1 to %d packages can be installed at once",
		    INSTALLER_PACKAGES_MAX);
	}
	for (size_t i = 0; i < count; i++) {
		if (!is_line(json_string_value(json_array_get(packages, i)))) {
			return err_set(e, ERR_INVALID, "that is no requirement");
		}
	}
	return 0;
}

static struct installer_job *job_new(struct installer *in, const json_t *packages)
{
	struct installer_job *j = calloc(1, sizeof(*j));
	if (j == NULL) {
		return NULL;
	}
	j->install = in;
	j->lines = calloc(json_array_size(packages), sizeof(*j->lines));
	bool ok = j->lines != NULL;
	for (size_t i = 0; ok && i < json_array_size(packages); i++) {
		j->lines[i].text = strdup(json_string_value(json_array_get(packages, i)));
		ok = j->lines[i].text != NULL;
		j->count++;
	}
	DL_APPEND(in->jobs, j);
	in->job_count++;
	if (!ok) {
		installer_job_free(j);
		return NULL;
	}
	return j;
}

static struct installer_job *begin(
    struct installer *in, const json_t *packages, bool find, installer_done_fn done, void *ctx)
{
	struct err e;
	struct installer_job *j = NULL;
	int r = check_lines(packages, &e);
	if (r == 0 && in->job_count >= INSTALLER_JOBS_MAX) {
		r = err_set(
		    &e, ERR_BUSY, "%d installations are running already", INSTALLER_JOBS_MAX);
	}
	if (r == 0) {
		j = job_new(in, packages);
		(void)err_set(&e, ERR_INTERNAL, "out of memory"); /* when there is none */
	}
	if (j == NULL) {
		done(ctx, NULL, &e);
		return NULL;
	}
	/* It may be over before this returns, and is then gone from the list. */
	j->done = done;
	j->done_ctx = ctx;
	j->find = find;
	installer_job_begin(j);
	struct installer_job *still;
	DL_FOREACH(in->jobs, still)
	{
		if (still == j) {
			return j;
		}
	}
	return NULL;
}

struct installer_job *installer_start(
    struct installer *in, const json_t *packages, installer_done_fn done, void *ctx)
{
	return begin(in, packages, false, done, ctx);
}

struct installer_job *installer_find(
    struct installer *in, const json_t *packages, installer_done_fn done, void *ctx)
{
	return begin(in, packages, true, done, ctx);
}

static void forget_removal(void *ctx, int status, bool timed_out, const char *output)
{
	(void)ctx;
	(void)status;
	(void)timed_out;
	(void)output;
}

/* Removes a directory that nobody waits for. */
static void remove_later(struct installer *in, const char *path)
{
	struct installer_argv a;
	installer_argv_remove(&a, path);
	const struct installer_command c = {
	    .argv = a.list,
	    .environment = (const char *const *)in->config.environment,
	    .write_dir = in->directory,
	    .timeout_ms = INSTALLER_CLOSE_TIMEOUT_MS,
	};
	(void)in->host.start(in->host.ctx, &c, forget_removal, NULL, NULL);
}

void installer_cancel(struct installer_job *j)
{
	struct installer *in = j->install;
	if (j->command != NULL) {
		in->host.stop(in->host.ctx, j->command);
	}
	if (*j->path != '\0' && j->step != STEP_REMOVE) {
		remove_later(in, j->path);
	}
	installer_job_free(j);
}

static void close_dir(DIR **dir)
{
	if (*dir != NULL) {
		(void)closedir(*dir);
	}
}

/* What an earlier process was filling when it ended. */
static void sweep(struct installer *in)
{
	cleanup(close_dir) DIR *dir = opendir(in->directory);
	struct dirent *entry;
	while (dir != NULL && (entry = readdir(dir)) != NULL) {
		char path[INSTALLER_PATH_BYTES];
		int n = snprintf(path, sizeof(path), "%s/%s", in->directory, entry->d_name);
		if (text_has_prefix(entry->d_name, INSTALLER_UNFINISHED) && n < (int)sizeof(path)) {
			remove_later(in, path);
		}
	}
}

struct installer *installer_new(
    const json_t *config, const char *directory, const struct installer_host *host, struct err *e)
{
	struct installer *in = calloc(1, sizeof(*in));
	if (in == NULL) {
		(void)err_set(e, ERR_INTERNAL, "out of memory");
		return NULL;
	}
	in->host = *host;
	int r = installer_config_read(&in->config, config, e);
	if (r == 0 && strlen(directory) > INSTALLER_PATH_BYTES / 2) {
		r = err_set(e, ERR_INVALID, "the path of the packages is too long");
	}
	in->directory = strdup(directory);
	in->present = json_object();
	if (r == 0 && (in->directory == NULL || in->present == NULL)) {
		r = err_set(e, ERR_INTERNAL, "out of memory");
	}
	if (r < 0) {
		installer_free(in);
		return NULL;
	}
	sweep(in);
	return in;
}

void installer_free(struct installer *in)
{
	if (in == NULL) {
		return;
	}
	while (in->jobs != NULL) {
		if (in->jobs->command != NULL) {
			in->host.stop(in->host.ctx, in->jobs->command);
		}
		installer_job_free(in->jobs);
	}
	installer_clean_cancel(in->cleaning);
	installer_config_fini(&in->config);
	text_free(&in->directory);
	json_decref(in->present);
	free(in);
}
