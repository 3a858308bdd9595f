/* Installing packages. */
#include "tools/runner.h"

void install_begin(struct runner *r, uint64_t ref, const json_t *request)
{
	struct err e;
	(void)request;
	(void)err_set(&e, ERR_UNSUPPORTED, "this server cannot install packages");
	runner_refuse(r, ref, &e);
}
