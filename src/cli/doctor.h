/* doctor: the walls of this host, for more than one command. */
#ifndef CLI_DOCTOR_H
#define CLI_DOCTOR_H

#include <stdbool.h>

#define DOCTOR_LINE_BYTES 1024

/* The line of `carrel doctor` that is worst for this user and the default configuration, or that
 * all walls are enforced. False when there is nothing to say. */
bool doctor_worst(char line[DOCTOR_LINE_BYTES]);

#endif
