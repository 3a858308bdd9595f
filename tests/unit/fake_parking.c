#include "fake_parking.h"

#include <stdio.h>
#include <string.h>

struct fake_parking fake_parking;

struct approvals *fake_parking_init(void)
{
	fake_parking = (struct fake_parking){0};
	return (struct approvals *)(void *)&fake_parking;
}

void fake_parking_fini(void)
{
	for (int i = 0; i < FAKE_PARKED_MAX; i++) {
		json_decref(fake_parking.parked[i].arguments);
	}
	fake_parking = (struct fake_parking){0};
}

void fake_parking_decide(bool allowed, const char *reason)
{
	struct approvals_parked *p = fake_parking.parked;
	while (p->fn == NULL || !p->open) {
		p++;
	}
	approvals_parked_fn fn = p->fn;
	p->fn = NULL;
	p->open = allowed;
	fn(p->ctx, allowed, reason);
}

bool approvals_rule(const struct approvals *a, uint32_t pool, const char *tool)
{
	(void)a;
	(void)pool;
	return fake_parking.ruled != NULL && strcmp(fake_parking.ruled, tool) == 0;
}

struct approvals_parked *approvals_park(struct approvals *a, struct session *s, const char *tool,
    const char *callable, const json_t *arguments, approvals_parked_fn fn, void *ctx)
{
	(void)a;
	(void)s;
	(void)callable;
	if (fake_parking.asked == FAKE_PARKED_MAX) {
		return NULL;
	}
	struct approvals_parked *p = &fake_parking.parked[fake_parking.asked++];
	*p = (struct approvals_parked){.open = true, .fn = fn, .ctx = ctx};
	(void)snprintf(p->tool, sizeof(p->tool), "%s", tool);
	p->arguments = json_deep_copy(arguments);
	return p;
}

void approvals_parked_done(struct approvals_parked *p, bool ok, const char *text)
{
	p->open = false;
	*(ok ? &fake_parking.ended_well : &fake_parking.ended_badly) += 1;
	(void)snprintf(fake_parking.ended_text, sizeof(fake_parking.ended_text), "%s",
	    text != NULL ? text : "");
}

void approvals_unpark(struct approvals_parked *p)
{
	if (p != NULL) {
		p->open = false;
		p->fn = NULL;
		fake_parking.given_up++;
	}
}
