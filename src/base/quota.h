/*
 * quota: a bound that many share, with a share for each holder.
 *
 * One number for all lets the first who asks for everything shut out the others. Here a holder (a
 * tenant, a token, an address, a session) may hold as much as is still free: alone at most half of
 * the bound, beside one that holds half a quarter, and so on. Whoever fills the bound meets
 * its own share first, and somebody new always finds room. Switches divide their packet memory in
 * this way (Choudhury and Hahne, "Dynamic queue length thresholds", 1998).
 *
 * Invariants: the sum of what holders have is `held`, which is never above `max`; a holder that has
 * nothing takes no memory.
 */
#ifndef BASE_QUOTA_H
#define BASE_QUOTA_H

#include <stddef.h>

struct quota_holder;

struct quota {
	size_t max;                   /* in whatever unit the user counts: bytes, connections */
	size_t held;                  /* by all holders */
	struct quota_holder *holders; /* hash by name */
};

#define QUOTA_INIT(max_)      \
	{                     \
		.max = (max_) \
	}

/* Forgets all holders. */
void quota_fini(struct quota *q);

/* HOLDER has N more from now on. 0; -EDQUOT when that is more than its share, -ENOMEM. */
int quota_charge(struct quota *q, const char *holder, size_t n);

/* HOLDER gives back N of what it has; N is never more than that. */
void quota_release(struct quota *q, const char *holder, size_t n);

/* What HOLDER has now; 0 for one never heard of. */
size_t quota_held(const struct quota *q, const char *holder);

/* How many more quota_charge would give HOLDER now. */
size_t quota_room(const struct quota *q, const char *holder);

#endif
