/* cgroup_files: what cgroup.c and cgroup_session.c share. */
#ifndef SANDBOX_CGROUP_FILES_H
#define SANDBOX_CGROUP_FILES_H

#include <stdint.h>

struct cgroups;

/* Writes TEXT to FILE of the group at DIR_FD. 0 or -errno. */
int cgroup_write(const struct cgroups *cg, int dir_fd, const char *file, const char *text);

/* The number after "KEY " at the start of a line of TEXT, or TEXT's first where KEY is NULL. 0 when
 * there is none. */
uint64_t cgroup_number(const char *text, const char *key);

/* When process PID started (field 22 of /proc/<pid>/stat, proc(5)). 0 or -errno. */
int cgroup_process_start(int pid, uint64_t *out);

/* The inode of the caller's pid namespace, 0 when it cannot be told. */
uint64_t cgroup_pid_namespace(void);

#endif
