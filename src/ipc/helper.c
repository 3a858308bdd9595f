#include "ipc/helper.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fd.h"

static void reset_signals(void)
{
	const struct sigaction usual = {.sa_handler = SIG_DFL};
	for (int number = 1; number < NSIG; number++) {
		(void)sigaction(number, &usual, NULL); /* some cannot be changed, nor ignored */
	}
	sigset_t none;
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/* The copy, closed upon exec. */
static int open_executable(const char *path, const char *name, struct err *e)
{
	cleanup(fd_close) int file = open(path, O_RDONLY | O_CLOEXEC);
	cleanup(fd_close) int copy = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct stat st;
	if (file < 0 || fstat(file, &st) < 0) {
		return err_set_os(e, errno, "%s", path);
	}
	ssize_t n = copy < 0 ? -1 : 1;
	for (off_t at = 0; n > 0 && at < st.st_size;) {
		n = sendfile(copy, file, &at, (size_t)(st.st_size - at));
	}
	const int seals = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;
	if (n <= 0 || fchmod(copy, 0555) < 0 || fcntl(copy, F_ADD_SEALS, seals) < 0) {
		return err_set_os(e, errno, "cannot copy %s to memory", path);
	}
	return fd_take(&copy);
}

static _Noreturn void run(int executable, const char *name, char *const environment[], int fd)
{
	char *const argv[] = {(char *)(uintptr_t)name, NULL};
	if (fd == IPC_HELPER_FD) {
		(void)fd_set_inherited(fd);
	} else {
		(void)dup2(fd, IPC_HELPER_FD);
	}
	(void)close_range(IPC_HELPER_FD + 1, ~0U, CLOSE_RANGE_CLOEXEC);
	reset_signals();
	(void)fexecve(executable, argv, environment);
	_exit(127);
}

int ipc_helper_start(struct ipc_helper *h, const char *path, const char *name,
    char *const environment[], struct err *e)
{
	cleanup(fd_close) int executable = open_executable(path, name, e);
	int ends[2];
	if (executable < 0) {
		return -1;
	}
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) {
		return err_set_os(e, errno, "socketpair");
	}
	pid_t pid = fork();
	if (pid == 0) {
		run(executable, name, environment, ends[1]);
	}
	int saved = errno;
	fd_close(&ends[1]);
	if (pid < 0) {
		fd_close(&ends[0]);
		return err_set_os(e, saved, "fork");
	}
	*h = (struct ipc_helper){.pid = pid, .fd = ends[0]};
	return 0;
}

void ipc_helper_wait(pid_t *pid)
{
	if (*pid > 0) {
		while (waitpid(*pid, NULL, 0) < 0 && errno == EINTR) {
		}
		*pid = 0;
	}
}
