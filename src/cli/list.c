#include "cli/list.h"

#include "base/compiler.h"

/* Adds one page to ITEMS and puts the next page's address to NEXT, empty after the last. */
static int get_page(struct client *c, const struct buf *url, const char *key, json_t *items,
    struct buf *next, struct err *e)
{
	cleanup(client_call_fini) struct client_call call = {
	    .method = CLIENT_GET, .url = url->data};
	cleanup(json_decrefp) json_t *page = NULL;
	if (client_perform_json(c, &call, &page, e) < 0) {
		return -1;
	}
	json_t *part = json_object_get(page, key);
	if (!json_is_array(part)) {
		return err_set(e, ERR_UNAVAILABLE, "the server's answer has no list '%s'", key);
	}
	if (json_array_size(items) + json_array_size(part) > LIST_MAX_ITEMS) {
		return err_set(
		    e, ERR_TOO_LARGE, "the list has more than %d entries", LIST_MAX_ITEMS);
	}
	if (json_array_extend(items, part) < 0) {
		return err_set(e, ERR_INTERNAL, "out of memory");
	}
	const char *link = client_text(page, "nextLink");
	buf_clear(next);
	return link[0] == '\0' ? 0 : url_follow(next, url->data, link, e);
}

int list_get(struct client *c, const char *const *segments, const struct url_query *query,
    const char *key, json_t **out, struct err *e)
{
	cleanup(buf_fini) struct buf url = BUF_INIT(URL_MAX_BYTES);
	cleanup(buf_fini) struct buf next = BUF_INIT(URL_MAX_BYTES);
	cleanup(json_decrefp) json_t *items = json_array();
	if (url_build(&url, buf_str(&c->base), segments, query, e) < 0) {
		return -1;
	}
	for (int pages = 0; pages < LIST_MAX_PAGES; pages++) {
		if (get_page(c, &url, key, items, &next, e) < 0) {
			return -1;
		}
		if (next.len == 0) {
			*out = steal(&items);
			return 0;
		}
		struct buf before = url;
		url = next;
		next = before;
	}
	return err_set(e, ERR_TOO_LARGE, "the list has more than %d pages", LIST_MAX_PAGES);
}
