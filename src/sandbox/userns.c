#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"
#include "sandbox/walls.h"

static int write_self(const char *name, const char *text, struct err *e)
{
	char path[64];
	(void)snprintf(path, sizeof(path), "/proc/self/%s", name);
	int r = fd_write_file(-1, path, text);
	return r < 0 ? err_set_os(e, -r, "cannot write %s", path) : 0;
}

static int write_map(const char *name, unsigned inside, unsigned outside, struct err *e)
{
	char line[64];
	(void)snprintf(line, sizeof(line), "%u %u 1\n", inside, outside);
	return write_self(name, line, e);
}

int userns_map(
    uid_t inside_uid, uid_t outside_uid, gid_t inside_gid, gid_t outside_gid, struct err *e)
{
	/* Without setgroups for good, a process may map its own group (user_namespaces(7)). */
	if (write_self("setgroups", "deny", e) < 0 ||
	    write_map("uid_map", inside_uid, outside_uid, e) < 0 ||
	    write_map("gid_map", inside_gid, outside_gid, e) < 0) {
		return -1;
	}
	return 0;
}

int userns_enter(struct err *e)
{
	uid_t uid = geteuid();
	gid_t gid = getegid();
	if (unshare(CLONE_NEWUSER | CLONE_NEWNS) < 0) {
		return err_set_os(e, errno, "cannot create a user namespace");
	}
	/* Not as 0: the kernel lets a process without CAP_SETFCAP map any number of its own onward
	 * into a session's namespace but that one (verify_root_map in kernel/user_namespace.c). The
	 * capabilities it has here until it drops them do not depend on the number. */
	return userns_map(SESSION_UID, uid, SESSION_GID, gid, e);
}
