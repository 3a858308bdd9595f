/* prelude_sources: the files of src/keeper/prelude as the build put them into the binary. */
#ifndef KEEPER_PRELUDE_SOURCES_H
#define KEEPER_PRELUDE_SOURCES_H

#include <stddef.h>

struct prelude_source {
	const char *name; /* the module's: "_carrel", "_carrel.cell", ... */
	const char *code; /* a code object, marshalled by the same version of Python */
	size_t len;
};

extern const struct prelude_source prelude_sources[];
extern const size_t prelude_source_count;

#endif
