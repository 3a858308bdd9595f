"""Processes, seen from outside. Any of them may end while one looks."""

import os
import pathlib


def read(pid, name):
    """A file of /proc/PID; empty when the process has gone."""
    try:
        return pathlib.Path(f"/proc/{pid}/{name}").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""


def children(pid):
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except FileNotFoundError:
        return []
    return [int(child) for task in tasks for child in read(pid, f"task/{task}/children").split()]


def descendants(pid):
    found = []
    for child in children(pid):
        found += [child, *descendants(child)]
    return found


def with_word(word):
    """Those that have word as one of their arguments."""
    return [int(pid) for pid in os.listdir("/proc")
            if pid.isdigit() and word.encode() in read(pid, "cmdline").split(b"\0")]


def are_there(pids):
    """Whether one of them runs. One that has ended stays for as long as its parent does not reap it,
    and the process 1 of a container may never do that."""
    return any(read(pid, "stat").rpartition(b")")[2].split()[:1] not in ([], [b"Z"], [b"X"])
               for pid in pids)
