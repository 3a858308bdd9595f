#include "base/quota.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

struct quota_holder {
	UT_hash_handle hh;
	size_t held;
	char name[];
};

static struct quota_holder *find(const struct quota *q, const char *name)
{
	struct quota_holder *h = NULL;
	HASH_FIND_STR(q->holders, name, h);
	return h;
}

static struct quota_holder *find_or_add(struct quota *q, const char *name)
{
	struct quota_holder *h = find(q, name);
	if (h != NULL) {
		return h;
	}
	size_t len = strlen(name);
	h = calloc(1, sizeof(*h) + len + 1);
	if (h != NULL) {
		memcpy(h->name, name, len + 1);
		HASH_ADD_KEYPTR(hh, q->holders, h->name, len, h);
	}
	return h;
}

void quota_fini(struct quota *q)
{
	struct quota_holder *h, *next;
	HASH_ITER(hh, q->holders, h, next)
	{
		HASH_DEL(q->holders, h);
		free(h);
	}
	q->held = 0;
}

size_t quota_held(const struct quota *q, const char *holder)
{
	const struct quota_holder *h = find(q, holder);
	return h != NULL ? h->held : 0;
}

/* A holder of HELD reaches its share where HELD + N = FREE - N, with FREE counted before N is
 * taken. */
static size_t room(const struct quota *q, size_t held)
{
	size_t free_now = q->max - q->held;
	return free_now > held ? (free_now - held) / 2 : 0;
}

size_t quota_room(const struct quota *q, const char *holder)
{
	return room(q, quota_held(q, holder));
}

int quota_charge(struct quota *q, const char *holder, size_t n)
{
	if (n > quota_room(q, holder)) {
		return -EDQUOT;
	}
	if (n == 0) {
		return 0;
	}
	struct quota_holder *h = find_or_add(q, holder);
	if (h == NULL) {
		return -ENOMEM;
	}
	h->held += n;
	q->held += n;
	return 0;
}

void quota_release(struct quota *q, const char *holder, size_t n)
{
	if (n == 0) {
		return;
	}
	struct quota_holder *h = find(q, holder);
	assert(h != NULL && h->held >= n);
	h->held -= n;
	q->held -= n;
	if (h->held == 0) {
		HASH_DEL(q->holders, h);
		free(h);
	}
}
