"""The commands of Shell pools: a command line through a shell, or argv directly.

A command runs in a process group of its own where that is allowed, and inherits
descriptors 1 and 2. Its stdin is a finished file or pipe, so nothing has to be
fed while it runs and nothing can deadlock.
"""

import os
import signal

from _carrel import limits, streams

# What a pipe surely holds without anyone reading.
_PIPE_BYTES_MAX = 4096
_KILL_AFTER_S = 0.2


def run(command, argv, stdin):
    """Runs it and waits; see run_shell() in the package for the answer."""
    if command is not None:
        argv = [_shell(), "-c", command]
    if not argv:
        return (127, "", "no command was given")
    streams.ensure()
    streams.flush()
    source = _stdin(stdin)
    try:
        process = _start(argv, source)
    except OSError as exc:
        return _refused(argv[0], exc)
    finally:
        os.close(source)
    return (_wait(process), "", "")


def _shell():
    return "/bin/bash" if os.access("/bin/bash", os.X_OK) else "/bin/sh"


def _stdin(data):
    """Returns a descriptor, owned by the caller, that reads as `data` and then ends."""
    if not data:
        return os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    if len(data) <= _PIPE_BYTES_MAX:
        reader, writer = os.pipe2(os.O_CLOEXEC)
        os.write(writer, data)
        os.close(writer)
        return reader
    import tempfile

    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        file.seek(0)
        return os.dup(file.fileno())


def _start(argv, stdin):
    import subprocess

    try:
        return subprocess.Popen(argv, stdin=stdin, process_group=0)
    except PermissionError:
        # Either argv may not be run, which fails again, or process groups are not allowed here.
        return subprocess.Popen(argv, stdin=stdin)


def _refused(name, exc):
    limit = limits.of(exc)
    if limit:
        return (126, limit, f"{name}: {exc.strerror}")
    if isinstance(exc, FileNotFoundError):
        streams.note(f"{name}: command not found")
        return (127, "", f"{name}: command not found")
    streams.note(f"{name}: {exc.strerror}")
    return (126, "", f"{name}: {exc.strerror}")


def _wait(process):
    try:
        code = process.wait()
    except KeyboardInterrupt:
        _stop(process)
        return 130
    return code if code >= 0 else 128 - code


def _stop(process):
    """Ends the command and its group: politely, then for good."""
    from subprocess import TimeoutExpired

    for number in (signal.SIGTERM, signal.SIGKILL):
        _signal(process, number)
        try:
            process.wait(_KILL_AFTER_S)
        except (TimeoutExpired, KeyboardInterrupt):
            pass


def _signal(process, number):
    try:
        os.killpg(process.pid, number)
    except OSError:
        try:
            process.send_signal(number)
        except OSError:
            pass
