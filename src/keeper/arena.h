/*
 * arena: where Python's small objects of the warm image live.
 *
 * The keeper's arenas come from one region, which image.h puts into a file when it is complete. It
 * asks for huge pages: loading takes fewer faults, and where there is no such file a fork has 512
 * times fewer pages to copy. A session, whose own objects come and go, gets ordinary memory.
 */
#ifndef KEEPER_ARENA_H
#define KEEPER_ARENA_H

#include <stddef.h>
#include <stdint.h>

/* Makes the interpreter take its arenas from here. Before it is started. Without huge pages on the
 * host it makes no difference. */
void arena_install(void);

/* The image is complete: what is allocated from now on, here and in every session, is ordinary
 * memory, and the rest of the region is no longer there. */
void arena_close_image(void);

/* Where the image's arenas are, and how many bytes; 0 for none. After arena_close_image. */
size_t arena_image(uintptr_t *begin);

/* In a session: no huge pages, or its own first megabyte would be two. */
void arena_leave_image(void);

#endif
