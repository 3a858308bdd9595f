/* fake_parking: stands in for the part of src/approvals that calls of sessions ask: the test is the
 * person who decides. */
#ifndef FAKE_PARKING_H
#define FAKE_PARKING_H

#include "approvals/approvals.h"

#define FAKE_PARKED_MAX 64

struct approvals_parked {
	bool open; /* nobody has decided, or it is being run */
	char tool[64];
	json_t *arguments;
	approvals_parked_fn fn;
	void *ctx;
};

/* There is one, and the functions of approvals.h take it for any struct approvals. */
struct fake_parking {
	struct approvals_parked parked[FAKE_PARKED_MAX];
	int asked;
	int given_up;
	int ended_well, ended_badly;
	char ended_text[256];
	const char *ruled; /* the tool that the rules name; NULL: none */
};

extern struct fake_parking fake_parking;

/* What a codemode is given. */
struct approvals *fake_parking_init(void);
void fake_parking_fini(void);
/* The oldest that waits. */
void fake_parking_decide(bool allowed, const char *reason);

#endif
