/*
 * pingpong ROUND-TRIPS [CPU CPU]: what two processes that hand one small message back and forth
 * over a SOCK_SEQPACKET socket pair take for it here and now, as JSON. Where two CPUs are named,
 * each of the two stays on its own, so that every message wakes another CPU.
 *
 * A request to a server that runs its work in another process costs at least two such round trips,
 * so this is the yardstick that tells a slow machine from a slow server.
 */
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/compiler.h"
#include "base/fd.h"
#include "base/text.h"
#include "samples.h"

#define MESSAGE_BYTES 64
#define ROUND_TRIPS_MAX 1000000

/* Sends back what comes, until the other end is closed. */
static _Noreturn void echo(int fd)
{
	char message[MESSAGE_BYTES];
	for (;;) {
		ssize_t n = recv(fd, message, sizeof(message), 0);
		if (n <= 0 || send(fd, message, (size_t)n, MSG_NOSIGNAL) != n) {
			_exit(n == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
		}
	}
}

static int measure(int fd, uint64_t round_trips, struct samples *s)
{
	char message[MESSAGE_BYTES] = {0};
	for (uint64_t i = 0; i < round_trips; i++) {
		uint64_t start_ns = samples_now_ns();
		if (send(fd, message, sizeof(message), MSG_NOSIGNAL) != MESSAGE_BYTES ||
		    recv(fd, message, sizeof(message), 0) != MESSAGE_BYTES) {
			perror("pingpong");
			return -1;
		}
		if (samples_add(s, samples_now_ns() - start_ns) < 0) {
			return -1;
		}
	}
	return 0;
}

/* Stays where it is when TEXT is NULL. */
static int stay_on(const char *text)
{
	uint64_t cpu;
	cpu_set_t set;
	if (text == NULL) {
		return 0;
	}
	if (text_to_u64(text, CPU_SETSIZE - 1, &cpu) < 0) {
		return -1;
	}
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set);
}

int main(int argc, char **argv)
{
	uint64_t round_trips;
	bool known = argc == 2 || argc == 4;
	if (!known || text_to_u64(argv[1], ROUND_TRIPS_MAX, &round_trips) < 0) {
		(void)fputs("use: pingpong ROUND-TRIPS [CPU CPU]\n", stderr);
		return 2;
	}
	int ends[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) {
		perror("socketpair");
		return EXIT_FAILURE;
	}
	pid_t pid = fork();
	if (pid == 0) {
		fd_close(&ends[0]);
		if (stay_on(argc == 4 ? argv[3] : NULL) < 0) {
			_exit(EXIT_FAILURE);
		}
		echo(ends[1]);
	}
	fd_close(&ends[1]);
	cleanup(samples_fini) struct samples s = {0};
	int r = pid < 0 || stay_on(argc == 4 ? argv[2] : NULL) < 0
		    ? -1
		    : measure(ends[0], round_trips, &s);
	fd_close(&ends[0]);
	if (pid > 0) {
		(void)waitpid(pid, NULL, 0);
	}
	if (r == 0) {
		(void)fputc('{', stdout);
		samples_print(&s, stdout);
		(void)fputs("}\n", stdout);
	}
	return r == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
