/*
 * redis_server: a redis-server of a test's own, on a port nobody else has, which it may kill and
 * start again in the middle. It keeps nothing when it is killed.
 */
#ifndef REDIS_SERVER_H
#define REDIS_SERVER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct redis_server {
	char dir[64]; /* its files; with TLS, cert.pem, of "localhost" alone, and key.pem */
	uint16_t port;
	bool tls;
	const char *password; /* NULL: none */
	pid_t pid;            /* 0: not running */
	char url[256];
	char socket[96]; /* a Unix socket it listens on too */
};

/* Makes the directory, and with TLS the certificate; starts it. */
void redis_server_begin(struct redis_server *s, bool tls, const char *password);
void redis_server_start(struct redis_server *s);
void redis_server_kill(struct redis_server *s);
/* Stops it where it is, without ending it, or lets it go on. */
void redis_server_freeze(struct redis_server *s, bool frozen);
/* Kills it and removes what it had. */
void redis_server_end(struct redis_server *s);

/* Runs redis-cli with WORDS (NULL at the end) against it, and returns what it printed, without the
 * line end; to be freed. */
char *redis_server_ask(const struct redis_server *s, const char *const *words);
#define ASK(s, ...) redis_server_ask((s), (const char *const[]){__VA_ARGS__, NULL})
#define TELL(s, ...) free(ASK(s, __VA_ARGS__))

#endif
