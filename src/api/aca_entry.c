#include "api/aca_entry.h"

#include <stdio.h>
#include <string.h>

#include "api/aca.h"
#include "base/mime.h"

/* The size that the specification's examples give a directory. */
#define DIRECTORY_BYTES 4096

json_t *aca_entry_new(const struct files_entry *f)
{
	uint64_t size = f->is_directory ? DIRECTORY_BYTES : f->size_bytes;
	return json_pack("{s:o, s:s, s:s, s:I, s:o, s:o}", "name", aca_text(f->name), "type",
	    f->is_directory ? "directory" : "file", "contentType",
	    f->is_directory ? "application/octet-stream" : mime_of_name(f->name), "sizeInBytes",
	    (json_int_t)size, "lastModifiedAt", aca_time(f->modified_wall_us), "directory",
	    aca_text(f->directory));
}

static json_t *id_json(unsigned id)
{
	char text[16];
	(void)snprintf(text, sizeof(text), "%u", id);
	return json_string(text);
}

json_t *aca_entry_old(const struct files_entry *f, unsigned *id)
{
	cleanup(buf_fini) struct buf name = BUF_INIT(FILES_PATH_MAX + FILES_NAME_MAX + 2);
	(void)buf_addf(&name, "%s%s%s", f->directory, f->directory[0] != '\0' ? "/" : "", f->name);
	unsigned outer = *id;
	*id += 2;
	return json_pack("{s:o, s:{s:o, s:o, s:I, s:o}}", "$id", id_json(outer), "properties",
	    "$id", id_json(outer + 1), "filename", aca_string(buf_str(&name), name.len), "size",
	    (json_int_t)f->size_bytes, "lastModifiedTime", aca_time(f->modified_wall_us));
}

json_t *aca_entries_old(json_t *entries)
{
	return json_pack("{s:s, s:o}", "$id", "1", "value", entries);
}
