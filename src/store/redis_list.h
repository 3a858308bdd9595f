/*
 * redis_list: one list of a Redis store: kept by redis_lists.c, which says when it holds, and read
 * by redis_read.c.
 *
 * A record that is read again and says the same stays the same object, and so does the list itself.
 * A page is worth about a millisecond of the loop; what concerns the whole list (putting it in
 * order, comparing it with the one before, freeing that) is done on a thread of the pool.
 */
#ifndef STORE_REDIS_LIST_H
#define STORE_REDIS_LIST_H

#include "store/redis_internal.h"

#define REDIS_LIST_MAX_BYTES (64U << 20) /* of one, as JSON */

struct redis_queue {
	struct redis_request *first, *last;
};

/* What one key holds, by name. */
struct redis_part {
	json_t *records;
	json_t *digests; /* SHA-256 of the bytes of each value, good or not */
};

struct redis_ordering;

struct redis_list {
	struct redis_list *next;
	struct redis_lists *all;
	struct redis_store *store;
	struct redis_keys keys;
	int kind;

	json_t *records; /* NULL: never read */
	uint64_t revision;
	size_t bytes;
	uint64_t used; /* of the lists' clock */
	bool valid;    /* RECORDS hold, as far as was told */
	struct redis_part known[2];

	bool loading; /* what follows is of the reading that goes on */
	bool tracked; /* from its beginning */
	bool dirty;   /* changed since it began */
	bool second;  /* it is at the second key */
	char cursor[24];
	struct redis_part found[2];
	json_t *page; /* of artifacts, whose sizes are being asked for: names to entries */
	size_t found_bytes;
	struct redis_ordering *ordering; /* on its thread */
	struct redis_queue waiting;      /* asked before it began */
	struct redis_queue later;        /* asked since */
};

/* --- redis_read.c --- */

/* Reads the list: until redis_list_was_read or redis_list_failed is called, perhaps before this
 * returns (-1; else 0). TRACKED: the server is to tell when the keys change. */
int redis_list_read(struct redis_list *list, bool tracked);
/* Gives up what a reading has gathered. */
void redis_list_drop_reading(struct redis_list *list);
/* Forgets all that was read. */
void redis_list_forget(struct redis_list *list);

/* --- redis_lists.c --- */

/* RECORDS: taken; a new array, or the one there was when SAME. */
void redis_list_was_read(struct redis_list *list, json_t *records, bool same);
void redis_list_failed(struct redis_list *list, const struct err *e);

#endif
