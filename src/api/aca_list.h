/*
 * aca_list: the listing of a directory, whatever its size.
 *
 * What can be read in one short step is sorted by path and answered at once. More than that is
 * streamed in the file system's order, one bounded step each time the socket takes more, so that a
 * directory of a million names delays nobody. After ACA_LIST_PAGE entries the answer ends with a
 * nextLink.
 */
#ifndef API_ACA_LIST_H
#define API_ACA_LIST_H

#include "api/aca_session_wait.h"
#include "engine/files.h"

#define ACA_LIST_PAGE 10000 /* entries in one answer */
#define ACA_LIST_STEP 1000  /* directory entries looked at in one step */

struct aca_list_request {
	struct files_path path;
	bool recursive;
	bool old; /* the old shape: files only, since nothing there tells a directory from one */
	uint64_t skip;
	struct aca_hold hold; /* released at the end of the answer */
};

/* Answers, later; a thread looks at the directory. */
void aca_list_reply(struct call *c, const struct aca_list_request *r);

#endif
