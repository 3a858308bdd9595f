/* carrel approvals ls and show. */
#include "cli/approval_calls.h"
#include "cli/approval_view.h"
#include "cli/cmd_approvals.h"

/* Adds all of STATE to ALL with -o json, or shows each. */
static int list_state(struct approvals_command *c, const char *state, json_t *all, struct err *e)
{
	cleanup(approval_pages_fini) struct approval_pages pages = APPROVAL_PAGES(state, c->kind);
	for (;;) {
		cleanup(json_decrefp) json_t *page = NULL;
		if (approval_pages_next(&c->client, &pages, &page, e) < 0) {
			return -1;
		}
		if (page == NULL) {
			return 0;
		}
		size_t i;
		const json_t *one;
		json_array_foreach(page, i, one)
		{
			if (!c->output.json) {
				approval_view_row(&c->paper, one);
			}
		}
		if (c->output.json && json_array_extend(all, page) < 0) {
			return err_set(e, ERR_INTERNAL, "out of memory");
		}
		if (paper_flush(&c->paper, e) < 0) {
			return -1;
		}
	}
}

int approvals_show_list(struct approvals_command *c, struct err *e)
{
	/* Without --all what may still change, what waits for a person first. */
	static const char *const open[] = {"waiting", "running", "queued"};
	cleanup(json_decrefp) json_t *all = json_array();
	int r = 0;
	if (c->state != NULL || c->all) {
		r = list_state(c, c->state, all, e);
	} else {
		for (size_t i = 0; r == 0 && i < array_len(open); i++) {
			r = list_state(c, open[i], all, e);
		}
	}
	if (r < 0 || !c->output.json) {
		return r;
	}
	cleanup(json_decrefp) json_t *document = json_pack("{s:O}", "approvals", all);
	return output_json(&c->output, document, e);
}

int approvals_show_one(struct approvals_command *c, struct err *e)
{
	char id[APPROVAL_ID_BYTES];
	cleanup(json_decrefp) json_t *approval = NULL;
	if (approval_find(&c->client, c->operands[0], id, e) < 0 ||
	    approval_get(&c->client, id, &approval, e) < 0) {
		return -1;
	}
	return approvals_print(c, approval, e);
}
