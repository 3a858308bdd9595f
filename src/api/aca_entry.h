/* aca_entry: a file or directory as JSON, in the old shape and in the new one. */
#ifndef API_ACA_ENTRY_H
#define API_ACA_ENTRY_H

#include <jansson.h>

#include "engine/files.h"

/* {"name","type","contentType","sizeInBytes","lastModifiedAt","directory"}. A new reference. */
json_t *aca_entry_new(const struct files_entry *f);

/* {"$id":"2","properties":{"$id":"3","filename","size","lastModifiedTime"}}; *ID counts the $id
 * members of a reply. A new reference. */
json_t *aca_entry_old(const struct files_entry *f, unsigned *id);

/* {"$id":"1","value":[ENTRY]}; takes over ENTRIES, an array. */
json_t *aca_entries_old(json_t *entries);

#endif
