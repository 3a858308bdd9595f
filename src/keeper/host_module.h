/*
 * host_module: the module _carrel_host, by which the prelude reaches the C side: displays, host
 * calls, and a few facts of the process.
 */
#ifndef KEEPER_HOST_MODULE_H
#define KEEPER_HOST_MODULE_H

#include <sys/types.h>

struct ipc_result;
struct _object; /* Python's PyObject */

/* For PyImport_AppendInittab. */
struct _object *host_module_init(void);

/* Whoever runs cells: the keeper while it warms up, then the session. */
void host_module_set_pid(pid_t pid);

/* Moves what the prelude told that it left out, since the last time, to the members of INTO that
 * end in _cut. */
void host_module_take_cut(struct ipc_result *into);

#endif
