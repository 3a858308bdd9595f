#include "redis_server.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/fd.h"

#define START_TRIES 3000 /* of 10 ms */
#define WORDS_MAX 40

static void pause_ms(long ms)
{
	(void)nanosleep(
	    &(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

static uint16_t free_port(void)
{
	cleanup(fd_close) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(at);
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
	return ntohs(at.sin_port);
}

static pid_t start(const char *const *words, int out)
{
	char *copy[WORDS_MAX] = {NULL};
	for (size_t i = 0; words[i] != NULL && i + 1 < WORDS_MAX; i++) {
		copy[i] = (char *)(uintptr_t)words[i];
	}
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		/* It goes with the test, however that ends. */
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		int null = open("/dev/null", O_RDWR | O_CLOEXEC);
		(void)dup2(null, 0);
		(void)dup2(out >= 0 ? out : null, 1);
		(void)dup2(null, 2);
		(void)execvp(copy[0], copy);
		_exit(127);
	}
	return pid;
}

static int run(const char *const *words, int out)
{
	int status = -1;
	pid_t pid = start(words, out);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

#define RUN(...) run((const char *const[]){__VA_ARGS__, NULL}, -1)

static void make_certificate(const struct redis_server *s)
{
	char key[96];
	char cert[96];
	(void)snprintf(key, sizeof(key), "%s/key.pem", s->dir);
	(void)snprintf(cert, sizeof(cert), "%s/cert.pem", s->dir);
	assert_int_equal(
	    RUN("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
		"-nodes", "-days", "2", "-subj", "/CN=carrel test", "-addext",
		"subjectAltName=DNS:localhost", "-keyout", key, "-out", cert),
	    0);
}

void redis_server_start(struct redis_server *s)
{
	char port[8];
	char cert[96];
	char key[96];
	(void)snprintf(port, sizeof(port), "%u", s->port);
	(void)snprintf(cert, sizeof(cert), "%s/cert.pem", s->dir);
	(void)snprintf(key, sizeof(key), "%s/key.pem", s->dir);
	const char *words[WORDS_MAX] = {"redis-server", s->tls ? "--tls-port" : "--port", port,
	    "--bind", "127.0.0.1", "--dir", s->dir, "--save", "", "--appendonly", "no",
	    "--unixsocket", s->socket, "--enable-debug-command", "yes"};
	size_t n = 15;
	if (s->password != NULL) {
		words[n++] = "--requirepass";
		words[n++] = s->password;
	}
	if (s->tls) {
		const char *const tls[] = {"--port", "0", "--tls-cert-file", cert, "--tls-key-file",
		    key, "--tls-ca-cert-file", cert, "--tls-auth-clients", "no"};
		memcpy(words + n, tls, sizeof(tls));
	}
	s->pid = start(words, -1);
	for (int i = 0; i < START_TRIES; i++) {
		char *said = ASK(s, "PING");
		bool up = strcmp(said, "PONG") == 0;
		free(said);
		if (up) {
			return;
		}
		pause_ms(10);
	}
	fail_msg("%s", "redis-server did not start");
}

void redis_server_begin(struct redis_server *s, bool tls, const char *password)
{
	*s = (struct redis_server){.tls = tls, .password = password, .port = free_port()};
	(void)snprintf(s->dir, sizeof(s->dir), "/tmp/carrel-redis-XXXXXX");
	assert_non_null(mkdtemp(s->dir));
	(void)snprintf(s->socket, sizeof(s->socket), "%s/socket", s->dir);
	(void)snprintf(s->url, sizeof(s->url), "%s://%s%s%s%s:%u/0", tls ? "rediss" : "redis",
	    password != NULL ? ":" : "", password != NULL ? password : "",
	    password != NULL ? "@" : "", tls ? "localhost" : "127.0.0.1", s->port);
	if (tls) {
		make_certificate(s);
	}
	redis_server_start(s);
}

void redis_server_kill(struct redis_server *s)
{
	if (s->pid != 0) {
		(void)kill(s->pid, SIGCONT);
		(void)kill(s->pid, SIGKILL);
		(void)waitpid(s->pid, NULL, 0);
		s->pid = 0;
	}
}

void redis_server_freeze(struct redis_server *s, bool frozen)
{
	(void)kill(s->pid, frozen ? SIGSTOP : SIGCONT);
}

void redis_server_end(struct redis_server *s)
{
	redis_server_kill(s);
	(void)RUN("rm", "-rf", s->dir);
}

char *redis_server_ask(const struct redis_server *s, const char *const *words)
{
	const char *all[WORDS_MAX] = {"redis-cli", "-s", s->socket};
	size_t n = 3;
	if (s->password != NULL) {
		all[n++] = "--no-auth-warning";
		all[n++] = "-a";
		all[n++] = s->password;
	}
	for (size_t i = 0; words[i] != NULL && n + 1 < WORDS_MAX; i++) {
		all[n++] = words[i];
	}
	int ends[2];
	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
	pid_t pid = start(all, ends[1]);
	fd_close(&ends[1]);
	struct buf out = BUF_INIT(64U << 20);
	assert_int_equal(fd_read_all(ends[0], &out), 0);
	fd_close(&ends[0]);
	(void)waitpid(pid, NULL, 0);
	while (out.len > 0 && out.data[out.len - 1] == '\n') {
		out.data[--out.len] = '\0';
	}
	return out.data != NULL ? out.data : strdup("");
}
