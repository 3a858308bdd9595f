/* Programs outside sessions: what they reach, and that they can be ended whole. Each case runs once
 * with a pid namespace and once without. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/sched.h>
#include <mqueue.h>
#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"
#include "sandbox/command_internal.h"

#define NOBODY 65534
#define ENOUGH_MS 20000

static char work_dir[] = "/tmp/command-test-XXXXXX";
static struct command_walls *walls;

struct run {
	struct command_child child;
	int out_fd;
	struct buf out;
	int status;
};

static void start_in(struct run *r, const char *script, int data_dir_fd, const char *directory,
    const char *read_path)
{
	struct err e = {0};
	*r = (struct run){.child = COMMAND_CHILD_INIT, .out = BUF_INIT(1 << 20)};
	assert_int_equal(command_child_new(walls, &r->child, &e), 0);
	int ends[2];
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	cleanup(fd_close) int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	char *const argv[] = {
	    (char *)(uintptr_t) "sh", (char *)(uintptr_t) "-c", (char *)(uintptr_t)script, NULL};
	char *const environment[] = {(char *)(uintptr_t) "PATH=/usr/bin:/bin", NULL};
	const struct command what = {.path = "/bin/sh",
	    .argv = argv,
	    .environment = environment,
	    .in_fd = null,
	    .out_fd = ends[1],
	    .err_fd = ends[1],
	    .data_dir_fd = data_dir_fd,
	    .directory = directory,
	    .read_paths = &read_path,
	    .read_path_count = read_path != NULL ? 1 : 0,
	    .limits = {.processes = 64, .open_files = 256, .file_bytes = 1 << 20}};
	if (command_start(walls, &what, &r->child, &e) < 0) {
		fail_msg("%s", e.text);
	}
	fd_close(&ends[1]);
	r->out_fd = ends[0];
}

static void start(struct run *r, const char *script, int data_dir_fd)
{
	start_in(r, script, data_dir_fd, NULL, NULL);
}

static void finish(struct run *r)
{
	assert_int_equal(fd_read_all(r->out_fd, &r->out), 0);
	struct pollfd p = {.fd = r->child.pid_fd, .events = POLLIN};
	assert_int_equal(poll(&p, 1, ENOUGH_MS), 1);
	r->status = command_reap(&r->child);
	assert_true(r->status >= 0);
	fd_close(&r->out_fd);
	command_child_fini(walls, &r->child);
}

static void end(struct run *r)
{
	buf_fini(&r->out);
}

static void run(struct run *r, const char *script)
{
	start(r, script, -1);
	finish(r);
}

static void its_output_and_status_come_back(void **state)
{
	(void)state;
	struct run r;
	run(&r, "pwd; echo to stderr >&2; exit 7");
	assert_int_equal(r.status, 7);
	assert_non_null(strstr(buf_str(&r.out), r.child.home));
	assert_non_null(strstr(buf_str(&r.out), "to stderr"));
	assert_int_equal(access(r.child.home, F_OK), -1);
	end(&r);
	run(&r, "kill -9 $$ || exit 3");
	/* The first process of a namespace is not killed by its own; the command is not the first.
	 * With neither a namespace nor Landlock to keep signals in, it may send none. */
	bool refused = !walls->namespaces && !landlock_abi_scopes_signals(walls->landlock_abi);
	assert_int_equal(r.status, refused ? 3 : 137);
	end(&r);
}

static void it_writes_in_its_own_directory_only(void **state)
{
	(void)state;
	struct run r;
	char script[1024];
	char canary[128];
	(void)snprintf(canary, sizeof(canary), "%s/canary", work_dir);
	int fd = open(canary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "secret", 6), 6);
	fd_close(&fd);
	(void)snprintf(script, sizeof(script),
	    "echo mine > mine; cat mine; cat %s; echo x > %s; echo x > /tmp/command-canary; "
	    "ls %s/run; chmod 000 %s; cat /proc/%d/environ /proc/%d/status; rm -f %s; "
	    "/usr/bin/python3 -c 'import os; os.truncate(\"%s\", 0)'",
	    canary, canary, work_dir, canary, (int)getpid(), (int)getpid(), canary, canary);
	run(&r, script);
	assert_non_null(strstr(buf_str(&r.out), "mine"));
	assert_null(strstr(buf_str(&r.out), "secret"));
	assert_null(strstr(buf_str(&r.out), "VmSize"));
	struct stat st;
	assert_int_equal(stat(canary, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0644);
	assert_int_equal(st.st_size, 6);
	assert_int_equal(access("/tmp/command-canary", F_OK), -1);
	end(&r);
}

/* AT_START: it starts there; else it may only read it. */
static void try_to_change(bool at_start)
{
	struct run r;
	char directory[128];
	char file[160];
	char script[512];
	(void)snprintf(directory, sizeof(directory), "%s/place", work_dir);
	(void)snprintf(file, sizeof(file), "%s/there", directory);
	assert_int_equal(mkdir(directory, 0777), 0);
	int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "kept", 4), 4);
	fd_close(&fd);
	(void)snprintf(script, sizeof(script),
	    "cd %s; pwd; cat there; echo x > there; echo x > new; mkdir made; rm -f there; "
	    "mv there gone; truncate -s 0 there; ln there linked; ls",
	    at_start ? "." : directory);
	start_in(&r, script, -1, at_start ? directory : NULL, at_start ? NULL : directory);
	finish(&r);
	assert_non_null(strstr(buf_str(&r.out), directory));
	assert_non_null(strstr(buf_str(&r.out), "kept"));
	end(&r);
	struct stat st;
	assert_int_equal(stat(file, &st), 0);
	assert_int_equal(st.st_size, 4);
	assert_int_equal(st.st_nlink, 1);
	assert_int_equal(unlink(file), 0);
	assert_int_equal(rmdir(directory), 0); /* nothing else was made there */
}

/* Where its tool says that it starts, and what its tool lets it read: nothing is changed there. */
static void it_reads_the_directory_it_starts_in_and_changes_none(void **state)
{
	(void)state;
	try_to_change(true);
	try_to_change(false);
}

/* Without an ipc namespace the filter refuses it; with one there is nothing to be found. */
static void it_has_no_part_in_the_hosts_ipc(void **state)
{
	(void)state;
	const key_t key = 0x43415254;
	struct mq_attr attr = {.mq_maxmsg = 1, .mq_msgsize = 16};
	int shm = shmget(key, 4096, IPC_CREAT | 0666);
	int sem = semget(key, 1, IPC_CREAT | 0666);
	int msg = msgget(key, IPC_CREAT | 0666);
	mqd_t queue = mq_open("/carrel-command", O_CREAT | O_RDWR | O_CLOEXEC, 0666, &attr);
	assert_true(shm >= 0 && sem >= 0 && msg >= 0 && queue >= 0);
	struct run r;
	run(&r, "exec /usr/bin/python3 -c '\n"
		"import ctypes\n"
		"c = ctypes.CDLL(None)\n"
		"k = 0x43415254\n"
		"print(c.shmget(k, 0, 0), c.semget(k, 0, 0), c.msgget(k, 0),\n"
		"      c.mq_open(b\"/carrel-command\", 2), c.mq_unlink(b\"/carrel-command\"))'");
	assert_string_equal(buf_str(&r.out), "-1 -1 -1 -1 -1\n");
	end(&r);
	(void)shmctl(shm, IPC_RMID, NULL);
	(void)semctl(sem, 0, IPC_RMID);
	(void)msgctl(msg, IPC_RMID, NULL);
	assert_int_equal(mq_close(queue), 0);
	assert_int_equal(mq_unlink("/carrel-command"), 0);
}

static void it_has_no_descriptor_and_no_power(void **state)
{
	(void)state;
	struct run r;
	int leaked = open(work_dir, O_RDONLY); /* not even one that was meant to be inherited */
	run(&r,
	    "cd /proc/self/fd; echo *; while read -r k v; do echo $k $v; done </proc/self/status; "
	    "unshare -U true || echo no namespace");
	fd_close(&leaked);
	char fds[64] = "";
	(void)snprintf(
	    fds, sizeof(fds), "%.*s", (int)strcspn(buf_str(&r.out), "\n"), buf_str(&r.out));
	assert_true(strcmp(fds, "0 1 2") == 0 || strcmp(fds, "0 1 2 3") == 0); /* 3: the listing */
	assert_non_null(strstr(buf_str(&r.out), "CapPrm: 0000000000000000"));
	assert_non_null(strstr(buf_str(&r.out), "CapEff: 0000000000000000"));
	assert_non_null(strstr(buf_str(&r.out), "NoNewPrivs: 1"));
	assert_non_null(strstr(buf_str(&r.out), "Seccomp: 2"));
	assert_non_null(strstr(buf_str(&r.out), "no namespace"));
	end(&r);
}

/* With nothing but zeros as arguments most of these would do something, or say something else than
 * EPERM, if they were not refused. */
static const int refused[] = {SYS_ptrace, SYS_unshare, SYS_setns, SYS_io_uring_setup,
    SYS_io_uring_enter, SYS_userfaultfd, SYS_keyctl, SYS_add_key, SYS_request_key,
    SYS_perf_event_open, SYS_bpf, SYS_mount, SYS_open_tree, SYS_move_mount, SYS_fsopen,
    SYS_name_to_handle_at, SYS_open_by_handle_at, SYS_process_vm_readv, SYS_process_vm_writev,
    SYS_process_madvise, SYS_pidfd_getfd, SYS_kcmp, SYS_move_pages, SYS_init_module,
    SYS_finit_module, SYS_kexec_load, SYS_kexec_file_load, SYS_syslog, SYS_chroot, SYS_pivot_root,
    SYS_reboot};

/* These are told by their arguments. */
static const struct attempt {
	const char *name;
	long arguments[4];
	const char *answer; /* NULL: EINVAL in a namespace, where there is no other user */
} attempts[] = {
    {"user namespace", {SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0}, "EPERM"},
    {"clone3", {SYS_clone3, 0, 0, 0}, "ENOSYS"},
    {"raw socket", {SYS_socket, AF_INET, SOCK_RAW, IPPROTO_ICMP}, "EPERM"},
    {"packets", {SYS_socket, AF_PACKET, SOCK_RAW, 0}, "EAFNOSUPPORT"},
    {"hypervisor", {SYS_socket, AF_VSOCK, SOCK_STREAM, 0}, "EAFNOSUPPORT"},
    {"ciphers", {SYS_socket, AF_ALG, SOCK_SEQPACKET, 0}, "EAFNOSUPPORT"},
    {"terminal", {SYS_ioctl, 0, TIOCSTI, 0}, "EPERM"},
    {"root", {SYS_setuid, 0, 0, 0}, NULL},
    {"itself", {SYS_setuid, NOBODY, 0, 0}, "done"},
    {"itself in all", {SYS_setresgid, NOBODY, NOBODY, NOBODY}, "done"},
    {"nothing to keep", {SYS_prctl, PR_SET_KEEPCAPS, 1, 0}, "done"},
    {"a usual socket", {SYS_socket, AF_INET, SOCK_DGRAM, 0}, "done"},
};

static void add_attempt(
    struct buf *script, struct buf *expected, const struct attempt *a, const char *answer)
{
	const long *n = a->arguments;
	assert_int_equal(
	    buf_addf(script, "call('%s', %ld, %ld, %ld, %ld)\n", a->name, n[0], n[1], n[2], n[3]),
	    0);
	assert_int_equal(buf_addf(expected, "%s %s\n", a->name, answer), 0);
}

static void the_filter_refuses_what_no_tool_needs(void **state)
{
	(void)state;
	cleanup(buf_fini) struct buf script = BUF_INIT(8192);
	cleanup(buf_fini) struct buf expected = BUF_INIT(8192);
	assert_int_equal(buf_add_str(&script,
			     "python3 -I - <<'END'\n"
			     "import ctypes, errno\n"
			     "libc = ctypes.CDLL(None, use_errno=True)\n"
			     "def call(name, *arguments):\n"
			     "    ctypes.set_errno(0)\n"
			     "    if libc.syscall(*(ctypes.c_long(a) for a in arguments)) >= 0:\n"
			     "        print(name, 'done')\n"
			     "    else:\n"
			     "        print(name, errno.errorcode[ctypes.get_errno()])\n"),
	    0);
	for (size_t i = 0; i < array_len(refused); i++) {
		const struct attempt a = {.name = "refused", .arguments = {refused[i]}};
		add_attempt(&script, &expected, &a, "EPERM");
	}
	for (size_t i = 0; i < array_len(attempts); i++) {
		const char *other = command_walls_namespaces(walls) ? "EINVAL" : "EPERM";
		const char *answer = attempts[i].answer != NULL ? attempts[i].answer : other;
		add_attempt(&script, &expected, &attempts[i], answer);
	}
	assert_int_equal(buf_add_str(&script, "END\n"), 0);
	struct run r;
	run(&r, buf_str(&script));
	assert_string_equal(buf_str(&r.out), buf_str(&expected));
	end(&r);
}

static void it_cannot_signal_who_started_it(void **state)
{
	(void)state;
	struct run r;
	char script[128];
	(void)snprintf(
	    script, sizeof(script), "kill -STOP %d; kill -9 $PPID; echo still here", (int)getpid());
	run(&r, script);
	assert_int_equal(r.status, 0);
	assert_non_null(strstr(buf_str(&r.out), "still here"));
	end(&r);
}

static void it_reads_the_sessions_files_and_changes_none(void **state)
{
	(void)state;
	struct run r;
	char path[128];
	(void)snprintf(path, sizeof(path), "%s/data", work_dir);
	assert_int_equal(mkdir(path, 0700), 0);
	cleanup(fd_close) int dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	cleanup(fd_close) int file = openat(dir, "a.txt", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(write(file, "hello", 5), 5);
	assert_int_equal(symlinkat("/etc/shadow", dir, "shadow"), 0);
	assert_int_equal(symlinkat("../canary", dir, "up"), 0);
	start(&r,
	    "cat data/a.txt; ls data; cat data/shadow data/up data/../canary; "
	    "echo x > data/b || echo refused; rm -f data/a.txt",
	    dir);
	finish(&r);
	assert_non_null(strstr(buf_str(&r.out), "hello"));
	assert_non_null(strstr(buf_str(&r.out), "refused"));
	assert_null(strstr(buf_str(&r.out), "secret"));
	assert_null(strstr(buf_str(&r.out), "root:"));
	assert_int_equal(faccessat(dir, "a.txt", F_OK, 0), 0);
	end(&r);
}

/* How many processes there are whose command line has WORD in it. */
static int count_processes(const char *word)
{
	int count = 0;
	DIR *proc = opendir("/proc");
	assert_non_null(proc);
	struct dirent *entry;
	while ((entry = readdir(proc)) != NULL) {
		char path[300];
		(void)snprintf(path, sizeof(path), "/proc/%s/cmdline", entry->d_name);
		cleanup(buf_fini) struct buf text = BUF_INIT(8192);
		if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9' &&
		    fd_read_file(AT_FDCWD, path, &text) == 0 && text.len > 0 &&
		    memmem(text.data, text.len, word, strlen(word)) != NULL) {
			count++;
		}
	}
	(void)closedir(proc);
	return count;
}

static void what_it_leaves_behind_ends_with_it(void **state)
{
	(void)state;
	struct run r;
	uint64_t began = clock_mono_ms();
	run(&r,
	    "setsid sh -c 'setsid sleep 4321' </dev/null >/dev/null 2>&1 & sleep 0.1; echo done");
	assert_string_equal(buf_str(&r.out), "done\n");
	assert_true(clock_mono_ms() - began < ENOUGH_MS);
	assert_int_equal(count_processes("4321"), 0);
	end(&r);
}

/* The end that is told, once nothing is left: what waited for it need not have ended. */
static int wait_for_end(struct run *r)
{
	struct pollfd p = {.fd = r->child.channel_fd, .events = POLLIN};
	int told;
	do {
		assert_int_equal(poll(&p, 1, ENOUGH_MS), 1);
		told = command_ended(&r->child);
	} while (told == -EAGAIN);
	return told;
}

static void its_end_is_told_when_nothing_is_left(void **state)
{
	(void)state;
	struct run r;
	start(&r,
	    "for i in 1 2 3 4 5 6 7 8; do setsid sh -c 'trap \"\" TERM HUP; sleep 4567; :' & done; "
	    "sleep 0.1; exit 3",
	    -1);
	assert_int_equal(command_ended(&r.child), -EAGAIN);
	assert_int_equal(wait_for_end(&r), 3);
	assert_int_equal(count_processes("4567"), 0);
	finish(&r);
	assert_int_equal(r.status, 3);
	end(&r);
}

static void the_end_of_what_was_killed_is_told_by_its_process(void **state)
{
	(void)state;
	struct run r;
	start(&r, "echo up; sleep 5678; :", -1);
	char byte;
	assert_int_equal(read(r.out_fd, &byte, 1), 1);
	command_kill(walls, &r.child, false);
	int told = wait_for_end(&r);
	assert_true(
	    told == -EPIPE || told == 137); /* without a namespace it was asked, and tells */
	finish(&r);
	assert_int_equal(r.status, 137);
	assert_int_equal(count_processes("5678"), 0);
	end(&r);
}

/* By the kernel, when memory is short: nobody is left to end what it has started. */
static void nothing_outlives_the_process_that_waits(void **state)
{
	(void)state;
	struct run r;
	start(&r, "sleep 8765 & sh -c 'sleep 8765; :' & sleep 0.1; echo up; sleep 8765", -1);
	char byte;
	assert_int_equal(read(r.out_fd, &byte, 1), 1);
	assert_true(count_processes("8765") >= 3);
	assert_int_equal(kill(r.child.pid, SIGKILL), 0);
	struct pollfd p = {.fd = r.child.pid_fd, .events = POLLIN};
	assert_int_equal(poll(&p, 1, ENOUGH_MS), 1);
	assert_int_equal(command_reap(&r.child), 137);
	assert_int_equal(count_processes("8765"), 0);
	fd_close(&r.out_fd);
	command_child_fini(walls, &r.child);
	end(&r);
}

/* The next is made while one runs, and is another: nothing of the one is in it. */
static void the_next_is_ready_and_shares_nothing(void **state)
{
	(void)state;
	struct run first;
	struct run second;
	start(&first, "echo x > mine; sleep 0.3; cat mine", -1);
	command_walls_prepare(walls);
	command_walls_prepare(walls); /* one is enough */
	start(&second, "ls; echo y > mine; cat mine", -1);
	finish(&second);
	finish(&first);
	assert_string_equal(buf_str(&first.out), "x\n");
	assert_string_equal(buf_str(&second.out), "y\n");
	assert_int_not_equal(first.child.id, second.child.id);
	end(&first);
	end(&second);
}

static void a_kill_reaches_all_of_it(void **state)
{
	(void)state;
	struct run r;
	start(&r,
	    "trap '' TERM HUP INT; (setsid sh -c 'trap \"\" TERM; setsid sleep 5432; :' &) ; "
	    "echo up; sleep 5432; :",
	    -1);
	char byte;
	assert_int_equal(read(r.out_fd, &byte, 1), 1);
	command_kill(walls, &r.child, false);
	finish(&r);
	assert_int_equal(r.status, 137);
	assert_int_equal(count_processes("5432"), 0);
	end(&r);
}

static void a_fork_bomb_ends(void **state)
{
	(void)state;
	struct run r;
	start(&r, "echo up; b() { b 6543 | b 6543 & }; b; sleep 30 6543", -1);
	char byte;
	assert_int_equal(read(r.out_fd, &byte, 1), 1);
	(void)poll(NULL, 0, 200);
	command_kill(walls, &r.child, false);
	finish(&r);
	assert_int_equal(count_processes("6543"), 0);
	end(&r);
}

static void its_limits_are_those_it_was_given(void **state)
{
	(void)state;
	struct run r;
	run(&r, "ulimit -p; ulimit -n; ulimit -f; ulimit -c");
	/* Without a namespace of its own all processes of the server's user are counted. Sizes are
	 * told in blocks of 512 bytes. */
	if (strcmp(buf_str(&r.out), "2048\n256\n2048\n0\n") != 0) {
		assert_string_equal(buf_str(&r.out), "64\n256\n2048\n0\n");
	}
	end(&r);
}

static void a_large_file_is_refused(void **state)
{
	(void)state;
	struct run r;
	run(&r, "dd if=/dev/zero of=big bs=1M count=4 2>&1; ls -s big");
	assert_null(strstr(buf_str(&r.out), "4+0 records out"));
	end(&r);
}

static void a_program_is_found_or_named(void **state)
{
	(void)state;
	char path[256];
	struct err e = {0};
	assert_int_equal(command_find("sh", path, sizeof(path), &e), 0);
	assert_string_equal(path, "/usr/bin/sh");
	assert_int_equal(command_find("no-such-program", path, sizeof(path), &e), -1);
	assert_string_equal(e.text, "no-such-program: command not found");
	assert_int_equal(e.code, ERR_NOT_FOUND);
	assert_int_equal(command_find("./sh", path, sizeof(path), &e), -1);
}

static int with_namespaces(void **state)
{
	(void)state;
	struct err e = {0};
	walls = command_walls_new(work_dir, true, &e);
	return walls != NULL && command_walls_namespaces(walls) ? 0 : -1;
}

static int without_namespaces(void **state)
{
	(void)state;
	struct err e = {0};
	walls = command_walls_new(work_dir, false, &e);
	return walls != NULL ? 0 : -1;
}

static int leave(void **state)
{
	(void)state;
	char path[128];
	command_walls_free(walls);
	static const char *const left[] = {"data/a.txt", "data/shadow", "data/up", "canary"};
	for (size_t i = 0; i < array_len(left); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", work_dir, left[i]);
		(void)unlink(path);
	}
	static const char *const dirs[] = {"data", "run/trash", "run"};
	for (size_t i = 0; i < array_len(dirs); i++) {
		(void)snprintf(path, sizeof(path), "%s/%s", work_dir, dirs[i]);
		(void)rmdir(path);
	}
	return 0;
}

/* Where commands get namespaces of their own, and where the host gives none. */
#define BOTH(test)                                                                  \
	{"with namespaces: " #test, test, with_namespaces, leave, NULL},            \
	{                                                                           \
		"without namespaces: " #test, test, without_namespaces, leave, NULL \
	}

static void directory_of(pid_t pid, char path[128])
{
	(void)snprintf(path, 128, "%s/run/s%" PRIx64, work_dir, (uint64_t)pid << 32 | 7);
}

static void what_the_dead_left_is_removed_reaped_or_not(void **state)
{
	(void)state;
	char ours[128];
	char theirs[128];
	char run[128];
	struct err e = {0};
	siginfo_t info;
	pid_t pid = fork();
	if (pid == 0) {
		_exit(0);
	}
	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	directory_of(getpid(), ours);
	directory_of(pid, theirs);
	(void)snprintf(run, sizeof(run), "%s/run", work_dir);
	assert_int_equal(mkdir(run, 0700), 0);
	assert_int_equal(mkdir(ours, 0700), 0);
	assert_int_equal(mkdir(theirs, 0700), 0);
	walls = command_walls_new(work_dir, false, &e);
	assert_non_null(walls);
	assert_int_equal(access(theirs, F_OK), -1);
	assert_int_equal(access(ours, F_OK), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(rmdir(ours), 0);
	(void)leave(NULL);
}

int main(void)
{
	if (mkdtemp(work_dir) == NULL ||
	    (geteuid() == 0 &&
		(chown(work_dir, NOBODY, NOBODY) < 0 || setresgid(NOBODY, NOBODY, NOBODY) < 0 ||
		    setresuid(NOBODY, NOBODY, NOBODY) < 0))) {
		return 1;
	}
	/* Open wherever a command is made ready, and not even to be closed when it is run. */
	if (fcntl(STDERR_FILENO, F_DUPFD, 600) < 0) {
		return 1;
	}
	const struct CMUnitTest tests[] = {
	    BOTH(its_output_and_status_come_back),
	    BOTH(it_writes_in_its_own_directory_only),
	    BOTH(it_reads_the_directory_it_starts_in_and_changes_none),
	    BOTH(it_has_no_part_in_the_hosts_ipc),
	    BOTH(it_has_no_descriptor_and_no_power),
	    BOTH(the_filter_refuses_what_no_tool_needs),
	    BOTH(it_cannot_signal_who_started_it),
	    BOTH(it_reads_the_sessions_files_and_changes_none),
	    BOTH(what_it_leaves_behind_ends_with_it),
	    BOTH(its_end_is_told_when_nothing_is_left),
	    BOTH(the_end_of_what_was_killed_is_told_by_its_process),
	    BOTH(nothing_outlives_the_process_that_waits),
	    BOTH(the_next_is_ready_and_shares_nothing),
	    BOTH(a_kill_reaches_all_of_it),
	    BOTH(a_fork_bomb_ends),
	    BOTH(its_limits_are_those_it_was_given),
	    BOTH(a_large_file_is_refused),
	    BOTH(a_program_is_found_or_named),
	    cmocka_unit_test(what_the_dead_left_is_removed_reaped_or_not),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	(void)rmdir(work_dir);
	return failed;
}
