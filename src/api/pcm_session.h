/*
 * pcm_session: which session a request is about, by its header X-Session-ID.
 *
 * A client's id is free text. One that is an identifier of the engine's is used as it is, so both
 * wires reach the same session by the same name; any other is named "sha256:" and the digest of it,
 * and so is one that itself begins with "sha256:", so two ids never name one session.
 *
 * An id that the server gave (POST /sessions, or an execute without the header) is a UUID of
 * version 4 whose last eight digits are a check of the others, so any server knows it as such,
 * after a restart too. Such an id is good while the server that gave it knows it: as long as its
 * session, and the pool's cooldown from its last use. After that it is refused and never made anew,
 * because what it was bound to, a workspace, is forgotten with it. An id of the client's own making
 * names a session that is made at first sight, unless ids are strict: then it is refused like the
 * others.
 *
 * Bounds: PCM_ISSUED_MAX ids at once; past it those not used the longest go when they have run out,
 * and then one of the tenant that has the most; who has as many as anybody is refused.
 */
#ifndef API_PCM_SESSION_H
#define API_PCM_SESSION_H

#include "api/pcm.h"
#include "base/quota.h"
#include "base/text.h"

#define PCM_ISSUED_MAX 65536

struct issued;
#define PCM_SENDING_MAX 256

/* What the operator has set. Borrowed. */
const struct pcm_config *pcm_config(const struct call *c);

/* The artifacts on their way to clients, at most PCM_SENDING_MAX, by tenant. */
struct quota *pcm_sending(const struct call *c);

struct pcm_where {
	struct pool *pool;
	struct issued *issued;        /* when the server gave the id and still knows it */
	char own_id[TEXT_GUID_BYTES]; /* when the request had none: the one it has been given */
	const char *id;               /* as the client writes it; "" when there is none */
	char identifier[ENGINE_IDENTIFIER_MAX + 1]; /* the engine's; "" when there is none */
	bool given;               /* the id has the form of those the server gives */
	struct store_space space; /* what its tools, skills and artifacts are looked up in */
};

/* Finds out where the request belongs. False having answered: the pool is not there or not for
 * Python, or the id is of those that are refused. CHECK false: an id that is not good counts as
 * none. */
bool pcm_where(struct call *c, struct pcm_where *w, bool check);
/* Gives a request without an id one of its own, in WORKSPACE (NULL: none). False having answered.
 */
bool pcm_give_id(struct call *c, struct pcm_where *w, const char *workspace);
/* Finds or makes the session, in its workspace. Borrowed, as from engine_session_open; NULL having
 * answered. */
struct session *pcm_session_open(struct call *c, const struct pcm_where *w);
/* The session if there is one. Borrowed. */
struct session *pcm_session_find(const struct call *c, const struct pcm_where *w);
/* The id is good no more. */
void pcm_forget(struct call *c, struct pcm_where *w);

#endif
