#include <errno.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/fd.h"
#include "sandbox/walls.h"

/* The kernel gives `lo` its 127.0.0.1 and ::1 when it comes up. */
int net_loopback_up(struct err *e)
{
	cleanup(fd_close) int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		return err_set_os(e, errno, "cannot open a socket to set up loopback");
	}
	struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
	if (ioctl(fd, SIOCSIFFLAGS, &request) < 0) {
		return err_set_os(e, errno, "cannot bring loopback up");
	}
	return 0;
}
