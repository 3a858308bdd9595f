"""The session's child processes: those user code started, and orphans.

The session is process 1 of its own process namespace, so a process whose parent
ended becomes its child. Someone has to reap those; but a process that user code
started itself must stay for its own wait(), or Popen would lose the return code.
The ways Python has to start a process are wrapped thinly to tell the two apart.
"""

import errno
import functools
import os
import sys

_own = set()
_waitid, _waitpid = os.waitid, os.waitpid
_P_ALL = os.P_ALL
_PEEK = os.WEXITED | os.WNOHANG | os.WNOWAIT
_OWN_MAX = 1 << 16


def _started(pid):
    if pid == 0:
        # The child of a fork: its children are its own affair.
        _own.clear()
    elif len(_own) < _OWN_MAX:
        _own.add(pid)


def _wrap(function):
    @functools.wraps(function)
    def started(*args, **kwargs):
        try:
            result = function(*args, **kwargs)
        except OSError as exc:
            if exc.errno == errno.EAGAIN:
                # At the process limit a place is worth more than the status of one that ended:
                # none is kept for a wait() that may never come.
                _own.clear()
            raise
        _started(result[0] if type(result) is tuple else result)
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


def reap_orphans():
    """Reaps the zombies that are not ours to keep. Returns how many there were."""
    try:
        ended = _waitid(_P_ALL, 0, _PEEK)
    except ChildProcessError:
        _own.clear()
        return 0
    if ended is None:
        return 0
    return _reap_listed()


def _reap_listed():
    """Goes through all children: the kernel shows one zombie at a time, maybe one we keep."""
    pids = _children()
    _own.intersection_update(pids)
    reaped = 0
    for pid in pids:
        if pid in _own:
            continue
        try:
            reaped += _waitpid(pid, os.WNOHANG)[0] == pid
        except ChildProcessError:
            pass
    return reaped


def _children():
    """Returns the pids of this process's children."""
    try:
        pids = []
        for task in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{task}/children") as listed:
                pids += map(int, listed.read().split())
        return pids
    except OSError:
        return _children_by_scan()


def _children_by_scan():
    """The same from /proc/PID/stat, for kernels that do not list children."""
    me, pids = os.getpid(), []
    for entry in os.listdir("/proc"):
        if not entry.isdecimal():
            continue
        try:
            with open(f"/proc/{entry}/stat", "rb") as stat:
                fields = stat.read().rpartition(b")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == me:
            pids.append(int(entry))
    return pids
