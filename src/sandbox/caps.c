#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sandbox/walls.h"

/* The kernel's own calls: libcap allocates, and this runs between a fork and the seal. */
static int set_caps(uint64_t permitted)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {0};
	for (int i = 0; i < _LINUX_CAPABILITY_U32S_3; i++) {
		data[i].permitted = (uint32_t)(permitted >> (32 * i));
		data[i].effective = data[i].permitted;
	}
	return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

static int has_caps(uint64_t *permitted)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {0};
	if (syscall(SYS_capget, &header, data) < 0) {
		return -errno;
	}
	*permitted = data[0].permitted | (uint64_t)data[1].permitted << 32;
	return 0;
}

static int become(uid_t uid, gid_t gid, struct err *e)
{
	uint64_t had = 0;
	int r = has_caps(&had);
	if (r < 0 || prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0) {
		return err_set_os(e, r < 0 ? -r : errno, "cannot keep capabilities");
	}
	if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 ||
	    setresuid(uid, uid, uid) < 0) {
		return err_set_os(e, errno, "cannot become user %u, group %u", uid, gid);
	}
	r = set_caps(had & (1ULL << CAP_SYS_ADMIN));
	if (r < 0) {
		return err_set_os(e, -r, "cannot drop capabilities");
	}
	return 0;
}

int identity_drop(uid_t uid, gid_t gid, struct err *e)
{
	if (geteuid() == 0) {
		if (uid == 0 || gid == 0) {
			return err_set(e, ERR_INVALID,
			    "started as root without an ordinary user and group to become");
		}
		if (become(uid, gid, e) < 0) {
			return -1;
		}
	}
	/* A change of identity makes /proc/self root's own; the namespaces' maps are written there.
	 */
	if (prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) < 0) {
		return err_set_os(e, errno, "cannot own /proc/self");
	}
	return 0;
}

int caps_drop_all(struct err *e)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0) {
		return err_set_os(e, errno, "cannot set no_new_privs");
	}
	/* No program run later gains any either: no_new_privs says so for good, and these bits,
	 * locked, say it once more. (The bounding set would too, for forty calls in every session.)
	 * Without the capability to set them there is none to be dropped. */
	if (prctl(PR_SET_SECUREBITS, SECURE_ALL_BITS | SECURE_ALL_LOCKS, 0, 0, 0) < 0 &&
	    errno != EPERM) {
		return err_set_os(e, errno, "cannot set the secure bits");
	}
	/* The ambient set empties itself with the permitted one. */
	int r = set_caps(0);
	return r < 0 ? err_set_os(e, -r, "cannot drop capabilities") : 0;
}

int caps_check_single_thread(struct err *e)
{
	struct stat st;
	if (stat("/proc/self/task", &st) < 0) {
		return err_set_os(e, errno, "cannot count threads");
	}
	/* A directory has two links, and one more for each directory in it. */
	if (st.st_nlink != 3) {
		return err_set(e, ERR_INTERNAL,
		    "the process has %lu threads where it must have one",
		    (unsigned long)st.st_nlink - 2);
	}
	return 0;
}
