#!/usr/bin/python3
"""Builds the wheel of the package `carrel`, with the standard library alone.

    build_wheel.py DIRECTORY

Prints the wheel's path. The same sources give the same bytes: names are sorted, times are
SOURCE_DATE_EPOCH's or fixed. It is also the build backend that pyproject.toml names, so that
`pip install ./python` needs no network.
"""

import base64
import gzip
import hashlib
import io
import os
import pathlib
import re
import sys
import tarfile
import time
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
NAME = "carrel"
SUFFIXES = (".py", ".typed")
# The earliest that a zip can say.
EPOCH_MIN = 315532800


def version():
    text = (HERE / NAME / "__init__.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE).group(1)


def metadata():
    return f"""Metadata-Version: 2.1
Name: {NAME}
Version: {version()}
Summary: Isolated Python sessions for code that agents write
License: Apache-2.0
License-File: LICENSE
Requires-Python: >=3.9
Classifier: License :: OSI Approved :: Apache Software License
Classifier: Operating System :: POSIX :: Linux
Classifier: Programming Language :: Python :: 3
Classifier: Typing :: Typed
Description-Content-Type: text/markdown

""" + (HERE / "README.md").read_text(encoding="utf-8")


def sources():
    """(name in an archive, bytes), sorted."""
    files = sorted(path for path in (HERE / NAME).rglob("*") if path.suffix in SUFFIXES)
    return [(str(path.relative_to(HERE)), path.read_bytes()) for path in files]


def license_text():
    """The project's, above us in its tree, beside us in a source archive."""
    found = [path for path in (HERE / "LICENSE", HERE.parent / "LICENSE") if path.is_file()]
    return found[0].read_bytes()


def epoch():
    return max(EPOCH_MIN, int(os.environ.get("SOURCE_DATE_EPOCH") or 0))


def record_line(name, data):
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(data)}\n"


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    """Writes the wheel; its file name."""
    info = f"{NAME}-{version()}.dist-info"
    wheel = "Wheel-Version: 1.0\nGenerator: carrel\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    entries = sources() + [(f"{info}/METADATA", metadata().encode()),
                           (f"{info}/LICENSE", license_text()),
                           (f"{info}/WHEEL", wheel.encode())]
    record = "".join(record_line(name, data) for name, data in entries)
    entries.append((f"{info}/RECORD", (record + f"{info}/RECORD,,\n").encode()))
    name = f"{NAME}-{version()}-py3-none-any.whl"
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in entries:
            entry = zipfile.ZipInfo(path, time.gmtime(epoch())[:6])
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.create_system = 3
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, data)
    pathlib.Path(wheel_directory, name).write_bytes(out.getvalue())
    return name


def build_sdist(sdist_directory, config_settings=None):
    """Writes the source archive; its file name."""
    base = f"{NAME}-{version()}"
    entries = sources() + [(name, (HERE / name).read_bytes())
                           for name in ("README.md", "build_wheel.py", "pyproject.toml")]
    entries += [("LICENSE", license_text()), ("PKG-INFO", metadata().encode())]
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in sorted(entries):
            entry = tarfile.TarInfo(f"{base}/{name}")
            entry.size, entry.mtime, entry.mode = len(data), epoch(), 0o644
            archive.addfile(entry, io.BytesIO(data))
    name = f"{base}.tar.gz"
    pathlib.Path(sdist_directory, name).write_bytes(gzip.compress(plain.getvalue(), mtime=epoch()))
    return name


def main():
    if len(sys.argv) != 2:
        sys.exit("build_wheel.py DIRECTORY")
    directory = pathlib.Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    print(directory / build_wheel(directory))


if __name__ == "__main__":
    main()
