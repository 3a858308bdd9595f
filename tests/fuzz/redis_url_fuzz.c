/* What stands behind --target, and a skill's source. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cli/skill_source.h"
#include "store/redis_url.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct err e;
	struct redis_url u;
	char *text = strndup((const char *)data, size);
	if (text != NULL && redis_url_parse(text, &u, &e) == 0) {
		redis_url_fini(&u);
	}
	free(text);
	struct buf description = BUF_INIT(4096);
	(void)skill_source_read((const char *)data, size, &description, &e);
	buf_fini(&description);
	return 0;
}
