"""Memory held back for the cell that comes after one that filled the session.

Without it a session whose variables fill its memory limit could not even compile
the cell that lets go of them. The reserve is address space and never touched: it
counts to the limit and costs no memory.
"""

import mmap

BYTES = 4 * 1024 * 1024

_held = None


def hold():
    """Takes the reserve back, if there is room for it."""
    global _held
    if _held is None:
        try:
            _held = mmap.mmap(-1, BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except (OSError, MemoryError):
            pass


def spend():
    """Gives the reserve up. Returns whether there was one."""
    global _held
    held, _held = _held, None
    if held is None:
        return False
    held.close()
    return True
