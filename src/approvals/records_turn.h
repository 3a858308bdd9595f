/*
 * records_turn: whose task is claimed next. The due tasks of a kind stand in queues, one for each
 * pool (runs; what is no run has the pool "-") and tenant, the oldest first. Turns go round the
 * pools that have places, and in each round its tenants, from where the last claim stopped; so one
 * tenant's ten thousand tasks delay another's by one.
 *
 * Who holds its share already is passed over while somebody else's task could begin.
 *
 * Cost: looks at one end of an index, so many for each pool and each tenant that has tasks of the
 * kind, however many. At most TURN_LOOKS_MAX tenants of a pool at once; the next claim goes on.
 */
#ifndef APPROVALS_RECORDS_TURN_H
#define APPROVALS_RECORDS_TURN_H

#include <jansson.h>
#include <stdbool.h>

#include "approvals/db.h"
#include "base/err.h"

#define TURN_POOLS_MAX 128
#define TURN_LOOKS_MAX 512

struct turn_pool {
	const char *name; /* in turns.said */
	int64_t places;
	json_t
	    *queues; /* [{tenant, tasks: [task] or null, not read yet}], in their order of turn */
	size_t next;
	int64_t waiting; /* how many queues of those who have not had their share */
	int64_t looks;
};

struct record_turns {
	struct db *d;
	const char *kind;
	const char *owner;
	int64_t now_us;
	int64_t limit;
	int64_t share; /* 0: none */
	struct turn_pool pools[TURN_POOLS_MAX];
	size_t count;
	size_t next;
	json_t *held; /* {tenant: how many it holds} */
	json_t *said; /* {pool, tenants: {pool: tenant}}: who had the last turns */
	bool unseen;  /* somebody may wait who was not looked at */
	bool rest;    /* nobody waits but those who have their share */
};

/* For cleanup. */
void record_turns_fini(struct record_turns *t);
/* Finds who waits. IN is borrowed, and must outlive T: owner, kind, now_us, share?, places?, turns?
 * of records_claim; at most LIMIT tasks will be asked for. T is zero before. -1 with E. */
int record_turns_find(
    struct record_turns *t, struct db *d, const json_t *in, int64_t limit, struct err *e);
/* *TASK: {id, fence, attempt, owner} of the next, the caller's; NULL: there is none. */
int record_turns_next(struct record_turns *t, json_t **task, struct err *e);

#endif
