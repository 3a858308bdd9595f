/* Which key holds what. Source: py-code-mode's RedisStorage, keys as measured. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "store/redis_internal.h"

static int printed(int n, struct err *e)
{
	return n >= 0 && n < REDIS_KEY_MAX_BYTES
		   ? 0
		   : err_set(e, ERR_INVALID, "the store's prefix is too long");
}

/* The prefix of one part, "skills" say, of SPACE; OWN is the server's own. */
static int part_prefix(const struct redis_store *st, const struct store_space *space,
    const char *part, const char *own, bool in_workspace, char out[REDIS_KEY_MAX_BYTES],
    struct err *e)
{
	const char *base = space->prefix != NULL ? space->prefix : st->workspaces_prefix;
	int n;
	if (in_workspace && space->workspace != NULL) {
		n = snprintf(out, REDIS_KEY_MAX_BYTES, "%s:ws:%s:%s", base, space->workspace, part);
	} else if (space->prefix != NULL) {
		n = snprintf(out, REDIS_KEY_MAX_BYTES, "%s:%s", base, part);
	} else {
		n = snprintf(out, REDIS_KEY_MAX_BYTES, "%s", own);
	}
	return printed(n, e);
}

/* ...:skills:__skills__, and beside it ...:workflows:__workflows__, the name since the fifth
 * generation. A prefix whose last part is "workflows" has the newer one alone. */
static int skill_keys(const char *prefix, struct redis_keys *out, struct err *e)
{
	const char *last = strrchr(prefix, ':');
	last = last != NULL ? last + 1 : prefix;
	int before = (int)(last - prefix);
	out->second[0] = '\0';
	if (strcmp(last, "workflows") == 0) {
		return printed(
		    snprintf(out->first, sizeof(out->first), "%s:__workflows__", prefix), e);
	}
	bool known = strcmp(last, "skills") == 0;
	int first = snprintf(out->first, sizeof(out->first), "%s:__skills__", prefix);
	int second = snprintf(out->second, sizeof(out->second), "%.*s%s:__workflows__", before,
	    prefix, known ? "workflows" : last);
	return printed(first > second ? first : second, e);
}

/* PREFIX:deps:deps; the fifth generation, whose prefix is without the part, has PREFIX:deps. */
static int deps_keys(const char *prefix, struct redis_keys *out, struct err *e)
{
	int n = snprintf(out->first, sizeof(out->first), "%s:deps", prefix);
	if (text_has_suffix(prefix, ":deps")) {
		(void)snprintf(out->second, sizeof(out->second), "%s", prefix);
	}
	return printed(n, e);
}

int redis_keys_of(const struct redis_store *st, const struct store_space *space, int kind,
    struct redis_keys *out, struct err *e)
{
	char prefix[REDIS_KEY_MAX_BYTES];
	out->second[0] = '\0';
	switch (kind) {
	case STORE_TOOLS:
		return part_prefix(st, space, "tools", st->tools_prefix, false, prefix, e) < 0
			   ? -1
			   : printed(
				 snprintf(out->first, sizeof(out->first), "%s:__tools__", prefix),
				 e);
	case STORE_SKILLS:
		return part_prefix(st, space, "skills", st->skills_prefix, true, prefix, e) < 0
			   ? -1
			   : skill_keys(prefix, out, e);
	case STORE_DEPS:
		return part_prefix(st, space, "deps", st->deps_prefix, false, prefix, e) < 0
			   ? -1
			   : deps_keys(prefix, out, e);
	default:
		if (part_prefix(
			st, space, "artifacts", st->artifacts_prefix, true, out->second, e) < 0) {
			return -1;
		}
		return printed(
		    snprintf(out->first, sizeof(out->first), "%s:__index__", out->second), e);
	}
}

/* --- tenants beside the server's own ------------------------------------------------------------
 */

/* Whether a key may begin with both. */
static bool overlap(const char *a, const char *b)
{
	size_t a_len = strlen(a);
	size_t b_len = strlen(b);
	size_t less = a_len < b_len ? a_len : b_len;
	const char *longer = a_len < b_len ? b : a;
	return strncmp(a, b, less) == 0 && (longer[less] == '\0' || longer[less] == ':');
}

int store_check_tenant(const struct store_config *c, const char *prefix, struct err *e)
{
	const char *base = c->prefix != NULL ? c->prefix : REDIS_PREFIX;
	const struct {
		const char *part, *own;
	} parts[] = {{"tools", c->tools_prefix}, {"skills", c->skills_prefix},
	    {"workflows", c->skills_prefix}, {"artifacts", c->artifacts_prefix},
	    {"deps", c->deps_prefix}, {"ws", NULL}};
	const char *workspaces = c->workspaces_prefix != NULL ? c->workspaces_prefix : base;
	for (size_t i = 0; c->redis_url != NULL && i < array_len(parts); i++) {
		char own[REDIS_KEY_MAX_BYTES];
		bool ws = strcmp(parts[i].part, "ws") == 0;
		int n = parts[i].own != NULL ? snprintf(own, sizeof(own), "%s", parts[i].own)
					     : snprintf(own, sizeof(own), "%s:%s",
						   ws ? workspaces : base, parts[i].part);
		if (printed(n, e) < 0) {
			return -1;
		}
		for (size_t k = 0; k < array_len(parts); k++) {
			char theirs[REDIS_KEY_MAX_BYTES];
			n = snprintf(theirs, sizeof(theirs), "%s:%s", prefix, parts[k].part);
			if (printed(n, e) < 0 || overlap(own, theirs)) {
				return err_set(e, ERR_INVALID,
				    "its keys would be those of the server's own space, which "
				    "begin "
				    "with '%.200s'",
				    own);
			}
		}
	}
	return 0;
}

#define UPLOAD "__upload__:"

int redis_key_bytes(const struct redis_keys *keys, const char *name, struct buf *out, struct err *e)
{
	if (text_has_prefix(name, UPLOAD) || strcmp(name, "__index__") == 0) {
		return err_set(e, ERR_INVALID, "'%.200s' is a name of the store's own", name);
	}
	if (buf_addf(out, "%s:%s", keys->second, name) < 0) {
		return err_set(e, ERR_INVALID, "the artifact's name is too long");
	}
	return 0;
}

int redis_key_upload(const struct redis_keys *keys, struct buf *out)
{
	char id[TEXT_GUID_BYTES];
	return buf_addf(out, "%s:" UPLOAD "%s", keys->second, text_guid(id));
}
