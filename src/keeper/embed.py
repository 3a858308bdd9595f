"""Writes the prelude's files as a C source: embed.py OUTPUT FILE..."""

import pathlib
import sys


def literal(data):
    """Bytes as the lines of a C initializer."""
    rows = (data[i:i + 24] for i in range(0, len(data), 24))
    return "\n".join("\t" + "".join(f"{byte - 256 if byte > 127 else byte}," for byte in row) for row in rows)


def main(output, files):
    parts = ['#include "keeper/prelude_sources.h"\n']
    table = []
    for number, path in enumerate(sorted(map(pathlib.Path, files))):
        data = path.read_bytes()
        name = "_carrel" if path.stem == "__init__" else f"_carrel.{path.stem}"
        parts.append(f"static const char text_{number}[] = {{\n{literal(data)}\n\t0}};\n")
        table.append(f'\t{{"{name}", text_{number}, {len(data)}}},')
    rows = "\n".join(table)
    parts.append(f"const struct prelude_source prelude_sources[] = {{\n{rows}\n}};\n")
    parts.append(f"const size_t prelude_source_count = {len(table)};\n")
    pathlib.Path(output).write_text("\n".join(parts))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
