#include "store/redis_tls.h"

#include <arpa/inet.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

#define PIECE_BYTES 16384 /* a record of TLS */

struct redis_tls {
	const struct redis_url *url;
	SSL_CTX *context;
};

struct redis_tls_stream {
	SSL *ssl;
	BIO *in;  /* from the network; the SSL's */
	BIO *out; /* to the network; the SSL's */
};

/* OpenSSL's own words for the newest of its errors. Empties its queue. */
static int tls_error(struct err *e, enum err_code code, const char *what)
{
	char text[200] = "";
	unsigned long newest = ERR_peek_last_error();
	const char *reason = ERR_reason_error_string(newest);
	if (reason == NULL && newest != 0) {
		ERR_error_string_n(newest, text, sizeof(text));
		reason = text;
	}
	ERR_clear_error();
	return err_set(
	    e, code, "%s%s%s", what, reason != NULL ? ": " : "", reason != NULL ? reason : "");
}

static int trust(struct redis_tls *t, const char *ca_file, struct err *e)
{
	if (!t->url->verify) {
		SSL_CTX_set_verify(t->context, SSL_VERIFY_NONE, NULL);
		return 0;
	}
	SSL_CTX_set_verify(t->context, SSL_VERIFY_PEER, NULL);
	const char *file = ca_file != NULL ? ca_file : t->url->ca_file;
	if (file == NULL) {
		return SSL_CTX_set_default_verify_paths(t->context) == 1
			   ? 0
			   : tls_error(e, ERR_INTERNAL, "the system's certificates");
	}
	if (SSL_CTX_load_verify_locations(t->context, file, NULL) != 1) {
		(void)tls_error(e, ERR_INVALID, "no certificates could be read");
		return err_prefix(e, "%s", file);
	}
	return 0;
}

struct redis_tls *redis_tls_new(const struct redis_url *u, const char *ca_file, struct err *e)
{
	struct redis_tls *t = calloc(1, sizeof(*t));
	if (t == NULL || (t->context = SSL_CTX_new(TLS_client_method())) == NULL) {
		free(t);
		(void)tls_error(e, ERR_INTERNAL, "TLS");
		return NULL;
	}
	t->url = u;
	(void)SSL_CTX_set_min_proto_version(t->context, TLS1_2_VERSION);
	(void)SSL_CTX_set_mode(t->context, SSL_MODE_RELEASE_BUFFERS);
	if (trust(t, ca_file, e) < 0) {
		redis_tls_free(t);
		return NULL;
	}
	return t;
}

void redis_tls_free(struct redis_tls *t)
{
	if (t != NULL) {
		SSL_CTX_free(t->context);
		free(t);
	}
}

static bool is_address(const char *host)
{
	unsigned char bytes[sizeof(struct in6_addr)];
	return inet_pton(AF_INET, host, bytes) == 1 || inet_pton(AF_INET6, host, bytes) == 1;
}

/* Whom the certificate must be of. An address is not sent as a server name (RFC 6066, 3). */
static bool name_peer(SSL *ssl, const struct redis_url *u)
{
	if (is_address(u->host)) {
		return !u->verify_host ||
		       X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), u->host) == 1;
	}
	return SSL_set_tlsext_host_name(ssl, u->host) == 1 &&
	       (!u->verify_host || SSL_set1_host(ssl, u->host) == 1);
}

struct redis_tls_stream *redis_tls_stream_new(struct redis_tls *t)
{
	struct redis_tls_stream *s = calloc(1, sizeof(*s));
	SSL *ssl = SSL_new(t->context);
	BIO *in = BIO_new(BIO_s_mem());
	BIO *out = BIO_new(BIO_s_mem());
	if (s == NULL || ssl == NULL || in == NULL || out == NULL || !name_peer(ssl, t->url)) {
		free(s);
		SSL_free(ssl);
		(void)BIO_free(in);
		(void)BIO_free(out);
		ERR_clear_error();
		return NULL;
	}
	SSL_set_bio(ssl, in, out);
	SSL_set_connect_state(ssl);
	*s = (struct redis_tls_stream){.ssl = ssl, .in = in, .out = out};
	return s;
}

void redis_tls_stream_free(struct redis_tls_stream *s)
{
	if (s != NULL) {
		SSL_free(s->ssl);
		free(s);
	}
}

static int ssl_failure(struct redis_tls_stream *s, struct err *e)
{
	long verified = SSL_get_verify_result(s->ssl);
	if (verified != X509_V_OK && SSL_get_verify_mode(s->ssl) != SSL_VERIFY_NONE) {
		ERR_clear_error();
		return err_set(e, ERR_UNAVAILABLE, "its certificate is refused: %s",
		    X509_verify_cert_error_string(verified));
	}
	return tls_error(e, ERR_UNAVAILABLE, "TLS");
}

/* What a call of OpenSSL's that did not succeed means: 0 wait for more, -1 with E. */
static int judge(struct redis_tls_stream *s, int result, struct err *e)
{
	switch (SSL_get_error(s->ssl, result)) {
	case SSL_ERROR_NONE:
	case SSL_ERROR_WANT_READ:
	case SSL_ERROR_WANT_WRITE:
		return 0;
	case SSL_ERROR_ZERO_RETURN:
		return err_set(e, ERR_UNAVAILABLE, "the connection was closed");
	default:
		return ssl_failure(s, e);
	}
}

static int drain(struct redis_tls_stream *s, struct buf *wire, struct err *e)
{
	char *bytes;
	long len = BIO_get_mem_data(s->out, &bytes);
	if (len > 0) {
		if (buf_add(wire, bytes, (size_t)len) < 0) {
			return err_set(e, ERR_UNAVAILABLE, "too much waits to be sent");
		}
		(void)BIO_reset(s->out);
	}
	return 0;
}

static int read_plain(struct redis_tls_stream *s, struct buf *plain, struct err *e)
{
	for (;;) {
		char *to = buf_reserve(plain, PIECE_BYTES);
		if (to == NULL) {
			return err_set(e, ERR_UNAVAILABLE, "too much came at once");
		}
		int n = SSL_read(s->ssl, to, PIECE_BYTES);
		if (n <= 0) {
			return judge(s, n, e);
		}
		buf_grew(plain, (size_t)n);
	}
}

int redis_tls_take(struct redis_tls_stream *s, const char *bytes, size_t len, struct buf *plain,
    struct buf *wire, struct err *e)
{
	ERR_clear_error();
	if (len > INT_MAX || (len > 0 && BIO_write(s->in, bytes, (int)len) != (int)len)) {
		return err_set(e, ERR_UNAVAILABLE, "too much came at once");
	}
	int r = 0;
	if (!redis_tls_is_ready(s)) {
		int done = SSL_do_handshake(s->ssl);
		r = done == 1 ? 0 : judge(s, done, e);
	}
	if (r == 0 && redis_tls_is_ready(s)) {
		r = read_plain(s, plain, e);
	}
	/* Also when it failed: the peer is told why. */
	struct err ignored;
	return drain(s, wire, r < 0 ? &ignored : e) < 0 ? -1 : r;
}

bool redis_tls_is_ready(const struct redis_tls_stream *s)
{
	return SSL_is_init_finished(s->ssl) == 1;
}

int redis_tls_put(
    struct redis_tls_stream *s, const char *plain, size_t len, struct buf *wire, struct err *e)
{
	ERR_clear_error();
	while (len > 0) {
		int piece = len < PIECE_BYTES ? (int)len : PIECE_BYTES;
		int n = SSL_write(s->ssl, plain, piece);
		if (n <= 0) {
			return ssl_failure(s, e);
		}
		plain += n;
		len -= (size_t)n;
		if (drain(s, wire, e) < 0) {
			return -1;
		}
	}
	return 0;
}
