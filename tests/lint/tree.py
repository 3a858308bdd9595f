"""The files of the source tree, for the checks."""

import functools
import os
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Made by tools, or not ours.
SKIPPED = {".git", "node_modules", "__pycache__", "corpus"}


class NotHere(Exception):
    """A check that this machine's tools cannot make; why."""


@functools.cache
def files(*suffixes):
    """Every file of the project, or those whose name ends in one of suffixes."""
    found = []
    for directory, folders, names in os.walk(ROOT):
        folders[:] = sorted(f for f in folders if f not in SKIPPED and not is_build(directory, f))
        found += [pathlib.Path(directory, name) for name in sorted(names) if name not in SKIPPED]
    return [f for f in found if not f.is_symlink() and (not suffixes or f.name.endswith(suffixes))]


def is_build(directory, folder):
    return pathlib.Path(directory) == ROOT and (folder == "build" or folder.startswith("build-"))


def scripts():
    """The shell scripts, by their first line."""
    return [f for f in files() if f.suffix in ("", ".sh") and
            f.open("rb").readline().startswith((b"#!/bin/sh", b"#!/bin/bash"))]


def c_files(*folders):
    """The C files beneath folders of the root."""
    return [f for f in files(".c", ".h") if f.relative_to(ROOT).parts[0] in folders]


def name(path):
    return str(path.relative_to(ROOT))
