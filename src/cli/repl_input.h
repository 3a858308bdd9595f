/*
 * repl_input: is what was typed so far a whole cell?
 *
 * It reads Python only as far as that question needs: strings, brackets, comments, line joining,
 * and the ':' that opens a block. A cell that can only be a mistake counts as whole, so that the
 * session says what is wrong with it.
 */
#ifndef CLI_REPL_INPUT_H
#define CLI_REPL_INPUT_H

#include <stdbool.h>
#include <stddef.h>

/* TEXT is all lines so far, each with its LF. False while a bracket, a triple-quoted string or a
 * joined line is open, and, once a line has ended in ':' or begun with '@' or the cell with '%%',
 * until a blank line. Of what was PASTED a blank line may be in the middle: a last line outside of
 * all blocks ends it too. */
bool repl_input_is_whole(const char *text, size_t len, bool pasted);

/* True when there is nothing but white space in it. */
bool repl_input_is_blank(const char *text, size_t len);

#endif
