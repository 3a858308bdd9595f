#include "api/aca_json.h"

#include <errno.h>

#include "api/aca.h"
#include "base/json_text.h"

void aca_json_reply(struct call *c, int status, json_t *j)
{
	struct buf body = BUF_INIT(JSON_TEXT_MAX_BYTES);
	int r = j == NULL ? -ENOMEM : json_text_add_tree(&body, j);
	json_decref(j);
	if (r < 0) {
		struct aca_problem p;
		(void)aca_problem(&p, ACA_INTERNAL, NULL, "the answer could not be put together");
		aca_fail(c, &p);
	} else {
		call_reply(c, status, "application/json; charset=utf-8", &body);
	}
	buf_fini(&body);
}
