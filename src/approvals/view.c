#include "approvals/view.h"

#include <stdint.h>
#include <string.h>

#include "base/clock.h"
#include "base/compiler.h"
#include "base/text.h"

static json_t *time_of(const json_t *us)
{
	char text[CLOCK_RFC3339_BYTES];
	return json_is_integer(us) ? json_string(clock_rfc3339(json_integer_value(us), 6, text))
				   : json_null();
}

/* {…, at_us} to {…, at}. */
static json_t *with_time(const json_t *from)
{
	json_t *to = json_copy((json_t *)(uintptr_t)from);
	(void)json_object_set_new(to, "at", time_of(json_object_get(from, "at_us")));
	(void)json_object_del(to, "at_us");
	return to;
}

static json_t *with_times(const json_t *list)
{
	size_t i;
	json_t *one;
	json_t *out = json_array();
	json_array_foreach(list, i, one)
	{
		(void)json_array_append_new(out, with_time(one));
	}
	return out;
}

static json_t *seconds_of(const json_t *ms)
{
	json_int_t n = json_integer_value(ms);
	return !json_is_integer(ms) ? json_null()
	       : n % 1000 == 0      ? json_integer(n / 1000)
				    : json_real((double)n / 1000);
}

static json_t *settings_of(const json_t *settings)
{
	return json_pack("{s:o, s:o, s:O?, s:O?}", "deadline_seconds",
	    seconds_of(json_object_get(settings, "deadline_ms")), "timeout_seconds",
	    seconds_of(json_object_get(settings, "timeout_ms")), "callback",
	    json_object_get(settings, "callback"), "promote", json_object_get(settings, "promote"));
}

json_t *view_approval(const json_t *approval, bool every_tenant)
{
	static const struct {
		const char *name;
		const char *from;
	} times[] = {
	    {"created", "created_us"}, {"changed", "changed_us"}, {"deadline", "deadline_us"}};
	json_t *to = json_copy((json_t *)(uintptr_t)approval);
	if (to == NULL) {
		return NULL;
	}
	for (size_t i = 0; i < array_len(times); i++) {
		(void)json_object_set_new(
		    to, times[i].name, time_of(json_object_get(approval, times[i].from)));
		(void)json_object_del(to, times[i].from);
	}
	if (!every_tenant) {
		(void)json_object_del(to, "tenant");
	}
	const json_t *settings = json_object_get(approval, "settings");
	if (json_is_object(settings)) {
		(void)json_object_set_new(to, "settings", settings_of(settings));
	}
	const json_t *decisions = json_object_get(approval, "decisions");
	if (json_is_array(decisions)) {
		(void)json_object_set_new(to, "decisions", with_times(decisions));
	}
	return to;
}

static json_t *view_list(const json_t *approvals, bool every_tenant)
{
	size_t i;
	json_t *one;
	json_t *out = json_array();
	json_array_foreach(approvals, i, one)
	{
		(void)json_array_append_new(out, view_approval(one, every_tenant));
	}
	return out;
}

json_t *view_answer(const json_t *answer, bool every_tenant)
{
	const char *name;
	json_t *value;
	json_t *to = json_object();
	json_object_foreach((json_t *)(uintptr_t)answer, name, value)
	{
		if (strcmp(name, "approval") == 0) {
			(void)json_object_set_new(to, name, view_approval(value, every_tenant));
		} else if (strcmp(name, "approvals") == 0) {
			(void)json_object_set_new(to, name, view_list(value, every_tenant));
		} else if (strcmp(name, "events") == 0) {
			(void)json_object_set_new(to, name, with_times(value));
		} else if (strcmp(name, "changed") != 0) {
			(void)json_object_set(to, name, value);
		}
	}
	return to;
}
