#include "cli/command.h"

#include <stdio.h>

int command_exit_of(const struct err *e)
{
	switch (e->code) {
	case ERR_INVALID:
		return CLI_EXIT_USAGE;
	case ERR_INTERNAL:
		return CLI_EXIT_USER;
	case ERR_CONFLICT:
		return CLI_EXIT_STOPPED;
	default:
		return CLI_EXIT_SERVER;
	}
}

int command_usage_error(const char *command, const struct err *e)
{
	(void)fprintf(stderr, "carrel %s: %s\ntry 'carrel help %s'\n", command, e->text, command);
	return CLI_EXIT_USAGE;
}
