#include "cli/signals.h"

#include <errno.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "base/fd.h"

int signals_begin(struct signals *s, struct err *e)
{
	sigset_t set;
	(void)sigemptyset(&set);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGHUP);
	if (sigprocmask(SIG_BLOCK, &set, &s->before) < 0) {
		return err_set_os(e, errno, "cannot block signals");
	}
	s->fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (s->fd < 0) {
		int saved = errno;
		(void)sigprocmask(SIG_SETMASK, &s->before, NULL);
		return err_set_os(e, saved, "cannot wait for signals");
	}
	return 0;
}

void signals_end(struct signals *s)
{
	if (s == NULL || s->fd < 0) {
		return;
	}
	static const struct timespec no_wait = {0};
	sigset_t ctrl_c;
	(void)sigemptyset(&ctrl_c);
	(void)sigaddset(&ctrl_c, SIGINT);
	(void)sigtimedwait(&ctrl_c, NULL, &no_wait);
	(void)sigprocmask(SIG_SETMASK, &s->before, NULL);
	fd_close(&s->fd);
}

int signals_take(struct signals *s)
{
	struct signalfd_siginfo info;
	if (s == NULL || s->fd < 0 || read(s->fd, &info, sizeof(info)) != sizeof(info)) {
		return 0;
	}
	return (int)info.ssi_signo;
}
