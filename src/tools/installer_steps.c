/* The steps of one job: what its command is, and what that command's end means. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"
#include "tools/installer_internal.h"

#define PRESENT_TIMEOUT_MS 30000
#define KNOWN_MAX 4096 /* lines whose presence is remembered */

static void job_next(struct installer_job *j);

/* Those of J in STATE: how many. */
static size_t lines_in(
    const struct installer_job *j, enum installer_line_state state, const char **out)
{
	size_t n = 0;
	for (size_t i = 0; i < j->count; i++) {
		if (j->lines[i].state == state) {
			out[n++] = j->lines[i].text;
		}
	}
	return n;
}

/* --- the end of a job ---------------------------------------------------------------------------
 */

/* The path of the link for J's list as a whole. False when it is too long. */
static bool list_path(const struct installer_job *j, char path[INSTALLER_PATH_BYTES])
{
	const char *lines[INSTALLER_PACKAGES_MAX];
	char name[INSTALLER_NAME_BYTES];
	for (size_t i = 0; i < j->count; i++) {
		lines[i] = j->lines[i].text;
	}
	return snprintf(path, INSTALLER_PATH_BYTES, "%s/" INSTALLER_LIST "%s",
		   j->install->directory,
		   installer_name(j->install, lines, j->count, name)) < INSTALLER_PATH_BYTES;
}

/* A line of J failed: so that the rest is found again for the list as it is. */
static void link_list(const struct installer_job *j)
{
	char path[INSTALLER_PATH_BYTES];
	char fresh[INSTALLER_PATH_BYTES];
	if (list_path(j, path) &&
	    snprintf(fresh, sizeof(fresh), "%s/" INSTALLER_UNFINISHED "%d-%u",
		j->install->directory, (int)getpid(),
		j->install->next_number++) < (int)sizeof(fresh) &&
	    (symlink(j->name, fresh) < 0 || rename(fresh, path) < 0)) {
		(void)unlink(fresh);
	}
}

/* True when an earlier one of the same list left a directory; its name is J's then. */
static bool list_is_there(struct installer_job *j)
{
	char path[INSTALLER_PATH_BYTES];
	char name[INSTALLER_NAME_BYTES + 1];
	struct stat st;
	ssize_t n = list_path(j, path) ? readlink(path, name, sizeof(name)) : -1;
	if (n != INSTALLER_NAME_BYTES - 1) {
		return false;
	}
	name[n] = '\0';
	(void)snprintf(path, sizeof(path), "%s/%s", j->install->directory, name);
	if (!text_is_hex(name, INSTALLER_NAME_BYTES - 1) || lstat(path, &st) < 0 ||
	    !S_ISDIR(st.st_mode) || utimensat(AT_FDCWD, path, NULL, AT_SYMLINK_NOFOLLOW) < 0) {
		return false;
	}
	memcpy(j->name, name, sizeof(j->name));
	return true;
}

static json_t *result_of(const struct installer_job *j)
{
	json_t *installed = json_array();
	json_t *present = json_array();
	json_t *failed = json_array();
	for (size_t i = 0; i < j->count; i++) {
		const struct installer_line *l = &j->lines[i];
		if (l->state == LINE_INSTALLED) {
			(void)json_array_append_new(installed, json_string(l->text));
		} else if (l->state == LINE_PRESENT) {
			(void)json_array_append_new(present, json_string(l->text));
		} else {
			(void)json_array_append_new(
			    failed, json_pack("{s:s, s:s}", "package", l->text, "reason",
					l->reason != NULL ? l->reason : "it was not installed"));
		}
	}
	return json_pack("{s:o, s:o, s:o, s:o}", "installed", installed, "already_present", present,
	    "failed", failed, "directory", *j->name != '\0' ? json_string(j->name) : json_null());
}

static void job_finish(struct installer_job *j)
{
	installer_done_fn done = j->done;
	const char *failed[INSTALLER_PACKAGES_MAX];
	if (!j->find && *j->name != '\0' && lines_in(j, LINE_FAILED, failed) > 0) {
		link_list(j);
	}
	void *ctx = j->done_ctx;
	json_t *result = result_of(j);
	installer_job_free(j);
	done(ctx, result, NULL);
	json_decref(result);
}

/* Every line that was to be installed has failed, for REASON. */
static void fail_all(struct installer_job *j, const char *reason)
{
	for (size_t i = 0; i < j->count; i++) {
		struct installer_line *l = &j->lines[i];
		if (l->state == LINE_WANTED || l->state == LINE_INSTALLED) {
			l->state = LINE_FAILED;
			free(l->reason);
			l->reason = strdup(reason);
		}
	}
	j->name[0] = '\0';
}

/* --- commands -----------------------------------------------------------------------------------
 */

static void on_ended(void *ctx, int status, bool timed_out, const char *output);

/* Goes on at once with a failure when it cannot be started. */
static void run(struct installer_job *j, enum installer_step step, const struct installer_argv *a,
    const char *write_dir, uint32_t timeout_ms)
{
	struct installer *in = j->install;
	struct err e = {0};
	const struct installer_command c = {
	    .argv = a->list,
	    .environment = (const char *const *)in->config.environment,
	    .write_dir = write_dir,
	    .timeout_ms = timeout_ms,
	};
	j->step = step;
	j->command = in->host.start(in->host.ctx, &c, on_ended, j, &e);
	if (j->command == NULL) {
		on_ended(j, 127, false, e.text);
	}
}

/* What is left of the time for this attempt; at least a millisecond. */
static uint32_t time_left_ms(const struct installer_job *j)
{
	uint64_t spent = clock_mono_ms() - j->started_ms;
	uint32_t all = j->install->config.timeout_ms;
	return spent < all ? all - (uint32_t)spent : 1;
}

static void run_installer(
    struct installer_job *j, enum installer_step step, const char *const *lines, size_t n)
{
	struct installer_argv a;
	installer_argv_installer(&a, &j->install->config, j->path, lines, n);
	run(j, step, &a, j->path, time_left_ms(j));
}

static void run_remove(struct installer_job *j)
{
	struct installer_argv a;
	installer_argv_remove(&a, j->path);
	run(j, STEP_REMOVE, &a, j->install->directory, INSTALLER_CLOSE_TIMEOUT_MS);
}

/* --- steps --------------------------------------------------------------------------------------
 */

static int make_directory(struct installer_job *j)
{
	struct installer *in = j->install;
	(void)snprintf(j->path, sizeof(j->path), "%s/" INSTALLER_UNFINISHED "%d-%u", in->directory,
	    (int)getpid(), in->next_number++);
	if (mkdir(j->path, 0755) < 0) {
		j->path[0] = '\0';
		return -errno;
	}
	return 0;
}

/* True when there is a directory for the lines in STATE already; its name is J's then. */
static bool is_there(struct installer_job *j, enum installer_line_state state)
{
	const char *lines[INSTALLER_PACKAGES_MAX];
	char path[INSTALLER_PATH_BYTES + INSTALLER_NAME_BYTES];
	struct stat st;
	size_t n = lines_in(j, state, lines);
	(void)installer_name(j->install, lines, n, j->name);
	(void)snprintf(path, sizeof(path), "%s/%s", j->install->directory, j->name);
	/* It is used now; whoever removes what is not used looks at that. */
	return lstat(path, &st) == 0 && S_ISDIR(st.st_mode) &&
	       utimensat(AT_FDCWD, path, NULL, AT_SYMLINK_NOFOLLOW) == 0;
}

static void set_state(
    struct installer_job *j, enum installer_line_state from, enum installer_line_state to)
{
	for (size_t i = 0; i < j->count; i++) {
		if (j->lines[i].state == from) {
			j->lines[i].state = to;
		}
	}
}

/* It is known what Python has itself: the rest is there, or is installed in one go. */
static void begin_installing(struct installer_job *j)
{
	const char *lines[INSTALLER_PACKAGES_MAX];
	size_t n = lines_in(j, LINE_WANTED, lines);
	if (n == 0) {
		job_finish(j);
		return;
	}
	if (is_there(j, LINE_WANTED)) {
		set_state(j, LINE_WANTED, LINE_INSTALLED);
		job_finish(j);
		return;
	}
	if (j->find) {
		if (list_is_there(j)) {
			set_state(j, LINE_WANTED, LINE_INSTALLED);
		} else {
			j->name[0] = '\0';
		}
		job_finish(j);
		return;
	}
	int r = make_directory(j);
	if (r < 0) {
		char why[256];
		(void)snprintf(
		    why, sizeof(why), "no directory can be made for it: %s", strerrordesc_np(-r));
		fail_all(j, why);
		job_finish(j);
		return;
	}
	j->started_ms = clock_mono_ms();
	run_installer(j, STEP_TOGETHER, lines, n);
}

/* The next line that is still wanted, alone; after the last what there is becomes a directory. */
static void next_one(struct installer_job *j)
{
	while (j->at < j->count && j->lines[j->at].state != LINE_WANTED) {
		j->at++;
	}
	if (j->at < j->count) {
		const char *line = j->lines[j->at].text;
		run_installer(j, STEP_ONE, &line, 1);
		return;
	}
	const char *lines[INSTALLER_PACKAGES_MAX];
	if (lines_in(j, LINE_INSTALLED, lines) == 0) {
		j->name[0] = '\0';
		run_remove(j);
	} else if (is_there(j, LINE_INSTALLED)) {
		run_remove(j);
	} else {
		struct installer_argv a;
		installer_argv_close(&a, j->path);
		run(j, STEP_CLOSE, &a, j->path, INSTALLER_CLOSE_TIMEOUT_MS);
	}
}

/* The finished directory gets its name. Another job may have been faster: its own is as good. */
static void give_name(struct installer_job *j)
{
	char path[INSTALLER_PATH_BYTES + INSTALLER_NAME_BYTES];
	(void)snprintf(path, sizeof(path), "%s/%s", j->install->directory, j->name);
	if (rename(j->path, path) == 0) {
		job_finish(j);
		return;
	}
	if (errno != EEXIST && errno != ENOTEMPTY) {
		fail_all(j, "its directory could not be finished");
	}
	run_remove(j);
}

/* --- what a command's end means -----------------------------------------------------------------
 */

static void on_present(struct installer_job *j, int status, const char *output)
{
	json_t *known = j->install->present;
	const char *start = strrchr(output, '[');
	json_t *found = status == 0 && start != NULL ? json_loads(start, 0, NULL) : NULL;
	if (json_object_size(known) > KNOWN_MAX) {
		(void)json_object_clear(known);
	}
	/* Only those were asked about that were not known. */
	for (size_t i = 0; json_is_array(found) && i < j->count; i++) {
		if (j->lines[i].state == LINE_WANTED) {
			(void)json_object_set_new(known, j->lines[i].text, json_false());
		}
	}
	for (size_t i = 0; i < json_array_size(found); i++) {
		const char *text = json_string_value(json_array_get(found, i));
		if (text != NULL) {
			(void)json_object_set_new(known, text, json_true());
		}
	}
	json_decref(found);
}

static void on_together(struct installer_job *j, int status, bool timed_out, const char *output)
{
	if (status == 0) {
		set_state(j, LINE_WANTED, LINE_INSTALLED);
		next_one(j);
		return;
	}
	const char *lines[INSTALLER_PACKAGES_MAX];
	bool alone = lines_in(j, LINE_WANTED, lines) == 1;
	if (timed_out || alone) {
		cleanup(buf_fini) struct buf why = BUF_INIT(INSTALLER_REASON_MAX_BYTES);
		installer_reason(&j->install->config, status, timed_out, output, &why);
		fail_all(j, buf_str(&why));
	}
	j->started_ms = clock_mono_ms();
	next_one(j);
}

static void on_one(struct installer_job *j, int status, bool timed_out, const char *output)
{
	struct installer_line *l = &j->lines[j->at];
	l->state = status == 0 ? LINE_INSTALLED : LINE_FAILED;
	if (status != 0) {
		cleanup(buf_fini) struct buf why = BUF_INIT(INSTALLER_REASON_MAX_BYTES);
		installer_reason(&j->install->config, status, timed_out, output, &why);
		l->reason = strdup(buf_str(&why));
	}
	next_one(j);
}

static void on_ended(void *ctx, int status, bool timed_out, const char *output)
{
	struct installer_job *j = ctx;
	j->command = NULL;
	switch (j->step) {
	case STEP_PRESENT:
		on_present(j, status, output);
		job_next(j);
		break;
	case STEP_TOGETHER:
		on_together(j, status, timed_out, output);
		break;
	case STEP_ONE:
		on_one(j, status, timed_out, output);
		break;
	case STEP_CLOSE:
		if (status == 0) {
			give_name(j);
		} else {
			fail_all(j, "its directory could not be closed");
			run_remove(j);
		}
		break;
	case STEP_REMOVE:
		job_finish(j);
		break;
	}
}

/* Marks what Python has itself, as far as it is known. True when all is known. */
static bool mark_present(struct installer_job *j)
{
	bool all = true;
	for (size_t i = 0; i < j->count; i++) {
		json_t *known = json_object_get(j->install->present, j->lines[i].text);
		if (json_is_true(known)) {
			j->lines[i].state = LINE_PRESENT;
		}
		all &= known != NULL;
	}
	return all;
}

/* After the question has been asked once, what is not known is installed. */
static void job_next(struct installer_job *j)
{
	(void)mark_present(j);
	begin_installing(j);
}

void installer_job_begin(struct installer_job *j)
{
	if (mark_present(j)) {
		begin_installing(j);
		return;
	}
	const char *lines[INSTALLER_PACKAGES_MAX];
	struct installer_argv a;
	installer_argv_present(&a, lines, lines_in(j, LINE_WANTED, lines));
	run(j, STEP_PRESENT, &a, j->install->directory, PRESENT_TIMEOUT_MS);
}
