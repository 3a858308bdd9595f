/* What the host gives to commands, and the walls of the process that starts them. */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/fd.h"
#include "base/text.h"
#include "sandbox/command_internal.h"

/* Whether they can be had, for real. */
static bool try_namespaces(void)
{
	int pid_fd = -1;
	pid_t pid = command_clone(COMMAND_NAMESPACES, -1, &pid_fd);
	if (pid == 0) {
		_exit(0);
	}
	if (pid < 0) {
		return false;
	}
	int status = 0;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
	}
	fd_close(&pid_fd);
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static int open_run_dir(struct command_walls *w, const char *work_dir, struct err *e)
{
	int n = snprintf(w->run_path, sizeof(w->run_path), "%s/run", work_dir);
	if (n < 0 || (size_t)n >= sizeof(w->run_path)) {
		return err_set(e, ERR_INVALID, "the path %s is too long", work_dir);
	}
	const struct sandbox_config config = {
	    .work_dir = w->run_path, .uid = geteuid(), .gid = getegid()};
	if (workdir_open(&config, &w->run_fd, e) < 0) {
		return -1;
	}
	workdir_sweep(w->run_fd);
	return 0;
}

#ifndef CARREL_SANITIZED
/* The libraries that the waiting process calls; the vdso and the like have no name of a file. */
static bool is_needed(const char *path)
{
	static const char *const needed[] = {"/libc.so", "/libc-", "/ld-linux", "/libcap.so"};
	for (size_t i = 0; i < array_len(needed); i++) {
		if (strstr(path, needed[i]) != NULL) {
			return true;
		}
	}
	return strstr(path, ".so") == NULL;
}

/* Leaves the other libraries out of forks: copying their page tables, and taking them down again,
 * is a third of what starting a small program takes. */
static void lighten_forks(void)
{
	cleanup(buf_fini) struct buf maps = BUF_INIT(4U << 20);
	if (fd_read_file(AT_FDCWD, "/proc/self/maps", &maps) < 0) {
		return;
	}
	for (char *line = maps.data; line != NULL && *line != '\0';) {
		char *end = strchr(line, '\n');
		if (end != NULL) {
			*end = '\0';
		}
		unsigned long from;
		unsigned long to;
		/* NOLINTNEXTLINE(cert-err34-c): the kernel's own numbers */
		bool read = sscanf(line, "%lx-%lx", &from, &to) == 2;
		const char *path = strchr(line, '/');
		if (read && path != NULL && !is_needed(path)) {
			(void)madvise((void *)(uintptr_t)from, to - from, MADV_DONTFORK);
		}
		line = end != NULL ? end + 1 : NULL;
	}
}
#else
static void lighten_forks(void)
{
}
#endif

struct command_walls *command_walls_new(const char *work_dir, bool namespaces, struct err *e)
{
	struct command_walls *w = calloc(1, sizeof(*w));
	if (w == NULL) {
		(void)err_set(e, ERR_INTERNAL, "out of memory");
		return NULL;
	}
	w->run_fd = -1;
	w->group = COMMAND_GROUP_NONE;
	w->ready = COMMAND_CHILD_INIT;
	w->landlock_abi = landlock_abi();
	w->next_id = (uint64_t)getpid() << 32;
	int r = w->landlock_abi > 0 ? 0
				    : err_set(e, ERR_UNSUPPORTED,
					  "this kernel has no Landlock, and without it no "
					  "tool is run");
	r = r < 0 ? r : open_run_dir(w, work_dir, e);
	r = r < 0 ? r : landlock_command_paths(&w->paths, e);
	lighten_forks();
	w->namespaces = namespaces && try_namespaces();
	r = r < 0 ? r : seccomp_compile_command(w->namespaces, w->landlock_abi, &w->filter, e);
	if (r < 0) {
		command_walls_free(w);
		return NULL;
	}
	if (!w->namespaces) {
		(void)prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	}
	return w;
}

void command_walls_free(struct command_walls *w)
{
	if (w == NULL) {
		return;
	}
	command_child_fini(w, &w->ready);
	fd_close(&w->run_fd);
	command_group_fini(&w->group);
	landlock_paths_fini(&w->paths);
	seccomp_fini(&w->filter);
	free(w);
}

bool command_walls_namespaces(const struct command_walls *w)
{
	return w->namespaces;
}

int command_become_owner(const char *work_dir, struct err *e)
{
	struct stat st;
	if (stat(work_dir, &st) < 0) {
		return err_set_os(e, errno, "%s", work_dir);
	}
	return identity_drop(st.st_uid, st.st_gid, e);
}

#ifdef CARREL_SANITIZED
#define DUMPABLE 1 /* the leak checker looks at its own process through /proc and ptrace */
#else
#define DUMPABLE 0
#endif

int command_restrict_runner(const char *work_dir, struct err *e)
{
	if (caps_drop_all(e) < 0 || landlock_restrict_runner(landlock_abi(), work_dir, e) < 0) {
		return -1;
	}
	return prctl(PR_SET_DUMPABLE, DUMPABLE, 0, 0, 0) < 0 ? err_set_os(e, errno, "prctl") : 0;
}

static bool is_program(const char *path)
{
	struct stat st;
	return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

int command_find(const char *name, char *out, size_t size, struct err *e)
{
	if (strchr(name, '/') != NULL) {
		int n = snprintf(out, size, "%s", name);
		if (name[0] != '/' || n < 0 || (size_t)n >= size) {
			return err_set(e, ERR_INVALID, "%s: not an absolute path", name);
		}
		return is_program(name) ? 0
					: err_set(e, ERR_NOT_FOUND, "%s: no such program", name);
	}
	for (const char *at = COMMAND_PATH; *at != '\0';) {
		size_t len = strcspn(at, ":");
		int n = snprintf(out, size, "%.*s/%s", (int)len, at, name);
		if (n > 0 && (size_t)n < size && is_program(out)) {
			return 0;
		}
		at += len + (at[len] == ':');
	}
	return err_set(e, ERR_NOT_FOUND, "%s: command not found", name);
}
