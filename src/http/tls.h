/*
 * tls: the certificate that connections are answered with, which may be replaced while the server
 * runs: handshakes that have begun go on with the one they saw.
 */
#ifndef HTTP_TLS_H
#define HTTP_TLS_H

#include <gnutls/abstract.h>

#include "base/err.h"

struct tls;

/* Reads the PEM files: a certificate with those it was issued by behind it, and its key. NULL with
 * *E, which names the file at fault. */
struct tls *tls_new(const char *cert_file, const char *key_file, struct err *e);
void tls_free(struct tls *t);

/* Takes what is in these files from now on. 0, or -1 with *E and T as it was. */
int tls_reload(struct tls *t, const char *cert_file, const char *key_file, struct err *e);

/* gnutls_certificate_retrieve_function2, for libmicrohttpd, which has no argument to tell servers
 * apart: answers with the one that tls_new made last in this process. */
int tls_retrieve(gnutls_session_t session, const gnutls_datum_t *names, int name_count,
    const gnutls_pk_algorithm_t *algorithms, int algorithm_count, gnutls_pcert_st **certs,
    unsigned *cert_count, gnutls_privkey_t *key);

#endif
