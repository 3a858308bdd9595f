/*
 * redis_url: where a Redis is and how to enter it, from one text.
 *
 *     redis://[[user]:password@]host[:port][/db][?OPTION=VALUE&...]
 *     rediss://...                       the same over TLS
 *     unix://[[user]:password@]/path[?db=N]
 *     [[user]:password@]host:port[/db]?ssl=true      without a scheme
 *
 * Options: ssl (true or false), db, ssl_cert_reqs (none: the certificate is not checked),
 * ssl_ca_certs (a file), ssl_check_hostname. User, password, path and options may be %-encoded.
 * Sources: the "redis" and "rediss" schemes as IANA registered them, redis-py's from_url for the
 * options, and the form that Azure's portal shows (...:6380?ssl=true).
 *
 * Invariant: neither an error nor the description holds any part of user or password.
 */
#ifndef STORE_REDIS_URL_H
#define STORE_REDIS_URL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define REDIS_URL_MAX_BYTES 4096
#define REDIS_DEFAULT_PORT 6379

struct redis_url {
	char *host; /* without the brackets of an IPv6 address; NULL with unix:// */
	char *path; /* of a Unix socket, else NULL */
	uint16_t port;
	bool tls;
	bool verify;      /* the server's certificate, with TLS */
	bool verify_host; /* and that it is of this host */
	char *ca_file;    /* NULL: not given */
	char *user;       /* NULL: none */
	char *password;   /* NULL: none */
	uint32_t db;
	char *description; /* the URL without user, password and options */
};

/* Reads TEXT into *U, which the caller gives to redis_url_fini. 0, or -1 with ERR_INVALID; U is
 * then empty. */
int redis_url_parse(const char *text, struct redis_url *u, struct err *e);

/* True for what redis_url_parse is meant for: a scheme of the above. */
bool redis_url_has_scheme(const char *text);

/* Wipes the password. NULL is allowed. */
void redis_url_fini(struct redis_url *u);

#endif
