"""Packages that the server has put into the session since it began.

Each set of packages is a directory of its own, which is there, read-only, before its
name is told. They come last on sys.path, so that nothing in them takes the place of
what the server has preloaded or the user has uploaded.
"""

import importlib
import os
import sys

directory = "/mnt/packages"  # elsewhere where there is no mount namespace; set before the fork

_shown = []  # the paths that this module has put on sys.path


def changed(names):
    """Makes the packages in these directories importable, and no longer those of others."""
    # Names alone: no path leads elsewhere.
    plain = (name for name in names if name not in ("", ".", "..") and "/" not in name)
    paths = [os.path.join(directory, name) for name in dict.fromkeys(plain)]
    if paths == _shown:
        return
    for path in _shown:
        if path not in paths and path in sys.path:
            sys.path.remove(path)
    for path in paths:
        if path not in sys.path:
            sys.path.append(path)
    _tell_subprocesses(paths)
    _shown[:] = paths
    importlib.invalidate_caches()


def _tell_subprocesses(paths):
    """A PYTHONPATH of the user's own stays as it is."""
    if os.environ.get("PYTHONPATH", "") == os.pathsep.join(_shown):
        os.environ["PYTHONPATH"] = os.pathsep.join(paths)
