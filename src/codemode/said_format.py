"""Names what skill_source.py says of sources: said_format.py OUTPUT SKILL_SOURCE

What was said is kept beyond a server's life. It is another thing when the file that says it changes,
or the version of Python whose parser it asks.
"""

import hashlib
import pathlib
import sys


def main(output, source):
    name = hashlib.sha256(sys.version.encode() + pathlib.Path(source).read_bytes()).hexdigest()[:16]
    pathlib.Path(output).write_text(
        f'#include "codemode/said.h"\n\nconst char said_format[] = "{name}";\n')


if __name__ == "__main__":
    main(*sys.argv[1:])
