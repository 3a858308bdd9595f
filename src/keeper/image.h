/*
 * image: the memory that sessions share, as a file of its own.
 *
 * Anonymous memory is copied into a fork's page tables page by page, and taken down so, whether the
 * session looks at it or not. Private pages of a file are not: the fork only notes where the file is
 * mapped, and finds a page there when it first looks at it. So what the keeper has loaded is written
 * into a file in memory once, and mapped in its own place again.
 *
 * Invariants: nothing moves, no byte changes, no protection is loosened; every mapping is private,
 * and the file is sealed against writing and closed before the first fork, so that no session can
 * change what another one sees.
 */
#ifndef KEEPER_IMAGE_H
#define KEEPER_IMAGE_H

/* Puts the arenas, libc's heap and the libraries' data into the file. After the last import and with
 * one thread. What cannot be put there stays as it was: that costs time, nothing else. Returns how
 * many bytes were, or -errno. */
long image_share(void);

#endif
