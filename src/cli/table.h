/* table: rows for people, a header above them. What servers and sessions say stays within its row.
 */
#ifndef CLI_TABLE_H
#define CLI_TABLE_H

#include "cli/output.h"

#define TABLE_COLUMNS_MAX 8

struct table_column {
	const char *title;
	const char *key; /* of the row's object; a member that is missing is empty */
};

/* ROWS is an array of objects. The last column is as wide as it is. 0, or -1 with ERR_INTERNAL. */
int table_print(struct output *o, const json_t *rows, const struct table_column *columns,
    size_t count, struct err *e);

#endif
