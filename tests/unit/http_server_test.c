/*
 * A small server with toy routes over src/http, which tests/e2e/http_layer_test.py drives. It
 * prints "port N" when it listens and ends on SIGTERM, after a drain when calls are open.
 *
 *     http_server_test FILES_DIR [CERT KEY]
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <microhttpd.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/text.h"
#include "http/server.h"

#define UPLOAD_MAX_BYTES (128ULL << 20)

static struct server {
	uv_loop_t *loop;
	struct http *http;
	int files_fd;
	uv_signal_t term;
	uv_timer_t drain;
	struct json_work *json_work;
	unsigned gone, answered, json_handled, source_open, source_closed, file_done, continued,
	    uploads_open;
	uint64_t file_bytes;
} server;

static void on_error(struct call *c, int status, const struct err *e)
{
	call_reply_json(
	    c, status, json_pack("{s:s, s:b}", "error", e->text, "route", c->route != NULL));
}

static uint64_t number(struct call *c, const char *name, uint64_t fallback)
{
	const char *text = call_query(c, name);
	uint64_t value = fallback;
	if (text != NULL && text_to_u64(text, UINT64_MAX, &value) < 0) {
		value = fallback;
	}
	return value;
}

/* ---- plain ---- */

static void do_echo(struct call *c)
{
	const char *type = call_header(c, "Content-Type");
	call_set_header(c, "X-Method", c->method == CALL_POST ? "POST" : "PUT");
	call_reply(c, 200, type != NULL ? type : "application/octet-stream", &c->body);
}

/* The threads are busy from hold to release: with UV_THREADPOOL_SIZE 1, all of them. */
static uv_work_t holding;
static uv_sem_t released;

static void hold_thread(uv_work_t *w)
{
	(void)w;
	uv_sem_wait(&released);
}

static void do_hold(struct call *c)
{
	struct buf none = BUF_INIT(0);
	(void)uv_queue_work(server.loop, &holding, hold_thread, NULL);
	call_reply(c, 204, NULL, &none);
}

static void do_release(struct call *c)
{
	struct buf none = BUF_INIT(0);
	uv_sem_post(&released);
	call_reply(c, 204, NULL, &none);
}

static size_t json_flags(struct call *c)
{
	(void)c;
	return JSON_REJECT_DUPLICATES;
}

static void do_json(struct call *c)
{
	const struct json_read *r = &c->json;
	server.json_handled++;
	call_reply_json(c, 200,
	    json_pack("{s:I, s:b, s:s, s:i, s:i, s:I}", "members",
		(json_int_t)json_object_size(r->value), "heavy", r->heavy, "error",
		r->value == NULL ? r->error.text : "", "line", r->error.line, "column",
		r->error.column, "bytes", (json_int_t)c->body.len));
}

static void do_info(struct call *c)
{
	json_t *params = json_array();
	for (size_t i = 0; i < CALL_PARAMS_MAX && c->params[i] != NULL; i++) {
		(void)json_array_append_new(params, json_string(c->params[i]));
	}
	call_reply_json(c, 200,
	    json_pack("{s:s, s:s?, s:s?, s:o, s:s, s:s?, s:s?}", "path", c->path, "pool", c->pool,
		"path_identifier", c->path_identifier, "params", params, "principal",
		c->principal->name, "identifier", call_query(c, "identifier"), "header",
		call_header(c, "x-test")));
}

static void do_nothing(struct call *c)
{
	struct buf none = BUF_INIT(0);
	call_set_header(c, "X-Bad", "split\r\nX-Injected: 1");
	call_reply(c, 204, NULL, &none);
}

static void do_stats(struct call *c)
{
	struct rusage usage;
	(void)getrusage(RUSAGE_SELF, &usage);
	call_reply_json(c, 200,
	    json_pack("{s:i, s:i, s:i, s:i, s:i, s:I, s:i, s:i, s:i, s:i, s:I, s:I, s:i, s:s}",
		"gone", (int)server.gone, "json_handled", (int)server.json_handled, "source_open",
		(int)server.source_open, "source_closed", (int)server.source_closed, "file_done",
		(int)server.file_done, "file_bytes", (json_int_t)server.file_bytes, "open_calls",
		(int)http_open_calls(server.http), "connections",
		(int)http_connections(server.http), "continued", (int)server.continued,
		"uploads_open", (int)server.uploads_open, "rss_kb", (json_int_t)usage.ru_maxrss,
		"bodies_bytes", (json_int_t)http_bodies_bytes(server.http), "answered",
		(int)server.answered, "libmicrohttpd", MHD_get_version()));
}

/* ---- without watches ---- */

static unsigned watches_that_fail;

/* In the place of the C library's, for libmicrohttpd: fs.epoll.max_user_watches is the host's. */
int epoll_ctl(int epoll_fd, int op, int fd, struct epoll_event *event)
{
	if (op == EPOLL_CTL_ADD && watches_that_fail > 0) {
		watches_that_fail--;
		errno = ENOSPC;
		return -1;
	}
	return (int)syscall(SYS_epoll_ctl, epoll_fd, op, fd, event);
}

static void do_exhaust(struct call *c)
{
	struct buf none = BUF_INIT(0);
	watches_that_fail = (unsigned)number(c, "failures", 1);
	call_reply(c, 204, NULL, &none);
}

/* ---- delayed ---- */

struct delay {
	uv_timer_t timer;
	struct call *call; /* NULL when it is gone */
	bool begins;
};

static void free_delay(uv_handle_t *h)
{
	free(h->data);
}

static void on_delay(uv_timer_t *t)
{
	struct delay *d = t->data;
	if (d->call != NULL && d->begins) {
		server.continued++;
		d->call->gone = NULL;
		call_continue(d->call);
	} else if (d->call != NULL) {
		server.answered++;
		call_reply_json(d->call, 200, json_pack("{s:b}", "late", 1));
	}
	uv_close((uv_handle_t *)t, free_delay);
}

static void on_gone(struct call *c)
{
	struct delay *d = c->ctx;
	d->call = NULL;
	server.gone++;
	uv_close((uv_handle_t *)&d->timer, free_delay);
}

static void start_delay(struct call *c, bool begins)
{
	struct delay *d = calloc(1, sizeof(*d));
	if (d == NULL) {
		abort();
	}
	d->call = c;
	d->begins = begins;
	c->ctx = d;
	c->gone = on_gone;
	(void)uv_timer_init(server.loop, &d->timer);
	d->timer.data = d;
	(void)uv_timer_start(&d->timer, on_delay, number(c, "ms", 10), 0);
}

static void do_delay(struct call *c)
{
	start_delay(c, false);
}

static enum call_next begin_wait(struct call *c)
{
	start_delay(c, true);
	return CALL_WAIT;
}

static enum call_next begin_refuse(struct call *c)
{
	struct err e;
	(void)err_set(&e, ERR_BUSY, "refused before the body");
	on_error(c, 429, &e);
	return CALL_GO_ON;
}

/* ---- sources ---- */

struct source {
	struct call_source source; /* first */
	uv_timer_t timer;
	uint64_t left, period_ms, piece;
	bool ready, closed;
};

static void on_source_timer(uv_timer_t *t)
{
	struct source *s = t->data;
	s->ready = true;
	call_wake(s->source.call);
}

static ssize_t source_read(struct call_source *base, char *out, size_t max)
{
	struct source *s = (struct source *)base;
	if (s->left == 0) {
		return -1;
	}
	if (s->period_ms > 0 && !s->ready) {
		return 0;
	}
	s->ready = false;
	size_t n = s->piece < max ? (size_t)s->piece : max;
	n = n < s->left ? n : (size_t)s->left;
	memset(out, 'x', n);
	s->left -= n;
	return (ssize_t)n;
}

static void source_close(struct call_source *base)
{
	struct source *s = (struct source *)base;
	if (s->closed) {
		abort(); /* once only */
	}
	s->closed = true;
	server.source_closed++;
	uv_close((uv_handle_t *)&s->timer, free_delay);
}

static void do_source(struct call *c)
{
	struct source *s = calloc(1, sizeof(*s));
	if (s == NULL) {
		abort();
	}
	s->source.read = source_read;
	s->source.close = source_close;
	s->left = number(c, "bytes", 10);
	s->piece = number(c, "piece", 65536);
	s->period_ms = number(c, "ms", 0);
	server.source_open++;
	(void)uv_timer_init(server.loop, &s->timer);
	s->timer.data = s;
	if (s->period_ms > 0) {
		(void)uv_timer_start(&s->timer, on_source_timer, s->period_ms, s->period_ms);
	}
	call_reply_source(c, 200, "text/plain", &s->source);
}

/* ---- files ---- */

struct file_source {
	struct call_source source;
	int fd;
	uint64_t at, left, offered;
};

static ssize_t read_file(struct call_source *source, char *out, size_t max)
{
	struct file_source *s = container_of(source, struct file_source, source);
	size_t want = s->left < max ? (size_t)s->left : max;
	ssize_t n = want == 0 ? -1 : pread(s->fd, out, want, (off_t)s->at);
	if (n == 0) {
		return CALL_SOURCE_BROKEN;
	}
	s->at += n > 0 ? (uint64_t)n : 0;
	s->left -= n > 0 ? (uint64_t)n : 0;
	return n;
}

static void choose_range(struct call_source *source, uint64_t first, uint64_t len)
{
	struct file_source *s = container_of(source, struct file_source, source);
	s->at = first;
	s->left = s->offered = len;
}

static void close_file(struct call_source *source)
{
	struct file_source *s = container_of(source, struct file_source, source);
	server.file_done++;
	server.file_bytes += s->offered;
	fd_close(&s->fd);
	free(s);
}

static void do_file(struct call *c)
{
	struct stat st;
	cleanup(fd_close) int fd = openat(
	    server.files_fd, c->params[0], O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		struct err e;
		(void)err_set(&e, ERR_NOT_FOUND, "no such file");
		on_error(c, 404, &e);
		return;
	}
	int64_t modified_us = (int64_t)st.st_mtim.tv_sec * 1000000 + st.st_mtim.tv_nsec / 1000;
	struct file_source *s = calloc(1, sizeof(*s));
	if (s == NULL) {
		abort();
	}
	s->source = (struct call_source){
	    .read = read_file, .range = choose_range, .close = close_file};
	s->fd = fd_take(&fd);
	call_reply_file(c, &s->source, (uint64_t)st.st_size, modified_us, "text/x-test");
}

/* ---- uploads ---- */

struct upload {
	json_t *parts;
	EVP_MD_CTX *digest;
	json_int_t size;
	char *field, *filename;
};

static void upload_end(struct upload *u)
{
	json_decref(u->parts);
	EVP_MD_CTX_free(u->digest);
	free(u->field);
	free(u->filename);
	free(u);
	server.uploads_open--;
}

static void upload_gone(struct call *c)
{
	server.gone++;
	upload_end(c->ctx);
}

static enum call_next begin_upload(struct call *c)
{
	struct upload *u = calloc(1, sizeof(*u));
	if (u == NULL) {
		abort();
	}
	u->parts = json_array();
	u->digest = EVP_MD_CTX_new();
	c->ctx = u;
	c->gone = upload_gone;
	server.uploads_open++;
	return CALL_GO_ON;
}

static int upload_part(struct call *c, const char *field, const char *filename)
{
	struct upload *u = c->ctx;
	free(u->field);
	free(u->filename);
	u->field = field != NULL ? strdup(field) : NULL;
	u->filename = filename != NULL ? strdup(filename) : NULL;
	u->size = 0;
	if (filename != NULL && strcmp(filename, "refuse") == 0) {
		struct err e;
		(void)err_set(&e, ERR_CONFLICT, "this name is refused");
		on_error(c, 409, &e);
		upload_end(u);
		return -1;
	}
	return EVP_DigestInit_ex(u->digest, EVP_sha256(), NULL) == 1 ? 0 : -1;
}

static int upload_data(struct call *c, const char *bytes, size_t len)
{
	struct upload *u = c->ctx;
	u->size += (json_int_t)len;
	return EVP_DigestUpdate(u->digest, bytes, len) == 1 ? 0 : -1;
}

static int upload_part_end(struct call *c)
{
	struct upload *u = c->ctx;
	unsigned char digest[32];
	char hex[65];
	if (EVP_DigestFinal_ex(u->digest, digest, NULL) != 1) {
		abort();
	}
	for (size_t i = 0; i < sizeof(digest); i++) {
		(void)snprintf(hex + 2 * i, 3, "%02x", digest[i]);
	}
	(void)json_array_append_new(
	    u->parts, json_pack("{s:s?, s:s?, s:I, s:s}", "field", u->field, "filename",
			  u->filename, "size", u->size, "sha256", hex));
	return 0;
}

static void do_upload(struct call *c)
{
	struct upload *u = c->ctx;
	call_reply_json(c, 200, json_pack("{s:O}", "parts", u->parts));
	upload_end(u);
}

/* An error the HTTP layer found: what the upload holds goes too. */
static void upload_error(struct call *c, int status, const struct err *e)
{
	if (c->ctx != NULL) {
		upload_end(c->ctx);
	}
	on_error(c, status, e);
}

static const struct call_upload upload = {upload_part, upload_data, upload_part_end};

static const struct route routes[] = {
    {.method = CALL_POST,
	.pattern = "echo",
	.flags = ROUTE_BUFFERED,
	.max_body_bytes = 1 << 20,
	.handle = do_echo,
	.on_error = on_error},
    {.method = CALL_PUT,
	.pattern = "echo",
	.flags = ROUTE_BUFFERED,
	.max_body_bytes = 1 << 20,
	.handle = do_echo,
	.on_error = on_error},
    {.method = CALL_GET, .pattern = "stats", .handle = do_stats, .on_error = on_error},
    {.method = CALL_GET, .pattern = "nothing", .handle = do_nothing, .on_error = on_error},
    {.method = CALL_GET, .pattern = "info/{a}/{b...}", .handle = do_info, .on_error = on_error},
    {.method = CALL_GET, .pattern = "files/{name}", .handle = do_info, .on_error = on_error},
    {.method = CALL_GET,
	.pattern = "private",
	.role = ROLE_EXECUTE,
	.handle = do_info,
	.on_error = on_error},
    {.method = CALL_POST,
	.pattern = "private",
	.role = ROLE_EXECUTE,
	.flags = ROUTE_BUFFERED,
	.max_body_bytes = 64 << 20,
	.handle = do_echo,
	.on_error = on_error},
    {.method = CALL_POST,
	.pattern = "private/delay",
	.role = ROLE_EXECUTE,
	.flags = ROUTE_BUFFERED,
	.max_body_bytes = 1 << 20,
	.handle = do_delay,
	.on_error = on_error},
    {.method = CALL_GET,
	.pattern = "admin",
	.role = ROLE_ADMIN,
	.handle = do_info,
	.on_error = on_error},
    {.method = CALL_POST, .pattern = "exhaust", .handle = do_exhaust, .on_error = on_error},
    {.method = CALL_POST,
	.pattern = "delay",
	.flags = ROUTE_BUFFERED,
	.max_body_bytes = 1 << 20,
	.handle = do_delay,
	.on_error = on_error},
    {.method = CALL_POST,
	.pattern = "begin",
	.flags = ROUTE_BUFFERED,
	.max_body_bytes = 1 << 20,
	.begin = begin_wait,
	.handle = do_echo,
	.on_error = on_error},
    {.method = CALL_POST,
	.pattern = "refuse",
	.flags = ROUTE_BUFFERED,
	.max_body_bytes = 64 << 20,
	.begin = begin_refuse,
	.handle = do_echo,
	.on_error = on_error},
    {.method = CALL_GET, .pattern = "source", .handle = do_source, .on_error = on_error},
    {.method = CALL_GET, .pattern = "file/{name}", .handle = do_file, .on_error = on_error},
    {.method = CALL_POST,
	.pattern = "upload",
	.flags = ROUTE_MULTIPART,
	.max_body_bytes = UPLOAD_MAX_BYTES,
	.begin = begin_upload,
	.handle = do_upload,
	.upload = &upload,
	.on_error = upload_error},
    {.method = CALL_GET, .pattern = "hold", .handle = do_hold, .on_error = on_error},
    {.method = CALL_GET, .pattern = "release", .handle = do_release, .on_error = on_error},
    {.method = CALL_POST,
	.pattern = "json",
	.flags = ROUTE_BUFFERED,
	.max_body_bytes = 16U << 20,
	.json = json_flags,
	.handle = do_json,
	.on_error = on_error},
    {.method = CALL_POST,
	.pattern = "upload/small",
	.flags = ROUTE_MULTIPART,
	.max_body_bytes = 1000,
	.begin = begin_upload,
	.handle = do_upload,
	.upload = &upload,
	.on_error = upload_error},
};

/* ---- life ---- */

static void end(void)
{
	uv_close((uv_handle_t *)&server.term, NULL);
	uv_close((uv_handle_t *)&server.drain, NULL);
	http_free(server.http);
	json_work_free(server.json_work);
}

static void on_drain(uv_timer_t *t)
{
	(void)t;
	if (http_open_calls(server.http) == 0) {
		end();
	}
}

static void on_term(uv_signal_t *s, int signum)
{
	(void)s;
	if (signum == SIGINT) {
		end(); /* at once, with whatever is open */
		return;
	}
	http_stop_listening(server.http);
	(void)uv_timer_start(&server.drain, on_drain, 10, 10);
}

static int add(struct auth *a, const char *token, const char *name, enum role role,
    const char *pool, int64_t expires_wall_us, struct err *e)
{
	const struct principal who = {.name = name, .role = role, .pool = pool};
	return auth_add(a, token, &who, expires_wall_us, e);
}

static struct auth *make_auth(struct err *e)
{
	int64_t past_us = clock_wall_us() - 1;
	struct auth *a = auth_new();
	if (a == NULL || add(a, "admin-token", "root", ROLE_ADMIN, NULL, 0, e) < 0 ||
	    add(a, "user-token", "user", ROLE_EXECUTE, NULL, 0, e) < 0 ||
	    add(a, "metrics-token", "scraper", ROLE_METRICS, NULL, 0, e) < 0 ||
	    add(a, "pool-token", "tenant", ROLE_EXECUTE, "blue", 0, e) < 0 ||
	    add(a, "default-token", "local", ROLE_EXECUTE, "main", 0, e) < 0 ||
	    add(a, "old-token", "old", ROLE_ADMIN, NULL, past_us, e) < 0) {
		return NULL;
	}
	return a;
}

static int fail(const struct err *e)
{
	(void)fprintf(stderr, "http_server_test: %s\n", e->text);
	return 1;
}

/* 0 where it is not set. */
static uint32_t setting(const char *variable)
{
	const char *text = getenv(variable);
	uint64_t value = 0;
	if (text != NULL && text_to_u64(text, UINT32_MAX, &value) < 0) {
		exit(2);
	}
	return (uint32_t)value;
}

int main(int argc, char **argv)
{
	if (argc != 2 && argc != 4) {
		(void)fprintf(stderr, "usage: http_server_test FILES_DIR [CERT KEY]\n");
		return 2;
	}
	struct err e = {0};
	if (getenv("HTTP_TEST_DEBUG") != NULL) {
		log_set_level(LOG_LEVEL_DEBUG);
	}
	server.loop = uv_default_loop();
	server.files_fd = open(argv[1], O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct auth *auth = make_auth(&e);
	if (auth == NULL) {
		return fail(&e);
	}
	if (getenv("HTTP_TEST_OPEN") != NULL) {
		auth_set_disabled(auth);
	}
	struct peer_nets proxies = {0};
	const char *proxy = getenv("HTTP_TEST_PROXY");
	if (proxy != NULL && peer_net_parse(proxy, &proxies.nets[proxies.count++]) < 0) {
		return 2;
	}
	(void)uv_sem_init(&released, 0);
	server.json_work = json_work_new(server.loop);
	const struct http_config config = {.tls_cert_file = argc == 4 ? argv[2] : NULL,
	    .tls_key_file = argc == 4 ? argv[3] : NULL,
	    .idle_timeout_ms = setting("HTTP_TEST_IDLE_MS"),
	    .connections_max = setting("HTTP_TEST_CONNECTIONS"),
	    .connections_per_address = setting("HTTP_TEST_PER_ADDRESS"),
	    .bodies_max_bytes = setting("HTTP_TEST_BODIES"),
	    .trusted_proxies = &proxies,
	    .auth = auth,
	    .json_work = server.json_work,
	    .default_pool = "main"};
	server.http = http_new(server.loop, &config, &e);
	if (server.http == NULL) {
		return fail(&e);
	}
	if (http_add_routes(server.http, routes, array_len(routes), &server) < 0 ||
	    http_start(server.http, &e) < 0) {
		return fail(&e);
	}
	http_set_default_error(server.http, on_error);
	(void)uv_signal_init(server.loop, &server.term);
	(void)uv_timer_init(server.loop, &server.drain);
	(void)uv_signal_start(&server.term, on_term, SIGTERM);
	uv_signal_t interrupt;
	(void)uv_signal_init(server.loop, &interrupt);
	(void)uv_signal_start(&interrupt, on_term, SIGINT);
	uv_unref((uv_handle_t *)&interrupt);
	(void)printf("port %u\n", (unsigned)http_port(server.http));
	(void)fflush(stdout);
	(void)uv_run(server.loop, UV_RUN_DEFAULT);
	auth_free(auth);
	(void)close(server.files_fd);
	uv_close((uv_handle_t *)&interrupt, NULL);
	(void)uv_run(server.loop, UV_RUN_DEFAULT);
	return uv_loop_close(server.loop) == 0 ? 0 : 3;
}
