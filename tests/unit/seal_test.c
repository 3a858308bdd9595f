/* What the gateway may still do once it is sealed, with and without a store on the network. Each
 * case is a process of its own, for there is no way back. */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "approvals/db.h"
#include "gateway/seal.h"
#include "redis_server.h"
#include "store/store.h"

static int in_child(int (*what)(void *arg), void *arg)
{
	int status = -1;
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		_exit(what(arg));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static bool seal(bool connects)
{
	struct err e = {0};
	return seal_drop_privileges(getuid() == 0 ? 65534 : getuid(), 65534, &e) == 0 &&
	       seal_system_calls(connects, &e) == 0;
}

static bool is_refused(int family, int type)
{
	int fd = socket(family, type, 0);
	return fd < 0 && (errno == ENOSYS || errno == EPERM || errno == EACCES);
}

static int without_a_store(void *arg)
{
	(void)arg;
	if (!seal(false)) {
		return 1;
	}
	static const int families[] = {AF_INET, AF_INET6, AF_UNIX, AF_NETLINK, AF_PACKET, AF_VSOCK};
	for (size_t i = 0; i < array_len(families); i++) {
		if (!is_refused(families[i], SOCK_STREAM) || !is_refused(families[i], SOCK_DGRAM)) {
			return 2;
		}
	}
	return 0;
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
	*(int *)poll->data = status == 0 && events == UV_READABLE ? 0 : 4;
	uv_close((uv_handle_t *)poll, NULL);
}

/* More descriptors are polled than there were when the loop was made. */
static int a_loop(void *arg)
{
	(void)arg;
	struct err e = {0};
	uv_loop_t loop;
	uv_poll_t poll;
	int fds[2];
	int result = 5;
	if (seal_refuse_io_uring(&e) < 0 || uv_loop_init(&loop) < 0) {
		return 1;
	}
	if (syscall(SYS_io_uring_setup, 1, NULL) != -1 || errno != ENOSYS) {
		return 2;
	}
	if (!seal(false) || pipe2(fds, O_CLOEXEC) < 0 || write(fds[1], "x", 1) != 1 ||
	    uv_poll_init(&loop, &poll, fds[0]) < 0) {
		return 3;
	}
	poll.data = &result;
	(void)uv_poll_start(&poll, UV_READABLE, on_readable);
	(void)uv_run(&loop, UV_RUN_DEFAULT);
	return result;
}

static int with_a_store(void *arg)
{
	(void)arg;
	if (!seal(true)) {
		return 1;
	}
	struct sockaddr_storage at = {.ss_family = AF_INET};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(struct sockaddr_in)) == 0 ||
	    listen(fd, 1) == 0) {
		return 2;
	}
	if (!is_refused(AF_NETLINK, SOCK_DGRAM) || !is_refused(AF_NETLINK, SOCK_RAW) ||
	    !is_refused(AF_PACKET, SOCK_RAW) || !is_refused(AF_INET, SOCK_RAW) ||
	    !is_refused(AF_VSOCK, SOCK_STREAM) || !is_refused(AF_UNIX, SOCK_DGRAM)) {
		return 3;
	}
#ifndef CARREL_SANITIZED /* whose leak checker forks */
	if (fork() >= 0) {
		return 4;
	}
#endif
	if (execl("/bin/true", "true", (char *)NULL) >= 0) {
		return 5;
	}
	return 0;
}

/* Waits until the seal is there, in a thread that was there before it. */
static void *try_a_socket(void *fd)
{
	static char refused = 'r';
	char go;
	bool told = read(*(const int *)fd, &go, 1) == 1;
	return told && is_refused(AF_INET, SOCK_STREAM) ? &refused : NULL;
}

static int with_a_thread(void *arg)
{
	(void)arg;
	int ends[2];
	pthread_t thread;
	void *refused = NULL;
	if (pipe(ends) < 0 || pthread_create(&thread, NULL, try_a_socket, &ends[0]) != 0 ||
	    !seal(false) || write(ends[1], "g", 1) != 1 || pthread_join(thread, &refused) != 0) {
		return 1;
	}
	return refused != NULL ? 0 : 2;
}

/* Commits, and takes its journal away at the end. */
static int with_a_database(void *arg)
{
	char url[128];
	char journal[128];
	struct db *d = NULL;
	struct err e = {0};
	(void)snprintf(url, sizeof(url), "sqlite:%s/a.db", (const char *)arg);
	(void)snprintf(journal, sizeof(journal), "%s/a.db-wal", (const char *)arg);
	if (seal_drop_privileges(getuid() == 0 ? 65534 : getuid(), 65534, &e) < 0 ||
	    db_open(&d, url, &e) < 0 || seal_system_calls(false, &e) < 0) {
		return 1;
	}
	if (db_script(d, "CREATE TABLE t (n BIGINT)", &e) < 0 || db_begin(d, &e) < 0 ||
	    db_run(d, "INSERT INTO t VALUES ($1)", &DB_INT(7), 1, NULL, NULL, NULL, &e) < 0 ||
	    db_commit(d, &e) < 0) {
		return 2;
	}
	bool was_there = access(journal, F_OK) == 0;
	db_close(d);
	return was_there && access(journal, F_OK) < 0 ? 0 : 3;
}

struct answer {
	bool called;
	enum err_code code;
};

static void on_listed(void *ctx, json_t *records, uint64_t revision, const struct err *e)
{
	struct answer *a = ctx;
	(void)revision;
	a->called = true;
	a->code = e != NULL ? e->code : ERR_NONE;
	if (json_array_size(records) != 1) {
		a->code = ERR_INTERNAL;
	}
}

static int ask_the_store(void *arg)
{
	const struct redis_server *server = arg;
	char ca[96];
	uv_loop_t loop;
	struct err e = {0};
	struct answer a = {0};
	(void)snprintf(ca, sizeof(ca), "%s/cert.pem", server->dir);
	if (seal_refuse_io_uring(&e) < 0 || uv_loop_init(&loop) < 0) {
		return 2;
	}
	struct store *st = store_new(
	    &loop, &(struct store_config){.redis_url = server->url, .redis_ca_file = ca}, &e);
	if (st == NULL || !seal(true)) {
		return 1;
	}
	(void)store_list(st, &(struct store_space){0}, STORE_SKILLS, on_listed, &a);
	while (!a.called) {
		(void)uv_run(&loop, UV_RUN_ONCE);
	}
	return a.code == ERR_NONE ? 0 : 100 + (int)a.code;
}

static void without_a_store_there_is_no_socket(void **state)
{
	(void)state;
	assert_int_equal(in_child(without_a_store, NULL), 0);
}

static void a_loop_made_before_runs_behind_it(void **state)
{
	(void)state;
	assert_int_equal(in_child(a_loop, NULL), 0);
}

static void with_one_there_is_only_what_it_needs(void **state)
{
	(void)state;
	assert_int_equal(in_child(with_a_store, NULL), 0);
}

/* By name, over TLS: the resolver's thread, the certificates, and the connection. */
static void a_store_is_reached_from_behind_the_seal(void **state)
{
	(void)state;
	struct redis_server server;
	redis_server_begin(&server, true, "secret");
	TELL(&server, "HSET", "py_code_mode:skills:__skills__", "one", "{\"source\": \"1\"}");
	assert_int_equal(in_child(ask_the_store, &server), 0);
	redis_server_end(&server);
}

static void threads_that_are_there_are_sealed_too(void **state)
{
	(void)state;
	assert_int_equal(in_child(with_a_thread, NULL), 0);
}

static void a_database_is_written_from_behind_the_seal(void **state)
{
	(void)state;
	char dir[] = "/tmp/carrel-seal-XXXXXX";
	char file[64];
	assert_non_null(mkdtemp(dir));
	assert_int_equal(chmod(dir, 0777), 0);
	assert_int_equal(in_child(with_a_database, dir), 0);
	(void)snprintf(file, sizeof(file), "%s/a.db", dir);
	assert_int_equal(unlink(file), 0);
	assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(without_a_store_there_is_no_socket),
	    cmocka_unit_test(a_loop_made_before_runs_behind_it),
	    cmocka_unit_test(with_one_there_is_only_what_it_needs),
	    cmocka_unit_test(threads_that_are_there_are_sealed_too),
	    cmocka_unit_test(a_database_is_written_from_behind_the_seal),
	    cmocka_unit_test(a_store_is_reached_from_behind_the_seal),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
