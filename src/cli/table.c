#include "cli/table.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "cli/terminal.h"

#define CELL_MAX_BYTES ((size_t)1 << 20)

/* Texts as they are, null as nothing, all else as JSON. */
static int cell_text(const json_t *value, struct buf *out)
{
	buf_clear(out);
	if (value == NULL || json_is_null(value)) {
		return 0;
	}
	if (json_is_string(value)) {
		return terminal_escape_all(
		    out, json_string_value(value), json_string_length(value));
	}
	cleanup(text_free) char *text = json_dumps(value, JSON_ENCODE_ANY);
	return text == NULL ? -1 : terminal_escape_all(out, text, strlen(text));
}

static size_t width_of(const char *text)
{
	size_t width = 0;
	for (; *text != '\0'; text++) {
		width += ((unsigned char)*text & 0xc0) != 0x80;
	}
	return width;
}

static int add_cell(struct buf *line, const char *text, size_t width, bool last)
{
	int r = buf_add_str(line, text);
	for (size_t n = width_of(text); r == 0 && !last && n < width + 2; n++) {
		r = buf_add_char(line, ' ');
	}
	return r < 0 || !last ? r : buf_add_char(line, '\n');
}

int table_print(struct output *o, const json_t *rows, const struct table_column *columns,
    size_t count, struct err *e)
{
	cleanup(buf_fini) struct buf cell = BUF_INIT(CELL_MAX_BYTES);
	cleanup(buf_fini) struct buf all = BUF_INIT(CLIENT_REPLY_MAX_BYTES);
	size_t widths[TABLE_COLUMNS_MAX];
	size_t i;
	const json_t *row;
	int r = 0;
	for (size_t c = 0; c < count; c++) {
		widths[c] = strlen(columns[c].title);
		json_array_foreach(rows, i, row)
		{
			r |= cell_text(json_object_get(row, columns[c].key), &cell);
			size_t width = width_of(buf_str(&cell));
			widths[c] = width > widths[c] ? width : widths[c];
		}
	}
	for (size_t c = 0; c < count; c++) {
		r |= add_cell(&all, columns[c].title, widths[c], c + 1 == count);
	}
	json_array_foreach(rows, i, row)
	{
		for (size_t c = 0; c < count; c++) {
			r |= cell_text(json_object_get(row, columns[c].key), &cell);
			r |= add_cell(&all, buf_str(&cell), widths[c], c + 1 == count);
		}
	}
	if (r < 0) {
		return err_set(e, ERR_INTERNAL, "the list is too large to be shown; use -o json");
	}
	return output_bytes(o, STDOUT_FILENO, buf_str(&all), all.len, e);
}
