/* The names of the store: of spaces, records and artifacts. */
#include <ctype.h>
#include <string.h>

#include "base/text.h"
#include "store/backend.h"

#define SPACE_NAME_MAX 128
#define FILE_NAME_MAX 255
/* Room for what the files backend puts around a name. */
#define RECORD_NAME_MAX (STORE_NAME_MAX - 15)

static const char alphanumeric[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

static bool is_made_of(const char *text, const char *others)
{
	for (; *text != '\0'; text++) {
		if (strchr(alphanumeric, *text) == NULL && strchr(others, *text) == NULL) {
			return false;
		}
	}
	return true;
}

static bool is_one_of(const char *name, const char *const *names, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (strcmp(name, names[i]) == 0) {
			return true;
		}
	}
	return false;
}

/* What a store's directories and keys are called. A tenant of that name would be inside a directory
 * of the server's own; one with it between its ':' would name the keys of another: T:artifacts
 * begins the keys of T's artifacts. */
static bool is_reserved(const char *part, size_t len)
{
	static const char *const taken[] = {"tools", "skills", "workflows", "artifacts", "deps",
	    "vectors", "workspaces", "ws", "packages"};
	for (size_t i = 0; i < array_len(taken); i++) {
		if (len == strlen(taken[i]) && memcmp(part, taken[i], len) == 0) {
			return true;
		}
	}
	return false;
}

int store_check_prefix(const char *prefix, struct err *e)
{
	size_t len = strlen(prefix);
	if (len == 0 || len > SPACE_NAME_MAX || !is_made_of(prefix, "_-.:") || *prefix == '.' ||
	    strstr(prefix, "..") != NULL) {
		return err_set(e, ERR_INVALID,
		    "a store prefix must be 1-%d characters using only ASCII letters, digits, '_', "
		    "'-', ':' and '.', without '.' at its start and without '..'",
		    SPACE_NAME_MAX);
	}
	for (const char *at = prefix;; at++) {
		len = strcspn(at, ":");
		if (is_reserved(at, len)) {
			return err_set(e, ERR_INVALID,
			    "'%.*s' is a name that the store uses itself", (int)len, at);
		}
		at += len;
		if (*at == '\0') {
			return 0;
		}
	}
}

int store_check_space(const struct store_space *space, struct err *e)
{
	if (space->prefix != NULL && store_check_prefix(space->prefix, e) < 0) {
		return -1;
	}
	const char *w = space->workspace;
	if (w != NULL && (*w == '\0' || strlen(w) > SPACE_NAME_MAX || !is_made_of(w, "_-"))) {
		return err_set(e, ERR_INVALID,
		    "workspace_id must be 1-%d characters using only ASCII letters, digits, "
		    "underscores, or hyphens",
		    SPACE_NAME_MAX);
	}
	return 0;
}

static int check_skill(const char *name, struct err *e)
{
	static const char *const taken[] = {"list", "search", "get", "invoke", "create", "delete"};
	size_t len = strlen(name);
	if (len == 0 || len > RECORD_NAME_MAX || !is_made_of(name, "_") ||
	    isdigit((unsigned char)*name)) {
		return err_set(e, ERR_INVALID,
		    "Invalid skill name: '%.200s'. Skill names must be valid Python identifiers "
		    "(letters, digits, underscores, cannot start with digit), at most %d of them.",
		    text_is_utf8(name, len) ? name : "?", RECORD_NAME_MAX);
	}
	if (*name == '_') {
		return err_set(e, ERR_INVALID,
		    "Invalid skill name: '%s'. Names that begin with '_' are not skills.", name);
	}
	if (is_one_of(name, taken, array_len(taken))) {
		return err_set(
		    e, ERR_INVALID, "Invalid skill name: '%s' is a function of skills.", name);
	}
	return 0;
}

/* UTF-8 without control characters, so that it can be shown, logged and put into JSON. */
static bool is_presentable(const char *name, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)name[i];
		if (c < 0x20 || c == 0x7f) {
			return false;
		}
	}
	return text_is_utf8(name, len);
}

static int check_tool(const char *name, struct err *e)
{
	size_t len = strlen(name);
	if (len == 0 || len > RECORD_NAME_MAX || *name == '.' || strchr(name, '/') != NULL ||
	    !is_presentable(name, len)) {
		return err_set(e, ERR_INVALID,
		    "a tool's name must have 1-%d bytes of UTF-8, without '/', without control "
		    "characters, and without '.' at its start",
		    RECORD_NAME_MAX);
	}
	return 0;
}

int store_check_name(enum store_kind kind, const char *name, struct err *e)
{
	return kind == STORE_SKILLS ? check_skill(name, e) : check_tool(name, e);
}

static int check_segment(const char *name, const char *segment, size_t len, struct err *e)
{
	if ((len == 1 && *segment == '.') || (len == 2 && memcmp(segment, "..", 2) == 0)) {
		return err_set(e, ERR_INVALID, "Path traversal attempt detected: '%.200s'", name);
	}
	if (len == 0) {
		return err_set(e, ERR_INVALID, "an artifact's name must not have empty parts");
	}
	if (len > FILE_NAME_MAX) {
		return err_set(e, ERR_INVALID, "a part of an artifact's name has at most %d bytes",
		    FILE_NAME_MAX);
	}
	return 0;
}

int store_check_artifact_name(const char *name, struct err *e)
{
	size_t len = strlen(name);
	if (len == 0 || len > STORE_ARTIFACT_NAME_MAX || !is_presentable(name, len)) {
		return err_set(e, ERR_INVALID,
		    "an artifact's name must have 1-%d bytes of UTF-8 without control characters",
		    STORE_ARTIFACT_NAME_MAX);
	}
	if (*name == '/') {
		return err_set(e, ERR_INVALID, "Path traversal attempt detected: '%.200s'", name);
	}
	for (const char *at = name;; at++) {
		size_t n = strcspn(at, "/");
		if (check_segment(name, at, n, e) < 0) {
			return -1;
		}
		at += n;
		if (*at == '\0') {
			break;
		}
	}
	if (text_has_prefix(name, ".artifacts.") || text_has_prefix(name, ".carrel-") ||
	    strcmp(name, "__index__") == 0) {
		return err_set(e, ERR_INVALID, "'%.200s' is a name of the store's own", name);
	}
	return 0;
}
