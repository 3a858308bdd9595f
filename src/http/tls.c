#include "http/tls.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"

#define FILE_MAX_BYTES (1U << 20)
#define CHAIN_MAX 16
/* No handshake lasts so long: a silent connection is closed well before. */
#define RETIRED_MS 600000

struct pair {
	struct pair *next; /* the one before it */
	gnutls_pcert_st certs[CHAIN_MAX];
	unsigned count;
	gnutls_privkey_t key;
	uint64_t retired_ms;
};

struct tls {
	struct pair *pairs; /* the first is answered with */
};

static struct tls *serving;

static void pair_free(struct pair *p)
{
	for (unsigned i = 0; i < p->count; i++) {
		gnutls_pcert_deinit(&p->certs[i]);
	}
	if (p->key != NULL) {
		gnutls_privkey_deinit(p->key);
	}
	free(p);
}

static void pair_free_p(struct pair **p)
{
	if (*p != NULL) {
		pair_free(*p);
	}
}

static void pem_fini(struct buf *pem)
{
	if (pem->data != NULL) {
		OPENSSL_cleanse(pem->data, pem->alloc);
	}
	buf_fini(pem);
}

static int read_pem(const char *path, struct buf *out, gnutls_datum_t *datum, struct err *e)
{
	int r = fd_read_file(AT_FDCWD, path, out);
	if (r < 0) {
		return err_set_os(e, -r, "cannot read the TLS file %s", path);
	}
	*datum = (gnutls_datum_t){.data = (unsigned char *)out->data, .size = (unsigned)out->len};
	return 0;
}

static void pubkey_deinit(gnutls_pubkey_t *key)
{
	if (*key != NULL) {
		gnutls_pubkey_deinit(*key);
	}
}

/* Whether KEY is the one that CERT speaks of. */
static bool fits(gnutls_privkey_t key, const gnutls_pcert_st *cert)
{
	unsigned char ids[2][32];
	size_t sizes[2] = {sizeof(ids[0]), sizeof(ids[1])};
	cleanup(pubkey_deinit) gnutls_pubkey_t own = NULL;
	return gnutls_pubkey_init(&own) == 0 && gnutls_pubkey_import_privkey(own, key, 0, 0) == 0 &&
	       gnutls_pubkey_get_key_id(own, GNUTLS_KEYID_USE_SHA256, ids[0], &sizes[0]) == 0 &&
	       gnutls_pubkey_get_key_id(cert->pubkey, GNUTLS_KEYID_USE_SHA256, ids[1], &sizes[1]) ==
		   0 &&
	       sizes[0] == sizes[1] && memcmp(ids[0], ids[1], sizes[0]) == 0;
}

static struct pair *pair_read(const char *cert_file, const char *key_file, struct err *e)
{
	cleanup(pem_fini) struct buf cert = BUF_INIT(FILE_MAX_BYTES);
	cleanup(pem_fini) struct buf key = BUF_INIT(FILE_MAX_BYTES);
	gnutls_datum_t cert_pem;
	gnutls_datum_t key_pem;
	if (read_pem(cert_file, &cert, &cert_pem, e) < 0 ||
	    read_pem(key_file, &key, &key_pem, e) < 0) {
		return NULL;
	}
	cleanup(pair_free_p) struct pair *p = calloc(1, sizeof(*p));
	if (p == NULL) {
		(void)err_set(e, ERR_INTERNAL, "out of memory");
		return NULL;
	}
	unsigned count = CHAIN_MAX;
	int r = gnutls_pcert_list_import_x509_raw(
	    p->certs, &count, &cert_pem, GNUTLS_X509_FMT_PEM, 0);
	if (r < 0 || count == 0) {
		(void)err_set(e, ERR_INVALID, "the TLS file %s holds no certificate: %s", cert_file,
		    gnutls_strerror(r));
		return NULL;
	}
	p->count = count;
	r = gnutls_privkey_init(&p->key);
	r = r < 0 ? r
		  : gnutls_privkey_import_x509_raw(p->key, &key_pem, GNUTLS_X509_FMT_PEM, NULL, 0);
	if (r < 0) {
		(void)err_set(e, ERR_INVALID, "the TLS file %s holds no key: %s", key_file,
		    gnutls_strerror(r));
		return NULL;
	}
	if (!fits(p->key, &p->certs[0])) {
		(void)err_set(
		    e, ERR_INVALID, "the TLS key in %s is not that of the certificate", key_file);
		return NULL;
	}
	return steal(&p);
}

struct tls *tls_new(const char *cert_file, const char *key_file, struct err *e)
{
	struct tls *t = calloc(1, sizeof(*t));
	if (t == NULL) {
		(void)err_set(e, ERR_INTERNAL, "out of memory");
		return NULL;
	}
	t->pairs = pair_read(cert_file, key_file, e);
	if (t->pairs == NULL) {
		free(t);
		return NULL;
	}
	serving = t;
	return t;
}

void tls_free(struct tls *t)
{
	if (t == NULL) {
		return;
	}
	while (t->pairs != NULL) {
		struct pair *p = t->pairs;
		t->pairs = p->next;
		pair_free(p);
	}
	if (serving == t) {
		serving = NULL;
	}
	free(t);
}

int tls_reload(struct tls *t, const char *cert_file, const char *key_file, struct err *e)
{
	struct pair *fresh = pair_read(cert_file, key_file, e);
	if (fresh == NULL) {
		return -1;
	}
	uint64_t now_ms = clock_mono_ms();
	t->pairs->retired_ms = now_ms;
	fresh->next = t->pairs;
	t->pairs = fresh;
	for (struct pair **at = &fresh->next; *at != NULL;) {
		struct pair *p = *at;
		if (now_ms - p->retired_ms < RETIRED_MS) {
			at = &p->next;
			continue;
		}
		*at = p->next;
		pair_free(p);
	}
	return 0;
}

int tls_retrieve(gnutls_session_t session, const gnutls_datum_t *names, int name_count,
    const gnutls_pk_algorithm_t *algorithms, int algorithm_count, gnutls_pcert_st **certs,
    unsigned *cert_count, gnutls_privkey_t *key)
{
	(void)session;
	(void)names;
	(void)name_count;
	(void)algorithms;
	(void)algorithm_count;
	if (serving == NULL) {
		return -1;
	}
	*certs = serving->pairs->certs;
	*cert_count = serving->pairs->count;
	*key = serving->pairs->key;
	return 0;
}
