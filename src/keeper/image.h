/*
 * image: the memory that sessions share, as a file of its own.
 *
 * Anonymous memory is copied into a fork's page tables page by page, and taken down so, whether the
 * session looks at it or not. Private pages of a file are not: the fork notes where the file is
 * mapped, and a page is found when it is first looked at. So what the keeper has loaded is written
 * into a file in memory once, and mapped in its own place again. And what the fork does for each
 * mapping it does for two a library, not five.
 *
 * Invariants: nothing moves and no byte changes; every mapping is private, and the file is sealed
 * and closed before the first fork, so that no session can change what another one sees. Within the
 * process protections are loosened: what a library only reads may be executed, as it was before
 * linkers kept it apart, and what it relocated can be written to. That is no wall: a session may
 * run any code and change any protection of its own, and the keeper reads nothing of anybody's.
 */
#ifndef KEEPER_IMAGE_H
#define KEEPER_IMAGE_H

/* Puts the arenas, libc's heap and the libraries' data into the file. After the last import, after
 * arena_close_image, and with one thread. Where it cannot be done the image stays as it was, which
 * costs time and nothing else. */
void image_share(void);

#endif
