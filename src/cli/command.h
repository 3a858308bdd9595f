/*
 * command: what the table of `carrel` commands is made of, and what an exit status means.
 *
 * A command gets its own name as argv[0] and what followed it, and returns the process's exit
 * status. `--help` is answered by main before a command sees it.
 */
#ifndef CLI_COMMAND_H
#define CLI_COMMAND_H

#include "base/err.h"

enum cli_exit {
	CLI_EXIT_OK = 0,
	CLI_EXIT_USER = 1,   /* the user's code failed, or a local file could not be used */
	CLI_EXIT_USAGE = 2,  /* the command line is wrong */
	CLI_EXIT_SERVER = 3, /* the server refused, failed, or could not be reached */
	CLI_EXIT_STOPPED =
	    130, /* Ctrl-C made the client give up (128 + SIGINT, as shells say it) */
};

struct command {
	const char *name;
	const char *summary; /* one line for `carrel help` */
	const char *help;    /* the page of `carrel help NAME`, an example included */
	int (*run)(int argc, char **argv);
};

/* The exit status for a failure inside the client. The convention of this directory: ERR_INVALID is
 * wrong use, ERR_INTERNAL is this machine (a file, memory), ERR_CONFLICT is "stopped by a signal",
 * and everything else is the server's side. */
int command_exit_of(const struct err *e);

/* Tells a wrong use of COMMAND on stderr, with where to read on. Returns CLI_EXIT_USAGE. */
int command_usage_error(const char *command, const struct err *e);

/* The one of NAMES that WORD may have been meant for, or NULL. */
const char *command_nearest(const char *word, const char *const *names, size_t count);
/* -1 with *E: WORD is none of NAMES, which one it may be, and else what there is. */
int command_unknown_word(const char *word, const char *const *names, size_t count, struct err *e);

int cmd_artifacts(int argc, char **argv);
int cmd_approvals(int argc, char **argv);
int cmd_audit(int argc, char **argv);
int cmd_deps(int argc, char **argv);
int cmd_doctor(int argc, char **argv);
int cmd_exec(int argc, char **argv);
int cmd_files(int argc, char **argv);
int cmd_logs(int argc, char **argv);
int cmd_pools(int argc, char **argv);
int cmd_repl(int argc, char **argv);
int cmd_serve(int argc, char **argv);
int cmd_sessions(int argc, char **argv);
int cmd_skills(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_store(int argc, char **argv);
int cmd_tools(int argc, char **argv);
int cmd_version(int argc, char **argv);

#endif
