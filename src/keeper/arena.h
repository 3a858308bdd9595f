/*
 * arena: where Python's small objects of the warm image live.
 *
 * A fork copies the image's page tables, and an exit takes them down, page by page. On huge pages
 * that is 512 times less to do. So the keeper's arenas come from one region that asks for them; a
 * session, whose own objects come and go, gets ordinary memory.
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
