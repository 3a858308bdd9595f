"""What psutil, and with it joblib, reads of /proc that a session's has not: the session's own figures.

A session's /proc has processes only. This module answers for the few files of the machine, in the
session, and in each Python that it starts, which runs it from a file (sandbox/etc.c): so it stands on
nothing of the session's.
"""

import importlib.util
import io
import os
import time


def text_of(path):
    """Returns the text of a file of /proc as the session would have it, or None."""
    make = _FILES.get(path)
    return None if make is None else make()


def _cpus():
    return len(os.sched_getaffinity(0))


def _processes(name):
    """The fields of /proc/PID/NAME of each process of the session, from that of its state on."""
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/{name}", encoding="utf-8", errors="replace") as file:
                yield file.read().rpartition(")")[2].split()
        except OSError:
            pass


def _meminfo():
    page = os.sysconf("SC_PAGE_SIZE")
    total = int(os.environ.get("CARREL_MEMORY_BYTES") or 0) or page * os.sysconf("SC_PHYS_PAGES")
    used = page * sum(int(fields[1]) - int(fields[2]) for fields in _processes("statm"))
    free = max(0, total - used)
    rows = {"MemTotal": total, "MemFree": free, "MemAvailable": free, "Buffers": 0, "Cached": 0,
            "SwapCached": 0, "Active": used, "Inactive": 0, "SwapTotal": 0, "SwapFree": 0, "Shmem": 0,
            "Slab": 0, "SReclaimable": 0}
    return "".join(f"{name + ':':<15} {size // 1024:>8} kB\n" for name, size in rows.items())


def _up_s():
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _stat():
    cpus, user, system, running = _cpus(), 0, 0, 0
    for fields in _processes("stat"):
        user += int(fields[11])
        system += int(fields[12])
        running += fields[0] == "R"
    idle = max(0, int(_up_s() * os.sysconf("SC_CLK_TCK")) * cpus - user - system)
    rows = [f"cpu  {user} 0 {system} {idle} 0 0 0 0 0 0"]
    rows += [f"cpu{n} {user // cpus} 0 {system // cpus} {idle // cpus} 0 0 0 0 0 0" for n in range(cpus)]
    rows += ["intr 0", "ctxt 0", f"btime {int(time.time() - _up_s())}", "processes 0",
             f"procs_running {running}", "procs_blocked 0", "softirq 0"]
    return "\n".join(rows) + "\n"


def _load():
    running = sum(fields[0] == "R" for fields in _processes("stat"))
    return float(running)


def _loadavg():
    count = sum(1 for _ in _processes("stat"))
    return f"{_load():.2f} {_load():.2f} {_load():.2f} {int(_load())}/{count} 1\n"


def _cpuinfo():
    cpus = _cpus()
    return "".join(f"processor\t: {n}\nphysical id\t: 0\ncore id\t\t: {n}\ncpu cores\t: {cpus}\n\n"
                   for n in range(cpus))


def _own(name):
    def read():
        with open(f"/proc/self/{name}", encoding="utf-8") as file:
            return file.read()
    return read


_FILES = {
    "/proc/cpuinfo": _cpuinfo,
    "/proc/filesystems": lambda: "nodev\ttmpfs\n",
    "/proc/loadavg": _loadavg,
    "/proc/meminfo": _meminfo,
    "/proc/mounts": _own("mounts"),
    "/proc/net/dev": _own("net/dev"),
    "/proc/stat": _stat,
    "/proc/uptime": lambda: f"{_up_s():.2f} 0.00\n",
    "/proc/vmstat": lambda: "pswpin 0\npswpout 0\n",
}


def after_psutil(module):
    """Has psutil's ways to open a file answered from here where there is none."""
    for name, as_bytes in (("open_binary", True), ("open_text", False)):
        setattr(module, name, _opener(getattr(module, name), as_bytes))


def _opener(inner, as_bytes):
    def opened(path, *args, **kwargs):
        try:
            return inner(path, *args, **kwargs)
        except OSError:
            text = text_of(path)
            if text is None:
                raise
            return io.BytesIO(text.encode()) if as_bytes else io.StringIO(text)
    return opened


class _Loader:
    def __init__(self, inner):
        self.inner = inner

    def create_module(self, spec):
        return self.inner.create_module(spec)

    def exec_module(self, module):
        module.__spec__.loader = module.__loader__ = self.inner
        self.inner.exec_module(module)
        after_psutil(module)


def spec_of(name):
    """Finds psutil's module of that name, with our work after it."""
    spec = importlib.util.find_spec(name)
    if spec is not None and spec.loader is not None:
        spec.loader = _Loader(spec.loader)
    return spec
