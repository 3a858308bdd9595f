#include "gateway/seal.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/users.h"

int seal_find_user(const char *name, uid_t *uid, gid_t *gid, struct err *e)
{
	const struct passwd *user = NULL;
	if (name != NULL) {
		user = getpwnam(name);
	} else {
		user = getpwnam("carrel");
		user = user != NULL ? user : getpwnam("nobody");
	}
	if (user == NULL) {
		return err_set(
		    e, ERR_INVALID, "there is no user '%s'", name != NULL ? name : "nobody");
	}
	if (user->pw_uid == 0) {
		return err_set(
		    e, ERR_INVALID, "the server does not run as root: choose another 'user'");
	}
	*uid = user->pw_uid;
	*gid = user->pw_gid;
	return 0;
}

static int drop_capabilities(void)
{
	cap_t none = cap_init();
	int r = none == NULL ? -1 : cap_set_proc(none);
	(void)cap_free(none);
	return r;
}

/* The leak checker looks at its own process through /proc and ptrace, which compares users. */
#ifdef CARREL_SANITIZED
#define DUMPABLE 1
#define COUNTED_AS(uid) (uid)
#else
#define DUMPABLE 0
#define COUNTED_AS(uid) users_gateway_counted_as(uid)
#endif

/* With a real user of its own: what the kernel counts by user is not used up by sessions. Where the
 * number does not exist, in a user namespace, the gateway shares theirs. */
static int become(uid_t uid, gid_t gid)
{
	if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0) {
		return -1;
	}
	return setresuid(COUNTED_AS(uid), uid, uid) == 0 ? 0 : setresuid(uid, uid, uid);
}

int seal_drop_privileges(uid_t uid, gid_t gid, struct err *e)
{
	if (geteuid() == 0 && become(uid, gid) < 0) {
		return err_set_os(e, errno, "becoming user %u", (unsigned)uid);
	}
	if (drop_capabilities() < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    prctl(PR_SET_DUMPABLE, DUMPABLE) < 0) {
		return err_set_os(e, errno, "dropping privileges");
	}
	return 0;
}

/* Of socket()'s second argument; the rest are flags. */
#define SOCKET_TYPE_MASK 0xf

static const int allowed[] = {
    /* sockets that are there, and new connections to them */
    SCMP_SYS(accept),
    SCMP_SYS(accept4),
    SCMP_SYS(recvfrom),
    SCMP_SYS(recvmsg),
    SCMP_SYS(recvmmsg),
    SCMP_SYS(sendto),
    SCMP_SYS(sendmsg),
    SCMP_SYS(sendmmsg),
    SCMP_SYS(sendfile),
    SCMP_SYS(shutdown),
    SCMP_SYS(getsockopt),
    SCMP_SYS(setsockopt),
    SCMP_SYS(getsockname),
    SCMP_SYS(getpeername),
    /* files beneath directories that are open */
    SCMP_SYS(read),
    SCMP_SYS(write),
    SCMP_SYS(readv),
    SCMP_SYS(writev),
    SCMP_SYS(pread64),
    SCMP_SYS(pwrite64),
    SCMP_SYS(preadv),
    SCMP_SYS(pwritev),
    SCMP_SYS(openat),
    SCMP_SYS(openat2),
    SCMP_SYS(close),
    SCMP_SYS(close_range),
    SCMP_SYS(fstat),
    SCMP_SYS(newfstatat),
    SCMP_SYS(statx),
    SCMP_SYS(stat),
    SCMP_SYS(lstat),
    SCMP_SYS(fstatfs),
    SCMP_SYS(statfs),
    SCMP_SYS(lseek),
    SCMP_SYS(getdents64),
    SCMP_SYS(unlinkat),
    SCMP_SYS(unlink), /* as SQLite removes its journal; no more than unlinkat may */
    SCMP_SYS(renameat),
    SCMP_SYS(renameat2),
    SCMP_SYS(mkdirat),
    SCMP_SYS(ftruncate),
    SCMP_SYS(fallocate),
    SCMP_SYS(fchmod),
    SCMP_SYS(utimensat),
    SCMP_SYS(readlinkat),
    SCMP_SYS(readlink),
    SCMP_SYS(faccessat),
    SCMP_SYS(faccessat2),
    SCMP_SYS(access),
    SCMP_SYS(fsync),
    SCMP_SYS(fdatasync),
    SCMP_SYS(fadvise64),
    SCMP_SYS(flock), /* of a store that other processes write too */
    /* Of its directories, on a descriptor made before; no inotify_init1. They tell the names of
     * files in directories that can be read, which this process may list anyway. */
    SCMP_SYS(inotify_add_watch),
    SCMP_SYS(inotify_rm_watch),
    SCMP_SYS(fcntl),
    SCMP_SYS(ioctl),
    SCMP_SYS(dup),
    SCMP_SYS(dup2),
    SCMP_SYS(dup3),
    SCMP_SYS(pipe2),
    SCMP_SYS(splice),
    /* the loop */
    SCMP_SYS(epoll_create1),
    SCMP_SYS(epoll_ctl),
    SCMP_SYS(epoll_wait),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(epoll_pwait2),
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(select),
    SCMP_SYS(pselect6),
    SCMP_SYS(eventfd2),
    SCMP_SYS(timerfd_create),
    SCMP_SYS(timerfd_settime),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_getres),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(time),
    SCMP_SYS(nanosleep),
    SCMP_SYS(restart_syscall),
    /* memory and threads */
    SCMP_SYS(brk),
    SCMP_SYS(mmap),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(mprotect),
    SCMP_SYS(madvise),
    SCMP_SYS(futex),
    SCMP_SYS(set_robust_list),
    SCMP_SYS(rseq),
    SCMP_SYS(sched_yield),
    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(set_tid_address),
    SCMP_SYS(getrandom),
    SCMP_SYS(membarrier),
    /* itself, its signals and its child */
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(rt_sigtimedwait),
    SCMP_SYS(sigaltstack),
    SCMP_SYS(tgkill),
    SCMP_SYS(getpid),
    SCMP_SYS(kill), /* what sessions leave behind when their keeper dies */
    SCMP_SYS(gettid),
    SCMP_SYS(getppid),
    SCMP_SYS(getuid),
    SCMP_SYS(geteuid),
    SCMP_SYS(getgid),
    SCMP_SYS(getegid),
    SCMP_SYS(wait4),
    SCMP_SYS(waitid),
    SCMP_SYS(getrusage),
    SCMP_SYS(prlimit64),
    SCMP_SYS(sysinfo),
    SCMP_SYS(uname),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
#ifdef CARREL_SANITIZED
    /* the leak checker traces its own process when it ends */
    SCMP_SYS(ptrace),
    SCMP_SYS(clone),
    SCMP_SYS(prctl),
    SCMP_SYS(process_vm_readv),
    SCMP_SYS(open),
    SCMP_SYS(fork),
    SCMP_SYS(vfork),
    SCMP_SYS(personality),
    SCMP_SYS(getdents),
#endif
};

static int add_rules(scmp_filter_ctx filter)
{
	for (size_t i = 0; i < array_len(allowed); i++) {
		int r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0);
		if (r < 0 && r != -EDOM) { /* -EDOM: this architecture has no such call */
			return r;
		}
	}
	/* A thread of this process, not a process. */
	return seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
	    SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
}

/* To connect to a store, and to ask for its address. Netlink, which a resolver would like to have
 * too, it does without. */
static int add_sockets(scmp_filter_ctx filter)
{
	static const int families[] = {AF_INET, AF_INET6, AF_UNIX};
	int r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(connect), 0);
	for (size_t i = 0; r == 0 && i < array_len(families); i++) {
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), 2,
		    SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)families[i], 0),
		    SCMP_A1(SCMP_CMP_MASKED_EQ, SOCKET_TYPE_MASK, SOCK_STREAM));
	}
	/* Questions to a name server. */
	for (size_t i = 0; r == 0 && i < 2; i++) {
		r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(socket), 2,
		    SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)families[i], 0),
		    SCMP_A1(SCMP_CMP_MASKED_EQ, SOCKET_TYPE_MASK, SOCK_DGRAM));
	}
	return r;
}

int seal_refuse_io_uring(struct err *e)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	if (filter == NULL) {
		return err_set(e, ERR_INTERNAL, "seccomp: out of memory");
	}
	int r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(io_uring_setup), 0);
	r = r < 0 ? r : seccomp_load(filter);
	seccomp_release(filter);
	return r < 0 ? err_set_os(e, -r, "seccomp") : 0;
}

int seal_system_calls(bool connects, struct err *e)
{
	/* ENOSYS is what libraries expect of a call that is not there, and step back from. */
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
	if (filter == NULL) {
		return err_set(e, ERR_INTERNAL, "seccomp: out of memory");
	}
	int r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	/* For the threads that are there already as well. */
	r = r < 0 ? r : seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
	r = r < 0 ? r : add_rules(filter);
	r = r < 0 || !connects ? r : add_sockets(filter);
	r = r < 0 ? r : seccomp_load(filter);
	seccomp_release(filter);
	return r < 0 ? err_set_os(e, -r, "seccomp") : 0;
}
