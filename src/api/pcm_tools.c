/* GET /api/tools and /api/tools/search: tools are the tenant's, whatever the session. */
#include "api/pcm_ask.h"
#include "api/pcm_form.h"

#define LIMIT_DEFAULT 10
#define LIMIT_MAX 1000

void pcm_tools_list(struct call *c)
{
	struct pcm_where w;
	if (pcm_where(c, &w, false)) {
		struct pcm_question q = {.method = "tools.list", .answer = pcm_answer_result};
		pcm_ask(c, &w.space, &q);
	}
}

void pcm_tools_search(struct call *c)
{
	struct pcm_form f;
	struct pcm_where w;
	(void)pcm_form_open(&f, c, PCM_QUERY);
	const char *query = pcm_form_query(&f, "query");
	uint64_t limit = pcm_form_query_number(&f, "limit", LIMIT_MAX, LIMIT_DEFAULT);
	if (pcm_form_close(&f) && pcm_where(c, &w, false)) {
		struct pcm_question q = {.method = "tools.search",
		    .arguments = json_pack(
			"{s:s, s:I}", "query", query, "limit", (json_int_t)limit),
		    .answer = pcm_answer_result};
		if (limit == 0) {
			json_decref(q.arguments);
			pcm_reply_new(c, 200, json_array());
		} else {
			pcm_ask(c, &w.space, &q);
		}
	}
	pcm_form_fini(&f);
}
