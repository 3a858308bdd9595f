/* What the files of commands share with each other. */
#ifndef SANDBOX_COMMAND_INTERNAL_H
#define SANDBOX_COMMAND_INTERNAL_H

#include "sandbox/command.h"
#include "sandbox/walls.h"

/* The group with the limit. -1 each, where there is none. */
struct command_group {
	int v1_fd;               /* its file "tasks" */
	int v2_fd;               /* its directory */
	int kills_fd;            /* the file that counts what was killed at the limit */
	struct cgroups *cgroups; /* until it is open */
	uint64_t memory_bytes;
	char why[512]; /* there is none; empty when there is */
};

#define COMMAND_GROUP_NONE                                \
	(struct command_group)                            \
	{                                                 \
		.v1_fd = -1, .v2_fd = -1, .kills_fd = -1, \
	}

/* Where they can be had: the host's processes, System V IPC and message queues are out of reach. */
#define COMMAND_NAMESPACES (CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWIPC)

struct command_walls {
	struct command_group group;
	int landlock_abi;
	bool namespaces;
	int run_fd;
	char run_path[COMMAND_HOME_BYTES - WORKDIR_NAME_BYTES];
	uint64_t next_id;
	struct landlock_paths paths;
	struct seccomp_program filter;
	struct command_child ready; /* home_fd is -1 when there is none */
};

/* What a command is to be, as the runner sends it. With it come, in this order, standard input,
 * output and error, the directory it starts in, a file in memory, and the session's files. The file
 * holds the pointers of argv and of the environment, each list with its NULL, as offsets into
 * itself, and then their texts. */
struct command_order {
	uint64_t bytes;
	uint64_t environment_at;
	uint64_t path_at;
	struct command_limits limits;
};

#define COMMAND_ORDER_FDS_MAX 6
enum command_order_fd { ORDER_IN, ORDER_OUT, ORDER_ERR, ORDER_START, ORDER_TEXTS, ORDER_DATA };

/* The process that waits for the command, with the command as its child. It allocates nothing and
 * never returns. command_inside.c */
_Noreturn void command_be_waiter(const struct command_walls *w, int ruleset_fd, int channel_fd);

/* As fork, but that no handlers of libraries run: those libraries may not be there. GROUP_FD is the
 * version 2 control group to be born in, or -1; PID_FD may be NULL. The number in the parent, 0 in
 * the child, or -1 with errno. */
pid_t command_clone(uint64_t flags, int group_fd, int *pid_fd);

void command_group_fini(struct command_group *g);

/* In a new process: joins the group where it was not born in it. 0 or -errno. */
int command_group_join(const struct command_group *g);

/* The exit status as shells have it. */
int command_status(int wait_status);

/* Tells the waiting process what to be. 0, or -1 with E. command_order.c */
int command_send_order(const struct command *what, const struct command_child *c, struct err *e);

#endif
