/* What of the configuration only a new start can change: kept as digests, since there are secrets.
 */
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "cli/config_tree.h"

/* Read again while the server runs; of pools only the part that fixed_pools gives is fixed. */
static bool can_change(const char *key)
{
	static const char *const keys[] = {"auth", "log_level"};
	for (size_t i = 0; i < array_len(keys); i++) {
		if (strcmp(key, keys[i]) == 0) {
			return true;
		}
	}
	return false;
}

/* Names, types and what approvals ask; all else of a pool are limits. */
static json_t *fixed_pools(const json_t *pools)
{
	static const char *const keys[] = {"name", "container_type", "approvals"};
	json_t *out = json_array();
	size_t i;
	const json_t *pool;
	json_array_foreach(pools, i, pool)
	{
		json_t *fixed = json_object();
		for (size_t k = 0; k < array_len(keys); k++) {
			json_t *value = json_object_get(pool, keys[k]);
			if (value != NULL) {
				(void)json_object_set(fixed, keys[k], value);
			}
		}
		(void)json_array_append_new(out, fixed);
	}
	return out;
}

static int digest(const json_t *value, unsigned char out[32])
{
	char *text = json_dumps(value, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
	if (text == NULL) {
		return -1;
	}
	int r = EVP_Digest(text, strlen(text), out, NULL, EVP_sha256(), NULL) == 1 ? 0 : -1;
	explicit_bzero(text, strlen(text));
	free(text);
	return r;
}

int config_mark(struct config *c, const char *const *keys, struct err *e)
{
	struct config_mark *mark = c->marks;
	for (; *keys != NULL; keys++) {
		if (can_change(*keys)) {
			continue;
		}
		if (mark == &c->marks[CONFIG_MARKS_MAX - 1]) {
			abort(); /* more keys than there is room for */
		}
		json_t *value = json_object_get(c->tree, *keys);
		bool pools = strcmp(*keys, "pools") == 0;
		/* Whether there is TLS; its files are read again. */
		bool tls = strcmp(*keys, "tls") == 0;
		cleanup(json_decrefp) json_t *fixed = pools ? fixed_pools(value)
						      : tls ? json_boolean(c->tls_cert_file != NULL)
						      : value != NULL ? json_incref(value)
								      : json_null();
		*mark = (struct config_mark){.key = *keys};
		if (digest(fixed, mark->digest) < 0) {
			return err_set(e, ERR_INTERNAL, "out of memory");
		}
		mark++;
	}
	return 0;
}

int config_name_fixed(const struct config *before, const struct config *now, struct buf *out)
{
	int r = 0;
	for (size_t i = 0; before->marks[i].key != NULL && r == 0; i++) {
		if (memcmp(before->marks[i].digest, now->marks[i].digest,
			sizeof(now->marks[i].digest)) != 0) {
			r = buf_addf(out, "%s%s", out->len > 0 ? ", " : "", before->marks[i].key);
		}
	}
	return r;
}
