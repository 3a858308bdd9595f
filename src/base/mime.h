/* mime: the content type of a file, by its name. */
#ifndef BASE_MIME_H
#define BASE_MIME_H

#include <stdbool.h>

/* By the extension, without case; application/octet-stream when it is none of the table's. Text
 * types carry "; charset=utf-8". Static. */
const char *mime_of_name(const char *name);

/* True when data of this type is text that JSON can carry as it is, once it is UTF-8. */
bool mime_is_text(const char *type);

#endif
