#include "base/json_read.h"

#include "base/json_weight.h"

void json_read(struct json_read *r, const struct buf *text, size_t flags, size_t weight_max)
{
	*r = (struct json_read){.weight = json_weight(buf_str(text), text->len)};
	r->heavy = r->weight > weight_max;
	if (!r->heavy) {
		r->value = json_loadb(buf_str(text), text->len, flags, &r->error);
	}
}
