/*
 * submission: what a client asks for when it submits code, checked whole before anything is kept.
 */
#ifndef APPROVALS_SUBMISSION_H
#define APPROVALS_SUBMISSION_H

#include <jansson.h>

#include "approvals/approvals.h"

/* The largest of a whole request as JSON; a client's own body limit may be smaller. */
#define SUBMISSION_KEY_MAX 255

/* Whether REQUEST (approvals_submit) may be submitted to the pool of index POOL. *POLICY: what it
 * chose, or the pool's. The new object is the approval's settings {deadline_ms, timeout_ms or null,
 * callback: {url} or null, promote: {files, prefix} or null}. NULL with ERR_INVALID, or
 * ERR_TOO_LARGE for the code. */
json_t *submission_settings(const struct approvals_config *c, uint32_t pool, const json_t *request,
    enum approval_policy *policy, struct err *e);

/* SHA-256, in hex, of what makes two submissions with one key the same. 0 or -1 with E. */
int submission_sha256(const char *pool, const json_t *request, char out[65], struct err *e);

/* An Idempotency-Key: 1 to SUBMISSION_KEY_MAX printable ASCII characters. 0 or -1. */
int submission_key_check(const char *key, struct err *e);

#endif
