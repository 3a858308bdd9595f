/*
 * carrel-keeper: started by `carrel serve` with its socket as descriptor 3, and by nobody else.
 *
 * Its authority is what its last block says: it becomes the sessions' user, goes behind the outer
 * walls, and from then on can do nothing on the host but fork sessions and signal them.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/log.h"
#include "ipc/codec.h"
#include "ipc/frame.h"
#include "ipc/helper.h"
#include "keeper/keeper.h"
#include "keeper/python.h"

/* What sessions inherit, and all they inherit. One thread in numeric libraries: their pools start
 * threads at import, and threads do not survive a fork. */
static const char *const environment[][2] = {
    {"PATH", "/usr/local/bin:/usr/bin:/bin"},
    {"HOME", "/tmp"},
    {"USER", "session"},
    {"LOGNAME", "session"},
    {"SHELL", "/bin/bash"},
    {"LANG", "C.UTF-8"},
    {"LC_ALL", "C.UTF-8"},
    {"TERM", "dumb"},
    {"TMPDIR", "/tmp"},
    {"MPLBACKEND", "Agg"}, /* of children; the session's own figures are shown by figures.py */
    {"MPLCONFIGDIR", "/tmp/.matplotlib"},
    {"OPENBLAS_NUM_THREADS", "1"},
    {"OMP_NUM_THREADS", "1"},
    {"MKL_NUM_THREADS", "1"},
    {"NUMEXPR_NUM_THREADS", "1"},
    {"PYTHONUNBUFFERED", "1"},
    /* pip has files only: nothing to try again, to ask or to compare with, and one place to write.
     */
    {"PIP_BREAK_SYSTEM_PACKAGES", "1"},
    {"PIP_DISABLE_PIP_VERSION_CHECK", "1"},
    {"PIP_RETRIES", "0"},
};

#ifdef CARREL_SANITIZED
const char *__asan_default_options(void);

/* Python never gives back all it has, and a session ends without running its end. */
const char *__asan_default_options(void)
{
	return "detect_leaks=0";
}
#endif

static int set_environment(void)
{
	if (clearenv() != 0) {
		return -ENOMEM;
	}
	for (size_t i = 0; i < array_len(environment); i++) {
		if (setenv(environment[i][0], environment[i][1], 1) < 0) {
			return -errno;
		}
	}
	return 0;
}

static int receive_config(struct ipc_message *m, struct ipc_keeper_config *config, struct err *e)
{
	int r;
	do {
		r = ipc_receive(IPC_HELPER_FD, m, false);
	} while (r == 0);
	if (r < 0) {
		return err_set_os(e, -r, "waiting for the configuration");
	}
	if (m->type != IPC_KEEPER_CONFIG || ipc_keeper_config_decode(&m->body, config) < 0) {
		return err_set(e, ERR_INTERNAL, "the configuration is not one");
	}
	return 0;
}

static int enter_walls(const struct ipc_keeper_config *config, struct sandbox **sb, struct err *e)
{
	struct sandbox_config walls = {
	    .level = (enum sandbox_level)config->isolation,
	    .uid = config->uid,
	    .gid = config->gid,
	    .work_dir = config->work_dir,
	    .packages_dir = *config->packages_dir != '\0' ? config->packages_dir : NULL,
	};
	for (uint32_t i = 0; i < config->read_only_path_count && i < SANDBOX_PATHS_MAX; i++) {
		walls.read_only_paths[walls.read_only_path_count++] = config->read_only_paths[i];
	}
	return sandbox_new(&walls, sb, e);
}

static int tell_ready(const struct buf *warning)
{
	struct ipc_keeper_ready *ready = calloc(1, sizeof(*ready));
	cleanup(buf_fini) struct buf body = BUF_INIT(1U << 20);
	if (ready == NULL) {
		return -ENOMEM;
	}
	python_describe(ready);
	ready->warning = buf_str(warning);
	int r = ipc_keeper_ready_encode(ready, &body);
	free(ready);
	return r < 0 ? r
		     : ipc_send(IPC_HELPER_FD, IPC_KEEPER_READY, 0, body.data, body.len, NULL, 0);
}

static int fail(const struct err *e)
{
	cleanup(buf_fini) struct buf body = BUF_INIT(4096);
	(void)ipc_text_encode(e->text, &body);
	(void)ipc_send(IPC_HELPER_FD, IPC_KEEPER_FAILED, 0, body.data, body.len, NULL, 0);
	return EXIT_FAILURE;
}

static int run(struct err *e)
{
	static struct ipc_keeper_config config;
	cleanup(ipc_message_fini) struct ipc_message m = IPC_MESSAGE_INIT(1U << 20);
	cleanup(buf_fini) struct buf warning = BUF_INIT(4096);
	struct sandbox *sb = NULL;
	if (set_environment() < 0 || receive_config(&m, &config, e) < 0) {
		return -1;
	}
	/* drop and go behind the walls, before the first line of Python */
	if (enter_walls(&config, &sb, e) < 0) {
		return -1;
	}
	if (python_start(e) < 0) {
		return -1;
	}
	python_set_packages_dir(sandbox_packages_dir(sb), config.may_add_packages != 0);
	if (python_preload(config.preload, config.preload_count, &warning, e) < 0) {
		return -1;
	}
	/* the one peer */
	struct keeper *k = keeper_new(IPC_HELPER_FD, sb, &config, e);
	if (k == NULL) {
		return -1;
	}
	if (tell_ready(&warning) < 0) {
		return err_set(e, ERR_INTERNAL, "the gateway is gone");
	}
	if (python_settle(e) < 0) {
		return -1;
	}
	/* loop */
	int r = keeper_loop(k, e);
	keeper_free(k);
	sandbox_free(sb);
	return r;
}

static bool has_socket(void)
{
	struct stat st;
	return fstat(IPC_HELPER_FD, &st) == 0 && S_ISSOCK(st.st_mode);
}

/* SIGHUP is the gateway's too. Blocked and not ignored: Python keeps for its sessions what it finds
 * here, and they unblock all. */
static void hold_hang_ups(void)
{
	sigset_t set;
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGHUP);
	(void)sigprocmask(SIG_BLOCK, &set, NULL);
	const struct sigaction usual = {.sa_handler = SIG_DFL};
	(void)sigaction(SIGHUP, &usual, NULL);
}

int main(void)
{
	log_set_process("keeper");
	if (!has_socket()) {
		(void)fputs("carrel-keeper is started by 'carrel serve'\n", stderr);
		return 2;
	}
	struct err e = {0};
	/* A terminal's Ctrl-C is for the gateway, which then ends this process in order. */
	(void)setsid();
	hold_hang_ups();
	if (run(&e) < 0) {
		log_event(LOG_LEVEL_ERROR, "keeper_failed", LOG_STR("reason", e.text));
		return fail(&e);
	}
	return EXIT_SUCCESS;
}
