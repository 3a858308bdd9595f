/* carrel serve: the gateway process, from its configuration to its orderly end. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <uv.h>

#include "base/clock.h"
#include "base/log.h"
#include "cli/command.h"
#include "cli/options.h"
#include "cli/server.h"
#include "gateway/seal.h"

#define DRAIN_CHECK_MS 20
#define AUDIT_HEAD_MS 60000

/* --- command line
 * --------------------------------------------------------------------------------- */

static int parse_flags(int argc, char **argv, struct config_flags *f, struct err *e)
{
	const struct option_entry own[] = {
	    {.name = "config", .letter = 'c', .text = &f->config_file},
	    {.name = "listen", .text = &f->listen},
	    {.name = "data-dir", .text = &f->data_dir},
	    {.name = "isolation", .text = &f->isolation},
	    {.name = "tls-cert", .text = &f->tls_cert},
	    {.name = "tls-key", .text = &f->tls_key},
	    {.name = "stop-at-eof", .flag = &f->stop_at_eof},
	};
	int first = options_parse_own(argc, argv, own, array_len(own), e);
	if (first >= 0 && first < argc) {
		first = err_set(e, ERR_INVALID, "'%s' is one word too many", argv[first]);
	}
	return first < 0 ? -1 : 0;
}

/* --- while it runs
 * -------------------------------------------------------------------------------- */

/* Whoever keeps the log can tell when the end of the trail was cut off. */
static void audit_head_told(void *ctx, const json_t *answer, const struct err *e)
{
	struct server *s = ctx;
	int64_t seq = json_integer_value(json_object_get(answer, "seq"));
	if (e == NULL && seq != s->audit_seq) {
		s->audit_seq = seq;
		log_event(LOG_LEVEL_INFO, "audit_head", LOG_INT("seq", seq),
		    LOG_STR("hash", json_string_value(json_object_get(answer, "hash"))));
	}
}

static void on_audit_timer(uv_timer_t *timer)
{
	struct server *s = timer->data;
	if (s->approvals != NULL) {
		(void)approvals_audit_head(s->approvals, audit_head_told, s);
	}
}

static void on_beat_timer(uv_timer_t *timer)
{
	struct server *s = timer->data;
	appr_beat(s->api.appr);
}

static void stop(struct server *s, int exit_status)
{
	s->exit_status = exit_status;
	uv_stop(&s->loop);
}

static int copy_packages(struct server *s, const struct ipc_keeper_ready *ready)
{
	s->python_version = strdup(ready->python_version);
	s->packages = calloc(ready->package_count + 1, sizeof(*s->packages));
	if (s->python_version == NULL || s->packages == NULL) {
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < ready->package_count; i++) {
		s->packages[i].name = strdup(ready->packages[i].name);
		s->packages[i].version = strdup(ready->packages[i].version);
		if (s->packages[i].name == NULL || s->packages[i].version == NULL) {
			return -ENOMEM;
		}
	}
	s->api.python_version = s->python_version;
	s->api.packages = s->packages;
	s->api.package_count = ready->package_count;
	return 0;
}

static void keeper_told(void *ctx, const struct ipc_keeper_ready *ready, const struct err *e)
{
	struct server *s = ctx;
	if (e != NULL) {
		log_event(LOG_LEVEL_ERROR, "server_failed", LOG_STR("reason", e->text));
		stop(s, CLI_EXIT_SERVER);
		return;
	}
	if (copy_packages(s, ready) < 0) {
		log_event(LOG_LEVEL_ERROR, "server_failed", LOG_STR("reason", "out of memory"));
		stop(s, CLI_EXIT_SERVER);
		return;
	}
	if (*ready->warning != '\0') {
		log_event(
		    LOG_LEVEL_WARNING, "preload_incomplete", LOG_STR("missing", ready->warning));
	}
	if (s->codemode != NULL) {
		codemode_warm(s->codemode);
		server_find_deps(s, &s->config);
	}
	if (s->approvals != NULL) {
		approvals_start(s->approvals);
	}
	log_event(LOG_LEVEL_INFO, "keeper_ready", LOG_STR("python", ready->python_version),
	    LOG_INT("ms", clock_mono_ms() - s->started_ms));
}

static void on_drain_timer(uv_timer_t *timer)
{
	struct server *s = timer->data;
	bool idle = engine_active_executions(s->api.engine) == 0 && http_open_calls(s->http) == 0;
	if (idle || clock_mono_ms() >= s->drain_until_ms) {
		log_event(LOG_LEVEL_INFO, "drained", LOG_INT("clean", idle));
		stop(s, CLI_EXIT_OK);
	}
}

/* SIGNAL_NUMBER: 0 for the end of stdin. */
static void drain(struct server *s, int signal_number)
{
	log_event(LOG_LEVEL_INFO, "draining", LOG_INT("signal", signal_number),
	    LOG_INT("executions", engine_active_executions(s->api.engine)));
	s->drain_until_ms = clock_mono_ms() + s->config.drain_ms;
	engine_drain(s->api.engine);
	appr_drain(s->api.appr);
	if (s->approvals != NULL) {
		approvals_drain(s->approvals);
		approvals_audit(s->approvals, "server", "server.stop", CARREL_VERSION, "ok", NULL);
	}
	http_stop_listening(s->http);
	(void)uv_timer_start(&s->drain_timer, on_drain_timer, 0, DRAIN_CHECK_MS);
}

/* The first signal drains, a second one stops at once. */
static void on_signal(uv_signal_t *handle, int signal_number)
{
	struct server *s = handle->data;
	if (s->drain_until_ms != 0) {
		stop(s, CLI_EXIT_OK);
		return;
	}
	drain(s, signal_number);
}

static void on_hang_up(uv_signal_t *handle, int signal_number)
{
	(void)signal_number;
	struct server *s = handle->data;
	if (s->drain_until_ms == 0) {
		server_reload(s);
	}
}

/* What comes on stdin is of no interest, only its end: whoever held the other end is gone. */
static void on_stdin(uv_poll_t *handle, int status, int events)
{
	(void)status;
	(void)events;
	struct server *s = handle->data;
	char ignored[256];
	ssize_t n = read(STDIN_FILENO, ignored, sizeof(ignored));
	if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR))) {
		return;
	}
	(void)uv_poll_stop(handle);
	if (s->drain_until_ms == 0) {
		drain(s, 0);
	}
}

/* A child that its starter's death must end. PR_SET_PDEATHSIG would not do: the kernel forgets it
 * when the user is changed, and it tells of the starter's thread, not of its process. */
static int watch_stdin(struct server *s, struct err *e)
{
	if (!s->stop_at_eof) {
		return 0;
	}
	int r = uv_poll_init(&s->loop, &s->on_stdin, STDIN_FILENO);
	if (r < 0) {
		return err_set(
		    e, ERR_INVALID, "--stop-at-eof: stdin is no pipe, socket or terminal");
	}
	s->on_stdin.data = s;
	(void)uv_poll_start(&s->on_stdin, UV_READABLE | UV_DISCONNECT, on_stdin);
	return 0;
}

static void watch_signals(struct server *s)
{
	(void)uv_signal_init(&s->loop, &s->on_term);
	(void)uv_signal_init(&s->loop, &s->on_int);
	(void)uv_timer_init(&s->loop, &s->drain_timer);
	(void)uv_timer_init(&s->loop, &s->beat_timer);
	(void)uv_timer_init(&s->loop, &s->audit_timer);
	(void)uv_signal_init(&s->loop, &s->on_hup);
	s->on_term.data = s->on_int.data = s->on_hup.data = s->drain_timer.data = s;
	s->beat_timer.data = s->audit_timer.data = s;
	(void)uv_timer_start(&s->beat_timer, on_beat_timer, APPR_BEAT_MS, APPR_BEAT_MS);
	(void)uv_timer_start(&s->audit_timer, on_audit_timer, AUDIT_HEAD_MS, AUDIT_HEAD_MS);
	(void)uv_signal_start(&s->on_term, on_signal, SIGTERM);
	(void)uv_signal_start(&s->on_int, on_signal, SIGINT);
	(void)uv_signal_start(&s->on_hup, on_hang_up, SIGHUP);
}

/* --- start
 * ---------------------------------------------------------------------------------------- */

/* Four descriptors a session, and one a connection. */
static void raise_descriptor_limit(void)
{
	struct rlimit r;
	if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
		r.rlim_cur = r.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &r);
	}
}

static int start(struct server *s, struct err *e)
{
	if (config_check_serve(&s->config, e) < 0) {
		return -1;
	}
	if (geteuid() == 0) {
		if (seal_find_user(s->config.user, &s->uid, &s->gid, e) < 0) {
			return -1;
		}
	} else {
		s->uid = geteuid();
		s->gid = getegid();
	}
	raise_descriptor_limit();
	if (server_prepare_dirs(s, e) < 0 || server_prepare_packages_dir(s, e) < 0 ||
	    server_make_auth(s, e) < 0 || server_make_dialects(s, e) < 0 ||
	    server_make_http(s, e) < 0 || server_make_gateway(s, keeper_told, e) < 0 ||
	    server_start_runner(s, e) < 0) {
		return -1;
	}
	watch_signals(s);
	if (watch_stdin(s, e) < 0) {
		return -1;
	}
	/* drop */
	if (seal_drop_privileges(s->uid, s->gid, e) < 0) {
		return -1;
	}
	/* serve, and seal */
	if (server_make_store(s, e) < 0 || server_make_approvals(s, e) < 0 ||
	    server_make_codemode(s, e) < 0) {
		return -1;
	}
	config_forget_secrets(&s->config);
	if (http_start(s->http, e) < 0) {
		return -1;
	}
	server_check_reload(s);
	return seal_system_calls(s->connects, e);
}

static void release(struct server *s)
{
	http_free(s->http);
	json_work_settle(s->json_work); /* they are executions */
	if (s->on_term.data != NULL) {  /* watch_signals */
		/* Not closed: that would give the signals back their default action, and one that
		 * comes while the server clears up would kill it. */
		uv_unref((uv_handle_t *)&s->on_term);
		uv_unref((uv_handle_t *)&s->on_int);
		uv_unref((uv_handle_t *)&s->on_hup);
		uv_close((uv_handle_t *)&s->drain_timer, NULL);
		uv_close((uv_handle_t *)&s->beat_timer, NULL);
		uv_close((uv_handle_t *)&s->audit_timer, NULL);
		if (s->on_stdin.data != NULL) {
			uv_close((uv_handle_t *)&s->on_stdin, NULL);
		}
	}
	codemode_stop(s->codemode);
	approvals_stop(s->approvals);
	gateway_free(s->gateway);
	codemode_free(s->codemode);
	json_work_free(s->json_work);
	approvals_free(s->approvals);
	runner_link_stop(s->runner);
	store_free(s->store);
	json_decref(s->first_tools);
	(void)uv_run(&s->loop, UV_RUN_DEFAULT);
	auth_free(s->auth);
	pcm_free(s->api.pcm);
	appr_free(s->api.appr);
	for (size_t i = 0; i < s->api.package_count; i++) {
		free((void *)(uintptr_t)s->packages[i].name);
		free((void *)(uintptr_t)s->packages[i].version);
	}
	free(s->packages);
	free(s->python_version);
	buf_fini(&s->packages_dir);
	config_fini(&s->config);
}

int cmd_serve(int argc, char **argv)
{
	static struct server s;
	struct config_flags flags = {0};
	struct err e = {0};
	log_set_process("gateway");
	if (parse_flags(argc, argv, &flags, &e) < 0) {
		return command_usage_error("serve", &e);
	}
	s.started_ms = clock_mono_ms();
	s.stop_at_eof = flags.stop_at_eof;
	s.flags = flags;
	if (config_load(&s.config, &flags, &e) < 0) {
		(void)fprintf(stderr, "carrel serve: %s\n", e.text);
		return CLI_EXIT_USAGE;
	}
	/* Until it is a request to read the configuration again. */
	const struct sigaction ignore = {.sa_handler = SIG_IGN};
	(void)sigaction(SIGHUP, &ignore, NULL);
	if (seal_refuse_io_uring(&e) < 0 || uv_loop_init(&s.loop) < 0) {
		(void)fprintf(stderr, "carrel serve: no event loop: %s\n", e.text);
		return CLI_EXIT_SERVER;
	}
	if (start(&s, &e) < 0) {
		(void)fprintf(stderr, "carrel serve: %s\n", e.text);
		release(&s);
		return e.code == ERR_INVALID || e.code == ERR_DENIED ? CLI_EXIT_USAGE
								     : CLI_EXIT_SERVER;
	}
	log_event(LOG_LEVEL_INFO, "listening", LOG_STR("address", s.config.host),
	    LOG_INT("port", http_port(s.http)));
	(void)uv_run(&s.loop, UV_RUN_DEFAULT);
	release(&s);
	log_event(LOG_LEVEL_INFO, "stopped");
	return s.exit_status;
}
