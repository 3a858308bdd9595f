/*
 * seccomp_rules: the lists behind seccomp.c, apart so that they can be read on their own. A name
 * that is in none of them is refused with ENOSYS.
 */
#ifndef SANDBOX_SECCOMP_RULES_H
#define SANDBOX_SECCOMP_RULES_H

#include <stdint.h>

/* The lists keep their columns. */
/* clang-format off */

#define SECCOMP_TIOCSTI 0x5412   /* types into a terminal */
#define SECCOMP_TIOCLINUX 0x541c /* pastes into a console */

/* Allowed with any argument. Not inotify: the read-only trees are the host's and every session's,
 * so a watch there tells which programs and modules the others run; and its instances are counted
 * by user, of whom all sessions are one. Without it programs poll. */
static const char *const seccomp_allowed[] = {
    /* files and directories */
    "access", "chdir", "close", "close_range", "copy_file_range", "creat",
    "dup", "dup2", "dup3", "faccessat", "faccessat2", "fadvise64", "fallocate", "fchdir",
    "fchmod", "fchown", "fdatasync", "fgetxattr",
    "flistxattr", "flock", "fstat", "fstatfs", "fsync", "ftruncate", "getcwd",
    "getdents", "getdents64", "getxattr", "lgetxattr", "link", "linkat",
    "listxattr", "llistxattr", "lseek", "lstat", "memfd_create", "mkdir", "mkdirat",
    "newfstatat", "open", "openat", "openat2", "pipe", "pipe2", "pread64", "preadv",
    "preadv2", "pwrite64", "pwritev", "pwritev2", "read", "readahead", "readlink",
    "readlinkat", "readv", "rename", "renameat", "renameat2", "rmdir", "sendfile", "splice",
    "stat", "statfs", "statx", "symlink", "symlinkat", "sync_file_range", "tee", "umask",
    "unlink", "unlinkat", "vmsplice", "write", "writev",
    /* waiting */
    "epoll_create", "epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_pwait2", "epoll_wait",
    "eventfd", "eventfd2", "poll", "ppoll", "pselect6", "select", "signalfd", "signalfd4",
    "timerfd_create", "timerfd_gettime", "timerfd_settime",
    /* sockets, once there are some */
    "accept", "accept4", "bind", "getpeername", "getsockname", "getsockopt", "listen",
    "recvfrom", "recvmmsg", "recvmsg", "sendmmsg", "sendmsg", "sendto", "shutdown",
    /* memory */
    "brk", "get_mempolicy", "madvise", "mbind", "membarrier", "mincore", "mlock", "mlock2",
    "mlockall", "mmap", "mprotect", "mremap", "mseal", "msync", "munlock", "munlockall",
    "munmap", "pkey_alloc", "pkey_free", "pkey_mprotect", "set_mempolicy", "map_shadow_stack",
    "cachestat",
    /* processes and threads */
    "arch_prctl", "execve", "execveat", "exit", "exit_group", "fork", "futex", "futex_waitv",
    "get_robust_list", "getcpu", "gettid", "pidfd_open", "rseq", "sched_yield",
    "set_robust_list", "set_tid_address", "vfork", "wait4", "waitid",
    /* about oneself */
    "capget", "capset", "getegid", "geteuid", "getgid", "getgroups", "getpgid", "getpgrp",
    "getpid", "getppid", "getpriority", "getresgid", "getresuid", "getrlimit", "getrusage",
    "getsid", "getuid", "ioprio_get", "sched_get_priority_max", "sched_get_priority_min",
    "sched_getaffinity", "sched_getattr", "sched_getparam", "sched_getscheduler",
    "sched_rr_get_interval", "setfsgid", "setfsuid", "setgid", "setgroups", "setregid",
    "setresgid", "setresuid", "setreuid", "setuid", "sysinfo", "times", "uname",
    /* signals to oneself */
    "pause", "restart_syscall", "rt_sigaction", "rt_sigpending", "rt_sigprocmask",
    "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait", "sigaltstack",
    /* time */
    "alarm", "clock_getres", "clock_gettime", "clock_nanosleep", "getitimer", "gettimeofday",
    "nanosleep", "setitimer", "time", "timer_create", "timer_delete", "timer_getoverrun",
    "timer_gettime", "timer_settime",
    /* randomness */
    "getrandom",
};

/* Known, and refused with EPERM. */
static const char *const seccomp_refused[] = {
    /* mounts and roots */
    "chroot", "fsconfig", "fsmount", "fsopen", "fspick", "mount", "mount_setattr",
    "move_mount", "open_tree", "pivot_root", "umount", "umount2",
    /* other processes' memory and descriptors */
    "kcmp", "pidfd_getfd", "process_madvise", "process_mrelease", "process_vm_readv",
    "process_vm_writev", "ptrace", "migrate_pages", "move_pages",
    /* kernel programming */
    "bpf", "delete_module", "finit_module", "init_module", "kexec_file_load", "kexec_load",
    "perf_event_open", "io_uring_enter", "io_uring_register", "io_uring_setup", "userfaultfd",
    "memfd_secret",
    /* keys */
    "add_key", "keyctl", "request_key",
    /* namespaces */
    "setns", "unshare",
    /* the host's clock, names, logs, disks */
    "acct", "adjtimex", "clock_adjtime", "clock_settime", "fanotify_init", "fanotify_mark",
    "lookup_dcookie", "name_to_handle_at", "open_by_handle_at", "quotactl", "quotactl_fd",
    "reboot", "setdomainname", "sethostname", "settimeofday", "swapoff", "swapon", "syslog",
    "vhangup",
    /* scheduling by a policy that a filter cannot see */
    "sched_setattr",
    /* x86's own */
    "ioperm", "iopl", "modify_ldt", "vm86", "vm86old",
};

/* A session's files carry no extended attributes (their memory has no limit of its own); programs
 * that copy them take this answer for a file system without. */
static const char *const seccomp_xattr_setters[] = {
    "fremovexattr", "fsetxattr", "lremovexattr", "lsetxattr", "removexattr", "setxattr",
};

/* A file's mode, owner and times, by path. Landlock has no say over them, and without a mount
 * namespace the host's files of the same user have paths, the neighbours' sessions among them.
 * There they do nothing, and say that they did it, so that tools that copy a file's mode along with
 * it go on; utimensat likewise where it is given a path. By descriptor all of it works, because
 * Landlock has decided over the opening. */
static const char *const seccomp_by_path[] = {
    "chmod", "fchmodat", "fchmodat2", "chown", "lchown", "fchownat", "utime", "utimes",
    "futimesat",
};

/* Allowed with a pid namespace, refused without: they lead out of the process group, by which all
 * of it is killed. */
static const char *const seccomp_groups[] = {"setpgid", "setsid"};

/* Allowed with an IPC namespace, refused without: they reach beyond. */
static const char *const seccomp_ipc[] = {
    "shmget", "shmat", "shmctl", "shmdt", "semget", "semop", "semctl",
    "semtimedop", "msgget", "msgsnd", "msgrcv", "msgctl", "mq_open", "mq_unlink",
    "mq_timedsend", "mq_timedreceive", "mq_notify", "mq_getsetattr",
};

/* Their first argument is a process; without a pid namespace only 0, the caller, is allowed. */
static const char *const seccomp_on_processes[] = {
    "sched_setaffinity", "sched_setparam",
};

/* The rest are device drivers', terminals' (a session has none) or the network's set-up. The
 * numbers are those of asm-generic, which x86 and arm64 share. */
static const uint32_t seccomp_ioctls[] = {
    0x5401, 0x5402,                 /* TCGETS (isatty asks it), TCSETS */
    0x540f, 0x5410, 0x5411, 0x5413, /* TIOCGPGRP, TIOCSPGRP, TIOCOUTQ, TIOCGWINSZ */
    0x541b, 0x5421,                 /* FIONREAD, FIONBIO */
    0x5450, 0x5451, 0x5452,         /* FIONCLEX, FIOCLEX, FIOASYNC */
    0x40049409, 0x80086601,         /* FICLONE (cp tries it), FS_IOC_GETFLAGS */
    0x8910, 0x8912, 0x8913,         /* SIOCGIFNAME, SIOCGIFCONF, SIOCGIFFLAGS */
    0x8915, 0x891b, 0x8927, 0x8933, /* SIOCGIFADDR, SIOCGIFNETMASK, SIOCGIFHWADDR, SIOCGIFINDEX */
};

/* Of fcntl, as a number and bits of it that may be either. Not those that make the kernel send
 * signals (F_SETOWN, F_SETSIG, F_SETOWN_EX, F_SETLEASE), nor F_NOTIFY, which like inotify would
 * tell what others do in the shared trees: they are in the second list. */
static const uint32_t seccomp_fcntls[][2] = {
    {0, 7},    /* F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_GETLK, F_SETLK, F_SETLKW */
    {9, 2},    /* F_GETOWN, F_GETSIG */
    {36, 1},   /* F_OFD_GETLK, F_OFD_SETLK */
    {38, 0},   /* F_OFD_SETLKW */
    {1025, 2}, /* F_GETLEASE, F_DUPFD_QUERY */
    {1030, 1}, /* F_DUPFD_CLOEXEC, F_SETPIPE_SZ */
    {1032, 3}, /* F_GETPIPE_SZ, F_ADD_SEALS, F_GET_SEALS, F_GET_RW_HINT */
    {1036, 1}, /* F_SET_RW_HINT, F_GET_FILE_RW_HINT */
    {1038, 0}, /* F_SET_FILE_RW_HINT */
};
static const uint32_t seccomp_fcntls_refused[][2] = {
    {8, 2},    /* F_SETOWN, F_SETSIG */
    {15, 0},   /* F_SETOWN_EX */
    {1024, 2}, /* F_SETLEASE, F_NOTIFY */
};

static const uint32_t seccomp_prctls[] = {
    2, 3, 4,    /* PR_GET_PDEATHSIG, PR_GET_DUMPABLE, PR_SET_DUMPABLE */
    15, 16,     /* PR_SET_NAME, PR_GET_NAME */
    21, 23,     /* PR_GET_SECCOMP, PR_CAPBSET_READ */
    29, 30,     /* PR_SET_TIMERSLACK, PR_GET_TIMERSLACK */
    36, 37,     /* PR_SET_CHILD_SUBREAPER, PR_GET_CHILD_SUBREAPER */
    38, 39, 40, /* PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS, PR_GET_TID_ADDRESS */
    41, 42,     /* PR_SET_THP_DISABLE, PR_GET_THP_DISABLE */
    47,         /* PR_CAP_AMBIENT */
    0x53564d41, /* PR_SET_VMA: names for anonymous memory */
};

/* clang-format on */

/* For commands outside sessions, to which all else is allowed: ways to more of the kernel than a
 * program needs, and into other processes of the same user. */
static const char *const seccomp_command_refused[] = {
    "acct",
    "add_key",
    "bpf",
    "chroot",
    "delete_module",
    "fanotify_init",
    "finit_module",
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "init_module",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "kcmp",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "lookup_dcookie",
    "mount",
    "mount_setattr",
    "move_mount",
    "move_pages",
    "name_to_handle_at",
    "open_by_handle_at",
    "open_tree",
    "perf_event_open",
    "pidfd_getfd",
    "pivot_root",
    "process_madvise",
    "process_vm_readv",
    "process_vm_writev",
    "ptrace",
    "quotactl",
    "reboot",
    "request_key",
    "setns",
    "swapoff",
    "swapon",
    "syslog",
    "umount2",
    "unshare",
    "userfaultfd",
    "vhangup",
};

#endif
