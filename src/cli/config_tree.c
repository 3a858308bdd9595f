#include "cli/config_tree.h"

#include <string.h>

#include "base/buf.h"
#include "base/text.h"

int config_bad(struct err *e, struct config_place p, const char *what)
{
	return err_set(e, ERR_INVALID, "configuration: %s%s: %s", p.prefix, p.key, what);
}

int config_get_text(const json_t *map, struct config_place p, const char **out, struct err *e)
{
	const json_t *j = json_object_get(map, p.key);
	if (j == NULL || json_is_null(j)) {
		return 0;
	}
	if (!json_is_string(j)) {
		return config_bad(e, p, "must be text");
	}
	*out = json_string_value(j);
	return 0;
}

int config_get_u32(const json_t *map, struct config_place p, uint32_t min, uint32_t max,
    uint32_t *out, struct err *e)
{
	const json_t *j = json_object_get(map, p.key);
	if (j == NULL || json_is_null(j)) {
		return 0;
	}
	json_int_t v = json_integer_value(j);
	if (!json_is_integer(j) || v < min || v > max) {
		return err_set(e, ERR_INVALID,
		    "configuration: %s%s: must be a whole number from %u to %u", p.prefix, p.key,
		    min, max);
	}
	*out = (uint32_t)v;
	return 0;
}

/* Seconds, whole or not, as milliseconds. */
int config_get_seconds(const json_t *map, struct config_place p, double min, double max,
    uint32_t *out_ms, struct err *e)
{
	const json_t *j = json_object_get(map, p.key);
	if (j == NULL || json_is_null(j)) {
		return 0;
	}
	double v = json_number_value(j);
	if (!json_is_number(j) || !(v >= min) || !(v <= max)) {
		return err_set(e, ERR_INVALID, "configuration: %s%s: must be %g to %g seconds",
		    p.prefix, p.key, min, max);
	}
	*out_ms = (uint32_t)(v * 1000);
	return 0;
}

int config_get_bytes(
    const json_t *map, struct config_place p, uint64_t min, uint64_t *out, struct err *e)
{
	const json_t *j = json_object_get(map, p.key);
	uint64_t v = 0;
	if (j == NULL || json_is_null(j)) {
		return 0;
	}
	bool ok = false;
	if (json_is_integer(j) && json_integer_value(j) >= 0) {
		v = (uint64_t)json_integer_value(j);
		ok = true;
	} else if (json_is_string(j)) {
		ok = text_to_bytes(json_string_value(j), &v) == 0;
	}
	if (!ok || v < min) {
		return err_set(e, ERR_INVALID,
		    "configuration: %s%s: must be a size such as 512m or 2g, at least %llu bytes",
		    p.prefix, p.key, (unsigned long long)min);
	}
	*out = v;
	return 0;
}

/* Fails on the first member of MAP that is not one of the NULL-ended NAMES. */
int config_only_known(
    const json_t *map, const char *prefix, const char *const *names, struct err *e)
{
	const char *key;
	json_t *value;
	json_object_foreach((json_t *)(uintptr_t)map, key, value)
	{
		const char *const *n = names;
		while (*n != NULL && strcmp(*n, key) != 0) {
			n++;
		}
		if (*n == NULL) {
			cleanup(buf_fini) struct buf known = BUF_INIT(1024);
			for (n = names; *n != NULL; n++) {
				(void)buf_addf(&known, "%s%s", n == names ? "" : ", ", *n);
			}
			return err_set(e, ERR_INVALID,
			    "configuration: %s%s is not known; known are: %s", prefix, key,
			    buf_str(&known));
		}
	}
	return 0;
}
