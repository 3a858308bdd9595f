#include "http/auth.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/text.h"

#define DIGEST_BYTES 32

/* One that a token stands for, or stood for: it lives as long as the table, since calls, and what
 * they began, still point to it when their token is gone. There is one of each, so the list does
 * not grow with the number of reloads. */
struct known {
	struct known *next;
	struct principal principal; /* its texts are ours */
};

struct token {
	unsigned char digest[DIGEST_BYTES];
	const struct principal *principal;
	int64_t expires_wall_us;
};

struct auth {
	EVP_MD *sha256; /* fetched once: a fetch at each use costs more than the digest */
	struct token tokens[AUTH_TOKENS_MAX];
	size_t count;
	struct known *known;
	bool disabled;
};

const struct principal auth_nobody = {.name = "anonymous", .role = ROLE_NONE};
static const struct principal anyone = {.name = "anonymous", .role = ROLE_ADMIN};

struct auth *auth_new(void)
{
	struct auth *a = calloc(1, sizeof(*a));
	if (a == NULL) {
		return NULL;
	}
	a->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	if (a->sha256 == NULL) {
		free(a);
		return NULL;
	}
	return a;
}

static void forget(struct principal *p)
{
	free((char *)(uintptr_t)p->name);
	free((char *)(uintptr_t)p->pool);
	free((char *)(uintptr_t)p->prefix);
}

/* A copy of TEXT, which may be NULL; false without memory. */
static bool copy(const char **out, const char *text)
{
	*out = text == NULL ? NULL : strdup(text);
	return text == NULL || *out != NULL;
}

void auth_free(struct auth *a)
{
	if (a == NULL) {
		return;
	}
	while (a->known != NULL) {
		struct known *k = a->known;
		a->known = k->next;
		forget(&k->principal);
		free(k);
	}
	EVP_MD_free(a->sha256);
	OPENSSL_cleanse(a->tokens, sizeof(a->tokens));
	free(a);
}

static bool same_text(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

/* Ours that is like WHO; NULL without memory. */
static const struct principal *intern(struct auth *a, const struct principal *who)
{
	for (const struct known *k = a->known; k != NULL; k = k->next) {
		const struct principal *p = &k->principal;
		if (same_text(p->name, who->name) && same_text(p->pool, who->pool) &&
		    same_text(p->prefix, who->prefix) && p->role == who->role &&
		    p->others_only == who->others_only) {
			return p;
		}
	}
	struct known *k = calloc(1, sizeof(*k));
	if (k == NULL) {
		return NULL;
	}
	k->principal = (struct principal){.role = who->role, .others_only = who->others_only};
	if (!copy(&k->principal.name, who->name) || !copy(&k->principal.pool, who->pool) ||
	    !copy(&k->principal.prefix, who->prefix)) {
		forget(&k->principal);
		free(k);
		return NULL;
	}
	k->next = a->known;
	a->known = k;
	return &k->principal;
}

void auth_set_disabled(struct auth *a)
{
	a->disabled = true;
}

bool auth_is_disabled(const struct auth *a)
{
	return a->disabled;
}

static bool digest_of(const struct auth *a, const char *token, unsigned char out[DIGEST_BYTES])
{
	return EVP_Digest(token, strlen(token), out, NULL, a->sha256, NULL) == 1;
}

/* All of the table is compared, hit or not. */
static const struct token *find(const struct auth *a, const unsigned char digest[DIGEST_BYTES])
{
	const struct token *found = NULL;
	for (size_t i = 0; i < a->count; i++) {
		if (text_equal_constant_time(a->tokens[i].digest, digest, DIGEST_BYTES)) {
			found = &a->tokens[i];
		}
	}
	return found;
}

/* Any visible ASCII: more than RFC 6750's b64token, for tokens made by people. */
static bool is_token(const char *text)
{
	size_t len = strlen(text);
	if (len == 0 || len > AUTH_TOKEN_MAX_BYTES) {
		return false;
	}
	for (size_t i = 0; i < len; i++) {
		if (text[i] <= ' ' || text[i] > '~') {
			return false;
		}
	}
	return true;
}

/* Of a token that was given no name: the same after every restart, another one for each token, and
 * too little of the digest to find a token by. */
#define NAME_BYTES (sizeof("token-") + 8)
static char *name_by_digest(char out[NAME_BYTES], const unsigned char digest[DIGEST_BYTES])
{
	(void)snprintf(
	    out, NAME_BYTES, "token-%02x%02x%02x%02x", digest[0], digest[1], digest[2], digest[3]);
	return out;
}

int auth_add(struct auth *a, const char *token, const struct principal *who,
    int64_t expires_wall_us, struct err *e)
{
	const char *name = who->name != NULL ? who->name : "without a name";
	if (!is_token(token)) {
		return err_set(e, ERR_INVALID,
		    "the token \"%s\" must be 1 to %d visible ASCII characters without spaces",
		    name, AUTH_TOKEN_MAX_BYTES);
	}
	if (who->role == ROLE_NONE) {
		return err_set(e, ERR_INVALID, "the token \"%s\" has no role", name);
	}
	if (a->count == AUTH_TOKENS_MAX) {
		return err_set(e, ERR_BUSY, "more than %d tokens", AUTH_TOKENS_MAX);
	}
	struct token *t = &a->tokens[a->count];
	if (!digest_of(a, token, t->digest)) {
		return err_set(e, ERR_INTERNAL, "SHA-256 is not available");
	}
	const struct token *same = find(a, t->digest);
	if (same != NULL) {
		return err_set(e, ERR_CONFLICT, "the tokens \"%s\" and \"%s\" are the same",
		    same->principal->name, name);
	}
	char own[NAME_BYTES];
	struct principal named = *who;
	named.name = who->name != NULL ? who->name : name_by_digest(own, t->digest);
	t->principal = intern(a, &named);
	if (t->principal == NULL) {
		return err_set(e, ERR_INTERNAL, "out of memory");
	}
	t->expires_wall_us = expires_wall_us;
	a->count++;
	return 0;
}

bool auth_has(const struct auth *a, const char *name)
{
	for (size_t i = 0; i < a->count; i++) {
		if (strcmp(a->tokens[i].principal->name, name) == 0) {
			return true;
		}
	}
	return false;
}

int auth_replace(struct auth *a, const struct auth *fresh, const char *kept, struct err *e)
{
	struct token tokens[AUTH_TOKENS_MAX];
	size_t count = 0;
	for (size_t i = 0; i < fresh->count; i++) {
		tokens[count] = fresh->tokens[i];
		tokens[count].principal = intern(a, fresh->tokens[i].principal);
		if (tokens[count++].principal == NULL) {
			return err_set(e, ERR_INTERNAL, "out of memory");
		}
	}
	for (size_t i = 0; i < a->count && count < AUTH_TOKENS_MAX; i++) {
		const struct token *t = &a->tokens[i];
		if (strcmp(t->principal->name, kept) == 0 && find(fresh, t->digest) == NULL) {
			tokens[count++] = *t;
		}
	}
	memcpy(a->tokens, tokens, count * sizeof(*tokens));
	a->count = count;
	a->disabled = fresh->disabled;
	return 0;
}

/* The token in "Bearer <token>", or NULL. */
static const char *bearer(const char *header)
{
	header += strspn(header, " \t");
	if (strncasecmp(header, "Bearer", 6) != 0 || (header[6] != ' ' && header[6] != '\t')) {
		return NULL;
	}
	header += 6;
	return header + strspn(header, " \t");
}

enum auth_result auth_check(
    const struct auth *a, const char *header, int64_t now_wall_us, const struct principal **out)
{
	if (a->disabled) {
		*out = &anyone;
		return AUTH_OK;
	}
	if (header == NULL) {
		return AUTH_MISSING;
	}
	const char *token = bearer(header);
	unsigned char digest[DIGEST_BYTES];
	if (token == NULL || !is_token(token) || !digest_of(a, token, digest)) {
		return AUTH_MALFORMED;
	}
	const struct token *t = find(a, digest);
	if (t == NULL) {
		return AUTH_UNKNOWN;
	}
	if (t->expires_wall_us != 0 && t->expires_wall_us <= now_wall_us) {
		return AUTH_EXPIRED;
	}
	*out = t->principal;
	return AUTH_OK;
}

const char *auth_result_text(enum auth_result r)
{
	switch (r) {
	case AUTH_OK:
		return "the token is valid";
	case AUTH_MISSING:
		return "a token is needed: send the header \"Authorization: Bearer <token>\"";
	case AUTH_MALFORMED:
		return "the Authorization header is not \"Bearer <token>\"";
	case AUTH_UNKNOWN:
		return "the token is not known here";
	case AUTH_EXPIRED:
		return "the token has expired";
	}
	return "the token was refused";
}
