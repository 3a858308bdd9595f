#include <errno.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "sandbox/walls.h"

#define INODES_MAX 262144
#define BYTES_PER_INODE 4096
#define INODES_MIN 1024

static uint64_t inodes_for(uint64_t size_bytes)
{
	uint64_t inodes = size_bytes / BYTES_PER_INODE;
	if (size_bytes == 0 || inodes > INODES_MAX) {
		return INODES_MAX;
	}
	return inodes < INODES_MIN ? INODES_MIN : inodes;
}

int mounts_add_files(uint64_t size_bytes, struct err *e)
{
	char options[128];
	/* size=0 is no limit (tmpfs(5)). Programs may be run from both: users compile. */
	unsigned long long size = size_bytes;
	unsigned long long inodes = inodes_for(size_bytes);
	const unsigned long flags = MS_NOSUID | MS_NODEV;
	(void)snprintf(
	    options, sizeof(options), "size=%llu,nr_inodes=%llu,mode=1777", size, inodes);
	if (mount("tmpfs", SESSION_TMP, "tmpfs", flags, options) < 0) {
		return err_set_os(e, errno, "cannot mount " SESSION_TMP);
	}
	(void)snprintf(options, sizeof(options), "size=%llu,nr_inodes=%llu,mode=0755,uid=%d,gid=%d",
	    size, inodes, SESSION_UID, SESSION_GID);
	if (mount("tmpfs", SESSION_DATA, "tmpfs", flags, options) < 0) {
		return err_set_os(e, errno, "cannot mount " SESSION_DATA);
	}
	return 0;
}

/* The host's parts of /proc, for kernels that cannot leave them out. */
static int mask_proc(struct err *e)
{
	static const char *const covered[] = {
	    "/proc/acpi",
	    "/proc/asound",
	    "/proc/bus",
	    "/proc/config.gz",
	    "/proc/driver",
	    "/proc/fs",
	    "/proc/interrupts",
	    "/proc/irq",
	    "/proc/kallsyms",
	    "/proc/kcore",
	    "/proc/keys",
	    "/proc/key-users",
	    "/proc/kmsg",
	    "/proc/kpagecgroup",
	    "/proc/kpagecount",
	    "/proc/kpageflags",
	    "/proc/latency_stats",
	    "/proc/modules",
	    "/proc/sched_debug",
	    "/proc/scsi",
	    "/proc/slabinfo",
	    "/proc/sys",
	    "/proc/sysrq-trigger",
	    "/proc/sysvipc",
	    "/proc/timer_list",
	    "/proc/timer_stats",
	    "/proc/tty",
	    "/proc/vmallocinfo",
	    "/proc/zoneinfo",
	    "/proc/cmdline",
	    "/proc/mtrr",
	};
	for (size_t i = 0; i < array_len(covered); i++) {
		struct stat st;
		if (lstat(covered[i], &st) < 0) {
			if (errno == ENOENT || errno == EACCES) {
				continue;
			}
			return err_set_os(e, errno, "cannot look at %s", covered[i]);
		}
		int r = S_ISDIR(st.st_mode) ? mount("none", covered[i], "tmpfs",
						  MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC,
						  "nr_blocks=1,nr_inodes=2,mode=0555")
					    : mount("/dev/null", covered[i], NULL, MS_BIND, NULL);
		if (r < 0) {
			return err_set_os(e, errno, "cannot cover %s", covered[i]);
		}
	}
	return 0;
}

static int proc_refused(int os_errno, struct err *e)
{
	/* The kernel allows it only where nothing of the caller's own /proc is hidden. */
	return err_set_os(e, os_errno, "cannot mount a fresh /proc%s",
	    os_errno == EPERM ? " (in a container whose own is masked? Docker: --security-opt "
				"systempaths=unconfined; Kubernetes: procMount: Unmasked)"
			      : "");
}

int mounts_add_proc(enum proc_kind *kind, struct err *e)
{
	/* Read-only: nothing of a session's has a need to write there. */
	const unsigned long flags = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;
	if (mount("proc", "/proc", "proc", flags, "subset=pid") == 0) {
		*kind = PROC_PIDS_ONLY;
		return 0;
	}
	if (errno != EINVAL) {
		return proc_refused(errno, e);
	}
	if (mount("proc", "/proc", "proc", flags, NULL) < 0) {
		return proc_refused(errno, e);
	}
	*kind = PROC_MASKED;
	return mask_proc(e);
}
