"""The source of past cells, so that tracebacks show the user's own lines.

A cell's file name is "<cell N>". linecache is where traceback, inspect and pdb
look; our own table lets the lines come back after linecache.clearcache().
Bounded: the oldest cells go first, past CELLS_MAX cells or CHARS_MAX characters.
"""

import linecache
import sys
from collections import OrderedDict

PREFIX = "<cell "
CELLS_MAX = 256
CHARS_MAX = 8 * 1024 * 1024

_count = 0
_chars = 0
_entries = OrderedDict()
_cache = linecache.cache
_getframe = sys._getframe


def add(source):
    """Gives the next cell its name, remembers its source, and returns the name."""
    global _count
    _count += 1
    name = f"<cell {_count}>"
    replace(name, source)
    return name


def replace(name, source):
    """Sets the source of a cell, as when a magic was turned into plain Python."""
    global _chars, _cache
    old = _entries.pop(name, None)
    if old is not None:
        _chars -= old[0]
    # A modification time of None tells linecache.checkcache() to leave the entry alone.
    entry = (len(source), None, [line + "\n" for line in source.split("\n")], name)
    _entries[name] = entry
    _chars += entry[0]
    if not isinstance(linecache.cache, dict):
        linecache.cache = {}  # user code put something else there
    _cache = linecache.cache
    _cache[name] = entry
    while len(_entries) > CELLS_MAX or (_chars > CHARS_MAX and len(_entries) > 1):
        gone, entry = _entries.popitem(last=False)
        _chars -= entry[0]
        _cache.pop(gone, None)


def restore():
    """Puts every remembered cell back into linecache, in case user code cleared it."""
    linecache.cache.update(_entries)


def line(name, number):
    """Returns line `number` (from 1) of a cell, or "" when there is none."""
    entry = _entries.get(name)
    if entry is None or not 1 <= number <= len(entry[2]):
        return ""
    return entry[2][number - 1]


def place():
    """Returns the file name and line of the cell that runs, or of the last line of the last one."""
    frame = _getframe()
    while frame is not None:
        if frame.f_code.co_filename.startswith(PREFIX):
            return frame.f_code.co_filename, frame.f_lineno
        frame = frame.f_back
    name = f"{PREFIX}{_count}>"
    entry = _entries.get(name)
    return name, 1 if entry is None else len(entry[2])


def forget():
    """Forgets every cell and starts counting from 1 again."""
    global _count, _chars
    for name in _entries:
        linecache.cache.pop(name, None)
    _entries.clear()
    _count = _chars = 0
