#include "keeper/session.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/text.h"
#include "ipc/codec.h"
#include "ipc/frame.h"
#include "keeper/children.h"
#include "keeper/host.h"
#include "keeper/python.h"

/* Places of the session's own descriptors, above what user code closes by the range. OUT and ERR
 * are what 1 and 2 are restored from. */
enum {
	FD_CONTROL = 1000,
	FD_OUT = 1001,
	FD_ERR = 1002,
	FD_NULL = 1003,
	FD_WAKE = 1004, /* an event, among the session's own threads */
	FD_LAST = FD_WAKE,
};

#define MESSAGE_MAX_BYTES (64U << 20)

static uint64_t running; /* the execution that is running, for its displays */

static int place(int fd, int at)
{
	if (dup3(fd, at, O_CLOEXEC) < 0) {
		return -errno;
	}
	return close(fd) < 0 ? -errno : 0;
}

/* Descriptors 0, 1 and 2 are inherited by what the session starts, so they alone stay open there.
 */
static int restore_standard_fds(void)
{
	if (dup2(FD_NULL, 0) < 0 || dup2(FD_OUT, 1) < 0 || dup2(FD_ERR, 2) < 0) {
		return -errno;
	}
	return 0;
}

static int place_fds(struct session_channels c)
{
	int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (null < 0) {
		return -errno;
	}
	int r = place(c.control, FD_CONTROL);
	r = r < 0 ? r : place(c.out, FD_OUT);
	r = r < 0 ? r : place(c.err, FD_ERR);
	r = r < 0 ? r : place(null, FD_NULL);
	return r < 0 ? r : restore_standard_fds();
}

/* Everything else that the keeper had open. */
static void close_inherited(void)
{
	(void)close_range(3, FD_CONTROL - 1, 0);
	(void)close_range(FD_LAST + 1, ~0U, 0);
}

static void reset_signals(void)
{
	sigset_t none;
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

static _Noreturn void give_up(const struct err *e)
{
	cleanup(buf_fini) struct buf body = BUF_INIT(4096);
	(void)ipc_text_encode(e->text, &body);
	(void)ipc_send(FD_CONTROL, IPC_WALLS_FAILED, 0, body.data, body.len, NULL, 0);
	_exit(EXIT_FAILURE);
}

/* Before the seal, because of its limit of open files: the kernel counts descriptors in flight by
 * user, all sessions are one, and a sealed one could be refused for what a neighbour keeps there.
 */
static void send_data_dir(int data_dir)
{
	if (ipc_send(FD_CONTROL, IPC_DATA_DIR, 0, NULL, 0, &data_dir, 1) < 0) {
		_exit(EXIT_FAILURE);
	}
	(void)close(data_dir);
}

/* Without a mount namespace /tmp is the host's: the session's own stands beside its directory. */
static void use_own_tmp(void)
{
	char here[PATH_MAX];
	if (getcwd(here, sizeof(here)) == NULL || !text_has_suffix(here, "/data") ||
	    strcmp(here, "/mnt/data") == 0) {
		return;
	}
	cleanup(buf_fini) struct buf tmp = BUF_INIT(PATH_MAX);
	if (buf_addf(&tmp, "%.*s/tmp", (int)(strlen(here) - strlen("/data")), here) == 0) {
		(void)setenv("TMPDIR", buf_str(&tmp), 1);
		(void)setenv("HOME", buf_str(&tmp), 1);
	}
}

/* For what asks how much memory the machine has (prelude/proc_files.py). */
static void tell_figures(const struct sandbox_limits *limits)
{
	char text[32];
	if (limits->memory_bytes > 0) {
		(void)snprintf(
		    text, sizeof(text), "%llu", (unsigned long long)limits->memory_bytes);
		(void)setenv("CARREL_MEMORY_BYTES", text, 1);
	}
}

static void tell_sealed(void)
{
	if (ipc_send(FD_CONTROL, IPC_SEALED, 0, NULL, 0, NULL, 0) < 0) {
		_exit(EXIT_FAILURE);
	}
}

static int display(const struct ipc_display *items)
{
	cleanup(buf_fini) struct buf body = BUF_INIT(MESSAGE_MAX_BYTES);
	int r = ipc_display_encode(items, &body);
	return r < 0 ? r : host_send(IPC_DISPLAY, running, body.data, body.len);
}

/* User code may have closed 0, 1 or 2, or put something else there: the next cell gets them back.
 */
static void repair_standard_fds(void)
{
	struct stat mine;
	struct stat theirs;
	for (int fd = 1; fd <= 2; fd++) {
		bool ok = fstat(fd, &theirs) == 0 && fstat(FD_OUT + fd - 1, &mine) == 0 &&
			  mine.st_ino == theirs.st_ino && mine.st_dev == theirs.st_dev;
		if (!ok) {
			(void)restore_standard_fds();
			return;
		}
	}
	if (fcntl(0, F_GETFD) < 0) {
		(void)restore_standard_fds();
	}
}

static int answer(uint64_t ref, const struct ipc_result *result)
{
	cleanup(buf_fini) struct buf body = BUF_INIT(MESSAGE_MAX_BYTES);
	int r = ipc_result_encode(result, &body);
	return r < 0 ? r : host_send(IPC_RESULT, ref, body.data, body.len);
}

/* As the first process of its namespace the session reaches all of them, and not itself. */
static void end_children(void)
{
	if (getpid() == 1) {
		(void)kill(-1, SIGKILL);
	}
}

static int execute(const struct ipc_message *m)
{
	struct ipc_execute x;
	if (m->type != IPC_EXECUTE || ipc_execute_decode(&m->body, &x) < 0) {
		return -EPROTO;
	}
	running = m->ref;
	repair_standard_fds();
	struct python_result result = {.result.status = IPC_STATUS_INTERRUPTED};
	uint64_t start_us = clock_mono_us();
	if (x.end_children != 0) {
		end_children();
		(void)children_reap();
	}
	if (!host_is_cancelled(m->ref)) {
		host_begin();
		python_execute(&x, &result);
		host_end();
	}
	(void)fflush(NULL); /* what C libraries printed */
	result.result.duration_us = clock_mono_us() - start_us;
	/* At the process limit nothing could be started any more: what fills it is ended. */
	if (result.result.limit == IPC_LIMIT_PROCESSES) {
		end_children();
	}
	int r = answer(m->ref, &result.result);
	python_result_fini(&result);
	(void)children_reap();
	return r;
}

/* Receives one whole message, and not of the kind that only matters while something runs. The
 * interpreter is released meanwhile, so user threads run. */
static int receive(struct ipc_message *m)
{
	void *released = python_release();
	int r;
	do {
		r = host_receive(m);
		if (r == 1 && m->type == IPC_CANCEL) {
			ipc_message_reset(m); /* came too late: it has ended */
			r = 0;
		}
	} while (r == 0);
	python_reclaim(released);
	return r;
}

static void serve(void)
{
	cleanup(ipc_message_fini) struct ipc_message m = IPC_MESSAGE_INIT(MESSAGE_MAX_BYTES);
	while (receive(&m) > 0 && execute(&m) == 0) {
		ipc_message_reset(&m);
	}
}

void session_run(struct sandbox *sb, const struct sandbox_limits *limits, uint64_t id,
    struct session_channels channels)
{
	struct err e = {0};
	int data_dir = -1;
	reset_signals();
	int r = place_fds(channels);
	if (r < 0) {
		_exit(EXIT_FAILURE); /* nobody to tell */
	}
	if (sandbox_enter(sb, limits, id, &data_dir, &e) < 0) {
		give_up(&e);
	}
	send_data_dir(data_dir);
	use_own_tmp();
	tell_figures(limits);
	children_watch();
	python_start_session();
	python_set_display(display);
	host_init(FD_CONTROL, FD_WAKE);
	if (sandbox_seal(sb, &e) < 0) {
		give_up(&e);
	}
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	tell_sealed();
	close_inherited();
	serve();
	_exit(EXIT_SUCCESS);
}
