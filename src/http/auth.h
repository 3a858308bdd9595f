/*
 * auth: who a bearer token stands for.
 *
 * Only SHA-256 digests of tokens are kept. A token is looked up by comparing its digest with every
 * one there is, each in constant time and without stopping at a hit, so the time taken says nothing
 * about which tokens there are. Principals live as long as the table, whatever becomes of their
 * tokens.
 */
#ifndef HTTP_AUTH_H
#define HTTP_AUTH_H

#include "api/call.h"
#include "base/err.h"

#define AUTH_TOKENS_MAX 256
#define AUTH_TOKEN_MAX_BYTES 4096

enum auth_result {
	AUTH_OK = 0,
	AUTH_MISSING,   /* no Authorization header */
	AUTH_MALFORMED, /* not "Bearer <token>" (RFC 6750, 2.1) */
	AUTH_UNKNOWN,   /* no such token */
	AUTH_EXPIRED,
};

struct auth;

/* Without tokens: every call is refused. NULL when out of memory. */
struct auth *auth_new(void);
void auth_free(struct auth *a);

/* From now on every call is "anonymous" with ROLE_ADMIN, whatever header it has. */
void auth_set_disabled(struct auth *a);
bool auth_is_disabled(const struct auth *a);

/* Adds a token that stands for WHO, all of whose texts are copied (the token as its digest). One
 * whose name is NULL is called "token-" and the first eight hex digits of its digest.
 * EXPIRES_WALL_US: 0 for never. -1 with *E for an empty or too long token, one with bytes that no
 * header can carry, one that is there already, ROLE_NONE, or too many. */
int auth_add(struct auth *a, const char *token, const struct principal *who,
    int64_t expires_wall_us, struct err *e);

/* Whether a token stands for somebody of this name. */
bool auth_has(const struct auth *a, const char *name);

/* From now on the tokens are those of FRESH, and those of A whose principal has the name KEPT.
 * Calls that are in progress keep their principal. 0, or -1 with *E and A as it was. */
int auth_replace(struct auth *a, const struct auth *fresh, const char *kept, struct err *e);

/* HEADER is the Authorization header's value or NULL. On AUTH_OK *OUT is the principal, borrowed
 * from A; otherwise *OUT is untouched. The scheme is compared without case. */
enum auth_result auth_check(
    const struct auth *a, const char *header, int64_t now_wall_us, const struct principal **out);

/* What to tell the one who was refused. */
const char *auth_result_text(enum auth_result r);

/* Whoever calls a route that needs no token. */
extern const struct principal auth_nobody;

#endif
