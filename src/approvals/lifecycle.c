#include "approvals/lifecycle.h"

#include <string.h>

#include "base/compiler.h"

#define BIT(state) (1U << (state))

static const struct {
	const char *name;
	unsigned next; /* of BIT; none: final */
} states[APPROVAL_STATE_COUNT] = {
    [APPROVAL_QUEUED] = {"queued",
	BIT(APPROVAL_RUNNING) | BIT(APPROVAL_FAILED) | BIT(APPROVAL_CANCELLED)},
    /* Back to queued: the server that ran it is gone, or had no room for it. To rejected: somebody
     * had said no before there was a result. */
    [APPROVAL_RUNNING] = {"running", BIT(APPROVAL_QUEUED) | BIT(APPROVAL_WAITING) |
					 BIT(APPROVAL_APPROVED) | BIT(APPROVAL_REJECTED) |
					 BIT(APPROVAL_FAILED) | BIT(APPROVAL_CANCELLED)},
    /* To queued: its code was approved, and runs now. */
    [APPROVAL_WAITING] = {"waiting", BIT(APPROVAL_QUEUED) | BIT(APPROVAL_APPROVED) |
					 BIT(APPROVAL_REJECTED) | BIT(APPROVAL_EXPIRED) |
					 BIT(APPROVAL_CANCELLED)},
    [APPROVAL_APPROVED] = {"approved", 0},
    [APPROVAL_REJECTED] = {"rejected", 0},
    [APPROVAL_EXPIRED] = {"expired", 0},
    [APPROVAL_FAILED] = {"failed", 0},
    [APPROVAL_CANCELLED] = {"cancelled", 0},
};

static const char *const policies[APPROVAL_POLICY_COUNT] = {
    [APPROVAL_AFTER] = "after",
    [APPROVAL_BEFORE] = "before",
    [APPROVAL_BOTH] = "both",
    [APPROVAL_RULES] = "rules",
};

static const char *const stages[APPROVAL_STAGE_COUNT] = {
    [APPROVAL_STAGE_NONE] = "",
    [APPROVAL_STAGE_CODE] = "code",
    [APPROVAL_STAGE_RESULT] = "result",
    [APPROVAL_STAGE_CALL] = "call",
};

const char *approval_state_name(enum approval_state s)
{
	return states[s].name;
}

const char *approval_policy_name(enum approval_policy p)
{
	return policies[p];
}

const char *approval_stage_name(enum approval_stage s)
{
	return stages[s];
}

static unsigned named(const char *const *names, unsigned count, const char *name)
{
	unsigned i = 0;
	while (i < count && (name == NULL || strcmp(names[i], name) != 0)) {
		i++;
	}
	return i;
}

enum approval_state approval_state_named(const char *name)
{
	unsigned i = 0;
	while (i < APPROVAL_STATE_COUNT && (name == NULL || strcmp(states[i].name, name) != 0)) {
		i++;
	}
	return (enum approval_state)i;
}

enum approval_policy approval_policy_named(const char *name)
{
	return (enum approval_policy)named(policies, APPROVAL_POLICY_COUNT, name);
}

enum approval_stage approval_stage_named(const char *name)
{
	return (enum approval_stage)named(stages, APPROVAL_STAGE_COUNT, name);
}

bool approval_state_is_final(enum approval_state s)
{
	return states[s].next == 0;
}

bool approval_state_may_follow(enum approval_state from, enum approval_state to)
{
	return (states[from].next & BIT(to)) != 0;
}
