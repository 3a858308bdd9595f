"""Writes the prelude's files, compiled, as a C source: embed.py OUTPUT FILE...

Code objects rather than text, so that a server's start does not compile. The build sees to it that
the interpreter that runs this is of the version that is embedded.
"""

import marshal
import pathlib
import sys


def module_name(path):
    return "_carrel" if path.stem == "__init__" else f"_carrel.{path.stem}"


def compiled(path):
    """The module's code, under the file name that marks the prelude's own frames.

    Frames with the two words of the import system in it are passed over by warnings: one whose
    stacklevel leads out of the cell is placed as in a script, and not in a file of ours.
    """
    name = f"<{module_name(path)} importlib._bootstrap>"
    return marshal.dumps(compile(path.read_bytes(), name, "exec", dont_inherit=True))


def literal(data):
    """Bytes as the lines of a C initializer of signed characters."""
    rows = (data[i:i + 24] for i in range(0, len(data), 24))
    signed = ("".join(f"{byte - 256 if byte > 127 else byte}," for byte in row) for row in rows)
    return "\n".join("\t" + row for row in signed)


def main(output, files):
    parts = ['#include "keeper/prelude_sources.h"\n']
    table = []
    for number, path in enumerate(sorted(map(pathlib.Path, files))):
        data = compiled(path)
        parts.append(f"static const char code_{number}[] = {{\n{literal(data)}\n}};\n")
        table.append(f'\t{{"{module_name(path)}", code_{number}, {len(data)}}},')
    rows = "\n".join(table)
    parts.append(f"const struct prelude_source prelude_sources[] = {{\n{rows}\n}};\n")
    parts.append(f"const size_t prelude_source_count = {len(table)};\n")
    pathlib.Path(output).write_text("\n".join(parts))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
