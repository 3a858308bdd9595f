/* server: what `carrel serve` consists of, and how its parts are made. */
#ifndef CLI_SERVER_H
#define CLI_SERVER_H

#include <uv.h>

#include "api/api.h"
#include "approvals/approvals.h"
#include "cli/config.h"
#include "codemode/codemode.h"
#include "gateway/gateway.h"
#include "http/server.h"

struct server {
	struct config config;
	struct config_flags flags; /* the configuration is read again with them */
	struct buf packages_dir;
	uv_loop_t loop;
	struct auth *auth;
	struct json_work *json_work;
	struct http *http;
	struct gateway *gateway;
	struct store *store;
	struct runner_link *runner; /* NULL: no tools */
	json_t *first_tools;        /* [tools, problems] told before there was a codemode */
	struct codemode *codemode;
	struct approvals *approvals; /* NULL: none are kept */
	int64_t audit_seq;           /* the head of the trail that was told last */
	bool connects;               /* the store or the database is on the network */
	struct api api;
	uid_t uid;
	gid_t gid;

	/* Copied from KEEPER_READY, for GET metadata. */
	char *python_version;
	struct ipc_package *packages;

	uv_signal_t on_term;
	uv_signal_t on_int;
	uv_signal_t on_hup;
	uv_poll_t on_stdin; /* only with --stop-at-eof */
	uv_timer_t drain_timer;
	uv_timer_t beat_timer; /* of streams of events */
	uv_timer_t audit_timer;
	uint64_t drain_until_ms; /* 0: not draining */
	uint64_t started_ms;
	bool stop_at_eof;
	int exit_status;
};

/* --- server_dirs.c: as root they become the server's user's --- */

/* Whether the server's user UID can have DIR as its data directory; -1 with E, which says whose it
 * is and how to mend it. What is not there yet can be made. */
int server_check_data_dir(const char *dir, uid_t uid, struct err *e);

/* The data directory and those of the store. */
int server_prepare_dirs(struct server *s, struct err *e);
/* Where packages are installed and sessions get them from. */
int server_prepare_packages_dir(struct server *s, struct err *e);

/* --- server_reload.c --- */

/* SIGHUP: takes what has changed of tokens, certificate and pools' limits, and logs the rest. What
 * is wrong is logged, and nothing has changed. */
void server_reload(struct server *s);
/* Warns of files that the server's user could not read again. After privileges are dropped. */
void server_check_reload(const struct server *s);

/* --- server_parts.c: each needs the ones before it. -1 with E, which names what is wrong --- */

int server_make_auth(struct server *s, struct err *e);
/* The tokens of C, which are forgotten, to A. */
int server_add_tokens(struct auth *a, struct config *c, struct err *e);
/* Finds the packages of each tenant that has a token in C, and of the server itself. */
void server_find_deps(struct server *s, const struct config *c);
int server_make_dialects(struct server *s, struct err *e);
int server_make_http(struct server *s, struct err *e);
/* TOLD is called with the server as its context. */
int server_make_gateway(struct server *s, gateway_keeper_fn told, struct err *e);
/* Without a runner there are no tools and no packages are installed, and nothing else is missing.
 */
int server_start_runner(struct server *s, struct err *e);
/* These three as the server's own user. */
int server_make_store(struct server *s, struct err *e);
int server_make_approvals(struct server *s, struct err *e);
/* The one who answers with the store and the runner. */
int server_make_codemode(struct server *s, struct err *e);

#endif
