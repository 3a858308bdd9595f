/*
 * argv: from a definition and a call's arguments to the words of a command line. Pure, and no
 * shell.
 *
 * The form with a schema (py-code-mode 0.2 and later): the command, then each option that is given,
 * in the schema's order, then the positionals in theirs; a value is one word whatever is in it.
 * Over the original: types, enums and required parameters are checked, an unknown argument is an
 * error, `flag:` is the option's own word, `--` goes before the positionals where the definition
 * says end_of_options, and where it does not a positional that begins with '-' is refused, because
 * the command would read it as an option (allow_dash lets it through).
 *
 * The form with a template (before 0.2) is split as it always was: the template with the values in
 * it, by the rules of Python's shlex.split. So a value with a space in it is two words, and may
 * bring options of its own; that is what "{flags}" is for.
 *
 * Without either: true becomes --name, a list becomes words, anything else --name=value.
 */
#ifndef TOOLS_ARGV_H
#define TOOLS_ARGV_H

#include <jansson.h>

#include "base/err.h"

#define ARGV_WORDS_MAX 4096
#define ARGV_WORD_MAX_BYTES (128U * 1024 - 1) /* the kernel's MAX_ARG_STRLEN */
#define ARGV_TOTAL_MAX_BYTES (1U << 20)

/* The words (a new array of texts) of CALLABLE (NULL: the tool itself) of TOOL, an object of
 * tools/definition.h. NULL with ERR_INVALID, or ERR_NOT_FOUND for a callable it does not have. */
json_t *argv_build(
    const json_t *tool, const char *callable, const json_t *arguments, struct err *e);

/* The names in a template, each once, in their order (new). NULL with ERR_INVALID for a template
 * that is not one. */
json_t *argv_placeholders(const char *template, struct err *e);

/* Adds to WORDS what Python's shlex.split makes of TEXT. 0, or -1 with ERR_INVALID. */
int argv_split(const char *text, json_t *words, struct err *e);

#endif
