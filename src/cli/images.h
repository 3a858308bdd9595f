/*
 * images: pictures that a cell showed, saved in the current directory.
 *
 * Invariants: a file is always a new one (O_EXCL), named carrel-<id>-<n>.<ext> where nothing of the
 * name comes from the session; at most IMAGES_MAX files and IMAGES_MAX_BYTES bytes for one cell.
 */
#ifndef CLI_IMAGES_H
#define CLI_IMAGES_H

#include <jansson.h>
#include <stdint.h>

#include "base/err.h"

#define IMAGES_MAX 64
#define IMAGES_MAX_BYTES ((uint64_t)256 << 20)
#define IMAGES_NAME_BYTES 48
#define IMAGES_ID_BYTES 9

struct images {
	char id[IMAGES_ID_BYTES]; /* up to 8 letters and digits of the execution's id */
	unsigned last_number;
	unsigned count;
	uint64_t bytes;
	uint64_t marks[IMAGES_MAX]; /* of the encoded form of each saved one */
};

/* All zero with the id of the cell, or "cell" where it has no letters. */
void images_init(struct images *im, const char *execution_id);

/* The picture in a MIME bundle (an object of MIME type to text): its type, or NULL for none. */
const char *images_find(const json_t *bundle);

/* Saves DATA, of a type images_find gave, and writes the file's name to NAME. 0; 1 when the same
 * was saved already in this cell; -1 with ERR_INTERNAL (cannot write), ERR_TOO_LARGE, or
 * ERR_UNAVAILABLE (not base64). */
int images_save(struct images *im, const char *mime_type, const json_t *data,
    char name[IMAGES_NAME_BYTES], struct err *e);

#endif
