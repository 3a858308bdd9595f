#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include "keeper/arena.h"

#define HUGE_BYTES (2UL << 20)
/* Address space only; past it arenas are ordinary memory. */
#define REGION_BYTES (512UL << 20)
/* What Python 3.11 asks for at a time (ARENA_SIZE in Objects/obmalloc.c). */
#define ARENA_BYTES (1UL << 20)

static char *region; /* aligned to HUGE_BYTES; NULL when there is none */
static size_t used_bytes;
/* Pieces that the image gave back; they are given out again, because a hole would split its page.
 */
static void *given_back[REGION_BYTES / ARENA_BYTES];
static size_t given_back_count;
static bool in_image;

static void *arena_alloc(void *ctx, size_t size)
{
	(void)ctx;
	if (in_image && size == ARENA_BYTES && given_back_count > 0) {
		return given_back[--given_back_count];
	}
	if (in_image && size == ARENA_BYTES && size <= REGION_BYTES - used_bytes) {
		void *p = region + used_bytes;
		used_bytes += size;
		return p;
	}
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return p == MAP_FAILED ? NULL : p;
}

/* A session's piece of the region is not given out again; its memory goes back. */
static void arena_free(void *ctx, void *p, size_t size)
{
	(void)ctx;
	uintptr_t at = (uintptr_t)p - (uintptr_t)region;
	if (region == NULL || (uintptr_t)p < (uintptr_t)region || at >= used_bytes) {
		(void)munmap(p, size);
	} else if (in_image) {
		given_back[given_back_count++] = p;
	} else {
		(void)madvise(p, size, MADV_DONTNEED);
	}
}

void arena_install(void)
{
	char *p = mmap(NULL, REGION_BYTES + HUGE_BYTES, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED) {
		return;
	}
	region = p + (HUGE_BYTES - (uintptr_t)p % HUGE_BYTES) % HUGE_BYTES;
	(void)madvise(region, REGION_BYTES, MADV_HUGEPAGE);
	in_image = true;
	PyObjectArenaAllocator allocator = {NULL, arena_alloc, arena_free};
	PyObject_SetArenaAllocator(&allocator);
}

void arena_close_image(void)
{
	if (in_image) {
		(void)munmap(region + used_bytes, REGION_BYTES - used_bytes);
	}
	in_image = false;
}

size_t arena_image(uintptr_t *begin)
{
	*begin = (uintptr_t)region;
	return region == NULL ? 0 : used_bytes;
}

void arena_leave_image(void)
{
	(void)prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
}
