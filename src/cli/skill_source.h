/*
 * skill_source: what can be told of a skill's Python source without a Python: its description, and
 * faults that any reader of Python would stop at. It splits the text into strings, comments,
 * brackets and statements, and believes no more of it; whether the code is right, who runs it finds
 * out. Source of what a skill is: py-code-mode's loader.
 */
#ifndef CLI_SKILL_SOURCE_H
#define CLI_SKILL_SOURCE_H

#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

/* Adds to DESCRIPTION the first line of the module's docstring, or else of that of its function
 * run, without the white space around it; nothing when there is none. 0, or -1 with ERR_INVALID and
 * "line N: ..." for a text that is not UTF-8, leaves a string or a bracket open, or defines no
 * function run. */
int skill_source_read(const char *text, size_t len, struct buf *description, struct err *e);

#endif
