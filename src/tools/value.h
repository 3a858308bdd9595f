/*
 * value: arguments of tools: their types, their checks, and how they become text. Pure.
 *
 * Types are those of definitions: string, integer, number, boolean, array, object; Python's names
 * (str, int, float, bool, list, dict) mean the same.
 */
#ifndef TOOLS_VALUE_H
#define TOOLS_VALUE_H

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"

enum value_type {
	VALUE_STRING,
	VALUE_INTEGER,
	VALUE_NUMBER,
	VALUE_BOOLEAN,
	VALUE_ARRAY,
	VALUE_OBJECT,
	VALUE_ANY,
};

/* 0, or -EINVAL for a name that is no type's. */
int value_type_parse(const char *name, enum value_type *out);

/* Text (new) as Python's str() has it of a string, a number or a boolean (True, False); NULL for
 * anything else. */
json_t *value_to_text(const json_t *value);

/* Checks VALUE for the parameter NAME against TYPE and ENUMERATION (array or NULL), and gives what
 * is to be used (new reference): a number in text counts as one, a number as text where text is
 * wanted, one text as a list of one. NULL with ERR_INVALID. */
json_t *value_check(const char *name, enum value_type type, const json_t *enumeration,
    const json_t *value, struct err *e);

/* Checks that ARGUMENTS is an object without a key that is not in KNOWN (an array of objects with
 * "name"). 0, or -1 with ERR_INVALID that names the known ones. */
int value_check_known(const json_t *arguments, const json_t *known, struct err *e);

/* The arguments of one call made ready: each of PARAMETERS ({name, type, required, default, enum})
 * that ARGUMENTS gives is checked, a default stands in where it gives none (or null), an unknown
 * one is an error. A new object, or NULL with ERR_INVALID. */
json_t *value_arguments(const json_t *arguments, const json_t *parameters, struct err *e);

#endif
