"""The session's child processes: which of them user code started itself.

The session is process 1 of its own process namespace, so a process whose parent
ended becomes its child, and is reaped when it ends; but a process that user code
started itself must stay for its own wait(), or Popen would lose the return code.
The ways Python has to start a process are wrapped thinly to tell the two apart;
keeper/children.h does the rest.
"""

import errno
import functools
import os
import sys

import _carrel_host

_starting, _started = _carrel_host.child_starting, _carrel_host.child_started
_reap, _disown = _carrel_host.reap, _carrel_host.disown


def _wrap(function):
    @functools.wraps(function)
    def started(*args, **kwargs):
        pid = 0
        _starting()
        try:
            result = function(*args, **kwargs)
            pid = result[0] if type(result) is tuple else result
        except OSError as exc:
            if exc.errno == errno.EAGAIN:
                # At the process limit a place is worth more than the status of one that ended:
                # none is kept for a wait() that may never come.
                _disown()
            raise
        finally:
            _started(pid)
        return result

    # The name stays visible in tracebacks' innermost frame: limits.py reads it.
    started.__code__ = started.__code__.replace(co_name=function.__name__)
    return started


def watch():
    """Wraps the functions that start processes. Once a process image is enough."""
    import _posixsubprocess

    for name in ("fork", "forkpty", "posix_spawn", "posix_spawnp"):
        function = getattr(os, name, None)
        if function is not None and not hasattr(function, "__wrapped__"):
            setattr(os, name, _wrap(function))
    fork_exec = _posixsubprocess.fork_exec
    if not hasattr(fork_exec, "__wrapped__"):
        fork_exec = _posixsubprocess.fork_exec = _wrap(fork_exec)
        subprocess = sys.modules.get("subprocess")
        if hasattr(subprocess, "_fork_exec"):
            subprocess._fork_exec = fork_exec
    if not hasattr(os.system, "__wrapped__"):
        os.system = functools.wraps(os.system)(_system)


def _system(command):
    """os.system(): by the C library it would hold signals back from the session while it waits.

    Then nothing would be reaped, and no interrupt would end the cell.
    """
    import subprocess

    command = os.fsencode(command)
    sys.audit("os.system", command)
    try:
        code = subprocess.call([b"/bin/sh", b"-c", command], close_fds=False)
    except BlockingIOError:
        return -1
    return code << 8 if code >= 0 else -code
