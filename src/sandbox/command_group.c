/* The control group that limits the memory of all commands together (command.h). */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/text.h"
#include "sandbox/cgroup_files.h"
#include "sandbox/command_internal.h"

#define GROUP_ID 0
#define GROUP_NAME "s0" /* cgroups_add's for GROUP_ID */
#define COUNTS_BYTES 1024

static void without(struct command_group *g, const char *why)
{
	fd_close(&g->v1_fd);
	fd_close(&g->v2_fd);
	fd_close(&g->kills_fd);
	(void)snprintf(g->why, sizeof(g->why), "%s", why);
}

static void drop_cgroups(struct command_group *g)
{
	if (g->cgroups != NULL) {
		cgroups_fini(g->cgroups);
		free(g->cgroups);
		g->cgroups = NULL;
	}
}

struct command_group *command_group_new(
    const char *work_dir, uint64_t memory_bytes, const char *test_root)
{
	struct command_group *g = malloc(sizeof(*g));
	if (g == NULL) {
		return NULL;
	}
	*g = COMMAND_GROUP_NONE;
	g->memory_bytes = memory_bytes;
	if (memory_bytes == 0) {
		without(g, "none was asked for");
		return g;
	}
	struct err e = {0};
	struct stat st;
	g->cgroups = calloc(1, sizeof(*g->cgroups));
	if (g->cgroups == NULL || stat(work_dir, &st) < 0) {
		without(g, g->cgroups == NULL ? "out of memory" : strerrordesc_np(errno));
	} else if (cgroups_init_memory(g->cgroups, test_root, st.st_uid, st.st_gid, &e) < 0) {
		without(g, e.text);
	} else if (!cgroups_have(g->cgroups, CGROUP_MEMORY)) {
		without(g, g->cgroups->why[CGROUP_MEMORY]);
	}
	if (g->why[0] != '\0') {
		drop_cgroups(g);
	}
	return g;
}

/* Whether a process may go there, for real. */
static int try_join(const struct command_group *g)
{
	pid_t pid = command_clone(0, g->v2_fd, NULL);
	if (pid == 0) {
		_exit(-command_group_join(g));
	}
	if (pid < 0) {
		return -errno;
	}
	int status = 0;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
	}
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -EIO;
}

static int open_files(struct command_group *g, const struct cgroups *cg)
{
	const struct cgroup_hierarchy *h = &cg->hierarchies[0];
	bool v2 = h->version == 2;
	g->kills_fd = openat(h->base_fd,
	    v2 ? GROUP_NAME "/memory.events" : GROUP_NAME "/memory.oom_control",
	    O_RDONLY | O_CLOEXEC);
	if (!v2) {
		/* A test's directory has no files until they are written. */
		g->v1_fd = openat(h->base_fd, GROUP_NAME "/tasks",
		    O_WRONLY | O_CLOEXEC | (cg->simulated ? O_CREAT : 0), 0644);
	}
	if ((!v2 && g->v1_fd < 0) || (g->kills_fd < 0 && !cg->simulated)) {
		return -errno;
	}
	return cg->simulated ? 0 : try_join(g);
}

void command_group_open(struct command_group *g)
{
	if (g->cgroups == NULL) {
		return;
	}
	const struct sandbox_limits limits = {.memory_bytes = g->memory_bytes};
	struct err e = {0};
	int r = cgroups_add(g->cgroups, GROUP_ID, &limits, &g->v2_fd, &e);
	if (r == 0) {
		r = open_files(g, g->cgroups);
		r = r < 0 ? err_set_os(&e, -r, "the control group of commands") : 0;
	}
	if (r < 0) {
		without(g, e.text);
	}
	drop_cgroups(g);
}

const char *command_group_why(const struct command_group *g)
{
	return g->why[0] != '\0' ? g->why : NULL;
}

void command_group_fini(struct command_group *g)
{
	drop_cgroups(g);
	without(g, "");
}

void command_group_free(struct command_group *g)
{
	if (g != NULL) {
		command_group_fini(g);
		free(g);
	}
}

int command_group_join(const struct command_group *g)
{
	/* "tasks", for the one thread there is: as cgroups_join_v1 has it. */
	return g->v1_fd < 0 ? 0 : fd_write_all(g->v1_fd, "0", 1);
}

void command_walls_limit(struct command_walls *w, struct command_group *g)
{
	w->group = *g;
	free(g);
}

uint64_t command_walls_kills(const struct command_walls *w)
{
	char text[COUNTS_BYTES];
	ssize_t n = w->group.kills_fd < 0 ? 0 : pread(w->group.kills_fd, text, sizeof(text) - 1, 0);
	text[n > 0 ? n : 0] = '\0';
	return cgroup_number(text, "oom_kill");
}
