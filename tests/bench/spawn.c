/*
 * spawn TIMES PROGRAM [ARGUMENT…]: what posix_spawn() of a program, reading all it prints and
 * waiting for its end take here and now, as JSON.
 *
 * This is what a tool's call cannot be under, whoever starts the command: a process of 1 MB, one
 * pipe, no walls, no limits and nobody asked. What the program prints must be the same each time,
 * and not nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/compiler.h"
#include "base/fd.h"
#include "base/text.h"
#include "samples.h"

#define TIMES_MAX 1000000
#define OUTPUT_MAX_BYTES 4096

struct output {
	char bytes[OUTPUT_MAX_BYTES];
	size_t len;
};

/* Starts it with its standard output at *OUT. 0 or -errno. */
static int start(char **argv, pid_t *pid, int *out)
{
	/* As the runner's commands have it: with a language, libc reads a dozen files more. */
	static char path[] = "PATH=/usr/local/bin:/usr/bin:/bin";
	static char lang[] = "LANG=C.UTF-8";
	static char *const environment[] = {path, lang, NULL};
	int ends[2];
	posix_spawn_file_actions_t actions;
	if (pipe2(ends, O_CLOEXEC) < 0) {
		return -errno;
	}
	int r = posix_spawn_file_actions_init(&actions);
	if (r == 0) {
		r = posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
		r = r != 0 ? r : posix_spawnp(pid, argv[0], &actions, NULL, argv, environment);
		(void)posix_spawn_file_actions_destroy(&actions);
	}
	fd_close(&ends[1]);
	if (r != 0) {
		fd_close(&ends[0]);
		return -r;
	}
	*out = ends[0];
	return 0;
}

/* Until its end; what does not fit fails. */
static int read_all(int fd, struct output *o)
{
	o->len = 0;
	for (;;) {
		ssize_t n = read(fd, o->bytes + o->len, sizeof(o->bytes) - o->len);
		if (n < 0 && errno == EINTR) {
			continue;
		}
		if (n < 0) {
			return -errno;
		}
		if (n == 0) {
			return 0;
		}
		o->len += (size_t)n;
		if (o->len == sizeof(o->bytes)) {
			return -EMSGSIZE;
		}
	}
}

static int run_once(char **argv, struct output *o)
{
	pid_t pid;
	int status = 0;
	cleanup(fd_close) int out = -1;
	int r = start(argv, &pid, &out);
	if (r < 0) {
		return r;
	}
	r = read_all(out, o);
	fd_close(&out);
	if (waitpid(pid, &status, 0) != pid) {
		return -errno;
	}
	return r < 0                                                         ? r
	       : WIFEXITED(status) && WEXITSTATUS(status) == 0 && o->len > 0 ? 0
									     : -EPROTO;
}

static int measure(char **argv, uint64_t times, struct samples *s)
{
	struct output first;
	struct output now;
	int r = run_once(argv, &first);
	for (uint64_t i = 0; r == 0 && i < times; i++) {
		uint64_t start_ns = samples_now_ns();
		r = run_once(argv, &now);
		r = r < 0 ? r : samples_add(s, samples_now_ns() - start_ns);
		if (r == 0 &&
		    (now.len != first.len || memcmp(now.bytes, first.bytes, now.len) != 0)) {
			r = -EPROTO;
		}
	}
	return r;
}

int main(int argc, char **argv)
{
	uint64_t times;
	if (argc < 3 || text_to_u64(argv[1], TIMES_MAX, &times) < 0) {
		(void)fputs("use: spawn TIMES PROGRAM [ARGUMENT…]\n", stderr);
		return 2;
	}
	cleanup(samples_fini) struct samples s = {0};
	int r = measure(argv + 2, times, &s);
	if (r < 0) {
		(void)fprintf(stderr, "spawn: %s: %s\n", argv[2], strerrordesc_np(-r));
		return EXIT_FAILURE;
	}
	(void)fputc('{', stdout);
	samples_print(&s, stdout);
	(void)fputs("}\n", stdout);
	return EXIT_SUCCESS;
}
