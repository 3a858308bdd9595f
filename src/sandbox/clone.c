/* New processes, on hosts that have clone3 and on those that refuse it. */
#include <errno.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sandbox/walls.h"

/* The order of clone's last two arguments is the architecture's (clone(2), "C library/kernel
 * differences"). A descriptor of the process goes where clone has the parent's copy of its number.
 */
static long clone_old(const struct clone_args *a)
{
	unsigned long flags = (unsigned long)(a->flags | a->exit_signal);
#if defined(__x86_64__)
	return syscall(
	    SYS_clone, flags, 0UL, (unsigned long)a->pidfd, (unsigned long)a->child_tid, 0UL);
#else
	return syscall(
	    SYS_clone, flags, 0UL, (unsigned long)a->pidfd, 0UL, (unsigned long)a->child_tid);
#endif
}

pid_t clone_process(const struct clone_args *args)
{
	long r = syscall(SYS_clone3, args, sizeof(*args));
	if (r < 0 && errno == ENOSYS && (args->flags & CLONE_INTO_CGROUP) == 0) {
		/* Filters of container hosts refuse clone3, whose flags they cannot see. */
		r = clone_old(args);
	}
	return (pid_t)r;
}
