"""Writes a text file as a C source: embed_text.py OUTPUT NAME FILE."""

import pathlib
import sys


def main(output, name, file):
    data = pathlib.Path(file).read_bytes() + b"\0"
    rows = (data[i:i + 24] for i in range(0, len(data), 24))
    lines = "\n".join("\t" + "".join(f"{byte}," for byte in row) for row in rows)
    pathlib.Path(output).write_text(f"extern const char {name}[];\nconst char {name}[] = {{\n{lines}\n}};\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
