#include "http/server.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/text.h"
#include "http/internal.h"

#define CONNECTIONS_DEFAULT 4096
#define IDLE_DEFAULT_MS 75000
/* libmicrohttpd clears all of it after each request. */
#define CONNECTION_MEMORY_DEFAULT_BYTES (32U << 10)
/* Connections that give way are closed a moment later: until then they are above the limit. */
#define CONNECTIONS_LEAVING_MAX 256
#define BACKLOG 4096
/* TLS 1.2 and later; the rest as GnuTLS thinks fit. */
#define TLS_PRIORITIES "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"
/* How often libmicrohttpd is run in one turn of the loop while it has more to do. */
#define RUNS_A_TURN 4

void link_init(struct link *head)
{
	head->prev = head;
	head->next = head;
}

void link_append(struct link *head, struct link *l)
{
	l->prev = head->prev;
	l->next = head;
	head->prev->next = l;
	head->prev = l;
}

void link_remove(struct link *l)
{
	if (l->next != NULL) {
		l->prev->next = l->next;
		l->next->prev = l->prev;
		l->prev = NULL;
		l->next = NULL;
	}
}

/* ---- the loop ---- */

void http_want_run(struct http *h)
{
	h->run_wanted = true;
}

static void on_timer(uv_timer_t *timer)
{
	http_want_run(timer->data);
}

/* Runs libmicrohttpd until it has nothing to do now, within bounds, and sets the timer for what it
 * wants later. An earlier time-out than the one that is set cannot come up: all are equally long
 * and start at the last activity. */
static void run(struct http *h)
{
	MHD_UNSIGNED_LONG_LONG timeout_ms = 0;
	bool has_timeout = false;
	for (int i = 0; i < RUNS_A_TURN; i++) {
		h->run_wanted = false;
		(void)MHD_run(h->daemon);
		has_timeout = MHD_get_timeout(h->daemon, &timeout_ms) == MHD_YES;
		if (!h->run_wanted && !(has_timeout && timeout_ms == 0)) {
			break;
		}
	}
	if (has_timeout && timeout_ms == 0) {
		conn_check_chunked(h);
	}
	if (h->run_wanted) {
		has_timeout = true;
		timeout_ms = 0;
	}
	if (has_timeout && (timeout_ms == 0 || !uv_is_active((uv_handle_t *)&h->timer))) {
		(void)uv_timer_start(&h->timer, on_timer, timeout_ms, 0);
	}
}

static void on_prepare(uv_prepare_t *prepare)
{
	struct http *h = prepare->data;
	if (h->run_wanted) {
		run(h);
	}
}

static void on_check(uv_check_t *check)
{
	struct http *h = check->data;
	if (h->run_wanted) {
		run(h);
	}
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
	(void)status;
	(void)events;
	http_want_run(poll->data);
}

/* ---- life ---- */

static int read_tls(struct http *h, const struct http_config *config, struct err *e)
{
	if ((config->tls_cert_file == NULL) != (config->tls_key_file == NULL)) {
		return err_set(
		    e, ERR_INVALID, "TLS needs both a certificate and a key, only one was given");
	}
	if (config->tls_cert_file == NULL) {
		return 0;
	}
	if (MHD_is_feature_supported(MHD_FEATURE_TLS) != MHD_YES ||
	    MHD_is_feature_supported(MHD_FEATURE_HTTPS_CERT_CALLBACK) != MHD_YES) {
		return err_set(e, ERR_UNSUPPORTED, "this libmicrohttpd was built without TLS");
	}
	h->tls = tls_new(config->tls_cert_file, config->tls_key_file, e);
	return h->tls != NULL ? 0 : -1;
}

static void free_addresses(struct addrinfo **list)
{
	if (*list != NULL) {
		freeaddrinfo(*list);
	}
}

/* A listening socket on one address, or -errno. */
static int listen_at(const struct addrinfo *a)
{
	cleanup(fd_close) int fd = socket(
	    a->ai_family, a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, a->ai_protocol);
	int on = 1;
	int off = 0;
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    (a->ai_family == AF_INET6 &&
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) < 0) ||
	    bind(fd, a->ai_addr, a->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0) {
		return -errno;
	}
	return fd_take(&fd);
}

static uint16_t port_of(int fd)
{
	struct sockaddr_storage s;
	socklen_t len = sizeof(s);
	if (getsockname(fd, (struct sockaddr *)&s, &len) < 0) {
		return 0;
	}
	return s.ss_family == AF_INET6 ? ntohs(((struct sockaddr_in6 *)&s)->sin6_port)
				       : ntohs(((struct sockaddr_in *)&s)->sin_port);
}

static int bind_to(struct http *h, const struct http_config *config, struct err *e)
{
	const char *address = config->address != NULL ? config->address : "127.0.0.1";
	const struct addrinfo hints = {
	    .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
	cleanup(free_addresses) struct addrinfo *list = NULL;
	char port[8];
	(void)snprintf(port, sizeof(port), "%u", (unsigned)config->port);
	int gai = getaddrinfo(address, port, &hints, &list);
	if (gai != 0) {
		return err_set(
		    e, ERR_INVALID, "cannot listen on \"%s\": %s", address, gai_strerror(gai));
	}
	int fd = -EADDRNOTAVAIL;
	for (const struct addrinfo *a = list; a != NULL && fd < 0; a = a->ai_next) {
		fd = listen_at(a);
	}
	if (fd < 0) {
		return err_set_os(e, -fd, "cannot listen on %s port %s", address, port);
	}
	h->listen_fd = fd;
	h->port = port_of(fd);
	return 0;
}

/* Frees what is not a handle of the loop. */
static void destroy(struct http *h)
{
	fd_close(&h->listen_fd);
	tls_free(h->tls);
	router_free(h->router);
	quota_fini(&h->addresses);
	quota_fini(&h->admitted);
	quota_fini(&h->bodies);
	free(h->default_pool);
	free(h);
}

static void destroy_p(struct http **h)
{
	if (*h != NULL) {
		destroy(*h);
	}
}

static void init_handles(struct http *h)
{
	(void)uv_timer_init(h->loop, &h->timer);
	(void)uv_timer_init(h->loop, &h->hangup);
	(void)uv_timer_init(h->loop, &h->tick);
	(void)uv_prepare_init(h->loop, &h->prepare);
	(void)uv_check_init(h->loop, &h->check);
	h->timer.data = h;
	h->hangup.data = h;
	h->tick.data = h;
	h->prepare.data = h;
	h->check.data = h;
	h->handles = 6; /* these and the watch set */
}

struct http *http_new(uv_loop_t *loop, const struct http_config *config, struct err *e)
{
	cleanup(destroy_p) struct http *h = calloc(1, sizeof(*h));
	if (h == NULL) {
		(void)err_set(e, ERR_INTERNAL, "out of memory");
		return NULL;
	}
	h->loop = loop;
	h->listen_fd = -1;
	h->auth = config->auth;
	h->json_work = config->json_work;
	h->connections_max = config->connections_max != 0 ? config->connections_max
							  : CONNECTIONS_DEFAULT;
	h->connections_per_address = config->connections_per_address;
	if (config->trusted_proxies != NULL) {
		h->proxies = *config->trusted_proxies;
	}
	h->addresses = (struct quota)QUOTA_INIT(h->connections_max);
	h->admitted = (struct quota)QUOTA_INIT(h->connections_max);
	h->bodies = (struct quota)QUOTA_INIT(
	    config->bodies_max_bytes != 0 ? config->bodies_max_bytes : BODIES_DEFAULT_MAX_BYTES);
	h->idle_timeout_ms = config->idle_timeout_ms != 0 ? config->idle_timeout_ms
							  : IDLE_DEFAULT_MS;
	h->connection_memory_bytes = config->connection_memory_bytes != 0
					 ? config->connection_memory_bytes
					 : CONNECTION_MEMORY_DEFAULT_BYTES;
	link_init(&h->conns);
	link_init(&h->strangers);
	link_init(&h->idle);
	link_init(&h->calls);
	link_init(&h->waiting);
	h->router = router_new();
	h->default_pool = strdup(config->default_pool != NULL ? config->default_pool : "default");
	if (h->router == NULL || h->default_pool == NULL) {
		(void)err_set(e, ERR_INTERNAL, "out of memory");
		return NULL;
	}
	if (read_tls(h, config, e) < 0 || bind_to(h, config, e) < 0) {
		return NULL;
	}
	int err = watch_set_init(&h->watches, loop);
	if (err < 0) {
		(void)err_set_os(e, -err, "cannot make an epoll set");
		return NULL;
	}
	linger_init(&h->linger, &h->watches);
	init_handles(h);
	return steal(&h);
}

/* Keeps what libmicrohttpd says while it starts: the only way to learn why it does not. Later its
 * messages are dropped, since they have paths in them, and paths have identifiers; but for one,
 * before which it closes a connection. */
static void on_message(void *http, const char *fmt, va_list args)
{
	struct http *h = http;
	h->watch_failed |= errno == ENOSPC && strstr(fmt, "epoll_ctl") != NULL;
	if (h->starting && h->start_reason[0] == '\0') {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
		(void)vsnprintf(h->start_reason, sizeof(h->start_reason), fmt, args);
#pragma GCC diagnostic pop
		h->start_reason[strcspn(h->start_reason, "\n")] = '\0';
	}
}

/* Paths and queries are decoded by us, after they are cut up. */
static size_t leave_escaped(void *cls, struct MHD_Connection *mhd, char *text)
{
	(void)cls;
	(void)mhd;
	return strlen(text);
}

static struct MHD_Daemon *start_daemon(struct http *h)
{
	unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
	struct MHD_OptionItem tls[] = {
	    {MHD_OPTION_HTTPS_CERT_CALLBACK, 0, (void *)(uintptr_t)tls_retrieve},
	    {MHD_OPTION_HTTPS_PRIORITIES, 0, (void *)(uintptr_t)TLS_PRIORITIES},
	    {MHD_OPTION_END, 0, NULL},
	};
	if (h->tls != NULL) {
		flags |= MHD_USE_TLS;
	} else {
		tls[0] = (struct MHD_OptionItem){MHD_OPTION_END, 0, NULL};
	}
	unsigned idle_s = (h->idle_timeout_ms + 999) / 1000;
	h->libmicrohttpd_0 = strncmp(MHD_get_version(), "0.", 2) == 0;
	return MHD_start_daemon(flags, 0, NULL, NULL, exchange_access, h,
	    MHD_OPTION_EXTERNAL_LOGGER, on_message, h, MHD_OPTION_ARRAY, tls,
	    MHD_OPTION_LISTEN_SOCKET, h->listen_fd, MHD_OPTION_CONNECTION_LIMIT,
	    h->connections_max + CONNECTIONS_LEAVING_MAX, MHD_OPTION_STRICT_FOR_CLIENT,
	    h->libmicrohttpd_0 ? 0 : 1, MHD_OPTION_URI_LOG_CALLBACK, exchange_target, h,
	    MHD_OPTION_CONNECTION_TIMEOUT, idle_s, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
	    h->connection_memory_bytes, MHD_OPTION_NOTIFY_COMPLETED, exchange_completed, h,
	    MHD_OPTION_NOTIFY_CONNECTION, conn_notify, h, MHD_OPTION_UNESCAPE_CALLBACK,
	    leave_escaped, NULL, MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_END);
}

int http_start(struct http *h, struct err *e)
{
	const struct sigaction ignore = {.sa_handler = SIG_IGN};
	(void)sigaction(SIGPIPE, &ignore, NULL);
	h->starting = true;
	h->daemon = start_daemon(h);
	h->starting = false;
	if (h->daemon == NULL) {
		return err_set(e, ERR_INTERNAL, "the HTTP server does not start: %s",
		    h->start_reason[0] != '\0' ? h->start_reason : "no reason given");
	}
	h->listen_fd = -1;
	const union MHD_DaemonInfo *info = MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_EPOLL_FD);
	int err = info == NULL ? -ENOTSUP : uv_poll_init(h->loop, &h->poll, info->epoll_fd);
	if (err < 0) {
		return err_set_os(e, -err, "cannot watch the HTTP server");
	}
	h->handles++;
	h->poll.data = h;
	(void)uv_poll_start(&h->poll, UV_READABLE, on_poll);
	(void)uv_prepare_start(&h->prepare, on_prepare);
	(void)uv_check_start(&h->check, on_check);
	http_want_run(h); /* it puts the listening socket into its set when it is run */
	return 0;
}

int http_add_routes(struct http *h, const struct route *routes, size_t count, void *app)
{
	return router_add(h->router, routes, count, app);
}

int http_reload_tls(struct http *h, const char *cert_file, const char *key_file, struct err *e)
{
	return tls_reload(h->tls, cert_file, key_file, e);
}

void http_set_default_error(
    struct http *h, void (*fn)(struct call *c, int status, const struct err *e))
{
	h->default_error = fn;
}

uint16_t http_port(const struct http *h)
{
	return h->port;
}

void http_stop_listening(struct http *h)
{
	h->draining = true;
	if (h->daemon == NULL) {
		fd_close(&h->listen_fd);
		return;
	}
	int fd = MHD_quiesce_daemon(h->daemon);
	fd_close(&fd);
	http_want_run(h);
}

unsigned http_open_calls(const struct http *h)
{
	return h->open_calls;
}

unsigned http_connections(const struct http *h)
{
	return h->conn_count;
}

size_t http_bodies_bytes(const struct http *h)
{
	return h->bodies.held;
}

static void handle_gone(struct http *h)
{
	if (--h->handles == 0) {
		destroy(h);
	}
}

static void on_handle_closed(uv_handle_t *handle)
{
	handle_gone(handle->data);
}

static void on_watches_closed(struct watch_set *s)
{
	handle_gone(container_of(s, struct http, watches));
}

static void stop_daemon(struct http *h)
{
	/* libmicrohttpd aborts when it is stopped with suspended connections. */
	while (h->calls.next != &h->calls) {
		struct exchange *x = container_of(h->calls.next, struct exchange, link);
		link_remove(&x->link);
		exchange_hung_up(x);
	}
	if (h->handles > 6) {
		(void)uv_poll_stop(&h->poll); /* before its descriptor is closed */
	}
	MHD_stop_daemon(h->daemon);
	h->daemon = NULL;
}

void http_free(struct http *h)
{
	if (h == NULL) {
		return;
	}
	h->freeing = true;
	bool polls = h->handles > 6;
	if (h->daemon != NULL) {
		stop_daemon(h);
	}
	linger_fini(&h->linger);
	if (polls) {
		uv_close((uv_handle_t *)&h->poll, on_handle_closed);
	}
	uv_close((uv_handle_t *)&h->timer, on_handle_closed);
	uv_close((uv_handle_t *)&h->hangup, on_handle_closed);
	uv_close((uv_handle_t *)&h->tick, on_handle_closed);
	uv_close((uv_handle_t *)&h->prepare, on_handle_closed);
	uv_close((uv_handle_t *)&h->check, on_handle_closed);
	watch_set_close(&h->watches, on_watches_closed);
}
