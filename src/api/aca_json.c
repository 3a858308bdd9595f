#include "api/aca_json.h"

#include <errno.h>

#include "api/aca.h"
#include "base/json_text.h"

int aca_json_add(struct buf *out, json_t *j)
{
	int r = j == NULL ? -ENOMEM : json_text_add_tree(out, j);
	json_decref(j);
	return r;
}

void aca_json_reply_text(struct call *c, int status, int err, struct buf *text)
{
	struct aca_problem p;
	if (text != NULL) {
		call_reply(c, status, "application/json; charset=utf-8", text);
	} else if (err == -EDQUOT) {
		(void)aca_problem(&p, ACA_QUEUE_FULL, NULL,
		    "the server writes as many large answers of yours as it may");
		aca_fail(c, &p);
	} else {
		(void)aca_problem(&p, ACA_INTERNAL, NULL, "the answer could not be put together");
		aca_fail(c, &p);
	}
}

void aca_json_reply(struct call *c, int status, json_t *j)
{
	struct buf body = BUF_INIT(JSON_TEXT_MAX_BYTES);
	int err = aca_json_add(&body, j);
	aca_json_reply_text(c, status, err, err < 0 ? NULL : &body);
	buf_fini(&body);
}
