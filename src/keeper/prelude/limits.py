"""Names the limit of the session that an exception stands for.

The answer is "" or one of "memory", "processes", "file_space", "files". It is a
reading of what Python was told, so it can be wrong in both directions; the side
that keeps the limits has the last word.
"""

import errno

_BY_ERRNO = {
    errno.ENOMEM: "memory",
    errno.ENOSPC: "file_space",
    errno.EDQUOT: "file_space",
    errno.EFBIG: "file_space",
    errno.EMFILE: "files",
    errno.ENFILE: "files",
}

# Functions of the standard library that start a process. EAGAIN out of one of them is the
# limit on processes; out of anything else it is a descriptor that does not block.
_STARTS_PROCESS = {"fork", "forkpty", "fork_exec", "posix_spawn", "posix_spawnp",
                   "_execute_child", "_posix_spawn", "_fork_exec", "_launch"}

_DEPTH_MAX = 3


def of(exc):
    """Returns the limit behind `exc`, looking through its causes and contexts."""
    for _ in range(_DEPTH_MAX):
        if exc is None:
            return ""
        limit = _of_one(exc)
        if limit:
            return limit
        exc = exc.__cause__ or exc.__context__
    return ""


def _of_one(exc):
    if isinstance(exc, MemoryError):
        return "memory"
    if isinstance(exc, OSError):
        if exc.errno == errno.EAGAIN:
            return "processes" if _innermost_function(exc) in _STARTS_PROCESS else ""
        return _BY_ERRNO.get(exc.errno, "")
    if isinstance(exc, RuntimeError) and "can't start new thread" in map(str, exc.args):
        return "processes"
    if isinstance(exc, BaseExceptionGroup):
        for part in exc.exceptions[:16]:
            limit = _of_one(part)
            if limit:
                return limit
    return ""


def _innermost_function(exc):
    tb = exc.__traceback__
    if tb is None:
        return ""
    while tb.tb_next is not None:
        tb = tb.tb_next
    return tb.tb_frame.f_code.co_name
