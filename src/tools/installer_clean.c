/* Directories of packages that nobody has used for long, or that are too many bytes, are removed.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/text.h"
#include "tools/installer_internal.h"

#define CLEAN_TIMEOUT_MS 600000

struct installer_cleaning {
	struct installer *install;
	void *command;
	installer_done_fn done;
	void *ctx;
	char unused_seconds[24];
	char size_max_bytes[24];
};

/* One that is used is taken away from nobody: the time of its last use is looked at again when it
 * has lost its name, and it gets it back. Names that lead nowhere any more go too. */
static const char script[] =
    "import json, os, re, shutil, sys, time\n"
    "top, unused, most = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])\n"
    "def idle(path):\n"
    "    return time.time() - os.lstat(path).st_mtime\n"
    "def size(path):\n"
    "    return sum(os.lstat(os.path.join(d, f)).st_blocks * 512\n"
    "               for d, _, files in os.walk(path) for f in files)\n"
    "def remove(path):\n"
    "    gone = os.path.join(top, 'unfinished-gone-' + os.path.basename(path))\n"
    "    os.rename(path, gone)\n"
    "    if idle(gone) < 7200:\n"
    "        os.rename(gone, path)\n"
    "        return False\n"
    "    for d, _, _ in os.walk(gone):\n"
    "        fd = os.open(d, os.O_RDONLY | os.O_NOFOLLOW)\n"
    "        os.fchmod(fd, 0o700)\n"
    "        os.close(fd)\n"
    "    shutil.rmtree(gone)\n"
    "    return True\n"
    "there = [os.path.join(top, n) for n in os.listdir(top) if re.fullmatch('[0-9a-f]{64}', n)]\n"
    "there = sorted(((idle(p), size(p), p) for p in there), reverse=True)\n"
    "total, removed = sum(s for _, s, _ in there), 0\n"
    "for age, bytes, path in there:\n"
    "    if age > 7200 and (0 < unused < age or 0 < most < total) and remove(path):\n"
    "        total -= bytes\n"
    "        removed += 1\n"
    "for name in os.listdir(top):\n"
    "    path = os.path.join(top, name)\n"
    "    if name.startswith('list-') and os.path.islink(path) and not os.path.exists(path):\n"
    "        os.unlink(path)\n"
    "print(json.dumps([removed, total]))\n";

/* It is used now: TIME is what the script looks at. */
static void mark_used(const char *directory, const char *name)
{
	char path[INSTALLER_PATH_BYTES];
	if (text_is_hex(name, INSTALLER_NAME_BYTES - 1) &&
	    snprintf(path, sizeof(path), "%s/%s", directory, name) < (int)sizeof(path)) {
		(void)utimensat(AT_FDCWD, path, NULL, AT_SYMLINK_NOFOLLOW);
	}
}

static void on_ended(void *ctx, int status, bool timed_out, const char *output)
{
	struct installer_cleaning *k = ctx;
	struct err e;
	const char *start = strrchr(output, '[');
	json_t *said = status == 0 && start != NULL ? json_loads(start, 0, NULL) : NULL;
	json_t *result = json_pack("{s:I, s:I}", "removed",
	    json_integer_value(json_array_get(said, 0)), "bytes",
	    json_integer_value(json_array_get(said, 1)));
	k->install->cleaning = NULL;
	if (json_is_array(said)) {
		k->done(k->ctx, result, NULL);
	} else {
		(void)err_set(&e, ERR_INTERNAL, "%s",
		    timed_out ? "it took too long" : "the directories could not be looked through");
		k->done(k->ctx, NULL, &e);
	}
	json_decref(said);
	json_decref(result);
	free(k);
}

struct installer_cleaning *installer_clean(
    struct installer *in, const json_t *in_use, installer_done_fn done, void *ctx)
{
	struct err e;
	struct installer_cleaning *k = in->cleaning == NULL ? calloc(1, sizeof(*k)) : NULL;
	if (k == NULL) {
		(void)err_set(&e, ERR_BUSY, "directories are being removed already");
		done(ctx, NULL, &e);
		return NULL;
	}
	for (size_t i = 0; i < json_array_size(in_use); i++) {
		mark_used(in->directory, json_string_value(json_array_get(in_use, i)) ?: "");
	}
	*k = (struct installer_cleaning){.install = in, .done = done, .ctx = ctx};
	(void)snprintf(k->unused_seconds, sizeof(k->unused_seconds), "%llu",
	    (unsigned long long)in->config.unused_days * 86400);
	(void)snprintf(k->size_max_bytes, sizeof(k->size_max_bytes), "%llu",
	    (unsigned long long)in->config.size_max_bytes);
	const char *const argv[] = {INSTALLER_PYTHON, "-I", "-c", script, in->directory,
	    k->unused_seconds, k->size_max_bytes, NULL};
	const struct installer_command c = {
	    .argv = argv,
	    .environment = (const char *const *)in->config.environment,
	    .write_dir = in->directory,
	    .timeout_ms = CLEAN_TIMEOUT_MS,
	};
	k->command = in->host.start(in->host.ctx, &c, on_ended, k, &e);
	if (k->command == NULL) {
		free(k);
		done(ctx, NULL, &e);
		return NULL;
	}
	in->cleaning = k;
	return k;
}

void installer_clean_cancel(struct installer_cleaning *k)
{
	if (k != NULL) {
		k->install->host.stop(k->install->host.ctx, k->command);
		k->install->cleaning = NULL;
		free(k);
	}
}
